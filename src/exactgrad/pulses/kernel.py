"""The pulse equations fused for speed: two sweeps over the steps, nothing stored in between.

Forward: the total rotation of each spin, as a quaternion. Backward: m_{j-1} = R_j^T m_j from the cost's m_N, and the
gradient of step j, J(t_j)^T m_j, summed over the spins. `model.py` holds the same equations stage by stage.

Layout: spins lie in blocks of `width` lanes, so that the innermost loop runs over spins and vectorises. Blocks are
gathered into partitions; a partition writes its own rows and is the unit of work of a thread. Sums run in one fixed
order, whatever the number of threads.

Units: `steps` rows are 2 pi dt (ux, uy, uz, 1), in rad and rad/Hz; offsets in Hz; B1 relative.
"""

from __future__ import annotations

import numpy as np

from exactgrad.kernels.compile import compiled, formulas, scalar
from exactgrad.rotations import scalar as rotation_formulas

LANES = 32  # the largest width of a block

_FORMULAS = formulas(rotation_formulas)
base_b, base_c = _FORMULAS["base_b"], _FORMULAS["base_c"]
short_b, short_c = _FORMULAS["short_b"], _FORMULAS["short_c"]
doublings, double_angle = _FORMULAS["doublings"], _FORMULAS["double_angle"]
even_coefficients = _FORMULAS["even_coefficients"]
even_coefficients_tangent = _FORMULAS["even_coefficients_tangent"]
cross, rotate, rotate_back = _FORMULAS["cross"], _FORMULAS["rotate"], _FORMULAS["rotate_back"]
left_jacobian = _FORMULAS["left_jacobian"]
left_jacobian_transpose = _FORMULAS["left_jacobian_transpose"]
left_jacobian_transpose_tangent = _FORMULAS["left_jacobian_transpose_tangent"]
turn_quaternion = _FORMULAS["turn_quaternion"]


@scalar
def step_doublings(wx, wy, wz, dt, low_hz, high_hz, b1_max):
    """Halvings that suit every spin of a block: offsets in [low, high] Hz, |B1| <= b1_max."""
    z = max(abs(wz + dt * low_hz), abs(wz + dt * high_hz))
    return doublings(b1_max * b1_max * (wx * wx + wy * wy) + z * z)


@scalar
def fill_coefficients(lane, B, C, B1, width, wx, wy, wz, dt, halvings):
    """b and c of the turns (B1 wx, B1 wy, dt offset + wz) of a block, for angles that must be halved."""
    shrink = 0.25**halvings
    for i in range(width):
        tx, ty, tz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[i] + wz
        x = shrink * (tx * tx + ty * ty + tz * tz)
        lane[B + i], lane[C + i] = base_b(x), base_c(x)
    for _ in range(halvings):
        for i in range(width):
            tx, ty, tz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[i] + wz
            x = shrink * (tx * tx + ty * ty + tz * tz)
            x, lane[B + i], lane[C + i] = double_angle(x, lane[B + i], lane[C + i])
        shrink *= 4.0


