"""The pulse equations stage by stage: the specification that the fused kernel is held to.

Each stage is a function with its tangent and its cotangent beside it, on whole arrays of N steps and S spins:

==== ================== ======================================================================================
1    rotation vectors   t_js = 2 pi dt_j (B1_s ux_j, B1_s uy_j, offset_s + uz_j)
2    step rotations     R_j = R(t_j);                    a change dt turns space by J(t_j) dt
3    total rotation     Q = Q_N ... Q_2 Q_1;             m_{j-1} = R_j^T m_j
4    quality            Phi_s(Q_s), `targets.py`;        dPhi_s = m_N . w for a small turn w of the end
5    objective          1 - mean or smooth minimum of the Phi_s;  its shares weight the m_N
==== ================== ======================================================================================

Units: u in Hz, steps in seconds, t in radians; small turns and cotangents m have shape (..., 3). Rotations are active
and right-handed. B1 scales ux and uy, not uz. Sources: Slad & Luy, with the audit's corrections: the 54 derivatives of
Tables 1-4 are [J e]x R, and m_j = rho_j x lambda_j (point to point) or vec(P_j X_j*)/2 (universal rotation).

Written to be read; nobody runs it for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.targets import Cost, SmoothMinimum, WeightedMean
from exactgrad.rotations import maps, quaternions

# Stage 1: rotation vectors ---------------------------------------------------------------------------------------


def rotation_vectors(u: np.ndarray, step_s: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """Return t, shape (N, S, 3), rad, of the waveforms u, shape (3, N), Hz."""
    t = rotation_vectors_tangent(u, step_s, ensemble)
    t[:, :, 2] += 2 * np.pi * np.outer(step_s, ensemble.offset_hz)
    return t


def rotation_vectors_tangent(du: np.ndarray, step_s: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """Return dt for a change du; the offsets do not change."""
    angle = 2 * np.pi * step_s
    scale = np.stack((ensemble.b1, ensemble.b1, np.ones(ensemble.spins)), axis=-1)
    return (angle * du).T[:, None, :] * scale


def rotation_vectors_cotangent(g: np.ndarray, step_s: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """Return the gradient by u, shape (3, N), of the gradient g by t: the sum over the spins."""
    scale = np.stack((ensemble.b1, ensemble.b1, np.ones(ensemble.spins)), axis=-1)
    return 2 * np.pi * step_s * np.sum(g * scale, axis=1).T


def rotation_vectors_by_offset(step_s: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """Return dt, shape (N, S, 3), where the offset of every spin grows by 1 Hz."""
    change = np.zeros((step_s.size, ensemble.spins, 3))
    change[:, :, 2] = 2 * np.pi * step_s[:, None]
    return change


def rotation_vectors_by_b1(u: np.ndarray, step_s: np.ndarray) -> np.ndarray:
    """Return dt, shape (N, 1, 3), where the rf field of every spin grows by the nominal one."""
    return (2 * np.pi * step_s * u * np.array([[1.0], [1.0], [0.0]])).T[:, None, :]


# Stage 2: step rotations -----------------------------------------------------------------------------------------


def step_turns(t: np.ndarray) -> np.ndarray:
    """Return the quaternions of the steps, shape (N, S, 4)."""
    return quaternions.from_rotation_vector(t)


def step_turns_tangent(t: np.ndarray, dt: np.ndarray) -> np.ndarray:
    """Return the small turns J(t) dt that changes dt of the rotation vectors cause."""
    return maps.left_jacobian_transpose_apply(-t, dt)  # J(t) = J(-t)^T


def step_turns_cotangent(t: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return J(t)^T m: the gradient by t, where m is the one by a small turn after the step."""
    return maps.left_jacobian_transpose_apply(t, m)


# Stage 3: total rotation -----------------------------------------------------------------------------------------


def total_turn(turns: np.ndarray) -> np.ndarray:
    """Return Q = Q_N ... Q_1, shape (S, 4), of the steps' quaternions."""
    total = np.tile([1.0, 0.0, 0.0, 0.0], (turns.shape[1], 1))
    for turn in turns:
        total = quaternions.multiply(turn, total)
    return total


