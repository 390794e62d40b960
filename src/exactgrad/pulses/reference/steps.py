"""One rotation step as the paper writes it: axis and angle, R (Eq. 18), Q (Eqs. 30-33), the product Q_2 Q_1 (Eq. 34).

Units: radians; quaternions are (w, x, y, z), the paper's (D, A, B, C). Corrected: Eq. 26 has Dt^2 omega^2 = theta_xy^2
under its root, Eq. 23 does not count the offset twice, and element (2, 2) of Eq. 34 is +D_2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class CartesianStep(NamedTuple):
    """Axis (n_x, n_y, n_z), angle theta, and sine and cosine of theta (Tables 1, 2) or of theta/2 (Table 5)."""

    nx: Any
    ny: Any
    nz: Any
    theta: Any
    s: Any
    c: Any


class PolarStep(NamedTuple):
    """As `CartesianStep`, with n_xy, theta_xy and the sine and cosine of the phase alpha (Tables 3, 4, right of 5)."""

    nx: Any
    ny: Any
    nz: Any
    nxy: Any
    theta_xy: Any
    theta: Any
    s: Any
    c: Any
    sin_alpha: Any
    cos_alpha: Any


def cartesian_step(theta: np.ndarray, half_angle: bool = False) -> CartesianStep:
    """Return axis and angle (Eqs. 20-23) of rotation vectors `theta`, shape (..., 3); the axis is NaN at zero."""
    x, y, z = np.moveaxis(np.asarray(theta, dtype=float), -1, 0)
    length = np.sqrt(x * x + y * y + z * z)
    argument = length / 2 if half_angle else length
    with np.errstate(invalid="ignore"):
        return CartesianStep(x / length, y / length, z / length, length, np.sin(argument), np.cos(argument))


def polar_step(theta_xy: np.ndarray, alpha: np.ndarray, theta_z: np.ndarray, half_angle: bool = False) -> PolarStep:
    """Return axis and angle (Eqs. 26, 27 corrected) of amplitude, phase and z angle, broadcast; NaN at zero."""
    theta_xy, alpha, theta_z = (np.asarray(value, dtype=float) for value in (theta_xy, alpha, theta_z))
    length = np.sqrt(theta_xy * theta_xy + theta_z * theta_z)
    argument = length / 2 if half_angle else length
    sin_alpha, cos_alpha = np.sin(alpha), np.cos(alpha)
    with np.errstate(invalid="ignore"):
        nxy = theta_xy / length
        return PolarStep(
            nx=cos_alpha * nxy,
            ny=sin_alpha * nxy,
            nz=theta_z / length,
            nxy=nxy,
            theta_xy=theta_xy,
            theta=length,
            s=np.sin(argument),
            c=np.cos(argument),
            sin_alpha=sin_alpha,
            cos_alpha=cos_alpha,
        )


def rotation_matrices(theta: np.ndarray) -> np.ndarray:
    """Return R by Eq. 18, shape (..., 3, 3), for `theta` of shape (..., 3); the unit matrix at zero.

    Examples
    --------
    >>> rotation_matrices([0.0, 0.0, np.pi / 2]).round(12) + 0.0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    nx, ny, nz, theta, s, c = _defined(cartesian_step(theta))
    rows = (
        c + nx**2 * (1 - c),
        -nz * s + nx * ny * (1 - c),
        ny * s + nx * nz * (1 - c),
        nz * s + nx * ny * (1 - c),
        c + ny**2 * (1 - c),
        -nx * s + ny * nz * (1 - c),
        -ny * s + nx * nz * (1 - c),
        nx * s + ny * nz * (1 - c),
        c + nz**2 * (1 - c),
    )
    return np.stack(rows, axis=-1).reshape(*theta.shape, 3, 3)


def step_quaternions(theta: np.ndarray) -> np.ndarray:
    """Return Q by Eqs. 30-33 as (w, x, y, z) = (D, A, B, C), shape (..., 4); (1, 0, 0, 0) at zero.

    Examples
    --------
    >>> step_quaternions([0.0, 0.0, np.pi]).round(12) + 0.0
    array([0., 0., 0., 1.])
    """
    nx, ny, nz, _, s, c = _defined(cartesian_step(theta, half_angle=True))
    return np.stack([c, nx * s, ny * s, nz * s], axis=-1)


def product(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return Q_2 Q_1 by Eq. 34 with its element (2, 2) corrected to D_2; quaternions (w, x, y, z), shape (..., 4).

    Examples
    --------
    >>> product([0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0])
    array([0., 0., 0., 1.])
    """
    d2, a2, b2, c2 = np.moveaxis(np.asarray(second, dtype=float), -1, 0)
    d1, a1, b1, c1 = np.moveaxis(np.asarray(first, dtype=float), -1, 0)
    return np.stack(
        [
            -a2 * a1 - b2 * b1 - c2 * c1 + d2 * d1,
            +d2 * a1 - c2 * b1 + b2 * c1 + a2 * d1,
            +c2 * a1 + d2 * b1 - a2 * c1 + b2 * d1,
            -b2 * a1 + a2 * b1 + d2 * c1 + c2 * d1,
        ],
        axis=-1,
    )


def _defined(step: CartesianStep) -> CartesianStep:
    """Give a step of no rotation an axis (none), so that its rotation is defined."""
    nx, ny, nz = (np.where(step.theta > 0, component, 0.0) for component in step[:3])
    return step._replace(nx=nx, ny=ny, nz=nz)
