"""What every system promises, on every system that is found; none is named here."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import exactgrad
from exactgrad.core import checkpoint, verify
from exactgrad.core.problem import Problem
from exactgrad.core.solve import Budget, Search, Stage, Stop, run, total_loss
from exactgrad.core.system import System, find_systems, get_system
from exactgrad.errors import InputError

SYSTEMS = find_systems()
PROBLEMS = {
    f"{system.name}: {name}": problem
    for system in SYSTEMS.values()
    for name, problem in system.load("problems")().items()
}
each_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
each_system = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


def test_there_are_systems() -> None:
    assert SYSTEMS
    assert list(SYSTEMS) == sorted(SYSTEMS)


@each_system
def test_a_descriptor_loads_what_it_points_to(system: System) -> None:
    for part in ("problems", "verify", "demo", "resume", "trace", "traced", "verify_job", "report", "parameters"):
        assert callable(system.load(part)), part
    assert system.load("commands") is not None
    assert all(system.job_tables())
    assert system.title
    for name in (system.name, *system.aliases):
        assert get_system(name) is system
    with pytest.raises(InputError, match=system.name):
        get_system("no such system")


@each_problem
def test_it_is_a_problem(problem: Problem) -> None:
    assert isinstance(problem, Problem)
    assert problem.size > 0
    x = problem.start(0)
    assert x.shape == (problem.size,)
    for value, gradient in (problem.value_and_gradient(x), problem.penalty_and_gradient(x)):
        assert isinstance(value, float)
        assert np.isfinite(value)
        assert gradient.shape == x.shape
        assert gradient.dtype == np.float64
        assert np.isfinite(gradient).all()
    beside = problem.off_kink(x)
    assert beside is None or beside.shape == x.shape


@each_problem
def test_starts_repeat_and_differ(problem: Problem) -> None:
    assert problem.start(3).tobytes() == problem.start(3).tobytes()
    assert not np.array_equal(problem.start(3), problem.start(4))


@each_problem
def test_parameters_are_named_and_cover_x(problem: Problem) -> None:
    x = problem.start(1)
    parameters = problem.parameters(x)
    assert len(parameters.labels()) == len(set(parameters.labels())) == problem.size
    for member in parameters.members:
        assert member.name
        assert isinstance(member.unit, str)
        assert parameters.find(member.name) is member
        for alias in member.aliases:
            assert parameters.find(alias) is member
    for i in range(0, problem.size, max(1, problem.size // 5)):  # entry i of x moves entry i of the labels alone
        moved = problem.parameters(x + 0.1 * np.eye(1, problem.size, i)[0]).vector() - parameters.vector()
        assert np.flatnonzero(moved).tolist() == [i]


@each_problem
def test_the_input_is_left_alone_and_bad_input_is_refused(problem: Problem) -> None:
    x = problem.start(0)
    kept = x.copy()
    x.setflags(write=False)
    total_loss(problem)(x)
    problem.hessian_product(x, x)
    assert np.array_equal(x, kept)
    for bad in (np.full(problem.size, np.nan), np.zeros(problem.size + 1), np.full(problem.size, np.inf)):
        with pytest.raises(InputError):
            problem.value_and_gradient(bad)


@each_problem
def test_the_gradient_is_exact(problem: Problem) -> None:
    for check in (verify.check_gradient(problem, problem.start(5)), verify.check_taylor(problem, problem.start(5))):
        assert check.passed, check


@each_problem
def test_the_hessian_is_exact_and_linear(problem: Problem) -> None:
    x = problem.start(6)
    for check in verify.check_hessian(problem, x):
        assert check.passed, check
    u, v = np.random.default_rng(0).normal(size=(2, problem.size))
    both = problem.hessian_product(x, 2.0 * u - 3.0 * v)
    apart = 2.0 * problem.hessian_product(x, u) - 3.0 * problem.hessian_product(x, v)
    assert np.abs(both - apart).max() <= 1e-11 * np.abs(both).max()


@each_problem
def test_results_do_not_depend_on_threads_or_history(problem: Problem) -> None:
    x = problem.start(7)
    check = verify.check_determinism(problem, x)
    assert check.passed, check
    first = total_loss(problem)(x)
    total_loss(problem)(problem.start(8))
    again = total_loss(problem)(x)
    assert (first[0], first[1].tobytes()) == (again[0], again[1].tobytes())


@each_problem
def test_resume_gives_the_same_bits(problem: Problem, tmp_path: Path) -> None:
    starts, stages = [problem.start(seed) for seed in range(3)], [Stage(problem, 40)]
    whole = run(stages, Search.begin(starts), Budget(threads=1))
    for after in (4, 35):
        stop, events = Stop(), itertools.count(1)
        part = run(
            stages,
            Search.begin(starts),
            Budget(threads=1),
            stop,
            lambda event, stop=stop, events=events, after=after: stop.set() if next(events) == after else None,
        )
        checkpoint.save(tmp_path, part.search, f"job {after}")
        by_file = run(stages, checkpoint.load(tmp_path, f"job {after}", Search.from_arrays), Budget(threads=2))
        checkpoint.discard(tmp_path)
        # last: the states of a search share their arrays with the search that goes on from them
        by_arrays = run(stages, Search.from_arrays(part.search.to_arrays()), Budget(threads=1))
        for resumed in (by_arrays, by_file):
            assert resumed.x.tobytes() == whole.x.tobytes()
            assert resumed.loss == whole.loss
            assert [h.tobytes() for h in resumed.histories] == [h.tobytes() for h in whole.histories]
            assert (resumed.status, resumed.start) == (whole.status, whole.start)


@each_problem
def test_solving_helps(problem: Problem) -> None:
    x = problem.start(0)
    found = run([Stage(problem, 15)], Search.begin([x]), Budget(threads=1))
    before, after = total_loss(problem)(x)[0], total_loss(problem)(found.x)[0]
    assert after == found.loss
    assert after < before


@cache
def verified(name: str) -> list[verify.Check]:
    return SYSTEMS[name].load("verify")(1, 1)


@each_system
def test_planted_bugs_are_part_of_the_verification(system: System) -> None:
    found = verified(system.name)
    assert all(check.passed for check in found), [check for check in found if not check.passed]
    assert any(check.planted for check in found)
    assert any(not check.planted for check in found)


def judged(checks: list[verify.Check]) -> set[str]:
    """Return the quantities whose gradient was judged: rows called "gradient: x", or "gradient: model.x"."""
    rows = [check.name for check in checks if not check.planted and check.name.startswith("gradient: ")]
    names = {name.removeprefix("gradient: ") for name in rows}
    return names | {name.split(".")[-1] for name in names}


def not_covered(system: System, checks: list[verify.Check]) -> list[str]:
    """Return the differentiable quantities of a system, and the unknowns of its problems, that no row judges."""
    covered = judged(checks)
    missing = [name for name in system.load("parameters")() if name not in covered]
    for problem in system.load("problems")().values():
        for member in problem.parameters(problem.start(0)).free():
            known = {bare(name) for name in (member.name, *member.aliases)}
            if not known & {bare(name) for name in covered}:
                missing.append(member.name)
    return missing


def bare(name: str) -> str:
    """Return a parameter's name without its index, image or letter case: F[1,0,0] is an F."""
    return name.split("[")[0].split(" ")[0].lower()


