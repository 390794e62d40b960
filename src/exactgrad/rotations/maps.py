"""Rotation vectors on arrays: exponential and left Jacobian, finite and exact at every point.

Units: radians. float64, the last axis holds (x, y, z); the axes before it are free. Rotations are active and
right-handed: with [t]x v = t x v and x = |t|^2,

    R(t) = I + a [t]x + b [t]x^2         J(t) = I + b [t]x + c [t]x^2         dR = [J dt]x R

The even functions a, b, c come from the same polynomials and the same doubling rule as the kernels'. Every function
raises `InputError` if an array has another last axis or is not finite.
"""

from __future__ import annotations

import numpy as np

from exactgrad.errors import InputError, require_finite
from exactgrad.rotations.scalar import base_b, base_c, double_angle


def even_coefficients(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a = sin|t|/|t|, b = (1 - cos|t|)/x and c = (1 - a)/x for x = |t|^2.

    Parameters
    ----------
    x : array_like, any shape
        Squared rotation angles, rad^2, >= 0.

    Returns
    -------
    a, b, c : ndarray, the shape of `x`
        Without square root or division, exact at zero (1, 1/2, 1/6).

    Raises
    ------
    InputError
        If a value is not finite or negative.

    Examples
    --------
    >>> a, b, c = even_coefficients([0.0, (np.pi / 2) ** 2])
    >>> a.round(12), b.round(12)
    (array([1.        , 0.63661977]), array([0.5       , 0.40528473]))
    """
    x = require_finite("x", x, "rad^2")
    if (x < 0).any():
        raise InputError(f"x = {x.min():g} rad^2: a squared angle, >= 0, is needed")
    doublings = np.maximum(0, (np.frexp(x)[1] + 1) // 2)  # x / 4^doublings <= 1
    reduced = np.ldexp(x, -2 * doublings)
    b, c = base_b(reduced), base_c(reduced)
    for done in range(int(doublings.max(initial=0))):
        larger, b_doubled, c_doubled = double_angle(reduced, b, c)
        again = doublings > done
        reduced, b, c = (np.where(again, new, old) for new, old in ((larger, reduced), (b_doubled, b), (c_doubled, c)))
    return 1.0 - x * c, b, c


def require_last_axis(name: str, values: np.ndarray, length: int) -> np.ndarray:
    """Return `values` as float64 if they are finite and of shape (..., length), or say what they are.

    Raises
    ------
    InputError
        If they are not.
    """
    array = require_finite(name, values)
    if array.ndim == 0 or array.shape[-1] != length:
        raise InputError(f"{name}: shape {array.shape} where (..., {length}) is needed")
    return array


def skew(v: np.ndarray) -> np.ndarray:
    """Return [v]x, shape (..., 3, 3), for v of shape (..., 3): ``skew(v) @ w == cross(v, w)``.

    Examples
    --------
    >>> skew([0.0, 0.0, 1.0]) @ [1.0, 0.0, 0.0]
    array([0., 1., 0.])
    """
    v = require_last_axis("v", v, 3)
    out = np.zeros((*v.shape, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        out[..., k, j], out[..., j, k] = v[..., i], -v[..., i]
    return out


def rotate(t: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return vectors `v` turned by rotation vectors `t`, both of shape (..., 3), broadcast against each other.

    Raises
    ------
    InputError
        If the last axis is not of length 3, or a value is not finite.

    Examples
    --------
    >>> rotate([0.0, 0.0, np.pi / 2], [1.0, 0.0, 0.0]).round(12) + 0.0
    array([0., 1., 0.])
    """
    t, v = require_last_axis("t", t, 3), require_last_axis("v", v, 3)
    a, b, _ = _columns(t)
    turned = np.cross(t, v)
    return v + a * turned + b * np.cross(t, turned)


def exp(t: np.ndarray) -> np.ndarray:
    """Return the rotation matrices R(t), shape (..., 3, 3), of rotation vectors `t`, shape (..., 3).

    Raises
    ------
    InputError
        If the last axis is not of length 3, or a value is not finite.

    Examples
    --------
    >>> exp([np.pi / 2, 0.0, 0.0]).round(12) + 0.0
    array([[ 1.,  0.,  0.],
           [ 0.,  0., -1.],
           [ 0.,  1.,  0.]])
    """
    t = require_last_axis("t", t, 3)
    a, b, _ = even_coefficients(_square(t))
    return _polynomial(t, a, b)


def left_jacobian(t: np.ndarray) -> np.ndarray:
    """Return J(t), shape (..., 3, 3), with R(t + dt) = R(J dt) R(t) to first order, for t of shape (..., 3).

    Raises
    ------
    InputError
        If the last axis is not of length 3, or a value is not finite.

    Examples
    --------
    >>> left_jacobian([0.0, 0.0, 0.0])
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    t = require_last_axis("t", t, 3)
    _, b, c = even_coefficients(_square(t))
    return _polynomial(t, b, c)


def left_jacobian_transpose_apply(t: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return J(t)^T m = m - b t x m + c t x (t x m): the gradient by t where m is that by a space-fixed turn.

    Parameters
    ----------
    t, m : array_like, shape (..., 3)
        Rotation vectors and cotangents, broadcast against each other.

    Examples
    --------
    >>> left_jacobian_transpose_apply([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    array([1., 2., 3.])
    """
    t, m = require_last_axis("t", t, 3), require_last_axis("m", m, 3)
    _, b, c = _columns(t)
    turned = np.cross(t, m)
    return m - b * turned + c * np.cross(t, turned)


def left_jacobian_inverse(t: np.ndarray) -> np.ndarray:
    """Return the inverse of J(t), shape (..., 3, 3), for t of shape (..., 3).

    J^-1 = I - [t]x / 2 + d [t]x^2 with d = (b' - c') / (4 a'), where a', b', c' belong to half the angle: nothing
    cancels at zero.

    Raises
    ------
    InputError
        If a rotation is by 2 pi, 4 pi, ... , where J has no inverse.

    Examples
    --------
    >>> t = np.array([0.3, -1.2, 2.0])
    >>> bool(np.abs(left_jacobian(t) @ left_jacobian_inverse(t) - np.eye(3)).max() < 1e-15)
    True
    """
    t = require_last_axis("t", t, 3)
    x = _square(t)
    a, b, c = even_coefficients(x / 4)
    if (np.abs(a) < 1e-15).any():
        raise InputError("t: a rotation by a whole number of turns, where the left Jacobian has no inverse")
    return _polynomial(t, np.full_like(x, -0.5), (b - c) / (4 * a))


def dexp(t: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Return the exact derivative of R(t) along `e`, [J(t) e]x R(t), shape (..., 3, 3), for t and e of shape (..., 3).

    All 54 derivatives of Tables 1-4 of Slad & Luy are this expression.

    Examples
    --------
    >>> dexp([0.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    turn = (left_jacobian(t) @ require_last_axis("e", e, 3)[..., None])[..., 0]
    return skew(turn) @ exp(t)


def _square(t: np.ndarray) -> np.ndarray:
    return (t * t).sum(axis=-1)


def _columns(t: np.ndarray) -> tuple[np.ndarray, ...]:
    """a, b and c with an axis of length one, to multiply vectors."""
    return tuple(coefficient[..., None] for coefficient in even_coefficients(_square(t)))


def _polynomial(t: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """I + first [t]x + second [t]x^2."""
    cross = skew(t)
    return np.eye(3) + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)
