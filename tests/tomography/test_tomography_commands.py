"""The commands: their JSON, their exit codes, and files that are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.main import get_command

from exactgrad.cli.main import explain
from exactgrad.tomography.commands import app
from exactgrad.tomography.formats import load, result
from exactgrad.tomography.problem import TomographyProblem

GOLDEN = Path(__file__).parents[1] / "data" / "golden_tomography" / "g1_seed_frame.h5"
JOB = """
[phantom]
name = "rings"
shape = [10, 10, 8]
[scan]
projections = 24
segments = 4
[measure]
absorption = 0.05
offset_px = 0.5
"""


@pytest.fixture
def run(capsys):
    """Run `exactgrad tomography ...`; return exit code, the last line of stdout as JSON (or None), and stderr."""

    def call(*words):
        try:
            code = get_command(app).main([str(word) for word in words], standalone_mode=False) or 0
        except Exception as error:
            code, line = explain(error)
            print(line, file=sys.stderr)
        out, err = capsys.readouterr()
        lines = out.strip().splitlines()
        assert len(lines) <= 1
        return code, json.loads(lines[0]) if lines else None, err

    return call


@pytest.fixture
def data(tmp_path, run):
    (tmp_path / "job.toml").write_text(JOB)
    code, summary, _ = run("simulate", tmp_path / "job.toml", "--out", tmp_path / "data.h5", "--json")
    assert code == 0 and summary["projections"] == 24
    return tmp_path / "data.h5"


@pytest.fixture
def truth_run(data, tmp_path):
    """A run folder that holds the truth."""
    (tmp_path / "run").mkdir()
    result.write(tmp_path / "run" / "result.h5", result.read_truth(data))
    return tmp_path / "run"


def test_info(data, run):
    code, found, err = run("info", data, "--json")
    assert code == 0 and found["format"] == "mumott" and found["warnings"] == []
    assert {"system", "command", "version", "status"} <= set(found)
    assert "24 of" in err and run("info", data)[1] is None


def test_evaluate_is_the_problems_own_cost_and_gradient(data, tmp_path, run):
    with h5py.File(data) as handle:
        fields = {name: handle[f"truth/{name}"][()] for name in ("A", "B", "theta_op", "phi_op")}
    fields["A"] = 7.0 * fields["A"]
    with h5py.File(tmp_path / "p.h5", "w") as handle:
        for name, values in fields.items():
            handle[name] = values
    words = ("evaluate", data, "--parameters", tmp_path / "p.h5", "--gradient", tmp_path / "g.h5", "--e0", 0.375)
    code, found, _ = run(*words, "--json")
    problem = TomographyProblem(load(data), cost="sqrt", e0=0.375)
    loss, gradient = problem.loss_and_gradient(**fields)
    assert code == 0 and found["loss"] == loss and found["e0"] == 0.375
    with h5py.File(tmp_path / "g.h5") as handle:
        for name, values in gradient.items():
            assert np.array_equal(handle[name][()], values)
    measured, weight = (np.stack(part) for part in list(zip(*map(load(data).projection, range(24)), strict=True))[:2])
    model = problem.forward(**fields)
    by_hand = 2 * (weight * (np.sqrt(model + 0.375) - np.sqrt(measured + 0.375)) ** 2).sum()
    assert found["loss"] == pytest.approx(by_hand, rel=1e-12)
    assert run("evaluate", data, "--parameters", tmp_path / "p.h5", "--json")[1]["e0"] == 0
    code, found, err = run(*words, "--json")
    assert code == 2 and found is None and "g.h5: exists already" in err


def test_evaluate_on_the_golden_set(tmp_path, run):
    """The cost and the exact gradient that another program's projector gave, to 1e-9."""
    names = ("A", "B", "theta_op", "phi_op")
    with h5py.File(GOLDEN) as handle, h5py.File(tmp_path / "p.h5", "w") as parameters:
        for name in names:
            parameters[name] = handle[f"eval_{name}"][()]
        wanted = {name: handle[f"eval_grad_{name}"][()] for name in names}
        cost = float(handle["eval_cost"][()])
    words = ("evaluate", GOLDEN, "--parameters", tmp_path / "p.h5", "--gradient", tmp_path / "g.h5", "--json")
    code, found, _ = run(*words)
    assert code == 0 and found["loss"] == pytest.approx(cost, rel=1e-12)
    with h5py.File(tmp_path / "g.h5") as handle:
        for name, values in wanted.items():
            assert np.abs(handle[name][()] - values).max() < 1e-12 * np.abs(values).max()


