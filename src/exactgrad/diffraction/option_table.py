"""The C program's options: every name, what it sets, what it takes and in which unit. Data, and how a word is found.

Names and aliases are those that the C program's source compares with; units become metres and radians here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.diffraction.beam import wavelength_m
from exactgrad.diffraction.crystal import ANGSTROM

LARGEST = 1e40


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes
    ----------
    names : tuple of str
        All spellings; a trailing ``*`` takes any ending, as the C program does.
    keys : tuple of str
        What it sets.
    read : callable
        Text to value, in SI units; None for a flag.
    count : int
        Arguments: 0, 1, 3, 4, or the most of a list that the next option ends (`fewer`).
    value : object
        What a flag sets.
    unused : str
        Why the C program does nothing with it, if so.
    """

    names: tuple[str, ...]
    keys: tuple[str, ...]
    read: Callable[[str], Any] | None = None
    count: int = 1
    value: Any = True
    fewer: bool = False
    unused: str = ""


def _number(factor: float = 1.0, divide: float = 1.0) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text) * factor / divide
        if not text.isascii() or "_" in text or not abs(value) <= LARGEST:  # nor is a NaN
            raise ValueError
        return value

    return read


def whole(text: str) -> int:
    """Return a whole number below 2^31 in magnitude; `ValueError` if the text is none."""
    value = _number()(text)
    if value != int(value) or abs(value) >= 2**31:
        raise ValueError
    return int(value)


def _depth(text: str) -> float:
    """Attenuation depth in um, "inf" or 0 for none, to 1/m."""
    if "inf" in text:
        return 0.0
    depth = _number(1e-6)(text)
    return 1.0 / depth if depth else 0.0


def _misset(text: str) -> Any:
    return "random" if "rand" in text else _number()(text)


def _flag(name: str | tuple[str, ...], key: str, value: Any = True, unused: str = "") -> Option:
    return Option((name,) if isinstance(name, str) else name, (key,), count=0, value=value, unused=unused)


_plain, _mm, _um, _deg, _mrad = _number(), _number(divide=1e3), _number(divide=1e6), np.pi / 180, _number(divide=1e3)
_degrees, _percent = _number(_deg), _number(divide=100)
_NOT_IN_C = "the C program reads it and does nothing with it"
_NEVER_USED = "the C program reads the file and never uses it"

CRYSTAL = (
    Option(("-hkl",), ("hkl",), str),
    Option(("-dump",), ("dump",), str),
    Option(("-default_F",), ("default_F",), _plain),
    Option(("-mat",), ("mat",), str),
    Option(("-cell",), ("cell",), _plain, 6, fewer=True),
    Option(("-misset",), ("misset",), _misset, 3),
    Option(("-misset_seed",), ("misset_seed",), whole),
    Option(("-N",), ("Na", "Nb", "Nc"), _plain),
    Option(("-Na",), ("Na",), _plain),
    Option(("-Nb",), ("Nb",), _plain),
    Option(("-Nc",), ("Nc",), _plain),
    Option(("-samplesize", "-sample_size", "-xtalsize", "-xtal_size"), ("sample_x", "sample_y", "sample_z"), _mm),
    Option(("-sample_thick*", "-sample_x", "-xtal_thick*", "-xtal_x"), ("sample_x",), _mm),
    Option(("-sample_width", "-sample_y", "-width", "-xtal_width", "-xtal_y"), ("sample_y",), _mm),
    Option(("-sample_heigh*", "-sample_z", "-heigh*", "-xtal_heigh*", "-xtal_z"), ("sample_z",), _mm),
    _flag("-square_xtal", "shape", "square"),
    _flag("-round_xtal", "shape", "round"),
    _flag("-gauss_xtal", "shape", "gauss"),
    _flag(("-binary_spots", "-tophat_spots"), "shape", "tophat"),
    Option(("-fudge",), ("fudge",), _plain),
    Option(("-mosaic", "-mosaici*", "-mosaic_spr*"), ("mosaic",), _degrees),
    Option(("-mosaic_dom*",), ("mosaic_domains",), whole),
    Option(("-mosaic_seed",), ("mosaic_seed",), whole),
    Option(("-phi",), ("phi",), _degrees),
    Option(("-osc",), ("osc",), _degrees),
    Option(("-phistep",), ("phistep",), _degrees),
    Option(("-phisteps",), ("phisteps",), whole),
    _flag("-interpolate", "interpolate", True),
    _flag("-nointerpolate", "interpolate", False),
    Option(("-density", "-sample_den*"), ("density",), _plain, unused=_NOT_IN_C),
    Option(("-MW", "-molec*"), ("molecular_weight",), _plain, unused=_NOT_IN_C),
)