@compiled("void(float64[:, ::1], float64[:, ::1], int64, int64, int64, float64[:, ::1])")
def forward(steps, spins, width, first, last, turns):
    """Total rotation of the spins of blocks first..last-1.

    steps (4, N): 2 pi dt (ux, uy, uz, 1). spins (2, S): offset in Hz, relative B1. turns (4, S): quaternions, out.
    """
    lane = np.empty(LANES * 8)
    B1, QW, QX, QY, QZ, B, C = LANES, 2 * LANES, 3 * LANES, 4 * LANES, 5 * LANES, 6 * LANES, 7 * LANES
    for block in range(first, last):
        start = block * width
        low = high = spins[0, start]
        b1_max = 0.0
        for i in range(width):
            lane[i], lane[B1 + i] = spins[0, start + i], spins[1, start + i]
            lane[QW + i], lane[QX + i], lane[QY + i], lane[QZ + i] = 1.0, 0.0, 0.0, 0.0
            low, high = min(low, lane[i]), max(high, lane[i])
            b1_max = max(b1_max, abs(lane[B1 + i]))
        for j in range(steps.shape[1]):
            wx, wy, wz, dt = 0.5 * steps[0, j], 0.5 * steps[1, j], 0.5 * steps[2, j], 0.5 * steps[3, j]
            halvings = step_doublings(2 * wx, 2 * wy, 2 * wz, 2 * dt, low, high, b1_max)
            if halvings == 0:
                for i in range(width):
                    hx, hy, hz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[i] + wz
                    y = hx * hx + hy * hy + hz * hz
                    lane[QW + i], lane[QX + i], lane[QY + i], lane[QZ + i] = turn_quaternion(
                        hx, hy, hz, 1.0 - y * short_b(y), 1.0 - y * short_c(y),
                        lane[QW + i], lane[QX + i], lane[QY + i], lane[QZ + i],
                    )  # fmt: skip
            else:
                fill_coefficients(lane, B, C, B1, width, wx, wy, wz, dt, halvings)
                for i in range(width):
                    hx, hy, hz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[i] + wz
                    y = hx * hx + hy * hy + hz * hz
                    lane[QW + i], lane[QX + i], lane[QY + i], lane[QZ + i] = turn_quaternion(
                        hx, hy, hz, 1.0 - y * lane[B + i], 1.0 - y * lane[C + i],
                        lane[QW + i], lane[QX + i], lane[QY + i], lane[QZ + i],
                    )  # fmt: skip
        for i in range(width):
            turns[0, start + i], turns[1, start + i] = lane[QW + i], lane[QX + i]
            turns[2, start + i], turns[3, start + i] = lane[QY + i], lane[QZ + i]


@compiled("void(float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, int64, int64, float64[:, ::1])")
def backward(steps, spins, cotangents, width, first, last, gradient):
    """Gradient by (2 pi dt ux, 2 pi dt uy, 2 pi dt uz), summed over the spins of blocks first..last-1.

    cotangents (3, S): m_N of each spin, weights included. gradient (3, N): added to.
    """
    lane = np.empty(LANES * 7)
    B1, MX, MY, MZ, B, C = LANES, 2 * LANES, 3 * LANES, 4 * LANES, 5 * LANES, 6 * LANES
    for block in range(first, last):
        start = block * width
        low = high = spins[0, start]
        b1_max = 0.0
        for i in range(width):
            lane[i], lane[B1 + i] = spins[0, start + i], spins[1, start + i]
            lane[MX + i], lane[MY + i] = cotangents[0, start + i], cotangents[1, start + i]
            lane[MZ + i] = cotangents[2, start + i]
            low, high = min(low, lane[i]), max(high, lane[i])
            b1_max = max(b1_max, abs(lane[B1 + i]))
        for j in range(steps.shape[1] - 1, -1, -1):
            wx, wy, wz, dt = steps[0, j], steps[1, j], steps[2, j], steps[3, j]
            halvings = step_doublings(wx, wy, wz, dt, low, high, b1_max)
            sum_x = sum_y = sum_z = 0.0
            if halvings == 0:
                for i in range(width):
                    tx, ty, tz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[i] + wz
                    x = tx * tx + ty * ty + tz * tz
                    mx, my, mz = lane[MX + i], lane[MY + i], lane[MZ + i]
                    gx, gy, gz = left_jacobian_transpose(tx, ty, tz, base_b(x), base_c(x), mx, my, mz)
                    lane[MX + i], lane[MY + i], lane[MZ + i] = rotate_back(tx, ty, tz, gx, gy, gz, mx, my, mz)
                    sum_x += lane[B1 + i] * gx
                    sum_y += lane[B1 + i] * gy
                    sum_z += gz
            else:
                fill_coefficients(lane, B, C, B1, width, wx, wy, wz, dt, halvings)
                for i in range(width):
                    tx, ty, tz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[i] + wz
                    mx, my, mz = lane[MX + i], lane[MY + i], lane[MZ + i]
                    gx, gy, gz = left_jacobian_transpose(tx, ty, tz, lane[B + i], lane[C + i], mx, my, mz)
                    lane[MX + i], lane[MY + i], lane[MZ + i] = rotate_back(tx, ty, tz, gx, gy, gz, mx, my, mz)
                    sum_x += lane[B1 + i] * gx
                    sum_y += lane[B1 + i] * gy
                    sum_z += gz
            gradient[0, j] += sum_x
            gradient[1, j] += sum_y
            gradient[2, j] += sum_z


