"""A problem in numbers whose steps are all about as good, with its loss counted in a unit.

A bright voxel's numbers move the cost far more than a dim one's, and A more than B. Worse, rings (B < 0) scatter nearly
all their intensity into their brightest directions, where A and B make up for each other: steps of either alone must be
short. Where B is stepped along with an A that makes up for it, and each number is counted in such steps, L-BFGS needs a
third of the iterations and fewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from exactgrad.core.parameters import Parameters
from exactgrad.core.solve import Budget, Search, Stage, run
from exactgrad.tomography.curvature import Local
from exactgrad.tomography.problem import TomographyProblem

FACES = 6  # neighbours of a voxel
SHARED = 0.95  # of what A and B share: with all of it, a little change of a voxel makes the rest far too long a step
ITERATIONS, TOLERANCE, MEMORY = 40, 1e-6, 12  # of a fit of other data from nearby
LEAST = 1e-5  # of the mean curvature: what no data determine may move far, but not for ever


class Change(Protocol):
    """A linear change of numbers."""

    def out(self, y: np.ndarray) -> np.ndarray:
        """Return the problem's vector."""

    def back(self, gradient: np.ndarray) -> np.ndarray:
        """Return the transpose of `out` of a gradient."""

    def into(self, x: np.ndarray) -> np.ndarray:
        """Return the inverse of `out`."""


class Same:
    """No change."""

    def out(self, y: np.ndarray) -> np.ndarray:
        """Return y."""
        return y

    back = into = out


@dataclass(frozen=True)
class Steps:
    """Numbers of the uniaxial model, in each voxel: A = a y_A + c y_B, B = b y_B, m = t y_m.

    Attributes
    ----------
    a, b, c, t : ndarray, shape (V,)
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    t: np.ndarray

    def out(self, y: np.ndarray) -> np.ndarray:
        """Return the problem's vector."""
        A, B, m = self._parts(y)
        return np.concatenate([self.a * A + self.c * B, self.b * B, (self.t * m).ravel()])

    def back(self, gradient: np.ndarray) -> np.ndarray:
        """Return the transpose of `out` of a gradient."""
        A, B, m = self._parts(gradient)
        return np.concatenate([self.a * A, self.c * A + self.b * B, (self.t * m).ravel()])

    def into(self, x: np.ndarray) -> np.ndarray:
        """Return the inverse of `out`."""
        A, B, m = self._parts(x)
        return np.concatenate([(A - self.c / self.b * B) / self.a, B / self.b, (m / self.t).ravel()])

    def _parts(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        voxels = len(self.a)
        return x[:voxels], x[voxels : 2 * voxels], x[2 * voxels :].reshape(3, voxels)


def steps_of(problem: TomographyProblem, x: np.ndarray, unit: float) -> Steps:
    """Return the steps that raise a cost counted in `unit` by a half, each voxel alone.

    The curvature of A and B is L L^T; steps are the columns of its inverse's root, L^-T.

    Parameters
    ----------
    problem : TomographyProblem
        Of the uniaxial model, all fields free.
    x : ndarray, shape (size,)
    unit : float
        In the cost's unit.
    """
    local = Local(problem, x)
    data = local.data
    by_field = {"A": data[:, 0, 0], "B": data[:, 1, 1], "axis": 0.5 * (data[:, 2, 2] + data[:, 3, 3])}
    for name, bend in by_field.items():
        smooth, _, ridge, _ = problem.regularisation.terms(name)
        bend = bend + FACES * smooth * problem.regularisation.alone + ridge
        by_field[name] = (bend + LEAST * bend.mean()) / unit + np.finfo(float).tiny
    A, B, turn = by_field.values()
    shared = SHARED * data[:, 0, 1] / unit / A
    b = 1.0 / np.sqrt(B - shared**2 * A)
    return Steps(1.0 / np.sqrt(A), b, -shared * b, local.length / np.sqrt(turn))


class InUnits:
    """A problem whose loss is counted in a unit, so that tolerances mean the same whatever the data's unit is.

    Its vector is the problem's by a linear change.
    """

    def __init__(self, problem: TomographyProblem, unit: float, steps: Change | None = None):
        self.problem, self.unit, self.size, self.steps = problem, unit, problem.size, steps or Same()
        self.limit_threads, self.off_kink = problem.limit_threads, problem.off_kink

    def parameters(self, y: np.ndarray) -> Parameters:
        """Return what the numbers mean, in the data's units."""
        return self.problem.parameters(self.steps.out(y))

    def start(self, seed: int = 0) -> np.ndarray:
        """Return a starting vector."""
        return self.steps.into(self.problem.start(seed))

    def value_and_gradient(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Return cost and gradient, in units."""
        return self._in_units(*self.problem.value_and_gradient(self.steps.out(y)))

    def penalty_and_gradient(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Return regularisation and gradient, in units."""
        return self._in_units(*self.problem.penalty_and_gradient(self.steps.out(y)))

    def _in_units(self, value: float, gradient: np.ndarray) -> tuple[float, np.ndarray]:
        return value / self.unit, self.steps.back(gradient) / self.unit

    def hessian_product(self, y: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the second derivative times v, in units."""
        return self.steps.back(self.problem.hessian_product(self.steps.out(y), self.steps.out(v))) / self.unit


def minimised(problem: TomographyProblem, x: np.ndarray, unit: float, threads: int | None = None) -> np.ndarray:
    """Return the minimum near x of a problem of other data: replicas of a sample's, or a part of them.

    Each number is counted in steps that are good at x.
    """
    steps = steps_of(problem, x, unit)
    stage, budget = Stage(InUnits(problem, unit, steps), ITERATIONS), Budget(None, TOLERANCE, MEMORY, threads=threads)
    return steps.out(run([stage], Search.begin([steps.into(x)]), budget).x)
