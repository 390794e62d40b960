"""Phantoms are what they say, and tilt schemes have the numbers of projections that the field counts on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import InputError
from exactgrad.tomography import phantoms, schemes

SHAPE = (20, 24, 16)


@pytest.mark.parametrize("name", phantoms.NAMES)
class TestPhantoms:
    def test_arrays_are_whole(self, name):
        made = phantoms.make(name, SHAPE, seed=2)
        assert made.A.shape == made.B.shape == SHAPE and made.axis.shape == (*SHAPE, 3)
        assert np.allclose(np.linalg.norm(made.axis, axis=-1), 1, atol=1e-12)
        assert np.all(made.A >= 0) and np.all(np.isfinite(made.B))
        assert np.all(made.B[~made.support] == 0)
        assert 0.03 < made.support.mean() < 0.8

    def test_a_margin_is_empty_so_that_no_ray_is_cut(self, name):
        support = phantoms.make(name, SHAPE).support
        inner = tuple(slice(phantoms.MARGIN_VOXELS, n - phantoms.MARGIN_VOXELS) for n in SHAPE)
        assert support.sum() == support[inner].sum()

    def test_sharpness_is_the_mean_of_B_and_A_is_about_one(self, name):
        made = phantoms.make(name, (32, 32, 32), sharpness=5.0)
        inside = made.support
        assert np.abs(made.B[inside]).mean() == pytest.approx(5.0, rel=0.25)
        assert np.abs(made.B[inside]).min() > 2.9  # no voxel whose axis is undefined
        assert made.A[inside].min() > 0.6 and made.A[inside].max() < 1.4

    def test_the_seed_decides(self, name):
        one, same, other = (phantoms.make(name, SHAPE, seed=seed) for seed in (1, 1, 2))
        assert np.array_equal(one.A, same.A) and np.array_equal(one.axis, same.axis)
        assert not np.array_equal(one.A, other.A)


def test_only_rings_have_both_signs_of_B():
    for name in phantoms.NAMES:
        B = phantoms.make(name, (24, 24, 24)).B
        assert (B < 0).any() == (name == "rings") and (B > 0).any()


def test_fibres_lean_more_the_farther_out():
    """A helix of pitch p leans from z by atan(r tan(50 degrees) / R): the rope's closed form."""
    made = phantoms.make("fibres", (30, 30, 30))
    x, y, _ = np.meshgrid(*(np.arange(30) - 14.5,) * 3, indexing="ij")
    lean = np.arctan(np.hypot(x, y) * np.tan(np.deg2rad(50.0)) / (15 - phantoms.MARGIN_VOXELS))
    inside = made.support
    assert np.allclose(np.arccos(made.axis[..., 2])[inside], lean[inside], atol=1e-6)
    radial = made.axis[..., 0] * x + made.axis[..., 1] * y
    assert np.allclose(radial[inside], 0, atol=1e-12)


def test_rings_lie_in_their_lamella():
    made = phantoms.make("rings", (24, 24, 24))
    x, y, _ = np.meshgrid(*(np.arange(24) - 11.5,) * 3, indexing="ij")
    radial = made.axis[..., 0] * x + made.axis[..., 1] * y
    assert np.allclose(radial[made.support], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cube", SHAPE), "phantom.name = 'cube': must be one of fibres"),
        (("fibres", (4, 20, 20)), "phantom.shape = 4 voxels: must be >= 8"),
        (("fibres", (20, 20, 5000)), "phantom.shape = 5000 voxels"),
        (("fibres", SHAPE, 0, -1.0), "phantom.sharpness = -1: must be > 0"),
        (("fibres", SHAPE, 0, float("nan")), "a finite number is needed"),
    ],
)
def test_what_is_not_allowed(arguments, message):
    with pytest.raises(InputError, match=message):
        phantoms.make(*arguments)


class TestSchemes:
    def test_liebis_rule(self):
        """Facts of the PSI scripts: D = 1.5 mm in 45 um steps is N0 = 33, 502 projections, 207 if reduced."""
        full = schemes.liebi(33)
        ideal = 33 + sum(2 * 33 * np.cos(np.deg2rad(k * 180 / 33)) for k in range(1, 9))
        assert round(ideal) == 502 and abs(len(full) - ideal) < 8 / 2 + 0.5
        assert len(schemes.liebi(33, tilts=5, projections_tilted=20)) == 207
        assert full.tilt_deg.max() == pytest.approx(8 * 180 / 33)
        untilted = full.turn_deg[full.tilt_deg == 0]
        assert np.allclose(np.diff(untilted), 180 / 33) and len(untilted) == 33
        tilted = full.turn_deg[full.tilt_deg == full.tilt_deg.max()]
        assert np.allclose(np.diff(tilted), 360 / len(tilted))

    @settings(deadline=None, derandomize=True, max_examples=40)
    @given(st.integers(14, 900), st.floats(1, 89), st.integers(1, 6))
    def test_a_scheme_of_so_many_projections_has_so_many(self, count, most, tilts):
        scheme = schemes.liebi_of(count, most, tilts)
        assert len(scheme) == len(scheme.tilt_deg) == count
        assert scheme.tilt_deg.max() == pytest.approx(most)
        assert (scheme.tilt_deg == 0).sum() == round(count / 6)

    def test_equal_area_is_even_over_the_zone(self):
        """Archimedes: equal areas of a zone are equal steps of its height, here of the sine of the tilt."""
        scheme = schemes.equal_area(500, 60.0)
        sine = np.sort(np.sin(np.deg2rad(scheme.tilt_deg))) / np.sin(np.deg2rad(60.0))
        assert np.allclose(sine, (np.arange(500) + 0.5) / 500)
        quarters = np.histogram(scheme.turn_deg, bins=4, range=(0, 360))[0]
        assert quarters.min() >= 120

    def test_single_axis(self):
        scheme = schemes.single_axis(7, 360.0)
        assert np.allclose(scheme.turn_deg, np.arange(7) * 360 / 7) and np.all(scheme.tilt_deg == 0)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: schemes.single_axis(0), "projections = 0: must be >= 1"),
            (lambda: schemes.single_axis(3, 400.0), "span_deg = 400 degrees"),
            (lambda: schemes.equal_area(3, 0.0), "max_tilt_deg = 0 degrees: must be > 0"),
            (lambda: schemes.liebi(0), "projections_at_zero = 0"),
            (lambda: schemes.liebi(10, 95.0), "max_tilt_deg = 95 degrees"),
            (lambda: schemes.liebi(5000), "projections: must be <= 100000"),
            (lambda: schemes.liebi_of(5), "projections = 5: must be >= 12, two for each of 5 tilts"),
        ],
    )
    def test_what_is_not_allowed(self, call, message):
        with pytest.raises(InputError, match=message):
            call()
