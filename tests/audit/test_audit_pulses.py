"""The equations of Slad & Luy, "Analytical exact gradients", each as printed and as it must be.

Names as on docs/gradients/pulses.md; angles in radians. The oracles: matrix exponentials of the generators, SciPy's
rotations and mpmath's exponentials with 40 digits, and central differences of them, which in 40 digits are right to 25.
Of the package it takes the tables as typed from the paper, and the forms that are to be shown right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.reference import steps, tables
from exactgrad.pulses.reference.table6 import PAPER_US
from exactgrad.rotations import maps, quaternions

States = Callable[[str], None]
EXACT = 1e-20  # of 40 digits
ROUNDING = 1e-14

SPIN = 0.5 * np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])  # Eq. 56
PRINTED_G = np.array(  # Eq. 54: real and symmetric
    [[[0, 0, 0], [0, 0, 1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]]
)
SPIN_1 = 1j * np.array(  # what it must be: i times the antisymmetric ones
    [[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]]
)
CHAIN = np.random.default_rng(3).normal(0, 0.9, (6, 3))  # rotation vectors of six steps
START, TARGET = np.array([0.0, 0.0, 1.0]), np.array([0.6, 0.8, 0.0])
POINTS = ((1.1, 0.4, 0.7), (2.5, -2.1, -1.3), (0.02, 1.9, 0.05), (5.0, 3.0, 6.0))  # theta_xy, alpha, theta_z


@pytest.fixture(autouse=True)
def forty_digits() -> Iterator[None]:
    with mp.workdps(40):
        yield


def rotation(theta: np.ndarray) -> np.ndarray:
    """SciPy's, which Eq. 54's test holds to the exponential."""
    return Rotation.from_rotvec(theta).as_matrix()


def propagator(theta: np.ndarray) -> np.ndarray:
    return expm(-1j * np.tensordot(theta, SPIN, axes=1))


def chain_rotation(thetas: np.ndarray) -> np.ndarray:
    return np.linalg.multi_dot([rotation(t) for t in thetas[::-1]]) if len(thetas) > 1 else rotation(thetas[0])


def chain_propagator(thetas: np.ndarray) -> np.ndarray:
    total = np.eye(2)
    for theta in thetas:
        total = propagator(theta) @ total
    return total


def overlap(p: np.ndarray, x: np.ndarray) -> float:
    return float(np.trace(p.conj().T @ x).real) / 2


def slope(quality: Callable[[np.ndarray], float], step: int, k: int, h: float = 1e-5) -> float:
    """Central difference of the quality of the chain by control k of a step."""
    ends = []
    for sign in (1, -1):
        moved = CHAIN.copy()
        moved[step, k] += sign * h
        ends.append(quality(moved))
    return (ends[0] - ends[1]) / (2 * h)


def transfer(thetas: np.ndarray) -> float:
    return float(TARGET @ chain_rotation(thetas) @ START)


def mp_rotation(t: Any) -> mp.matrix:
    x, y, z = t
    return mp.expm(mp.matrix([[0, -z, y], [z, 0, -x], [-y, x, 0]]))


def mp_quaternion(t: Any) -> mp.matrix:
    x, y, z = t
    u = mp.expm(-0.5j * mp.matrix([[z, x - 1j * y], [x + 1j * y, -z]]))
    return mp.matrix([u[0, 0].real, -u[1, 0].imag, u[1, 0].real, -u[0, 0].imag])


def polar(point: Any) -> list:
    theta_xy, alpha, theta_z = point
    return [theta_xy * mp.cos(alpha), theta_xy * mp.sin(alpha), theta_z]


def mp_slope(function: Callable[[Any], Any], at: Any, k: int) -> list:
    h, ends = mp.mpf(10) ** -15, []
    for sign in (1, -1):
        moved = [mp.mpf(value) for value in at]
        moved[k] += sign * h
        ends.append(function(moved))
    return [(a - b) / (2 * h) for a, b in zip(ends[0], ends[1], strict=True)]


def worst(printed: Any, true: Any) -> Any:
    return max(abs(a - b) for a, b in zip(printed, true, strict=True))


def mp_step(point: Any, half: bool) -> tuple[Any, Any]:
    """The step as the paper's tables want it, Cartesian and polar, in 40 digits (Eqs. 20-23, 26 corrected, 27)."""
    txy, alpha, tz = (mp.mpf(value) for value in point)
    theta = mp.sqrt(txy**2 + tz**2)
    nxy, nz, argument = txy / theta, tz / theta, theta / 2 if half else theta
    nx, ny, s, c = mp.cos(alpha) * nxy, mp.sin(alpha) * nxy, mp.sin(argument), mp.cos(argument)
    cartesian = steps.CartesianStep(nx, ny, nz, theta, s, c)
    return cartesian, steps.PolarStep(nx, ny, nz, nxy, txy, theta, s, c, mp.sin(alpha), mp.cos(alpha))


