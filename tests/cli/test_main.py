"""The command line: what it lists, what it imports, and what an error costs. One toy system stands for all."""

import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import exactgrad
from exactgrad.cli import main as entry
from exactgrad.cli.main import app, main
from exactgrad.core.run_folder import read_object
from exactgrad.core.system import find_systems
from exactgrad.errors import CheckFailed, ExactgradError, FormatError, InputError
from exactgrad.files import write_hdf5

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numba", "torch", "matplotlib", "scipy", "h5py")

TOY_SYSTEM = """
from exactgrad.core.system import System
SYSTEM = System(name="toys", aliases=("toy",), title="a system that only tests know",
    commands="exactgrad.toys.house:app", problems="exactgrad.toys.house:problems",
    verify="exactgrad.toys.house:verify", demo="exactgrad.toys.house:demo",
    resume="exactgrad.toys.house:resume", jobs=("exactgrad.toys.house:Job",),
    verify_job="exactgrad.toys.house:verify_job", report="exactgrad.toys.house:report")
"""
TOY_HOUSE = """
import os, sys
import typer
from exactgrad.core.job_file import Table, Whole, read_job
from exactgrad.core.run_folder import left_by
from exactgrad.core.verify import Verified, judge, plant
from exactgrad.errors import InputError
app = typer.Typer()

class Bricks(Table):
    count: Whole

class Job(Table):
    bricks: Bricks
    solve: Bricks | None = None

def verify_job(job, cases, seed):
    count = read_job(job, Job)[0].bricks.count
    found = judge("gradient", "differences", 1e-3 * count, 1e-2)
    return Verified(f"{count} bricks, {cases} cases, seed {seed}", [found])

def report(folder):
    summary = left_by(folder, ("summary.json", "result.h5"))
    return {"tower": ("A tower", b"PNG", "")}, f"loss {summary['loss']}"

@app.command()
def fail(how: str):
    if how == "input":
        raise InputError("job.toml: toy.size = -1 mm:\\nmust be > 0 mm")
    if how == "exit":
        raise typer.Exit(3)
    if how == "pipe":
        raise BrokenPipeError
    raise {"memory": MemoryError, "keys": KeyboardInterrupt, "depth": RecursionError, "bug": ZeroDivisionError,
           "disk": lambda: OSError(28, "No space left on device", "out.h5")}[how]()

@app.command()
def words(text: list[str]):
    typer.echo("|".join(text))

def verify(cases, seed):
    exact = judge("gradient", "differences", 1e-12 if seed == 0 else float("nan"), 1e-8, where=f"{cases} cases")
    return [exact, plant("sign lost", judge("gradient", "differences", 0.5, 1e-8))]

def demo(folder):
    folder.mkdir()
    (folder / "report.html").write_text("report")
    return summary("converged")

def resume(folder, threads, overrides, on_event):
    return summary(folder.name) | {"threads": threads, "overrides": overrides}

def summary(status):
    more = {"signal": "SIGTERM"} if status == "interrupted" else {}
    return {"system": "toys", "command": "design", "version": "0", "status": status, "message": "played",
            "headline": "won",
            "seconds": 1.0, "evaluations": 2, "iterations": 1, "loss": 0.5, **more}
"""


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory):
    """A fourth system is one new folder: no list anywhere is edited for it."""
    folder = tmp_path_factory.mktemp("site") / "toys"
    folder.mkdir()
    (folder / "__init__.py").write_text(TOY_SYSTEM)
    (folder / "house.py").write_text(TOY_HOUSE)
    before = list(exactgrad.__path__)
    exactgrad.__path__[:] = [*before, str(folder.parent)]
    yield
    exactgrad.__path__[:] = before


def run(capsys, *words):
    """Return exit code, stdout and stderr."""
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def in_a_process(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options)


def modules_after(code):
    done = in_a_process(f"import sys\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_importing_the_package_loads_nothing_heavy():
    assert modules_after("import exactgrad") == "[]"
    done = in_a_process("import sys, exactgrad; print('pydantic' in sys.modules, 'numpy' in sys.modules)")
    assert done.stdout == "False False\n"


def test_importing_a_system_loads_nothing_heavy():
    assert modules_after("import exactgrad.pulses; dir(exactgrad.pulses)") == "[]"


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["demo", "--help"]])
def test_the_roots_help_loads_no_kernel(words):
    code = f"from exactgrad.cli.main import main\nassert main({words!r}) == 0"
    assert modules_after(code) == "[]"


