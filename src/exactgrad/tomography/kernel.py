"""The tomography equations fused for speed: one projection a call, one slice of the volume at a time.

A slice is normal to the dominant component of the beam. Forward: the density of the slice's voxels for every segment
fills a small padded buffer; each ray then takes one bilinear sample of it (Joseph 1982). Backward: each ray puts its
cotangent back with the same weights, from the same function, so that this is the transpose by construction; the
density's derivative then sums over the segments. `model.py` holds the same equations stage by stage.

Nothing is compiled in: rotations, offsets and segments are arguments. The buffer has a border of two voxels of zeros,
so that a ray half outside gets its bilinear share and no index is moved.

Two layouts, each with a long vector: interpolation works on the segments of a voxel, which lie side by side in buffers
(slice rows `a`, columns `b`, lanes) and images (j, k, lanes), `lanes` being S padded to a multiple of four; densities
work on the voxels of a block, segment by segment. `fields` has a row for each active voxel: A, B, ux, uy, uz. `slot`
gives a voxel's row, or -1 outside the mask.

`slab`: the voxels that a call back adds to: slices from, to, and rows from, to. Slabs cut the volume along its first
axis, which is a slice's or a row's, so that several calls may add to one gradient at the same time.

`frame`: slices, rows, columns of the slice order and their strides in `slot`, J, K, lanes.
`ray`: row a = ray[0] + ray[1] i + ray[2] j + ray[3] k, column b = ray[4] + ray[5] i + ray[6] j + ray[7] k, length of
a ray in a slice = ray[8]. `q` (G, 3, lanes): unit vectors of the G points of each segment; `share` (G,): their weights.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending

from exactgrad.kernels.compile import FAST, compiled, scalar

BORDER = 2
BLOCK = 64  # voxels
FIELDS = 5
LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453
LEAST, MOST = -708.0, 709.0  # the exponents whose power a double holds
CONTRACT = ("contract",)

intrinsic: Any = extending.intrinsic  # a function of LLVM instructions

inlined = numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)


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


@intrinsic
def as_double(typing_context, bits):
    """The double that has these 64 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return numba.types.float64(numba.types.int64), generate


@inlined
def exponential_parts(x):
    """r and 2^k with exp(x) = 2^k exp(r), |r| <= log(2)/2."""
    y = min(max(x, LEAST), MOST)
    k = np.floor(y * LOG2E + 0.5)
    return y - k * LN2, as_double((np.int64(np.int32(k)) + 1023) << 52)


@inlined
def exponential_near_zero(r):
    """exp(r) for |r| <= log(2)/2 to 2e-14: the polynomial of degree 9 through its Chebyshev nodes."""
    p = 2.763264069051338e-06
    p = p * r + 2.4884459768350122e-05
    p = p * r + 0.00019841190647512536
    p = p * r + 0.0013888801749621653
    p = p * r + 0.008333333367311624
    p = p * r + 0.04166666704055213
    p = p * r + 0.16666666666615648
    p = p * r + 0.4999999999943859
    p = p * r + 1.0000000000000013
    return p * r + 1.0000000000000135


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
def ray_range(ray, frame, i, j, top, end):
    """Start of the rays (j, .) in slice i, row and column; the first and last k that touch its rows top to end - 1."""
    a, b = ray[0] + ray[1] * i + ray[2] * j, ray[4] + ray[5] * i + ray[6] * j
    low, high = inside(a, ray[3], top - 1.0, end, 0.0, frame[7] - 1.0)
    if low <= high:
        low, high = inside(b, ray[7], -1.0, frame[2], low, high)
    if low > high:
        low, high = 0.0, -1.0
    return a, b, int(low), int(high)


@scalar
def sample(ray, frame, a, b, k):
    """Where ray k samples the buffer: its first element, and the shares of the next row and column."""
    a, b = a + ray[3] * k, b + ray[7] * k
    first_a, first_b = np.floor(a), np.floor(b)
    at = ((int(first_a) + BORDER) * (frame[2] + 2 * BORDER) + int(first_b) + BORDER) * frame[8]
    return at, a - first_a, b - first_b


