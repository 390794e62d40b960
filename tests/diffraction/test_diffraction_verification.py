"""`exactgrad verify diffraction`: it passes, covers every parameter, and fails when something breaks."""

from dataclasses import replace

import numpy as np
import pytest

from exactgrad.core.system import get_system
from exactgrad.diffraction import model, reference, verification
from exactgrad.diffraction.configurations import SINGULAR, SYSTEMATIC, Configuration, drawn, light, singular
from exactgrad.diffraction.crystal import SHAPES
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.diffraction.parameters import table as parameter_table
from exactgrad.diffraction.parameters.table import find, names
from exactgrad.diffraction.reference import ComplexStep, FiftyDigits, Reference, moves_of
from exactgrad.diffraction.simulator import Simulator
from exactgrad.diffraction.tangents import crystal as tangents_crystal
from exactgrad.errors import InputError
from exactgrad.rotations import maps

EXAMPLE = "-cell 20 25 30 80 95 100 -N 4 -default_F 9 -detpixels 5 -pixel 8 -distance 60 -oversample 1 -misset 10 20 30"


def example(words=""):
    settings = Simulator.from_nanobragg(f"{EXAMPLE} {words}").settings
    return Configuration("example", settings)


@pytest.fixture(scope="module")
def found():
    return verification.checks(1, 0)


def test_everything_passes(found):
    assert [check for check in found if not check.passed] == []
    system = get_system("diffraction")
    assert system.load("verify") is verification.checks
    assert system.load("problems") is verification.example_problems


def test_every_parameter_has_its_rows(found):
    rows = {check.name for check in found}
    for prefix in ("gradient", "gradient, all digits", "gradient of a loss"):
        assert {name for name in names() if f"{prefix}: {name}" not in rows} == set(), prefix


def test_the_margins_are_wide(found):
    for check in found:
        if not check.planted and check.tolerance:
            assert check.error < 0.2 * check.tolerance, check


def test_planted_bugs_are_far_from_passing(found):
    planted = [check for check in found if check.planted]
    assert len(planted) >= 40
    assert len({check.name for check in planted}) == len(planted)
    for check in planted:
        assert check.error > 100 * check.tolerance, check


def test_rows_are_told_apart(found):
    rows = [(check.name, check.reference) for check in found]
    assert len(set(rows)) == len(rows)
    text = " ".join(name for name, _ in rows)
    for word in ("kernel", "model", "singular", "transpose", "bit-equal", "Taylor", "float32", "refinement"):
        assert word in text


def test_the_systematic_configurations_have_everything():
    every = [drawn(0, index).settings for index in range(SYSTEMATIC)]
    crystals = [settings.crystal for settings in every]
    for c_compat in (False, True):
        assert {s.crystal.shape for s in every if s.c_compat == c_compat} == set(SHAPES)
    assert {crystal.metric for crystal in crystals} == {"hkl", "reciprocal"}
    assert {s.detector.convention.name for s in every} >= {"mosflm", "denzo", "adxv", "xds", "dials"}
    assert {s.detector.placement.pivot for s in every} == {"beam", "sample"}
    assert {s.detector.placement.distance_is_close for s in every} == {True, False}
    assert any(s.detector.curved for s in every) and any(s.detector.point_pixel for s in every)
    assert any(s.detector.layers > 1 for s in every) and any(s.detector.oversample > 1 for s in every)
    assert any(crystal.mosaic.anisotropic for crystal in crystals) and any(c.phi_steps > 1 for c in crystals)
    assert any(crystal.mosaic.matrices is not None for crystal in crystals)
    assert any(len(s.beam.weights) == 3 for s in every) and any(s.beam.kahn is None for s in every)
    factors = [s.structure_factors for s in every]
    assert any(f.interpolate for f in factors) and any(f.table.size == 0 for f in factors)
    assert any(s.unlisted is not None for s in every) and any(f.table.ndim == 4 for f in factors)
    assert any(s.d_min_m for s in every) and any(any(s.detector.placement.panel_turn_rad) for s in every)


