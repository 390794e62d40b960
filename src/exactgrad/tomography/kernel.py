"""The tomography equations fused for speed: one projection a call, one slice of the volume at a time.

A slice is normal to the dominant component of the beam. Forward: the density of the slice's voxels for every segment
fills a small padded buffer; each ray then takes one bilinear sample of it (Joseph 1982). Backward: each ray puts its
cotangent back with the same weights, from the same function, so that this is the transpose by construction; the
density's derivative then sums over the segments. `model.py` holds the same equations stage by stage.

What a voxel scatters is the model's: four functions of a block of voxels, `density` and those below it. `Kernels` puts
a model's own in their places, so that there is one walk through the volume, with the model compiled into it.

Nothing else is compiled in: rotations, offsets and segments are arguments. The buffer has a border of two voxels of
zeros, so that a ray half outside gets its bilinear share and no index is moved.

Two layouts, each with a long vector: interpolation works on the segments of a voxel, which lie side by side in buffers
(slice rows `a`, columns `b`, lanes) and images (j, k, lanes), `lanes` being S padded to a multiple of four; densities
work on the voxels of a block, segment by segment: `tile` (lanes x BLOCK). `slot` gives a voxel's number, or -1 outside
the mask.

`fields`: values (fields, voxels), a unit for each field, and the number of the first of three that are a vector of any
length, or -1. Values are field by field, as in a solver's vector, which is read in place; `lane` (fields, BLOCK) holds
a block's as the model sees them, times their units and with unit vectors. Gradients, (fields, voxels), are by these;
what a walk back sums may also be something else of each voxel, and of another number of rows.

`slab`: the voxels that a call back adds to: slices from, to, and rows from, to. Slabs cut the volume along its first
axis, which is a slice's or a row's, so that several calls may add to one gradient at the same time.

`frame`: slices, rows, columns of the slice order and their strides in `slot`, J, K, lanes.
`runs` (runs, 3): row, first column and length of each unbroken line of active voxels, those of slice i from begins[i]
to begins[i + 1]. `box` (slices, 4): rows from, to, and columns from, to, where a slice has active voxels. `reach`
(slices, rows + 3, 2): of the rays between rows r - 2 and r - 1, the first and last whole column from which one touches
an active voxel. Rays that touch none are not walked, and what no ray touches is not cleared: it holds what earlier
slices left there.
`ray`: row a = ray[0] + ray[1] i + ray[2] j + ray[3] k, column b = ray[4] + ray[5] i + ray[6] j + ray[7] k, length of
a ray in a slice = ray[8]. `q` (G, 3, lanes): unit vectors of the G points of each segment; `share` (G,): their weights.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending

from exactgrad.kernels.compile import compiled, inlined, scalar

BORDER = 2
BLOCK = 64  # voxels
WORK = 4  # rows of a block's scratch, for each field
ROOT_BITS, HALF = np.uint64(0x5FE6EB50C7B537A9), np.uint64(1)  # minus the bits of x^2 over two: those of about 1/x
CONTRACT = ("contract",)

intrinsic: Any = extending.intrinsic  # a function of LLVM instructions


def _four(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Point at four doubles of an array from `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(ir.DoubleType(), 4).as_pointer())


def _splat(builder: Any, value: Any) -> Any:
    kind = ir.VectorType(ir.DoubleType(), 4)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _add_product(builder: Any, total: Any, weight: Any, value: Any) -> Any:
    return builder.fadd(total, builder.fmul(weight, value, flags=CONTRACT), flags=CONTRACT)


@intrinsic
def add_samples(typing_context, image, pixel, buffer, at, right, down, w00, w01, w10, w11):
    """image[pixel:pixel+4] += the bilinear sample of buffer[at:at+4] and its neighbours, `right` and `down` away."""

    def generate(context, builder, signature, arguments):
        image, pixel, buffer, at, right, down, *weights = arguments
        target = _four(context, builder, signature.args[0], image, pixel)
        total = builder.load(target, align=8)
        below = builder.add(at, down)
        for place, weight in zip((at, builder.add(at, right), below, builder.add(below, right)), weights, strict=True):
            value = builder.load(_four(context, builder, signature.args[2], buffer, place), align=8)
            total = _add_product(builder, total, _splat(builder, weight), value)
        builder.store(total, target, align=8)
        return context.get_dummy_value()

    types = (image, pixel, buffer, at, right, down, w00, w01, w10, w11)
    return numba.types.void(*types), generate


@intrinsic
def spread_samples(typing_context, image, pixel, buffer, at, right, down, w00, w01, w10, w11):
    """The transpose of `add_samples`: image[pixel:pixel+4] is added to the buffer with the same weights."""

    def generate(context, builder, signature, arguments):
        image, pixel, buffer, at, right, down, *weights = arguments
        value = builder.load(_four(context, builder, signature.args[0], image, pixel), align=8)
        below = builder.add(at, down)
        for place, weight in zip((at, builder.add(at, right), below, builder.add(below, right)), weights, strict=True):
            target = _four(context, builder, signature.args[2], buffer, place)
            total = _add_product(builder, builder.load(target, align=8), _splat(builder, weight), value)
            builder.store(total, target, align=8)
        return context.get_dummy_value()

    types = (image, pixel, buffer, at, right, down, w00, w01, w10, w11)
    return numba.types.void(*types), generate


@intrinsic
def transpose_four(typing_context, source, s0, s1, s2, s3, target, t0, t1, t2, t3):
    """Copy four doubles from each of four places of `source` to four places of `target`, rows as columns."""

    def generate(context, builder, signature, arguments):
        source, target = arguments[0], arguments[5]

        def mix(one: Any, other: Any, order: list[int]) -> Any:
            return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(ir.IntType(32), 4), order))

        def load(place: Any) -> Any:
            return builder.load(_four(context, builder, signature.args[0], source, place), align=8)

        a, b, c, d = (load(place) for place in arguments[1:5])
        even, odd = (
            (mix(a, b, [0, 4, 2, 6]), mix(c, d, [0, 4, 2, 6])),
            (mix(a, b, [1, 5, 3, 7]), mix(c, d, [1, 5, 3, 7])),
        )
        columns = [mix(*pair, half) for half in ([0, 1, 4, 5], [2, 3, 6, 7]) for pair in (even, odd)]
        for place, column in zip(arguments[6:], columns, strict=True):
            builder.store(column, _four(context, builder, signature.args[5], target, place), align=8)
        return context.get_dummy_value()

    return numba.types.void(source, s0, s1, s2, s3, target, t0, t1, t2, t3), generate


@scalar
def inside(base, slope, least, most, low, high):
    """First and last whole k in [low, high] with least <= base + slope k <= most, as floats; first > last if none."""
    if slope == 0.0:
        return (low, high) if least <= base <= most else (1.0, 0.0)
    first, last = (least - base) / slope, (most - base) / slope
    if slope < 0.0:
        first, last = last, first
    return max(low, np.ceil(first)), min(high, np.floor(last))


@scalar
def touches(reach, i, a, b):
    """Whether a ray at row a and column b of slice i touches an active voxel."""
    row, column = int(np.floor(a)) + BORDER, int(np.floor(b))
    return reach[i, row, 0] <= column <= reach[i, row, 1]


@scalar
def ray_range(ray, frame, box, reach, i, j, top, end):
    """Start of the rays (j, .) in slice i, row and column; the first and last k that touch voxels of these rows."""
    a, b = ray[0] + ray[1] * i + ray[2] * j, ray[4] + ray[5] * i + ray[6] * j
    low, high = inside(a, ray[3], top - 1.0, end, 0.0, frame[7] - 1.0)
    if low <= high:
        low, high = inside(b, ray[7], box[i, 2] - 1.0, box[i, 3], low, high)
    if low > high or top >= end:
        low, high = 0.0, -1.0
    first, last = int(low), int(high)
    while first <= last and not touches(reach, i, a + ray[3] * first, b + ray[7] * first):
        first += 1
    while first < last and not touches(reach, i, a + ray[3] * last, b + ray[7] * last):
        last -= 1
    return a, b, first, last


@scalar
def active_rows(box, i, top, end):
    """The rows of slice i, from top to end - 1, that have active voxels: from, to."""
    return max(top, box[i, 0]), min(end, box[i, 1])


@scalar
def sample(ray, frame, a, b, k):
    """Where ray k samples the buffer: its first element, and the shares of the next row and column."""
    a, b = a + ray[3] * k, b + ray[7] * k
    first_a, first_b = np.floor(a), np.floor(b)
    at = ((int(first_a) + BORDER) * (frame[2] + 2 * BORDER) + int(first_b) + BORDER) * frame[8]
    return at, a - first_a, b - first_b


@inlined
def clear(buffer, frame, reach, i, top, end):
    """Set what rays touch in rows top to end - 1 of slice i, and beside them, to zero."""
    lanes, last = frame[8], frame[1] + BORDER
    down = (frame[2] + 2 * BORDER) * lanes
    for row in range(top + 1, min(end + 3, last) + 1):  # as the buffer counts: touched from above and from below
        low = min(reach[i, row, 0], reach[i, row - 1, 0]) + BORDER
        high = max(reach[i, row, 1], reach[i, row - 1, 1]) + BORDER + 2
        if low < high:
            buffer[row * down + low * lanes : row * down + high * lanes] = 0.0


@inlined
def gather(buffer, ray, frame, box, reach, i, image):
    """Add slice i to the image: one bilinear sample a ray, times its length in the slice."""
    lanes = frame[8]
    down = (frame[2] + 2 * BORDER) * lanes
    for j in range(frame[6]):
        a, b, first, last = ray_range(ray, frame, box, reach, i, j, box[i, 0], box[i, 1])
        for k in range(first, last + 1):
            if not touches(reach, i, a + ray[3] * k, b + ray[7] * k):
                continue
            at, wa, wb = sample(ray, frame, a, b, k)
            lower, upper = ray[8] * wa, ray[8] - ray[8] * wa
            w11, w01 = lower * wb, upper * wb
            pixel = (j * frame[7] + k) * lanes
            for s in range(0, lanes, 4):
                add_samples(image, pixel + s, buffer, at + s, lanes, down, upper - w01, w01, lower - w11, w11)


@inlined
def scatter(image, ray, frame, box, reach, i, top, end, buffer):
    """Set rows top to end - 1 of slice i to the image's share: the transpose of `gather`."""
    lanes = frame[8]
    down = (frame[2] + 2 * BORDER) * lanes
    clear(buffer, frame, reach, i, top, end)
    for j in range(frame[6]):
        a, b, first, last = ray_range(ray, frame, box, reach, i, j, top, end)
        for k in range(first, last + 1):
            if not touches(reach, i, a + ray[3] * k, b + ray[7] * k):
                continue
            at, wa, wb = sample(ray, frame, a, b, k)
            lower, upper = ray[8] * wa, ray[8] - ray[8] * wa
            w11, w01 = lower * wb, upper * wb
            pixel = (j * frame[7] + k) * lanes
            for s in range(0, lanes, 4):
                spread_samples(image, pixel + s, buffer, at + s, lanes, down, upper - w01, w01, lower - w11, w11)


