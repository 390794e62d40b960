"""The beam as its user states it: a wavelength, a spectrum around it, weights, polarization, fluence.

Units: metres, photons/m^2. Source i has the wavelength own_i + follows_i lambda (1 + dispersion share_i): a source of
a file with its own wavelength follows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.diffraction.beam import DEFAULT_FLUENCE, Beam


@dataclass(frozen=True)
class BeamSettings:
    """A beam of S sources as stated.

    Attributes
    ----------
    wavelength_m : float
    directions : ndarray, shape (S, 3)
    own_m, follows, shares : ndarray, shape (S,)
        See above.
    dispersion : float
        Width of the spectrum as a share of the wavelength.
    weights : ndarray, shape (S,)
        As stated; only their ratios count.
    kahn, polarization_axis, fluence
        As those of `Beam`.

    Examples
    --------
    >>> BeamSettings(1e-10, [[1, 0, 0]] * 2, shares=[-0.5, 0.5], dispersion=0.02).beam().wavelengths_m
    array([9.90e-11, 1.01e-10])
    """

    wavelength_m: float
    directions: Any
    own_m: Any = 0.0
    follows: Any = 1.0
    shares: Any = 0.0
    dispersion: float = 0.0
    weights: Any = 1.0
    kahn: float | None = 0.0
    polarization_axis: Any = (0.0, 0.0, 1.0)
    fluence: float = DEFAULT_FLUENCE

    def __post_init__(self) -> None:
        directions = np.atleast_2d(np.asarray(self.directions, dtype=np.float64))
        object.__setattr__(self, "directions", directions)
        for name in ("own_m", "follows", "shares", "weights"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, np.broadcast_to(value, (len(directions),)).copy())

    def wavelengths_m(self) -> np.ndarray:
        """Return the wavelength of every source, shape (S,)."""
        return self.own_m + self.follows * self.wavelength_m * (1.0 + self.dispersion * self.shares)

    def beam(self) -> Beam:
        """Return the beam."""
        return Beam(
            self.wavelengths_m(), self.directions, self.weights, self.kahn, self.polarization_axis, self.fluence
        )
