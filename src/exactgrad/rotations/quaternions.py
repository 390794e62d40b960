"""Unit quaternions on arrays, in the order (w, x, y, z) = (cos, n sin) of half the angle.

Units: radians. float64, the last axis holds the four numbers. multiply(p, q) turns by q first, then by p, as the
matrices do. q and -q are the same rotation; nothing but `canonical` changes the sign. Every
function raises `InputError` if an array has another last axis or is not finite.
"""

from __future__ import annotations

import numpy as np

from exactgrad.errors import InputError, require_finite
from exactgrad.rotations.maps import even_coefficients, require_last_axis

ROTATION_TOLERANCE = 1e-6  # how far from orthogonal a matrix may be: files hold 6 digits
SMALL_SINE = 1e-8  # below it, asin(s)/s is 1 to rounding, and s^2 could underflow


def from_rotation_vector(t: np.ndarray) -> np.ndarray:
    """Return the quaternions, shape (..., 4), of rotation vectors of shape (..., 3); a full turn is (-1, 0, 0, 0).

    Examples
    --------
    >>> from_rotation_vector([0.0, 0.0, np.pi / 2]).round(12)
    array([0.70710678, 0.        , 0.        , 0.70710678])
    """
    t = require_last_axis("t", t, 3)
    quarter = (t * t).sum(axis=-1) / 4
    a, b, _ = even_coefficients(quarter)
    return np.concatenate([(1.0 - quarter * b)[..., None], (0.5 * a)[..., None] * t], axis=-1)


def to_rotation_vector(q: np.ndarray) -> np.ndarray:
    """Return rotation vectors, length in [0, pi], of unit quaternions of shape (..., 4); the sign of q does not matter.

    Examples
    --------
    >>> to_rotation_vector([-1.0, 0.0, 0.0, 0.0]) + 0.0
    array([0., 0., 0.])
    """
    q = canonical(q)
    w, v = q[..., 0], q[..., 1:]
    sine = np.sqrt((v * v).sum(axis=-1))
    small = np.abs(v).max(axis=-1) < SMALL_SINE
    length = np.where(small, 1.0, sine)
    return np.where(small, 2.0, 2.0 * np.arctan2(length, w) / length)[..., None] * v


def canonical(q: np.ndarray) -> np.ndarray:
    """Return q or -q: the one whose first component that is not zero is positive, so w >= 0.

    Examples
    --------
    >>> canonical([0.0, -1.0, 0.0, 0.0]) + 0.0
    array([0., 1., 0., 0.])
    """
    q = require_last_axis("q", q, 4)
    first = np.argmax(q != 0, axis=-1)
    leading = np.take_along_axis(q, first[..., None], axis=-1)
    return np.where(leading < 0, -q, q)


def multiply(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the product p q, shape (..., 4): the turn by q followed by the turn by p.

    Examples
    --------
    >>> i, j = [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]
    >>> multiply(i, j)
    array([0., 0., 0., 1.])
    """
    p, q = require_last_axis("p", p, 4), require_last_axis("q", q, 4)
    pw, pv, qw, qv = p[..., :1], p[..., 1:], q[..., :1], q[..., 1:]
    w = pw * qw - (pv * qv).sum(axis=-1, keepdims=True)
    return np.concatenate([w, pw * qv + qw * pv + np.cross(pv, qv)], axis=-1)


def conjugate(q: np.ndarray) -> np.ndarray:
    """Return (w, -x, -y, -z): the inverse turn of a unit quaternion.

    Examples
    --------
    >>> conjugate([1.0, 2.0, 3.0, 4.0])
    array([ 1., -2., -3., -4.])
    """
    return require_last_axis("q", q, 4) * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return vectors `v`, shape (..., 3), turned by unit quaternions `q`, shape (..., 4).

    Examples
    --------
    >>> rotate([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)], [1.0, 0.0, 0.0]).round(12) + 0.0
    array([0., 1., 0.])
    """
    q, v = require_last_axis("q", q, 4), require_last_axis("v", v, 3)
    turned = 2.0 * np.cross(q[..., 1:], v)
    return v + q[..., :1] * turned + np.cross(q[..., 1:], turned)


def to_matrix(q: np.ndarray) -> np.ndarray:
    """Return the rotation matrices, shape (..., 3, 3), of unit quaternions of shape (..., 4).

    Examples
    --------
    >>> to_matrix([0.0, 1.0, 0.0, 0.0])
    array([[ 1.,  0.,  0.],
           [ 0., -1.,  0.],
           [ 0.,  0., -1.]])
    """
    q = require_last_axis("q", q, 4)
    columns = [rotate(q, axis) for axis in np.eye(3)]
    return np.stack(columns, axis=-1)


def from_matrix(rotation: np.ndarray) -> np.ndarray:
    """Return the canonical unit quaternions, shape (..., 4), of rotation matrices of shape (..., 3, 3).

    The column of 4 q q^T with the largest diagonal element is taken, so nothing is lost at any angle.

    Raises
    ------
    InputError
        If a matrix is not orthogonal to 1e-6 or is a reflection.

    Examples
    --------
    >>> from_matrix(np.eye(3))
    array([1., 0., 0., 0.])
    """
    r = require_rotation("rotation", rotation)
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = (r[..., i, j] - r[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    xy, xz, yz = (r[..., i, j] + r[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    rows = [
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, xy, xz],
        [wy, xy, 1 - xx + yy - zz, yz],
        [wz, xz, yz, 1 - xx - yy + zz],
    ]
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    largest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    column = np.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    return canonical(column / np.linalg.norm(column, axis=-1, keepdims=True))


def require_rotation(name: str, rotation: np.ndarray) -> np.ndarray:
    """Return `rotation`, shape (..., 3, 3), if it is proper and orthogonal to 1e-6, or say what it is.

    Raises
    ------
    InputError
        If it is not.
    """
    r = require_finite(name, rotation)
    if r.shape[-2:] != (3, 3):
        raise InputError(f"{name}: shape {r.shape} where (..., 3, 3) is needed")
    error = np.abs(r @ np.swapaxes(r, -1, -2) - np.eye(3)).max(initial=0.0)
    if error > ROTATION_TOLERANCE:
        raise InputError(
            f"{name}: off orthogonal by {error:.2g}; a rotation matrix (to {ROTATION_TOLERANCE:g}) is needed"
        )
    if (np.linalg.det(r) < 0).any():
        raise InputError(f"{name}: a reflection (determinant -1) where a rotation is needed")
    return r
