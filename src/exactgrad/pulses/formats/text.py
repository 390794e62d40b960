"""Text files of unknown origin, read with bounds: every complaint names the file and the line.

Numbers are ASCII decimals only (no "nan", no "inf", no digits of other scripts, no underscores), of a magnitude that
cannot overflow later; lines, points and bytes are capped before anything is allocated for them.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from exactgrad.errors import FormatError
from exactgrad.files import read_text

MAX_POINTS = 1_000_000
MAX_LINES = MAX_POINTS + 10_000
MAX_LINE_CHARS = 4096
MAX_MAGNITUDE = 1e30  # its square times a million points is still far from the largest double

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_CALIBRATION = re.compile(r"\bexactgrad: duration_us=(\S+) rf_max_hz=(\S+)")


class TextFile:
    """The lines of a bounded text file, whose numbers are parsed with the line to blame.

    Parameters
    ----------
    path : Path
        A regular file of at most `files.TEXT_LIMIT_BYTES`.

    Attributes
    ----------
    lines : list of str
        Without line ends (LF, CRLF or CR); without the empty piece after the last line end.

    Raises
    ------
    InputError, RefusedFile
        As `files.read_text`.
    FormatError
        If it is empty, or has a line or a number of lines beyond the caps.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.lines = read_text(self.path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if not self.lines[-1]:
            self.lines.pop()
        if not any(line.strip() for line in self.lines):
            raise FormatError(f"{self.path}: empty")
        if len(self.lines) > MAX_LINES:
            raise FormatError(f"{self.path}: {len(self.lines)} lines; at most {MAX_LINES} are read")
        for number, line in enumerate(self.lines, 1):
            if len(line) > MAX_LINE_CHARS:
                raise self.error(number, f"a line of {len(line)} characters; at most {MAX_LINE_CHARS} are read")

    def error(self, line: int, what: str) -> FormatError:
        """Return (not raise) the error that blames line number `line`, counted from 1."""
        return FormatError(f"{self.path}:{line}: {what}")

    def number(self, line: int, token: str, name: str) -> float:
        """Parse one plain decimal number called `name`."""
        token = token.strip()
        if not _NUMBER.fullmatch(token):
            raise self.error(line, f"{name} = {token[:40]!r}: a finite decimal number is needed")
        value = float(token)
        if not abs(value) <= MAX_MAGNITUDE:
            raise self.error(line, f"{name} = {token[:40]}: must not exceed {MAX_MAGNITUDE:g} in magnitude")
        return value

    def positive(self, line: int, token: str, name: str) -> float:
        """Parse one number > 0."""
        value = self.number(line, token, name)
        if not value > 0:
            raise self.error(line, f"{name} = {value:g}: must be > 0")
        return value

    def not_negative(self, line: int, token: str, name: str) -> float:
        """Parse one number >= 0."""
        value = self.number(line, token, name)
        if value < 0:
            raise self.error(line, f"{name} = {value:g}: must be >= 0")
        return value

    def numbers(self, line: int, text: str, names: tuple[str, ...], least: int | None = None) -> list[float]:
        """Parse the columns `names`, at least the first `least` (all, if None), split at blanks, tabs and commas."""
        tokens = text.replace(",", " ").split()
        least = len(names) if least is None else least
        if not least <= len(tokens) <= len(names):
            wanted = str(least) if least == len(names) else f"{least} to {len(names)}"
            raise self.error(line, f"{len(tokens)} columns where {wanted} are needed ({', '.join(names)})")
        return [self.number(line, token, name) for token, name in zip(tokens, names, strict=False)]

    def count(self, line: int, token: str, name: str) -> int:
        """Parse a number of points: a whole number from 1 to `MAX_POINTS`."""
        value = self.number(line, token, name)
        if not (1 <= value <= MAX_POINTS and value == math.floor(value)):
            raise self.error(line, f"{name} = {token.strip()[:40]}: a whole number from 1 to {MAX_POINTS} is needed")
        return int(value)

    def calibration(self, line: int, text: str) -> tuple[float, float] | None:
        """Return duration (s) and rf maximum (Hz) if `text` holds what `calibration_text` wrote, else None."""
        found = _CALIBRATION.search(text)
        if not found:
            return None
        return self.positive(line, found[1], "duration_us") * 1e-6, self.not_negative(line, found[2], "rf_max_hz")


def calibration_text(duration_s: float, rf_max_hz: float) -> str:
    """Return what a comment says of a pulse whose format has no place for its length and its rf maximum.

    Examples
    --------
    >>> calibration_text(5e-4, 5000.0)
    'exactgrad: duration_us=500.0 rf_max_hz=5000.0'
    """
    duration_us = float(f"{duration_s * 1e6:.15g}")  # 3.5, not 3.5000000000000004
    return f"exactgrad: duration_us={duration_us!r} rf_max_hz={float(rf_max_hz)!r}"


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` as one printable line, so that a title cannot add lines of its own to a file.

    Examples
    --------
    >>> one_line("a\\n##END= ")
    'a ##END='
    """
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:limit]
