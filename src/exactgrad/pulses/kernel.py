"""The pulse equations fused for speed: two sweeps over the steps, nothing stored in between.

Forward: the total rotation of each spin, as a quaternion. Backward: m_{j-1} = R_j^T m_j from the cost's m_N, and the
gradient of step j, J(t_j)^T m_j, summed over the spins. `model.py` holds the same equations stage by stage.

Layout: spins lie in blocks of `width` lanes, so that the innermost loop runs over spins and vectorises. Blocks are
gathered into partitions; a partition writes its own rows and is the unit of work of a thread. Sums run in one fixed
order, whatever the number of threads.

Each innermost loop is written once and compiled for four sizes of angle: the largest |t| of a block and step tells
how often all its angles are halved. Beyond 8 rad a step each spin halves its own, and nothing vectorises.

Units: `steps` rows are 2 pi dt (ux, uy, uz, 1), in rad and rad/Hz; offsets in Hz; B1 relative.
"""

from __future__ import annotations

import numba
import numpy as np

from exactgrad.kernels.compile import FAST, compiled, formulas, scalar
from exactgrad.rotations import scalar as rotation_formulas

LANES = 64  # the largest width of a block
# Rows of a block: the spins, then their state.
OFFSET, B1, S1, S2, S3, S4, S5, S6 = range(0, 8 * LANES, LANES)

# LLVM would call a loop that is used four times, and build its vector constants anew for every step of a block.
inlined = numba.njit(fastmath=FAST, error_model="numpy", forceinline=True)

_FORMULAS = formulas(rotation_formulas)
base_b, base_c = _FORMULAS["base_b"], _FORMULAS["base_c"]
base_b_slope, base_c_slope = _FORMULAS["base_b_slope"], _FORMULAS["base_c_slope"]
short_b, short_c = _FORMULAS["short_b"], _FORMULAS["short_c"]
doublings, double_angle = _FORMULAS["doublings"], _FORMULAS["double_angle"]
double_angle_tangent = _FORMULAS["double_angle_tangent"]
even_coefficients = _FORMULAS["even_coefficients"]
even_coefficients_tangent = _FORMULAS["even_coefficients_tangent"]
cross, rotate, rotate_back = _FORMULAS["cross"], _FORMULAS["rotate"], _FORMULAS["rotate_back"]
left_jacobian = _FORMULAS["left_jacobian"]
left_jacobian_transpose = _FORMULAS["left_jacobian_transpose"]
left_jacobian_transpose_tangent = _FORMULAS["left_jacobian_transpose_tangent"]
turn_quaternion = _FORMULAS["turn_quaternion"]


@scalar
def short_coefficients(y):
    """(b, c) for y <= 1/4."""
    return short_b(y), short_c(y)


@scalar
def base_coefficients(x):
    """(b, c) for x <= 1."""
    return base_b(x), base_c(x)


@scalar
def base_coefficients_tangent(x, dx):
    """(b, c, db, dc) for x <= 1."""
    return base_b(x), base_c(x), base_b_slope(x) * dx, base_c_slope(x) * dx


def doubled(coefficients):
    """Make (b, c) for four times the x that `coefficients` serves: halve the angle, double it back."""

    @inlined
    def outer(x):
        y = 0.25 * x
        b, c = coefficients(y)
        _, b, c = double_angle(y, b, c)
        return b, c

    return outer


def doubled_tangent(coefficients):
    """Make (b, c, db, dc) for four times the x that `coefficients` serves."""

    @inlined
    def outer(x, dx):
        y, dy = 0.25 * x, 0.25 * dx
        b, c, db, dc = coefficients(y, dy)
        _, db, dc = double_angle_tangent(y, b, c, dy, db, dc)
        _, b, c = double_angle(y, b, c)
        return b, c, db, dc

    return outer


