"""The background under the spots, solved for at every evaluation: its best coefficients given the spots.

A background is linear, so that its coefficients need no place among the unknowns. The loss minimised over them, the
profile, has the gradient that it has at fixed coefficients; its Gauss-Newton curvature is the Schur complement, so
that standard errors count what the background leaves open. Pixels are those of the regions, in the order of `Planes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from exactgrad.diffraction import background_kernel as kernel
from exactgrad.diffraction.background import Planes
from exactgrad.diffraction.losses import Gaussian, Huber, Loss, Observed, PixelLoss, Poisson, StudentT
from exactgrad.diffraction.spots import Regions
from exactgrad.errors import InputError

KINDS = ("planes", "flat", "none")
ASIDE = 1e-6  # of the photons, for differences of a loss's slope
LEAST_START = 0.05  # photons


@dataclass(frozen=True)
class Backdrop:
    """The pixels that are compared, what was recorded there, and what lies under the spots.

    Attributes
    ----------
    slow, fast : ndarray of int, shape (n,)
        The pixels.
    observed : Observed
        Of shape (1, n); all count.
    planes : Planes
        Over an image of one row, these pixels.
    start : ndarray
        Coefficients from which every evaluation begins, so that it depends on nothing before.
    """

    slow: np.ndarray
    fast: np.ndarray
    observed: Observed
    planes: Planes
    start: np.ndarray

    @classmethod
    def of(cls, observed: Observed, regions: Regions, kind: str = "planes") -> Backdrop:
        """Return the pixels of the regions that count, with the background of a kind of `KINDS` under them.

        Raises
        ------
        InputError
            If the kind is unknown, or no pixel is left.
        """
        if kind not in KINDS:
            raise InputError(f"refine.background = {kind[:40]!r}: must be one of {', '.join(KINDS)}")
        if kind != "planes":
            regions = replace(regions, owner=np.where(regions.mask, 0, -1), boxes=regions.boxes[:1])
        planes = Planes.of(regions, observed.counted)
        slow, fast, n = planes.slow, planes.fast, planes.slow.size
        kept, basis = planes.kept.copy(), planes.basis
        if kind != "planes":
            kept[:] = [[kind == "flat", False, False]]
            basis = basis * kept[planes.region]
        row = Planes(np.zeros(n, dtype=np.int64), np.arange(n), planes.region, basis, kept, (1, n))
        seen = replace(observed, photons=observed.photons[None, slow, fast], counted=np.ones((1, n), dtype=bool))
        return cls(slow, fast, seen, row, _first(seen.photons[0], row))

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.slow.size

    def picked(self, image: np.ndarray) -> np.ndarray:
        """Return an image's values, shape (..., 1, n), of the pixels."""
        return image[..., None, self.slow, self.fast]

    def laid_out(self, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return an image, shape (slow, fast), of values of the pixels, zero elsewhere."""
        image = np.zeros(shape)
        image[self.slow, self.fast] = np.ravel(values)
        return image

    def fitted(self, loss: Loss, spots: np.ndarray) -> tuple[np.ndarray, PixelLoss]:
        """Return the best coefficients under spots, shape (1, n), and the loss of every pixel there."""
        known = _known(loss, self.observed)
        if known is None or self.planes.size == 0:
            return self.fitted_to_any(loss, spots)
        planes = np.zeros(self.planes.kept.shape)
        planes[self.planes.kept] = self.start
        flat = (np.array(array).ravel() for array in (spots, self.observed.photons, known[-1]))
        kernel.fit(*known[:-1], *flat, self.planes.basis, self._firsts, planes)
        c = planes[self.planes.kept]
        return c, loss.at(spots + self.planes.image(c), self.observed)

    def fitted_to_any(self, loss: Loss, spots: np.ndarray) -> tuple[np.ndarray, PixelLoss]:
        """Return the same for a loss that the kernel does not know; slower by far.

        Newton's method, region by region: a step that would not lower a region's loss is halved.
        """
        planes, c = self.planes, self.start
        model = spots + planes.image(c)
        at = loss.at(model, self.observed)
        if planes.size == 0:
            return c, at
        regions = np.argwhere(planes.kept)[:, 0]
        share = np.ones(len(planes.kept))
        step, length = self._step(loss, model, at)
        for _ in range(kernel.MOST_STEPS):
            tried = c + share[regions] * step
            model = spots + planes.image(tried)
            there = loss.at(model, self.observed)
            before, after = self._by_region(at.value), self._by_region(there.value)
            worse = (after > before + kernel.NO_WORSE * np.abs(before)) & (share > kernel.LEAST_SHARE)
            if worse.any():
                share = np.where(worse, 0.5 * share, share)
                continue
            c, at, share, last = tried, there, np.ones(len(planes.kept)), length
            step, length = self._step(loss, model, at)
            if length < kernel.SETTLED or (length < kernel.ROUNDED and length >= 0.5 * last):  # rounding
                break
        return c, at

    def curvature(self, at: PixelLoss, moved: np.ndarray) -> np.ndarray:
        """Return the Gauss-Newton curvature of the profile, shape (K, K), from the derivatives (K, 1, n) of spots."""
        rows = moved[:, 0]
        total = (rows * at.weight[0]) @ rows.T
        if self.planes.size == 0:
            return total
        weighted, by_region = at.weight * rows, np.zeros((len(rows), *self.planes.kept.shape))
        starts = np.flatnonzero(np.diff(self.planes.region, prepend=-1))
        for column, basis in enumerate(self.planes.basis.T):
            by_region[:, self.planes.region[starts], column] = np.add.reduceat(weighted * basis, starts, axis=1)
        solved = np.einsum("rij,krj->kri", self._inverse(at.weight), by_region)
        return total - np.einsum("kri,lri->kl", by_region, solved)

    def _step(self, loss: Loss, model: np.ndarray, at: PixelLoss) -> tuple[np.ndarray, float]:
        """Return Newton's step and the largest region's squared length of it, in standard errors.

        The second derivative is a difference of the first, pixel by pixel; where a loss curves little or down, a small
        part of the expected one stands in.
        """
        aside = ASIDE * (np.abs(model) + self.observed.readout_photons**2 + 1e-3)
        seen = (loss.at(model + aside, self.observed).derivative - at.derivative) / aside
        slope = np.zeros(self.planes.kept.shape)
        slope[self.planes.kept] = self.planes.pull(at.derivative)
        step = -np.einsum("rij,rj->ri", self._inverse(np.maximum(seen, kernel.LEAST_CURVED * at.weight)), slope)
        return step[self.planes.kept], float(np.abs((slope * step).sum(axis=1)).max())

    def _inverse(self, weight: np.ndarray) -> np.ndarray:
        """Return the inverse of every region's curvature, shape (regions, 3, 3); 0 for what it does not have."""
        products = self.planes.products(weight)
        diagonal = np.diagonal(products, axis1=1, axis2=2)
        unit = np.divide(1.0, np.sqrt(np.maximum(diagonal, 0)), out=np.zeros(diagonal.shape), where=diagonal > 0)
        scaled = products * unit[:, :, None] * unit[:, None, :]
        scaled[:, range(3), range(3)] = 1.0
        return np.linalg.inv(scaled) * unit[:, :, None] * unit[:, None, :]

    @property
    def _firsts(self) -> np.ndarray:
        """Where the pixels of each region begin, and where the last ones end."""
        return np.searchsorted(self.planes.region, np.arange(len(self.planes.kept) + 1))

    def _by_region(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.planes.region, values[0], len(self.planes.kept))


def _first(photons: np.ndarray, planes: Planes) -> np.ndarray:
    """Return coefficients to begin with: level, at the mean of the darker half of each region's pixels."""
    first = np.zeros(planes.kept.shape)
    starts = np.flatnonzero(np.diff(planes.region, prepend=-1))
    for part in np.split(np.arange(photons.size), starts[1:]):
        dark = np.sort(photons[part])[: -(-part.size // 2)]
        first[planes.region[part[0]], 0] = max(float(dark.mean()), LEAST_START)
    return first[planes.kept]


def _known(loss: Loss, observed: Observed) -> tuple[int, float, float, np.ndarray] | None:
    """Return which loss of the kernel's this is, its shape, its information, and the noise of every pixel."""
    shape, one = observed.photons.shape, np.broadcast_to
    match loss:
        case Poisson():
            return kernel.POISSON, 0.0, 0.0, one(observed.readout_photons**2, shape)
        case Gaussian():
            return kernel.GAUSSIAN, 0.0, 1.0, one(loss.sigma_photons, shape)
        case StudentT():
            return kernel.STUDENT, loss.freedom, loss.information, one(loss.sigma_photons, shape)
        case Huber():
            return kernel.HUBER, loss.bend, loss.information, one(loss.sigma_photons, shape)
    return None