def test_configurations_repeat():
    assert drawn(3, 20).name == drawn(3, 20).name
    assert (
        drawn(3, 20).settings.crystal.cell == drawn(3, 20).settings.crystal.cell != drawn(4, 20).settings.crystal.cell
    )


def test_the_examples_have_every_number_as_an_unknown():
    free = {
        find(member.name).entry.name
        for problem in verification.example_problems().values()
        for member in problem.unknowns.members
    }
    arrays = {entry.name for entry in parameter_table.ENTRIES if entry.array}
    assert set(names()) - free - arrays == set()


def test_both_references_agree_and_are_exact():
    """Complex steps and 50 digits, and a closed form: photons are proportional to fluence and to F^2."""
    one = light(example("-mosaic 2 -mosaic_domains 3 -dispersion 2 -dispsteps 2"))
    step, digits = (Reference(one.settings, *one.pixels, kind) for kind in (ComplexStep(), FiftyDigits()))
    np.testing.assert_allclose(step.photons(), digits.photons(), rtol=1e-13)
    for name in ("cell_alpha", "mosaic", "detector_roty", "lambda"):
        wanted = digits.derivative(name)
        np.testing.assert_allclose(step.derivative(name), wanted, atol=1e-12 * np.abs(wanted).max())
    fluence, default = one.settings.value("fluence"), one.settings.value("default_F")
    np.testing.assert_allclose(digits.derivative("fluence") * fluence, digits.photons(), rtol=1e-12)
    np.testing.assert_allclose(digits.derivative("default_F") * default, 2 * digits.photons(), rtol=1e-12)


SI = {"": 1.0, "A": 1e-10, "m": 1.0, "mm": 1e-3, "um": 1e-6, "px": 1.0, "deg": np.pi / 180, "rad": 1.0, "%": 0.01}
SI |= dict.fromkeys(("cells", "photons/m^2", "electrons"), 1.0)


@pytest.mark.parametrize("name", sorted(parameter_table.NAMES))
def test_every_name_has_the_unit_it_says(name):
    """By the text of the unit, not by the table's number: `cell_a_m`, `mosaic_spread_rad`, ..."""
    named = find(name)
    kept = 1.0 if named.entry.si != 1 else SI[named.entry.unit]  # angstroms and degrees are kept as they are, or in SI
    assert named.si * kept == pytest.approx(SI[named.unit], rel=1e-14)


MOVES = {  # words, name: what moves per unit, by hand
    ("", "cell_b"): {"edges": [0, 1e-10, 0]},
    ("", "cell_alpha_rad"): {"angles": [1, 0, 0]},
    ("", "misset_rot_z"): {"misset": [0, 0, np.pi / 180]},
    ("", "Nc"): {"cells": [0, 0, 1]},
    ("", "N"): {"cells": [1, 1, 1]},
    ("-mosaic 2 -mosaic_domains 3", "mosaic_spread_rad"): {"spread": [1, 1, 1]},
    ("", "phi"): {"phi0": np.pi / 180},
    ("", "lambda_A"): {"wavelength": 1e-10},
    ("-dispersion 2 -dispsteps 2", "dispersion"): {"dispersion": 0.01},
    ("-dispersion 2 -dispsteps 2", "lambda[1]"): {"own": [0, 1e-10]},
    ("", "polarization"): {"kahn": 1},
    ("", "distance_mm"): {"distance": 1e-3},
    ("", "Xbeam"): {"position": [0, 1e-3]},  # MOSFLM's X runs along slow
    ("-xds", "Xbeam"): {"position": [1e-3, 0]},
    ("-adxv", "Ybeam"): {"position": [0, -1e-3]},
    ("-xds", "ORGY"): {"position": [0, 8e-3]},
    ("", "beam_f"): {"position": [1e-3, 0]},
    ("", "detector_rotx"): {"tilt": [np.pi / 180, 0, 0]},
    ("-pix0_vector 0.08 0.01 0.02", "pix0_y"): {"origin": [0, 1, 0]},
    ("", "panel_shift_normal"): {"panel_shift": [0, 0, 1e-3]},
    ("-detector_thick 400 -detector_abs 300", "detector_thick"): {"thickness": 1e-6},
    ("-detector_thick 400 -detector_abs 300", "detector_abs_um"): {"depth": 1e-6},
    ("", "water_um"): {"water": 1e-6},
}