def by_angle(make_loop, coefficients):
    """Make a loop four times and choose among them: for no halving, one, up to three, any number."""
    none, one, three, more = (make_loop(of_size) for of_size in coefficients)

    @inlined
    def loop(halvings, *arguments):
        if halvings == 0:
            return none(*arguments)
        if halvings == 1:
            return one(*arguments)
        if halvings <= 3:
            return three(*arguments)
        return more(*arguments)

    return loop


@scalar
def load_spins(lane, spins, start, width):
    """Put a block's offsets and B1 into its lanes; return the ends of the offsets, in Hz, and the largest |B1|."""
    low = high = spins[0, start]
    b1_max = 0.0
    for i in range(width):
        lane[OFFSET + i], lane[B1 + i] = spins[0, start + i], spins[1, start + i]
        low, high = min(low, spins[0, start + i]), max(high, spins[0, start + i])
        b1_max = max(b1_max, abs(spins[1, start + i]))
    return low, high, b1_max


@scalar
def step_doublings(wx, wy, wz, dt, low_hz, high_hz, b1_max):
    """Halvings that suit every spin of a block: offsets in [low, high] Hz, |B1| <= b1_max."""
    z = max(abs(wz + dt * low_hz), abs(wz + dt * high_hz))
    return doublings(b1_max * b1_max * (wx * wx + wy * wy) + z * z)


def forward_loop(coefficients):
    """Make the loop that turns a block's quaternions by one step; wx, wy, wz, dt are of the half angle."""

    @inlined
    def loop(lane, width, wx, wy, wz, dt):
        for i in range(width):
            hx, hy, hz = lane[B1 + i] * wx, lane[B1 + i] * wy, dt * lane[OFFSET + i] + wz
            y = hx * hx + hy * hy + hz * hz
            b, c = coefficients(y)
            lane[S1 + i], lane[S2 + i], lane[S3 + i], lane[S4 + i] = turn_quaternion(
                hx, hy, hz, 1.0 - y * b, 1.0 - y * c, lane[S1 + i], lane[S2 + i], lane[S3 + i], lane[S4 + i]
            )

    return loop


def backward_loop(coefficients):
    """Make the loop that turns a block's m back by one step and returns the step's gradient."""

    @inlined
    def loop(lane, width, wx, wy, wz, dt):
        sum_x = sum_y = sum_z = 0.0
        for i in range(width):
            b1 = lane[B1 + i]
            tx, ty, tz = b1 * wx, b1 * wy, dt * lane[OFFSET + i] + wz
            b, c = coefficients(tx * tx + ty * ty + tz * tz)
            mx, my, mz = lane[S1 + i], lane[S2 + i], lane[S3 + i]
            gx, gy, gz = left_jacobian_transpose(tx, ty, tz, b, c, mx, my, mz)
            lane[S1 + i], lane[S2 + i], lane[S3 + i] = rotate_back(tx, ty, tz, gx, gy, gz, mx, my, mz)
            sum_x += b1 * gx
            sum_y += b1 * gy
            sum_z += gz
        return sum_x, sum_y, sum_z

    return loop


def forward_tangent_loop(coefficients):
    """Make the loop that carries a block's small turns w through one step that changes by (dx, dy, dz)."""

    @inlined
    def loop(lane, width, wx, wy, wz, dt, dx, dy, dz):
        for i in range(width):
            b1 = lane[B1 + i]
            tx, ty, tz = b1 * wx, b1 * wy, dt * lane[OFFSET + i] + wz
            b, c = coefficients(tx * tx + ty * ty + tz * tz)
            vx, vy, vz = left_jacobian(tx, ty, tz, b, c, b1 * dx, b1 * dy, dz)
            ux, uy, uz = rotate(tx, ty, tz, b, c, lane[S1 + i], lane[S2 + i], lane[S3 + i])
            lane[S1 + i], lane[S2 + i], lane[S3 + i] = ux + vx, uy + vy, uz + vz

    return loop


