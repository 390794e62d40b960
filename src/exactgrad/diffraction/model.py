"""The image of a crystal, stage by stage: the equations, readable. The kernel is tested against this.

    x = origin + F fast + S slow + O normal     where a ray is caught       d = x/|x|      its direction
    q = (d - s0)/lambda                         scattering vector           h = (a.q, b.q, c.q)
    I = F(h)^2 L(h - round(h))^2                cell and lattice
    photons = r_e^2 fluence * mean over sub-pixels, sources, phi, domains; sum over layers of
              (I + water) * solid angle * polarization * capture

Units: metres, radians, electrons, photons. Arrays are float64; n pixels at a time. No stage divides by what can be
zero: the lattice factor is a function of h - round(h), the grating's sine ratio N sinc(N x)/sinc(x), the sphere's
transform a series near its centre, and the polarization a polynomial of the direction.
Source: the nanoBragg program (Holton, github bl831/nanoBragg, 2026), with its errors corrected; see `scene`.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.crystal import ANGSTROM, Crystal
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.scene import FACTORS, Scene
from exactgrad.rotations import maps

BLOCK = 8192  # pixels at a time
ROUND_NORM = 0.723601254558268  # sphere and cube of the same volume: square root of the ratio of their spots
GAUSS_RADIUS = 0.63  # of the same width and volume as a square crystal's spots
TOPHAT_RADIUS = 0.3969
SERIES_BELOW = 0.25  # squared argument below which the sphere's transform is a series
WATER_F = 2.57  # electrons, forwards
WATER_PER_M3 = 1e6 * 6.02214179e23 / 18.0  # molecules in a cubic metre
C_WATER = WATER_F**2 * ELECTRON_RADIUS_SQUARED * WATER_PER_M3  # the C program's water, per fluence, volume and step


def image(scene: Scene) -> np.ndarray:
    """Return the expected photons of every pixel, shape (slow, fast), float64; zero where nothing is rendered.

    Examples
    --------
    >>> from exactgrad.diffraction.options import parse
    >>> scene, _ = parse("-cell 50 50 50 90 90 90 -N 5 -default_F 10 -xds -detpixels 3 -pixel 1 -oversample 1".split())
    >>> image(scene).round(2)[1]
    array([  6.25, 156.25,   6.25])
    """
    photons = np.zeros(scene.detector.shape)
    slow, fast = scene.detector.rendered()
    for start in range(0, slow.size, BLOCK):
        block = slice(start, start + BLOCK)
        photons[slow[block], fast[block]] = pixel_photons(scene, slow[block], fast[block])
    return photons


def pixel_photons(scene: Scene, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Return the expected photons of pixels given by their indices, shape (n,) each."""
    detector, beam = scene.detector, scene.beam
    lattices = scene.crystal.lattices()
    shares = np.full(beam.sources, 1 / beam.sources) if scene.c_compat else beam.weights
    mean = np.zeros(slow.size)
    for layer, sub_slow, sub_fast in samples(detector):
        x = position(scene, slow, fast, layer, sub_slow, sub_fast)
        for source in range(beam.sources):
            q = scattering_vector(direction(x), beam.directions[source], beam.wavelengths_m[source])
            scattered = np.where(seen(scene, q), diffracted(scene, lattices, q, source), 0.0) + water(scene)
            scattered *= corrections(scene, scene.per_sample, x, layer, source)
            mean += shares[source] * scattered
    mean /= detector.oversample**2
    if scene.c_compat:
        mean = (mean + c_water(scene)) * c_corrections(scene, slow, fast)
    return ELECTRON_RADIUS_SQUARED * beam.fluence * mean


def samples(detector: Detector) -> product:
    """Yield (layer, sub-pixel along slow, along fast): where a pixel is sampled, layers slowest."""
    return product(range(detector.layers), range(detector.oversample), range(detector.oversample))


# -- geometry ---------------------------------------------------------------------------------------------------------


def position(scene: Scene, slow: np.ndarray, fast: np.ndarray, layer: int, sub_slow: int, sub_fast: int) -> np.ndarray:
    """Return the lab positions, shape (n, 3), of one sub-pixel of each pixel, at the front of a layer."""
    detector = scene.detector
    f, s = on_sensor(detector, slow, fast, sub_slow, sub_fast)
    depth = layer * detector.layer_m
    if detector.curved and not scene.c_compat:
        return curved_position(detector, f, s, depth)
    flat = detector.origin + depth * detector.normal + f[:, None] * detector.fast + s[:, None] * detector.slow
    return c_curved_position(detector, flat) if detector.curved else flat


