"""How the cost and the regularisation bend in each voxel alone, in its four parameters: A, B, two turns of the axis.

A is in the solver's unit, turns are in rad along two directions across the axis. Such a block times a change of its
voxel is what the whole curvature gives back to that voxel; what it leaves out is how neighbours on a ray make up for
each other.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from exactgrad.tomography.curvature_kernel import KERNELS
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.projection import Scan
from exactgrad.tomography.regularisation import neighbours

LOCAL = 4  # A, B, two turns
FOOTPRINT = 4.0 / 9.0  # mean of a ray's squared bilinear weight, of its mean: (2/3)^2
RIDGE = 1e-9  # of the largest entry of a block: voxels that nothing determines


class Local:
    """A problem in four parameters of each voxel near x: the map to the solver's vector, and the curvature.

    Shapes: local vectors are (V, 4).
    """

    def __init__(self, problem: TomographyProblem, x: np.ndarray):
        self.problem, self.x = problem, x
        m = x[2 * problem.voxels :].reshape(3, problem.voxels)
        self.length = np.linalg.norm(m, axis=0)
        self.axis = (m / self.length).T
        first = np.cross(self.axis, np.eye(3)[np.argmin(np.abs(self.axis), axis=1)])
        self.first = first / np.linalg.norm(first, axis=1, keepdims=True)
        self.second = np.cross(self.axis, self.first)

    @cached_property
    def data(self) -> np.ndarray:
        """Blocks of J^T W J of single voxels, shape (V, 4, 4)."""
        return data_blocks(self)

    @cached_property
    def prior(self) -> np.ndarray:
        """The diagonal of the regularisation's curvature, as blocks."""
        return _prior_blocks(self)

    @cached_property
    def inverse(self) -> np.ndarray:
        """The inverses of both blocks' sum."""
        return np.linalg.inv(_with_ridge(self.data + self.prior))

    def out(self, local: np.ndarray) -> np.ndarray:
        """Return the solver's vector of a local one."""
        turn = (local[:, 2:3] * self.first + local[:, 3:4] * self.second) * self.length[:, None]
        return np.concatenate([local[:, 0], local[:, 1], turn.T.ravel()])

    def back(self, vector: np.ndarray) -> np.ndarray:
        """Return the transpose of `out` of a vector."""
        voxels = self.problem.voxels
        turn = vector[2 * voxels :].reshape(3, voxels).T * self.length[:, None]
        across = [np.sum(turn * direction, axis=1) for direction in (self.first, self.second)]
        return np.stack([vector[:voxels], vector[voxels : 2 * voxels], *across], axis=1)

    def to(self, y: np.ndarray) -> np.ndarray:
        """Return how far another vector y is, local: -A is as good as A, and -u as u; turns are whole angles."""
        voxels = self.problem.voxels
        A, B, m = y[:voxels], y[voxels : 2 * voxels], y[2 * voxels :].reshape(3, voxels)
        u = (m / np.linalg.norm(m, axis=0)).T
        cosine = np.sum(u * self.axis, axis=1)
        across = u * np.where(cosine < 0, -1.0, 1.0)[:, None]
        turns = np.stack([np.sum(across * direction, axis=1) for direction in (self.first, self.second)], axis=1)
        sine = np.linalg.norm(turns, axis=1)
        turns *= np.divide(np.arctan2(sine, np.abs(cosine)), sine, out=np.ones_like(sine), where=sine > 0)[:, None]
        was = self.x[:voxels]
        return np.column_stack([np.where(A * was < 0, -A, A) - was, B - self.x[voxels : 2 * voxels], turns])

    def curvature(self, local: np.ndarray) -> np.ndarray:
        """Return J^T W J + the regularisation's positive part, times a local vector."""
        return self.back(self.problem.gauss_newton_product(self.x, self.out(local)))


def data_blocks(local: Local) -> np.ndarray:
    """Return the blocks of J^T W J of single voxels, shape (V, 4, 4), with the mean of a squared footprint."""
    rows = local.problem.rows(local.x)
    values = np.concatenate([rows.T, local.first.T, local.second.T])
    fields = values, np.ones(len(values)), -1

    def add(scan: Scan, slope: np.ndarray, bend: np.ndarray, sums: np.ndarray) -> None:
        KERNELS.backward(fields, *scan, bend, sums)

    upper = np.triu_indices(LOCAL)
    blocks = np.empty((local.problem.voxels, LOCAL, LOCAL))
    blocks[:, upper[0], upper[1]] = FOOTPRINT * local.problem.sum_of_slopes(rows, add, len(upper[0])).T
    blocks[:, upper[1], upper[0]] = blocks[:, upper[0], upper[1]]
    unit = np.array([np.sqrt(local.problem.scale), 1.0, 1.0, 1.0])  # x holds A over this
    return unit[:, None] * unit * blocks


def _prior_blocks(local: Local) -> np.ndarray:
    """Return the diagonal of the regularisation's curvature, as blocks."""
    problem, x = local.problem, local.x
    voxels, diagonal = problem.voxels, np.zeros((problem.voxels, LOCAL))
    fields = {"A": x[None, :voxels], "B": x[None, voxels : 2 * voxels], "axis": local.axis.T}
    for number, (name, f) in enumerate(fields.items()):
        smooth, delta, ridge, _ = problem.regularisation.terms(name)
        columns = (2, 3) if name == "axis" else (number,)
        diagonal[:, columns] += ridge
        for one, other in neighbours(problem.mask) if smooth else []:
            if name == "axis":
                s = np.maximum(1.0 - np.sum(f[:, one] * f[:, other], axis=0) ** 2, 0.0)
                bend = smooth / np.sqrt(1.0 + s / delta**2)
            else:  # the second derivative of delta^2 (sqrt(1 + d^2/delta^2) - 1) by d
                bend = smooth * (1.0 + ((f[0, one] - f[0, other]) / delta) ** 2) ** -1.5
            bend = bend * problem.regularisation.likeness(one, other)
            for end in (one, other):
                diagonal[:, columns] += np.bincount(end, bend, minlength=voxels)[:, None]
    return diagonal[:, :, None] * np.eye(LOCAL)


def _with_ridge(blocks: np.ndarray) -> np.ndarray:
    """Return the blocks with what makes them invertible."""
    largest = np.abs(blocks).max(axis=(1, 2))
    ridge = RIDGE * np.where(largest > 0, largest, max(float(largest.max(initial=0.0)), 1e-200))
    return blocks + ridge[:, None, None] * np.eye(LOCAL)
