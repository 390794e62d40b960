"""What a pulse shall do: costs as functions of each spin's total rotation Q (a unit quaternion).

A cost returns, for every spin, its quality Phi and the cotangent m_N of the end of the sweep, defined by
dPhi = m_N . w for a small space-fixed turn w of the end (Q -> (1, w/2) Q). For the Hessian it also returns how both
change when the end turns by w. Nothing else of a target reaches the kernel.

Point to point: Phi = lambda . rho (Slad & Luy Eq. 5), m = rho x lambda.
Universal rotation: Phi = Q_F . Q (Eqs. 13, 35), m = vec(Q_F Q*)/2; the sign of Q counts, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from exactgrad.errors import InputError, require_finite, require_shape

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def parse_axis(name: str, value: Any) -> np.ndarray:
    """Return the unit vector of "x", "-y", ... or of three numbers (normalised).

    Parameters
    ----------
    name : str
        Job key for messages, e.g. ``"target.transfer[0]"``.
    value : str or sequence of 3 numbers

    Raises
    ------
    InputError
        If it is neither, or has no length.

    Examples
    --------
    >>> parse_axis("target.saturation", "-z")[2]
    np.float64(-1.0)
    """
    if isinstance(value, str):
        axis = _AXES.get(value.lstrip("+-"))
        if axis is None or value.count("-") + value.count("+") > 1:
            raise InputError(f"{name} = {value!r}: must be x, y, z, -x, -y, -z or a vector of three numbers")
        return np.array(axis) * (-1.0 if value.startswith("-") else 1.0)
    vector = require_shape(name, require_finite(name, value), (3,))
    length = np.linalg.norm(vector)
    if length < 1e-12:
        raise InputError(f"{name} = {vector.tolist()}: a vector with a length is needed")
    return vector / length


class Cost(Protocol):
    """A target for S spins."""

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quality, shape (S,), and m_N, shape (3, S), for total rotations, shape (4, S)."""

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        """Return the change of m_N, shape (3, S), when the ends turn by `turning`, shape (3, S)."""


