"""The paper's misprinted equations, shown wrong as printed and right as corrected (Slad & Luy, Eqs. 14-55)."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy.linalg import expm

from exactgrad.pulses.reference import steps, tables

SPIN = 0.5 * np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
PRINTED_G = np.array(  # Eq. 54: real and symmetric
    [
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 0], [1, 0, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
    ]
)
CORRECT_G = np.array(
    [
        [[0, 0, 0], [0, 0, -1j], [0, 1j, 0]],
        [[0, 0, 1j], [0, 0, 0], [-1j, 0, 0]],
        [[0, -1j, 0], [1j, 0, 0], [0, 0, 0]],
    ]
)
CHAIN = np.random.default_rng(3).normal(0, 0.9, (6, 3))


def propagator(theta: np.ndarray) -> np.ndarray:
    return expm(-1j * np.tensordot(theta, SPIN, axes=1))


def chain_product(thetas: np.ndarray) -> np.ndarray:
    total = np.eye(2)
    for theta in thetas:
        total = propagator(theta) @ total
    return total


def overlap(p: np.ndarray, x: np.ndarray) -> float:
    return float(np.trace(p.conj().T @ x).real) / 2


def test_audit_eq6_needs_the_bare_generator() -> None:
    """<lambda_j| -i [H_1x, rho_j]> is d/d(omega_x dt) only if H_1x is I_x, not omega_x I_x as Eq. 2 defines it."""
    theta, rho, target = np.array([1e-4, -2e-4, 1.5e-4]), np.array([0.3, -0.4, 0.8]), np.array([0.5, 0.7, -0.2])
    exact = target @ (expm_derivative(theta, 0) @ rho)
    rho_matrix, target_matrix = (np.tensordot(v, SPIN, axes=1) for v in (steps.rotation_matrices(theta) @ rho, target))
    commutator = -1j * (SPIN[0] @ rho_matrix - rho_matrix @ SPIN[0])
    first_order = 2 * np.trace(target_matrix.conj().T @ commutator).real
    assert first_order == pytest.approx(exact, abs=1e-3)
    assert theta[0] * first_order != pytest.approx(exact, rel=0.5)


def expm_derivative(theta: np.ndarray, index: int) -> np.ndarray:
    """dR/dtheta by central differences of SciPy's exponential."""

    def rotation(t: np.ndarray) -> np.ndarray:
        return expm(-1j * np.tensordot(t, CORRECT_G, axes=1)).real

    h = 1e-5 * np.eye(3)[index]
    return (rotation(theta + h) - rotation(theta - h)) / 2e-5


def test_audit_eq14_is_a_product_not_a_commutator() -> None:
    """Re<P_j| -i [I_k, X_j]> is not the first-order gradient; Re<P_j| -i I_k X_j> is, and without Dt."""
    small, j, h = 0.02 * CHAIN, 2, 1e-6
    target = chain_product(small[::-1] + 0.5)
    x_j = chain_product(small[: j + 1])
    p_j = np.linalg.inv(chain_product(small[j + 1 :])) @ target
    for k in range(3):
        ends = [chain_product(small + sign * h * np.eye(6)[:, j : j + 1] * np.eye(3)[k]) for sign in (1, -1)]
        exact = (overlap(target, ends[0]) - overlap(target, ends[1])) / (2 * h)
        product = overlap(p_j, -1j * SPIN[k] @ x_j)
        printed = overlap(p_j, -1j * (SPIN[k] @ x_j - x_j @ SPIN[k]))
        assert product == pytest.approx(exact, abs=0.01)
        assert abs(printed - exact) > 0.1


def test_audit_eq17_the_costate_starts_at_the_next_step() -> None:
    """lambda_j = R_{j+1}^T ... R_N^T lambda_F; with R_j^T in front, as printed, Eq. 25 is not the gradient."""
    rotations, rho0, target, j = steps.rotation_matrices(CHAIN), np.array([0.0, 0.0, 1.0]), np.array([0.6, 0.8, 0.0]), 3
    before = rotations[2] @ rotations[1] @ rotations[0] @ rho0
    costate = rotations[4].T @ rotations[5].T @ target
    derivative = tables.table_derivatives_cartesian(CHAIN[j])[0]
    chain = rotations.copy()
    chain[j] = derivative
    exact = target @ chain[5] @ chain[4] @ chain[3] @ before
    assert costate @ derivative @ before == pytest.approx(exact, abs=1e-14)
    assert abs((rotations[j].T @ costate) @ derivative @ before - exact) > 0.05


def test_audit_eq23_counts_the_offset_once() -> None:
    """theta_z holds the offset already; the middle form of Eq. 23 adds it again and n is no unit vector."""
    theta_x, theta_off, theta_z_control = 0.4, 0.7, 0.1
    theta_z = theta_z_control + theta_off
    length = np.hypot(theta_x, theta_z)
    assert (theta_x / length) ** 2 + (theta_z / length) ** 2 == pytest.approx(1)
    assert (theta_x / length) ** 2 + ((theta_z + theta_off) / length) ** 2 > 1.5


