"""What a geometry file says, as vectors: panels, beam and crystal in the file's own laboratory frame, in metres.

The frame is the file's: only angles between vectors have a meaning across formats. A pixel (fast f, slow s, counted
from 0, at its corner) lies at ``origin + f * pixel_fast * fast_axis + s * pixel_slow * slow_axis``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import check_dimensions
from exactgrad.errors import FormatError

MAX_PANELS = 10_000
ORTHOGONAL = 1e-3  # largest cosine between a panel's axes; files have four digits or more
LONGEST_M = 1e4
WAVELENGTHS_M = (1e-13, 1e-7)


@dataclass(frozen=True)
class Panel:
    """One flat panel.

    Parameters
    ----------
    name : str
        As the file calls it.
    origin_m : ndarray, shape (3,)
        From the crystal to the outer corner of pixel (0, 0).
    fast_axis, slow_axis : ndarray, shape (3,)
        Unit vectors along a row and along a column.
    pixel_size_m : (float, float)
        Along (fast, slow).
    shape : (int, int)
        Pixels along (slow, fast).
    """

    name: str
    origin_m: np.ndarray
    fast_axis: np.ndarray
    slow_axis: np.ndarray
    pixel_size_m: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector fast x slow."""
        return np.cross(self.fast_axis, self.slow_axis)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Parameters
    ----------
    panels : tuple of Panel
        At least one.
    beam_direction : ndarray, shape (3,)
        Unit vector along which the photons travel.
    wavelength_m : float or None
        None if the file leaves it to the images.
    cell_matrix_m : ndarray, shape (3, 3), or None
        Rows a, b, c: the crystal's axes at rotation angle 0.
    rotation_axis : ndarray, shape (3,), or None
        Unit vector of the spindle.
    start_deg, step_deg : float or None
        Rotation angle at the start of the first image, and the range of one.
    space_group : str
        Symbol or number, or "".
    """

    panels: tuple[Panel, ...]
    beam_direction: np.ndarray
    wavelength_m: float | None = None
    cell_matrix_m: np.ndarray | None = None
    rotation_axis: np.ndarray | None = None
    start_deg: float | None = None
    step_deg: float | None = None
    space_group: str = ""


def make_panel(
    path: Path,
    name: str,
    origin_m: Sequence[float],
    fast: Sequence[float],
    slow: Sequence[float],
    pixel_size_m: tuple[float, float],
    shape: tuple[int, int],
) -> Panel:
    """Return a panel whose numbers were checked; raises `FormatError` naming the panel."""
    where = f"panel {name[:40]!r}"
    f, s = unit_vector(path, f"{where}: fast axis", fast), unit_vector(path, f"{where}: slow axis", slow)
    if abs(float(f @ s)) > ORTHOGONAL:
        raise FormatError(f"{path}: {where}: fast and slow axes are not at right angles (cosine {float(f @ s):.3g})")
    origin = np.array(origin_m, float)
    if not (np.isfinite(origin).all() and np.abs(origin).max() <= LONGEST_M):
        raise FormatError(f"{path}: {where}: origin {origin.tolist()} m: finite and at most {LONGEST_M:g} m is needed")
    if not all(1e-9 <= size <= 1.0 for size in pixel_size_m):
        raise FormatError(f"{path}: {where}: pixel size {pixel_size_m} m: must be from 1e-9 to 1 m")
    return Panel(name, origin, f, s, pixel_size_m, check_dimensions(path, *shape))


def unit_vector(path: Path, name: str, vector: Sequence[float]) -> np.ndarray:
    """Return `vector` scaled to length 1, or say that it has no direction."""
    array = np.array(vector, float)
    length = float(np.linalg.norm(array)) if np.isfinite(array).all() and np.abs(array).max() < 1e30 else 0.0
    if not length > 1e-12:
        raise FormatError(f"{path}: {name} {array.tolist()}: a vector with a direction is needed")
    return array / length


def wavelength(path: Path, value_m: float) -> float:
    """Return a wavelength in metres if X-rays have it (1e-13 to 1e-7 m)."""
    if not WAVELENGTHS_M[0] <= value_m <= WAVELENGTHS_M[1]:
        raise FormatError(
            f"{path}: wavelength {value_m:g} m: must be from {WAVELENGTHS_M[0]:g} to {WAVELENGTHS_M[1]:g} m"
        )
    return value_m


def cell_matrix(path: Path, rows_angstrom: Sequence[Sequence[float]]) -> np.ndarray:
    """Return rows a, b, c in metres, or say that they span no cell."""
    rows = np.array(rows_angstrom, float)
    good = np.isfinite(rows).all() and np.abs(rows).max() < 1e6
    if not (good and abs(np.linalg.det(rows)) > 1e-6 * np.prod(np.linalg.norm(rows, axis=1))):
        raise FormatError(f"{path}: cell vectors {rows.tolist()} A: three independent vectors are needed")
    return rows * 1e-10
