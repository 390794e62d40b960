"""A list of structure-factor amplitudes as the readers return it, and its expansion to P1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import FormatError, InputError, RefusedFile, require_finite, require_shape

MAX_INDEX = 10_000
MAX_REFLECTIONS = 50_000_000


@dataclass(frozen=True)
class Reflections:
    """Amplitudes in P1, Friedel mates listed.

    Parameters
    ----------
    hkl : ndarray of int32, shape (n, 3)
        Miller indices, each once.
    amplitude : ndarray of float64, shape (n,)
        Structure-factor amplitudes, in electrons if the file's are.
    cell : tuple of float or None
        a, b, c in angstrom, alpha, beta, gamma in degrees, where the file has them.
    space_group : str
        Its Hermann-Mauguin symbol, or "".
    label : str
        Which column or calculation the amplitudes come from.
    """

    hkl: np.ndarray
    amplitude: np.ndarray
    cell: tuple[float, float, float, float, float, float] | None = None
    space_group: str = ""
    label: str = ""

    def structure_factors(self, default: float = 0.0, interpolate: bool = False) -> StructureFactors:
        """Return the block around all indices, with `default` (electrons) where none is listed.

        `interpolate` and what is raised as of `StructureFactors`.
        """
        return StructureFactors.from_list(self.hkl, self.amplitude, default, interpolate)


def collect(
    path: Path,
    hkl: np.ndarray,
    amplitude: np.ndarray,
    cell: tuple[float, ...] | None = None,
    space_group: str = "",
    label: str = "",
) -> Reflections:
    """Return `Reflections` of a file's rows; of rows with the same indices the last counts, as in the C program.

    Raises
    ------
    FormatError
        If there are none, or an index or an amplitude is out of bounds.
    """
    if not len(hkl):
        raise FormatError(f"{path}: no reflections")
    if len(hkl) > MAX_REFLECTIONS:
        raise RefusedFile(f"{path}: {len(hkl)} reflections; at most {MAX_REFLECTIONS} are read")
    largest = np.abs(np.asarray(hkl, np.float64)).max()  # before it is cast: 1e19 would come out as another index
    if not largest <= MAX_INDEX:
        raise FormatError(f"{path}: an index of {largest:.10g}: must not exceed {MAX_INDEX} in magnitude")
    indices = np.asarray(hkl, np.int64)
    values = np.asarray(amplitude, np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise FormatError(f"{path}: F of {tuple(indices[row].tolist())} = {values[row]}: must be finite")
    last = _last_of_each(indices)
    six = None if cell is None else (cell[0], cell[1], cell[2], cell[3], cell[4], cell[5])
    return Reflections(indices[last].astype(np.int32), values[last], six, space_group, label)


def _last_of_each(indices: np.ndarray) -> np.ndarray:
    side = 2 * MAX_INDEX + 1
    keys = ((indices[:, 0] + MAX_INDEX) * side + indices[:, 1] + MAX_INDEX) * side + indices[:, 2] + MAX_INDEX
    return len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]


def expand_to_p1(
    hkl: np.ndarray, plus: np.ndarray, minus: np.ndarray, rotations: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return all symmetry equivalents: h R has the amplitude of h (`plus`), and -h R that of its Friedel mate.

    Parameters
    ----------
    hkl : ndarray of int, shape (n, 3)
        Unique indices.
    plus, minus : ndarray, shape (n,)
        Amplitudes of h k l and of -h -k -l; equal without anomalous scattering.
    rotations : sequence of ndarray, shape (3, 3)
        Rotation parts of the space group's operations on fractional coordinates.

    Examples
    --------
    >>> two_fold = [np.eye(3, dtype=int), np.diag([-1, 1, -1])]
    >>> hkl, f = expand_to_p1(np.array([[1, 2, 3]]), np.array([5.0]), np.array([5.0]), two_fold)
    >>> hkl.tolist()
    [[1, 2, 3], [-1, 2, -3], [-1, -2, -3], [1, -2, 3]]
    """
    images = [np.asarray(hkl) @ rotation for rotation in rotations]
    both = np.concatenate([*images, *(-image for image in images)])
    return both, np.concatenate([np.tile(plus, len(images)), np.tile(minus, len(images))])


def require_reflections(hkl: np.ndarray, amplitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return indices (int64, shape (n, 3)) and amplitudes (float64, shape (n,)) to be written, checked.

    Raises
    ------
    InputError
        If shapes disagree, an index is not whole or out of bounds, or a number is not finite.
    """
    indices = require_shape("hkl", require_finite("hkl", hkl), (None, 3))
    values = require_shape("amplitude", require_finite("amplitude", amplitude), (len(indices),))
    if not len(indices) or (indices != np.floor(indices)).any() or np.abs(indices).max() > MAX_INDEX:
        raise InputError(f"hkl: at least one row of whole numbers of at most {MAX_INDEX} in magnitude is needed")
    return indices.astype(np.int64), values
