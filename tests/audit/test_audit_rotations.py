"""The mathematics that the three systems share: every statement of docs/gradients/index.md, against an oracle.

Angles in radians. The oracles: mpmath's matrix exponential with 40 digits, SciPy's rotations, and differences of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exactgrad.pulses.reference import tables
from exactgrad.rotations import maps, quaternions
from exactgrad.tomography import model
from exactgrad.tomography.geometry import Geometry

States = Callable[[str], None]
EXACT = 1e-20  # of 40 digits
VECTORS = ((0.3, -1.2, 2.0), (4.0, 3.0, -5.0), (1e-3, 2e-3, -1e-3), (0.0, 0.0, 0.0))
RNG = np.random.default_rng(11)
CHAIN = RNG.normal(0, 1, (7, 3))
V, G = RNG.normal(0, 1, (2, 3))


@pytest.fixture(autouse=True)
def forty_digits() -> Iterator[None]:
    with mp.workdps(40):
        yield


def cross_matrix(t: Any) -> mp.matrix:
    x, y, z = (mp.mpf(value) for value in t)
    return mp.matrix([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def exponential(t: Any) -> mp.matrix:
    return mp.expm(cross_matrix(t))


def slope(t: Any, e: Any) -> mp.matrix:
    """dR along e, from the exponential."""
    h = mp.mpf(10) ** -15
    ends = [exponential([mp.mpf(a) + sign * h * mp.mpf(b) for a, b in zip(t, e, strict=True)]) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * h)


def series(x: Any, first: int) -> Any:
    """Sum of (-x)^k/(2k + first)!: a, b, c of the page for first = 1, 2, 3."""
    return mp.nsum(lambda k: (-x) ** int(k) / mp.factorial(2 * int(k) + first), [0, 60])


def polynomial(t: Any, first: int) -> mp.matrix:
    """I + series [t]x + next series [t]x^2: R for first = 1, J for first = 2."""
    k, x = cross_matrix(t), mp.fsum(mp.mpf(value) ** 2 for value in t)
    return mp.eye(3) + series(x, first) * k + series(x, first + 1) * k * k


def largest(matrix: mp.matrix) -> Any:
    return max(abs(value) for value in matrix)


def array(matrix: mp.matrix) -> np.ndarray:
    return np.array(matrix.tolist(), dtype=float)


def rotation(t: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(t).as_matrix()


def end(chain: np.ndarray, start: np.ndarray = V) -> np.ndarray:
    for t in chain:
        start = rotation(t) @ start
    return start


def differences(function: Callable[[np.ndarray], float], at: np.ndarray, h: float = 1e-5) -> np.ndarray:
    gradient = np.empty(at.shape)
    for index in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[index] = h
        gradient[index] = (function(at + step) - function(at - step)) / (2 * h)
    return gradient


# One rotation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", VECTORS)
def test_audit_rotation_formula(t: tuple) -> None:
    """R = I + a [t]x + b [t]x^2 is the exponential, also at zero and beyond a turn."""
    assert largest(polynomial(t, 1) - exponential(t)) < EXACT
    assert np.abs(maps.exp(t) - array(exponential(t))).max() < 1e-14


def test_audit_even_functions() -> None:
    """a, b, c are power series in x = |t|^2, 1, 1/2 and 1/6 at zero, with a = 1 - x c; and they double."""
    for x in (mp.mpf(0), mp.mpf("0.3"), mp.mpf(30)):
        a, b, c = (series(x, first) for first in (1, 2, 3))
        if x:
            t = mp.sqrt(x)
            closed = (mp.sin(t) / t, (1 - mp.cos(t)) / x, (1 - mp.sin(t) / t) / x)
            assert max(abs(p - q) for p, q in zip((a, b, c), closed, strict=True)) < EXACT
        else:
            assert (a, b) == (1, mp.mpf(1) / 2)
            assert abs(c - mp.mpf(1) / 6) < EXACT
        assert abs(a - (1 - x * c)) < EXACT
        assert abs(series(4 * x, 2) - a * a / 2) < EXACT
        assert abs(series(4 * x, 3) - (b + c - x * b * c) / 4) < EXACT
        ours = [float(value) for value in maps.even_coefficients(float(x))]
        assert np.allclose(ours, [float(a), float(b), float(c)], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("t", VECTORS)
def test_audit_turn_of_a_derivative(t: tuple) -> None:
    """dR = [J dt]x R: a change of t turns what was turned already, by J dt."""
    for e in np.eye(3):
        found = slope(t, e)
        turn = found * exponential(t).T
        assert largest(turn + turn.T) < EXACT  # antisymmetric: a cross product
        j = polynomial(t, 2) * mp.matrix(e)
        assert largest(found - cross_matrix(j) * exponential(t)) < EXACT
        assert np.abs(maps.dexp(t, e) - array(found)).max() < 1e-14


@pytest.mark.parametrize("t", VECTORS)
def test_audit_jacobian_is_a_mean(t: tuple) -> None:
    """J is the mean of R(s t), s from 0 to 1: the turn made early is turned on by the rest of the step."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    mean = sum(w / 2 * rotation((s + 1) / 2 * np.array(t)) for s, w in zip(nodes, weights, strict=True))
    assert np.abs(mean - array(polynomial(t, 2))).max() < 1e-13
    assert np.abs(mean - maps.left_jacobian(t)).max() < 1e-13


