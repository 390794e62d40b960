"""Geometry files: DIALS, XDS, CrystFEL and NeXus, against positions worked out by hand and each other."""

import copy
import json

import h5py
import numpy as np
import pytest

from exactgrad.diffraction.formats import crystfel, dials, mask, nexus, npy, xds
from exactgrad.diffraction.formats.experiment import Experiment, make_panel
from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.rotations import maps

EXPERIMENT = {
    "__id__": "ExperimentList",
    "experiment": [{"__id__": "Experiment", "beam": 0, "detector": 0, "goniometer": 0, "scan": 0, "crystal": 0}],
    "beam": [{"direction": [0.0, 0.0, 2.0], "wavelength": 0.9795}],
    "goniometer": [{"rotation_axis": [1.0, 0.0, 0.0]}],
    "scan": [{"image_range": [1, 10], "oscillation": [5.0, 0.1]}],
    "crystal": [
        {
            "real_space_a": [30.0, 0, 0],
            "real_space_b": [0, 40.0, 0],
            "real_space_c": [0, 1.0, 50.0],
            "space_group_hall_symbol": " P 2y",
        }
    ],
    "detector": [
        {
            "panels": [
                {
                    "name": "p",
                    "fast_axis": [1.0, 0.0, 0.0],
                    "slow_axis": [0.0, 1.0, 0.0],
                    "origin": [2.0, 3.0, 0.5],
                    "image_size": [100, 80],
                    "pixel_size": [0.1, 0.2],
                }
            ],
            "hierarchy": {
                "fast_axis": [1.0, 0.0, 0.0],
                "slow_axis": [0.0, -1.0, 0.0],
                "origin": [-10.0, 20.0, -200.0],
                "children": [
                    {
                        "fast_axis": [0.0, 1.0, 0.0],
                        "slow_axis": [-1.0, 0.0, 0.0],
                        "origin": [1.0, 1.0, 1.0],
                        "children": [{"panel": 0}],
                    }
                ],
            },
        }
    ],
}
XPARM = """ XPARM.XDS    VERSION Jun 17, 2015
     1        0.0000    0.2500  0.999988 -0.001214  0.004726
       0.750000      -0.003162      -0.001518       1.333329
     1      6.9322     14.1162     14.1170  59.988  90.002  90.003
      -6.692194       1.615698      -0.812077
       3.093155      13.666920       1.707512
       3.278411       7.949903     -11.195524
         1      2000      1800    0.150000    0.100000
    1005.500000    1006.500000     180.000000
       1.000000       0.000000       0.000000
       0.000000       1.000000       0.000000
       0.000000       0.000000       1.000000
         1         1      2000         1      1800
    0.00    0.00    0.00  1.00000  0.00000  0.00000  0.00000  1.00000  0.00000
"""
GEOM = """; two panels
wavelength  = 1.3 A
adu_per_photon = 65
res = 10000 ; 100 um
clen = 80 mm
q0/min_fs = 0
q0/max_fs = 193
q0/min_ss = 0
q0/max_ss = 184
q0/corner_x = -100.5
q0/corner_y = 200
q0/fs = +0.8x -0.6y
q0/ss = 0.6x+0.8y
coffset = 0.001
q1/min_fs = 194
q1/max_fs = 387
q1/min_ss = 0
q1/max_ss = 184
q1/corner_x = 0
q1/corner_y = 0
q1/fs = x
q1/ss = -y
bad_corner/min_x = 3
rigid_group_a = q0,q1
"""


