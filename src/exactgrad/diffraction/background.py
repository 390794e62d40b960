"""What lies under the spots: a plane in every region, a scattering profile, or the same everywhere.

Every background is linear in its coefficients: `image(c)` is the sum of c_i times `derivative(i)`. `pull` is the
transpose, from a loss's derivative by the image to that by the coefficients. Backgrounds are added to an expected
image and know nothing of the crystal; a profile depends on beam and detector and is made anew for others.

Unit: photons per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from exactgrad.diffraction import model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.crystal import ANGSTROM
from exactgrad.diffraction.formats.stol import StolProfile
from exactgrad.diffraction.scene import FACTORS, Scene
from exactgrad.diffraction.spots import Regions
from exactgrad.errors import InputError, require_finite, require_range, require_shape

AVOGADRO = 6.02214076e23


class Background(Protocol):
    """A background that is linear in its coefficients."""

    @property
    def size(self) -> int:
        """Number of coefficients."""

    def labels(self) -> list[str]:
        """Return a name for each coefficient."""

    def image(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the expected photons of every pixel, shape (slow, fast)."""

    def derivative(self, index: int) -> np.ndarray:
        """Return the derivative of the image by one coefficient, shape (slow, fast)."""

    def pull(self, g: np.ndarray) -> np.ndarray:
        """Return the derivative of a loss by the coefficients from that by the image."""


