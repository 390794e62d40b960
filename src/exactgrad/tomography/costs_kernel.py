"""The square-root cost of a projection, fused: the image that a model gives becomes the derivative by it."""

from __future__ import annotations

import numpy as np

from exactgrad.kernels.compile import compiled

NOTHING = 1e-100  # a root below: the ray is empty, and what depends on the way it became so is left out


@compiled("float64(float64[:, :, :], float64[:, :], float64[:, :, :], float64[:, :, :], float64)")
def square_root(seen, through, measured, weight, e0):
    """Return the summed cost of `through` times `seen`, and put its derivative by `seen` in the place of that.

    seen, measured, weight (J, K, S); through (J, K). The formulas are those of `costs.SquareRoot`.
    """
    total = 0.0
    for j in range(seen.shape[0]):
        for k in range(seen.shape[1]):
            t = through[j, k]
            for s in range(seen.shape[2]):
                root = np.sqrt(t * seen[j, k, s] + e0)
                apart = root - np.sqrt(max(measured[j, k, s] + e0, 0.0))
                w = weight[j, k, s]
                total += 2.0 * w * apart * apart
                slope = apart / root if root > NOTHING else 1.0
                seen[j, k, s] = 2.0 * t * w * slope
    return total
