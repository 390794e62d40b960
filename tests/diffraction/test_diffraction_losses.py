"""Losses: log densities against SciPy's, derivatives against differences, weights against expectations, the limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import huber

from exactgrad.diffraction.losses import FLOOR, Gaussian, Huber, Observed, Poisson, StudentT, observe, sigma_of
from exactgrad.errors import InputError

RNG = np.random.default_rng(5)
EXPECTED = np.concatenate([[1e-4, 0.01, 0.5], RNG.uniform(0.1, 400.0, 300)]).reshape(3, 101)
COUNTS = RNG.poisson(EXPECTED).astype(float)
SIGMA = RNG.uniform(0.5, 30.0, EXPECTED.shape)
LOSSES = {
    "poisson": (Poisson(), 0.0),
    "poisson with read-out": (Poisson(), 2.5),
    "gaussian": (Gaussian(SIGMA), 0.0),
    "student": (StudentT(SIGMA, 3.0), 0.0),
    "huber": (Huber(SIGMA, 1.2), 0.0),
}


def seen(photons, readout=0.0):
    photons = np.asarray(photons, dtype=float)
    return Observed(photons, np.ones(photons.shape, bool), readout)


# -- values -----------------------------------------------------------------------------------------------------------


def test_densities_against_scipy():
    def agree(loss, logarithm, readout=0.0):
        np.testing.assert_allclose(loss.at(EXPECTED, seen(COUNTS, readout)).value, -logarithm, rtol=1e-11, atol=1e-11)

    agree(Poisson(), stats.poisson.logpmf(COUNTS, EXPECTED))
    agree(Poisson(), stats.poisson.logpmf(COUNTS + 4, EXPECTED + 4), readout=2.0)
    agree(Gaussian(SIGMA), stats.norm.logpdf(COUNTS, EXPECTED, SIGMA))
    agree(StudentT(SIGMA, 3.5), stats.t.logpdf(COUNTS, 3.5, EXPECTED, SIGMA))
    agree(StudentT(SIGMA, 1.0), stats.cauchy.logpdf(COUNTS, EXPECTED, SIGMA))
    agree(Huber(SIGMA, 80.0), stats.norm.logpdf(COUNTS, EXPECTED, SIGMA))


@pytest.mark.parametrize("bend", [0.3, 1.345, 4.0])
def test_huber_is_scipys_and_a_density(bend):
    z = np.linspace(-9, 9, 61)
    value = Huber(1.0, bend).at(z, seen(np.zeros(61))).value
    np.testing.assert_allclose(value - value[30], huber(bend, z), atol=1e-12)
    one = seen(np.zeros(1))
    mass = [integrate.quad(lambda x: np.exp(-Huber(1.0, bend).at(np.array([x]), one).value[0]), *ends)[0]
            for ends in ((-np.inf, -bend), (-bend, bend), (bend, np.inf))]  # fmt: skip
    assert sum(mass) == pytest.approx(1.0, abs=1e-9)
    assert Huber(1.0, bend).at(np.zeros(1), one).weight[0] == pytest.approx(mass[1], abs=1e-9)  # E[psi'] is that mass


# -- derivatives and weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_against_differences(name):
    loss, readout = LOSSES[name]
    data = seen(COUNTS, readout)
    bend = np.abs(np.abs(EXPECTED - COUNTS) / SIGMA - 1.2) < 1e-2  # a difference over Huber's corner is neither side's
    step = 2e-3 * np.minimum(EXPECTED + readout**2, SIGMA)
    value = [loss.at(EXPECTED + k * step, data).value for k in (-2, -1, 1, 2)]
    difference = (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * step)
    derivative = loss.at(EXPECTED, data).derivative
    rounding = 1e-14 * (1 + np.abs(value[1])) / step

    def wrong(guess):
        return (np.abs(guess - difference) > 1e-9 * (1 + np.abs(guess)) + rounding) & ~bend

    assert not wrong(derivative).any()
    assert wrong(1.001 * derivative).mean() > 0.8


@pytest.mark.parametrize("intensity", [1e-3, 0.2, 3.0, 200.0])
def test_poisson_weight_is_the_scores_variance(intensity):
    counts = np.arange(0, 600, dtype=float)
    chance = stats.poisson.pmf(counts, intensity)
    got = Poisson().at(np.full(600, intensity), seen(counts))
    assert chance @ got.derivative == pytest.approx(0.0, abs=1e-9)
    assert chance @ got.derivative**2 == pytest.approx(got.weight[0], rel=1e-9)


def test_with_readout_the_score_has_mean_zero_and_the_weights_variance():
    rng = np.random.default_rng(1)
    for intensity, readout in ((0.3, 0.1), (0.3, 1.5), (40.0, 3.0)):
        data = rng.poisson(intensity, 400_000) + readout * rng.standard_normal(400_000)
        got = Poisson().at(np.full(data.size, intensity), seen(data, readout))
        weight = 1 / (intensity + readout**2)
        assert got.weight[0] == pytest.approx(weight, rel=1e-12)
        assert abs(got.derivative.mean()) < 5 * np.sqrt(weight / data.size)
        assert got.derivative.var() == pytest.approx(weight, rel=0.02)


@pytest.mark.parametrize("freedom", [1.0, 4.0, 30.0])
def test_student_weight_is_fishers(freedom):
    one = seen(np.zeros(1))
    loss = StudentT(2.0, freedom)

    def information(x):
        return stats.t.pdf(x, freedom, 0, 2.0) * loss.at(np.array([x]), one).derivative[0] ** 2

    total = 2 * integrate.quad(information, 0, np.inf, epsabs=1e-12)[0]
    assert loss.at(np.zeros(1), one).weight[0] == pytest.approx(total, rel=1e-7)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_no_light_and_no_photon_costs_nothing_and_divides_by_nothing():
    with np.errstate(all="raise"):
        got = Poisson().at(np.zeros(2), seen([0.0, 3.0]))
    assert got.value[0] == 0.0 and got.derivative[0] == 1.0
    assert np.isfinite(got.value).all() and got.value[1] > 30 and got.derivative[1] < -1e5


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.floats(-1e3, 1e3), st.floats(-20, 1e4), st.floats(0, 10))
def test_poisson_is_finite_everywhere(intensity, photons, readout):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        got = Poisson().at(np.array([intensity]), seen([photons], readout))
    assert np.isfinite([got.value, got.derivative, got.weight]).all() and got.weight[0] > 0


def test_negative_light_never_gains():
    for photons, readout in ((0.0, 0.0), (0.0, 0.5), (-2.0, 0.5), (0.4, 0.0), (5.0, 0.0)):
        shifted = -np.geomspace(1e-9, 1e3, 60)  # of I + r^2
        got = Poisson().at(shifted - readout**2, seen(np.full(60, photons), readout))
        assert (np.diff(got.value[20:]) > 0).all() and (got.derivative[20:] < 0).all()


def test_the_continuation_joins_smoothly():
    around = FLOOR * np.array([1 - 1e-6, 1.0, 1 + 1e-6])
    got = Poisson().at(around, seen([2.0, 2.0, 2.0]))
    assert np.ptp(got.value) < 1e-5
    assert np.ptp(got.derivative) / abs(got.derivative[1]) < 1e-5


def test_what_is_not_counted_says_nothing():
    adu = np.array([[40.0, np.nan, 70.0, 9000.0, -3.0, 50.0]])
    mask = np.array([[1, 1, 1, 1, 1, 0]])
    data = observe(adu, gain_adu=2.0, offset_adu=30.0, readout_adu=4.0, trusted_adu=(0.0, 8999.0), mask=mask)
    assert data.counted.tolist() == [[True, False, True, False, False, False]] and data.size == 2
    assert data.photons.tolist() == [[5.0, 0.0, 20.0, 0.0, 0.0, 0.0]] and data.readout_photons == 2.0
    for loss in (Poisson(), Gaussian(2.0), StudentT(2.0), Huber(2.0)):
        got = loss.at(np.full(adu.shape, 7.0), data)
        for image in (got.value, got.derivative, got.weight):
            assert not image[~data.counted].any() and image[data.counted].all()
        assert got.total == pytest.approx(got.value.sum())


def test_within_a_mask():
    data = observe([[1.0, 2.0, 900.0]], trusted_adu=(0, 99))
    assert data.within([[0, 1, 1]]).counted.tolist() == [[False, True, False]]
    with pytest.raises(InputError, match="no pixel that counts"):
        data.within([[0, 0, 1]])
    with pytest.raises(InputError, match="mask: shape"):
        data.within([1, 1])


def test_sigma_of_photons():
    np.testing.assert_allclose(sigma_of([-3.0, 0.0, 16.0], 3.0), np.sqrt([10.0, 10.0, 25.0]))


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: observe([1.0], gain_adu=0.0), "gain = 0 ADU/photon"),
        (lambda: observe([1.0], readout_adu=-1.0), "readout"),
        (lambda: observe([1.0], trusted_adu=(5, 2)), "trusted range"),
        (lambda: observe([1.0], trusted_adu=(np.nan, 2)), "trusted range"),
        (lambda: observe([1.0], trusted_adu=(5, 9)), "no pixel"),
        (lambda: observe([np.inf, 1.0]), "image[0] = inf"),
        (lambda: observe(["a"]), "numbers are needed"),
        (lambda: observe([1e20]), "photons in a pixel"),
        (lambda: observe([[1.0]], mask=[1, 1]), "mask: shape"),
        (lambda: Gaussian([1.0, 0.0]), "sigma"),
        (lambda: StudentT(np.nan), "sigma"),
        (lambda: StudentT(1.0, 0.5), "freedom"),
        (lambda: Huber(1.0, 0.0), "bend"),
        (lambda: Poisson().at(np.zeros(3), seen([1.0])), "expected image: shape"),
        (lambda: sigma_of([1.0], 0.0, 0.0), "least_photons"),
    ],
)
def test_bad_input_is_one_line(act, says):
    with pytest.raises(InputError) as caught:
        act()
    assert says in str(caught.value) and "\n" not in str(caught.value)
