"""SIMPSON shapes: one line a step, amplitude in Hz and phase in degrees, and nothing else.

SIMPSON counts lines and stops at one that is not two numbers, so there is no header; the length is the input file's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.pulses.formats.shape import Content, Format, Label
from exactgrad.pulses.formats.text import TextFile
from exactgrad.pulses.pulse import Pulse


def read(path: Path) -> Content:
    """Read a SIMPSON shape; raises `FormatError` with the line, also for a blank one."""
    text = TextFile(path)
    rows = [text.numbers(n, line, ("amplitude Hz", "phase deg")) for n, line in enumerate(text.lines, 1)]
    amplitude, phase = np.array(rows).T
    return Content.from_polar(amplitude, np.deg2rad(phase), in_hz=True)


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the shape's bytes; of the label the format holds nothing."""
    rows = zip(pulse.amplitude_hz, np.rad2deg(pulse.phase_rad), strict=True)
    return "".join(f"{amplitude:.15g} {phase:.15g}\n" for amplitude, phase in rows).encode()


FORMAT = Format(
    name="simpson",
    title="SIMPSON rf shape (amplitude in Hz, phase in degrees)",
    suffix=".simpson",
    read=read,
    write=write,
    holds_z=False,
    holds_duration=False,
    holds_rf_max=True,
    needs_uniform_steps=True,
)