def backward_tangent_loop(coefficients):
    """Make the loop that turns a block's m and its change n back by one step, and returns the gradient's change."""

    @inlined
    def loop(lane, width, wx, wy, wz, dt, dwx, dwy, dwz):
        sum_x = sum_y = sum_z = 0.0
        for i in range(width):
            b1 = lane[B1 + i]
            tx, ty, tz = b1 * wx, b1 * wy, dt * lane[OFFSET + i] + wz
            dx, dy, dz = b1 * dwx, b1 * dwy, dwz
            b, c, db, dc = coefficients(tx * tx + ty * ty + tz * tz, 2.0 * (tx * dx + ty * dy + tz * dz))
            mx, my, mz = lane[S1 + i], lane[S2 + i], lane[S3 + i]
            nx, ny, nz = lane[S4 + i], lane[S5 + i], lane[S6 + i]
            gx, gy, gz = left_jacobian_transpose(tx, ty, tz, b, c, mx, my, mz)
            hx, hy, hz = left_jacobian_transpose(tx, ty, tz, b, c, nx, ny, nz)
            ex, ey, ez = left_jacobian_transpose_tangent(tx, ty, tz, dx, dy, dz, b, c, db, dc, mx, my, mz)
            hx, hy, hz = hx + ex, hy + ey, hz + ez
            sum_x += b1 * hx
            sum_y += b1 * hy
            sum_z += hz
            # m_{j-1} = m - t x g, so its change is n - d x g - t x h.
            px, py, pz = cross(dx, dy, dz, gx, gy, gz)
            lane[S4 + i], lane[S5 + i], lane[S6 + i] = rotate_back(tx, ty, tz, hx, hy, hz, nx - px, ny - py, nz - pz)
            lane[S1 + i], lane[S2 + i], lane[S3 + i] = rotate_back(tx, ty, tz, gx, gy, gz, mx, my, mz)
        return sum_x, sum_y, sum_z

    return loop


_ONCE = doubled(base_coefficients)
_TWICE = doubled(_ONCE)
_SIZES = (base_coefficients, _ONCE, doubled(_TWICE), even_coefficients)
_ONCE_TANGENT = doubled_tangent(base_coefficients_tangent)
_THRICE_TANGENT = doubled_tangent(doubled_tangent(_ONCE_TANGENT))
_SIZES_TANGENT = (base_coefficients_tangent, _ONCE_TANGENT, _THRICE_TANGENT, even_coefficients_tangent)
# A quaternion turns by half the angle: one halving less.
turn = by_angle(forward_loop, (short_coefficients, base_coefficients, _TWICE, even_coefficients))
turn_back = by_angle(backward_loop, _SIZES)
carry = by_angle(forward_tangent_loop, _SIZES)
carry_back = by_angle(backward_tangent_loop, _SIZES_TANGENT)


@compiled("void(float64[:, ::1], float64[:, ::1], int64, int64, int64, float64[:, ::1])")
def forward(steps, spins, width, first, last, turns):
    """Total rotation of the spins of blocks first..last-1.

    steps (4, N): 2 pi dt (ux, uy, uz, 1). spins (2, S): offset in Hz, relative B1. turns (4, S): quaternions, out.
    """
    lane = np.empty(LANES * 6)
    for block in range(first, last):
        start = block * width
        low, high, b1_max = load_spins(lane, spins, start, width)
        for i in range(width):
            lane[S1 + i], lane[S2 + i], lane[S3 + i], lane[S4 + i] = 1.0, 0.0, 0.0, 0.0
        for j in range(steps.shape[1]):
            wx, wy, wz, dt = steps[0, j], steps[1, j], steps[2, j], steps[3, j]
            halvings = step_doublings(wx, wy, wz, dt, low, high, b1_max)
            turn(halvings, lane, width, 0.5 * wx, 0.5 * wy, 0.5 * wz, 0.5 * dt)
        for i in range(width):
            turns[0, start + i], turns[1, start + i] = lane[S1 + i], lane[S2 + i]
            turns[2, start + i], turns[3, start + i] = lane[S3 + i], lane[S4 + i]