BEAM = (
    Option(("-lambda", "-wave*"), ("wavelength",), _number(ANGSTROM)),
    Option(("-energy",), ("wavelength",), lambda text: wavelength_m(_plain(text))),
    Option(("-fluence",), ("fluence",), _plain),
    Option(("-flux",), ("flux",), _plain),
    Option(("-exposure",), ("exposure",), _plain),
    Option(("-beamsize",), ("beamsize",), _mm),
    Option(("-dispersion",), ("dispersion",), _percent),
    Option(("-dispsteps",), ("dispsteps",), whole),
    Option(("-divergence",), ("hdivrange", "vdivrange"), _mrad),
    Option(("-hdivrange",), ("hdivrange",), _mrad),
    Option(("-vdivrange",), ("vdivrange",), _mrad),
    Option(("-hdivstep",), ("hdivstep",), _mrad),
    Option(("-vdivstep",), ("vdivstep",), _mrad),
    Option(("-divsteps",), ("hdivsteps", "vdivsteps"), whole),
    Option(("-hdivsteps",), ("hdivsteps",), whole),
    Option(("-vdivsteps",), ("vdivsteps",), whole),
    _flag("-round_div*", "round_div", True),
    _flag("-square_div*", "round_div", False),
    Option(("-sourcefile",), ("sourcefile",), str),
    Option(("-polar",), ("kahn",), _plain),
    _flag("-nopolar", "kahn", None),
    Option(("-dmin",), ("d_min",), _number(ANGSTROM)),
    _flag("-coherent", "coherent", unused=_NOT_IN_C),
)

DETECTOR = (
    Option(("-distance",), ("distance",), _mm),
    Option(("-close_distance",), ("close_distance",), _mm),
    Option(("-pixel",), ("pixel",), _mm),
    Option(("-detpixels",), ("fast_pixels", "slow_pixels"), whole),
    Option(("-detpixels_f", "-detpixels_x"), ("fast_pixels",), whole),
    Option(("-detpixels_s", "-detpixels_y"), ("slow_pixels",), whole),
    Option(("-detsize",), ("fast_size", "slow_size"), _mm),
    Option(("-detsize_f",), ("fast_size",), _mm),
    Option(("-detsize_s",), ("slow_size",), _mm),
    *(_flag(f"-{name}", "convention", name) for name in ("mosflm", "xds", "adxv", "denzo", "dials")),
    *(Option((f"-{name}",), (name,), _mm) for name in ("Xbeam", "Ybeam", "Xclose", "Yclose")),
    Option(("-ORGX",), ("ORGX",), _plain),
    Option(("-ORGY",), ("ORGY",), _plain),
    *(Option((f"-detector_rot{axis}",), (f"rot{axis}",), _degrees) for axis in "xyz"),
    Option(("-twotheta",), ("twotheta",), _degrees),
    Option(("-pivot",), ("pivot",), str),
    *(
        Option((f"-{name}",), (name,), _plain, 3)
        for name in (
            "fdet_vector",
            "sdet_vector",
            "odet_vector",
            "beam_vector",
            "polar_vector",
            "spindle_axis",
            "twotheta_axis",
            "pix0_vector",
        )
    ),
    _flag("-curved_det*", "curved"),
    _flag("-point_pixel", "point_pixel"),
    Option(("-detector_abs*",), ("attenuation",), _depth),
    Option(("-detector_thick",), ("thickness",), _um),
    Option(("-detector_thicksteps", "-thicksteps"), ("layers",), whole),
    Option(("-oversample",), ("oversample",), whole),
    _flag("-oversample_thick", "sample_capture"),
    _flag("-oversample_polar", "sample_polarization"),
    _flag("-oversample_omega", "sample_solid_angle"),
    Option(("-roi",), ("roi",), whole, 4),
    Option(("-mask",), ("mask",), str),
    Option(("-img",), ("img",), str),
)

OUTPUT = (
    Option(("-water",), ("water",), _um),
    Option(("-stol",), ("stol",), str, unused=_NEVER_USED),
    Option(("-4stol",), ("stol",), str, unused=_NEVER_USED),
    Option(("-Q",), ("stol",), str, unused=_NEVER_USED),
    Option(("-stolout*",), ("stolout",), str, unused=_NOT_IN_C),
    Option(("-seed",), ("seed",), whole),
    Option(("-floatfile", "-floatimage"), ("floatfile",), str),
    Option(("-intfile", "-intimage"), ("intfile",), str),
    Option(("-noisefile", "-noiseimage"), ("noisefile",), str),
    _flag("-nonoise", "noisefile", None),
    Option(("-pgmfile", "-pgmimage"), ("pgmfile",), str),
    _flag("-nopgm", "pgmfile", None),
    Option(("-pgmscale",), ("pgmscale",), _plain),
    Option(("-scale",), ("scale",), _plain),
    Option(("-adc*",), ("adc",), _plain),
    _flag("-printout", "printout"),
    Option(("-printout_pixel",), ("printout_pixel",), whole, 2),
    _flag("-progress", "progress", True),
    _flag("-noprogress", "progress", False),
    _flag("--c-compat", "c_compat"),
)

OPTIONS = (*CRYSTAL, *BEAM, *DETECTOR, *OUTPUT)


def find(word: str) -> Option | None:
    """Return the option that a word spells; a whole name goes before one that ends in ``*``.

    Examples
    --------
    >>> find("-mosaic_domains").keys, find("-no_such_option")
    (('mosaic_domains',), None)
    """
    for option in OPTIONS:
        if word in option.names:
            return option
    for option in OPTIONS:
        if any(name.endswith("*") and word.startswith(name[:-1]) for name in option.names):
            return option
    return None
