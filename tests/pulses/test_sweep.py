"""The fused sweeps against direct sums: block layout and padding, every size of angle, threads, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exactgrad.kernels import threads
from exactgrad.pulses import kernel, sweep
from exactgrad.pulses.sweep import Sweep

SPINS = [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 200]
ANGLES = [0.0, 1e-9, 0.3, 0.99, 1.01, 1.9, 2.1, 3.9, 4.1, 7.9, 8.1, 30.0]  # rad per step, both sides of each halving
STEP_S = 5e-6
law = settings(deadline=None, derandomize=True, max_examples=200)


def case(spins: int, steps: int, angle: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, B1 and steps whose largest rotation vector has the length `angle`."""
    rng = np.random.default_rng(seed)
    offset, b1 = np.sort(rng.normal(size=spins)), rng.uniform(0.8, 1.2, spins)
    turns = np.vstack((rng.normal(size=(3, steps)), np.ones(steps)))
    longest = np.linalg.norm(step_vectors(offset, b1, turns), axis=-1).max()
    turns[:3] *= angle / longest
    turns[3] = 2 * np.pi * STEP_S
    return offset * angle / longest / turns[3, 0], b1, turns


def step_vectors(offset: np.ndarray, b1: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Rotation vectors, shape (N, S, 3)."""
    return np.stack(
        [np.outer(steps[0], b1), np.outer(steps[1], b1), np.outer(steps[3], offset) + steps[2][:, None]], -1
    )


def direct_turns(offset: np.ndarray, b1: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Total rotations as matrices, shape (S, 3, 3), by SciPy, spin after spin."""
    vectors = step_vectors(offset, b1, steps)
    totals = []
    for s in range(offset.size):
        total = np.eye(3)
        for t in vectors[:, s]:
            total = Rotation.from_rotvec(t).as_matrix() @ total
        totals.append(total)
    return np.array(totals)


def direct_gradient(offset: np.ndarray, b1: np.ndarray, steps: np.ndarray, m: np.ndarray) -> np.ndarray:
    """sum_s (B1, B1, 1) J(t)^T m_j with closed-form coefficients; complex numbers may pass, for complex steps."""
    vectors = step_vectors(offset, b1, steps)
    gradient = np.empty(vectors.shape[::2][::-1], dtype=vectors.dtype)
    m = m.T
    for j in range(steps.shape[1] - 1, -1, -1):
        t = vectors[j]
        x = (t * t).sum(-1)[:, None]
        near = np.abs(x) < 1e-2
        theta = np.sqrt(np.where(near, 1.0, x))
        b = np.where(
            near, 1 / 2 - x / 24 + x**2 / 720 - x**3 / 40320 + x**4 / 3628800, 2 * (np.sin(theta / 2) / theta) ** 2
        )
        c = np.where(
            near,
            1 / 6 - x / 120 + x**2 / 5040 - x**3 / 362880 + x**4 / 39916800,
            (1 - np.sin(theta) / theta) / theta**2,
        )
        g = m - b * np.cross(t, m) + c * np.cross(t, np.cross(t, m))
        gradient[:, j] = ((b1 * g.T[0]).sum(), (b1 * g.T[1]).sum(), g.T[2].sum())
        m = m - np.cross(t, g)
    return gradient


def matrices(turns: np.ndarray) -> np.ndarray:
    return Rotation.from_quat(turns.T, scalar_first=True).as_matrix()


@pytest.mark.parametrize("spins", SPINS)
@pytest.mark.parametrize("angle", ANGLES)
def test_turns_and_gradient_against_direct_sums(spins: int, angle: float) -> None:
    offset, b1, steps = case(spins, 5, angle)
    m = np.random.default_rng(1).normal(size=(3, spins))
    made = Sweep(offset, b1, 1)
    assert made.turns(steps).shape == (4, spins)
    assert np.abs(matrices(made.turns(steps)) - direct_turns(offset, b1, steps)).max() < 1e-13
    expected = direct_gradient(offset, b1, steps, m)
    assert np.abs(made.gradient(steps, m) - expected).max() < 1e-13 * np.abs(m).sum()


@pytest.mark.parametrize("spins", [1, 9, 33, 65])
@pytest.mark.parametrize("angle", ANGLES)
def test_tangents_against_complex_steps(spins: int, angle: float) -> None:
    offset, b1, steps = case(spins, 5, angle)
    rng = np.random.default_rng(2)
    changes, (m, dm) = rng.normal(size=(3, 5)), rng.normal(size=(2, 3, spins))
    made = Sweep(offset, b1, 1)
    tiny = 1e-40j
    moved = steps + tiny * np.vstack((changes, np.zeros(5)))
    expected = direct_gradient(offset, b1, moved, m + tiny * dm).imag / 1e-40
    assert np.abs(made.gradient_change(steps, changes, m, dm) - expected).max() < 1e-13 * np.abs(expected).max()
    # turning is the transpose of the gradient: m . turning = gradient . changes, spin by spin
    turning = made.turning(steps, changes)
    for s in {0, spins // 2, spins - 1}:
        alone = np.zeros((3, spins))
        alone[:, s] = m[:, s]
        assert m[:, s] @ turning[:, s] == pytest.approx(
            np.sum(direct_gradient(offset, b1, steps, alone) * changes), abs=1e-13 * np.abs(changes).sum()
        )


def test_work_of_the_largest_row_of_the_paper() -> None:
    """1505 spins: a narrow last block, idle lanes, many partitions."""
    offset, b1, steps = case(1505, 40, 1.5)
    m = np.random.default_rng(3).normal(size=(3, 1505)) / 1505
    made = Sweep(offset, b1, 2)
    assert made.padded > made.spins
    assert np.abs(matrices(made.turns(steps)) - direct_turns(offset, b1, steps)).max() < 1e-13
    assert np.abs(made.gradient(steps, m) - direct_gradient(offset, b1, steps, m)).max() < 1e-13


def test_the_oracle_sees_a_wrong_spin_a_wrong_step_and_a_wrong_sign() -> None:
    offset, b1, steps = case(9, 5, 0.99)
    m = np.random.default_rng(1).normal(size=(3, 9))
    expected = direct_gradient(offset, b1, steps, m)
    for planted in (
        Sweep(offset[:-1], b1[:-1]).gradient(steps, m[:, :-1]),
        Sweep(offset, b1).gradient(steps[:, ::-1].copy(), m)[:, ::-1],
        Sweep(-offset, b1).gradient(steps, m),
        Sweep(offset, np.ones(9)).gradient(steps, m),
    ):
        assert np.abs(planted - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("spins", [33, 500, 1505])
def test_results_are_bit_equal_for_any_number_of_threads(spins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WORTH_A_THREAD_S", 1e-9)
    monkeypatch.setattr(sweep, "PARTITION_S", 1e-7)
    monkeypatch.setattr(threads.Team, "for_each", lambda self, *work: threads.for_each(*work))
    offset, b1, steps = case(spins, 30, 1.5)
    rng = np.random.default_rng(4)
    changes, (m, dm) = rng.normal(size=(3, 30)), rng.normal(size=(2, 3, spins))

    def results(count: int) -> bytes:
        made = Sweep(offset, b1, count)
        parts = (
            made.turns(steps),
            made.gradient(steps, m),
            made.turning(steps, changes),
            made.gradient_change(steps, changes, m, dm),
        )
        return b"".join(part.tobytes() for part in parts)

    alone = results(1)
    assert all(results(count) == alone for count in range(1, 9) for _ in range(3))


@given(st.integers(1, 10**6))
@example(81)  # two blocks of 48 lanes: the most that is wasted beyond eight lanes
@law
def test_blocks_hold_every_spin_and_waste_little(spins: int) -> None:
    made = Sweep(np.zeros(spins), np.ones(spins))
    assert made.width % 8 == 0
    assert 8 <= made.width <= kernel.LANES
    assert made.blocks * made.width == made.padded >= spins
    assert made.padded <= max(1.19 * spins, spins + 8)


@given(st.integers(1, 10**5), st.integers(1, 10**5))
@law
def test_partitions_cover_every_block_once(spins: int, steps: int) -> None:
    made = Sweep(np.zeros(spins), np.ones(spins))
    bounds = made._partition(steps)
    assert bounds[0] == 0
    assert bounds[-1] == made.blocks
    assert np.all(np.diff(bounds) > 0)
    assert len(bounds) - 1 <= sweep.MOST_PARTITIONS


def test_no_array_of_steps_by_spins_is_made() -> None:
    spins, steps = 1505, 3000
    offset, b1, turns = case(spins, steps, 0.5)
    rng = np.random.default_rng(5)
    changes, m = rng.normal(size=(3, steps)), rng.normal(size=(3, spins))
    made = Sweep(offset, b1, 2)
    tracemalloc.start()
    made.turns(turns)
    made.gradient(turns, m)
    made.turning(turns, changes)
    made.gradient_change(turns, changes, m, m)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_array = 8 * steps * spins
    assert peak < one_array / 10
    assert peak < 24 * (sweep.MOST_PARTITIONS + 1) * steps + 8 * 40 * made.padded


def test_a_team_goes_alone_where_helpers_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    used, gain = [], [0.9]

    def fake(count, task, wanted):
        used.append(wanted)
        return gain[0] if wanted > 1 else 1.0

    monkeypatch.setattr(threads, "for_each", fake)
    team = threads.Team()
    for _ in range(1 + 4 + 1 + 8 + 1):
        team.for_each(10, int, 2)
    assert used == [2] + 4 * [1] + [2] + 8 * [1] + [2]
    used.clear()
    gain[0] = 1.9
    for _ in range(16 + 3):
        team.for_each(10, int, 2)
    assert used == 16 * [1] + 3 * [2]
    gain[0] = 0.9
    used.clear()
    for _ in range(1 + 4 + 1):
        team.for_each(10, int, 2)
    assert used == [2] + 4 * [1] + [2]  # a run that paid resets the wait
