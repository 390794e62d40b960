"""Scattering profiles as text, nonBragg's kind: ``stol F`` a line, sin(theta)/lambda in 1/Angstrom and F in electrons.

F is that of one molecule, of what the background is made of. `#` and `!` begin comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.text import complaint, content_lines, numbers
from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.files import write_atomic

MOST_POINTS = 100_000
LARGEST_STOL = 100.0  # 1/Angstrom
LARGEST_F = 1e12
_COLUMNS = ("stol (1/A)", "F")


@dataclass(frozen=True)
class StolProfile:
    """F at increasing sin(theta)/lambda, straight between the points and constant beyond the first and the last.

    Attributes
    ----------
    stol_per_A : ndarray, shape (n,)
        From 0 to 100, each larger than the one before.
    f : ndarray, shape (n,)
        Electrons, from 0 to 1e12.

    Raises
    ------
    InputError
        If a value is not finite or out of its range, or the points are not in order.

    Examples
    --------
    >>> StolProfile([0.0, 0.5], [2.57, 1.57]).at(np.array([0.25, 0.6])).tolist()
    [2.07, 1.57]
    """

    stol_per_A: np.ndarray
    f: np.ndarray

    def __post_init__(self) -> None:
        stol = require_shape("stol", require_finite("stol", self.stol_per_A, "1/A"), (None,))
        f = require_shape("F", require_finite("F", self.f, "electrons"), (stol.size,))
        if not 1 <= stol.size <= MOST_POINTS:
            raise InputError(f"stol: {stol.size} points; 1 to {MOST_POINTS} are allowed")
        if stol[0] < 0 or stol[-1] > LARGEST_STOL or (np.diff(stol) <= 0).any():
            raise InputError(f"stol: must increase from point to point, from 0 to {LARGEST_STOL:g} 1/A")
        if (f < 0).any() or f.max() > LARGEST_F:
            raise InputError(f"F: must be from 0 to {LARGEST_F:g} electrons")
        object.__setattr__(self, "stol_per_A", stol)
        object.__setattr__(self, "f", f)

    def at(self, stol_per_A: np.ndarray) -> np.ndarray:
        """Return F at sin(theta)/lambda in 1/Angstrom, an array of any shape."""
        return np.interp(stol_per_A, self.stol_per_A, self.f)


def read(path: Path) -> StolProfile:
    """Read a profile.

    Raises
    ------
    FormatError
        With the line: other than two columns, a number that is not plain or out of range, points out of order.
    InputError, RefusedFile
        As `files.read_text`.
    """
    rows: list[list[float]] = []
    for line, text in content_lines(path):
        stol, f = numbers(path, line, text, _COLUMNS)
        if not 0 <= stol <= LARGEST_STOL:
            raise complaint(path, line, f"stol = {stol:g} 1/A: must be from 0 to {LARGEST_STOL:g} 1/A")
        if rows and stol <= rows[-1][0]:
            raise complaint(path, line, f"stol = {stol:g} 1/A: must be larger than {rows[-1][0]:g}, that before it")
        if not 0 <= f <= LARGEST_F:
            raise complaint(path, line, f"F = {f:g}: must be from 0 to {LARGEST_F:g} electrons")
        if len(rows) == MOST_POINTS:
            raise complaint(path, line, f"more than {MOST_POINTS} points")
        rows.append([stol, f])
    table = np.array(rows)
    return StolProfile(table[:, 0], table[:, 1])


def write(path: Path, profile: StolProfile, overwrite: bool = False) -> None:
    """Write a profile that `read` gives back to the last digit."""
    rows = zip(profile.stol_per_A.tolist(), profile.f.tolist(), strict=True)
    write_atomic(path, "".join(f"{stol!r} {f!r}\n" for stol, f in rows), overwrite)