@inlined
def gather(buffer, ray, frame, i, image):
    """Add slice i to the image: one bilinear sample a ray, times its length in the slice."""
    lanes = frame[8]
    down = (frame[2] + 2 * BORDER) * lanes
    for j in range(frame[6]):
        a, b, first, last = ray_range(ray, frame, i, j, 0, frame[1])
        for k in range(first, last + 1):
            at, wa, wb = sample(ray, frame, a, b, k)
            lower, upper = ray[8] * wa, ray[8] - ray[8] * wa
            w11, w01 = lower * wb, upper * wb
            pixel = (j * frame[7] + k) * lanes
            for s in range(0, lanes, 4):
                add_samples(image, pixel + s, buffer, at + s, lanes, down, upper - w01, w01, lower - w11, w11)


@inlined
def scatter(image, ray, frame, i, top, end, buffer):
    """Set rows top to end - 1 of slice i to the image's share: the transpose of `gather`."""
    lanes = frame[8]
    down = (frame[2] + 2 * BORDER) * lanes
    buffer[(top + 1) * down : (end + 4) * down] = 0.0  # and what is beside them
    for j in range(frame[6]):
        a, b, first, last = ray_range(ray, frame, i, j, top, end)
        for k in range(first, last + 1):
            at, wa, wb = sample(ray, frame, a, b, k)
            lower, upper = ray[8] * wa, ray[8] - ray[8] * wa
            w11, w01 = lower * wb, upper * wb
            pixel = (j * frame[7] + k) * lanes
            for s in range(0, lanes, 4):
                spread_samples(image, pixel + s, buffer, at + s, lanes, down, upper - w01, w01, lower - w11, w11)


@inlined
def gather_slopes(buffer, ray, frame, i, image_j, image_k):
    """Add what slice i adds to the derivatives of the image by j_offset and k_offset."""
    lanes = frame[8]
    down = (frame[2] + 2 * BORDER) * lanes
    for j in range(frame[6]):
        a, b, first, last = ray_range(ray, frame, i, j, 0, frame[1])
        for k in range(first, last + 1):
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
def load_block(fields, slot, frame, i, position, cells, lane, rows, places):
    """Take the next active voxels of slice i, below `cells`, at most `BLOCK`; return how many, and where to go on."""
    count = 0
    columns = frame[2]
    while position < cells and count < BLOCK:
        row = position // columns
        column = position - row * columns
        at = i * frame[3] + row * frame[4]
        start = ((row + BORDER) * (columns + 2 * BORDER) + BORDER) * frame[8]
        stop = min(columns, column + BLOCK - count)
        position += stop - column
        for c in range(column, stop):
            voxel = slot[at + c * frame[5]]
            if voxel >= 0:
                rows[count], places[count] = voxel, start + c * frame[8]
                for f in range(FIELDS):
                    lane[f, count] = fields[voxel, f]
                count += 1
    return count, position


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
def start_exponentials(lane, x, y, z, width, work):
    """cos(Theta) of a block's voxels with q = (x, y, z), and the parts of exp(-B sin^2(Theta)), into `work`."""
    for n in range(width):
        c = x * lane[2, n] + y * lane[3, n] + z * lane[4, n]
        work[0, n] = c
        work[1, n], work[2, n] = exponential_parts(lane[1, n] * (c * c - 1.0))


@inlined
def whole(count):
    """Round up to whole vectors: idle lanes hold what was there before, and are not read."""
    return (count + 15) & ~15


@inlined
def uniaxial_slice(fields, q, share, slot, frame, i, lane, work, tile, rows, places, buffer):
    """Fill the buffer with A^2 exp(-B sin^2(Theta)) of slice i; return how many active voxels it has."""
    lanes, found, position, cells = frame[8], 0, 0, frame[1] * frame[2]
    buffer[:] = 0.0
    while position < cells:
        count, position = load_block(fields, slot, frame, i, position, cells, lane, rows, places)
        width = whole(count)
        found += count
        tile[:] = 0.0
        for g in range(share.size):
            for s in range(lanes):
                start_exponentials(lane, q[g, 0, s], q[g, 1, s], q[g, 2, s], width, work)
                for n in range(width):
                    a = lane[0, n]
                    tile[s * BLOCK + n] += share[g] * a * a * work[2, n] * exponential_near_zero(work[1, n])
        put_block(tile, places, count, lanes, buffer)
    return found