def test_audit_eq26_has_theta_xy_squared_under_its_root() -> None:
    """(Dt^2 omega_rf)^2 as printed is not theta_xy^2 = Dt^2 omega_rf^2, and n is no unit vector."""
    dt, omega, theta_z = 10e-6, 2 * np.pi * 10e3, 0.4
    square = (omega * dt) ** 2 + theta_z**2
    printed = (dt**2 * omega) ** 2 + theta_z**2
    assert steps.polar_step(omega * dt, 0.0, theta_z).theta == pytest.approx(np.sqrt(square))
    assert printed == pytest.approx(0.16, rel=1e-6)  # the amplitude has dropped out
    assert square / printed == pytest.approx(3.467, abs=1e-3)  # |n|^2 as printed, where 1 is needed


def test_audit_eq34_element_22_is_d() -> None:
    """With +B_2 in the second diagonal place, as printed, the product of unit quaternions is no unit quaternion."""

    def printed(second: np.ndarray, first: np.ndarray) -> np.ndarray:
        a, b, c, d = second[1], second[2], second[3], second[0]
        matrix = np.array([[d, -c, b, a], [c, b, -a, b], [-b, a, d, c], [-a, -b, -c, d]])
        x, y, z, w = matrix @ np.array([first[1], first[2], first[3], first[0]])
        return np.array([w, x, y, z])

    second, first = steps.step_quaternions(CHAIN[:2])
    u = propagator(CHAIN[0]) @ propagator(CHAIN[1])
    expected = [u[0, 0].real, -u[1, 0].imag, u[1, 0].real, -u[0, 0].imag]
    assert np.allclose(steps.product(second, first), expected, atol=1e-15)
    assert np.abs(printed(second, first) - expected).max() > 0.05
    assert abs(np.linalg.norm(printed(second, first)) - 1) > 0.01


def test_audit_eq35_the_sign_of_the_quaternion_counts() -> None:
    q = steps.step_quaternions(np.array([0.0, 0.0, np.pi]))
    full_turn_later = steps.step_quaternions(np.array([0.0, 0.0, 3 * np.pi]))
    assert q @ full_turn_later == pytest.approx(-1)


def power_map(theta: list, p_max: mp.mpf) -> list:
    """Eq. 46: all amplitudes scaled so that the mean square stays below p_max."""
    s = mp.sqrt(sum(t * t for t in theta) / len(theta) / p_max)
    return [t * mp.tanh(s) / s for t in theta]


def test_audit_eq49_and_50_the_jacobian_of_the_power_map() -> None:
    """Eq. 49 is right; Eq. 50 has a wrong sign and theta_j^2 where theta_j theta_k stands."""
    with mp.workdps(50):
        theta, p_max, h = [mp.mpf(v) for v in ("0.7", "1.3", "0.2", "-0.9")], mp.mpf("0.5"), mp.mpf(10) ** -20
        total = sum(t * t for t in theta)
        s = mp.sqrt(total / len(theta) / p_max)
        g, sech2 = mp.tanh(s) / s, 1 - mp.tanh(s) ** 2
        for j in range(4):
            up, down = list(theta), list(theta)
            up[j] += h
            down[j] -= h
            exact = [(a - b) / (2 * h) for a, b in zip(power_map(up, p_max), power_map(down, p_max), strict=True)]
            share = theta[j] ** 2 / total
            assert abs((1 - share) * g + share * sech2 - exact[j]) < 1e-28  # Eq. 49
            for k in set(range(4)) - {j}:
                assert abs(theta[j] * theta[k] / total * (sech2 - g) - exact[k]) < 1e-28
                assert abs(share * g + share * sech2 - exact[k]) > 0.01  # Eq. 50 as printed
                assert abs(share * (sech2 - g) - exact[k]) > 0.005  # its sign corrected alone


def test_audit_eq46_never_reaches_its_limit() -> None:
    with mp.workdps(30):
        reduced = power_map([mp.mpf(1)] * 5, mp.mpf(1))
        assert sum(t * t for t in reduced) / 5 == pytest.approx(float(mp.tanh(1) ** 2))  # 58 % of the power allowed


def test_audit_eq53_the_corner_holds_no_time_step() -> None:
    """With Dt in the corner the block is dR/domega = Dt dR/dtheta."""
    theta, dt = CHAIN[0], 1e-5
    augmented = np.zeros((6, 6), dtype=complex)
    augmented[:3, :3] = augmented[3:, 3:] = -1j * np.tensordot(theta, CORRECT_G, axes=1)
    exact = tables.table_derivatives_cartesian(theta)
    for k in range(3):
        augmented[:3, 3:] = -1j * CORRECT_G[k]
        assert np.allclose(expm(augmented)[:3, 3:], exact[k], atol=1e-14)
        augmented[:3, 3:] = -1j * CORRECT_G[k] * dt
        assert np.allclose(expm(augmented)[:3, 3:], dt * exact[k], atol=1e-19)


def test_audit_eq54_generators_as_printed_do_not_rotate() -> None:
    theta = CHAIN[0]
    expected = steps.rotation_matrices(theta)
    assert np.allclose(expm(-1j * np.tensordot(theta, CORRECT_G, axes=1)), expected, atol=1e-15)
    printed = expm(-1j * np.tensordot(theta, PRINTED_G, axes=1))
    assert np.abs(printed - expected).max() > 0.3
    assert np.abs(printed.imag).max() > 0.1  # it is not even real
