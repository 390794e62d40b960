"""What the transmitter makes of a pulse: a causal linear response between the console and the spins.

The spins see u'_j = sum_k h_k u_{j-k} (complex, ux + i uy; uz passes), ring-down included: the response lengthens the
pulse by len(h) - 1 steps. It is sampled on the pulse's step raster; 1 at t = 0 alone is a perfect transmitter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.errors import FormatError, InputError
from exactgrad.pulses.ensemble import read_columns

MOST_TAPS = 20_000


@dataclass(frozen=True)
class Response:
    """An impulse response.

    Attributes
    ----------
    taps : ndarray of complex, shape (K,)
        h_k, dimensionless, one a step.
    """

    taps: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return what the spins see, shape (3, N + K - 1)."""
        seen = np.convolve(x[0] + 1j * x[1], self.taps)
        return np.stack((seen.real, seen.imag, np.concatenate((x[2], np.zeros(self.taps.size - 1)))))

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the tangent: the map is linear."""
        return self.apply(v)

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the transpose: correlation with the conjugate taps."""
        steps = x.shape[1]
        seen = np.correlate(g[0] + 1j * g[1], self.taps, mode="valid")
        return np.stack((seen.real, seen.imag, g[2, :steps]))

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return zero."""
        return np.zeros_like(x)


def read_response(path: Path, step_s: np.ndarray) -> Response:
    """Read an impulse response: CSV columns t_us, re and, optionally, im, one row a pulse step from t = 0.

    Raises
    ------
    FormatError
        If the file is not such a table, or does not start at 0.
    InputError
        If the pulse's steps differ in length, or the response is sampled on another raster.
    """
    columns = read_columns(path, required=("t_us", "re"), optional=("im",))
    time_us = columns["t_us"]
    if abs(time_us[0]) > 1e-9:
        raise FormatError(f"{path}: the first row is at t_us = {time_us[0]:g}; a response starts at 0 us")
    if np.ptp(step_s) > 1e-9 * step_s[0]:
        raise InputError(f"{path}: a response needs pulse steps of one length")
    if time_us.size > MOST_TAPS:
        raise InputError(f"{path}: {time_us.size} rows; at most {MOST_TAPS} are allowed")
    step_us = float(step_s[0]) * 1e6
    wrong = np.flatnonzero(np.abs(time_us - step_us * np.arange(time_us.size)) > 1e-6 * step_us * (1 + time_us.size))
    if wrong.size:
        raise InputError(
            f"{path}: t_us = {time_us[wrong[0]]:g} in row {wrong[0] + 1}; the pulse steps by {step_us:g} us"
        )
    return Response(columns["re"] + 1j * columns.get("im", np.zeros(time_us.size)))