def on_sensor(
    detector: Detector, slow: np.ndarray, fast: np.ndarray, sub_slow: int, sub_fast: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return F and S in metres, shape (n,) each, of one sub-pixel of each pixel."""
    step = detector.pixel_m / detector.oversample
    return step * (fast * detector.oversample + sub_fast + 0.5), step * (slow * detector.oversample + sub_slow + 0.5)


def curved_position(detector: Detector, f: np.ndarray, s: np.ndarray, depth: float) -> np.ndarray:
    """Return positions on a sphere: F and S are arcs from the near point, along fast, then along slow."""
    radius = detector.close_distance_m
    near_f, near_s = detector.near_point_m
    along, across = ((f - near_f) / radius)[:, None], ((s - near_s) / radius)[:, None]
    towards = np.cos(across) * detector.normal + np.sin(across) * detector.slow
    return (radius + depth) * (np.sin(along) * detector.fast + np.cos(along) * towards)


def direction(x: np.ndarray) -> np.ndarray:
    """Return the unit vectors, shape (n, 3), from the crystal to the positions."""
    return x / distance(x)[:, None]


def distance(x: np.ndarray) -> np.ndarray:
    """Return the distances R, shape (n,), of the positions from the crystal."""
    return np.sqrt((x * x).sum(axis=-1))


def incidence(scene: Scene, x: np.ndarray) -> np.ndarray:
    """Return the cosine between the rays and the sensor's normal, shape (n,)."""
    if scene.detector.curved and not scene.c_compat:
        return np.ones(len(x))
    return direction(x) @ scene.detector.normal


def scattering_vector(d: np.ndarray, s0: np.ndarray, wavelength_m: float) -> np.ndarray:
    """Return q = (d - s0)/lambda in 1/m, shape (n, 3)."""
    return (d - s0) / wavelength_m


def seen(scene: Scene, q: np.ndarray) -> np.ndarray:
    """Return whether the lattice spacing 1/|q| is not below d_min, shape (n,)."""
    return scene.d_min_m**2 * (q * q).sum(axis=-1) <= 1.0


# -- crystal ----------------------------------------------------------------------------------------------------------


def diffracted(scene: Scene, lattices: np.ndarray, q: np.ndarray, source: int = 0) -> np.ndarray:
    """Return F^2 L^2 in electrons^2, shape (n,), the mean over phi steps and domains."""
    total, factors = np.zeros(len(q)), scene.structure_factors.of_source(source)
    for lattice in lattices:
        h = miller(lattice, q)
        total += (factors.at(h) * lattice_factor(scene.crystal, h - nearest(h))) ** 2
    return total / len(lattices)


def miller(lattice: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the fractional indices (a.q, b.q, c.q), shape (n, 3)."""
    return q @ lattice.T


def nearest(h: np.ndarray) -> np.ndarray:
    """Return the nearest whole indices; halfway goes down."""
    return np.ceil(h - 0.5)


def lattice_factor(crystal: Crystal, off: np.ndarray) -> np.ndarray:
    """Return L, shape (n,), at `off` = h - round(h), shape (n, 3): what Na x Nb x Nc cells make of one.

    For whole N the grating's ratio is that at h itself, but for a sign; for other N this defines it.
    """
    volume = crystal.cells.prod()
    if crystal.shape == "square":
        return np.prod([grating(off[:, i], n) for i, n in enumerate(crystal.cells)], axis=0)
    if crystal.shape == "round":
        return volume * ROUND_NORM * sphere(np.pi**2 * crystal.fudge * ((off * crystal.cells) ** 2).sum(axis=-1))
    radius = crystal.fudge * spot_radius(crystal, off)
    if crystal.shape == "gauss":
        return volume * np.exp(-radius / GAUSS_RADIUS)
    return volume * (radius < TOPHAT_RADIUS)


def spot_radius(crystal: Crystal, off: np.ndarray) -> np.ndarray:
    """Return the squared distance from the reflection, shape (n,), in the crystal's metric (see `Crystal`)."""
    if crystal.metric == "hkl":
        return ((off * crystal.cells) ** 2).sum(axis=-1)
    return crystal.cells.prod() ** 2 * ((off @ crystal.reciprocal * ANGSTROM) ** 2).sum(axis=-1)


def grating(x: np.ndarray, n: float) -> np.ndarray:
    """Return sin(pi n x)/sin(pi x) for |x| <= 1/2.

    Examples
    --------
    >>> grating(np.array([0.0, 0.5]), 3.0)
    array([ 3., -1.])
    """
    return n * np.sinc(n * x) / np.sinc(x)


def sphere(y: np.ndarray) -> np.ndarray:
    """Return 3 (sin x/x - cos x)/x^2 at y = x^2 >= 0: the transform of a ball, 1 at its centre.

    Examples
    --------
    >>> sphere(np.array([0.0, 1e-30]))
    array([1., 1.])
    """
    series = np.ones_like(y)
    for k in (7, 6, 5, 4, 3, 2, 1):  # 3 sum (-y)^k 2(k+1)/(2k+3)!
        series = 1.0 - y * series / (2 * k * (2 * k + 3))
    far = np.where(y < SERIES_BELOW, 1.0, y)
    x = np.sqrt(far)
    return np.where(y < SERIES_BELOW, series, 3.0 * (np.sin(x) / x - np.cos(x)) / far)


def water(scene: Scene) -> float:
    """Return the water's F^2 x molecules, the same in every direction; the C program adds its own at the end."""
    return 0.0 if scene.c_compat else WATER_F**2 * WATER_PER_M3 * scene.water_m**3


# -- detector ---------------------------------------------------------------------------------------------------------


def corrections(scene: Scene, names: tuple[str, ...], x: np.ndarray, layer: Any, source: int) -> np.ndarray:
    """Return the product of the named factors, shape (n,), for rays caught at `x` in a layer."""
    product_of = np.ones(len(x))
    if "solid angle" in names:
        product_of = product_of * solid_angle(scene, x)
    if "polarization" in names:
        product_of = product_of * polarization(scene, direction(x), source)
    if "capture" in names:
        product_of = product_of * capture(scene, incidence(scene, x), layer)
    return product_of


def solid_angle(scene: Scene, x: np.ndarray) -> np.ndarray:
    """Return pixel^2/R^2 times the cosine of incidence, in steradian, shape (n,); 1/R^2 for point pixels."""
    detector = scene.detector
    if detector.point_pixel:
        return 1.0 / distance(x) ** 2
    if scene.c_compat:  # the same, but on a curved detector
        return detector.pixel_m**2 * detector.close_distance_m / distance(x) ** 3
    return detector.pixel_m**2 / distance(x) ** 2 * incidence(scene, x)


def polarization(scene: Scene, d: np.ndarray, source: int) -> np.ndarray:
    """Return Kahn's factor (1 + cos^2 2theta - K cos(2 psi) sin^2 2theta)/2, shape (n,).

    sin^2 2theta cos(2 psi) is (d.E)^2 - (d.B)^2, so that no angle psi is needed where it has none.
    """
    beam = scene.beam
    if beam.kahn is None:
        return np.ones(len(d))
    e, b = (axes[source] for axes in beam.field_axes)
    return 0.5 * (1.0 + (d @ beam.directions[source]) ** 2 - beam.kahn * ((d @ e) ** 2 - (d @ b) ** 2))


def capture(scene: Scene, cosine: np.ndarray, layer: Any) -> np.ndarray:
    """Return the share of the rays that a layer absorbs, exp(-t u) - exp(-(t + 1) u) with u = mu dt/cos, shape (n,)."""
    detector = scene.detector
    if detector.thickness_m == 0:
        return np.ones(len(cosine))
    u = detector.attenuation_per_m * detector.layer_m / cosine
    return -np.exp(-layer * u) * np.expm1(-u)


# -- as the C program has it ------------------------------------------------------------------------------------------


def c_corrections(scene: Scene, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Return the factors that the C program takes once a pixel, shape (n,).

    Of the first sub-pixel: solid angle; polarization, at the first source that is seen; capture of the last layer.
    """
    names = [name for name in FACTORS if name not in scene.per_sample]
    front = position(scene, slow, fast, 0, 0, 0)
    last = scene.detector.layers - 1
    factors = corrections(scene, tuple(n for n in names if n == "solid angle"), front, 0, 0)
    if "capture" in names:
        factors = factors * corrections(scene, ("capture",), position(scene, slow, fast, last, 0, 0), last, 0)
    if "polarization" in names:
        factors = factors * c_polarization(scene, slow, fast)
    return factors


def c_polarization(scene: Scene, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Return the polarization of the first sample within d_min, shape (n,), zero where there is none."""
    if scene.beam.kahn is None:
        return np.ones(slow.size)
    factor, first = np.zeros(slow.size), c_first_seen(scene, slow, fast)
    for layer, sub_slow, sub_fast, source in np.unique(first[first[:, 0] >= 0], axis=0):
        chosen = (first == (layer, sub_slow, sub_fast, source)).all(axis=1)
        x = position(scene, slow[chosen], fast[chosen], layer, sub_slow, sub_fast)
        factor[chosen] = polarization(scene, direction(x), source)
    return factor


def c_first_seen(scene: Scene, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Return layer, sub-pixel (slow, fast) and source of the first sample within d_min, shape (n, 4); -1 for none."""
    first = np.full((slow.size, 4), -1)
    for sample in samples(scene.detector):
        d = direction(position(scene, slow, fast, *sample))
        for source in range(scene.beam.sources):
            q = scattering_vector(d, scene.beam.directions[source], scene.beam.wavelengths_m[source])
            first[(first[:, 0] < 0) & seen(scene, q)] = (*sample, source)
            if (first[:, 0] >= 0).all():
                return first
    return first


def c_water(scene: Scene) -> float:
    """Return the C program's water: fluence and r_e^2 enter here and again at the end; divided by the steps."""
    return C_WATER * scene.beam.fluence * scene.water_m**3 / scene.steps


def c_curved_position(detector: Detector, flat: np.ndarray) -> np.ndarray:
    """Return the C program's curved detector: lab y and z over the distance as angles about slow, then fast."""
    angles = flat / detector.distance_m
    forward = detector.distance_m * detector.beam
    return maps.rotate(
        angles[:, 2:] * detector.fast, maps.rotate(angles[:, 1:2] * detector.slow, np.tile(forward, (len(flat), 1)))
    )
