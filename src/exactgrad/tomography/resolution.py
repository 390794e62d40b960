"""Resolution from two halves of the projections: reconstructed apart, they share the sample and not the noise.

Fourier shell correlation of the mean intensity: the correlation of the two volumes' Fourier coefficients within shells
of spatial frequency. The resolution is where it falls below the half-bit threshold of van Heel and Schatz (2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.tomography import choose_weight, derived
from exactgrad.tomography.compare import axis_error_deg
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.scaling import minimised
from exactgrad.tomography.stages import Journal, Plan

SHARP = 1.0


@dataclass(frozen=True)
class Halves:
    """What two halves of the data say of each other.

    Attributes
    ----------
    frequency : ndarray, shape (F,)
        Centres of the shells, cycles per voxel edge.
    correlation, threshold : ndarray, shape (F,)
        Fourier shell correlation of the mean intensity, and the half-bit threshold.
    axis_deg : ndarray, shape (x, y, z)
        Angle between the halves' axes; NaN outside the mask.
    same_sign : float
        Share of the voxels whose B has the same sign in both.
    """

    frequency: np.ndarray
    correlation: np.ndarray
    threshold: np.ndarray
    axis_deg: np.ndarray
    same_sign: float

    def resolution(self) -> float:
        """Return the resolution in voxel edges: 2 where all shells agree."""
        below = np.flatnonzero(self.correlation < self.threshold)
        if not below.size:
            return 2.0
        return float(1.0 / max(self.frequency[below[0]], 1e-9))

    def numbers(self) -> dict[str, Any]:
        """Return what a summary says of it."""
        known = self.axis_deg[np.isfinite(self.axis_deg)]
        return {
            "resolution_voxels": self.resolution(),
            "half_axis_median_deg": float(np.median(known)) if known.size else None,
            "half_same_sign_fraction": self.same_sign,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what result.h5 holds of it."""
        return {
            "halves/frequency": self.frequency,
            "halves/correlation": self.correlation,
            "halves/threshold": self.threshold,
            "halves/axis_deg": self.axis_deg,
        }


def split_half(plan: Plan, journal: Journal, problem: TomographyProblem, x: np.ndarray) -> Halves:
    """Reconstruct every second projection and the others, and compare.

    Both start from the tensors' axes and signs, not from the result, so that they agree where the data make them
    agree; the weight is halved with the data.
    """
    start = plan.first_fields(journal)
    found = []
    for first in (0, 1):
        chosen = np.arange(first, problem.geometry.projections, 2)
        half = problem.with_data(problem.data.subset(chosen))
        unit = 0.5 * plan.unit(journal)
        y = half.vector(**start)
        for weight in (10 * plan.weight(journal), plan.weight(journal)):
            half = half.with_regularisation(
                choose_weight.regularisation_of(plan.job.regularisation, weight, 2 * unit, problem.regularisation.light)
            )
            y = minimised(half, y, unit, plan.threads)
        found.append(half.fields(y))
    return compare(found[0], found[1], problem.fields(x), problem.mask)


def compare(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray], both: dict[str, np.ndarray], mask: np.ndarray
) -> Halves:
    """Return what two reconstructions, fields by name, say of each other where the common one is sharp."""
    means = [np.where(mask, derived.mean_intensity(half["A"], half["B"]), 0.0) for half in (one, other)]
    frequency, correlation, threshold = shell_correlation(*means)
    judged = mask & (np.abs(both["B"]) > SHARP)
    angle = np.full(mask.shape, np.nan)
    angle[judged] = axis_error_deg(one["axis"][judged], other["axis"][judged])
    same = (np.sign(one["B"]) == np.sign(other["B"]))[judged]
    return Halves(frequency, correlation, threshold, angle, float(same.mean()) if same.size else 0.0)


def shell_correlation(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shells' frequencies (cycles per voxel edge), correlation and half-bit threshold of two volumes.

    Examples
    --------
    >>> volume = np.random.default_rng(0).normal(size=(8, 8, 8))
    >>> shell_correlation(volume, 2 * volume)[1].round(12).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    a, b = np.fft.fftn(one), np.fft.fftn(other)
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in one.shape), indexing="ij")))
    shells = max(2, min(one.shape) // 2)
    index = np.minimum((radius * 2 * shells + 0.5).astype(int), shells + 1)
    frequency, correlation, threshold = [], [], []
    for shell in range(1, shells + 1):
        inside = index == shell
        power = np.sqrt(np.sum(np.abs(a[inside]) ** 2) * np.sum(np.abs(b[inside]) ** 2))
        frequency.append(shell / (2 * shells))
        correlation.append(float(np.sum(a[inside] * b[inside].conj()).real / power) if power > 0 else 0.0)
        root = np.sqrt(max(int(inside.sum()), 1))
        threshold.append(min(1.0, (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)))
    return np.array(frequency), np.array(correlation), np.array(threshold)
