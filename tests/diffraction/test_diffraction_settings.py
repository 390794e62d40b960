"""Settings: what a command line states, values by every name, and the ways to state mosaicity and orientation."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.diffraction import Settings
from exactgrad.diffraction.assemble import settings_of
from exactgrad.diffraction.crystal import Crystal, misset_matrix, random_orientation, reciprocal_of
from exactgrad.diffraction.geometry import CONVENTIONS
from exactgrad.diffraction.mosaic import Mosaic, gaussian_vectors
from exactgrad.diffraction.options import parse, read
from exactgrad.diffraction.parameters import table as parameter_table
from exactgrad.diffraction.settings.crystal import CrystalSettings, cell_and_setting
from exactgrad.errors import InputError
from exactgrad.rotations import logarithm, maps

INPUTS = Path(__file__).parents[1] / "data" / "golden_diffraction" / "inputs"
WORDS = "-cell 60 70 80 85 95 105 -default_F 10 -detpixels 12 -pixel 2 -oversample 1"


def stated(extra="", c_compat=False, words=WORDS) -> Settings:
    return settings_of(read(shlex.split(f"{words} {extra}"), INPUTS, c_compat))


VALUES = [  # options, name, value
    ("", "cell_gamma", 105.0),
    ("", "cell_b_m", 70e-10),
    ("-misset 1 2 3", "misset_rot_y", 2.0),
    ("-misset 1 2 3", "misset_z_rad", np.radians(3)),
    ("-mosaic 0.5", "mosaic", 0.5),
    ("-mosaic 0.5", "mosaic_spread_rad", np.radians(0.5)),
    ("-N 7", "N", 7.0),
    ("-N 7 -Nb 9.5", "Nb", 9.5),
    ("-phi 12 -osc 2", "phi", 12.0),
    ("-phi 12 -phistep 0.5 -phisteps 4", "osc", 2.0),
    ("-lambda 1.2", "lambda", 1.2),
    ("-energy 12398.42", "lambda_A", 1.0),
    ("-dispersion 2 -dispsteps 3", "lambda[0]", 0.99),
    ("-dispersion 2 -dispsteps 3", "dispersion", 2.0),
    ("-sourcefile sources.txt", "weight[1]", 3.0),
    ("-flux 1e12 -exposure 0.1 -beamsize 0.05", "fluence", 1e11 / 25e-10),
    ("-polar 0.9", "polarization_factor", 0.9),
    ("-distance 150", "distance", 150.0),
    ("-distance 150", "distance_m", 0.15),
    ("-close_distance 150", "close_distance_mm", 150.0),
    ("-detector_rotx 5", "detector_rotx", 5.0),
    ("-twotheta 20", "twotheta_rad", np.radians(20)),
    ("-pix0_vector 0.2 0.01 0.02", "pix0_y", 0.01),
    ("-detector_abs 300 -detector_thick 450", "detector_abs", 300.0),
    ("-detector_thick 450", "detector_abs", 450.0),
    ("-water 5", "water", 5.0),
    ("-default_F 33", "default_F", 33.0),
    ("-hkl few.hkl", "F[-6,-6,-5]", 71.4),
    ("-Xbeam 5 -Ybeam 7", "Xbeam", 5.0),
    ("-Xbeam 5 -Ybeam 7", "beam_center_f", 8.0),  # MOSFLM: Ybeam, and half a pixel
    ("-Xbeam 5 -Ybeam 7", "ORGX", 4.5),
    ("-adxv -Xbeam 5 -Ybeam 7", "beam_center_s_mm", 17.0),  # from the far edge of 12 pixels of 2 mm
    ("-xds -ORGX 5 -ORGY 7", "ORGY", 7.0),
    ("-xds -ORGX 5 -ORGY 7", "Xbeam", 9.0),
    ("-dials -Xbeam 5 -Ybeam 7", "Ybeam", 7.0),
]


@pytest.mark.parametrize(("extra", "name", "value"), VALUES)
def test_values_are_those_stated(extra, name, value):
    assert stated(extra).value(name) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("extra", "name"), [row[:2] for row in VALUES])
def test_a_value_put_back_changes_nothing(extra, name):
    here = stated(extra)
    again = here.replace({name: here.value(name)})
    one, two = here.scene(), again.scene()
    np.testing.assert_allclose(two.crystal.lattices(), one.crystal.lattices(), rtol=1e-12, atol=1e-24)
    np.testing.assert_allclose(two.detector.origin, one.detector.origin, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(two.beam.wavelengths_m, one.beam.wavelengths_m, rtol=1e-14)
    assert again.replace({name: here.value(name) * 1.01}).value(name) != here.value(name)


@pytest.mark.parametrize("name", [name for name in CONVENTIONS if name != "custom"])
def test_beam_centres_go_both_ways(name):
    here = stated(f"-{name} -Xbeam 9 -Ybeam 13 -detector_rotx 3")
    changed = here.replace(Xbeam=10.0, Ybeam=11.0)
    wanted = stated(f"-{name} -Xbeam 10 -Ybeam 11 -detector_rotx 3")
    np.testing.assert_allclose(changed.scene().detector.origin, wanted.scene().detector.origin, atol=1e-15)
    assert changed.value("Xbeam") == pytest.approx(10.0) and changed.value("Ybeam") == pytest.approx(11.0)
    near = stated(f"-{name} -ORGX 4 -ORGY 5")
    np.testing.assert_allclose(
        near.replace(ORGX=4.5).scene().detector.origin,
        stated(f"-{name} -ORGX 4.5 -ORGY 5").scene().detector.origin,
        atol=1e-15,
    )


OUT_OF_BOUNDS = [
    ({"cell_a": 0.0}, "cell_a = 0 A: must be from 0.1 to 100000"),
    ({"mosaic_spread_rad": -0.1}, "mosaic_spread_rad = -0.1 rad: must be from 0"),
    ({"polar": 1.5}, "polar = 1.5: must be from -1 to 1"),
    ({"distance_m": -1.0}, "distance_m = -1 m"),
    ({"N": 0.5}, "N = 0.5 cells: must be from 1"),
    ({"lambda": np.nan}, "lambda = nan A: a finite number is needed"),
    ({"lambda": "blue"}, "lambda: real numbers expected"),
    ({"cell_a": [1.0, 2.0]}, r"cell_a: shape \(2,\)"),
    ({"nonsense": 1.0}, "nonsense: no such parameter"),
    ({"weight[7]": 1.0}, "the beam has 1 sources"),
    ({"weight[]": [-1.0]}, r"weight\[\] = -1: must be from 0"),
]


@pytest.mark.parametrize(("change", "why"), OUT_OF_BOUNDS)
def test_bad_values_are_refused_in_one_line(change, why):
    with pytest.raises(InputError, match=why) as caught:
        stated().replace(change)
    assert "\n" not in str(caught.value)


def test_arrays_are_replaced_whole():
    here = stated("-dispersion 2 -dispsteps 3 -hkl few.hkl")
    changed = here.replace({"lambda[]": [1.0, 1.1, 1.2], "weight[]": [1.0, 2.0, 1.0]})
    np.testing.assert_allclose(changed.scene().beam.wavelengths_m, [1e-10, 1.1e-10, 1.2e-10], rtol=1e-14)
    np.testing.assert_allclose(changed.scene().beam.weights, [0.25, 0.5, 0.25])
    table = here.value("F") + 1.0
    np.testing.assert_array_equal(here.replace(F=table).scene().structure_factors.table, table)
    one = here.replace({"lambda[1]": 1.3})
    np.testing.assert_allclose(one.scene().beam.wavelengths_m, [0.99e-10, 1.3e-10, 1.01e-10], rtol=1e-14)


def test_sources_of_a_file_keep_their_own_wavelength(tmp_path):
    (tmp_path / "mixed.txt").write_text("-1 0 0 1 1.4e-10\n-1 0 0 2\n")
    here = settings_of(read(f"{WORDS} -lambda 1.2 -sourcefile mixed.txt".split(), tmp_path))
    np.testing.assert_allclose(here.scene().beam.wavelengths_m, [1.4e-10, 1.2e-10], rtol=1e-14)
    np.testing.assert_allclose(here.replace({"lambda": 1.3}).scene().beam.wavelengths_m, [1.4e-10, 1.3e-10], rtol=1e-14)


# -- crystal ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.tuples(*[st.floats(30, 200)] * 3),
    st.tuples(*[st.floats(70, 110)] * 3),
    st.integers(1, 1000),
    st.booleans(),
)
def test_a_matrix_is_a_cell_and_a_setting(edges, angles, seed, left_handed):
    turn = random_orientation(seed) @ np.diag([1, 1, -1.0 if left_handed else 1.0])
    rows = Crystal.from_cell((*edges, *angles)).reciprocal @ turn.T
    cell, setting = cell_and_setting(rows)
    np.testing.assert_allclose(cell, (*edges, *angles), rtol=1e-10)
    np.testing.assert_allclose(setting, turn, atol=1e-10)
    np.testing.assert_allclose(
        CrystalSettings(cell, setting).crystal().lattice, reciprocal_of(rows), rtol=0, atol=1e-20
    )


def test_a_matrix_renders_as_its_cell():
    from_matrix, cell = stated("-mat auto.mat -misset 2 3 4", words=WORDS.split(" ", 7)[-1]), None
    values = [from_matrix.value(name) for name in parameter_table.names()[:6]]
    cell = " ".join(map(repr, values))
    turned = stated("-misset 2 3 4", words=f"-cell {cell} {WORDS.split(' ', 7)[-1]}")
    turned = replace(turned, crystal=replace(turned.crystal, setting=from_matrix.crystal.setting))
    np.testing.assert_allclose(turned.scene().crystal.lattice, from_matrix.scene().crystal.lattice, atol=1e-20)


def test_missetting_comes_after_a_drawn_orientation():
    drawn = stated("-misset random -misset_seed 5")
    np.testing.assert_allclose(drawn.crystal.frame, random_orientation(5), atol=1e-14)
    turned = drawn.replace(misset_x=10.0, misset_z=-20.0)
    np.testing.assert_allclose(turned.crystal.frame, misset_matrix((10, 0, -20)) @ random_orientation(5), atol=1e-14)


# -- mosaicity --------------------------------------------------------------------------------------------------------


def test_gaussian_domains_are_normal_and_do_not_turn_the_crystal():
    vectors = gaussian_vectors(4001, 11)
    assert np.abs(vectors.sum(axis=0)).max() < 1e-12 and not vectors[-1].any()
    half = vectors[:-1:2]
    assert np.abs(half.mean(axis=0)).max() < 4 / np.sqrt(len(half))
    np.testing.assert_allclose(np.cov(half.T, bias=True), np.eye(3), atol=0.12)
    np.testing.assert_array_equal(gaussian_vectors(10, 3), gaussian_vectors(10, 3))
    assert np.abs(gaussian_vectors(10, 3) - gaussian_vectors(10, 4)).max() > 0.1
    turned = logarithm.log(Mosaic.gaussian(0.01, 30, 2).rotations)
    np.testing.assert_allclose(turned, 0.01 * gaussian_vectors(30, 2), atol=1e-12)


def test_anisotropic_domains_belong_to_the_crystal():
    mosaic = Mosaic.cap([0.0, 0.0, 0.3], 6, 5)
    here = stated("-misset 10 20 30 -phi 40 -osc 50 -phisteps 2")
    crystal = replace(here, crystal=replace(here.crystal, mosaic=mosaic)).scene().crystal
    lattices = crystal.lattices().reshape(2, 6, 3, 3)
    spindle = maps.exp(crystal.phi_rad[:, None] * crystal.spindle)
    for step in range(2):  # turned about c only: c is where the spindle takes it, whatever the domain
        np.testing.assert_allclose(lattices[step, :, 2] - spindle[step] @ crystal.lattice[2], 0.0, atol=1e-21)
    assert np.abs(lattices[:, 1:, 0] - lattices[:, :1, 0]).max() > 1e-11


def test_even_spreads_are_one_spread_in_another_frame():
    one, three = (Mosaic.cap(spread, 5, 9) for spread in (0.2, [0.2, 0.2, 0.2]))
    np.testing.assert_array_equal(one.rotations, three.rotations)
    still = CrystalSettings((50, 60, 70, 80, 95, 100), mosaic=one)
    np.testing.assert_allclose(
        still.crystal().lattices(), replace(still, mosaic=three).crystal().lattices(), atol=1e-22
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mosaic.cap(-0.1, 3, 1),
        lambda: Mosaic.cap(4.0, 3, 1),
        lambda: Mosaic.cap(0.1, 0, 1),
        lambda: Mosaic.gaussian(0.1, 2_000_000, 1),
        lambda: Mosaic.gaussian([0.1, 0.1], 2, 1),
        lambda: Mosaic.gaussian([0.1, np.nan, 0.1], 2, 1),
        lambda: Mosaic(matrices=np.eye(3)),
        lambda: Mosaic(matrices=[2 * np.eye(3)]),
        lambda: Mosaic.cap(0.1, 3, -1),
    ],
)
def test_bad_mosaicity_is_refused(make):
    with pytest.raises(InputError):
        make()


def test_settings_and_parse_agree():
    words = shlex.split(f"{WORDS} -mosaic 0.4 -mosaic_domains 3 -osc 1 -detector_rotx 4")
    here, there = settings_of(read(words)).scene(), parse(words)[0]
    np.testing.assert_array_equal(here.crystal.lattices(), there.crystal.lattices())
    np.testing.assert_array_equal(here.detector.origin, there.detector.origin)


def test_cautions_name_the_steps():
    assert stated().cautions() == ()
    assert "nearest reflection" in stated("-hkl few.hkl -N 5").cautions()[0]
    assert stated("-hkl few.hkl -interpolate").cautions() == ()
    assert "d_min" in stated("-dmin 4").cautions()[0]
