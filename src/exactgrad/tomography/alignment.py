"""Offsets of the projections, refined: each projection is moved to where the present volume explains it best.

The first round compares measured and modelled images by cross-correlation, which finds shifts of several pixels; every
round then takes Gauss-Newton steps with the exact derivatives by the offsets, projection by projection, and keeps a
step only where it lowers the cost. A shift that all projections share, seen from the sample, is no misalignment: it
moves the volume, and is left alone.
"""

from __future__ import annotations

import numpy as np

from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem

STEPS = 6
LONGEST_STEP = 0.5  # pixels; further the derivative says nothing
HALVINGS = 3


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