def written(tmp_path, content, name="a.expt"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_dials_places_panels_through_their_groups(tmp_path):
    read = dials.read(written(tmp_path, EXPERIMENT))
    panel = read.panels[0]
    # the root flips y and z; its child turns x to y: (2, 3, 0.5) -> (1 - 3, 1 + 2, 1 + 0.5) -> (-12, 17, -201.5)
    assert panel.origin_m == pytest.approx(np.array([-12.0, 17.0, -201.5]) * 1e-3)
    assert panel.fast_axis == pytest.approx([0, -1, 0]) and panel.slow_axis == pytest.approx([-1, 0, 0])
    assert panel.pixel_size_m == pytest.approx((1e-4, 2e-4)) and panel.shape == (80, 100)
    assert read.beam_direction == pytest.approx([0, 0, -1]) and read.wavelength_m == pytest.approx(0.9795e-10)
    assert read.cell_matrix_m == pytest.approx(np.array([[30, 0, 0], [0, 40, 0], [0, 1, 50]]) * 1e-10)
    assert (read.start_deg, read.step_deg, read.space_group) == (5.0, 0.1, " P 2y")


def test_dials_without_hierarchy_crystal_and_scan(tmp_path):
    bare = copy.deepcopy(EXPERIMENT)
    del bare["detector"][0]["hierarchy"]
    bare["experiment"] = [{"beam": 0, "detector": 0}]
    read = dials.read(written(tmp_path, bare))
    assert read.panels[0].origin_m == pytest.approx([2e-3, 3e-3, 0.5e-3])
    assert read.cell_matrix_m is None and read.rotation_axis is None and read.start_deg is None


def test_dials_reads_the_newer_scan(tmp_path):
    newer = copy.deepcopy(EXPERIMENT)
    newer["scan"] = [{"image_range": [1, 3], "properties": {"oscillation": [2.0, 2.5, 3.0]}}]
    read = dials.read(written(tmp_path, newer))
    assert (read.start_deg, read.step_deg) == (2.0, 0.5)


def changed(path_in_json, value):
    content = copy.deepcopy(EXPERIMENT)
    holder = content
    for key in path_in_json[:-1]:
        holder = holder[key]
    if value is None:
        del holder[path_in_json[-1]]
    else:
        holder[path_in_json[-1]] = value
    return content


PANEL = ("detector", 0, "panels", 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "ExperimentList"),
        ("[" * 100_000, "brackets 100000 deep"),
        ("[" * 99 + "]" * 99, "ExperimentList"),
        (json.dumps(EXPERIMENT).replace("0.9795", "NaN"), "NaN: finite numbers"),
        (json.dumps(EXPERIMENT).replace("0.9795", "Infinity"), "Infinity: finite"),
        (json.dumps(EXPERIMENT).replace("0.9795", "1e999"), "wavelength = inf"),
        (json.dumps(EXPERIMENT).replace("0.9795", "9" * 5000), "not readable JSON|wavelength"),
        (changed(("__id__",), "DataBlock"), "ExperimentList"),
        (changed(("experiment",), []), "experiment 0: there are 0"),
        (changed(("beam",), None), "no beam"),
        (changed(("experiment", 0, "beam"), 7), "beam 7: there are 1"),
        (changed(("experiment", 0, "beam"), True), "no beam"),
        (changed(("experiment", 0, "beam"), -1), "beam -1"),
        (changed(("beam", 0, "wavelength"), 0), "wavelength 0 m"),
        (changed(("beam", 0, "wavelength"), "1.0"), "wavelength = 1.0: a finite number"),
        (changed(("beam", 0, "direction"), [0, 0, 0]), "beam direction .*: a vector with a direction"),
        (changed(("beam", 0, "direction"), [0, 1]), "direction = .*: 3 numbers"),
        (changed(("crystal", 0, "real_space_a"), [0, 40, 0]), "three independent vectors"),
        (changed(("crystal", 0, "real_space_a"), None), "real_space_a = None"),
        (changed(("detector", 0, "panels"), []), "from 1 to 10000 panels"),
        (changed((*PANEL, "image_size"), [0, 80]), "0 pixels along fast"),
        (changed((*PANEL, "image_size"), [1.5, 80]), "whole numbers"),
        (changed((*PANEL, "pixel_size"), [-0.1, 0.1]), "pixel size"),
        (changed((*PANEL, "slow_axis"), [1.0, 0.1, 0]), "not at right angles"),
        (changed((*PANEL, "origin"), [1e9, 0, 0]), "origin"),
        (changed((*PANEL,), "x"), "panel 0: an object"),
        (changed(("detector", 0, "hierarchy", "children"), [{"panel": 3}]), "hierarchy names panel 3"),
        (changed(("detector", 0, "hierarchy", "children"), None), "without a list of children"),
    ],
)
def test_experiment_lists_that_are_refused(tmp_path, content, message):
    with pytest.raises(FormatError, match=message) as caught:
        dials.read(written(tmp_path, content))
    assert "\n" not in str(caught.value) and "a.expt" in str(caught.value)


