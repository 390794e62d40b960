"""Spots in a recorded image: local maxima that stand clear of their surroundings, and their centroids.

A plain finder for refinement that begins far off: it needs most of the strong spots, not all, and no index.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exactgrad.diffraction.losses import Observed
from exactgrad.errors import require_range

CORE_PX = 3  # side of the box whose sum stands for a spot's light
SURROUNDINGS_PX = 21
ROUNDS = 3  # of a background from which the spots are taken out
TAKEN_OUT_SIGMA = 3.0
FIRST_OF_EQUALS = 1e-10  # a pixel's handicap against the one before it: equal neighbours are one spot


@dataclass(frozen=True)
class Peaks:
    """Spots as seen, the clearest first.

    Attributes
    ----------
    position_px : ndarray, shape (n, 2)
        Centroids, (slow, fast), whole numbers being pixel centres.
    sigma_px : ndarray, shape (n,)
        Standard error of a centroid, of either coordinate: from counting, the spot's size and its light.
    photons : ndarray, shape (n,)
        Light above the background in the window of the centroid.
    """

    position_px: np.ndarray
    sigma_px: np.ndarray
    photons: np.ndarray

    def __len__(self) -> int:
        return len(self.photons)


def find_peaks(observed: Observed, least_sigma: float = 6.0, radius_px: int = 3, most: int = 2000) -> Peaks:
    """Return the spots of an image.

    Parameters
    ----------
    observed : Observed
        Pixels that do not count are taken as their surroundings.
    least_sigma : float
        A 3 x 3 box must exceed its background by so many standard deviations.
    radius_px : int
        Of the square window of a centroid; of two maxima within it the higher counts.
    most : int
        The clearest so many are returned.

    Examples
    --------
    >>> from exactgrad.diffraction.losses import observe
    >>> image = np.full((40, 50), 4.0)
    >>> image[11:13, 20] += 100.0
    >>> find_peaks(observe(image)).position_px.round(6).tolist()
    [[11.5, 20.0]]
    """
    from scipy.ndimage import maximum_filter, uniform_filter

    require_range("least_sigma", least_sigma, low=1.0, high=1e6)
    level, counted = _background(observed), observed.counted
    clear = np.where(counted, observed.photons - level, 0.0)
    noise = np.sqrt(np.maximum(level, 0.1) + observed.readout_photons**2)
    box = CORE_PX * uniform_filter(clear, CORE_PX, mode="constant") / noise  # a sum over its standard deviation
    box -= FIRST_OF_EQUALS * np.arange(box.size).reshape(box.shape)
    highest = box == maximum_filter(box, 2 * radius_px + 1, mode="constant", cval=-np.inf)
    slow, fast = np.nonzero(highest & counted & (box >= least_sigma))
    order = np.argsort(-box[slow, fast], kind="stable")[:most]
    found = [_centroid(clear, level, observed, s, f, radius_px) for s, f in zip(slow[order], fast[order], strict=True)]
    table = np.array([one for one in found if one is not None]).reshape(-1, 4)
    return Peaks(table[:, :2], table[:, 2], table[:, 3])


def _background(observed: Observed) -> np.ndarray:
    """Return the mean of each pixel's surroundings, without what stands out of them."""
    from scipy.ndimage import uniform_filter

    kept = observed.counted.copy()
    level = np.zeros(kept.shape)
    for _ in range(ROUNDS):
        share = uniform_filter(kept.astype(np.float64), SURROUNDINGS_PX, mode="constant")
        total = uniform_filter(np.where(kept, observed.photons, 0.0), SURROUNDINGS_PX, mode="constant")
        overall = float(observed.photons[kept].mean())
        level = np.divide(total, share, out=np.full(kept.shape, overall), where=share > 0.05)
        noise = np.sqrt(np.maximum(level, 0.1) + observed.readout_photons**2)
        narrowed = observed.counted & (observed.photons - level < TAKEN_OUT_SIGMA * noise + 1.0)
        if not narrowed.any():
            break
        kept = narrowed
    return level


def _centroid(
    clear: np.ndarray, level: np.ndarray, observed: Observed, slow: int, fast: int, radius: int
) -> tuple[float, float, float, float] | None:
    """Return slow, fast, standard error and photons of the spot at a maximum, or None where there is none after all."""
    s0, f0 = max(slow - radius, 0), max(fast - radius, 0)
    window = slice(s0, slow + radius + 1), slice(f0, fast + radius + 1)
    light = np.maximum(clear[window], 0.0)
    noise = np.sqrt(np.maximum(level[window], 0.1) + observed.readout_photons**2)
    light = np.where(light > 1.5 * noise, light, 0.0)  # so that the wings' noise does not pull
    total = float(light.sum())
    if total <= 0:
        return None
    s, f = np.arange(light.shape[0]) + s0, np.arange(light.shape[1]) + f0
    along_s, along_f = light.sum(axis=1), light.sum(axis=0)
    at = float(along_s @ s) / total, float(along_f @ f) / total
    spread = float(along_s @ (s - at[0]) ** 2 + along_f @ (f - at[1]) ** 2) / total / 2
    return *at, float(np.sqrt((spread + 1 / 12) / total)), total
