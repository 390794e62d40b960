"""The scalar formulas of the kernels against 40-digit mpmath, and with bugs planted in them."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import mpmath as mp
import numpy as np
import pytest

from exactgrad.rotations import maps, scalar

RNG = np.random.default_rng(11)


def exact_b(x: mp.mpf) -> mp.mpf:
    """b(x) = sum (-x)^k / (2k + 2)!: the series, at any x."""
    return mp.nsum(lambda k: (-x) ** k / mp.factorial(2 * k + 2), [0, 60])


def exact_c(x: mp.mpf) -> mp.mpf:
    return mp.nsum(lambda k: (-x) ** k / mp.factorial(2 * k + 3), [0, 60])


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(40):
        yield


TABLES = {
    "b": (scalar.COEFFICIENTS_B, exact_b, 1, scalar.base_b),
    "c": (scalar.COEFFICIENTS_C, exact_c, 1, scalar.base_c),
    "short b": (scalar.SHORT_COEFFICIENTS_B, exact_b, mp.mpf(1) / 4, scalar.short_b),
    "short c": (scalar.SHORT_COEFFICIENTS_C, exact_c, mp.mpf(1) / 4, scalar.short_c),
}


def chebyshev_fit(exact, end, count: int) -> list[mp.mpf]:
    """Return ascending coefficients of mpmath's fit; newer versions ask for the order, older ones cannot be told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return mp.chebyfit(exact, [0, end], count)[::-1]


def polynomial(ascending, x) -> mp.mpf:
    return mp.fsum(mp.mpf(c) * x**power for power, c in enumerate(ascending))


@pytest.mark.parametrize("name", TABLES)
def test_coefficients_are_those_of_the_chebyshev_fit(name: str) -> None:
    coefficients, exact, end, _ = TABLES[name]
    fitted = chebyshev_fit(exact, end, len(coefficients))
    for power, (have, want) in enumerate(zip(coefficients, fitted, strict=True)):
        assert abs(have - want) <= 2e-16 * abs(want), power


@pytest.mark.parametrize("name", TABLES)
def test_polynomials_in_exact_arithmetic_miss_by_less_than_1e_17(name: str) -> None:
    """The stored doubles differ from the fitted ones by rounding; together below half an ulp of b(0)."""
    coefficients, exact, end, _ = TABLES[name]
    fitted = chebyshev_fit(exact, end, len(coefficients))
    for i in range(101):
        x = end * mp.mpf(i) / 100
        assert abs(polynomial(fitted, x) - exact(x)) < 1e-17
        assert abs(polynomial(coefficients, x) - exact(x)) < 6e-17


@pytest.mark.parametrize("name", TABLES)
def test_evaluation_in_double_precision(name: str) -> None:
    _, exact, end, evaluate = TABLES[name]
    for x in np.linspace(0, float(end), 41):
        assert abs(evaluate(x) - exact(mp.mpf(x))) < 1.2e-16


def test_slopes_are_the_derivatives() -> None:
    for slope, exact in ((scalar.base_b_slope, exact_b), (scalar.base_c_slope, exact_c)):
        for x in np.linspace(0, 1, 21):
            want = mp.diff(exact, mp.mpf(x), h=mp.mpf(10) ** -12)
            # the fit is minimax in value, so its slope is good to 4 n^2 of its error at the ends
            assert abs(slope(x) - want) < 1e-15


@pytest.mark.parametrize("angle", [1e-300, 1e-8, 0.1, 0.7, 1.0, 1.1, 2.0, np.pi, 2 * np.pi, 20.0, 1e3])
def test_doubling_reaches_every_angle(angle: float) -> None:
    x = mp.mpf(angle) ** 2
    t = mp.mpf(angle)
    b, c = scalar.even_coefficients(angle * angle)
    want_b = (1 - mp.cos(t)) / x if angle > 1e-3 else exact_b(x)
    want_c = (t - mp.sin(t)) / (t * x) if angle > 1e-3 else exact_c(x)
    steps = scalar.doublings(angle * angle)
    # a doubling rule amplifies a relative error in x c by at most the angle
    assert abs(b - want_b) * x < 4e-16 * (1 + angle) or abs(b - want_b) < 2e-16
    assert abs(c - want_c) * x < 4e-16 * (1 + angle) or abs(c - want_c) < 2e-16
    assert angle**2 * 0.25**steps <= 1.0
    assert steps == 0 or angle**2 * 0.25 ** (steps - 1) > 1.0


@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
def test_doubling_rules_hold_exactly(x: float) -> None:
    b, c = exact_b(mp.mpf(x)), exact_c(mp.mpf(x))
    four_x, b2, c2 = scalar.double_angle(mp.mpf(x), b, c)
    assert four_x == 4 * mp.mpf(x)
    assert abs(b2 - exact_b(four_x)) < 1e-38
    assert abs(c2 - exact_c(four_x)) < 1e-38
    dx = mp.mpf("0.7")
    db, dc = (mp.diff(exact, mp.mpf(x), h=mp.mpf(10) ** -15) * dx for exact in (exact_b, exact_c))
    dx4, db2, dc2 = scalar.double_angle_tangent(mp.mpf(x), b, c, dx, db, dc)
    assert dx4 == 4 * dx
    assert abs(db2 - mp.diff(exact_b, four_x, h=mp.mpf(10) ** -15) * dx4) < 1e-13
    assert abs(dc2 - mp.diff(exact_c, four_x, h=mp.mpf(10) ** -15) * dx4) < 1e-13