# 2.1: the frame -------------------------------------------------------------------------------------------------------


def test_audit_paper_eq1_to_4() -> None:
    """Hamiltonian, propagator and sandwich turn the Bloch vector of rho by the rotation vector dt (wx, wy, woff)."""
    total = chain_propagator(CHAIN)
    rho = total @ np.tensordot(START, SPIN, axes=1) @ total.conj().T
    vector = [2 * np.trace(rho @ spin).real for spin in SPIN]
    assert np.allclose(vector, chain_rotation(CHAIN) @ START, atol=ROUNDING)
    nu, phase = 1234.0, 0.7
    both = 2 * np.pi * nu * (np.cos(phase) * SPIN[0] + np.sin(phase) * SPIN[1])  # Eq. 2, amplitude and phase
    assert np.allclose(both, np.tensordot(2 * np.pi * nu * np.array([np.cos(phase), np.sin(phase), 0]), SPIN, axes=1))


def test_audit_paper_eq5() -> None:
    """The overlap of operators is half that of vectors: a factor left open, which Eq. 24 fixes."""
    operators = [np.tensordot(v, SPIN, axes=1) for v in (TARGET, chain_rotation(CHAIN) @ START)]
    trace = np.trace(operators[0].conj().T @ operators[1]).real
    assert trace / transfer(CHAIN) == pytest.approx(0.5, abs=ROUNDING)


def test_audit_paper_eq6(states: States) -> None:
    """-i dt [I_x, rho_j] is first order; with H_1x, the x part of Eq. 2 (omega_x I_x), it is omega_x times that."""
    dt, omega = 1e-7, 2 * np.pi * np.array([10e3, -20e3, 15e3])
    rho, target = np.array([0.3, -0.4, 0.8]), np.array([0.5, 0.7, -0.2])
    h = 1.0
    turned = [target @ rotation(dt * (omega + d * np.eye(3)[0])) @ rho for d in (h, -h)]
    exact = (turned[0] - turned[1]) / (2 * h)
    after, costate = (np.tensordot(v, SPIN, axes=1) for v in (rotation(dt * omega) @ rho, target))
    for generator, right in ((SPIN[0], True), (omega[0] * SPIN[0], False)):
        found = 2 * np.trace(costate.conj().T @ (-1j * dt * (generator @ after - after @ generator))).real
        if right:
            assert found == pytest.approx(exact, rel=0.01)
        else:
            states(f"{found / exact / 1e4:.1f} · 10⁴")


def test_audit_paper_eq7_to_9() -> None:
    """A small step along either gradient raises the quality; the same epsilon is two step lengths, dt^2 apart."""
    gradient = np.array([[slope(transfer, j, k) for k in range(3)] for j in range(6)])
    assert transfer(CHAIN + 1e-3 * gradient) - transfer(CHAIN) == pytest.approx(1e-3 * np.sum(gradient**2), rel=0.01)
    dt, epsilon = 1e-5, 1e-3
    omega_step = epsilon * (dt * gradient)  # dPhi/domega = dt dPhi/dtheta
    assert np.allclose(dt * omega_step, dt**2 * (epsilon * gradient))


def test_audit_paper_eq10_and_11() -> None:
    """The mean over offsets and B1, and the mean of the gradients, in the package's quality."""
    job = {
        "pulse": {"duration_us": 30.0, "step_us": 10.0, "controls": "xy"},
        "target": {"transfer": ["z", "x"]},
        "ensemble": {"offsets_hz": [-4000.0, 500.0, 3000.0], "b1": [0.9, 1.1]},
    }
    problem = PulseProblem.from_job(job)
    x = np.random.default_rng(0).normal(0, 1, problem.size)
    u = problem.scale_hz * x.reshape(2, 3)  # channels x steps
    qualities = []
    for offset in job["ensemble"]["offsets_hz"]:
        for b1 in job["ensemble"]["b1"]:
            angles = 2 * np.pi * 1e-5 * np.column_stack((b1 * u[0], b1 * u[1], np.full(3, offset)))
            qualities.append(np.array([1.0, 0, 0]) @ chain_rotation(angles) @ START)
    assert 1 - problem.value_and_gradient(x)[0] == pytest.approx(np.mean(qualities), abs=ROUNDING)


