"""The independent simulation against closed forms and a slow loop of matrix exponentials."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest
from scipy.linalg import expm

from exactgrad.errors import InputError
from exactgrad.pulses import bloch
from exactgrad.pulses.bloch import propagators, simulate
from exactgrad.pulses.pulse import Pulse

X, Y, Z = np.eye(3)


def hard(turns: float, phase: float = 0.0, duration_s: float = 50e-6) -> Pulse:
    return Pulse.from_polar([duration_s], [turns / duration_s], [phase])


def random_pulse(steps: int, seed: int, z: bool = True) -> Pulse:
    rng = np.random.default_rng(seed)
    ux, uy, uz = rng.normal(0, 8e3, (3, steps))
    return Pulse(rng.uniform(5e-6, 50e-6, steps), ux, uy, uz if z else np.zeros(steps))


SPINS = (np.array([-6e3, -100.0, 0.0, 3e3, 12e3]), np.array([0.8, 1.0, 0.0, 1.1, 1.25]))


def generator(tx: float, ty: float, tz: float) -> np.ndarray:
    return np.array([[0.0, -tz, ty], [tz, 0.0, -tx], [-ty, tx, 0.0]])


def slow_loop(pulse: Pulse, offset: float, b1: float, start: np.ndarray, r1: float, r2: float, m0: float) -> np.ndarray:
    """4x4 affine generator on (1, M), one scipy exponential a step."""
    state = np.array([1.0, *start])
    for dt, ux, uy, uz in zip(pulse.step_s, pulse.ux_hz, pulse.uy_hz, pulse.uz_hz, strict=True):
        affine = np.zeros((4, 4))
        affine[1:, 1:] = 2 * np.pi * generator(b1 * ux, b1 * uy, offset + uz) - np.diag([r2, r2, r1])
        affine[3, 0] = r1 * m0
        state = expm(affine * dt) @ state
    return state[1:]


@pytest.mark.parametrize("relaxation", [None, (1e9, 1e9)])  # both ways through the simulation must know the sign
def test_sign_anchors(relaxation: tuple | None) -> None:
    t1, t2 = relaxation or (None, None)
    free = Pulse([25e-6], [0.0], [0.0], [0.0])
    tolerance = 1e-12
    assert np.allclose(simulate(free, [10e3], [1.0], X, t1, t2), [Y], atol=tolerance)  # offset > 0: x to y
    assert np.allclose(simulate(hard(0.25), [0.0], [1.0], Z, t1, t2), [-Y], atol=tolerance)  # 90 about x: z to -y
    assert np.allclose(simulate(hard(0.25, np.pi / 2), [0.0], [1.0], Z, t1, t2), [X], atol=tolerance)
    assert np.allclose(simulate(hard(0.25), [0.0], [2.0], Z, t1, t2), [-Z], atol=tolerance)  # B1 scales the angle


def test_offset_control_is_not_scaled_by_b1() -> None:
    pulse = Pulse([25e-6], [0.0], [0.0], [4e3])
    assert np.allclose(simulate(pulse, [6e3, 6e3], [0.5, 2.0], X), [Y, Y], atol=1e-14)


def test_off_resonance_hard_pulse_closed_form() -> None:
    """Rabi: M_z = 1 - 2 (nu1 / nu_eff)^2 sin^2(pi nu_eff t)."""
    offsets = np.linspace(-20e3, 20e3, 41)
    pulse = Pulse.from_polar([83e-6], [5e3], [0.4])
    effective = np.hypot(5e3, offsets)
    expected = 1 - 2 * (5e3 / effective) ** 2 * np.sin(np.pi * effective * 83e-6) ** 2
    assert np.allclose(simulate(pulse, offsets, np.ones(41), Z)[:, 2], expected, atol=2e-14)


@pytest.mark.parametrize("seed", [1, 2])
def test_equals_the_slow_loop_without_relaxation(seed: int) -> None:
    pulse, start = random_pulse(12, seed), np.array([0.3, -0.5, 0.7])
    expected = [slow_loop(pulse, o, b, start, 0.0, 0.0, 1.0) for o, b in zip(*SPINS, strict=True)]
    assert np.allclose(simulate(pulse, *SPINS, start), expected, atol=1e-13)


@pytest.mark.parametrize("t1, t2", [(3e-4, 1e-4), (None, 2e-4), (1e-3, None), (2e-6, 1e-6)])
def test_equals_the_slow_loop_with_relaxation(t1: float | None, t2: float | None) -> None:
    pulse, start = random_pulse(12, 3), np.array([0.3, -0.5, 0.7])
    rates = (0.0 if t1 is None else 1 / t1, 0.0 if t2 is None else 1 / t2)
    expected = [slow_loop(pulse, o, b, start, *rates, 0.6) for o, b in zip(*SPINS, strict=True)]
    assert np.allclose(simulate(pulse, *SPINS, start, t1, t2, m0=0.6), expected, atol=2e-13)


def test_t1_recovery_and_t2_decay_closed_form() -> None:
    free = Pulse(np.full(20, 1e-3), np.zeros(20), np.zeros(20), np.zeros(20))
    times = np.arange(21) * 1e-3
    path = simulate(free, [0.0, 37.0], [1.0, 1.0], [[0.0, 0.0, -1.0], X], 8e-3, 5e-3, m0=1.5, trajectory=True)
    assert np.allclose(path[:, 0, 2], 1.5 - 2.5 * np.exp(-times / 8e-3), atol=1e-14)
    expected = np.exp(-times / 5e-3) * np.exp(2j * np.pi * 37.0 * times)
    assert np.allclose(path[:, 1, 0] + 1j * path[:, 1, 1], expected, atol=1e-14)


def test_steady_field_reaches_the_bloch_steady_state() -> None:
    """M_ss = -A^-1 b after many relaxation times of continuous irradiation."""
    nu1, offset, r1, r2 = 40.0, 25.0, 1 / 0.02, 1 / 0.01
    pulse = Pulse(np.full(60, 0.02), np.full(60, nu1), np.zeros(60), np.zeros(60))
    matrix = 2 * np.pi * generator(nu1, 0.0, offset) - np.diag([r2, r2, r1])
    expected = np.linalg.solve(matrix, [0.0, 0.0, -r1])
    assert np.allclose(simulate(pulse, [offset], [1.0], Z, 1 / r1, 1 / r2), [expected], atol=1e-13)


def test_norm_is_conserved_over_many_steps() -> None:
    pulse = random_pulse(2000, 4)
    path = simulate(pulse, *SPINS, Z, trajectory=True)
    assert path.shape == (2001, 5, 3)
    assert np.abs(np.linalg.norm(path, axis=-1) - 1).max() < 1e-12
    assert np.array_equal(path[-1], simulate(pulse, *SPINS, Z))


def test_relaxation_shrinks_the_vector_and_no_relaxation_is_its_limit() -> None:
    pulse = random_pulse(30, 5)
    assert (np.linalg.norm(simulate(pulse, *SPINS, Z, 1e-3, 1e-3, m0=0.0), axis=-1) < 0.8).all()
    assert np.allclose(simulate(pulse, *SPINS, Z, 1e12, 1e12), simulate(pulse, *SPINS, Z), atol=1e-12)


def test_propagators_turn_the_axes_as_simulate_does() -> None:
    pulse = random_pulse(25, 6)
    w, x, y, z = propagators(pulse, *SPINS).T
    assert np.allclose(w * w + x * x + y * y + z * z, 1, atol=1e-13)
    columns = np.stack([simulate(pulse, *SPINS, axis) for axis in np.eye(3)], axis=-1)
    assert np.allclose(columns[:, 2, 1] - columns[:, 1, 2], 4 * w * x, atol=1e-13)  # R - R^T = 2 w [2 v]x
    assert np.allclose(columns[:, 0, 2] - columns[:, 2, 0], 4 * w * y, atol=1e-13)
    assert np.allclose(columns[:, 1, 0] - columns[:, 0, 1], 4 * w * z, atol=1e-13)
    assert np.allclose(np.trace(columns, axis1=1, axis2=2), 4 * w * w - 1, atol=1e-13)


def test_propagators_keep_the_sign_of_a_full_turn() -> None:
    assert np.allclose(propagators(hard(1.0), [0.0], [1.0]), [[-1.0, 0.0, 0.0, 0.0]], atol=1e-15)
    assert np.allclose(
        propagators(hard(0.25, 0.3), [0.0], [1.0])[0, 1:3], np.sqrt(0.5) * np.array([np.cos(0.3), np.sin(0.3)])
    )
    still = Pulse([1e-5], [0.0], [0.0], [0.0])
    assert np.array_equal(propagators(still, [0.0], [1.0]), [[1.0, 0.0, 0.0, 0.0]])


def test_shares_no_code_with_the_kernel_or_the_rotations() -> None:
    imported = {
        node.module for node in ast.walk(ast.parse(inspect.getsource(bloch))) if isinstance(node, ast.ImportFrom)
    }
    assert {name for name in imported if name.startswith("exactgrad")} == {"exactgrad.errors", "exactgrad.pulses.pulse"}


@pytest.mark.parametrize(
    "arguments, words",
    [
        (([0.0, 1.0], [1.0], Z), "b1: shape"),
        (([np.nan], [1.0], Z), r"offset_hz\[0\] = nan Hz"),
        (([0.0], [1.0], [0.0, 1.0]), "initial: shape"),
        (([0.0], [1.0], Z, 0.0), "t1_s = 0 s"),
        (([0.0], [1.0], Z, 1.0, 1e-12), "t2_s = 1e-12 s"),
        (([0.0], [1.0], Z, 1.0, 1.0, np.inf), "m0 = inf"),
    ],
)
def test_bad_input_is_named(arguments: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        simulate(hard(0.25), *arguments)
