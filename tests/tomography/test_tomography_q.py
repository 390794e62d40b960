"""Reconstructions at several q: which are chosen, how they start each other, what they leave, and a run cut short."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import h5py
import numpy as np
import pytest
from typer.main import get_command

from exactgrad.core.solve import exit_code
from exactgrad.errors import FolderInUse, InputError
from exactgrad.files import read_hdf5
from exactgrad.tomography import figures, formats, q_series
from exactgrad.tomography import simulate as simulating
from exactgrad.tomography.commands import app
from exactgrad.tomography.compare import compare
from exactgrad.tomography.formats import mumott
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct import reconstruct, resume
from exactgrad.tomography.reconstruct_job import DataTable, Job
from exactgrad.tomography.redraw import redraw

BRIGHTNESS = {0.2: 0.3, 0.4: 1.0, 0.8: 0.15}  # of each q; B grows with it
QUICK = {
    "regularisation": {"weight": 1e-4},
    "solve": {"path_iterations": 10, "tolerance": 1e-5},
    "quality": {"samples": 0, "split_half": False},
    "basin": {"rounds": 0},
    "output": {"figures": False, "residuals": False},
}


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """Three q in one file, each with its own intensity, sharpness and scattering angle."""
    job = {
        "phantom": {"name": "fibres", "shape": [8, 8, 8], "seed": 2},
        "scan": {"projections": 20, "segments": 6},
        "measure": {"scale": 300.0, "noise": "none"},
    }
    made = simulating.make(simulating.Job.model_validate(job))
    truth = {name: made.truth[name] for name in ("A", "B", "theta_op", "phi_op")}
    random, sets = np.random.default_rng(0), []
    for q, brightness in BRIGHTNESS.items():
        one = made.data.with_geometry(replace(made.data.geometry, two_theta=0.02 * q))
        mean = brightness * 300.0 * TomographyProblem(one).forward(**{**truth, "B": (0.6 + q) * truth["B"]})
        sets.append(replace(one, data=random.poisson(mean).astype(np.float32), q=q, q_unit="1/nm"))
    path = tmp_path_factory.mktemp("scan") / "data.h5"
    mumott.write(path, sets, made.angles, {f"truth/{name}": values for name, values in truth.items()})
    return path


@pytest.fixture(scope="module")
def whole(data_file, tmp_path_factory):
    """A run at all q, and its summary."""
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, reconstruct(data_file, folder, QUICK, q="all")


def test_every_q_has_its_own_run_and_the_summary_lists_them(whole, data_file):
    folder, summary = whole
    assert summary["status"] == "converged" and exit_code(summary) == 0 and summary["message"] == "3 q converged"
    assert summary["q"] == list(BRIGHTNESS)
    assert [run["folder"] for run in summary["runs"]] == ["q_000", "q_001", "q_002"]
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(summary))
    for run in summary["runs"]:
        part = folder / run["folder"]
        assert {"result.h5", "summary.json", "report.html"} <= {entry.name for entry in part.iterdir()}
        errors = compare(part, data_file)
        assert errors["axis_error_median_deg"] < 3.0 and errors["wrong_sign_fraction"] < 0.05
        assert run["axis_change_median_deg"] < 3.0
    means = [run["mean_intensity"] for run in summary["runs"]]
    assert means[1] > means[0] > means[2]


def test_the_brightest_starts_the_others(whole):
    folder, summary = whole
    histories = [set(read_hdf5(folder / run["folder"] / "result.h5")[0]) for run in summary["runs"]]
    assert [("convergence/tensor" in names) for names in histories] == [False, True, False]


def test_a_neighbour_gives_a_start_that_explains_this_q(whole, data_file):
    folder, _ = whole
    sets = formats.load_all(data_file)
    start = q_series.start_from(folder / "q_001", sets[1], sets[2], Job(), None)
    problem = TomographyProblem(sets[2], mask=start["mask"])
    modelled = problem.predict(problem.vector(**{name: start[name] for name in ("A", "B", "axis")}))
    assert modelled.sum() == pytest.approx(sets[2].data.sum(), rel=1e-6)
    before = read_hdf5(folder / "q_001" / "result.h5")[0]
    sample = before["mask"].astype(bool)
    assert np.ptp(start["A"][sample] / before["A"][sample]) < 1e-9
    ratio = sets[1].data.sum() / sets[2].data.sum()  # the prior stays, so its weight grows where there are fewer counts
    assert start["weight"] == pytest.approx(1e-4 * ratio, rel=1e-6)
    assert q_series.start_from(folder / "q_001", sets[1], sets[2], Job.model_validate(QUICK), None)["weight"] == 1e-4


def test_offsets_that_were_aligned_are_shared(whole, data_file, tmp_path):
    folder, _ = whole
    arrays, attributes = read_hdf5(folder / "q_001" / "result.h5")
    from exactgrad.files import write_hdf5

    write_hdf5(tmp_path / "result.h5", {**arrays, "offsets/j": arrays["offsets/j"] + 0.25}, attributes)
    sets = formats.load_all(data_file)
    start = q_series.start_from(tmp_path, sets[1], sets[2], Job(), None)
    assert np.array_equal(start["offsets"][0], sets[2].geometry.j_offset + 0.25)


def test_the_folders_of_a_series_are_told_apart(whole, data_file, tmp_path):
    folder, _ = whole
    with pytest.raises(InputError, match="holds several q: name the folder of one, q_000 to q_002"):
        compare(folder, data_file)
    with pytest.raises(FolderInUse, match="holds the results of a run"):
        reconstruct(data_file, folder, QUICK, q="all")
    with pytest.raises(InputError, match="finished"):
        resume(folder)
    with pytest.raises(InputError, match=r"holds 3 q: say which one, q = 0 to 2 \(reconstruct also takes all\)"):
        reconstruct(data_file, tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at", ["mean intensity", "all parameters"])
def test_a_series_that_is_interrupted_goes_on_bit_for_bit(whole, data_file, tmp_path, at):
    """In its second q: before anything of it is found, and in its last fit."""
    told = []

    def interrupt(event):
        if event.phase == f"q 2: {at}" and not told:
            told.append(event)
            os.kill(os.getpid(), signal.SIGINT)

    stopped = reconstruct(data_file, tmp_path / "out", QUICK, on_event=interrupt, q="all")
    assert stopped["status"] == "interrupted" and exit_code(stopped) == 130
    assert [run["status"] for run in stopped["runs"]] == ["converged", "interrupted"]
    summary = resume(tmp_path / "out")
    assert summary["status"] == "converged"
    for run in summary["runs"]:
        one, other = (read_hdf5(part / run["folder"] / "result.h5")[0] for part in (whole[0], tmp_path / "out"))
        assert all(np.array_equal(one[name], other[name]) for name in ("A", "B", "axis"))


def test_seconds_are_of_all_q_together(data_file, tmp_path):
    summary = reconstruct(data_file, tmp_path / "out", QUICK, overrides={"max_seconds": 1e-3}, q="all")
    assert summary["status"] == "budget" and exit_code(summary) == 3
    assert [run["number"] for run in summary["runs"]] == [1]
    assert summary["message"] == "the budget is used up; 3 of 3 q are not finished"
    with pytest.raises(InputError, match="no such file"):
        compare(tmp_path / "out" / "q_000", data_file)


def test_a_range_and_one_of_it(data_file, tmp_path, capsys):
    """One q in the range: a run as if it had been named."""
    (tmp_path / "job.toml").write_text(
        "[data]\nq_range = [0.3, 0.5]\n[regularisation]\nweight = 1e-4\n[solve]\nmax_iterations = 2\n"
        "[output]\nfigures = false\nresiduals = false\n"
    )
    words = ["reconstruct", data_file, "--out", tmp_path / "out", "--job", tmp_path / "job.toml", "--json"]
    assert get_command(app).main([str(word) for word in words], standalone_mode=False) == 3
    assert json.loads(capsys.readouterr().out)["volume_shape"] == [8, 8, 8]
    with h5py.File(tmp_path / "out" / "result.h5") as handle:
        assert handle.attrs["q"] == 0.4


def test_which_q_a_job_names(data_file, tmp_path):
    assert q_series.chosen(data_file, DataTable(q="all")) == [0, 1, 2]
    assert q_series.chosen(data_file, DataTable(q_range=(0.2, 0.5))) == [0, 1]
    with pytest.raises(InputError, match=r"data\.q_range = \[1, 2\]: .*data\.h5 has q = 0\.2, 0\.4, 0\.8"):
        q_series.chosen(data_file, DataTable(q_range=(1.0, 2.0)))
    nameless = [replace(data, q=None, q_unit="") for data in formats.load_all(data_file)]
    mumott.write(tmp_path / "nameless.h5", nameless)
    with pytest.raises(InputError, match=r"does not say its q; choose by number, data\.q = 0 to 2"):
        q_series.chosen(tmp_path / "nameless.h5", DataTable(q_range=(0.1, 1.0)))


def test_a_q_at_which_nothing_was_measured_is_told_before_anything_is_written(data_file, tmp_path):
    one, other, _ = formats.load_all(data_file)
    mumott.write(tmp_path / "dark.h5", [one, replace(other, weights=np.zeros((*other.shape[:3], 1)))])
    with pytest.raises(InputError, match="q number 1: no intensity above 0 has a weight"):
        reconstruct(tmp_path / "dark.h5", tmp_path / "out", QUICK, q="all")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"q": "both"}, "q"),
        ({"q": -1}, "q"),
        ({"q": 1, "q_range": [0.1, 0.2]}, "give q or q_range, not both"),
        ({"q_range": [0.2, 0.1]}, "a lower and an upper limit are needed"),
        ({"q_range": [0.2]}, "q_range"),
    ],
)
def test_a_wrong_choice_is_told_before_anything_is_written(data_file, tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        reconstruct(data_file, tmp_path / "out", {"data": table})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("q", [[0.1, 0.2, None], [0.1, 0.2, 0.3]])
def test_the_figure_against_q(q):
    keys = {"mean_intensity": 2.0, "B_median": -1.0, "sigma_axis_median_deg": None, "axis_change_median_deg": 1.0}
    fig = figures.against_q([{"number": i, "q": value, **keys} for i, value in enumerate(q)])
    assert fig.axes[0].get_xlabel() == ("number of the q" if None in q else "q")
    assert [len(axes.lines) for axes in fig.axes] == [1, 2, 1]


def test_the_report_of_a_series_can_be_made_anew(whole):
    folder, _ = whole
    before = (folder / "report.html").read_bytes()
    pictures, html = redraw(folder)
    assert html.encode() == before and pictures == {}
