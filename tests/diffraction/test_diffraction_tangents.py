"""How a scene moves with every parameter, against sixth-order differences of the scene's own arrays; and planted bugs.

The differences see only `Settings.replace` and `Settings.scene`; the movements never call either.
"""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.diffraction.assemble import settings_of
from exactgrad.diffraction.crystal import Crystal
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.diffraction.movement import NAMES
from exactgrad.diffraction.options import read
from exactgrad.diffraction.tangents import beam as tangents_beam
from exactgrad.diffraction.tangents import crystal as tangents_crystal
from exactgrad.diffraction.tangents import detector as tangents_detector
from exactgrad.errors import InputError

INPUTS = Path(__file__).parents[1] / "data" / "golden_diffraction" / "inputs"
TRICLINIC = "-cell 70 80 90 85 95 105 -default_F 10 -N 5 -detpixels 12 -pixel 2 -oversample 1 -lambda 1.3"
CELL = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")
MISSET = ("misset_x", "misset_y", "misset_z")
TILTS = ("detector_rotx", "detector_roty", "detector_rotz", "twotheta")
CENTRES = ("Xbeam", "Ybeam", "Xclose", "Yclose", "ORGX", "ORGY", "beam_center_f", "beam_center_s")
STEPS = {"fluence": 1e26, "polar": 0.01, "water": 0.1, "lambda": 0.003, "dispersion": 0.1, "detector_thick": 5.0}
STEPS |= dict.fromkeys(("mosaic", "mosaic_a", "mosaic_b"), 0.08) | {"mosaic_c_rad": 0.004}
STEPS |= {"detector_abs": 4.0, "mosaic_spread_rad": 0.003, "misset_x_rad": 0.004, "weight[1]": 0.03, "lambda[1]": 0.003}
STEPS |= dict.fromkeys(("pix0_x", "pix0_y", "pix0_z"), 1e-3) | {"wavelength_A": 0.003, "distance_m": 1e-3}
STENCIL = ((1, 45 / 60), (2, -9 / 60), (3, 1 / 60))


def stated(words, c_compat=False):
    return settings_of(read(shlex.split(words), INPUTS, c_compat))


def arrays(scene):
    """Return the parts of a scene that a `Movement` speaks of, by its names."""
    crystal, beam, detector = scene.crystal, scene.beam, scene.detector
    found = {name: getattr(detector, name) for name in ("origin", "fast", "slow", "normal")}
    found |= {name: getattr(detector, name) for name in ("layer_m", "attenuation_per_m", "distance_m")}
    found |= {"lattices": crystal.lattices(), "reciprocal": crystal.reciprocal, "cells": crystal.cells}
    found |= {"wavelengths_m": beam.wavelengths_m, "shares": beam.weights, "kahn": beam.kahn or 0.0}
    found |= {"fluence": beam.fluence, "water_m": scene.water_m}
    found |= {"table": scene.structure_factors.table, "default": scene.structure_factors.default}
    return {name: np.asarray(value, dtype=float) for name, value in found.items()}


def error(stated_settings, name):
    """Return the largest difference of a movement from the differences, beyond their rounding, in units of its own."""
    step, value = STEPS.get(name, 0.2), stated_settings.value(name)
    here = arrays(stated_settings.scene())
    wanted = {part: np.zeros(array.shape) for part, array in here.items()}
    for distance, share in STENCIL:
        above, below = (
            arrays(stated_settings.replace({name: value + sign * distance * step}).scene()) for sign in (1, -1)
        )
        for part in wanted:
            wanted[part] += share * (above[part] - below[part]) / step
    found, worst = stated_settings.movement(name), 0.0
    moved = False
    for part in NAMES:
        ours = getattr(found, part)
        ours = np.zeros(wanted[part].shape) if ours is None else np.asarray(ours)
        assert ours.shape == wanted[part].shape, part
        rounding = 1e-14 * np.abs(here[part]).max(initial=0.0) / step
        size = np.abs(wanted[part]).max(initial=0.0)
        if np.abs(ours - wanted[part]).max(initial=0.0) > 10 * rounding:
            worst = max(worst, np.abs(ours - wanted[part]).max() / size if size > 10 * rounding else np.inf)
        moved |= bool(np.abs(ours).max(initial=0.0) > 0)
    assert moved
    return worst


