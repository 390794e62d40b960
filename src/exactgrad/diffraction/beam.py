"""The beam: sources, each with a direction, a wavelength and a weight; polarization; fluence.

Units: metres, radians, photons/m^2; wavelengths enter in Angstrom or as energies in eV where a name says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import ANGSTROM, unit_vector
from exactgrad.errors import InputError, require_finite, require_range, require_shape
from exactgrad.rotations import maps

ELECTRON_RADIUS_SQUARED = 7.94079248018965e-30  # m^2, as the C program has it
DEFAULT_FLUENCE = 125932015286227086360700780544.0  # photons/m^2: 1/r_e^2, so that r_e^2 fluence is 1
EV_ANGSTROM = 12398.42
MOST_SOURCES = 1_000_000
ROUND_LIMIT = 1.1  # the C program's cut of the corners of a divergence grid


@dataclass(frozen=True)
class Beam:
    """S sources of X-rays.

    Attributes
    ----------
    wavelengths_m : ndarray, shape (S,)
    directions : ndarray, shape (S, 3)
        Unit vectors along which the rays travel.
    weights : ndarray, shape (S,)
        Shares of the fluence, >= 0; kept at sum 1.
    kahn : float or None
        Kahn's polarization factor, -1 to 1, 0 for an unpolarized beam; None for no polarization correction at all.
    polarization_axis : ndarray, shape (3,)
        Direction of the electric field where kahn is 1.
    fluence : float
        Photons/m^2 of all sources together.

    Raises
    ------
    InputError
        If a value is not finite or out of its range, or the field of a polarized beam lies along a ray.

    Examples
    --------
    >>> Beam(wavelengths_m=[1e-10, 2e-10], directions=[[1, 0, 0], [1, 0, 0]], weights=[3, 1]).weights
    array([0.75, 0.25])
    """

    wavelengths_m: Any
    directions: Any
    weights: Any = None
    kahn: float | None = 0.0
    polarization_axis: Any = (0.0, 0.0, 1.0)
    fluence: float = DEFAULT_FLUENCE

    def __post_init__(self) -> None:
        wavelengths = np.atleast_1d(require_finite("beam.wavelengths_m", self.wavelengths_m, "m"))
        sources = wavelengths.size
        if wavelengths.ndim != 1 or not 1 <= sources <= MOST_SOURCES:
            raise InputError(f"beam.wavelengths_m: shape {wavelengths.shape}; 1 to {MOST_SOURCES} values are needed")
        for wavelength in (wavelengths.min(), wavelengths.max()):
            require_range("beam.wavelengths_m", wavelength, "m", low=1e-13, high=1e-6)
        directions = np.atleast_2d(require_finite("beam.directions", self.directions))
        require_shape("beam.directions", directions, (sources, 3))
        weights = require_finite("beam.weights", np.ones(sources) if self.weights is None else self.weights)
        require_shape("beam.weights", np.atleast_1d(weights), (sources,))
        if (weights < 0).any() or not weights.any():
            raise InputError(f"beam.weights: must be >= 0 and not all zero, got a least of {weights.min():g}")
        weights = weights / weights.max()  # so that the sum neither overflows nor underflows
        axis = unit_vector("beam.polarization_axis", self.polarization_axis)
        directions = np.stack([unit_vector("beam.directions", ray) for ray in directions])
        if self.kahn is not None:
            require_range("beam.kahn", self.kahn, low=-1.0, high=1.0)
            if self.kahn != 0 and (np.abs(directions @ axis) > 1 - 1e-12).any():
                raise InputError("beam.polarization_axis: lies along a ray; the electric field is across it")
        require_range("beam.fluence", self.fluence, "photons/m^2", low=0.0, high=1e45)
        object.__setattr__(self, "wavelengths_m", wavelengths)
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "weights", weights / weights.sum())
        object.__setattr__(self, "polarization_axis", axis)

    @property
    def sources(self) -> int:
        """Number of sources S."""
        return self.wavelengths_m.size

    @cached_property
    def field_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """The unit vectors E and B of every source, shape (S, 3) each: E nearest the polarization axis."""
        across = np.cross(self.polarization_axis, self.directions)
        length = np.linalg.norm(across, axis=1, keepdims=True)
        b = np.divide(across, length, out=np.zeros_like(across), where=length > 1e-12)
        e = np.cross(self.directions, b)
        e.flags.writeable = b.flags.writeable = False
        return e, b


def wavelength_m(energy_ev: float) -> float:
    """Return the wavelength in metres of photons of `energy_ev`.

    Examples
    --------
    >>> wavelength_m(12398.42)
    1e-10
    """
    return EV_ANGSTROM / require_range("energy", energy_ev, "eV", low=0.0, open_low=True) * ANGSTROM


def spectrum(centre_m: float, width: float, steps: int) -> np.ndarray:
    """Return `steps` wavelengths evenly over centre (1 - width/2) ... centre (1 + width/2), ends included."""
    if steps < 2:
        return np.array([centre_m])
    return centre_m * (1.0 + width / (steps - 1) * np.arange(steps) - width / 2)


def divergence(
    direction: np.ndarray,
    polarization_axis: np.ndarray,
    horizontal_rad: np.ndarray,
    vertical_rad: np.ndarray,
    cut_round: bool = True,
) -> np.ndarray:
    """Return the directions, shape (n, 3), of a grid of divergent rays, the horizontal angle varying slowest.

    Parameters
    ----------
    direction, polarization_axis : ndarray, shape (3,)
        Unit vectors; vertical angles turn about the polarization axis, then horizontal ones about direction x axis.
    horizontal_rad, vertical_rad : ndarray
        Angles, evenly spaced.
    cut_round : bool
        Leave out the corners, with the C program's rule.

    Raises
    ------
    InputError
        If the grid is too large, or the axis lies along the beam.
    """
    horizontal, vertical = np.atleast_1d(horizontal_rad), np.atleast_1d(vertical_rad)
    if horizontal.size * vertical.size > MOST_SOURCES:
        raise InputError(f"divergence: {horizontal.size} x {vertical.size} rays; at most {MOST_SOURCES} are allowed")
    h, v = (angles.ravel() for angles in np.meshgrid(horizontal, vertical, indexing="ij"))
    if cut_round and horizontal.size > 1 and vertical.size > 1:
        kept = 4.0 * (_radius_squared(h, horizontal) + _radius_squared(v, vertical)) <= ROUND_LIMIT
        h, v = h[kept], v[kept]
    if not h.any() and not v.any():
        return np.tile(direction, (h.size, 1))
    about = unit_vector("direction x polarization_axis", np.cross(direction, polarization_axis))
    return maps.rotate(h[:, None] * about, maps.rotate(v[:, None] * polarization_axis, direction))


def _radius_squared(angles: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Squared radius in units of the range; of an even grid the four middle rays count as at the centre."""
    step, extent = grid[1] - grid[0], -2 * grid[0]  # a grid begins at minus half its range
    return (angles**2 - (step**2 / 4 if grid.size % 2 == 0 else 0.0)) / extent**2


def grid_angles(extent_rad: float, step_rad: float | None, count: int | None) -> np.ndarray:
    """Return the angles of a divergence grid: from -extent/2 in steps, 2 of them if neither step nor count is given."""
    if count is None:
        count = 2 if step_rad is None else max(1, ceil(extent_rad / step_rad))
    if step_rad is None:
        count = max(count, 2)
        step_rad = extent_rad / (count - 1)
    if not 1 <= count <= MOST_SOURCES:
        raise InputError(f"divergence: {count} steps; 1 to {MOST_SOURCES} are allowed")
    return step_rad * np.arange(count) - extent_rad / 2
