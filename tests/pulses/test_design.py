"""Every kind of job gives a run folder whose files say the same as the summary, within the limits that were set."""

from __future__ import annotations

import copy
import json
import math
import os

import numpy as np
import pytest

from exactgrad.cli.main import main
from exactgrad.errors import FolderInUse, InputError, NotWritten
from exactgrad.files import read_hdf5
from exactgrad.pulses import output
from exactgrad.pulses import search as searching
from exactgrad.pulses.bloch import simulate
from exactgrad.pulses.certificate import dense_grid
from exactgrad.pulses.design import design, resume
from exactgrad.pulses.formats import list_formats, read_shape, write_shape
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse

BASE = {
    "pulse": {"duration_us": 100.0, "step_us": 4.0},
    "target": {"transfer": ["z", "x"]},
    "ensemble": {"bandwidth_hz": 3000.0, "offsets": 5},
    "limits": {"peak_hz": 8000.0},
    "solve": {"starts": 2, "max_iterations": 12, "seed": 3},
    "output": {"figures": False},
}
CONTRACT = {
    *("system", "command", "version", "status", "message", "seconds", "evaluations", "iterations", "loss"),
    *("quality", "quality_min", "quality_dense_mean", "quality_dense_min", "quality_dense_p01", "peak_hz", "rms_hz"),
    *("energy_hz2_s", "duration_us", "steps", "certificate_error", "pulse_files"),
}
FILES = {"run.json", "result.h5", "summary.json", "report.html", ".lock"}


def job(**tables) -> dict:
    """The base job; a table that is given updates the one of the base, None in it removes a key."""
    made = copy.deepcopy(BASE)
    for name, table in tables.items():
        at = {} if name == "target" else made.setdefault(name, {})
        at.update(table)
        made[name] = {key: value for key, value in at.items() if value is not None}
    return made


MIDDLE = {"offset_hz": [-800.0, 800.0], "transfer": ["z", "x"]}
JOBS = {
    **{f"controls {kind}": job(pulse={"controls": kind}) for kind in ("xy", "polar", "phase", "reduced")},
    **{f"controls {kind}": job(pulse={"controls": kind}) for kind in ("xyz", "polar-z", "reduced-z")},
    "reduced, rms": job(pulse={"controls": "reduced"}, limits={"peak_hz": None, "rms_hz": 3000.0}),
    "inversion": job(target={"transfer": ["z", "-z"]}),
    "any axes": job(target={"transfer": [[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]]}),
    "phase slope": job(target={"transfer": ["z", "x"], "phase_slope": 0.5}),
    "universal 90": job(target={"rotation": {"axis": "x", "angle_deg": 90.0}}),
    "universal 180, any sign": job(target={"rotation": {"axis": "y", "angle_deg": 180.0, "sign_free": True}}),
    "saturation": job(target={"saturation": "z"}),
    "transverse": job(target={"transverse": "z"}),
    "bands": job(
        target={"band": [MIDDLE, {"offset_hz": [-1600.0, 1600.0], "rotation": {"axis": "x", "angle_deg": 0.0}}]}
    ),
    "a band of one spin": job(
        target={"band": [{"offset_hz": [333.0, 334.0], "transfer": ["z", "x"]}, {**MIDDLE, "weight": 0.5}]},
        ensemble={"bandwidth_hz": None, "offsets": None, "offsets_hz": [-1000.0, 0.0, 333.33, 1000.0]},
    ),
    "a band of B1": job(
        target={"band": [{"offset_hz": [-2000.0, 2000.0], "b1": [0.8, 1.0], "transfer": ["z", "-y"]}]},
        ensemble={"b1_spread": 0.2, "b1_points": 3},
    ),
    "weights": job(ensemble={"offset_weights": [1.0, 2.0, 3.0, 2.0, 0.0], "b1": [0.9, 1.2], "b1_weights": [3.0, 1.0]}),
    "worst case": job(ensemble={"objective": "worst", "sharpness": 50.0}),
    "steps of two lengths": job(pulse={"step_us": None, "steps_us": [2.0, 6.0] * 12, "duration_us": None}),
    "hold": job(pulse={"hold": [{"from_us": 40.0, "to_us": 60.0}, {"from_us": 0.0, "to_us": 4.0, "ux_hz": 100.0}]}),
    "even": job(pulse={"symmetry": "even"}),
    "odd number of steps, mixed symmetry": job(
        pulse={"step_us": 100.0 / 15, "symmetry": {"x": "even", "y": "odd"}},
    ),
    "one step": job(pulse={"step_us": 100.0}),
    "one spin": job(ensemble={"bandwidth_hz": 0.0, "offsets": 1}),
    "one hundred thousand Hz off": job(ensemble={"centre_hz": 1e5, "offsets": 2}),
    "no limit": job(limits={"peak_hz": None}),
    "a peak for each step": job(limits={"peak_hz": [1000.0 + 100 * i for i in range(25)]}),
    "rms": job(limits={"peak_hz": None, "rms_hz": 2500.0}),
    "energy": job(limits={"peak_hz": None, "energy_hz2_s": 500.0}),
    "energy by tanh": job(limits={"peak_hz": None, "energy_hz2_s": 500.0, "power_map": "tanh"}),
    "peak, rms and energy": job(limits={"rms_hz": 2500.0, "energy_hz2_s": 400.0}),
    "penalties for limits": job(limits={"peak_hz": 3000.0, "rms_hz": 2000.0, "enforce": "penalty"}),
    "a penalty for the energy": job(limits={"peak_hz": None, "energy_hz2_s": 300.0, "enforce": "penalty"}),
    "smoothness": job(penalties={"smoothness": 1e-2}),
    "Newton": job(solve={"method": "newton"}),
    "smooth start": job(solve={"start": "smooth"}),
    "chirp": job(solve={"start": "chirp"}, target={"transfer": ["z", "-z"]}),
    "coarse": job(solve={"start": "coarse"}, pulse={"step_us": 1.0}),
    "no iterations": job(solve={"max_iterations": 0}),
    "one start": job(solve={"starts": 1}),
    "no halving": job(solve={"halving": False}),
    "100 % above the peak": job(output={"rf_max_hz": 20_000.0, "name": "my.pulse-2"}),
    "the other sense of phase": job(output={"phase_sign": -1}),
    "figures": job(output={"figures": True}, ensemble={"b1_spread": 0.1, "b1_points": 3}),
}
# The exact-phase formats hold what they are given to 2e-9 of the amplitude; a folded uz is allowed 1e-6.
CLOSE = 1e-9


