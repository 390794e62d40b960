"""The gradient of a whole pulse by the paper's own methods, to compare the kernel with.

Units: the controls are in Hz, the step angles t = 2 pi dt (B1 ux, B1 uy, offset + uz) in radians. The trajectories of
state and co-state are stored, as the paper does, and every derivative of a step is formed (Eqs. 24, 25, 35, 36; Eq. 17
with its index corrected: lambda_j = R_{j+1}^T ... R_N^T lambda_F). Written to be compared with, not to be fast.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.reference import augmented, finite_difference, grape, steps, tables

METHODS = ("tables", "grape", "augmented", "finite-difference", "finite-difference-cost")
COST_STEP_RAD = 2.0**-17  # cube root of the rounding error: best for central differences

_MATRIX_DERIVATIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tables": tables.table_derivatives_cartesian,
    "grape": lambda theta: _by_control(grape.first_order_matrix, theta, -3),
    "augmented": lambda theta: _by_control(lambda t, k: augmented.augmented_exponential(t, k)[1], theta, -3),
    "finite-difference": lambda theta: _by_control(finite_difference.difference_matrix, theta, -3),
}
_QUATERNION_DERIVATIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tables": tables.quaternion_derivatives_cartesian,
    "grape": lambda theta: _by_control(grape.first_order_quaternion, theta, -2),
    "augmented": lambda theta: _by_control(lambda t, k: augmented.augmented_quaternion(t, k)[1], theta, -2),
    "finite-difference": lambda theta: _by_control(finite_difference.difference_quaternion, theta, -2),
}


def gradient(
    method: str, pulse: Pulse, offset_hz: np.ndarray, b1: np.ndarray, weights: np.ndarray, cost: tuple
) -> tuple[float, np.ndarray]:
    """Return a weighted sum of costs over the spins and its gradient, by one of the paper's methods.

    Parameters
    ----------
    method : str
        "tables" (Tables 1, 2, 5: exact, NaN where a step of a spin has no rotation), "augmented" (exact), "grape"
        (first order), "finite-difference" (of each step), "finite-difference-cost" (of the whole cost).
    pulse : Pulse
        N steps.
    offset_hz, b1, weights : array_like, shape (S,)
        Offset (Hz), relative rf amplitude and weight of each spin.
    cost : tuple
        ("transfer", rho0, target): <target|R_N ... R_1 rho0>, vectors of shape (3,) or (S, 3) (Eq. 24);
        ("rotation", q_target): q_target . Q_N ... Q_1, quaternions (w, x, y, z) of shape (4,) or (S, 4) (Eq. 35; its
        sign counts: -q_target is the same rotation but the opposite cost).

    Returns
    -------
    value : float
        The weighted sum of the costs.
    gradient : ndarray, shape (3, N), per Hz
        Derivatives by ux_hz, uy_hz and uz_hz.

    Raises
    ------
    InputError
        If the method or the cost is unknown or a shape differs.

    Examples
    --------
    >>> pulse = Pulse.from_polar([25e-6], amplitude_hz=[5000.0], phase_rad=[0.0])
    >>> value, g = gradient("tables", pulse, [0.0], [1.0], [1.0], ("transfer", [0, 0, 1], [0, -1, 0]))
    >>> round(value, 12), (g[0] * 5000).round(12)
    (0.707106781187, array([0.55536037]))
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: must be one of {', '.join(METHODS)}")
    offset = require_shape("offset_hz", require_finite("offset_hz", offset_hz, "Hz"), (None,))
    scale = require_shape("b1", require_finite("b1", b1), offset.shape)
    weights = require_shape("weights", require_finite("weights", weights), offset.shape)
    start, target = _ends(cost, offset.size)
    controls = np.stack([pulse.ux_hz, pulse.uy_hz, pulse.uz_hz])
    if method == "finite-difference-cost":
        return _differences_of_cost(pulse, controls, offset, scale, weights, start, target)
    theta = step_angles(pulse, controls, offset, scale)
    if start.shape[-1] == 3:
        turns, derivatives = steps.rotation_matrices(theta), _MATRIX_DERIVATIVES[method](theta)
    else:
        turns = _left_matrices(steps.step_quaternions(theta))
        derivatives = _left_matrices(_QUATERNION_DERIVATIVES[method](theta))
    states, costates = _trajectories(turns, start, target)
    per_angle = np.einsum("nsi,nskij,nsj->ksn", costates, derivatives, states[:-1])
    value = float(weights @ (target * states[-1]).sum(axis=-1))
    angle_per_hz = 2 * np.pi * pulse.step_s * np.stack([scale, scale, np.ones_like(scale)])[:, :, None]
    return value, np.einsum("s,ksn->kn", weights, per_angle * angle_per_hz)


