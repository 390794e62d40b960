"""Bruker shape files: JCAMP-DX text as TopSpin writes and reads it, and the older XWIN-NMR text.

Units in the file: amplitude in percent of the rf maximum, phase in degrees. The format has no place for the rf maximum
and (but for newer files' SHAPE_LENGTH) none for the length: ours stand in a ``$$`` comment, which TopSpin skips and
this reader reads, and in SHAPE_PARAMETERS for people. Dialects read: fields in any order or missing, NPOINTS given
twice (TopSpin 3.5), values in ``<>``, ``##END`` with or without ``=``, columns split by comma, blank or tab.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exactgrad.pulses.formats.shape import Content, Format, Label, fractions, integral_factor
from exactgrad.pulses.formats.text import TextFile, calibration_text, one_line
from exactgrad.pulses.pulse import Pulse

_PERCENT_LIMIT = 110.0  # genuine files reach 100.003; a file in Hz or a power file is far above
_NOMINAL_FLIP_DEG = {"Excitation": 90.0, "Inversion": 180.0, "Refocussing": 180.0, "Universal180": 180.0}


@dataclass
class _Header:
    title: str = ""
    npoints: list[tuple[int, int]] = field(default_factory=list)  # (line, value)
    length_s: float | None = None
    rf_max_hz: float | None = None
    own: bool = False  # the lengths come from our comment, not from SHAPE_LENGTH
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Content:
    """Read a shape file of either kind; raises `FormatError` with the line."""
    text = TextFile(path)
    first = next(line.strip() for line in text.lines if line.strip())
    if first.upper().startswith("RFVERSION_F"):
        return _read_xwin(text)
    if not first.startswith(("##", "$$")):
        raise text.error(1, "neither a JCAMP field (##TITLE=) nor RFVERSION_F: not a Bruker shape")
    return _read_jcamp(text)


def _read_jcamp(text: TextFile) -> Content:
    header = _Header()
    points: list[list[float]] = []
    points_from = 0  # line of XYPOINTS
    in_points = ended = False
    for number, raw in enumerate(text.lines, 1):
        line, _, comment = raw.partition("$$")
        line = line.strip()
        if comment:
            _read_comment(text, number, comment, header)
        if not line:
            continue
        if ended:
            header.notes.append(f"line {number}: text after ##END is ignored")
            break
        if not line.startswith("##"):
            if in_points:
                points.append(_point(text, number, line))
            continue  # outside the points: the rest of a value that takes several lines
        key, value = _split_field(line)
        in_points = key == "XYPOINTS"
        ended = key == "END"
        if in_points:
            if points_from:
                raise text.error(number, f"a second ##XYPOINTS (the first is in line {points_from}); one shape is read")
            if not value.replace(" ", "").upper().startswith("(XY"):
                raise text.error(number, f"##XYPOINTS= {value[:40]}: only (XY..XY) is read")
            points_from = number
        _read_field(text, number, key, value, header)
    if not points_from:
        raise text.error(len(text.lines), "no ##XYPOINTS= (XY..XY) field: not a shape, or cut off")
    if not ended:
        raise text.error(len(text.lines), f"no ##END= after {len(points)} points: cut off")
    _check_npoints(text, header, len(points), points_from)
    amplitude, phase = np.array(points).T
    return Content.from_polar(
        amplitude / 100,
        np.deg2rad(phase),
        duration_s=header.length_s,
        rf_max_hz=header.rf_max_hz,
        title=header.title,
        notes=tuple(header.notes),
    )


def _split_field(line: str) -> tuple[str, str]:
    """Split ``##KEY= value``; JCAMP ignores case, blanks, dashes and underscores in a key."""
    key, _, value = line[2:].partition("=")
    for mark in " -_/":
        key = key.replace(mark, "")
    return key.upper(), value.strip().removeprefix("<").removesuffix(">")


def _read_field(text: TextFile, number: int, key: str, value: str, header: _Header) -> None:
    if key == "TITLE":
        header.title = value
    elif key == "NPOINTS":
        header.npoints.append((number, text.count(number, value, "NPOINTS")))
    elif key == "$SHAPELENGTH" and value and not header.own:
        header.length_s = text.positive(number, value, "SHAPE_LENGTH") * 1e-6


def _read_comment(text: TextFile, number: int, comment: str, header: _Header) -> None:
    found = text.calibration(number, comment)
    if found:
        header.own = True
        header.length_s, header.rf_max_hz = found


def _point(text: TextFile, number: int, line: str) -> list[float]:
    point = text.numbers(number, line, ("amplitude %", "phase deg"))
    if abs(point[0]) > _PERCENT_LIMIT:
        raise text.error(number, f"amplitude {point[0]:g}: at most {_PERCENT_LIMIT:g} percent is read")
    return point


def _check_npoints(text: TextFile, header: _Header, count: int, points_from: int) -> None:
    if not count:
        raise text.error(points_from, "no points follow ##XYPOINTS")
    if not header.npoints:
        header.notes.append(f"no NPOINTS: the {count} points there are count")
        return
    line, last = header.npoints[-1]
    if len(header.npoints) > 1:
        header.notes.append(f"NPOINTS given {len(header.npoints)} times: the last, {last}, counts")
    if last != count:
        raise text.error(line, f"NPOINTS= {last}, but {count} points follow ##XYPOINTS")


