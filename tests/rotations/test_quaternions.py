"""Quaternions against SciPy, against the rotation vectors, and by the laws of their group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exactgrad.errors import InputError
from exactgrad.rotations import maps, quaternions

finite = st.floats(-8.0, 8.0)
vectors = st.tuples(finite, finite, finite).map(np.array)
law = settings(deadline=None, derandomize=True, max_examples=60)
ANGLES = [0.0, 1e-300, 1e-160, 1e-12, 1e-8, 3e-8, 1e-4, 1.0, np.pi - 1e-8, np.pi]


@law
@given(vectors, vectors)
def test_products_are_those_of_the_matrices(s: np.ndarray, t: np.ndarray) -> None:
    p, q = quaternions.from_rotation_vector(s), quaternions.from_rotation_vector(t)
    product = quaternions.multiply(p, q)
    assert np.allclose(quaternions.to_matrix(product), maps.exp(s) @ maps.exp(t), atol=5e-14)
    assert np.allclose(quaternions.multiply(q, quaternions.conjugate(q)), [1, 0, 0, 0], atol=2e-14)
    v = np.array([0.2, 0.5, -0.8])
    assert np.allclose(quaternions.rotate(p, quaternions.rotate(q, v)), quaternions.rotate(product, v), atol=5e-14)
    wrong_order = quaternions.multiply(q, p)
    if np.linalg.norm(np.cross(s, t)) > 1e-3 and abs(p[0]) < 0.99 and abs(q[0]) < 0.99:
        assert not np.allclose(wrong_order, product, atol=1e-9)


@law
@given(vectors)
def test_against_scipy(t: np.ndarray) -> None:
    ours = quaternions.canonical(quaternions.from_rotation_vector(t))
    theirs = quaternions.canonical(Rotation.from_rotvec(t).as_quat(scalar_first=True))
    assert np.allclose(ours * np.sign(ours @ theirs), theirs, atol=2e-14)
    matrix = Rotation.from_rotvec(t).as_matrix()
    assert np.allclose(quaternions.to_matrix(ours), matrix, atol=3e-14)
    back = quaternions.from_matrix(matrix)
    assert np.allclose(back * np.sign(back @ theirs), theirs, atol=3e-14)


@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_vector_round_trip_at_hard_angles(angle: float) -> None:
    t = angle * np.array([2 / 7, -3 / 7, 6 / 7])
    back = quaternions.to_rotation_vector(quaternions.from_rotation_vector(t))
    assert np.allclose(back, t, rtol=4e-16 if angle < 1 else 1e-15, atol=0) or np.allclose(back, -t, atol=1e-8)
    opposite = quaternions.to_rotation_vector(-quaternions.from_rotation_vector(t))
    assert np.array_equal(opposite, back)


def test_every_branch_of_from_matrix_is_taken() -> None:
    half_turns = [np.eye(3), np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])]
    assert np.array_equal(quaternions.from_matrix(np.stack(half_turns)), np.eye(4))


def test_full_turn_keeps_its_sign_until_made_canonical() -> None:
    q = quaternions.from_rotation_vector([0.0, 0.0, 2 * np.pi])
    assert np.allclose(q, [-1, 0, 0, 0], atol=1e-15)
    assert np.allclose(quaternions.canonical(q), [1, 0, 0, 0], atol=1e-15)


@pytest.mark.parametrize("q", [[0.5, -0.5, 0.5, 0.5], [0.0, 0.6, -0.8, 0.0], [0.0, 0.0, 0.0, 1.0]])
def test_canonical_picks_one_of_the_pair(q: list) -> None:
    assert np.array_equal(quaternions.canonical(q), q)
    assert np.array_equal(quaternions.canonical(np.negative(q)), q)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match=r"q: shape \(3,\) where \(\.\.\., 4\)"):
        quaternions.to_matrix([1.0, 0.0, 0.0])
    with pytest.raises(InputError, match="off orthogonal"):
        quaternions.from_matrix(np.ones((3, 3)))
