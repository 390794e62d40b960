"""How much the cost bends by each field of a voxel, on blocks of voxels, for `kernel.Kernels`: a walk back.

`tile` holds the cost's curvatures h by the density.
"""

from __future__ import annotations

from exactgrad.tomography.kernel import BLOCK, Kernels
from exactgrad.tomography.uniaxial_kernel import exponential_near_zero, start_exponentials


def cotangent(lane, q, share, width, work, tile, out):
    """Set `out` to the sums of h times the squared slopes by A, by B, and thrice by a turn of the axis, any way."""
    out[:] = 0.0
    for p in range(share.size):
        for s in range(q.shape[2]):
            start_exponentials(lane, q[p, 0, s], q[p, 1, s], q[p, 2, s], width, work)
            for n in range(width):
                a, b, c = lane[0, n], lane[1, n], work[0, n]
                h, e = share[p] * tile[s * BLOCK + n], work[2, n] * exponential_near_zero(work[1, n])
                by_a, by_b, by_turn = 2.0 * a * e, a * a * e * (c * c - 1.0), 2.0 * a * a * b * c * e
                out[0, n] += h * by_a * by_a
                out[1, n] += h * by_b * by_b
                out[2, n] += 0.5 * h * by_turn * by_turn * (1.0 - c * c)
    for n in range(width):
        out[3, n] = out[2, n]
        out[4, n] = out[2, n]


KERNELS = Kernels("scaling", cotangent)