def test_help_lists_systems_and_commands_once(capsys):
    code, out, err = run(capsys, "--help")
    assert code == 0 and err == ""
    for name in ("pulses", "toys", "demo", "verify", "resume", "report", "info"):
        assert sum(line.split()[:1] == [name] for line in out.splitlines()) == 1
    assert "a system that only tests know" in out
    assert not any(line.split()[:1] in (["pulse"], ["toy"]) for line in out.splitlines())  # aliases are not listed
    assert run(capsys)[:2] == (0, out)
    assert run(capsys, "-h")[:2] == (0, out)


def test_the_runner_of_typer_sees_the_same_app():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.stdout.startswith(f"exactgrad {exactgrad.__version__}\nengine: numba ")


def test_version_tells_engine_threads_and_optional_parts(capsys):
    code, out, err = run(capsys, "--version")
    first, engine, optional = out.splitlines()
    assert (code, first, err) == (0, f"exactgrad {exactgrad.__version__}", "")
    assert "numba" in engine and "float64" in engine and "thread" in engine and "torch" in optional


def test_the_script_and_the_module_are_the_same():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["exactgrad"] == "exactgrad.cli.main:main"
    done = subprocess.run([sys.executable, "-m", "exactgrad.cli.main", "nope"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("name", ["toys", "toy"])
def test_a_system_answers_to_its_name_and_alias(capsys, name):
    code, out, _ = run(capsys, name, "--help")
    assert code == 0 and f"exactgrad {name}" in out and "fail" in out
    assert run(capsys, name, "words", "a", "b") == (0, "a|b\n", "")


def test_pulses_answer_to_both_names(capsys):
    assert [run(capsys, name, "design", "--help")[0] for name in ("pulse", "pulses")] == [0, 0]


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["demo", "--no-such-option"],
        ["verify", "--cases", "0"],
        ["verify", "--cases", "many"],
        ["verify", "no-such-system"],
        ["resume"],
        ["toy"],
        ["toy", "no-such-command"],
        ["toy", "fail"],
    ],
)
def test_a_wrong_line_is_one_line_and_exit_code_2(capsys, words):
    code, out, err = run(capsys, *words)
    assert (code, out if words != ["toy"] else "") == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("input", 2, "error: job.toml: toy.size = -1 mm: must be > 0 mm\n"),
        ("memory", 2, "error: not enough memory\n"),
        ("depth", 2, "error: the input is nested too deeply\n"),
        ("disk", 2, "error: out.h5: No space left on device\n"),
        ("keys", 130, "error: interrupted\n"),
        ("bug", 1, "error: internal error, please report it with what --debug shows: ZeroDivisionError: \n"),
        ("exit", 3, ""),
    ],
)
def test_every_error_is_one_line_and_its_own_exit_code(capsys, how, code, text):
    assert run(capsys, "toy", "fail", how) == (code, "", text)


@pytest.mark.parametrize("words", [["--debug", "toy", "fail", "input"], ["toy", "fail", "input", "--debug"]])
def test_debug_shows_the_traceback_and_keeps_the_code(capsys, words):
    code, out, err = run(capsys, *words)
    assert code == 2 and out == ""
    assert "Traceback (most recent call last)" in err and "house.py" in err
    assert err.splitlines()[-1] == "error: job.toml: toy.size = -1 mm: must be > 0 mm"


def test_debug_after_a_bare_double_dash_is_the_users_own_word(capsys):
    assert run(capsys, "toy", "words", "--", "--debug") == (0, "--debug\n", "")


def test_exit_codes_are_the_errors_own():
    assert entry.explain(ExactgradError("x")) == (1, "x")
    assert entry.explain(CheckFailed("x")) == (1, "x")
    assert entry.explain(InputError("x")) == (2, "x")
    assert entry.explain(OSError(errno.EACCES, "Permission denied")) == (2, "Permission denied")
    assert entry.explain(MemoryError("cannot allocate 9 GiB"))[1] == "not enough memory: cannot allocate 9 GiB"
    assert entry.explain(typer.Abort())[0] == 130


