"""A reconstruction as a problem for a solver: fields of every voxel -> projections -> cost, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.kernels.threads import Relay, choose_threads, for_each
from exactgrad.tomography.costs import Cost, cost_of, turn
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.projection import Field, Fields, Model, Projector, Scan, Slab
from exactgrad.tomography.regularisation import Pairs, Regularisation, neighbours
from exactgrad.tomography.sphere import UnitVectors, angle_gradients, axis_from_angles
from exactgrad.tomography.tensor import Tensor
from exactgrad.tomography.uniaxial import Uniaxial
from exactgrad.tomography.zonal import Zonal

MODELS: dict[str, Callable[[], Model]] = {"uniaxial": Uniaxial, "zonal": Zonal, "tensor": Tensor}
SLABS = 4  # of a model without kernels, whose rounding may depend on how many voxels are taken together
LOT_BYTES = 1 << 17  # of the images that are seen, and then walked back, at a time
LOT = 4096  # voxels
TAME = 1e-200, 1e200  # squared lengths of vectors that a kernel normalises itself
UNIT_S = 5e-9  # per projection, voxel and segment, for choosing threads
DIRECTION = UnitVectors()
Images = tuple[np.ndarray, ...]  # derivatives by a projection's images, in lanes


class TomographyProblem:
    """The fields of the voxels in a mask, against measured projections.

    The vector x holds the free fields one after the other, components first: A/sqrt(scale), B, and for a direction an
    unnormalised vector m with u = m/|m|, so that the sphere has no pole. The value is the cost itself.

    Parameters
    ----------
    data : Dataset
    model : str or Model
        "uniaxial", "zonal", "tensor", or one of your own.
    cost : str or Cost
        "sqrt" (the note's 2 sum w (sqrt(I^ + e0) - sqrt(I + e0))^2), "poisson" or "gaussian".
    e0 : float or None
        Added to both intensities, in the data's unit. None: 0, and for "poisson" a thousandth of the mean intensity.
    mask : ndarray of bool, shape (X, Y, Z), or None
        Voxels outside are not there: they have no parameters and scatter nothing. None: all are there.
    regularisation : Regularisation or None
    free : tuple of str or None
        The fields that x holds; the others stay as `with_fields` set them, or as the start of seed 0. None: all.
    threads : int or None
        At most so many threads; results do not depend on it.

    Attributes
    ----------
    size : int
        Length of x.
    voxels : int
        Voxels in the mask.
    scale : float
        Mean density that would explain the data's mean, intensity per voxel edge.

    Raises
    ------
    InputError
        One line: which argument is wrong and what is allowed.

    Examples
    --------
    >>> from exactgrad.tomography.geometry import Geometry
    >>> g = Geometry.from_seed_angles([0.0, 0.4], [0.0, 1.0], (3, 3), (3, 3, 3), [0.0, 1.0, 2.0])
    >>> p = TomographyProblem(Dataset(g, np.ones((2, 3, 3, 3))))
    >>> value, gradient = p.value_and_gradient(p.start(seed=0))
    >>> value > 0, gradient.shape
    (True, (135,))
    """

    def __init__(
        self,
        data: Dataset,
        model: str | Model = "uniaxial",
        cost: str | Cost = "sqrt",
        e0: float | None = None,
        mask: Any = None,
        regularisation: Regularisation | None = None,
        free: tuple[str, ...] | None = None,
        threads: int | None = None,
    ):
        self.data, self.model = data, _model_of(model)
        self.regularisation = regularisation or Regularisation()
        self.regularisation.check_names(self.model.fields)
        self.free = _free_fields(self.model, free)
        self._threads = threads
        self._set_mask(mask)
        total, amount, path = self._totals()
        self.cost = cost_of(cost, e0, total / amount if amount else 0.0) if isinstance(cost, str) else cost
        self.scale = max(total, 0.0) / path if path > 0 and total > 0 else 1.0
        self._fixed = None if free is None else self._rows_of_start(0)

    def _set_mask(self, mask: Any) -> None:
        shape = self.geometry.volume_shape
        self.mask = np.ones(shape, bool) if mask is None else require_shape("mask", np.array(mask, bool), shape)
        if not self.mask.any():
            raise InputError("mask: no voxel is in it: at least one is needed")
        self.projector = Projector(self.geometry, self.mask)
        self.voxels = self.projector.voxels
        self.size = self.voxels * sum(field.components for field in self.free)

    @property
    def geometry(self) -> Any:
        """The geometry of the data."""
        return self.data.geometry

    @property
    def active(self) -> int:
        """Number of voxels in the mask."""
        return self.voxels

    @property
    def _pairs(self) -> Pairs:
        """The neighbours in the mask."""
        return neighbours(self.mask)

    @property
    def _held(self) -> np.ndarray:
        """The rows that give held fields their values: as `with_fields` set them, or the start of seed 0."""
        return self._rows_of_start(0) if self._fixed is None else self._fixed

    # Problems beside this one ---------------------------------------------------------------------------------------

    def with_offsets(self, j_offset: Any, k_offset: Any) -> TomographyProblem:
        """Return the same problem with other offsets: nothing is compiled or copied for it.

        Parameters
        ----------
        j_offset, k_offset : array_like, shape (projections,), or float
            Pixels.
        """
        other = copy.copy(self)
        other.data = self.data.with_geometry(self.geometry.with_offsets(j_offset, k_offset))
        other.projector = self.projector.with_geometry(other.geometry)
        return other

    def with_regularisation(self, regularisation: Regularisation | None) -> TomographyProblem:
        """Return the same problem with another regularisation."""
        other = copy.copy(self)
        other.regularisation = regularisation or Regularisation()
        other.regularisation.check_names(self.model.fields)
        return other

    def with_data(self, data: Dataset) -> TomographyProblem:
        """Return the problem of other data of the same volume and segments; scale and cost stay.

        Raises
        ------
        InputError
            If the data are of another volume.
        """
        if data.geometry.volume_shape != self.geometry.volume_shape:
            raise InputError(
                f"data: volume {data.geometry.volume_shape} where {self.geometry.volume_shape} is reconstructed"
            )
        other = copy.copy(self)
        other.data = data
        other.projector = Projector(data.geometry, self.mask)
        return other

    def with_mask(self, mask: Any) -> TomographyProblem:
        """Return the problem of the voxels in another mask; scale and cost stay, held fields start anew."""
        other = copy.copy(self)
        other._set_mask(mask)
        other._fixed = None if len(self.free) == len(self.model.fields) else other._rows_of_start(0)
        return other

    def with_fields(self, **fields: Any) -> TomographyProblem:
        """Return the same problem with these volumes as the values of its held fields."""
        other = copy.copy(self)
        other._fixed = self._put(self._held.copy(), fields)
        return other

    def with_free(self, *names: str, x: np.ndarray | None = None) -> TomographyProblem:
        """Return the problem whose x holds the fields of these names; the others stay.

        Parameters
        ----------
        *names : str
            Of the model's fields; none: all of them.
        x : ndarray, optional
            A vector of this problem: the other fields stay as they are there, not as they were held before.
        """
        other = copy.copy(self)
        other._fixed = self._held if x is None else self.rows(x)
        other.free = _free_fields(self.model, names or None)
        other.size = self.voxels * sum(field.components for field in other.free)
        return other

    # x and the fields -----------------------------------------------------------------------------------------------

    def _columns(self, field: Field) -> slice:
        first = 0
        for member in self.model.fields:
            if member is field:
                break
            first += member.components
        return slice(first, first + field.components)

    def _blocks(self, x: np.ndarray) -> list[tuple[Field, np.ndarray]]:
        """Return the free fields' parts of x, each (components, V)."""
        blocks, first = [], 0
        for field in self.free:
            count = field.components * self.voxels
            blocks.append((field, x[first : first + count].reshape(field.components, self.voxels)))
            first += count
        return blocks

    def _lots(self) -> list[slice]:
        """Return the voxels in lots, so that what is made on the way stays small."""
        return [slice(first, first + LOT) for first in range(0, self.voxels, LOT)]

    @property
    def _shape(self) -> tuple[int, int]:
        """Shape (P, V) of what the rows are stored as."""
        return sum(field.components for field in self.model.fields), self.voxels

    @property
    def _is_whole(self) -> bool:
        """Whether x holds all fields, one after the other as they are stored."""
        return len(self.free) == len(self.model.fields)

    def _unit(self, field: Field) -> float:
        return self.scale**field.scaling

    def rows(self, x: np.ndarray) -> np.ndarray:
        """Return the model's rows, shape (V, P), in the data's units; in memory they lie field by field."""
        stored = np.empty(self._shape) if self._is_whole else np.array(self._held.T, order="C")
        for field, part in self._blocks(self._vector(x)):
            columns = self._columns(field)
            for lot in self._lots():
                now = part[:, lot]
                stored[columns, lot] = DIRECTION.apply(now) if field.direction else self._unit(field) * now
        return stored.T

    def _told(self, x: np.ndarray) -> np.ndarray | Fields:
        """Return what a projector is told of x: x itself where that will do, or the rows."""
        directions = [(field, part) for field, part in self._blocks(x) if field.direction]
        will_do = self.model.kernels is not None and self._is_whole and len(directions) < 2
        if not (will_do and all(self._are_tame(part) for _, part in directions)):
            return self.rows(x)
        units = [self._unit(field) for field in self.model.fields for _ in range(field.components)]
        first = self._columns(directions[0][0]).start if directions else -1
        return np.require(x, requirements=["C", "A", "W"]).reshape(self._shape), np.array(units), first

    def _are_tame(self, vectors: np.ndarray) -> bool:
        """Return whether no vector's square, (3, V), over- or underflows."""
        with np.errstate(over="ignore", under="ignore"):
            squares = (np.einsum("cv,cv->v", lot, lot) for lot in (vectors[:, lot] for lot in self._lots()))
            return all(TAME[0] < square.min() and square.max() < TAME[1] for square in squares)

    def _push_rows(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the change of the rows when x changes by v."""
        changes = np.zeros(self._shape)
        for (field, part), (_, change) in zip(self._blocks(x), self._blocks(v), strict=True):
            pushed = DIRECTION.push(part, change) if field.direction else self._unit(field) * change
            changes[self._columns(field)] = pushed
        return changes.T

    def pull_rows(self, x: np.ndarray, by_rows: np.ndarray, is_spent: bool = False) -> np.ndarray:
        """Return the gradient by x of what has the gradient `by_rows`, shape (V, P), by the rows.

        One that lies field by field and `is_spent` becomes the result where x holds all fields: there is no second one.
        """
        gradient = by_rows.T.reshape(-1) if is_spent and self._is_whole else np.empty(self.size)
        for (field, part), (_, out) in zip(self._blocks(x), self._blocks(gradient), strict=True):
            columns = self._columns(field)
            for lot in self._lots():
                g = by_rows[lot, columns].T
                out[:, lot] = DIRECTION.pull(part[:, lot], g) if field.direction else self._unit(field) * g
        return gradient

    def _pull_rows_tangent(self, x: np.ndarray, v: np.ndarray, by_rows: np.ndarray) -> np.ndarray:
        """Return the change of `pull_rows` when x changes by v: directions alone bend."""
        change = np.zeros(self.size)
        parts = zip(self._blocks(x), self._blocks(v), self._blocks(change), strict=True)
        for (field, part), (_, moved), (_, out) in parts:
            if field.direction:
                out[:] = DIRECTION.pull_tangent(part, moved, by_rows[:, self._columns(field)].T)
        return change

    def fields(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return every field as a volume, [x, y, z] and components last, in the data's units; 0 outside the mask."""
        return self.volumes(self.rows(x))

    def volumes(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of rows, shape (V, P), as a volume for each field."""
        return {field.name: self._volume(rows[:, self._columns(field)]) for field in self.model.fields}

    def _volume(self, columns: np.ndarray) -> np.ndarray:
        volume = np.zeros((*self.mask.shape, columns.shape[1]))
        volume[self.mask] = columns
        return volume[..., 0] if columns.shape[1] == 1 else volume

    def vector(self, x: np.ndarray | None = None, **fields: Any) -> np.ndarray:
        """Return x with these fields, volumes [x, y, z] or [x, y, z, component]; what is not named stays as in `x`.

        Directions may have any length but 0; ``theta_op`` and ``phi_op``, rad, may stand for the axis.
        """
        rows = self._put(self._held.copy(), fields)
        named = {"axis" if name in ("theta_op", "phi_op") else name for name in fields}
        out = np.empty(self.size) if x is None else self._vector(x).copy()
        for field, part in self._blocks(out):
            if x is None or field.name in named:
                part[:] = rows[:, self._columns(field)].T / self._unit(field)
        return out

    def _put(self, rows: np.ndarray, fields: dict[str, Any]) -> np.ndarray:
        """Write volumes into the rows."""
        named = {field.name: field for field in self.model.fields}
        fields = dict(fields)
        if ("theta_op" in fields) != ("phi_op" in fields):
            raise InputError("theta_op and phi_op: one of them alone gives no axis")
        if "theta_op" in fields:
            angles = [require_finite(name, fields.pop(name), "rad") for name in ("theta_op", "phi_op")]
            fields["axis"] = axis_from_angles(*angles)
        for name, value in fields.items():
            if name not in named:
                raise InputError(f"{name!r}: no such field; there are: {', '.join(named)}")
            field = named[name]
            volume = require_finite(name, value, field.unit)
            if field.components == 1:
                volume = volume[..., None]
            volume = np.broadcast_to(volume, (*self.mask.shape, field.components)) if volume.ndim <= 1 else volume
            require_shape(name, volume, (*self.mask.shape, field.components))
            columns = volume[self.mask]
            if field.direction:
                columns = DIRECTION.apply(columns.T).T
            rows[:, self._columns(field)] = columns
        return rows

    # The problem as a solver sees it --------------------------------------------------------------------------------

    def limit_threads(self, threads: int | None) -> None:
        """Use at most so many threads; results do not depend on it."""
        self._threads = threads

    def start(self, seed: int = 0) -> np.ndarray:
        """Return a starting vector that explains the data's mean, with axes in random directions."""
        rows = self._rows_of_start(seed)
        out = np.empty(self.size)
        for field, part in self._blocks(out):
            part[:] = rows[:, self._columns(field)].T / self._unit(field)
        return out

    def _rows_of_start(self, seed: int) -> np.ndarray:
        return self.model.start(self.voxels, self.scale, np.random.default_rng(seed))

    def parameters(self, x: np.ndarray) -> Parameters:
        """Return the free fields of the voxels in the mask, in the data's units; a direction as its free vector m."""
        members = []
        for field, part in self._blocks(self._vector(x)):
            value = part[0] if field.components == 1 else part
            members.append(
                Parameter(
                    field.name, self._unit(field) * value, field.unit, aliases=field.aliases, meaning=field.meaning
                )
            )
        return Parameters(tuple(members))

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the cost and its exact gradient by x."""
        x = self._vector(x)
        value, by_rows = self._value_and_gradient(self._told(x))
        return value, self.pull_rows(x, by_rows, is_spent=True)

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the regularisation and its exact gradient by x."""
        gradient = np.zeros(self.size)
        return self.add_penalty(x, gradient), gradient

    def add_penalty(self, x: np.ndarray, gradient: np.ndarray) -> float:
        """Add the regularisation's exact gradient by x to `gradient`, in place, and return the regularisation.

        Plane by plane, so that what is made on the way is small: with `value_and_gradient` before it the whole loss
        takes no second gradient.
        """
        acting = [
            (field, part, out)
            for (field, part), (_, out) in zip(self._blocks(self._vector(x)), self._blocks(gradient), strict=True)
            if self.regularisation.acts_on(field.name)
        ]
        value, light = 0.0, self.regularisation.light
        for first, last in self.projector.slabs(max(1, self.voxels // LOT)) if acting else []:
            own, reach = self.projector.inside((first, last)), self.projector.inside((first, last + 1))
            pairs = _pairs_from(self.mask[first : last + 1], last - first)
            here = None if light is None else light[reach]
            smooth = replace(self.regularisation, ridge={}, positive={}, light=here)
            for field, part, out in acting:
                m, count = part[:, reach], own.stop - own.start
                f = DIRECTION.apply(m) if field.direction else m
                likeness, g = smooth.value_and_gradient(field.name, f, field.direction, pairs)
                alone, by_own = self.regularisation.value_and_gradient(field.name, f[:, :count], field.direction, [])
                g[:, :count] += by_own
                out[:, reach] += DIRECTION.pull(m, g) if field.direction else g
                value += likeness + alone
        return value

    def off_kink(self, x: np.ndarray) -> None:
        """Return None: no limit binds."""

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the exact second derivative of cost + regularisation at x, times v."""
        x, v = self._vector(x), self._vector(v)
        rows, changes = self.rows(x), self._push_rows(x, v)

        def images(n: int) -> tuple[float, Images]:
            image, change = self._images(rows, changes, n)
            intensity, weight, through = self.data.projection(n)
            modelled = through[..., None] * self.projector.segments(image)
            _, slope = self.cost.value_and_slope(modelled, intensity, weight)
            bend = self.cost.curvature(modelled, intensity, weight)
            moved = self._cotangent(through**2, bend * self.projector.segments(change))
            return 0.0, (self._cotangent(through, slope), moved)

        def pull(n: int, found: Images, slab: Slab, sums: np.ndarray) -> None:
            by_image, moved = found
            self.projector.backward(self.model, rows, n, by_image, sums[0].T, slab)
            self.projector.backward_tangent(self.model, rows, changes, n, by_image, moved, sums[1].T, slab)

        _, (g, dg) = self._sum(images, pull, 2)
        product = self.pull_rows(x, dg.T) + self._pull_rows_tangent(x, v, g.T)
        return product + self._penalty_product(x, v, gauss_newton=False)

    def gauss_newton_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return (J^T W J + the regularisation's positive part) v: symmetric, with no negative eigenvalue."""
        x, v = self._vector(x), self._vector(v)
        rows, changes = self.rows(x), self._push_rows(x, v)

        def images(n: int) -> tuple[float, Images]:
            image, change = self._images(rows, changes, n)
            intensity, weight, through = self.data.projection(n)
            modelled = through[..., None] * self.projector.segments(image)
            normal = self.cost.gauss_newton(modelled, intensity, weight)
            return 0.0, (self._cotangent(through**2, normal * self.projector.segments(change)),)

        _, (product,) = self._sum(images, self._pull(rows), 1)
        return self.pull_rows(x, product.T) + self._penalty_product(x, v, gauss_newton=True)

    def sum_of_slopes(
        self, rows: np.ndarray, add: Callable[[Scan, np.ndarray, np.ndarray, np.ndarray], None], count: int
    ) -> np.ndarray:
        """Return so many sums by voxel, shape (count, V), of the cost's slopes and curvatures at `rows`, walked back.

        ``add(scan, slope, bend, sums)`` gets what a kernel's walk back is told, the images of the derivative and of the
        Gauss-Newton curvature by the density's projection, and the sums to add to.
        """

        def images(n: int) -> tuple[float, Images]:
            intensity, weight, through = self.data.projection(n)
            modelled = self._modelled(rows, n, through)
            _, slope = self.cost.value_and_slope(modelled, intensity, weight)
            bend = self.cost.gauss_newton(modelled, intensity, weight)
            return 0.0, (self._cotangent(through, slope), self._cotangent(through**2, bend))

        def pull(n: int, found: Images, slab: Slab, sums: np.ndarray) -> None:
            slope, bend = found
            add(self.projector.scan_back(n, slab), slope, bend, sums[0])

        return self._sum(images, pull, 1, count)[1][0]

    def _penalty_product(self, x: np.ndarray, v: np.ndarray, gauss_newton: bool) -> np.ndarray:
        product, pairs = np.zeros(self.size), self._pairs
        parts = zip(self._blocks(x), self._blocks(v), self._blocks(product), strict=True)
        for (field, part), (_, change), (_, out) in parts:
            if not self.regularisation.acts_on(field.name):
                continue
            arguments = (field.name, field.direction, pairs)
            if not field.direction:
                out[:] = self.regularisation.hessian_product(arguments[0], part, change, *arguments[1:], gauss_newton)
                continue
            u, du = DIRECTION.apply(part), DIRECTION.push(part, change)
            dg = self.regularisation.hessian_product(arguments[0], u, du, *arguments[1:], gauss_newton)
            out[:] = DIRECTION.pull(part, dg)
            if not gauss_newton:
                g = self.regularisation.value_and_gradient(arguments[0], u, *arguments[1:])[1]
                out[:] += DIRECTION.pull_tangent(part, change, g)
        return product

    # What users ask for ---------------------------------------------------------------------------------------------

    def forward(self, **fields: Any) -> np.ndarray:
        """Return the modelled intensities, shape (n, J, K, S), transmission included, of these volumes.

        Parameters
        ----------
        **fields
            Every field of the model by name, [x, y, z] (components last); the axis also as ``theta_op`` and ``phi_op``,
            rad. Voxels outside the mask scatter nothing.
        """
        return self._forward(self._all_rows(fields))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the modelled intensities at x, shape (n, J, K, S), transmission included."""
        return self._forward(self.rows(x))

    def residuals(self, x: np.ndarray) -> np.ndarray:
        """Return signed residuals, shape (n, J, K, S): half their squares sum to the cost; 0 where the weight is 0."""
        modelled = self.predict(x)
        for n in range(self.geometry.projections):
            intensity, weight, _ = self.data.projection(n)
            modelled[n] = self.cost.residual(modelled[n], intensity, weight)
        return modelled

    def cost_terms(self, x: np.ndarray) -> np.ndarray:
        """Return each projection's share of the cost, shape (n,)."""
        rows, terms = self.rows(x), np.zeros(self.geometry.projections)

        def one(n: int) -> None:
            intensity, weight, through = self.data.projection(n)
            terms[n], _ = self.cost.value_and_slope(self._modelled(rows, n, through), intensity, weight)

        self._each(one)
        return terms

    def loss_and_gradient(self, **fields: Any) -> tuple[float, dict[str, np.ndarray]]:
        """Return the cost of these volumes, and its gradient as volumes by the same names; no regularisation.

        Given ``theta_op`` and ``phi_op``, the gradient is by these angles; given ``axis``, it is by the unit vector,
        tangent to the sphere.
        """
        rows = self._all_rows(fields)
        value, by_rows = self._value_and_gradient(rows)
        return value, self._by_fields(fields, rows, by_rows)

    def _by_fields(self, fields: dict[str, Any], rows: np.ndarray, by_rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return a gradient by rows as volumes, by the names that the fields were given by."""
        gradient = self.volumes(by_rows)
        for field in self.model.fields:
            if field.direction:
                by_axis = gradient.pop(field.name)
                if "theta_op" in fields:
                    theta, phi = (np.asarray(fields[name], dtype=float) for name in ("theta_op", "phi_op"))
                    gradient["theta_op"], gradient["phi_op"] = angle_gradients(theta, phi, by_axis)
                else:
                    u = self.volumes(rows)[field.name]
                    gradient[field.name] = by_axis - u * np.sum(u * by_axis, axis=-1, keepdims=True)
        return gradient

    def forward_and_pullback(self, **fields: Any) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, np.ndarray]]]:
        """Return what `forward` gives, and the map from dL/d(intensities), (n, J, K, S), to dL/d(each field).

        The map's volumes have the names and meanings of `loss_and_gradient`'s.

        Raises
        ------
        InputError
            As `forward`; the map's, if a cotangent is not finite or of another shape than the data.
        """
        rows = self._all_rows(fields)

        def pullback(cotangent: np.ndarray) -> dict[str, np.ndarray]:
            by_image = require_shape("cotangent", require_finite("cotangent", cotangent), self.data.shape)

            def images(n: int) -> tuple[float, Images]:
                return 0.0, (self._cotangent(self.data.projection(n)[2], by_image[n]),)

            return self._by_fields(fields, rows, self._sum(images, self._pull(rows), 1)[1][0].T)

        return self._forward(rows), pullback

    def geometry_gradient(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the cost's gradient by ``j_offset``, ``k_offset``, shape (n,), and ``transmission``, shape (n, J, K).

        By the offsets it is exact wherever no ray runs through a voxel centre: there interpolation has a kink.
        """
        rows, count = self.rows(x), self.geometry.projections
        out = {"j_offset": np.zeros(count), "k_offset": np.zeros(count), "transmission": np.zeros(self.data.shape[:3])}

        def one(n: int) -> None:
            intensity, weight, through = self.data.projection(n)
            image = self.projector.segments(self.projector.forward(self.model, rows, n))
            _, slope = self.cost.value_and_slope(through[..., None] * image, intensity, weight)
            out["transmission"][n] = np.sum(slope * image, axis=-1)
            for name, part in zip(
                ("j_offset", "k_offset"), self.projector.forward_slopes(self.model, rows, n), strict=True
            ):
                out[name][n] = np.sum(through[..., None] * slope * self.projector.segments(part))

        self._each(one)
        return out

    # Evaluation -----------------------------------------------------------------------------------------------------

    def _vector(self, x: Any) -> np.ndarray:
        """Return x, checked; it is not copied where it need not be."""
        if isinstance(x, np.ndarray) and x.dtype == np.float64 and x.shape == (self.size,) and _all_finite(x):
            return x
        return require_shape("x", require_finite("x", x), (self.size,))

    def _all_rows(self, fields: dict[str, Any]) -> np.ndarray:
        given = set(fields) | ({"axis"} if "theta_op" in fields else set())
        missing = [field.name for field in self.model.fields if field.name not in given]
        if missing:
            raise InputError(f"{', '.join(missing)}: missing: all fields of the {self.model.name} model are needed")
        return self._put(np.empty(self._shape).T, fields)

    def _totals(self) -> tuple[float, float, float]:
        """Return the weighted sums of the intensity, of one, and of the transmitted path through the mask."""
        total = amount = path = 0.0
        for n, lengths in enumerate(self.projector.paths()):
            intensity, weight, through = self.data.projection(n)
            total += float(np.sum(weight * intensity))
            amount += float(np.sum(weight))
            path += float(np.sum(weight.sum(axis=-1) * through * lengths))
        return total, amount, path

    def _modelled(self, rows: np.ndarray, n: int, through: np.ndarray) -> np.ndarray:
        seen = self.projector.segments(self.projector.forward(self.model, rows, n))
        seen *= through[..., None]
        return seen

    def _images(self, rows: np.ndarray, changes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        image = self.projector.forward(self.model, rows, n)
        return image, self.projector.forward_tangent(self.model, rows, changes, n)

    def _cotangent(self, factor: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return an image of the values (J, K, S) times the pixels' factor (J, K), zero in idle lanes."""
        image = self.projector.image()
        np.multiply(factor[..., None], values, out=self.projector.segments(image))
        return image

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty(self.data.shape)

        def one(n: int) -> None:
            out[n] = self._modelled(rows, n, self.data.projection(n)[2])

        self._each(one)
        return out

    def _value_and_gradient(self, rows: np.ndarray | Fields) -> tuple[float, np.ndarray]:
        def images(n: int) -> tuple[float, Images]:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is told below
                return self._value_and_slope(rows, n)

        value, (stored,) = self._sum(images, self._pull(rows), 1)
        if not (np.isfinite(value) and _all_finite(stored)):
            raise InputError(f"x: the modelled intensity is empty or overflows where data are (cost {value:.3g})")
        return value, stored.T

    def _value_and_slope(self, rows: np.ndarray | Fields, n: int) -> tuple[float, Images]:
        """Return the cost of a projection and its derivative by the image: the image itself, turned."""
        intensity, weight, through = self.data.projection(n)
        image = self.projector.forward(self.model, rows, n)
        value = turn(self.cost, self.projector.segments(image), through, intensity, weight)
        self.projector.idle(image)[:] = 0.0
        return value, (image,)

    def _work_s(self) -> float:
        return self.geometry.projections * self.voxels * self.geometry.segments * UNIT_S

    def _each(self, one: Callable[[int], None]) -> None:
        """Call one(n) for each projection, on threads."""
        for_each(self.geometry.projections, one, choose_threads(self._work_s(), self._threads))

    def _pull(self, rows: np.ndarray | Fields) -> Callable[[int, Images, Slab, np.ndarray], None]:
        """Return what adds an image's pullback to the first gradient."""

        def pull(n: int, found: Images, slab: Slab, sums: np.ndarray) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                self.projector.backward(self.model, rows, n, found[0], sums[0].T, slab)

        return pull

    def _sum(
        self,
        images: Callable[[int], tuple[float, Images]],
        pull: Callable[[int, Images, Slab, np.ndarray], None],
        gradients: int,
        rows: int | None = None,
    ) -> tuple[float, np.ndarray]:
        """Sum values, and gradients (P, V), over the projections, in one order whatever the number of threads.

        With `rows`, what is summed by voxel has so many instead of P. Threads see images of a few projections and walk
        back through slabs of the volume: one gradient serves all.
        """
        count, threads = self.geometry.projections, choose_threads(self._work_s(), self._threads)
        together = max(1, LOT_BYTES // self.projector.image().nbytes)
        lots = [range(first, min(first + together, count)) for first in range(0, count, together)]
        slabs = self.projector.slabs(SLABS if self.model.kernels is None else threads)
        sums, values = np.zeros((gradients, rows or self._shape[0], self.voxels)), np.zeros(count)
        found: dict[int, Images] = {}

        def see(at: int) -> None:
            for n in lots[at]:
                values[n], found[n] = images(n)

        def add(part: int, at: int) -> None:
            for n in lots[at]:
                pull(n, found[n], slabs[part], sums)

        def forget(at: int) -> None:
            for n in lots[at]:
                del found[n]

        Relay(len(lots), len(slabs), 1 if threads == 1 else threads + 1).run(see, add, forget, threads)
        return float(values.sum()), sums


def _all_finite(array: np.ndarray) -> bool:
    """Return whether all are finite, and so is their sum: without an array of answers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()))


def _pairs_from(mask: np.ndarray, planes: int) -> Pairs:
    """Return the neighbours, some at a time, of which the first is in the first planes of a mask."""
    across, inside = neighbours(mask)[:1], neighbours(mask[:planes])[1:]
    return [
        (one[first : first + LOT], other[first : first + LOT])
        for one, other in across + inside
        for first in range(0, len(one), LOT)
    ]


def _model_of(model: str | Model) -> Model:
    if not isinstance(model, str):
        return model
    if model not in MODELS:
        raise InputError(f"model = {model!r}: must be one of {', '.join(MODELS)}")
    return MODELS[model]()


def _free_fields(model: Model, names: tuple[str, ...] | None) -> tuple[Field, ...]:
    if names is None:
        return model.fields
    known = [field.name for field in model.fields]
    for name in names:
        if name not in known:
            raise InputError(f"free: {name!r} is no field of the {model.name} model; there are: {', '.join(known)}")
    chosen = tuple(field for field in model.fields if field.name in names)
    if not chosen:
        raise InputError("free: at least one field is needed")
    return chosen