@inlined
def uniaxial_slice_tangent(fields, changes, q, share, slot, frame, i, lane, change, work, tile, rows, places, buffer):
    """Fill the buffer with the change of the density of slice i when the fields change."""
    lanes, found, position, cells = frame[8], 0, 0, frame[1] * frame[2]
    buffer[:] = 0.0
    while position < cells:
        before = position
        count, position = load_block(fields, slot, frame, i, before, cells, lane, rows, places)
        load_block(changes, slot, frame, i, before, cells, change, rows, places)
        width = whole(count)
        found += count
        tile[:] = 0.0
        for g in range(share.size):
            for s in range(lanes):
                x, y, z = q[g, 0, s], q[g, 1, s], q[g, 2, s]
                start_exponentials(lane, x, y, z, width, work)
                for n in range(width):
                    c = work[0, n]
                    dc = x * change[2, n] + y * change[3, n] + z * change[4, n]
                    a, b = lane[0, n], lane[1, n]
                    growth = change[1, n] * (c * c - 1.0) + 2.0 * b * c * dc
                    e = share[g] * work[2, n] * exponential_near_zero(work[1, n])
                    tile[s * BLOCK + n] += a * e * (2.0 * change[0, n] + a * growth)
        put_block(tile, places, count, lanes, buffer)
    return found


@inlined
def uniaxial_pull(fields, q, share, slot, frame, i, top, end, lane, work, sums, tile, rows, places, buffer, gradient):
    """Add to the gradient by the fields of these rows of slice i; the buffer holds the cotangent of the density."""
    lanes, position, cells = frame[8], top * frame[2], end * frame[2]
    while position < cells:
        count, position = load_block(fields, slot, frame, i, position, cells, lane, rows, places)
        width = whole(count)
        take_block(buffer, places, count, lanes, tile)
        sums[:] = 0.0  # of t and t c q, t = cotangent times exp; u dotted into the second is the sum of t c^2
        for g in range(share.size):
            for s in range(0, lanes, 2):
                x, y, z = q[g, 0, s], q[g, 1, s], q[g, 2, s]
                x1, y1, z1 = q[g, 0, s + 1], q[g, 1, s + 1], q[g, 2, s + 1]
                start_exponentials(lane, x, y, z, width, work)
                start_exponentials(lane, x1, y1, z1, width, work[3:])
                for n in range(width):
                    t = share[g] * tile[s * BLOCK + n] * work[2, n] * exponential_near_zero(work[1, n])
                    t1 = share[g] * tile[s * BLOCK + BLOCK + n] * work[5, n] * exponential_near_zero(work[4, n])
                    tc, tc1 = t * work[0, n], t1 * work[3, n]
                    sums[0, n] += t + t1
                    sums[1, n] += tc * x + tc1 * x1
                    sums[2, n] += tc * y + tc1 * y1
                    sums[3, n] += tc * z + tc1 * z1
        for n in range(count):
            a, voxel = lane[0, n], rows[n]
            twist = 2.0 * a * a * lane[1, n]
            squares = lane[2, n] * sums[1, n] + lane[3, n] * sums[2, n] + lane[4, n] * sums[3, n]
            gradient[voxel, 0] += 2.0 * a * sums[0, n]
            gradient[voxel, 1] += a * a * (squares - sums[0, n])
            for f in range(3):
                gradient[voxel, 2 + f] += twist * sums[1 + f, n]