def total_turn_tangent(turns: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Return the small turn of the end, w_j = R_j w_{j-1} + (small turn of step j), shape (S, 3)."""
    w = np.zeros((*turns.shape[1:-1], 3))
    for turn, change in zip(turns, small, strict=True):
        w = quaternions.rotate(turn, w) + change
    return w


def total_turn_cotangent(turns: np.ndarray, m_end: np.ndarray) -> np.ndarray:
    """Return m_j after each step, shape (N, S, 3), by the reversed sweep m_{j-1} = R_j^T m_j from m_N, shape (S, 3)."""
    m = np.empty((*turns.shape[:-1], 3))
    m[-1] = m_end
    for j in range(turns.shape[0] - 1, 0, -1):
        m[j - 1] = quaternions.rotate(quaternions.conjugate(turns[j]), m[j])
    return m


# Stages 4 and 5: quality of each spin, and the loss -----------------------------------------------------------------


def qualities(total: np.ndarray, cost: Cost) -> tuple[np.ndarray, np.ndarray]:
    """Return Phi, shape (S,), and m_N, shape (S, 3), of the total rotations."""
    quality, m = cost.evaluate(np.ascontiguousarray(total.T))
    return quality, m.T


def loss(quality: np.ndarray, objective: WeightedMean | SmoothMinimum, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """Return 1 - objective, and its derivative by each quality, shape (S,)."""
    total, share = objective.evaluate(quality, weight)
    return 1.0 - total, -share


@dataclass(frozen=True)
class Stages:
    """The equation sheet as data: a planted bug is one stage replaced."""

    rotation_vectors: Callable = rotation_vectors
    rotation_vectors_cotangent: Callable = rotation_vectors_cotangent
    step_turns: Callable = step_turns
    step_turns_cotangent: Callable = step_turns_cotangent
    total_turn: Callable = total_turn
    total_turn_cotangent: Callable = total_turn_cotangent
    qualities: Callable = qualities
    loss: Callable = loss


EQUATIONS = Stages()


def gradient_by_waveform(
    u: np.ndarray,
    step_s: np.ndarray,
    ensemble: Ensemble,
    cost: Cost,
    objective: WeightedMean | SmoothMinimum,
    weight: np.ndarray,
    stages: Stages = EQUATIONS,
) -> tuple[float, np.ndarray]:
    """Return the loss and its exact gradient by the waveforms that the spins see.

    Parameters
    ----------
    u : ndarray, shape (3, N), Hz
    step_s : ndarray, shape (N,), seconds
    ensemble : Ensemble
        S spins.
    cost, objective
        See `targets.py`.
    weight : ndarray, shape (S,)
        Weights of the spins, sum 1.
    stages : Stages
        The equations; others are planted bugs.

    Returns
    -------
    float
        1 - objective.
    ndarray, shape (3, N), per Hz

    Examples
    --------
    >>> from exactgrad.pulses.targets import Transfer
    >>> spin, up, minus_y = Ensemble.from_grid([0.0], [1.0]), np.eye(3)[:, 2:], -np.eye(3)[:, 1:2]
    >>> value, g = gradient_by_waveform(np.array([[2500.0], [0], [0]]), np.array([5e-5]), spin, Transfer(up, minus_y),
    ...                                 WeightedMean(), spin.weight)
    >>> round(1 - value, 12), (-g[0] * 5000).round(12)
    (0.707106781187, array([1.11072073]))
    """
    t = stages.rotation_vectors(u, step_s, ensemble)
    turns = stages.step_turns(t)
    quality, m_end = stages.qualities(stages.total_turn(turns), cost)
    value, share = stages.loss(quality, objective, weight)
    m = stages.total_turn_cotangent(turns, share[:, None] * m_end)
    return value, stages.rotation_vectors_cotangent(stages.step_turns_cotangent(t, m), step_s, ensemble)


def value_and_gradient(problem: PulseProblem, x: np.ndarray, stages: Stages = EQUATIONS) -> tuple[float, np.ndarray]:
    """Return the loss before penalties and its gradient by x: what `PulseProblem` computes with its kernel."""
    inputs = problem.chain.trace(np.asarray(x, dtype=float))
    u, step_s = seen_by_spins(problem, inputs[-1])
    value, g = gradient_by_waveform(
        u, step_s, problem.ensemble, problem.cost, problem.objective, problem.weight, stages
    )
    if problem.response is not None:
        g = problem.response.pull(inputs[-1], g)
    return value, problem.chain.pull_traced(inputs, g)


def value_tangent(problem: PulseProblem, x: np.ndarray, v: np.ndarray) -> float:
    """Return the derivative of the loss along v in forward mode, by the tangents of all stages."""
    inputs = problem.chain.trace(np.asarray(x, dtype=float))
    tangents = problem.chain.push_traced(inputs, np.asarray(v, dtype=float))
    (u, step_s), (du, _) = (seen_by_spins(problem, rows[-1]) for rows in (inputs, tangents))
    t = rotation_vectors(u, step_s, problem.ensemble)
    turns = step_turns(t)
    small = step_turns_tangent(t, rotation_vectors_tangent(du, step_s, problem.ensemble))
    quality, m_end = qualities(total_turn(turns), problem.cost)
    _, share = loss(quality, problem.objective, problem.weight)
    return float(share @ np.sum(m_end * total_turn_tangent(turns, small), axis=-1))


def seen_by_spins(problem: PulseProblem, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return waveforms and step lengths after the transmitter's response; the response is linear, so tangents too."""
    if problem.response is None:
        return u, problem.step_s
    seen = problem.response.apply(u)
    return seen, np.full(seen.shape[1], problem.step_s[0])


def kernel_error(problem: PulseProblem, x: np.ndarray, stages: Stages = EQUATIONS) -> tuple[float, str]:
    """Return the largest distance between the problem's kernel and the equation sheet, and where it is.

    The value's is absolute (qualities are of order one), the gradient's relative to the largest entry of either.
    """
    value, gradient = problem.value_and_gradient(x)
    expected_value, expected = value_and_gradient(problem, x, stages)
    apart = np.abs(gradient - expected)
    scale = max(np.abs(expected).max(), np.abs(gradient).max()) or 1.0
    error = float(apart.max() / scale)
    if not abs(value - expected_value) <= error:
        return abs(value - expected_value), "value"
    return error, problem.parameters(x).labels()[int(np.argmax(apart))]