@pytest.mark.parametrize("x", [0.0, 1e-12, 0.5, 1.0, 1.5, 9.0, 400.0])
def test_tangent_of_the_coefficients(x: float) -> None:
    b, c, db, dc = scalar.even_coefficients_tangent(x, 1.0)
    assert (b, c) == scalar.even_coefficients(x)
    for found, exact in ((db, exact_b), (dc, exact_c)):
        with mp.workdps(60 if x < 100 else 400):
            want = mp.nsum(
                lambda k, e=exact: (
                    -k * (-mp.mpf(x)) ** (k - 1) / mp.factorial(2 * k + (2 if e is exact_b else 3)) if k else mp.mpf(0)
                ),
                [0, 200],
            )
        assert abs(found - want) < 3e-15 * max(1.0, 1.0 / max(x, 1.0))


def test_scalar_and_array_formulas_agree() -> None:
    for t in RNG.normal(0, 2.0, (50, 3)):
        v = RNG.normal(size=3)
        b, c = scalar.even_coefficients(float(t @ t))
        assert np.allclose(scalar.rotate(*t, b, c, *v), maps.rotate(t, v), rtol=0, atol=3e-15)
        assert np.allclose(scalar.left_jacobian(*t, b, c, *v), maps.left_jacobian(t) @ v, rtol=0, atol=3e-15)
        g = scalar.left_jacobian_transpose(*t, b, c, *v)
        assert np.allclose(g, maps.left_jacobian(t).T @ v, rtol=0, atol=3e-15)
        assert np.allclose(scalar.rotate_back(*t, *g, *v), maps.exp(t).T @ v, rtol=0, atol=3e-15)


def test_anchor() -> None:
    """One literal turn, which group laws cannot replace: 90 degrees about z takes x to y."""
    b, c = scalar.even_coefficients((np.pi / 2) ** 2)
    assert np.allclose(scalar.rotate(0.0, 0.0, np.pi / 2, b, c, 1.0, 0.0, 0.0), [0, 1, 0], atol=1e-15)
    half = np.pi / 4
    cosine, sine = np.cos(half), np.sin(half) / half
    q = scalar.turn_quaternion(0.0, 0.0, half, cosine, sine, 1.0, 0.0, 0.0, 0.0)
    assert np.allclose(q, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)], atol=1e-15)
    i, j = (0.0, 1.0, 0.0, 0.0), np.pi / 2  # a half turn about x, then one about y: about -z, since j i = -k
    assert np.allclose(scalar.turn_quaternion(0.0, j, 0.0, 0.0, 1.0 / j, *i), [0, 0, 0, -1], atol=1e-15)


def jacobian_change(formulas, t: np.ndarray, d: np.ndarray, m: np.ndarray) -> np.ndarray:
    b, c, db, dc = formulas.even_coefficients_tangent(float(t @ t), 2 * float(t @ d))
    return np.array(formulas.left_jacobian_transpose_tangent(*t, *d, b, c, db, dc, *m))


def jacobian_difference(t: np.ndarray, d: np.ndarray, m: np.ndarray) -> np.ndarray:
    h = 1e-4
    ends = [maps.left_jacobian_transpose_apply(t + s * h * d, m) for s in (-2, -1, 1, 2)]
    return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)


@pytest.mark.parametrize("length", [0.0, 0.5, 3.0, 9.0])
def test_tangent_of_the_jacobian(length: float) -> None:
    for t, d, m in RNG.normal(size=(5, 3, 3)):
        t = t * length
        assert np.allclose(
            jacobian_change(scalar, t, d, m), jacobian_difference(t, d, m), rtol=0, atol=1e-11 + 1e-11 * length
        )


def planted(**wrong) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(scalar), **wrong})


def test_planted_bugs_are_caught() -> None:
    t, d, m = np.array([0.7, -1.1, 0.4]), np.array([0.2, 0.5, -0.3]), np.array([1.0, -2.0, 0.5])
    want = jacobian_difference(t, d, m)

    def dropped_slope(x: float, dx: float) -> tuple:
        return *scalar.even_coefficients(x), 0.0, 0.0

    def no_doubling(x: float, dx: float) -> tuple:
        return scalar.base_b(x), scalar.base_c(x), scalar.base_b_slope(x) * dx, scalar.base_c_slope(x) * dx

    for name, wrong in {"slopes dropped": dropped_slope, "no doubling": no_doubling}.items():
        bug = jacobian_change(planted(even_coefficients_tangent=wrong), 3 * t, d, m)
        assert np.abs(bug - jacobian_difference(3 * t, d, m)).max() > 1e-6, name
    signs = jacobian_change(planted(left_jacobian_transpose_tangent=lambda *a: np.negative(a[6:9])), t, d, m)
    assert np.abs(signs - want).max() > 0.1
    b, c = scalar.even_coefficients(float(t @ t))
    transposed = scalar.left_jacobian(*t, b, c, *m)
    assert np.abs(transposed - maps.left_jacobian(t).T @ m).max() > 0.1
    shortened = list(scalar.COEFFICIENTS_B[:-1])  # one power less
    assert abs(polynomial(shortened, mp.mpf(1)) - exact_b(mp.mpf(1))) > 1e-12
