"""What offers to a voxel would change, on blocks of voxels, for `kernel.Kernels`: a walk back with two images.

`lane` is the voxel as it is, `change` the offers, the fields of one after those of the other; `tile` holds the cost's
slopes g by the density, `tile_change` its curvatures h. With the density f and an offer's density phi, `out` gets the
sums of g f and h f^2, and then, for each offer, of g phi, h phi^2 and h phi f.
"""

from __future__ import annotations

from exactgrad.tomography.kernel import BLOCK, Kernels
from exactgrad.tomography.uniaxial_kernel import exponential_near_zero, start_exponentials

FIELDS = 5  # of an offer
OWN, SUMS = 2, 3  # rows of `out` in front of the offers', and of each


def cotangent_tangent(lane, change, q, share, width, work, tile, tile_change, out):
    """Set `out` to the sums."""
    slope, bend, density = work[3], work[4], work[5]
    out[:] = 0.0
    for p in range(share.size):
        for s in range(q.shape[2]):
            x, y, z = q[p, 0, s], q[p, 1, s], q[p, 2, s]
            start_exponentials(lane, x, y, z, width, work)
            for n in range(width):
                f = lane[0, n] * lane[0, n] * work[2, n] * exponential_near_zero(work[1, n])
                slope[n], bend[n] = share[p] * tile[s * BLOCK + n], share[p] * tile_change[s * BLOCK + n]
                density[n] = f
                out[0, n] += slope[n] * f
                out[1, n] += bend[n] * f * f
            for first in range(0, len(change), FIELDS):
                offer, sums = change[first : first + FIELDS], out[OWN + first // FIELDS * SUMS :]
                start_exponentials(offer, x, y, z, width, work)
                for n in range(width):
                    phi = offer[0, n] * offer[0, n] * work[2, n] * exponential_near_zero(work[1, n])
                    bent = bend[n] * phi
                    sums[0, n] += slope[n] * phi
                    sums[1, n] += bent * phi
                    sums[2, n] += bent * density[n]


KERNELS = Kernels("offers", cotangent_tangent)  # of which only `backward_tangent` has a meaning
