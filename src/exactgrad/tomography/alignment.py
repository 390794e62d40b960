"""Offsets of the projections, refined: each projection is moved to where the present volume explains it best.

Before anything else is known, mean intensities alone place the projections (`placed`): misplaced by more than a pixel,
they would contradict every voxel. Cross-correlation of measured and modelled images finds shifts of several pixels.
Every round then takes Gauss-Newton steps with the exact derivatives by the offsets, projection by projection, and keeps
a step only where it lowers the cost. A shift that all projections share, seen from the sample, is no misalignment: it
moves the volume (`without_common_shift`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem

STEPS = 6
LONGEST_STEP = 0.5  # pixels; further the derivative says nothing
HALVINGS = 3
PLACINGS = 12  # most rounds of the mean intensities; they end when none moves any further
COARSE = 0.5  # pixels; voxels that scatter alike in all directions do not tell a smaller shift


def refine(
    problem: TomographyProblem, x: np.ndarray, told: Geometry, most_pixels: float, turn: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return j and k offsets of every projection, pixels, that explain the data better with the volume at x.

    Parameters
    ----------
    problem : TomographyProblem
        With the offsets so far.
    x : ndarray
    told : Geometry
        The file's offsets, from which none goes further than `most_pixels`.
    turn : int
        Cross-correlation is used in turn 0.
    """
    first = np.stack([told.j_offset, told.k_offset], axis=1)
    offsets = np.stack([problem.geometry.j_offset, problem.geometry.k_offset], axis=1)

    def within(wanted: np.ndarray) -> np.ndarray:
        return np.clip(wanted, first - most_pixels, first + most_pixels)

    costs = problem.cost_terms(x)
    if turn == 0:
        offsets, costs = _better(problem, x, offsets, costs, within(offsets + correlation_shifts(problem, x)))
    for _ in range(STEPS):
        step = newton_step(problem.with_offsets(*offsets.T), x)
        length = np.linalg.norm(step, axis=1, keepdims=True)
        step *= np.minimum(1.0, LONGEST_STEP / np.maximum(length, 1e-12))
        for _ in range(HALVINGS):
            before = costs
            offsets, costs = _better(problem, x, offsets, costs, within(offsets + step))
            step = np.where((costs < before)[:, None], 0.0, 0.5 * step)
            if not step.any():
                break
    return offsets[:, 0], offsets[:, 1]


class SegmentMeans:
    """Mean intensities over the segments that have a weight, (n, J, K, 1), read by projection; NaN where none has."""

    dtype = np.dtype(np.float64)

    def __init__(self, data: Dataset):
        self._data, self.shape = data, (*data.shape[:3], 1)

    def __getitem__(self, n: int) -> np.ndarray:
        intensity, weight, _ = self._data.projection(n)
        some = weight > 0
        count = some.sum(axis=2, keepdims=True)
        total = np.where(some, intensity, 0.0).sum(axis=2, keepdims=True)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def segment_means(data: Dataset) -> Dataset:
    """Return the data of voxels that scatter alike in all directions: one segment, the mean of all.

    Examples
    --------
    >>> geometry = Geometry(np.eye(3)[None], (1, 1), (1, 1, 1), [0.0, 1.0])
    >>> segment_means(Dataset(geometry, np.array([[[[1.0, 3.0]]]]))).projection(0)[0].tolist()
    [[[2.0]]]
    """
    single = replace(data.geometry, detector_angles=np.zeros(1), integration="midpoint")
    return replace(data, geometry=single, data=SegmentMeans(data), weights=None)


def placed(problem: TomographyProblem, x: np.ndarray, told: Geometry, most_pixels: float) -> np.ndarray:
    """Return offsets (2, n) of the projections that mean intensities move by more than `COARSE`; others as told.

    Parameters as of `refine`; the problem is that of the amplitudes alone.
    """
    first = np.array([told.j_offset, told.k_offset])
    found = without_common_shift(np.array(refine(problem, x, told, most_pixels)), told)
    is_far = np.hypot(*(found - first)) > COARSE
    return without_common_shift(np.where(is_far, found, first), told)