def test_a_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "exactgrad.cli.main", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_verify_prints_a_table_and_json_and_fails_when_a_check_does(capsys):
    code, out, err = run(capsys, "verify", "toy", "--cases", "3", "--json")
    assert code == 0 and out.count("\n") == 1
    found = json.loads(out)
    assert found["status"] == "ok" and [check["passed"] for check in found["checks"]] == [True, True]
    assert found["checks"][0]["where"] == "3 cases" and found["checks"][1]["planted"] is True
    assert "caught" in err and "2 of 2 checks passed" in err

    code, out, err = run(capsys, "verify", "toys", "--seed", "1", "--json")
    found = json.loads(out)
    assert (code, found["status"], found["checks"][0]["error"]) == (1, "failed", None)
    assert "FAILED" in err and "1 of 2 checks passed" in err


def test_verify_a_job_finds_its_system_and_fails_when_a_check_does(capsys, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text("[bricks]\ncount = 3\n")
    code, out, err = run(capsys, "verify", "--job", str(job), "--json")
    found = json.loads(out)
    assert (code, found["system"], found["status"], found["job"]) == (0, "toys", "ok", str(job))
    assert found["subject"] == "3 bricks, 2 cases, seed 0" and found["subject"] in err
    assert "1 of 1 checks passed\n" in err and "planted" not in err
    job.write_text("[bricks]\ncount = 30\n")
    assert run(capsys, "verify", "--job", str(job), "--cases", "5", "--seed", "7")[0] == 1
    code, out, _ = run(capsys, "verify", "toy", "--job", str(job), "--cases", "5", "--seed", "7", "--json")
    assert (code, json.loads(out)["subject"]) == (1, "30 bricks, 5 cases, seed 7")


@pytest.mark.parametrize(
    ("words", "content", "text"),
    [
        ([], None, "no such file"),
        ([], "[bricks", "not valid TOML"),
        ([], "", "a job of no system (its tables: none)"),
        ([], "[lego]\n", "a job of no system (its tables: lego)"),
        ([], "[solve]\n", "may be a job of "),
        ([], "[bricks]\ncount = 'many'\n", "bricks.count = 'many': "),
        (["toys"], "[bricks]\ncount = 3\ncolour = 1\n", "bricks.colour: unknown key"),
        (["no-such-system"], "[bricks]\ncount = 3\n", "no such system"),
    ],
)
def test_verify_refuses_a_broken_job_in_one_line(capsys, tmp_path, words, content, text):
    job = tmp_path / "job.toml"
    if content is not None:
        job.write_text(content)
    code, out, err = run(capsys, "verify", *words, "--job", str(job))
    assert (code, out) == (2, "") and text in err and err.count("\n") == 1


def test_report_makes_figures_and_page_anew_and_touches_nothing_else(capsys, tmp_path):
    kept = {
        "run.json": '{"system": "toys"}',
        "summary.json": '{"loss": 0.5}',
        "result.h5": "result",
        "mine.txt": "mine",
    }
    for name, text in kept.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "report.html").write_text("old")
    code, out, err = run(capsys, "report", str(tmp_path), "--json")
    assert code == 0 and "made anew" in err
    assert json.loads(out)["files"] == [str(tmp_path / "report.html"), str(tmp_path / "tower.png")]
    assert (tmp_path / "report.html").read_text() == "loss 0.5" and (tmp_path / "tower.png").read_bytes() == b"PNG"
    assert {name: (tmp_path / name).read_text() for name in kept} == kept

    (tmp_path / "result.h5").unlink()
    code, out, err = run(capsys, "report", str(tmp_path))
    assert (code, out) == (2, "") and "this run was cut off: result.h5 missing" in err and err.count("\n") == 1
    assert (tmp_path / "report.html").read_text() == "loss 0.5"
    assert run(capsys, "report", str(tmp_path / "none"))[0] == 2 and not (tmp_path / "none").exists()


def test_demo_runs_every_system_and_refuses_a_folder_that_holds_anything(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("exactgrad.cli.demo.find_systems", lambda: {"toys": find_systems()["toys"]})
    out = tmp_path / "new" / "demo"
    code, printed, _ = run(capsys, "demo", "--out", str(out), "--json")
    found = json.loads(printed)
    assert code == 0 and printed.count("\n") == 1
    assert found["systems"]["toys"]["message"] == "played" and Path(found["index"]) == out / "index.html"
    assert 'href="toys/report.html"' in (out / "index.html").read_text()
    assert (out / ".exactgrad-demo").is_file()

    code, printed, err = run(capsys, "demo", "--out", str(out))
    assert (code, printed) == (2, "") and "not empty" in err and err.count("\n") == 1
    (tmp_path / "file").write_text("mine")
    code, _, err = run(capsys, "demo", "--out", str(tmp_path / "file"))
    assert code == 2 and err.count("\n") == 1 and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("status", "code"), [("converged", 0), ("budget", 3), ("interrupted", 143)])
