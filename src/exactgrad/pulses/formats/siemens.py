"""Siemens .pta pulses: amplitude (0 to 1) and phase (radians) under a header of ``KEY: value`` lines.

REFGRAD is the gradient (mT/m) that selects 10 mm with the pulse at 5.12 ms, for protons; 0 without a bandwidth. The
COMMENT line holds the length and the rf maximum, which the format has no place for, and this reader reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.pulses.formats.shape import Content, Format, Label, fractions
from exactgrad.pulses.formats.text import TextFile, calibration_text, one_line
from exactgrad.pulses.pulse import Pulse

PROTON_HZ_PER_MILLITESLA = 42577.478518  # CODATA 2018
_REFERENCE_LENGTH_S = 5.12e-3
_REFERENCE_SLICE_M = 0.01
_FRACTION_LIMIT = 1.1


def read(path: Path) -> Content:
    """Read a .pta file; raises `FormatError` with the line."""
    text = TextFile(path)
    title, duration_s, rf_max_hz = "", None, None
    rows: list[list[float]] = []
    for number, line in enumerate(text.lines, 1):
        key, colon, value = line.partition(":")
        if colon and key.strip().isalpha():
            if rows:
                raise text.error(number, f"{key.strip()}: a header line after the first point; one pulse is read")
            if key.strip() == "PULSENAME":
                title = value.strip()
            found = text.calibration(number, value)
            duration_s, rf_max_hz = found or (duration_s, rf_max_hz)
            continue
        point = line.partition(";")[0]
        if point.strip():
            row = text.numbers(number, point, ("amplitude", "phase rad"))
            if abs(row[0]) > _FRACTION_LIMIT:
                raise text.error(number, f"amplitude {row[0]:g}: from 0 to 1 is needed")
            rows.append(row)
    if not rows:
        raise text.error(len(text.lines), "no lines of amplitude and phase")
    amplitude, phase = np.array(rows).T
    return Content.from_polar(amplitude, phase, duration_s=duration_s, rf_max_hz=rf_max_hz, title=title)


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the .pta file's bytes."""
    x, y = fractions(pulse, label.rf_max_hz)
    amplitude = np.hypot(x, y)
    reference_bandwidth_hz = (label.bandwidth_hz or 0.0) * pulse.duration_s / _REFERENCE_LENGTH_S
    lines = [
        f"PULSENAME: {one_line(label.title)}",
        f"COMMENT: {calibration_text(pulse.duration_s, label.rf_max_hz)}",
        f"REFGRAD: {reference_bandwidth_hz / (PROTON_HZ_PER_MILLITESLA * _REFERENCE_SLICE_M):.9f}",
        "MINSLICE: 1.000000000",
        "MAXSLICE: 200.000000000",
        f"AMPINT: {abs(np.sum(x + 1j * y)):.9f}",
        f"POWERINT: {np.sum(amplitude**2):.9f}",
        f"ABSINT: {np.sum(amplitude):.9f}",
        "",
    ]
    lines += [f"{a:.9f}\t{p:.9f}\t; ({n})" for n, (a, p) in enumerate(zip(amplitude, pulse.phase_rad, strict=True))]
    return "\n".join([*lines, ""]).encode()


FORMAT = Format(
    name="siemens",
    title="Siemens .pta",
    suffix=".pta",
    read=read,
    write=write,
    holds_z=False,
    holds_duration=True,
    holds_rf_max=True,
    needs_uniform_steps=True,
)
