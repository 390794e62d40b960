"""The detector as its user states it: placement, beam centre in the convention's own numbers, sensor, sampling.

Units: metres, radians; ORGX and ORGY in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.geometry import Convention, Placement
from exactgrad.errors import InputError

CENTRES = {  # what states a centre, and of which point
    "Xbeam": "beam",
    "Ybeam": "beam",
    "beam_f": "beam",
    "beam_s": "beam",
    "Xclose": "near",
    "Yclose": "near",
    "ORGX": "near",
    "ORGY": "near",
}
NO_SENSOR = "there is no absorbing sensor; give -detector_thick and -detector_abs"


@dataclass(frozen=True)
class DetectorSettings:
    """A detector as stated.

    Attributes
    ----------
    placement : Placement
    convention : Convention
        In whose numbers Xbeam and Ybeam are.
    pixel_m : float
    pixels : (int, int)
        (slow, fast).
    size_slow_m : float
        Length along slow from which ADXV counts its Ybeam.
    oversample, curved, point_pixel, roi, mask
        As those of `Detector`.
    thickness_m : float
        0: no absorption is modelled.
    attenuation_per_m : float or None
        None: one over the thickness.
    layers : int
    layer_share : float
        Depth of a layer as a share of the thickness.
    """

    placement: Placement
    convention: Convention
    pixel_m: float
    pixels: tuple[int, int]
    size_slow_m: float
    oversample: int = 1
    curved: bool = False
    point_pixel: bool = False
    roi: Any = None
    mask: Any = None
    thickness_m: float = 0.0
    attenuation_per_m: float | None = None
    layers: int = 1
    layer_share: float = 1.0

    def detector(self) -> Detector:
        """Return the detector where it stands."""
        sensor: dict[str, Any] = {}
        if self.thickness_m > 0:
            sensor = {
                "thickness_m": self.thickness_m,
                "attenuation_per_m": self.absorption_per_m,
                "layers": self.layers,
                "layer_m": self.thickness_m * self.layer_share,
            }
        return self.placement.place(
            pixel_m=self.pixel_m,
            pixels=self.pixels,
            oversample=self.oversample,
            curved=self.curved,
            point_pixel=self.point_pixel,
            roi=self.roi,
            mask=self.mask,
            **sensor,
        )

    @property
    def absorption_per_m(self) -> float:
        """Attenuation of the sensor; raises `InputError` if there is none."""
        if self.thickness_m <= 0:
            raise InputError(NO_SENSOR)
        return 1.0 / self.thickness_m if self.attenuation_per_m is None else self.attenuation_per_m

    def centre(self, key: str) -> float:
        """Return a number of `CENTRES`: metres, of ORGX and ORGY pixels."""
        self.require_centre(key)
        f, s = self.placement.position_at(CENTRES[key])
        x, y = self.convention.beam_centre(f, s, self.size_slow_m, self.pixel_m)
        return {
            "Xbeam": x,
            "Ybeam": y,
            "beam_f": f,
            "beam_s": s,
            "Xclose": f,
            "Yclose": s,
            "ORGX": f / self.pixel_m + 0.5,
            "ORGY": s / self.pixel_m + 0.5,
        }[key]

    def centre_slope(self, key: str) -> tuple[float, float]:
        """Return how far (F, S) moves, metres per one of the number's own units; exact, since all are linear."""
        slopes = {"ORGX": (self.pixel_m, 0.0), "ORGY": (0.0, self.pixel_m)}
        slopes |= dict.fromkeys(("beam_f", "Xclose"), (1.0, 0.0)) | dict.fromkeys(("beam_s", "Yclose"), (0.0, 1.0))
        return {
            "Xbeam": self.convention.beam_position(1.0, 0.0, 0.0, 0.0),
            "Ybeam": self.convention.beam_position(0.0, 1.0, 0.0, 0.0),
        }.get(key) or slopes[key]

    def require_centre(self, key: str) -> None:
        """Raise `InputError` if the detector is not stated by a centre."""
        if self.placement.origin is not None:
            raise InputError(f"{key}: -pix0_vector says where the detector is; name pix0_x, pix0_y or pix0_z")

    def with_centre(self, key: str, value: float) -> DetectorSettings:
        """Return these settings with a number of `CENTRES` changed and the others of its kind kept."""
        self.require_centre(key)
        change = value - self.centre(key)
        (f, s), (by_f, by_s) = self.placement.position, self.centre_slope(key)
        return replace(self, placement=replace(self.placement, position=(f + change * by_f, s + change * by_s)))
