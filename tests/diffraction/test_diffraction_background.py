"""Backgrounds: linear, with the derivative and the transpose they state; a profile against the model's water."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.core.least_squares import covariance, minimise
from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.diffraction import background, model
from exactgrad.diffraction.background import Planes, flat, molecules_of, profile
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.formats import stol
from exactgrad.diffraction.formats.stol import StolProfile
from exactgrad.diffraction.losses import Poisson, observe
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.spots import Regions, predict, regions
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import FormatError, InputError

WORDS = "-cell 60 70 80 90 100 95 -default_F 100 -N 5 -detpixels 60 -pixel 1 -lambda 1.5 -misset 5 3 2 -oversample 1"
RNG = np.random.default_rng(2)


def scene_of(extra=""):
    return parse(f"{WORDS} {extra}".split())[0]


def some_planes():
    scene = scene_of("-gauss_xtal")
    return Planes.of(regions(predict(scene, 0.2), scene.detector.shape, 2.0))


BACKGROUNDS = {
    "planes": some_planes(),
    "flat": flat((60, 60)),
    "profile": profile(scene_of(), StolProfile([0.0, 0.1, 0.4], [3.0, 2.0, 0.5]), 1e18),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_image_derivative_and_pull_are_one_linear_map(name):
    one = BACKGROUNDS[name]
    assert len(one.labels()) == one.size and len(set(one.labels())) == one.size
    jacobian = np.stack([one.derivative(i) for i in range(one.size)])
    c, g = RNG.normal(size=one.size), RNG.normal(size=(60, 60))
    np.testing.assert_allclose(one.image(c), np.tensordot(c, jacobian, 1), atol=1e-12 * np.abs(jacobian).max())
    np.testing.assert_allclose(one.pull(g), np.tensordot(jacobian, g, 2), rtol=1e-11, atol=1e-12)
    assert not one.image(np.zeros(one.size)).any()
    with pytest.raises(InputError, match="shape"):
        one.image(np.zeros(one.size + 1))
    with pytest.raises(InputError, match="nan"):
        one.image(np.full(one.size, np.nan))
    with pytest.raises(InputError, match="coefficient"):
        one.derivative(one.size)
    with pytest.raises(InputError, match="shape"):
        one.pull(g[1:])


# -- planes -----------------------------------------------------------------------------------------------------------


def boxes(shape, *four):
    owner = np.full(shape, -1, dtype=np.int32)
    for place, (s0, s1, f0, f1) in enumerate(four):
        owner[s0 : s1 + 1, f0 : f1 + 1] = place
    return Regions(np.array(four), owner)


def test_a_plane_in_pixels_from_the_middle():
    planes = Planes.of(boxes((9, 12), (1, 3, 2, 6), (5, 8, 7, 10)))
    assert planes.size == 6
    got = planes.image([10.0, 2.0, -1.0, 0.0, 0.0, 4.0])
    np.testing.assert_allclose(got[1:4, 2:7], [[10 + 2 * s - f for f in range(-2, 3)] for s in (-1, 0, 1)])
    np.testing.assert_allclose(got[5:9, 7:11], np.tile([-6.0, -2.0, 2.0, 6.0], (4, 1)))
    assert not got[0].any() and not got[4].any()


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.integers(0, 10_000))
def test_planes_are_found_again(seed):
    rng = np.random.default_rng(seed)
    planes = Planes.of(boxes((30, 40), (1, 5, 2, 6), (8, 20, 0, 30), (22, 29, 31, 39)), rng.random((30, 40)) < 0.8)
    truth, weight = rng.normal(size=9), rng.uniform(0.1, 1.0, (30, 40))
    np.testing.assert_allclose(planes.fitted(planes.image(truth), weight), truth, atol=1e-10)
    jacobian = np.stack([planes.derivative(i).ravel() for i in range(9)])
    full = (jacobian * weight.ravel()) @ jacobian.T
    blocks = np.zeros((9, 9))
    for place, block in enumerate(planes.products(weight)):
        blocks[3 * place : 3 * place + 3, 3 * place : 3 * place + 3] = block
    np.testing.assert_allclose(blocks, full, rtol=1e-11, atol=1e-11)


def test_scale_and_planes_under_spots_and_their_errors():
    """Spots of few photons on planes of less than one: estimates scatter as their errors say."""
    rng = np.random.default_rng(11)
    spot = np.zeros((20, 40))
    for s, f in ((6.2, 8.1), (12.7, 19.5), (8.0, 31.4)):
        spot += 9 * np.exp(-0.5 * ((np.arange(20)[:, None] - s) ** 2 + (np.arange(40) - f) ** 2) / 1.5)
    planes = Planes.of(boxes((20, 40), (1, 12, 3, 13), (7, 18, 14, 25), (3, 13, 26, 37)))
    truth = np.array([1.5, 0.8, 0.02, 0.03, 0.5, -0.01, 0.02, 2.0, 0.1, -0.1])
    jacobian = np.stack([spot, *(planes.derivative(i) for i in range(9))])
    expected = np.tensordot(truth, jacobian, 1)
    inside = planes.image(np.tile([1.0, 0.0, 0.0], 3)) > 0
    free = Parameters((Parameter("scale", 1.0), Parameter("planes", np.zeros(9), "photons")))
    pulls = []
    for _ in range(100):
        adu = 10 + 2 * (rng.poisson(np.where(inside, expected, 1.0)) + 0.7 * rng.standard_normal(expected.shape))
        data = observe(adu, gain_adu=2.0, offset_adu=10.0, readout_adu=1.4).within(inside)

        class Fit:
            def residual_products(self, x, data=data):
                pixels = Poisson().at(x[0] * spot + planes.image(x[1:]), data)
                pulled = np.concatenate([[(pixels.derivative * spot).sum()], planes.pull(pixels.derivative)])
                return pixels.total, pulled, np.einsum("iab,ab,jab->ij", jacobian, pixels.weight, jacobian)

        state = minimise(Fit(), np.concatenate([[1.0], planes.fitted(data.photons, data.counted)]))
        assert state.status.converged
        errors = covariance(state.curvature, free)
        assert not errors.failed
        pulls.append((state.x - truth) / errors.esd)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.06)
    assert np.abs(np.std(pulls, axis=0) - 1).max() < 0.25
    assert abs(np.mean(pulls)) < 0.15


def test_where_the_weights_leave_no_plane_there_is_a_mean():
    planes = Planes.of(boxes((9, 12), (1, 3, 2, 6), (5, 8, 7, 10)))
    weight = np.zeros((9, 12))
    weight[2, 2:7] = 1.0
    np.testing.assert_allclose(planes.fitted(np.full((9, 12), 7.0), weight), [7, 0, 0, 0, 0, 0], atol=1e-12)


def test_a_region_that_spans_no_plane_has_a_mean_only():
    mask = np.ones((9, 12), bool)
    mask[0:3] = False
    planes = Planes.of(boxes((9, 12), (0, 2, 0, 5), (5, 5, 0, 9), (7, 8, 0, 0), (3, 4, 9, 10)), mask)
    assert planes.labels() == ["plane[1].a", "plane[2].a", "plane[3].a", "plane[3].b", "plane[3].c"]
    np.testing.assert_allclose(planes.pull(np.ones((9, 12))), [10, 2, 4, 0, 0], atol=1e-12)
    image = planes.image([1.0, 2.0, 3.0, 0.5, 0.0])
    assert not image[:3].any() and image[5, 4] == 1.0 and image[8, 0] == 2.0 and image[4, 9] == 3.25
    np.testing.assert_allclose(planes.fitted(image, mask.astype(float)), [1, 2, 3, 0.5, 0], atol=1e-12)
    assert [np.linalg.matrix_rank(block) for block in planes.products(mask)] == [0, 1, 1, 3]


def test_planes_need_pixels():
    with pytest.raises(InputError, match="no pixel"):
        Planes.of(boxes((9, 12), (1, 3, 2, 6)), np.zeros((9, 12)))
    with pytest.raises(InputError, match="mask: shape"):
        Planes.of(boxes((9, 12), (1, 3, 2, 6)), np.ones((9, 1)))


# -- profile ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        "-water 1",
        "-water 1 -oversample 3 -detector_rotx 20 -polar 0.8",
        "-water 1 -detector_thick 450 -detector_abs 300 -detector_thicksteps 3 -curved_det",
        "-water 1 -dispersion 30 -dispsteps 3 -divergence 5 -divsteps 2 -roi 3 40 10 30 -point_pixel",
    ],
)
def test_a_constant_profile_is_water(extra):
    scene = scene_of(extra)
    dark = replace(scene, structure_factors=StructureFactors.from_list([[99, 99, 99]], [1.0]))
    molecules = model.WATER_PER_M3 * scene.water_m**3
    water = profile(scene, StolProfile([0.0], [model.WATER_F]), molecules).unit
    assert water.max() > 0
    np.testing.assert_allclose(water, model.image(dark), rtol=1e-12)


def test_a_profile_is_taken_at_sin_theta_over_lambda():
    scene = scene_of("-nopolar")
    shape = StolProfile([0.0, 0.05, 0.1, 0.3], [1.0, 4.0, 2.0, 3.0])
    got = profile(scene, shape, 2.0).unit
    slow, fast = np.indices((60, 60)).reshape(2, -1)
    x = model.position(scene, slow, fast, 0, 0, 0)
    theta = 0.5 * np.arccos(np.clip(model.direction(x) @ scene.beam.directions[0], -1, 1))
    f = np.interp(np.sin(theta) / 1.5, shape.stol_per_A, shape.f)
    wanted = 2 * ELECTRON_RADIUS_SQUARED * scene.beam.fluence * f**2 * model.solid_angle(scene, x)
    np.testing.assert_allclose(got.ravel(), wanted, rtol=1e-6)
    with pytest.raises(InputError, match="molecules"):
        profile(scene, shape, -1.0)
    with pytest.raises(InputError, match="curved"):
        profile(replace(scene_of("-curved_det"), c_compat=True), shape, 1.0)


def test_molecules_of_water_are_the_models():
    assert molecules_of(1e-9, 1.0, 18.0) == pytest.approx(model.WATER_PER_M3 * 1e-9, rel=1e-6)
    assert background.AVOGADRO == 6.02214076e23


# -- file -------------------------------------------------------------------------------------------------------------


def test_a_profile_file_comes_back(tmp_path):
    given = StolProfile(np.sort(RNG.uniform(0, 2, 40)), RNG.uniform(0, 9, 40))
    stol.write(tmp_path / "water.stol", given)
    got = stol.read(tmp_path / "water.stol")
    np.testing.assert_array_equal(got.stol_per_A, given.stol_per_A)
    np.testing.assert_array_equal(got.f, given.f)
    (tmp_path / "more.stol").write_text("# water\n0 2.57 ! forwards\n\n  0.5\t1.5\n")
    assert stol.read(tmp_path / "more.stol").f.tolist() == [2.57, 1.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("0 1\n0.5\n", ":2: 1 columns"),
        ("0 1 2\n", ":1: 3 columns"),
        ("0 nan\n", ":1: F = 'nan'"),
        ("-1 2\n", ":1: stol = -1 1/A"),
        ("0 1\n1e3 2\n", ":2: stol = 1000 1/A"),
        ("0 1\n0 2\n", ":2: stol = 0 1/A: must be larger"),
        ("0 -1\n", ":1: F = -1"),
        ("0 1e20\n", ":1: F = 1e+20"),
    ],
)
def test_a_bad_profile_names_the_line(tmp_path, text, says):
    path = tmp_path / "bad.stol"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        stol.read(path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.text("0123456789.-+eEnaif \t\n#!x\x00", max_size=60) | st.binary(max_size=60))
def test_any_bytes_are_a_profile_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("stol") / "any.stol"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        got = stol.read(path)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert np.isfinite(got.at(np.linspace(0, 5, 7))).all() and (got.f >= 0).all()


def test_too_many_points_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stol, "MOST_POINTS", 3)
    path = tmp_path / "long.stol"
    path.write_text("".join(f"{i} 1\n" for i in range(5)))
    with pytest.raises(FormatError, match="more than 3 points"):
        stol.read(path)
    for bad in (([], []), ([0, 1, 2, 3], [1, 1, 1, 1]), ([1, 0], [1, 1]), ([0], [-1]), ([0, 1], [1])):
        with pytest.raises(InputError):
            StolProfile(*bad)