@pytest.mark.parametrize("case", JOBS)
def test_a_design(tmp_path, capsys, case):
    asked = JOBS[case]
    summary = design(asked, tmp_path)
    check_summary(summary, tmp_path)
    check_limits(summary, asked)
    folded = any("phase" in note for note in summary["notes"])
    assert summary["certificate_error"] <= (1e-6 if folded else CLOSE)
    if asked["pulse"].get("controls", "xy").endswith("z"):
        assert folded or "accumulated phase" in summary["files_refused"]["bruker"]
    check_result(summary, asked, tmp_path)
    if expressible(asked):
        check_evaluate(summary, asked, capsys)


def check_summary(summary, folder):
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary.keys() >= CONTRACT
    for key in CONTRACT:
        assert not isinstance(summary[key], float) or math.isfinite(summary[key]), key
    assert (summary["system"], summary["command"]) == ("pulses", "design")
    assert summary["status"] in ("converged", "budget")
    assert summary["quality_min"] <= summary["quality"] <= 1 + 1e-12
    assert summary["quality_dense_min"] <= summary["quality_dense_p01"] <= summary["quality_dense_mean"] <= 1 + 1e-12
    assert set(os.listdir(folder)) >= FILES
    assert not [name for name in os.listdir(folder) if "tmp" in name]
    assert summary["pulse_files"]
    assert all(os.path.isfile(path) and os.path.isabs(path) for path in summary["pulse_files"])
    assert (folder / "checkpoint.h5").exists() == (summary["status"] != "converged")


def shape_of(path, asked):
    return read_shape(path, duration_us=None, phase_sign=asked["output"].get("phase_sign", 1), rf_max_hz=None).pulse


