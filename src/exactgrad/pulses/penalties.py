"""Costs on the waveform itself, added to the loss once, outside the ensemble. u has shape (3, N), Hz.

Each returns (value, gradient by u) and the change of that gradient along a change of u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Penalty(Protocol):
    """A differentiable cost of the waveform."""

    def evaluate(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalty and its gradient, shape (3, N)."""

    def tangent(self, u: np.ndarray, du: np.ndarray) -> np.ndarray:
        """Return the change of the gradient when u changes by du."""


@dataclass(frozen=True)
class Smoothness:
    """weight * mean over steps of |u_{j+1} - u_j|^2 / scale^2."""

    weight: float
    scale_hz: float

    def evaluate(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalty and its gradient."""
        jump = np.diff(u, axis=1)
        factor = self.weight / (self.scale_hz**2 * u.shape[1])
        return factor * float(np.sum(jump**2)), self.tangent(u, u)

    def tangent(self, u: np.ndarray, du: np.ndarray) -> np.ndarray:
        """Return 2 D^T D du times the factor."""
        jump = np.diff(du, axis=1)
        out = np.zeros_like(du)
        out[:, 1:] += jump
        out[:, :-1] -= jump
        return 2.0 * self.weight / (self.scale_hz**2 * u.shape[1]) * out


@dataclass(frozen=True)
class PeakExcess:
    """weight * time-weighted mean of max(0, |u|^2/limit^2 - 1)^2: the penalty kind of amplitude limit.

    The limit is approached from above as the weight grows; the maps of `core.transforms` hold it exactly.
    """

    weight: float
    limit_hz: np.ndarray
    share: np.ndarray

    def evaluate(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalty and its gradient."""
        over = np.maximum(0.0, np.sum(u[:2] ** 2, axis=0) / self.limit_hz**2 - 1.0)
        gradient = np.zeros_like(u)
        gradient[:2] = 4.0 * self.weight * self.share * over / self.limit_hz**2 * u[:2]
        return self.weight * float(np.sum(self.share * over**2)), gradient

    def tangent(self, u: np.ndarray, du: np.ndarray) -> np.ndarray:
        """Return the change of the gradient."""
        over = np.maximum(0.0, np.sum(u[:2] ** 2, axis=0) / self.limit_hz**2 - 1.0)
        growth = np.where(over > 0, 2.0 * np.sum(u[:2] * du[:2], axis=0) / self.limit_hz**2, 0.0)
        out = np.zeros_like(u)
        out[:2] = 4.0 * self.weight * self.share / self.limit_hz**2 * (over * du[:2] + growth * u[:2])
        return out


@dataclass(frozen=True)
class EnergyExcess:
    """weight * max(0, E/limit - 1)^2 with E = sum_j dt_j |u_j|^2: the penalty kind of rms and energy limit."""

    weight: float
    step_s: np.ndarray
    limit: float

    def evaluate(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalty and its gradient."""
        over = max(0.0, float(np.sum(self.step_s * np.sum(u[:2] ** 2, axis=0))) / self.limit - 1.0)
        gradient = np.zeros_like(u)
        gradient[:2] = 4.0 * self.weight * over / self.limit * self.step_s * u[:2]
        return self.weight * over**2, gradient

    def tangent(self, u: np.ndarray, du: np.ndarray) -> np.ndarray:
        """Return the change of the gradient."""
        out = np.zeros_like(u)
        over = float(np.sum(self.step_s * np.sum(u[:2] ** 2, axis=0))) / self.limit - 1.0
        if over > 0:
            growth = 2.0 * float(np.sum(self.step_s * u[:2] * du[:2])) / self.limit
            out[:2] = 4.0 * self.weight / self.limit * self.step_s * (over * du[:2] + growth * u[:2])
        return out
