"""The image of a scene, fast: blocks of pixels on threads, each summed by the kernel.

The kernel does all of a pixel, but on the C program's curved detector: its samples go through the model's stages
around the kernel's sum over lattices. `engine_of` says so, and a line of the log.

A block of pixels is the unit of work of a thread, of a size that does not depend on their number, and writes only its
own pixels: an image is the same bit for bit on any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from exactgrad.diffraction import kernel, model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.numbers import numbers_of, shares_of, sum_scale
from exactgrad.diffraction.scene import Scene
from exactgrad.kernels.threads import choose_threads, for_each

BLOCK = 8192  # most pixels at a time: arrays stay in the cache, and below 128 kB, which would be mapped anew each time
BLOCKS, LEAST_BLOCK = 32, 512  # of a small image: threads end at about the same time
STEP_S = 6e-9  # of a pixel and step, for choosing threads
SAMPLE_S = 2e-8  # of a pixel, source and sub-pixel: everything outside the sum over lattices
KERNEL, STAGED = "kernel", "kernel between the model's stages (the C program's curved detector)"
LOG = logging.getLogger("exactgrad.diffraction")

Sum = Callable[[np.ndarray], np.ndarray]  # q, shape (n, 3), to the mean of F^2 L^2, shape (n,)
Pixels = Callable[[np.ndarray, np.ndarray, np.ndarray], None]  # slow, fast indices (n,); what they see (n,): out


def engine_of(scene: Scene) -> str:
    """Return what makes the image of a scene: `KERNEL`, or `STAGED` and why."""
    return STAGED if scene.c_compat and scene.detector.curved else KERNEL


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
    size, places = scene.detector.places()
    photons = np.empty(size)
    if engine_of(scene) == STAGED:
        LOG.info("engine: %s", STAGED)
    pixels = staged(scene) if engine_of(scene) == STAGED else fused(scene)
    scale = ELECTRON_RADIUS_SQUARED * scene.beam.fluence / scene.detector.oversample**2

    length = block_length(size, BLOCKS)

    def task(block: int) -> None:
        part = slice(block * length, min((block + 1) * length, size))
        seen = photons[part]
        pixels(*places(part), seen)
        seen *= scale

    for_each(-(-size // length), task, choose_threads(work_s(scene, size), threads))
    return scene.detector.laid_out(photons)


def block_length(pixels: int, blocks: int) -> int:
    """Return how many pixels to take at a time, of so many that should make some blocks."""
    return min(BLOCK, max(LEAST_BLOCK, -(-pixels // blocks)))


def work_s(scene: Scene, pixels: int) -> float:
    """Return roughly the seconds that so many pixels take on one thread."""
    samples = scene.detector.oversample**2 * scene.detector.layers * scene.beam.sources
    lattices = scene.crystal.phi_steps * len(scene.crystal.domains)
    return pixels * samples * (SAMPLE_S + lattices * STEP_S)


def fused(scene: Scene) -> Pixels:
    """Return the function that takes pixels to what they see, all of it by the kernel."""
    detector, numbers = scene.detector, numbers_of(scene, scene.per_sample)
    rest = detector.oversample, detector.layers, numbers.g, numbers.sources, *numbers.crystal()

    def pixels(slow: np.ndarray, fast: np.ndarray, mean: np.ndarray) -> None:
        kernel.detector_image(slow, fast, *rest, mean)

    return pixels


def lattice_sum(scene: Scene, source: int = 0) -> Sum:
    """Return the function that takes q, shape (n, 3), to F^2 L^2, shape (n,): the mean over phi steps and domains."""
    table = np.ascontiguousarray(scene.structure_factors.of_source(source).table).ravel()
    numbers = replace(numbers_of(scene, ()), table=table)
    arguments, scale = numbers.crystal(), sum_scale(scene.crystal)

    def total(q: np.ndarray) -> np.ndarray:
        out = np.empty(len(q))
        kernel.diffracted(np.ascontiguousarray(q), *arguments, out)
        return scale * out

    return total


def staged(scene: Scene) -> Pixels:
    """Return the same function for the C program's curved detector: the model's stages around the sum over lattices."""
    shares, water = shares_of(scene), model.c_water(scene) * scene.detector.oversample**2
    totals = [lattice_sum(scene, source) for source in range(shares.size if scene.structure_factors.tables > 1 else 1)]
    of_ray = tuple(name for name in scene.per_sample if name != "polarization")
    of_source = tuple(name for name in scene.per_sample if name == "polarization")

    def pixels(slow: np.ndarray, fast: np.ndarray, mean: np.ndarray) -> None:
        mean[:] = 0.0
        for layer, sub_slow, sub_fast in model.samples(scene.detector):
            x = model.position(scene, slow, fast, layer, sub_slow, sub_fast)
            d, factors = model.direction(x), model.corrections(scene, of_ray, x, layer, 0)
            for source, share in enumerate(shares):
                q = model.scattering_vector(d, scene.beam.directions[source], scene.beam.wavelengths_m[source])
                scattered = np.where(model.seen(scene, q), totals[source % len(totals)](q), 0.0) + model.water(scene)
                mean += share * scattered * factors * model.corrections(scene, of_source, x, layer, source)
        mean += water
        mean *= model.c_corrections(scene, slow, fast)

    return pixels
