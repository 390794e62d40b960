"""The fused sum over lattices and the fast image, against the model, 40 digits and the C program's images."""

import logging
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_diffraction_golden import CASES, TOLERANCE, golden

from exactgrad.diffraction import kernel, model, numbers, render
from exactgrad.diffraction.beam import Beam
from exactgrad.diffraction.crystal import METRICS, SHAPES, Crystal, misset_matrix, mosaic_domains, random_orientation
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.structure_factors import StructureFactors

# Kernel and model round h differently, by some 1e-14 at h = 50, and a spot of N cells changes by N pi times that.
CLOSE = 1e-12
law = settings(deadline=None, derandomize=True, max_examples=200)


def random_scene(seed, shape="square", metric="hkl", interpolate=False, **change):
    """A triclinic crystal, turned and mosaic, seen by a tilted detector with a region and a mask in three sources."""
    rng = np.random.default_rng(seed)
    crystal = Crystal.from_cell(
        (*rng.uniform(30, 60, 3), *rng.uniform(80, 105, 3)),
        random_orientation(seed + 1),
        cells=rng.uniform(1, 9, 3),
        shape=shape,
        metric=metric,
        fudge=1e-3 if metric == "reciprocal" else 0.8,
        domains=mosaic_domains(0.02, 3, seed + 1),
        spindle=rng.normal(size=3),
        phi0_rad=0.3,
        osc_rad=0.02,
        phi_steps=2,
    )
    directions = (1, 0, 0) + rng.normal(size=(3, 3)) * 1e-3
    beam = Beam(rng.uniform(1.0, 1.1, 3) * 1e-10, directions, rng.uniform(0, 1, 3), kahn=rng.uniform(-1, 1))
    frame = np.array([[0, 0, 1.0], [0, -1, 0], [1, 0, 0]]) @ misset_matrix(rng.uniform(-20, 20, 3)).T
    fast, slow, normal = frame
    pixel, size = 1.5e-3, (23, 31)
    detector = Detector(
        pixel, size, 0.06 * normal - 0.02 * fast - 0.015 * slow, fast, slow, normal,
        oversample=2, thickness_m=4e-4, attenuation_per_m=2000.0, layers=2,
        roi=(2, 28, 1, 20), mask=rng.uniform(size=size) > 0.1,
    )  # fmt: skip
    table = rng.uniform(1, 100, (13, 12, 14))
    table[rng.uniform(size=table.shape) < 0.2] = 0.0
    factors = StructureFactors(table, (-6, -7, -5), default=rng.choice([0.0, 3.0]), interpolate=interpolate)
    return Scene(crystal, beam, detector, factors, **({"water_m": 1e-7, "d_min_m": 1.4e-10} | change))


def difference(scene):
    """Return the largest difference of the fast image from the model's, as a share of its maximum."""
    wanted = model.image(scene)
    assert wanted.max() > 0
    return np.abs(render.image(scene) - wanted).max() / wanted.max()


# -- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_golden_images(name, tmp_path):
    wanted, argv = golden(name, tmp_path)
    scene, _ = parse(argv, tmp_path, c_compat=True)
    assert difference(scene) <= CLOSE
    assert np.abs(render.image(scene) - wanted).max() / wanted.max() <= TOLERANCE
    assert difference(replace(scene, c_compat=False, per_sample=None)) <= CLOSE


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_random_scenes(seed, shape, metric):
    scene = random_scene(seed, shape, metric)
    assert render.engine_of(scene) == render.KERNEL
    assert difference(scene) <= CLOSE


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "change",
    [
        {"c_compat": True},
        {"c_compat": True, "per_sample": ("capture", "polarization")},
        {"c_compat": True, "per_sample": ("solid angle",)},
        {"c_compat": True, "d_min_m": 0.0},
        {"c_compat": True, "d_min_m": 0.0, "per_sample": ("capture", "polarization")},
        {"c_compat": True, "d_min_m": 0.0, "per_sample": ("solid angle",)},
        {"d_min_m": 0.0, "water_m": 0.0},
    ],
)
def test_scenes_of_the_c_program(seed, change):
    assert difference(random_scene(seed, **change)) <= CLOSE


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("c_compat", [False, True])
@pytest.mark.parametrize(
    "change", [{"curved": True}, {"point_pixel": True}, {"thickness_m": 0.0}, {"oversample": 1, "layers": 1}]
)
def test_other_detectors(seed, c_compat, change):
    scene = random_scene(seed, c_compat=c_compat)
    assert difference(replace(scene, detector=replace(scene.detector, **change))) <= CLOSE


