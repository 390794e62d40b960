"""Losses of an image: minus the log density of what was recorded, pixel by pixel, given the expected photons.

Unit: photons. A recorded image is brought to photons once (`observe`); a density in photons differs from that in ADU
by the constant log(gain). Every loss returns three images: its value, its derivative by the expected photons I, and
its Gauss-Newton weight, the expected second derivative (Fisher's information), which is never negative.

Pixels that are masked, or outside the trusted range, are left out: they count 0 in all three. An overloaded pixel is
excluded, not censored: that it was bright is not used, and where I is within a few sigma of saturation the upward
fluctuations are missing, so that saturation should be set below the detector's own where this matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import erf, exp, lgamma, log, pi, sqrt
from typing import Any, Protocol

import numpy as np

from exactgrad.errors import InputError, require_finite, require_range, require_shape

FLOOR = 1e-6  # photons (after the shift by read-out) below which -log is continued by its parabola
WALL = 1e-4  # photons below zero that cost 1/2; a harder wall would leave its own derivative without digits
LARGEST_PHOTONS = 1e15


@dataclass(frozen=True)
class Observed:
    """A recorded image in photons.

    Attributes
    ----------
    photons : ndarray
        (ADU - offset)/gain; 0 where not counted.
    counted : ndarray of bool, the same shape
        Pixels that speak.
    readout_photons : float
        Standard deviation of the read-out noise.
    """

    photons: np.ndarray
    counted: np.ndarray
    readout_photons: float = 0.0

    @property
    def size(self) -> int:
        """Number of pixels that count."""
        return int(np.count_nonzero(self.counted))

    @cached_property
    def log_gamma(self) -> np.ndarray:
        """Log Gamma(n + 1) of n = photons + read-out variance, as of n = 0 where n < 0; 0 where not counted."""
        from scipy.special import gammaln

        constant = np.zeros(self.photons.shape)
        shifted = self.photons[self.counted] + self.readout_photons**2
        constant[self.counted] = gammaln(np.maximum(shifted, 0.0) + 1.0)
        return constant

    def within(self, mask: np.ndarray) -> Observed:
        """Return the same with only the mask's pixels counted; raises `InputError` if none is left."""
        counted = self.counted & (require_shape("mask", np.asarray(mask), self.counted.shape) != 0)
        if not counted.any():
            raise InputError("mask: no pixel that counts is in it")
        return replace(self, counted=counted)


@dataclass(frozen=True)
class PixelLoss:
    """A loss at every pixel: `value`, `derivative` by I, expected second derivative `weight`; 0 where not counted."""

    value: np.ndarray
    derivative: np.ndarray
    weight: np.ndarray

    @property
    def total(self) -> float:
        """The loss of the image."""
        return float(self.value.sum())


class Loss(Protocol):
    """Minus the log density of the recorded photons."""

    def at(self, expected: np.ndarray, observed: Observed) -> PixelLoss:
        """Return the loss of every pixel at the expected photons, an array of the observed shape."""