def _better(
    problem: TomographyProblem, x: np.ndarray, offsets: np.ndarray, costs: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the better offsets of each projection, and their costs."""
    tried = problem.with_offsets(*wanted.T).cost_terms(x)
    is_better = tried < costs
    return np.where(is_better[:, None], wanted, offsets), np.where(is_better, tried, costs)


def newton_step(problem: TomographyProblem, x: np.ndarray) -> np.ndarray:
    """Return the Gauss-Newton step of each projection's offsets, shape (n, 2), pixels."""
    rows, count = problem.rows(x), problem.geometry.projections
    steps = np.zeros((count, 2))
    projector = problem.projector
    for n in range(count):
        intensity, weight, through = problem.data.projection(n)
        modelled = through[..., None] * projector.segments(projector.forward(problem.model, rows, n))
        slope = problem.cost.value_and_slope(modelled, intensity, weight)[1]
        bend = problem.cost.gauss_newton(modelled, intensity, weight)
        slopes = projector.forward_slopes(problem.model, rows, n)
        parts = [through[..., None] * projector.segments(image) for image in slopes]
        gradient = np.array([np.sum(slope * part) for part in parts])
        matrix = np.array([[np.sum(bend * a * b) for b in parts] for a in parts])
        trace = float(np.trace(matrix))
        if trace > 0:
            steps[n] = -np.linalg.solve(matrix + 1e-6 * trace * np.eye(2), gradient)
    return steps


def correlation_shifts(problem: TomographyProblem, x: np.ndarray) -> np.ndarray:
    """Return what cross-correlation adds to each projection's offsets, shape (n, 2), pixels.

    Images are summed over the segments, by the square root of the intensity (so that bright spots do not decide).
    """
    rows, count = problem.rows(x), problem.geometry.projections
    shifts = np.zeros((count, 2))
    for n in range(count):
        intensity, weight, through = problem.data.projection(n)
        modelled = through[..., None] * problem.projector.segments(problem.projector.forward(problem.model, rows, n))
        some = weight > 0
        if some.any():
            images = (np.sqrt(np.maximum(np.where(some, part, 0.0).sum(axis=2), 0.0)) for part in (intensity, modelled))
            shifts[n] = -shift_between(*images)
    return shifts


def shift_between(moved: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Return by how many pixels, shape (2,), `moved` lies further along both axes than `still`.

    The peak of their cross-correlation, to a fraction of a pixel by a parabola through its neighbours.

    Examples
    --------
    >>> still = np.zeros((16, 16))
    >>> still[5:9, 6:10] = 1.0
    >>> shift_between(np.roll(still, (2, -3), (0, 1)), still).round(1).tolist()
    [2.0, -3.0]
    """
    size = [2 * side for side in still.shape]
    product = np.fft.rfft2(moved - moved.mean(), size) * np.fft.rfft2(still - still.mean(), size).conj()
    correlation = np.fft.irfft2(product, size)
    peak = np.unravel_index(np.argmax(correlation), correlation.shape)
    shift = np.empty(2)
    for side in range(2):
        low, high = list(peak), list(peak)
        low[side], high[side] = peak[side] - 1, (peak[side] + 1) % size[side]
        before, at, after = correlation[tuple(low)], correlation[peak], correlation[tuple(high)]
        bend = before - 2 * at + after
        part = 0.5 * (before - after) / bend if bend < 0 else 0.0
        place = peak[side] - size[side] if peak[side] > size[side] // 2 else peak[side]
        shift[side] = place + part
    return shift


def without_common_shift(offsets: np.ndarray, told: Geometry) -> np.ndarray:
    """Return offsets (2, n) less what moving the whole sample would do to the offsets that the file tells.

    Such a shift moves the volume and explains no data better; the least squares leave none of it in the change.

    Examples
    --------
    >>> geometry = Geometry(np.stack([np.eye(3), -np.eye(3)[[1, 0, 2]]]), (4, 4), (4, 4, 4), [0.0])
    >>> moved = np.array([geometry.directions()[i] @ [0.3, -0.2, 0.1] for i in (1, 2)])
    >>> float(np.abs(without_common_shift(moved, geometry)).max().round(12))
    0.0
    """
    _, along_j, along_k = told.directions()
    frames = np.concatenate([along_j, along_k])
    change = np.concatenate([offsets[0] - told.j_offset, offsets[1] - told.k_offset])
    change -= frames @ np.linalg.lstsq(frames, change, rcond=None)[0]
    return np.array([told.j_offset, told.k_offset]) + change.reshape(2, -1)