def test_audit_paper_eq13_and_35() -> None:
    """Needs trace/2 to score 1 at the target, and scores -1 for the same rotation one turn later."""
    u = chain_propagator(CHAIN)
    assert np.trace(u.conj().T @ u).real == pytest.approx(2)
    assert overlap(u, u) == pytest.approx(1)
    q = steps.step_quaternions(np.array([0.3, 0.2, 1.0]))
    later = np.array([0.3, 0.2, 1.0]) * (1 + 2 * np.pi / np.linalg.norm([0.3, 0.2, 1.0]))
    assert q @ steps.step_quaternions(later) == pytest.approx(-1)
    assert np.allclose(rotation(later), rotation(np.array([0.3, 0.2, 1.0])), atol=1e-14)


def test_audit_paper_eq14(states: States) -> None:
    """Re<P_j | -i I_x X_j>, a product and without dt, since the derivative is by theta; not a commutator."""
    small, j, h = 0.02 * CHAIN, 2, 1e-6
    target = chain_propagator(small[::-1] + 0.5)
    x_j = chain_propagator(small[: j + 1])
    p_j = np.linalg.inv(chain_propagator(small[j + 1 :])) @ target
    for k in range(3):
        moved = h * np.eye(6)[:, [j]] * np.eye(3)[k]
        exact = (
            overlap(target, chain_propagator(small + moved)) - overlap(target, chain_propagator(small - moved))
        ) / (2 * h)
        product = overlap(p_j, -1j * SPIN[k] @ x_j)
        commutator = overlap(p_j, -1j * (SPIN[k] @ x_j - x_j @ SPIN[k]))
        assert product == pytest.approx(exact, abs=0.01)
        assert abs(commutator - exact) > 0.1
        if k == 0:
            for value in (exact, product, commutator):
                states(f"{value:.3f}".replace("-", "−"))


# 2.2: rotations of the Bloch vector -----------------------------------------------------------------------------------


def test_audit_paper_eq15_and_16() -> None:
    """rho_j = R_j ... R_1 rho_0 is Eq. 4 in three numbers."""
    u = chain_propagator(CHAIN[:4])
    rho = u @ np.tensordot(START, SPIN, axes=1) @ u.conj().T
    assert np.allclose([2 * np.trace(rho @ s).real for s in SPIN], chain_rotation(CHAIN[:4]) @ START, atol=ROUNDING)


def test_audit_paper_eq17(states: States) -> None:
    """lambda_j begins with R_{j+1}^-1, as in Eq. 24; with R_j^-1, as printed, Eq. 25 is not the gradient."""
    j = 3
    before = chain_rotation(CHAIN[:j]) @ START
    derivative = tables.table_derivatives_cartesian(CHAIN[j])
    costate = chain_rotation(CHAIN[j + 1 :]).T @ TARGET
    exact = np.array([slope(transfer, j, k) for k in range(3)])
    assert np.allclose(derivative @ before @ costate, exact, atol=1e-9)
    printed = derivative @ before @ (rotation(CHAIN[j]).T @ costate)
    states(f"{100 * np.linalg.norm(printed - exact) / np.linalg.norm(exact):.0f} %")


def test_audit_paper_eq18_and_19() -> None:
    """Rodrigues' matrix and its index form are the active right-handed rotation, the sense of exp(-i theta.I)."""
    signs = {(0, 1): 2, (1, 2): 0, (2, 0): 1}
    for theta in CHAIN:
        length = np.linalg.norm(theta)
        n, half = theta / length, length / 2
        by_index = np.empty((3, 3))
        for h in range(3):
            for k in range(3):
                if h == k:
                    by_index[h, k] = np.cos(half) ** 2 + (2 * n[h] ** 2 - 1) * np.sin(half) ** 2
                else:
                    epsilon = 1 if (h, k) in signs else -1
                    third = 3 - h - k
                    by_index[h, k] = 2 * n[h] * n[k] * np.sin(half) ** 2 - epsilon * n[third] * np.sin(length)
        assert np.allclose(by_index, rotation(theta), atol=ROUNDING)
        assert np.allclose(steps.rotation_matrices(theta), rotation(theta), atol=ROUNDING)