def test_audit_54_entries() -> None:
    """All 54 derivatives of Tables 1 to 4 of the pulse paper are this one formula."""
    amplitude, alpha, z = 1.1, 0.4, 0.7
    t = np.array([amplitude * np.cos(alpha), amplitude * np.sin(alpha), z])
    directions = {"alpha": [-t[1], t[0], 0.0], "xy": [np.cos(alpha), np.sin(alpha), 0.0], "z": [0.0, 0.0, 1.0]}
    cartesian, polar = tables.table_derivatives_cartesian(t), tables.table_derivatives_polar(amplitude, alpha, z)
    for k, e in enumerate(np.eye(3)):
        assert np.abs(cartesian[k] - maps.dexp(t, e)).max() < 1e-14
    for k, e in enumerate(directions.values()):
        assert np.abs(polar[k] - maps.dexp(t, e)).max() < 1e-14
    assert cartesian.size + polar.size == 54


def test_audit_quaternion_derivative() -> None:
    """dQ = (0, J dt) Q/2, the same turn."""
    for t in CHAIN:
        for e in np.eye(3):
            turn = np.concatenate(([0.0], maps.left_jacobian(t) @ e))
            ends = [quaternions.from_rotation_vector(t + sign * 1e-6 * e) for sign in (1, -1)]
            found = quaternions.multiply(turn, quaternions.from_rotation_vector(t)) / 2
            assert np.allclose(found, (ends[0] - ends[1]) / 2e-6, atol=1e-9)


# From a loss back ----------------------------------------------------------------------------------------------------


def loss(v: np.ndarray) -> float:
    return float(G @ v + 0.5 * v @ v * v[0])


def loss_gradient(v: np.ndarray) -> np.ndarray:
    return G + v * v[0] + 0.5 * (v @ v) * np.eye(3)[0]


def test_audit_gradient_is_a_torque() -> None:
    """dPhi/dt = J^T m with m = v x dPhi/dv at the turned v, J^T m = m - b t x m + c t x (t x m)."""
    for t in (*CHAIN, np.zeros(3)):
        turned = rotation(t) @ V
        m = np.cross(turned, loss_gradient(turned))
        exact = differences(lambda s: loss(rotation(s) @ V), t)
        assert np.allclose(maps.left_jacobian(t).T @ m, exact, atol=1e-8)
        assert np.allclose(maps.left_jacobian_transpose_apply(t, m), exact, atol=1e-8)


def test_audit_chain_one_vector_back() -> None:
    """m_{j-1} = R_j^T m_j: one vector goes back through the chain and leaves every gradient behind."""
    final = end(CHAIN)
    m, found = np.cross(final, loss_gradient(final)), np.empty_like(CHAIN)
    for j in range(len(CHAIN) - 1, -1, -1):
        found[j] = maps.left_jacobian_transpose_apply(CHAIN[j], m)
        back = m - np.cross(CHAIN[j], found[j])
        m = rotation(CHAIN[j]).T @ m
        assert np.allclose(back, m, atol=1e-14)  # the step back comes with the gradient
    assert np.allclose(found, differences(lambda chain: loss(end(chain)), CHAIN), atol=1e-8)


def test_audit_chain_of_a_whole_rotation() -> None:
    """For Phi = Q_F . Q the vector at the end is vec(Q_F Q*)/2; all else stays."""
    q_goal = quaternions.from_rotation_vector([0.4, -0.3, 1.1])

    def quality(chain: np.ndarray) -> float:
        total = np.array([1.0, 0, 0, 0])
        for t in chain:
            total = quaternions.multiply(quaternions.from_rotation_vector(t), total)
        return float(q_goal @ total)

    total = np.array([1.0, 0, 0, 0])
    for t in CHAIN:
        total = quaternions.multiply(quaternions.from_rotation_vector(t), total)
    m = quaternions.multiply(q_goal, quaternions.conjugate(total))[1:] / 2
    exact = differences(quality, CHAIN)
    for j in range(len(CHAIN) - 1, -1, -1):
        assert np.allclose(maps.left_jacobian_transpose_apply(CHAIN[j], m), exact[j], atol=1e-8)
        m = rotation(CHAIN[j]).T @ m


def test_audit_first_order_is_the_end_point(states: States) -> None:
    """GRAPE's gradient is m itself; the exact one is the mean of R(s t)^T m. They part with the angle."""
    m = np.cross(V, G)
    for degrees in (1, 10, 90):
        t = np.radians(degrees) * np.cross(m, [1.0, 0, 0]) / np.linalg.norm(np.cross(m, [1.0, 0, 0]))
        exact = maps.left_jacobian_transpose_apply(t, m)
        nodes, weights = np.polynomial.legendre.leggauss(12)
        mean = sum(w / 2 * maps.exp((s + 1) / 2 * t).T @ m for s, w in zip(nodes, weights, strict=True))
        assert np.allclose(mean, exact, atol=1e-14)
        states(f"{100 * np.linalg.norm(m - exact) / np.linalg.norm(exact):.0f} %")


