"""The checkers themselves: they pass what is exact, and catch what is not, on functions known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from exactgrad.core import verify
from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.problem import Problem
from exactgrad.core.transforms import EnergyTanh, RadialTanh
from exactgrad.core.verify import Altered, check_gradient, check_hessian, check_taylor, dot_test, judge, plant, worst

RNG = np.random.default_rng(5)


class Waves:
    """sum_i a_i cos(x_i) + 0.1 (sum x)^3, penalty |x|^2: smooth, curved, known."""

    def __init__(self, size: int = 6):
        self.size, self.a = size, np.linspace(0.5, 2.0, size)
        self.threads: int | None = None

    def parameters(self, x: np.ndarray) -> Parameters:
        return Parameters(
            (Parameter("left", x[:2], "m"), Parameter("right", x[2:], "m"), Parameter("k", 1, fixed=True))
        )

    def limit_threads(self, threads: int | None) -> None:
        self.threads = threads

    def start(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=self.size)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        total = x.sum()
        return float(self.a @ np.cos(x) + 0.1 * total**3), -self.a * np.sin(x) + 0.3 * total**2

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(x @ x), 2 * x

    def off_kink(self, x: np.ndarray) -> None:
        return None

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return -self.a * np.cos(x) * v + 0.6 * x.sum() * v.sum() + 2 * v


@pytest.fixture
def problem() -> Waves:
    return Waves()


@pytest.fixture
def x(problem: Waves) -> np.ndarray:
    return problem.start(1)


def wrong_gradient(problem: Waves, change) -> Altered:
    def altered(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.value_and_gradient(x)
        return value, change(gradient)

    return Altered(problem, value_and_gradient=altered)


def test_an_exact_problem_passes_every_check(problem: Waves, x: np.ndarray) -> None:
    assert isinstance(problem, Problem)
    found = [
        check_gradient(problem, x),
        check_taylor(problem, x),
        *check_hessian(problem, x),
        verify.check_determinism(problem, x),
    ]
    assert [check.name for check in found if not check.passed] == []
    assert found[0].error < 1e-11
    assert problem.threads is None  # as it was


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("place", range(6))
def test_one_wrong_entry_is_caught_and_its_parameter_named(
    problem: Waves, x: np.ndarray, place: int, size: float
) -> None:
    def change(gradient: np.ndarray) -> np.ndarray:
        gradient = gradient.copy()
        gradient[place] += size * np.abs(gradient).max()
        return gradient

    found = check_gradient(wrong_gradient(problem, change), x)
    assert not found.passed
    assert ("left" if place < 2 else "right") in found.where
    assert found.error > 0.3 * size


@pytest.mark.parametrize(
    "change",
    [
        lambda g: -g,
        lambda g: g * 1.0001,
        lambda g: g[::-1].copy(),
        lambda g: g.astype(np.float32).astype(float),
        lambda g: np.full_like(g, np.nan),
        lambda g: np.zeros_like(g),
    ],
    ids=["sign", "factor", "order", "single precision", "nan", "zero"],
)
def test_wrong_gradients_are_caught(problem: Waves, x: np.ndarray, change) -> None:
    found = check_gradient(wrong_gradient(problem, change), x)
    assert not found.passed
    assert plant("bug", found).passed


def test_a_taylor_remainder_of_first_order_is_caught(problem: Waves, x: np.ndarray) -> None:
    slope, decades = verify.taylor_slope(problem, x, np.eye(6)[2])
    assert slope == pytest.approx(2.0, abs=0.01)
    assert decades == pytest.approx(3.0)
    wrong = wrong_gradient(problem, lambda g: g * 1.01)
    assert verify.taylor_slope(wrong, x, np.eye(6)[2])[0] == pytest.approx(1.0, abs=0.05)
    assert not check_taylor(wrong, x).passed


def test_a_linear_loss_has_no_remainder_and_does_not_pass_for_one() -> None:
    problem = Waves()
    flat = Altered(
        problem,
        value_and_gradient=lambda x: (float(x.sum()), np.ones(6)),
        penalty_and_gradient=lambda x: (0.0, np.zeros(6)),
    )
    assert np.isnan(check_taylor(flat, np.zeros(6)).error)
    assert check_gradient(flat, np.zeros(6)).passed


def test_wrong_hessians_are_caught(problem: Waves, x: np.ndarray) -> None:
    without_penalty = Altered(problem, hessian_product=lambda x, v: problem.hessian_product(x, v) - 2 * v)
    product, symmetry = check_hessian(without_penalty, x)
    assert (product.passed, symmetry.passed) == (False, True)
    lopsided = Altered(problem, hessian_product=lambda x, v: problem.hessian_product(x, v) + 1e-6 * np.cumsum(v))
    product, symmetry = check_hessian(lopsided, x)
    assert (product.passed, symmetry.passed) == (False, False)
    unknown = Altered(problem, hessian_product=lambda x, v: v * np.nan)
    assert not any(check.passed for check in check_hessian(unknown, x))


def test_results_that_depend_on_threads_or_calls_are_caught(problem: Waves, x: np.ndarray) -> None:
    def by_threads(y: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.value_and_gradient(y)
        return value, gradient * (1 + 2e-16 * ((problem.threads or 1) > 1))

    found = verify.check_determinism(Altered(problem, value_and_gradient=by_threads), x)
    assert not found.passed
    assert 0 < found.error < 1e-14
    assert found.where == "threads: 4"
    calls = iter(range(100))
    counting = Altered(problem, hessian_product=lambda y, v: v + 1e-15 * next(calls))
    assert verify.check_determinism(counting, x).where == "threads: 1"


def test_best_central_difference_is_near_rounding_and_knows_it() -> None:
    found = verify.best_central_difference(
        lambda y: np.array([np.exp(y[0]), np.sin(3 * y[0])]), np.array([0.3]), np.ones(1)
    )
    exact = np.array([np.exp(0.3), 3 * np.cos(0.9)])
    assert np.abs(found.value - exact).max() <= found.error
    assert found.error < 1e-11
    curve = found.v_curve()
    assert curve[0] / curve[1] == pytest.approx(4, rel=0.1)  # truncation falls as the step squared
    assert curve.min() > 10 * np.abs(found.value - exact).max()  # extrapolation does better than the V's bottom


def test_it_judges_by_its_own_estimate_never_by_the_answer() -> None:
    """A kink has no derivative: the sweep reports the mean of both sides and does not search for a friendly step."""
    found = verify.best_central_difference(lambda y: abs(y[0]) + y[0], np.zeros(1), np.ones(1))
    assert float(found.value) == pytest.approx(1.0)
    noisy = np.random.default_rng(0)
    found = verify.best_central_difference(lambda y: y[0] + 1e-3 * noisy.normal(), np.zeros(1), np.ones(1))
    assert found.error > 1e-4


@pytest.mark.parametrize("shapes", [((7,), (7,)), ((3, 4), (12,)), ((2,), (2, 3))])
def test_dot_test_passes_a_transpose_and_catches_anything_else(shapes: tuple) -> None:
    domain, image = (int(np.prod(shape)) for shape in shapes)
    matrix = RNG.normal(size=(image, domain))

    def apply(u: np.ndarray) -> np.ndarray:
        return (matrix @ u.ravel()).reshape(shapes[1])

    assert dot_test(apply, lambda w: (matrix.T @ w.ravel()).reshape(shapes[0]), shapes).passed
    wrong = matrix.copy()
    wrong[0] *= 1 + 1e-9  # one row, barely
    assert not dot_test(apply, lambda w: (wrong.T @ w.ravel()).reshape(shapes[0]), shapes).passed
    assert not dot_test(apply, lambda w: np.full(shapes[0], np.nan), shapes).passed


def test_dot_test_does_not_cry_wolf() -> None:
    """Scaled by the random inner product itself it would, in one draw of some hundred (fat tails of 1/normal)."""
    matrix = RNG.normal(size=(300, 200))
    errors = [
        dot_test(lambda u: matrix @ u, lambda w: matrix.T @ w, ((200,), (300,)), seed=s).error for s in range(100)
    ]
    assert max(errors) < 1e-14
    zero = dot_test(lambda u: 0 * u, lambda w: 0 * w, ((3,), (3,)))
    assert zero.passed
    assert zero.error == 0


def test_transforms_pass_and_a_wrong_act_is_caught_by_its_own_row() -> None:
    field, weights = RNG.normal(size=(3, 5)), RNG.uniform(1, 2, 5)
    for right in (RadialTanh(np.full(5, 0.8)), EnergyTanh(weights, 2.0)):
        assert all(check.passed for check in verify.check_transform(right, field))
        for row, act in enumerate(("push", "pull", "pull_tangent")):
            exact = getattr(right, act)
            wrong = Altered(right, **{act: lambda *a, exact=exact: exact(*a) + 1e-5 * a[-1]})
            passed = [check.passed for check in verify.check_transform(wrong, field)]
            assert not passed[row], act
            assert passed[2] or act != "push"


def test_verdicts() -> None:
    good, bad, unknown = (
        judge(name, "r", error, 1e-8, "x[1]") for name, error in zip("gbu", (1e-9, 0.1, np.nan), strict=True)
    )
    assert [c.passed for c in (good, bad, unknown)] == [True, False, False]
    assert worst([good, bad]).name == "b"
    assert worst([good, unknown, bad]).name == "u"
    assert worst([good]) is good
    caught, missed = plant("bug", bad), plant("bug", good)
    assert (caught.passed, caught.planted, missed.passed) == (True, True, False)
    rows = verify.report_rows([good, bad, unknown, caught, missed])
    assert [row[0] for row in rows] == ["ok", "FAILED", "FAILED", "caught", "MISSED"]
    assert all(len(row) == len(verify.COLUMNS) for row in rows)
    assert rows[2][3] == "nan"


def test_check_against_compares_a_stationary_point_absolutely(problem: Waves, x: np.ndarray) -> None:
    flat = Altered(
        problem,
        value_and_gradient=lambda y: (0.0, np.full(6, 1e-17)),
        penalty_and_gradient=lambda y: (0.0, np.zeros(6)),
    )
    assert verify.check_against(flat, x, np.zeros(6), "zero").passed
    off = verify.check_against(flat, x, np.array([0, 0, 0, 1e-3, 0, 0]), "other")
    assert not off.passed
    assert off.where == "right[1]"
