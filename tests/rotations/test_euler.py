"""Euler angles: round trips, gimbal lock, SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exactgrad.errors import InputError
from exactgrad.rotations import euler, maps

SCIPY_LETTERS = {"intrinsic-ZYZ": "ZYZ", "intrinsic-ZYX": "ZYX", "extrinsic-XYZ": "xyz"}
angles = st.tuples(*[st.floats(-7.0, 7.0)] * 3).map(np.array)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(angles, st.sampled_from(euler.CONVENTIONS))
def test_against_scipy_and_back(given_angles: np.ndarray, convention: str) -> None:
    matrix = euler.to_matrix(given_angles, convention)
    assert np.allclose(matrix, Rotation.from_euler(SCIPY_LETTERS[convention], given_angles).as_matrix(), atol=3e-15)
    assert np.allclose(euler.to_matrix(euler.from_matrix(matrix, convention), convention), matrix, atol=2e-15)


@pytest.mark.parametrize("convention", euler.CONVENTIONS)
def test_angles_in_range_come_back(convention: str) -> None:
    middle = 1.3
    given_angles = np.array([[-3.0, middle, 2.0], [0.5, middle, -0.1]])
    assert np.allclose(
        euler.from_matrix(euler.to_matrix(given_angles, convention), convention), given_angles, atol=1e-14
    )


@pytest.mark.parametrize("convention", euler.CONVENTIONS)
@pytest.mark.parametrize("off", [0.0, 1e-300, 1e-15, 1e-12, 1e-8, 1e-4])
@pytest.mark.parametrize("end", [0, 1])
def test_gimbal_lock_reproduces_the_matrix(convention: str, off: float, end: int) -> None:
    locks = (0.0, np.pi) if convention == "intrinsic-ZYZ" else (np.pi / 2, -np.pi / 2)
    matrix = euler.to_matrix([0.7, locks[end] + off, -0.4], convention)
    back = euler.from_matrix(matrix, convention)
    assert np.isfinite(back).all()
    assert np.allclose(euler.to_matrix(back, convention), matrix, atol=2e-15)


def test_exact_lock_puts_the_whole_turn_into_one_angle() -> None:
    assert np.allclose(euler.from_matrix(maps.exp([0.0, 0.0, 0.9]), "intrinsic-ZYZ"), [0.9, 0.0, 0.0], atol=1e-15)
    locked = euler.to_matrix([0.2, np.pi / 2, 0.7], "extrinsic-XYZ")
    assert np.allclose(euler.from_matrix(locked, "extrinsic-XYZ"), [0.0, np.pi / 2, 0.5], atol=1e-15)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="convention 'ZYZ': must be one of intrinsic-ZYZ"):
        euler.to_matrix([0.0, 0.0, 0.0], "ZYZ")
    with pytest.raises(InputError, match=r"angles: shape \(2,\)"):
        euler.to_matrix([0.0, 0.0], "intrinsic-ZYZ")
    with pytest.raises(InputError, match="off orthogonal"):
        euler.from_matrix(np.ones((3, 3)), "intrinsic-ZYX")
