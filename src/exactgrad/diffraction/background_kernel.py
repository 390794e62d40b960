"""The background under the spots, fused: the best plane of every region, by Newton's method on its own pixels.

The losses are those of `losses`, the equation sheet, less what does not depend on the expected photons; the second
derivative is exact here. A region ends when it has converged, and a step that would not lower its loss is halved.

Where no photon was counted nothing but a steep parabola keeps a plane from going below zero. Against many such walls
Newton's method jams, so they begin soft and harden; the last are the loss's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exactgrad.kernels.compile import compiled, inlined, scalar

POISSON, GAUSSIAN, STUDENT, HUBER = range(4)
FLOOR, WALL = 1e-6, 1e-4  # of `losses`
FIRST_WALL = 0.3  # photons
HARDER = 0.25  # a wall, of the one before: a wall gives way by the square of its own, times some ten
MINUS_LOG_FLOOR = -float(np.log(FLOOR))
MOST_STEPS = 60
SETTLED = 1e-20  # squared length of a step, in standard errors
NEARLY = 1e-8  # the same, before a wall hardens
ROUNDED = 1e-14  # the same, where steps become shorter no more
LEAST_CURVED = 0.01  # part of the expected second derivative that stands in where a loss curves less, or down
LEAST_POISSON = 1e-4  # the same for counts, which never curve down: no light curves nothing
LEAST_SHARE = 1e-6  # of a step
NO_WORSE = 1e-13  # of a loss: rounding


@inlined
def _poisson(expected: float, photons: float, shift: float, wall: float) -> tuple[float, float, float, float]:
    """Return value, derivative, second derivative and the expected one; `shift` is the read-out's variance."""
    n, m = photons + shift, expected + shift
    if m > FLOOR:
        value = m - n * np.log(m) if n != 0.0 else m
        return value, 1.0 - n / m, n / (m * m), 1.0 / m
    below = (m - FLOOR) / FLOOR
    value = m + n * (below * (0.5 * below - 1.0) + MINUS_LOG_FLOOR)
    first, second = 1.0 + n * (below - 1.0) / FLOOR, n / (FLOOR * FLOOR)
    if m < 0.0 and n < 1.0:
        own = wall if n >= 0.0 else FLOOR
        steep, negative = 1.0 - n, m / own
        value += 0.5 * steep * negative * negative
        first += steep * negative / own
        second += steep / (own * own)
    return value, first, second, 1.0 / FLOOR


@inlined
def _of_residual(kind: int, z: float, shape: float, information: float) -> tuple[float, float, float, float]:
    """Return the same of a loss of z = (expected - photons)/sigma, by z; `shape` is the freedom or the bend."""
    if kind == GAUSSIAN:
        return 0.5 * z * z, z, 1.0, information
    if kind == STUDENT:
        own = shape + z * z
        first, second = (shape + 1.0) * z / own, (shape + 1.0) * (shape - z * z) / (own * own)
        return 0.5 * (shape + 1.0) * np.log1p(z * z / shape), first, second, information
    bent = min(max(z, -shape), shape)
    return bent * (z - 0.5 * bent), bent, 1.0 if abs(z) < shape else 0.0, information


@inlined
def _inverse(pivot: float) -> float:
    return 1.0 / pivot if pivot > 0.0 else 0.0


@inlined
def _sum(
    kind: int,
    shape: float,
    information: float,
    spots: np.ndarray,
    photons: np.ndarray,
    noise: np.ndarray,
    basis: np.ndarray,
    pixels: tuple[int, int],
    plane: Any,
    wall: float,
    sums: np.ndarray,
) -> None:
    """Put the loss of a region into `sums`, then its gradient (3) and the upper half of its curvature (6)."""
    total = g0 = g1 = g2 = h00 = h01 = h02 = h11 = h12 = h22 = 0.0
    for i in range(pixels[0], pixels[1]):
        b0, b1, b2 = basis[i, 0], basis[i, 1], basis[i, 2]
        expected = spots[i] + (b0 * plane[0] + b1 * plane[1] + b2 * plane[2])
        if kind == POISSON:
            value, first, second, weight = _poisson(expected, photons[i], noise[i], wall)
            second = max(second, LEAST_POISSON * weight)
        else:
            per_sigma = 1.0 / noise[i]
            value, first, second, weight = _of_residual(kind, (expected - photons[i]) * per_sigma, shape, information)
            first, second = first * per_sigma, max(second, LEAST_CURVED * weight) * per_sigma**2
        total += value
        g0, g1, g2 = g0 + first * b0, g1 + first * b1, g2 + first * b2
        s0, s1, s2 = second * b0, second * b1, second * b2
        h00, h01, h02 = h00 + s0 * b0, h01 + s0 * b1, h02 + s0 * b2
        h11, h12, h22 = h11 + s1 * b1, h12 + s1 * b2, h22 + s2 * b2
    sums[0], sums[1], sums[2], sums[3] = total, g0, g1, g2
    sums[4], sums[5], sums[6], sums[7], sums[8], sums[9] = h00, h01, h02, h11, h12, h22