LINES = [  # options, parameters
    ("-water 5", (*CELL, *MISSET, "phi", "distance", "lambda", "fluence", "polar", "default_F", "water")),
    ("-distance 110", ("N", "Na", "Nb", "Nc", "distance")),
    ("-misset 10 -20 30", (*CELL, *MISSET)),
    ("-misset 10 90 30", MISSET),
    ("-misset random -misset_seed 4", (*CELL, *MISSET)),
    ("-gauss_xtal", (*CELL, *MISSET)),
    ("-mosaic 0.6 -mosaic_domains 5 -phi 12 -osc 3 -phisteps 4", (*CELL, *MISSET, "mosaic", "phi", "osc")),
    ("-mosaic 0.6 -mosaic_domains 5", ("mosaic_spread_rad", "misset_rot_x", "misset_x_rad")),
    ("-spindle_axis 1 2 -3 -phi 12 -osc 3", (*CELL, *MISSET, "phi", "osc")),
    ("-dispersion 3 -dispsteps 4 -divergence 1", ("lambda", "lambda_A", "dispersion", "weight[1]", "lambda[1]")),
    ("-sourcefile sources.txt", ("weight[1]", "lambda[1]", "lambda[0]")),
    ("-detector_abs 300 -detector_thick 450 -detector_thicksteps 3", ("detector_thick", "detector_abs")),
    ("-detector_thick 450", ("detector_thick", "detector_abs")),
    ("-pix0_vector 0.2 0.01 0.02 -detector_rotx 4", ("pix0_x", "pix0_y", "pix0_z", *TILTS)),
    ("-hkl few.hkl", ("default_F",)),
    *((f"-{name}", (*CENTRES, "distance", *TILTS)) for name in ("mosflm", "denzo", "adxv", "xds", "dials")),
    *(
        (f"-{name} -pivot {pivot} -detector_rotx 5 -detector_roty -7 -detector_rotz 11 -twotheta 13 {rest}", parameters)
        for name in ("mosflm", "adxv", "xds", "dials")
        for pivot in ("beam", "sample")
        for rest, parameters in (
            ("", (*CENTRES, "distance", "distance_m", *TILTS)),
            ("-ORGX 5 -ORGY 7", (*CENTRES, "distance", *TILTS)),
            ("-close_distance 90", ("close_distance", "Xbeam", *TILTS)),
        )
        if "close" not in rest or name in ("mosflm", "xds")
    ),
    *(  # vectors of one's own: the beam does not meet the sensor at its nearest point
        (
            f"-fdet_vector 0 0.6 0.8 -sdet_vector 0.6 -0.64 0.48 -odet_vector 0.8 0.48 -0.36 -pivot {pivot} {rest}",
            (*CENTRES, near, *TILTS),
        )
        for pivot in ("beam", "sample")
        for rest, near in (
            ("-Xbeam 9 -Ybeam 11 -detector_roty 3", "distance"),
            ("-Xclose 9 -Yclose 11 -twotheta 4", "distance"),
            ("-Xclose 9 -Yclose 11 -close_distance 80", "close_distance"),
            ("-Xbeam 9 -Ybeam 11 -close_distance 80", "close_distance"),
        )
    ),
]
C_LINES = [
    ("-misset 10 -20 30 -mosaic 0.6 -mosaic_domains 4 -phi 3 -osc 2", (*CELL, *MISSET, "phi", "osc")),
    ("-gauss_xtal", (*CELL, *MISSET, "N")),
    ("-detector_abs 300 -detector_thick 450 -detector_thicksteps 3", ("detector_thick", "detector_abs")),
    ("-xds -ORGX 5 -ORGY 7 -detector_rotx 5 -twotheta 7", ("ORGX", "ORGY", "distance", *TILTS)),
    ("-mosflm -Xbeam 5 -Ybeam 7 -detector_rotx 5 -twotheta 7", ("Xbeam", "Ybeam", "distance", *TILTS)),
    ("-spindle_axis 0 1 0 -Xbeam 5 -Ybeam 7 -detector_rotx 5", ("Xbeam", "Ybeam", "distance", *TILTS)),
]


@pytest.mark.parametrize(("words", "parameters"), LINES)
def test_movements_are_the_differences(words, parameters):
    here = stated(f"{TRICLINIC} {words}")
    for name in parameters:
        assert error(here, name) <= 1e-9, name


@pytest.mark.parametrize(("words", "parameters"), C_LINES)
def test_movements_of_the_c_programs_scene(words, parameters):
    here = stated(f"{TRICLINIC} {words}", c_compat=True)
    for name in parameters:
        assert error(here, name) <= 1e-9, name


def test_rounded_mosaic_angles_move_as_those_before_rounding():
    words = f"{TRICLINIC} -mosaic 0.6 -mosaic_domains 6"
    rounded = stated(words, c_compat=True)
    assert rounded.crystal.mosaic.rounded
    plain = replace(rounded, crystal=replace(rounded.crystal, mosaic=replace(rounded.crystal.mosaic, rounded=False)))
    assert error(plain, "mosaic") <= 1e-9
    np.testing.assert_array_equal(plain.movement("mosaic").lattices, rounded.movement("mosaic").lattices)


