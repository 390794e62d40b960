"""The projections of a scan: rays and segments ready for the kernel, and a model's density carried through them.

`kernel.py` says what `fields`, `frame`, `ray`, `q` and `share` are. A model with fused kernels (`Kernels`) never holds
its density; any other model gives it as NumPy arrays, which a projection holds for all active voxels at once.

Rows (V, P) are views of arrays that lie field by field, (P, V), in memory: what a kernel reads and adds to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from exactgrad.tomography import kernel
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.kernel import Kernels


@dataclass(frozen=True)
class Field:
    """One field of a model.

    Attributes
    ----------
    name : str
    components : int
        Columns in the model's rows.
    unit : str
        "" where it has none; "sqrt(intensity/edge)" and "intensity/edge" scale with the data.
    meaning : str
        One phrase.
    scaling : float
        The field goes as the data to this power; 0 where it does not.
    direction : bool
        True for a unit vector: solvers move an unnormalised one.
    aliases : tuple of str
    """

    name: str
    components: int
    unit: str
    meaning: str
    scaling: float = 0.0
    direction: bool = False
    aliases: tuple[str, ...] = ()


class Model(Protocol):
    """What a voxel scatters along a unit vector q, of a few fields. A new model is one file with one of these.

    `rows` (V, P) holds the fields of V voxels side by side, in the order of `fields`; directions are unit vectors.
    """

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields, in the order of the rows."""

    @property
    def kernels(self) -> Kernels | None:
        """Fused kernels, where the model has them."""

    def density(self, rows: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return the scattering of each voxel, shape (V, S), along unit vectors q, shape (S, 3)."""

    def density_tangent(self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Return its change, shape (V, S), when the rows change."""

    def density_cotangent(self, rows: np.ndarray, q: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the gradient by the rows, shape (V, P), where g, shape (V, S), is the one by the density."""

    def density_cotangent_tangent(
        self, rows: np.ndarray, changes: np.ndarray, q: np.ndarray, g: np.ndarray, dg: np.ndarray
    ) -> np.ndarray:
        """Return the change of `density_cotangent` when rows and g change."""

    def start(self, voxels: int, intensity: float, rng: np.random.Generator) -> np.ndarray:
        """Return rows to start from, whose density is about `intensity` on average."""


Fields = tuple[np.ndarray, np.ndarray, int]  # values (P, V), units (P,), and where a vector of any length begins, or -1
Slab = tuple[int, int]  # planes of constant x, from and to
Scan = tuple[np.ndarray, ...]  # what a kernel's walk is told of a projection, and for a walk back the slab


class Projector:
    """A scan seen voxel by voxel: everything the kernel needs for each projection.

    Images are flat and padded, J K lanes long; `segments` shows one as (J, K, S).

    Parameters
    ----------
    geometry : Geometry
    mask : ndarray of bool, shape (X, Y, Z)
        The voxels that are there.
    """

    def __init__(self, geometry: Geometry, mask: np.ndarray):
        self.voxels = int(mask.sum())
        self.slot = np.full(mask.size, -1, dtype=np.int32)
        self.slot[mask.ravel()] = np.arange(self.voxels, dtype=np.int32)
        self._found_places: dict[int, np.ndarray] = {}
        self.lanes = -(-geometry.segments // 4) * 4
        q, self.share = geometry.probed()
        idle = self.lanes - geometry.segments  # idle lanes repeat a segment, so that they need no larger exponent
        q = np.pad(q, ((0, 0), (0, 0), (0, idle), (0, 0)), mode="edge")
        self.q = np.ascontiguousarray(q.transpose(0, 1, 3, 2))
        self._reaches = [reach_of(mask.transpose(order)) for order in _ORDERS]
        self._runs = [runs_of(mask.transpose(order)) for order in _ORDERS]
        self._before = np.concatenate(([0], np.cumsum(mask.sum(axis=(1, 2)))))  # voxels in front of each plane
        self.whole = (0, len(mask))
        self._set_rays(geometry)

    def with_geometry(self, geometry: Geometry) -> Projector:
        """Return the same scan with the offsets of `geometry`."""
        other = copy.copy(self)
        other._set_rays(geometry)
        return other

    def _set_rays(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.orders, self.frames, self.rays = rays_of(geometry, self.lanes)

    def image(self) -> np.ndarray:
        """Return an empty image."""
        rows, columns = self.geometry.projection_shape
        return np.zeros(rows * columns * self.lanes)

    def segments(self, image: np.ndarray) -> np.ndarray:
        """Return the view (J, K, S) of an image."""
        return image.reshape(*self.geometry.projection_shape, self.lanes)[..., : self.geometry.segments]

    def idle(self, image: np.ndarray) -> np.ndarray:
        """Return the view (J, K, idle lanes) of an image."""
        return image.reshape(*self.geometry.projection_shape, self.lanes)[..., self.geometry.segments :]

    def forward(self, model: Model, rows: np.ndarray | Fields, n: int) -> np.ndarray:
        """Return the image of projection n; a model without kernels has rows."""
        image = self.image()
        if model.kernels is not None:
            model.kernels.forward(fields_of(rows), *self._scan(n), image)
        else:
            kernel.project(
                self._slices(n, self._density(n, lambda q: model.density(_plain(rows), q))),
                *self.rays_through(n),
                image,
            )
        return image

    def paths(self) -> Iterator[np.ndarray]:
        """Yield the length of each ray in the mask, shape (J, K), for each projection."""
        alone = copy.copy(self)  # with the fewest lanes, and with places that are gone when this is done
        alone.lanes, alone.frames, alone._found_places = 4, self.frames.copy(), {}
        alone.frames[:, 8] = 4
        for n in range(self.geometry.projections):
            image = alone.image()
            kernel.project(alone._slices(n, np.ones((1, 1))), *alone.rays_through(n), image)
            yield image.reshape(*self.geometry.projection_shape, 4)[..., 0]

    def forward_slopes(self, model: Model, rows: np.ndarray | Fields, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivatives of the image by j_offset and k_offset."""
        by_j, by_k = self.image(), self.image()
        if model.kernels is not None:
            model.kernels.forward_slopes(fields_of(rows), *self._scan(n), by_j, by_k)
        else:
            slices = self._slices(n, self._density(n, lambda q: model.density(_plain(rows), q)))
            kernel.project_slopes(slices, *self.rays_through(n), by_j, by_k)
        return by_j, by_k

    def forward_tangent(self, model: Model, rows: np.ndarray, changes: np.ndarray, n: int) -> np.ndarray:
        """Return the change of the image when the rows change."""
        image = self.image()
        if model.kernels is not None:
            model.kernels.forward_tangent(fields_of(rows), fields_of(changes), *self._scan(n), image)
        else:
            density = self._density(n, lambda q: model.density_tangent(rows, changes, q))
            kernel.project(self._slices(n, density), *self.rays_through(n), image)
        return image

    def slabs(self, count: int) -> list[Slab]:
        """Cut the volume along x into at most so many slabs with about as many voxels in each."""
        wanted = self.voxels * np.arange(1, count) / count
        cuts = sorted({0, self.whole[1], *(int(cut) for cut in np.searchsorted(self._before, wanted))})
        return list(pairwise(cuts))

    def inside(self, slab: Slab) -> slice:
        """Return the numbers of a slab's voxels; planes behind the last hold none."""
        first, last = (min(plane, self.whole[1]) for plane in slab)
        return slice(int(self._before[first]), int(self._before[last]))

    def _place(self, n: int, slab: Slab) -> np.ndarray:
        """Return what `kernel.py` calls a slab."""
        first, last = slab
        across = (0, self.frames[n, 0], first, last) if self.orders[n, 0] else (first, last, 0, self.frames[n, 1])
        return np.array(across, dtype=np.int64)

    def backward(
        self,
        model: Model,
        rows: np.ndarray | Fields,
        n: int,
        image: np.ndarray,
        gradient: np.ndarray,
        slab: Slab | None = None,
    ) -> None:
        """Add to the gradient by the rows, shape (V, P), field by field; `image` holds the derivative by the image.

        With a slab, the gradient of its voxels alone: calls for different slabs may run side by side.
        """
        slab = slab or self.whole
        if model.kernels is not None:
            model.kernels.backward(fields_of(rows), *self.scan_back(n, slab), image, gradient.T)
            return
        inside, g = self._back_project(n, image, slab)
        for q, share in self._points(n):
            gradient[inside] += model.density_cotangent(_plain(rows)[inside], q, g if share == 1.0 else share * g)

    def backward_tangent(
        self,
        model: Model,
        rows: np.ndarray,
        changes: np.ndarray,
        n: int,
        image: np.ndarray,
        image_change: np.ndarray,
        gradient: np.ndarray,
        slab: Slab | None = None,
    ) -> None:
        """Add the change of `backward` when rows and image change."""
        slab = slab or self.whole
        if model.kernels is not None:
            told = fields_of(rows), fields_of(changes), *self.scan_back(n, slab)
            model.kernels.backward_tangent(*told, image, image_change, gradient.T)
            return
        (inside, g), (_, dg) = (self._back_project(n, given, slab) for given in (image, image_change))
        for q, share in self._points(n):
            moved = model.density_cotangent_tangent(rows[inside], changes[inside], q, share * g, share * dg)
            gradient[inside] += moved

    def rays_through(self, n: int) -> Scan:
        """Return `frame`, `ray`, `box` and `reach` of projection n."""
        return self.frames[n], self.rays[n], *self._reaches[self.orders[n, 0]]

    def _scan(self, n: int) -> Scan:
        return self.q[n], self.share, self.slot, *self._runs[self.orders[n, 0]], *self.rays_through(n)

    def scan_back(self, n: int, slab: Slab) -> Scan:
        """Return what a kernel's walk back through a slab is told of projection n."""
        return *self._scan(n), self._place(n, slab)

    def _points(self, n: int) -> list[tuple[np.ndarray, float]]:
        """Return the q vectors of all lanes, shape (lanes, 3), and the weight of each point of the segments."""
        return [(q.T, float(share)) for q, share in zip(self.q[n], self.share, strict=True)]

    def _density(self, n: int, density: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the weighted sum over the points of the segments, shape (V, lanes)."""
        (q, share), *others = self._points(n)
        total = density(q)
        total *= share
        for q, share in others:
            total += share * density(q)
        return total

    def _places(self, n: int) -> np.ndarray:
        """Return the row of each active voxel in the slices seen as (places, lanes); kept for each slice direction."""
        d, a, b = (int(axis) for axis in self.orders[n])
        if d not in self._found_places:
            at = np.unravel_index(np.flatnonzero(self.slot >= 0), self.geometry.volume_shape)
            _, rows, columns = (length + 2 * kernel.BORDER for length in self.frames[n][:3])
            place = (at[d] * rows + at[a] + kernel.BORDER) * columns + at[b] + kernel.BORDER
            self._found_places[d] = place.astype(np.int32)
        return self._found_places[d]

    def _empty_slices(self, n: int, count: int) -> np.ndarray:
        _, rows, columns = self.frames[n][:3]
        wide = 2 * kernel.BORDER
        return np.zeros((count, (rows + wide) * (columns + wide) * self.lanes))

    def _slices(self, n: int, density: np.ndarray) -> np.ndarray:
        """Return slices that hold a density, shape (V, lanes)."""
        slices = self._empty_slices(n, int(self.frames[n, 0]))
        slices.reshape(-1, self.lanes)[self._places(n)] = density
        return slices

    def _back_project(self, n: int, image: np.ndarray, slab: Slab) -> tuple[slice, np.ndarray]:
        """Return the slab's rows, and what the image gives each of its active voxels, shape (V, lanes)."""
        place = self._place(n, slab)
        slices = self._empty_slices(n, int(place[1] - place[0]))
        kernel.back_project(image, *self.rays_through(n), place, slices)
        inside = self.inside(slab)
        skipped = int(place[0]) * (slices.shape[1] // self.lanes)
        return inside, slices.reshape(-1, self.lanes)[self._places(n)[inside] - skipped]


def fields_of(rows: np.ndarray | Fields) -> Fields:
    """Return what a kernel is told of rows, shape (V, P); nothing is copied where they lie field by field."""
    if isinstance(rows, tuple):
        return rows
    return np.require(rows.T, requirements=["C", "A", "W"]), np.ones(rows.shape[1]), -1


def _plain(rows: np.ndarray | Fields) -> np.ndarray:
    """Return rows: a model without kernels is given nothing else."""
    if isinstance(rows, tuple):
        raise TypeError("rows are needed, shape (V, P): only kernels read fields")
    return rows


def reach_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel's `box` and `reach` of a mask whose axes are slice, row and column."""
    columns = mask.shape[2]
    held = np.pad(mask, ((0, 0), (kernel.BORDER, kernel.BORDER), (0, 0)))
    held = held[:, :-1] | held[:, 1:]  # by one of the two rows that a ray lies between
    reach = np.empty((*held.shape[:2], 2), np.int32)
    reach[..., 0] = np.where(held.any(axis=2), held.argmax(axis=2) - 1, columns)
    reach[..., 1] = np.where(held.any(axis=2), columns - 1 - held[..., ::-1].argmax(axis=2), -kernel.BORDER)
    box = np.zeros((len(mask), 4), np.int32)
    for i in np.flatnonzero(mask.any(axis=(1, 2))):
        across, along = (np.flatnonzero(mask[i].any(axis=axis)) for axis in (1, 0))
        box[i] = across[0], across[-1] + 1, along[0], along[-1] + 1
    return box, reach


def runs_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel's `runs` and `begins` of a mask whose axes are slice, row and column."""
    outside = np.zeros((*mask.shape[:2], 1), bool)
    first = np.argwhere(mask & ~np.concatenate([outside, mask[..., :-1]], axis=2))
    last = np.argwhere(mask & ~np.concatenate([mask[..., 1:], outside], axis=2))
    runs = np.column_stack([first[:, 1:], last[:, 2] - first[:, 2] + 1])
    begins = np.searchsorted(first[:, 0], np.arange(len(mask) + 1))
    return runs.astype(np.int32, order="C"), begins.astype(np.int32)


def rays_of(geometry: Geometry, lanes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the axes that are slice, row and column, shape (n, 3), and the kernel's `frame` and `ray`, shape (n, 9).

    The slices are normal to the dominant component of the beam in the sample; a ray is p's line through its pixel.
    """
    p, j, k = geometry.directions()
    volume = np.array(geometry.volume_shape)
    strides = np.array([volume[1] * volume[2], volume[2], 1])
    order = _ORDERS[np.argmax(np.abs(p), axis=1)]
    frames = np.empty((geometry.projections, 9), dtype=np.int64)
    frames[:, :3], frames[:, 3:6] = volume[order], strides[order]
    frames[:, 6:] = (*geometry.projection_shape, lanes)
    count_j, count_k = geometry.projection_shape
    first = (0.5 - count_j / 2 + geometry.j_offset)[:, None] * j + (0.5 - count_k / 2 + geometry.k_offset)[:, None] * k
    centre = (volume - 1) / 2
    d = order[:, :1]

    def part(v: np.ndarray, axis: np.ndarray) -> np.ndarray:
        return np.take_along_axis(v, axis, axis=1)[:, 0]

    p_d = part(p, d)
    rays = np.empty((geometry.projections, 9))
    for at, axis in ((0, order[:, 1:2]), (4, order[:, 2:3])):
        slope = part(p, axis) / p_d
        rays[:, at] = part(first, axis) + centre[axis[:, 0]] - slope * (centre[d[:, 0]] + part(first, d))
        rays[:, at + 1] = slope
        rays[:, at + 2] = part(j, axis) - slope * part(j, d)
        rays[:, at + 3] = part(k, axis) - slope * part(k, d)
    rays[:, 8] = 1.0 / np.abs(p_d)
    return order, frames, rays


_ORDERS = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
