"""Standard errors of every voxel, by repeating the experiment on the reconstruction (the parametric bootstrap).

The reconstruction predicts the data; data of the same noise are drawn about the prediction and reconstructed as the
measured ones were: how far these reconstructions are from the one that they were drawn from is how far that one is from
the sample (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 6.5). It counts what the inverse of a
curvature leaves out: what the regularisation smooths away (it smooths the replicas too), counts that are few, and
neighbours that turn across each other. Intervals from J^T W J + the regularisation's curvature, which would be those of
a field as rough as the weight says, held 80 % in smooth samples and 55 % in struts where 68 % were claimed.

The reconstruction is smoother than the sample, and less can be smoothed away of it: data are drawn about one that is
given back some of its detail first (`sharpened`).

The mean square of a voxel is that of itself and its 26 neighbours, each over the variance of its block of the
curvature (data and regularisation), times its own block's: few replicas then do. Where the axis is sharp, only
neighbours whose axis is sharp are asked.

Left out: the weight and the mask were chosen from the data and are kept; a replica starts from what it was drawn from,
so that a wrong basin is not found out.

Parameters of a voxel here: A (solver's unit), B, and the turns of the axis along two directions across it, rad.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exactgrad.tomography import choose_weight
from exactgrad.tomography.costs import Gaussian
from exactgrad.tomography.curvature import Local
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.scaling import minimised

GIVEN_BACK = 0.5  # of what a fit to its own prediction takes away from a reconstruction
MOST_BACK = (0.0, 1.5, 0.5, 0.5)  # in a voxel: nothing of A, units of B, rad
MOST_COUNTS = 1e9  # above, a normal distribution is as good
PROBES = 2  # of the freedom
TOLERANCE = 0.1  # of a solution, in the residual's norm: the freedom is known to 1 %
MOST_ITERATIONS = 40
TOLD = 1e-2  # of a block's curvature: less, and the data say nothing
SURE = 3.0  # standard errors above which an amplitude is there
SHARP = 1.0  # |B| above which there is an axis to be sure of
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
    samples : int
        From so many replicas.
    """

    A: np.ndarray
    B: np.ndarray
    axis_deg: np.ndarray
    samples: int


def standard_errors(
    local: Local, samples: int, spread: float = 1.0, seed: int = 0, threads: int | None = None
) -> Errors:
    """Return the standard errors at the minimum of a uniaxial problem.

    Parameters
    ----------
    local : Local
        The problem at its minimum, all fields free.
    samples : int
        Replicas, 1 or more; with the neighbours 2 to 4 are enough.
    spread : float
        Variance of the data over that which the cost takes them to have: 1 for counts, else the reduced chi^2.
    seed : int
    threads : int or None
        Most threads; results do not depend on it.

    Returns
    -------
    Errors
    """
    random = np.random.default_rng(seed)
    local = sharpened(local, threads)
    problem, x, inverse = local.problem, local.x, local.inverse
    square = np.zeros((problem.voxels, 3))
    for _ in range(samples):
        replica = problem.with_data(replicate(problem, x, spread, random))
        square += _by_field(local.to(reconstructed(replica, x, threads)) ** 2) / samples
    own = _by_field(np.diagonal(inverse, axis1=1, axis2=2))
    ratio = _averaged(problem.mask, square / own, np.ones(problem.voxels, bool))
    A, B = x[: problem.voxels], x[problem.voxels : 2 * problem.voxels]
    is_sharp = (np.abs(A) > SURE * np.sqrt(own[:, 0] * ratio[:, 0])) & (np.abs(B) > SHARP)
    ratio = np.where(is_sharp[:, None], _averaged(problem.mask, square / own, is_sharp), ratio)
    # A replica stays where no data pull: there the block says how little is known.
    told = [_by_field(np.diagonal(part, axis1=1, axis2=2)) for part in (local.data, local.prior)]
    ratio = np.where(told[0] > TOLD * sum(told), ratio, np.maximum(ratio, 1.0))
    angle = np.sqrt(ratio[:, 2]) * np.rad2deg(radius(inverse[:, 2:, 2:]))
    values = np.sqrt(own[:, 0] * ratio[:, 0] * problem.scale), np.sqrt(own[:, 1] * ratio[:, 1])
    volumes = [_volume(problem.mask, column) for column in (*values, np.minimum(angle, UNDETERMINED_DEG))]
    return Errors(volumes[0], volumes[1], volumes[2], samples)


def sharpened(local: Local, threads: int | None = None) -> Local:
    """Return a reconstruction with half of the B and turns that a fit to its own prediction, without noise, takes away.

    A fit keeps a share S of a detail, and 1 - S is lost: of the sample's detail d, (1 - S) d; of the reconstruction's,
    S d + noise, less. Where S is right for the detail and the noise that there are, S = <d^2> / (<d^2> + <noise^2>),
    the loss of (1 + a (1 - S)) times the reconstruction's is, squared, (1 + a (1 - S))^2 S of the sample's: with
    a = 1/2 this is 1 to first order in 1 - S, and never more. A is left as it is: with half of A's loss given back,
    75 % of the A of a large sample were within one standard error, without it 71 %.

    Parameters
    ----------
    local : Local
        The problem at its minimum.
    threads : int or None

    Returns
    -------
    Local
        The same problem, there.
    """
    problem, x = local.problem, local.x
    prediction = problem.with_data(replicate(problem, x, 0.0, np.random.default_rng(0)))
    back = -GIVEN_BACK * local.to(reconstructed(prediction, x, threads))
    return Local(problem, x + local.out(np.clip(back, np.negative(MOST_BACK), MOST_BACK)))