def turn(turns: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return vectors, shape (3, S) or (3, 1), turned by quaternions, shape (4, S)."""
    w, n = turns[0], turns[1:]
    u = _cross(n, vectors)
    return vectors + 2.0 * (w * u + _cross(n, u))


@dataclass(frozen=True)
class Transfer:
    """Point to point: take `initial` to `target`; quality = target . rho_N. Shapes (3, S) or (3, 1)."""

    initial: np.ndarray
    target: np.ndarray

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quality and m_N = rho x lambda."""
        rho = turn(turns, self.initial)
        return np.sum(rho * self.target, axis=0), _cross(rho, self.target)

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        """Return (w x rho) x lambda."""
        return _cross(_cross(turning, turn(turns, self.initial)), self.target)


@dataclass(frozen=True)
class Rotation:
    """Universal rotation to the quaternion `target`, shape (4, S) or (4, 1).

    Quality = Q_F . Q with its sign (a spin that ends at -Q_F scores -1), or its square with `sign_free`.
    """

    target: np.ndarray
    sign_free: bool = False

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quality and m_N = vec(Q_F Q*)/2, times 2 (Q_F . Q) if the sign is free."""
        overlap = np.sum(self.target * turns, axis=0)
        m = 0.5 * self._vector(turns)
        return (overlap**2, 2.0 * overlap * m) if self.sign_free else (overlap, m)

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        """Return the change of m_N: Q_F Q* becomes Q_F Q* (1, -w/2)."""
        overlap, vector = np.sum(self.target * turns, axis=0), self._vector(turns)
        dm = -0.25 * (overlap * turning + _cross(vector, turning))
        if not self.sign_free:
            return dm
        return 2.0 * (overlap * dm + 0.5 * np.sum(vector * turning, axis=0) * 0.5 * vector)

    def _vector(self, turns: np.ndarray) -> np.ndarray:
        """Vector part of Q_F Q*."""
        return turns[0] * self.target[1:] - self.target[0] * turns[1:] - _cross(self.target[1:], turns[1:])


@dataclass(frozen=True)
class Saturation:
    """Leave nothing along `axis`: quality = 1 - (axis . rho_N)^2, starting from `initial`. Shapes (3, S) or (3, 1)."""

    initial: np.ndarray
    axis: np.ndarray

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quality and m_N = -2 M (rho x axis), M = axis . rho."""
        rho = turn(turns, self.initial)
        left = np.sum(rho * self.axis, axis=0)
        return 1.0 - left**2, -2.0 * left * _cross(rho, self.axis)

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        """Return the change of m_N."""
        rho = turn(turns, self.initial)
        moved = _cross(turning, rho)
        left, dleft = np.sum(rho * self.axis, axis=0), np.sum(moved * self.axis, axis=0)
        return -2.0 * (dleft * _cross(rho, self.axis) + left * _cross(moved, self.axis))


@dataclass(frozen=True)
class Transverse:
    """Bring `initial` across `axis`, at any phase: quality = |rho_N - (axis . rho_N) axis| (|Mxy| for axis z).

    At a spin with no transverse part the modulus has a cusp; its gradient there is taken as zero, the mean of all
    one-sided ones.
    """

    initial: np.ndarray
    axis: np.ndarray

    def _parts(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rho = turn(turns, self.initial)
        along = np.sum(rho * self.axis, axis=0)
        across = rho - along * self.axis
        length = np.sqrt(np.sum(across**2, axis=0))
        inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 1e-150)
        return rho, across, length, inverse

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quality and m_N = rho x (across/|across|)."""
        rho, across, length, inverse = self._parts(turns)
        return length, _cross(rho, across * inverse)

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        """Return the change of m_N."""
        rho, across, _, inverse = self._parts(turns)
        moved = _cross(turning, rho)
        unit = across * inverse
        moved_across = moved - np.sum(moved * self.axis, axis=0) * self.axis
        moved_unit = inverse * (moved_across - np.sum(unit * moved_across, axis=0) * unit)
        return _cross(moved, unit) + _cross(rho, moved_unit)


@dataclass(frozen=True)
class Bands:
    """Different costs for different spins: pattern pulses, band-selective pulses with suppression bands.

    Attributes
    ----------
    members : tuple of (ndarray of int, Cost)
        Which spins each cost judges; every spin once.
    """

    members: tuple[tuple[np.ndarray, Cost], ...]

    def evaluate(self, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quality and m_N, each spin by its own cost."""
        quality, m = np.zeros(turns.shape[1]), np.zeros((3, turns.shape[1]))
        for spins, cost in self.members:
            quality[spins], m[:, spins] = cost.evaluate(turns[:, spins])
        return quality, m

    def tangent(self, turns: np.ndarray, turning: np.ndarray) -> np.ndarray:
        """Return the change of m_N, each spin by its own cost."""
        m = np.zeros((3, turns.shape[1]))
        for spins, cost in self.members:
            m[:, spins] = cost.tangent(turns[:, spins], turning[:, spins])
        return m


_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.take(_NEXT, 0) * b.take(_LAST, 0) - a.take(_LAST, 0) * b.take(_NEXT, 0)


def rotation_quaternion(axis: np.ndarray, angle_rad: float) -> np.ndarray:
    """Return (cos, axis sin) of half the angle, shape (4,): the sign that a turn by `angle_rad` itself has."""
    return np.concatenate(([np.cos(angle_rad / 2)], np.sin(angle_rad / 2) * axis))


@dataclass(frozen=True)
class WeightedMean:
    """Objective: the weighted mean of the spins' qualities (Slad & Luy Eq. 10 with equal weights)."""

    def evaluate(self, quality: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean and its derivative by each spin's quality."""
        return float(np.sum(weights * quality)), weights

    def tangent(self, quality: np.ndarray, weights: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Return the change of the derivative: none."""
        return np.zeros_like(quality)


@dataclass(frozen=True)
class SmoothMinimum:
    """Objective: the worst case, -log(sum_s w_s exp(-k Phi_s))/k; between the minimum and the mean, smooth.

    Attributes
    ----------
    sharpness : float
        k > 0; log(1/w)/k is the largest distance from the true minimum.
    """

    sharpness: float

    def evaluate(self, quality: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the smooth minimum over spins of these weights and its derivative by each spin's quality."""
        lowest = quality.min()
        share = weights * np.exp(-self.sharpness * (quality - lowest))
        total = share.sum()
        return float(lowest - np.log(total) / self.sharpness), share / total

    def tangent(self, quality: np.ndarray, weights: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Return the change of the derivative when the qualities, of these weights, change by `change`."""
        _, share = self.evaluate(quality, weights)
        return -self.sharpness * share * (change - np.sum(share * change))