def test_audit_paper_eq20_to_22() -> None:
    """Angle and axis from the frequencies: n theta is dt times the field."""
    dt, omega, offset = 1e-5, np.array([2e4, -3e4, 1e4]), 5e4
    field = omega + offset * np.eye(3)[2]
    step = steps.cartesian_step(dt * field)
    assert step.theta == pytest.approx(dt * np.sqrt(omega[0] ** 2 + omega[1] ** 2 + (omega[2] + offset) ** 2))
    assert np.allclose([step.nx, step.ny], field[:2] / np.linalg.norm(field), atol=1e-15)


def test_audit_paper_eq23(states: States) -> None:
    """theta_z holds the offset already; the middle form adds it again, and n is no unit vector."""
    theta_x, control, offset = 0.4, 0.1, 0.7
    theta_z = control + offset
    length = np.hypot(theta_x, theta_z)
    assert (theta_x / length) ** 2 + (theta_z / length) ** 2 == pytest.approx(1)
    states(f"{(theta_x / length) ** 2 + ((theta_z + offset) / length) ** 2:.2f}")


def test_audit_paper_eq24_and_25() -> None:
    """Quality from any place of the chain, and its exact gradient; n there is N, and lambda_n is lambda_F."""
    for j in range(5):
        costate, before = chain_rotation(CHAIN[j + 1 :]).T @ TARGET, chain_rotation(CHAIN[: j + 1]) @ START
        assert costate @ before == pytest.approx(transfer(CHAIN), abs=ROUNDING)
        gradient = tables.table_derivatives_cartesian(CHAIN[j]) @ rotation(CHAIN[j]).T @ before @ costate
        assert np.allclose(gradient, [slope(transfer, j, k) for k in range(3)], atol=1e-9)


def test_audit_paper_eq26(states: States) -> None:
    """Under the root stands dt^2 omega^2 = theta_xy^2, not (dt^2 omega)^2, which is not even an angle."""
    dt, omega, theta_z = 10e-6, 2 * np.pi * 10e3, 0.4
    square, printed = (omega * dt) ** 2 + theta_z**2, (dt**2 * omega) ** 2 + theta_z**2
    step = steps.polar_step(omega * dt, 0.3, theta_z)
    assert step.theta == pytest.approx(np.sqrt(square), rel=1e-15)
    assert step.nx**2 + step.ny**2 + step.nz**2 == pytest.approx(1)
    states(f"{square / printed:.2f}")


def test_audit_paper_eq27_and_28() -> None:
    """The polar angle, and the polar gradient of the chain with Tables 3 and 4."""
    for j, (x, y, z) in enumerate(CHAIN[:5]):
        amplitude, alpha = np.hypot(x, y), np.arctan2(y, x)
        assert np.hypot(amplitude, z) == pytest.approx(np.linalg.norm(CHAIN[j]))
        costate, before = chain_rotation(CHAIN[j + 1 :]).T @ TARGET, chain_rotation(CHAIN[: j + 1]) @ START
        before = rotation(CHAIN[j]).T @ before
        found = tables.table_derivatives_polar(amplitude, alpha, z) @ before @ costate
        g = np.array([slope(transfer, j, k) for k in range(3)])
        chained = [x * g[1] - y * g[0], np.cos(alpha) * g[0] + np.sin(alpha) * g[1], g[2]]
        assert np.allclose(found, chained, atol=1e-9)


# 2.3 and 2.4: quaternions ---------------------------------------------------------------------------------------------


def test_audit_paper_eq29_to_33() -> None:
    """A, B, C = n sin(theta/2), D = cos(theta/2): U = D - 2i (A I_x + B I_y + C I_z)."""
    for theta in CHAIN:
        d, a, b, c = steps.step_quaternions(theta)
        assert np.allclose(d * np.eye(2) - 2j * np.tensordot([a, b, c], SPIN, axes=1), propagator(theta), atol=1e-15)


def test_audit_paper_eq34(states: States) -> None:
    """Element (2,2) of the product's matrix is +D_2; with +B_2 the product is no unit quaternion."""
    second, first = steps.step_quaternions(CHAIN[:2])
    d, a, b, c = second
    u = propagator(CHAIN[0]) @ propagator(CHAIN[1])
    right = np.array([-u[1, 0].imag, u[1, 0].real, -u[0, 0].imag, u[0, 0].real])  # A, B, C, D
    column = np.array([*first[1:], first[0]])
    for element in (b, d):
        matrix = np.array([[d, -c, b, a], [c, element, -a, b], [-b, a, d, c], [-a, -b, -c, d]])
        product = matrix @ column
        if element == d:
            assert np.allclose(product, right, atol=1e-15)
        else:
            states(f"{np.linalg.norm(product):.2f}")
            states(f"{np.abs(product - right).max():.2f}")
    assert np.allclose(steps.product(second, first), [right[3], *right[:3]], atol=1e-15)