def replicate(problem: TomographyProblem, x: np.ndarray, spread: float, random: np.random.Generator) -> Dataset:
    """Return data as they would be measured if x were true: what had no weight has none.

    Intensities whose variance goes with them (all costs but "gaussian") are drawn as counts of a size that gives
    `spread` times the variance that the weights claim.

    Parameters
    ----------
    problem : TomographyProblem
    x : ndarray, shape (size,)
    spread : float
        Variance over that which the cost takes the data to have.
    random : Generator
    """
    rows, drawn = problem.rows(x), np.full(problem.data.shape, np.nan, np.float32)
    for n in range(problem.geometry.projections):
        modelled, _, weight, _ = _seen(problem, rows, n)
        some = weight > 0
        mean, size = modelled[some], spread / weight[some]
        normal = random.normal(size=mean.shape)
        if isinstance(problem.cost, Gaussian):
            drawn[n][some] = mean + np.sqrt(size) * normal
            continue
        counts = np.divide(mean, size, out=np.full_like(mean, np.inf), where=size > 0)
        few = random.poisson(np.minimum(counts, MOST_COUNTS)) * size
        drawn[n][some] = np.where(counts < MOST_COUNTS, few, mean + np.sqrt(mean * size) * normal)
    return replace(problem.data, data=drawn)


def reconstructed(problem: TomographyProblem, x: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Return the minimum of a replica's problem that is next to x."""
    return minimised(problem, x, choose_weight.unit_of(problem), threads)


def freedom(local: Local, seed: int = 0) -> float:
    """Return how many parameters the data determine: the trace of H^-1 J^T W J, H with the regularisation.

    The trace is the mean of p^T H^-1 p over noise p of covariance J^T W J, H^-1 by conjugate gradients with voxel
    blocks as preconditioner (Hutchinson, 1990).

    Parameters
    ----------
    local : Local
        A uniaxial problem, all fields free.
    seed : int
    """
    random = np.random.default_rng(seed)
    pushes = [noise(local, random) for _ in range(PROBES)]
    return float(np.mean([np.sum(push * solve(local, push)) for push in pushes]))


def solve(local: Local, right: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Return H^-1 times a local vector, shape (V, 4), by conjugate gradients preconditioned with voxel blocks."""
    v = np.zeros_like(right)
    rest = right.copy()
    scaled = np.einsum("vij,vj->vi", local.inverse, rest)
    way, size = scaled.copy(), float(np.sum(rest * scaled))
    least = tolerance**2 * size
    for _ in range(MOST_ITERATIONS):
        if size <= least:
            break
        bent = local.curvature(way)
        step = size / float(np.sum(way * bent))
        v += step * way
        rest -= step * bent
        scaled = np.einsum("vij,vj->vi", local.inverse, rest)
        size, before = float(np.sum(rest * scaled)), size
        way = scaled + size / before * way
    return v


def noise(local: Local, random: np.random.Generator) -> np.ndarray:
    """Return a random local vector, shape (V, 4), whose covariance is J^T W J, drawn with `random`."""
    problem, x = local.problem, local.x
    rows = problem.rows(x)
    gradient = np.zeros_like(rows)
    projector = problem.projector
    for n in range(problem.geometry.projections):
        modelled, intensity, weight, through = _seen(problem, rows, n)
        root = np.sqrt(problem.cost.gauss_newton(modelled, intensity, weight))
        image = projector.image()
        np.multiply(through[..., None] * root, random.normal(size=root.shape), out=projector.segments(image))
        projector.backward(problem.model, rows, n, image, gradient)
    return local.back(problem.pull_rows(x, gradient))


def _seen(
    problem: TomographyProblem, rows: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the modelled intensities of a projection, and intensity, weight and transmission."""
    intensity, weight, through = problem.data.projection(n)
    modelled = through[..., None] * problem.projector.segments(problem.projector.forward(problem.model, rows, n))
    return modelled, intensity, weight, through


# Replicas to volumes -------------------------------------------------------------------------------------------------


def _by_field(columns: np.ndarray) -> np.ndarray:
    """Return the columns A, B and the sum of the two turns, of a local vector's."""
    return np.column_stack([columns[:, 0], columns[:, 1], columns[:, 2] + columns[:, 3]])


def _averaged(mask: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the means of the columns over those of a voxel and its neighbours that are chosen, shape (V, columns)."""
    from scipy.ndimage import uniform_filter

    def spread_out(column: np.ndarray) -> np.ndarray:
        volume = np.zeros(mask.shape)
        volume[mask] = np.where(chosen, column, 0.0)
        return uniform_filter(volume, 3, mode="constant")[mask]

    inside = spread_out(np.ones(len(chosen)))
    least = 0.5 / 3**mask.ndim  # sums run along, and may leave a rounding error where nothing is
    sums = np.column_stack([spread_out(column) for column in values.T])
    return np.maximum(sums, 0.0) / np.maximum(inside, least)[:, None]


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