@each_system
def test_every_differentiable_quantity_is_verified(system: System) -> None:
    checks = verified(system.name)
    assert len(system.load("parameters")()) > 0
    assert not_covered(system, checks) == []
    for name in system.load("parameters")():  # and the test sees one that is missing
        without = [check for check in checks if check.name.split(".")[-1] not in (name, f"gradient: {name}")]
        assert name in not_covered(system, without), name


@each_system
def test_every_differentiable_quantity_is_traced(system: System) -> None:
    traced = {bare(name) for name in system.load("traced")()}
    assert {bare(name) for name in system.load("parameters")()} <= traced


DUMMY = '''
"""A system made by one folder: the bowl."""
from exactgrad.core.system import System
SYSTEM = System(
    name="bowl", aliases=("b",), title="roll to the bottom", commands="exactgrad.bowl.commands:app",
    problems="exactgrad.bowl.problem:problems", verify="exactgrad.bowl.problem:checks",
    demo="exactgrad.bowl.problem:demo", resume="exactgrad.bowl.problem:demo", trace="exactgrad.bowl.problem:trace",
    traced="exactgrad.bowl.problem:names", parameters="exactgrad.bowl.problem:names", jobs=("exactgrad.bowl.job:Job",),
    verify_job="exactgrad.bowl.problem:verify_job", report="exactgrad.bowl.problem:report",
)
'''
DUMMY_PROBLEM = """
import numpy as np
from exactgrad.core import verify
from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.run_folder import RUN, leave, left_by
from exactgrad.core.trace import Stage, Trace
from exactgrad.errors import require_finite, require_shape

class Bowl:
    size = 3
    def parameters(self, x): return Parameters((Parameter("place", x, "m"),))
    def limit_threads(self, threads): pass
    def start(self, seed): return np.random.default_rng(seed).normal(size=3)
    def value_and_gradient(self, x):
        x = require_shape("x", require_finite("x", x), (3,))
        return float(x @ (W * x) / 2), W * x
    def penalty_and_gradient(self, x): return 0.0, np.zeros(3)
    def off_kink(self, x): return None
    def hessian_product(self, x, v): return W * v

W = np.array([1.0, 4.0, 9.0])

def problems(): return {"bowl": Bowl()}

def checks(cases, seed):
    wrong = verify.Altered(Bowl(), value_and_gradient=lambda x: (float(x @ (W * x) / 2), x))
    right = verify.check_gradient(Bowl(), Bowl().start(seed), "gradient: place")
    return [right, verify.plant("weights dropped", verify.check_gradient(wrong, Bowl().start(seed)))]

def names(): return ("place",)

def trace(parameter, job):
    x, one = Bowl().start(0), np.ones(())
    value, gradient = Bowl().value_and_gradient(x)
    slope = np.array(gradient.sum())
    place = Stage("place", "", "m", np.array(x.mean()), one, slope)
    places = Stage("places", "", "m", x, np.ones(3), gradient)
    stages = (place, places, Stage("loss", "", "J", np.array(value), slope, one))
    return Trace("bowl", "place", "m", "where it lies", x.mean(), "a bowl", stages, value, words=("It rolls.",))

def verify_job(job, cases, seed):
    return verify.Verified("the whole bowl", verify.check_problem(Bowl(), [Bowl().start(seed)], seed))

def report(folder): return {}, f"<h1>{left_by(folder, ())['loss']}</h1>"

def demo(folder):
    folder.mkdir()
    (folder / RUN).write_text('{"system": "bowl"}')
    summary = {"status": "converged", "headline": "at the bottom", "message": "rolled", "seconds": 1.0, "loss": 0.0,
               "evaluations": 1}
    leave(folder, summary, {}, "first")
    return summary
"""
DUMMY_COMMANDS = """
import typer
app = typer.Typer()

@app.command()
def roll(): typer.echo("rolled")

@app.command()
def rest(): pass
"""
DUMMY_JOB = """
from exactgrad.core.job_file import Table, Whole

class Rim(Table):
    height: Whole

class Job(Table):
    rim: Rim
"""


