"""An independent Bloch simulation, to check designs with: it shares no code with the kernel that designs them.

Units: Hz, seconds, radians. Without relaxation each step is an SU(2) propagator exp(-i t.I) in Cayley-Klein numbers;
with T1 and T2 each step is the exponential of the affine Bloch generator acting on the magnetisation. Both are exact
for a piecewise constant pulse, to rounding. The convention is the package's: t = 2 pi dt (B1 ux, B1 uy, offset + uz),
active and right-handed, so that offset > 0 turns x towards y and a 90 degree pulse of phase x turns z to -y.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from exactgrad.errors import InputError, require_finite, require_range, require_shape
from exactgrad.pulses.pulse import Pulse

TAYLOR_NORM = 2.0  # longest |t| (with relaxation) that one Taylor series takes: e^2 rounding errors at most
TAYLOR_TERMS = 26  # 2^27 / 27! = 1e-20
SHORTEST_RELAXATION_STEPS = 1e-2  # T1 and T2 must be longer than this many steps, so that the work stays bounded


def simulate(
    pulse: Pulse,
    offset_hz: np.ndarray,
    b1: np.ndarray,
    initial: np.ndarray,
    t1_s: float | None = None,
    t2_s: float | None = None,
    m0: float = 1.0,
    trajectory: bool = False,
) -> np.ndarray:
    """Turn the magnetisation of S spins through a pulse.

    Parameters
    ----------
    pulse : Pulse
        N piecewise constant steps.
    offset_hz, b1 : array_like, shape (S,)
        Offset in Hz and relative rf amplitude of each spin; B1 scales ux and uy, not uz.
    initial : array_like, shape (3,) or (S, 3)
        Magnetisation at the start.
    t1_s, t2_s : float, optional
        Longitudinal and transverse relaxation times in seconds; None is no relaxation.
    m0 : float
        Equilibrium magnetisation along z that T1 restores.
    trajectory : bool
        True returns every step.

    Returns
    -------
    ndarray, shape (S, 3), or (N + 1, S, 3) with `trajectory`
        Magnetisation at the end, or at the start and after each step.

    Raises
    ------
    InputError
        If a shape differs, a value is not finite, or a relaxation time is not positive or far shorter than a step.

    Examples
    --------
    A 90 degree pulse about x turns z to -y:

    >>> pulse = Pulse.from_polar([50e-6], amplitude_hz=[5000.0], phase_rad=[0.0])
    >>> simulate(pulse, [0.0], [1.0], [0.0, 0.0, 1.0]).round(12) + 0.0
    array([[ 0., -1.,  0.]])
    """
    offset, scale = _spins(offset_hz, b1)
    start = require_finite("initial", initial)
    if start.shape not in ((3,), (offset.size, 3)):
        raise InputError(f"initial: shape {start.shape} where (3,) or ({offset.size}, 3) is needed")
    start = np.broadcast_to(start, (offset.size, 3)).copy()
    if t1_s is None and t2_s is None:
        turns = _cayley_klein(pulse, offset, scale)
        if not trajectory:
            alpha, beta = _last(turns)
            return _turn(alpha, beta, start)
        states: Iterator[np.ndarray] = (_turn(alpha, beta, start) for alpha, beta in turns)
    else:
        rate1, rate2 = _relaxation_rate("t1_s", t1_s, pulse), _relaxation_rate("t2_s", t2_s, pulse)
        equilibrium = float(require_finite("m0", m0))
        states = _relaxing_states(pulse, offset, scale, start, rate1, rate2, equilibrium)
    return np.stack([start, *states]) if trajectory else _last(states)


def propagators(pulse: Pulse, offset_hz: np.ndarray, b1: np.ndarray) -> np.ndarray:
    """Return the total rotation of each spin as a unit quaternion, by products of SU(2) matrices.

    Parameters
    ----------
    pulse : Pulse
        N piecewise constant steps.
    offset_hz, b1 : array_like, shape (S,)
        Offset in Hz and relative rf amplitude of each spin.

    Returns
    -------
    ndarray, shape (S, 4)
        Quaternions (w, x, y, z) = (cos, n sin) of half the angle; the sign is that of the product of the steps, so a
        full turn is (-1, 0, 0, 0).

    Raises
    ------
    InputError
        If a shape differs or a value is not finite.

    Examples
    --------
    >>> pulse = Pulse.from_polar([100e-6], amplitude_hz=[5000.0], phase_rad=[0.0])
    >>> propagators(pulse, [0.0], [1.0]).round(12) + 0.0
    array([[0., 1., 0., 0.]])
    """
    offset, scale = _spins(offset_hz, b1)
    alpha, beta = _last(_cayley_klein(pulse, offset, scale))
    return np.stack([alpha.real, -beta.imag, beta.real, -alpha.imag], axis=-1)


def _last(states: Iterator[Any]) -> Any:
    return deque(states, maxlen=1)[0]


def _spins(offset_hz: np.ndarray, b1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offset = require_shape("offset_hz", require_finite("offset_hz", offset_hz, "Hz"), (None,))
    return offset, require_shape("b1", require_finite("b1", b1), offset.shape)


def _relaxation_rate(name: str, time_s: float | None, pulse: Pulse) -> float:
    if time_s is None:
        return 0.0
    shortest = SHORTEST_RELAXATION_STEPS * float(pulse.step_s.max())
    return 1.0 / require_range(name, time_s, "s", low=shortest)


def _angles(pulse: Pulse, step: int, offset: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, ...]:
    per_hz = 2 * np.pi * pulse.step_s[step]
    return (
        per_hz * scale * pulse.ux_hz[step],
        per_hz * scale * pulse.uy_hz[step],
        per_hz * (offset + pulse.uz_hz[step]),
    )


def _cayley_klein(pulse: Pulse, offset: np.ndarray, scale: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the first column (alpha, beta) of the accumulated U = [[alpha, -beta*], [beta, alpha*]] after each step."""
    alpha = np.ones(offset.size, dtype=complex)
    beta = np.zeros(offset.size, dtype=complex)
    for step in range(pulse.steps):
        x, y, z = _angles(pulse, step, offset, scale)
        half = np.sqrt(x * x + y * y + z * z) / 2
        sine = np.sinc(half / np.pi) / 2  # sin(|t|/2) / |t|, also at zero
        first = np.cos(half) - 1j * z * sine
        second = (y - 1j * x) * sine
        alpha, beta = first * alpha - second.conj() * beta, second * alpha + first.conj() * beta
        yield alpha, beta


