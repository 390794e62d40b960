"""All 78 entries of Tables 1-5 against 50-digit derivatives, and their collapse to [J e]x R."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from exactgrad.pulses.reference import augmented, finite_difference, grape, steps, tables
from exactgrad.rotations import maps, quaternions

# (theta_xy, alpha, theta_z): generic, small, beyond a turn, negative z, other quadrants.
POINTS = [(1.1, 0.4, 0.7), (2.5, -2.1, -1.3), (0.02, 1.9, 0.05), (5.0, 3.0, 6.0), (0.9, -0.8, 0.0), (3.1, 5.2, -0.4)]
H = mp.mpf(10) ** -20
CARTESIAN, POLAR = ("x", "y", "z"), ("alpha", "xy", "z")


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def cartesian(point: tuple) -> np.ndarray:
    theta_xy, alpha, theta_z = point
    return np.array([theta_xy * np.cos(alpha), theta_xy * np.sin(alpha), theta_z])


def mp_cartesian(point: list) -> list:
    theta_xy, alpha, theta_z = point
    return [theta_xy * mp.cos(alpha), theta_xy * mp.sin(alpha), theta_z]


def mp_rotation(t: list) -> mp.matrix:
    x, y, z = t
    return mp.expm(mp.matrix([[0, -z, y], [z, 0, -x], [-y, x, 0]]))


def mp_quaternion(t: list) -> mp.matrix:
    """(w, x, y, z) from exp(-i t.I), by the power series of the 2 x 2 matrix."""
    x, y, z = t
    u = mp.expm(-0.5j * mp.matrix([[z, x - 1j * y], [x + 1j * y, -z]]))
    return mp.matrix([u[0, 0].real, -u[1, 0].imag, u[1, 0].real, -u[0, 0].imag])


def mp_derivative(function, point: list, index: int) -> np.ndarray:
    """Central difference with h = 1e-20 in 50 digits: 30 digits and more are right."""
    ends = []
    for sign in (1, -1):
        shifted = [mp.mpf(float(value)) for value in point]
        shifted[index] += sign * H
        ends.append(function(shifted))
    return np.array(((ends[0] - ends[1]) / (2 * H)).tolist(), dtype=float).squeeze()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("index", range(3))
def test_tables_1_and_2(point: tuple, index: int) -> None:
    theta = cartesian(point)
    printed = tables.table_derivatives_cartesian(theta)[index]
    assert np.abs(printed - mp_derivative(mp_rotation, theta, index)).max() < 1e-12
    assert np.abs(printed - maps.dexp(theta, np.eye(3)[index])).max() < 1e-12


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("index, control", [(0, "xy"), (1, "alpha"), (2, "z")])
def test_tables_3_and_4(point: tuple, index: int, control: str) -> None:
    printed = tables.table_derivatives_polar(*point)[POLAR.index(control)]
    expected = mp_derivative(lambda p: mp_rotation(mp_cartesian(p)), point, index)
    assert np.abs(printed - expected).max() < 1e-12
    theta = cartesian(point)
    assert np.abs(printed - maps.dexp(theta, direction(point, control))).max() < 1e-12
    assert np.abs(augmented.augmented_exponential(theta, control)[1] - expected).max() < 1e-12


def direction(point: tuple, control: str) -> np.ndarray:
    theta_xy, alpha, _ = point
    return {
        "alpha": theta_xy * np.array([-np.sin(alpha), np.cos(alpha), 0.0]),
        "xy": np.array([np.cos(alpha), np.sin(alpha), 0.0]),
        "z": np.array([0.0, 0.0, 1.0]),
    }[control]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("index", range(3))
def test_table_5_cartesian(point: tuple, index: int) -> None:
    theta = cartesian(point)
    printed = tables.quaternion_derivatives_cartesian(theta)[index]
    assert np.abs(printed - mp_derivative(mp_quaternion, theta, index)).max() < 1e-12
    turn = maps.left_jacobian(theta)[:, index] / 2
    collapsed = quaternions.multiply([0.0, *turn], quaternions.from_rotation_vector(theta))
    assert np.abs(printed - collapsed).max() < 1e-12


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("index, control", [(0, "xy"), (1, "alpha"), (2, "z")])
def test_table_5_polar(point: tuple, index: int, control: str) -> None:
    printed = tables.quaternion_derivatives_polar(*point)[POLAR.index(control)]
    expected = mp_derivative(lambda p: mp_quaternion(mp_cartesian(p)), point, index)
    assert np.abs(printed - expected).max() < 1e-12
    assert np.abs(augmented.augmented_quaternion(cartesian(point), control)[1] - expected).max() < 1e-12


def test_there_are_78_entries_and_each_is_tested_alone() -> None:
    """A wrong sign in any one entry is larger than the tolerance of the tests above, at some point of theirs."""
    count = 0
    stacks = [
        np.stack([tables.table_derivatives_cartesian(cartesian(point)) for point in POINTS]),
        np.stack([tables.table_derivatives_polar(*point) for point in POINTS]),
        np.stack([tables.quaternion_derivatives_cartesian(cartesian(point)) for point in POINTS]),
        np.stack([tables.quaternion_derivatives_polar(*point) for point in POINTS]),
    ]
    for stack in stacks:
        entries = stack.reshape(len(POINTS), -1)
        count += entries.shape[1]
        identically_zero = (entries == 0).all(axis=0)
        assert (np.abs(entries[:, ~identically_zero]).max(axis=0) > 1e-3).all()
    assert count == 78


def test_the_tables_are_nan_at_no_rotation_and_the_collapsed_form_is_not() -> None:
    assert np.isnan(tables.table_derivatives_cartesian([0.0, 0.0, 0.0])).all()
    assert np.isnan(tables.quaternion_derivatives_cartesian([0.0, 0.0, 0.0])).all()
    off_resonance = tables.table_derivatives_polar(0.0, 0.3, 1.0)  # blanked, yet it turns
    assert np.isnan(off_resonance[1, :2, :2]).all()
    assert np.isfinite(off_resonance[[0, 2]]).all()
    assert np.array_equal(maps.dexp([0.0, 0.0, 0.0], [1.0, 0.0, 0.0]), maps.skew([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("length, lost", [(1e-4, 1e-13), (1e-6, 1e-11), (1e-8, 1e-10)])
def test_the_tables_lose_digits_towards_zero(length: float, lost: float) -> None:
    theta = length * np.random.default_rng(0).normal(size=(200, 3))
    exact = np.stack([maps.dexp(theta, axis) for axis in np.eye(3)], axis=-3)
    assert np.abs(tables.table_derivatives_cartesian(theta) - exact).max() > lost
    assert np.abs(exact - maps.skew(np.eye(3)) @ maps.exp(theta)[:, None]).max() < length * 3  # the limit


@pytest.mark.parametrize("length", [0.0, 1e-200, 1e-6, 1.0, 7.0])
@pytest.mark.parametrize("control", augmented.CONTROLS)
def test_augmented_exponentials_are_exact_for_all_five_controls(length: float, control: str) -> None:
    """Also for the phase and the amplitude, for which the paper says there is no generator."""
    theta = length * np.array([[0.6, 0.64, -0.48], [-0.28, 0.0, 0.96]])
    e = augmented.control_direction(theta, control)
    rotation, derivative = augmented.augmented_exponential(theta, control)
    assert np.allclose(rotation, maps.exp(theta), atol=1e-14)
    assert np.allclose(derivative, maps.dexp(theta, e), atol=2e-14)
    q, dq = augmented.augmented_quaternion(theta, control)
    turn = np.einsum("sij,sj->si", maps.left_jacobian(theta), e) / 2
    half = np.concatenate([np.zeros((2, 1)), turn], axis=-1)
    assert np.allclose(q, quaternions.from_rotation_vector(theta), atol=1e-14)
    assert np.allclose(dq, quaternions.multiply(half, quaternions.from_rotation_vector(theta)), atol=2e-14)


@pytest.mark.parametrize("control", augmented.CONTROLS)
def test_finite_differences_are_right_to_seven_digits_and_grape_to_first_order(control: str) -> None:
    theta = np.array([[0.6, 0.64, -0.48], [-0.28, 0.1, 0.96]])
    _, exact = augmented.augmented_exponential(theta, control)
    _, exact_q = augmented.augmented_quaternion(theta, control)
    for difference, expected in (
        (finite_difference.difference_matrix(theta, control), exact),
        (finite_difference.difference_quaternion(theta, control), exact_q),
    ):
        assert 1e-10 < np.abs(difference - expected).max() < 1e-7
    errors = []
    for length in (1e-2, 1e-3):
        _, exact = augmented.augmented_exponential(length * theta, control)
        _, exact_q = augmented.augmented_quaternion(length * theta, control)
        error = np.abs(grape.first_order_matrix(length * theta, control) - exact).max()
        assert np.abs(grape.first_order_quaternion(length * theta, control) - exact_q).max() < error
        errors.append(error)
    power = np.log10(errors[0] / errors[1])
    assert power == pytest.approx(2.0 if control == "alpha" else 1.0, abs=0.05)  # alpha has one more theta_xy


def test_steps_are_rotations_also_at_zero() -> None:
    theta = np.concatenate([np.zeros((1, 3)), np.random.default_rng(1).normal(0, 2, (20, 3))])
    assert np.allclose(steps.rotation_matrices(theta), maps.exp(theta), atol=3e-15)
    q = quaternions.from_rotation_vector(theta)
    assert np.allclose(steps.step_quaternions(theta), q, atol=2e-15)
    assert np.allclose(steps.product(q, q[::-1]), quaternions.multiply(q, q[::-1]), atol=2e-15)
