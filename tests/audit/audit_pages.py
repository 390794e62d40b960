"""The tables of docs/gradients: what each row says, and which test it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "docs" / "gradients"


def table_rows() -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every body row of every table of the pages."""
    for page in sorted(PAGES.glob("*.md")):
        lines = page.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            follows = lines[number] if number < len(lines) else ""
            if line.startswith("|") and not line.startswith("|--") and not follows.startswith("|--"):
                yield f"{page.name}:{number}", line
