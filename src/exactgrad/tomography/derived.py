"""What follows from A, B and the axis of a voxel: mean intensity, second moments, anisotropy; closed forms.

With c the cosine between axis and q, f = A^2 exp(-B (1 - c^2)), and means over the sphere:
<f> = A^2 m0, <c^2 f> = A^2 m2, m0 = Dawson(sqrt B) / sqrt B for B > 0, and for B < 0
exp|B| sqrt(pi) erf(sqrt|B|) / (2 sqrt|B|); by parts, m2 = (1 - m0) / (2 B).
"""

from __future__ import annotations

from typing import Any

import numpy as np

SERIES_BELOW = 0.1  # |B|: there m2's difference of nearly equal numbers would cost digits
LARGEST_B = 700.0  # exp of more overflows
_SERIES_TERMS = 12


def sphere_means(B: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return m0 = <exp(-B (1 - c^2))> and m2 = <c^2 exp(-B (1 - c^2))> over the sphere, of the shape of `B`.

    Examples
    --------
    >>> [m.round(6).tolist() for m in sphere_means([0.0, 1.0])]
    [[1.0, 0.53808], [0.333333, 0.23096]]
    """
    from scipy.special import dawsn, erf

    sharpness = np.maximum(np.asarray(B, float), -LARGEST_B)
    root = np.sqrt(np.maximum(np.abs(sharpness), SERIES_BELOW))
    needle = dawsn(root) / root
    ring = np.exp(np.where(sharpness > 0, 0.0, root**2)) * np.sqrt(np.pi) * erf(root) / (2 * root)
    m0 = np.where(sharpness > 0, needle, ring)
    m2 = (1 - m0) / (2 * np.where(sharpness > 0, root**2, -(root**2)))
    is_small = np.abs(sharpness) < SERIES_BELOW
    few = np.where(is_small, sharpness, 0.0)
    return np.where(is_small, _series(few, 0), m0), np.where(is_small, _series(few, 1), m2)


def _series(B: np.ndarray, power: int) -> np.ndarray:
    """exp(-B) times the integral of c^(2 power) exp(B c^2) from 0 to 1, summed term by term."""
    total, term = np.zeros_like(B), np.ones_like(B)
    for k in range(_SERIES_TERMS):
        total = total + term / (2 * k + 2 * power + 1)
        term = term * B / (k + 1)
    return np.exp(-B) * total


def mean_intensity(A: Any, B: Any) -> np.ndarray:
    """Return <f>, the intensity averaged over all scattering directions, in the unit of A^2.

    Examples
    --------
    >>> float(mean_intensity(2.0, 0.0))
    4.0
    """
    return np.asarray(A, float) ** 2 * sphere_means(B)[0]


def second_moments(A: Any, B: Any, axis: np.ndarray) -> np.ndarray:
    """Return <q q^T f>, shape (..., 3, 3), of A and B of shape (...) and unit axes (..., 3); its trace is <f>."""
    m0, m2 = sphere_means(B)
    across = (m0 - m2) / 2
    square = np.asarray(A, float) ** 2
    outer = axis[..., :, None] * axis[..., None, :]
    return square[..., None, None] * ((m2 - across)[..., None, None] * outer + across[..., None, None] * np.eye(3))


def anisotropy(B: Any) -> np.ndarray:
    """Return the fractional anisotropy of the second moments, 0 for B = 0, towards 1 for needles, 0.71 for rings.

    Examples
    --------
    >>> [round(float(v), 3) for v in anisotropy([0.0, 1000.0, -500.0])]
    [0.0, 0.999, 0.706]
    """
    m0, m2 = sphere_means(B)
    across = (m0 - m2) / 2
    return np.abs(m2 - across) / np.hypot(m2, np.sqrt(2) * across)


def eigen(A: Any, B: Any, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues (..., 3), ascending, and eigenvectors (..., 3, 3), one a column, of the second moments."""
    return np.linalg.eigh(second_moments(A, B, axis))