def test_audit_paper_eq36() -> None:
    """One step's quaternion replaced by its derivative, the rest as it is."""
    spinors = steps.step_quaternions(CHAIN)
    goal = chain_propagator(CHAIN[::-1] + 0.3)
    q_goal = np.array([goal[0, 0].real, -goal[1, 0].imag, goal[1, 0].real, -goal[0, 0].imag])
    for j in (0, 3, 5):
        derivatives = tables.quaternion_derivatives_cartesian(CHAIN[j])
        for k in range(3):
            total = np.array([1.0, 0, 0, 0])
            for i, q in enumerate(spinors):
                total = quaternions.multiply(derivatives[k] if i == j else q, total)
            exact = slope(lambda thetas: overlap(goal, chain_propagator(thetas)), j, k)
            assert q_goal @ total == pytest.approx(exact, abs=1e-9)


# 2.5: limits ----------------------------------------------------------------------------------------------------------


def test_audit_paper_eq37_to_45() -> None:
    """The tanh limit of the amplitude, the step it makes, and its slope sech^2."""
    limit, wish, alpha, theta_z = mp.mpf("0.8"), mp.mpf("1.3"), mp.mpf("0.4"), mp.mpf("0.5")
    reduced = limit * mp.tanh(wish / limit)
    assert reduced < limit
    n = [mp.cos(alpha) * reduced, mp.sin(alpha) * reduced, theta_z]
    theta = mp.sqrt(reduced**2 + theta_z**2)
    assert abs(mp.fsum(component**2 for component in n) / theta**2 - 1) < EXACT
    (true,) = mp_slope(lambda x: [limit * mp.tanh(x[0] / limit)], [wish], 0)
    assert abs(1 - mp.tanh(wish / limit) ** 2 - true) < EXACT
    assert abs(mp.sech(wish / limit) ** 2 - true) < EXACT


def test_audit_paper_eq43(states: States) -> None:
    """The second n_x is n_z: with two x components and no z there is no axis."""
    reduced, alpha, theta_z = 0.6, 0.4, 0.5
    theta = np.hypot(reduced, theta_z)
    in_plane = np.array([np.cos(alpha), np.sin(alpha)]) * reduced / theta
    assert in_plane @ in_plane + (theta_z / theta) ** 2 == pytest.approx(1)
    states(f"{np.linalg.norm([theta_z / theta, in_plane[1]]):.2f}")  # the second n_x in place of the first


def power_map(theta: Any, limit: Any) -> list:
    """Eqs. 46 and 47: all amplitudes scaled, the mean square stays below the limit."""
    s = mp.sqrt(mp.fsum(t * t for t in theta) / len(theta) / limit)
    return [t * mp.tanh(s) / s for t in theta]


AMPLITUDES, LIMIT = ("0.7", "1.3", "0.2", "-0.9"), "0.5"


def power_parts() -> tuple[list, Any, Any, Any]:
    theta = [mp.mpf(value) for value in AMPLITUDES]
    total = mp.fsum(t * t for t in theta)
    s = mp.sqrt(total / len(theta) / mp.mpf(LIMIT))
    return theta, total, mp.tanh(s) / s, mp.sech(s) ** 2


def test_audit_paper_eq46_to_48(states: States) -> None:
    """Right as a map; the reduced power is limit x tanh^2, below the limit whatever the controls are."""
    theta, total, _, _ = power_parts()
    reduced = power_map(theta, mp.mpf(LIMIT))
    s = mp.sqrt(total / len(theta) / mp.mpf(LIMIT))
    mean = mp.fsum(t * t for t in reduced) / len(theta)
    assert abs(mean - mp.mpf(LIMIT) * mp.tanh(s) ** 2) < EXACT
    at_limit = power_map([mp.mpf(1)] * 5, mp.mpf(1))
    states(f"{100 * float(mp.fsum(t * t for t in at_limit) / 5):.0f} %")
    quality = mp.matrix([mp.mpf(v) for v in ("0.3", "-0.2", "0.9", "0.4")])  # any gradient by the reduced ones
    for j in range(4):
        column = mp_slope(lambda x: power_map(x, mp.mpf(LIMIT)), theta, j)
        chained = mp.fsum(q * d for q, d in zip(quality, column, strict=True))
        (true,) = mp_slope(
            lambda x: [mp.fsum(q * r for q, r in zip(quality, power_map(x, mp.mpf(LIMIT)), strict=True))], theta, j
        )
        assert abs(chained - true) < EXACT


