"""Even zonal harmonics with an axis (Liebi 2018): a voxel scatters (sum_l a_l P_l(cos Theta))^2, l = 0, 2, 4, ...

P_l are Legendre polynomials, normalised to 1 at the axis; a change of normalisation rescales a_l. The square keeps the
intensity positive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from exactgrad.errors import InputError
from exactgrad.tomography.kernel import Kernels
from exactgrad.tomography.projection import Field
from exactgrad.tomography.zonal_kernel import HIGHEST, LEGENDRE, kernels_of

LOT = 1024  # voxels


@dataclass(frozen=True)
class Zonal:
    """The zonal harmonics model; rows are a_0, a_2, ..., a_order, ux, uy, uz.

    Attributes
    ----------
    order : int
        Highest degree, even.
    is_fused : bool
        False: no fused kernels, the NumPy functions below are what runs.

    Examples
    --------
    >>> Zonal(2).density(np.array([[1.0, 2.0, 0.0, 0.0, 1.0]]), np.eye(3)).round(12).tolist()
    [[0.0, 0.0, 9.0]]
    """

    order: int = 6
    name: str = "zonal"
    is_fused: bool = True

    def __post_init__(self) -> None:
        if self.order not in range(0, HIGHEST + 1, 2):
            raise InputError(f"order = {self.order}: an even degree from 0 to {HIGHEST} is needed")

    @property
    def terms(self) -> int:
        """Number of coefficients."""
        return self.order // 2 + 1

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a row."""
        degrees = ", ".join(str(degree) for degree in range(0, self.order + 1, 2))
        return (
            Field("a", self.terms, "sqrt(intensity/edge)", f"coefficients of degree {degrees}", scaling=0.5),
            Field("axis", 3, "", "symmetry axis", direction=True, aliases=("u",)),
        )

    @cached_property
    def kernels(self) -> Kernels | None:
        """The fused kernels."""
        return kernels_of(self.terms) if self.is_fused else None

    @property
    def _powers(self) -> np.ndarray:
        """P_l(c) = sum_k powers[l/2, k] c^(2k), shape (terms, terms)."""
        return LEGENDRE[: self.terms, : self.terms]

    def _series(self, a: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return h = sum_l a_l P_l as a function of y = c^2, shape (V, S), and its two derivatives by y."""
        b = (a @ self._powers).T[:, :, None]
        h, slope, bend = np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
        for power in b[::-1]:
            bend = bend * y + 2.0 * slope
            slope = slope * y + h
            h = h * y + power
        return h, slope, bend

    def _moments(self, t: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the sums over the segments of t P_l, shape (V, terms)."""
        sums = np.empty((len(t), self.terms))
        for k in range(self.terms):
            sums[:, k] = t.sum(axis=1)
            t = t * y
        return sums @ self._powers.T

    def density(self, rows: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return h(c)^2, shape (V, S)."""
        return _by_lots(lambda rows: self._amplitude(rows, q) ** 2, rows)

    def _amplitude(self, rows: np.ndarray, q: np.ndarray) -> np.ndarray:
        c = rows[:, self.terms :] @ q.T
        return self._series(rows[:, : self.terms], c * c)[0]

    def density_tangent(self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return its change when the rows change."""
        return _by_lots(lambda *parts: self._tangent(q, *parts), rows, changes)

    def _tangent(self, q: np.ndarray, rows: np.ndarray, changes: np.ndarray) -> np.ndarray:
        c, dc = rows[:, self.terms :] @ q.T, changes[:, self.terms :] @ q.T
        h, slope, _ = self._series(rows[:, : self.terms], c * c)
        return 2.0 * h * (self._series(changes[:, : self.terms], c * c)[0] + 2.0 * c * slope * dc)

    def density_cotangent(self, rows: np.ndarray, q: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the rows."""
        return _by_lots(lambda *parts: self._cotangent(q, *parts), rows, g)

    def _cotangent(self, q: np.ndarray, rows: np.ndarray, g: np.ndarray) -> np.ndarray:
        c = rows[:, self.terms :] @ q.T
        h, slope, _ = self._series(rows[:, : self.terms], c * c)
        t = 2.0 * g * h
        return np.column_stack((self._moments(t, c * c), (2.0 * t * slope * c) @ q))

    def density_cotangent_tangent(
        self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray, g: np.ndarray, dg: np.ndarray
    ) -> np.ndarray:
        """Return the change of `density_cotangent` when rows and g change."""
        return _by_lots(lambda *parts: self._cotangent_tangent(q, *parts), rows, changes, g, dg)

    def _cotangent_tangent(
        self, q: np.ndarray, rows: np.ndarray, changes: np.ndarray, g: np.ndarray, dg: np.ndarray
    ) -> np.ndarray:
        c, dc = rows[:, self.terms :] @ q.T, changes[:, self.terms :] @ q.T
        y, dy = c * c, 2.0 * c * dc
        h, slope, bend = self._series(rows[:, : self.terms], y)
        added, added_slope, _ = self._series(changes[:, : self.terms], y)
        t, dt = 2.0 * g * h, 2.0 * (dg * h + g * (added + slope * dy))
        by_a = self._moments(dt, y)
        derivative = self._powers[:, 1:] * np.arange(1, self.terms)
        moving = np.empty((len(t), self.terms - 1))
        bent = t * dy  # P_l changes with y too
        for k in range(self.terms - 1):
            moving[:, k] = bent.sum(axis=1)
            bent = bent * y
        by_a += moving @ derivative.T
        by_c = 2.0 * (dt * slope * c + t * (added_slope + bend * dy) * c + t * slope * dc)
        return np.column_stack((by_a, by_c @ q))

    def start(self, voxels: int, intensity: float, rng: np.random.Generator) -> np.ndarray:
        """Return rows strongest along random axes, of this mean density."""
        rows = np.zeros((voxels, self.terms + 3))
        rows[:, 0] = np.sqrt(intensity) * rng.uniform(0.9, 1.1, voxels)
        if self.terms > 1:
            rows[:, 1] = 0.5 * rows[:, 0]
        axes = rng.normal(size=(voxels, 3))
        rows[:, self.terms :] = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        return rows


def _by_lots(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Return what `function` gives for the arrays, some rows at a time: what is made on the way stays in the cache."""
    lots = range(0, len(arrays[0]), LOT)
    return np.concatenate([function(*(array[first : first + LOT] for array in arrays)) for first in lots])
