"""The image of a scene, fast: the model's stages around the kernel's sum over lattices, blocks of pixels on threads.

Every stage but that sum is the model's, so there is one truth of geometry, corrections and what the C program does.
The kernel does not interpolate structure factors between reflections; such scenes go through the model's sum, on the
same threads. `engine_of` says which, and so does a line of the log.

A block of pixels is the unit of work of a thread, of a size that does not depend on their number, and writes only its
own pixels: an image is the same bit for bit on any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from exactgrad.diffraction import kernel, model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.crystal import ANGSTROM, SHAPES, Crystal
from exactgrad.diffraction.scene import Scene
from exactgrad.kernels.threads import choose_threads, for_each

BLOCK = 2048  # pixels at a time: their stages' arrays stay in the cache
STEP_S = 6e-9  # of a pixel and step, for choosing threads
SAMPLE_S = 1e-7  # of a pixel, source and sub-pixel: everything outside the sum over lattices
KERNEL, MODEL = "kernel", "model (tricubic interpolation)"
SHAPE_CODES = {"square": kernel.SQUARE, "round": kernel.ROUND, "gauss": kernel.GAUSS, "tophat": kernel.TOPHAT}
LOG = logging.getLogger("exactgrad.diffraction")

Sum = Callable[[np.ndarray], np.ndarray]  # q, shape (n, 3), to the mean of F^2 L^2, shape (n,)


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
    slow, fast = scene.detector.rendered()
    total = lattice_sum(scene)

    def task(block: int) -> None:
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        photons[slow[part], fast[part]] = pixel_photons(scene, total, slow[part], fast[part])

    for_each(-(-slow.size // BLOCK), task, choose_threads(work_s(scene, slow.size), threads))
    return photons


def work_s(scene: Scene, pixels: int) -> float:
    """Return roughly the seconds that so many pixels take on one thread."""
    samples = scene.detector.oversample**2 * scene.detector.layers * scene.beam.sources
    lattices = scene.crystal.phi_steps * len(scene.crystal.domains)
    return pixels * samples * (SAMPLE_S + lattices * STEP_S)


def lattice_sum(scene: Scene) -> Sum:
    """Return the function that takes q, shape (n, 3), to F^2 L^2, shape (n,): the mean over phi steps and domains."""
    lattices = scene.crystal.lattices()
    if engine_of(scene) == MODEL:
        LOG.info("structure factors are interpolated: the lattices are summed by the %s", MODEL)
        return lambda q: model.diffracted(scene, lattices, q)
    factors, crystal = scene.structure_factors, scene.crystal
    rows = np.ascontiguousarray(lattices.reshape(-1, 9))
    table = np.ascontiguousarray(factors.table).ravel()
    lowest, sides = factors.lowest.astype(np.float64), np.array(factors.table.shape, dtype=np.float64)
    code, form, scale = SHAPE_CODES[crystal.shape], spot_form(crystal).ravel(), peak(crystal) ** 2 / len(rows)

    def total(q: np.ndarray) -> np.ndarray:
        out = np.empty(len(q))
        kernel.diffracted(
            np.ascontiguousarray(q), rows, code, crystal.cells, form, table, lowest, sides, factors.default, out
        )
        return scale * out

    return total


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


def pixel_photons(scene: Scene, total: Sum, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Return the expected photons of pixels given by their indices, shape (n,) each, as `model.pixel_photons` does.

    Solid angle and capture do not depend on the source and are taken once for all of them.
    """
    detector, beam = scene.detector, scene.beam
    shares = np.full(beam.sources, 1 / beam.sources) if scene.c_compat else beam.weights
    of_ray = tuple(name for name in scene.per_sample if name != "polarization")
    of_source = tuple(name for name in scene.per_sample if name == "polarization")
    mean = np.zeros(slow.size)
    for layer, sub_slow, sub_fast in model.samples(detector):
        x = model.position(scene, slow, fast, layer, sub_slow, sub_fast)
        d = model.direction(x)
        factors = model.corrections(scene, of_ray, x, layer, 0)
        for source in range(beam.sources):
            q = model.scattering_vector(d, beam.directions[source], beam.wavelengths_m[source])
            scattered = total(q)
            if scene.d_min_m:
                scattered = np.where(model.seen(scene, q), scattered, 0.0)
            scattered = (scattered + model.water(scene)) * factors
            if of_source:
                scattered *= model.polarization(scene, d, source)
            mean += shares[source] * scattered
    mean /= detector.oversample**2
    if scene.c_compat:
        mean = (mean + model.c_water(scene)) * model.c_corrections(scene, slow, fast)
    return ELECTRON_RADIUS_SQUARED * beam.fluence * mean
