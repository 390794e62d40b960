"""Where the field's programs say a detector stands: their axes, their beam centres, and about what it pivots.

Units: metres, radians. F and S are positions along the fast and slow axis from the outer corner of the first pixel.

A detector is described at rest (all rotations zero), then turned about the fixed x, y and z axis, then swung by
two-theta. About the sample, everything turns; about the beam, the axes turn and the direct beam keeps its pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from exactgrad.diffraction.detector import Detector
from exactgrad.errors import InputError, require_range
from exactgrad.rotations import euler, maps

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
MINUS_X, MINUS_Y, MINUS_Z = (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)
MOST_TILTED = 1e-6  # cosine of beam and normal below which a distance along the beam says nothing


@dataclass(frozen=True)
class Convention:
    """A program's axes at rest, and its pivot ("beam" or "sample")."""

    name: str
    beam: tuple[float, float, float]
    fast: tuple[float, float, float]
    slow: tuple[float, float, float]
    normal: tuple[float, float, float]
    twotheta: tuple[float, float, float]
    polarization: tuple[float, float, float]
    spindle: tuple[float, float, float]
    pivot: str

    def default_centre(self, size_f: float, size_s: float, pixel: float) -> tuple[float, float]:
        """Return the (Xbeam, Ybeam) that this convention takes for a detector of that size, all in metres."""
        return {
            "mosflm": ((size_s + pixel) / 2, (size_f + pixel) / 2),
            "denzo": ((size_s + pixel) / 2, (size_f + pixel) / 2),
            "adxv": ((size_f + pixel) / 2, (size_s - pixel) / 2),
        }.get(self.name, (size_f / 2, size_s / 2))

    def beam_position(self, x: float, y: float, size_s: float, pixel: float) -> tuple[float, float]:
        """Return (F, S) of a beam centre (Xbeam, Ybeam) of this convention.

        Examples
        --------
        MOSFLM swaps the axes and counts from the middle of the first pixel:

        >>> CONVENTIONS["mosflm"].beam_position(0.02, 0.03, size_s=0.1, pixel=0.002)
        (0.031, 0.021)
        """
        return {
            "mosflm": (y + pixel / 2, x + pixel / 2),
            "denzo": (y, x),
            "adxv": (x, size_s - y),
        }.get(self.name, (x, y))

    def beam_centre(self, f: float, s: float, size_s: float, pixel: float) -> tuple[float, float]:
        """Return the beam centre (Xbeam, Ybeam) of this convention at (F, S): the inverse of `beam_position`."""
        return {
            "mosflm": (s - pixel / 2, f - pixel / 2),
            "denzo": (s, f),
            "adxv": (f, size_s - s),
        }.get(self.name, (f, s))


CONVENTIONS = {
    c.name: c
    for c in (
        Convention("mosflm", X, Z, MINUS_Y, X, MINUS_Z, Z, Z, "beam"),
        Convention("denzo", X, Z, MINUS_Y, X, MINUS_Z, Z, Z, "beam"),
        Convention("adxv", Z, X, MINUS_Y, Z, MINUS_X, X, X, "beam"),
        Convention("xds", Z, X, Y, Z, X, X, X, "sample"),
        Convention("dials", Z, X, Y, Z, Y, Y, Y, "sample"),
        Convention("custom", X, Z, MINUS_Y, X, Y, Z, Z, "beam"),
    )
}


