"""Refinement from a job file to a run folder: it arrives, says how sure it is, resumes, and refuses what is wrong."""

import contextlib
import json
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from exactgrad.core.least_squares import covariance
from exactgrad.core.solve import Stop
from exactgrad.diffraction import refine as refining
from exactgrad.diffraction.losses import observe
from exactgrad.diffraction.refine import refine, resume
from exactgrad.diffraction.refinement.plan import Plan
from exactgrad.diffraction.refinement.search import Progress, refine_images
from exactgrad.diffraction.refinement.unknowns import Free
from exactgrad.diffraction.simulate import simulate
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import FolderInUse, InputError

MTZ = Path(__file__).parents[1] / "data" / "diffraction_files" / "5e5z.mtz"
SCENE = f"""
[crystal]
mtz = "{MTZ}"
misset = [20.0, -35.0, 50.0]
N = 14
mosaic = 0.5
mosaic_domains = 8
interpolate = false
[beam]
lambda = 1.0
fluence = 5e26
[detector]
distance = 60.0
pixel = 0.5
detpixels = 170
oversample = 1
[[image]]
phi = 0.0
[[image]]
phi = 60.0
"""
RECORDED = """
[background]
flat = 4.0
[noise]
seed = 3
offset_adu = 10.0
gain_adu = 2.0
readout_adu = 1.0
[output]
formats = ["npy"]
expected = false
figures = false
"""
FREE = 'free = ["orientation", "cell", "distance", "mosaicity", "scale"]'
REFINE = f"""
[refine]
data = ["image_000.npy", "image_001.npy"]
gain_adu = 2.0
offset_adu = 10.0
readout_adu = 1.0
{FREE}
figures = false
"""
OFF = {"20.0, -35.0, 50.0": "20.25, -34.8, 50.2", "mosaic = 0.5": "mosaic = 0.8", "distance = 60.0": "distance = 60.3"}
OFF |= {"5e26": "3e26"}


