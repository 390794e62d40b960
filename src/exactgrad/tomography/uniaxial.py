"""The uniaxial model: a voxel scatters A^2 exp(-B sin^2(Theta)), Theta the angle between q and its axis u.

B > 0: strongest along the axis. B < 0: a ring around it. Source: the seed note, with the audit's regular derivatives:
sin(Theta) cos(Theta) dTheta = -cos(Theta) dcos(Theta), so that nothing divides by sin(Theta).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.tomography import model
from exactgrad.tomography.kernel import Kernels
from exactgrad.tomography.projection import Field
from exactgrad.tomography.uniaxial_kernel import KERNELS


@dataclass(frozen=True)
class Uniaxial:
    """The uniaxial model; rows are A, B, ux, uy, uz.

    Examples
    --------
    >>> Uniaxial().density(np.array([[2.0, 1.5, 0.0, 0.0, 1.0]]), np.eye(3)[2:]).tolist()
    [[4.0]]
    """

    name: str = "uniaxial"
    fields: tuple[Field, ...] = (
        Field("A", 1, "sqrt(intensity/edge)", "amplitude: A^2 is the scattering along the axis", scaling=0.5),
        Field("B", 1, "", "anisotropy: > 0 along the axis, < 0 a ring around it"),
        Field("axis", 3, "", "symmetry axis", direction=True, aliases=("u",)),
    )
    kernels: Kernels | None = KERNELS

    def density(self, rows: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return A^2 exp(-B sin^2(Theta)), shape (V, S)."""
        return model.density(rows[:, 0], rows[:, 1], model.cosines(rows[:, 2:], q))

    def density_tangent(self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return its change when the rows change."""
        c, dc = model.cosines(rows[:, 2:], q), model.cosines_tangent(changes[:, 2:], q)
        return model.density_tangent(rows[:, 0], rows[:, 1], c, changes[:, 0], changes[:, 1], dc)

    def density_cotangent(self, rows: np.ndarray, q: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the rows."""
        by_a, by_b, by_c = model.density_cotangent(rows[:, 0], rows[:, 1], model.cosines(rows[:, 2:], q), g)
        return np.column_stack((by_a, by_b, model.cosines_cotangent(by_c, q)))

    def density_cotangent_tangent(
        self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray, g: np.ndarray, dg: np.ndarray
    ) -> np.ndarray:
        """Return the change of `density_cotangent` when rows and g change."""
        a, b, c = rows[:, 0, None], rows[:, 1, None], model.cosines(rows[:, 2:], q)
        da, db, dc = changes[:, 0, None], changes[:, 1, None], model.cosines_tangent(changes[:, 2:], q)
        sine = c * c - 1.0
        e = np.exp(b * sine)
        t = e * g
        dt = e * dg + t * (db * sine + 2.0 * b * c * dc)
        by_c = 4.0 * a * da * b * t * c + 2.0 * a * a * (db * t * c + b * (dt * c + t * dc))
        return np.column_stack(
            (
                np.sum(2.0 * (da * t + a * dt), axis=1),
                np.sum(2.0 * a * da * t * sine + a * a * (dt * sine + 2.0 * t * c * dc), axis=1),
                by_c @ q,
            )
        )

    def start(self, voxels: int, intensity: float, rng: np.random.Generator) -> np.ndarray:
        """Return rows with B near 1, axes in all directions and A for this mean density; never A = 0 or B = 0."""
        rows = np.empty((voxels, 5))
        rows[:, 0] = np.sqrt(intensity / mean_over_sphere(1.0)) * rng.uniform(0.9, 1.1, voxels)
        rows[:, 1] = rng.uniform(0.8, 1.2, voxels)
        axes = rng.normal(size=(voxels, 3))
        rows[:, 2:] = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        return rows


def mean_over_sphere(B: Any) -> np.ndarray:
    """Return the mean of exp(-B sin^2(Theta)) over all directions of q: Dawson's integral, or erf for B < 0.

    Times A^2 it is a voxel's mean intensity.

    Examples
    --------
    >>> float(mean_over_sphere(0.0)), round(float(mean_over_sphere(1.0)), 6)
    (1.0, 0.53808)
    """
    from scipy.special import dawsn, erf

    B = np.asarray(B, dtype=float)
    root = np.sqrt(np.maximum(np.abs(B), 1e-12))  # below, the mean is 1 - 2B/3 to rounding
    with np.errstate(over="ignore"):
        ring = np.exp(root**2) * np.sqrt(np.pi) * erf(root) / (2 * root)
    return np.where(np.abs(B) < 1e-12, 1.0, np.where(B > 0, dawsn(root) / root, ring))