@pytest.mark.parametrize("c_compat", [False, True])
def test_matrices(c_compat):
    words = f"-mat auto.mat {TRICLINIC.split(' ', 7)[-1]} -misset 3 4 5 -osc 2"
    here = stated(words, c_compat)
    for name in (*CELL, *MISSET, "phi"):
        assert error(here, name) <= 1e-9, name
    assert error(here, "lambda") <= 1e-9  # the cell stays as it was read


def test_the_c_programs_matrix_with_a_cell():
    here = stated(f"-mat auto.mat {TRICLINIC} -gauss_xtal -misset 3 4 5", c_compat=True)
    assert here.crystal.rows is not None
    for name in (*CELL[:3], *MISSET):
        assert error(here, name) <= 1e-9, name


@pytest.mark.parametrize("draw", [Mosaic.cap, Mosaic.gaussian])
def test_anisotropic_mosaicity(draw):
    here = stated(f"{TRICLINIC} -misset 10 -20 30 -phi 3 -osc 20 -phisteps 3")
    mosaic = draw(np.radians([0.3, 0.8, 1.5]), 5, 7)
    here = replace(here, crystal=replace(here.crystal, mosaic=mosaic))
    for name in ("mosaic_a", "mosaic_b", "mosaic_c_rad", *CELL, *MISSET, "phi", "osc"):
        assert error(here, name) <= 1e-9, name
    even = replace(here, crystal=replace(here.crystal, mosaic=replace(mosaic, spread_rad=np.full(3, 0.01))))
    assert error(even, "mosaic") <= 1e-9
    parts = [even.movement(f"mosaic_{axis}").lattices for axis in "abc"]
    np.testing.assert_allclose(even.movement("mosaic").lattices, sum(parts), atol=1e-15 * 1e-8)


def test_explicit_matrices():
    here = stated(f"{TRICLINIC} -misset 10 -20 30 -osc 2")
    matrices = Mosaic.gaussian(0.02, 4, 3).rotations
    here = replace(here, crystal=replace(here.crystal, mosaic=Mosaic(matrices=matrices)))
    np.testing.assert_array_equal(here.scene().crystal.domains, matrices)
    for name in (*CELL, *MISSET, "phi", "osc"):
        assert error(here, name) <= 1e-9, name
    with pytest.raises(InputError, match="given as matrices"):
        here.movement("mosaic")


def test_nothing_is_singular_at_zero():
    here = stated(f"{TRICLINIC} -mosaic 0.5 -mosaic_domains 3 -osc 1")
    zero = here.replace(mosaic=0.0, osc=0.0, phi=0.0, misset_x=0.0)
    for name in (*MISSET, "phi", "osc", *TILTS):
        assert error(zero, name) <= 1e-9, name
    by_spread = (
        arrays(zero.replace(mosaic=1e-4).scene())["lattices"] - arrays(zero.scene())["lattices"]
    ) / 1e-4  # a spread is not below zero
    found = zero.movement("mosaic").lattices
    np.testing.assert_allclose(found, by_spread, atol=1e-5 * np.abs(found).max())


def test_arrays_move_along_a_direction():
    here = stated(f"{TRICLINIC} -sourcefile sources.txt -hkl few.hkl")
    rng = np.random.default_rng(5)
    for name in ("lambda[]", "weight[]", "F"):
        value = here.value(name)
        direction = rng.standard_normal(value.shape) * np.abs(value).max() * 1e-3
        above, below = (arrays(here.replace({name: value + sign * direction}).scene()) for sign in (1, -1))
        moved = here.movement_along(name, direction)
        for part in ("wavelengths_m", "shares", "table"):
            ours = getattr(moved, part)
            wanted = (above[part] - below[part]) / 2
            ours = np.zeros(wanted.shape) if ours is None else ours
            np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-6 * np.abs(wanted).max() + 1e-30, err_msg=name)


def test_the_default_moves_what_is_not_listed(tmp_path):
    (tmp_path / "sparse.hkl").write_text("0 0 0 5\n1 2 1 10\n-1 0 3 7\n")
    here = stated(f"{TRICLINIC} -hkl {tmp_path / 'sparse.hkl'}")
    assert error(here, "default_F") <= 1e-9 and error(here, "F[1,2,1]") <= 1e-9
    moved = here.movement("default_F")
    assert moved.table.sum() == moved.table.size - 3 and moved.default == 1.0
    listed = here.replace({"F[0,1,2]": 3.0})
    assert listed.movement("default_F").table.sum() == moved.table.size - 4
    assert listed.value("F[0,1,2]") == 3.0 and here.value("F[0,1,2]") == 10.0
    with pytest.raises(InputError, match=r"F\[9,0,0\]: not in the table"):
        here.movement("F[9,0,0]")