def check_limits(summary, asked):
    """In every written file, as it is read back."""
    for path in summary["pulse_files"]:
        pulse = shape_of(path, asked)
        limits = asked.get("limits", {})
        assert np.isclose(pulse.duration_s * 1e6, 100.0 if "hold" in asked["pulse"] else summary["duration_us"])
        peak = limits.get("peak_hz", np.inf)
        if not (isinstance(peak, list) and pulse.steps != len(peak)):
            assert (pulse.amplitude_hz <= np.asarray(peak) * (1 + 1e-8)).all()
        assert pulse.rms_hz <= limits.get("rms_hz", np.inf) * (1 + 1e-8)
        assert pulse.energy_hz2_s <= limits.get("energy_hz2_s", np.inf) * (1 + 1e-8)
        assert np.isclose(pulse.peak_hz, summary["peak_hz"], rtol=1e-8)
        assert np.isclose(pulse.rms_hz, summary["rms_hz"], rtol=1e-8)


def check_result(summary, asked, folder):
    arrays, attributes = read_hdf5(folder / "result.h5")
    assert attributes["system"] == "pulses"
    pulse = Pulse(*(arrays[f"pulse/{name}"] for name in ("step_s", "ux_hz", "uy_hz", "uz_hz")))
    csv = shape_of(next(path for path in summary["pulse_files"] if path.endswith(".csv")), asked)
    assert np.allclose([csv.ux_hz, csv.uy_hz, csv.uz_hz], [pulse.ux_hz, pulse.uy_hz, pulse.uz_hz], rtol=0, atol=1e-9)
    assert np.isclose(np.sum(arrays["training/weight"] * arrays["training/quality"]), summary["quality"], atol=1e-12)
    problem = PulseProblem.from_job(asked)
    value = problem.value_and_gradient(arrays["x"])[0] + problem.penalty_and_gradient(arrays["x"])[0]
    assert np.isclose(value, summary["loss"], atol=1e-12)
    if asked.get("limits", {}).get("enforce") != "penalty":
        assert np.isclose(problem.quality(arrays["x"]), summary["quality"], atol=1e-12)


def expressible(asked) -> bool:
    """Whether the command line can say the same target and ensemble."""
    target, ensemble = asked["target"], asked["ensemble"]
    vectors = any(isinstance(axis, list) for axis in target.get("transfer", ()))
    return not (
        vectors
        or target.keys() & {"band", "phase_slope"}
        or target.get("rotation", {}).get("sign_free")
        or ensemble.keys() & {"offsets_hz", "offset_weights", "b1", "centre_hz"}
    )