# Where the rotations are in the three systems ------------------------------------------------------------------------


def test_audit_lattice_turn() -> None:
    """Diffraction: a crystal's turn moves its three lattice vectors; their torques add."""
    cell, q = RNG.normal(0, 1, (3, 3)), RNG.normal(0, 1, 3)

    def intensity(t: np.ndarray) -> float:
        h = (rotation(t) @ cell.T).T @ q  # Miller indices h_i = a_i . q
        return float(np.exp(-np.sum(np.sin(np.pi * h) ** 2)))

    for t in (np.zeros(3), np.array([0.02, -0.5, 0.3])):
        turned = (rotation(t) @ cell.T).T
        h = turned @ q
        by_h = -np.pi * np.sin(2 * np.pi * h) * intensity(t)
        m = np.sum(np.cross(turned, by_h[:, None] * q), axis=0)
        assert np.allclose(maps.left_jacobian_transpose_apply(t, m), differences(intensity, t), atol=1e-8)


def test_audit_axis_on_the_sphere() -> None:
    """Tomography: an axis moves on the sphere; its gradient is the part of dPhi/du across u, that of a turn u x it."""
    u, q = V / np.linalg.norm(V), G / np.linalg.norm(G)

    def density(m: np.ndarray) -> float:
        c = m @ q / np.linalg.norm(m)
        return float(np.exp(-2.0 * (1 - c * c)))

    by_u = 4.0 * (u @ q) * density(u) * q
    assert np.allclose(by_u - u * (u @ by_u), differences(density, u), atol=1e-9)
    turned = differences(lambda t: density(rotation(t) @ u), np.zeros(3))
    assert np.allclose(np.cross(u, by_u), turned, atol=1e-9)


def test_audit_projection_and_its_transpose() -> None:
    """<P f, g> = <f, P^T g>: what reads a detector back into the volume is the transpose of what filled it."""
    geometry = Geometry(rotation(V)[None], (6, 5), (4, 5, 3), [0.0, 1.0])
    matrix = model.joseph_matrix(geometry, 0)
    f, g = RNG.normal(size=(60, 2)), RNG.normal(size=(30, 2))
    ahead, back = np.sum(model.project(matrix, f) * g), np.sum(f * model.project_cotangent(matrix, g))
    assert abs(ahead - back) < 1e-14 * np.linalg.norm(f) * np.linalg.norm(g)


# Points where a formula fails though the function does not -----------------------------------------------------------


def test_audit_removable_singularities() -> None:
    """Each of the page's three forms is finite at its point, and the limit of the form that is not."""
    closed = [(1 - np.cos(t)) / t**2 for t in (1e-2, 1e-9)]
    assert closed[0] == pytest.approx(0.5, rel=1e-4)
    assert closed[1] == 0.0  # where 1/2 is right: the closed form has lost everything
    assert float(maps.even_coefficients(1e-18)[1]) == 0.5
    for theta in (1e-3, 1e-7):  # sin cos dTheta = -cos dcos, Theta = angle between u and q
        u, q = np.array([np.sin(theta), 0.0, np.cos(theta)]), np.array([0.0, 0.0, 1.0])
        du = np.array([np.cos(theta), 0.0, -np.sin(theta)])  # d u/d Theta
        assert -(u @ q) * (du @ q) == pytest.approx(np.sin(theta) * np.cos(theta), rel=1e-12)
    for modelled, e0 in ((0.0, 0.375), (1e-12, 0.375)):
        slope_of_root = np.imag(np.sqrt(modelled + 1e-30j + e0)) / 1e-30
        assert slope_of_root == pytest.approx(0.5 / np.sqrt(modelled + e0), rel=1e-15)


# How a gradient is checked -------------------------------------------------------------------------------------------


def test_audit_how_a_gradient_is_checked(states: States) -> None:
    """What differences, complex steps and Taylor remainders can see of one and the same derivative."""

    def function(x: Any) -> Any:
        return np.exp(np.sin(3 * x)) * x**2

    x = 0.7
    exact = np.exp(np.sin(3 * x)) * (3 * np.cos(3 * x) * x**2 + 2 * x)
    steps_ = 10.0 ** -np.arange(1, 13)
    central = np.array([(function(x + h) - function(x - h)) / (2 * h) for h in steps_])
    superscript = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    errors = np.abs(central / exact - 1)
    states("10" + str(round(np.log10(steps_[errors.argmin()]))).translate(superscript))
    assert 1e-13 < errors.min() < 1e-9
    assert abs(np.imag(function(x + 1e-30j)) / 1e-30 / exact - 1) < 1e-15
    for derivative, order in ((exact, 2.0), (1.001 * exact, 1.0)):  # a wrong one shows as slope 1
        remainder = [abs(function(x + h) - function(x) - h * derivative) for h in (1e-4, 1e-5)]
        assert np.log10(remainder[0] / remainder[1]) == pytest.approx(order, abs=0.3 if order == 1 else 0.05)
