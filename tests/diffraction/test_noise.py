"""Noise: the moments each step must have, closed forms of the point spread, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad

from exactgrad.diffraction import noise
from exactgrad.diffraction.noise import Readout, digitize, point_spread, record, spread_over_pixels
from exactgrad.errors import InputError

SHAPE = (200, 300)
COUNT = SHAPE[0] * SHAPE[1]
ERROR = 5 / math.sqrt(COUNT)


def test_a_photon_counter_is_poisson():
    recorded = record(np.full(SHAPE, 7.0), Readout(), seed=3)
    counts = recorded.counts.astype(float) - 40
    assert counts.sum() == recorded.photons and recorded.overloads == 0
    assert abs(counts.mean() - 7) < ERROR * math.sqrt(7)
    assert abs(counts.var() / 7 - 1) < ERROR * math.sqrt(2 + 1 / 7)


def test_same_seed_same_image():
    mean = np.random.default_rng(0).uniform(0, 100, SHAPE)
    readout = Readout(flicker=0.02, calibration=0.03, spread="fiber", readout_adu=3.0)
    first, second, other = (record(mean, readout, seed).counts for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_variances_add_up():
    # mean m, relative errors f and c, gain g, read-out r: g^2 (m + m^2 (f^2 + c^2 + f^2 c^2)) + r^2 + 1/12 of digits
    m, f, c, g, r = 1000.0, 0.02, 0.03, 1.7, 5.0
    readout = Readout(flicker=f, calibration=c, gain_adu=g, readout_adu=r)
    adu = record(np.full(SHAPE, m), readout, seed=4).counts.astype(float)
    variance = g**2 * (m + m**2 * (f**2 + c**2 + (f * c) ** 2)) + r**2 + 1 / 12
    assert abs(adu.mean() - (g * m + 40)) < ERROR * math.sqrt(variance)
    assert abs(adu.var() / variance - 1) < ERROR * math.sqrt(2)


def test_calibration_stays_from_image_to_image_and_flicker_does_not():
    mean = np.full(SHAPE, 1e6)
    still = [record(mean, Readout(calibration=0.05, gain_adu=0.01), seed).counts.ravel() for seed in (1, 2)]
    flickering = [record(mean, Readout(flicker=0.05, gain_adu=0.01), seed).counts.ravel() for seed in (1, 2)]
    assert np.corrcoef(*still)[0, 1] > 0.99
    assert abs(np.corrcoef(*flickering)[0, 1]) < ERROR


def test_gaussian_spread_against_the_integral_of_its_law():
    fwhm = 1.6
    kernel = point_spread("gaussian", fwhm)
    rate = 4 * math.log(2) / fwhm**2
    middle = len(kernel) // 2

    def law(y, x):
        return rate / math.pi * math.exp(-rate * (x * x + y * y))

    for dx, dy in ((0, 0), (1, 0), (1, -2)):
        integral = dblquad(law, dx - 0.5, dx + 0.5, dy - 0.5, dy + 0.5)[0]
        assert kernel[middle + dy, middle + dx] == pytest.approx(integral, rel=1e-6)


def test_fibre_spread_against_the_integral_of_its_law():
    fwhm = 1.6
    radius = 60
    kernel = point_spread("fiber", fwhm, radius)
    g = noise.FIBER_SCALE * fwhm

    def law(y, x):
        return g / (2 * math.pi) * (g * g + x * x + y * y) ** -1.5

    assert law(fwhm / 2, 0) == pytest.approx(law(0, 0) / 2, rel=1e-12)  # what full width at half maximum means
    for dx, dy in ((1, 0), (3, -2)):
        ratio = dblquad(law, dx - 0.5, dx + 0.5, dy - 0.5, dy + 0.5)[0] / dblquad(law, -0.5, 0.5, -0.5, 0.5)[0]
        assert kernel[radius + dy, radius + dx] / kernel[radius, radius] == pytest.approx(ratio, rel=1e-6)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.sampled_from(["gaussian", "fiber"]), st.floats(0.05, 8.0), st.integers(1, 20))
def test_a_spread_is_normal_positive_and_symmetric(kind, fwhm, radius):
    kernel = point_spread(kind, fwhm, radius)
    assert kernel.shape == (2 * radius + 1,) * 2
    assert kernel.sum() == pytest.approx(1, abs=1e-12) and kernel.min() >= -1e-15
    for other in (kernel.T, kernel[::-1], kernel[:, ::-1]):
        assert np.allclose(kernel, other, atol=1e-14)


@pytest.mark.parametrize("shape", [(5, 6), (31, 30)])
def test_convolution_against_a_direct_sum(shape):
    rng = np.random.default_rng(2)
    signal = rng.poisson(20, shape).astype(float)
    kernel = rng.random((9, 9))  # not symmetric, and larger than one of the images
    direct = np.zeros(shape)
    for y, x in np.ndindex(shape):
        for dy, dx in np.ndindex(9, 9):
            to_y, to_x = y + dy - 4, x + dx - 4
            if 0 <= to_y < shape[0] and 0 <= to_x < shape[1]:
                direct[to_y, to_x] += signal[y, x] * kernel[dy, dx]
    assert np.allclose(spread_over_pixels(signal, kernel), direct, rtol=1e-12, atol=1e-9)


def test_spread_keeps_the_photons_in_the_middle():
    signal = np.zeros((101, 101))
    signal[50, 50] = 1e5
    spread = spread_over_pixels(signal, point_spread("gaussian", 2.0))
    assert spread.sum() == pytest.approx(1e5, rel=1e-12)


def test_digits_round_and_saturate():
    counts, overloads = digitize(np.array([[-5.0, 0.4, 0.5, 99.6, 100.0, 101.0]]), 100.0)
    assert counts.tolist() == [[0, 0, 1, 100, 100, 100]] and overloads == 1
    counts, overloads = digitize(np.array([[65535.4, 65535.0, 1e300]]))
    assert counts.tolist() == [[65535, 65535, 65535]] and overloads == 2


def test_read_out_noise_leaves_no_bias():
    adu = record(np.zeros(SHAPE), Readout(readout_adu=3.0), seed=9).counts.astype(float)
    assert abs(adu.mean() - 40) < ERROR * 3  # truncation instead of rounding would give 39.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flicker": -0.1}, "flicker = -0.1"),
        ({"flicker": math.nan}, "flicker = nan"),
        ({"calibration": 2.0}, "calibration = 2"),
        ({"calibration_seed": -1}, "calibration_seed"),
        ({"calibration_seed": 1.5}, "calibration_seed"),
        ({"spread": "moffat"}, "spread = 'moffat'"),
        ({"spread_fwhm_px": 0.0}, "spread_fwhm = 0 px"),
        ({"spread_fwhm_px": 1e9}, "spread_fwhm"),
        ({"gain_adu": 0.0}, "gain = 0"),
        ({"offset_adu": -1.0}, "offset = -1"),
        ({"readout_adu": math.inf}, "readout = inf"),
        ({"saturation_adu": 70000.0}, "saturation = 70000"),
    ],
)
def test_readouts_that_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Readout(**change)


@pytest.mark.parametrize(
    ("image", "seed", "message"),
    [
        ([[math.nan]], 1, r"mean photons\[0, 0\] = nan"),
        ([[math.inf]], 1, "finite"),
        ([[-1.0]], 1, "mean photons = -1"),
        ([[1e16]], 1, "mean photons = 1e"),
        ([1.0, 2.0], 1, "shape"),
        (None, 1, "real numbers"),
        ([[1.0]], -1, "seed"),
        ([[1.0]], math.nan, "seed"),
        ([[1.0]], 0.5, "seed"),
    ],
)
def test_images_that_are_refused(image, seed, message):
    with pytest.raises(InputError, match=message):
        record(image, Readout(), seed)
