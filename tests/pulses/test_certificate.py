"""The certificate: independent of the kernel, it sees what is really in the file."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from exactgrad.pulses import output
from exactgrad.pulses.bloch import propagators
from exactgrad.pulses.certificate import (
    DENSE_B1,
    DENSE_OFFSETS,
    Dense,
    dense_grid,
    fold_z,
    grid_warnings,
    qualities,
    seen_by_spins,
)
from exactgrad.pulses.formats import read_shape
from exactgrad.pulses.output import CERTIFICATE_TOLERANCE, write_pulse_files
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.response import Response

JOB = {
    "pulse": {"duration_us": 100.0, "step_us": 5.0, "controls": "xyz"},
    "target": {"transfer": ["z", "x"]},
    "ensemble": {"bandwidth_hz": 3000.0, "offsets": 7, "b1_spread": 0.1, "b1_points": 3},
    "output": {"formats": ["bruker", "csv"]},
}


def job(**tables) -> dict:
    made = copy.deepcopy(JOB)
    for name, table in tables.items():
        made[name] = table if name == "target" else {**made.get(name, {}), **table}
    return made


def pulse_with_z(seed=0, steps=20, z_hz=4000.0, step_s=5e-6) -> Pulse:
    rng = np.random.default_rng(seed)
    rf = rng.normal(0, 5000.0, (2, steps))
    return Pulse(np.full(steps, step_s), *rf, rng.uniform(-z_hz, z_hz, steps))


OFFSETS = np.array([-2000.0, -300.0, 0.0, 900.0, 2000.0])
B1 = np.array([0.9, 1.0, 1.1, 0.95, 1.05])


def ends(pulse: Pulse) -> np.ndarray:
    """Where z goes, by the independent simulation, shape (S, 3)."""
    w, x, y, z = propagators(pulse, OFFSETS, B1).T
    return np.stack((2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)), axis=1)


class TestFold:
    """A pulse without uz that does what one with it does."""

    @pytest.mark.parametrize("seed", range(5))
    def test_it_converges_to_the_pulse_with_uz_as_the_square_of_the_parts(self, seed):
        pulse = pulse_with_z(seed)
        expected = ends(pulse)
        errors = np.array([np.abs(ends(fold_z(pulse, parts)) - expected).max() for parts in (10, 20, 40, 80)])
        assert np.allclose(errors[:-1] / errors[1:], 4.0, rtol=0.1)
        assert errors[-1] < 1e-4

    def test_its_limit_is_the_pulse_with_uz(self):
        """Richardson's extrapolation takes the square away; what is left falls with the fourth power."""
        pulse = pulse_with_z(1)
        coarse, fine = (ends(fold_z(pulse, parts)) for parts in (100, 200))
        assert np.allclose((4 * fine - coarse) / 3, ends(pulse), atol=1e-8)

    @pytest.mark.parametrize("wrong", ["other sense", "no turn back", "phase at the start of a part"])
    def test_a_planted_bug_does_not_converge_like_that(self, wrong):
        pulse = pulse_with_z(2)

        def bugged(parts):
            folded = fold_z(pulse, parts)
            step, uz = np.repeat(pulse.step_s / parts, parts), np.repeat(pulse.uz_hz, parts)
            turned = 2 * np.pi * np.cumsum(uz * step)
            more = {
                "other sense": 2 * turned - 2 * np.pi * uz * step - 2 * turned[-1],
                "no turn back": np.full(step.size, -turned[-1]),
                "phase at the start of a part": np.pi * uz * step,
            }[wrong]
            return Pulse.from_polar(folded.step_s, folded.amplitude_hz, folded.phase_rad + more)

        errors = [np.abs(ends(bugged(parts)) - ends(pulse)).max() for parts in (40, 80)]
        assert errors[0] / errors[1] < 2.5

    def test_a_constant_uz_is_an_offset(self):
        """The spin at -uz is on resonance; the same pulse folded turns there as a plain one does here."""
        plain = Pulse.from_polar([5e-6] * 20, [3000.0] * 20, np.linspace(0, 3, 20))
        shifted = Pulse(plain.step_s, plain.ux_hz, plain.uy_hz, np.full(20, 700.0))
        assert np.allclose(propagators(shifted, [-700.0], [1.0]), propagators(plain, [0.0], [1.0]), atol=1e-13)
        mz = [
            1 - 2 * np.sum(propagators(p, [o], [1.0])[0, 1:3] ** 2)
            for p, o in ((plain, 0), (fold_z(shifted, 500), -700))
        ]
        assert np.isclose(*mz, atol=1e-6)

    def test_what_stays(self):
        pulse = pulse_with_z(3)
        folded = fold_z(pulse, 7)
        assert folded.steps == 140 and not folded.has_z
        assert np.isclose(folded.duration_s, pulse.duration_s, rtol=1e-14)
        assert np.isclose(folded.rms_hz, pulse.rms_hz, rtol=1e-14)
        assert np.isclose(folded.peak_hz, pulse.peak_hz, rtol=1e-14)

    def test_no_uz_is_no_change(self):
        pulse = Pulse.from_polar([1e-6, 2e-6], [1.0, 2.0], [0.5, 6.0])
        folded = fold_z(pulse, 1)
        assert np.allclose([folded.ux_hz, folded.uy_hz], [pulse.ux_hz, pulse.uy_hz], atol=1e-15)