def off(text=SCENE):
    for what, other in OFF.items():
        text = text.replace(what, other)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two recorded images and their jobs."""
    base = tmp_path_factory.mktemp("refine")
    (base / "truth.toml").write_text(SCENE + RECORDED)
    simulate(base / "truth.toml", base / "recorded")
    for name in ("image_000.npy", "image_001.npy"):
        (base / "recorded" / name).rename(base / name)
    (base / "job.toml").write_text(off() + REFINE)
    (base / "same.toml").write_text(SCENE + REFINE)
    return base


@pytest.fixture(scope="module")
def from_truth(folder):
    return refine(folder / "same.toml", folder / "from_truth")


@pytest.fixture(scope="module")
def from_off(folder):
    events = []
    summary = refine(folder / "job.toml", folder / "from_off", on_event=events.append)
    assert events
    assert {event.phase.split(":")[0] for event in events} == {f"stage {i} of 3" for i in (1, 2, 3)}
    return summary


def values(summary):
    return np.array([row["value"] for row in summary["parameters"]])


def esds(summary):
    return np.array([row["esd"] for row in summary["parameters"]])


def test_it_arrives_where_the_truth_does(from_truth, from_off):
    assert from_off["status"] == from_truth["status"] == "converged"
    assert (np.abs(values(from_off) - values(from_truth)) < 0.1 * esds(from_truth)).all()
    names = [row["name"] for row in from_off["parameters"]]
    assert names[3:7] == ["cell_a", "cell_b", "cell_c", "cell_beta"]  # the MTZ file says P 21
    truth = dict(zip(names, values(from_truth), strict=True))
    assert abs(truth["mosaic"] - 0.5) < 5 * esds(from_truth)[names.index("mosaic")]
    assert 0.9 < from_off["chi2"] < 1.1


def test_the_folder_holds_everything(folder, from_off):
    made = folder / "from_off"
    assert json.loads((made / "summary.json").read_text()) == from_off
    assert tomllib.loads((made / "job.toml").read_text())["refine"]["free"]
    assert "Strong correlations" in (made / "report.html").read_text()
    assert not (made / "checkpoint.h5").exists()
    with h5py.File(made / "result.h5") as handle:
        np.testing.assert_array_equal(handle["parameters/values"][:], values(from_off))
        model = handle["images/1/spots"][:] + handle["images/1/background"][:]
        assert handle["images/1/recorded"][:].sum() == pytest.approx(model.sum(), rel=0.05)
    assert from_off["spots_indexed"] > 10
    assert any("distance" in line for line in from_off["correlations"])  # with the cell: printed
    with pytest.raises(FolderInUse):
        refine(folder / "job.toml", made)
    with pytest.raises(InputError, match="finished"):
        resume(made)


def test_figures_are_drawn(folder, tmp_path):
    text = (folder / "same.toml").read_text().replace("figures = false", "max_iterations = 2\npositions = false")
    (folder / "drawn.toml").write_text(text)
    summary = refine(folder / "drawn.toml", tmp_path / "out")
    names = {path.stem for path in (tmp_path / "out").glob("*.png")}
    kinds = {"fit", "spots", "convergence", "correlations", "residuals"}
    assert names == {f"figure_{kind}" for kind in kinds}
    assert summary["spots_found"] is None


def test_the_other_method_finds_the_same_optimum(folder, tmp_path):
    """L-BFGS from a random start, from pixels alone; the cell is fixed."""
    free = ("free = ['orientation', 'scale']", 'method = "lbfgs"', "positions = false", "seed = 4")
    text = (folder / "same.toml").read_text().replace(FREE, "\n".join(free))
    (folder / "lbfgs.toml").write_text(text)
    summary = refine(folder / "lbfgs.toml", tmp_path / "lbfgs")
    (folder / "lm.toml").write_text(text.replace('"lbfgs"', '"lm"').replace("seed = 4", ""))
    other = refine(folder / "lm.toml", tmp_path / "lm")
    assert (np.abs(values(summary) - values(other)) < 0.01 * esds(other)).all()


def test_resume_gives_the_same_bits(folder, from_off, tmp_path, monkeypatch):
    out = tmp_path / "out"
    budget = refine(folder / "job.toml", out, {"max_iterations": 2})
    assert budget["status"] == "budget"
    assert any(failed["kind"] == "not converged" for failed in budget["failed"])
    resumed = resume(out, overrides={"max_iterations": 100})
    assert resumed["status"] == "converged"
    assert (np.abs(values(resumed) - values(from_off)) < 1e-2 * esds(from_off)).all()
    # stopped by a wish at every possible place, with the same budget: the same bits
    for after in (3,):
        again, kept = tmp_path / f"again{after}", refining.interruptible
        stop = Stop()

        count = iter(range(1, 1000))
        monkeypatch.setattr(refining, "interruptible", lambda stop=stop: contextlib.nullcontext(stop))
        summary = refine(
            folder / "job.toml",
            again,
            on_event=lambda event, stop=stop, count=count, after=after: stop.set(2) if next(count) == after else None,
        )
        monkeypatch.setattr(refining, "interruptible", kept)
        assert summary["status"] == "interrupted"
        assert summary["signal"] == "SIGINT"
        assert (again / "checkpoint.h5").exists()
        whole = resume(again, threads=2)
        assert values(whole).tobytes() == values(from_off).tobytes()
        assert whole["loss"] == from_off["loss"]


def test_a_changed_file_or_job_is_not_resumed(folder, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for name in ("image_000.npy", "image_001.npy", "job.toml"):
        (base / name).write_bytes((folder / name).read_bytes())
    refine(base / "job.toml", tmp_path / "out", {"max_iterations": 1})
    held = (base / "image_001.npy").read_bytes()
    (base / "image_001.npy").write_bytes((base / "image_000.npy").read_bytes())
    with pytest.raises(InputError, match=r"image_001.npy: has changed"):
        resume(tmp_path / "out")
    (base / "image_001.npy").write_bytes(held)
    run = tmp_path / "out" / "run.json"
    description = json.loads(run.read_text())
    description["job"]["refine"]["radius_px"] = 5.0
    run.write_text(json.dumps(description))
    with pytest.raises(InputError, match="belongs to another job"):
        resume(tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fre = ['cell']", "refine: fre: unknown key; did you mean free"),
        ("loss = 'l1'", "refine: loss"),
        ("radius_px = 0.0", "radius_px"),
        ("fixed = ['cel_a']", "cel_a: no such parameter"),
        ("per_image = ['twotheta']", "refine.per_image: twotheta is not free"),
        ("bounds = {distance = [70.0, 80.0]}", "distance starts at 60.3 mm: must lie between 70 and 80"),
        ("bounds = {distance = [70.0, 60.0]}", "the first must be below the second"),
        ("bounds = {twotheta = [0.0, 1.0]}", "twotheta has a bound or a restraint, but is not free"),
        ("restraints = {cell_a = [9.6, 0.0]}", "restraint of cell_a: sigma"),
        ("tied = {Nc = 'two Na'}", 'a name, or a number and a name \\("2 Na"\\), is needed'),
        ("tied = {Nc = 'Na'}", "Na is not free, so that nothing can follow it"),
        ("space_group = 'P 4'", "cell_c = 19.029|cell_beta = 101.224, but it must be 90 there|must equal"),
        ("space_group = 'Q 4'", "no such space group"),
        ("stages = [['cell'], ['scale']]", 'the last must be \\["all"\\]'),
        ("stages = [['cells'], ['all']]", "cells: no such parameter"),
        ("background = 'none'\nmax_iterations = -1", "max_iterations"),
        ("trusted_adu = [5.0, 1.0]", "the first must not exceed the second"),
        ("mosaic = 3", "mosaic: unknown key"),
    ],
)
def test_bad_tables_are_told(folder, tmp_path, line, message):
    (folder / "bad.toml").write_text((folder / "job.toml").read_text() + line + "\n")
    with pytest.raises(InputError, match=message) as raised:
        refine(folder / "bad.toml", tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(folder / "bad.toml"))
    assert not (tmp_path / "out").exists()


def test_bad_data_are_told(folder, tmp_path):
    for data, message in (
        ('["image_000.npy"]', "1 files for 2 images"),
        ('["image_000.npy", "none.npy"]', "none.npy: no such file"),
        ('["image_000.npy", "job.toml"]', "job.toml: not an image of a format that is read"),
        ("[]", "data"),
    ):
        text = (folder / "job.toml").read_text().replace('["image_000.npy", "image_001.npy"]', data)
        (folder / "bad.toml").write_text(text)
        with pytest.raises(InputError, match=message):
            refine(folder / "bad.toml", tmp_path / "out")
    np.save(folder / "small.npy", np.ones((3, 4)))
    (folder / "bad.toml").write_text((folder / "job.toml").read_text().replace("image_001.npy", "small.npy"))
    with pytest.raises(InputError, match=r"image_001: shape \(3, 4\) where \(170, 170\) is needed"):
        refine(folder / "bad.toml", tmp_path / "out")
    with pytest.raises(InputError, match=r"no \[refine\]"):
        refine(folder / "truth.toml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_model_leaves_out_is_told(folder, tmp_path):
    """Half of the light comes from a second crystal that the model does not know."""
    scene = tomllib.loads(SCENE)
    other = {**scene, "crystal": {**scene["crystal"], "misset": [25.0, -30.0, 44.0]}, "output": {"formats": ["npy"]}}
    simulate(other, tmp_path / "other")
    for i in (0, 1):
        seen = np.load(folder / f"image_00{i}.npy") + 2.0 * np.load(tmp_path / "other" / f"image_00{i}.npy")
        np.save(folder / f"twin_{i}.npy", seen)
    text = (folder / "same.toml").read_text().replace("image_000.npy", "twin_0.npy").replace(
        "image_001", "twin_1"
    ) + "max_iterations = 3\n"
    (folder / "twin.toml").write_text(text)
    summary = refine(folder / "twin.toml", tmp_path / "out")
    assert any(failed["kind"] == "misfit" for failed in summary["failed"])
    assert any("leaves something out" in warning for warning in summary["warnings"])


def test_what_the_data_do_not_determine_is_told():
    """One image cannot tell a turn about the beam's spindle angle from the missetting about the same axis."""
    words = f"-hkl {MTZ} -cell 9.643 9.609 19.029 90 101.224 90 -N 14 -lambda 1 -distance 60 -pixel 0.5 -detpixels 100"
    truth = Simulator.from_nanobragg(f"{words} -misset 0 0 20 -fluence 5e26 -oversample 1 -nointerpolate").settings
    image = observe(np.random.default_rng(0).poisson(Simulator(truth).image() + 3.0))
    plan = Plan((Free("misset_z"), Free("phi"), Free("fluence")), positions=False, stages=(("all",),))
    found = refine_images([truth], [image], plan)
    errors = covariance(found.problem.information(found.x), found.problem.parameters(found.x))
    assert any(failed.kind in ("undetermined", "correlated") for failed in errors.failed)
    assert np.isfinite(errors.esd[2])


