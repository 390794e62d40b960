"""The equation sheet and the fused kernel hold each other: every stage, every hard case, and one literal anchor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.core.verify import dot_test
from exactgrad.pulses import bloch, model
from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.sweep import Sweep
from exactgrad.pulses.targets import Transfer, WeightedMean, turn
from exactgrad.pulses.verification import adversarial_problems, example_problems, point
from exactgrad.rotations import quaternions

RNG = np.random.default_rng(3)
STEP_S = RNG.uniform(2e-6, 20e-6, 6)
U = RNG.normal(0, 8e3, (3, 6))
ENSEMBLE = Ensemble.from_grid([-6e3, 0.0, 2e3, 9e3], [0.8, 1.1])
T = model.rotation_vectors(U, STEP_S, ENSEMBLE)
TOLERANCE = 1e-12


@pytest.mark.parametrize("name", example_problems())
@pytest.mark.parametrize("seed", [0, 1])
def test_kernel_and_sheet_agree_on_every_example(name: str, seed: int) -> None:
    problem = example_problems()[name]
    error, where = model.kernel_error(problem, point(problem, seed, loud=seed == 0))
    assert error < TOLERANCE, where


@pytest.mark.parametrize("name", adversarial_problems(0))
@pytest.mark.parametrize("seed", range(4))
def test_kernel_and_sheet_agree_on_hard_cases(name: str, seed: int) -> None:
    error, where = model.kernel_error(*adversarial_problems(seed)[name])
    assert error < TOLERANCE, where


@settings(deadline=None, derandomize=True, max_examples=80)
@given(
    steps=st.integers(1, 9),
    spins=st.integers(1, 40),
    decade=st.floats(-6, 2.5),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["transfer", "rotation", "saturation", "transverse"]),
)
def test_kernel_and_sheet_agree_at_any_size_of_angle(
    steps: int, spins: int, decade: float, seed: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    aim = {"transfer": ["z", "x"], "rotation": {"axis": "y", "angle_deg": 90.0}}.get(kind, "z")
    problem = PulseProblem.from_job(
        {
            "pulse": {"steps_us": list(rng.uniform(1, 9, steps)), "controls": "xyz"},
            "target": {kind: aim},
            "ensemble": {"offsets_hz": list(rng.normal(0, 1e4, spins)), "b1": [float(rng.normal())]},
        }
    )
    x = 10.0**decade * rng.normal(size=problem.size) / problem.scale_hz / 5e-6
    error, where = model.kernel_error(problem, x)
    assert error < TOLERANCE * max(1.0, 10.0**decade), where


def test_anchor() -> None:
    """Phase x turns z to -y: after 45 degrees -y = sin 45, its slope by the amplitude cos 45 x 2 pi dt; by y, z 0."""
    spin = Ensemble.from_grid([0.0], [1.0])
    up, minus_y = np.array([[0.0], [0], [1]]), np.array([[0.0], [-1], [0]])
    value, g = model.gradient_by_waveform(
        np.array([[2500.0], [0], [0]]), np.array([5e-5]), spin, Transfer(up, minus_y), WeightedMean(), spin.weight
    )
    assert value == pytest.approx(1 - np.sqrt(0.5), abs=1e-15)
    assert g[:, 0] == pytest.approx([-np.sqrt(0.5) * 2 * np.pi * 5e-5, 0, 0], abs=1e-18)


def test_offset_turns_x_towards_y() -> None:
    spin = Ensemble.from_grid([1000.0], [1.0])
    t = model.rotation_vectors(np.zeros((3, 1)), np.array([250e-6]), spin)
    total = model.total_turn(model.step_turns(t)).T
    assert turn(total, np.array([[1.0], [0], [0]]))[:, 0] == pytest.approx([0, 1, 0], abs=1e-15)


def test_total_turn_is_the_independent_simulation() -> None:
    problem = example_problems()["saturation"]
    pulse = problem.pulse(problem.start(3))
    u = np.stack((pulse.ux_hz, pulse.uy_hz, pulse.uz_hz))
    total = model.total_turn(model.step_turns(model.rotation_vectors(u, pulse.step_s, ENSEMBLE)))
    expected = bloch.propagators(pulse, ENSEMBLE.offset_hz, ENSEMBLE.b1)
    assert np.abs(total - expected).max() < 1e-14  # the sign included


def central(function, h: float = 1e-3):
    """Sixth-order difference of function(e) at 0."""
    d = [(function(s) - function(-s)) / (2 * s) for s in (h, h / 2, h / 4)]
    first, second = (4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3
    return (16 * second - first) / 15


def small_turn(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Twice the vector part of after x before^-1: the small turn between quaternions of shape (..., 4)."""
    return 2 * quaternions.multiply(after, quaternions.conjugate(before))[..., 1:]