@inlined
def gather_slopes(buffer, ray, frame, box, reach, i, image_j, image_k):
    """Add what slice i adds to the derivatives of the image by j_offset and k_offset."""
    lanes = frame[8]
    down = (frame[2] + 2 * BORDER) * lanes
    for j in range(frame[6]):
        a, b, first, last = ray_range(ray, frame, box, reach, i, j, box[i, 0], box[i, 1])
        for k in range(first, last + 1):
            if not touches(reach, i, a + ray[3] * k, b + ray[7] * k):
                continue
            at, wa, wb = sample(ray, frame, a, b, k)
            pixel = (j * frame[7] + k) * lanes
            for s in range(lanes):
                n, m = at + s, at + s + down
                v00, v01, v10, v11 = buffer[n], buffer[n + lanes], buffer[m], buffer[m + lanes]
                by_a = ray[8] * ((1.0 - wb) * (v10 - v00) + wb * (v11 - v01))
                by_b = ray[8] * ((1.0 - wa) * (v01 - v00) + wa * (v11 - v10))
                image_j[pixel + s] += ray[2] * by_a + ray[6] * by_b
                image_k[pixel + s] += ray[3] * by_a + ray[7] * by_b


@inlined
def put_block(tile, places, count, lanes, buffer):
    """Copy a block's densities, segment by segment, to its voxels' places in the buffer."""
    four = count & ~3
    for n in range(0, four, 4):
        p0, p1, p2, p3 = places[n], places[n + 1], places[n + 2], places[n + 3]
        for s in range(0, lanes, 4):
            at = s * BLOCK + n
            transpose_four(tile, at, at + BLOCK, at + 2 * BLOCK, at + 3 * BLOCK, buffer, p0 + s, p1 + s, p2 + s, p3 + s)
    for n in range(four, count):
        for s in range(lanes):
            buffer[places[n] + s] = tile[s * BLOCK + n]


