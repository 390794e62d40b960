"""Maps between the solver's vector and physical parameters, each with its transposed Jacobian and second derivative.

Every map offers four acts, all exact at every point:

    apply(x)               y = T(x)
    push(x, v)             T'(x) v
    pull(x, g)             T'(x)^T g
    pull_tangent(x, v, g)  d/de pull(x + e v, g) at e = 0

Arrays have any shape that the map names; a vector field lies with its components first, shape (k, N).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np


class Transform(Protocol):
    """A differentiable map."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return T(x)."""

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return T'(x) v."""

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return T'(x)^T g."""

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of ``pull(x, g)`` along v."""


@dataclass(frozen=True)
class Chain:
    """Transforms, the `links`, one after the other; `inputs` from `trace` spare the pulls a second forward pass."""

    links: tuple[Transform, ...]

    def trace(self, x: np.ndarray) -> list[np.ndarray]:
        """Return the input of every link and, last, the output."""
        values = [x]
        for link in self.links:
            values.append(link.apply(values[-1]))
        return values

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return T(x)."""
        return self.trace(x)[-1]

    def push_traced(self, inputs: Sequence[np.ndarray], v: np.ndarray) -> list[np.ndarray]:
        """Return the tangent at the input of every link and, last, at the output."""
        tangents = [v]
        for link, value in zip(self.links, inputs, strict=False):
            tangents.append(link.push(value, tangents[-1]))
        return tangents

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return T'(x) v."""
        return self.push_traced(self.trace(x), v)[-1]

    def pull_traced(self, inputs: Sequence[np.ndarray], g: np.ndarray) -> np.ndarray:
        """Return T'(x)^T g for the values of `trace`."""
        for link, value in zip(reversed(self.links), reversed(inputs[:-1]), strict=True):
            g = link.pull(value, g)
        return g

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return T'(x)^T g."""
        return self.pull_traced(self.trace(x), g)

    def pull_pair(
        self, inputs: Sequence[np.ndarray], tangents: Sequence[np.ndarray], g: np.ndarray, dg: np.ndarray
    ) -> np.ndarray:
        """Return d/de [T'(x + e v)^T (g + e dg)], the Hessian product of a composed loss; `tangents` are those of v."""
        for link, value, tangent in zip(
            reversed(self.links), reversed(inputs[:-1]), reversed(tangents[:-1]), strict=True
        ):
            dg = link.pull_tangent(value, tangent, g) + link.pull(value, dg)
            g = link.pull(value, g)
        return dg

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of ``pull(x, g)`` along v."""
        inputs = self.trace(x)
        return self.pull_pair(inputs, self.push_traced(inputs, v), g, np.zeros_like(g))


class Linear:
    """Base of maps that are linear up to a constant: the tangent does not depend on the point."""

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return T' v; a map without a constant part is its own tangent."""
        return self.apply(v)  # type: ignore[attr-defined]

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return zero: the pull does not change with x."""
        return np.zeros_like(x)


@dataclass(frozen=True)
class Scale(Linear):
    """y = factor x: a unit, or the natural size of a parameter."""

    factor: float

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return factor x."""
        return self.factor * x

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return factor g."""
        return self.factor * g


@dataclass(frozen=True)
class Exponential:
    """y = exp(x): a positive parameter by its logarithm."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return exp(x)."""
        return np.exp(x)

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return exp(x) v."""
        return np.exp(x) * v

    pull = push

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return exp(x) v g."""
        return np.exp(x) * v * g


