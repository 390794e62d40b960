"""How far a modelled intensity is from a measured one: the square-root, Poisson and Gaussian costs.

Each cost gives, elementwise, its value, its slope by the modelled intensity, its second derivative, and the weight that
stands for it in J^T W J. Intensities in the data's unit; weights w >= 0 multiply. The offset e0 is added to both the
measured and the modelled intensity. Measured intensities below -e0 (a background was subtracted) count as -e0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from exactgrad.errors import InputError, require_range
from exactgrad.tomography.costs_kernel import NOTHING, square_root

LOT = 4096  # pixels and segments that are looked at together


class Cost(Protocol):
    """A cost of modelled intensities; all arguments and results are arrays of one shape."""

    def value_and_slope(
        self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the summed cost, and its derivative by each modelled intensity."""

    def curvature(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the second derivative."""

    def gauss_newton(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the weight W >= 0 of J^T W J: what the second derivative is on average where the model is right."""

    def residual(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the signed residual whose square, halved, is the cost."""


@dataclass(frozen=True)
class SquareRoot:
    """The seed note's cost, 2 sum w (sqrt(I^ + e0) - sqrt(I + e0))^2, nearly -log L of counts whatever their size.

    Attributes
    ----------
    e0 : float
        Data's unit; 3/8 is Anscombe's for counts, 0 the note's.

    Notes
    -----
    At I^ = 0 = e0 the slope diverges, but dI^ vanishes faster: every gradient by B and the axis tends to zero, the one
    by A to both of +-(4 w sqrt(I e)). The slope is taken as 2 w there, which gives the first limits and the middle of
    the second.

    Examples
    --------
    >>> value, slope = SquareRoot().value_and_slope(np.array([4.0]), np.array([1.0]), np.array([3.0]))
    >>> value, slope.tolist()
    (6.0, [3.0])
    """

    e0: float = 0.0

    def _roots(self, modelled: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        root, wanted = modelled + self.e0, measured + self.e0
        np.maximum(wanted, 0.0, out=wanted)
        return np.sqrt(root, out=root), np.sqrt(wanted, out=wanted)

    def value_and_slope(
        self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the summed cost, and its derivative by each modelled intensity."""
        root, wanted = self._roots(modelled, measured)
        apart = np.subtract(root, wanted, out=wanted)  # in place: images of all threads are in memory together
        slope = weight * apart
        value = 2.0 * float(np.sum(np.multiply(slope, apart, out=apart)))
        slope *= 2.0
        seen = root > NOTHING
        if seen.all():
            slope /= root
            return value, slope
        return value, np.where(seen, slope / np.where(seen, root, 1.0), 2.0 * weight)

    def curvature(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return w sqrt(I + e0) (I^ + e0)^(-3/2)."""
        root, wanted = self._roots(modelled, measured)
        return np.divide(weight * wanted, root**3, out=np.zeros_like(root), where=root > NOTHING)

    def gauss_newton(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return w/(I^ + e0)."""
        root, _ = self._roots(modelled, measured)
        return np.divide(weight, root**2, out=np.zeros_like(root), where=root > NOTHING)

    def residual(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return 2 sqrt(w) (sqrt(I^ + e0) - sqrt(I + e0))."""
        root, wanted = self._roots(modelled, measured)
        return 2.0 * np.sqrt(weight) * (root - wanted)


@dataclass(frozen=True)
class Poisson:
    """Half the Poisson deviance, sum w (m - y - y log(m/y)), m = I^ + e0, y = I + e0; zero where model is measurement.

    Attributes
    ----------
    e0 : float
        Background in the data's unit; > 0 keeps a ray that the model leaves empty finite.
    """

    e0: float

    def _means(self, modelled: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return modelled + self.e0, np.maximum(measured + self.e0, 0.0)

    def value_and_slope(
        self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the summed cost, and its derivative by each modelled intensity."""
        mean, counts = self._means(modelled, measured)
        some = (counts > 0.0) & (weight > 0.0)
        with np.errstate(divide="ignore"):  # an empty ray that was seen costs infinity: the caller says so
            ratio = np.divide(counts, mean, out=np.zeros_like(mean), where=some)
            logarithm = np.log(ratio, out=np.zeros_like(mean), where=some)
        return float(np.sum(weight * (mean - counts + counts * logarithm))), weight * (1.0 - ratio)

    def curvature(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return w y/m^2."""
        mean, counts = self._means(modelled, measured)
        return np.divide(weight * counts, mean * mean, out=np.zeros_like(mean), where=mean > 0.0)

    def gauss_newton(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return w/m, Fisher's information."""
        mean, _ = self._means(modelled, measured)
        return np.divide(weight, mean, out=np.zeros_like(mean), where=mean > 0.0)

    def residual(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the deviance residual, sign(m - y) sqrt(2 w (m - y - y log(m/y)))."""
        mean, counts = self._means(modelled, measured)
        logarithm = np.log(np.divide(counts, mean, out=np.ones_like(mean), where=(counts > 0.0) & (mean > 0.0)))
        return np.sign(mean - counts) * np.sqrt(2.0 * weight * np.maximum(mean - counts + counts * logarithm, 0.0))


@dataclass(frozen=True)
class Gaussian:
    """Half the weighted squares, sum w (I^ - I)^2/2: w is 1/variance."""

    def value_and_slope(
        self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the summed cost, and its derivative by each modelled intensity."""
        slope = weight * (modelled - measured)
        return 0.5 * float(np.sum(slope * (modelled - measured))), slope

    def curvature(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return w."""
        return weight

    gauss_newton = curvature

    def residual(self, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return sqrt(w) (I^ - I)."""
        return np.sqrt(weight) * (modelled - measured)


def turn(cost: Cost, seen: np.ndarray, through: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> float:
    """Return the summed cost of `through` times `seen`, and put its derivative by `seen` in the place of that.

    Parameters
    ----------
    cost : Cost
    seen, measured, weight : ndarray, shape (J, K, S)
        `seen` may be a view.
    through : ndarray, shape (J, K)

    Examples
    --------
    >>> seen = np.array([[[4.0]]])
    >>> turn(SquareRoot(), seen, np.ones((1, 1)), np.array([[[1.0]]]), np.array([[[3.0]]])), seen.item()
    (6.0, 3.0)
    """
    if isinstance(cost, SquareRoot):
        return float(square_root(seen, through, measured, weight, cost.e0))
    value, together = 0.0, max(1, LOT // seen[0].size)
    for lines in (slice(first, first + together) for first in range(0, len(seen), together)):
        factor = through[lines, :, None]
        part, slope = cost.value_and_slope(factor * seen[lines], measured[lines], weight[lines])
        np.multiply(factor, slope, out=seen[lines])
        value += part
    return value


BACKGROUND = 1e-3  # default e0 of the Poisson cost, of the mean measured intensity
NAMES = ("sqrt", "poisson", "gaussian")


def cost_of(name: str, e0: float | None, mean_intensity: float) -> Cost:
    """Return the cost of this name; `e0` None is 0, and for "poisson" a thousandth of the mean measured intensity,
    `mean_intensity`.

    Raises
    ------
    InputError
        If there is no such cost, or e0 is negative or not finite.

    Examples
    --------
    >>> cost_of("sqrt", None, 7.0)
    SquareRoot(e0=0.0)
    """
    if e0 is not None:
        e0 = require_range("e0", e0, "(the data's unit)", low=0.0)
    if name == "sqrt":
        return SquareRoot(e0 or 0.0)
    if name == "poisson":
        return Poisson(BACKGROUND * max(mean_intensity, 0.0) if e0 is None else e0)
    if name == "gaussian":
        return Gaussian()
    raise InputError(f"cost = {name!r}: must be one of {', '.join(NAMES)}")
