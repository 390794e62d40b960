"""An image and its exact derivatives: of a loss by every number of the scene (reverse), of every pixel by some of them
(forward).

Both are one pass of the kernel over the pixels, which also makes the image.

Pixels are cut into partitions whose number does not depend on that of threads; each adds up its own derivative, and
these are added in their order: results are the same bit for bit on any number of threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from exactgrad.diffraction import derivative_kernel
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.numbers import Cotangents, Tangents, numbers_of, tangents_of
from exactgrad.diffraction.render import STAGED, block_length, engine_of, work_s
from exactgrad.diffraction.scene import Scene
from exactgrad.errors import InputError
from exactgrad.kernels.threads import choose_threads, for_each

PARTITIONS = 16  # at most, of whole blocks
PARTITION_BYTES = 32_000_000  # of all partitions' own derivatives
REVERSE_COST, FORWARD_COST = 2.5, 1.0  # times the image: to choose threads


def pull(
    scene: Scene,
    weight: np.ndarray,
    threads: int | None = None,
    with_table: bool = False,
    with_rays: bool = True,
    with_extent: bool = True,
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
    with_rays : bool
        Whether that by the numbers of detector and beam is. With few lattices to a pixel, the crystal's alone costs a
        quarter less.
    with_extent : bool
        Whether that by the numbers of cells, or the metric of another shape, is.

    Raises
    ------
    InputError
        On the C program's curved detector, whose derivative is not there.
    """
    image_of = _Image(scene)
    zero = partial(Cotangents.zero, image_of.numbers, with_table, with_rays, with_extent)
    parts = _partitions(image_of.size, zero())
    bars = [zero() for _ in parts]
    photons, weights = np.empty(image_of.size), scene.detector.picked(weight)

    def task(part: int) -> None:
        for block in image_of.blocks(parts[part]):
            image_of.pull(block, weights[block], bars[part], photons[block])

    for_each(len(parts), task, choose_threads(REVERSE_COST * work_s(scene, image_of.size), threads))
    total = zero()
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
    length = block_length(pixels, PARTITIONS)
    blocks = -(-pixels // length)
    edges = [blocks * i // most * length for i in range(most + 1)]
    return [range(a, min(b, pixels)) for a, b in itertools.pairwise(edges) if b > a]


class _Image:
    """What the blocks of an image share."""

    def __init__(self, scene: Scene):
        if engine_of(scene) == STAGED:
            raise InputError("detector.curved: the C program's curved detector has no derivative here; ours has")
        self.scene, self.numbers = scene, numbers_of(scene, scene.per_sample)
        self.samples = scene.detector.oversample, scene.detector.layers
        self.size, self.places = scene.detector.places()
        self.block = block_length(self.size, PARTITIONS)
        self.share = 1 / scene.detector.oversample**2
        self.scale = ELECTRON_RADIUS_SQUARED * scene.beam.fluence

    def blocks(self, part: range) -> Iterator[slice]:
        """Yield the pixels of a partition, block by block."""
        for first in range(part.start, part.stop, self.block):
            yield slice(first, min(first + self.block, part.stop))

    def pull(self, block: slice, weight: np.ndarray, bars: Cotangents, photons: np.ndarray) -> None:
        """Make the photons of a block, and add the derivative of sum(weight x photons)."""
        derivative_kernel.reverse(
            *self.places(block), self.scale * self.share * weight, *self.samples, self.numbers.g, self.numbers.sources,
            *self.numbers.crystal(), photons, *bars.kernel_arguments(),
        )  # fmt: skip
        photons *= self.share
        bars.photons += float(weight @ photons)
        photons *= self.scale

    def push(self, block: slice, tangents: Tangents) -> tuple[np.ndarray, np.ndarray]:
        """Return the photons of a block, shape (n,), and their derivatives, shape (K, n)."""
        slow, fast = self.places(block)
        mean, d_mean = np.empty(slow.size), np.empty((len(tangents.g), slow.size))
        derivative_kernel.forward(
            slow, fast, *self.samples, self.numbers.g, self.numbers.sources, *self.numbers.crystal(),
            *tangents.kernel_arguments(), mean, d_mean,
        )  # fmt: skip
        mean, d_mean = self.share * mean, self.share * d_mean
        return self.scale * mean, self.scale * d_mean + tangents.photons[:, None] * mean