@inlined
def take_block(buffer, places, count, lanes, tile):
    """Copy from a block's voxels' places in the buffer, segment by segment: the way back of `put_block`."""
    four = count & ~3
    for n in range(0, four, 4):
        p0, p1, p2, p3 = places[n], places[n + 1], places[n + 2], places[n + 3]
        for s in range(0, lanes, 4):
            at = s * BLOCK + n
            transpose_four(buffer, p0 + s, p1 + s, p2 + s, p3 + s, tile, at, at + BLOCK, at + 2 * BLOCK, at + 3 * BLOCK)
    for n in range(four, count):
        for s in range(lanes):
            tile[s * BLOCK + n] = buffer[places[n] + s]


@inlined
def whole(count):
    """Round up to whole vectors: idle lanes hold what was there before, and are not read."""
    return (count + 15) & ~15


@intrinsic
def bits_of(typing_context, number):
    """The 64 bits of a double."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return numba.types.uint64(numba.types.float64), generate


@intrinsic
def as_double(typing_context, bits):
    """The double that has these 64 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return numba.types.float64(numba.types.int64), generate


@inlined
def make_unit(lane, axis, width):
    """Divide the vectors of a block by their length, whose square is 1e-200 to 1e200; one of zeros stays.

    No root and no division, which would cost a twentieth of everything: halved bits are 1/length to 4 % (Lomont 2003),
    two steps like Newton's, of fourth and third order, make it exact.
    """
    x, y, z = lane[axis], lane[axis + 1], lane[axis + 2]
    for n in range(width):
        square = x[n] * x[n] + y[n] * y[n] + z[n] * z[n]
        r = as_double(ROOT_BITS - (bits_of(square) >> HALF))
        e = 1.0 - square * r * r
        r += r * e * (0.5 + e * (0.375 + e * 0.3125))
        e = 1.0 - square * r * r
        r += r * e * (0.5 + e * 0.375)
        x[n] *= r
        y[n] *= r
        z[n] *= r


