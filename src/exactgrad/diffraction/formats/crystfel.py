"""CrystFEL geometry files (``.geom``): panels, wavelength or photon energy.

The frame is CrystFEL's: z along the beam, y up. ``key = value`` sets a default for the panels that come later,
``panel/key = value`` one panel's. A corner is counted in pixels of `res` (per metre), at ``clen + coffset``.
Values that stand for a place in the image file (a path) are refused where the geometry needs them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.experiment import MAX_PANELS, Experiment, Panel, make_panel, wavelength
from exactgrad.diffraction.formats.text import complaint, content_lines, number
from exactgrad.errors import FormatError

HC_EV_M = 6.62607015e-34 * 299792458.0 / 1.602176634e-19  # photon energy times wavelength
_PANEL_KEYS = ("min_fs", "max_fs", "min_ss", "max_ss", "corner_x", "corner_y", "fs", "ss", "res", "clen", "coffset")
_NEEDED = tuple(key for key in _PANEL_KEYS if key != "coffset")
_UNITS_M = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "A": 1e-10}
_UNITS_EV = {"eV": 1.0, "keV": 1e3, "MeV": 1e6}
_TERM = re.compile(r"([+-]?)\s*(\d*\.?\d*(?:[eE][+-]?\d+)?)\s*([xyz])")

Entry = tuple[int, str]  # line, value


def read(path: Path) -> Experiment:
    """Read the panels of a geometry file; `wavelength_m` is None where it is left to the images.

    Raises
    ------
    FormatError
        With the line: a panel without a needed key, a value that is a path or not a number.
    InputError, RefusedFile
        As `files.read_text`.
    """
    defaults: dict[str, Entry] = {}
    panels: dict[str, dict[str, Entry]] = {}
    for line, text in content_lines(path, comment=";"):
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise complaint(path, line, f"{text[:40]!r}: key = value is needed")
        panel, slash, key = name.rpartition("/")
        if not slash:
            defaults[key] = (line, value)
        elif not panel.startswith(("bad", "rigid_group", "group")):
            if panel not in panels and len(panels) == MAX_PANELS:
                raise complaint(path, line, f"more than {MAX_PANELS} panels")
            panels.setdefault(panel, dict(defaults))[key] = (line, value)
    if not panels:
        raise FormatError(f"{path}: no panel/key = value: not a CrystFEL geometry")
    return Experiment(
        panels=tuple(_panel(path, name, entries) for name, entries in panels.items()),
        beam_direction=np.array([0.0, 0.0, 1.0]),
        wavelength_m=_wavelength(path, defaults),
    )


def _panel(path: Path, name: str, entries: dict[str, Entry]) -> Panel:
    missing = [key for key in _NEEDED if key not in entries]
    if missing:
        raise FormatError(f"{path}: panel {name[:40]!r} has no {missing[0]}")
    bounds = [_plain(path, entries, key) for key in ("min_fs", "max_fs", "min_ss", "max_ss")]
    if not all(value.is_integer() for value in bounds):
        raise FormatError(f"{path}: panel {name[:40]!r}: min_fs ... max_ss must be whole numbers")
    pixels_per_m = _plain(path, entries, "res")
    if not pixels_per_m > 0:
        raise complaint(path, entries["res"][0], f"res = {pixels_per_m:g} pixels/m: must be > 0")
    distance = _measured(path, *entries["clen"], "clen", _UNITS_M)
    if "coffset" in entries:
        distance += _measured(path, *entries["coffset"], "coffset", _UNITS_M)
    corner = [_plain(path, entries, key) / pixels_per_m for key in ("corner_x", "corner_y")]
    shape = (int(bounds[3] - bounds[2]) + 1, int(bounds[1] - bounds[0]) + 1)
    fast, slow = (_direction(path, *entries[key], key) for key in ("fs", "ss"))
    return make_panel(path, name, [*corner, distance], fast, slow, (1 / pixels_per_m,) * 2, shape)


def _plain(path: Path, entries: dict[str, Entry], key: str) -> float:
    line, value = entries[key]
    return number(path, line, value, key)


def _measured(path: Path, line: int, value: str, key: str, units: dict[str, float]) -> float:
    """Return a number with a unit (the first of `units` if none is written) in that first unit."""
    tokens = value.split()
    if len(tokens) > 2 or (len(tokens) == 2 and tokens[1] not in units):
        raise complaint(path, line, f"{key} = {value[:40]}: a number in {', '.join(units)} is needed")
    return number(path, line, tokens[0] if tokens else "", key) * (units[tokens[1]] if len(tokens) == 2 else 1.0)


def _wavelength(path: Path, defaults: dict[str, Entry]) -> float | None:
    for key in ("wavelength", "photon_energy"):
        if key not in defaults:
            continue
        line, value = defaults[key]
        if "/" in value:  # a place in the image file
            return None
        if key == "wavelength":
            return wavelength(path, _measured(path, line, value, key, _UNITS_M))
        energy = _measured(path, line, value, key, _UNITS_EV)
        if not energy > 0:
            raise complaint(path, line, f"photon_energy = {energy:g} eV: must be > 0")
        return wavelength(path, HC_EV_M / energy)
    return None


def _direction(path: Path, line: int, value: str, key: str) -> list[float]:
    """Return the vector of e.g. ``+0.99x -0.01y``."""
    vector = [0.0, 0.0, 0.0]
    rest = _TERM.sub("", value).strip()
    terms = _TERM.findall(value)
    if rest or not terms:
        raise complaint(path, line, f"{key} = {value[:40]}: a sum of multiples of x, y and z is needed")
    for sign, size, axis in terms:
        vector["xyz".index(axis)] += (-1 if sign == "-" else 1) * (number(path, line, size, key) if size else 1.0)
    return vector
