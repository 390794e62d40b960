"""First-order GRAPE derivatives of one step: exact as the step goes to zero, not at any finite step (Eqs. 6, 14).

dR/dtheta_k = -i G_k R and dQ/dtheta_k = (0, e_k/2) Q: the generator acts at the end of the step instead of all along
it. Eq. 14 is corrected: a plain product, no commutator, and no Dt, since the derivative is by an angle.
"""

from __future__ import annotations

import numpy as np

from exactgrad.pulses.reference.augmented import control_direction
from exactgrad.pulses.reference.steps import product, rotation_matrices, step_quaternions


def first_order_matrix(theta: np.ndarray, control: str) -> np.ndarray:
    """Return the first-order dR by a control ("x", "y", "z", "alpha", "xy"), shape (..., 3, 3), for (..., 3) angles.

    Examples
    --------
    >>> first_order_matrix([0.0, 0.0, 0.0], "z")
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    rotation = rotation_matrices(theta)
    direction = control_direction(theta, control)
    return np.cross(direction[..., None, :], np.swapaxes(rotation, -1, -2)).swapaxes(-1, -2)


def first_order_quaternion(theta: np.ndarray, control: str) -> np.ndarray:
    """Return the first-order dQ by a control, (w, x, y, z), shape (..., 4), for angles of shape (..., 3).

    Examples
    --------
    >>> first_order_quaternion([0.0, 0.0, 0.0], "z")
    array([0. , 0. , 0. , 0.5])
    """
    direction = control_direction(theta, control)
    half = np.concatenate([np.zeros_like(direction[..., :1]), direction / 2], axis=-1)
    return product(half, step_quaternions(theta)) + 0.0
