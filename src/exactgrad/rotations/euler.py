"""Euler angles, by the full name of their convention only, since "ZYZ" alone means four things.

Units: radians. float64, the last axis holds the three angles in the order of the letters. Rotations are active.

    intrinsic-ZYZ   R = Rz(1) Ry(2) Rz(3): about z, then the turned y, then the turned z (tensor and spin frames)
    intrinsic-ZYX   R = Rz(1) Ry(2) Rx(3): yaw, pitch, roll
    extrinsic-XYZ   R = Rz(3) Ry(2) Rx(1): about the fixed x, then y, then z (nanoBragg's misset)
"""

from __future__ import annotations

import numpy as np

from exactgrad.errors import InputError
from exactgrad.rotations.maps import require_last_axis
from exactgrad.rotations.quaternions import require_rotation

CONVENTIONS = ("intrinsic-ZYZ", "intrinsic-ZYX", "extrinsic-XYZ")
GIMBAL_SINE = 1e-14  # below it the first and third axes are one, to rounding


def to_matrix(angles: np.ndarray, convention: str) -> np.ndarray:
    """Return the rotation matrices, shape (..., 3, 3), of Euler angles of shape (..., 3).

    Parameters
    ----------
    angles : array_like, shape (..., 3), radians
        In the order of the letters of the convention.
    convention : str
        One of `CONVENTIONS`.

    Raises
    ------
    InputError
        If the convention is unknown or an angle is not finite.

    Examples
    --------
    >>> to_matrix(np.radians([90.0, 0.0, 0.0]), "extrinsic-XYZ").round(12) + 0.0
    array([[ 1.,  0.,  0.],
           [ 0.,  0., -1.],
           [ 0.,  1.,  0.]])
    """
    _require_convention(convention)
    first, second, third = np.moveaxis(require_last_axis("angles", angles, 3), -1, 0)
    if convention == "intrinsic-ZYZ":
        return _about(2, first) @ _about(1, second) @ _about(2, third)
    if convention == "extrinsic-XYZ":
        first, third = third, first
    return _about(2, first) @ _about(1, second) @ _about(0, third)


def from_matrix(rotation: np.ndarray, convention: str) -> np.ndarray:
    """Return Euler angles, shape (..., 3), of rotation matrices of shape (..., 3, 3).

    The middle angle is in [0, pi] (ZYZ) or [-pi/2, pi/2]; the others in (-pi, pi]. Where the outer axes are one
    (gimbal lock), the turn about x or the third of ZYZ is zero. The matrix is reproduced to rounding everywhere.

    Raises
    ------
    InputError
        If the convention is unknown or a matrix is not a rotation.

    Examples
    --------
    >>> np.degrees(from_matrix(to_matrix([0.1, 0.2, 0.3], "intrinsic-ZYX"), "intrinsic-ZYX")).round(6)
    array([ 5.729578, 11.459156, 17.188734])
    """
    _require_convention(convention)
    r = require_rotation("rotation", rotation)
    if convention == "intrinsic-ZYZ":
        across, along = np.hypot(r[..., 0, 2], r[..., 1, 2]), r[..., 2, 2]
        second = np.arctan2(across, along)
        first = np.arctan2(r[..., 1, 2], r[..., 0, 2])
    else:
        across, along = np.hypot(r[..., 0, 0], r[..., 1, 0]), -r[..., 2, 0]
        second = np.arctan2(along, across)
        first = np.arctan2(r[..., 1, 0], r[..., 0, 0])
    first = np.where(across < GIMBAL_SINE, np.arctan2(-r[..., 0, 1], r[..., 1, 1]), first)
    # The y row of Rz(-first) R holds the last turn alone, whatever the middle angle is.
    row = np.cos(first)[..., None] * r[..., 1, :] - np.sin(first)[..., None] * r[..., 0, :]
    last = row[..., 0] if convention == "intrinsic-ZYZ" else -row[..., 2]
    third = np.arctan2(last, row[..., 1])
    order = (third, second, first) if convention == "extrinsic-XYZ" else (first, second, third)
    return np.stack(order, axis=-1)


def _require_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise InputError(f"convention {convention!r}: must be one of {', '.join(CONVENTIONS)}")


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Active rotation matrices about a fixed axis, shape (..., 3, 3)."""
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1.0
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., j, i] = np.sin(angle)
    matrix[..., i, j] = -np.sin(angle)
    return matrix
