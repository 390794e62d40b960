"""Derivatives of one step by an augmented matrix exponential (the paper's Eqs. 53-56, corrected).

    exp([[L, E], [0, L]]) = [[R, dR], [0, R]]

with L = -i theta.G and E = -i e.G, e the direction of the derivative in rotation vector space. Two corrections: the
corner holds no Dt (with it the result is dR/domega), and the generators of Eq. 54 must be i times antisymmetric
matrices, so that -i G is the real cross product matrix; the printed ones do not generate rotations. Nor is it true that
polar controls have no generator: e = theta_xy (-sin alpha, cos alpha, 0) and e = (cos alpha, sin alpha, 0) are theirs.
"""

from __future__ import annotations

import numpy as np

from exactgrad.errors import InputError

CONTROLS = ("x", "y", "z", "alpha", "xy")
_MINUS_I_G = np.array(  # -i G_x, -i G_y, -i G_z: real
    [
        [[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]],
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    ]
)
_MINUS_I_SPIN = -0.5j * np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])  # Eq. 56


def control_direction(theta: np.ndarray, control: str) -> np.ndarray:
    """Return e, shape (..., 3), the change of the rotation vector `theta` with a control.

    Parameters
    ----------
    theta : array_like, shape (..., 3)
        Rotation vectors; the phase alpha is atan2(theta_y, theta_x).
    control : str
        "x", "y", "z", "alpha" (phase) or "xy" (amplitude).

    Raises
    ------
    InputError
        If there is no such control.

    Examples
    --------
    >>> control_direction([0.0, 2.0, 1.0], "alpha")
    array([-2.,  0.,  0.])
    """
    if control not in CONTROLS:
        raise InputError(f"control {control!r}: must be one of {', '.join(CONTROLS)}")
    theta = np.asarray(theta, dtype=float)
    x, y = theta[..., 0], theta[..., 1]
    zero = np.zeros_like(x)
    if control == "alpha":
        return np.stack([-y, x, zero], axis=-1)
    if control == "xy":
        alpha = np.arctan2(y, x)
        return np.stack([np.cos(alpha), np.sin(alpha), zero], axis=-1)
    return np.broadcast_to(np.eye(3)["xyz".index(control)], theta.shape)


def augmented_exponential(theta: np.ndarray, control: str) -> tuple[np.ndarray, np.ndarray]:
    """Return R and its derivative by one control from a batch of 6 x 6 exponentials.

    Parameters
    ----------
    theta : array_like, shape (..., 3), radians
        Rotation vectors; zero is no special case.
    control : str
        One of `CONTROLS`.

    Returns
    -------
    rotation, derivative : ndarray, shape (..., 3, 3)

    Examples
    --------
    >>> augmented_exponential([0.0, 0.0, 0.0], "z")[1]
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    theta = np.asarray(theta, dtype=float)
    return _augment(theta, control_direction(theta, control), _MINUS_I_G)


def augmented_quaternion(theta: np.ndarray, control: str) -> tuple[np.ndarray, np.ndarray]:
    """Return Q, (w, x, y, z), and its derivative by a `control`, shape (..., 4), from 4 x 4 exponentials (Eq. 55).

    Examples
    --------
    >>> augmented_quaternion([0.0, 0.0, 0.0], "z")[1] + 0.0
    array([0. , 0. , 0. , 0.5])
    """
    theta = np.asarray(theta, dtype=float)
    u, derivative = _augment(theta, control_direction(theta, control), _MINUS_I_SPIN)
    return _quaternion(u), _quaternion(derivative)


def _augment(theta: np.ndarray, direction: np.ndarray, generators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import expm

    size = generators.shape[-1]
    augmented = np.zeros((*theta.shape[:-1], 2 * size, 2 * size), dtype=generators.dtype)
    augmented[..., :size, :size] = augmented[..., size:, size:] = np.tensordot(theta, generators, axes=1)
    augmented[..., :size, size:] = np.tensordot(direction, generators, axes=1)
    result = expm(augmented)
    return result[..., :size, :size], result[..., :size, size:]


def _quaternion(u: np.ndarray) -> np.ndarray:
    """Return (D, A, B, C) of U = D - 2i (A, B, C).I, a linear map that serves the derivative too."""
    first, second = u[..., 0, 0], u[..., 1, 0]
    return np.stack([first.real, -second.imag, second.real, -first.imag], axis=-1)