def observe(
    adu: Any,
    gain_adu: float = 1.0,
    offset_adu: float = 0.0,
    readout_adu: float = 0.0,
    trusted_adu: tuple[float, float] = (-np.inf, np.inf),
    mask: Any = None,
) -> Observed:
    """Return a recorded image in photons.

    Parameters
    ----------
    adu : array_like
        The numbers in the file; where they are not counted they may be anything.
    gain_adu, offset_adu, readout_adu : float
        ADU per photon; ADU where there is none; standard deviation of the read-out noise in ADU.
    trusted_adu : (float, float)
        Smallest and largest value believed, both included; so the largest lies below saturation.
    mask : array_like of bool, or None
        Pixels to count.

    Raises
    ------
    InputError
        If a number is not finite or out of range, a shape differs, or no pixel counts.

    Examples
    --------
    >>> seen = observe([[40.0, 44.0, 65535.0]], gain_adu=2.0, offset_adu=40.0, trusted_adu=(0, 65534))
    >>> seen.photons.tolist(), seen.counted.tolist()
    ([[0.0, 2.0, 0.0]], [[True, True, False]])
    """
    gain = require_range("gain", gain_adu, "ADU/photon", low=0.0, open_low=True)
    offset = require_range("offset", offset_adu, "ADU")
    readout = require_range("readout", readout_adu, "ADU", low=0.0) / gain
    low, high = trusted_adu
    if not low <= high:
        raise InputError(f"trusted range = {low} to {high} ADU: the first must not exceed the second")
    values = np.asarray(adu)
    if values.dtype.kind not in "biuf":
        raise InputError(f"image: numbers are needed, got {values.dtype}")
    wanted = np.ones(values.shape, bool) if mask is None else require_shape("mask", np.asarray(mask) != 0, values.shape)
    counted = wanted & (values >= low) & (values <= high)  # False for NaN, too
    if not counted.any():
        raise InputError(f"image: no pixel is both unmasked and from {low} to {high} ADU")
    photons = np.zeros(values.shape)
    photons[counted] = (values[counted].astype(np.float64) - offset) / gain
    require_finite("image", photons, "photons")
    if np.abs(photons).max() > LARGEST_PHOTONS:
        raise InputError(
            f"image: {np.abs(photons).max():g} photons in a pixel; at most {LARGEST_PHOTONS:g} are allowed"
        )
    return Observed(photons, counted, readout)


def sigma_of(photons: Any, readout_photons: float, least_photons: float = 1.0) -> np.ndarray:
    """Return sqrt(photons + readout_photons^2), the photons taken as at least `least_photons`; raises `InputError`.

    From recorded photons this favours low expectations (a pixel that fluctuated down weighs more); from expected ones
    it does not. `Poisson` needs neither.
    """
    readout = require_range("readout", readout_photons, "photons", low=0.0)
    least = require_range("least_photons", least_photons, "photons", low=0.0, open_low=True)
    return np.sqrt(np.maximum(require_finite("photons", photons), least) + readout**2)


@dataclass(frozen=True)
class Poisson:
    """Counted photons with read-out noise: the shifted Poisson law, exact where there is no read-out noise.

    With n = y + r^2 and m = I + r^2 (y the recorded photons, r the read-out's sigma) the loss is
    m - n log m + log Gamma(n + 1). Its derivative is (I - y)/(I + r^2): of mean zero and variance 1/(I + r^2), which
    is its weight, at any I and r, so that standard errors are right in the darkest image as well; the law itself has
    the right mean and variance (Snyder, Helstrom, Lanterman, Faisal & White 1995, J. Opt. Soc. Am. A 12, 272).

    Below m = 1e-6 -log m is continued by its parabola: value and derivative stay finite and join smoothly. A pixel of
    n = 0 costs m, without any log. Negative m, which no light has but a fitted background may, costs a steep parabola
    where n < 1 would let it gain. Where noise makes n negative, log Gamma(n + 1), a constant, is that of n = 0.

    Examples
    --------
    >>> dark = Poisson().at(np.array([0.0, 2.0]), observe([0.0, 2.0]))
    >>> dark.value.round(6).tolist(), dark.derivative.tolist()
    ([0.0, 1.306853], [1.0, 0.0])
    """

    def at(self, expected: np.ndarray, observed: Observed) -> PixelLoss:
        """Return the loss of every pixel; see `Loss`."""
        shift = observed.readout_photons**2
        n, m = observed.photons + shift, _matching(expected, observed) + shift
        safe = np.maximum(m, FLOOR)
        below = (m - safe) / FLOOR  # 0 above the floor
        minus_log = below * (0.5 * below - 1.0) - np.log(safe)
        slope = np.where(below < 0, (below - 1.0) / FLOOR, -1.0 / safe)
        wall = np.where(n < 0, FLOOR, WALL)  # as hard as what a negative n gains from the logarithm
        negative, steep = np.minimum(m, 0.0) / wall, np.maximum(1.0 - n, 0.0)
        value = m + n * minus_log + 0.5 * steep * negative**2 + observed.log_gamma
        return _counted(observed, value, 1.0 + n * slope + steep * negative / wall, 1.0 / safe)


