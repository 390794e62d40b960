"""What is known of a volume beside the data: neighbours are alike, values are small, amplitudes are positive.

Each term has a weight, by field name. Fields are in the solver's units (A in units of the problem's `scale`), axes as
unit vectors. Neighbours are the pairs of voxels that share a face, both in the mask.

==== ========================= ================================================================================
smooth   w sum_pairs rho(s)     s = |f - f'|^2; for a direction s = |u u^T - u' u'^T|^2/2 = 1 - (u . u')^2, so that u
                                and -u are the same axis
ridge    w/2 sum f^2
positive w/2 sum min(f, 0)^2
==== ========================= ================================================================================

rho(s) = delta^2 (sqrt(1 + s/delta^2) - 1): s/2 (Tikhonov) for delta = infinity, nearly delta sqrt(s) (total variation)
for small delta, Huber's between them; smooth everywhere. Where the voxels' `light` is given, l and l', a pair counts
min(l, l', 1) min(l, l') / max(l, l'): little where both are dim, and little where one is much dimmer than the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from exactgrad.errors import InputError, require_finite, require_range
from exactgrad.tomography.projection import Field

Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Regularisation:
    """Weights of the terms, by field name.

    Attributes
    ----------
    smooth : mapping of str to float
        Weight of the neighbours' likeness.
    delta : mapping of str to float
        Where it turns from square to linear; a field that is not named: nowhere.
    ridge, positive : mapping of str to float
        Weights of small and of positive values.
    light : ndarray, shape (V,), or None
        How bright each voxel is, > 0; those of 1 and more are not dim. None: all are.

    Raises
    ------
    InputError
        If a weight is negative or a delta not positive.

    Examples
    --------
    >>> Regularisation(smooth={"axis": 0.1}).terms("axis")
    (0.1, inf, 0.0, 0.0)
    """

    smooth: Mapping[str, float] = field(default_factory=dict)
    delta: Mapping[str, float] = field(default_factory=dict)
    ridge: Mapping[str, float] = field(default_factory=dict)
    positive: Mapping[str, float] = field(default_factory=dict)
    light: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for kind in ("smooth", "ridge", "positive"):
            for name, weight in getattr(self, kind).items():
                require_range(f"regularisation.{kind}.{name}", weight, low=0.0)
        for name, delta in self.delta.items():
            if not delta > 0:
                raise InputError(f"regularisation.delta.{name} = {delta}: must be > 0")
        if self.light is not None and not np.all(require_finite("regularisation.light", self.light) > 0):
            raise InputError(f"regularisation.light = {np.min(self.light):g}: must be > 0")

    def check_names(self, fields: tuple[Field, ...]) -> None:
        """Check that every name is one of a model's `fields`.

        Raises
        ------
        InputError
            If one is not; the message lists those there are.
        """
        names = [field.name for field in fields]
        for kind in ("smooth", "delta", "ridge", "positive"):
            for name in getattr(self, kind):
                if name not in names:
                    raise InputError(f"regularisation.{kind}: {name!r} is no field; there are: {', '.join(names)}")

    def terms(self, name: str) -> tuple[float, float, float, float]:
        """Return the weight of smoothness, its delta, and the weights of ridge and positivity of a field."""
        delta = self.delta.get(name, np.inf)
        return self.smooth.get(name, 0.0), delta, self.ridge.get(name, 0.0), self.positive.get(name, 0.0)

    def acts_on(self, name: str) -> bool:
        """Return whether any term of this field has a weight."""
        smooth, _, ridge, positive = self.terms(name)
        return bool(smooth or ridge or positive)

    def value_and_gradient(self, name: str, f: np.ndarray, direction: bool, pairs: Pairs) -> tuple[float, np.ndarray]:
        """Return the terms of one field, and their gradient.

        Parameters
        ----------
        name : str
            Of the field.
        f : ndarray, shape (components, V), float64
            Its values.
        direction : bool
            Whether it is one of axes, so that f and -f are the same.
        pairs : list of (ndarray, ndarray)
            Numbers of the voxels that are neighbours, as of `neighbours`.

        Returns
        -------
        value : float
        gradient : ndarray, shape (components, V)
        """
        smooth, delta, ridge, positive = self.terms(name)
        low = np.minimum(f, 0.0)
        value = 0.5 * ridge * float(np.sum(f * f)) + 0.5 * positive * float(np.sum(low * low))
        gradient = ridge * f + positive * low
        for one, other in pairs if smooth else []:
            s, by_one, by_other = _distance(f[:, one], f[:, other], direction)
            rho, slope, _ = _rho(s, delta)
            weight = smooth * self.likeness(one, other)
            value += float(np.sum(weight * rho))
            slope = weight * slope
            gradient[:, one] += slope * by_one
            gradient[:, other] += slope * by_other
        return value, gradient

    def hessian_product(
        self, name: str, f: np.ndarray, v: np.ndarray, direction: bool, pairs: Pairs, gauss_newton: bool = False
    ) -> np.ndarray:
        """Return the second derivative of the terms times v, shape (components, V).

        Parameters
        ----------
        name, f, direction, pairs
            As of `value_and_gradient`.
        v : ndarray, shape (components, V)
        gauss_newton : bool
            Return the positive semidefinite part instead, as of a least-squares cost.
        """
        smooth, delta, ridge, positive = self.terms(name)
        out = ridge * v + positive * np.where(f < 0.0, v, 0.0)
        for one, other in pairs if smooth else []:
            a, b, da, db = f[:, one], f[:, other], v[:, one], v[:, other]
            s, by_a, by_b = _distance(a, b, direction)
            _, slope, bend = (smooth * self.likeness(one, other) * part for part in _rho(s, delta))
            if gauss_newton and direction:
                along_a, along_b = _axis_gauss_newton(a, b, da, db)
                out[:, one] += slope * along_a
                out[:, other] += slope * along_b
                continue
            growth = bend * (np.sum(by_a * da, axis=0) + np.sum(by_b * db, axis=0))
            along_a, along_b = _distance_tangent(a, b, da, db, direction)
            out[:, one] += growth * by_a + slope * along_a
            out[:, other] += growth * by_b + slope * along_b
        return out

    @property
    def alone(self) -> np.ndarray | float:
        """What each voxel's likeness to a neighbour counts at most, shape (V,)."""
        return 1.0 if self.light is None else np.minimum(self.light, 1.0)

    def likeness(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | float:
        """Return what pairs of voxels count.

        Parameters
        ----------
        one, other : ndarray of int, shape (pairs,)
            Numbers of the voxels.
        """
        if self.light is None:
            return 1.0
        here, there = self.light[one], self.light[other]
        dimmer = np.minimum(here, there)
        return np.minimum(dimmer, 1.0) * (dimmer / np.maximum(here, there))


def neighbours(mask: np.ndarray) -> Pairs:
    """Return, for each direction, the numbers (in C order within the mask) of the voxels that share a face.

    Examples
    --------
    >>> [[p.tolist() for p in pair] for pair in neighbours(np.ones((1, 1, 3), bool))]
    [[[], []], [[], []], [[0, 1], [1, 2]]]
    """
    number = np.cumsum(mask.ravel()).reshape(mask.shape).astype(np.int32) - 1
    pairs = []
    for axis in range(mask.ndim):
        low = np.take(mask, range(mask.shape[axis] - 1), axis)
        high = np.take(mask, range(1, mask.shape[axis]), axis)
        both = low & high
        first = np.take(number, range(mask.shape[axis] - 1), axis)[both]
        second = np.take(number, range(1, mask.shape[axis]), axis)[both]
        pairs.append((first, second))
    return pairs


def _rho(s: np.ndarray, delta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rho(s) and its two derivatives."""
    if np.isinf(delta):
        return 0.5 * s, np.full_like(s, 0.5), np.zeros_like(s)
    root = np.sqrt(1.0 + s / delta**2)
    return s / (1.0 + root), 0.5 / root, -0.25 / delta**2 / root**3


def _distance(a: np.ndarray, b: np.ndarray, direction: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return s of pairs and its gradients by either."""
    if not direction:
        apart = a - b
        return np.sum(apart * apart, axis=0), 2.0 * apart, -2.0 * apart
    cosine = np.sum(a * b, axis=0)
    return np.maximum(1.0 - cosine * cosine, 0.0), -2.0 * cosine * b, -2.0 * cosine * a


def _distance_tangent(
    a: np.ndarray, b: np.ndarray, da: np.ndarray, db: np.ndarray, direction: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the changes of the gradients of s."""
    if not direction:
        change = 2.0 * (da - db)
        return change, -change
    cosine, change = np.sum(a * b, axis=0), np.sum(a * db, axis=0) + np.sum(b * da, axis=0)
    return -2.0 * (change * b + cosine * db), -2.0 * (change * a + cosine * da)


def _axis_gauss_newton(a: np.ndarray, b: np.ndarray, da: np.ndarray, db: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return J^T J times the change, twice, of the residual (u u^T - u' u'^T)/sqrt(2): 2 M u, -2 M u', M its change."""

    def times(x: np.ndarray) -> np.ndarray:
        one = da * np.sum(a * x, axis=0) + a * np.sum(da * x, axis=0)
        other = db * np.sum(b * x, axis=0) + b * np.sum(db * x, axis=0)
        return 2.0 * (one - other)

    return times(a), -times(b)
