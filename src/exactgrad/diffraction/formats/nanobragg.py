"""What the C program makes of its float image, bit for bit: integer image, preview, noise image, SMV header.

Rounding is the C program's: sums in double in pixel order, squares in float32, `floorf` for the integer image,
truncation for the other two. A region of interest is (first fast, last fast, first slow, last slow), ends included;
pixels outside stay 0 and draw no random number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exactgrad.diffraction.formats.bounds import require_image
from exactgrad.diffraction.noise import UINT16_MAX, Recorded
from exactgrad.diffraction.random_numbers import Ran1, poisson_deviates
from exactgrad.errors import InputError, require_finite, require_range

Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Statistics:
    """`maximum` and where it is (`fast`, `slow`), `mean`, `rms` and `rmsd` of a float image, as the program prints."""

    maximum: float
    fast: int
    slow: int
    mean: float
    rms: float
    rmsd: float


def statistics(float_image: np.ndarray, region: Region | None = None) -> Statistics:
    """Return the C program's statistics of a float image (photons, shape (slow, fast)).

    Examples
    --------
    >>> statistics([[0, 2], [4, 2]]).rmsd
    1.632993161855452
    """
    image, inside = _prepared(float_image, region)
    pixels = image[inside]
    values = pixels.astype(np.float64)
    count = max(pixels.size, 2) - 1
    mean = float(np.cumsum(values)[-1]) / pixels.size  # one after the other, not pairwise
    rms = (float(np.cumsum((pixels * pixels).astype(np.float64))[-1]) / count) ** 0.5
    rmsd = (float(np.cumsum((values - mean) ** 2)[-1]) / count) ** 0.5
    slow, fast = np.unravel_index(int(pixels.argmax()), pixels.shape)
    if not pixels.max() > 0:  # the program starts from a maximum of 0 that lies nowhere
        return Statistics(0.0, 0, 0, mean, rms, rmsd)
    return Statistics(float(pixels.max()), int(fast) + inside[1].start, int(slow) + inside[0].start, mean, rms, rmsd)


def integer_image(
    float_image: np.ndarray, scale: float | None = None, offset_adu: float = 40.0, region: Region | None = None
) -> tuple[np.ndarray, float]:
    """Return the program's ``-intfile`` pixels (uint16) and the scale used; None or <= 0 means 55000/maximum."""
    image, inside = _prepared(float_image, region)
    if scale is None or scale <= 0:
        maximum = statistics(image, region).maximum
        scale = 55000.0 / maximum if maximum > 0 else 1.0
    adu = np.clip(image[inside].astype(np.float64) * scale + offset_adu, 0.0, UINT16_MAX)
    pixels = np.zeros(image.shape, np.uint16)
    pixels[inside] = np.floor((adu + 0.5).astype(np.float32)).astype(np.uint16)
    return pixels, float(scale)


def preview_image(
    float_image: np.ndarray, scale: float | None = None, region: Region | None = None
) -> tuple[np.ndarray, float]:
    """Return the program's ``-pgmfile`` pixels (uint8) and the scale used; None or <= 0 means 250/(5 rmsd)."""
    image, inside = _prepared(float_image, region)
    if scale is None or scale <= 0:
        rmsd = statistics(image, region).rmsd
        scale = 250.0 / (5.0 * rmsd) if rmsd > 0 else integer_image(image, None, 0.0, region)[1]
    pixels = np.zeros(image.shape, np.uint8)
    pixels[inside] = np.minimum(image[inside].astype(np.float64) * scale, 255.0).astype(np.uint8)
    return pixels, float(scale)


def preview_comment(scale: float) -> str:
    """Return the comment line of the program's PGM file."""
    return f"pixels scaled by {scale:g}"


