"""A command line's detector: convention, beam centre, pivot, sensor and sampling."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import unit_vector
from exactgrad.diffraction.detector import MOST_SAMPLES
from exactgrad.diffraction.formats import smv
from exactgrad.diffraction.formats.smv import SmvImage
from exactgrad.diffraction.geometry import CONVENTIONS, Convention, Placement
from exactgrad.diffraction.options import Given
from exactgrad.diffraction.settings.detector import DetectorSettings
from exactgrad.errors import InputError, require_range

VECTORS = {
    "fdet_vector": "fast",
    "sdet_vector": "slow",
    "odet_vector": "normal",
    "beam_vector": "beam",
    "polar_vector": "polarization",
    "spindle_axis": "spindle",
    "twotheta_axis": "twotheta",
}
BEAM_CENTRE, NEAR_POINT = ("Xbeam", "Ybeam"), ("ORGX", "ORGY", "Xclose", "Yclose")
PIVOT_AFTER = dict.fromkeys((*NEAR_POINT, "close_distance", "twotheta"), "sample")
PIVOT_AFTER |= dict.fromkeys((*BEAM_CENTRE, "distance"), "beam")
HEADER = {  # SMV key, key, unit
    "PIXEL_SIZE": ("pixel", 1e-3),
    "WAVELENGTH": ("wavelength", 1e-10),
    "PHI": ("phi", np.pi / 180),
    "OSC_RANGE": ("osc", np.pi / 180),
}
DEFAULT_PIXEL, DEFAULT_DISTANCE, DEFAULT_SIZE = 0.1e-3, 0.1, 102.4e-3  # m


def inherit(given: Given) -> None:
    """Take from the headers of -mask and -img what no option says; an option goes before -img, that before -mask."""
    for source in ("img", "mask"):
        if source not in given:
            continue
        picture = smv.read(given.path(source))
        found = {key: (picture.number(name), unit) for name, (key, unit) in HEADER.items()}
        found |= _inherited_geometry(given, picture, source)
        for key, (value, unit) in found.items():
            if value is not None and key not in given:
                given.set(key, value * unit, f"-{source} (header)")
        if source == "mask":
            given.set("mask_pixels", picture.pixels != 0, "-mask")


def _inherited_geometry(given: Given, picture: SmvImage, source: str) -> dict[str, tuple[float | None, float]]:
    slow, fast = picture.pixels.shape
    found: dict[str, tuple[float | None, float]] = {}
    if not {"fast_size", "slow_size"} & given.values.keys():
        found |= {"fast_pixels": (fast, 1), "slow_pixels": (slow, 1)}
    close = picture.number("CLOSE_DISTANCE")
    if "close_distance" not in given and (given.c_compat or "distance" not in given):
        found["distance" if close is None else "close_distance"] = (close or picture.number("DISTANCE"), 1e-3)
    if not given.c_compat:
        found["twotheta"] = (picture.number("TWOTHETA") or None, np.pi / 180)
    if {*BEAM_CENTRE, *NEAR_POINT} & given.values.keys():
        return found
    if given.get("convention") in ("xds", "dials"):
        for axis in "XY":
            value = picture.number(f"ORG{axis}")
            found[f"ORG{axis}"] = (picture.number(f"XDS_ORG{axis}") if value is None else value, 1)
        return found
    x, y = picture.number("BEAM_CENTER_X"), picture.number("BEAM_CENTER_Y")
    if given.c_compat and source == "mask" and y is not None:  # the C program turns that of a mask over
        y = slow * (picture.number("PIXEL_SIZE") or DEFAULT_PIXEL * 1e3) - y
    return found | {"Xbeam": (x, 1e-3), "Ybeam": (y, 1e-3)}


def convention_of(given: Given) -> Convention:
    """Return the axes at rest: those of the named convention, with the vectors that options give.

    In the C program any vector makes the convention "custom", unless a convention is named after it.
    """
    vectors = [key for key in given.values if key in VECTORS or key == "pix0_vector"]
    name = given.get("convention", "mosflm")
    if given.c_compat and vectors:
        last = [key for key in given.values if key in VECTORS or key in ("convention", "pix0_vector")][-1]
        if last == "convention":
            for key in vectors:
                given.ineffective(key, f"overruled by -{name}, which comes later")
            return CONVENTIONS[name]
        name = "custom"
    base = CONVENTIONS[name]
    changes: dict[str, Any] = {
        VECTORS[key]: tuple(unit_vector(f"-{key}", given.get(key))) for key in vectors if key in VECTORS
    }
    if "twotheta_axis" in given and not given.get("twotheta"):
        given.ineffective("twotheta_axis", "has no effect without -twotheta")
    changed = replace(base, **changes)
    return replace(changed, normal=_normal(given, changed))


def _normal(given: Given, axes: Convention) -> tuple[float, float, float]:
    across = np.cross(axes.fast, axes.slow)
    if given.c_compat:  # a vector that is not of unit length counts as none
        unit = "odet_vector" not in given or np.sqrt(np.square(given.get("odet_vector")).sum()) == 1.0
        return axes.normal if unit else tuple(across)
    if "odet_vector" in given or not {"fdet_vector", "sdet_vector"} & given.values.keys():
        return axes.normal
    return tuple(np.copysign(1.0, across @ np.array(axes.beam)) * across)


def detector_of(given: Given, convention: Convention, wavelength: float, crystal_m: float) -> DetectorSettings:
    """Return the detector as stated; `crystal_m`, the crystal's longest side, decides how finely a pixel is sampled."""
    pixel = given.get("pixel", DEFAULT_PIXEL)
    if not 1e-9 <= pixel <= 1:
        raise InputError(f"-pixel {pixel * 1e3:g} mm: must be >= 1e-6 and <= 1000 mm")
    size = [given.get(f"{axis}_size", DEFAULT_SIZE) for axis in ("fast", "slow")]
    for i, axis in enumerate(("fast", "slow")):
        if given.get(f"{axis}_pixels", 1) <= 0:
            given.ineffective(f"{axis}_pixels", f"{given.get(f'{axis}_pixels')} pixels; at least 1")
        if given.get(f"{axis}_pixels"):
            if f"{axis}_size" in given:
                given.ineffective(f"{axis}_size", "contradicts -detpixels")
            size[i] = pixel * given.get(f"{axis}_pixels")
    fast_pixels, slow_pixels = (ceil(side / pixel - 0.5) for side in size)
    settings = DetectorSettings(
        placement=placement_of(given, convention, size[0], size[1], pixel),
        convention=convention,
        pixel_m=pixel,
        pixels=(slow_pixels, fast_pixels),
        size_slow_m=size[1],
        curved=given.get("curved", False),
        point_pixel=given.get("point_pixel", False),
        roi=given.get("roi"),
        mask=given.get("mask_pixels"),
        **_sensor(given),
    )
    oversample = given.get("oversample", 0)
    if oversample <= 0:
        if "oversample" in given:
            given.ineffective("oversample", f"{oversample} sub-pixels a side; at least 1, or leave it out for enough")
        oversample = max(1, ceil(3.0 * crystal_m / (wavelength * settings.detector().distance_m / pixel)))
        if oversample > MOST_SAMPLES:
            raise InputError(f"-oversample: the crystal asks for {oversample} sub-pixels a side; give a number")
    return replace(settings, oversample=oversample)