def test_detector_groups_too_deep(tmp_path):
    node = {"panel": 0}
    frame = {"fast_axis": [1, 0, 0], "slow_axis": [0, 1, 0], "origin": [0, 0, 0]}
    for _ in range(30):
        node = {**frame, "children": [node]}
    with pytest.raises(FormatError, match="more than 20 deep"):
        dials.read(written(tmp_path, changed(("detector", 0, "hierarchy"), node)))


def test_xds(tmp_path):
    read = xds.read(written(tmp_path, XPARM, "XPARM.XDS"))
    panel = read.panels[0]
    # the beam's foot is pixel 1005.5 (from 1, at centres), 1005 pixels of 0.15 mm from the outer edge
    assert panel.origin_m == pytest.approx([-1005 * 0.15e-3, -1006 * 0.1e-3, 0.18])
    assert panel.shape == (1800, 2000) and panel.pixel_size_m == pytest.approx((1.5e-4, 1e-4))
    assert read.wavelength_m == pytest.approx(0.75e-10) and read.space_group == "1"
    assert read.beam_direction @ [-0.003162, -0.001518, 1.333329] == pytest.approx(1 / 0.75, rel=1e-5)
    assert np.linalg.norm(read.cell_matrix_m, axis=1) == pytest.approx([6.9322e-10, 14.1162e-10, 14.117e-10], rel=1e-4)
    assert (read.start_deg, read.step_deg) == (0.0, 0.25) and read.rotation_axis[0] == pytest.approx(0.999988)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("XPARM.XDS", "nothing", ":1: does not begin with XPARM.XDS"),
        ("0.750000 ", "nan ", r":3: wavelength A = 'nan'"),
        ("0.750000 ", "-1.0 ", "wavelength -1e-10 m"),
        ("         1      2000      1800", "         8      2000      1800", ":8: 8 segments; one is read"),
        ("2000      1800", "2000.5      1800", ":8: NX NY"),
        ("2000      1800", "2000      0", "0 pixels along slow"),
        ("2000      1800", "2000      1e9", "pixels along slow"),
        ("0.000000       1.000000       0.000000\n", "1.0 0.0 0.0\n", "not at right angles"),
        ("       1.000000       0.000000       0.000000", "0 0 0", "detector X-axis"),
        ("180.000000", "180.000000 7", ":9: 4 columns where 3"),
        ("3.278411       7.949903     -11.195524", "0 0 0", "three independent"),
    ],
)
def test_xparm_files_that_are_refused(tmp_path, old, new, message):
    assert old in XPARM
    with pytest.raises(FormatError, match=message):
        xds.read(written(tmp_path, XPARM.replace(old, new, 1), "XPARM.XDS"))


def test_xparm_cut_off(tmp_path):
    with pytest.raises(FormatError, match=":6: ends after 6 lines"):
        xds.read(written(tmp_path, "".join(XPARM.splitlines(keepends=True)[:6]), "XPARM.XDS"))


def test_crystfel(tmp_path):
    read = crystfel.read(written(tmp_path, GEOM, "a.geom"))
    first, second = read.panels
    assert read.wavelength_m == pytest.approx(1.3e-10) and read.beam_direction.tolist() == [0, 0, 1]
    assert first.origin_m == pytest.approx([-100.5e-4, 200e-4, 0.08])
    assert first.fast_axis == pytest.approx([0.8, -0.6, 0]) and first.slow_axis == pytest.approx([0.6, 0.8, 0])
    assert first.shape == (185, 194) and first.pixel_size_m == pytest.approx((1e-4, 1e-4))
    assert second.origin_m == pytest.approx([0, 0, 0.081])  # coffset is set between the panels
    assert second.fast_axis.tolist() == [1, 0, 0] and second.slow_axis.tolist() == [0, -1, 0]


