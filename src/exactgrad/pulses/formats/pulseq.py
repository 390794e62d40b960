"""Pulseq .seq files with one rf pulse (MRI): written with pypulseq, read with a bounded reader of our own.

In the file: amplitude in Hz, magnitude shape relative to its largest, phase shape in turns, times in units of the rf
raster (at the middle of each step). pypulseq keeps six digits of the amplitude and 1e-7 of the shapes, so a round trip
is good to 1e-5 of the peak. Own reading, because pypulseq's allocates what a file declares and needs the extra.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from exactgrad.errors import BackendMissing, FormatError, InputError
from exactgrad.pulses.formats.shape import Content, Format, Label
from exactgrad.pulses.formats.text import MAX_POINTS, TextFile, one_line
from exactgrad.pulses.pulse import Pulse

_RASTER_S = 1e-6
_BLOCK_RASTER_S = 1e-5
_DEAD_TIME_S, _RINGDOWN_S = 1e-4, 3e-5  # usual on clinical scanners; the reader skips the delay
_TIME_TOLERANCE = 1e-4  # of a step
_KEPT = 1e-5  # of the peak
_USES = {"Excitation": "excitation", "Refocussing": "refocusing", "Inversion": "inversion"}


class _RfLine(NamedTuple):
    """Where a version's [RF] line has what; amplitude, magnitude and phase shape are columns 1 to 3 in all of them."""

    since: tuple[int, int]
    columns: int
    time_shape: int | None
    frequencies: tuple[int, ...]
    phase: int


_RF_LINES = (
    _RfLine((1, 5), 12, 4, (7, 8, 9), 10),
    _RfLine((1, 4), 8, 4, (6,), 7),
    _RfLine((1, 2), 7, None, (5,), 6),
)


@dataclass
class _Sequence:
    """The sections that are needed, unparsed, each value with its line number."""

    version: dict[str, int] = field(default_factory=dict)
    definitions: dict[str, tuple[int, str]] = field(default_factory=dict)
    rf: list[tuple[int, list[str]]] = field(default_factory=list)
    shapes: dict[int, list[tuple[int, str]]] = field(default_factory=dict)


def read(path: Path) -> Content:
    """Read the one rf pulse of a .seq file (versions 1.2 to 1.5); raises `FormatError` with the line."""
    text = TextFile(path)
    sequence = _split(text)
    version = (sequence.version.get("major", 0), sequence.version.get("minor", 0))
    layout = next((item for item in _RF_LINES if item.since <= version < (2, 0)), None)
    if layout is None:
        raise FormatError(f"{text.path}: Pulseq version {version[0]}.{version[1]}; 1.2 to 1.5 are read")
    if len(sequence.rf) != 1:
        raise FormatError(f"{text.path}: holds {len(sequence.rf)} rf pulses; a file with one is read")
    number, tokens = sequence.rf[0]
    if len(tokens) != layout.columns:
        raise text.error(number, f"{len(tokens)} columns where [RF] of this version has {layout.columns}")
    if any(text.number(number, tokens[i], "frequency") != 0 for i in layout.frequencies):
        raise text.error(number, "an rf frequency offset is not read; write it as a phase ramp")
    return _content(text, sequence, number, tokens, layout)


def _split(text: TextFile) -> _Sequence:
    sequence = _Sequence()
    section, shape = "", None
    for number, line in enumerate(text.lines, 1):
        line = line.partition("#")[0].strip()
        if line.startswith("["):
            section, shape = line, None
        elif not line:
            continue
        elif section == "[VERSION]" and line.startswith(("major ", "minor ")):
            sequence.version[line[:5]] = int(text.not_negative(number, line[6:], line[:5]))
        elif section == "[DEFINITIONS]":
            key, _, value = line.partition(" ")
            sequence.definitions[key] = (number, value.strip())
        elif section == "[RF]":
            sequence.rf.append((number, line.split()))
        elif section == "[SHAPES]" and line.startswith("shape_id"):
            shape = sequence.shapes.setdefault(text.count(number, line[8:], "shape_id"), [])
        elif section == "[SHAPES]" and shape is not None:
            shape.append((number, line))
    return sequence


def _content(text: TextFile, sequence: _Sequence, number: int, tokens: list[str], layout: _RfLine) -> Content:
    always_packed = layout.since < (1, 4)

    def shape(column: int, name: str) -> np.ndarray | None:
        return _shape(text, sequence, number, tokens[column], name, always_packed)

    magnitude = shape(2, "magnitude shape")
    if magnitude is None:
        raise text.error(number, "magnitude shape 0: a shape is needed")
    turns = shape(3, "phase shape")
    turns = np.zeros(magnitude.size) if turns is None else turns
    times = None if layout.time_shape is None else shape(layout.time_shape, "time shape")
    times = np.arange(magnitude.size) + 0.5 if times is None else times
    if not magnitude.size == turns.size == times.size:
        raise text.error(number, f"shapes of {magnitude.size}, {turns.size} and {times.size} points")
    raster_s = _RASTER_S
    if "RadiofrequencyRasterTime" in sequence.definitions:
        raster_s = text.positive(*sequence.definitions["RadiofrequencyRasterTime"], "RadiofrequencyRasterTime")
    count, span = _steps(text, number, times, magnitude, turns)
    amplitude = text.number(number, tokens[1], "amplitude Hz") * magnitude[:count]
    phase = 2 * np.pi * turns[:count] + text.number(number, tokens[layout.phase], "phase rad")
    title = sequence.definitions.get("Name", (0, ""))[1]
    return Content.from_polar(amplitude, phase, duration_s=span * raster_s, in_hz=True, title=title)


