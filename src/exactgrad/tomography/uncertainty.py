"""Standard errors of every voxel, from the full curvature: data and regularisation, and how voxels share data.

The covariance is s^2 H^-1 (s^2 = 1 where the data are counts, else the reduced chi^2) with H = J^T W J + the
regularisation's positive part, at the minimum. Samples of it are drawn: v = H^-1 (J^T W^(1/2) e + L^T e') with e, e'
normal and L^T L the regularisation's part has covariance H^-1. H is solved by conjugate gradients with voxel blocks as
preconditioner. The blocks alone would leave out that voxels on one ray can take over each other's intensity.

The variance of a voxel is its block's times the ratio of sampled to block variance, averaged over its neighbours: that
ratio is nearly the same everywhere, so that few samples determine it well.

Parameters of a voxel here: A (solver's unit), B, and the turns of the axis along two directions across it, rad.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exactgrad.tomography import model as shape
from exactgrad.tomography.basin import FOOTPRINT
from exactgrad.tomography.listening import add_back
from exactgrad.tomography.problem import TomographyProblem

LOCAL = 4  # A, B, two turns
TOLERANCE = 1e-2  # of a solution, in the residual's norm
MOST_ITERATIONS = 40
RIDGE = 1e-9  # of the largest entry of a block: voxels that nothing determines
WITHIN = 0.6826894921370859  # what one standard error holds
UNDETERMINED_DEG = 90.0  # no angle between axes is larger
AZIMUTHS = 32


@dataclass(frozen=True)
class Errors:
    """Standard errors as volumes, NaN outside the mask.

    Attributes
    ----------
    A, B : ndarray, shape (x, y, z)
    axis_deg : ndarray, shape (x, y, z)
        The angle within which the true axis lies with 68 %.
    block_axis_deg : ndarray, shape (x, y, z)
        The same from a voxel's own block alone: too small, for comparison.
    freedom : float
        Number of parameters that the data determine, of all: trace of H^-1 J^T W J.
    samples : int
    """

    A: np.ndarray
    B: np.ndarray
    axis_deg: np.ndarray
    block_axis_deg: np.ndarray
    freedom: float
    samples: int

    def scaled(self, variance: float) -> Errors:
        """Return the errors where the cost is minus the log likelihood over this variance."""
        root = float(np.sqrt(variance))
        angle, alone = (np.minimum(root * values, UNDETERMINED_DEG) for values in (self.axis_deg, self.block_axis_deg))
        return Errors(root * self.A, root * self.B, angle, alone, self.freedom, self.samples)


class Local:
    """The map between a voxel's four parameters and the solver's vector at x.

    Shapes: local vectors are (V, 4).
    """

    def __init__(self, problem: TomographyProblem, x: np.ndarray):
        self.problem, self.x = problem, x
        m = x[2 * problem.voxels :].reshape(3, problem.voxels)
        self.length = np.linalg.norm(m, axis=0)
        u = (m / self.length).T
        first = np.cross(u, np.eye(3)[np.argmin(np.abs(u), axis=1)])
        self.first = first / np.linalg.norm(first, axis=1, keepdims=True)
        self.second = np.cross(u, self.first)

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

    def curvature(self, local: np.ndarray) -> np.ndarray:
        """Return H times a local vector."""
        return self.back(self.problem.gauss_newton_product(self.x, self.out(local)))


def standard_errors(
    problem: TomographyProblem,
    x: np.ndarray,
    samples: int,
    seed: int = 0,
    on_sample: Callable[[int], None] = lambda number: None,
) -> Errors:
    """Return the standard errors at the minimum x of a uniaxial problem.

    Parameters
    ----------
    problem : TomographyProblem
        All fields free.
    x : ndarray
    samples : int
        1 or more; errors of the errors go as 1/sqrt(samples).
    seed : int
    on_sample : callable
        Called before each sample with its number.
    """
    local = Local(problem, x)
    blocks = data_blocks(problem, x, local) + _prior_blocks(problem, x, local)
    inverse = np.linalg.inv(blocks)
    square = np.zeros((problem.voxels, LOCAL, LOCAL))
    freedom = 0.0
    random = np.random.default_rng(seed)
    for number in range(samples):
        on_sample(number)
        right, of_data = noise(problem, x, local, random)
        v = solve(local.curvature, inverse, right)
        square += v[:, :, None] * v[:, None, :] / samples
        freedom += float(np.sum(of_data * v)) / samples
    spread = _averaged(problem.mask, square, inverse)
    unit = np.array([np.sqrt(problem.scale), 1.0])
    A, B = (np.sqrt(spread[:, i, i]) * unit[i] for i in range(2))
    angles = np.minimum(np.rad2deg(radius(spread[:, 2:, 2:])), UNDETERMINED_DEG)
    alone = np.minimum(np.rad2deg(radius(inverse[:, 2:, 2:])), UNDETERMINED_DEG)
    volumes = [_volume(problem.mask, values) for values in (A, B, angles, alone)]
    return Errors(volumes[0], volumes[1], volumes[2], volumes[3], freedom, samples)


def solve(curvature: Callable[[np.ndarray], np.ndarray], inverse: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return H^-1 times a local vector, by conjugate gradients preconditioned with the blocks' inverses."""
    v = np.zeros_like(right)
    rest = right.copy()
    scaled = np.einsum("vij,vj->vi", inverse, rest)
    way, size = scaled.copy(), float(np.sum(rest * scaled))
    least = TOLERANCE**2 * size
    for _ in range(MOST_ITERATIONS):
        if size <= least:
            break
        bent = curvature(way)
        step = size / float(np.sum(way * bent))
        v += step * way
        rest -= step * bent
        scaled = np.einsum("vij,vj->vi", inverse, rest)
        size, before = float(np.sum(rest * scaled)), size
        way = scaled + size / before * way
    return v


