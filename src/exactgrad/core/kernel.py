"""The solver's inner products, compiled so that they run in one fixed order on any machine and any thread count."""

from __future__ import annotations

from exactgrad.kernels.compile import compiled


@compiled(
    "void(float64[::1], float64[:, ::1], float64[:, ::1], float64[::1], int64, int64, float64[::1], float64[::1])"
)
def lbfgs_direction(gradient, moves, yields, curvatures, newest, count, scratch, direction):
    """Two-loop recursion: direction = -H gradient from the `count` newest pairs of a ring of pairs.

    moves, yields (M, n): s_k and y_k. curvatures (M,): s_k . y_k. newest: ring index of the newest pair.
    """
    size, ring = gradient.size, moves.shape[0]
    for i in range(size):
        direction[i] = -gradient[i]
    for k in range(count):
        row = (newest - k) % ring
        total = 0.0
        for i in range(size):
            total += moves[row, i] * direction[i]
        scratch[row] = total / curvatures[row]
        for i in range(size):
            direction[i] -= scratch[row] * yields[row, i]
    if count > 0:
        total = 0.0
        for i in range(size):
            total += yields[newest, i] * yields[newest, i]
        scale = curvatures[newest] / total
        for i in range(size):
            direction[i] *= scale
    for k in range(count - 1, -1, -1):
        row = (newest - k) % ring
        total = 0.0
        for i in range(size):
            total += yields[row, i] * direction[i]
        factor = scratch[row] - total / curvatures[row]
        for i in range(size):
            direction[i] += factor * moves[row, i]


@compiled("float64(float64[::1], float64[::1])")
def dot(a, b):
    """Inner product in one fixed order."""
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total
