"""How a detector moves: the exact derivative of `Placement.place` and of the sensor.

A turn by the rotation w dt moves a vector v by w x v dt, at every angle: nothing here is singular at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.diffraction.geometry import Placement
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.settings.detector import NO_SENSOR, DetectorSettings
from exactgrad.errors import InputError
from exactgrad.rotations import maps

STILL = (0.0, 0.0)


@dataclass(frozen=True)
class Change:
    """How the numbers of a `Placement` change; metres and radians per unit."""

    distance_m: float = 0.0
    position: tuple[float, float] = STILL
    rotation_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    twotheta_rad: float = 0.0
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    panel_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    panel_turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)


def moved(placement: Placement, change: Change) -> Movement:
    """Return the movement of origin, axes and nominal distance."""
    p, tilt, swing = placement, placement.tilt, placement.swing
    turn = swing @ tilt
    tilting = euler_turn(p.rotation_rad, change.rotation_rad)
    turning = change.twotheta_rad * np.asarray(p.twotheta_axis) + swing @ tilting
    spun = maps.skew(turning)
    frame = turn @ np.stack([p.fast, p.slow, p.normal], axis=1)
    by_frame = spun @ frame
    (fast, slow, normal), (by_fast, by_slow, _) = frame.T, by_frame.T
    cosine, facing = p.cosine(), float(p.beam @ (maps.skew(tilting) @ (tilt @ p.normal)))
    where = "beam" if p.pivot == "beam" else "near"
    if p.origin is not None:
        at_rest = np.asarray(p.origin)
        origin = turn @ at_rest
        by_origin = spun @ origin + turn @ np.asarray(change.origin)
    else:
        f, s = p.position_at(where)
        by_f, by_s = _moved_position(p, change, where)
        sideways = by_f * fast + by_s * slow
        if where == "beam":
            along, by_along = _along_beam(p, change, cosine, facing)
            origin = along * p.beam - f * fast - s * slow
            by_origin = by_along * p.beam - sideways - f * by_fast - s * by_slow
        else:
            close, by_close = _close(p, change, cosine, facing)
            origin = turn @ (close * p.normal - f * p.fast - s * p.slow)
            by_origin = spun @ origin + by_close * normal - sideways
    own, by_own = p.own_turn, np.zeros((3, 3))
    if any(change.panel_turn_rad):
        by_own = maps.dexp(np.array(p.panel_turn_rad), np.array(change.panel_turn_rad))
    lever, by_lever = p.lever(own), np.array(change.panel_shift_m) - by_own @ np.array([*p.middle_m, 0.0])
    origin = origin + np.array(p.shift_m) + frame @ lever
    by_origin = by_origin + np.array(change.shift_m) + by_frame @ lever + frame @ by_lever
    by_fast, by_slow, by_normal = (by_frame @ own + frame @ by_own).T
    axes: dict[str, Any] = {"fast": by_fast, "slow": by_slow, "normal": by_normal}
    normal = frame @ own[:, 2]
    if not cosine:  # only from -close_distance: the beam runs along the sensor
        return Movement(origin=by_origin, distance_m=change.distance_m, **axes)
    by_height = float(by_origin @ normal + origin @ by_normal)
    nominal = by_height / cosine - float(origin @ normal) * facing / cosine**2
    return Movement(origin=by_origin, distance_m=nominal, **axes)


def euler_turn(angles_rad: tuple[float, float, float], change: tuple[float, float, float]) -> np.ndarray:
    """Return w, shape (3,), with dR = [w]x R, of the rotation about the fixed x, then y, then z."""
    (_, cos_y, cos_z), (_, sin_y, sin_z) = np.cos(angles_rad), np.sin(angles_rad)
    x, y, z = change
    return np.array([cos_z * cos_y * x - sin_z * y, sin_z * cos_y * x + cos_z * y, z - sin_y * x])


def _moved_position(p: Placement, change: Change, where: str) -> tuple[float, float]:
    if where == p.position_of:
        return change.position
    sign = -1.0 if where == "near" else 1.0
    f, s = (sign * change.distance_m * slope for slope in p.beam_slope())
    return change.position[0] + f, change.position[1] + s


def _along_beam(p: Placement, change: Change, cosine: float, facing: float) -> tuple[float, float]:
    if not p.distance_is_close:
        return p.distance_m, change.distance_m
    return p.distance_m / cosine, change.distance_m / cosine - p.distance_m * facing / cosine**2


def _close(p: Placement, change: Change, cosine: float, facing: float) -> tuple[float, float]:
    if p.distance_is_close:
        return p.distance_m, change.distance_m
    return cosine * p.distance_m, cosine * change.distance_m + facing * p.distance_m


def thicker(settings: DetectorSettings) -> Movement:
    """Return the movement per metre of thickness; an attenuation that was not given stays one over the thickness."""
    if settings.thickness_m <= 0:
        raise InputError(NO_SENSOR)
    weaker = -1.0 / settings.thickness_m**2 if settings.attenuation_per_m is None else 0.0
    return Movement(layer_m=settings.layer_share, attenuation_per_m=weaker)


def deeper(settings: DetectorSettings) -> Movement:
    """Return the movement per metre of attenuation depth."""
    return Movement(attenuation_per_m=-(settings.absorption_per_m**2))
