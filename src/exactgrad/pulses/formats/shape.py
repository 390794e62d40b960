"""What goes between a pulse and a file: the file's content, the labels a file carries, and the registry entry.

Units: Hz, seconds, radians; a fraction is an amplitude over the rf maximum ("100 %").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from exactgrad.errors import InputError
from exactgrad.pulses.pulse import Pulse

EXMODES = (
    "None",
    "Excitation",
    "Inversion",
    "Refocussing",
    "Universal",
    "Universal180",
    "Adiabatic",
    "Gradient",
)


@dataclass(frozen=True)
class Format:
    """A file format of pulses.

    Attributes
    ----------
    name, title, suffix : str
        What the user calls it, one line for people, and the usual suffix with its dot.
    read : callable
        ``(path: Path) -> Content``.
    write : callable
        ``(pulse: Pulse, label: Label) -> bytes``.
    holds_z : bool
        It can hold an offset control.
    holds_duration : bool
        A file we wrote says how long the pulse is.
    holds_rf_max : bool
        A file we wrote says the amplitude in Hz (as amplitudes in Hz, or as the rf maximum).
    needs_uniform_steps : bool
        It has one dwell time for all steps.
    """

    name: str
    title: str
    suffix: str
    read: Callable[[Path], Content]
    write: Callable[[Pulse, Label], bytes]
    holds_z: bool
    holds_duration: bool
    holds_rf_max: bool
    needs_uniform_steps: bool


@dataclass(frozen=True)
class Label:
    """What a file says beside the points; the fields are the arguments of `write_shape`.

    Attributes
    ----------
    title, exmode : str
    rf_max_hz : float
        Amplitude at 100 %.
    flip_angle_deg, bandwidth_hz : float or None
    when : datetime
    """

    title: str
    rf_max_hz: float
    flip_angle_deg: float | None
    exmode: str
    bandwidth_hz: float | None
    when: datetime


@dataclass(frozen=True)
class Content:
    """What a file says, before the caller fills in what it does not say.

    Attributes
    ----------
    x, y : ndarray, shape (N,)
        Rf amplitudes: Hz if `in_hz`, else fractions of the rf maximum.
    lengths : ndarray, shape (N,)
        Step lengths: of the total `duration_s`, in any unit.
    duration_s, rf_max_hz : float or None
        None where the file does not say.
    in_hz : bool
        The amplitudes are in Hz.
    uz_hz : ndarray, shape (N,), Hz, or None
        The offset control, if the file has one.
    title : str
        As the file has it.
    notes : tuple of str
        What the reader had to decide.
    """

    x: np.ndarray
    y: np.ndarray
    lengths: np.ndarray
    duration_s: float | None = None
    rf_max_hz: float | None = None
    in_hz: bool = False
    uz_hz: np.ndarray | None = None
    title: str = ""
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def from_polar(cls, amplitude, phase_rad, **others) -> Content:
        """Build from `amplitude` (negative = phase + pi) and `phase_rad`; `others` are the class's fields."""
        amplitude, phase = np.asarray(amplitude, float), np.asarray(phase_rad, float)
        others.setdefault("lengths", np.ones(amplitude.size))
        return cls(amplitude * np.cos(phase), amplitude * np.sin(phase), **others)


@dataclass(frozen=True)
class Shape:
    """A pulse read from a file.

    Attributes
    ----------
    pulse : Pulse
        The pulse in Hz and seconds.
    rf_max_hz : float
        The amplitude at 100 %, Hz.
    format : str
        The format's name.
    title : str
        As the file has it.
    notes : tuple of str
        What the reader had to decide, a sentence each.
    """

    pulse: Pulse
    rf_max_hz: float
    format: str
    title: str
    notes: tuple[str, ...]


def mirrored(pulse: Pulse) -> Pulse:
    """Return the pulse with the opposite sense of phase (uy -> -uy)."""
    return replace(pulse, uy_hz=0.0 - pulse.uy_hz)


def without_negative_zeros(pulse: Pulse) -> Pulse:
    """Return the same pulse with every -0.0 as 0.0, whose phase would be 180 or -0 degrees."""
    return replace(pulse, ux_hz=pulse.ux_hz + 0.0, uy_hz=pulse.uy_hz + 0.0)


def fractions(pulse: Pulse, rf_max_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ux and uy over the rf maximum, shape (N,) each; zeros if the maximum is zero."""
    if rf_max_hz == 0:
        return np.zeros(pulse.steps), np.zeros(pulse.steps)
    return pulse.ux_hz / rf_max_hz, pulse.uy_hz / rf_max_hz


def integral_factor(pulse: Pulse, rf_max_hz: float | None = None) -> float:
    """Return Bruker's INTEGFAC: ``|time average of (amplitude / rf_max) exp(i phase)|``.

    It is the on-resonance integral relative to a rectangle of the same length at 100 %, from which TopSpin sets the
    power of amplitude-modulated shapes; for a phase-modulated optimal-control pulse it is an accident.

    Parameters
    ----------
    pulse : Pulse
        The pulse.
    rf_max_hz : float, optional
        The amplitude at 100 %, Hz; the pulse's own peak if not given.

    Raises
    ------
    InputError
        If `rf_max_hz` is not > 0 (also: the peak of a pulse of zeros).

    Examples
    --------
    >>> pulse = Pulse.from_polar([1e-6] * 4, [100.0, 100.0, 100.0, 50.0], [0.0, 0.0, 0.0, 3.141592653589793])
    >>> round(integral_factor(pulse), 12)
    0.625
    """
    maximum = pulse.peak_hz if rf_max_hz is None else rf_max_hz
    if not maximum > 0:
        raise InputError(f"rf_max_hz = {maximum:g} Hz: must be > 0 Hz for an integral factor")
    total = np.sum((pulse.ux_hz + 1j * pulse.uy_hz) * pulse.step_s)
    return float(abs(total) / (maximum * pulse.duration_s))