def test_an_unpolarized_beam_and_no_table():
    scene = random_scene(3)
    for kahn in (0.0, None):
        beam = replace(scene.beam, kahn=kahn)
        assert difference(replace(scene, beam=beam, structure_factors=StructureFactors.constant(5.0))) <= CLOSE


@pytest.mark.parametrize("seed", range(3))
def test_interpolated_structure_factors(seed):
    scene = random_scene(seed, interpolate=True)
    assert difference(scene) <= CLOSE
    plain = replace(scene, structure_factors=replace(scene.structure_factors, interpolate=False))
    assert np.abs(render.image(plain) - render.image(scene)).max() > 1e3 * CLOSE * render.image(scene).max()


def test_the_curved_detector_of_the_c_program_is_said_to_go_through_the_model(caplog):
    scene = random_scene(1, c_compat=True)
    scene = replace(scene, detector=replace(scene.detector, curved=True))
    with caplog.at_level(logging.INFO, "exactgrad.diffraction"):
        assert difference(scene) <= CLOSE
    assert render.engine_of(scene) == render.STAGED and "curved" in caplog.text


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_bit_equal_on_any_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(render, "BLOCK", 64)
    monkeypatch.setattr(render, "choose_threads", lambda work_s, limit: limit)
    scene = random_scene(0)
    np.testing.assert_array_equal(render.image(scene, threads), render.image(scene, 1))


def test_nothing_is_rendered_outside_region_and_mask():
    scene = random_scene(0)
    slow, fast = scene.detector.rendered()
    photons = render.image(scene)
    assert (photons[slow, fast] > 0).all()
    photons[slow, fast] = 0
    assert not photons.any()


def test_places_of_a_part_are_those_of_the_whole():
    detector = random_scene(0).detector
    for change in ({}, {"mask": None}, {"roi": None}, {"mask": None, "roi": None}):
        some = replace(detector, **change)
        left, right, bottom, top = some.roi or (0, some.pixels[1] - 1, 0, some.pixels[0] - 1)
        chosen = np.zeros(some.pixels, dtype=bool)
        chosen[bottom : top + 1, left : right + 1] = True
        wanted = np.nonzero(chosen if some.mask is None else chosen & some.mask)
        size, places = some.places()
        assert size == wanted[0].size
        for part in (slice(0, size), slice(7, 100), slice(size - 1, size)):
            np.testing.assert_array_equal(places(part), np.stack(wanted)[:, part])


# -- sums over lattices -----------------------------------------------------------------------------------------------


def at_indices(hkl, cells=(5, 6, 7.5), shape="square", factors=None):
    """Return F^2 L^2 at fractional indices, for a cubic lattice of 1 m: q is h."""
    crystal = Crystal(np.eye(3), cells=cells, shape=shape)
    scene = random_scene(0)
    scene = replace(scene, crystal=crystal, structure_factors=factors or StructureFactors.constant(1.0))
    return render.lattice_sum(scene)(np.atleast_2d(np.asarray(hkl, dtype=float)))


@law
@given(st.integers(-10_000, 10_000), st.floats(-0.5, 0.5), st.floats(1, 300))
def test_large_indices_lose_nothing(whole, part, cells):
    h = whole + part
    found = at_indices([h, 0, 0], (cells, 1, 1))[0]
    with mpmath.workdps(40):
        x = mpmath.mpf(h) - mpmath.ceil(mpmath.mpf(h) - mpmath.mpf(0.5))
        wanted = (mpmath.sinpi(cells * x) / mpmath.sinpi(x)) ** 2 if x else mpmath.mpf(cells) ** 2
    assert abs(found - float(wanted)) <= 1e-14 * cells**3 + 1e-14 * cells**2  # N x rounds to N ulp


@law
@given(st.floats(0, 800) | st.floats(0, 1e-3))
def test_decay(x):
    found = kernel.decay(min(x, kernel.DIMMEST))
    assert found == pytest.approx(float(mpmath.exp(-mpmath.mpf(x))), rel=5e-13, abs=1e-300)


@law
@given(st.floats(0, 1e4) | st.floats(0, 0.05) | st.floats(0, 1e-12))
def test_ball(u):
    with mpmath.workdps(40):
        x = mpmath.pi * mpmath.sqrt(mpmath.mpf(u))
        wanted = 3 * (mpmath.sin(x) - x * mpmath.cos(x)) / x**3 if u > 1e-20 else mpmath.mpf(1)
    assert abs(kernel.ball(u)) == pytest.approx(abs(float(wanted)), rel=1e-12, abs=1e-15)