# What a model says of a block of voxels: `Kernels` puts its own in these places --------------------------------------


def density(lane, q, share, width, work, tile):
    """Add to the tile the block's density, averaged over the points of each segment."""
    raise NotImplementedError


def density_tangent(lane, change, q, share, width, work, tile):
    """Add to the tile the change of the density when the fields change."""
    raise NotImplementedError


def cotangent(lane, q, share, width, work, tile, out):
    """Set `out` (gradient rows, BLOCK) to the derivative by the fields; the tile holds the one by the density."""
    raise NotImplementedError


def cotangent_tangent(lane, change, q, share, width, work, tile, tile_change, out):
    """Set `out` to the change of `cotangent` when the fields and the tile change."""
    raise NotImplementedError


# The walk through the slices -----------------------------------------------------------------------------------------


@inlined
def load_block(fields, slot, runs, frame, i, run, skip, end, lane, numbers, places):
    """Take the next active voxels of slice i, at most `BLOCK`, from voxel `skip` of a run on and below run `end`.

    Return how many, and the run and voxel to go on from.
    """
    values, unit, axis = fields
    count, step, lanes = 0, frame[5], frame[8]
    while run < end and count < BLOCK:
        row, column = runs[run, 0], runs[run, 1] + skip
        more = min(runs[run, 2] - skip, BLOCK - count)
        at = i * frame[3] + row * frame[4] + column * step
        start = ((row + BORDER) * (frame[2] + 2 * BORDER) + column + BORDER) * lanes
        here, there = numbers[count : count + more], places[count : count + more]
        for n in range(more):
            there[n] = start + n * lanes
        if step == 1:  # side by side, in whole vectors
            first = slot[at]
            for n in range(more):
                here[n] = first + n
            for f in range(len(values)):
                source, target, scale = values[f, first : first + more], lane[f, count : count + more], unit[f]
                for n in range(more):
                    target[n] = scale * source[n]
        else:
            for n in range(more):
                here[n] = slot[at + n * step]
            for f in range(len(values)):
                source, target, scale = values[f], lane[f, count : count + more], unit[f]
                for n in range(more):
                    target[n] = scale * source[here[n]]
        count += more
        skip += more
        if skip == runs[run, 2]:
            run, skip = run + 1, 0
    if axis >= 0:
        make_unit(lane, axis, whole(count))
    return count, run, skip


