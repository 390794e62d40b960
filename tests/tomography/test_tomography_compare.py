"""The numbers of a comparison, against closed forms."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exactgrad.errors import InputError
from exactgrad.tomography.compare import axis_error_deg, compare, measure
from exactgrad.tomography.formats import result
from exactgrad.tomography.formats.result import Volume

SHAPE = (4, 5, 6)


@pytest.fixture
def truth():
    random = np.random.default_rng(1)
    inside = random.random(SHAPE) > 0.4
    axis = random.normal(size=(*SHAPE, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    B = np.where(random.random(SHAPE) > 0.5, 3.0, -3.0)
    return Volume(np.where(inside, 1 + random.random(SHAPE), 0.0), np.where(inside, B, 0.0), axis, inside)


def turned(volume, degrees):
    """Turn every axis by so much about a vector square to it."""
    square = np.cross(volume.axis, np.random.default_rng(2).normal(size=volume.axis.shape))
    square *= np.deg2rad(degrees) / np.linalg.norm(square, axis=-1, keepdims=True)
    return replace(
        volume,
        axis=Rotation.from_rotvec(square.reshape(-1, 3)).apply(volume.axis.reshape(-1, 3)).reshape(volume.axis.shape),
    )


def test_the_truth_itself(truth):
    found = measure(truth, truth)
    assert found["axis_error_p95_deg"] < 1e-6 and found["wrong_sign_fraction"] == 0
    assert found["relative_error_A"] == 0 and found["lost_fraction"] == found["extra_fraction"] == 0
    assert found["voxels"] == truth.mask.sum()


@pytest.mark.parametrize("degrees", [1e-5, 0.5, 30.0, 89.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_axes_turned_by_so_much(truth, degrees, sign):
    other = turned(truth, degrees)
    found = measure(replace(other, axis=sign * other.axis), truth)
    for key in ("median", "mean", "p95"):
        assert found[f"axis_error_{key}_deg"] == pytest.approx(degrees, rel=1e-6)


def test_the_scale_of_A_does_not_matter_and_its_sign_neither(truth):
    found = measure(replace(truth, A=-5 * truth.A), truth)
    assert found["relative_error_A"] < 1e-12 and found["scale_A"] == pytest.approx(0.2)


def test_the_error_of_A_after_the_best_scale(truth):
    noisy = np.where(truth.mask, truth.A + 0.1 * np.random.default_rng(3).normal(size=SHAPE), 0.0)
    a, b = np.abs(noisy[truth.mask]), truth.A[truth.mask]
    least = min(np.linalg.norm(s * a - b) for s in np.linspace(0.9, 1.1, 20001)) / np.linalg.norm(b)
    assert measure(replace(truth, A=noisy), truth)["relative_error_A"] == pytest.approx(least, rel=1e-6)


def test_wrong_signs_are_counted_and_keep_their_angle(truth):
    flip = np.zeros(SHAPE, bool)
    flip[tuple(np.argwhere(truth.mask)[:7].T)] = True
    found = measure(replace(turned(truth, 80.0), B=np.where(flip, -truth.B, truth.B)), truth)
    assert found["wrong_sign_fraction"] == pytest.approx(7 / truth.mask.sum())
    assert found["axis_error_median_deg"] == pytest.approx(80.0)
    assert found["B_error_median"] == 0


def test_a_lost_voxel_counts_as_wrong_in_all(truth):
    kept = truth.mask.copy()
    kept[tuple(np.argwhere(truth.mask)[::2].T)] = False
    found = measure(replace(truth, mask=kept), truth)
    lost = (truth.mask & ~kept).sum() / truth.mask.sum()
    assert found["lost_fraction"] == pytest.approx(lost) == found["wrong_sign_fraction"]
    assert found["axis_error_p95_deg"] == 90
    assert found["relative_error_A"] > 0.3


def test_voxels_too_many_are_told_and_change_nothing_else(truth):
    found = measure(replace(truth, mask=np.ones(SHAPE, bool)), truth)
    assert found["extra_fraction"] == pytest.approx((~truth.mask).sum() / truth.mask.sum())
    assert found["wrong_sign_fraction"] == 0 and found["axis_error_p95_deg"] < 1e-6


def test_an_axis_means_nothing_where_B_is_nearly_zero(truth):
    blunt = replace(truth, B=np.where(truth.mask, np.where(truth.B > 0, 3.0, 0.05), 0.0))
    found = measure(replace(blunt, axis=np.where(blunt.B[..., None] > 1, blunt.axis, 0.0), B=-blunt.B), blunt)
    assert found["axis_error_p95_deg"] < 1e-6 and found["wrong_sign_fraction"] == 1
    none = measure(truth, replace(truth, B=0 * truth.B))
    assert none["axis_error_median_deg"] is None and none["wrong_sign_fraction"] is None


def test_angles_between_lines():
    a = np.array([[1.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 0]])
    b = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 1, 1], [1, 0, 0]])
    assert np.allclose(axis_error_deg(a, b), [90, 0, 45, 90])


@pytest.mark.parametrize("group", ["", "truth/"])
@pytest.mark.parametrize("with_axis", [True, False])
def test_the_truth_stands_at_the_root_or_in_its_group(tmp_path, truth, group, with_axis):
    result.write(tmp_path / "result.h5", truth)
    with h5py.File(tmp_path / "truth.h5", "w") as handle:
        handle[group + "A"], handle[group + "B"] = truth.A, truth.B
        if with_axis:
            handle[group + "axis"] = truth.axis
        else:
            handle[group + "theta_op"] = np.arccos(truth.axis[..., 2])
            handle[group + "phi_op"] = np.arctan2(truth.axis[..., 1], truth.axis[..., 0])
    found = compare(tmp_path, tmp_path / "truth.h5")
    assert found["axis_error_p95_deg"] < 1e-6 and found["command"] == "compare"


class TestErrors:
    def write(self, path, **content):
        with h5py.File(path, "w") as handle:
            for name, value in content.items():
                handle[name] = value
        return path

    def test_shapes_that_differ(self, tmp_path, truth):
        result.write(tmp_path / "result.h5", truth)
        zeros = np.zeros((2, 2, 2))
        other = self.write(tmp_path / "t.h5", A=zeros + 1, B=zeros, theta_op=zeros, phi_op=zeros)
        with pytest.raises(InputError, match=r"the volume is \(4, 5, 6\), that of .*t.h5 is \(2, 2, 2\)"):
            compare(tmp_path, other)

    def test_a_truth_without_axis_and_an_empty_one(self, tmp_path, truth):
        result.write(tmp_path / "result.h5", truth)
        with pytest.raises(InputError, match=r"axis: missing \(or theta_op and phi_op, rad\)"):
            compare(tmp_path, self.write(tmp_path / "a.h5", A=truth.A, B=truth.B))
        with pytest.raises(InputError, match="A is nowhere above 0"):
            compare(tmp_path, self.write(tmp_path / "b.h5", A=0 * truth.A, B=truth.B, axis=truth.axis))
        with pytest.raises(InputError, match="A: missing"):
            compare(tmp_path, self.write(tmp_path / "c.h5", B=truth.B))