def placement_of(given: Given, convention: Convention, size_f: float, size_s: float, pixel: float) -> Placement:
    """Return how the detector stands, with its beam centre and pivot."""
    is_close = "close_distance" in given
    if is_close and "distance" in given:
        given.ineffective("distance", "contradicts -close_distance")
    centres = _c_centres if given.c_compat else _centres
    pivot, position, position_of = centres(given, convention, size_f, size_s, pixel)
    origin = given.get("pix0_vector")
    if origin is not None:
        if given.c_compat:
            given.ineffective("pix0_vector", "the C program does not use the value")
            origin = None
        else:
            for key in (*BEAM_CENTRE, *NEAR_POINT, "distance", "close_distance", "pivot"):
                if key in given:
                    given.ineffective(key, "contradicts -pix0_vector")
            pivot = "sample"
    return Placement(
        beam=np.array(convention.beam),
        fast=np.array(convention.fast),
        slow=np.array(convention.slow),
        normal=np.array(convention.normal),
        twotheta_axis=np.array(convention.twotheta),
        pivot=pivot,
        position=position,
        position_of=position_of,
        distance_m=given.get("close_distance" if is_close else "distance", DEFAULT_DISTANCE),
        distance_is_close=is_close,
        rotation_rad=tuple(given.get(f"rot{axis}", 0.0) for axis in "xyz"),
        twotheta_rad=given.get("twotheta", 0.0),
        origin=None if origin is None else np.array(origin),
        middle_m=(size_f / 2, size_s / 2),
    )