def test_audit_paper_eq49(states: States) -> None:
    """Right in value, with theta(i)^2 under the sum; as printed, with theta(j)^2, the share is 1/N for every step."""
    theta, total, g, sech2 = power_parts()
    errors = []
    for j in range(4):
        true = mp_slope(lambda x: power_map(x, mp.mpf(LIMIT)), theta, j)[j]
        share = theta[j] ** 2 / total
        assert abs((1 - share) * g + share * sech2 - true) < EXACT
        errors.append(abs((1 - mp.mpf(1) / 4) * g + sech2 / 4 - true))
    states(f"{float(max(errors)):.2f}")


def test_audit_paper_eq50(states: States) -> None:
    """theta_j theta_k (sech^2 - tanh(s)/s)/sum: the first term's sign is lost, and theta_k with it."""
    theta, total, g, sech2 = power_parts()
    as_printed, sign_only = mp.mpf(0), mp.mpf(0)
    for j in range(4):
        true = mp_slope(lambda x: power_map(x, mp.mpf(LIMIT)), theta, j)
        for k in set(range(4)) - {j}:
            assert abs(theta[j] * theta[k] / total * (sech2 - g) - true[k]) < EXACT
            share = theta[j] ** 2 / total
            as_printed = max(as_printed, abs(share * (g + sech2) - true[k]))
            sign_only = max(sign_only, abs(share * (sech2 - g) - true[k]))
    states(f"{float(as_printed):.2f}")
    states(f"{float(sign_only):.2f}")


def test_audit_paper_eq51_and_52(states: States) -> None:
    """Consistent where P is the mean of nu_rf^2 in Hz^2; with P of Eq. 47, in rad^2, they are not."""
    dt, nu = 10e-6, np.random.default_rng(0).uniform(0, 1e4, 50)
    theta = 2 * np.pi * dt * nu
    energy = np.mean(nu**2) * dt * 50
    assert (2 * np.pi) ** 2 * dt * energy == pytest.approx(np.sum(theta**2))
    wrong = (2 * np.pi) ** 2 * dt * np.mean(theta**2) * dt * 50
    states(f"{np.sum(theta**2) / wrong / 1e8:.1f} · 10⁸")


# 3.1: augmented exponentials ------------------------------------------------------------------------------------------


def augmented(theta: np.ndarray, corner: np.ndarray, generators: np.ndarray) -> np.ndarray:
    size = generators.shape[1]
    block = np.zeros((2 * size, 2 * size), dtype=complex)
    block[:size, :size] = block[size:, size:] = -1j * np.tensordot(theta, generators, axes=1)
    block[:size, size:] = -1j * corner
    return expm(block)[:size, size:]


def test_audit_paper_eq53() -> None:
    """The corner is -i G, without dt: with it the block is dR/domega = dt dR/dtheta."""
    theta, dt = CHAIN[0], 1e-5
    for k in range(3):
        true = maps.dexp(theta, np.eye(3)[k])
        assert np.allclose(augmented(theta, SPIN_1[k], SPIN_1), true, atol=ROUNDING)
        assert np.allclose(augmented(theta, dt * SPIN_1[k], SPIN_1), dt * true, atol=1e-19)


def test_audit_paper_eq54(states: States) -> None:
    """Printed real and symmetric, which does not rotate; they are i times antisymmetric ones."""
    theta = CHAIN[0]
    printed = expm(-1j * np.tensordot(theta, PRINTED_G, axes=1))
    right = rotation(theta)
    assert np.allclose(expm(-1j * np.tensordot(theta, SPIN_1, axes=1)), right, atol=ROUNDING)
    states(f"{np.abs(printed - right).max():.2f}")
    for j, k, m in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        assert np.allclose(SPIN_1[j] @ SPIN_1[k] - SPIN_1[k] @ SPIN_1[j], 1j * SPIN_1[m])
    commutator = PRINTED_G[0] @ PRINTED_G[1] - PRINTED_G[1] @ PRINTED_G[0]
    assert np.abs(commutator - 1j * PRINTED_G[2]).max() == pytest.approx(np.sqrt(2))