@inlined
def add_block(out, numbers, count, gradient):
    """Add a block's derivatives by its fields to its voxels, run by run."""
    first = numbers[0]
    if count > 0 and numbers[count - 1] - first == count - 1:  # side by side
        for f in range(len(out)):
            source, target = out[f], gradient[f, first : first + count]
            for n in range(count):
                target[n] += source[n]
        return
    for f in range(len(out)):
        source, target = out[f], gradient[f]
        for n in range(count):
            target[numbers[n]] += source[n]


def fill(fields, q, share, slot, runs, begins, frame, box, reach, i, lane, work, tile, numbers, places, buffer):
    """Fill what rays touch of the buffer with the density of slice i."""
    run, skip, end = begins[i], 0, begins[i + 1]
    if fields[0].shape[1] < slot.size:  # else every place is set
        clear(buffer, frame, reach, i, box[i, 0], box[i, 1])
    while run < end:
        count, run, skip = load_block(fields, slot, runs, frame, i, run, skip, end, lane, numbers, places)
        tile[:] = 0.0
        density(lane, q, share, whole(count), work, tile)
        put_block(tile, places, count, frame[8], buffer)


def fill_tangent(
    fields, changes, q, share, slot, runs, begins, frame, box, reach, i, lane, change, work, tile, numbers, places,
    buffer,
):  # fmt: skip
    """Fill what rays touch of the buffer with the change of the density of slice i when the fields change."""
    run, skip, end = begins[i], 0, begins[i + 1]
    if fields[0].shape[1] < slot.size:  # else every place is set
        clear(buffer, frame, reach, i, box[i, 0], box[i, 1])
    while run < end:
        load_block(changes, slot, runs, frame, i, run, skip, end, change, numbers, places)
        count, run, skip = load_block(fields, slot, runs, frame, i, run, skip, end, lane, numbers, places)
        tile[:] = 0.0
        density_tangent(lane, change, q, share, whole(count), work, tile)
        put_block(tile, places, count, frame[8], buffer)


@inlined
def runs_of(runs, begins, i, top, end):
    """The runs of slice i in rows top to end - 1: from, to."""
    first, last = begins[i], begins[i + 1]
    while first < last and runs[first, 0] < top:
        first += 1
    while first < last and runs[last - 1, 0] >= end:
        last -= 1
    return first, last


def pull(
    fields, q, share, slot, runs, begins, frame, i, top, end, lane, work, tile, out, numbers, places, buffer, gradient
):  # fmt: skip
    """Add to the gradient by the fields of these rows of slice i; the buffer holds the cotangent of the density."""
    run, stop = runs_of(runs, begins, i, top, end)
    skip = 0
    while run < stop:
        count, run, skip = load_block(fields, slot, runs, frame, i, run, skip, stop, lane, numbers, places)
        take_block(buffer, places, count, frame[8], tile)
        cotangent(lane, q, share, whole(count), work, tile, out)
        add_block(out, numbers, count, gradient)


