"""The gradient of whole problems against 50-digit arithmetic: every target, control set and limit; singular points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from exactgrad.core.solve import total_loss
from exactgrad.core.transforms import EnergyScaling
from exactgrad.errors import InputError
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.reference.fifty_digits import loss_and_gradient
from exactgrad.pulses.verification import example_problems, singular_points, smaller_problem

TOLERANCE = 1e-11  # of max |g|
TARGETS = {
    "transfer": {"transfer": ["z", [0.6, 0.0, 0.8]]},
    "slope": {"transfer": ["z", "x"], "phase_slope": 0.4},
    "rotation": {"rotation": {"axis": "y", "angle_deg": 90.0}},
    "sign free": {"rotation": {"axis": [1.0, 2.0, -1.0], "angle_deg": 200.0, "sign_free": True}},
    "saturation": {"saturation": "z"},
    "transverse": {"transverse": [0.0, 0.6, 0.8]},
}
CONTROLS = ("xy", "xyz", "polar", "polar-z", "phase", "reduced", "reduced-z")
LIMITS = {
    "none": {},
    "peak": {"peak_hz": 20000.0},
    "rms": {"rms_hz": 11000.0},
    "peak, rms": {"peak_hz": 20000.0, "rms_hz": 9000.0},
    "peak, energy tanh": {"peak_hz": [20000.0, 9000.0], "energy_hz2_s": 3500.0, "power_map": "tanh"},
    "penalty": {"peak_hz": 15000.0, "rms_hz": 9000.0, "enforce": "penalty"},
}
COMBINATIONS = [
    combination
    for combination in itertools.product(TARGETS, CONTROLS, LIMITS)
    if combination[1] != "phase" or "peak" in combination[2] or combination[2] == "penalty"
]


def build(target: dict, controls: str, limits: dict, **ensemble) -> PulseProblem:
    return PulseProblem.from_job(
        {
            "pulse": {"steps_us": [13.0, 22.0], "controls": controls},
            "target": target,
            "ensemble": {"offsets_hz": [0.0, 6300.0], "b1": [1.1], **ensemble},
            "limits": limits,
        }
    )


def error_of(problem: PulseProblem, x: np.ndarray) -> float:
    value, gradient = total_loss(problem)(x)
    expected_value, expected = loss_and_gradient(problem, x)
    assert value == pytest.approx(expected_value, rel=1e-14, abs=1e-14)
    assert np.isfinite(gradient).all()
    return np.abs(gradient - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("target, controls, limits", COMBINATIONS)
def test_every_target_control_and_limit(target: str, controls: str, limits: str) -> None:
    problem = build(TARGETS[target], controls, LIMITS[limits])
    x = 2.5 * problem.start(len(target) + 10 * len(limits))
    assert error_of(problem, x) < TOLERANCE


@pytest.mark.parametrize("name", example_problems())
def test_examples_with_symmetry_hold_response_and_bands(name: str) -> None:
    """The examples themselves, on a tenth of their work: the spins that differ most."""
    problem = smaller_problem(name)
    assert error_of(problem, problem.start(1)) < TOLERANCE


@pytest.mark.parametrize("objective", ["mean", "worst"])
def test_objectives_and_weights(objective: str) -> None:
    problem = build(
        TARGETS["transfer"],
        "xyz",
        {},
        objective=objective,
        sharpness=9.0,
        offset_weights=[1.0, 3.0],
        b1=[-0.9, 0.0, 1.0],
    )
    assert error_of(problem, 2.0 * problem.start(5)) < TOLERANCE


@pytest.mark.parametrize("name", singular_points())
def test_singular_points(name: str) -> None:
    """Zero angles and amplitudes, targets reached: finite, and equal to the true derivative (absolutely, at 0)."""
    problem, x = singular_points()[name]
    _, gradient = total_loss(problem)(x)
    _, expected = loss_and_gradient(problem, x)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient - expected).max() <= TOLERANCE * max(np.abs(expected).max(), 1e-3)
    hessian = problem.hessian_product(x, np.ones(x.size))
    assert np.isfinite(hessian).all()


def test_singular_points_are_singular() -> None:
    """They are what their names say: otherwise the test above shows nothing."""
    points = singular_points()
    for name, (problem, x) in points.items():
        u = problem.chain.apply(x)
        if name.startswith(("t = 0", "amplitude 0")):
            assert not u[:2].any()
            assert 0.0 in problem.ensemble.offset_hz
        if "Mz = 0" in name:
            assert problem.quality(x) == pytest.approx(1, abs=1e-15)
        if "cusp" in name:
            assert problem.quality(x) == 0
        if "full turn" in name:
            assert np.hypot(*u[:2, 0]) * 1.05 * 10e-6 == pytest.approx(1, abs=1e-15)
        if "one blanked" in name:
            assert not u[:, 1].any()
    assert len(points) >= 10


@pytest.mark.parametrize("angle", [1e-300, 1e-150, 1e-12, 1e-8, 1e-4, np.pi, 2 * np.pi, 20.0])
def test_gradient_at_angles_where_closed_forms_break(angle: float) -> None:
    problem = PulseProblem.from_job(
        {
            "pulse": {"duration_us": 30.0, "step_us": 10.0, "controls": "xyz"},
            "target": {"rotation": {"axis": "x", "angle_deg": 70.0}},
            "ensemble": {"offsets_hz": [0.0], "b1": [1.0]},
        }
    )
    unit = np.array([[1, 0.6, 0.0], [0, 0.8, 0.6], [0, 0, 0.8]])
    x = (unit * angle / (2 * np.pi * 1e-5) / problem.scale_hz).ravel()
    assert error_of(problem, x) < TOLERANCE


def binding(rms_hz: float) -> PulseProblem:
    return PulseProblem.from_job(
        {
            "pulse": {"duration_us": 40.0, "step_us": 20.0},
            "target": {"transfer": ["z", "x"]},
            "ensemble": {"offsets_hz": [0.0, 3000.0]},
            "limits": {"rms_hz": rms_hz},
        }
    )


def test_where_a_limit_begins_to_bind_the_gradient_is_the_one_from_inside() -> None:
    link = EnergyScaling(np.ones(2), 50.0)
    u = np.array([[3.0, 4.0], [4.0, 3.0], [1.0, 1.0]])  # energy 50: the limit to the last bit
    g = np.random.default_rng(0).normal(size=u.shape)
    assert np.array_equal(link.apply(u), u)
    assert np.array_equal(link.pull(u, g), g)
    outside = link.pull(u * (1 + 1e-15), g)
    inward = np.sum(u[:2] * g[:2])
    assert np.sum(u[:2] * outside[:2]) == pytest.approx(0, abs=1e-13)  # from outside, growing does nothing
    assert abs(inward) > 1

    problem = binding(7000.0)
    x = np.array([0.6, 0.6, 0.8, 0.8])  # rms of exactly the limit, give or take a rounding
    for shrink in (1.0, 1 - 1e-9, 1 - 1e-4):
        inside = total_loss(problem)(shrink * x * (1 - 1e-13))[1]
        assert np.isfinite(inside).all()
        free = total_loss(binding(70000.0))(0.1 * shrink * x * (1 - 1e-13))[1]
        assert np.abs(inside - 0.1 * free).max() < 1e-10 * np.abs(inside).max()
    outside = total_loss(problem)((1 + 1e-12) * x)[1]
    assert abs(outside @ x) < 1e-14  # the scaling takes every growth away
    for point in (0.999 * x, 1.001 * x):  # beside the kink both sides are exact
        assert error_of(problem, point) < TOLERANCE


def test_the_modulus_at_its_cusp_has_the_mean_of_the_one_sided_slopes() -> None:
    problem, x = singular_points()["|Mxy| = 0, the cusp"]
    loss = total_loss(problem)
    _, gradient = loss(x)
    assert not gradient.any()
    for v in np.eye(x.size):
        slopes = [(loss(x + h * v)[0] - loss(x)[0]) / h for h in (1e-7, -1e-7)]
        assert sum(slopes) == pytest.approx(0, abs=1e-6)
        assert abs(slopes[0]) > 0.1  # a cusp, not a flat spot


def test_fifty_digits_refuse_a_large_problem() -> None:
    problem = PulseProblem.from_job(
        {
            "pulse": {"duration_us": 500.0, "step_us": 1.0},
            "target": {"transfer": ["z", "x"]},
            "ensemble": {"bandwidth_hz": 1000.0, "offsets": 3},
        }
    )
    with pytest.raises(InputError, match="too much for 50-digit arithmetic"):
        loss_and_gradient(problem, problem.start(0))


def test_fifty_digits_are_not_a_mirror() -> None:
    """The reference is judged too: by a closed form that neither it nor the problem contains."""
    problem = PulseProblem.from_job(
        {
            "pulse": {"duration_us": 10.0, "step_us": 10.0, "controls": "xyz"},
            "target": {"transfer": ["z", "-y"]},
            "ensemble": {"offsets_hz": [0.0], "b1": [1.2]},
        }
    )
    x = np.array([0.13, 0.0, 0.0])
    angle = 2 * np.pi * 1e-5 * 1.2 * problem.scale_hz * 0.13
    value, gradient = loss_and_gradient(problem, x)
    assert value == pytest.approx(1 - np.sin(angle), abs=1e-15)
    assert gradient == pytest.approx([-np.cos(angle) * angle / 0.13, 0, 0], abs=1e-14)