@pytest.mark.parametrize(("words", "name"), MOVES)
def test_what_a_parameter_moves(words, name):
    stated = EXAMPLE.replace("-distance 60", words) if "pix0" in words else f"{EXAMPLE} {words}"
    moves = moves_of(Simulator.from_nanobragg(stated).settings, name)
    assert moves.keys() == MOVES[words, name].keys()
    for key, far in MOVES[words, name].items():
        np.testing.assert_allclose(moves[key], far, rtol=1e-12, atol=1e-12 * np.abs(far).max())


def test_what_a_parameter_moves_at_a_bound_and_on_a_curve(monkeypatch):
    """A spread of 0 can only grow; a photon energy of 1/lambda is no line."""
    at_zero = example("-mosaic 2 -mosaic_domains 3").settings.replace(mosaic=0.0)
    np.testing.assert_allclose(moves_of(at_zero, "mosaic")["spread"], np.radians([1, 1, 1]), rtol=1e-12)
    fields = replace(
        find("lambda").entry,
        get=lambda settings, _: 1.24e-6 / settings.beam.wavelength_m,
        put=lambda settings, _, value: replace(settings, beam=replace(settings.beam, wavelength_m=1.24e-6 / value)),
        si=1.0,
    )
    monkeypatch.setitem(parameter_table.NAMES, "lambda", (fields, "eV", 1.0))
    slope = moves_of(example().settings, "lambda")["wavelength"]
    assert float(slope) == pytest.approx(-(1e-20) / 1.24e-6, rel=1e-12)


def test_what_the_reference_cannot_know_is_told(monkeypatch):
    right, settings = reference.stated_of, example().settings
    fluence = settings.beam.fluence
    monkeypatch.setattr(reference, "stated_of", lambda given, a: right(given, a) | {"fluence": a.of(fluence)})
    with pytest.raises(InputError, match="fluence: the reference knows no number that it moves"):
        moves_of(settings, "fluence")
    rows = {row.name: row for row in verification.check_derivatives(example())}
    assert not rows["fluence"].passed and rows["cell_a"].passed
    assert "fluence" in rows["fluence"].reference

    def refused(*_):
        raise InputError("water: frozen")

    stuck = replace(find("water").entry, put=refused)
    monkeypatch.setitem(parameter_table.NAMES, "water", (stuck, "furlong", stuck.si))
    with pytest.raises(InputError, match="water: the reference cannot tell what it moves: water: frozen"):
        moves_of(settings, "water")


def test_a_parameter_without_a_configuration_fails():
    rows = verification.gradient_checks([example()], ComplexStep())
    by_name = {row.name: row for row in rows}
    assert not by_name["gradient: mosaic_a"].passed and by_name["gradient: cell_a"].passed


def test_without_mpmath_a_row_says_so(monkeypatch):
    def missing(self):
        raise ImportError("mpmath")

    monkeypatch.setattr(verification.FiftyDigits, "__init__", missing)
    rows = verification._digits_checks(0)
    assert len(rows) == 1 and rows[0].passed and "not installed" in rows[0].reference


def test_without_torch_a_row_says_so(monkeypatch):
    monkeypatch.setattr(verification.importlib.util, "find_spec", lambda name: None)
    assert "not installed" in verification.float32_check().reference


def test_a_wrong_tangent_fails(monkeypatch):
    """The product itself broken, not a copy: its rows fail, and those that do not depend on it pass."""
    right = tangents_crystal.unit_volume
    monkeypatch.setattr(tangents_crystal, "unit_volume", lambda a: (right(a)[0], right(a)[1][[1, 0, 2]]))
    rows = {row.name: row.passed for row in verification.check_derivatives(example())}
    assert not rows["cell_alpha"] and rows["cell_a"] and rows["misset_x"]
    assert verification.check_image(example()).passed


