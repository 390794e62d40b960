"""Amplitudes as text, one reflection a line: ``h k l F``, in P1 with Friedel mates; ``#`` and ``!`` begin comments.

The C program warns of an index that is not whole and then misreads the file; here it is an error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.reflections import Reflections, collect, require_reflections
from exactgrad.diffraction.formats.text import complaint, content_lines, numbers
from exactgrad.files import write_atomic

LIMIT_BYTES = 1 << 30
_COLUMNS = ("h", "k", "l", "F")
_PLAIN = frozenset("0123456789+-.eE \t")


def read(path: Path) -> Reflections:
    """Read a list of reflections; of those listed twice the last counts.

    Raises
    ------
    FormatError
        With the line: other than four columns, an index not whole or beyond 10000, a number that is not plain.
    InputError, RefusedFile
        As `files.read_text`.
    """
    lines = list(content_lines(path, limit_bytes=LIMIT_BYTES))
    rows = _fast_rows([text for _, text in lines])
    if rows is None:  # slower, and finds the line to blame
        rows = np.array([numbers(path, line, text, _COLUMNS) for line, text in lines])
    whole = (rows[:, :3] == np.floor(rows[:, :3])).all(axis=1)
    if not whole.all():
        bad = int(np.argmin(whole))
        raise complaint(path, lines[bad][0], f"h k l = {lines[bad][1][:60]}: whole numbers are needed")
    return collect(path, rows[:, :3], rows[:, 3], label="F")


def _fast_rows(texts: list[str]) -> np.ndarray | None:
    """Return all rows at once, or None if any line is not four plain numbers of moderate size."""
    if not all(_PLAIN.issuperset(text) for text in texts):
        return None
    tokens = [text.split() for text in texts]
    if any(len(row) != 4 for row in tokens):
        return None
    try:
        rows = np.array(tokens, dtype=np.float64)
    except ValueError:
        return None
    return rows if np.abs(rows).max() <= 1e30 else None


def write(path: Path, hkl: np.ndarray, amplitude: np.ndarray, overwrite: bool = False) -> None:
    """Write reflections as the C program reads them; amplitudes keep every digit.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "P1.hkl"
    >>> write(path, [[1, 0, -2]], [3.5])
    >>> path.read_text()
    '   1    0   -2 3.5\\n'
    """
    indices, values = require_reflections(hkl, amplitude)
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    write_atomic(path, "".join(f"{h:4d} {k:4d} {l:4d} {value!r}\n" for (h, k, l), value in rows), overwrite)
