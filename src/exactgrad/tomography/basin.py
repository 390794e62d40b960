"""The basin a voxel is in: needles and rings explain each other's data half-way, and no gradient leads from one to the
other.

A needle (B > 0) along u and rings (B < 0) whose axis lies across u share their strongest directions. Every voxel is
offered both signs of B with axes across its own, and its own sign with such axes; what an offer would cost is told by
the data to second order, the other voxels as they are. Offers that lower the cost are taken, at most one in a
neighbourhood, and a fit of all voxels then decides whether the data are explained better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exactgrad.tomography.basin_kernel import FIELDS, KERNELS, OWN, SUMS
from exactgrad.tomography.curvature import FOOTPRINT
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.projection import Fields, Scan, fields_of

ANGLES = 4  # axes across a voxel's own, over half a turn
SHARPNESS = (1.0, 2.5)  # |B| of the offers
WORTH = 2.0  # least gain that is evidence, where a parameter without meaning gains a half (the cost's unit for counts)


@dataclass(frozen=True)
class Offers:
    """Other shapes for every voxel.

    Attributes
    ----------
    B : ndarray, shape (C, V)
    axis : ndarray, shape (C, V, 3)
    """

    B: np.ndarray
    axis: np.ndarray


def offers_of(rows: np.ndarray, turn: int = 0) -> Offers:
    """Return the shapes offered to voxels with these rows (A, B, axis); each turn looks in between the last angles."""
    own, sign = rows[:, 2:], np.where(rows[:, 1] >= 0, 1.0, -1.0)
    first = np.cross(own, np.eye(3)[np.argmin(np.abs(own), axis=1)])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(own, first)
    angles = (np.arange(ANGLES) + 0.5 * (turn % 2)) * np.pi / ANGLES
    across = [np.cos(angle) * first + np.sin(angle) * second for angle in angles]
    B, axis = [-SHARPNESS[0] * sign], [own]
    for sharpness in SHARPNESS:
        B += [-sharpness * sign] * ANGLES
        axis += across
    B += [np.clip(np.abs(rows[:, 1]), *SHARPNESS) * sign] * ANGLES
    axis += across
    return Offers(np.array(B), np.array(axis))


def changes(problem: TomographyProblem, x: np.ndarray, offers: Offers) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much each offer, at its best amplitude, changes the cost, and that amplitude; shape (C, V)."""
    rows = problem.rows(x)
    fields, offered = fields_of(rows), _offered(offers)

    def add(scan: Scan, slope: np.ndarray, bend: np.ndarray, sums: np.ndarray) -> None:
        KERNELS.backward_tangent(fields, offered, *scan, slope, bend, sums)

    sums = problem.sum_of_slopes(rows, add, OWN + SUMS * len(offers.B))
    (g_f, h_f_f), (g_phi, h_phi_phi, h_phi_f) = sums[:OWN], sums[OWN:].reshape(-1, SUMS, problem.voxels).swapaxes(0, 1)
    h_phi_phi, h_phi_f, h_f_f = (FOOTPRINT * h for h in (h_phi_phi, h_phi_f, h_f_f))
    best = np.divide(h_phi_f - g_phi, h_phi_phi, out=np.zeros_like(g_phi), where=h_phi_phi > 0)
    power = np.maximum(best, 0.0)
    change = power * g_phi - g_f + 0.5 * (power**2 * h_phi_phi - 2 * power * h_phi_f + h_f_f)
    return change, np.sqrt(power)


def _offered(offers: Offers) -> Fields:
    """Return what the kernel is told of offers: their fields, with A = 1, one offer after the other."""
    values = np.ones((len(offers.B), FIELDS, offers.B.shape[1]))
    values[:, 1], values[:, 2:] = offers.B, offers.axis.swapaxes(1, 2)
    listed = values.reshape(-1, offers.B.shape[1])
    return listed, np.ones(len(listed)), -1


def swapped(problem: TomographyProblem, x: np.ndarray, turn: int = 0) -> tuple[np.ndarray, int] | None:
    """Return x with voxels moved to the offers that promise a lower cost, and how many; None if none does."""
    rows = problem.rows(x)
    offers = offers_of(rows, turn)
    change, amplitude = changes(problem, x, offers)
    chosen = np.argmin(change, axis=0)
    at = (chosen, np.arange(len(rows)))
    gain = -change[at]
    least = WORTH * min(1.0, spread(problem, x))
    taken = _best_of_neighbourhood(problem.mask, gain) & (gain > least) & (amplitude[at] > 0)
    if not taken.any():
        return None
    moved = rows.copy()
    moved[taken, 0], moved[taken, 1] = amplitude[at][taken], offers.B[at][taken]
    moved[taken, 2:] = offers.axis[at][taken]
    return problem.vector(x, **problem.volumes(moved)), int(taken.sum())


def spread(problem: TomographyProblem, x: np.ndarray) -> float:
    """Return the cost of a measured value, times two: 1 for counts, 0 where the model explains everything."""
    values = sum(int(np.count_nonzero(problem.data.projection(n)[1])) for n in range(problem.geometry.projections))
    return 2.0 * float(problem.cost_terms(x).sum()) / max(values, 1)


def _best_of_neighbourhood(mask: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return the voxels whose gain is the largest among their 26 neighbours: two next to each other gain the same."""
    from scipy.ndimage import maximum_filter

    volume = np.full(mask.shape, -np.inf)
    volume[mask] = gain
    return (volume >= maximum_filter(volume, size=3, mode="constant", cval=-np.inf))[mask]
