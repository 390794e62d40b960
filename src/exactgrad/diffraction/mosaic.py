"""Mosaic domains: rotation vectors drawn once at a spread of one, so that the spread stays a number with a derivative.

Units: radians. A domain is turned by exp(spread vector). With one spread the vectors are lab vectors and a domain's
turn comes last, U_m R_phi, as in the C program. With three, about the crystal's own axes x = a*, y = c x a*, z = c,
the domains belong to the crystal and turn with the spindle, R_phi U_m.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import Any

import numpy as np

from exactgrad.diffraction.random_numbers import Ran1, gaussian
from exactgrad.errors import InputError, require_finite, require_range, require_shape
from exactgrad.rotations import maps, quaternions

MOST_DOMAINS = 1_000_000


@dataclass(frozen=True)
class Mosaic:
    """D mosaic domains.

    Attributes
    ----------
    spread_rad : float, or ndarray of shape (3,)
        One spread, or one about each crystal axis.
    vectors : ndarray, shape (D, 3)
        Rotation vectors at a spread of one.
    rounded : bool
        Angles are rounded to float32, as in the C program (with one spread).
    matrices : ndarray, shape (D, 3, 3), or None
        Rotations given as such; there is no spread then.

    Raises
    ------
    InputError
        If a spread is negative or above pi, the domains are too many, or a matrix is not a rotation.

    Examples
    --------
    >>> Mosaic.gaussian(0.01, 4, seed=3).rotations.shape, Mosaic().rotations.tolist() == [np.eye(3).tolist()]
    ((4, 3, 3), True)
    """

    spread_rad: Any = 0.0
    vectors: Any = None
    rounded: bool = False
    matrices: Any = None

    def __post_init__(self) -> None:
        spread = require_finite("mosaic spread", self.spread_rad, "rad")
        if spread.shape not in ((), (3,)):
            raise InputError(f"mosaic spread: shape {spread.shape}; one number or three are needed")
        for value in spread.ravel():
            require_range("mosaic spread", value, "rad", low=0.0, high=pi)
        object.__setattr__(self, "spread_rad", float(spread) if spread.ndim == 0 else spread)
        vectors = np.zeros((1, 3)) if self.vectors is None else self.vectors
        vectors = require_shape("mosaic.vectors", require_finite("mosaic.vectors", vectors), (None, 3))
        object.__setattr__(self, "vectors", vectors)
        if self.matrices is not None:
            matrices = require_shape("mosaic.matrices", require_finite("mosaic.matrices", self.matrices), (None, 3, 3))
            object.__setattr__(self, "matrices", quaternions.require_rotation("mosaic.matrices", matrices))

    @classmethod
    def cap(cls, spread_rad: Any, count: int, seed: int, rounded: bool = False) -> Mosaic:
        """Draw `count` domains within a spread, evenly by solid angle: with one, the C program's for that seed."""
        return cls(spread_rad, mosaic_vectors(count, seed), rounded)

    @classmethod
    def gaussian(cls, spread_rad: Any, count: int, seed: int) -> Mosaic:
        """Draw `count` domains whose turns about three axes are normal deviates of the spread."""
        return cls(spread_rad, gaussian_vectors(count, seed))

    @property
    def anisotropic(self) -> bool:
        """Whether the spreads are about the crystal's axes."""
        return self.matrices is None and np.ndim(self.spread_rad) == 1

    @cached_property
    def rotations(self) -> np.ndarray:
        """The domains' rotations, shape (D, 3, 3): in the lab, or in the crystal's axes if anisotropic."""
        if self.matrices is not None:
            return self.matrices
        return turned(self.vectors, self.spread_rad, self.rounded and not self.anisotropic)

    def rotations_by(self, change: Any) -> np.ndarray:
        """Return the derivative of `rotations` where the spread grows by `change`, a number or one an axis.

        Of rounded angles it is that of the angles before rounding.
        """
        return maps.dexp(self.vectors * self.spread_rad, self.vectors * np.asarray(change))


def turned(vectors: np.ndarray, spread_rad: Any, rounded: bool = False) -> np.ndarray:
    """Return exp(spread vector), shape (D, 3, 3), with angles rounded to float32 if asked for."""
    if not rounded:
        return maps.exp(spread_rad * vectors)
    shares = np.linalg.norm(vectors, axis=1, keepdims=True)
    axes = np.divide(vectors, shares, out=np.zeros_like(vectors), where=shares > 0)
    return maps.exp(axes * (np.float32(spread_rad) * shares.astype(np.float32)).astype(np.float64))


def mosaic_vectors(count: int, seed: int) -> np.ndarray:
    """Return the rotation vectors, shape (count, 3), of mosaic domains at a spread of one; domain 0 is not turned.

    The C program's draw: three deviates a domain, for the axis (2) and the angle, (1 - r^2)^(1/3) of the spread.
    """
    stream = Ran1(seed)
    vectors = np.zeros((_checked(count), 3))
    for domain in range(count):
        axis, share = c_axis_and_share(stream)
        vectors[domain] = axis * share
    vectors[0] = 0.0
    return vectors


def gaussian_vectors(count: int, seed: int) -> np.ndarray:
    """Return rotation vectors, shape (count, 3), of three normal deviates each, in pairs of opposite sign.

    The pairs make the mean exactly zero: the domains do not turn the crystal. Of an odd number the last is zero.
    """
    stream = Ran1(seed)
    vectors = np.zeros((_checked(count), 3))
    for domain in range(0, count - 1, 2):
        vectors[domain] = [gaussian(stream) for _ in range(3)]
        vectors[domain + 1] = -vectors[domain]
    return vectors


def c_axis_and_share(stream: Ran1) -> tuple[np.ndarray, float]:
    """Return the C program's random axis, shape (3,), and the share of the largest angle, from three deviates."""
    r1, r2, r3 = (2.0 * stream.uniform() - 1.0 for _ in range(3))
    across = np.sqrt(1.0 - r2 * r2)
    share = float(np.float32(float(np.float32(1.0 - r3 * r3)) ** float(np.float32(1.0 / 3.0))))  # powf
    return np.array([across * np.sin(pi * r1), across * np.cos(pi * r1), r2]), share


def _checked(count: int) -> int:
    if not 1 <= count <= MOST_DOMAINS:
        raise InputError(f"mosaic domains = {count}: 1 to {MOST_DOMAINS} are allowed")
    return count
