"""Varian/Agilent .RF shapes: phase (degrees), amplitude (0 to 1023), relative length (1 to 255), gate.

The console scales a shape so that its largest amplitude is 100 %; a first line of zero length at 1023 prevents that
for a pulse that stays below, and is skipped here. Length and rf maximum stand in a ``#`` comment that is read here.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from exactgrad.errors import InputError
from exactgrad.pulses.formats.shape import Content, Format, Label, fractions, integral_factor
from exactgrad.pulses.formats.text import TextFile, calibration_text, one_line
from exactgrad.pulses.pulse import Pulse

_FULL_SCALE = 1023.0
_SCALE_LIMIT = 1024.0
_LENGTH_LIMIT = 255
_COLUMNS = ("phase deg", "amplitude", "length", "gate")


def read(path: Path) -> Content:
    """Read a .RF file; raises `FormatError` with the line."""
    text = TextFile(path)
    title, duration_s, rf_max_hz = "", None, None
    rows: list[list[float]] = []
    full_scale = 0.0
    for number, line in enumerate(text.lines, 1):
        line, _, comment = line.partition("#")
        if comment:
            found = text.calibration(number, comment)
            duration_s, rf_max_hz = found or (duration_s, rf_max_hz)
            key, _, value = comment.strip().partition(" ")
            title = value.strip() if key == "TITLE" else title
        if not line.strip():
            continue
        row = _row(text, number, line)
        if row[2] == 0:
            if rows:
                raise text.error(number, "length 0: only the first line may have it (to prevent rescaling)")
            full_scale = max(full_scale, row[1])
        else:
            rows.append(row)
    if not rows:
        raise text.error(len(text.lines), "no lines of phase, amplitude, length, gate")
    return _content(np.array(rows), full_scale, title, duration_s, rf_max_hz)


def _row(text: TextFile, number: int, line: str) -> list[float]:
    row = text.numbers(number, line, _COLUMNS, least=2)
    row += [1.0] * (len(_COLUMNS) - len(row))
    if not abs(row[1]) <= _SCALE_LIMIT:
        raise text.error(number, f"amplitude {row[1]:g}: must not exceed {_SCALE_LIMIT:g}")
    if row[2] < 0:
        raise text.error(number, f"length {row[2]:g}: must be >= 0")
    return row


def _content(
    rows: np.ndarray, full_scale: float, title: str, duration_s: float | None, rf_max_hz: float | None
) -> Content:
    phase, amplitude, length, gate = rows.T
    notes = []
    largest = max(full_scale, float(np.abs(amplitude).max())) or _FULL_SCALE
    if not math.isclose(largest, _FULL_SCALE, rel_tol=1e-9):
        notes.append(f"the largest amplitude is {largest:g}, not {_FULL_SCALE:g}: it is 100 %, as on the console")
    closed = (gate == 0) & (amplitude != 0)
    if closed.any():
        notes.append(f"{int(closed.sum())} steps have their gate closed: their amplitude is 0")
        amplitude = np.where(closed, 0.0, amplitude)
    return Content.from_polar(
        amplitude / largest,
        np.deg2rad(phase),
        lengths=length,
        duration_s=duration_s,
        rf_max_hz=rf_max_hz,
        title=title,
        notes=tuple(notes),
    )


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the .RF file's bytes; raises `InputError` if the steps are not in ratios of 1 to 255."""
    lengths = _relative_lengths(pulse.step_s)
    amplitude = _FULL_SCALE * np.hypot(*fractions(pulse, label.rf_max_hz))
    phase = np.rad2deg(pulse.phase_rad)
    integral = integral_factor(pulse, label.rf_max_hz) if label.rf_max_hz > 0 else 0.0
    bandwidth_factor = -1.0 if label.bandwidth_hz is None else label.bandwidth_hz * pulse.duration_s
    inverts = label.exmode in ("Inversion", "Refocussing", "Universal180")
    lines = [
        f"# TITLE {one_line(label.title).replace('#', '')}",
        f"# {calibration_text(pulse.duration_s, label.rf_max_hz)}",
        "# VERSION exactgrad",
        f"# TYPE {'nonselective' if label.bandwidth_hz is None else 'selective'}",
        f"# MODULATION {'adiabatic' if label.exmode == 'Adiabatic' else 'amplitude'}",
        f"# EXCITEWIDTH {-1.0 if inverts else bandwidth_factor:.6g}",
        f"# INVERTWIDTH {bandwidth_factor if inverts else -1.0:.6g}",
        f"# INTEGRAL {integral:.6f}",
        f"# STEPS {pulse.steps}",
    ]
    if amplitude.max() < _FULL_SCALE * (1 - 1e-9):
        lines.append(f"0.0 {_FULL_SCALE} 0.0 0")
    lines += [f"{p:.9f} {a:.9f} {n}.0 1" for p, a, n in zip(phase, amplitude, lengths, strict=True)]
    return "\n".join([*lines, ""]).encode()


def _relative_lengths(step_s: np.ndarray) -> np.ndarray:
    """Return the smallest whole numbers in the ratios of the steps."""
    ratios = step_s / step_s.min()
    for unit in range(1, _LENGTH_LIMIT + 1):
        scaled = ratios * unit
        if scaled.max() > _LENGTH_LIMIT + 0.5:
            break
        whole = np.rint(scaled)
        if np.all(np.abs(scaled - whole) <= 1e-9 * scaled):
            return whole.astype(int)
    low, high = step_s.min() * 1e6, step_s.max() * 1e6
    raise InputError(
        f"format varian holds steps in ratios of whole numbers from 1 to {_LENGTH_LIMIT}; "
        f"steps of {low:g} to {high:g} us are not; resample the pulse first"
    )


FORMAT = Format(
    name="varian",
    title="Varian/Agilent .RF (VnmrJ)",
    suffix=".RF",
    read=read,
    write=write,
    holds_z=False,
    holds_duration=True,
    holds_rf_max=True,
    needs_uniform_steps=False,
)