def test_data_on_disk_give_the_same_cost_bit_for_bit(data):
    held, lazy = load(data), load(data, memory_bytes=0)
    fields = {"A": np.full((10, 10, 8), 5.0), "B": np.full((10, 10, 8), 2.0)}
    fields |= {name: np.full((10, 10, 8), 0.7) for name in ("theta_op", "phi_op")}
    one, by_one = TomographyProblem(held).loss_and_gradient(**fields)
    two, by_two = TomographyProblem(lazy, threads=2).loss_and_gradient(**fields)
    assert one == two and all(np.array_equal(by_one[name], by_two[name]) for name in by_one)


def test_compare(data, truth_run, run):
    code, found, err = run("compare", truth_run, data, "--json")
    assert code == 0 and found["axis_error_median_deg"] < 1e-6 and found["wrong_sign_fraction"] == 0
    assert found["relative_error_A"] < 1e-12 and "axis error, median" in err
    assert {"axis_error_median_deg", "axis_error_p95_deg", "wrong_sign_fraction", "relative_error_A"} <= set(found)


@pytest.mark.parametrize(("projections", "warning"), [(1, "one single projection"), (2, "no tilt")])
def test_too_few_projections_are_reconstructed_and_told(tmp_path, run, projections, warning):
    scan = JOB.replace("projections = 24", f'scheme = "single-axis"\nprojections = {projections}')
    (tmp_path / "job.toml").write_text(scan)
    assert run("simulate", tmp_path / "job.toml", "--out", tmp_path / "data.h5", "--json")[0] == 0
    (tmp_path / "how.toml").write_text("[output]\nfigures = false\nresiduals = false\n")
    words = ("reconstruct", tmp_path / "data.h5", "--out", tmp_path / "out", "--job", tmp_path / "how.toml")
    code, summary, err = run(*words, "--max-iterations", "1", "--json")
    assert code == 3 and any(warning in text for text in summary["warnings"]) and warning in err


@pytest.mark.parametrize(("to", "names"), [("vtk", ["volume.vti"]), ("xdmf", ["volume.xdmf", "volume.h5"])])
def test_export(truth_run, run, to, names):
    code, found, _ = run("export", truth_run, "--to", to, "--json")
    assert code == 0 and [os.path.basename(path) for path in found["files"]] == names
    assert run("export", truth_run, "--to", to, "--json")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "none.h5"), "none.h5: no such file"),
        (("simulate", "none.toml", "--out", "a.h5"), "none.toml: no such file"),
        (("evaluate", "none.h5", "--parameters", "p.h5"), "none.h5: no such file"),
        (("compare", "none", "truth.h5"), "no such file; a run folder with result.h5"),
        (("export", "none", "--to", "vtk"), "no such file; a run folder with result.h5"),
        (("export", "none", "--to", "stl"), "--to stl: must be one of vtk, xdmf, mumott"),
        (("export", "none"), "Missing option"),
        (("evaluate", "x.h5", "--parameters", "p.h5", "--e0", "-1"), "--e0 = -1: must be >= 0"),
        (("evaluate", "x.h5", "--parameters", "p.h5", "--e0", "nan"), "a finite number is needed"),
        (("info", "x.h5", "--q", "-1"), "--q"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, monkeypatch, run, words, message):
    monkeypatch.chdir(tmp_path)
    code, found, err = run(*words, "--json") if words[0] != "export" or len(words) > 2 else run(*words)
    assert code == 2 and found is None and message in err
    assert len(err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """RLIMIT_FSIZE stands for the disk: a write beyond it fails as on a full one."""
    (tmp_path / "job.toml").write_text(JOB)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from exactgrad.tomography.simulate import simulate\n"
        "from exactgrad.errors import NotWritten\n"
        "from exactgrad.tomography.problem import TomographyProblem\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try: simulate('job.toml', 'data.h5')\n"
        "except NotWritten as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "data.h5: cannot be written: File too large" in done.stdout, done.stderr
    assert [item.name for item in tmp_path.iterdir()] == ["job.toml"]


def test_help_loads_no_kernel():
    code = (
        "import sys; import exactgrad.tomography.commands, exactgrad.tomography\n"
        "heavy = {'numba', 'h5py', 'scipy', 'matplotlib', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names():
    from exactgrad import tomography

    assert tomography.load is load and tomography.TomographyProblem is TomographyProblem
    assert "load" in dir(tomography)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tomography.nothing  # noqa: B018