def test_crystfel_energies(tmp_path):
    for text, expected in (("photon_energy = 12398.42 eV", 1e-10), ("photon_energy = 12.39842 keV", 1e-10)):
        path = written(tmp_path, GEOM.replace("wavelength  = 1.3 A", text), "a.geom")
        assert crystfel.read(path).wavelength_m == pytest.approx(expected, rel=1e-6)
    path = written(tmp_path, GEOM.replace("wavelength  = 1.3 A", "photon_energy = /LCLS/photon_energy_eV"), "a.geom")
    assert crystfel.read(path).wavelength_m is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("res = 10000", "resx = 10000", "panel 'q0' has no res"),
        ("res = 10000", "res = -1", ":4: res = -1"),
        ("res = 10000", "res = 1e30", "pixel size"),
        ("clen = 80 mm", "clen = /LCLS/detector_1/EncoderValue", ":5: clen = '/LCLS"),
        ("clen = 80 mm", "clen = 80 parsec", ":5: clen = 80 parsec: a number in m, mm"),
        ("0.6x+0.8y", "__import__('os')", ":13: ss = __import__"),
        ("0.6x+0.8y", "0.6x+0.9y", "not at right angles"),
        ("0.6x+0.8y", "", ":13: ss"),
        ("q0/max_fs = 193", "q0/max_fs = -5", "pixels along fast"),
        ("q0/max_fs = 193", "q0/max_fs = 1.5", "whole numbers"),
        ("q0/max_fs = 193", "q0/max_fs = 1e29", "pixels along fast"),
        ("adu_per_photon = 65", "adu_per_photon", ":3: 'adu_per_photon': key = value"),
        ("wavelength  = 1.3 A", "wavelength = 1.3 m", "wavelength 1.3 m"),
        ("wavelength  = 1.3 A", "photon_energy = 0", "photon_energy = 0"),
    ],
)
def test_geom_files_that_are_refused(tmp_path, old, new, message):
    assert old in GEOM
    with pytest.raises(FormatError, match=message):
        crystfel.read(written(tmp_path, GEOM.replace(old, new, 1), "a.geom"))


def test_geom_without_panels(tmp_path):
    with pytest.raises(FormatError, match="no panel/key"):
        crystfel.read(written(tmp_path, "res = 1000\n", "a.geom"))


def experiment(tmp_path, beam=(0.0, 0.6, -0.8)):
    panel = make_panel(tmp_path, "p", [-0.01, 0.02, -0.2], [0, -1, 0], [-1, 0, 0], (1e-4, 2e-4), (30, 40))
    axis = np.array([0.6, 0, 0.8])
    return Experiment((panel,), np.array(beam), 0.98e-10, rotation_axis=axis, start_deg=3.0, step_deg=0.25)


