"""The C program's images and another program's gradients, reproduced; and bugs that they must catch."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from exactgrad.diffraction import assemble, crystal, model
from exactgrad.diffraction.formats import nanobragg, smv
from exactgrad.diffraction.model import image
from exactgrad.diffraction.options import parse

FOLDER = Path(__file__).parents[1] / "data" / "golden_diffraction"
CASES = {path.stem: path for path in sorted((*FOLDER.glob("*.npz"), *FOLDER.glob("more/*.npz")))}
GRADIENTS = json.loads((FOLDER / "grads.json").read_text())["cases"]
TOLERANCE = 1e-6  # of the maximum; float32 and the copies' rounding leave 1.2e-7
# option, argument, change of the argument: small enough for Richardson, large enough for rounding
PARAMETERS = {
    "cell_a": ("-cell", 0, 2e-5),
    "cell_b": ("-cell", 1, 2e-5),
    "cell_c": ("-cell", 2, 2e-5),
    "cell_beta": ("-cell", 4, 2e-5),
    "misset_x": ("-misset", 0, 2e-5),
    "misset_y": ("-misset", 1, 2e-5),
    "misset_z": ("-misset", 2, 2e-5),
    "lambda": ("-lambda", 0, 4e-7),
    "distance": ("-distance", 0, 1e-4),
    "fluence": ("-fluence", 0, 1e25),
    "polar": ("-polar", 0, 1e-2),
    "detector_rotx": ("-detector_rotx", 0, 2e-5),
    "detector_roty": ("-detector_roty", 0, 2e-5),
    "detector_rotz": ("-detector_rotz", 0, 2e-5),
    "mosaic": ("-mosaic", 0, 2e-5),
}


def golden(name, folder):
    """Return (image, words of the command line) of a case; its input files are written to `folder`."""
    with np.load(CASES[name]) as case:
        for key in case.files:
            if key.startswith("file "):
                (folder / key.removeprefix("file ")).write_bytes(case[key].tobytes())
        return case["image"].astype(np.float64), shlex.split(str(case["command"]))[1:]


def distance(name, folder):
    """Return the largest difference of our image from a case, as a share of its maximum."""
    wanted, argv = golden(name, folder)
    scene, _ = parse(argv, folder, c_compat=True)
    return np.abs(image(scene) - wanted).max() / wanted.max()


def test_the_set_is_complete():
    listed = [line.split(":")[0] for line in (FOLDER / "more.txt").read_text().splitlines() if line[0] != "#"]
    assert len(CASES) == 25 + len(listed) > 70 and set(listed) <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_image_is_reproduced(name, tmp_path):
    assert distance(name, tmp_path) <= TOLERANCE


def test_headers_are_the_programs():
    _, outputs = parse(
        shlex.split(
            "-default_F 100 -cell 100 100 100 90 90 90 -lambda 1 -distance 100 -detpixels 64 -pixel 0.8 -N 3 "
            "-fluence 1e26 -seed 17 -oversample 2 -floatfile float.bin -noprogress"
        )
    )
    header = nanobragg.smv_header(**outputs.header)
    assert header["BEAM_CENTER_X"] == header["MOSFLM_CENTER_X"] == "26"
    assert header["ADXV_CENTER_Y"] == "24.8" and header["XDS_ORGX"] == "33.5"
    assert header["DIALS_ORIGIN"] == "-26.4,26.4,-100"
    assert outputs.seed == 17 and str(outputs.float_path) == "float.bin" and not outputs.progress


def _loss(words):
    pixels = image(parse(words)[0])  # monoclinic, one sub-pixel, one source: the C program has it right
    slow, fast = np.indices(pixels.shape)
    return float((np.sin(0.11 * slow + 0.07 * fast + 0.3) * np.log1p(pixels)).sum())


def _moved(words, option, argument, change):
    words = list(words)
    place = words.index(option) + 1 + argument
    words[place] = repr(float(words[place]) + change)
    return words


@pytest.mark.parametrize("name", GRADIENTS)
def test_reference_losses_and_gradients(name):
    case = GRADIENTS[name]
    words = shlex.split(case["args"])
    assert _loss(words) == pytest.approx(case["L"], rel=1e-11)
    for parameter, wanted in case["grad"].items():
        option, argument, step = PARAMETERS[parameter]
        wide, narrow = (
            (_loss(_moved(words, option, argument, h)) - _loss(_moved(words, option, argument, -h))) / (2 * h)
            for h in (step, step / 2)
        )
        found = (4 * narrow - wide) / 3
        assert found == pytest.approx(wanted["dLdp"], rel=3e-7, abs=10 * wanted["err"]), parameter


def _transposed_misset(patch):
    right = crystal.misset_matrix
    patch.setattr(assemble.crystals, "misset_matrix", lambda angles: right(angles).T)


def _swapped_axes(patch):
    right = model.position
    patch.setattr(model, "position", lambda scene, slow, fast, *rest: right(scene, fast, slow, *rest))


def _no_obliquity(patch):
    patch.setattr(model, "solid_angle", lambda scene, x: scene.detector.pixel_m**2 / model.distance(x) ** 2)


def _right_edges(patch):
    steps = property(lambda self: self.phi0_rad + self.osc_rad / self.phi_steps * (1 + np.arange(self.phi_steps)))
    patch.setattr(crystal.Crystal, "phi_rad", steps)


def _no_polarization(patch):
    patch.setattr(model, "polarization", lambda scene, d, source: np.ones(len(d)))


def _mosaic_before_phi(patch):
    def orientations(self):
        turned = crystal.maps.exp(self.phi_rad[:, None] * self.spindle)
        return (turned[:, None] @ self.domains).reshape(-1, 3, 3)

    patch.setattr(crystal.Crystal, "orientations", property(orientations))


def _true_cell(patch):
    right = crystal.reciprocal_of_cell
    patch.setattr(crystal, "reciprocal_of_cell", lambda cell, c_compat=False: right(cell, False))


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        (_transposed_misset, "conv_mosflm"),
        (_swapped_axes, "tilt_roty"),
        (_no_obliquity, "tilt_rotx"),
        (_right_edges, "phi_osc"),
        (_no_polarization, "polar_kahn"),
        (_mosaic_before_phi, "everything"),
        (_true_cell, "triclinic_misset"),
    ],
)
def test_planted_bugs_are_caught(bug, name, tmp_path, monkeypatch):
    assert distance(name, tmp_path) <= TOLERANCE
    bug(monkeypatch)
    assert distance(name, tmp_path) > 100 * TOLERANCE


def test_inherits_from_an_image(tmp_path):
    words = shlex.split("-cell 60 70 80 90 90 90 -default_F 10 -N 5 -oversample 1")
    said = shlex.split(
        "-lambda 1.2 -distance 90 -detpixels_x 20 -detpixels_y 16 -pixel 2 -Xbeam 15 -Ybeam 21 -phi 3 -osc 1"
    )
    scene, outputs = parse(words + said, tmp_path)
    pixels = np.ones(scene.detector.shape)
    pixels[3:5, 7:9] = 0
    smv.write(tmp_path / "in.img", pixels, nanobragg.smv_header(**outputs.header))
    again, _ = parse([*words, "-img", "in.img"], tmp_path)
    np.testing.assert_allclose(image(again), image(scene), rtol=1e-9)
    masked, _ = parse([*words, "-mask", "in.img"], tmp_path)
    np.testing.assert_allclose(image(masked), image(scene) * pixels, rtol=1e-9)
    turned_over, _ = parse([*words, "-mask", "in.img"], tmp_path, c_compat=True)
    assert turned_over.detector.near_point_m[0] == pytest.approx(0.032 - 0.021 + 0.001)
    further, _ = parse([*words, "-img", "in.img", "-distance", "120"], tmp_path)
    assert further.detector.distance_m == pytest.approx(0.12)