ANGLES = st.tuples(*[st.floats(65, 115)] * 3)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(st.tuples(*[st.floats(30, 200)] * 3), ANGLES, st.tuples(*[st.floats(-170, 170)] * 3), st.booleans())
def test_any_cell_any_orientation(edges, angles, misset, c_compat):
    numbers = " ".join(map(repr, (*edges, *angles)))
    words = f"-cell {numbers} -misset {' '.join(map(repr, misset))} -default_F 1 -detpixels 4 -gauss_xtal -oversample 1"
    here = stated(words, c_compat)
    for name in (*CELL, *MISSET):
        assert error(here, name) <= 1e-9, name


# -- planted bugs -----------------------------------------------------------------------------------------------------


def _wrong_volume(patch):
    right = tangents_crystal.unit_volume
    patch.setattr(tangents_crystal, "unit_volume", lambda angles: (right(angles)[0], right(angles)[1][[1, 0, 2]]))


def _true_c_lattice(patch):
    patch.setattr(tangents_crystal, "c_unit_edges", tangents_crystal.unit_edges)


def _turn_after(patch):
    right = tangents_crystal.euler_turn
    patch.setattr(tangents_crystal, "euler_turn", lambda angles, change: right((0.0, 0.0, 0.0), change))


def _no_jacobian(patch):
    def by(self, change):
        e = self.vectors * np.asarray(change)
        return tangents_crystal.maps.skew(e) @ self.rotations

    patch.setattr(Mosaic, "rotations_by", by)


def _mosaic_before_the_crystal(patch):
    right = tangents_crystal.turns

    def swapped(s, frame=None, domains=None, spindle=None):
        if not s.mosaic.anisotropic:
            return right(s, frame, domains, spindle)
        frame = s.frame if frame is None else frame
        domains = s.mosaic.rotations if domains is None else domains
        spindle = s.spindle_rotations if spindle is None else spindle
        return domains @ (spindle @ frame)[:, None]

    patch.setattr(tangents_crystal, "turns", swapped)


def _right_edges(patch):
    def osc(s):
        return tangents_crystal.phi(s, (1 + np.arange(s.phi_steps)) / s.phi_steps)

    patch.setattr(tangents_crystal, "osc", osc)


def _no_pivot(patch):
    right = tangents_detector.moved
    patch.setattr(
        tangents_detector, "moved", lambda p, change: right(replace(p, pivot="beam", position_of="beam"), change)
    )


def _fixed_cosine(patch):
    patch.setattr(tangents_detector, "_close", lambda p, change, c, _: (c * p.distance_m, c * change.distance_m))


def _weights_not_normalised(patch):
    from exactgrad.diffraction.movement import Movement

    patch.setattr(tangents_beam, "weights", lambda beam, change: Movement(shares=change / beam.weights.sum()))


def _anisotropic():
    here = stated(f"{TRICLINIC} -misset 10 -20 30 -phi 3 -osc 20 -phisteps 3")
    mosaic = Mosaic.gaussian(np.radians([3.0, 8.0, 15.0]), 5, 7)
    return replace(here, crystal=replace(here.crystal, mosaic=mosaic))


TILTED = f"{TRICLINIC} -xds -ORGX 5 -ORGY 7 -detector_rotx 5 -twotheta 7"


@pytest.mark.parametrize(
    ("bug", "make", "name"),
    [
        (_wrong_volume, lambda: stated(TRICLINIC), "cell_alpha"),
        (_true_c_lattice, lambda: stated(TRICLINIC, True), "cell_gamma"),
        (_turn_after, lambda: stated(f"{TRICLINIC} -misset 10 -20 30"), "misset_x"),
        (_no_jacobian, _anisotropic, "mosaic_b"),
        (_mosaic_before_the_crystal, _anisotropic, "mosaic_a"),
        (_right_edges, lambda: stated(f"{TRICLINIC} -osc 3 -phisteps 3"), "osc"),
        (_no_pivot, lambda: stated(TILTED), "detector_rotx"),
        (_fixed_cosine, lambda: stated(TILTED + " -detector_roty 4"), "detector_roty"),
        (_weights_not_normalised, lambda: stated(f"{TRICLINIC} -sourcefile sources.txt"), "weight[1]"),
    ],
)
def test_planted_bugs_are_caught(bug, make, name, monkeypatch):
    assert error(make(), name) <= 1e-9
    bug(monkeypatch)
    assert error(make(), name) > 1e-6


def test_a_lattice_is_the_closed_form():
    for c_compat, edges in ((False, tangents_crystal.unit_edges), (True, tangents_crystal.c_unit_edges)):
        wanted = Crystal.from_cell((70, 80, 90, 85, 95, 105), c_compat=c_compat).lattice
        found = 1e-10 * np.array([[70.0], [80.0], [90.0]]) * edges((85, 95, 105))[0]
        np.testing.assert_allclose(found, wanted, atol=1e-23)
