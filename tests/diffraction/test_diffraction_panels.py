"""Panels that move: places against vectors written out, derivatives against differences, sums against single panels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from exactgrad.diffraction.from_job import shots
from exactgrad.diffraction.job import check_job
from exactgrad.diffraction.panels import Panels
from exactgrad.diffraction.simulate import simulate
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError
from exactgrad.rotations import maps

WORDS = "-cell 50 60 70 80 95 100 -default_F 30 -N 4 -gauss_xtal -misset 5 6 7 -detpixels_f 9 -detpixels_s 7 -pixel 1.5"
WORDS += " -oversample 1 -mosaic 1 -mosaic_dom 3"
STATED = {
    "beam pivot": "-mosflm -detector_rotx 5 -detector_rotz -8 -twotheta 4",
    "sample pivot": "-xds -ORGX 3 -ORGY 4 -detector_roty 9 -twotheta 4",
    "close distance": "-adxv -close_distance 90 -detector_rotx 5",
    "origin": "-xds -pix0_vector -0.01 0.004 0.09 -detector_rotz 6",
    "thick, curved": "-dials -detector_thick 900 -detector_abs 500 -detector_thicksteps 2 -curved_det",
}
MOVED = {
    "panel_shift_fast": 0.7,
    "panel_shift_slow": -0.4,
    "panel_shift_normal": 1.1,
    "panel_rot_fast": 3.0,
    "panel_rot_slow": -5.0,
    "panel_rot_normal": 11.0,
    "detector_shift_x": 0.3,
    "detector_shift_y": -0.2,
    "detector_shift_z": 0.5,
}


def place(sim):
    detector = sim.scene.detector
    return detector.origin, np.stack([detector.fast, detector.slow, detector.normal], axis=1)


@pytest.mark.parametrize("stated", STATED.values(), ids=STATED)
def test_a_panel_moves_as_a_body_about_its_middle(stated):
    sim = Simulator.from_nanobragg(f"{WORDS} {stated}")
    origin, axes = place(sim)
    middle = np.array([4.5, 3.5, 0.0]) * 1.5e-3
    sim.update(MOVED)
    moved_origin, moved_axes = place(sim)
    turn = maps.exp(axes @ np.radians([3.0, -5.0, 11.0]))  # a lab rotation vector; det(axes) may be -1
    if np.linalg.det(axes) < 0:
        turn = axes @ maps.exp(np.radians([3.0, -5.0, 11.0])) @ axes.T
    np.testing.assert_allclose(moved_axes, turn @ axes, atol=1e-14)
    shift = axes @ np.array([0.7, -0.4, 1.1]) * 1e-3 + np.array([0.3, -0.2, 0.5]) * 1e-3
    np.testing.assert_allclose(moved_origin + moved_axes @ middle, origin + axes @ middle + shift, atol=1e-15)


def test_a_moved_panel_is_the_detector_with_these_vectors():
    sim = Simulator.from_nanobragg(f"{WORDS} {STATED['sample pivot']}")
    sim.update(MOVED)
    origin, axes = place(sim)
    words = [WORDS, "-xds", "-twotheta 0", "-pix0_vector", *map(repr, origin.tolist())]
    for name, axis in zip("fso", axes.T.tolist(), strict=True):
        words += [f"-{name}det_vector", *map(repr, axis)]
    same = Simulator.from_nanobragg(" ".join(words))
    np.testing.assert_allclose(same.image(), sim.image(), rtol=1e-9)


@pytest.mark.parametrize("stated", STATED.values(), ids=STATED)
def test_derivatives_are_those_of_differences(stated):
    sim = Simulator.from_nanobragg(f"{WORDS} {stated}")
    sim.update(MOVED)
    weight = np.random.default_rng(1).standard_normal(sim.image().shape)
    image, pullback = sim.image_and_pullback(MOVED)
    gradient = pullback(weight)
    for name, value in MOVED.items():

        def difference(step, name=name, value=value):
            up, down = (sim.with_values({name: value + sign * step}).image() for sign in (1, -1))
            return (up - down) / (2 * step)

        step = 2e-3
        reference = (4 * difference(step / 2) - difference(step)) / 3
        error = np.abs(reference - difference(step / 2)).max()
        tangent = sim.jvp({name: 1.0})
        assert np.abs(reference).max() > 1e-4 * image.max(), name
        np.testing.assert_allclose(tangent, reference, atol=1e-7 * np.abs(reference).max() + 0.1 * error)
        assert gradient[name] == pytest.approx(float((weight * tangent).sum()), rel=1e-9), name


def test_a_wrong_sign_is_caught(monkeypatch):
    from exactgrad.diffraction.geometry import Placement

    lever = Placement.lever
    monkeypatch.setattr(Placement, "lever", lambda self, own: lever(self, own.T))
    with pytest.raises(AssertionError):
        test_a_panel_moves_as_a_body_about_its_middle(STATED["beam pivot"])


# -- arrays -----------------------------------------------------------------------------------------------------------

CRYSTAL = {"cell": [50, 60, 70, 80, 95, 100], "misset": [5, 6, 7], "default_F": 30, "N": 4, "shape": "gauss"}


@pytest.fixture
def geometry(tmp_path):
    turn = maps.exp(np.radians([0, 12.0, 3.0]))
    panels = []
    for x, y, axes in ((-12.0, -6.0, np.eye(3)), (3.0, -6.0, turn), (-5.0, 8.0, turn.T)):
        panels.append(
            {
                "origin": [x, y, 90.0 + x / 3],
                "fast_axis": axes[:, 0].tolist(),
                "slow_axis": axes[:, 1].tolist(),
                "image_size": [8, 6],
                "pixel_size": [1.5, 1.5],
            }
        )
    beam = {"direction": [0.0, 0.0, -1.0], "wavelength": 1.1}
    experiment = {"beam": 0, "detector": 0}
    tables = {"__id__": "ExperimentList", "experiment": [experiment], "beam": [beam], "detector": [{"panels": panels}]}
    (tmp_path / "panels.expt").write_text(json.dumps(tables))
    return tmp_path


def tables_of(**more):
    detector = {"geometry": "panels.expt", "panel": "all", "oversample": 1}
    return {"crystal": CRYSTAL, "detector": detector, "output": {"figures": False}} | more


def panels_of(folder):
    return Panels([shot.settings for shot in shots(check_job(tables_of(), "job"), folder)])


def test_all_panels_are_each_of_them(geometry):
    together = panels_of(geometry).image()
    assert len(together) == 3
    for index, image in enumerate(together):
        tables = tables_of()
        tables["detector"] = tables["detector"] | {"panel": index}
        (shot,) = shots(check_job(tables, "job"), geometry)
        np.testing.assert_allclose(image, Simulator(shot.settings).image(), rtol=1e-9)
    assert min(np.abs(together[0] - together[1]).max(), np.abs(together[1] - together[2]).max()) > 0


NAMES = ["cell_a", "misset_z", "fluence", "detector_rotx", "detector_roty", "detector_shift_z", "panel[1]_rot_slow"]
NAMES += ["panel[2]_shift_fast", "panel[0]_shift_normal"]


def test_gradients_of_an_array(geometry):
    sim = panels_of(geometry)
    sim.update({"detector_rotx": 2.0, "panel[1]_rot_slow": 4.0, "panel[2]_shift_fast": 0.4})
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal((6, 8)) for _ in range(3)]
    images, pullback = sim.image_and_pullback(NAMES)
    gradient = pullback(weights)

    def loss():
        return sum(float((weight * image).sum()) for weight, image in zip(weights, sim.image(), strict=True))

    for name in NAMES:
        value = sim.value(name)
        step = 1e-3 * (value if name == "fluence" else 1.0)
        values = []
        for shift in (1, -1, 0.5, -0.5):
            sim.update({name: value + shift * step})
            values.append(loss())
        sim.update({name: value})
        coarse, fine = (values[0] - values[1]) / (2 * step), (values[2] - values[3]) / step
        reference = (4 * fine - coarse) / 3
        scale = sum(float(np.abs(weight * image).sum()) for weight, image in zip(weights, images, strict=True))
        assert gradient[name] == pytest.approx(reference, rel=1e-6, abs=1e-9 * scale + abs(reference - fine)), name
        tangents = sim.jvp({name: 1.0})
        along = sum(float((weight * tangent).sum()) for weight, tangent in zip(weights, tangents, strict=True))
        assert gradient[name] == pytest.approx(along, rel=1e-9), name
    still = sim.jvp({"panel[1]_rot_slow": 1.0})
    assert [bool(image.any()) for image in still] == [False, True, False]


def test_the_array_turns_as_one_body(geometry):
    sim = panels_of(geometry)
    before = [place(sim[index]) for index in range(3)]
    sim.update({"detector_rotz": 20.0, "detector_shift_x": 1.0})
    turn = maps.exp(np.radians([0, 0, 20.0]))
    for (origin, axes), index in zip(before, range(3), strict=True):
        moved_origin, moved_axes = place(sim[index])
        np.testing.assert_allclose(moved_axes, turn @ axes, atol=1e-14)
        np.testing.assert_allclose(moved_origin, turn @ origin + [1e-3, 0, 0], atol=1e-15)


def test_an_update_is_whole_or_not_at_all(geometry):
    sim = panels_of(geometry)
    with pytest.raises(InputError, match="cell_a"):
        sim.update({"panel[0]_shift_fast": 1.0, "cell_a": -1.0})
    assert sim.value("panel[0]_shift_fast") == 0
    sim.update(cell_a=51.0)
    assert [sim[index].value("cell_a") for index in range(3)] == [51.0] * 3
    assert sim[0].settings.structure_factors is sim[2].settings.structure_factors


def test_wrong_names_are_told(geometry):
    sim = panels_of(geometry)
    with pytest.raises(InputError, match=r"panel\[7\]_shift_fast: there are 3 panels, 0 to 2"):
        sim.image_and_pullback(["panel[7]_shift_fast"])
    with pytest.raises(InputError, match="which panel"):
        sim.jvp({"panel_shift_fast": 1.0})
    with pytest.raises(InputError, match="no such parameter"):
        sim.value("panell")
    other = replace(sim[1].settings, crystal=replace(sim[1].settings.crystal, fudge=2.0))
    with pytest.raises(InputError, match="panel 1: its crystal is not that of panel 0"):
        Panels([sim[0].settings, other])


def test_panels_make_a_run(geometry):
    tables = tables_of(image=[{}, {"misset_x": 20}], noise={"seed": 3})
    tables["detector"] = tables["detector"] | {"geometry": str(geometry / "panels.expt")}
    tables["output"] = {"figures": False, "formats": ["npy"]}
    summary = simulate(tables, geometry / "run")
    names = [row["name"] for row in summary["images"]]
    assert names == [f"image_{image:03d}_panel{panel:03d}" for image in (0, 1) for panel in (0, 1, 2)]
    first = panels_of(geometry).image()
    for panel in range(3):
        written = np.load(geometry / "run" / f"image_000_panel{panel:03d}_expected.npy")
        np.testing.assert_array_equal(written, first[panel])
    with pytest.raises(InputError, match="the C program has one detector"):
        simulate(tables | {"c_compat": True}, geometry / "other")