@inlined
def uniaxial_pull_tangent(
    fields,
    changes,
    q,
    share,
    slot,
    frame,
    i,
    top,
    end,
    lane,
    change,
    work,
    sums,
    tile,
    tile_change,
    rows,
    places,
    buffer,
    buffer_change,
    gradient,
):
    """Add the change of `uniaxial_pull` when the fields and the cotangent of the density change."""
    lanes, position, cells = frame[8], top * frame[2], end * frame[2]
    while position < cells:
        before = position
        count, position = load_block(fields, slot, frame, i, before, cells, lane, rows, places)
        load_block(changes, slot, frame, i, before, cells, change, rows, places)
        width = whole(count)
        take_block(buffer, places, count, lanes, tile)
        take_block(buffer_change, places, count, lanes, tile_change)
        sums[:] = 0.0  # of t, t (c^2 - 1), t c q, and their changes
        for g in range(share.size):
            for s in range(lanes):
                x, y, z = q[g, 0, s], q[g, 1, s], q[g, 2, s]
                start_exponentials(lane, x, y, z, width, work)
                for n in range(width):
                    c = work[0, n]
                    dc = x * change[2, n] + y * change[3, n] + z * change[4, n]
                    b, sine = lane[1, n], c * c - 1.0
                    e = share[g] * work[2, n] * exponential_near_zero(work[1, n])
                    t = e * tile[s * BLOCK + n]
                    dt = e * tile_change[s * BLOCK + n] + t * (change[1, n] * sine + 2.0 * b * c * dc)
                    tc, dtc = t * c, dt * c + t * dc
                    sums[0, n] += t
                    sums[1, n] += t * sine
                    sums[2, n] += tc * x
                    sums[3, n] += tc * y
                    sums[4, n] += tc * z
                    sums[5, n] += dt
                    sums[6, n] += dt * sine + 2.0 * tc * dc
                    sums[7, n] += dtc * x
                    sums[8, n] += dtc * y
                    sums[9, n] += dtc * z
        for n in range(count):
            a, b, da, db, voxel = lane[0, n], lane[1, n], change[0, n], change[1, n], rows[n]
            twist, dtwist = 2.0 * a * a * b, 4.0 * a * da * b + 2.0 * a * a * db
            gradient[voxel, 0] += 2.0 * (da * sums[0, n] + a * sums[5, n])
            gradient[voxel, 1] += 2.0 * a * da * sums[1, n] + a * a * sums[6, n]
            for f in range(2, 5):
                gradient[voxel, f] += dtwist * sums[f, n] + twist * sums[f + 5, n]


_IMAGE = "float64[::1]"
_MODEL = "float64[:, ::1]"
_PLACE = "int64[::1], float64[::1]"  # frame, ray
_SCAN = f"float64[:, :, ::1], float64[::1], int32[::1], {_PLACE}"  # q, share, slot, frame, ray
_SLAB = "int64[::1]"


@inlined
def buffer_size(frame):
    """Elements of a slice's buffer."""
    return (frame[1] + 2 * BORDER) * (frame[2] + 2 * BORDER) * frame[8]


@inlined
def scratch():
    """Room for a block's exponentials, and for its voxels' rows in `fields` and places in the buffer."""
    return np.empty((6, BLOCK)), np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)


@compiled(f"void({_MODEL}, {_SCAN}, {_IMAGE})")
def uniaxial_forward(fields, q, share, slot, frame, ray, image):
    """Add the projection of A^2 exp(-B sin^2(Theta)) to the image."""
    lane, tile = np.zeros((FIELDS, BLOCK)), np.zeros(frame[8] * BLOCK)
    work, rows, places = scratch()
    buffer = np.empty(buffer_size(frame))
    for i in range(frame[0]):
        if uniaxial_slice(fields, q, share, slot, frame, i, lane, work, tile, rows, places, buffer):
            gather(buffer, ray, frame, i, image)


@compiled(f"void({_MODEL}, {_SCAN}, {_IMAGE}, {_IMAGE})")
def uniaxial_forward_slopes(fields, q, share, slot, frame, ray, image_j, image_k):
    """Add the derivatives of the projection by j_offset and k_offset to two images."""
    lane, tile = np.zeros((FIELDS, BLOCK)), np.zeros(frame[8] * BLOCK)
    work, rows, places = scratch()
    buffer = np.empty(buffer_size(frame))
    for i in range(frame[0]):
        if uniaxial_slice(fields, q, share, slot, frame, i, lane, work, tile, rows, places, buffer):
            gather_slopes(buffer, ray, frame, i, image_j, image_k)