def test_audit_paper_eq55_and_56() -> None:
    """Right with spin operators (half of Pauli's matrices) and, again, no dt in the corner."""
    theta = CHAIN[1]
    for k in range(3):
        ends = [propagator(theta + sign * 1e-6 * np.eye(3)[k]) for sign in (1, -1)]
        assert np.allclose(augmented(theta, SPIN[k], SPIN), (ends[0] - ends[1]) / 2e-6, atol=1e-9)


def test_audit_paper_polar_generators() -> None:
    """The corner theta_xy (-sin a G_x + cos a G_y) gives dR/dalpha, cos a G_x + sin a G_y gives dR/dtheta_xy."""
    for point in POINTS:
        theta_xy, alpha, _ = point
        theta = np.array([float(value) for value in polar(point)])
        along = np.cos(alpha) * SPIN_1[0] + np.sin(alpha) * SPIN_1[1]
        across = theta_xy * (-np.sin(alpha) * SPIN_1[0] + np.cos(alpha) * SPIN_1[1])
        for k, corner in ((0, along), (1, across)):
            true = np.array(mp_slope(lambda p: mp_rotation(polar(p)), point, k), dtype=float).reshape(3, 3)
            assert np.allclose(augmented(theta, corner, SPIN_1), true, atol=1e-13)


# Tables 1-5 -----------------------------------------------------------------------------------------------------------


def check_table(columns: dict, half: bool, coordinates: int) -> None:
    """Every entry of some columns, in 40 digits, against the exponential's derivative (coordinates: 0 x, y, z; 1)."""
    order = (("x", "y", "z"), ("xy", "alpha", "z"))[coordinates]
    base = mp_quaternion if half else mp_rotation
    for point in POINTS:
        step = mp_step(point, half)[coordinates]
        at = point if coordinates else polar(point)
        for name, entries in columns.items():
            true = mp_slope((lambda p: base(polar(p))) if coordinates else base, at, order.index(name))
            assert worst(entries(step), true) < EXACT, name


def test_audit_paper_table1() -> None:
    check_table({"x": tables.d_theta_x, "y": tables.d_theta_y}, half=False, coordinates=0)


def test_audit_paper_table2() -> None:
    check_table({"z": tables.d_theta_z}, half=False, coordinates=0)


def test_audit_paper_table3() -> None:
    check_table({"alpha": tables.d_alpha, "xy": tables.d_theta_xy}, half=False, coordinates=1)
    _, step = mp_step(POINTS[0], half=False)
    assert abs(step.nxy**2 + step.nz**2 - 1) < EXACT  # the factor that dR_zz/dtheta_xy carries along


def test_audit_paper_table4() -> None:
    check_table({"z": tables.d_theta_z_polar}, half=False, coordinates=1)
    cartesian, step = mp_step(POINTS[1], half=False)
    assert worst(tables.d_theta_z(cartesian), tables.d_theta_z_polar(step)) < EXACT  # Table 2 once more


def test_audit_paper_table5() -> None:
    check_table(tables.QUATERNION_CARTESIAN, half=True, coordinates=0)
    check_table(tables.QUATERNION_POLAR, half=True, coordinates=1)