def _read_xwin(text: TextFile) -> Content:
    rows: list[list[float]] = []
    started = False
    for number, line in enumerate(text.lines, 1):
        if started and line.strip():
            row = text.numbers(number, line, ("amplitude", "phase deg"), least=1)
            rows.append(row if len(row) == 2 else [row[0], 0.0])
        started = started or bool(line.strip())
    if not rows:
        raise text.error(len(text.lines), "no points after RFVERSION_F")
    amplitude, phase = np.array(rows).T
    largest = float(np.abs(amplitude).max())
    notes = []
    if largest > 100:
        notes.append(f"amplitudes up to {largest:.12g}: scaled so that the largest is 100 %, as XWIN-NMR does")
        amplitude = amplitude * (100 / largest)
    return Content.from_polar(amplitude / 100, np.deg2rad(phase), notes=tuple(notes))


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the shape file's bytes, in the layout of TopSpin's library."""
    fractions_xy = np.hypot(*fractions(pulse, label.rf_max_hz))
    percent, degrees = 100 * fractions_xy, np.rad2deg(pulse.phase_rad)
    lines = [*_header_lines(pulse, label, percent, degrees)]
    lines += [f"{scientific(a, 9)}, {scientific(p, 9)}" for a, p in zip(percent, degrees, strict=True)]
    return "\n".join([*lines, "##END=", ""]).encode()


def _header_lines(pulse: Pulse, label: Label, percent: np.ndarray, degrees: np.ndarray) -> list[str]:
    title = one_line(label.title).replace("$$", "$")  # $$ would begin a comment
    length_us, maximum = pulse.duration_s * 1e6, label.rf_max_hz
    flip = _NOMINAL_FLIP_DEG.get(label.exmode, 0.0) if label.flip_angle_deg is None else label.flip_angle_deg
    integral = integral_factor(pulse, maximum) if maximum > 0 else 0.0
    return [
        f"##TITLE= {title}",
        "##JCAMP-DX= 5.00 Bruker JCAMP library",
        "##DATA TYPE= Shape Data",
        "##ORIGIN= exactgrad",
        "##OWNER= <exactgrad>",
        f"##DATE= {label.when:%Y/%m/%d}",
        f"##TIME= {label.when:%H:%M:%S}",
        f"$$ {calibration_text(pulse.duration_s, maximum)}",
        f"$$ {_power_text(maximum)}",
        f"##$SHAPE_PARAMETERS= Type: exactgrad, length {length_us:.12g} us, RFmax {maximum:.12g} Hz",
        f"##MINX= {scientific(percent.min(), 6)}",
        f"##MAXX= {scientific(percent.max(), 6)}",
        f"##MINY= {scientific(degrees.min(), 6)}",
        f"##MAXY= {scientific(degrees.max(), 6)}",
        f"##$SHAPE_EXMODE= {label.exmode}",
        f"##$SHAPE_TOTROT= {scientific(flip, 6)}",
        f"##$SHAPE_TYPE= {label.exmode}",
        "##$SHAPE_USER_DEF= ",
        "##$SHAPE_REPHFAC= ",
        f"##$SHAPE_BWFAC= {scientific((label.bandwidth_hz or 0.0) * pulse.duration_s, 6)}",
        "##$SHAPE_BWFAC50= ",
        f"##$SHAPE_INTEGFAC= {scientific(integral, 6)}",
        f"##$SHAPE_MODE= {int(_phase_modulated(pulse))}",
        f"##NPOINTS= {pulse.steps}",
        "##XYPOINTS= (XY..XY)",
    ]


def _power_text(maximum_hz: float) -> str:
    if maximum_hz == 0:
        return "no rf"
    hard_us = 0.25e6 / maximum_hz
    return (
        f"power: 100 % = {maximum_hz:.12g} Hz = that of a hard 90 degree pulse of {hard_us:.9g} us; relative to a hard "
        f"pulse of nu Hz it is 20 log10({maximum_hz:.12g} / nu) dB"
    )


def _phase_modulated(pulse: Pulse) -> bool:
    """Whether any phase differs from 0 and 180 degrees by more than rounding."""
    return bool(np.any(np.abs(pulse.uy_hz) > 1e-9 * pulse.peak_hz))


def scientific(value: float, digits: int) -> str:
    """Format as Bruker does, with no plus sign in the exponent.

    Examples
    --------
    >>> scientific(100.0, 6), scientific(-0.0, 6)
    ('1.000000E02', '0.000000E00')
    """
    if not math.isfinite(value):
        raise ValueError(f"{value}: not finite")
    return f"{value + 0.0:.{digits}E}".replace("E+", "E")


FORMAT = Format(
    name="bruker",
    title="Bruker shape (JCAMP-DX, TopSpin; reads XWIN-NMR text)",
    suffix=".pk",
    read=read,
    write=write,
    holds_z=False,
    holds_duration=True,
    holds_rf_max=True,
    needs_uniform_steps=True,
)