def pull_tangent(
    fields, changes, q, share, slot, runs, begins, frame, i, top, end, lane, change, work, tile, tile_change, out,
    numbers, places, buffer, buffer_change, gradient,
):  # fmt: skip
    """Add the change of `pull` when the fields and the cotangent of the density change."""
    run, stop = runs_of(runs, begins, i, top, end)
    skip = 0
    while run < stop:
        load_block(changes, slot, runs, frame, i, run, skip, stop, change, numbers, places)
        count, run, skip = load_block(fields, slot, runs, frame, i, run, skip, stop, lane, numbers, places)
        take_block(buffer, places, count, frame[8], tile)
        take_block(buffer_change, places, count, frame[8], tile_change)
        cotangent_tangent(lane, change, q, share, whole(count), work, tile, tile_change, out)
        add_block(out, numbers, count, gradient)


_IMAGE = "float64[::1]"
_VALUES = "float64[:, ::1]"
_FIELDS = f"Tuple(({_VALUES}, float64[::1], int64))"
_PLACE = "int64[::1], float64[::1], int32[:, ::1], int32[:, :, ::1]"  # frame, ray, box, reach
_SCAN = (
    f"float64[:, :, ::1], float64[::1], int32[::1], int32[:, ::1], int32[::1], {_PLACE}"  # q, share, slot, runs, begins
)
_SLAB = "int64[::1]"


@inlined
def new_buffer(frame):
    """Return room for a slice, its border empty."""
    return np.zeros((frame[1] + 2 * BORDER) * (frame[2] + 2 * BORDER) * frame[8])


@inlined
def scratch(fields, frame):
    """Return room for a block: fields, what a model makes on the way, the tile, and its voxels' numbers and places."""
    count = len(fields[0])
    return (
        np.zeros((count, BLOCK)),
        np.zeros((WORK * count, BLOCK)),
        np.zeros(frame[8] * BLOCK),
        np.empty(BLOCK, np.int64),
        np.empty(BLOCK, np.int64),
    )


def forward(fields, q, share, slot, runs, begins, frame, ray, box, reach, image):
    """Add the projection of the density to the image."""
    lane, work, tile, numbers, places = scratch(fields, frame)
    buffer = new_buffer(frame)
    for i in range(frame[0]):
        fill(fields, q, share, slot, runs, begins, frame, box, reach, i, lane, work, tile, numbers, places, buffer)
        gather(buffer, ray, frame, box, reach, i, image)


def forward_slopes(fields, q, share, slot, runs, begins, frame, ray, box, reach, image_j, image_k):
    """Add the derivatives of the projection by j_offset and k_offset to two images."""
    lane, work, tile, numbers, places = scratch(fields, frame)
    buffer = new_buffer(frame)
    for i in range(frame[0]):
        fill(fields, q, share, slot, runs, begins, frame, box, reach, i, lane, work, tile, numbers, places, buffer)
        gather_slopes(buffer, ray, frame, box, reach, i, image_j, image_k)


def forward_tangent(fields, changes, q, share, slot, runs, begins, frame, ray, box, reach, image):
    """Add the change of the projection to the image, when the fields change."""
    lane, work, tile, numbers, places = scratch(fields, frame)
    buffer, change = new_buffer(frame), np.zeros((len(changes[0]), BLOCK))
    for i in range(frame[0]):
        fill_tangent(
            fields, changes, q, share, slot, runs, begins, frame, box, reach, i, lane, change, work, tile, numbers,
            places, buffer,
        )  # fmt: skip
        gather(buffer, ray, frame, box, reach, i, image)


def backward(fields, q, share, slot, runs, begins, frame, ray, box, reach, slab, image, gradient):
    """Add to the gradient by the fields of the slab's voxels; `image` holds the cotangent of the projection."""
    lane, work, tile, numbers, places = scratch(fields, frame)
    buffer, out = new_buffer(frame), np.zeros((len(gradient), BLOCK))
    for i in range(slab[0], slab[1]):
        top, end = active_rows(box, i, slab[2], slab[3])
        scatter(image, ray, frame, box, reach, i, top, end, buffer)
        pull(
            fields, q, share, slot, runs, begins, frame, i, top, end, lane, work, tile, out, numbers, places, buffer,
            gradient,
        )  # fmt: skip


