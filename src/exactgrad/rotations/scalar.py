"""The rotation formulas as plain scalar functions: what every kernel compiles, for CPU and GPU alike.

Three even functions of an angle |t|, written in x = |t|^2, carry all of SO(3) and its derivative:

    a(x) = sin|t|/|t|    b(x) = (1 - cos|t|)/x    c(x) = (1 - a)/x

They are entire, so no norm, no division and no special case at t = 0 is needed. For x <= 1, b and c are polynomials
(Chebyshev fits, error below 6e-18); beyond, x is halved in angle until it is <= 1 and doubled back by exact rules that
neither divide nor cancel:

    a = 1 - x c      b(2t) = a^2/2      c(2t) = (b + c - x b c)/4

Units: radians. Rotations are active and right-handed (the sense of exp(-i t.I)).
"""

from __future__ import annotations

# Ascending powers of x on 0 <= x <= 1: mpmath.chebyfit(series, [0, 1], 7); tests/rotations re-derives them.
COEFFICIENTS_B = (
    0.49999999999999999423,
    -0.041666666666666101387,
    0.0013888888888798428726,
    -0.000024801587247292685458,
    2.7557303701922225818e-7,
    -2.0874477943664775885e-9,
    1.1304620460700782401e-11,
)
COEFFICIENTS_C = (
    0.16666666666666666633,
    -0.0083333333333333000416,
    0.00019841269841216566409,
    -2.7557319192011219391e-6,
    2.5052099244914113506e-8,
    -1.6057701922579786979e-10,
    7.5493717041812434104e-13,
)
_B0, _B1, _B2, _B3, _B4, _B5, _B6 = COEFFICIENTS_B
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = COEFFICIENTS_C

# The same on 0 <= x <= 1/4, one power shorter: mpmath.chebyfit(series, [0, 1/4], 6).
SHORT_COEFFICIENTS_B = (
    0.49999999999999999864,
    -0.041666666666666274073,
    0.0013888888888705664785,
    -0.000024801586988836374524,
    2.7557077887523165294e-7,
    -2.0790894217124701019e-9,
)
SHORT_COEFFICIENTS_C = (
    0.16666666666666666658,
    -0.0083333333333333071508,
    0.00019841269841147648228,
    -2.755731901541458765e-6,
    2.5051947445533465475e-8,
    -1.600178884003351951e-10,
)
_S0, _S1, _S2, _S3, _S4, _S5 = SHORT_COEFFICIENTS_B
_T0, _T1, _T2, _T3, _T4, _T5 = SHORT_COEFFICIENTS_C


def doublings(x_max):
    """Count how often an angle of square `x_max` must be halved until its square is <= 1."""
    count = 0
    while x_max > 1.0 and count < 1000:  # an overflow to infinity must end, as a NaN, not go on for ever
        x_max *= 0.25
        count += 1
    return count


def base_b(x):
    """b(x) = (1 - cos|t|)/|t|^2 for x = |t|^2 in [0, 1]."""
    return _B0 + x * (_B1 + x * (_B2 + x * (_B3 + x * (_B4 + x * (_B5 + x * _B6)))))


def base_c(x):
    """c(x) = (|t| - sin|t|)/|t|^3 for x = |t|^2 in [0, 1]."""
    return _C0 + x * (_C1 + x * (_C2 + x * (_C3 + x * (_C4 + x * (_C5 + x * _C6)))))


def short_b(y):
    """b(y) for y in [0, 1/4]: the half angle of a turn with |t|^2 <= 1."""
    return _S0 + y * (_S1 + y * (_S2 + y * (_S3 + y * (_S4 + y * _S5))))


def short_c(y):
    """c(y) for y in [0, 1/4]: the half angle of a turn with |t|^2 <= 1."""
    return _T0 + y * (_T1 + y * (_T2 + y * (_T3 + y * (_T4 + y * _T5))))


def double_angle(x, b, c):
    """Take (x, b, c) of an angle t to (x, b, c) of 2t."""
    a = 1.0 - x * c
    return 4.0 * x, 0.5 * a * a, 0.25 * (b + c - x * b * c)


def base_b_slope(x):
    """db/dx for x in [0, 1]: the derivative of the same polynomial."""
    return _B1 + x * (2.0 * _B2 + x * (3.0 * _B3 + x * (4.0 * _B4 + x * (5.0 * _B5 + x * 6.0 * _B6))))


