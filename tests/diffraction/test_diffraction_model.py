"""The physics of the model, against closed forms, direct sums and symmetry."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.diffraction import model
from exactgrad.diffraction.beam import Beam
from exactgrad.diffraction.crystal import Crystal, c_random_orientation, misset_matrix, random_orientation
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.model import image
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError

CELL = (70, 80, 90, 85, 95, 105)
WORDS = "-cell 60 70 80 90 100 90 -default_F 100 -N 6 -detpixels 24 -pixel 2 -lambda 1.5 -misset 5 3 2 -oversample 1"


def render(extra="", c_compat=False, words=WORDS, folder="."):
    return image(parse(f"{words} {extra}".split(), folder, c_compat)[0])


def scene_of(crystal, detector=None, **rest):
    detector = detector or Detector(1e-3, (8, 8), (0.1, 4e-3, -4e-3), fast=(0, 0, 1), slow=(0, -1, 0), normal=(1, 0, 0))
    return Scene(crystal, Beam(1.5e-10, (1, 0, 0)), detector, StructureFactors.constant(10.0), **rest)


# -- lattice ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["square", "round", "gauss", "tophat"])
def test_a_reflection_has_all_cells_in_phase(shape):
    crystal = Crystal.from_cell(CELL, misset_matrix((10, 20, 30)), cells=(5, 6, 7.5), shape=shape)
    hkl = np.array([[0, 0, 0], [1, 0, 0], [3, -4, 5], [-20, 31, 17]])
    found = model.diffracted(scene_of(crystal), crystal.lattices(), hkl @ crystal.reciprocal)
    norm = model.ROUND_NORM if shape == "round" else 1.0
    np.testing.assert_allclose(found, (5 * 6 * 7.5 * 10.0 * norm) ** 2, rtol=1e-10)


def test_bragg_condition_in_an_image():
    wavelength, hkl, ray = 1.3e-10, np.array([3.0, 2.0, 1.0]), np.array([0.9, 0.3, np.sqrt(0.1)])
    q = (ray - (1, 0, 0)) / wavelength
    across = np.cross(q, (0, 0, 1.0))
    along = 6e-9 * across / np.linalg.norm(across)
    other = 7e-9 * np.cross(q, across) / np.linalg.norm(np.cross(q, across))
    lattice = np.outer(hkl, q / (q @ q)) + np.stack([along, other, -along - other])
    pixel, middle, slow = 1e-4, 0.2 * ray, np.cross(ray, across) / np.linalg.norm(np.cross(ray, across))
    fast = np.cross(slow, ray)
    detector = Detector(pixel, (1, 1), middle - pixel / 2 * (fast + slow), fast, slow, ray)
    crystal = Crystal(lattice, cells=(10, 11, 12))
    scene = Scene(crystal, Beam(wavelength, (1, 0, 0), kahn=None), detector, StructureFactors.constant(7.0))
    assert image(scene)[0, 0] == pytest.approx((10 * 11 * 12 * 7.0) ** 2 * (pixel / 0.2) ** 2, rel=1e-9)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 12), st.floats(-30, 30), st.floats(-5, 5))
def test_grating_is_the_sum_over_cells_wherever_they_lie(cells, h, shift):
    terms = mpmath.fsum(mpmath.exp(2j * mpmath.pi * (n + mpmath.mpf(shift)) * mpmath.mpf(h)) for n in range(cells))
    off = h - model.nearest(np.array(h))
    assert model.grating(off, float(cells)) ** 2 == pytest.approx(float(abs(terms) ** 2), abs=1e-10 * cells**2)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.floats(0, 1e4) | st.floats(0, 1e-6) | st.floats(0.2, 0.3))
def test_sphere_against_mpmath(y):
    with mpmath.workdps(40):
        x = mpmath.sqrt(y)
        wanted = 3 * (mpmath.sin(x) - x * mpmath.cos(x)) / x**3 if y > 1e-24 else mpmath.mpf(1)
    assert model.sphere(np.array([y]))[0] == pytest.approx(float(wanted), rel=1e-12, abs=1e-15)


def test_total_intensity_of_every_shape():
    """Over a reciprocal cell: Na Nb Nc for a grating (Parseval) and for a ball, (0.63 pi/2)^1.5 of it for Gauss."""
    cells = np.array([3.0, 4.0, 5.0])
    points = [(np.arange(n) + 0.5) / n - 0.5 for n in (36, 44, 52)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*points, indexing="ij")], axis=-1)
    lattice = np.diag([5e-9, 6e-9, 7e-9])
    totals = {
        shape: (model.lattice_factor(Crystal(lattice, cells=cells, shape=shape), grid) ** 2).mean() / cells.prod()
        for shape in ("square", "gauss")
    }
    assert totals["square"] == pytest.approx(1.0, rel=1e-12)
    assert totals["gauss"] == pytest.approx((0.63 * math.pi / 2) ** 1.5, rel=1e-3)
    assert abs(model.ROUND_NORM**2 - math.pi / 6) < 1e-12
    assert 4 / 3 * math.pi * model.TOPHAT_RADIUS**1.5 == pytest.approx(1.0, abs=0.06)


def test_real_numbers_of_cells_are_between_whole_ones():
    off = np.linspace(-0.5, 0.5, 101)
    between = [model.grating(off, n) for n in (5.0, 5.0 + 1e-7, 6.0)]
    assert np.abs(between[1] - between[0]).max() < 1e-5
    assert model.grating(np.array(0.0), 5.5) == 5.5
    assert np.isfinite(model.grating(off, 5.37)).all()


def test_gauss_metric_is_named():
    crystal = Crystal.from_cell((100, 100, 100, 90, 90, 90), cells=(10, 10, 10), shape="gauss")
    off = np.array([[0.03, -0.02, 0.04]])
    hkl = model.spot_radius(crystal, off)
    assert hkl == pytest.approx(0.29)
    reciprocal = model.spot_radius(replace(crystal, metric="reciprocal"), off)
    assert reciprocal == pytest.approx(
        hkl * (10 * 10 / 100.0) ** 2
    )  # equal where Na Nb = cell/Angstrom, and only there
    assert model.spot_radius(replace(crystal, metric="reciprocal", cells=(20, 20, 20)), off) != pytest.approx(4 * hkl)


# -- symmetry and invariance ------------------------------------------------------------------------------------------


def test_cubic_symmetry():
    words = "-cell 80 80 80 90 90 90 -default_F 10 -N 5 -xds -detpixels 17 -pixel 3 -oversample 1 -close_distance 80"
    pixels = render(words=words)
    np.testing.assert_allclose(np.rot90(pixels), pixels, rtol=1e-7)
    np.testing.assert_allclose(pixels.T, pixels, rtol=1e-7)
    polarized = render("-polar 0.9", words=words)
    assert np.abs(np.rot90(polarized) - polarized).max() > 1e-3 * polarized.max()
    np.testing.assert_allclose(np.rot90(polarized, 2), polarized, rtol=1e-7)


def test_energy_is_wavelength():
    np.testing.assert_allclose(render("-energy 8000"), render(f"-lambda {12398.42 / 8000!r}"), rtol=1e-9)


def test_turning_everything_changes_nothing():
    scene, _ = parse(f"{WORDS} -mosaic 0.4 -mosaic_domains 3 -polar 0.8 -phi 2 -osc 1".split())
    turn = misset_matrix((20, -50, 130))
    crystal, beam, detector = scene.crystal, scene.beam, scene.detector
    turned = replace(
        scene,
        crystal=replace(
            crystal,
            lattice=crystal.lattice @ turn.T,
            reciprocal=crystal.reciprocal @ turn.T,
            spindle=turn @ crystal.spindle,
            domains=turn @ crystal.domains @ turn.T,
        ),
        beam=replace(beam, directions=beam.directions @ turn.T, polarization_axis=turn @ beam.polarization_axis),
        detector=replace(detector, **{n: turn @ getattr(detector, n) for n in ("origin", "fast", "slow", "normal")}),
    )
    np.testing.assert_allclose(image(turned), image(scene), rtol=1e-8)


def test_sub_pixels_are_small_pixels():
    """Correct physics only: the C program takes the solid angle and the polarization of the first sub-pixel."""
    fine, coarse = "-detpixels 48 -pixel 1 -oversample 1", "-detpixels 24 -pixel 2 -oversample 2"
    for extra in ("", "-polar 0.7 -detector_abs 300 -detector_thick 450 -detector_thicksteps 3 -water 100 -xds"):
        binned = render(f"{fine} -xds {extra}").reshape(24, 2, 24, 2).sum(axis=(1, 3))
        np.testing.assert_allclose(render(f"{coarse} -xds {extra}"), binned, rtol=1e-9)
    differs = np.abs(render(f"{coarse} -xds", c_compat=True) - binned)
    assert differs.max() > 1e-3 * binned.max()


def test_blocks_and_regions_do_not_matter(monkeypatch):
    whole = render("-mosaic 0.3")
    monkeypatch.setattr(model, "BLOCK", 7)
    np.testing.assert_array_equal(render("-mosaic 0.3"), whole)
    part = render("-mosaic 0.3 -roi 3 9 5 30")
    np.testing.assert_array_equal(part[5:, 3:10], whole[5:, 3:10])
    assert not part[:5].any() and not part[:, 10:].any()


def test_mean_over_sources_domains_and_angles():
    scene, _ = parse(f"{WORDS} -mosaic 0.5 -mosaic_domains 2 -phi 1 -osc 2 -phisteps 2 -dispersion 1".split())
    parts = [
        image(
            replace(
                scene,
                crystal=replace(scene.crystal, domains=[domain], phi0_rad=phi, osc_rad=0.0, phi_steps=1),
                beam=replace(scene.beam, wavelengths_m=[colour], directions=scene.beam.directions[:1], weights=None),
            )
        )
        for domain in scene.crystal.domains
        for phi in scene.crystal.phi_rad
        for colour in scene.beam.wavelengths_m
    ]
    np.testing.assert_allclose(image(scene), np.mean(parts, axis=0), rtol=1e-9)


# -- detector ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 9), st.floats(0.1, 5), st.floats(0.3, 1))
def test_layers_catch_what_the_sensor_catches(layers, depths, cosine):
    detector = Detector(1e-4, (1, 1), (0.1, 0, 0), (0, 0, 1), (0, -1, 0), (1, 0, 0), 1, 1e-3, 1e3 * depths, layers)
    scene = scene_of(Crystal.from_cell(CELL), detector)
    caught = sum(model.capture(scene, np.array([cosine]), layer) for layer in range(layers))
    assert caught == pytest.approx(-math.expm1(-depths / cosine), rel=1e-12)


def test_solid_angles_fill_the_sphere():
    """A cube of six faces, each a detector: 4 pi steradian."""
    side, total = 40, 0.0
    for normal, fast, slow in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        axes = np.eye(3)
        for sign in (1, -1):
            origin = 0.1 * (sign * axes[normal] - axes[fast] - axes[slow])
            detector = Detector(0.2 / side, (side, side), origin, axes[fast], axes[slow], sign * axes[normal])
            scene = scene_of(Crystal.from_cell(CELL), detector)
            x = model.position(scene, *detector.rendered(), 0, 0, 0)
            total += model.solid_angle(scene, x).sum()
    assert total == pytest.approx(4 * math.pi, rel=1e-3)


def test_curved_detector_is_everywhere_as_far():
    scene, _ = parse(f"{WORDS} -curved_det -detector_rotx 10 -twotheta 20".split())
    x = model.position(scene, *scene.detector.rendered(), 0, 0, 0)
    np.testing.assert_allclose(model.distance(x), scene.detector.close_distance_m, rtol=1e-12)
    flat = replace(scene, detector=replace(scene.detector, curved=False, pixel_m=1e-6, pixels=(3, 3)))
    near = replace(flat, detector=replace(flat.detector, origin=flat.detector.normal * 0.1))
    bent = replace(near, detector=replace(near.detector, curved=True))
    both = [model.position(s, *s.detector.rendered(), 0, 0, 0) for s in (near, bent)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-10)
    arcs = 4 * math.pi * (scene.detector.pixel_m / scene.detector.close_distance_m) ** 2 / (4 * math.pi)
    np.testing.assert_allclose(model.solid_angle(scene, x), arcs, rtol=1e-12)


def test_polarization():
    scene, _ = parse(f"{WORDS} -polar 0.6".split())
    forward, e, b = np.array([[1.0, 0, 0]]), np.array([[0, 0, 1.0]]), np.array([[0, 1.0, 0]])
    assert model.polarization(scene, forward, 0) == 1.0
    assert model.polarization(scene, e, 0) == pytest.approx(0.5 * (1 - 0.6))
    assert model.polarization(scene, b, 0) == pytest.approx(0.5 * (1 + 0.6))
    angle, psi = 0.7, 1.1
    d = np.array([[np.cos(angle), np.sin(angle) * np.sin(psi), np.sin(angle) * np.cos(psi)]])
    kahn = 0.5 * (1 + np.cos(angle) ** 2 - 0.6 * np.cos(2 * psi) * np.sin(angle) ** 2)
    assert model.polarization(scene, d, 0) == pytest.approx(kahn, rel=1e-12)


@pytest.mark.parametrize("shape", ["square", "round", "gauss", "tophat"])
@pytest.mark.parametrize("c_compat", [True, False])
def test_nothing_is_nan_in_the_direct_beam(shape, c_compat):
    option = f"-{shape}_{'spots' if shape == 'tophat' else 'xtal'}"
    words = f"-cell 50 60 70 90 90 90 -default_F 10 -N 5 -xds -detpixels 3 -pixel 1 -oversample 1 {option}"
    pixels = render("-polar 1 -water 10", c_compat, words)
    assert np.isfinite(pixels).all() and pixels[1, 1] == pixels.max() > 0


# -- correct physics and the C program --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "differ"),
    [
        ("", False),
        ("-detector_rotx 5 -twotheta 9 -polar 0.8", False),
        ("-mosaic 0.3 -phi 1 -osc 2 -round_xtal", False),
        ("-dispersion 2 -divergence 3", False),
        ("-cell 70 80 90 85 95 105", True),
        ("-oversample 2", True),
        ("-polar 0.5 -divergence 50", True),
        ("-detector_abs 300 -detector_thick 450", True),
        ("-gauss_xtal", True),
        ("-tophat_spots -fudge 0.3", True),
        ("-sourcefile equal.txt", False),
        ("-sourcefile weights.txt", True),
        ("-water 5 -fluence 1e28", True),
        ("-misset_seed 3 -misset random", True),
        ("-curved_det", True),
        ("-nopolar -point_pixel -dmin 4", False),
    ],
)
def test_differs_from_the_c_program_where_said_and_nowhere_else(extra, differ, tmp_path):
    (tmp_path / "equal.txt").write_text("-10 0.1 0 2 1.5e-10\n-10 -0.1 0 2 1.6e-10\n")
    (tmp_path / "weights.txt").write_text("-10 0.1 0 1 1.5e-10\n-10 -0.1 0 3 1.6e-10\n")
    words = WORDS + (" -polar 0" if "sourcefile" not in extra else " -nopolar")
    right, theirs = render(extra, False, words, tmp_path), render(extra, True, words, tmp_path)
    distance = np.abs(right - theirs).max() / theirs.max()
    assert distance > 1e-4 if differ else distance < (1e-9 if "diver" not in extra else 1e-3)


def test_source_weights(tmp_path):
    for name, weight in (("one", "1 0"), ("other", "0 1"), ("both", "1 3")):
        first, second = weight.split()
        (tmp_path / f"{name}.txt").write_text(f"-10 0 0 {first} 1.5e-10\n-10 0 0 {second} 1.6e-10\n")
    one, other, both = (render(f"-sourcefile {n}.txt", folder=tmp_path) for n in ("one", "other", "both"))
    np.testing.assert_allclose(both, 0.25 * one + 0.75 * other, rtol=1e-12)
    theirs = render("-sourcefile both.txt", True, folder=tmp_path)
    np.testing.assert_allclose(theirs, 0.5 * (one + other), rtol=1e-9)


def test_water_is_proportional_to_the_fluence():
    empty = "-cell 60 70 80 90 90 90 -default_F 1e-20 -detpixels 4 -pixel 2 -oversample 2 -water 10"
    for c_compat, power in ((False, 1), (True, 2)):
        dim, bright = (render(f"-fluence {fluence}", c_compat, empty) for fluence in ("1e20", "3e20"))
        np.testing.assert_allclose(bright / dim, 3.0**power, rtol=1e-9)
    once, often = (render(f"-oversample {n}", False, empty) for n in (1, 3))
    np.testing.assert_allclose(once, often, rtol=1e-3)
    assert render("-oversample 3", True, empty).max() < 0.2 * often.max()


def test_random_orientations_are_uniform():
    """Of uniform rotations the trace has mean 0 and mean square 1; the C program's have neither."""
    turns = np.stack([random_orientation(seed) for seed in range(1, 2001)])
    trace = np.trace(turns, axis1=1, axis2=2)
    assert abs(trace.mean()) < 4 / math.sqrt(2000) and abs((trace**2).mean() - 1) < 4 * math.sqrt(2 / 2000)
    assert np.abs(turns.mean(axis=0)).max() < 4 / math.sqrt(3 * 2000)
    theirs = np.trace(np.stack([c_random_orientation(seed) for seed in range(1, 2001)]), axis1=1, axis2=2)
    assert abs(theirs.mean()) > 10 / math.sqrt(2000)


def test_scene_refuses_a_correct_image_with_factors_left_out():
    with pytest.raises(InputError, match="per_sample"):
        scene_of(Crystal.from_cell(CELL), per_sample=("capture",))
