"""The C program's random numbers: against whole-number arithmetic, its own images, and the laws they follow."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.diffraction import random_numbers
from exactgrad.diffraction.random_numbers import Ran1, gaussian, poisson, poisson_deviates
from exactgrad.errors import InputError

DATA = Path(__file__).parents[1] / "data" / "diffraction_files"


def minimal_standard(seed, count):
    """Return `count` shuffled numbers by the definition, 16807 x mod 2^31 - 1, in Python's whole numbers."""
    number = max(seed, 1)
    drawn = []

    def draw():
        nonlocal number
        number = 16807 * number % 2147483647
        return number

    table = [draw() for _ in range(40)][8:][::-1]  # the last 32 of 40, filled from the top
    last = table[0]
    for _ in range(count):
        fresh = draw()
        place = last // (1 + 2147483646 // 32)
        last, table[place] = table[place], fresh
        drawn.append(min(np.float32(last / 2147483647), np.float32(1 - 1.2e-7)))
    return drawn


@pytest.mark.parametrize("seed", [0, 1, 17, 42, 12345678, 2147483646])
def test_the_stream_is_that_of_its_definition(seed):
    stream = Ran1(seed)
    assert stream.uniforms(500).tolist() == [float(u) for u in minimal_standard(seed, 500)]


def test_the_ten_thousandth_number_of_the_generator():
    # Park and Miller's check of any implementation: from 1, the number after 10000 steps is 1043618065
    state = np.array([1], np.int64)
    for _ in range(10_000):
        random_numbers._advance(state)
    assert state[0] == 1043618065


def test_the_largest_seed_falls_back_to_one():
    # 2^31 - 1 is 0 for the generator: the program draws one 0 and starts again from seed 1
    stream = Ran1(2147483647)
    assert stream.uniform() == 0.0
    assert stream.uniforms(5).tolist() == Ran1(1).uniforms(5).tolist()


def test_uniform_and_uniforms_are_one_stream():
    one, other = Ran1(5), Ran1(5)
    assert [one.uniform() for _ in range(6)] == other.uniforms(6).tolist()


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5, math.nan, math.inf, None, "7", [1, 2]])
def test_seeds_that_are_refused(seed):
    with pytest.raises(InputError, match="seed"):
        Ran1(seed)


@pytest.mark.parametrize("mean", [-1e-30, -5, math.nan, math.inf, 1e31])
def test_means_that_are_refused(mean):
    with pytest.raises(InputError, match="mean photons"):
        poisson(Ran1(1), mean)
    with pytest.raises(InputError, match="mean photons"):
        poisson_deviates(Ran1(1), [1.0, mean])


def pixels(name, shape):
    return np.frombuffer((DATA / name).read_bytes()[-2 * shape[0] * shape[1] :], "<u2").reshape(shape)


@pytest.mark.parametrize("compile_from", [0, 10**9], ids=["compiled", "plain"])
def test_the_programs_noise_bit_for_bit(monkeypatch, compile_from):
    monkeypatch.setattr(random_numbers, "_COMPILE_FROM", compile_from)
    image = np.frombuffer((DATA / "floatimage.bin").read_bytes(), "<f4").reshape(64, 64)
    assert np.array_equal(poisson_deviates(Ran1(17), image) + 40, pixels("noiseimage.img", (64, 64)))
    bright = np.frombuffer((DATA / "bright_float.bin").read_bytes(), "<f4").reshape(40, 48)[5:31, 3:41]
    assert ((bright > 12) & (bright < 1e6)).sum() > 500 and (bright > 1e6).sum() > 50  # every branch is met
    deviates = poisson_deviates(Ran1(99), bright).astype(float)
    recorded = np.minimum(deviates + 12.5, 65535).astype(np.uint16)
    assert np.array_equal(recorded, pixels("bright_noise.img", (40, 48))[5:31, 3:41])
    assert round(deviates.sum()) == 417068872  # as the program printed


def test_one_deviate_at_a_time_is_the_same_stream():
    means = [0.0, 0.5, 11.99, 12.0, 300.0, 2e6, 3e6, 7.0]
    rng = Ran1(3)
    assert [poisson(rng, mean) for mean in means] == poisson_deviates(Ran1(3), means).tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PLACE_WIDTH", 1 + 2147483646 // 31), ("NORMAL_ABOVE", 9e5), ("LORENTZIAN_FROM", 20.0), ("MULTIPLIER", 16806)],
)
def test_a_planted_error_is_seen(monkeypatch, name, value):
    bright = np.frombuffer((DATA / "bright_float.bin").read_bytes(), "<f4").reshape(40, 48)[5:31, 3:41]
    true = poisson_deviates(Ran1(99), bright)
    monkeypatch.setattr(random_numbers, name, value)
    assert not np.array_equal(true, poisson_deviates(Ran1(99), bright))


def test_log_gamma_against_the_library():
    for x in (1.0, 13.0, 1000.0, 1e6):
        assert float(random_numbers._log_gamma(np.float32(x))) == pytest.approx(math.lgamma(x), rel=1e-6, abs=1e-6)


def test_uniform_deviates_are_uniform():
    u = Ran1(11).uniforms(20_000).astype(float)
    counts = np.histogram(u, 20, (0, 1))[0]
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert u.min() >= 0 and u.max() < 1 and chi2 < 43.8  # 0.1 % of 19 degrees of freedom
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 / math.sqrt(20_000)


def test_normal_deviates_are_normal():
    rng = Ran1(11)
    g = np.array([gaussian(rng) for _ in range(20_000)])
    error = 4 / math.sqrt(20_000)
    assert abs(g.mean()) < error
    assert abs(g.var() - 1) < error * math.sqrt(2)
    assert abs((g**4).mean() - 3) < error * math.sqrt(96)


@pytest.mark.parametrize("mean", [0.3, 5.0, 11.9, 12.0, 80.0, 2500.0])
def test_poisson_deviates_are_poisson(mean):
    n = poisson_deviates(Ran1(8), np.full(30_000, mean)).astype(float)
    error = 4 / math.sqrt(30_000)
    assert (n == np.floor(n)).all() and n.min() >= 0
    assert abs(n.mean() - mean) < error * math.sqrt(mean)
    assert abs(n.var() / mean - 1) < error * math.sqrt(2 + 1 / mean)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(0, 2**31 - 1), st.lists(st.floats(0, 1e8), min_size=1, max_size=20))
def test_any_seed_and_mean_gives_finite_deviates(seed, means):
    assert np.isfinite(poisson_deviates(Ran1(seed), means)).all()
