"""Costs against mpmath, differences and limits, and the regularisation's terms."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from tomography_cases import small_problem

from exactgrad.core.verify import best_central_difference, check_transform
from exactgrad.errors import InputError
from exactgrad.tomography.costs import Gaussian, Poisson, SquareRoot, cost_of, turn
from exactgrad.tomography.regularisation import Regularisation, neighbours
from exactgrad.tomography.sphere import UnitVectors, angle_gradients, angles_from_axis, axis_from_angles

COSTS = [SquareRoot(), SquareRoot(0.375), Poisson(0.2), Poisson(0.0), Gaussian()]
MODELLED, MEASURED, WEIGHT = (
    np.array(v) for v in ([0.5, 2.0, 7.0, 1e-3, 4.0], [1.0, 2.0, 0.0, 3.0, -0.1], [1, 2, 3, 0.5, 1.0])
)


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_slopes_and_curvatures_are_derivatives(cost: SquareRoot | Poisson | Gaussian) -> None:
    for i in range(MODELLED.size):
        m, y, w = (v[i : i + 1] for v in (MODELLED, MEASURED, WEIGHT))
        _, slope = cost.value_and_slope(m, y, w)
        step = 0.1 * m
        by_value = best_central_difference(lambda t, y=y, w=w: cost.value_and_slope(t, y, w)[0], m, step).value / step
        by_slope = best_central_difference(lambda t, y=y, w=w: cost.value_and_slope(t, y, w)[1], m, step).value / step
        assert slope == pytest.approx(by_value, rel=1e-9, abs=1e-9)
        assert cost.curvature(m, y, w) == pytest.approx(by_slope, rel=1e-8, abs=1e-9)


def test_values_by_fifty_digits() -> None:
    m, y, w, e = (mpmath.mpf(v) for v in ("0.7", "2.25", "1.5", "0.375"))
    given = (np.array([float(m)]), np.array([float(y)]), np.array([float(w)]))
    with mpmath.workdps(50):
        root = 2 * w * (mpmath.sqrt(m + e) - mpmath.sqrt(y + e)) ** 2
        deviance = w * (m - y + (y + e) * mpmath.log((y + e) / (m + e)))
    assert SquareRoot(0.375).value_and_slope(*given)[0] == pytest.approx(float(root), rel=1e-14)
    assert Poisson(0.375).value_and_slope(*given)[0] == pytest.approx(float(deviance), rel=1e-14)


@pytest.mark.parametrize("cost", COSTS, ids=str)
def test_residuals_square_to_the_cost_and_vanish_at_the_data(cost: SquareRoot | Poisson | Gaussian) -> None:
    value, _ = cost.value_and_slope(MODELLED, MEASURED, WEIGHT)
    residual = cost.residual(MODELLED, MEASURED, WEIGHT)
    assert 0.5 * np.sum(residual**2) == pytest.approx(value, rel=1e-13)
    seen = np.maximum(MEASURED, 0.5)
    value, slope = cost.value_and_slope(seen, seen, WEIGHT)
    assert value == pytest.approx(0, abs=1e-15)
    assert np.allclose(slope, 0, atol=1e-15)


@pytest.mark.parametrize("cost", [SquareRoot(0.1), Poisson(0.1), Gaussian()], ids=str)
def test_gauss_newton_weights_are_the_curvature_at_the_data(cost: SquareRoot | Poisson | Gaussian) -> None:
    seen = np.array([0.5, 2.0, 9.0])
    assert np.allclose(cost.gauss_newton(seen, seen, WEIGHT[:3]), cost.curvature(seen, seen, WEIGHT[:3]), rtol=1e-14)


def test_an_empty_ray_has_the_limit() -> None:
    """I^ = (a t)^2 as a -> 0: the slope times dI^/da tends to the slope at zero times it, which is finite."""
    cost, one = SquareRoot(), np.ones(1)
    for measured in (0.0, 3.0):
        _, slope = cost.value_and_slope(np.zeros(1), measured * one, 2 * one)
        assert slope.tolist() == [4.0]
        by_b = [cost.value_and_slope(np.full(1, a * a), measured * one, 2 * one)[1][0] * a * a for a in (1e-3, 1e-6)]
        assert abs(by_b[1]) < abs(by_b[0]) < 0.02
    for function in (cost.curvature, cost.gauss_newton):
        assert function(np.zeros(1), one, one).tolist() == [0.0]


def test_an_empty_ray_that_was_seen_is_infinitely_unlikely() -> None:
    assert Poisson(0.0).value_and_slope(np.zeros(1), np.ones(1), np.ones(1))[0] == np.inf
    value, slope = Poisson(0.0).value_and_slope(np.zeros(1), np.ones(1), np.zeros(1))
    assert (value, slope.tolist()) == (0.0, [0.0])


def test_costs_by_name() -> None:
    assert cost_of("poisson", None, 5.0) == Poisson(5e-3)
    assert cost_of("gaussian", None, 5.0) == Gaussian()
    for name, e0, words in (
        ("mean", None, "sqrt, poisson, gaussian"),
        ("sqrt", -1.0, "e0 = -1"),
        ("sqrt", np.nan, "e0"),
    ):
        with pytest.raises(InputError, match=words):
            cost_of(name, e0, 1.0)


# The sphere ---------------------------------------------------------------------------------------------------------


def test_the_chart_of_the_sphere() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6))
    for check in check_transform(UnitVectors(), x, "u = m/|m|"):
        assert check.passed, check


def test_axes_of_any_length_and_none() -> None:
    m = np.array([[1e-200, 0.0, 1e200], [0.0, 0.0, 1e200], [-1e-200, 0.0, 0.0]])
    u = UnitVectors().apply(m)
    assert np.allclose(np.linalg.norm(u, axis=0), [1, 0, 1])
    assert np.isfinite(UnitVectors().push(m[:, 1:], np.ones((3, 2)))).all()


def test_angles_and_back() -> None:
    axis = np.random.default_rng(1).normal(size=(20, 3))
    u = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    assert np.allclose(axis_from_angles(*angles_from_axis(axis)), u, rtol=0, atol=1e-15)
    theta, phi = angles_from_axis(axis)
    g = np.random.default_rng(2).normal(size=(20, 3))
    by_theta, by_phi = angle_gradients(theta, phi, g)
    for found, step in ((by_theta, (1e-6, 0)), (by_phi, (0, 1e-6))):
        ahead, behind = (axis_from_angles(theta + s * step[0], phi + s * step[1]) for s in (1, -1))
        assert np.allclose(found, np.sum(g * (ahead - behind), axis=1) / 2e-6, atol=1e-9)


# Regularisation -----------------------------------------------------------------------------------------------------


def test_neighbours_share_a_face_and_the_mask() -> None:
    mask = np.random.default_rng(0).random((4, 3, 5)) > 0.3
    places = np.argwhere(mask)
    found = {frozenset(map(int, pair)) for one, other in neighbours(mask) for pair in zip(one, other, strict=True)}
    apart = np.abs(places[:, None] - places[None]).sum(axis=-1)
    assert found == {frozenset(map(int, pair)) for pair in np.argwhere(apart == 1)}


@pytest.mark.parametrize("delta", [np.inf, 0.7, 0.05])
@pytest.mark.parametrize("direction", [False, True])
@pytest.mark.parametrize("light", [None, np.linspace(0.1, 1.4, 12)[::-1] ** 2])
def test_terms_are_the_formulas_and_their_derivatives(delta: float, direction: bool, light: np.ndarray | None) -> None:
    rng = np.random.default_rng(3)
    f, v = rng.normal(size=(2, 3, 12))
    pairs = neighbours(np.ones((3, 2, 2), bool))
    r = Regularisation(smooth={"f": 0.8}, delta={"f": delta}, ridge={"f": 0.3}, positive={"f": 0.6}, light=light)
    if direction:
        f /= np.linalg.norm(f, axis=0)
    value, gradient = r.value_and_gradient("f", f, direction, pairs)
    expected = 0.15 * np.sum(f**2) + 0.3 * np.sum(np.minimum(f, 0) ** 2)
    for one, other in pairs:
        for i, k in zip(one, other, strict=True):
            a, b = f[:, i], f[:, k]
            s = 0.5 * np.sum((np.outer(a, a) - np.outer(b, b)) ** 2) if direction else np.sum((a - b) ** 2)
            l, k_l = (1.0, 1.0) if light is None else (light[i], light[k])
            counts = 0.8 * min(l, k_l, 1.0) * min(l / k_l, k_l / l)
            expected += counts * (s / 2 if np.isinf(delta) else delta**2 * (np.sqrt(1 + s / delta**2) - 1))
    assert value == pytest.approx(expected, rel=1e-13)
    if direction:  # what lies on the sphere is all that is used
        v = v - f * np.sum(f * v, axis=0)

    def along(t: np.ndarray) -> np.ndarray:
        return f + t[0] * v

    if not direction:
        slope = best_central_difference(
            lambda t: r.value_and_gradient("f", along(t), False, pairs)[0], np.zeros(1), np.ones(1), 0.01
        )
        assert float(slope.value) == pytest.approx(np.sum(gradient * v), rel=1e-9)
        change = best_central_difference(
            lambda t: r.value_and_gradient("f", along(t), False, pairs)[1], np.zeros(1), np.ones(1), 0.01
        )
        product = r.hessian_product("f", f, v, False, pairs)
        assert np.abs(product - change.value).max() <= 1e-8 * np.abs(product).max()
    product = r.hessian_product("f", f, v, direction, pairs, gauss_newton=True)
    other = rng.normal(size=f.shape)
    again = r.hessian_product("f", f, other, direction, pairs, gauss_newton=True)
    assert np.sum(other * product) == pytest.approx(np.sum(v * again), rel=1e-12)
    assert np.sum(v * product) >= 0


def test_an_axis_and_its_negative_are_the_same() -> None:
    f = np.random.default_rng(0).normal(size=(3, 8))
    f /= np.linalg.norm(f, axis=0)
    signs = np.array([1, -1, 1, 1, -1, -1, 1, -1])
    r, pairs = Regularisation(smooth={"axis": 1.0}), neighbours(np.ones((2, 2, 2), bool))
    one, other = (r.value_and_gradient("axis", g, True, pairs) for g in (f, signs * f))
    assert one[0] == pytest.approx(other[0], rel=1e-14)
    assert np.allclose(signs * one[1], other[1])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"smooth": {"A": -1.0}}, "regularisation.smooth.A = -1"),
        ({"delta": {"B": 0.0}}, "regularisation.delta.B = 0"),
        ({"light": np.array([0.5, 0.0])}, "regularisation.light = 0"),
        ({"ridge": {"C": 1.0}}, "'C' is no field; there are: A, B, axis"),
    ],
)
def test_wrong_weights_are_refused(given: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        small_problem(regularisation=Regularisation(**given))


@pytest.mark.parametrize("cost", [SquareRoot(), SquareRoot(0.4), Poisson(0.3), Gaussian()])
def test_an_image_turned_in_place_is_the_elementwise_cost(cost):
    """Also of a view, and where a ray is empty or nothing was measured."""
    rng = np.random.default_rng(3)
    padded, measured, weight = rng.random((4, 3, 8)), rng.random((4, 3, 5)), rng.random((4, 3, 5))
    through, seen = rng.random((4, 3)), padded[..., :5]
    seen[1, 2], measured[0, 0], weight[2] = 0.0, 0.0, 0.0
    value, slope = cost.value_and_slope(through[..., None] * seen, measured, weight)
    found = turn(cost, seen, through, measured, weight)
    assert found == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(padded[..., :5], through[..., None] * slope, rtol=1e-13, atol=1e-15)
