"""Cells, mosaic domains, structure factors, beams and detectors as objects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.diffraction.beam import Beam, divergence
from exactgrad.diffraction.crystal import (
    Crystal,
    mosaic_domains,
    reciprocal_of,
    reciprocal_of_cell,
)
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.mosaic import mosaic_vectors
from exactgrad.diffraction.structure_factors import StructureFactors, lagrange_weights
from exactgrad.errors import InputError
from exactgrad.rotations import logarithm


def cell_of(lattice):
    a, b, c = lattice
    angle = lambda x, y: np.degrees(np.arccos(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))  # noqa: E731
    return [*np.linalg.norm(lattice, axis=1) * 1e10, angle(b, c), angle(a, c), angle(a, b)]


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.tuples(*[st.floats(20, 400)] * 3), st.tuples(*[st.floats(60, 120)] * 3))
def test_the_lattice_has_the_cell(edges, angles):
    cell = (*edges, *angles)
    try:
        crystal = Crystal.from_cell(cell)
    except InputError:
        assert sum(angles) > 355 or 2 * max(angles) > sum(angles) - 5
        return
    np.testing.assert_allclose(cell_of(crystal.lattice), cell, rtol=1e-9)
    np.testing.assert_allclose(crystal.lattice @ crystal.reciprocal.T, np.eye(3), atol=1e-9)
    assert np.abs(crystal.reciprocal[[0, 0, 1], [1, 2, 2]]).max() < 1.0  # 1/m: a* along x, b* in the xy plane
    theirs = cell_of(Crystal.from_cell(cell, c_compat=True).lattice)
    np.testing.assert_allclose(theirs[:3], edges, rtol=1e-9)


def test_the_c_programs_triclinic_cell():
    theirs = cell_of(Crystal.from_cell((70, 80, 90, 85, 95, 105), c_compat=True).lattice)
    np.testing.assert_allclose(theirs[3:], (84.9923, 95.0077, 105.001), atol=6e-4)  # as it prints them
    monoclinic = [reciprocal_of_cell((70, 80, 90, 90, 100, 90), c_compat)[1] for c_compat in (True, False)]
    np.testing.assert_allclose(monoclinic[0], monoclinic[1], rtol=1e-12, atol=1e-6)


def test_mosaic_domains_lie_within_the_spread():
    vectors = mosaic_vectors(2000, 7)
    angles = np.linalg.norm(vectors, axis=1)
    assert not vectors[0].any() and angles.max() <= 1.0
    assert np.abs(vectors.mean(axis=0)).max() < 4 / np.sqrt(2000)
    turned = logarithm.log(mosaic_domains(0.3, 50, 7))
    np.testing.assert_allclose(turned, 0.3 * mosaic_vectors(50, 7), atol=1e-12)
    rounded = mosaic_domains(0.3, 50, 7, c_compat=True)
    assert 0 < np.abs(rounded - mosaic_domains(0.3, 50, 7)).max() < 1e-7
    np.testing.assert_array_equal(mosaic_domains(0.3, 50, 7), mosaic_domains(0.3, 50, 7))


def test_phi_steps_are_left_edges_and_domains_vary_fastest():
    crystal = Crystal.from_cell((50, 60, 70, 90, 90, 90), phi0_rad=0.2, osc_rad=0.4, phi_steps=2)
    np.testing.assert_allclose(crystal.phi_rad, (0.2, 0.4))
    crystal = crystal.with_mosaic(0.1, 3, 4)
    turned = crystal.orientations
    assert turned.shape == (6, 3, 3)
    np.testing.assert_allclose(turned[3] @ (1, 0, 0), (np.cos(0.4), np.sin(0.4), 0), atol=1e-12)
    np.testing.assert_allclose(turned[4], crystal.domains[1] @ turned[3], atol=1e-12)
    np.testing.assert_allclose(crystal.lattices()[4, 0], turned[4] @ crystal.lattice[0], rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"cells": (0.5, 1, 1)},
        {"cells": (np.nan, 1, 1)},
        {"shape": "cube"},
        {"metric": "other"},
        {"domains": [np.eye(3) * 2]},
        {"domains": [np.diag([1, 1, -1.0])]},
        {"domains": np.empty((0, 3, 3))},
        {"spindle": (0, 0, 0)},
        {"phi_steps": 0},
        {"phi_steps": 1.5},
        {"osc_rad": np.inf},
        {"fudge": -1},
        {"lattice": np.ones((3, 3))},
        {"lattice": np.zeros((3, 3))},
    ],
)
def test_bad_crystals_are_refused(change):
    with pytest.raises(InputError):
        Crystal(**({"lattice": np.eye(3) * 5e-9} | change))


# -- structure factors ------------------------------------------------------------------------------------------------


def test_tricubic_is_exact_for_cubics():
    rng = np.random.default_rng(5)
    coefficients = rng.standard_normal((4, 4, 4))
    hkl = np.stack(np.meshgrid(*[np.arange(-4, 6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cubic = lambda x: np.polynomial.polynomial.polyval3d(*x.T, coefficients)  # noqa: E731
    factors = StructureFactors.from_list(hkl, cubic(hkl.astype(float)), default=3.0, interpolate=True)
    points = rng.uniform(-2, 3, (200, 3))
    np.testing.assert_allclose(factors.at(points), cubic(points), rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(factors.at(hkl[:30].astype(float)), cubic(hkl[:30].astype(float)), rtol=1e-12)
    outside = np.array([[3.2, 0.0, 0.0], [9.0, 0, 0], [-2.1, 0, 0]])
    np.testing.assert_array_equal(factors.at(outside), factors.nearest(outside))
    assert factors.at(outside)[1] == 3.0


def test_lagrange_weights_sum_to_one():
    x = np.linspace(0, 1, 11)
    np.testing.assert_allclose(lagrange_weights(x).sum(axis=0), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(lagrange_weights(np.array(0.0)), (0, 1, 0, 0))


def test_halfway_goes_down():
    factors = StructureFactors.from_list([[0, 0, 0], [1, 0, 0]], [1.0, 2.0])
    np.testing.assert_array_equal(factors.nearest(np.array([[0.5, 0, 0], [0.5000001, 0, 0]])), (1, 2))


@pytest.mark.parametrize(
    ("hkl", "f"),
    [
        ([[0.5, 0, 0]], [1.0]),
        ([[0, 0, 0]], [np.nan]),
        ([[0, 0, 0]], [1.0, 2.0]),
        (np.empty((0, 3)), []),
        ([[0, 0, 0], [5000, 5000, 5000]], [1.0, 1.0]),
        ([[0, 0, 10**9]], [1.0]),
    ],
)
def test_bad_lists_are_refused(hkl, f):
    with pytest.raises(InputError):
        StructureFactors.from_list(hkl, f)


# -- beam and detector ------------------------------------------------------------------------------------------------


def test_divergent_rays_have_their_angles():
    beam, axis = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    rays = divergence(beam, axis, np.array([-0.01, 0.01]), np.array([0.0]))
    np.testing.assert_allclose(np.arccos(rays @ beam), 0.01, rtol=1e-9)
    assert rays[1] @ axis != 0 and rays[1] @ np.array([0, 1.0, 0]) == pytest.approx(0)
    lying = divergence(beam, axis, np.array([0.0]), np.array([0.01]))
    np.testing.assert_allclose(lying[0], (np.cos(0.01), np.sin(0.01), 0))  # right-handed about the axis


@pytest.mark.parametrize(
    "change",
    [
        {"wavelengths_m": [0.0]},
        {"wavelengths_m": []},
        {"weights": [-1.0]},
        {"weights": [0.0]},
        {"kahn": 1.5},
        {"kahn": 0.5, "polarization_axis": (1, 0, 0)},
        {"directions": [[0, 0, 0]]},
        {"fluence": np.nan},
    ],
)
def test_bad_beams_are_refused(change):
    with pytest.raises(InputError):
        Beam(**({"wavelengths_m": [1e-10], "directions": [[1, 0, 0]]} | change))


FLAT = {
    "pixel_m": 1e-4,
    "pixels": (3, 4),
    "origin": (0.1, 0, 0),
    "fast": (0, 0, 1),
    "slow": (0, -1, 0),
    "normal": (1, 0, 0),
}


@pytest.mark.parametrize(
    "change",
    [
        {"pixel_m": 0.0},
        {"pixels": (0, 4)},
        {"pixels": (2**20, 2**20)},
        {"origin": (-0.1, 0, 0)},
        {"fast": (0, 1, 1)},
        {"oversample": 0},
        {"layers": 1.5},
        {"thickness_m": -1.0},
        {"roi": (5, 6, 0, 2)},
        {"mask": np.ones((4, 3))},
    ],
)
def test_bad_detectors_are_refused(change):
    with pytest.raises(InputError):
        Detector(**(FLAT | change))


def test_rendered_pixels():
    mask = np.ones((3, 4))
    mask[1, 2] = 0
    slow, fast = Detector(**FLAT, roi=(1, 2, 1, 9), mask=mask).rendered()
    assert list(zip(slow.tolist(), fast.tolist(), strict=True)) == [(1, 1), (2, 1), (2, 2)]
    detector = Detector(**FLAT)
    assert detector.rendered()[0].size == 12
    np.testing.assert_allclose(detector.direct_beam_m(), detector.near_point_m)


def test_reciprocal_of_its_reciprocal():
    lattice = np.array([[5.0, 1, 0], [0, 6, 1], [1, 0, 7]])
    np.testing.assert_allclose(reciprocal_of(reciprocal_of(lattice)), lattice, atol=1e-12)