@dataclass(frozen=True)
class Gaussian:
    """Normal noise of known `sigma_photons`, a number or an image (see `sigma_of`).

    Raises
    ------
    InputError
        If a sigma is not finite and > 0.
    """

    sigma_photons: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma_photons", _require_sigma(self.sigma_photons))

    def at(self, expected: np.ndarray, observed: Observed) -> PixelLoss:
        """Return the loss of every pixel; see `Loss`."""
        z = (_matching(expected, observed) - observed.photons) / self.sigma_photons
        value = 0.5 * z * z + np.log(self.sigma_photons) + 0.5 * log(2 * pi)
        return _counted(observed, value, z / self.sigma_photons, self.sigma_photons**-2)


@dataclass(frozen=True)
class StudentT:
    """Student's t of `freedom` degrees on the residual over `sigma_photons`: outliers lose their pull, far ones all."""

    sigma_photons: Any
    freedom: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma_photons", _require_sigma(self.sigma_photons))
        require_range("freedom", self.freedom, low=1.0, high=1e6)

    def at(self, expected: np.ndarray, observed: Observed) -> PixelLoss:
        """Return the loss of every pixel; see `Loss`."""
        nu, sigma = self.freedom, self.sigma_photons
        z = (_matching(expected, observed) - observed.photons) / sigma
        constant = lgamma(nu / 2) - lgamma((nu + 1) / 2) + 0.5 * log(nu * pi)
        value = 0.5 * (nu + 1) * np.log1p(z * z / nu) + np.log(sigma) + constant
        derivative = (nu + 1) * z / (nu + z * z) / sigma
        return _counted(observed, value, derivative, self.information * sigma**-2)

    @property
    def information(self) -> float:
        """The expected second derivative at a sigma of one."""
        return (self.freedom + 1) / (self.freedom + 3)


@dataclass(frozen=True)
class Huber:
    """Huber's density on the residual over `sigma_photons`: normal up to `bend` sigma, exponential beyond.

    The weight is the expected second derivative under that density. At the default bend 95 % of the data's
    information is kept if they are normal after all.
    """

    sigma_photons: Any
    bend: float = 1.345

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma_photons", _require_sigma(self.sigma_photons))
        require_range("bend", self.bend, "sigma", low=0.01, high=100.0)

    def at(self, expected: np.ndarray, observed: Observed) -> PixelLoss:
        """Return the loss of every pixel; see `Loss`."""
        k, sigma = self.bend, self.sigma_photons
        z = (_matching(expected, observed) - observed.photons) / sigma
        bent = np.clip(z, -k, k)
        value = bent * (z - 0.5 * bent) + np.log(sigma) + log(sum(self._masses))
        return _counted(observed, value, bent / sigma, self.information * sigma**-2)

    @property
    def information(self) -> float:
        """The expected second derivative at a sigma of one."""
        return self._masses[0] / sum(self._masses)

    @property
    def _masses(self) -> tuple[float, float]:
        """Of the density's middle, and of both tails, not yet scaled to a sum of one."""
        return sqrt(2 * pi) * erf(self.bend / sqrt(2)), 2 * exp(-0.5 * self.bend**2) / self.bend


def _require_sigma(sigma: Any) -> np.ndarray:
    values = require_finite("sigma", sigma, "photons")
    if values.size == 0 or not (values > 0).all():
        raise InputError("sigma: must be > 0 photons at every pixel")
    return values


def _matching(expected: np.ndarray, observed: Observed) -> np.ndarray:
    return require_shape("expected image", np.asarray(expected, dtype=np.float64), observed.photons.shape)


def _counted(observed: Observed, value: np.ndarray, derivative: np.ndarray, weight: Any) -> PixelLoss:
    kept = (np.where(observed.counted, image, 0.0) for image in (value, derivative, weight))
    return PixelLoss(*kept)
