"""Simulations as run folders: what is in the files, what is refused, what is never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from exactgrad.core.run_folder import system_of
from exactgrad.diffraction import nanobragg
from exactgrad.diffraction.commands import app
from exactgrad.diffraction.formats import cbf, nexus, raw_float, smv
from exactgrad.diffraction.formats.images import read_image
from exactgrad.diffraction.noise import Readout, record
from exactgrad.diffraction.predict import predict_job
from exactgrad.diffraction.simulate import simulate
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import FolderInUse, InputError

WORDS = "-cell 50 60 70 80 95 100 -default_F 30 -N 5 -xds -detpixels_s 24 -detpixels_f 30 -pixel 0.5 -oversample 1"
DATA = Path(__file__).resolve().parents[1] / "data" / "diffraction_files"
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("diffraction_*.toml"))


def job(**tables):
    return {"options": WORDS, "output": {"figures": False}} | tables


@pytest.fixture(scope="module")
def expected():
    return Simulator.from_nanobragg(WORDS).image()


def test_files_hold_the_expected_photons(tmp_path, expected):
    formats = ["npy", "float", "smv", "cbf", "nexus", "tiff", "png", "pgm"]
    summary = simulate(job(output={"formats": formats, "figures": False, "scale": 2.0}), tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), expected)
    np.testing.assert_array_equal(raw_float.read(tmp_path / "image.bin", expected.shape), expected.astype(np.float32))
    np.testing.assert_array_equal(nexus.read(tmp_path / "image.nxs").frames[0], expected.astype(np.float32))
    rounded = np.floor(expected * 2 + 0.5)
    for name in ("image.img", "image.cbf"):
        assert np.abs(read_image(tmp_path / name) - rounded).max() <= 1  # the C program rounds in float32
        assert np.count_nonzero(read_image(tmp_path / name) != rounded) <= 1
    assert any("times 2" in note for note in summary["notes"])
    assert {Path(name).name for name in summary["files"]} == {
        *(f"image{suffix}" for suffix in (".npy", ".bin", ".img", ".cbf", ".nxs", ".tiff", ".png", ".pgm")),
        "image_spots.csv",
    }
    assert all(Path(name).is_file() for name in summary["files"])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert system_of(tmp_path) == "diffraction"


def test_headers_tell_the_geometry(tmp_path):
    words = f"{WORDS} -distance 80 -ORGX 10 -ORGY 12.5 -lambda 1.2 -phi 5 -osc 2 -phisteps 2"
    simulate(job(options=words, output={"formats": ["smv", "cbf", "nexus"], "figures": False}), tmp_path)
    header = smv.read(tmp_path / "image.img")
    assert [header.number(key) for key in ("DISTANCE", "WAVELENGTH", "PHI", "OSC_RANGE", "XDS_ORGX", "XDS_ORGY")] == [
        80,
        1.2,
        5,
        2,
        10,
        12.5,
    ]
    comments = cbf.read(tmp_path / "image.cbf").comments
    assert "Wavelength 1.2 A" in comments
    assert "Beam_xy (9.5000, 12.0000) pixels" in comments
    told = nexus.read(tmp_path / "image.nxs").experiment
    detector = Simulator.from_nanobragg(words).scene.detector
    assert (told.start_deg, told.step_deg) == pytest.approx((5, 2))
    np.testing.assert_allclose(told.panels[0].origin_m, detector.origin, atol=1e-12)


def test_a_nexus_file_is_a_geometry_again(tmp_path, expected):
    tilted = f"{WORDS} -detector_rotx 6 -detector_roty 3 -polar 0"
    simulate(job(options=tilted, output={"formats": ["npy", "nexus"], "figures": False}), tmp_path / "one")
    again = {
        "crystal": {"cell": [50, 60, 70, 80, 95, 100], "default_F": 30, "N": 5},
        "detector": {"geometry": str(tmp_path / "one" / "image.nxs"), "oversample": 1},
        "output": {"figures": False, "formats": ["npy"]},
    }
    simulate(again, tmp_path / "two")
    first, second = (np.load(tmp_path / name / "image.npy") for name in ("one", "two"))
    np.testing.assert_allclose(second, first, rtol=1e-6)
    assert np.abs(first - expected).max() > 0.1 * expected.max()


def test_noise_is_the_detectors_own(tmp_path, expected):
    noise = {"seed": 5, "readout_adu": 3.0, "gain_adu": 2.0, "flicker": 0.02, "calibration": 0.03, "spread": "gaussian"}
    simulate(job(noise=noise, output={"formats": ["npy", "smv"], "figures": False}), tmp_path)
    readout = Readout(**{key: value for key, value in noise.items() if key != "seed"})
    counts = record(expected, readout, 5).counts
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), counts)
    np.testing.assert_array_equal(read_image(tmp_path / "image.img"), counts)
    np.testing.assert_array_equal(np.load(tmp_path / "image_expected.npy"), expected)


def test_noise_of_the_c_program_is_that_of_the_nanobragg_command(tmp_path):
    nanobragg.simulate([*WORDS.split(), "-seed", "9", "-nopgm"], tmp_path)
    noise = {"c_identical": True, "seed": 9}
    simulate(job(noise=noise, output={"formats": ["smv", "npy"], "figures": False}), tmp_path / "run")
    np.testing.assert_array_equal(
        smv.read(tmp_path / "run" / "image.img").pixels, smv.read(tmp_path / "noiseimage.img").pixels
    )


def test_backgrounds_lie_under_the_spots(tmp_path, expected):
    (tmp_path / "water.stol").write_text("0.0 2.5\n0.5 1.0\n")
    background = {"flat": 3.0, "stol": str(tmp_path / "water.stol"), "molecules": 1e9}
    words = f"{WORDS} -roi 2 20 3 15"
    simulate(job(options=words, background=background, output={"formats": ["npy"], "figures": False}), tmp_path / "a")
    from exactgrad.diffraction.background import profile
    from exactgrad.diffraction.formats import stol

    scene = Simulator.from_nanobragg(words).scene
    under = 3.0 + profile(scene, stol.read(tmp_path / "water.stol"), 1e9).image([1.0])
    inside = np.zeros(expected.shape, bool)
    inside[3:16, 2:21] = True
    total = np.load(tmp_path / "a" / "image.npy")
    np.testing.assert_allclose(total, np.where(inside, expected + under, 0.0), rtol=1e-12)


def test_several_images_with_figures(tmp_path):
    images = [{"phi": 0}, {"phi": 30}, {"phi": 60, "name": "last"}]
    lines = []
    summary = simulate(
        job(options=f"{WORDS} -N 10", image=images, noise={"seed": 1}, output={"formats": ["npy"]}),
        tmp_path,
        say=lines.append,
    )
    names = ["image_000", "image_001", "last"]
    assert [row["name"] for row in summary["images"]] == names
    assert len(lines) == 3
    assert lines[2].startswith("last: ")
    for phi, name in zip((0, 30, 60), names, strict=True):
        one = Simulator.from_nanobragg(f"{WORDS} -N 10 -phi {phi}").image()
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}_expected.npy"), one)
    first, second = (np.load(tmp_path / f"{name}.npy").astype(float) for name in names[:2])
    assert not np.array_equal(first, second)
    assert {path.name for path in tmp_path.glob("figure_*.png")} == {
        "figure_image.png",
        "figure_spots.png",
        "figure_images.png",
    }
    assert (tmp_path / "report.html").read_text().count("<figure") == 3


def test_spots_are_where_the_light_is(tmp_path):
    words = "-cell 50 60 70 90 90 90 -default_F 30 -N 20 -gauss_xtal -xds -detpixels 200 -pixel 0.2 -distance 80"
    words += " -misset 10 20 30"
    simulate(job(options=words, output={"formats": ["npy"], "figures": False, "least_excitation": 0.5}), tmp_path)
    picture = np.load(tmp_path / "image.npy")
    table = np.genfromtxt(tmp_path / "image_spots.csv", delimiter=",", names=True)
    assert table.size > 10
    for spot in table[:10]:
        s, f = round(float(spot["slow_px"])), round(float(spot["fast_px"]))
        near = picture[max(s - 3, 0) : s + 4, max(f - 3, 0) : f + 4]
        assert near.max() > 30 * np.median(picture)
        assert picture[s, f] > 0.3 * near.max()


def test_spots_that_cannot_be_predicted_cost_their_table_only(tmp_path):
    summary = simulate(job(options=f"{WORDS} --c-compat -curved_det"), tmp_path)
    assert summary["images"][0]["spots"] is None
    assert any("no table of spots: detector: spots are not predicted" in line for line in summary["warnings"])
    assert not (tmp_path / "image_spots.csv").exists()
    assert (tmp_path / "image.npy").exists()


def test_nothing_is_overwritten_and_nothing_written_on_bad_input(tmp_path, expected):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"job: crystal\.hkl: none\.hkl|none\.hkl: no such file"):
        simulate(job(crystal={"hkl": "none.hkl"}), out)
    with pytest.raises(InputError, match="no such file"):
        simulate(job(background={"stol": "none", "molecules": 1}), out)
    with pytest.raises(InputError, match="name of a figure"):
        simulate(job(output={"formats": ["png"], "name": "figure_image"}), out)
    with pytest.raises(InputError, match=r"job: mean photons"):
        simulate(job(background={"flat": 1e16}, noise={}), out)
    assert not out.exists()
    out.mkdir()
    (out / "image.npy").write_bytes(b"mine")
    with pytest.raises(FolderInUse, match=r"image\.npy: exists already"):
        simulate(job(), out)
    assert (out / "image.npy").read_bytes() == b"mine"
    (out / "image.npy").unlink()
    simulate(job(), out)
    with pytest.raises(FolderInUse, match="holds the results of a run"):
        simulate(job(), out)
    np.testing.assert_array_equal(np.load(out / "image.npy"), expected)


def test_a_run_that_was_cut_off_is_done_again_and_another_is_refused(tmp_path, monkeypatch, expected):
    from exactgrad.diffraction import simulate as module

    def cut_off(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.presentation, "report_html", cut_off)
        with pytest.raises(KeyboardInterrupt):
            simulate(job(), tmp_path)
    assert (tmp_path / "image.npy").exists()
    assert not (tmp_path / "summary.json").exists()
    with pytest.raises(FolderInUse, match="holds another run, which was cut off"):
        simulate(job(background={"flat": 1.0}), tmp_path)
    simulate(job(), tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), expected)


def test_threads_do_not_matter(tmp_path):
    for threads in (1, 2):
        simulate(job(options=f"{WORDS} -mosaic 1"), tmp_path / str(threads), threads)
    one, two = (np.load(tmp_path / str(threads) / "image.npy") for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_the_examples_run(tmp_path, path):
    from exactgrad.diffraction.from_job import shots
    from exactgrad.diffraction.job import read_job

    parsed, base, _ = read_job(path)
    assert shots(parsed, base)


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_command(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(f'options = "{WORDS}"\n[noise]\nseed = 1\n[output]\nfigures = false\nformats = ["npy"]\n')
    done = run("simulate", path, "--out", tmp_path / "one", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.output.strip().splitlines()[-1])
    assert summary["images"][0]["shape"] == [24, 30]
    assert (tmp_path / "one" / "job.toml").read_text() == path.read_text()
    assert run("simulate", path, "--out", tmp_path / "two", "--seed", 2).exit_code == 0
    one, two = (np.load(tmp_path / name / "image.npy").astype(int) for name in ("one", "two"))
    assert np.any(one != two)
    assert isinstance(run("simulate", path, "--out", tmp_path / "one").exception, FolderInUse)
    path.write_text(path.read_text().replace("formats", "formatz"))
    wrong = run("simulate", path, "--out", tmp_path / "three")
    assert isinstance(wrong.exception, InputError)
    assert f"{path}: output.formatz: unknown key; did you mean formats?" in str(wrong.exception)
    assert not (tmp_path / "three").exists()


def test_predict(tmp_path):
    source = job(image=[{}, {"misset_x": 5}])
    summary = predict_job(source, tmp_path / "spots.csv", image=1, least_excitation=0.1, rows=3)
    from exactgrad.diffraction.spots import predict

    spots = predict(Simulator.from_nanobragg(f"{WORDS} -misset 5 0 0").scene, 0.1)
    assert summary["spots"] == len(spots)
    assert [row[:3] for row in summary["rows"]] == spots.hkl[:3].tolist()
    assert len((tmp_path / "spots.csv").read_text().splitlines()) == len(spots) + 1
    with pytest.raises(InputError, match="exists already"):
        predict_job(source, tmp_path / "spots.csv")
    with pytest.raises(InputError, match="--image 2: the job has 2"):
        predict_job(source, image=2)
    path = tmp_path / "job.toml"
    path.write_text(f'options = "{WORDS}"\n')
    done = run("predict", path, "--rows", 2, "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.output.strip().splitlines()[-1])["rows"]) == 2
