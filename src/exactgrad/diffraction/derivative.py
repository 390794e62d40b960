"""An image and its exact derivatives: of a loss by every number of the scene (reverse), of every pixel by some of them
(forward).

Both are one pass of the kernel over the pixels, which also makes the image. What the C program takes once a pixel
(`render.c_factors`) is a product around it: each factor is an image of even light, and goes through the same kernel.

Pixels are cut into partitions whose number does not depend on that of threads; each adds up its own derivative, and
these are added in their order: results are the same bit for bit on any number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from exactgrad.diffraction import derivative_kernel, kernel, model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.numbers import Cotangents, Tangents, numbers_of, tangents_of
from exactgrad.diffraction.render import BLOCK, STAGED, Factor, Factors, c_factors, engine_of, sums_of, work_s
from exactgrad.diffraction.scene import Scene
from exactgrad.errors import InputError
from exactgrad.kernels.threads import choose_threads, for_each

PARTITIONS = 16
PARTITION_BYTES = 32_000_000  # of all partitions' own derivatives
REVERSE_COST, FORWARD_COST = 2.5, 1.0  # times the image: to choose threads


def pull(
    scene: Scene, weight: np.ndarray, threads: int | None = None, with_table: bool = False
) -> tuple[np.ndarray, Cotangents]:
    """Return the image and the derivative of sum(weight x image) by every number of the scene.

    Parameters
    ----------
    scene : Scene
    weight : ndarray, shape (slow, fast)
        The derivative of a loss by each pixel; what is not rendered is not read.
    threads : int or None
        At most so many.
    with_table : bool
        Whether the derivative by every structure factor of the table is wanted.

    Raises
    ------
    InputError
        On the C program's curved detector, whose derivative is not there.
    """
    image_of = _Image(scene)
    parts = _partitions(image_of.size, Cotangents.zero(image_of.numbers, with_table))
    bars = [Cotangents.zero(image_of.numbers, with_table) for _ in parts]
    photons, weights = np.empty(image_of.size), scene.detector.picked(weight)

    def task(part: int) -> None:
        for block in image_of.blocks(parts[part]):
            photons[block] = image_of.pull(block, weights[block], bars[part])

    for_each(len(parts), task, choose_threads(REVERSE_COST * work_s(scene, image_of.size), threads))
    total = Cotangents.zero(image_of.numbers, with_table)
    for bar in bars:
        total.add(bar)
    return scene.detector.laid_out(photons), total


def push(scene: Scene, movements: Sequence[Movement], threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the image and its derivative along each of K movements, shape (K, slow, fast).

    Raises
    ------
    InputError
        On the C program's curved detector, whose derivative is not there.
    """
    image_of, tangents = _Image(scene), tangents_of(scene, movements)
    photons, moved = np.empty(image_of.size), np.empty((len(movements), image_of.size))
    parts = _partitions(image_of.size)

    def task(part: int) -> None:
        for block in image_of.blocks(parts[part]):
            photons[block], moved[:, block] = image_of.push(block, tangents)

    work = (1 + FORWARD_COST * len(movements)) * work_s(scene, image_of.size)
    for_each(len(parts), task, choose_threads(work, threads))
    return scene.detector.laid_out(photons), scene.detector.laid_out(moved)


