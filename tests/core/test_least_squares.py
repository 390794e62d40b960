"""Levenberg-Marquardt against SciPy's, its state as arrays, every reason to stop; covariances against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from exactgrad.core.lbfgs import Status
from exactgrad.core.least_squares import State, Transformed, advance, begin, covariance, minimise
from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.transforms import Exponential, Interval, Scale
from exactgrad.errors import InputError


class Squares:
    """Half the sum of squared residuals; the Jacobian by complex steps."""

    def __init__(self, residuals):
        self.residuals, self.calls = residuals, 0

    def jacobian(self, x):
        step = 1e-30
        return np.stack([self.residuals(x + 1j * step * e).imag / step for e in np.eye(x.size)], axis=1)

    def residual_products(self, x):
        self.calls += 1
        r, jacobian = self.residuals(x), self.jacobian(x)
        return 0.5 * float(r @ r), jacobian.T @ r, jacobian.T @ jacobian


T = np.linspace(0, 4, 25)
NOISE = 0.05 * np.random.default_rng(3).standard_normal(25)
KOWALIK_U = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
KOWALIK_Y = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
BARD_U = np.arange(1.0, 16.0)
BARD_Y = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.1, 4.39])
PROBLEMS = {  # of Moré, Garbow & Hillstrom (1981), and a fit
    "rosenbrock": (lambda x: np.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]), [-1.2, 1.0]),
    "powell singular": (
        lambda x: np.stack([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2,
                            10**0.5 * (x[0] - x[3]) ** 2]),
        [3.0, -1.0, 0.0, 1.0],
    ),
    "kowalik osborne": (
        lambda x: KOWALIK_Y - x[0] * (KOWALIK_U**2 + KOWALIK_U * x[1]) / (KOWALIK_U**2 + KOWALIK_U * x[2] + x[3]),
        [0.25, 0.39, 0.415, 0.39],
    ),
    "bard": (
        lambda x: BARD_Y - x[0] - BARD_U / (x[1] * (16 - BARD_U) + x[2] * np.minimum(BARD_U, 16 - BARD_U)),
        [1.0, 1.0, 1.0],
    ),
    "brown badly scaled": (lambda x: np.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2]), [1.0, 1.0]),
    "two decays": (
        lambda x: x[0] * np.exp(-x[1] * T) + x[2] * np.exp(-x[3] * T) - 3 * np.exp(-2 * T) - np.exp(-0.3 * T) - NOISE,
        [1.0, 1.0, 2.0, 0.1],
    ),
}  # fmt: skip


# -- the search -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_reaches_what_scipy_reaches(name):
    residuals, start = PROBLEMS[name]
    problem = Squares(residuals)
    theirs = optimize.least_squares(
        residuals, start, jac=problem.jacobian, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    state = minimise(problem, start, 500, 1e-24)
    assert state.status.converged, state.status
    assert state.value <= theirs.cost * (1 + 1e-10) + 1e-18
    if name != "powell singular":  # whose curvature is singular at the minimum
        np.testing.assert_allclose(state.x, theirs.x, rtol=1e-6, atol=1e-8)
    assert (np.diff(state.history) < 0).all() and state.history.size == state.iteration + 1
    assert state.evaluations == problem.calls < 300


def test_the_path_does_not_depend_on_units():
    residuals, start = PROBLEMS["two decays"]
    units = np.array([2.0**20, 2.0**-30, 1.0, 2.0**7])
    plain = minimise(Squares(residuals), start)
    scaled = minimise(Squares(lambda x: residuals(x * units)), start / units)
    np.testing.assert_allclose(scaled.history, plain.history, rtol=1e-9)


def test_any_state_continues_bit_for_bit():
    residuals, start = PROBLEMS["rosenbrock"]
    problem = Squares(residuals)
    whole = minimise(problem, start, 500, 1e-20)
    state = begin(problem, start)
    while state.status is Status.RUNNING:
        before = state.to_arrays()
        state = advance(problem, State.from_arrays(before), 1e-20)
        assert all((before[key] == value).all() for key, value in State.from_arrays(before).to_arrays().items())
    for key, value in whole.to_arrays().items():
        np.testing.assert_array_equal(value, state.to_arrays()[key], err_msg=key)


def test_a_log_likelihood_is_fitted_like_squares():
    rng = np.random.default_rng(4)
    counts = rng.poisson(20 * np.exp(-0.7 * T) + 2)

    class Counts:
        def residual_products(self, x):
            basis = np.stack([np.exp(-x[1] * T), -x[0] * T * np.exp(-x[1] * T), np.ones(T.size)])
            mean = x[0] * basis[0] + x[2]
            if not (mean > 0).all():
                return np.inf, np.full(3, np.nan), np.full((3, 3), np.nan)
            return -stats.poisson.logpmf(counts, mean).sum(), basis @ (1 - counts / mean), (basis / mean) @ basis.T

    state = minimise(Counts(), [5.0, 0.2, 5.0])
    theirs = optimize.minimize(lambda x: Counts().residual_products(x)[0], [20.0, 0.7, 2.0], method="Nelder-Mead",
                               options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000})  # fmt: skip
    assert state.status.converged
    np.testing.assert_allclose(state.x, theirs.x, rtol=1e-5)


def test_reasons_to_stop():
    residuals, start = PROBLEMS["rosenbrock"]
    problem = Squares(residuals)
    assert minimise(problem, start, 3).status is Status.ITERATIONS
    assert minimise(problem, start, 0).iteration == 0
    assert minimise(problem, start, halted=lambda state: state.iteration == 2).status is Status.INTERRUPTED
    assert minimise(problem, [1.0, 1.0]).status is Status.GRADIENT
    assert minimise(problem, start, tolerance=1e-3).status is Status.PLATEAU

    class Lying:
        def residual_products(self, x):
            return float(abs(x[0])), np.array([-1.0]), np.eye(1)

    stuck = minimise(Lying(), [0.0])
    assert stuck.status is Status.PRECISION and stuck.x[0] == 0.0


def test_an_entry_that_does_nothing_stays():
    state = minimise(Squares(lambda x: np.stack([x[0] - 3, 2 * x[0] - 6])), [0.0, 7.0])
    np.testing.assert_allclose(state.x, [3.0, 7.0], atol=1e-6)


def test_a_wrong_gradient_is_not_followed_to_a_wrong_minimum():
    residuals, start = PROBLEMS["two decays"]
    right = Squares(residuals)

    class Planted:
        def residual_products(self, x):
            value, gradient, curvature = right.residual_products(x)
            return value, -gradient, curvature

    state = minimise(Planted(), start)
    assert state.status is Status.PRECISION and state.iteration == 0


def test_a_step_to_where_there_is_no_loss_is_refused():
    class Fenced(Squares):
        def residual_products(self, x):
            if x[0] > 1.1:
                return np.inf, np.full(2, np.nan), np.full((2, 2), np.nan)
            return super().residual_products(x)

    state = minimise(Fenced(PROBLEMS["rosenbrock"][0]), [-1.2, 1.0], 500, 1e-20)
    np.testing.assert_allclose(state.x, [1.0, 1.0], rtol=1e-8)


def test_the_start_must_be_finite():
    with pytest.raises(InputError, match="loss at the start = nan"):
        begin(Squares(lambda x: x * np.nan), [1.0])


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_transformed_gradient_and_curvature():
    problem = Transformed(Squares(PROBLEMS["kowalik osborne"][0]), (Interval(0.1, 0.4), Exponential(), Scale(3.0),
                                                                   Interval(0.0, 1.0)))  # fmt: skip
    x = np.array([0.3, -0.7, 0.2, -0.4])
    _, gradient, curvature = problem.residual_products(x)
    step = 1e-5
    differences = [
        (problem.residual_products(x + step * e)[0] - problem.residual_products(x - step * e)[0]) / (2 * step)
        for e in np.eye(4)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-10)
    jacobian = problem.problem.jacobian(problem.apply(x)) * problem.slopes(x)
    np.testing.assert_allclose(curvature, jacobian.T @ jacobian, rtol=1e-12)


@pytest.mark.parametrize("high", [5.0, 1.5])
def test_bounds_as_scipy_has_them(high):
    residuals, start = PROBLEMS["two decays"]
    low, top = np.array([0.0, 0.0, 0.0, 0.0]), np.array([10.0, high, 10.0, 1.0])
    theirs = optimize.least_squares(residuals, [1.0, 1.0, 2.0, 0.1], bounds=(low, top), xtol=1e-14, ftol=1e-14,
                                    gtol=1e-14)  # fmt: skip
    problem = Transformed(Squares(residuals), [Interval(*ends) for ends in zip(low, top, strict=True)])
    fraction = (np.array(start) - low) / (top - low)
    state = minimise(problem, np.arctanh(2 * fraction - 1), 500, 1e-14)
    assert state.status.converged
    assert state.value == pytest.approx(theirs.cost, rel=1e-5)
    np.testing.assert_allclose(problem.apply(state.x), theirs.x, rtol=2e-3)
    y = problem.apply(state.x)
    told = covariance(
        np.eye(4), Parameters((Parameter("rate", y[1], "1/s", 0.0, high), Parameter("rest", y[[0, 2, 3]])))
    )
    assert any(failed.kind == "at bound" for failed in told.failed) == (high == 1.5)


# -- covariance -------------------------------------------------------------------------------------------------------


def of(size, **bounds):
    return Parameters((Parameter("p", np.arange(1.0, size + 1), "A", **bounds),))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 8), st.integers(0, 10_000), st.floats(-8, 8))
def test_covariance_is_the_inverse_in_any_units(size, seed, decades):
    rng = np.random.default_rng(seed)
    jacobian = rng.normal(size=(size + 12, size)) * np.geomspace(1.0, 10.0**decades, size)
    got = covariance(jacobian.T @ jacobian, of(size))
    factor = np.linalg.qr(jacobian / np.linalg.norm(jacobian, axis=0), mode="r")
    inverse = np.linalg.inv(factor) / np.linalg.norm(jacobian, axis=0)[:, None]
    np.testing.assert_allclose(got.esd, np.linalg.norm(inverse, axis=1), rtol=1e-8)
    wanted = inverse @ inverse.T / np.outer(got.esd, got.esd)
    np.testing.assert_allclose(got.correlation, wanted, atol=1e-8)
    assert not [failed for failed in got.failed if failed.kind != "correlated"]


def test_esds_of_a_line_are_the_textbooks():
    sigma = 0.3
    jacobian = np.stack([np.ones(25), T], axis=1) / sigma
    got = covariance(jacobian.T @ jacobian, of(2))
    spread = ((T - T.mean()) ** 2).sum()
    assert got.esd[1] == pytest.approx(sigma / np.sqrt(spread), rel=1e-12)
    assert got.esd[0] == pytest.approx(sigma * np.sqrt(1 / 25 + T.mean() ** 2 / spread), rel=1e-12)
    assert got.correlation[0, 1] == pytest.approx(-T.mean() / np.sqrt((T**2).mean()), rel=1e-12)


def test_conditions_that_fail_are_told():
    kinds = lambda matrix, parameters: [(f.kind, f.names) for f in covariance(matrix, parameters).failed]  # noqa: E731
    names = Parameters((Parameter("cell_a", 70.0, "A"), Parameter("lambda", 1.0, "A"), Parameter("scale", 2.0)))
    high = np.array([[1.0, 0.999, 0.0], [0.999, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert kinds(high, names) == [("correlated", ("cell_a", "lambda"))]
    same = np.array([[4.0, -2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert kinds(same, names) == [("undetermined", ("cell_a", "lambda"))]
    got = covariance(same, names)
    assert np.isinf(got.esd).tolist() == [True, True, False] and got.esd[2] == 1.0
    assert np.isfinite(got.matrix).all() and np.isfinite(got.correlation).all()
    empty = np.diag([1.0, 0.0, 1.0])
    assert kinds(empty, names) == [("undetermined", ("lambda",))]
    assert covariance(empty, names).esd.tolist() == [1.0, np.inf, 1.0]
    assert kinds(np.diag([1.0, -1.0, 1.0]), names)[0] == ("not positive definite", ("lambda",))
    saddle = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert kinds(saddle, names)[0] == ("not positive definite", ("cell_a", "lambda"))
    assert kinds(np.eye(2), of(2, low=1.0)) == [("at bound", ("p[0]",))]
    assert covariance(np.eye(2), of(2, low=0.0, high=2.0)).failed[0].text == (
        "p[1]: at its upper bound 2 A; its error means nothing"
    )
    assert kinds(np.zeros((0, 0)), Parameters(())) == []


@pytest.mark.parametrize(
    ("matrix", "says"),
    [(np.eye(3), "shape"), ([[1.0, np.nan], [0.0, 1.0]], "finite"), ([[1.0, 0.5], [0.1, 1.0]], "not symmetric")],
)
def test_a_bad_curvature_is_refused(matrix, says):
    with pytest.raises(InputError, match=says):
        covariance(np.array(matrix), of(2))


def test_pulls_have_width_one():
    """Three hundred fits of a decay: estimates scatter as their errors say."""
    rng = np.random.default_rng(8)
    truth, pulls = np.array([2.0, 0.8]), []
    for _ in range(300):
        data = truth[0] * np.exp(-truth[1] * T) + 0.05 * rng.standard_normal(T.size)
        state = minimise(Squares(lambda x, data=data: (x[0] * np.exp(-x[1] * T) - data) / 0.05), [1.0, 1.0])
        pulls.append((state.x - truth) / covariance(state.curvature, of(2)).esd)
    assert np.std(pulls, axis=0) == pytest.approx([1.0, 1.0], abs=0.12)
    assert np.mean(pulls, axis=0) == pytest.approx([0.0, 0.0], abs=0.2)
