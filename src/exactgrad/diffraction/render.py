"""The image of a scene, fast: blocks of pixels on threads, each summed by the kernel.

The kernel does all of a flat detector's pixel. A curved detector's samples go through the model's stages around the
kernel's sum over lattices. Structure factors interpolated between reflections are not the kernel's: such scenes go
through the model's sum. `engine_of` says so, and a line of the log.

A block of pixels is the unit of work of a thread, of a size that does not depend on their number, and writes only its
own pixels: an image is the same bit for bit on any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from exactgrad.diffraction import kernel, model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.crystal import ANGSTROM, SHAPES, Crystal
from exactgrad.diffraction.scene import FACTORS, Scene
from exactgrad.kernels.threads import choose_threads, for_each

BLOCK = 2048  # pixels at a time: a curved detector's arrays stay in the cache
STEP_S = 6e-9  # of a pixel and step, for choosing threads
SAMPLE_S = 2e-8  # of a pixel, source and sub-pixel: everything outside the sum over lattices
KERNEL, MODEL = "kernel", "model (tricubic interpolation)"
SHAPE_CODES = {"square": kernel.SQUARE, "round": kernel.ROUND, "gauss": kernel.GAUSS, "tophat": kernel.TOPHAT}
LOG = logging.getLogger("exactgrad.diffraction")

Sum = Callable[[np.ndarray], np.ndarray]  # q, shape (n, 3), to the mean of F^2 L^2, shape (n,)
Pixels = Callable[[np.ndarray, np.ndarray], np.ndarray]  # slow and fast indices, shape (n,), to what they see, (n,)


def engine_of(scene: Scene) -> str:
    """Return what sums over the lattices of a scene: `KERNEL`, or `MODEL` and why."""
    factors = scene.structure_factors
    return MODEL if factors.interpolate and factors.table.size else KERNEL


def image(scene: Scene, threads: int | None = None) -> np.ndarray:
    """Return the expected photons of every pixel, shape (slow, fast), float64; zero where nothing is rendered.

    Parameters
    ----------
    scene : Scene
    threads : int or None
        At most so many threads; None: as many as there are processors. Small images use one all the same.

    Examples
    --------
    >>> from exactgrad.diffraction.options import parse
    >>> scene, _ = parse("-cell 50 50 50 90 90 90 -N 5 -default_F 10 -xds -detpixels 3 -pixel 1 -oversample 1".split())
    >>> image(scene).round(2)[1]
    array([  6.25, 156.25,   6.25])
    """
    photons = np.zeros(scene.detector.shape)
    slow, fast = (np.ascontiguousarray(indices) for indices in scene.detector.rendered())
    pixels = staged(scene) if scene.detector.curved or engine_of(scene) == MODEL else fused(scene)
    factors = once_a_pixel(scene) if scene.c_compat else None
    scale = ELECTRON_RADIUS_SQUARED * scene.beam.fluence

    def task(block: int) -> None:
        places = slow[block * BLOCK : (block + 1) * BLOCK], fast[block * BLOCK : (block + 1) * BLOCK]
        mean = pixels(*places) / scene.detector.oversample**2
        if factors is not None:
            mean = (mean + model.c_water(scene)) * factors(*places)
        photons[places] = scale * mean

    for_each(-(-slow.size // BLOCK), task, choose_threads(work_s(scene, slow.size), threads))
    return photons


def work_s(scene: Scene, pixels: int) -> float:
    """Return roughly the seconds that so many pixels take on one thread."""
    samples = scene.detector.oversample**2 * scene.detector.layers * scene.beam.sources
    lattices = scene.crystal.phi_steps * len(scene.crystal.domains)
    return pixels * samples * (SAMPLE_S + lattices * STEP_S)


def lattice_sum(scene: Scene) -> Sum:
    """Return the function that takes q, shape (n, 3), to F^2 L^2, shape (n,): the mean over phi steps and domains."""
    if engine_of(scene) == MODEL:
        LOG.info("structure factors are interpolated: the lattices are summed by the %s", MODEL)
        lattices = scene.crystal.lattices()
        return lambda q: model.diffracted(scene, lattices, q)
    arguments, scale = crystal_arguments(scene), sum_scale(scene.crystal)

    def total(q: np.ndarray) -> np.ndarray:
        out = np.empty(len(q))
        kernel.diffracted(np.ascontiguousarray(q), *arguments, out)
        return scale * out

    return total


def crystal_arguments(scene: Scene) -> tuple[Any, ...]:
    """Return what the kernel needs of crystal and structure factors: its arguments `lattices` ... `default`."""
    crystal, factors = scene.crystal, scene.structure_factors
    lattices = np.ascontiguousarray(crystal.lattices().reshape(-1, 9))
    table = np.ascontiguousarray(factors.table).ravel()
    lowest, sides = factors.lowest.astype(np.float64), np.array(factors.table.shape, dtype=np.float64)
    form = np.ascontiguousarray(spot_form(crystal)).ravel()
    return lattices, SHAPE_CODES[crystal.shape], crystal.cells, form, table, lowest, sides, float(factors.default)


def sum_scale(crystal: Crystal) -> float:
    """Return the factor that makes the kernel's sum the mean of F^2 L^2."""
    return peak(crystal) ** 2 / (crystal.phi_steps * len(crystal.domains))


def peak(crystal: Crystal) -> float:
    """Return the constant factor of L that the kernel leaves out."""
    volume = float(crystal.cells.prod())
    return {"square": 1.0, "round": volume * model.ROUND_NORM}.get(crystal.shape, volume)


