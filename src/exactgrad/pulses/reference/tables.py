"""The paper's Tables 1-5 as printed: 78 derivatives of one rotation step (Slad & Luy, "Analytical exact gradients").

Units: radians. All 78 entries were checked against 50-digit derivatives and are right; two misprints around them are
corrected: t_xy in dR_yx/dtheta_xy is theta_xy (Table 3), and n_xy = theta_xy/theta is defined in the caption of Table 5
only. As in the paper the entries divide by theta, Table 3 also by theta_xy: at theta = 0 (theta_xy = 0) they are NaN.
The exact limits are what `rotations.maps.dexp` gives. Each entry function takes a step and returns the numbers row by
row; it accepts floats and arrays alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exactgrad.pulses.reference.steps import CartesianStep, PolarStep, cartesian_step, polar_step


def d_theta_x(step: CartesianStep) -> tuple:
    """Table 1, left: the nine dR/dtheta_x."""
    nx, ny, nz, theta, s, c = step
    return (
        (nx**3 - nx) * (s + 2 * (c - 1) / theta),
        (ny - 2 * nx**2 * ny) / theta
        + ((2 * nx**2 * ny - ny) / theta - nx * nz) * c
        + (nx**2 * ny + nx * nz / theta) * s,
        (nz - 2 * nx**2 * nz) / theta
        + ((2 * nx**2 * nz - nz) / theta + nx * ny) * c
        + (nx**2 * nz - nx * ny / theta) * s,
        (ny - 2 * nx**2 * ny) / theta
        + ((2 * nx**2 * ny - ny) / theta + nx * nz) * c
        + (nx**2 * ny - nx * nz / theta) * s,
        (nx * ny**2 - nx) * s + nx * ny**2 * (2 * (c - 1) / theta),
        -2 * nx * ny * nz / theta
        + (2 * nx * ny * nz / theta - nx**2) * c
        + (nx * ny * nz - (ny**2 + nz**2) / theta) * s,
        (nz - 2 * nx**2 * nz) / theta
        + ((2 * nx**2 * nz - nz) / theta - nx * ny) * c
        + (nx**2 * nz + nx * ny / theta) * s,
        -2 * nx * ny * nz / theta
        + (2 * nx * ny * nz / theta + nx**2) * c
        + (nx * ny * nz + (ny**2 + nz**2) / theta) * s,
        (nx * nz**2 - nx) * s + nx * nz**2 * (2 * (c - 1) / theta),
    )


def d_theta_y(step: CartesianStep) -> tuple:
    """Table 1, right: the nine dR/dtheta_y."""
    nx, ny, nz, theta, s, c = step
    return (
        (ny * nx**2 - ny) * s + ny * nx**2 * (2 * (c - 1) / theta),
        (nx - 2 * ny**2 * nx) / theta
        + ((2 * ny**2 * nx - nx) / theta - ny * nz) * c
        + (ny**2 * nx + ny * nz / theta) * s,
        -2 * nx * ny * nz / theta
        + (2 * nx * ny * nz / theta + ny**2) * c
        + (nx * ny * nz + (nx**2 + nz**2) / theta) * s,
        (nx - 2 * ny**2 * nx) / theta
        + ((2 * ny**2 * nx - nx) / theta + ny * nz) * c
        + (ny**2 * nx - ny * nz / theta) * s,
        (ny**3 - ny) * (s + 2 * (c - 1) / theta),
        (nz - 2 * ny**2 * nz) / theta
        + ((2 * ny**2 * nz - nz) / theta - nx * ny) * c
        + (ny**2 * nz + nx * ny / theta) * s,
        -2 * nx * ny * nz / theta
        + (2 * nx * ny * nz / theta - ny**2) * c
        + (nx * ny * nz - (nx**2 + nz**2) / theta) * s,
        (nz - 2 * ny**2 * nz) / theta
        + ((2 * ny**2 * nz - nz) / theta + nx * ny) * c
        + (ny**2 * nz - nx * ny / theta) * s,
        (ny * nz**2 - ny) * s + ny * nz**2 * (2 * (c - 1) / theta),
    )


def d_theta_z(step: CartesianStep) -> tuple:
    """Table 2: the nine dR/dtheta_z."""
    nx, ny, nz, theta, s, c = step
    return (
        (nz * nx**2 - nz) * s + nz * nx**2 * (2 * (c - 1) / theta),
        -2 * nx * ny * nz / theta
        + (2 * nx * ny * nz / theta - nz**2) * c
        + (nx * ny * nz - (ny**2 + nx**2) / theta) * s,
        (nx - 2 * nz**2 * nx) / theta
        + ((2 * nz**2 * nx - nx) / theta + nz * ny) * c
        + (nz**2 * nx - nz * ny / theta) * s,
        -2 * nx * ny * nz / theta
        + (2 * nx * ny * nz / theta + nz**2) * c
        + (nx * ny * nz + (ny**2 + nx**2) / theta) * s,
        (nz * ny**2 - nz) * s + nz * ny**2 * (2 * (c - 1) / theta),
        (ny - 2 * nz**2 * ny) / theta
        + ((2 * nz**2 * ny - ny) / theta - nx * nz) * c
        + (nz**2 * ny + nx * nz / theta) * s,
        (nx - 2 * nz**2 * nx) / theta
        + ((2 * nz**2 * nx - nx) / theta - nz * ny) * c
        + (nz**2 * nx + nz * ny / theta) * s,
        (ny - 2 * nz**2 * ny) / theta
        + ((2 * nz**2 * ny - ny) / theta + nx * nz) * c
        + (nz**2 * ny - nx * nz / theta) * s,
        (nz**3 - nz) * (s + 2 * (c - 1) / theta),
    )


def d_alpha(step: PolarStep) -> tuple:
    """Table 3, left: the nine dR/dalpha."""
    nx, ny, nz, s, c = step.nx, step.ny, step.nz, step.s, step.c
    return (
        -2 * nx * ny * (1 - c),
        (nx**2 - ny**2) * (1 - c),
        -ny * nz * (1 - c) + nx * s,
        (nx**2 - ny**2) * (1 - c),
        2 * nx * ny * (1 - c),
        nx * nz * (1 - c) + ny * s,
        -ny * nz * (1 - c) - nx * s,
        nx * nz * (1 - c) - ny * s,
        0.0,
    )


def d_theta_xy(step: PolarStep) -> tuple:
    """Table 3, right: the nine dR/dtheta_xy."""
    nx, ny, nz, nxy, theta_xy, theta, s, c = step[:8]
    return (
        -theta_xy * (ny**2 + nz**2) / theta * s + 2 * nx**2 * nz**2 / theta_xy * (1 - c),
        -nxy * nz * (c - s / theta) + nx * ny * nxy * s + 2 * (nx * ny / theta_xy - nx * ny * nxy / theta) * (1 - c),
        (ny / theta_xy - ny * nxy / theta + nx * nz * nxy) * s
        + ny * nxy * c
        + (nx * nz / theta_xy - 2 * nx * nz * nxy / theta) * (1 - c),
        nxy * nz * (c - s / theta) + nx * ny * nxy * s + 2 * (nx * ny / theta_xy - nx * ny * nxy / theta) * (1 - c),
        -theta_xy * (nx**2 + nz**2) / theta * s + 2 * ny**2 * nz**2 / theta_xy * (1 - c),
        (-nx / theta_xy + nx * nxy / theta + ny * nz * nxy) * s
        - nx * nxy * c
        + (ny * nz / theta_xy - 2 * ny * nz * nxy / theta) * (1 - c),
        (-ny / theta_xy + ny * nxy / theta + nx * nz * nxy) * s
        - ny * nxy * c
        + (nx * nz / theta_xy - 2 * nx * nz * nxy / theta) * (1 - c),
        (nx / theta_xy - nx * nxy / theta + ny * nz * nxy) * s
        + nx * nxy * c
        + (ny * nz / theta_xy - 2 * ny * nz * nxy / theta) * (1 - c),
        -2 * nxy * nz**2 * (1 - c) / theta - nxy**3 * (nxy**2 + nz**2) * s,
    )


def d_theta_z_polar(step: PolarStep) -> tuple:
    """Table 4: the nine dR/dtheta_z in polar coordinates."""
    nx, ny, nz, _, theta_xy, theta, s, c = step[:8]
    return (
        (nx**2 * nz - nz) * s - 2 * nx**2 * nz / theta * (1 - c),
        (nx * ny * nz - theta_xy**2 / theta**3) * s + 2 * nx * ny * nz / theta * (c - 1) - nz**2 * c,
        (nx * nz**2 - ny * nz / theta) * s + (2 * nx * nz**2 - nx) / theta * (c - 1) + ny * nz * c,
        (nx * ny * nz + theta_xy**2 / theta**3) * s + 2 * nx * ny * nz / theta * (c - 1) + nz**2 * c,
        (ny**2 * nz - nz) * s - 2 * ny**2 * nz / theta * (1 - c),
        (ny * nz**2 + nx * nz / theta) * s + (2 * ny * nz**2 - ny) / theta * (c - 1) - nx * nz * c,
        (nx * nz**2 + ny * nz / theta) * s + (2 * nx * nz**2 - nx) / theta * (c - 1) - ny * nz * c,
        (ny * nz**2 - nx * nz / theta) * s + (2 * ny * nz**2 - ny) / theta * (c - 1) + nx * nz * c,
        (nz**3 - nz) * s + 2 * (nz - nz**3) / theta * (1 - c),
    )


def quaternion_d_theta_x(step: CartesianStep) -> tuple:
    """Table 5: d(D, A, B, C)/dtheta_x; s and c are of theta/2."""
    nx, ny, nz, theta, s, c = step
    return (
        -nx * s / 2,
        (1 - nx**2) * s / theta + nx**2 * c / 2,
        nx * ny * (c / 2 - s / theta),
        nx * nz * (c / 2 - s / theta),
    )


def quaternion_d_theta_y(step: CartesianStep) -> tuple:
    """Table 5: d(D, A, B, C)/dtheta_y."""
    nx, ny, nz, theta, s, c = step
    return (
        -ny * s / 2,
        nx * ny * (c / 2 - s / theta),
        (1 - ny**2) * s / theta + ny**2 * c / 2,
        ny * nz * (c / 2 - s / theta),
    )


def quaternion_d_theta_z(step: CartesianStep) -> tuple:
    """Table 5: d(D, A, B, C)/dtheta_z."""
    nx, ny, nz, theta, s, c = step
    return (
        -nz * s / 2,
        nx * nz * (c / 2 - s / theta),
        ny * nz * (c / 2 - s / theta),
        (1 - nz**2) * s / theta + nz**2 * c / 2,
    )


def quaternion_d_alpha(step: PolarStep) -> tuple:
    """Table 5, right: d(D, A, B, C)/dalpha."""
    theta_xy, theta, s = step.theta_xy, step.theta, step.s
    return (0.0, -theta_xy * step.sin_alpha * s / theta, theta_xy * step.cos_alpha * s / theta, 0.0)


def quaternion_d_theta_xy(step: PolarStep) -> tuple:
    """Table 5, right: d(D, A, B, C)/dtheta_xy."""
    nxy, nz, theta, s, c = step.nxy, step.nz, step.theta, step.s, step.c
    along = (1 - nxy**2) * s / theta + nxy**2 * c / 2
    return (-nxy * s / 2, step.cos_alpha * along, step.sin_alpha * along, nxy * nz * (c / 2 - s / theta))


def quaternion_d_theta_z_polar(step: PolarStep) -> tuple:
    """Table 5, right: d(D, A, B, C)/dtheta_z in polar coordinates."""
    nxy, nz, theta, s, c = step.nxy, step.nz, step.theta, step.s, step.c
    across = nxy * nz * (c / 2 - s / theta)
    return (-nz * s / 2, step.cos_alpha * across, step.sin_alpha * across, (1 - nz**2) * s / theta + nz**2 * c / 2)


CARTESIAN = {"x": d_theta_x, "y": d_theta_y, "z": d_theta_z}
POLAR = {"alpha": d_alpha, "xy": d_theta_xy, "z": d_theta_z_polar}
QUATERNION_CARTESIAN = {"x": quaternion_d_theta_x, "y": quaternion_d_theta_y, "z": quaternion_d_theta_z}
QUATERNION_POLAR = {
    "alpha": quaternion_d_alpha,
    "xy": quaternion_d_theta_xy,
    "z": quaternion_d_theta_z_polar,
}


def matrix_derivative(entries: Any, step: CartesianStep | PolarStep) -> np.ndarray:
    """Arrange the nine entries of one table column, e.g. `d_theta_x`, as matrices of shape (..., 3, 3)."""
    return _stack(entries, step).reshape(*np.shape(step.theta), 3, 3)


def quaternion_derivative(entries: Any, step: CartesianStep | PolarStep) -> np.ndarray:
    """Arrange the four entries of one column of Table 5 as quaternions (w, x, y, z), shape (..., 4)."""
    return _stack(entries, step)


def table_derivatives_cartesian(theta: np.ndarray) -> np.ndarray:
    """Return dR/d(theta_x, theta_y, theta_z) by Tables 1 and 2.

    Parameters
    ----------
    theta : array_like, shape (..., 3), radians
        Rotation vectors.

    Returns
    -------
    ndarray, shape (..., 3, 3, 3)
        First of the last three axes: by which angle; then row and column of R. NaN where theta = 0, as in the paper.

    Examples
    --------
    >>> table_derivatives_cartesian([0.0, 0.0, np.pi])[2].round(12) + 0.0
    array([[ 0.,  1.,  0.],
           [-1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    step = cartesian_step(theta)
    return np.stack([matrix_derivative(entries, step) for entries in CARTESIAN.values()], axis=-3)


def table_derivatives_polar(theta_xy: np.ndarray, alpha: np.ndarray, theta_z: np.ndarray) -> np.ndarray:
    """Return dR/d(alpha, theta_xy, theta_z) by Tables 3 and 4, shape (..., 3, 3, 3); NaN where theta_xy = 0.

    Examples
    --------
    >>> bool(np.isnan(table_derivatives_polar(0.0, 0.3, 1.0)[1]).any())
    True
    """
    theta_xy, alpha, theta_z = np.broadcast_arrays(theta_xy, alpha, theta_z)
    step = polar_step(theta_xy, alpha, theta_z)
    return np.stack([matrix_derivative(entries, step) for entries in POLAR.values()], axis=-3)


def quaternion_derivatives_cartesian(theta: np.ndarray) -> np.ndarray:
    """Return dQ/d(theta_x, theta_y, theta_z) by Table 5, shape (..., 3, 4), last axis (w, x, y, z); NaN at zero.

    Examples
    --------
    >>> quaternion_derivatives_cartesian([0.0, 0.0, np.pi])[2].round(12) + 0.0
    array([-0.5,  0. ,  0. ,  0. ])
    """
    step = cartesian_step(theta, half_angle=True)
    return np.stack([quaternion_derivative(entries, step) for entries in QUATERNION_CARTESIAN.values()], axis=-2)


def quaternion_derivatives_polar(theta_xy: np.ndarray, alpha: np.ndarray, theta_z: np.ndarray) -> np.ndarray:
    """Return dQ/d(alpha, theta_xy, theta_z) by Table 5, shape (..., 3, 4), last axis (w, x, y, z); NaN at zero.

    Examples
    --------
    >>> quaternion_derivatives_polar(np.pi, 0.0, 0.0)[0].round(12) + 0.0
    array([0., 0., 1., 0.])
    """
    theta_xy, alpha, theta_z = np.broadcast_arrays(theta_xy, alpha, theta_z)
    step = polar_step(theta_xy, alpha, theta_z, half_angle=True)
    return np.stack([quaternion_derivative(entries, step) for entries in QUATERNION_POLAR.values()], axis=-2)


def _stack(entries: Any, step: CartesianStep | PolarStep) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = entries(step)
    return np.stack([np.broadcast_to(value, np.shape(step.theta)) for value in values], axis=-1)
