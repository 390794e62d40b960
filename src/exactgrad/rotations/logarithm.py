"""The logarithm of a rotation matrix: its rotation vector, by way of the quaternion. Radians."""

from __future__ import annotations

import numpy as np

from exactgrad.rotations import quaternions


def log(rotation: np.ndarray) -> np.ndarray:
    """Return the rotation vector, length in [0, pi], of rotation matrices of shape (..., 3, 3).

    At length pi both signs are the same rotation; the one whose first component that is not zero is positive is
    returned (that of the real part zero quaternion, see `quaternions.canonical`).

    Raises
    ------
    InputError
        If a matrix is not a proper rotation to 1e-6.

    Examples
    --------
    >>> log(np.diag([1.0, -1.0, -1.0]))
    array([3.14159265, 0.        , 0.        ])
    """
    return quaternions.to_rotation_vector(quaternions.from_matrix(rotation))