def noise_image(float_image: np.ndarray, seed: int, offset_adu: float = 40.0, region: Region | None = None) -> Recorded:
    """Return the program's ``-noisefile`` for ``-seed``: Poisson photons of its own generator, offset, cut, truncated.

    Parameters
    ----------
    float_image : ndarray, shape (slow, fast)
        Mean photons per pixel, >= 0.
    seed : int
        The option's number, 0 to 2147483647.
    offset_adu : float
        ``-adc``.
    region : tuple or None
        ``-roi``.

    Raises
    ------
    InputError
        If a pixel is negative or not finite, or the seed or region is out of range.

    Examples
    --------
    >>> noise_image([[0.0, 5.0], [50.0, 5e6]], seed=17)
    Recorded(counts=array([[   40,    48],
           [   86, 65535]], dtype=uint16), photons=4998681.5, overloads=1)
    """
    image, inside = _prepared(float_image, region)
    photons = poisson_deviates(Ran1(seed), image[inside]).astype(np.float64)
    adu = photons + offset_adu
    counts = np.zeros(image.shape, np.uint16)
    counts[inside] = np.minimum(adu, UINT16_MAX).astype(np.uint16)
    return Recorded(counts, float(np.cumsum(photons)[-1]), int(np.count_nonzero(adu > UINT16_MAX)))


def smv_header(
    *,
    shape: tuple[int, int],
    pixel_size_mm: float,
    distance_mm: float,
    wavelength_angstrom: float,
    beam_mm: tuple[float, float],
    beam_fast_slow_mm: tuple[float, float],
    dials_origin_mm: tuple[float, float, float],
    xds_origin_px: tuple[float, float],
    close_distance_mm: float,
    phi_deg: float = 0.0,
    oscillation_deg: float = 0.0,
    twotheta_deg: float = 0.0,
) -> dict[str, str]:
    """Return the keys after SIZE2 of the program's SMV files, in its order, with its six digits.

    Parameters
    ----------
    shape : (int, int)
        Pixels along (slow, fast).
    beam_mm : (float, float)
        Xbeam, Ybeam: the beam centre in the convention that the user chose.
    beam_fast_slow_mm : (float, float)
        Fbeam, Sbeam: the same along the detector's axes.
    xds_origin_px : (float, float)
        ORGX, ORGY.

    Raises
    ------
    InputError
        If a number is not finite.
    """
    fast_mm, slow_mm = require_finite("beam_fast_slow", beam_fast_slow_mm, "mm").tolist()
    half = 0.5 * pixel_size_mm
    values = {
        "PIXEL_SIZE": pixel_size_mm,
        "DISTANCE": distance_mm,
        "WAVELENGTH": wavelength_angstrom,
        "BEAM_CENTER_X": beam_mm[0],
        "BEAM_CENTER_Y": beam_mm[1],
        "ADXV_CENTER_X": fast_mm,
        "ADXV_CENTER_Y": shape[0] * pixel_size_mm - slow_mm,
        "MOSFLM_CENTER_X": slow_mm - half,
        "MOSFLM_CENTER_Y": fast_mm - half,
        "DENZO_X_BEAM": slow_mm,
        "DENZO_Y_BEAM": fast_mm,
        "DIALS_ORIGIN": dials_origin_mm,
        "XDS_ORGX": xds_origin_px[0],
        "XDS_ORGY": xds_origin_px[1],
        "CLOSE_DISTANCE": close_distance_mm,
        "PHI": phi_deg,
        "OSC_START": phi_deg,
        "OSC_RANGE": oscillation_deg,
        "TWOTHETA": twotheta_deg,
    }
    text = {key: ",".join(f"{v:g}" for v in require_finite(key, value).ravel()) for key, value in values.items()}
    return text | {"DETECTOR_SN": "000", "BEAMLINE": "fake"}


def _prepared(float_image: np.ndarray, region: Region | None) -> tuple[np.ndarray, tuple[slice, slice]]:
    image = require_image(float_image).astype(np.float32)
    require_finite("image", image)
    if image.min() < 0:
        raise InputError(f"image: its smallest pixel is {image.min():g} photons; must be >= 0")
    if region is None:
        return image, (slice(0, image.shape[0]), slice(0, image.shape[1]))
    first_fast, last_fast, first_slow, last_slow = (int(require_range("region", v, "px", low=0)) for v in region)
    inside = (slice(first_slow, last_slow + 1), slice(first_fast, last_fast + 1))
    if image[inside].size == 0:
        raise InputError(f"region {tuple(region)}: no pixel of an image of shape {image.shape} lies inside")
    return image, inside