def _turn(alpha: np.ndarray, beta: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Rotate Bloch vectors by U (v.sigma) U^dagger."""
    plus = vector[:, 0] + 1j * vector[:, 1]
    z = vector[:, 2]
    turned = alpha.conj() ** 2 * plus - beta**2 * plus.conj() + 2 * alpha.conj() * beta * z
    cross = alpha.conj() * beta.conj() * plus
    turned_z = (abs(alpha) ** 2 - abs(beta) ** 2) * z - 2 * cross.real
    return np.stack([turned.real, turned.imag, turned_z], axis=-1)


def _relaxing_states(
    pulse: Pulse,
    offset: np.ndarray,
    scale: np.ndarray,
    start: np.ndarray,
    rate1: float,
    rate2: float,
    m0: float,
) -> Iterator[np.ndarray]:
    """Yield the magnetisation after each step of dM/dt = omega x M - (M_x R2, M_y R2, (M_z - m0) R1)."""
    m = start.T
    for step in range(pulse.steps):
        dt = float(pulse.step_s[step])
        x, y, z = _angles(pulse, step, offset, scale)
        norm = float(np.sqrt(x * x + y * y + z * z).max()) + dt * max(rate1, rate2)
        pieces = max(1, int(np.ceil(norm / TAYLOR_NORM)))
        x, y, z, decay1, decay2 = x / pieces, y / pieces, z / pieces, rate1 * dt / pieces, rate2 * dt / pieces
        for _ in range(pieces):
            # exp of the affine generator on (1, M): M + sum of A^(k-1) (A M + b) / k!
            term = _generator(m, x, y, z, decay1, decay2)
            term[2] += decay1 * m0
            m = m + term
            for order in range(2, TAYLOR_TERMS + 1):
                term = _generator(term, x, y, z, decay1, decay2) / order
                m = m + term
        yield m.T


def _generator(m: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, decay1: float, decay2: float) -> np.ndarray:
    return np.stack(
        [
            y * m[2] - z * m[1] - decay2 * m[0],
            z * m[0] - x * m[2] - decay2 * m[1],
            x * m[1] - y * m[0] - decay1 * m[2],
        ]
    )
