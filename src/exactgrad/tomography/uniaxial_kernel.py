"""The uniaxial model on blocks of voxels, for `kernel.Kernels`: A^2 exp(-B sin^2(Theta)); fields A, B, ux, uy, uz.

No exponential of a library in the loops: one of our own, whose parts run in vectors.
"""

from __future__ import annotations

import numpy as np

from exactgrad.kernels.compile import inlined
from exactgrad.tomography.kernel import BLOCK, Kernels, as_double

LOG2E, LN2 = 1.4426950408889634, 0.6931471805599453
LEAST, MOST = -708.0, 709.0  # the exponents whose power a double holds


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


@inlined
def start_exponentials(lane, x, y, z, width, work):
    """cos(Theta) of a block's voxels with q = (x, y, z), and the parts of exp(-B sin^2(Theta)), into `work`."""
    for n in range(width):
        c = x * lane[2, n] + y * lane[3, n] + z * lane[4, n]
        work[0, n] = c
        work[1, n], work[2, n] = exponential_parts(lane[1, n] * (c * c - 1.0))


def density(lane, q, share, width, work, tile):
    """Add to the tile the density."""
    for g in range(share.size):
        for s in range(q.shape[2]):
            start_exponentials(lane, q[g, 0, s], q[g, 1, s], q[g, 2, s], width, work)
            for n in range(width):
                a = lane[0, n]
                tile[s * BLOCK + n] += share[g] * a * a * work[2, n] * exponential_near_zero(work[1, n])


def density_tangent(lane, change, q, share, width, work, tile):
    """Add to the tile the change of the density."""
    for g in range(share.size):
        for s in range(q.shape[2]):
            x, y, z = q[g, 0, s], q[g, 1, s], q[g, 2, s]
            start_exponentials(lane, x, y, z, width, work)
            for n in range(width):
                c = work[0, n]
                dc = x * change[2, n] + y * change[3, n] + z * change[4, n]
                a, b = lane[0, n], lane[1, n]
                growth = change[1, n] * (c * c - 1.0) + 2.0 * b * c * dc
                e = share[g] * work[2, n] * exponential_near_zero(work[1, n])
                tile[s * BLOCK + n] += a * e * (2.0 * change[0, n] + a * growth)


def cotangent(lane, q, share, width, work, tile, out):
    """Set `out` to the derivative by the fields."""
    sums, other = work[6:10], work[3:6]
    sums[:] = 0.0  # of t and t c q, t = cotangent times exp; u dotted into the second is the sum of t c^2
    for g in range(share.size):
        for s in range(0, q.shape[2], 2):
            x, y, z = q[g, 0, s], q[g, 1, s], q[g, 2, s]
            x1, y1, z1 = q[g, 0, s + 1], q[g, 1, s + 1], q[g, 2, s + 1]
            start_exponentials(lane, x, y, z, width, work)
            start_exponentials(lane, x1, y1, z1, width, other)
            for n in range(width):
                t = share[g] * tile[s * BLOCK + n] * work[2, n] * exponential_near_zero(work[1, n])
                t1 = share[g] * tile[s * BLOCK + BLOCK + n] * work[5, n] * exponential_near_zero(work[4, n])
                tc, tc1 = t * work[0, n], t1 * work[3, n]
                sums[0, n] += t + t1
                sums[1, n] += tc * x + tc1 * x1
                sums[2, n] += tc * y + tc1 * y1
                sums[3, n] += tc * z + tc1 * z1
    for n in range(width):
        a = lane[0, n]
        twist = 2.0 * a * a * lane[1, n]
        squares = lane[2, n] * sums[1, n] + lane[3, n] * sums[2, n] + lane[4, n] * sums[3, n]
        out[0, n] = 2.0 * a * sums[0, n]
        out[1, n] = a * a * (squares - sums[0, n])
        for f in range(3):
            out[2 + f, n] = twist * sums[1 + f, n]


def cotangent_tangent(lane, change, q, share, width, work, tile, tile_change, out):
    """Set `out` to the change of that derivative."""
    sums = work[6:16]
    sums[:] = 0.0  # of t, t (c^2 - 1), t c q, and their changes
    for g in range(share.size):
        for s in range(q.shape[2]):
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
    for n in range(width):
        a, b, da, db = lane[0, n], lane[1, n], change[0, n], change[1, n]
        twist, dtwist = 2.0 * a * a * b, 4.0 * a * da * b + 2.0 * a * a * db
        out[0, n] = 2.0 * (da * sums[0, n] + a * sums[5, n])
        out[1, n] = 2.0 * a * da * sums[1, n] + a * a * sums[6, n]
        for f in range(2, 5):
            out[f, n] = dtwist * sums[f, n] + twist * sums[f + 5, n]


KERNELS = Kernels("uniaxial", density, density_tangent, cotangent, cotangent_tangent)