@dataclass(frozen=True)
class Planes:
    """a + b slow + c fast in every region, slow and fast counted in pixels from the middle of its own pixels.

    The coefficients are a, b, c of the first region (photons, photons/pixel), then of the second, and so on; outside
    all regions the background is 0. A region of fewer than three pixels, or with all in a row, has an a only; one
    without pixels has none.

    Attributes
    ----------
    slow, fast : ndarray of int, shape (n,)
        The pixels of all regions, region by region.
    region : ndarray of int, shape (n,)
        The region of each.
    basis : ndarray, shape (n, 3)
        1, slow and fast from the middle; 0 where the region does not have that coefficient.
    kept : ndarray of bool, shape (regions, 3)
        The coefficients that there are.
    shape : (int, int)
    """

    slow: np.ndarray
    fast: np.ndarray
    region: np.ndarray
    basis: np.ndarray
    kept: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, regions: Regions, mask: np.ndarray | None = None) -> Planes:
        """Return the planes of regions, through the pixels of the mask only.

        Raises
        ------
        InputError
            If the mask has another shape, or no pixel is in both.
        """
        owner, count = regions.owner, len(regions.boxes)
        if mask is not None:
            owner = np.where(require_shape("mask", np.asarray(mask), owner.shape), owner, -1)
        slow, fast = np.nonzero(owner >= 0)
        if slow.size == 0:
            raise InputError("background planes: no pixel of a region is in the mask")
        order = np.argsort(owner[slow, fast], kind="stable")
        slow, fast = slow[order], fast[order]
        region = owner[slow, fast].astype(np.int64)
        pixels = np.bincount(region, minlength=count)
        basis = np.ones((slow.size, 3))
        for column, indices in ((1, slow), (2, fast)):
            middle = np.bincount(region, indices, count) / np.maximum(pixels, 1)
            basis[:, column] = indices - middle[region]
        kept = np.repeat((pixels > 0)[:, None], 3, axis=1)
        planes = cls(slow, fast, region, basis, kept, (owner.shape[0], owner.shape[1]))
        area = np.linalg.det(planes.products(np.ones(planes.shape))) * pixels  # a whole number
        kept[:, 1:] = (area > 0.5)[:, None]
        basis *= kept[region]
        return planes

    @property
    def size(self) -> int:
        """Three times the number of regions, less what some do not have."""
        return int(np.count_nonzero(self.kept))

    def labels(self) -> list[str]:
        """Return "plane[0].a", "plane[0].b", ..."""
        return [f"plane[{place}].{'abc'[column]}" for place, column in np.argwhere(self.kept)]

    def image(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the background, shape (slow, fast)."""
        planes = np.zeros(self.kept.shape)
        planes[self.kept] = _coefficients(coefficients, self.size)
        photons = np.zeros(self.shape)
        photons[self.slow, self.fast] = (self.basis * planes[self.region]).sum(axis=1)
        return photons

    def derivative(self, index: int) -> np.ndarray:
        """Return the derivative by one coefficient, shape (slow, fast): zero outside its region."""
        place, column = np.argwhere(self.kept)[_place(index, self.size)]
        own = slice(*np.searchsorted(self.region, (place, place + 1)))
        photons = np.zeros(self.shape)
        photons[self.slow[own], self.fast[own]] = self.basis[own, column]
        return photons

    def pull(self, g: np.ndarray) -> np.ndarray:
        """Return the derivative of a loss by the coefficients from that by the image."""
        seen = require_shape("derivative", np.asarray(g), self.shape)[self.slow, self.fast]
        return self._sums(seen[:, None] * self.basis)[self.kept]

    def products(self, weight: np.ndarray) -> np.ndarray:
        """Return J^T W J of every region, shape (regions, 3, 3), 0 for what it does not have; between regions, 0."""
        seen = require_shape("weight", np.asarray(weight), self.shape)[self.slow, self.fast]
        pairs = seen[:, None, None] * self.basis[:, :, None] * self.basis[:, None, :]
        return self._sums(pairs.reshape(-1, 9)).reshape(-1, 3, 3)

    def fitted(self, image: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the coefficients, shape (size,), of the planes nearest to an image, in weighted least squares.

        A start for refinement: of the pixels beside the spots, if the others have weight 0. A region whose weighted
        pixels determine no plane gets their mean, or 0.
        """
        seen = (require_shape("weight", np.asarray(weight), self.shape) * image)[self.slow, self.fast]
        wanted, products = self._sums(seen[:, None] * self.basis), self.products(weight)
        total = products[:, 0, 0]
        planes = np.zeros(wanted.shape)
        planes[:, 0] = np.divide(wanted[:, 0], total, out=np.zeros_like(total), where=total > 0)
        scale = np.sqrt(np.maximum(np.diagonal(products, axis1=1, axis2=2), 1e-300))
        good = np.linalg.det(products / scale[:, :, None] / scale[:, None, :]) > 1e-9
        planes[good] = np.linalg.solve(products[good], wanted[good][:, :, None])[:, :, 0]
        return planes[self.kept]

    def _sums(self, columns: np.ndarray) -> np.ndarray:
        """Return the sums of columns, shape (n, m), over each region's pixels, shape (regions, m)."""
        sums = np.zeros((len(self.kept), columns.shape[1]))
        starts = np.flatnonzero(np.diff(self.region, prepend=-1))
        sums[self.region[starts]] = np.add.reduceat(columns, starts, axis=0)
        return sums


@dataclass(frozen=True)
class Fixed:
    """One image times one coefficient: a profile's, or an image of ones.

    Attributes
    ----------
    name : str
    unit : ndarray, shape (slow, fast)
        The image at a coefficient of 1, in photons.
    """

    name: str
    unit: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", require_shape(self.name, require_finite(self.name, self.unit), (None, None)))

    @property
    def size(self) -> int:
        """One."""
        return 1

    def labels(self) -> list[str]:
        """Return the name."""
        return [self.name]

    def image(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the background, shape (slow, fast)."""
        return _coefficients(coefficients, 1)[0] * self.unit

    def derivative(self, index: int) -> np.ndarray:
        """Return the derivative by the coefficient, shape (slow, fast)."""
        _place(index, 1)
        return self.unit.copy()

    def pull(self, g: np.ndarray) -> np.ndarray:
        """Return the derivative of a loss by the coefficient, shape (1,), from that by the image."""
        return np.array([(require_shape("derivative", g, self.unit.shape) * self.unit).sum()])


def flat(shape: tuple[int, int]) -> Fixed:
    """Return the same everywhere; the coefficient is its photons per pixel.

    Examples
    --------
    >>> flat((1, 2)).image([3.0])
    array([[3., 3.]])
    """
    return Fixed("flat", np.ones(shape))


def profile(scene: Scene, f: StolProfile, molecules: float) -> Fixed:
    """Return what molecules in the beam scatter: r_e^2 fluence molecules F^2 x solid angle, polarization, capture.

    Parameters
    ----------
    scene : Scene
        Beam and detector count, with correct physics at every sub-pixel, layer and source, whatever `c_compat` says;
        pixels that it does not render are 0.
    f : StolProfile
        F of one molecule.
    molecules : float
        How many (`molecules_of`); the coefficient multiplies them.

    Raises
    ------
    InputError
        If the number is out of range, or the detector is the C program's curved one.
    """
    count = require_range("molecules", molecules, low=0.0, high=1e40)
    detector, beam = scene.detector, scene.beam
    if scene.c_compat and detector.curved:
        raise InputError("detector: a profile is not computed on the C program's curved detector")
    photons = np.zeros(detector.shape)
    every_slow, every_fast = detector.rendered()
    of_ray = tuple(name for name in FACTORS if name != "polarization")
    for start in range(0, every_slow.size, model.BLOCK):
        slow, fast = (indices[start : start + model.BLOCK] for indices in (every_slow, every_fast))
        mean = np.zeros(slow.size)
        for sample in model.samples(detector):
            x = model.position(scene, slow, fast, *sample)
            d, factors = model.direction(x), model.corrections(scene, of_ray, x, sample[0], 0)
            for source, share in enumerate(beam.weights):
                q = model.scattering_vector(d, beam.directions[source], beam.wavelengths_m[source])
                stol = 0.5 * ANGSTROM * model.distance(q)
                mean += share * f.at(stol) ** 2 * factors * model.polarization(scene, d, source)
        photons[slow, fast] = mean
    return Fixed("profile", ELECTRON_RADIUS_SQUARED * beam.fluence * count / detector.oversample**2 * photons)


def molecules_of(volume_m3: float, density_g_cm3: float, molar_mass_g: float) -> float:
    """Return the number of molecules in a volume.

    Examples
    --------
    >>> print(f"{molecules_of(1e-6, 1.0, 18.015):.3e}")  # a cubic centimetre of water
    3.343e+22
    """
    volume = require_range("volume", volume_m3, "m^3", low=0.0, high=1.0)
    density = require_range("density", density_g_cm3, "g/cm^3", low=0.0, high=100.0)
    mass = require_range("molar mass", molar_mass_g, "g/mol", low=1.0, high=1e12)
    return AVOGADRO * 1e6 * volume * density / mass


def _coefficients(given: Any, size: int) -> np.ndarray:
    return require_shape("background", require_finite("background", given, "photons"), (size,))


def _place(index: int, size: int) -> int:
    if not 0 <= index < size:
        raise InputError(f"background: coefficient {index} where there are {size}")
    return index