class TestFiles:
    def files(self, tmp_path, asked, scale=1.0):
        problem = PulseProblem.from_job(asked)
        pulse = problem.pulse(scale * problem.start(0))
        quality = problem.quality(scale * problem.start(0))
        return problem, pulse, quality, write_pulse_files(problem, pulse, quality, tmp_path, overwrite=False)

    def test_weak_offset_controls_are_folded_into_a_format_without_them(self, tmp_path):
        problem, pulse, quality, files = self.files(tmp_path, job(), scale=0.1)
        assert [path.name for path in files.written] == ["pulse.pk", "pulse.csv"]
        assert files.certificate_error <= 1e-6
        assert "uz is held as accumulated phase" in files.notes[0] and "points a step" in files.notes[0]
        again = read_shape(tmp_path / "pulse.pk").pulse
        assert not again.has_z and again.steps % pulse.steps == 0
        found = qualities(again, problem.ensemble, problem.cost)
        assert np.isclose(found.mean(), quality, atol=1e-6)

    def test_strong_ones_are_refused_with_the_reason(self, tmp_path):
        asked = job(pulse={"step_us": 50.0}, limits={"peak_hz": 20_000.0})
        _, _, _, files = self.files(tmp_path, asked)
        assert [path.name for path in files.written] == ["pulse.csv"]
        assert "it has no offset control, and as accumulated phase the quality changes by" in files.refused["bruker"]
        assert "csv and matlab hold uz" in files.refused["bruker"]
        assert not (tmp_path / "pulse.pk").exists()
        assert any("bruker was refused" in warning for warning in files.warnings)

    @pytest.mark.parametrize("name", ["bruker", "csv", "matlab", "varian", "siemens", "simpson"])
    def test_a_changed_point_of_the_file_is_seen(self, tmp_path, monkeypatch, name):
        """The certificate reads what stands in the file, not what should."""

        def corrupted(path, *given, **named):
            shape = read_shape(path, *given, **named)
            shape.pulse.ux_hz[shape.pulse.steps // 2] += 0.3 * shape.pulse.peak_hz
            return shape

        asked = job(pulse={"controls": "xy"}, limits={"peak_hz": 8000.0}, output={"formats": [name]})
        clean = self.files(tmp_path, asked)[-1]
        assert clean.certificate_error < 1e-8 and clean.warnings == []
        monkeypatch.setattr(output, "read_shape", corrupted)
        (tmp_path / "again").mkdir()
        files = self.files(tmp_path / "again", asked)[-1]
        assert files.certificate_error > CERTIFICATE_TOLERANCE
        assert len(files.warnings) == 1 and "its quality is off by" in files.warnings[0]

    def test_a_file_with_the_wrong_sense_of_phase_is_seen(self, tmp_path, monkeypatch):
        monkeypatch.setattr(output, "read_shape", lambda *given, phase_sign, **named: read_shape(*given, **named))
        asked = job(pulse={"controls": "xy"}, output={"phase_sign": -1})
        assert self.files(tmp_path, asked)[-1].certificate_error > CERTIFICATE_TOLERANCE

    def test_full_amplitude_of_the_users_choice(self, tmp_path):
        asked = job(
            pulse={"controls": "xy"},
            limits={"peak_hz": 5000.0},
            output={"rf_max_hz": 25_000.0, "formats": ["bruker", "xepr", "varian"]},
        )
        _, pulse, _, files = self.files(tmp_path, asked)
        assert files.certificate_error < 1e-5
        assert read_shape(tmp_path / "pulse.pk").rf_max_hz == 25_000.0
        assert np.isclose(read_shape(tmp_path / "pulse.pk").pulse.peak_hz, pulse.peak_hz, rtol=1e-9)


class TestQualities:
    @pytest.mark.parametrize(
        "target",
        [
            {"transfer": ["z", "x"]},
            {"transfer": ["z", "x"], "phase_slope": 0.3},
            {"rotation": {"axis": "x", "angle_deg": 90.0}},
            {"rotation": {"axis": "y", "angle_deg": 180.0, "sign_free": True}},
            {"saturation": "z"},
            {"transverse": "z"},
        ],
    )
    def test_they_are_those_of_the_kernel(self, target):
        problem = PulseProblem.from_job(job(target=target))
        x = problem.start(1)
        found = qualities(problem.pulse(x), problem.ensemble, problem.cost)
        assert np.allclose(found, problem.qualities(x), atol=1e-12)

    def test_with_a_response_the_spins_see_the_ring_down(self):
        response = Response(np.array([0.8, 0.3j]))
        seen = seen_by_spins(Pulse.from_polar([1e-6] * 3, [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]), response)
        assert seen.steps == 4
        assert np.allclose(seen.ux_hz + 1j * seen.uy_hz, [0.8, 1.6 + 0.3j, 0.6j, 0.0])


class TestDense:
    def test_it_lies_between_the_training_points_too(self):
        problem = PulseProblem.from_job(job())
        dense = dense_grid(problem, problem.pulse(problem.start(0)))
        assert dense.quality.shape == (DENSE_OFFSETS, DENSE_B1) == (401, 11)
        assert (dense.offset_hz[[0, -1]] == [-1500.0, 1500.0]).all()
        assert np.allclose(dense.b1[[0, -1]], [0.9, 1.1])

    def test_one_spin(self):
        problem = PulseProblem.from_job(job(ensemble={"offsets": 1, "b1_points": 1}))
        dense = dense_grid(problem, problem.pulse(problem.start(0)))
        assert dense.quality.shape == (1, 1)
        assert np.isclose(dense.mean, problem.quality(problem.start(0)), atol=1e-12)

    def test_what_no_band_judges_does_not_count(self):
        band = {"offset_hz": [-100.0, 100.0], "transfer": ["z", "x"]}
        problem = PulseProblem.from_job(job(target={"band": [band]}))
        dense = dense_grid(problem, problem.pulse(problem.start(0)))
        judged = np.abs(dense.offset_hz) <= 100.0
        assert np.isfinite(dense.quality[judged]).all() and np.isnan(dense.quality[~judged]).all()
        assert np.isclose(dense.mean, dense.quality[judged].mean())

    def test_its_numbers(self):
        quality = np.array([[0.5, np.nan], [1.0, 0.75]])
        dense = Dense(np.zeros(2), np.ones(2), quality)
        assert (dense.mean, dense.least) == (0.75, 0.5)
        assert np.isclose(dense.percentile_1, 0.505)


class TestWarnings:
    def test_a_coarse_grid(self):
        problem = PulseProblem.from_job(job(ensemble={"bandwidth_hz": 40_000.0}))
        (warning,) = grid_warnings(problem, problem.pulse(np.zeros(problem.size)))
        assert "6667 Hz between points, more than 1/(2T) = 5000 Hz" in warning

    def test_coarse_steps(self):
        problem = PulseProblem.from_job(job())
        pulse = Pulse.from_polar([5e-6] * 20, [40_000.0] * 20, [0.0] * 20)
        (warning,) = grid_warnings(problem, pulse)
        assert "up to 72 degrees in one step" in warning

    def test_none(self):
        problem = PulseProblem.from_job(job())
        assert grid_warnings(problem, problem.pulse(0.01 * problem.start(0))) == []
