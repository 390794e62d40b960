"""Each transform against complex-step-free Richardson differences, dot tests, and planted bugs."""

import numpy as np
import pytest

from exactgrad.core.transforms import (
    Chain,
    EnergyScaling,
    EnergyTanh,
    Exponential,
    Hold,
    Interval,
    Mirror,
    RadialTanh,
    Scale,
    tanh_ratio,
    tanh_ratio_curve,
    tanh_ratio_slope,
)

RNG = np.random.default_rng(7)
N = 7
WEIGHTS = RNG.uniform(0.5, 2.0, N)
FIELD = RNG.normal(size=(3, N))
FIELD[:, 2] = 0.0  # a blanked step
TRANSFORMS = {
    "scale": (Scale(3.5), FIELD),
    "exponential": (Exponential(), FIELD),
    "interval": (Interval(-2.0, 5.0), FIELD),
    "mirror-odd-n": (Mirror((1, -1, 1), N), FIELD[:, :4]),
    "mirror-even-n": (Mirror((1, -1, -1), 6), FIELD[:, :3]),
    "hold": (Hold(np.arange(N) % 3 == 0, RNG.normal(size=(3, N))), FIELD),
    "radial": (RadialTanh(np.full(N, 0.8)), FIELD),
    "radial-per-step": (RadialTanh(RNG.uniform(0.1, 9.0, N)), FIELD),
    "radial-saturated": (RadialTanh(np.full(N, 1e-3)), FIELD),
    "scaling-binds": (EnergyScaling(WEIGHTS, 3.0), FIELD),
    "scaling-idle": (EnergyScaling(WEIGHTS, 3e9), FIELD),
    "energy-tanh": (EnergyTanh(WEIGHTS, 3.0), FIELD),
    "energy-tanh-at-zero": (EnergyTanh(WEIGHTS, 3.0), 0.0 * FIELD),
    "chain": (Chain((Scale(2.0), RadialTanh(np.full(N, 1.5)), EnergyScaling(WEIGHTS, 4.0))), FIELD),
}


def richardson(function, step=1e-3):
    """Sixth-order central difference of function(e) at e = 0."""
    coarse, middle, fine = [(function(h) - function(-h)) / (2 * h) for h in (step, step / 2, step / 4)]
    first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
    return (16 * second - first) / 15


@pytest.mark.parametrize("name", TRANSFORMS)
def test_push_pull_and_second_derivative(name):
    transform, x = TRANSFORMS[name]
    v, shape = RNG.normal(size=x.shape), transform.apply(x).shape
    g = RNG.normal(size=shape)
    step = 1e-6 if name == "radial-saturated" else 1e-3  # the blanked step turns over within |u| ~ limit
    pushed = transform.push(x, v)
    expected = richardson(lambda e: transform.apply(x + e * v), step)
    if name == "hold":
        expected = np.where(transform.held, 0.0, v)
    assert np.abs(pushed - expected).max() <= 1e-9 * max(1.0, np.abs(expected).max())
    dot = abs(np.sum(pushed * g) - np.sum(v * transform.pull(x, g)))
    assert dot <= 1e-13 * np.linalg.norm(pushed) * np.linalg.norm(g) + 1e-300
    second = transform.pull_tangent(x, v, g)
    expected = richardson(lambda e: transform.pull(x + e * v, g), step)
    assert np.abs(second - expected).max() <= 1e-8 * max(1.0, np.abs(expected).max())


def test_limits_hold_and_are_reached():
    u = 50.0 * FIELD
    assert np.hypot(*RadialTanh(np.full(N, 0.8)).apply(u)[:2]).max() <= 0.8 * (1 + 1e-15)
    limited = EnergyScaling(WEIGHTS, 3.0).apply(u)
    assert np.sum(WEIGHTS * (limited[0] ** 2 + limited[1] ** 2)) == pytest.approx(3.0, rel=1e-14)
    assert np.array_equal(limited[2], u[2])
    smooth = EnergyTanh(WEIGHTS, 3.0).apply(u)
    assert np.sum(WEIGHTS * (smooth[0] ** 2 + smooth[1] ** 2)) <= 3.0


@pytest.mark.parametrize("s", [0.0, 1e-300, 1e-12, 0.01, 0.0599999, 0.06, 0.0600001, 1.0, 30.0, 1e6])
def test_tanh_ratio_against_high_precision(s):
    import mpmath as mp

    with mp.workdps(50):
        series = lambda x: mp.tanh(mp.sqrt(x)) / mp.sqrt(x) if x else mp.mpf(1)  # noqa: E731
        exact = [series(mp.mpf(s))]
        if s > 1e-6:
            exact += [2 * mp.diff(series, s, 1, h=mp.mpf(s) * mp.mpf(10) ** -12), 0]
            exact[2] = 2 * mp.diff(series, s, 2, h=mp.mpf(s) * mp.mpf(10) ** -9)
        else:
            exact += [mp.mpf(-2) / 3 + mp.mpf(8) / 15 * s, mp.mpf(8) / 15]
        exact = [float(value) for value in exact]
    point = np.array(s)
    f = tanh_ratio(point)
    h = tanh_ratio_slope(point, f)
    for got, want, tolerance in zip((f, h, tanh_ratio_curve(point, f, h)), exact, (3e-16, 3e-14, 2e-12), strict=True):
        assert float(got) == pytest.approx(want, rel=tolerance, abs=1e-300)


def test_printed_jacobian_of_equation_50_is_caught():
    """Audit: with the paper's sign the power map's Jacobian fails the very test that ours passes."""
    transform, x = TRANSFORMS["energy-tanh"]
    v = np.random.default_rng(50).normal(size=x.shape)  # its own: whatever ran before
    energy = np.sum(WEIGHTS * (x[0] ** 2 + x[1] ** 2))
    f, sech2 = float(tanh_ratio(energy / 3.0)), 1 - np.tanh(np.sqrt(energy / 3.0)) ** 2
    printed = f * v[:2] + (sech2 + f) / energy * np.sum(WEIGHTS * x[:2] * v[:2]) * x[:2]
    truth = richardson(lambda e: transform.apply(x + e * v))[:2]
    assert np.abs(printed - truth).max() > 0.05
    assert np.abs(transform.push(x, v)[:2] - truth).max() < 1e-9