@compiled(f"void({_MODEL}, {_MODEL}, {_SCAN}, {_IMAGE})")
def uniaxial_forward_tangent(fields, changes, q, share, slot, frame, ray, image):
    """Add the change of the projection to the image, when the fields change."""
    lane, change, tile = np.zeros((FIELDS, BLOCK)), np.zeros((FIELDS, BLOCK)), np.zeros(frame[8] * BLOCK)
    work, rows, places = scratch()
    buffer = np.empty(buffer_size(frame))
    for i in range(frame[0]):
        if uniaxial_slice_tangent(
            fields, changes, q, share, slot, frame, i, lane, change, work, tile, rows, places, buffer
        ):
            gather(buffer, ray, frame, i, image)


@compiled(f"void({_MODEL}, {_SCAN}, {_SLAB}, {_IMAGE}, {_MODEL})")
def uniaxial_backward(fields, q, share, slot, frame, ray, slab, image, gradient):
    """Add to the gradient by the fields of the slab's voxels; `image` holds the cotangent of the projection."""
    lane, sums, tile = np.zeros((FIELDS, BLOCK)), np.zeros((FIELDS, BLOCK)), np.zeros(frame[8] * BLOCK)
    work, rows, places = scratch()
    buffer = np.empty(buffer_size(frame))
    top, end = slab[2], slab[3]
    for i in range(slab[0], slab[1]):
        scatter(image, ray, frame, i, top, end, buffer)
        uniaxial_pull(
            fields, q, share, slot, frame, i, top, end, lane, work, sums, tile, rows, places, buffer, gradient
        )


@compiled(f"void({_MODEL}, {_MODEL}, {_SCAN}, {_SLAB}, {_IMAGE}, {_IMAGE}, {_MODEL})")
def uniaxial_backward_tangent(fields, changes, q, share, slot, frame, ray, slab, image, image_change, gradient):
    """Add the change of `uniaxial_backward` to the gradient, when the fields and the cotangent change."""
    lane, change, sums = np.zeros((FIELDS, BLOCK)), np.zeros((FIELDS, BLOCK)), np.zeros((2 * FIELDS, BLOCK))
    tile, tile_change = np.zeros(frame[8] * BLOCK), np.zeros(frame[8] * BLOCK)
    work, rows, places = scratch()
    buffer, buffer_change = np.empty(buffer_size(frame)), np.empty(buffer_size(frame))
    top, end = slab[2], slab[3]
    for i in range(slab[0], slab[1]):
        scatter(image, ray, frame, i, top, end, buffer)
        scatter(image_change, ray, frame, i, top, end, buffer_change)
        uniaxial_pull_tangent(
            fields, changes, q, share, slot, frame, i, top, end, lane, change, work, sums, tile, tile_change, rows,
            places, buffer, buffer_change, gradient,
        )  # fmt: skip


@compiled(f"void({_MODEL}, {_PLACE}, {_IMAGE})")
def project(slices, frame, ray, image):
    """Add the projection of a volume to the image: `slices` (Nd, buffer) are its slices as padded buffers."""
    for i in range(frame[0]):
        gather(slices[i], ray, frame, i, image)


@compiled(f"void({_IMAGE}, {_PLACE}, {_SLAB}, {_MODEL})")
def back_project(image, frame, ray, slab, slices):
    """Set the slab's voxels in its slices to the transpose of `project`."""
    for i in range(slab[0], slab[1]):
        scatter(image, ray, frame, i, slab[2], slab[3], slices[i - slab[0]])


@compiled(f"void({_MODEL}, {_PLACE}, {_IMAGE}, {_IMAGE})")
def project_slopes(slices, frame, ray, image_j, image_k):
    """Add the derivatives of `project` by j_offset and k_offset to two images."""
    for i in range(frame[0]):
        gather_slopes(slices[i], ray, frame, i, image_j, image_k)