def backward_tangent(
    fields, changes, q, share, slot, runs, begins, frame, ray, box, reach, slab, image, image_change, gradient
):
    """Add the change of `backward` to the gradient, when the fields and the cotangent change."""
    lane, work, tile, numbers, places = scratch(fields, frame)
    change, out = np.zeros((len(changes[0]), BLOCK)), np.zeros((len(gradient), BLOCK))
    tile_change = np.zeros_like(tile)
    buffer, buffer_change = new_buffer(frame), new_buffer(frame)
    for i in range(slab[0], slab[1]):
        top, end = active_rows(box, i, slab[2], slab[3])
        scatter(image, ray, frame, box, reach, i, top, end, buffer)
        scatter(image_change, ray, frame, box, reach, i, top, end, buffer_change)
        pull_tangent(
            fields, changes, q, share, slot, runs, begins, frame, i, top, end, lane, change, work, tile, tile_change,
            out, numbers, places, buffer, buffer_change, gradient,
        )  # fmt: skip


_SIGNATURES = {
    "forward": f"void({_FIELDS}, {_SCAN}, {_IMAGE})",
    "forward_slopes": f"void({_FIELDS}, {_SCAN}, {_IMAGE}, {_IMAGE})",
    "forward_tangent": f"void({_FIELDS}, {_FIELDS}, {_SCAN}, {_IMAGE})",
    "backward": f"void({_FIELDS}, {_SCAN}, {_SLAB}, {_IMAGE}, {_VALUES})",
    "backward_tangent": f"void({_FIELDS}, {_FIELDS}, {_SCAN}, {_SLAB}, {_IMAGE}, {_IMAGE}, {_VALUES})",
}
_COMPILING = threading.RLock()


class Kernels:
    """A model's kernels: the walks above of these names, each compiled when it is first asked for.

    Parameters
    ----------
    model : str
        Its name, which tells its kernels from others' in the cache.
    *functions
        The model's `density`, `density_tangent`, `cotangent`, `cotangent_tangent`, of these names; those that no walk
        asked for needs may be left out.
    """

    def __init__(self, model: str, *functions: Callable[..., None]):
        self._model, self._functions = model, functions

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in _SIGNATURES:
            raise AttributeError(name)
        with _COMPILING:
            if name not in vars(self):
                setattr(self, name, self._fused(globals()[name]))
        return vars(self)[name]

    def _fused(self, walk: Callable[..., None]) -> Callable[..., None]:
        """Return a walk with the model's functions in it, compiled."""
        names = globals() | {function.__name__: inlined(function) for function in self._functions}
        for part in (fill, fill_tangent, pull, pull_tangent):
            names[part.__name__] = inlined(FunctionType(part.__code__, names, part.__name__))
        own = FunctionType(walk.__code__, names, f"{self._model}_{walk.__name__}_{self._mark()}")
        own.__qualname__ = own.__name__
        return compiled(_SIGNATURES[walk.__name__])(own)

    def _mark(self) -> str:
        """Return what changes with the files of the functions: the cache would not see an edit of a model elsewhere."""
        digest = hashlib.sha256()
        for path in sorted({Path(function.__code__.co_filename) for function in self._functions}):
            digest.update(path.read_bytes() if path.is_file() else str(path).encode())
        return digest.hexdigest()[:8]


@compiled(f"void({_VALUES}, {_PLACE}, {_IMAGE})")
def project(slices, frame, ray, box, reach, image):
    """Add the projection of a volume to the image: `slices` (Nd, buffer) are its slices as padded buffers."""
    for i in range(frame[0]):
        gather(slices[i], ray, frame, box, reach, i, image)


@compiled(f"void({_IMAGE}, {_PLACE}, {_SLAB}, {_VALUES})")
def back_project(image, frame, ray, box, reach, slab, slices):
    """Set the slab's voxels in its slices to the transpose of `project`."""
    for i in range(slab[0], slab[1]):
        top, end = active_rows(box, i, slab[2], slab[3])
        scatter(image, ray, frame, box, reach, i, top, end, slices[i - slab[0]])


@compiled(f"void({_VALUES}, {_PLACE}, {_IMAGE}, {_IMAGE})")
def project_slopes(slices, frame, ray, box, reach, image_j, image_k):
    """Add the derivatives of `project` by j_offset and k_offset to two images."""
    for i in range(frame[0]):
        gather_slopes(slices[i], ray, frame, box, reach, i, image_j, image_k)
