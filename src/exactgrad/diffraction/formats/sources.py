"""Source lists: ``X Y Z weight lambda`` a line: the source's position (any length), its weight, its wavelength in m.

The last two may be missing: weight 1, and the beam's wavelength. Commas and colons separate too, as in the C program,
which reads the weights and ignores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.experiment import WAVELENGTHS_M
from exactgrad.diffraction.formats.text import complaint, content_lines, numbers
from exactgrad.errors import FormatError
from exactgrad.files import write_atomic

MAX_SOURCES = 1_000_000
_COLUMNS = ("X", "Y", "Z", "weight", "lambda (m)")


@dataclass(frozen=True)
class SourceList:
    """`position` (n, 3), from the crystal, in the file's unit; `weight` (n,), >= 0; `wavelength_m` (n,)."""

    position: np.ndarray
    weight: np.ndarray
    wavelength_m: np.ndarray


def read(path: Path, wavelength_m: float) -> SourceList:
    """Read a source list; `wavelength_m` is that of sources without one.

    Raises
    ------
    FormatError
        With the line: other than 3 to 5 columns, a source at the crystal, a negative weight, a wavelength outside
        1e-13 to 1e-7 m (the column is in metres).
    InputError, RefusedFile
        As `files.read_text`.
    """
    rows = []
    for line, text in content_lines(path, comment="#!"):
        tokens = text.translate(str.maketrans(",:;", "   ")).split()
        columns = _COLUMNS[: min(max(len(tokens), 3), 5)]
        row = numbers(path, line, " ".join(tokens), columns)
        row += [1.0, wavelength_m][len(row) - 3 :]
        if not any(row[:3]):
            raise complaint(path, line, "X Y Z = 0 0 0: a source at the crystal has no direction")
        if row[3] < 0:
            raise complaint(path, line, f"weight = {row[3]:g}: must be >= 0")
        if not WAVELENGTHS_M[0] <= row[4] <= WAVELENGTHS_M[1]:
            raise complaint(path, line, f"lambda = {row[4]:g} m: must be from 1e-13 to 1e-07 m")
        rows.append(row)
        if len(rows) > MAX_SOURCES:
            raise complaint(path, line, f"more than {MAX_SOURCES} sources")
    table = np.array(rows)
    if not table[:, 3].any():
        raise FormatError(f"{path}: all weights are 0")
    return SourceList(table[:, :3], table[:, 3], table[:, 4])


def write(path: Path, sources: SourceList, overwrite: bool = False) -> None:
    """Write a source list that the C program reads too."""
    table = np.column_stack([sources.position, sources.weight, sources.wavelength_m])
    write_atomic(path, "".join(" ".join(map(repr, row)) + "\n" for row in table.tolist()), overwrite)
