"""The pulse itself: piecewise constant rf amplitudes. Units: Hz (nu = omega/2 pi), seconds, radians."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exactgrad.errors import InputError, require_finite, require_shape


@dataclass(frozen=True)
class Pulse:
    """A piecewise constant pulse of N steps.

    Attributes
    ----------
    step_s : ndarray, shape (N,), seconds
        Length of each step, all > 0.
    ux_hz, uy_hz : ndarray, shape (N,), Hz
        Cartesian rf amplitudes; phase is atan2(uy, ux).
    uz_hz : ndarray, shape (N,), Hz
        Offset control; zero where the pulse has none. B1 does not scale it.

    Raises
    ------
    InputError
        If lengths differ, a value is not finite, or a step is not positive.

    Examples
    --------
    >>> pulse = Pulse.from_polar([1e-5] * 5, amplitude_hz=[5000.0] * 5, phase_rad=[0.0] * 5)
    >>> pulse.peak_hz, round(pulse.duration_s * 1e6, 6)
    (5000.0, 50.0)
    """

    step_s: np.ndarray
    ux_hz: np.ndarray
    uy_hz: np.ndarray
    uz_hz: np.ndarray

    def __post_init__(self) -> None:
        step = require_finite("pulse.step_s", self.step_s, "s")
        if step.ndim != 1 or step.size == 0:
            raise InputError(f"pulse.step_s: shape {step.shape} where one step or more, (N,), is needed")
        if not (step > 0).all():
            raise InputError(f"pulse.step_s[{int(np.argmin(step > 0))}] = {step.min():g} s: must be > 0 s")
        object.__setattr__(self, "step_s", step)
        for name in ("ux_hz", "uy_hz", "uz_hz"):
            values = require_shape(
                f"pulse.{name}", require_finite(f"pulse.{name}", getattr(self, name), "Hz"), step.shape
            )
            object.__setattr__(self, name, values)

    @classmethod
    def from_polar(cls, step_s, amplitude_hz, phase_rad, uz_hz=None) -> Pulse:
        """Build a pulse from amplitudes and phases.

        Parameters
        ----------
        step_s : array_like, shape (N,)
            Length of each step.
        amplitude_hz : array_like, shape (N,)
            Of the rf; a negative one counts as positive at the phase plus pi.
        phase_rad : array_like, shape (N,)
            From x towards y.
        uz_hz : array_like, shape (N,), optional
            Offset control; 0 if not given.

        Returns
        -------
        Pulse

        Raises
        ------
        InputError
            If a value is not finite, or the shapes differ.

        Examples
        --------
        >>> Pulse.from_polar([1e-6], [1000.0], [np.pi / 2]).uy_hz.round(9)
        array([1000.])
        """
        amplitude = require_finite("amplitude_hz", amplitude_hz, "Hz")
        phase = require_finite("phase_rad", phase_rad, "rad")
        uz = np.zeros_like(amplitude) if uz_hz is None else uz_hz
        return cls(np.asarray(step_s), amplitude * np.cos(phase), amplitude * np.sin(phase), uz)

    @property
    def steps(self) -> int:
        """Number of steps N."""
        return self.step_s.size

    @property
    def duration_s(self) -> float:
        """Total length in seconds."""
        return float(self.step_s.sum())

    @property
    def amplitude_hz(self) -> np.ndarray:
        """Rf amplitude of each step, shape (N,), Hz, >= 0."""
        return np.hypot(self.ux_hz, self.uy_hz)

    @property
    def phase_rad(self) -> np.ndarray:
        """Rf phase of each step, shape (N,), in [0, 2 pi); 0 where the amplitude is 0."""
        phase = np.arctan2(self.uy_hz + 0.0, self.ux_hz + 0.0)  # -0.0 has a phase of 180 degrees
        phase = np.where(phase < 0, phase + 2 * np.pi, phase)
        return np.where(phase >= 2 * np.pi, 0.0, phase)  # -1e-17 + 2 pi rounds to 2 pi

    @property
    def peak_hz(self) -> float:
        """Largest rf amplitude, Hz."""
        return float(self.amplitude_hz.max())

    @property
    def energy_hz2_s(self) -> float:
        """Sum of |u|^2 dt over the steps, Hz^2 s (= Hz); uz does not count."""
        return float(np.sum((self.ux_hz**2 + self.uy_hz**2) * self.step_s))

    @property
    def rms_hz(self) -> float:
        """Time-weighted root mean square rf amplitude, Hz."""
        return float(np.sqrt(self.energy_hz2_s / self.duration_s))

    @property
    def has_z(self) -> bool:
        """True if any step has an offset control."""
        return bool(np.any(self.uz_hz != 0))

    @property
    def uniform(self) -> bool:
        """True if all steps have one length (to 1e-9 relative)."""
        return bool(np.ptp(self.step_s) <= 1e-9 * self.step_s[0])