def test_resume_asks_the_system_that_made_the_folder(capsys, tmp_path, status, code):
    folder = tmp_path / status
    folder.mkdir()
    (folder / "run.json").write_text('{"system": "toys", "command": "design"}')
    found, out, err = run(capsys, "resume", str(folder), "--threads", "2", "--max-iterations", "9", "--json")
    assert found == code and f"{status}: played" in err and out.count("\n") == 1
    summary = json.loads(out)
    assert summary["threads"] == 2 and summary["overrides"] == {"max_iterations": 9, "max_seconds": None}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "not a run folder (run.json is missing)"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "a JSON object is needed"),
        ("{}", "key system"),
        ('{"system": "none"}', "no such system"),
        ('{"system": ["toys"]}', "key system"),
    ],
)
def test_resume_refuses_what_is_no_run(capsys, tmp_path, content, text):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    code, out, err = run(capsys, "resume", str(tmp_path))
    assert (code, out) == (2, "") and text in err and err.count("\n") == 1


def test_info_tells_a_run_from_an_unfinished_one(capsys, tmp_path):
    (tmp_path / "run.json").write_text('{"system": "toys", "job": {"size": 3}}')
    code, out, err = run(capsys, "info", str(tmp_path), "--json")
    assert code == 0 and json.loads(out)["kind"] == "unfinished run" and "toys" in err
    (tmp_path / "summary.json").write_text('{"loss": NaN, "quality": 0.25, "notes": []}')
    code, out, err = run(capsys, "info", str(tmp_path), "--json")
    found = json.loads(out)
    assert (found["kind"], found["content"]) == ("run", {"loss": None, "quality": 0.25, "notes": []})
    assert json.loads(run(capsys, "info", str(tmp_path / "summary.json"), "--json")[1])["kind"] == "JSON"


def test_info_lists_an_hdf5_file(capsys, tmp_path):
    path = tmp_path / "result.h5"
    write_hdf5(
        path, {"x": np.arange(3.0), "pulse/step_s": np.ones((2, 2), np.float32)}, {"schema": 1, "version": "0.1"}
    )
    code, out, err = run(capsys, "info", str(path), "--json")
    found = json.loads(out)
    assert code == 0 and found["kind"] == "HDF5"
    assert {"schema": 1, "version": "0.1"}.items() <= found["content"].items()
    assert {"name": "pulse/step_s", "shape": [2, 2], "type": "float32"} in found["datasets"]
    assert "pulse/step_s" in err


def test_info_walks_no_circle_and_follows_no_link(capsys, tmp_path):
    with h5py.File(tmp_path / "circle.h5", "w") as handle:
        handle.create_group("a")["again"] = handle["/"]
        handle["x"] = np.zeros(2)
        handle.attrs["large"] = np.zeros(1000)
        handle.attrs["kind"] = np.bytes_(b"bytes")
    code, out, _ = run(capsys, "info", str(tmp_path / "circle.h5"), "--json")
    found = json.loads(out)
    assert code == 0 and [d["name"] for d in found["datasets"]] == ["x"]
    assert found["content"]["large"] == "float64 of shape (1000,)"
    with h5py.File(tmp_path / "link.h5", "w") as handle:
        handle["x"] = h5py.ExternalLink("other.h5", "/x")
    code, out, err = run(capsys, "info", str(tmp_path / "link.h5"))
    assert (code, out) == (2, "") and "link" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("none.h5", None), ("text.txt", b"text"), ("cut.h5", b"\x89HDF\r\n\x1a\n"), ("bad.json", b"{"), ("empty", None)],
)
def test_info_refuses_the_rest_in_one_line(capsys, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name == "empty":
        (tmp_path / name).mkdir()
    code, out, err = run(capsys, "info", str(tmp_path / name))
    assert (code, out) == (2, "") and name in err and err.count("\n") == 1


def test_a_json_object_is_read_with_bounds(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('"text"')
    with pytest.raises(FormatError, match="a JSON object is needed"):
        read_object(path)
