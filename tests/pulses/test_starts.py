"""Starts: of the right size and scale, the same for the same seed, and a file that is played as it was written."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import FormatError, InputError
from exactgrad.pulses.controls import CHANNELS
from exactgrad.pulses.formats import write_shape
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.starts import KINDS, resample, start_vector, vector_of

JOB = {
    "pulse": {"duration_us": 500.0, "step_us": 5.0},
    "target": {"transfer": ["z", "-z"]},
    "ensemble": {"bandwidth_hz": 20_000.0, "offsets": 21},
    "limits": {"peak_hz": 10_000.0},
}


def problem(**tables) -> PulseProblem:
    made = copy.deepcopy(JOB)
    for name, table in tables.items():
        made[name] = {key: value for key, value in {**made.get(name, {}), **table}.items() if value is not None}
    return PulseProblem.from_job(made)


@pytest.mark.parametrize("controls", CHANNELS)
@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_it_is_finite_and_of_order_one(self, controls, kind):
        made = problem(pulse={"controls": controls}, solve={"start": kind})
        x = made.start(0)
        assert x.shape == (made.size,) and np.isfinite(x).all()
        assert 0 < np.abs(x).max() <= 50
        pulse = made.pulse(x)
        assert 0.05 * 10_000 < pulse.rms_hz <= 10_000

    def test_a_seed_is_a_start(self, controls, kind):
        made = problem(pulse={"controls": controls}, solve={"start": kind})
        assert np.array_equal(made.start(5), made.start(5))
        assert not np.array_equal(made.start(5), made.start(6))


def test_symmetry_halves_it():
    for kind in KINDS:
        made = problem(pulse={"symmetry": "even"}, solve={"start": kind})
        assert made.start(0).shape == (2 * 50,)


def test_no_limit_and_one_step():
    made = problem(limits={"peak_hz": None}, pulse={"step_us": 500.0}, solve={"start": "smooth"})
    assert np.isfinite(made.start(0)).all()


def test_one_spin_on_resonance():
    for kind in KINDS:
        made = problem(ensemble={"offsets": 1}, solve={"start": kind})
        assert np.isfinite(made.start(0)).all()


def frequencies_hz(pulse: Pulse) -> np.ndarray:
    return np.diff(np.unwrap(pulse.phase_rad)) / (2 * np.pi * pulse.step_s[1:])


class TestChirp:
    def test_it_sweeps_the_band_up_or_down(self):
        made = problem(solve={"start": "chirp", "chirp_bandwidth_hz": 30_000.0})
        senses = set()
        for seed in range(8):
            swept = frequencies_hz(made.pulse(made.start(seed)))
            assert np.allclose(np.diff(swept), np.diff(swept)[0], rtol=1e-6)  # linearly
            assert np.isclose(np.ptp(swept), 30_000.0, rtol=0.02)
            senses.add(np.sign(np.diff(swept)[0]))
        assert senses == {-1.0, 1.0}

    def test_about_the_centre_of_the_ensemble(self):
        made = problem(ensemble={"centre_hz": 12_000.0}, solve={"start": "chirp"})
        assert np.isclose(frequencies_hz(made.pulse(made.start(0))).mean(), 12_000.0, rtol=1e-3)

    def test_its_width_is_one_to_two_bandwidths(self):
        made = problem(solve={"start": "chirp"})
        widths = [np.ptp(frequencies_hz(made.pulse(made.start(seed)))) for seed in range(20)]
        assert min(widths) >= 0.98 * 20_000 and max(widths) <= 1.71 * 20_000

    def test_it_is_a_better_start_for_an_inversion_than_chance(self):
        chirp, chance = (problem(solve={"start": kind}) for kind in ("chirp", "random"))
        assert np.mean([chirp.quality(chirp.start(s)) for s in range(5)]) > 0.3
        assert np.mean([chance.quality(chance.start(s)) for s in range(5)]) < 0.3


def test_a_smooth_start_is_smoother_than_a_random_one():
    def roughness(kind):
        made = problem(solve={"start": kind})
        u = made.pulse(made.start(1)).ux_hz
        return np.std(np.diff(u)) / np.std(u)

    assert roughness("smooth") < 0.5 * roughness("random")


class TestFile:
    def pulse(self, steps=100, peak=9000.0) -> Pulse:
        rng = np.random.default_rng(0)
        return Pulse.from_polar([5e-4 / steps] * steps, rng.uniform(0.1, 1, steps) * peak, rng.uniform(0, 6, steps))

    @pytest.mark.parametrize("controls", ["xy", "polar", "reduced", "xyz"])
    @pytest.mark.parametrize("name", ["bruker", "csv", "varian"])
    def test_it_is_played_as_it_was_written(self, tmp_path, controls, name):
        pulse = self.pulse()
        write_shape(tmp_path / "start", pulse, name, title="start")
        made = problem(pulse={"controls": controls}, solve={"start": str(tmp_path / "start")})
        played = made.pulse(made.start(0))
        assert np.allclose(played.ux_hz, pulse.ux_hz, rtol=0, atol=1e-4)
        assert np.allclose(played.uy_hz, pulse.uy_hz, rtol=0, atol=1e-4)

    def test_the_first_start_is_the_file_and_the_others_lie_about_it(self, tmp_path):
        write_shape(tmp_path / "a.pk", self.pulse(), "bruker", title="start")
        made = problem(solve={"start": str(tmp_path / "a.pk"), "seed": 4})
        first, second = made.start(4), made.start(5)
        assert 0 < np.std(second - first) < 0.03

    def test_beyond_the_peak_it_starts_inside(self, tmp_path):
        write_shape(tmp_path / "a.pk", self.pulse(peak=40_000.0), "bruker", title="start")
        made = problem(solve={"start": str(tmp_path / "a.pk")})
        played, given_pulse = made.pulse(made.start(0)), self.pulse(peak=40_000.0)
        assert 9000 < played.peak_hz <= 9501
        assert np.allclose(played.phase_rad, given_pulse.phase_rad, atol=1e-6)

    def test_another_length_and_number_of_steps(self, tmp_path):
        write_shape(tmp_path / "a.pk", self.pulse(steps=37), "bruker", title="start")
        made = problem(solve={"start": str(tmp_path / "a.pk")})
        assert np.isclose(made.pulse(made.start(0)).rms_hz, self.pulse(steps=37).rms_hz, rtol=0.1)

    def test_a_file_that_does_not_say_its_amplitude_gets_the_limit(self, tmp_path):
        (tmp_path / "a.pk").write_text(
            "##TITLE= plain\n##NPOINTS= 2\n##XYPOINTS= (XY..XY)\n50.0, 0.0\n25.0, 90.0\n##END=\n"
        )
        made = problem(solve={"start": str(tmp_path / "a.pk")})
        played = made.pulse(made.start(0))
        assert np.isclose(played.ux_hz[0], 5000.0, rtol=1e-6)
        assert np.isclose(played.uy_hz[-1], 2500.0, rtol=1e-6)

    @pytest.mark.parametrize(
        ("data", "error", "message"),
        [
            (b"", FormatError, "empty"),
            (b"##TITLE= cut off\n##XYPOINTS= (XY..XY)\n50.0, 0.0\n", FormatError, "cut off"),
            (b"##TITLE=\n##XYPOINTS= (XY..XY)\nnan, 0.0\n##END=\n", FormatError, ":3: "),
            (b"A sheep, a drawing, a box.\n", FormatError, "not a Bruker shape"),
        ],
    )
    def test_a_wrong_file(self, tmp_path, data, error, message):
        (tmp_path / "a.pk").write_bytes(data)
        with pytest.raises(error, match=message) as caught:
            problem(solve={"start": str(tmp_path / "a.pk")}).start(0)
        assert str(tmp_path / "a.pk") in str(caught.value)

    @pytest.mark.parametrize("start", ["randm", "", "x" * 300, "a\0b", "/dev/null/a"])
    def test_no_file(self, start):
        with pytest.raises(InputError, match="neither one of random, smooth, chirp, coarse nor a file"):
            start_vector(problem(solve={"start": start}), 0)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20),
    st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20),
)
def test_resampling_takes_each_value_from_the_same_relative_time(before, after):
    step = np.array(before)
    pulse = Pulse(step, np.arange(step.size) + 1.0, np.zeros(step.size), np.arange(step.size) - 5.0)
    found = resample(pulse, np.array(after))
    ends = np.cumsum(step) / step.sum()
    for j in range(len(after)):
        time = (sum(after[:j]) + 0.5 * after[j]) / sum(after)
        near = [i for i in range(step.size) if ends[i] - step[i] / step.sum() - 1e-9 <= time <= ends[i] + 1e-9]
        assert found[0, j] - 1 in near
        assert found[2, j] == found[0, j] - 6.0


def test_resampling_on_the_same_steps_changes_nothing():
    pulse = TestFile().pulse()
    assert np.array_equal(resample(pulse, pulse.step_s), [pulse.ux_hz, pulse.uy_hz, pulse.uz_hz])


@pytest.mark.parametrize("controls", ["xy", "xyz", "polar", "polar-z", "reduced", "reduced-z"])
@pytest.mark.parametrize("limits", [{"peak_hz": 10_000.0}, {"peak_hz": [10_000.0, 20_000.0] * 50}, {"peak_hz": None}])
def test_the_vector_of_a_waveform_plays_it(controls, limits):
    made = problem(pulse={"controls": controls}, limits=limits)
    rng = np.random.default_rng(2)
    u = rng.uniform(-6000.0, 6000.0, (3, 100))
    u[:, 3] = 0.0
    if not controls.endswith("z"):
        u[2] = 0.0
    played = made.pulse(vector_of(made, u))
    assert np.allclose([played.ux_hz, played.uy_hz, played.uz_hz], u, rtol=0, atol=1e-6)