def _partitions(pixels: int, bars: Cotangents | None = None) -> list[range]:
    """Cut pixels into ranges of whole blocks, fewer where each one's own derivative is large."""
    size = sum(array.nbytes for array in bars.kernel_arguments()) if bars else 1
    most = int(np.clip(PARTITION_BYTES // size, 2, PARTITIONS))
    blocks = -(-pixels // BLOCK)
    edges = [blocks * i // most * BLOCK for i in range(most + 1)]
    return [range(a, min(b, pixels)) for a, b in itertools.pairwise(edges) if b > a]


class _Image:
    """What the blocks of an image share."""

    def __init__(self, scene: Scene):
        if engine_of(scene) == STAGED:
            raise InputError("detector.curved: the C program's curved detector has no derivative here; ours has")
        self.scene, self.numbers = scene, numbers_of(scene, scene.per_sample)
        self.slow, self.fast = scene.detector.rendered()
        self.factors: Factors | None = c_factors(scene) if scene.c_compat else None
        self.scale = ELECTRON_RADIUS_SQUARED * scene.beam.fluence
        self.water = model.c_water(scene) if scene.c_compat else 0.0
        self.samples = scene.detector.oversample, scene.detector.layers
        self.size = self.slow.size

    def blocks(self, part: range) -> Iterator[slice]:
        """Yield the pixels of a partition, block by block."""
        for first in range(part.start, part.stop, BLOCK):
            yield slice(first, min(first + BLOCK, part.stop))

    def pull(self, block: slice, weight: np.ndarray, bars: Cotangents) -> np.ndarray:
        """Return the photons of a block, and add the derivative of sum(weight x photons)."""
        places = self.slow[block], self.fast[block]
        n, share = weight.size, 1 / self.scene.detector.oversample**2
        factors = self.factors(*places) if self.factors else []
        sums = sums_of(factors, n)
        product, mean = np.prod(sums, axis=0) if sums else np.ones(n), np.empty(n)
        on_mean = self.scale * share * product * weight
        derivative_kernel.reverse(
            *places, on_mean, *self.samples, self.numbers.g, self.numbers.sources, *self.numbers.crystal(), mean,
            *bars.kernel_arguments(),
        )  # fmt: skip
        even = mean * share + self.water
        for i, terms in enumerate(factors):
            others = np.prod([*sums[:i], *sums[i + 1 :]], axis=0) if len(sums) > 1 else np.ones(n)
            for term in terms:
                bars.g += _pull_factor(term, weight * self.scale * even * others)
        bars.photons += float(weight @ (even * product))
        bars.c_water += float(weight @ product) * self.scale
        return self.scale * even * product

    def push(self, block: slice, tangents: Tangents) -> tuple[np.ndarray, np.ndarray]:
        """Return the photons of a block, shape (n,), and their derivatives, shape (K, n)."""
        places = self.slow[block], self.fast[block]
        n, share = places[0].size, 1 / self.scene.detector.oversample**2
        mean, d_mean = np.empty(n), np.empty((len(tangents.g), n))
        derivative_kernel.forward(
            *places, *self.samples, self.numbers.g, self.numbers.sources, *self.numbers.crystal(),
            *tangents.kernel_arguments(), mean, d_mean,
        )  # fmt: skip
        even, d_even = mean * share + self.water, d_mean * share + tangents.c_water[:, None]
        for terms in self.factors(*places) if self.factors else []:
            pushed = [_push_factor(term, tangents) for term in terms]
            factor = sum((image for image, _ in pushed), np.zeros(n))
            d_even = d_even * factor + even * sum((moved for _, moved in pushed), np.zeros((1, n)))
            even = even * factor
        return self.scale * even, self.scale * d_even + tangents.photons[:, None] * even


def _pull_factor(factor: Factor, weight: np.ndarray) -> np.ndarray:
    """Return the derivative of sum(weight x factor) by g: of where the detector is and of what it corrects for."""
    light, bars, even = factor.numbers, Cotangents.zero(factor.numbers, with_table=False), np.empty(weight.size)
    places, weight = (factor.slow, factor.fast), factor.where_seen(weight)
    derivative_kernel.reverse(
        *places, weight, 1, 1, light.g, light.sources, *light.crystal(), even, *bars.kernel_arguments()
    )
    bars.g[[kernel.WATER, kernel.SCALE]] = 0.0  # its light is one, whatever the scene's
    return bars.g


def _push_factor(factor: Factor, tangents: Tangents) -> tuple[np.ndarray, np.ndarray]:
    """Return a factor, shape (n,), and its derivatives, shape (K, n)."""
    light, count = factor.numbers, len(tangents.g)
    g = tangents.g.copy()
    g[:, [kernel.WATER, kernel.SCALE]] = 0.0
    still = replace(
        tangents,
        g=g,
        sources=np.zeros((count, 1, 2)),
        lattices=tangents.lattices[:, :0].copy(),
        cells=np.zeros((count, 3)),
        metric=np.zeros((count, 6)),
    )
    even, moved = np.empty(factor.slow.size), np.empty((count, factor.slow.size))
    places, rest = (factor.slow, factor.fast), still.kernel_arguments()
    derivative_kernel.forward(*places, 1, 1, light.g, light.sources, *light.crystal(), *rest, even, moved)
    return factor.where_seen(even), factor.where_seen(moved)
