"""exp, log and the left Jacobian against 50-digit mpmath and SciPy, at the easy angles and at the hard ones."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from exactgrad.errors import InputError
from exactgrad.rotations import maps
from exactgrad.rotations.logarithm import log

ANGLES = [0.0, 1e-300, 1e-12, 1e-8, 1e-4, 0.5, 1.0, 1.0 + 1e-12, 2.0, np.pi - 1e-8, np.pi, 4.0, 2 * np.pi, 20.0]
AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.6, 0.0, 0.8], [2 / 7, -3 / 7, 6 / 7]])
VECTORS = [angle * axis for angle in ANGLES for axis in AXES]

finite = st.floats(-8.0, 8.0)
vectors = st.tuples(finite, finite, finite).map(np.array)
law = settings(deadline=None, derandomize=True, max_examples=60)


def mp_generator(t: list) -> mp.matrix:
    x, y, z = t
    return mp.matrix([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def mp_exp(t: list) -> mp.matrix:
    """exp([t]x) by the power series of the matrix, squared back: no trigonometry, no Rodrigues."""
    return mp.expm(mp_generator([mp.mpf(v) for v in t]))


def mp_jacobian(t: np.ndarray) -> np.ndarray:
    """J = integral of exp(s [t]x) over 0 <= s <= 1: the upper right block of an augmented exponential."""
    augmented = mp.zeros(6)
    augmented[:3, :3] = mp_generator([mp.mpf(v) for v in t])
    augmented[:3, 3:] = mp.eye(3)
    return to_float(mp.expm(augmented)[:3, 3:])


def to_float(matrix: mp.matrix) -> np.ndarray:
    return np.array(matrix.tolist(), dtype=float)


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def planted_transpose(t: np.ndarray) -> np.ndarray:
    return maps.exp(t).T


def planted_sign_of_b(t: np.ndarray) -> np.ndarray:
    return maps.left_jacobian(-t)


@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-9, 1e-4, 0.3, 1.0, 1.5, np.pi, 6.0, 20.0, 300.0])
def test_even_coefficients(angle: float) -> None:
    x = angle * angle
    theta = mp.sqrt(mp.mpf(x))
    series = [mp.nsum(lambda k, m=m: (-mp.mpf(x)) ** k / mp.factorial(2 * k + m), [0, 40]) for m in (1, 2, 3)]
    closed = [mp.sin(theta) / theta, (1 - mp.cos(theta)) / x, (theta - mp.sin(theta)) / theta**3] if x > 1 else series
    got = maps.even_coefficients(x)
    for value, expected, start in zip(got, closed, (1, 2, 6), strict=True):
        assert abs(mp.mpf(float(value)) - expected) < 6e-16 / start


def test_even_coefficients_of_an_array_are_those_of_its_elements() -> None:
    x = np.geomspace(1e-20, 1e5, 101).reshape(1, 101)
    together = maps.even_coefficients(x)
    for index in (0, 40, 80, 100):
        alone = maps.even_coefficients(x[0, index])
        assert all(float(t[0, index]) == float(s) for t, s in zip(together, alone, strict=True))
    assert all(part.shape == (0,) for part in maps.even_coefficients(np.zeros(0)))


@pytest.mark.parametrize("t", VECTORS)
def test_exp_against_the_matrix_exponential(t: np.ndarray) -> None:
    expected = to_float(mp_exp(t))
    tolerance = 1e-15 * max(1.0, np.linalg.norm(t))
    assert np.abs(maps.exp(t) - expected).max() < tolerance
    assert np.allclose(maps.exp(t), expm(maps.skew(t)), atol=1e-13)
    v = np.array([0.3, -0.7, 0.2])
    assert np.abs(maps.rotate(t, v) - expected @ v).max() < tolerance
    if np.linalg.norm(t) > 1e-10 and np.abs(np.sin(np.linalg.norm(t))) > 1e-10:
        assert np.abs(planted_transpose(t) - expected).max() > 10 * tolerance


@pytest.mark.parametrize("t", VECTORS)
def test_left_jacobian_against_its_integral(t: np.ndarray) -> None:
    expected = mp_jacobian(t)
    assert np.abs(maps.left_jacobian(t) - expected).max() < 1e-15
    m = np.array([0.3, -0.7, 0.2])
    assert np.abs(maps.left_jacobian_transpose_apply(t, m) - expected.T @ m).max() < 1e-15
    length = np.linalg.norm(t)
    if length > 1e-10 and abs(1 - np.cos(length)) > 1e-10:
        assert np.abs(planted_sign_of_b(t) - expected).max() > 1e-13


@pytest.mark.parametrize("t", VECTORS)
def test_dexp_against_a_50_digit_derivative(t: np.ndarray) -> None:
    e = np.array([0.48, -0.6, 0.64])
    h = mp.mpf(10) ** -20
    shifted = [mp_exp([mp.mpf(a) + sign * h * mp.mpf(b) for a, b in zip(t, e, strict=True)]) for sign in (1, -1)]
    expected = to_float((shifted[0] - shifted[1]) / (2 * h))
    tolerance = 2e-15 * max(1.0, np.linalg.norm(t))
    assert np.abs(maps.dexp(t, e) - expected).max() < tolerance
    first_order = maps.skew(e) @ maps.exp(t)  # GRAPE's: right at t = 0 only
    assert np.linalg.norm(t) < 1e-10 or np.abs(first_order - expected).max() > tolerance


@pytest.mark.parametrize("t", VECTORS)
def test_left_jacobian_inverse(t: np.ndarray) -> None:
    if np.linalg.norm(t) == 2 * np.pi:
        with pytest.raises(InputError, match="whole number of turns"):
            maps.left_jacobian_inverse(t)
        return
    assert np.abs(maps.left_jacobian_inverse(t) @ mp_jacobian(t) - np.eye(3)).max() < 1e-13


@pytest.mark.parametrize("t", VECTORS)
def test_log_brings_exp_back(t: np.ndarray) -> None:
    rotation = maps.exp(t)
    back = log(rotation)
    assert np.linalg.norm(back) <= np.pi + 1e-15
    assert np.abs(maps.exp(back) - rotation).max() < 1e-15 * max(3.0, np.linalg.norm(t))
    if np.linalg.norm(t) < np.pi - 1e-9:
        assert np.abs(back - t).max() <= 1e-15 * max(1.0, np.linalg.norm(t) * 10)


def test_log_of_small_turns_keeps_their_digits() -> None:
    t = np.array([1e-12, -2e-12, 3e-12])
    assert np.allclose(log(maps.exp(t)), t, rtol=1e-15, atol=0)


@pytest.mark.parametrize("axis", np.vstack([np.eye(3), [[0.6, 0.8, 0.0], [0.0, 0.6, -0.8], [2 / 7, -3 / 7, 6 / 7]]]))
def test_log_at_pi_has_a_positive_first_component(axis: np.ndarray) -> None:
    half_turn = 2 * np.outer(axis, axis) - np.eye(3)
    assert np.allclose(log(half_turn), np.pi * axis, atol=1e-14)


@law
@given(vectors, vectors)
def test_group_laws(s: np.ndarray, t: np.ndarray) -> None:
    r = maps.exp(t)
    assert np.allclose(r @ r.T, np.eye(3), atol=2e-14)
    assert np.linalg.det(r) == pytest.approx(1, abs=2e-14)
    assert np.allclose(maps.exp(-t), r.T, atol=1e-14)
    assert np.allclose(maps.exp(0.3 * t) @ maps.exp(0.7 * t), r, atol=3e-14)
    assert np.allclose(r @ maps.exp(s) @ r.T, maps.exp(r @ s), atol=1e-13)
    assert np.allclose(r @ maps.left_jacobian(t).T, maps.left_jacobian(t), atol=1e-13)  # J = R J^T
    assert np.allclose(r - np.eye(3), maps.skew(t) @ maps.left_jacobian(t), atol=3e-14)


@law
@given(vectors, vectors)
def test_transpose_is_the_adjoint(t: np.ndarray, m: np.ndarray) -> None:
    e = np.array([0.1, -0.5, 0.9])
    assert maps.left_jacobian_transpose_apply(t, m) @ e == pytest.approx(m @ (maps.left_jacobian(t) @ e), abs=1e-13)


def test_leading_axes_are_free() -> None:
    t = np.random.default_rng(0).normal(size=(2, 5, 3))
    v = np.array([1.0, 2.0, 3.0])
    assert maps.exp(t).shape == maps.left_jacobian_inverse(t).shape == maps.dexp(t, v).shape == (2, 5, 3, 3)
    assert log(maps.exp(t)).shape == maps.rotate(t, v).shape == (2, 5, 3)
    assert np.allclose(maps.rotate(t, v), maps.exp(t) @ v, atol=1e-14)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: maps.exp([1.0, 2.0]), r"t: shape \(2,\)"),
        (lambda: maps.exp([1.0, np.nan, 0.0]), r"t\[1\] = nan"),
        (lambda: maps.even_coefficients([-1.0]), "x = -1 rad"),
        (lambda: log(2 * np.eye(3)), "off orthogonal by 3"),
        (lambda: log(-np.eye(3)), "reflection"),
        (lambda: log(np.eye(2)), r"shape \(2, 2\)"),
    ],
)
def test_bad_input_is_named(call, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
