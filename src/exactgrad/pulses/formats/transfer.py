"""Read a pulse from a file and write it to one: what all formats share.

Units: the arguments' names say them; inside Hz and seconds.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path

import numpy as np

from exactgrad.errors import FormatError, InputError, require_range
from exactgrad.files import TEXT_LIMIT_BYTES, write_atomic
from exactgrad.pulses.formats.registry import detect_format, get_format
from exactgrad.pulses.formats.shape import EXMODES, Content, Format, Label, Shape, mirrored, without_negative_zeros
from exactgrad.pulses.formats.text import MAX_POINTS
from exactgrad.pulses.pulse import Pulse

_PEAK_TOLERANCE = 1e-9  # a peak that is above rf_max_hz by rounding only is not refused
_RF_MAX_LIMIT_HZ = 1e15


def read_shape(
    path: Path | str,
    format: str | None = None,
    duration_us: float | None = None,
    rf_max_hz: float | None = None,
    phase_sign: int = +1,
) -> Shape:
    """Read a pulse from a file of any known format.

    Parameters
    ----------
    path : Path or str
        The file.
    format : str, optional
        A name of `FORMATS`; detected from content and suffix if not given.
    duration_us : float, optional
        Total length in microseconds; wins over the file's own.
    rf_max_hz : float, optional
        Amplitude at 100 % in Hz; wins over the file's own. A file of fractions is scaled to it; amplitudes that a
        file gives in Hz stay, and must not exceed it.
    phase_sign : {+1, -1}
        -1 turns the sense of the phase (uy -> -uy), for a spectrometer or file with the opposite sign.

    Returns
    -------
    Shape
        The pulse with what the file says of it; every decision is a sentence in `notes`.

    Raises
    ------
    InputError
        If the file cannot be read, or neither it nor an argument gives the length or the rf maximum.
    FormatError
        If the file does not follow its format; the message names file and line.
    RefusedFile
        If the file is too large to be a pulse.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.simpson"
    >>> _ = path.write_text("5000 0\\n2500 90\\n")
    >>> shape = read_shape(path, duration_us=100.0)
    >>> shape.format, shape.rf_max_hz, [float(u) for u in shape.pulse.uy_hz]
    ('simpson', 5000.0, [0.0, 2500.0])
    """
    path = Path(path)
    _check_phase_sign(phase_sign)
    if duration_us is not None:
        duration_us = require_range("duration_us", duration_us, "us", low=0.0, open_low=True)
    if rf_max_hz is not None:
        rf_max_hz = require_range("rf_max_hz", rf_max_hz, "Hz", low=0.0, high=_RF_MAX_LIMIT_HZ, open_low=True)
    name = detect_format(path) if format is None else format
    content = get_format(name).read(path)
    if not 1 <= content.x.size <= MAX_POINTS:
        raise FormatError(f"{path}: holds {content.x.size} points; from 1 to {MAX_POINTS} are read")
    notes = list(content.notes)
    steps = _steps_s(path, content, duration_us, notes)
    x, y, maximum = _amplitudes_hz(path, content, rf_max_hz, notes)
    uz = np.zeros_like(x) if content.uz_hz is None else content.uz_hz
    try:
        pulse = Pulse(steps, x, y, uz)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from error
    if phase_sign == -1:
        pulse = mirrored(pulse)
    return Shape(pulse, maximum, name, content.title, tuple(notes))


def write_shape(
    path: Path | str,
    pulse: Pulse,
    format: str,
    *,
    title: str,
    rf_max_hz: float | None = None,
    phase_sign: int = +1,
    flip_angle_deg: float | None = None,
    exmode: str = "None",
    bandwidth_hz: float | None = None,
    when: datetime | None = None,
    overwrite: bool = False,
) -> None:
    """Write a pulse to a file, whole or not at all.

    Parameters
    ----------
    path : Path or str
        The file; its folder must exist.
    pulse : Pulse
        The pulse.
    format : str
        A name of `FORMATS`.
    title : str
        One line for people (other white space becomes a blank).
    rf_max_hz : float, optional
        Amplitude at 100 %, Hz; the pulse's peak if not given.
    phase_sign : {+1, -1}
        -1 turns the sense of the phase (uy -> -uy).
    flip_angle_deg, exmode, bandwidth_hz : optional
        Nominal flip angle in degrees, one of `EXMODES`, and bandwidth in Hz, for formats that have a place for them.
    when : datetime, optional
        For formats with a date; now if not given. The same `when` gives the same bytes.
    overwrite : bool
        False refuses a path that exists.

    Raises
    ------
    InputError
        If the format cannot hold this pulse (offset control, steps of several lengths, size), if `rf_max_hz` is below
        the peak, or if the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "hard.csv"
    >>> pulse = Pulse.from_polar([1e-5] * 5, [5000.0] * 5, [0.0] * 5)
    >>> write_shape(path, pulse, "csv", title="hard 90")
    >>> read_shape(path).pulse.peak_hz
    5000.0
    """
    item = get_format(format)
    _check_phase_sign(phase_sign)
    if exmode not in EXMODES:
        raise InputError(f"exmode {exmode!r}: must be one of {', '.join(EXMODES)}")
    _check_held(item, pulse)
    label = Label(
        title=title,
        rf_max_hz=_checked_maximum(pulse, rf_max_hz),
        flip_angle_deg=None if flip_angle_deg is None else require_range("flip_angle_deg", flip_angle_deg, "deg"),
        exmode=exmode,
        bandwidth_hz=None if bandwidth_hz is None else require_range("bandwidth_hz", bandwidth_hz, "Hz", low=0.0),
        when=datetime.now() if when is None else when,
    )
    data = item.write(without_negative_zeros(mirrored(pulse) if phase_sign == -1 else pulse), label)
    if len(data) > TEXT_LIMIT_BYTES:
        raise InputError(f"{path}: would hold {len(data)} bytes, but only {TEXT_LIMIT_BYTES} can be read back")
    write_atomic(Path(path), data, overwrite)


def _check_phase_sign(phase_sign: int) -> None:
    if phase_sign not in (1, -1):
        raise InputError(f"phase_sign = {phase_sign!r}: must be +1 or -1")


def _check_held(item: Format, pulse: Pulse) -> None:
    if pulse.steps > MAX_POINTS:
        raise InputError(f"pulse of {pulse.steps} steps: at most {MAX_POINTS} are written")
    if pulse.has_z and not item.holds_z:
        raise InputError(f"format {item.name} cannot hold an offset control (uz); fold it into the phase first")
    if item.needs_uniform_steps and not pulse.uniform:
        low, high = pulse.step_s.min() * 1e6, pulse.step_s.max() * 1e6
        raise InputError(
            f"format {item.name} has one step length, the pulse has steps of {low:g} to {high:g} us; resample it first"
        )


def _checked_maximum(pulse: Pulse, rf_max_hz: float | None) -> float:
    peak = pulse.peak_hz
    if rf_max_hz is None:
        rf_max_hz = peak
    maximum = require_range("rf_max_hz", rf_max_hz, "Hz", low=0.0, high=_RF_MAX_LIMIT_HZ)
    if maximum < peak * (1 - _PEAK_TOLERANCE):
        raise InputError(f"rf_max_hz = {maximum:g} Hz: below the pulse's peak of {peak:g} Hz")
    return maximum


def _steps_s(path: Path, content: Content, duration_us: float | None, notes: list[str]) -> np.ndarray:
    duration_s = content.duration_s
    if duration_us is not None:
        if duration_s is not None and not math.isclose(duration_s, duration_us * 1e-6, rel_tol=1e-9):
            notes.append(f"the file says {duration_s * 1e6:.12g} us; duration_us = {duration_us:.12g} us counts")
        duration_s = duration_us * 1e-6
    if duration_s is None:
        raise InputError(f"{path}: does not say how long the pulse is; give duration_us (--duration-us)")
    total = float(content.lengths.sum())
    with np.errstate(all="ignore"):  # what leaves the range of doubles is caught by Pulse
        return content.lengths if total == duration_s else content.lengths * np.divide(duration_s, total)


def _amplitudes_hz(
    path: Path, content: Content, rf_max_hz: float | None, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, float]:
    said = content.rf_max_hz
    if rf_max_hz is not None and said is not None and not math.isclose(said, rf_max_hz, rel_tol=1e-9):
        notes.append(f"the file says {said:.12g} Hz at 100 %; rf_max_hz = {rf_max_hz:.12g} Hz counts")
    if not content.in_hz:
        maximum = said if rf_max_hz is None else rf_max_hz
        if maximum is None:
            raise InputError(f"{path}: does not say the amplitude at 100 %; give rf_max_hz (--rf-max-hz)")
        return content.x * maximum, content.y * maximum, maximum
    peak = float(np.hypot(content.x, content.y).max())
    if rf_max_hz is None:
        if said is not None and said < peak * (1 - _PEAK_TOLERANCE):
            raise FormatError(f"{path}: says rf_max_hz = {said:g} Hz, but its amplitudes reach {peak:g} Hz")
        return content.x, content.y, peak if said is None else said
    if rf_max_hz < peak * (1 - _PEAK_TOLERANCE):
        raise InputError(f"rf_max_hz = {rf_max_hz:g} Hz: below the peak of {peak:g} Hz in {path}")
    notes.append(f"the file's amplitudes are in Hz and stay; rf_max_hz = {rf_max_hz:.12g} Hz is what 100 % means")
    return content.x, content.y, rf_max_hz
