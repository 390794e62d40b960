"""From the mean number of photons in each pixel to what a detector would have recorded.

Units: photons before the read-out, ADU (the file's integers) after it. Steps in the order of the experiment, each a
function: flicker of the source, calibration error of the pixel, photon counting, spread of the signal over neighbours,
gain, offset and read-out noise, digits. The laws are those of J. Holton's noisify and simtbx; the random numbers are
NumPy's. The image that the C program makes with its own random numbers is `formats.nanobragg.noise_image`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from exactgrad.errors import InputError, require_finite, require_range

FIBER_SCALE = 0.5 / math.sqrt(2 ** (2 / 3) - 1)  # g of a fibre taper, per full width at half maximum
LARGEST_RADIUS_PX = 2048
LARGEST_MEAN = 1e15  # photons in a pixel; the integers of a double are exact up to 9e15
UINT16_MAX = 65535

SpreadKind = Literal["gaussian", "fiber"]


@dataclass(frozen=True)
class Readout:
    """What stands between photons and the numbers in the file; the defaults are a perfect photon counter.

    Parameters
    ----------
    flicker : float
        Relative standard deviation of the source during one pixel's exposure, e.g. 0.02; drawn anew at each image.
    calibration : float
        Relative standard deviation of the pixels' sensitivity; the same in every image of one `calibration_seed`.
    calibration_seed : int
        Names the detector whose sensitivities are meant.
    spread : {"gaussian", "fiber"} or None
        Shape of the point spread.
    spread_fwhm_px : float
        Its full width at half maximum, in pixels.
    gain_adu : float
        ADU per photon.
    offset_adu : float
        Added to every pixel.
    readout_adu : float
        Standard deviation of the read-out noise.
    saturation_adu : float
        The end of the trusted range: larger values are cut to it and counted as overloads; at most 65535.

    Raises
    ------
    InputError
        If a number is not finite or out of range; the message names it.

    Examples
    --------
    >>> Readout(gain_adu=2.0, readout_adu=3.0).offset_adu
    40.0
    """

    flicker: float = 0.0
    calibration: float = 0.0
    calibration_seed: int = 123456789
    spread: SpreadKind | None = None
    spread_fwhm_px: float = 1.0
    gain_adu: float = 1.0
    offset_adu: float = 40.0
    readout_adu: float = 0.0
    saturation_adu: float = UINT16_MAX

    def __post_init__(self) -> None:
        require_range("flicker", self.flicker, low=0.0, high=1.0)
        require_range("calibration", self.calibration, low=0.0, high=1.0)
        _generator("calibration_seed", self.calibration_seed)
        if self.spread not in (None, "gaussian", "fiber"):
            raise InputError(f"spread = {str(self.spread)[:40]!r}: must be gaussian, fiber or none")
        require_range("spread_fwhm", self.spread_fwhm_px, "px", low=0.0, high=LARGEST_RADIUS_PX, open_low=True)
        require_range("gain", self.gain_adu, "ADU/photon", low=0.0, open_low=True)
        require_range("offset", self.offset_adu, "ADU", low=0.0, high=UINT16_MAX)
        require_range("readout", self.readout_adu, "ADU", low=0.0)
        require_range("saturation", self.saturation_adu, "ADU", low=0.0, high=UINT16_MAX, open_low=True)


@dataclass(frozen=True)
class Recorded:
    """A recorded image: `counts` (uint16, ADU), `photons` counted in all, number of `overloads`."""

    counts: np.ndarray
    photons: float
    overloads: int


def record(mean_photons: np.ndarray, readout: Readout, seed: int) -> Recorded:
    """Return what a detector records of an image of mean photon numbers.

    Parameters
    ----------
    mean_photons : ndarray, shape (slow, fast)
        Expected photons per pixel, >= 0.
    readout : Readout
        The detector.
    seed : int
        >= 0; the same seed gives the same image.

    Returns
    -------
    Recorded

    Raises
    ------
    InputError
        If the image is not two-dimensional, finite and >= 0, or the seed is not a whole number >= 0.

    Examples
    --------
    >>> image = record(np.full((100, 100), 3.0), Readout(), seed=1)
    >>> round(float(image.counts.mean()) - 40, 4)
    2.9987
    """
    rng = _generator("seed", seed)
    mean = flickering(_checked(mean_photons), readout.flicker, rng)
    mean = mean * sensitivities(mean.shape, readout.calibration, readout.calibration_seed)
    photons = count_photons(mean, rng)
    signal = photons
    if readout.spread:
        signal = spread_over_pixels(photons, point_spread(readout.spread, readout.spread_fwhm_px))
    adu = read_out(signal, readout.gain_adu, readout.offset_adu, readout.readout_adu, rng)
    counts, overloads = digitize(adu, readout.saturation_adu)
    return Recorded(counts, float(photons.sum()), overloads)


def flickering(mean_photons: np.ndarray, relative: float, rng: np.random.Generator) -> np.ndarray:
    """Return mean photons under a source whose strength varies by `relative` (normal, never below 0)."""
    if relative == 0:
        return mean_photons
    return mean_photons * np.maximum(1 + relative * rng.standard_normal(mean_photons.shape), 0)


def sensitivities(shape: tuple[int, ...], relative: float, calibration_seed: int) -> np.ndarray:
    """Return each pixel's sensitivity: mean 1, standard deviation `relative`, fixed by the seed, never below 0."""
    if relative == 0:
        return np.ones(shape)
    rng = _generator("calibration_seed", calibration_seed)
    return np.maximum(1 + relative * rng.standard_normal(shape), 0)


