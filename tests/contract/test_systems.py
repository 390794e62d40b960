"""What every system promises, on every system that is found; none is named here."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
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
    for part in ("problems", "verify", "demo", "resume"):
        assert callable(system.load(part)), part
    assert system.load("commands") is not None
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


@each_system
def test_planted_bugs_are_part_of_the_verification(system: System) -> None:
    found = system.load("verify")(1, 1)
    assert all(check.passed for check in found), [check for check in found if not check.passed]
    assert any(check.planted for check in found)
    assert any(not check.planted for check in found)


DUMMY = '''
"""A system made by one folder: the bowl."""
from exactgrad.core.system import System
SYSTEM = System(
    name="bowl", aliases=("b",), title="roll to the bottom", commands="exactgrad.bowl.problem:app",
    problems="exactgrad.bowl.problem:problems", verify="exactgrad.bowl.problem:checks",
    demo="exactgrad.bowl.problem:demo", resume="exactgrad.bowl.problem:demo",
)
'''
DUMMY_PROBLEM = """
import numpy as np
from exactgrad.core import verify
from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.errors import require_finite, require_shape

app = object()

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
    right = verify.check_gradient(Bowl(), Bowl().start(seed))
    return [right, verify.plant("weights dropped", verify.check_gradient(wrong, Bowl().start(seed)))]

def demo(folder): return {}
"""


def test_a_new_system_is_one_new_folder(tmp_path: Path) -> None:
    """Copy the package, add a folder, edit nothing: the system is found, and keeps this file's whole contract."""
    package = tmp_path / "exactgrad"
    shutil.copytree(Path(exactgrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    folder = package / "bowl"
    folder.mkdir()
    (folder / "__init__.py").write_text(DUMMY)
    (folder / "problem.py").write_text(DUMMY_PROBLEM)
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
    package = tmp_path / "exactgrad"
    shutil.copytree(Path(exactgrad.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "bowl").mkdir()
    (package / "bowl" / "__init__.py").write_text(DUMMY)
    code = "from exactgrad.core.system import find_systems, get_system; print(*find_systems(), get_system('b').name)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.split() == [*sorted([*SYSTEMS, "bowl"]), "bowl"]