def noise(
    problem: TomographyProblem, x: np.ndarray, local: Local, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a right side whose covariance is H, and the data's part of it, both local."""
    rows = problem.rows(x)
    gradient = np.zeros_like(rows)
    projector = problem.projector
    for n in range(problem.geometry.projections):
        intensity, weight, through = problem.data.projection(n)
        modelled = through[..., None] * projector.segments(projector.forward(problem.model, rows, n))
        root = np.sqrt(problem.cost.gauss_newton(modelled, intensity, weight))
        image = projector.image()
        np.multiply(through[..., None] * root, random.normal(size=root.shape), out=projector.segments(image))
        projector.backward(problem.model, rows, n, image, gradient)
    of_data = local.back(problem.pull_rows(x, gradient))
    return of_data + _prior_noise(problem, x, local, random), of_data


class _Blocks:
    """Sums over segments of g times the outer product of the density's derivatives."""

    def __init__(self, local: Local, unit: float):
        self.local, self.unit = local, unit

    def __call__(self, rows: np.ndarray, q: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the 16 entries of each block."""
        c = shape.cosines(rows[:, 2:], q)
        e = np.exp(rows[:, 1:2] * (c * c - 1.0))
        f = rows[:, :1] ** 2 * e
        slopes = [2.0 * self.unit * rows[:, :1] * e, f * (c * c - 1.0)]
        slopes += [2.0 * rows[:, 1:2] * c * f * (d @ q.T) for d in (self.local.first, self.local.second)]
        return np.stack([np.einsum("vs,vs,vs->v", g, a, b) for a in slopes for b in slopes], axis=1)


def data_blocks(problem: TomographyProblem, x: np.ndarray, local: Local) -> np.ndarray:
    """Return the blocks of J^T W J of single voxels, shape (V, 4, 4), with the mean of a squared footprint."""
    rows = problem.rows(x)
    sums = np.zeros((problem.voxels, LOCAL * LOCAL))
    listener = _Blocks(local, float(np.sqrt(problem.scale)))
    projector = problem.projector
    for n in range(problem.geometry.projections):
        intensity, weight, through = problem.data.projection(n)
        modelled = through[..., None] * projector.segments(projector.forward(problem.model, rows, n))
        bend = problem.cost.gauss_newton(modelled, intensity, weight)
        add_back(projector, rows, n, FOOTPRINT * through[..., None] ** 2 * bend, listener, sums)
    blocks = sums.reshape(-1, LOCAL, LOCAL)
    largest = np.abs(blocks).max(axis=(1, 2))
    ridge = RIDGE * np.where(largest > 0, largest, max(float(largest.max(initial=0.0)), 1e-300))
    return blocks + ridge[:, None, None] * np.eye(LOCAL)


# The regularisation: its pairs, with the weight of each --------------------------------------------------------------


def _pairs(problem: TomographyProblem, x: np.ndarray):
    """Yield for each field and direction: its number among the fields, f, both ends of the pairs, their curvature."""
    from exactgrad.tomography.regularisation import neighbours

    voxels = problem.voxels
    m = x[2 * voxels :].reshape(3, voxels)
    parts = {"A": x[None, :voxels], "B": x[None, voxels : 2 * voxels], "axis": m / np.linalg.norm(m, axis=0)}
    for number, name in enumerate(parts):
        smooth, delta, _, _ = problem.regularisation.terms(name)
        if smooth == 0:
            continue
        f = parts[name]
        for one, other in neighbours(problem.mask):
            if name == "axis":
                s = np.maximum(1.0 - np.sum(f[:, one] * f[:, other], axis=0) ** 2, 0.0)
                bend = 1.0 / np.sqrt(1.0 + s / delta**2)
            else:  # the second derivative of delta^2 (sqrt(1 + d^2/delta^2) - 1) by d
                d = f[0, one] - f[0, other]
                bend = (1.0 + (d / delta) ** 2) ** -1.5
            yield number, f, one, other, smooth * bend


def _prior_noise(problem: TomographyProblem, x: np.ndarray, local: Local, random: np.random.Generator) -> np.ndarray:
    """Return L^T e, local."""
    voxels = problem.voxels
    vector = np.zeros(problem.size)
    axis = np.zeros((3, voxels))
    for number, f, one, other, bend in _pairs(problem, x):
        root = np.sqrt(bend)
        if number < 2:
            part = vector[number * voxels : (number + 1) * voxels]
            push = root * random.normal(size=root.size)
            part[one] += push
            part[other] -= push
            continue
        e = random.normal(size=(3, 3, root.size))
        both = root * (e + e.swapaxes(0, 1)) / np.sqrt(2.0)
        axis[:, one] += np.einsum("ijp,jp->ip", both, f[:, one])
        axis[:, other] -= np.einsum("ijp,jp->ip", both, f[:, other])
    vector[2 * voxels :] = (axis / local.length).ravel()
    for number, name in enumerate(("A", "B")):
        ridge = problem.regularisation.terms(name)[2]
        vector[number * voxels : (number + 1) * voxels] += np.sqrt(ridge) * random.normal(size=voxels)
    return local.back(vector)


def _prior_blocks(problem: TomographyProblem, x: np.ndarray, local: Local) -> np.ndarray:
    """Return the diagonal of the regularisation's part, as blocks."""
    diagonal = np.zeros((problem.voxels, LOCAL))
    for number, _, one, other, bend in _pairs(problem, x):
        for column in (number,) if number < 2 else (2, 3):
            for end in (one, other):
                diagonal[:, column] += np.bincount(end, bend, minlength=problem.voxels)
    for number, name in enumerate(("A", "B")):
        diagonal[:, number] += problem.regularisation.terms(name)[2]
    return diagonal[:, :, None] * np.eye(LOCAL)


# Samples to volumes --------------------------------------------------------------------------------------------------


def _averaged(mask: np.ndarray, square: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Return the block's covariance times the ratio of sampled to block variance, averaged over the neighbours."""
    from scipy.ndimage import uniform_filter

    sampled = np.stack([square[:, 0, 0], square[:, 1, 1], square[:, 2, 2] + square[:, 3, 3]], axis=1)
    own = np.stack([inverse[:, 0, 0], inverse[:, 1, 1], inverse[:, 2, 2] + inverse[:, 3, 3]], axis=1)
    grown = np.empty((len(square), LOCAL))
    inside = uniform_filter(mask.astype(float), 3, mode="constant")[mask]
    for column in range(3):
        volume = np.zeros(mask.shape)
        volume[mask] = sampled[:, column] / own[:, column]
        ratio = uniform_filter(volume, 3, mode="constant")[mask] / inside
        grown[:, column] = np.sqrt(ratio)
    grown[:, 3] = grown[:, 2]
    return inverse * grown[:, :, None] * grown[:, None, :]


def radius(covariance: np.ndarray) -> np.ndarray:
    """Return the radius that holds 68 % of a two-dimensional normal distribution of each covariance, (..., 2, 2).

    The share within r is the mean over azimuths of 1 - exp(-r^2 / (2 g)), g the covariance's ellipse, squared.

    Examples
    --------
    >>> float(radius(np.diag([1.0, 0.0])).round(3)), float(radius(np.eye(2)).round(3))
    (1.0, 1.515)
    """
    values = np.maximum(np.linalg.eigvalsh(covariance), 0.0)
    small, large = values[..., 0], values[..., 1]
    azimuth = (np.arange(AZIMUTHS) + 0.5) * np.pi / 2 / AZIMUTHS
    ratio = np.divide(small, large, out=np.zeros_like(small), where=large > 0)
    ellipse = np.cos(azimuth) ** 2 + ratio[..., None] * np.sin(azimuth) ** 2
    low, high = np.full_like(ratio, 0.9), np.full_like(ratio, 1.6)
    for _ in range(40):
        middle = 0.5 * (low + high)
        is_within = np.mean(1.0 - np.exp(-(middle[..., None] ** 2) / (2 * ellipse)), axis=-1) < WITHIN
        low, high = np.where(is_within, middle, low), np.where(is_within, high, middle)
    return np.sqrt(large) * high


def _volume(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    volume = np.full(mask.shape, np.nan)
    volume[mask] = values
    return volume