def test_a_wrong_map_of_a_value_fails(monkeypatch):
    """A bug that tangents and reference cannot see: the value goes to the wrong place. Differences see it."""
    assert verification.check_difference(example(), "misset_x", 1.0).passed
    right = verification.Simulator.with_values
    monkeypatch.setattr(
        verification.Simulator,
        "with_values",
        lambda self, values: right(self, {name.replace("_x", "_y"): value for name, value in values.items()}),
    )
    assert not verification.check_difference(example(), "misset_x", 1.0).passed


def test_differences_stay_clear_of_kinks():
    """With a table of F, whose steps are halfway between reflections, the chosen step crosses none."""
    for index in range(SYSTEMATIC):
        one = verification.clear_of_kinks(drawn(1, index))
        pixels = one.pixels
        assert pixels[0].size <= 4 and one.settings.d_min_m == 0
        step = verification.largest_step(one.settings, pixels, "fluence", 1.0)
        assert 0 < step <= 0.05 * one.settings.value("fluence")
        h, slope = Reference(one.settings, *pixels).miller_slope("twotheta")
        step = verification.largest_step(one.settings, pixels, "twotheta", 1.0)
        assert (np.abs(step * slope) <= verification._room(one.settings, h)).all()


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_points_are_singular(name):
    """They are what their names say."""
    settings = next(one.settings for one in singular() if one.name == name)
    crystal, scene = settings.crystal, settings.scene()
    if "at the direct beam" in name:
        pixel = np.array([3])
        h, _ = Reference(settings, pixel, pixel).miller_slope("fluence")
        assert np.abs(h).max() < 1e-12
    if "spread" in name:
        assert np.all(np.asarray(crystal.mosaic.spread_rad) == 0) and np.abs(crystal.mosaic.vectors).max() > 0
    if "along the beam" in name:
        assert scene.beam.kahn == 0 and not scene.beam.field_axes[1].any()
    if "weight" in name:
        assert scene.beam.weights[1] == 0
    if "grating" in name:
        h, _ = Reference(settings, np.array([1]), np.array([5])).miller_slope("fluence")
        off = h.ravel() * 4 - np.rint(h.ravel() * 4)
        assert np.abs(off[[0, 1]]).max() < 1e-9


def test_reference_by_hand():
    """The first-order change of a rotated lattice, written by hand: the reference's own rotations are right."""
    mosaic = Mosaic.gaussian(np.radians([3.0, 8.0, 15.0]), 2, 7)
    settings = replace(example().settings, crystal=replace(example().settings.crystal, mosaic=mosaic))
    slow = fast = np.array([1, 2])
    h, slope = Reference(settings, slow, fast).miller_slope("misset_x")
    crystal = settings.crystal.crystal()
    frame = maps.exp(np.radians([0.0, 0.0, 30.0])) @ maps.exp(np.radians([0.0, 20.0, 0.0]))
    about = frame @ np.array([1.0, 0, 0])
    turned = crystal.lattices() @ maps.exp(np.radians(1e-4) * about).T
    x = settings.scene()
    d = model.direction(model.position(x, slow, fast, 0, 0, 0))
    q = model.scattering_vector(d, x.beam.directions[0], x.beam.wavelengths_m[0])
    moved = np.stack([model.miller(lattice, q) for lattice in turned])
    np.testing.assert_allclose(moved - h[0, :, 0], 1e-4 * slope[0, :, 0], atol=1e-9)


def test_what_has_no_derivative_is_left_out():
    with pytest.raises(InputError, match="tophat"):
        example("-tophat_spots").settings.movement("cell_a")
    assert "cell_a" not in example("-tophat_spots").parameters
    assert {"fluence", "polar", "default_F"} <= set(example("-tophat_spots").parameters)