def spot_form(crystal: Crystal) -> np.ndarray:
    """Return B, shape (3, 3): the kernel's L is a function of |off B|^2, in units of the shape's own width."""
    width = {"gauss": model.GAUSS_RADIUS, "tophat": model.TOPHAT_RADIUS}.get(crystal.shape, 1.0)
    metric = np.diag(crystal.cells)
    if crystal.shape in SHAPES[2:] and crystal.metric == "reciprocal":
        metric = crystal.cells.prod() * ANGSTROM * crystal.reciprocal
    return np.sqrt(crystal.fudge / width) * metric


def shares_of(scene: Scene) -> np.ndarray:
    """Return the share of every source, shape (S,); the C program ignores their weights."""
    beam = scene.beam
    return np.full(beam.sources, 1 / beam.sources) if scene.c_compat else beam.weights


def detector_numbers(scene: Scene, names: tuple[str, ...]) -> np.ndarray:
    """Return what the kernel needs of a flat detector and the named corrections, shape (kernel.GEOMETRY,)."""
    detector = scene.detector
    g = np.zeros(kernel.GEOMETRY)
    for place, vector in zip(range(0, 12, 3), ("origin", "fast", "slow", "normal"), strict=True):
        g[place : place + 3] = getattr(detector, vector)
    g[kernel.STEP], g[kernel.LAYER] = detector.pixel_m / detector.oversample, detector.layer_m
    absorbs = "capture" in names and detector.thickness_m > 0
    g[kernel.ATTENUATION] = detector.attenuation_per_m * detector.layer_m if absorbs else -1.0
    if "solid angle" not in names:
        g[kernel.NO_SOLID_ANGLE] = 1.0
    elif detector.point_pixel:
        g[kernel.FACING] = 1.0
    elif scene.c_compat:
        g[kernel.CLOSE] = detector.pixel_m**2 * detector.close_distance_m
    else:
        g[kernel.OBLIQUITY] = detector.pixel_m**2
    if "polarization" in names and scene.beam.kahn is not None:
        g[kernel.POLARIZATION], g[kernel.KAHN] = 0.5, scene.beam.kahn
    else:
        g[kernel.NO_POLARIZATION] = 1.0
    g[kernel.D_MIN_SQUARED], g[kernel.WATER] = scene.d_min_m**2, model.water(scene)
    g[kernel.SCALE] = sum_scale(scene.crystal)
    return g


def source_numbers(scene: Scene) -> np.ndarray:
    """Return what the kernel needs of the sources, shape (S, kernel.SOURCE)."""
    beam = scene.beam
    return np.column_stack([beam.directions, 1 / beam.wavelengths_m, shares_of(scene), *beam.field_axes()])


def fused(scene: Scene) -> Pixels:
    """Return the function that takes pixels to what they see, all of it by the kernel: for flat detectors."""
    detector = scene.detector
    rest = detector_numbers(scene, scene.per_sample), source_numbers(scene), *crystal_arguments(scene)

    def pixels(slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
        mean = np.empty(slow.size)
        kernel.flat_detector(slow, fast, detector.oversample, detector.layers, *rest, mean)
        return mean

    return pixels


def once_a_pixel(scene: Scene) -> Pixels:
    """Return the function that takes pixels to the factors that the C program takes once a pixel.

    On a flat detector with no d_min they are what its first sub-pixel and source see of even light, the kernel's;
    the share that the last layer captures, a d_min and a curved detector are left to the model.
    """
    detector, names = scene.detector, tuple(name for name in FACTORS if name not in scene.per_sample)
    if detector.curved or scene.d_min_m:
        return lambda slow, fast: model.c_corrections(scene, slow, fast)
    g = detector_numbers(scene, tuple(name for name in names if name != "capture"))
    g[kernel.WATER], g[kernel.SCALE] = 1.0, 0.0
    source = source_numbers(scene)[:1]
    source[0, kernel.SHARE] = 1.0
    lattices, *rest = crystal_arguments(scene)
    layer, absorbed = detector.layers - 1, tuple(name for name in names if name == "capture" and detector.thickness_m)

    def factors(slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
        even = np.empty(slow.size)
        first = slow * detector.oversample, fast * detector.oversample  # in sub-pixels
        kernel.flat_detector(*first, 1, 1, g, source, lattices[:0], *rest, even)
        if absorbed:
            even *= model.corrections(scene, absorbed, model.position(scene, slow, fast, layer, 0, 0), layer, 0)
        return even

    return factors


def staged(scene: Scene) -> Pixels:
    """Return the function that takes pixels to what they see, by the model's stages around the sum over lattices."""
    total, shares = lattice_sum(scene), shares_of(scene)
    of_ray = tuple(name for name in scene.per_sample if name != "polarization")
    of_source = tuple(name for name in scene.per_sample if name == "polarization")

    def pixels(slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
        mean = np.zeros(slow.size)
        for layer, sub_slow, sub_fast in model.samples(scene.detector):
            x = model.position(scene, slow, fast, layer, sub_slow, sub_fast)
            d, factors = model.direction(x), model.corrections(scene, of_ray, x, layer, 0)
            for source, share in enumerate(shares):
                q = model.scattering_vector(d, scene.beam.directions[source], scene.beam.wavelengths_m[source])
                scattered = np.where(model.seen(scene, q), total(q), 0.0) + model.water(scene)
                mean += share * scattered * factors * model.corrections(scene, of_source, x, layer, source)
        return mean

    return pixels
