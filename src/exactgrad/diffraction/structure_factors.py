"""Structure factors of the unit cell: a block of F(h, k, l), and one value for everything outside it.

Unit: electrons. Between reflections F is that of the nearest one, or a cubic through four points along each axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from exactgrad.errors import InputError, require_finite, require_range, require_shape

MOST_ENTRIES = 64_000_000  # 512 MB
LARGEST_INDEX = 1_000_000


@dataclass(frozen=True)
class StructureFactors:
    """F of every reflection.

    Attributes
    ----------
    table : ndarray, shape (H, K, L) or (S, H, K, L)
        F for h = lowest[0] ... lowest[0] + H - 1, and so on; of no size if there is no list. With an axis in front
        each of a beam's S sources has its own, as anomalous scattering at its wavelength wants.
    lowest : ndarray of int, shape (3,)
        The smallest indices.
    default : float
        F of every reflection outside the table.
    interpolate : bool
        Cubic interpolation where four points along each axis are at hand, with one to spare at the upper side, as in
        the C program; the nearest reflection elsewhere.

    Raises
    ------
    InputError
        If a value is not finite, or there is neither a table nor a default.

    Examples
    --------
    >>> factors = StructureFactors.from_list([[0, 0, 1], [0, 0, 3]], [10.0, 30.0], default=1.0)
    >>> factors.nearest(np.array([[0.1, -0.2, 2.9], [0, 0, 2], [5, 0, 0]]))
    array([30.,  1.,  1.])
    """

    table: np.ndarray
    lowest: Any = (0, 0, 0)
    default: float = 0.0
    interpolate: bool = False

    def __post_init__(self) -> None:
        table = require_finite("F", self.table)
        table = require_shape("structure_factors.table", table, (None,) * (4 if table.ndim == 4 else 3))
        if table.size > MOST_ENTRIES:
            raise InputError(f"structure_factors.table: shape {table.shape}; at most {MOST_ENTRIES} entries are held")
        require_range("structure_factors.default", self.default, "electrons")
        if table.size == 0 and self.default == 0:
            raise InputError("structure_factors: no reflections and default_F = 0: nothing would be seen")
        lowest = require_shape("structure_factors.lowest", np.asarray(self.lowest, dtype=np.int64), (3,))
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "lowest", lowest)

    @property
    def sides(self) -> tuple[int, ...]:
        """Numbers of indices (H, K, L) in the table."""
        return self.table.shape[-3:]

    @property
    def tables(self) -> int:
        """How many tables there are: 1, or one for each source."""
        return len(self.table) if self.table.ndim == 4 else 1

    def of_source(self, source: int) -> StructureFactors:
        """Return what one source sees."""
        return replace(self, table=self.table[source]) if self.table.ndim == 4 else self

    @classmethod
    def constant(cls, value: float) -> StructureFactors:
        """The same F everywhere."""
        return cls(np.empty((0, 0, 0)), default=value)

    @classmethod
    def from_list(cls, hkl: Any, f: Any, default: float = 0.0, interpolate: bool = False) -> StructureFactors:
        """Structure factors of listed reflections, hkl of shape (n, 3), f of shape (n,); of repeats the last counts.

        Raises
        ------
        InputError
            If a shape differs, an index is not whole, or the block that holds all reflections is too large.
        """
        indices = require_shape("hkl", require_finite("hkl", hkl), (None, 3))
        values = require_shape("F", require_finite("F", f, "electrons"), (len(indices),))
        if len(indices) == 0:
            raise InputError("hkl: no reflections")
        if (indices != np.rint(indices)).any() or np.abs(indices).max() > LARGEST_INDEX:
            raise InputError(f"hkl: whole numbers of at most {LARGEST_INDEX} in magnitude are needed")
        whole = indices.astype(np.int64)
        lowest, highest = whole.min(axis=0), whole.max(axis=0)
        sides = [int(side) for side in highest - lowest + 1]
        if sides[0] * sides[1] * sides[2] > MOST_ENTRIES:
            raise InputError(f"hkl: the block of all indices has {sides} entries; at most {MOST_ENTRIES} are held")
        table = np.full(sides, float(default))
        table[tuple((whole - lowest).T)] = values
        return cls(table, lowest, default, interpolate)

    @classmethod
    def from_lists(cls, hkl: Any, f: Any, default: float = 0.0, interpolate: bool = False) -> StructureFactors:
        """As `from_list`, the reflections `hkl` with f of shape (S, n): each source's own."""
        values = require_shape("F", require_finite("F", f, "electrons"), (None, None))
        if len(values) == 0:
            raise InputError("F: no sources")
        first = cls.from_list(hkl, values[0], default, interpolate)
        if len(values) * first.table.size > MOST_ENTRIES:
            shape = (len(values), *first.table.shape)
            raise InputError(f"F: {shape} entries, one block for each source; at most {MOST_ENTRIES} are held")
        tables = np.empty((len(values), *first.table.shape))
        for source, row in enumerate(values):
            tables[source] = cls.from_list(hkl, row, default).table
        return replace(first, table=tables)

    def at(self, miller: np.ndarray) -> np.ndarray:
        """Return F at fractional indices, shape (n, 3); of one source, see `of_source`."""
        if not self.interpolate or self.table.size == 0:
            return self.nearest(miller)
        inside = ((miller >= self.lowest + 2) & (miller <= self.lowest + np.array(self.table.shape) - 3)).all(axis=-1)
        values = self.nearest(miller)
        values[inside] = self.tricubic(miller[inside])
        return values

    def nearest(self, miller: np.ndarray) -> np.ndarray:
        """Return F of the nearest reflection; halfway goes down, as in the C program."""
        if self.table.size == 0:
            return np.full(len(miller), float(self.default))
        place = np.ceil(miller - 0.5).astype(np.int64) - self.lowest
        inside = ((place >= 0) & (place < self.table.shape)).all(axis=-1)
        return np.where(inside, self.table[tuple(np.where(inside[:, None], place, 0).T)], self.default)

    def tricubic(self, miller: np.ndarray) -> np.ndarray:
        """Return the tensor product of 4-point Lagrange cubics over floor - 1 ... floor + 2 of each index."""
        floor = np.floor(miller)
        weights = lagrange_weights(miller - floor)
        place = floor.astype(np.int64) - self.lowest - 1
        values = np.zeros(len(miller))
        for i, j, k in product(range(4), repeat=3):
            entries = self.table[place[:, 0] + i, place[:, 1] + j, place[:, 2] + k]
            values += weights[i, :, 0] * weights[j, :, 1] * weights[k, :, 2] * entries
        return values


def lagrange_weights(x: np.ndarray) -> np.ndarray:
    """Return the weights, shape (4, ...), of the points -1, 0, 1, 2 in the cubic through them, at x in [0, 1).

    Examples
    --------
    >>> lagrange_weights(np.array(0.5)).tolist()
    [-0.0625, 0.5625, 0.5625, -0.0625]
    """
    return np.stack(
        [
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        ]
    )
