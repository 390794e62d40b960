"""Finite differences of one step: two rotations and their difference, as the paper times them.

Forward differences with the step that balances rounding and truncation, sqrt(2^-52): 7 to 8 digits at best.
"""

from __future__ import annotations

import numpy as np

from exactgrad.pulses.reference.augmented import control_direction
from exactgrad.pulses.reference.steps import rotation_matrices, step_quaternions

STEP_RAD = 2.0**-26


def difference_matrix(theta: np.ndarray, control: str) -> np.ndarray:
    """Return the forward difference of R by a control ("x", "y", "z", "alpha", "xy"), shape (..., 3, 3).

    Examples
    --------
    >>> difference_matrix([0.0, 0.0, 0.0], "z").round(6) + 0.0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    return (rotation_matrices(_shifted(theta, control)) - rotation_matrices(theta)) / STEP_RAD


def difference_quaternion(theta: np.ndarray, control: str) -> np.ndarray:
    """Return the forward difference of Q by a control, (w, x, y, z), shape (..., 4).

    Examples
    --------
    >>> difference_quaternion([0.0, 0.0, 0.0], "z").round(6) + 0.0
    array([0. , 0. , 0. , 0.5])
    """
    return (step_quaternions(_shifted(theta, control)) - step_quaternions(theta)) / STEP_RAD


def _shifted(theta: np.ndarray, control: str) -> np.ndarray:
    theta = np.asarray(theta, dtype=float)
    return theta + STEP_RAD * control_direction(theta, control)
