"""Verification: every differentiable quantity has a row, bugs of every kind are caught, the reference is no copy."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from exactgrad.core.verify import Check
from exactgrad.tomography import reference, verification
from exactgrad.tomography.configurations import example_problems, small_problem, special_points
from exactgrad.tomography.problem import MODELS

QUANTITIES = ("A", "B", "theta_op", "phi_op", "j_offset", "k_offset", "transmission")


@cache
def rows() -> list[Check]:
    return verification.checks(1, 2)


def test_every_check_passes_and_every_bug_is_caught() -> None:
    assert all(check.passed for check in rows()), [check for check in rows() if not check.passed]
    assert sum(check.planted for check in rows()) >= 40


def test_every_quantity_that_has_a_derivative_has_a_row() -> None:
    names = {check.name for check in rows() if not check.planted}
    wanted = {f"gradient: {name}" for name in QUANTITIES}
    wanted |= {f"gradient: {model().name}.{field.name}" for model in MODELS.values() for field in model().fields}
    assert wanted <= names


def test_every_problem_has_every_kind_of_row() -> None:
    names = {check.name for check in rows()}
    kinds = ("value", "gradient", "gradient, differences", "Taylor slope", "Hessian", "Gauss-Newton", "bit-equal")
    assert {f"{kind}: {name}" for kind in kinds for name in example_problems()} <= names
    assert {f"singular: {name}" for name in special_points()} <= names


def test_names_are_said_once() -> None:
    names = [check.name for check in rows()]
    assert len(names) == len(set(names))


def test_the_reference_takes_nothing_from_what_it_judges() -> None:
    tree = ast.parse(Path(reference.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.startswith("exactgrad")} == {"exactgrad.tomography.problem"}


@pytest.mark.parametrize("name", example_problems())
def test_the_reference_predicts_what_the_kernel_predicts(name: str) -> None:
    problem = example_problems()[name]
    x = problem.start(3)
    anew = reference.Reference(problem)
    fields = {key: value[problem.mask] for key, value in problem.fields(x).items()}
    for n, found in enumerate(problem.predict(x)):
        expected = anew.image(fields, n, {}).reshape(found.shape) * problem.data.transmission[n][..., None]
        assert np.abs(found - expected).max() <= 1e-12 * max(np.abs(expected).max(), 1e-300)


def test_a_gradient_that_is_not_finite_does_not_pass() -> None:
    problem = small_problem()
    wrong = verification.verify.Altered(
        problem, value_and_gradient=lambda x: (problem.value_and_gradient(x)[0], np.full(problem.size, np.nan))
    )
    assert not verification.check_stepless(wrong, problem.start(0)).passed