def step_angles(pulse: Pulse, controls: np.ndarray, offset: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return rotation vectors, shape (N, S, 3), radians, of controls (ux, uy, uz) of shape (3, N), Hz."""
    ux, uy, uz = (row[:, None] for row in controls)
    hz = np.stack(np.broadcast_arrays(ux * scale, uy * scale, offset + uz), axis=-1)
    return 2 * np.pi * pulse.step_s[:, None, None] * hz


def _by_control(derivative: Callable[[np.ndarray, str], np.ndarray], theta: np.ndarray, axis: int) -> np.ndarray:
    return np.stack([derivative(theta, control) for control in "xyz"], axis=axis)


def _ends(cost: tuple, spins: int) -> tuple[np.ndarray, np.ndarray]:
    kind, *vectors = cost
    if kind == "transfer" and len(vectors) == 2:
        names, length = ("rho0", "target"), 3
    elif kind == "rotation" and len(vectors) == 1:
        names, length, vectors = ("start", "q_target"), 4, [[1.0, 0.0, 0.0, 0.0], *vectors]
    else:
        raise InputError(f"cost {kind!r}: ('transfer', rho0, target) or ('rotation', q_target) is needed")
    arrays = [require_finite(name, vector) for name, vector in zip(names, vectors, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if array.shape not in ((length,), (spins, length)):
            raise InputError(f"{name}: shape {array.shape} where ({length},) or ({spins}, {length}) is needed")
    start, target = (np.broadcast_to(array, (spins, length)) for array in arrays)
    return start, target


def _left_matrices(q: np.ndarray) -> np.ndarray:
    """Return the 4 x 4 matrices of "multiply by q from the left" (Eq. 34), shape (..., 4, 4)."""
    return np.stack([steps.product(q, unit) for unit in np.eye(4)], axis=-1)


def _trajectories(turns: np.ndarray, start: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return states 0..N, shape (N + 1, S, d), and the co-states after steps 1..N, shape (N, S, d)."""
    states, costates = [start], [target]
    for turn in turns:
        states.append(np.einsum("sij,sj->si", turn, states[-1]))
    for turn in turns[:0:-1]:
        costates.append(np.einsum("sji,sj->si", turn, costates[-1]))
    return np.stack(states), np.stack(costates[::-1])


def _differences_of_cost(
    pulse: Pulse,
    controls: np.ndarray,
    offset: np.ndarray,
    scale: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    target: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Central differences of the whole cost: 6 N simulations."""

    def value(shifted: np.ndarray) -> float:
        theta = step_angles(pulse, shifted, offset, scale)
        state = start
        if start.shape[-1] == 3:
            for turn in steps.rotation_matrices(theta):
                state = np.einsum("sij,sj->si", turn, state)
        else:
            for turn in steps.step_quaternions(theta):
                state = steps.product(turn, state)
        return float(weights @ (target * state).sum(axis=-1))

    slopes = np.empty_like(controls)
    for index in np.ndindex(*controls.shape):
        shift = np.zeros_like(controls)
        shift[index] = COST_STEP_RAD / (2 * np.pi * pulse.step_s[index[1]])
        slopes[index] = (value(controls + shift) - value(controls - shift)) / (2 * shift[index])
    return value(controls), slopes