@pytest.mark.parametrize("beam", [(0, 0.6, -0.8), (0, 0, 1), (0, 0, -1), (1, 0, 0), (0, 1e-9, -1)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_nexus_keeps_frames_and_angles_between_vectors(tmp_path, beam, dtype):
    given = experiment(tmp_path, beam)
    frames = np.random.default_rng(3).poisson(20, (4, 30, 40)).astype(dtype)
    nexus.write(tmp_path / "a.nxs", frames, given, saturation=60000)
    read = nexus.read(tmp_path / "a.nxs")
    assert np.array_equal(read.frames, frames) and read.frames.dtype == dtype and read.saturation == 60000
    again = read.experiment
    assert (again.start_deg, again.step_deg) == (3.0, 0.25) and again.wavelength_m == pytest.approx(0.98e-10)

    def products(e):
        vectors = [
            e.beam_direction,
            e.rotation_axis,
            e.panels[0].origin_m,
            e.panels[0].fast_axis,
            e.panels[0].slow_axis,
        ]
        handedness = np.linalg.det(vectors[1:4])
        return np.append(np.array(vectors) @ np.array(vectors).T, handedness)

    assert products(again) == pytest.approx(products(given), abs=1e-12)
    assert again.panels[0].pixel_size_m == pytest.approx((1e-4, 2e-4))


def test_nexus_beam_centre(tmp_path):
    given = experiment(tmp_path)
    nexus.write(tmp_path / "a.nxs", np.zeros((30, 40)), given)
    with h5py.File(tmp_path / "a.nxs") as handle:
        x, y = (handle[f"entry/instrument/detector/beam_center_{c}"][()] for c in "xy")
        assert handle["entry/definition"][()] == b"NXmx"
        assert handle["entry/data/data"].compression == "gzip"
    panel = given.panels[0]
    hit = panel.origin_m + x * 1e-4 * panel.fast_axis + y * 2e-4 * panel.slow_axis
    assert np.cross(hit, given.beam_direction) == pytest.approx(np.zeros(3), abs=1e-15)


def test_nexus_follows_rotations(tmp_path):
    nexus.write(tmp_path / "a.nxs", np.zeros((30, 40)), experiment(tmp_path, (0, 0, 1)))
    with h5py.File(tmp_path / "a.nxs", "r+") as handle:
        arm = handle.create_dataset("entry/instrument/detector/two_theta", data=[90.0])
        arm.attrs.update(
            {"transformation_type": "rotation", "vector": [0.0, 1.0, 0.0], "units": "deg", "depends_on": "."}
        )
        handle["entry/instrument/detector/module/module_offset"].attrs["depends_on"] = (
            "/entry/instrument/detector/two_theta"
        )
    panel = nexus.read(tmp_path / "a.nxs").experiment.panels[0]
    # a quarter turn about y takes z to x and x to -z
    assert panel.origin_m == pytest.approx([-0.2, 0.02, 0.01])
    assert panel.slow_axis == pytest.approx([0, 0, 1]) and panel.fast_axis == pytest.approx([0, -1, 0])


def modules(tmp_path):
    """Return an experiment of three panels of different shapes, pixel sizes and turns, and three frames of each."""
    beam, rng = np.array([0.0, 0.6, -0.8]), np.random.default_rng(7)
    panels, frames = [], []
    for number, shape in enumerate(((30, 40), (20, 25), (31, 7))):
        fast, slow, _ = maps.exp(rng.normal(size=3)).T
        origin = rng.normal(size=3) * 0.05 + 0.2 * beam
        panels.append(make_panel(tmp_path, f"p{number}", origin, fast, slow, (1e-4 * (1 + number), 2e-4), shape))
        frames.append(rng.poisson(20, (3, *shape)).astype(np.int32))
    return Experiment(tuple(panels), beam, 0.98e-10), frames


def same_geometry(given, read):
    """Angles and lengths between the vectors of all panels and the beam."""
    for one, other in zip(given.panels, read.panels, strict=True):
        assert (one.shape, one.pixel_size_m) == (other.shape, pytest.approx(other.pixel_size_m))
    vectors = [
        np.array([v for one in of.panels for v in (one.origin_m, one.fast_axis, one.slow_axis)] + [of.beam_direction])
        for of in (given, read)
    ]
    np.testing.assert_allclose(vectors[0] @ vectors[0].T, vectors[1] @ vectors[1].T, atol=1e-13)


def test_nexus_keeps_several_panels(tmp_path):
    given, frames = modules(tmp_path)
    nexus.write(tmp_path / "a.nxs", frames, given)
    read = nexus.read(tmp_path / "a.nxs")
    assert read.frames.shape == (3, 81, 40) and read.corners == ((0, 0), (30, 0), (50, 0))
    for index in range(3):
        np.testing.assert_array_equal(read.of_panel(index), frames[index])
    same_geometry(given, read.experiment)
    nexus.write(tmp_path / "again.nxs", [read.of_panel(i) for i in range(3)], read.experiment)
    np.testing.assert_array_equal(nexus.read(tmp_path / "again.nxs").frames, read.frames)


def restacked(handle, frames, names=("m1", "m0")):
    """Give a file frames in layers (n, module, slow, fast), and modules of other names in another order."""
    detector = handle["entry/instrument/detector"]
    del handle["entry/data/data"], detector["data"]
    layers = np.zeros((3, 2, 30, 40), dtype=np.int32)
    layers[:, 0], layers[:, 1, 5:25, 10:35] = frames[0], frames[1]
    handle["entry/data/data"] = layers
    for layer, (name, size) in enumerate(zip(names, ((30, 40), (20, 25)), strict=True)):
        detector.move(f"module_{layer:04d}", name)
        for axis in ("fast", "slow"):
            where = detector[f"{name}/{axis}_pixel_direction"]
            where.attrs["depends_on"] = f"/entry/instrument/detector/{name}/module_offset"
        for key, value in (("data_origin", [layer, 5 * layer, 10 * layer]), ("data_size", [1, *size])):
            del detector[f"{name}/{key}"]
            detector[f"{name}/{key}"] = np.array(value)
    del detector["module_0002"]


def test_nexus_reads_panels_in_layers(tmp_path):
    given, frames = modules(tmp_path)
    nexus.write(tmp_path / "a.nxs", frames, given)
    with h5py.File(tmp_path / "a.nxs", "r+") as handle:
        restacked(handle, frames)
    read = nexus.read(tmp_path / "a.nxs")
    assert read.corners == ((0, 0), (35, 10))  # in the order of the pixels, whatever their names
    for index in range(2):
        np.testing.assert_array_equal(read.of_panel(index), frames[index])
    same_geometry(Experiment(given.panels[:2], given.beam_direction, given.wavelength_m), read.experiment)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("m0", "data_origin", [1, 11, 10], "not within one layer"),
        ("m0", "data_origin", [1, -1, 10], "not within one layer"),
        ("m0", "data_size", [2, 20, 25], "not within one layer"),
        ("m0", "data_origin", [2, 5, 10], "pixels from .* in frames of"),
        ("m0", "data_origin", [1, 5, 16], "pixels from .* in frames of"),
        ("m0", "data_origin", [-1, 5, 10], "pixels from .* in frames of"),
        ("m0", "data_origin", [1.5, 5, 10], "whole numbers"),
        ("m0", "data_size", [1, 0, 25], "pixels from .* in frames of"),
        ("m0", "data_size", [20], "two or three whole numbers"),
        ("m0", "data_size", None, "no entry/instrument/detector/m0/data_size"),
        ("m1", None, None, "a stack of layers, but 1 detector modules"),
    ],
)
def test_nexus_modules_that_are_refused(tmp_path, name, key, value, message):
    given, frames = modules(tmp_path)
    nexus.write(tmp_path / "a.nxs", frames, given)
    with h5py.File(tmp_path / "a.nxs", "r+") as handle:
        restacked(handle, frames)
        where = f"entry/instrument/detector/{name}" + (f"/{key}" if key else "")
        del handle[where]
        if value is not None:
            handle[where] = np.array(value)
    with pytest.raises(FormatError, match=message) as caught:
        nexus.read(tmp_path / "a.nxs")
    assert "\n" not in str(caught.value)