def check_evaluate(summary, asked, capsys):
    target = asked["target"]
    kind = next(iter(target))
    values = target[kind] if kind != "rotation" else [target[kind]["axis"], str(target[kind]["angle_deg"])]
    text = f"{kind}:{values if isinstance(values, str) else ','.join(values)}"
    options = [f"--{key.replace('_', '-')}={value}" for key, value in asked["ensemble"].items()]
    options = [option for option in options if not option.startswith(("--objective", "--sharpness"))]
    for path in summary["pulse_files"]:
        sign = ["--phase-sign", str(asked["output"].get("phase_sign", 1))]
        assert main(["pulse", "evaluate", path, "--target", text, *options, *sign, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert abs(found["quality"] - summary["quality"]) <= (CLOSE if not summary["notes"] else 1e-6)


@pytest.mark.parametrize("name", list_formats())
def test_every_format(tmp_path, name):
    """From a job's own words to the file and back."""
    rf_max = 10_000.0
    summary = design(job(output={"formats": [name], "rf_max_hz": rf_max}), tmp_path)
    (path,) = summary["pulse_files"]
    fmt = list_formats()[name]
    assert path == str(tmp_path / f"pulse{fmt.suffix}")
    assert summary["certificate_error"] <= {"xepr": 1e-5, "pulseq": 1e-4}.get(name, CLOSE)
    pulse = read_shape(
        path,
        name,
        duration_us=None if fmt.holds_duration else 100.0,
        rf_max_hz=None if fmt.holds_rf_max else rf_max,
    ).pulse
    arrays, _ = read_hdf5(tmp_path / "result.h5")
    tolerance = {"xepr": 2e-6, "pulseq": 2e-5}.get(name, 1e-8) * rf_max
    assert np.allclose(pulse.ux_hz, arrays["pulse/ux_hz"], rtol=0, atol=tolerance)
    assert np.allclose(pulse.uy_hz, arrays["pulse/uy_hz"], rtol=0, atol=tolerance)


def test_a_format_that_cannot_hold_the_pulse_is_refused_with_its_reason(tmp_path):
    asked = job(pulse={"step_us": None, "steps_us": [2.0, 6.1, 3.9] * 4}, output={"formats": ["bruker", "csv"]})
    asked["pulse"].pop("duration_us")
    summary = design(asked, tmp_path)
    assert list(summary["files_refused"]) == ["bruker"]
    assert "the steps differ in length" in summary["files_refused"]["bruker"]
    assert [path.rsplit(".")[-1] for path in summary["pulse_files"]] == ["csv"]
    assert any("bruker was refused" in warning for warning in summary["warnings"])


def test_a_pulse_that_grew_beyond_100_percent_costs_the_format_and_not_the_result(tmp_path):
    asked = job(limits={"peak_hz": None}, output={"rf_max_hz": 0.5})
    summary = design(asked, tmp_path)
    assert summary["pulse_files"] == []
    assert "below the pulse's peak" in summary["files_refused"]["bruker"]
    assert read_hdf5(tmp_path / "result.h5")[0]["x"].size == 50


def test_a_format_refused_at_last_leaves_no_older_file(tmp_path, monkeypatch):
    """What an earlier part of the same run wrote would be taken for this pulse."""
    asked = job(pulse={"controls": "xyz"})
    design(asked, tmp_path)
    monkeypatch.setattr(output, "FOLD_PARTS", ())
    summary = resume(tmp_path)
    assert list(summary["files_refused"]) == ["bruker"]
    assert not (tmp_path / "pulse.pk").exists()


def test_the_distribution_the_response_and_the_start_stand_beside_the_job(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "b0.csv").write_text("offset_hz,b1,weight\n-500,0.9,1\n0,1,2\n700,1.1,1\n")
    (home / "h.csv").write_text("t_us,re,im\n0,0.8,0\n4,0.2,-0.1\n8,0.05,0\n")
    write_shape(home / "start.pk", Pulse.from_polar([1e-5] * 10, [2500.0] * 10, [0.0] * 10), "bruker", title="s")
    (home / "job.toml").write_text(
        '[pulse]\nduration_us = 100.0\nstep_us = 4.0\n[target]\ntransfer = ["z", "-y"]\n'
        '[ensemble]\ndistribution = "b0.csv"\n[limits]\npeak_hz = 8000.0\n[response]\nfile = "h.csv"\n'
        '[solve]\nstart = "start.pk"\nstarts = 2\nmax_iterations = 5\n[output]\nfigures = false\n'
    )
    summary = design(home / "job.toml", tmp_path / "out")
    assert summary["certificate_error"] <= CLOSE
    assert summary["quality"] > 0.9  # the start is a 90 degree pulse
    assert (tmp_path / "out" / "job.toml").read_text() == (home / "job.toml").read_text()
    again = resume(tmp_path / "out", overrides={"max_iterations": 6})
    assert again["quality"] >= summary["quality"]
    # the spins see the pulse through the response, ring-down included: by the independent simulation
    arrays, _ = read_hdf5(tmp_path / "out" / "result.h5")
    seen = np.convolve(arrays["pulse/ux_hz"] + 1j * arrays["pulse/uy_hz"], [0.8, 0.2 - 0.1j, 0.05])
    pulse = Pulse(np.full(seen.size, 4e-6), seen.real, seen.imag, np.zeros(seen.size))
    ends = simulate(pulse, [-500.0, 0.0, 700.0], [0.9, 1.0, 1.1], [0.0, 0.0, 1.0])
    assert np.isclose(-ends[:, 1] @ [0.25, 0.5, 0.25], again["quality"], atol=1e-12)


def test_a_target_map(tmp_path):
    (tmp_path / "map.csv").write_text("offset_hz,b1,x,y,z\n-500,1,0,0,1\n0,1,1,0,0\n500,1,0,0,-1\n")
    (tmp_path / "job.toml").write_text(
        '[pulse]\nduration_us = 1000.0\nstep_us = 20.0\n[target]\nmap = "map.csv"\n[ensemble]\n'
        "[solve]\nstarts = 1\nmax_iterations = 40\n[output]\nfigures = false\n"
    )
    summary = design(tmp_path / "job.toml", tmp_path / "out")
    assert summary["quality"] > 0.5
    assert summary["certificate_error"] <= CLOSE


class TestContract:
    def test_b1_does_not_scale_the_offset_control(self):
        problem = PulseProblem.from_job(
            job(pulse={"controls": "xyz"}, ensemble={"b1": [0.5]}, limits={"peak_hz": None})
        )
        x = np.zeros(problem.size)
        x[-problem.steps :] = 0.25  # only z
        expected = simulate(problem.pulse(x), problem.ensemble.offset_hz, np.ones(5), [0.0, 0.0, 1.0])[:, 0]
        assert np.allclose(problem.qualities(x), expected, atol=1e-14)

    def test_the_phase_is_atan2_of_uy_and_ux(self, tmp_path):
        summary = design(job(), tmp_path)
        arrays, _ = read_hdf5(tmp_path / "result.h5")
        rows = (tmp_path / "pulse.pk").read_text().splitlines()
        points = [row.split(",") for row in rows if not row.startswith(("##", "$$"))]
        phase = np.rad2deg(np.arctan2(arrays["pulse/uy_hz"], arrays["pulse/ux_hz"])) % 360
        assert np.allclose([float(point[1]) for point in points], phase, atol=1e-6)
        assert summary["steps"] == len(points) == 25

    def test_the_quality_of_saturation_is_one_minus_mz_squared(self, tmp_path):
        summary = design(job(target={"saturation": "z"}), tmp_path)
        arrays, _ = read_hdf5(tmp_path / "result.h5")
        pulse = Pulse(*(arrays[f"pulse/{name}"] for name in ("step_s", "ux_hz", "uy_hz", "uz_hz")))
        mz = simulate(pulse, np.linspace(-1500, 1500, 5), np.ones(5), [0.0, 0.0, 1.0])[:, 2]
        assert np.isclose(np.mean(1 - mz**2), summary["quality"], atol=1e-12)

    def test_the_same_job_gives_the_same_pulse_for_any_number_of_threads(self, tmp_path):
        for threads in (1, 2):
            design(job(solve={"starts": 3}), tmp_path / str(threads), threads=threads)
        assert (tmp_path / "1" / "pulse.csv").read_bytes() == (tmp_path / "2" / "pulse.csv").read_bytes()

    def test_another_seed_gives_another_pulse(self, tmp_path):
        design(job(), tmp_path / "1")
        design(job(), tmp_path / "2", overrides={"seed": 4})
        assert (tmp_path / "1" / "pulse.csv").read_bytes() != (tmp_path / "2" / "pulse.csv").read_bytes()


class TestNewton:
    def test_the_summary_tells_of_newtons_result(self, tmp_path):
        asked = job(solve={"method": "newton", "max_iterations": 5, "starts": 1})
        summary = design(asked, tmp_path / "newton")
        asked["solve"]["method"] = "lbfgs"
        before = design(asked, tmp_path / "lbfgs")
        assert summary["loss"] < before["loss"]
        assert np.isclose(summary["loss"], 1 - summary["quality"], atol=1e-12)
        assert summary["iterations"] > before["iterations"]

    def test_it_keeps_to_the_time(self, tmp_path):
        asked = job(solve={"method": "newton", "max_seconds": 1e-6})
        summary = design(asked, tmp_path)
        assert (summary["status"], summary["message"]) == ("budget", "the time budget was used up")

    def test_its_own_time_counts(self, tmp_path, monkeypatch):
        seconds = iter(range(10_000))
        monkeypatch.setattr(searching.time, "monotonic", lambda: next(seconds))
        asked = job(solve={"method": "newton", "max_seconds": 1e5, "max_iterations": 1})
        asked["limits"] = {}
        monkeypatch.setattr(searching, "NEWTON_ITERATIONS", 3)
        summary = design(asked, tmp_path)
        assert summary["seconds"] >= 3


class TestFolder:
    def test_results_are_never_overwritten(self, tmp_path):
        design(job(), tmp_path)
        before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
        with pytest.raises(FolderInUse, match="holds the results of a run"):
            design(job(), tmp_path)
        assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before

    @pytest.mark.parametrize(
        "name",
        [
            "pulse.pk",
            "pulse.csv",
            "report.html",
            "pulse.png",
            "map.png",
            "checkpoint.h5",
            "checkpoint.h5.1",
            "job.toml",
        ],
    )
    def test_a_file_of_the_users_is_never_overwritten(self, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(FolderInUse, match="choose another --out"):
            design(job(), tmp_path)
        assert os.listdir(tmp_path) == [name]
        assert (tmp_path / name).read_text() == "mine"

    @pytest.mark.parametrize("name", ["result.h5", "summary.json", "run.json"])
    def test_nor_is_what_looks_like_a_run(self, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(FolderInUse):
            design(job(), tmp_path)
        assert os.listdir(tmp_path) == [name]

    def test_other_files_may_stand_there(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        design(job(), tmp_path)
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_a_file_as_folder(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(InputError, match="a file of this name exists; an output folder is needed"):
            design(job(), tmp_path / "out")
        with pytest.raises(NotWritten, match="cannot be used as output folder"):
            design(job(), tmp_path / "out" / "below")

    @pytest.mark.parametrize("folder", ["/proc/out", "/proc/version/out", "/dev/null/out"])
    def test_a_folder_that_nobody_can_write(self, folder):
        with pytest.raises(NotWritten, match="cannot be used as output folder") as caught:
            design(job(), folder)
        assert "\n" not in str(caught.value)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write where the permission bits say no")
    def test_a_read_only_folder(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(NotWritten, match="Permission denied"):
            design(job(), tmp_path / "out")


class TestResume:
    def test_a_finished_run(self, tmp_path):
        asked = job(ensemble={"offsets": 1}, solve={"max_iterations": 500})
        assert design(asked, tmp_path)["status"] == "converged"
        with pytest.raises(InputError, match="this run is finished"):
            resume(tmp_path)

    def test_no_run(self, tmp_path):
        with pytest.raises(InputError, match=r"no run to resume \(run.json is missing\)"):
            resume(tmp_path)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            "null",
            '{"job": {}}',
            '{"job": 3, "base": "", "threads": 1}',
            "[" * 100_000,
            '{"a": ' + "9" * 5000 + "}",
            json.dumps({"job": job(), "base": "."}),
            json.dumps({"job": job(), "base": ".", "command": "design", "threads": "many"}),
            json.dumps({"job": job(), "base": ["."], "command": "design", "threads": 1}),
            json.dumps({"job": job(), "base": ".", "threads": 1}),
            json.dumps({"job": job(pulse={"step_us": -1.0}), "base": ".", "command": "design", "threads": 1}),
        ],
    )
    def test_a_description_that_is_none(self, tmp_path, text):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(InputError, match=r"run.json: not the description of a run") as caught:
            resume(tmp_path)
        assert "\n" not in str(caught.value)

    def test_wrong_budgets(self, tmp_path):
        design(job(), tmp_path)
        with pytest.raises(InputError, match=r"solve.max_seconds = -1.0"):
            resume(tmp_path, overrides={"max_seconds": -1.0})

    def test_a_job_whose_files_are_gone(self, tmp_path):
        (tmp_path / "b0.csv").write_text("offset_hz,b1\n0,1\n")
        (tmp_path / "job.toml").write_text(
            '[pulse]\nduration_us = 100.0\nstep_us = 4.0\n[target]\ntransfer = ["z", "-y"]\n'
            '[ensemble]\ndistribution = "b0.csv"\n[solve]\nstarts = 1\nmax_iterations = 0\n[output]\nfigures = false\n'
        )
        design(tmp_path / "job.toml", tmp_path / "out")
        (tmp_path / "b0.csv").unlink()
        with pytest.raises(InputError, match=r"run.json: .*b0.csv: no such file"):
            resume(tmp_path / "out")

    def test_a_larger_budget_goes_on(self, tmp_path):
        before = design(job(), tmp_path)
        after = resume(tmp_path, overrides={"max_iterations": 100})
        assert after["iterations"] > before["iterations"]
        assert after["loss"] < before["loss"]


def test_the_dense_grid_holds_every_band(tmp_path):
    problem = PulseProblem.from_job(JOBS["a band of one spin"])
    dense = dense_grid(problem, problem.pulse(problem.start(0)))
    assert 333.33 in dense.offset_hz
    assert np.isfinite(dense.quality[np.isin(dense.offset_hz, [333.33])]).all()
    assert np.isnan(dense.quality[dense.offset_hz == 1000.0]).all()  # no band holds it