def count_photons(mean_photons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return Poisson deviates (float64, whole numbers) of the means."""
    return rng.poisson(mean_photons).astype(np.float64)


def point_spread(kind: SpreadKind, fwhm_px: float, radius_px: int | None = None) -> np.ndarray:
    """Return the share of a point's signal that each pixel around it receives.

    Parameters
    ----------
    kind : {"gaussian", "fiber"}
        ``fiber`` is the law of a fibre taper, g / (2 pi (g^2 + r^2)^(3/2)), a Moffat profile of exponent 3/2.
    fwhm_px : float
        Full width at half maximum, in pixels.
    radius_px : int or None
        Pixels to either side; by default all but 1e-6 (gaussian) or 1 % (fiber) of the signal, at most 2048.

    Returns
    -------
    ndarray of float64, shape (2 radius + 1, 2 radius + 1)
        The law integrated over each pixel in closed form, then scaled to sum 1, so that no photon is lost in the middle
        of the image.

    Raises
    ------
    InputError
        If `fwhm_px` or `radius_px` is out of range.

    Examples
    --------
    >>> point_spread("gaussian", 1.0, 1).round(4)
    array([[0.0142, 0.0909, 0.0142],
           [0.0909, 0.5795, 0.0909],
           [0.0142, 0.0909, 0.0142]])
    """
    require_range("spread_fwhm", fwhm_px, "px", low=0.0, high=LARGEST_RADIUS_PX, open_low=True)
    scale = FIBER_SCALE * fwhm_px
    if radius_px is None:
        radius_px = min(LARGEST_RADIUS_PX, 1 + math.ceil(2.5 * fwhm_px if kind == "gaussian" else 100 * scale))
    radius = int(require_range("spread_radius", radius_px, "px", low=1, high=LARGEST_RADIUS_PX))
    edges = np.arange(-radius, radius + 2) - 0.5
    if kind == "gaussian":
        width = 2 * math.sqrt(math.log(2)) / fwhm_px
        line = np.diff([math.erf(width * edge) for edge in edges]) / 2
        kernel = np.outer(line, line)
    else:
        x, y = edges[None, :], edges[:, None]
        corner = np.arctan(x * y / (scale * np.sqrt(scale**2 + x**2 + y**2))) / (2 * math.pi)
        kernel = np.diff(np.diff(corner, axis=0), axis=1)
    return kernel / kernel.sum()


def spread_over_pixels(signal: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return `signal` convolved with `kernel`; what leaves the detector at its edges is lost."""
    from scipy.signal import fftconvolve

    return np.maximum(fftconvolve(signal, kernel, mode="full")[_middle(signal, kernel)], 0)


def _middle(signal: np.ndarray, kernel: np.ndarray) -> tuple[slice, ...]:
    # mode="same" of SciPy centres on the larger of the two, which may be the kernel
    starts = [size // 2 for size in kernel.shape]
    return tuple(slice(start, start + size) for start, size in zip(starts, signal.shape, strict=True))


def read_out(
    signal_photons: np.ndarray, gain_adu: float, offset_adu: float, readout_adu: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the signal in ADU: gain (ADU per photon), offset (ADU) and normal read-out noise (ADU)."""
    adu = signal_photons * gain_adu + offset_adu
    return adu + readout_adu * rng.standard_normal(adu.shape) if readout_adu else adu


def digitize(adu: np.ndarray, saturation_adu: float = UINT16_MAX) -> tuple[np.ndarray, int]:
    """Return ADU rounded to uint16 and the number of overloads (values cut to `saturation_adu`).

    Examples
    --------
    >>> digitize(np.array([[-3.0, 40.5, 1e6]]))
    (array([[    0,    41, 65535]], dtype=uint16), 1)
    """
    overloads = int(np.count_nonzero(adu > saturation_adu))
    return np.floor(np.clip(adu, 0, saturation_adu) + 0.5).clip(0, UINT16_MAX).astype(np.uint16), overloads


def _generator(name: str, seed: int) -> np.random.Generator:
    number = require_finite(name, seed)
    if number.ndim or number != math.floor(number) or number < 0 or number > 2**53:
        raise InputError(f"{name} = {str(seed)[:40]}: a whole number >= 0 is needed")
    return np.random.default_rng(int(number))


def _checked(mean_photons: np.ndarray) -> np.ndarray:
    image = require_finite("mean photons", mean_photons)
    if image.ndim != 2:
        raise InputError(f"mean photons: shape {image.shape} where (slow, fast) is needed")
    if image.size and (image.min() < 0 or image.max() > LARGEST_MEAN):
        bad = image.min() if image.min() < 0 else image.max()
        raise InputError(f"mean photons = {bad:g}: must be >= 0 and <= {LARGEST_MEAN:g}")
    return image
