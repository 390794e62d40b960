"""Where a reconstruction starts: the voxels that are there, the mean intensity of each, a tensor, an axis.

Each of these is a fit of few or linear parameters, so that it finds its minimum from anywhere; the uniaxial model,
which has many, is started from what they found.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.tomography import tensor
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.listening import add_back
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.regularisation import Regularisation

BRIGHT = 0.1  # of the brightest voxel: those above are asked what bright means
BRIGHT_PERCENTILE = 90.0
WITNESSES = 2  # projections: one alone may have a dead region
TENSOR_SMOOTH = 0.1  # in units of the mean density: it is what finds the right sign of B
LEAST_VARIANCE = 0.05  # of the mean intensity: a pixel without counts is not infinitely sure
LEAST_EIGENVALUE = 0.05  # of a tensor, of its largest
FIRST_B = (0.2, 4.0)  # a start at B = 0 would have no axis, one at a large B no gradient


def mean_problem(whole: TomographyProblem) -> TomographyProblem:
    """Return the problem of the amplitudes alone, of voxels that scatter alike in all directions."""
    return whole.with_fields(B=0.0, axis=np.array([0.0, 0.0, 1.0])).with_free("A")


def bright(mean: np.ndarray) -> float:
    """Return the mean intensity of a bright voxel."""
    top = float(mean.max(initial=0.0))
    return float(np.percentile(mean[mean >= BRIGHT * top], BRIGHT_PERCENTILE)) if top > 0 else 0.0


def hull_of(whole: TomographyProblem, threshold: float) -> np.ndarray:
    """Return the voxels that no empty ray contradicts: the sample's visual hull, shape (x, y, z), bool.

    A pixel is empty where its mean over the segments, over the transmission, is at most `threshold` of a bright
    pixel's. A voxel is not there if in `WITNESSES` projections all pixels that it is seen in are empty. What fills a
    concave hole stays; it comes out dark.

    Parameters
    ----------
    whole : TomographyProblem
        Of all voxels.
    threshold : float
    """
    projector, count = whole.projector, whole.geometry.projections
    sums, known = np.zeros(whole.data.shape[:3]), np.zeros(whole.data.shape[:3], bool)
    for n in range(count):
        intensity, weight, through = whole.data.projection(n)
        some = weight > 0
        known[n] = some.any(axis=2) & (through > 0)
        total = np.where(some, intensity, 0.0).sum(axis=2) / np.maximum(some.sum(axis=2), 1)
        sums[n] = np.divide(total, through, out=np.zeros_like(total), where=through > 0)
    if not known.any():
        return np.ones(whole.mask.shape, bool)
    empty = known & (sums <= threshold * np.percentile(sums[known], BRIGHT_PERCENTILE))
    against = np.zeros(whole.voxels, dtype=np.int64)
    rows = np.zeros((whole.voxels, 1))
    for n in range(count):
        found = []
        for pixels in (empty[n], np.ones_like(empty[n])):
            seen = np.zeros((whole.voxels, 1))
            add_back(projector, rows, n, pixels[..., None], lambda rows, q, g: g[:, :1], seen)
            found.append(seen[:, 0])
        against += (found[1] > 0) & (found[0] >= (1 - 1e-9) * found[1])
    mask = np.zeros(whole.mask.shape, bool)
    mask[whole.mask] = against < WITNESSES
    return mask if mask.any() else np.ones_like(mask)


class Variance:
    """Weights of a Gaussian cost, read by projection: the data's own over the smoothed intensity (counts' variance)."""

    dtype = np.dtype(np.float64)

    def __init__(self, data: Dataset, mean_intensity: float):
        self._data, self._least = data, LEAST_VARIANCE * mean_intensity
        self.shape = data.shape

    def __getitem__(self, n: int) -> np.ndarray:
        from scipy.ndimage import uniform_filter

        intensity, weight, _ = self._data.projection(n)
        size = (min(3, intensity.shape[0]), min(3, intensity.shape[1]), 1)
        return weight / np.maximum(uniform_filter(intensity, size), self._least)


def tensor_problem(data: Dataset, mask: np.ndarray, scale: float, threads: int | None) -> TomographyProblem:
    """Return the linear problem of a rank-2 tensor in every voxel, smoothed."""
    weighted = replace(data, weights=Variance(data, _mean_intensity(data)))
    smooth = Regularisation(smooth={"T": TENSOR_SMOOTH * scale})
    return TomographyProblem(
        weighted, model="tensor", cost="gaussian", mask=mask, regularisation=smooth, threads=threads
    )


def _mean_intensity(data: Dataset) -> float:
    total = amount = 0.0
    for n in range(data.geometry.projections):
        intensity, weight, _ = data.projection(n)
        total, amount = total + float((weight * intensity).sum()), amount + float(weight.sum())
    return total / amount if amount > 0 and total > 0 else 1.0


def uniaxial_from_tensor(T: np.ndarray, scale: float) -> dict[str, Any]:
    """Return A, B and axis of tensors, shape (..., 6): the eigenvalue that stands apart says which axis, and the sign.

    Parameters
    ----------
    T : ndarray, shape (..., 6)
        xx, yy, zz, yz, xz, xy; q^T T q is the intensity along q.
    scale : float
        Mean density, below a fiftieth of which no eigenvalue is believed.

    Examples
    --------
    >>> start = uniaxial_from_tensor(np.array([[1.0, 1.0, 4.0, 0, 0, 0], [4.0, 4.0, 1.0, 0, 0, 0]]), 1.0)
    >>> start["B"].round(3).tolist(), np.abs(start["axis"]).round(3).tolist()
    ([1.386, -1.386], [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    """
    values, vectors = np.linalg.eigh(tensor.matrices(T))
    least = LEAST_EIGENVALUE * np.abs(values).max(axis=-1) + 0.02 * scale
    low, middle, high = np.moveaxis(np.maximum(values, least[..., None]), -1, 0)
    is_needle = high * low >= middle**2
    along = np.where(is_needle, high, low)
    across = np.sqrt(middle * np.where(is_needle, low, high))
    size = np.clip(np.abs(np.log(along / across)), *FIRST_B)
    axis = np.where(is_needle[..., None], vectors[..., :, 2], vectors[..., :, 0])
    return {"A": np.sqrt(along), "B": np.where(is_needle, size, -size), "axis": axis}
