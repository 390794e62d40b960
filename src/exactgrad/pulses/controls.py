"""Control sets: the solver's vector as rf waveforms. Units: Hz; the solver's vector is dimensionless, of order one.

Each kind has named channels of one value a step. The vector holds the channels one after the other.

=========== ============================ =====================================================================
kind        channels                     meaning
=========== ============================ =====================================================================
xy          x, y                         Cartesian amplitudes
xyz         x, y, z                      and an offset control
polar       amplitude, phase             amplitude of either sign
polar-z     amplitude, phase, z
phase       phase                        constant amplitude
reduced     amplitude, phase             the paper's pseudo controls: amplitude through tanh (Eq. 37, or 46)
reduced-z   amplitude, phase, z
=========== ============================ =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHANNELS: dict[str, tuple[str, ...]] = {
    "xy": ("x", "y"),
    "xyz": ("x", "y", "z"),
    "polar": ("amplitude", "phase"),
    "polar-z": ("amplitude", "phase", "z"),
    "phase": ("phase",),
    "reduced": ("amplitude", "phase"),
    "reduced-z": ("amplitude", "phase", "z"),
}
UNITS = {"x": "Hz", "y": "Hz", "z": "Hz", "amplitude": "Hz", "phase": "rad"}


@dataclass(frozen=True)
class Channels:
    """The flat vector as a table of channels, shape (channels, columns)."""

    rows: int

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the table."""
        return x.reshape(self.rows, -1)

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the tangent's table."""
        return v.reshape(self.rows, -1)

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the flat gradient."""
        return g.ravel()

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return zero."""
        return np.zeros_like(x)


@dataclass(frozen=True)
class Cartesian:
    """Channels x, y(, z) to (ux, uy, uz), shape (3, N), Hz."""

    scale_hz: float

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the waveforms."""
        u = np.zeros((3, x.shape[1]))
        u[: x.shape[0]] = self.scale_hz * x
        return u

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the tangent: the map is linear."""
        return self.apply(v)

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the channels."""
        return self.scale_hz * g[: x.shape[0]]

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return zero."""
        return np.zeros_like(x)


@dataclass(frozen=True)
class Polar:
    """Channels amplitude, phase(, z) to (ux, uy, uz), shape (3, N), Hz.

    d/d phase is amplitude times a perpendicular vector: no division, exact at zero amplitude.
    """

    scale_hz: float

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the waveforms."""
        u = np.zeros((3, x.shape[1]))
        u[0], u[1] = self.scale_hz * x[0] * np.cos(x[1]), self.scale_hz * x[0] * np.sin(x[1])
        u[2 : x.shape[0]] = self.scale_hz * x[2:]
        return u

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the tangent of the waveforms."""
        cos, sin = np.cos(x[1]), np.sin(x[1])
        u = np.zeros((3, x.shape[1]))
        u[0] = self.scale_hz * (v[0] * cos - x[0] * v[1] * sin)
        u[1] = self.scale_hz * (v[0] * sin + x[0] * v[1] * cos)
        u[2 : x.shape[0]] = self.scale_hz * v[2:]
        return u

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the channels."""
        cos, sin = np.cos(x[1]), np.sin(x[1])
        out = np.empty_like(x)
        out[0] = self.scale_hz * (g[0] * cos + g[1] * sin)
        out[1] = self.scale_hz * x[0] * (g[1] * cos - g[0] * sin)
        out[2:] = self.scale_hz * g[2 : x.shape[0]]
        return out

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of `pull` along v."""
        cos, sin = np.cos(x[1]), np.sin(x[1])
        radial, across = g[0] * cos + g[1] * sin, g[1] * cos - g[0] * sin
        out = np.zeros_like(x)
        out[0] = self.scale_hz * v[1] * across
        out[1] = self.scale_hz * (v[0] * across - x[0] * v[1] * radial)
        return out


@dataclass(frozen=True)
class PhaseOnly:
    """Channel phase to (ux, uy, 0), shape (3, N), at constant amplitude."""

    amplitude_hz: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the waveforms."""
        return np.stack((self.amplitude_hz * np.cos(x[0]), self.amplitude_hz * np.sin(x[0]), np.zeros(x.shape[1])))

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the tangent of the waveforms."""
        cos, sin = np.cos(x[0]), np.sin(x[0])
        return self.amplitude_hz * v[0] * np.stack((-sin, cos, np.zeros_like(cos)))

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the phases."""
        return (self.amplitude_hz * (g[1] * np.cos(x[0]) - g[0] * np.sin(x[0])))[None]

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of `pull` along v."""
        return (-self.amplitude_hz * v[0] * (g[0] * np.cos(x[0]) + g[1] * np.sin(x[0])))[None]


def channels_of(kind: str, u: np.ndarray, scale_hz: float) -> np.ndarray:
    """Return channel values, shape (channels, N), that give the waveforms u, shape (3, N), before any limit.

    Parameters
    ----------
    kind : str
        A key of `CHANNELS`.
    u : ndarray, shape (3, N), Hz
    scale_hz : float
        The scale of the control map.
    """
    phase = np.arctan2(u[1], u[0])
    values = {
        "x": u[0] / scale_hz,
        "y": u[1] / scale_hz,
        "z": u[2] / scale_hz,
        "amplitude": np.hypot(u[0], u[1]) / scale_hz,
        "phase": phase,
    }
    return np.stack([values[name] for name in CHANNELS[kind]])
