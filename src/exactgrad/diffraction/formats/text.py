"""Text files of unknown origin, line by line: every complaint names the file and the line.

Numbers are plain ASCII decimals (no "nan", "inf", hexadecimal or digit separators), of at most 1e30 in magnitude.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from exactgrad.errors import FormatError
from exactgrad.files import TEXT_LIMIT_BYTES, read_text

MAX_LINE_CHARS = 4096
MAX_MAGNITUDE = 1e30
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def content_lines(path: Path, comment: str = "#!", limit_bytes: int = TEXT_LIMIT_BYTES) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of each line that holds more than blanks and a comment.

    Raises
    ------
    FormatError
        If a line is longer than 4096 characters, or the file has no content.
    InputError, RefusedFile
        As `files.read_text`.
    """
    found = False
    marks = re.compile(f"[{re.escape(comment)}]") if comment else None
    for number, line in enumerate(read_text(path, limit_bytes).splitlines(), 1):
        if len(line) > MAX_LINE_CHARS:
            raise complaint(path, number, f"a line of {len(line)} characters; at most {MAX_LINE_CHARS} are read")
        text = (marks.split(line, maxsplit=1)[0] if marks else line).strip()
        if text:
            found = True
            yield number, text
    if not found:
        raise FormatError(f"{path}: empty")


def complaint(path: Path, line: int, what: str) -> FormatError:
    """Return (not raise) the error that blames a line."""
    return FormatError(f"{path}:{line}: {what}")


def number(path: Path, line: int, token: str, name: str) -> float:
    """Parse one plain decimal number called `name`, or blame the line."""
    token = token.strip()
    if not _NUMBER.fullmatch(token):
        raise complaint(path, line, f"{name} = {token[:40]!r}: a finite decimal number is needed")
    value = float(token)
    if not abs(value) <= MAX_MAGNITUDE:
        raise complaint(path, line, f"{name} = {token[:40]}: must not exceed {MAX_MAGNITUDE:g} in magnitude")
    return value


def numbers(path: Path, line: int, text: str, names: tuple[str, ...]) -> list[float]:
    """Parse exactly the columns `names`, split at blanks."""
    tokens = text.split()
    if len(tokens) != len(names):
        raise complaint(path, line, f"{len(tokens)} columns where {len(names)} are needed ({', '.join(names)})")
    return [number(path, line, token, name) for token, name in zip(tokens, names, strict=True)]
