"""The parameters of the detector, and the water before it, as entries of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.entry import DEGREE, MM, UM, Aliases, Entry, Get, Move, Put, field, with_field
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.settings.detector import CENTRES
from exactgrad.diffraction.tangents import detector as tangents_detector
from exactgrad.diffraction.tangents.detector import Change
from exactgrad.errors import InputError

CENTRE_ALIASES = {"beam_f": ("beam_center_f",), "beam_s": ("beam_center_s",)}


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for name, meaning in (("distance", "along the beam"), ("close_distance", "along its normal")):
        aliases: Aliases = ((f"{name}_mm", "mm", MM), (f"{name}_m", "m", 1.0))
        place = _distance(name == "close_distance")
        yield Entry(name, "mm", MM, *place, f"crystal to detector, {meaning}", aliases, 1e-3, 1e9)
    for key, point in CENTRES.items():
        unit, si = ("px", 1.0) if key.startswith("ORG") else ("mm", MM)
        aliases = tuple((f"{name}{end}", unit, si) for name in CENTRE_ALIASES.get(key, ()) for end in ("", "_mm"))
        meaning = f"{'direct beam' if point == 'beam' else 'point nearest to the crystal'} on the detector at rest"
        yield Entry(key, unit, si, *_centre(key), meaning, aliases)
    for i, axis in enumerate("xyz"):
        name = f"detector_rot{axis}"
        place = (*field("detector.placement.rotation_rad", i), _placed(Change(rotation_rad=_unit(i))))
        aliases = ((f"{name}_deg", "deg", DEGREE), (f"{name}_rad", "rad", 1.0))
        yield Entry(name, "deg", DEGREE, *place, f"turn of the detector about the fixed {axis}", aliases)
    place = (*field("detector.placement.twotheta_rad"), _placed(Change(twotheta_rad=1.0)))
    aliases = (("twotheta_deg", "deg", DEGREE), ("detector_twotheta_deg", "deg", DEGREE), ("twotheta_rad", "rad", 1.0))
    yield Entry("twotheta", "deg", DEGREE, *place, "swing of the detector, after its turns", aliases)
    for i, axis in enumerate("xyz"):
        yield Entry(f"pix0_{axis}", "m", 1.0, *_origin(i), f"{axis} of the first pixel's outer corner at rest")
    yield from _panel_entries()
    yield from _sensor_entries()
    yield Entry(
        "water",
        "um",
        UM,
        *field("water_m"),
        lambda settings, _: Movement(water_m=1.0),
        "side of a cube of water",
        (("water_um", "um", UM),),
        0.0,
        1e6,
        moves_spots=False,
    )


def _panel_entries() -> Iterator[Entry]:
    for i, axis in enumerate("xyz"):
        place = (*field("detector.placement.shift_m", i), _placed(Change(shift_m=_unit(i))))
        name, meaning = f"detector_shift_{axis}", f"shift of the detector along the fixed {axis}"
        yield Entry(name, "mm", MM, *place, meaning, ((f"{name}_mm", "mm", MM),), -1e6, 1e6)
    for i, axis in enumerate(("fast", "slow", "normal")):
        place = (*field("detector.placement.panel_shift_m", i), _placed(Change(panel_shift_m=_unit(i))))
        name, meaning = (
            f"panel_shift_{axis}",
            f"shift of the panel along its own {axis} axis".replace("normal axis", "normal"),
        )
        yield Entry(name, "mm", MM, *place, meaning, ((f"{name}_mm", "mm", MM),), -1e6, 1e6)
        place = (*field("detector.placement.panel_turn_rad", i), _placed(Change(panel_turn_rad=_unit(i))))
        name, meaning = f"panel_rot_{axis}", meaning.replace("shift of the panel along", "turn of the panel about")
        yield Entry(name, "deg", DEGREE, *place, meaning, ((f"{name}_deg", "deg", DEGREE),), -180.0, 180.0)


def _sensor_entries() -> Iterator[Entry]:
    yield Entry(
        "detector_thick",
        "um",
        UM,
        *field("detector.thickness_m"),
        lambda settings, _: tangents_detector.thicker(settings.detector),
        "sensor thickness",
        (("detector_thick_um", "um", UM), ("detector_thickness_um", "um", UM)),
        0.0,
        1e6,
    )
    yield Entry(
        "detector_abs",
        "um",
        UM,
        lambda settings, _: 1.0 / settings.detector.absorption_per_m,
        lambda settings, _, value: with_field(settings, ["detector", "attenuation_per_m"], 1.0 / value),
        lambda settings, _: tangents_detector.deeper(settings.detector),
        "attenuation depth of the sensor",
        (("detector_abs_um", "um", UM),),
        1e-6,
        1e12,
        moves_spots=False,
    )


def _unit(axis: int) -> tuple[float, float, float]:
    x, y, z = np.eye(3)[axis]
    return float(x), float(y), float(z)


def _placed(change: Change) -> Move:
    return lambda settings, _: tangents_detector.moved(settings.detector.placement, change)


def _distance(close: bool) -> tuple[Get, Put, Move]:
    get, put = field("detector.placement.distance_m")
    name, other = ("close_distance", "distance")[:: 1 if close else -1]

    def stated(settings: Settings) -> Settings:
        if settings.detector.placement.origin is not None:
            raise InputError(f"{name}: -pix0_vector says where the detector is; name pix0_x, pix0_y or pix0_z")
        if settings.detector.placement.distance_is_close != close:
            raise InputError(f"{name}: the detector stands at a {other}; name that")
        return settings

    return _checked(stated, get, put, _placed(Change(distance_m=1.0)))


def _origin(index: int) -> tuple[Get, Put, Move]:
    def stated(settings: Settings) -> Settings:
        if settings.detector.placement.origin is None:
            raise InputError("pix0_x, pix0_y, pix0_z: the detector is stated by distance and beam centre; name these")
        return settings

    return _checked(stated, *field("detector.placement.origin", index), _placed(Change(origin=_unit(index))))


def _checked(stated: Any, get: Get, put: Put, move: Move) -> tuple[Get, Put, Move]:
    """Return the three, each after a check of the settings."""
    return (
        lambda settings, index: get(stated(settings), index),
        lambda settings, index, value: put(stated(settings), index, value),
        lambda settings, index: move(stated(settings), index),
    )


def _centre(key: str) -> tuple[Get, Put, Move]:
    def move(settings: Settings, _: Any) -> Movement:
        settings.detector.require_centre(key)
        slope = settings.detector.centre_slope(key)
        return tangents_detector.moved(settings.detector.placement, Change(position=slope))

    return (
        lambda settings, _: settings.detector.centre(key),
        lambda settings, _, value: replace(settings, detector=settings.detector.with_centre(key, value)),
        move,
    )