def test_errors_are_honest():
    """Pulls over noise seeds have width one."""
    words = f"-hkl {MTZ} -cell 9.643 9.609 19.029 90 101.224 90 -N 14 -lambda 1 -distance 60 -pixel 0.5 -detpixels 140"
    words += " -misset 20 -35 50 -fluence 5e26 -oversample 1 -nointerpolate -mosaic 0.5 -mosaic_domains 8"
    truth = Simulator.from_nanobragg(words).settings
    mean = Simulator(truth).image() + 4.0
    names = ("misset_x", "misset_y", "misset_z", "cell_a", "mosaic", "fluence")
    plan = Plan(tuple(Free(name) for name in names), positions=False, stages=(("all",),))
    pulls = []
    for seed in range(14):
        image = observe(np.random.default_rng(seed).poisson(mean))
        found = refine_images([truth], [image], plan)
        errors = covariance(found.problem.information(found.x), found.problem.parameters(found.x))
        pulls.append((found.values - found.start) / errors.esd)
    assert 0.8 < np.std(pulls) < 1.2  # 84 pulls: 1 +- 0.08
    assert abs(np.mean(pulls)) < 0.3


def test_progress_survives_as_arrays(folder):
    progress = Progress(np.array([1.0, 2.0]), 1, 2, None, [np.array([3.0, 1.0])], 4, 5, 6.0, np.array([7.0, 8.0, 0.5]))
    again = Progress.from_arrays(progress.to_arrays(), "lm")
    assert again.to_arrays().keys() == progress.to_arrays().keys()
    for name, array in progress.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)
    with pytest.raises(InputError, match=r"refine.method = 'newton'"):
        Progress.from_arrays({**progress.to_arrays(), "counts": np.array([0, 0, 0, 0, 0, 1])}, "newton")