@law
@given(st.floats(-0.5, 0.5))
def test_sine_and_cosine(x):
    with mpmath.workdps(40):
        sine, cosine = mpmath.sinpi(mpmath.mpf(x)), mpmath.cospi(mpmath.mpf(x))
    assert x * kernel.sine_over(x * x) == pytest.approx(float(sine), rel=6e-16, abs=5e-324)
    assert kernel.cosine(x * x) == pytest.approx(float(cosine), abs=3e-16)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_reflection_has_all_cells_in_phase(shape):
    norm = model.ROUND_NORM if shape == "round" else 1.0
    hkl = [[0, 0, 0], [1, 0, -2], [9999, -9999, 5], [1e6, 0, 0]]
    np.testing.assert_allclose(at_indices(hkl, shape=shape), (5 * 6 * 7.5 * norm) ** 2, rtol=1e-13)


def test_halfway_goes_down():
    factors = StructureFactors.from_list([[0, 0, 0], [1, 0, 0]], [1.0, 2.0])
    hkl = np.array([[0.5, 0, 0], [np.nextafter(0.5, 1), 0, 0]])
    np.testing.assert_allclose(at_indices(hkl, (3, 1, 1), factors=factors), (1, 4), rtol=1e-12)
    # A real number of cells sees on which side halfway lies only through F: L is even.
    np.testing.assert_allclose(*at_indices(hkl, (2.5, 1, 1)), rtol=1e-12)


def test_every_entry_of_the_table_and_what_surrounds_it():
    sides, lowest = (2, 3, 4), (-1, 5, -2)
    table = np.arange(1.0, 25.0).reshape(sides)
    factors = StructureFactors(table, lowest, default=0.5)
    wanted = np.full(np.add(sides, 2), 0.5)
    wanted[1:-1, 1:-1, 1:-1] = table
    places = np.argwhere(np.ones_like(wanted)) - 1 + lowest
    found = at_indices(places + np.array([0.1, -0.2, 0.3]), (1, 1, 1), factors=factors)
    np.testing.assert_allclose(found, wanted.ravel() ** 2, rtol=1e-12)
    far = at_indices([[1e15, 0, 0], [0, -1e15, 3e9], [2**31, 5, 0]], (1, 1, 1), factors=factors)
    np.testing.assert_allclose(far, 0.25, rtol=1e-12)


# -- bugs that must be caught -----------------------------------------------------------------------------------------


def swapped_table(patch):
    right = numbers.np.ascontiguousarray
    turned = lambda a: a.transpose(2, 1, 0) if np.ndim(a) == 3 else a  # noqa: E731
    patch.setattr(numbers.np, "ascontiguousarray", lambda a: right(turned(a)))


def form_transposed(patch):
    right = numbers.spot_form
    patch.setattr(numbers, "spot_form", lambda crystal: np.ascontiguousarray(right(crystal).T))


def no_peak(patch):
    patch.setattr(numbers, "peak", lambda crystal: 1.0)


@pytest.mark.parametrize(
    ("bug", "shape", "metric"),
    [(swapped_table, "square", "hkl"), (form_transposed, "gauss", "reciprocal"), (no_peak, "round", "hkl")],
)
def test_planted_bugs_are_caught(bug, shape, metric, monkeypatch):
    scene = random_scene(0, shape, metric)
    wanted = model.image(scene)
    with monkeypatch.context() as patch:
        bug(patch)
        found = render.image(scene)
    assert np.abs(found - wanted).max() > 1e3 * CLOSE * wanted.max()
    assert difference(scene) <= CLOSE


def test_a_missing_range_reduction_would_be_caught():
    """sin(pi N h)/sin(pi h) at h itself: at h = 10^4 it misses by far more than the bound of the test above."""
    rng, cells = np.random.default_rng(0), 200.0
    h = rng.integers(5000, 10_000, 300) + rng.uniform(-1e-3, 1e-3, 300)
    found = at_indices(np.stack([h, 0 * h, 0 * h], axis=1), (cells, 1, 1))
    bound = 1e-14 * cells**3
    with mpmath.workdps(40):
        off = [mpmath.mpf(x) - round(x) for x in h]
        wanted = np.array([float((mpmath.sinpi(cells * x) / mpmath.sinpi(x)) ** 2) for x in off])
    naive = (np.sin(np.pi * cells * h) / np.sin(np.pi * h)) ** 2
    assert np.abs(found - wanted).max() <= bound < np.abs(naive - wanted).max()