def test_nexus_needs_panels_of_the_frames_and_a_wavelength(tmp_path):
    given = experiment(tmp_path)
    with pytest.raises(InputError, match="a panel's frames must have its shape"):
        nexus.write(tmp_path / "a.nxs", np.zeros((3, 4)), given)
    with pytest.raises(InputError, match="a panel's frames must have its shape"):
        nexus.write(tmp_path / "a.nxs", np.zeros((30, 40)), Experiment(given.panels * 2, given.beam_direction, 1e-10))
    with pytest.raises(InputError, match="a panel's frames must have its shape"):
        two = Experiment(given.panels * 2, given.beam_direction, 1e-10)
        nexus.write(tmp_path / "a.nxs", [np.zeros((2, 30, 40)), np.zeros((1, 30, 40))], two)
    with pytest.raises(InputError, match="wavelength"):
        nexus.write(tmp_path / "a.nxs", np.zeros((30, 40)), Experiment(given.panels, given.beam_direction))
    with pytest.raises(InputError, match="frames"):
        nexus.write(tmp_path / "a.nxs", np.zeros((1, 1, 30, 40)), given)
    with pytest.raises(InputError, match=r"image\[2, 1\] = nan"):
        frame = np.zeros((30, 40))
        frame[2, 1] = np.nan
        nexus.write(tmp_path / "a.nxs", frame, given)
    assert not list(tmp_path.iterdir())