def test_audit_paper_tables_near_zero(states: States) -> None:
    """The entries divide by theta: digits are lost as it goes to zero, and nothing is left at zero."""
    axes = np.random.default_rng(0).normal(size=(20, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    superscript = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    for length in (1e-2, 1e-4, 1e-6):
        lost, kept = 0.0, 0.0
        for n in axes:
            theta = length * n
            printed = tables.table_derivatives_cartesian(theta)
            for k in range(3):
                true = np.array(mp_slope(mp_rotation, theta, k), dtype=float).reshape(3, 3)
                lost = max(lost, float(np.abs(printed[k] - true).max()))
                kept = max(kept, float(np.abs(maps.dexp(theta, np.eye(3)[k]) - true).max()))
        states("10" + str(round(np.log10(lost))).translate(superscript))
        assert kept < 1e-15
    assert np.isnan(tables.table_derivatives_cartesian(np.zeros(3))).any()
    assert np.isnan(tables.table_derivatives_polar(0.0, 0.3, 1.0)).any()  # a blanked step at any offset
    assert np.array_equal(maps.dexp(np.zeros(3), np.eye(3)[2]), maps.skew(np.eye(3)[2]))


# Numbers, units and claims --------------------------------------------------------------------------------------------

PER_MILLION = {"15N": 0.10136767, "13C": 0.25145020, "19F": 0.94094011}  # Larmor frequency relative to the proton's


def kilohertz(ppm: float, nucleus: str, proton_mhz: float) -> float:
    return ppm * proton_mhz * PER_MILLION[nucleus] / 1e3


def test_audit_paper_bandwidths(states: States) -> None:
    states(f"{1e3 * kilohertz(50, '15N', 1200):.0f} Hz")
    for value in (kilohertz(250, "13C", 600), kilohertz(266, "13C", 600), kilohertz(160, "13C", 1000)):
        states(f"{value:.1f} kHz")
    states(f"{kilohertz(200, '19F', 600):.0f} kHz")
    rectangular = 0.25 / 50e-6  # 90 degrees in 50 us: the amplitude of 5 kHz
    assert rectangular == pytest.approx(5000)


TABLE_7 = (  # iterations, s, printed time per iteration; steps of 1, 10, 50 us; excitation, then inversion
    ((4944, 665.4, 134.5), (424, 7.4, 17.4), (148, 0.598, 4.0)),
    ((1294, 306.2, 236.6), (152, 7.2, 47.3), (98, 0.277, 2.8)),
    ((777, 383.9, 494.0), (134, 7.6, 56.7), (119, 0.608, 5.1)),
    ((1083, 991.3, 915.5), (198, 12.8, 64.6), (65, 0.428, 6.5)),
    ((147, 17.7, 120.4), (146, 2.8, 19.1), (105, 0.407, 3.8)),
    ((765, 82.7, 108.1), (247, 5.5, 22.2), (85, 0.421, 4.9)),
    ((847, 53.7, 63.4), (1018, 8.1, 7.9), (82, 0.126, 1.5)),
    ((4805, 727.4, 151.3), (231, 5.4, 23.3), (87, 0.277, 3.1)),
    ((1427, 316.7, 221.9), (185, 6.8, 36.7), (70, 0.418, 5.9)),
    ((809, 488.6, 603.9), (1192, 21, 17.6), (78, 0.318, 4.0)),
    ((819, 632.9, 772.7), (173, 11.3, 65.3), (132, 0.74, 5.6)),
    ((331, 46.2, 139.5), (302, 3.5, 11.5), (95, 0.376, 3.9)),
    ((260, 40.8, 156.9), (121, 2.5, 20.6), (54, 0.228, 4.2)),
    ((573, 39.2, 68.4), (753, 4.4, 5.8), (88, 0.215, 2.4)),
)


def test_audit_paper_table7_time_per_iteration() -> None:
    """Time over iterations is the printed column in ms, all 42 of them; in us it would be a thousand times that."""
    for row in TABLE_7:
        for iterations, seconds, printed in row:
            assert 1e3 * seconds / iterations == pytest.approx(printed, abs=0.1, rel=0.01)


def test_audit_paper_table6_ratio(states: States) -> None:
    pairs = []
    for kind in ("dR", "dQ"):
        slow, fast = (np.array(PAPER_US[method, kind, "cartesian"]) for method in ("exponential", "analytical"))
        pairs.append(slow / fast)
    states(f"{np.min(pairs):.0f}")
    states(f"{np.max(pairs):.0f}")


def test_audit_paper_hessian(states: States) -> None:
    """The matrix would have the printed size; its product with a vector, in O(N) memory, is all a search needs."""
    states(f"{8 * 200_000**2 / 1e9:.0f} GB")
    job = {
        "pulse": {"duration_us": 60.0, "step_us": 10.0, "controls": "xy"},
        "target": {"rotation": {"axis": "x", "angle_deg": 90.0}},
        "ensemble": {"offsets_hz": [-2000.0, 0.0, 3000.0]},
    }
    problem = PulseProblem.from_job(job)
    x, v = np.random.default_rng(2).normal(0, 1, (2, problem.size))
    ends = [problem.value_and_gradient(x + sign * 1e-5 * v)[1] for sign in (1, -1)]
    assert np.allclose(problem.hessian_product(x, v), (ends[0] - ends[1]) / 2e-5, atol=1e-8)


def test_audit_paper_tanh_of_table7() -> None:
    """Eq. 46 bounds the mean power and lets single steps pass the amplitude that Table 7 limits; Eq. 39 does not."""
    theta = [mp.mpf("0.1")] * 9 + [mp.mpf(2)]
    limit = mp.mpf(1)
    assert max(power_map(theta, limit**2)) > limit
    assert max(limit * mp.tanh(t / limit) for t in theta) < limit
