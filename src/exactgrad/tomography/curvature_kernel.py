"""How the cost bends by A, B and two turns of a voxel's axis, on blocks of voxels, for `kernel.Kernels`: a walk back.

Fields: A, B, the axis, and the two directions across it along which it turns; `tile` holds the cost's curvatures h by
the density. `out` gets the upper triangle of the voxel's 4 x 4 block, row by row.
"""

from __future__ import annotations

from exactgrad.tomography.kernel import BLOCK, Kernels
from exactgrad.tomography.uniaxial_kernel import exponential_near_zero, start_exponentials


def cotangent(lane, q, share, width, work, tile, out):
    """Set `out` to the sums of h times the products of the density's slopes."""
    out[:] = 0.0
    for p in range(share.size):
        for s in range(q.shape[2]):
            x, y, z = q[p, 0, s], q[p, 1, s], q[p, 2, s]
            start_exponentials(lane, x, y, z, width, work)
            for n in range(width):
                a, b, c = lane[0, n], lane[1, n], work[0, n]
                h, e = share[p] * tile[s * BLOCK + n], work[2, n] * exponential_near_zero(work[1, n])
                f = a * a * e
                by_a, by_b, by_c = 2.0 * a * e, f * (c * c - 1.0), 2.0 * b * c * f
                by_first = by_c * (x * lane[5, n] + y * lane[6, n] + z * lane[7, n])
                by_second = by_c * (x * lane[8, n] + y * lane[9, n] + z * lane[10, n])
                out[0, n] += h * by_a * by_a
                out[1, n] += h * by_a * by_b
                out[2, n] += h * by_a * by_first
                out[3, n] += h * by_a * by_second
                out[4, n] += h * by_b * by_b
                out[5, n] += h * by_b * by_first
                out[6, n] += h * by_b * by_second
                out[7, n] += h * by_first * by_first
                out[8, n] += h * by_first * by_second
                out[9, n] += h * by_second * by_second


KERNELS = Kernels("blocks", cotangent)  # of which only `backward` has a meaning
