"""What an offer to a voxel would change, on blocks of voxels, for `kernel.Kernels`: a walk back with two images.

`lane` is the voxel as it is, `change` the offer (A is not read); `tile` holds the cost's slopes g by the density,
`tile_change` its curvatures h.
"""

from __future__ import annotations

from exactgrad.tomography.kernel import BLOCK, Kernels
from exactgrad.tomography.uniaxial_kernel import exponential_near_zero, start_exponentials


def cotangent_tangent(lane, change, q, share, width, work, tile, tile_change, out):
    """Set `out` to the sums of g phi, h phi^2, h phi f, g f, h f^2; f is the density, phi the offer's at A = 1."""
    offered = work[3:6]
    out[:] = 0.0
    for p in range(share.size):
        for s in range(q.shape[2]):
            x, y, z = q[p, 0, s], q[p, 1, s], q[p, 2, s]
            start_exponentials(lane, x, y, z, width, work)
            start_exponentials(change, x, y, z, width, offered)
            for n in range(width):
                f = lane[0, n] * lane[0, n] * work[2, n] * exponential_near_zero(work[1, n])
                phi = work[5, n] * exponential_near_zero(work[4, n])
                g, h = share[p] * tile[s * BLOCK + n], share[p] * tile_change[s * BLOCK + n]
                out[0, n] += g * phi
                out[1, n] += h * phi * phi
                out[2, n] += h * phi * f
                out[3, n] += g * f
                out[4, n] += h * f * f


KERNELS = Kernels("offer", 5, cotangent_tangent)  # of which only `backward_tangent` has a meaning