Centres = tuple[str, tuple[float, float], str]  # pivot, (F, S), of what


def _centres(given: Given, convention: Convention, size_f: float, size_s: float, pixel: float) -> Centres:
    """Return the pivot and the centre; every way to give a centre works in every convention.

    A near point makes the sample the pivot, a beam centre the beam; -pivot goes before both.
    """
    if "pivot" in given and given.get("pivot") not in ("beam", "sample"):
        raise InputError(f"-pivot {given.get('pivot')}: must be beam or sample")
    near = [key for key in NEAR_POINT if key in given]
    beam = [key for key in BEAM_CENTRE if key in given]
    if (near and beam) or {"ORGX", "Xclose"} <= set(near) or {"ORGY", "Yclose"} <= set(near):
        raise InputError(f"-{near[0]}: contradicts -{(beam or near[::-1])[0]}; give one centre")
    pivot = given.get("pivot") or ("sample" if near else "beam" if beam else convention.pivot)
    x, y = convention.default_centre(size_f, size_s, pixel)
    centre = given.get("Xbeam", x), given.get("Ybeam", y)
    given.set("beam_centre", centre, "")
    if not near:
        return pivot, convention.beam_position(*centre, size_s, pixel), "beam"
    near_f = given.get("Xclose", (given.get("ORGX", size_f / 2 / pixel + 0.5) - 0.5) * pixel)
    near_s = given.get("Yclose", (given.get("ORGY", size_s / 2 / pixel + 0.5) - 0.5) * pixel)
    return pivot, (near_f, near_s), "near"


def _c_centres(given: Given, convention: Convention, size_f: float, size_s: float, pixel: float) -> Centres:
    """Return the same with the C program's rules: a convention hears only its own way, "custom" the last option."""
    near_f = (given.get("ORGX") - 0.5) * pixel if "ORGX" in given else size_f / 2
    near_s = (given.get("ORGY") - 0.5) * pixel if "ORGY" in given else size_s / 2
    x, y = convention.default_centre(size_f, size_s, pixel)
    if convention.name in ("xds", "dials", "custom"):
        x, y = given.get("Xclose", near_f), given.get("Yclose", near_s)
    centre = given.get("Xbeam", x), given.get("Ybeam", y)
    given.set("beam_centre", centre, "")
    position = convention.beam_position(*centre, size_s, pixel)
    if convention.name == "custom":
        pivot = _c_pivot(given)
        return pivot, position, "beam" if pivot == "beam" else "near"
    own = ("ORGX", "ORGY") if convention.pivot == "sample" else BEAM_CENTRE
    for key in (*BEAM_CENTRE, *NEAR_POINT, "pivot"):
        if key in given and key not in own:
            given.ineffective(key, f"the C program does not use it with -{convention.name}")
    return (convention.pivot, position, "beam") if convention.pivot == "beam" else ("sample", (near_f, near_s), "near")


def _c_pivot(given: Given) -> str:
    pivot = "beam"
    for key, value in given.values.items():
        if key == "convention":
            pivot = "sample" if value == "xds" else "beam"
        elif key == "pivot":
            pivot = value if value in ("beam", "sample") else pivot
        else:
            pivot = PIVOT_AFTER.get(key, pivot)
    return pivot


def _sensor(given: Given) -> dict[str, Any]:
    thickness, layers = given.get("thickness", 0.0), given.get("layers")
    attenuation = given.get("attenuation")
    if thickness <= 0 or attenuation == 0:
        if thickness > 0 or (attenuation and thickness <= 0) or layers is not None:
            key = "thickness" if thickness > 0 else "attenuation" if attenuation else "layers"
            given.ineffective(key, "an absorbing sensor needs both -detector_abs (not inf) and -detector_thick")
        return {}
    if attenuation is None:
        given.warnings.append(f"-detector_thick: attenuation depth taken as the thickness, {thickness * 1e6:g} um")
    count = 2 if layers is None else max(layers, 2) if given.c_compat else layers
    beyond = given.c_compat and layers is not None  # the C program's last layer begins at the sensor's back
    require_range("-detector_thicksteps", count, low=1, high=MOST_SAMPLES)
    return {
        "thickness_m": thickness,
        "attenuation_per_m": attenuation,
        "layers": count,
        "layer_share": 1.0 / (count - 1 if beyond else count),
    }
