"""The weight of the regularisation, chosen from the data: pixels held out of the fit say which weight predicts best.

From a large weight to small ones, each fit starting from the one before (so that neighbours first agree on the sign of
B, and details come later), the cost of the held-out pixels falls while detail is resolved and rises once noise is
fitted. Chosen is the weight where it is least. (A larger one that the held-out pixels hardly tell from it would smooth
away more than the standard errors say.)

A needle is 50 times dimmer than a ring of the same A at |B| = 3. The data say little of a dim voxel, in the unit of the
bright ones, and its bright neighbours would tell it their sign of B. So a dim voxel's likeness to its neighbours counts
less, and that of voxels as bright as each other more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from exactgrad.tomography import starts
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct_job import RegularisationTable
from exactgrad.tomography.regularisation import Regularisation

WEIGHTS = tuple(float(10.0**power) for power in np.arange(-1.0, -5.1, -0.25))
AFTER_LEAST = 2  # weights that are tried after the best one
DIM = 0.1  # of a bright voxel's mean intensity: below, likeness to neighbours counts in proportion
LEAST_LIGHT = 0.003  # of a dim voxel: nothing else holds empty ones


class Held:
    """Weights with pixels taken out, or all others; read by projection, so that no second array is held.

    Parameters
    ----------
    data : Dataset
    share : float
        Of the pixels that are held out.
    seed : int
    inside : bool
        True keeps those held out, False the others.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, data: Dataset, share: float, seed: int, inside: bool):
        self._weights, self._share, self._seed, self._inside = data.weights, share, seed, inside
        self.shape = (*data.shape[:3], 1) if data.weights is None else data.weights.shape

    def __getitem__(self, n: int) -> np.ndarray:
        out = np.random.default_rng((self._seed, n)).random(self.shape[1:3]) < self._share
        kept = (out if self._inside else ~out)[..., None]
        return kept.astype(np.float64) if self._weights is None else kept * self._weights[n]


def hold_out(data: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return the data to fit, and the data that are held out: all segments of `share` of the pixels.

    Examples
    --------
    >>> from exactgrad.tomography.geometry import Geometry
    >>> data = Dataset(Geometry(np.eye(3)[None], (8, 8), (8, 8, 8), [0.0]), np.ones((1, 8, 8, 1)))
    >>> fitted, held = hold_out(data, 0.1, 0)
    >>> bool(np.all(fitted.projection(0)[1] + held.projection(0)[1] == 1.0))
    True
    """
    return tuple(replace(data, weights=Held(data, share, seed, inside)) for inside in (False, True))  # type: ignore[return-value]


def unit_of(problem: TomographyProblem) -> float:
    """Return what a weight of 1 is in the cost's unit: what a voxel scatters into all measured pixels, or its square.

    The square-root and Poisson costs go with the intensity, the Gaussian one with its square times the weight.
    """
    total, power = 0.0, 2 if problem.cost.__class__.__name__ == "Gaussian" else 1
    for n in range(problem.geometry.projections):
        intensity, weight, _ = problem.data.projection(n)
        total += float(np.sum(weight * np.abs(intensity) ** power))
    return total / problem.voxels if total > 0 else 1.0


def light_of(mean: np.ndarray) -> np.ndarray:
    """Return the light of voxels of these mean intensities, as of `Regularisation`: 1 is a tenth of a bright one's.

    Examples
    --------
    >>> light_of(np.array([0.0, 1.0, 5.0, 20.0, 100.0, 100.0])).tolist()
    [0.003, 0.1, 0.5, 2.0, 10.0, 10.0]
    """
    bright = starts.bright(mean)
    return np.maximum(mean / (DIM * bright), LEAST_LIGHT) if bright > 0 else np.ones_like(mean)


def regularisation_of(
    table: RegularisationTable, weight: float, unit: float, light: np.ndarray | None = None
) -> Regularisation:
    """Return the regularisation of this weight, in the cost's unit; `light` as of `Regularisation`."""
    smooth = {"axis": table.axis, "A": table.A, "B": table.B}
    return Regularisation(
        smooth={name: weight * unit * share for name, share in smooth.items()},
        delta={"A": table.delta_A, "B": table.delta_B},
        light=light,
    )


def choose(held: Sequence[np.ndarray]) -> tuple[int, bool]:
    """Return which of the weights tried so far is chosen, and whether there is no need to try more.

    Parameters
    ----------
    held : sequence of ndarray, shape (n,)
        Cost of the held-out pixels of each projection, for each weight, largest first.

    Examples
    --------
    >>> costs = [np.full(9, value) + 0.1 * np.arange(9) * value for value in (9.0, 5.0, 4.0, 4.5, 5.0)]
    >>> choose(costs)
    (2, True)
    """
    totals = [float(costs.sum()) for costs in held]
    least = int(np.argmin(totals))
    return least, len(held) - 1 - least >= AFTER_LEAST
