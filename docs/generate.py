"""Write the pages of the manual that come from the code: `python docs/generate.py`, or `--check` to compare only.

What they say is in docs/generators. `docs/traces/generate.py` writes the parameter traces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from generators import command_page, diffraction_job, nanobragg_page, pulses_job, tomography_job

FOLDER = Path(__file__).resolve().parent
PAGES: dict[str, Callable[[], str]] = {
    "pulses/job.md": pulses_job.page,
    "diffraction/job.md": diffraction_job.page,
    "tomography/job.md": tomography_job.page,
    "reference/commands.md": command_page.page,
    "reference/nanobragg.md": nanobragg_page.page,
}


def main(arguments: list[str]) -> int:
    """Write the pages; with --check, return 1 if one is stale, and name it."""
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if arguments != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    sys.stderr.write("".join(f"docs/{name} is stale: run python docs/generate.py\n" for name in stale))
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
