"""Every convention against its literal anchor, and against SciPy, which types its conventions independently."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exactgrad.rotations import euler, maps, quaternions
from exactgrad.rotations.conventions import ANCHORS


@pytest.mark.parametrize("name", ["active", "right-handed"])
def test_a_rotation_moves_the_vector_right_handed(name: str) -> None:
    t, v = map(np.array, ANCHORS[name].given)
    for turned in (
        maps.rotate(t, v),
        maps.exp(t) @ v,
        quaternions.rotate(quaternions.from_rotation_vector(t), v),
        quaternions.to_matrix(quaternions.from_rotation_vector(t)) @ v,
        Rotation.from_rotvec(t).apply(v),
    ):
        assert np.allclose(turned, ANCHORS[name].result, atol=1e-15)
    assert not np.allclose(maps.exp(t).T @ v, ANCHORS[name].result, atol=0.1)  # a transpose is seen


def test_the_first_turn_stands_on_the_right() -> None:
    first, second, v = map(np.array, ANCHORS["composition"].given)
    expected = ANCHORS["composition"].result
    assert np.allclose(maps.exp(second) @ maps.exp(first) @ v, expected, atol=1e-15)
    q = quaternions.multiply(quaternions.from_rotation_vector(second), quaternions.from_rotation_vector(first))
    assert np.allclose(quaternions.rotate(q, v), expected, atol=1e-15)
    assert np.allclose(maps.exp(first) @ maps.exp(second) @ v, [-1, 0, 0], atol=1e-15)


def test_quaternion_order_and_product() -> None:
    anchor = ANCHORS["quaternion order"]
    assert np.allclose(quaternions.from_rotation_vector(anchor.given), anchor.result, atol=1e-15)
    assert np.allclose(Rotation.from_rotvec(anchor.given).as_quat(scalar_first=True), anchor.result, atol=1e-15)
    anchor = ANCHORS["quaternion product"]
    assert np.array_equal(quaternions.multiply(*anchor.given), anchor.result)


def test_left_not_right_jacobian() -> None:
    t, e = map(np.array, ANCHORS["left Jacobian"].given)
    expected = np.array(ANCHORS["left Jacobian"].result)
    assert np.allclose(maps.left_jacobian(t) @ e, expected, atol=1e-15)
    assert np.allclose(maps.left_jacobian_transpose_apply(t, e), expected * [1, -1, 1], atol=1e-15)
    assert np.allclose(maps.exp(t + 1e-7 * e) @ maps.exp(t).T, maps.exp(1e-7 * expected), atol=1e-13)


@pytest.mark.parametrize(
    "name, letters", [("intrinsic-ZYZ", "ZYZ"), ("intrinsic-ZYX", "ZYX"), ("extrinsic-XYZ", "xyz")]
)
def test_euler_conventions(name: str, letters: str) -> None:
    anchor = ANCHORS[name]
    assert np.allclose(euler.to_matrix(np.radians(anchor.given), name), anchor.result, atol=1e-12)
    assert np.allclose(Rotation.from_euler(letters, anchor.given, degrees=True).as_matrix(), anchor.result, atol=1e-12)
    assert np.allclose(np.degrees(euler.from_matrix(np.array(anchor.result), name)), anchor.given, atol=1e-9)


def test_every_euler_convention_has_an_anchor() -> None:
    assert set(euler.CONVENTIONS) <= set(ANCHORS)
