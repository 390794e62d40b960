"""The image of a scene, fast: blocks of pixels on threads, each summed by the kernel.

The kernel does all of a pixel, but on the C program's curved detector: its samples go through the model's stages
around the kernel's sum over lattices. `engine_of` says so, and a line of the log.

A block of pixels is the unit of work of a thread, of a size that does not depend on their number, and writes only its
own pixels: an image is the same bit for bit on any number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from exactgrad.diffraction import kernel, model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.numbers import Numbers, detector_numbers, numbers_of, shares_of, sum_scale
from exactgrad.diffraction.scene import FACTORS, Scene
from exactgrad.kernels.threads import choose_threads, for_each

BLOCK = 4096  # pixels at a time: the model's arrays stay in the cache
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
    slow, fast = scene.detector.rendered()
    photons = np.empty(slow.size)
    staged_by_model = engine_of(scene) == STAGED
    if staged_by_model:
        LOG.info("engine: %s", STAGED)
    pixels = staged(scene) if staged_by_model else fused(scene)
    factors = c_factors(scene) if scene.c_compat and not staged_by_model else None
    scale = ELECTRON_RADIUS_SQUARED * scene.beam.fluence

    def task(block: int) -> None:
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        places, mean = (slow[part], fast[part]), photons[part]
        pixels(*places, mean)
        mean *= 1 / scene.detector.oversample**2
        if scene.c_compat:
            mean += model.c_water(scene)
            for factor in sums_of(factors(*places), mean.size) if factors else [model.c_corrections(scene, *places)]:
                mean *= factor
        mean *= scale

    for_each(-(-slow.size // BLOCK), task, choose_threads(work_s(scene, slow.size), threads))
    return scene.detector.laid_out(photons)


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


@dataclass(frozen=True)
class Factor:
    """A factor that the C program takes once a pixel: what its kernel sees of even light at one sample of each pixel.

    Attributes
    ----------
    numbers : Numbers
        Of even light from one source, no crystal, and these corrections alone.
    slow, fast : ndarray of int, shape (n,)
        Each pixel's sample, in sub-pixels.
    seen : ndarray of bool, shape (n,), or None
        Pixels in which there is such a sample, None for all; the factor is zero elsewhere.
    """

    numbers: Numbers
    slow: np.ndarray
    fast: np.ndarray
    seen: np.ndarray | None = None

    def image(self) -> np.ndarray:
        """Return the factor of every pixel, shape (n,)."""
        even, light = np.empty(self.slow.size), self.numbers
        kernel.detector_image(self.slow, self.fast, 1, 1, light.g, light.sources, *light.crystal(), even)
        return self.where_seen(even)

    def where_seen(self, values: np.ndarray) -> np.ndarray:
        """Return values, shape (..., n), with zero where there is no such sample."""
        return values if self.seen is None else np.where(self.seen, values, 0.0)


Factors = Callable[[np.ndarray, np.ndarray], list[list[Factor]]]  # slow and fast indices to what multiplies them


def c_factors(scene: Scene) -> Factors:
    """Return the function that takes pixels to the factors of the C program, taken once a pixel: a product of sums.

    Solid angle and polarization of the first sample, the latter of the first within d_min, whichever source and layer
    that has; the share that the last layer captures.
    """
    detector, beam = scene.detector, scene.beam
    names = [name for name in FACTORS if name not in scene.per_sample]
    searched = "polarization" in names and beam.kahn is not None and scene.d_min_m > 0
    bare = numbers_of(scene, ())
    bare = replace(bare, lattices=bare.lattices[:0])

    def even_light(of: tuple[str, ...], layer: int = 0, source: int = 0) -> Numbers:
        g, sources = detector_numbers(scene, of), bare.sources[source : source + 1].copy()
        g[kernel.WATER], g[kernel.SCALE], g[kernel.FIRST_LAYER], g[kernel.D_MIN_SQUARED] = 1.0, 0.0, layer, 0.0
        sources[0, kernel.SHARE] = 1.0
        return replace(bare, g=g, sources=sources)

    first_sample = even_light(tuple(n for n in names if n == "solid angle" or (n == "polarization" and not searched)))
    last_layer = even_light(tuple(n for n in names if n == "capture"), detector.layers - 1)

    def of_first_seen(slow: np.ndarray, fast: np.ndarray) -> list[Factor]:
        first = model.c_first_seen(scene, slow, fast)
        at = [np.ascontiguousarray(place) for place in (np.stack([slow, fast]) * detector.oversample + first[:, 1:3].T)]
        terms = []
        for layer, source in np.unique(first[first[:, 0] >= 0][:, [0, 3]], axis=0):
            here = (first[:, 0] == layer) & (first[:, 3] == source)
            terms.append(Factor(even_light(("polarization",), layer, source), at[0], at[1], here))
        return terms

    def factors(slow: np.ndarray, fast: np.ndarray) -> list[list[Factor]]:
        corner = slow * detector.oversample, fast * detector.oversample
        product = [[Factor(first_sample, *corner)]]
        if last_layer.g[kernel.CAPTURES]:
            product.append([Factor(last_layer, *corner)])
        if searched:
            product.append(of_first_seen(slow, fast))
        return product

    return factors


def sums_of(factors: list[list[Factor]], pixels: int) -> list[np.ndarray]:
    """Return the sums whose product the C program takes, shape (n,) each."""
    return [
        sum((term.image() for term in terms[1:]), terms[0].image() if terms else np.zeros(pixels)) for terms in factors
    ]


def staged(scene: Scene) -> Pixels:
    """Return the function that takes pixels to what they see, by the model's stages around the sum over lattices."""
    shares = shares_of(scene)
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

    return pixels