def _shape(
    text: TextFile, sequence: _Sequence, number: int, token: str, name: str, always_packed: bool
) -> np.ndarray | None:
    """Return a shape's values, or None for number 0; only the shapes of the one pulse are ever expanded."""
    key = text.not_negative(number, token, name)
    if key == 0:
        return None
    lines = sequence.shapes.get(int(key), [])
    if not lines or not lines[0][1].startswith("num_samples"):
        raise text.error(number, f"{name} {int(key)}: no such shape with num_samples in [SHAPES]")
    first, declared = lines[0]
    samples = text.count(first, declared[len("num_samples") :], "num_samples")
    values = np.array([text.number(n, line, name) for n, line in lines[1:]])
    if values.size == samples and not always_packed:
        return values
    return _unpack(text, first, values.tolist(), samples)


def _unpack(text: TextFile, line: int, packed: list[float], samples: int) -> np.ndarray:
    """Undo the run-length code (value, value, extra count) of the first differences."""
    values, repeats, total, i = [], [], 0, 0
    while i < len(packed):
        values.append(packed[i])
        repeat = 1
        if i + 1 < len(packed) and packed[i + 1] == packed[i]:
            extra = packed[i + 2] if i + 2 < len(packed) else -1.0
            if not (0 <= extra <= MAX_POINTS and extra == math.floor(extra)):
                raise text.error(line, f"a run of {packed[i]:g} in this shape has no whole count")
            repeat = int(extra) + 2
        i += 1 if repeat == 1 else 3
        total += repeat
        repeats.append(repeat)
        if total > samples:
            break
    if total != samples:
        raise text.error(line, f"num_samples {samples}, but the shape holds {'more' if total > samples else total}")
    return np.cumsum(np.repeat(values, repeats))


def _steps(
    text: TextFile, number: int, times: np.ndarray, magnitude: np.ndarray, turns: np.ndarray
) -> tuple[int, float]:
    """Return how many steps the samples are and their total length in raster units."""
    span = float(times[0] + times[-1])
    dwell = span / times.size
    middles = (np.arange(times.size) + 0.5) * dwell
    if span > 0 and np.all(np.abs(times - middles) <= _TIME_TOLERANCE * dwell):
        return times.size, span
    if times[0] == 0 and span > 0 and np.ptp(magnitude) == 0 and np.ptp(turns) == 0:
        return 1, span  # a block pulse, given by its edges
    raise text.error(number, "samples that are not at the middle of equal steps are not read")


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the .seq file's bytes: one block with the pulse; raises `BackendMissing` without pypulseq."""
    try:
        import pypulseq
    except ImportError:
        raise BackendMissing("format pulseq: pypulseq is not installed; pip install 'exactgrad[pulseq]'") from None
    if pulse.peak_hz == 0:
        raise InputError("format pulseq cannot hold a pulse without rf (its shapes are relative to the peak)")
    samples = max(pulse.steps, 2)  # one step is given by its two edges: pypulseq takes no single sample
    dwell_s = pulse.duration_s / samples
    times_s = (np.arange(samples) + 0.5) * dwell_s if pulse.steps > 1 else np.array([0.0, pulse.duration_s])
    raster_s = _raster_s(dwell_s)
    delay_s = math.ceil(_DEAD_TIME_S / raster_s - 1e-6) * raster_s
    system = pypulseq.Opts(rf_dead_time=_DEAD_TIME_S, rf_ringdown_time=_RINGDOWN_S, rf_raster_time=raster_s)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        event = pypulseq.make_arbitrary_rf(
            signal=np.broadcast_to(pulse.ux_hz + 1j * pulse.uy_hz, samples),
            flip_angle=0.0,  # not used without scaling
            dwell=dwell_s,
            delay=delay_s,
            no_signal_scaling=True,
            return_gz=False,
            use=_USES.get(label.exmode, "undefined"),
            system=system,
        )
        event.t = times_s
        blocks = math.ceil((delay_s + pulse.duration_s + _RINGDOWN_S) / _BLOCK_RASTER_S - 1e-6)
        sequence = pypulseq.Sequence(system)
        sequence.add_block(event, pypulseq.make_delay(blocks * _BLOCK_RASTER_S))
        sequence.set_definition("Name", one_line(label.title).replace("#", "").encode("ascii", "replace").decode())
        file = Path(folder) / "pulse.seq"
        sequence.write(str(file), create_signature=True)
        _check_kept(pulse, read(file))
        return file.read_bytes()


def _raster_s(dwell_s: float) -> float:
    """Return the rf raster: 1 us for steps of whole us, else the step itself, whose times then need few digits.

    pypulseq takes times that fall into successive rasters for exactly these rasters, and prints nine digits of a
    run-length code in which two values that print alike become a run: both would corrupt the times of odd steps.
    """
    whole_us = round(dwell_s / _RASTER_S)
    return _RASTER_S if whole_us and math.isclose(dwell_s, whole_us * _RASTER_S, rel_tol=1e-9) else dwell_s


def _check_kept(pulse: Pulse, content: Content) -> None:
    """Refuse to hand out a file that does not say what it should."""
    close = content.x.size == pulse.steps and math.isclose(content.duration_s or 0, pulse.duration_s, rel_tol=_KEPT)
    if close:
        error = np.hypot(content.x - pulse.ux_hz, content.y - pulse.uy_hz).max()
        close = bool(error <= _KEPT * pulse.peak_hz)
    if not close:
        raise InputError(f"format pulseq cannot hold this pulse to {_KEPT:g} of its peak and length")


FORMAT = Format(
    name="pulseq",
    title="Pulseq .seq with one rf pulse (writing needs pypulseq)",
    suffix=".seq",
    read=read,
    write=write,
    holds_z=False,
    holds_duration=True,
    holds_rf_max=True,
    needs_uniform_steps=True,
)