@inlined
def _newton(sums: np.ndarray, step: np.ndarray) -> float:
    """Solve for Newton's step, 0 in what the region does not have; return its squared length in standard errors."""
    d0 = _inverse(sums[4])
    l1, l2 = sums[5] * d0, sums[6] * d0
    d1 = _inverse(sums[7] - l1 * sums[5])
    off = sums[8] - l1 * sums[6]
    l3 = off * d1
    d2 = _inverse(sums[9] - l2 * sums[6] - l3 * off)
    y0 = -sums[1]
    y1 = -sums[2] - l1 * y0
    y2 = -sums[3] - l2 * y0 - l3 * y1
    step[2] = y2 * d2
    step[1] = y1 * d1 - l3 * step[2]
    step[0] = y0 * d0 - l1 * step[1] - l2 * step[2]
    return abs(sums[1] * step[0] + sums[2] * step[1] + sums[3] * step[2])


@scalar
def _minimise(
    kind: int,
    shape: float,
    information: float,
    spots: np.ndarray,
    photons: np.ndarray,
    noise: np.ndarray,
    basis: np.ndarray,
    pixels: tuple[int, int],
    plane: np.ndarray,
    wall: float,
    settled: float,
    work: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Bring one plane to the least of its region's loss."""
    sums, trial, step, tried = work
    _sum(kind, shape, information, spots, photons, noise, basis, pixels, plane, wall, sums)
    length, share = _newton(sums, step), 1.0
    for _ in range(MOST_STEPS):
        for i in range(3):
            tried[i] = plane[i] + share * step[i]
        _sum(kind, shape, information, spots, photons, noise, basis, pixels, tried, wall, trial)
        if trial[0] > sums[0] + NO_WORSE * abs(sums[0]) and share > LEAST_SHARE:
            share *= 0.5
            continue
        plane[:] = tried
        sums[:] = trial
        share, last = 1.0, length
        length = _newton(sums, step)
        if length < settled or (length < ROUNDED and length >= 0.5 * last):
            break


@scalar
def _held(spots: np.ndarray, noise: np.ndarray, basis: np.ndarray, pixels: tuple[int, int], plane: np.ndarray) -> bool:
    """Return whether a wall holds a plane: whether anything is below zero."""
    for i in range(pixels[0], pixels[1]):
        if spots[i] + noise[i] + (basis[i, 0] * plane[0] + basis[i, 1] * plane[1] + basis[i, 2] * plane[2]) < 0.0:
            return True
    return False


@compiled(
    "void(int64, float64, float64, float64[::1], float64[::1], float64[::1], float64[:, ::1], int64[::1],"
    " float64[:, ::1])"
)
def fit(
    kind: int,
    shape: float,
    information: float,
    spots: np.ndarray,
    photons: np.ndarray,
    noise: np.ndarray,
    basis: np.ndarray,
    firsts: np.ndarray,
    planes: np.ndarray,
) -> None:
    """Bring the planes, shape (R, 3), from where they are to the best under the spots.

    Pixels of region r are those from `firsts[r]` to `firsts[r + 1]`; `noise` is sigma, or the read-out's variance.
    """
    work = np.zeros(10), np.zeros(10), np.zeros(3), np.zeros(3)
    for region in range(len(firsts) - 1):
        pixels, plane = (firsts[region], firsts[region + 1]), planes[region]
        if pixels[0] == pixels[1]:
            continue
        wall = FIRST_WALL if kind == POISSON else WALL
        while wall > WALL:
            _minimise(kind, shape, information, spots, photons, noise, basis, pixels, plane, wall, NEARLY, work)
            wall = max(HARDER * wall, WALL) if _held(spots, noise, basis, pixels, plane) else WALL
        _minimise(kind, shape, information, spots, photons, noise, basis, pixels, plane, WALL, SETTLED, work)