def put_bowl(package: Path) -> None:
    folder = package / "bowl"
    folder.mkdir()
    texts = {"__init__": DUMMY, "problem": DUMMY_PROBLEM, "commands": DUMMY_COMMANDS, "job": DUMMY_JOB}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)


def test_a_new_system_is_one_new_folder(tmp_path: Path) -> None:
    """Copy the package, add a folder, edit nothing: the system is found, and keeps this file's whole contract."""
    package = tmp_path / "exactgrad"
    shutil.copytree(Path(exactgrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    put_bowl(package)
    others = [name for name in SYSTEMS if name != "bowl"]
    for name in others:  # their contract is kept above; here it would only take time
        shutil.rmtree(package / name)
    code = "from exactgrad.core.system import find_systems; print(*find_systems())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["bowl"]
    suite = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path),
         str(Path(__file__)), "-k", "not new_system"],
        env=environment, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert suite.returncode == 0, suite.stdout[-2000:]
    assert "passed" in suite.stdout


def test_a_new_system_stands_beside_the_others(tmp_path: Path) -> None:
    """The command line finds it, shows it, verifies it and a job of it, traces it, demonstrates and reports it."""
    package = tmp_path / "exactgrad"
    shutil.copytree(Path(exactgrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    put_bowl(package)
    (tmp_path / "job.toml").write_text("[rim]\nheight = 3\n")

    lines = {
        "help": "--help",
        "own": "b roll",
        "verify": "verify bowl",
        "job": "verify --job job.toml",
        "trace": "trace bowl place --html place.html",
        "report": "report run",
    }
    script = (
        "from pathlib import Path; from exactgrad.cli.main import main\n"
        "from exactgrad.bowl.problem import demo; demo(Path('run'))\n"
        f"for name, line in {lines!r}.items():\n"
        "    print('#', name, flush=True)\n"
        "    assert main(line.split()) == 0, line\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-2000:]
    said = dict(part.split("\n", 1) for part in found.stdout.split("# ")[1:])
    listed = [line.split()[0] for line in said["help"].splitlines() if line.startswith("  ") and line.strip()]
    assert [name for name in listed if name in {*SYSTEMS, "bowl"}] == sorted([*SYSTEMS, "bowl"])
    assert "roll to the bottom" in said["help"] and said["own"] == "rolled\n"
    assert "2 of 2 checks passed; 1 of them are planted bugs" in said["verify"]
    assert all(text in said["job"] for text in ("the whole bowl", "verify bowl", "5 of 5 checks passed"))
    assert "It rolls." in said["trace"] and "where it lies" in (tmp_path / "place.html").read_text().lower()
    assert "made anew" in said["report"] and (tmp_path / "run" / "report.html").read_text() == "<h1>0.0</h1>"
