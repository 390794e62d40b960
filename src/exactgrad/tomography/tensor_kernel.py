"""The tensor model on blocks of voxels, for `kernel.Kernels`: q^T T q; fields xx, yy, zz, yz, xz, xy.

Linear: the change of the density is the density of the change.
"""

from __future__ import annotations

from exactgrad.kernels.compile import inlined
from exactgrad.tomography.kernel import BLOCK, Kernels


@inlined
def products(x, y, z):
    """What multiplies the six entries: off the diagonal each counts twice."""
    return x * x, y * y, z * z, 2.0 * y * z, 2.0 * x * z, 2.0 * x * y


@inlined
def add_density(lane, q, share, width, tile):
    """Add share (q^T T q) to the tile."""
    for g in range(share.size):
        for s in range(q.shape[2]):
            xx, yy, zz, yz, xz, xy = products(q[g, 0, s], q[g, 1, s], q[g, 2, s])
            for n in range(width):
                total = xx * lane[0, n] + yy * lane[1, n] + zz * lane[2, n]
                total += yz * lane[3, n] + xz * lane[4, n] + xy * lane[5, n]
                tile[s * BLOCK + n] += share[g] * total


@inlined
def sum_products(q, share, width, tile, out):
    """Set `out` to the sums over the segments of share times the tile times q q^T."""
    out[:] = 0.0
    for g in range(share.size):
        for s in range(0, q.shape[2], 2):
            xx, yy, zz, yz, xz, xy = products(q[g, 0, s], q[g, 1, s], q[g, 2, s])
            xx1, yy1, zz1, yz1, xz1, xy1 = products(q[g, 0, s + 1], q[g, 1, s + 1], q[g, 2, s + 1])
            for n in range(width):
                t, t1 = share[g] * tile[s * BLOCK + n], share[g] * tile[s * BLOCK + BLOCK + n]
                out[0, n] += t * xx + t1 * xx1
                out[1, n] += t * yy + t1 * yy1
                out[2, n] += t * zz + t1 * zz1
                out[3, n] += t * yz + t1 * yz1
                out[4, n] += t * xz + t1 * xz1
                out[5, n] += t * xy + t1 * xy1


def density(lane, q, share, width, work, tile):
    """Add to the tile the density."""
    add_density(lane, q, share, width, tile)


def density_tangent(lane, change, q, share, width, work, tile):
    """Add to the tile the change of the density."""
    add_density(change, q, share, width, tile)


def cotangent(lane, q, share, width, work, tile, out):
    """Set `out` to the derivative by the fields."""
    sum_products(q, share, width, tile, out)


def cotangent_tangent(lane, change, q, share, width, work, tile, tile_change, out):
    """Set `out` to the change of that derivative."""
    sum_products(q, share, width, tile_change, out)


KERNELS = Kernels("tensor", density, density_tangent, cotangent, cotangent_tangent)
