"""The rank-2 tensor model (IRTT, Gao 2019): a voxel scatters q^T T q, linear in the six entries of T.

Linear, so convex: what the uniaxial model is started from. Its eigenvector of the largest (smallest) eigenvalue is the
axis of a voxel with B > 0 (B < 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.tomography.kernel import Kernels
from exactgrad.tomography.projection import Field
from exactgrad.tomography.tensor_kernel import KERNELS

ENTRIES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # xx, yy, zz, yz, xz, xy


@dataclass(frozen=True)
class Tensor:
    """The rank-2 tensor model; rows are T_xx, T_yy, T_zz, T_yz, T_xz, T_xy.

    Examples
    --------
    >>> Tensor().density(np.array([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]]), np.eye(3)).tolist()
    [[1.0, 2.0, 3.0]]
    """

    name: str = "tensor"
    fields: tuple[Field, ...] = (
        Field("T", 6, "intensity/edge", "scattering tensor: xx, yy, zz, yz, xz, xy", scaling=1.0),
    )
    kernels: Kernels | None = KERNELS

    def density(self, rows: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return q^T T q, shape (V, S)."""
        return rows @ products(q).T

    def density_tangent(self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return its change: the model is linear."""
        return changes @ products(q).T

    def density_cotangent(self, rows: np.ndarray, q: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the rows."""
        return g @ products(q)

    def density_cotangent_tangent(
        self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray, g: np.ndarray, dg: np.ndarray
    ) -> np.ndarray:
        """Return the change of `density_cotangent`."""
        return dg @ products(q)

    def start(self, voxels: int, intensity: float, rng: np.random.Generator) -> np.ndarray:
        """Return nearly isotropic tensors of this mean density."""
        rows = np.zeros((voxels, 6))
        rows[:, :3] = intensity
        return rows + 0.05 * intensity * rng.normal(size=(voxels, 6))


def products(q: np.ndarray) -> np.ndarray:
    """Return what multiplies the six entries in q^T T q, shape (S, 6): off the diagonal each counts twice."""
    return np.stack([q[:, i] * q[:, k] * (1.0 if i == k else 2.0) for i, k in ENTRIES], axis=1)


def matrices(T: Any) -> np.ndarray:
    """Return the symmetric matrices, shape (..., 3, 3), of six entries, shape (..., 6).

    Examples
    --------
    >>> matrices([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).tolist()
    [[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]
    """
    T = np.asarray(T, dtype=float)
    full = np.empty((*T.shape[:-1], 3, 3))
    for entry, (i, k) in enumerate(ENTRIES):
        full[..., i, k] = full[..., k, i] = T[..., entry]
    return full
