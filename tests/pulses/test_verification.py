"""`exactgrad verify pulse`: it passes, it covers every kind, is repeatable, and fails when the product is wrong."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from exactgrad.core.system import get_system
from exactgrad.core.verify import Check
from exactgrad.pulses import targets, verification
from exactgrad.pulses.controls import CHANNELS
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.sweep import Sweep
from exactgrad.pulses.verification import checks, example_problems


@pytest.fixture(scope="module")
def found() -> list[Check]:
    return checks(1, 0)


def test_everything_passes(found: list[Check]) -> None:
    assert [check for check in found if not check.passed] == []


def test_the_margins_are_wide(found: list[Check]) -> None:
    """The allowed errors are promises; what is found lies orders of magnitude below, so no check is near its edge."""
    for check in found:
        if not check.planted and check.tolerance:
            assert check.error < 0.1 * check.tolerance, check.name


def test_planted_bugs_are_far_from_passing(found: list[Check]) -> None:
    planted = [check for check in found if check.planted]
    assert len(planted) >= 14
    assert len({check.name for check in planted}) == len(planted)
    for check in planted:
        assert np.isnan(check.error) or check.error > 1000 * check.tolerance or check.tolerance > 1e-3, check.name


def test_rows_say_what_they_are(found: list[Check]) -> None:
    for check in found:
        assert check.name
        assert check.reference
        assert check.passed is True or check.passed is False
        assert isinstance(check.error, float)
    names = [(check.name, check.reference) for check in found]
    assert len(set(names)) == len(names)
    text = " ".join(name for name, _ in names)
    for word in ("gradient", "Hessian", "Taylor", "kernel", "bit-equal", "singular", "paper", "forward mode"):
        assert word in text


def test_the_same_seed_finds_the_same_errors(found: list[Check]) -> None:
    problem = example_problems()["held"]
    again = verification._problem_checks("held", problem, [verification.point(problem, 0, loud=True)], 0)
    assert again == [check for check in found if check.name.split(": ")[-1].startswith("held") and not check.planted]


def test_the_descriptor_points_here() -> None:
    system = get_system("pulse")
    assert system.load("problems") is example_problems
    assert system.load("verify") is checks


def test_examples_use_every_kind() -> None:
    problems = list(example_problems().values())
    jobs = [problem.job for problem in problems]
    assert {job.pulse.controls for job in jobs} == set(CHANNELS)
    aims = [aim for job in jobs for aim in (job.target.band or [job.target])]
    for kind in ("transfer", "rotation", "saturation", "transverse", "phase_slope"):
        assert any(getattr(aim, kind) for aim in aims), kind
    assert {bool(aim.rotation.sign_free) for aim in aims if aim.rotation} == {True, False}
    links = {type(link).__name__ for problem in problems for link in problem.chain.links}
    assert links >= {
        "Channels", "Mirror", "Cartesian", "Polar", "PhaseOnly", "RadialTanh", "EnergyScaling", "EnergyTanh", "Hold",
    }  # fmt: skip
    costs = {type(problem.cost).__name__ for problem in problems}
    assert costs == {"Transfer", "Rotation", "Saturation", "Transverse", "Bands"}
    assert {type(problem.objective) for problem in problems} == {targets.WeightedMean, targets.SmoothMinimum}
    assert {type(p).__name__ for problem in problems for p in problem.penalties} == {
        "Smoothness", "PeakExcess", "EnergyExcess",
    }  # fmt: skip
    assert any(problem.response is not None for problem in problems)
    assert any(np.ptp(problem.step_s) > 1e-6 for problem in problems)
    assert any(np.ndim(job.limits.peak_hz) for job in jobs)
    assert all(np.ptp(problem.ensemble.b1) > 0 for problem in problems)


def test_loud_points_make_limits_bind() -> None:
    for problem in example_problems().values():
        x = verification.point(problem, 0, loud=True)
        for i, link in enumerate(problem.chain.links):
            if type(link).__name__ == "EnergyScaling":
                assert link.factor(problem.chain.trace(x)[i])[0] < 1


def failing(found: list[Check]) -> set[str]:
    return {check.name for check in found if not check.passed}


def test_a_wrong_kernel_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round from planted bugs: the product itself is broken, and the rows of the product fail."""
    right = Sweep.gradient

    def transposed(self, steps: np.ndarray, m: np.ndarray) -> np.ndarray:
        return right(self, steps, m) * [[1], [-1], [1]]

    monkeypatch.setattr(Sweep, "gradient", transposed)
    problem = example_problems()["excitation"]
    found = verification._problem_checks("excitation", problem, [problem.start(0)], 0)
    names = failing(found)
    for row in ("gradient: excitation", "gradient, all digits: excitation", "kernel: excitation"):
        assert row in names
    assert "Taylor slope: excitation" in names
    assert "bit-equal: excitation" not in names
    assert not verification._sweep_check(0, steps=100).passed


def test_a_wrong_transform_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that kernel and equation sheet share is seen by the independent references."""
    monkeypatch.setattr("exactgrad.core.transforms.Hold.pull", lambda self, x, g: g)
    problem = example_problems()["held"]
    names = failing(verification._problem_checks("held", problem, [problem.start(0)], 0))
    assert {"gradient: held", "gradient, all digits: held"} <= names
    assert "kernel: held" not in names


def test_without_mpmath_differences_stand_in_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def missing(name: str, *arguments, **options):
        if name == "mpmath":
            raise ImportError(name)
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    problem = example_problems()["excitation"]
    found = verification.digits_check("all digits", problem, problem.start(0))
    assert found.passed
    assert found.reference == "central differences (mpmath is not installed)"
    assert found.tolerance == 1e-8


def test_the_data_files_are_part_of_the_package() -> None:
    assert {path.name for path in verification.DATA.iterdir()} == {"response.csv", "target_map.csv"}
    assert example_problems()["response"].response.taps.size == 3
    assert np.ptp(example_problems()["target map"].cost.target, axis=1).min() > 0.5


def test_adversarial_problems_are_what_they_say() -> None:
    cases = verification.adversarial_problems(0)
    problem, x = cases["200 rad per step"]
    assert np.linalg.norm(problem.chain.apply(x), axis=0) * 2 * np.pi * problem.step_s == pytest.approx([200.0] * 3)
    assert cases["65 spins"][0]._sweep.padded > 65  # a block that is not full
    problem, x = cases["1e-300 rad"]
    assert 0 < np.abs(problem.chain.apply(x)).max() < 1e-290
    assert isinstance(problem, PulseProblem)