@dataclass(frozen=True)
class Interval:
    """y = low + (high - low)(1 + tanh x)/2: a parameter between two bounds."""

    low: float
    high: float

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return y(x)."""
        return self.low + 0.5 * (self.high - self.low) * (1.0 + np.tanh(x))

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return y'(x) v."""
        return 0.5 * (self.high - self.low) * (1.0 - np.tanh(x) ** 2) * v

    pull = push

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return y''(x) v g."""
        t = np.tanh(x)
        return -(self.high - self.low) * t * (1.0 - t**2) * v * g


@dataclass(frozen=True)
class Mirror(Linear):
    """Time symmetry: each row given on its first half only, shape (k, ceil(N/2)) to (k, N).

    Attributes
    ----------
    signs : tuple of int
        Per row: +1 even, v(T - t) = v(t); -1 odd, v(T - t) = -v(t), the middle step of an odd N being zero.
    steps : int
        N.
    """

    signs: tuple[int, ...]
    steps: int

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the whole waveform."""
        sign = np.array(self.signs, dtype=float)[:, None]
        half = self.steps // 2
        y = np.empty((len(self.signs), self.steps))
        y[:, : x.shape[1]] = x
        y[:, self.steps - half :] = sign * x[:, half - 1 :: -1] if half else 0.0
        if self.steps % 2:
            y[sign[:, 0] < 0, half] = 0.0
        return y

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the sum of both halves, folded."""
        sign = np.array(self.signs, dtype=float)[:, None]
        half = self.steps // 2
        folded = g[:, : x.shape[1]].copy()
        folded[:, :half] += sign * g[:, ::-1][:, :half]
        if self.steps % 2:
            folded[sign[:, 0] < 0, half] = 0.0
        return folded


@dataclass(frozen=True)
class Hold:
    """Chosen columns of a (k, N) field held at given values, whatever the solver does.

    Attributes
    ----------
    held : ndarray of bool, shape (N,)
    values : ndarray, shape (k, N)
        Read where `held`.
    """

    held: np.ndarray
    values: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return x with the held columns put in."""
        return np.where(self.held, self.values, x)

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return v, zero in the held columns."""
        return np.where(self.held, 0.0, v)

    pull = push

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return zero: the pull does not change with x."""
        return np.zeros_like(x)