@dataclass(frozen=True)
class Placement:
    """A detector as its user describes it.

    Attributes
    ----------
    beam, fast, slow, normal, twotheta_axis : ndarray, shape (3,)
        Unit vectors at rest.
    pivot : str
        "beam" or "sample".
    position : (float, float)
        (F, S), at rest, of the direct beam or of the point nearest to the sample.
    position_of : str
        Which of them: "beam" or "near".
    distance_m : float
        Along the beam, or along the normal if `distance_is_close`.
    rotation_rad : (float, float, float)
        About x, y, z.
    twotheta_rad : float
    origin : ndarray, or None
        Outer corner of the first pixel at rest, instead of position and distance (pivot "sample").
    shift_m : (float, float, float)
        Along the fixed x, y, z, after all turns.
    panel_shift_m, panel_turn_rad : (float, float, float)
        Of this panel alone, along and about (as a rotation vector) its own fast and slow axis and normal, after all
        else.
    middle_m : (float, float)
        (F, S) of the point that a panel's own turn keeps.
    """

    beam: np.ndarray
    fast: np.ndarray
    slow: np.ndarray
    normal: np.ndarray
    twotheta_axis: np.ndarray
    pivot: str
    position: tuple[float, float]
    position_of: str
    distance_m: float
    distance_is_close: bool = False
    rotation_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    twotheta_rad: float = 0.0
    origin: Any = None
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    panel_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    panel_turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    middle_m: tuple[float, float] = (0.0, 0.0)

    def place(self, **rest: Any) -> Detector:
        """Return the detector where it stands; `rest` goes to `Detector` (pixel_m, pixels, ...).

        Raises
        ------
        InputError
            If a value is out of its range, or the beam runs along the detector's plane.
        """
        require_range("distance", self.distance_m, "m", low=1e-6, high=1e6)
        turn = self.swing @ self.tilt
        fast, slow, normal = (turn @ axis for axis in (self.fast, self.slow, self.normal))
        cosine = self.cosine()
        if cosine < MOST_TILTED and not (self.pivot == "sample" and self.distance_is_close):
            raise InputError(f"distance: beam and detector normal have the cosine {cosine:g}; must be >= {MOST_TILTED}")
        along = self.distance_m / cosine if self.distance_is_close and cosine else self.distance_m
        if self.origin is not None:
            origin = turn @ self.origin
        elif self.pivot == "beam":
            f, s = self.position_at("beam")
            origin = along * self.beam - f * fast - s * slow
        else:
            f, s = self.position_at("near")
            close = self.distance_m if self.distance_is_close else cosine * self.distance_m
            origin = turn @ (close * self.normal - f * self.fast - s * self.slow)
        if any((*self.shift_m, *self.panel_shift_m, *self.panel_turn_rad)):
            frame = np.stack([fast, slow, normal], axis=1)
            origin = origin + np.array(self.shift_m) + frame @ self.lever(self.own_turn)
            fast, slow, normal = (frame @ self.own_turn).T
        nominal = float(origin @ normal) / cosine if cosine else along
        return Detector(origin=origin, fast=fast, slow=slow, normal=normal, beam=self.beam, distance_m=nominal, **rest)

    @cached_property
    def own_turn(self) -> np.ndarray:
        """A panel's own turn, in its axes, shape (3, 3)."""
        return maps.exp(np.array(self.panel_turn_rad))

    def lever(self, own: np.ndarray) -> np.ndarray:
        """Return how far a panel's shift and its turn `own` move its origin, in its axes, shape (3,)."""
        middle = np.array([*self.middle_m, 0.0])
        return np.array(self.panel_shift_m) + middle - own @ middle

    @cached_property
    def tilt(self) -> np.ndarray:
        """The rotation about x, then y, then z."""
        return euler.to_matrix(np.array(self.rotation_rad), "extrinsic-XYZ")

    @cached_property
    def swing(self) -> np.ndarray:
        """The rotation by two-theta, which comes after the tilt."""
        return maps.exp(self.twotheta_rad * np.asarray(self.twotheta_axis))

    def cosine(self) -> float:
        """Return that of beam and tilted normal, before the swing: what "distance" means does not change with it."""
        return float(self.beam @ (self.tilt @ self.normal))

    def position_at(self, place: str) -> tuple[float, float]:
        """Return (F, S) at rest of the direct beam ("beam") or of the near point ("near")."""
        if place == self.position_of:
            return self.position
        f, s = (self.distance_m * slope for slope in self.beam_slope())
        sign = -1.0 if place == "near" else 1.0
        return self.position[0] + sign * f, self.position[1] + sign * s

    def beam_slope(self) -> tuple[float, float]:
        """Return how far beside the near point the direct beam is, at rest, along fast and slow, per distance."""
        across = [float(np.dot(self.beam, axis)) for axis in (self.fast, self.slow)]
        if not any(across):
            return 0.0, 0.0
        facing = float(np.dot(self.beam, self.normal)) if self.distance_is_close else 1.0
        if abs(facing) < MOST_TILTED:
            raise InputError(f"detector: beam and normal at rest have the cosine {facing:g}; a beam centre is nowhere")
        return across[0] / facing, across[1] / facing
