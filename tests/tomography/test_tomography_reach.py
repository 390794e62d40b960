"""Rays that touch no voxel are not walked, and all others are: against a look at every ray, and against all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays
from tomography_cases import small_geometry

from exactgrad.tomography import projection
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.projection import reach_of, runs_of

SIDES = arrays.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(SIDES.flatmap(lambda shape: arrays.arrays(bool, shape)))
def test_reach_holds_every_ray_that_touches_a_voxel_and_its_ends_do(mask: np.ndarray) -> None:
    slices, rows, columns = mask.shape
    box, reach = reach_of(mask)
    around = np.pad(mask, ((0, 0), (2, 2), (2, 2)))
    for i in range(slices):
        assert mask[i].sum() == mask[i, slice(*box[i, :2]), slice(*box[i, 2:])].sum()
        assert mask[i].any() or not box[i].any()
        for row in range(-2, rows + 1):  # the row in front of the ray
            touching = [c for c in range(-2, columns + 1) if around[i, row + 2 : row + 4, c + 2 : c + 4].any()]
            first, last = reach[i, row + 2]
            assert (first, last) == (touching[0], touching[-1]) if touching else first > last


@settings(deadline=None, derandomize=True, max_examples=150)
@given(SIDES.flatmap(lambda shape: arrays.arrays(bool, shape)))
def test_runs_are_the_active_voxels_of_each_slice_and_as_long_as_can_be(mask: np.ndarray) -> None:
    runs, begins = runs_of(mask)
    assert begins[0] == 0 and begins[-1] == len(runs)
    for i, active in enumerate(mask):
        held = np.zeros_like(active)
        for row, column, length in runs[begins[i] : begins[i + 1]]:
            assert not held[row, column : column + length].any()
            assert column == 0 or not active[row, column - 1]
            assert column + length == active.shape[1] or not active[row, column + length]
            held[row, column : column + length] = True
        assert np.array_equal(held, active)


def holed(seed: int) -> TomographyProblem:
    """A problem whose mask has holes, empty slices and single voxels."""
    geometry = small_geometry(seed)
    rng = np.random.default_rng(seed)
    mask = rng.random(geometry.volume_shape) < 0.15
    mask[rng.integers(len(mask))] = False
    mask[-1, -1, -1] = mask[0, 0, 0] = True
    data = rng.random((geometry.projections, *geometry.projection_shape, geometry.segments))
    return TomographyProblem(Dataset(geometry, data), mask=mask)


def everywhere(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reach of a mask without holes, whatever the mask is."""
    return reach_of(np.ones_like(mask))


def short(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A planted bug: the rays in front of a voxel forgotten."""
    box, reach = reach_of(mask)
    reach[..., 0] += 1
    return box, reach


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_with_holes_gives_the_same_as_all_rays(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the rounding: blocks of voxels begin elsewhere where empty rows are not read."""
    found = {}
    for name, reach in (("reach", reach_of), ("all", everywhere), ("bug", short)):
        monkeypatch.setattr(projection, "reach_of", reach)
        problem = holed(seed)
        x, v = problem.start(1), np.random.default_rng(2).normal(size=problem.size)
        found[name] = (
            *problem.value_and_gradient(x),
            problem.hessian_product(x, v),
            *problem.geometry_gradient(x).values(),
        )
    for ours, every, wrong in zip(found["reach"], found["all"], found["bug"], strict=True):
        np.testing.assert_allclose(ours, every, rtol=1e-12, atol=1e-13 * np.abs(every).max())
        assert np.abs(np.subtract(wrong, every)).max() > 1e-6 * np.abs(every).max()
