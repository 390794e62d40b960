"""The detector: where its pixels are, how they are sampled, and what of a ray its sensor keeps.

Units: metres. Vectors are lab vectors, the crystal is at the origin. A point of the sensor is
origin + F fast + S slow + O normal, with F and S measured from the outer corner of the first pixel and O, the depth,
from the front of the sensor; the normal points away from the crystal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import unit_vector
from exactgrad.errors import InputError, require_finite, require_range, require_shape

Places = Callable[[slice], tuple[np.ndarray, np.ndarray]]  # of pixels' numbers to slow and fast indices, shape (n,)
MOST_PIXELS = 1 << 28
MOST_SAMPLES = 1000  # sub-pixels along a side, and layers


@dataclass(frozen=True)
class Detector:
    """A flat detector, or one curved around the crystal.

    Attributes
    ----------
    pixel_m : float
        Side of a square pixel.
    pixels : (int, int)
        Numbers of pixels (slow, fast): the shape of an image.
    origin, fast, slow, normal : ndarray, shape (3,)
        Outer corner of the first pixel; orthogonal unit vectors along which F, S and O grow.
    oversample : int
        Sub-pixels along each side of a pixel.
    thickness_m, attenuation_per_m, layers : float, float, int
        Sensor; no absorption is modelled if the thickness is 0.
    layer_m : float, or None
        Depth of one layer; None is thickness/layers, so that the layers are the sensor.
    curved : bool
        True bends the sensor to a sphere around the crystal that touches the flat one at its nearest point; F and S
        are then arc lengths from there.
    point_pixel : bool
        True takes 1/R^2 (m^-2) for the solid angle of a pixel: no area, no obliquity.
    roi : (int, int, int, int), or None
        First and last fast, first and last slow pixel to render, ends included; None is all.
    mask : ndarray of bool, shape (slow, fast), or None
        Pixels to render.
    beam, distance_m : ndarray, shape (3,); float, or None
        Direction and length of the nominal direct beam, for image headers and the C program's curved detector.

    Raises
    ------
    InputError
        If a value is out of its range, the axes are not orthogonal, or the sensor faces away from the crystal.

    Examples
    --------
    >>> Detector(1e-4, (2, 3), origin=(0.1, 1e-4, -1.5e-4), fast=(0, 0, 1), slow=(0, -1, 0), normal=(1, 0, 0)).shape
    (2, 3)
    """

    pixel_m: float
    pixels: tuple[int, int]
    origin: Any
    fast: Any
    slow: Any
    normal: Any
    oversample: int = 1
    thickness_m: float = 0.0
    attenuation_per_m: float = 0.0
    layers: int = 1
    layer_m: Any = None
    curved: bool = False
    point_pixel: bool = False
    roi: tuple[int, int, int, int] | None = None
    mask: Any = None
    beam: Any = None
    distance_m: Any = None

    def __post_init__(self) -> None:
        require_range("detector.pixel", self.pixel_m, "m", low=1e-9, high=1.0)
        slow, fast = (_whole(f"detector.pixels ({n})", p) for n, p in zip(("slow", "fast"), self.pixels, strict=True))
        if slow * fast > MOST_PIXELS:
            raise InputError(f"detector.pixels = ({slow}, {fast}): at most {MOST_PIXELS} pixels are allowed")
        object.__setattr__(self, "pixels", (slow, fast))
        for name in ("oversample", "layers"):
            object.__setattr__(self, name, _whole(f"detector.{name}", getattr(self, name), MOST_SAMPLES))
        origin = require_shape("detector.origin", require_finite("detector.origin", self.origin, "m"), (3,))
        object.__setattr__(self, "origin", origin)
        for name in ("fast", "slow", "normal"):
            object.__setattr__(self, name, unit_vector(f"detector.{name}", getattr(self, name)))
        frame = np.stack([self.fast, self.slow, self.normal])
        if np.abs(frame @ frame.T - np.eye(3)).max() > 1e-6:
            raise InputError("detector: fast, slow and normal must be at right angles to one another (to 1e-6)")
        require_range("detector: distance along its normal", self.close_distance_m, "m", low=1e-6, high=1e6)
        require_range("detector.thickness", self.thickness_m, "m", low=0.0, high=1.0)
        require_range("detector.attenuation", self.attenuation_per_m, "1/m", low=0.0, high=1e12)
        layer = self.thickness_m / self.layers if self.layer_m is None else self.layer_m
        object.__setattr__(self, "layer_m", require_range("detector.layer", layer, "m", low=0.0, high=1.0))
        beam = self.normal if self.beam is None else unit_vector("detector.beam", self.beam)
        object.__setattr__(self, "beam", beam)
        distance = self.close_distance_m if self.distance_m is None else self.distance_m
        object.__setattr__(self, "distance_m", float(require_finite("detector.distance", distance, "m")))
        self._check_selection()

    def _check_selection(self) -> None:
        if self.roi is not None:
            roi = tuple(int(edge) for edge in require_shape("roi", require_finite("roi", self.roi), (4,)))
            limits = (0, self.pixels[1] - 1, 0, self.pixels[0] - 1)
            low = (max(roi[0], 0), min(roi[1], limits[1]), max(roi[2], 0), min(roi[3], limits[3]))
            if low[0] > low[1] or low[2] > low[3]:
                raise InputError(
                    f"detector.roi = {roi}: no pixel of {limits} (fast first, last, slow first, last) in it"
                )
            object.__setattr__(self, "roi", low)
        if self.mask is not None:
            mask = require_shape("detector.mask", np.asarray(self.mask), self.pixels)
            object.__setattr__(self, "mask", mask != 0)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (slow, fast) of an image."""
        return self.pixels

    @property
    def close_distance_m(self) -> float:
        """Distance from the crystal to the sensor's plane, along its normal."""
        return float(self.origin @ self.normal)

    @property
    def near_point_m(self) -> np.ndarray:
        """F and S of the point nearest to the crystal, shape (2,)."""
        return -np.array([self.origin @ self.fast, self.origin @ self.slow])

    def direct_beam_m(self) -> np.ndarray:
        """Return F and S of the nominal direct beam at its nominal distance, shape (2,)."""
        offset = self.distance_m * self.beam - self.origin
        return np.array([offset @ self.fast, offset @ self.slow])

    def rendered(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the slow and fast indices, shape (n,), of the pixels in the region of interest and the mask."""
        size, places = self.places()
        return places(slice(0, size))

    def places(self) -> tuple[int, Places]:
        """Return how many pixels are rendered, and the function that gives the indices of a part of `rendered`."""
        first, last, bottom, top = self.roi or (0, self.pixels[1] - 1, 0, self.pixels[0] - 1)
        columns = last - first + 1
        if self.mask is not None:
            slow, fast = np.nonzero(self.mask[bottom : top + 1, first : last + 1])
            slow, fast = slow + bottom, fast + first
            return slow.size, lambda part: (slow[part], fast[part])

        @cache
        def whole_rows(count: int) -> np.ndarray:
            return np.tile(np.arange(first, first + columns), count)

        def of_rectangle(part: slice) -> tuple[np.ndarray, np.ndarray]:
            top_row, end_row = part.start // columns, -(-part.stop // columns)
            inside = slice(part.start - top_row * columns, part.stop - top_row * columns)
            slow = np.repeat(np.arange(bottom + top_row, bottom + end_row), columns)
            return slow[inside], whole_rows(end_row - top_row)[inside]

        return (top - bottom + 1) * columns, of_rectangle

    def laid_out(self, values: np.ndarray) -> np.ndarray:
        """Return an image, shape (..., slow, fast), of the values, shape (..., n), of `rendered`; zero elsewhere."""
        leading = values.shape[:-1]
        if self.mask is None and self.roi is None:
            return values.reshape(*leading, *self.pixels)
        image = np.zeros((*leading, *self.pixels))
        image[..., *self.rendered()] = values
        return image

    def picked(self, image: np.ndarray) -> np.ndarray:
        """Return the values, shape (n,), of an image, shape (slow, fast), in the order of `rendered`."""
        if self.mask is None and self.roi is None:
            return np.ascontiguousarray(image, dtype=float).ravel()
        return np.ascontiguousarray(image[self.rendered()], dtype=float)


def _whole(name: str, value: Any, high: int = MOST_PIXELS) -> int:
    number = require_range(name, value, low=1, high=high)
    if number != int(number):
        raise InputError(f"{name} = {number:g}: a whole number is needed")
    return int(number)