def base_c_slope(x):
    """dc/dx for x in [0, 1]: the derivative of the same polynomial."""
    return _C1 + x * (2.0 * _C2 + x * (3.0 * _C3 + x * (4.0 * _C4 + x * (5.0 * _C5 + x * 6.0 * _C6))))


def double_angle_tangent(x, b, c, dx, db, dc):
    """Return how the results of `double_angle` change with x, b, c by dx, db, dc."""
    a = 1.0 - x * c
    da = -dx * c - x * dc
    return 4.0 * dx, a * da, 0.25 * (db + dc - dx * b * c - x * db * c - x * b * dc)


def even_coefficients(x):
    """(b, c) for any x = |t|^2 >= 0."""
    count = doublings(x)
    y = x * 0.25**count
    b, c = base_b(y), base_c(y)
    for _ in range(count):
        y, b, c = double_angle(y, b, c)
    return b, c


def even_coefficients_tangent(x, dx):
    """(b, c, db, dc) for any x = |t|^2 >= 0 and its change dx."""
    count = doublings(x)
    y, dy = x * 0.25**count, dx * 0.25**count
    b, c, db, dc = base_b(y), base_c(y), base_b_slope(y) * dy, base_c_slope(y) * dy
    for _ in range(count):
        dy2, db2, dc2 = double_angle_tangent(y, b, c, dy, db, dc)
        y, b, c = double_angle(y, b, c)
        dy, db, dc = dy2, db2, dc2
    return b, c, db, dc


def cross(ax, ay, az, bx, by, bz):
    """a x b."""
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


def left_jacobian_transpose(tx, ty, tz, b, c, mx, my, mz):
    """J(t)^T m = m - b t x m + c t x (t x m): the gradient by t of a loss whose cotangent (rho x lambda) is m."""
    ux, uy, uz = cross(tx, ty, tz, mx, my, mz)
    vx, vy, vz = cross(tx, ty, tz, ux, uy, uz)
    return mx - b * ux + c * vx, my - b * uy + c * vy, mz - b * uz + c * vz


def rotate_back(tx, ty, tz, gx, gy, gz, mx, my, mz):
    """R(t)^T m = m - t x g, where g = J(t)^T m is at hand."""
    ux, uy, uz = cross(tx, ty, tz, gx, gy, gz)
    return mx - ux, my - uy, mz - uz


def left_jacobian(tx, ty, tz, b, c, vx, vy, vz):
    """J(t) v = v + b t x v + c t x (t x v): the small space-fixed turn that a change v of t causes."""
    return left_jacobian_transpose(-tx, -ty, -tz, b, c, vx, vy, vz)


def rotate(tx, ty, tz, b, c, vx, vy, vz):
    """R(t) v = v + t x (J(t) v)."""
    jx, jy, jz = left_jacobian(tx, ty, tz, b, c, vx, vy, vz)
    return rotate_back(-tx, -ty, -tz, jx, jy, jz, vx, vy, vz)


def left_jacobian_transpose_tangent(tx, ty, tz, dx, dy, dz, b, c, db, dc, mx, my, mz):
    """Change of J(t)^T m when t changes by d (and b, c by db, dc), m held."""
    ux, uy, uz = cross(tx, ty, tz, mx, my, mz)
    vx, vy, vz = cross(tx, ty, tz, ux, uy, uz)
    px, py, pz = cross(dx, dy, dz, mx, my, mz)
    qx, qy, qz = cross(dx, dy, dz, ux, uy, uz)
    rx, ry, rz = cross(tx, ty, tz, px, py, pz)
    return (
        dc * vx - db * ux - b * px + c * (qx + rx),
        dc * vy - db * uy - b * py + c * (qy + ry),
        dc * vz - db * uz - b * pz + c * (qz + rz),
    )


def turn_quaternion(hx, hy, hz, cosine, sine, qw, qx, qy, qz):
    """(cosine, sine h) q: quaternion q turned by the rotation vector 2h, sine = sin|h|/|h|."""
    ux, uy, uz = sine * hx, sine * hy, sine * hz
    return (
        cosine * qw - ux * qx - uy * qy - uz * qz,
        cosine * qx + ux * qw + uy * qz - uz * qy,
        cosine * qy + uy * qw + uz * qx - ux * qz,
        cosine * qz + uz * qw + ux * qy - uy * qx,
    )