def test_stage_1_tangent_and_cotangent() -> None:
    du = RNG.normal(0, 1e3, U.shape)
    expected = central(lambda e: model.rotation_vectors(U + e * du, STEP_S, ENSEMBLE), 1.0)
    assert np.abs(model.rotation_vectors_tangent(du, STEP_S, ENSEMBLE) - expected).max() < 1e-12
    check = dot_test(
        lambda v: model.rotation_vectors_tangent(v, STEP_S, ENSEMBLE),
        lambda g: model.rotation_vectors_cotangent(g, STEP_S, ENSEMBLE),
        (U.shape, T.shape),
    )
    assert check.passed, check


@pytest.mark.parametrize("size", [0.0, 1e-9, 1.0, 20.0])
def test_stage_2_tangent_and_cotangent(size: float) -> None:
    t, dt = size * RNG.normal(size=T.shape), RNG.normal(size=T.shape)
    expected = central(lambda e: small_turn(model.step_turns(t), model.step_turns(t + e * dt)), 1e-2)
    assert np.abs(model.step_turns_tangent(t, dt) - expected).max() < 1e-10
    check = dot_test(
        lambda v: model.step_turns_tangent(t, v), lambda m: model.step_turns_cotangent(t, m), (T.shape, T.shape)
    )
    assert check.passed, check


def test_stage_3_tangent_and_cotangent() -> None:
    turns = model.step_turns(T)
    small = RNG.normal(size=T.shape)

    def end(e: float) -> np.ndarray:
        return model.total_turn(quaternions.multiply(quaternions.from_rotation_vector(e * small), turns))

    expected = central(lambda e: small_turn(end(0.0), end(e)), 1e-2)
    assert np.abs(model.total_turn_tangent(turns, small) - expected).max() < 1e-10
    check = dot_test(
        lambda w: model.total_turn_tangent(turns, w),
        lambda m: model.total_turn_cotangent(turns, m),
        (T.shape, T.shape[1:]),
    )
    assert check.passed, check


@pytest.mark.parametrize("name", example_problems())
def test_forward_mode_is_the_gradient_along_a_direction(name: str) -> None:
    problem = example_problems()[name]
    x = point(problem, 2, loud=True)
    _, gradient = problem.value_and_gradient(x)
    for v in RNG.normal(size=(3, x.size)):
        error = abs(model.value_tangent(problem, x, v) - gradient @ v)
        assert error < 1e-13 * np.linalg.norm(gradient) * np.linalg.norm(v)


@pytest.mark.parametrize("angle", [1e-3, 0.3, 2.0])
def test_round_off_of_the_reversed_sweep_over_100_000_steps(angle: float) -> None:
    """m_0 obtained backwards, step by step, against R_total^T m_N of the forward sweep."""
    steps = 100_000
    table = np.vstack((RNG.normal(0, angle, (3, steps + 1)), np.full(steps + 1, 1e-5)))
    table[:, 0] = 0.0  # a step of no rotation: its gradient is m_0
    m_end = RNG.normal(size=(3, 1))
    m_end /= np.linalg.norm(m_end)
    sweep = Sweep(np.array([700.0]), np.array([1.0]))
    total = sweep.turns(table)
    assert np.abs(np.linalg.norm(total) - 1) < 1e-11  # nothing is renormalised on the way
    m_start = sweep.gradient(table, m_end)[:, 0]
    assert np.abs(m_start - turn(quaternions.conjugate(total.T).T, m_end)[:, 0]).max() < 1e-11
    assert abs(np.linalg.norm(m_start) - 1) < 1e-11