def spoil(handle, what):
    detector = handle["entry/instrument/detector"]
    wave = handle["entry/instrument/beam/incident_wavelength"]
    if what == "no data":
        del handle["entry/data/data"]
    elif what == "text":
        del handle["entry/data/data"]
        handle["entry/data/data"] = np.array([[b"x"]])
    elif what == "soft link":
        handle["entry/other"] = h5py.SoftLink("/entry/data")
    elif what == "external":
        handle["entry/data/data_000001"] = h5py.ExternalLink("b.h5", "/data")
    elif what == "circle":
        detector["module/module_offset"].attrs["depends_on"] = "/entry/instrument/detector/module/module_offset"
    elif what == "nowhere":
        detector["module/module_offset"].attrs["depends_on"] = "/entry/nothing"
    elif what == "units":
        wave.attrs["units"] = "furlong"
    elif what == "nan":
        wave[()] = np.nan
    elif what == "negative":
        wave[()] = -1.0
    elif what == "vector":
        detector["module/fast_pixel_direction"].attrs["vector"] = [0.0, 0.0, 0.0]
    elif what == "vector nan":
        detector["module/fast_pixel_direction"].attrs["vector"] = [np.nan, 0.0, 0.0]
    elif what == "vector short":
        detector["module/fast_pixel_direction"].attrs["vector"] = [1.0]
    elif what == "other filter":
        del detector["data"], handle["entry/data/data"]
        handle.create_dataset(
            "entry/data/data", (1, 4, 4), "u4", chunks=(1, 4, 4), compression=32015, allow_unknown_filter=True
        )
    elif what == "huge":
        del detector["data"], handle["entry/data/data"]
        handle.create_dataset("entry/data/data", (10**6, 1000, 1000), "u4", chunks=(1, 1000, 1000))


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("no data", FormatError, "no entry/data/data"),
        ("text", FormatError, "frames of numbers"),
        ("soft link", RefusedFile, "soft or external link"),
        ("external", RefusedFile, "soft or external link"),
        ("circle", FormatError, "in a circle"),
        ("nowhere", FormatError, "no entry/nothing"),
        ("units", FormatError, "units 'furlong'"),
        ("nan", FormatError, "incident_wavelength .* nan"),
        ("negative", FormatError, "wavelength -1e-10 m"),
        ("vector", FormatError, "a vector with a direction"),
        ("vector nan", FormatError, "nan"),
        ("vector short", FormatError, "three numbers"),
        ("other filter", RefusedFile, "a compression that is not read"),
        ("huge", RefusedFile, "declares more than|claims"),
    ],
)
def test_nexus_files_that_are_refused(tmp_path, what, error, message):
    nexus.write(tmp_path / "a.nxs", np.zeros((30, 40)), experiment(tmp_path))
    with h5py.File(tmp_path / "a.nxs", "r+") as handle:
        spoil(handle, what)
    with pytest.raises(InputError, match=message) as caught:
        nexus.read(tmp_path / "a.nxs")
    assert type(caught.value) is error and "\n" not in str(caught.value)


def test_masks(tmp_path):
    npy.write(tmp_path / "m.npy", np.array([[0, 1], [5, 0]]))
    assert mask.read(tmp_path / "m.npy", (2, 2)).tolist() == [[False, True], [True, False]]
    with pytest.raises(FormatError, match=r"a mask of \(2, 2\) pixels for a detector of \(3, 2\)"):
        mask.read(tmp_path / "m.npy", (3, 2))
    npy.write(tmp_path / "z.npy", np.zeros((2, 2)))
    with pytest.raises(FormatError, match="every pixel of the mask is 0"):
        mask.read(tmp_path / "z.npy", (2, 2))