@compiled("void(float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, int64, int64, float64[:, ::1])")
def backward(steps, spins, cotangents, width, first, last, gradient):
    """Gradient by (2 pi dt ux, 2 pi dt uy, 2 pi dt uz), summed over the spins of blocks first..last-1.

    cotangents (3, S): m_N of each spin, weights included. gradient (3, N): added to.
    """
    lane = np.empty(LANES * 5)
    for block in range(first, last):
        start = block * width
        low, high, b1_max = load_spins(lane, spins, start, width)
        for i in range(width):
            lane[S1 + i], lane[S2 + i] = cotangents[0, start + i], cotangents[1, start + i]
            lane[S3 + i] = cotangents[2, start + i]
        for j in range(steps.shape[1] - 1, -1, -1):
            wx, wy, wz, dt = steps[0, j], steps[1, j], steps[2, j], steps[3, j]
            halvings = step_doublings(wx, wy, wz, dt, low, high, b1_max)
            sum_x, sum_y, sum_z = turn_back(halvings, lane, width, wx, wy, wz, dt)
            gradient[0, j] += sum_x
            gradient[1, j] += sum_y
            gradient[2, j] += sum_z


@compiled("void(float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, int64, int64, float64[:, ::1])")
def forward_tangent(steps, changes, spins, width, first, last, turning):
    """Small turns of the ends of blocks first..last-1 when the steps change: w_j = R_j w_{j-1} + J_j dt_j.

    changes (3, N): change of the first three rows of `steps`. turning (3, S): out.
    """
    lane = np.empty(LANES * 5)
    for block in range(first, last):
        start = block * width
        low, high, b1_max = load_spins(lane, spins, start, width)
        for i in range(width):
            lane[S1 + i], lane[S2 + i], lane[S3 + i] = 0.0, 0.0, 0.0
        for j in range(steps.shape[1]):
            wx, wy, wz, dt = steps[0, j], steps[1, j], steps[2, j], steps[3, j]
            halvings = step_doublings(wx, wy, wz, dt, low, high, b1_max)
            carry(halvings, lane, width, wx, wy, wz, dt, changes[0, j], changes[1, j], changes[2, j])
        for i in range(width):
            turning[0, start + i], turning[1, start + i] = lane[S1 + i], lane[S2 + i]
            turning[2, start + i] = lane[S3 + i]


@compiled(
    "void(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, int64, int64,"
    " float64[:, ::1])"
)
def backward_tangent(steps, changes, spins, cotangents, cotangent_changes, width, first, last, gradient_change):
    """Change of the gradient when the steps change: the tangent of `backward`, for blocks first..last-1.

    cotangents, cotangent_changes (3, S): m_N and its change. gradient_change (3, N): added to.
    """
    lane = np.empty(LANES * 8)
    for block in range(first, last):
        start = block * width
        low, high, b1_max = load_spins(lane, spins, start, width)
        for i in range(width):
            lane[S1 + i], lane[S2 + i] = cotangents[0, start + i], cotangents[1, start + i]
            lane[S3 + i], lane[S4 + i] = cotangents[2, start + i], cotangent_changes[0, start + i]
            lane[S5 + i], lane[S6 + i] = cotangent_changes[1, start + i], cotangent_changes[2, start + i]
        for j in range(steps.shape[1] - 1, -1, -1):
            wx, wy, wz, dt = steps[0, j], steps[1, j], steps[2, j], steps[3, j]
            halvings = step_doublings(wx, wy, wz, dt, low, high, b1_max)
            sum_x, sum_y, sum_z = carry_back(
                halvings, lane, width, wx, wy, wz, dt, changes[0, j], changes[1, j], changes[2, j]
            )
            gradient_change[0, j] += sum_x
            gradient_change[1, j] += sum_y
            gradient_change[2, j] += sum_z
