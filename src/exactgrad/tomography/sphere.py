"""Axes on the unit sphere: a chart without a pole for solvers, and the field's two angles.

A solver moves an unnormalised vector m; the axis is u = m/|m|. u and -u are the same axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class UnitVectors:
    """The transform u = m/|m| of vectors with their components first, shape (3, N); m = 0 has no axis, and gives u = 0.

    Examples
    --------
    >>> UnitVectors().apply(np.array([[0.0], [0.0], [-4.0]])).T.tolist()
    [[0.0, 0.0, -1.0]]
    """

    def _axes(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        largest = np.abs(m).max(axis=0, initial=0.0)  # so that no square over- or underflows
        largest = np.where(largest > 0.0, largest, 1.0)
        scaled = m / largest
        length = np.sqrt(np.sum(scaled * scaled, axis=0))
        inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0.0)
        return scaled * inverse, inverse / largest

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return u."""
        return self._axes(x)[0]

    def push(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return (1 - u u^T) v/|m|; the Jacobian is symmetric."""
        u, inverse = self._axes(x)
        return inverse * (v - u * np.sum(u * v, axis=0))

    pull = push

    def pull_tangent(self, x: np.ndarray, v: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Return the derivative of ``pull(x, g)`` along v."""
        u, inverse = self._axes(x)
        along, of_g = np.sum(u * v, axis=0), np.sum(u * g, axis=0)
        du = inverse * (v - u * along)
        change = du * of_g + u * np.sum(du * g, axis=0)
        return -inverse * (inverse * along * (g - u * of_g) + change)


def axis_from_angles(theta_op: Any, phi_op: Any) -> np.ndarray:
    """Return u = (sin T cos F, sin T sin F, cos T), shape (..., 3), of the angles T = theta_op, F = phi_op, rad.

    Examples
    --------
    >>> axis_from_angles(0.0, 1.0).tolist()
    [0.0, 0.0, 1.0]
    """
    theta, phi = np.broadcast_arrays(np.asarray(theta_op, dtype=float), np.asarray(phi_op, dtype=float))
    return np.stack((np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)), axis=-1)


def angles_from_axis(axis: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return theta_op in [0, pi] and phi_op in (-pi, pi], rad, of axes, shape (..., 3) and any length.

    Examples
    --------
    >>> [float(angle) for angle in angles_from_axis([0.0, 2.0, 0.0])] == [np.pi / 2, np.pi / 2]
    True
    """
    x, y, z = np.moveaxis(np.asarray(axis, dtype=float), -1, 0)
    return np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)


def angle_gradients(theta_op: np.ndarray, phi_op: np.ndarray, by_axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives by theta_op and phi_op of what has the derivative `by_axis`, shape (..., 3), by u.

    Regular everywhere: the note's own form divides by sin(Theta).
    """
    st, ct, sp, cp = np.sin(theta_op), np.cos(theta_op), np.sin(phi_op), np.cos(phi_op)
    x, y, z = np.moveaxis(by_axis, -1, 0)
    return ct * (cp * x + sp * y) - st * z, st * (cp * y - sp * x)