@compiled("void(float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, int64, float64[:, ::1])")
def forward_tangent(steps, changes, spins, first, last, turning):
    """Small turns of the ends of spins first..last-1 when the steps change: w_j = R_j w_{j-1} + J_j dt_j.

    changes (3, N): change of the first three rows of `steps`. turning (3, S): out.
    """
    for s in range(first, last):
        offset, b1 = spins[0, s], spins[1, s]
        wx = wy = wz = 0.0
        for j in range(steps.shape[1]):
            tx, ty, tz = b1 * steps[0, j], b1 * steps[1, j], steps[3, j] * offset + steps[2, j]
            b, c = even_coefficients(tx * tx + ty * ty + tz * tz)
            vx, vy, vz = left_jacobian(tx, ty, tz, b, c, b1 * changes[0, j], b1 * changes[1, j], changes[2, j])
            wx, wy, wz = rotate(tx, ty, tz, b, c, wx, wy, wz)
            wx, wy, wz = wx + vx, wy + vy, wz + vz
        turning[0, s], turning[1, s], turning[2, s] = wx, wy, wz


@compiled(
    "void(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, int64,"
    " float64[:, ::1])"
)
def backward_tangent(steps, changes, spins, cotangents, cotangent_changes, first, last, gradient_change):
    """Change of the gradient when the steps change: the tangent of `backward`, for spins first..last-1.

    cotangents, cotangent_changes (3, S): m_N and its change. gradient_change (3, N): added to.
    """
    for s in range(first, last):
        offset, b1 = spins[0, s], spins[1, s]
        mx, my, mz = cotangents[0, s], cotangents[1, s], cotangents[2, s]
        nx, ny, nz = cotangent_changes[0, s], cotangent_changes[1, s], cotangent_changes[2, s]
        for j in range(steps.shape[1] - 1, -1, -1):
            tx, ty, tz = b1 * steps[0, j], b1 * steps[1, j], steps[3, j] * offset + steps[2, j]
            dx, dy, dz = b1 * changes[0, j], b1 * changes[1, j], changes[2, j]
            x, dsquare = tx * tx + ty * ty + tz * tz, 2.0 * (tx * dx + ty * dy + tz * dz)
            b, c, db, dc = even_coefficients_tangent(x, dsquare)
            gx, gy, gz = left_jacobian_transpose(tx, ty, tz, b, c, mx, my, mz)
            hx, hy, hz = left_jacobian_transpose(tx, ty, tz, b, c, nx, ny, nz)
            ex, ey, ez = left_jacobian_transpose_tangent(tx, ty, tz, dx, dy, dz, b, c, db, dc, mx, my, mz)
            hx, hy, hz = hx + ex, hy + ey, hz + ez
            gradient_change[0, j] += b1 * hx
            gradient_change[1, j] += b1 * hy
            gradient_change[2, j] += hz
            # m_{j-1} = m - t x g, so its change is n - d x g - t x h.
            px, py, pz = cross(dx, dy, dz, gx, gy, gz)
            nx, ny, nz = rotate_back(tx, ty, tz, hx, hy, hz, nx - px, ny - py, nz - pz)
            mx, my, mz = rotate_back(tx, ty, tz, gx, gy, gz, mx, my, mz)