@cache
def _slope_series(order: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of h = 2 f' and of h' in powers of s = q^2, f = tanh(q)/q from tanh' = 1 - tanh^2."""
    tau = np.zeros(order)
    tau[0] = 1.0
    for k in range(1, order):
        tau[k] = -np.dot(tau[:k], tau[:k][::-1]) / (2 * k + 1)
    powers = np.arange(order)
    return (2 * powers * tau)[1:], (2 * powers * (powers - 1) * tau)[2:]


SERIES_BELOW = 0.06  # where the closed forms of h and h' would cancel


def tanh_ratio(s: np.ndarray) -> np.ndarray:
    """Return f(s) = tanh(q)/q with s = q^2 >= 0; entire in s.

    Examples
    --------
    >>> float(tanh_ratio(np.array(0.0)))
    1.0
    """
    q = np.sqrt(np.maximum(s, 1e-300))  # tanh(q)/q is 1 long before
    return np.tanh(q) / q


def tanh_ratio_slope(s: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return h(s) = 2 f'(s) = (sech^2 q - f)/s for s >= 0, f = tanh_ratio(s); -2/3 at s = 0."""
    h = (1.0 - s * f * f - f) / np.maximum(s, SERIES_BELOW)  # tanh^2 q = s f^2
    return _with_series(s, h, _slope_series()[0])


def tanh_ratio_curve(s: np.ndarray, f: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return h'(s) for s >= 0, f and h as above; 8/15 at s = 0."""
    closed = -(f * (1.0 - s * f * f) + 1.5 * h) / np.maximum(s, SERIES_BELOW)
    return _with_series(s, closed, _slope_series()[1])


def _with_series(s: np.ndarray, closed: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    near = s < SERIES_BELOW
    if not near.any():
        return closed
    s = np.minimum(s, SERIES_BELOW)
    series = np.full_like(s, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        series *= s
        series += coefficient
    return np.where(near, series, closed)


def _square(u: np.ndarray) -> np.ndarray:
    return u[0] * u[0] + u[1] * u[1]


@dataclass(frozen=True)
class RadialTanh:
    """Limit the length of each column's first two components: u -> u tanh(q)/q, q = |u|/limit.

    Slad & Luy Eq. 37/39 with the Jacobian of Eq. 45, in Cartesian form: entire in |u|^2, no pole at u = 0.

    Attributes
    ----------
    limit : ndarray, shape (N,) or scalar
        Largest length, in the unit of u.
    """

    limit: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the limited field."""
        y = x.copy()
        y[:2] *= tanh_ratio(_square(x / self.limit))
        return y

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return J g; the Jacobian is symmetric."""
        u, along = x[:2] / self.limit, g.copy()
        s = _square(u)
        f = tanh_ratio(s)
        h = tanh_ratio_slope(s, f)
        along[:2] = f * g[:2] + h * (u[0] * g[0] + u[1] * g[1]) * u
        return along

    push = pull

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of `pull` along v."""
        u, w, g2 = x[:2] / self.limit, v[:2] / self.limit, g[:2]
        s = _square(u)
        f = tanh_ratio(s)
        h = tanh_ratio_slope(s, f)
        slope = tanh_ratio_curve(s, f, h)
        uw, ug, wg = np.sum(u * w, axis=0), np.sum(u * g2, axis=0), np.sum(w * g2, axis=0)
        out = np.zeros_like(x)
        out[:2] = h * (uw * g2 + wg * u + ug * w) + 2.0 * slope * uw * ug * u
        return out


@dataclass(frozen=True)
class EnergyScaling:
    """Limit sum_j w_j |u_j|^2 over the first two components by one common factor min(1, sqrt(limit/E)).

    Rms power, energy and their like differ in w and limit only. Exact: the limit is reached, and never passed. Where
    it begins to bind the derivative is the one-sided one from inside.

    Attributes
    ----------
    weights : ndarray, shape (N,)
        Step lengths, say.
    limit : float
        Largest energy, > 0.
    """

    weights: np.ndarray
    limit: float

    def factor(self, x: np.ndarray) -> tuple[float, float]:
        """Return the factor and the energy before it."""
        energy = float(np.sum(self.weights * _square(x)))
        return (1.0 if energy <= self.limit else float(np.sqrt(self.limit / energy))), energy

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the limited field."""
        factor, _ = self.factor(x)
        if factor == 1.0:
            return x
        y = x.copy()
        y[:2] *= factor
        return y

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return J v."""
        factor, energy = self.factor(x)
        if factor == 1.0:
            return v
        y = v.copy()
        y[:2] = factor * (v[:2] - np.sum(self.weights * x[:2] * v[:2]) / energy * x[:2])
        return y

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return J^T g."""
        factor, energy = self.factor(x)
        if factor == 1.0:
            return g
        y = g.copy()
        y[:2] = factor * (g[:2] - np.sum(x[:2] * g[:2]) / energy * self.weights * x[:2])
        return y

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of `pull` along v."""
        factor, energy = self.factor(x)
        out = np.zeros_like(x)
        if factor == 1.0:
            return out
        u, w, g2 = x[:2], v[:2], g[:2]
        growth = np.sum(self.weights * u * w) / energy  # dE / 2E
        along, along_tangent = np.sum(u * g2), np.sum(w * g2)
        out[:2] = -factor * growth * g2 - factor / energy * self.weights * (
            along_tangent * u + along * w - 3.0 * growth * along * u
        )
        return out


@dataclass(frozen=True)
class EnergyTanh:
    """Limit sum_j w_j |u_j|^2, w the `weights`, by the common factor tanh(s)/s, s = sqrt(E/limit).

    Slad & Luy Eq. 46, with the Jacobian of the audit: Eq. 50 as printed has the sign of its first term and an index
    wrong. Smooth, but the limit is only approached; `EnergyScaling` reaches it.
    """

    weights: np.ndarray
    limit: float

    def _ratio(self, x: np.ndarray) -> tuple[float, float, float]:
        s = np.sum(self.weights * _square(x)) / self.limit
        f = tanh_ratio(s)
        h = tanh_ratio_slope(s, f)
        slope = tanh_ratio_curve(s, f, h)
        return float(f), float(h) / self.limit, float(slope) / self.limit**2

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return the limited field."""
        y = x.copy()
        y[:2] *= self._ratio(x)[0]
        return y

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return J v."""
        f, h, _ = self._ratio(x)
        y = v.copy()
        y[:2] = f * v[:2] + h * np.sum(self.weights * x[:2] * v[:2]) * x[:2]
        return y

    def pull(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return J^T g."""
        f, h, _ = self._ratio(x)
        y = g.copy()
        y[:2] = f * g[:2] + h * np.sum(x[:2] * g[:2]) * self.weights * x[:2]
        return y

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of `pull` along v."""
        _, h, slope = self._ratio(x)
        u, w, g2 = x[:2], v[:2], g[:2]
        half_growth = np.sum(self.weights * u * w)
        along, along_tangent = np.sum(u * g2), np.sum(w * g2)
        out = np.zeros_like(x)
        out[:2] = h * half_growth * g2 + self.weights * (
            h * (along_tangent * u + along * w) + 2.0 * slope * half_growth * along * u
        )
        return out
