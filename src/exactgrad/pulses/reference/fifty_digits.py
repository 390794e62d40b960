"""The loss of a small pulse problem in 50-digit arithmetic, from the solver's vector to the last penalty.

It shares no code with what it judges: SU(2) propagators from axis and angle, density matrices, limits in the words of
the paper (tanh peak Eq. 37, power Eq. 46, exact scaling). The gradient is a central difference with a step of 1e-20,
good to 30 digits at every point, the singular ones included. Needs mpmath (the `test` extra).

Units as in the problem: x dimensionless, amplitudes in Hz, steps in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from exactgrad.errors import InputError
from exactgrad.pulses import targets
from exactgrad.pulses.assemble import INSIDE
from exactgrad.pulses.controls import CHANNELS
from exactgrad.pulses.problem import PulseProblem

DIGITS, STEP_EXPONENT = 50, -20
MOST_WORK = 4000  # steps x spins x unknowns: seconds


def loss_and_gradient(problem: PulseProblem, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return value + penalties and its gradient, shape (size,), rounded from 50 digits.

    Raises
    ------
    ImportError
        If mpmath is not installed.
    InputError
        If the problem is not small.

    Examples
    --------
    >>> job = {"pulse": {"duration_us": 10.0, "step_us": 10.0, "controls": "phase"}, "limits": {"peak_hz": 25000.0},
    ...        "target": {"transfer": ["z", "x"]}, "ensemble": {"offsets_hz": [0.0]}}
    >>> value, gradient = loss_and_gradient(PulseProblem.from_job(job), np.zeros(1))
    >>> value, gradient
    (1.0, array([-1.]))
    """
    import mpmath as mp

    if problem.steps * problem.ensemble.spins * problem.size > MOST_WORK:
        raise InputError(f"{problem.steps} steps x {problem.ensemble.spins} spins: too much for 50-digit arithmetic")
    with mp.workdps(DIGITS):
        point, step = [mp.mpf(float(value)) for value in x], mp.mpf(10) ** STEP_EXPONENT
        gradient = np.empty(len(point))
        for i in range(len(point)):
            ahead, behind = (_loss(problem, [*point[:i], point[i] + h, *point[i + 1 :]]) for h in (step, -step))
            gradient[i] = float((ahead - behind) / (2 * step))
        return float(_loss(problem, point)), gradient


def slope(problem: PulseProblem, x: np.ndarray, direction: np.ndarray) -> float:
    """Return the derivative of value + penalties along a direction, rounded from 50 digits.

    Raises
    ------
    ImportError
        If mpmath is not installed.

    Examples
    --------
    >>> job = {"pulse": {"duration_us": 10.0, "step_us": 10.0, "controls": "phase"}, "limits": {"peak_hz": 25000.0},
    ...        "target": {"transfer": ["z", "x"]}, "ensemble": {"offsets_hz": [0.0]}}
    >>> slope(PulseProblem.from_job(job), np.zeros(1), np.ones(1))
    -1.0
    """
    import mpmath as mp

    with mp.workdps(DIGITS):
        step = mp.mpf(10) ** STEP_EXPONENT
        ahead, behind = (
            _loss(problem, [mp.mpf(float(p)) + h * mp.mpf(float(q)) for p, q in zip(x, direction, strict=True)])
            for h in (step, -step)
        )
        return float((ahead - behind) / (2 * step))


def _loss(problem: PulseProblem, x: Sequence[Any]) -> Any:
    import mpmath as mp

    u = _waveform(problem, x)
    spins = [_propagator(problem, u, s) for s in range(problem.ensemble.spins)]
    quality = _qualities(problem.cost, spins)
    weight = [mp.mpf(float(w)) for w in problem.weight]
    if isinstance(problem.objective, targets.SmoothMinimum):
        k = mp.mpf(problem.objective.sharpness)
        total = -mp.log(mp.fsum(w * mp.exp(-k * q) for w, q in zip(weight, quality, strict=True))) / k
    else:
        total = mp.fsum(w * q for w, q in zip(weight, quality, strict=True))
    return 1 - total + _penalties(problem, u)


def _waveform(problem: PulseProblem, x: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    """Return (ux, uy, uz) of every step: channels, symmetry, peak limit, energy limit, held segments."""
    import mpmath as mp

    job, steps = problem.job, problem.steps
    names = CHANNELS[job.pulse.controls]
    columns = len(x) // len(names)
    channel = {name: list(x[i * columns : (i + 1) * columns]) for i, name in enumerate(names)}
    wish = job.pulse.symmetry
    if wish is not None:
        parity: dict[Any, str] = dict.fromkeys(names, wish) if isinstance(wish, str) else dict(wish)
        channel = {name: _mirrored(half, steps, parity[name]) for name, half in channel.items()}
    peaks = np.broadcast_to(np.nan if job.limits.peak_hz is None else np.array(job.limits.peak_hz), (steps,))
    scale, mapped = mp.mpf(problem.scale_hz), job.limits.enforce == "map"
    u = []
    for j in range(steps):
        uz = scale * channel["z"][j] if "z" in channel else mp.mpf(0)
        if "x" in channel:
            ux, uy = scale * channel["x"][j], scale * channel["y"][j]
        else:
            amplitude = scale * channel["amplitude"][j] if "amplitude" in channel else mp.mpf(float(peaks[j]))
            ux, uy = amplitude * mp.cos(channel["phase"][j]), amplitude * mp.sin(channel["phase"][j])
        if mapped and job.limits.peak_hz is not None and names != ("phase",):
            q = mp.sqrt(ux * ux + uy * uy) / mp.mpf(float(peaks[j] * INSIDE))
            factor = mp.tanh(q) / q if q else mp.mpf(1)
            ux, uy = factor * ux, factor * uy
        u.append((ux, uy, uz))
    held = _held(problem)
    if mapped:
        u = _energy_limited(problem, u, held)
    return [held.get(j, u[j]) for j in range(steps)]


def _mirrored(half: list[Any], steps: int, parity: str) -> list[Any]:
    sign = 1 if parity == "even" else -1
    whole = [half[j] if j < len(half) else sign * half[steps - 1 - j] for j in range(steps)]
    if steps % 2 and sign < 0:
        whole[steps // 2] = 0 * whole[steps // 2]
    return whole


def _held(problem: PulseProblem) -> dict[int, tuple[Any, Any, Any]]:
    import mpmath as mp

    held, end_us = {}, 0.0
    for j, step_s in enumerate(problem.step_s):
        middle_us, end_us = end_us + 5e5 * step_s, end_us + 1e6 * step_s
        for segment in problem.job.pulse.hold:
            if segment.from_us <= middle_us <= segment.to_us:
                held[j] = tuple(mp.mpf(value) for value in (segment.ux_hz, segment.uy_hz, segment.uz_hz))
    return held


def _energy(problem: PulseProblem, u: Sequence[tuple[Any, Any, Any]], which: Sequence[int]) -> Any:
    import mpmath as mp

    return mp.fsum(mp.mpf(float(problem.step_s[j])) * (u[j][0] ** 2 + u[j][1] ** 2) for j in which)


def _energy_allowed(problem: PulseProblem) -> Any:
    """Return the energy (Hz^2 s) that the rms and the energy limit allow together, or None."""
    import mpmath as mp

    limits = problem.job.limits
    duration = mp.fsum(mp.mpf(float(step)) for step in problem.step_s)
    bounds = [] if limits.rms_hz is None else [mp.mpf(limits.rms_hz) ** 2 * duration]
    bounds += [] if limits.energy_hz2_s is None else [mp.mpf(limits.energy_hz2_s)]
    return min(bounds) if bounds else None


def _energy_limited(problem: PulseProblem, u: list, held: dict) -> list:
    import mpmath as mp

    allowed = _energy_allowed(problem)
    if allowed is None:
        return u
    kind, limits = problem.job.pulse.controls, problem.job.limits
    free = [j for j in range(len(u)) if j not in held]
    allowed -= _energy(problem, [held.get(j, u[j]) for j in range(len(u))], list(held))
    allowed *= mp.mpf(INSIDE)
    energy = _energy(problem, u, free)
    smooth = limits.power_map == "tanh" or (
        limits.power_map is None and kind.startswith("reduced") and limits.peak_hz is None
    )
    if smooth:
        s = mp.sqrt(energy / allowed)
        factor = mp.tanh(s) / s if s else mp.mpf(1)
    else:
        factor = mp.mpf(1) if energy <= allowed else mp.sqrt(allowed / energy)
    return [(factor * ux, factor * uy, uz) for ux, uy, uz in u]


def _propagator(problem: PulseProblem, u: Sequence[tuple[Any, Any, Any]], spin: int) -> tuple[Any, Any]:
    """Return (a, b) of U = exp(-i t_N.I) ... exp(-i t_1.I) = [[a, -b*], [b, a*]]."""
    import mpmath as mp

    offset, b1 = (mp.mpf(float(row[spin])) for row in (problem.ensemble.offset_hz, problem.ensemble.b1))
    steps = [mp.mpf(float(step)) for step in problem.step_s]
    if problem.response is not None:
        u = _responded(u, problem.response.taps)
        steps = [steps[0]] * len(u)
    total = (mp.mpc(1), mp.mpc(0))
    for (ux, uy, uz), dt in zip(u, steps, strict=True):
        a, b = _step_turn(b1 * ux, b1 * uy, offset + uz, dt)
        total = (a * total[0] - mp.conj(b) * total[1], b * total[0] + mp.conj(a) * total[1])
    return total


@lru_cache(maxsize=4096)
def _step_turn(x: Any, y: Any, z: Any, dt: Any) -> tuple[Any, Any]:
    """Return (a, b) of one step, frequencies in Hz: differences by one unknown change few steps."""
    import mpmath as mp

    x, y, z = (2 * mp.pi * dt * value for value in (x, y, z))
    angle = mp.sqrt(x * x + y * y + z * z)
    c, s = mp.cos(angle / 2), (mp.sin(angle / 2) / angle if angle else mp.mpf("0.5"))
    return mp.mpc(c, -z * s), mp.mpc(y * s, -x * s)


def _responded(u: Sequence[tuple[Any, Any, Any]], taps: np.ndarray) -> list[tuple[Any, Any, Any]]:
    import mpmath as mp

    h = [mp.mpc(complex(tap)) for tap in taps]
    seen = []
    for j in range(len(u) + len(h) - 1):
        parts = [h[k] * mp.mpc(*u[j - k][:2]) for k in range(len(h)) if 0 <= j - k < len(u)]
        value = mp.fsum(parts)
        seen.append((mp.re(value), mp.im(value), u[j][2] if j < len(u) else mp.mpf(0)))
    return seen


def _qualities(cost: Any, spins: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Return Phi of every spin, by the definitions of `targets.py` on density matrices."""
    import mpmath as mp

    if isinstance(cost, targets.Bands):
        quality: list[Any] = [None] * len(spins)
        for members, part in cost.members:
            for place, value in zip(members, _qualities(part, [spins[i] for i in members]), strict=True):
                quality[place] = value
        return quality
    quality = []
    for s, (a, b) in enumerate(spins):
        if isinstance(cost, targets.Rotation):
            w, x, y, z = _column(cost.target, s)
            overlap = w * mp.re(a) - x * mp.im(b) + y * mp.re(b) - z * mp.im(a)
            quality.append(overlap**2 if cost.sign_free else overlap)
            continue
        rho = _turned(a, b, _column(cost.initial, s))
        axis = _column(cost.target if isinstance(cost, targets.Transfer) else cost.axis, s)
        along = mp.fsum(p * q for p, q in zip(rho, axis, strict=True))
        if isinstance(cost, targets.Transfer):
            quality.append(along)
        elif isinstance(cost, targets.Saturation):
            quality.append(1 - along**2)
        else:
            quality.append(mp.sqrt(mp.fsum((p - along * q) ** 2 for p, q in zip(rho, axis, strict=True))))
    return quality


def _column(values: np.ndarray, spin: int) -> list[Any]:
    import mpmath as mp

    return [mp.mpf(float(value)) for value in values[:, spin if values.shape[1] > 1 else 0]]


def _turned(a: Any, b: Any, v: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Return the vector of U (v.sigma) U^+."""
    import mpmath as mp

    x, y, z = v
    left = (a * z - mp.conj(b) * mp.mpc(x, y), a * mp.mpc(x, -y) + mp.conj(b) * z)
    right = (b * z + mp.conj(a) * mp.mpc(x, y), b * mp.mpc(x, -y) - mp.conj(a) * z)
    up = left[0] * mp.conj(a) - left[1] * b
    across = right[0] * mp.conj(a) - right[1] * b
    return mp.re(across), mp.im(across), mp.re(up)


def _penalties(problem: PulseProblem, u: Sequence[tuple[Any, Any, Any]]) -> Any:
    import mpmath as mp

    job, total = problem.job, mp.mpf(0)
    if job.penalties.smoothness:
        jumps = mp.fsum((p - q) ** 2 for j in range(1, len(u)) for p, q in zip(u[j], u[j - 1], strict=True))
        total += mp.mpf(job.penalties.smoothness) * jumps / (mp.mpf(problem.scale_hz) ** 2 * len(u))
    if job.limits.enforce != "penalty":
        return total
    weight, dt = mp.mpf(job.limits.penalty_weight), [mp.mpf(float(step)) for step in problem.step_s]
    if job.limits.peak_hz is not None and job.pulse.controls != "phase":
        peaks = np.broadcast_to(np.array(job.limits.peak_hz, dtype=float), (len(u),))
        over = [max(0, (ux**2 + uy**2) / mp.mpf(float(p)) ** 2 - 1) for (ux, uy, _), p in zip(u, peaks, strict=True)]
        total += weight * mp.fsum(step * o**2 for step, o in zip(dt, over, strict=True)) / mp.fsum(dt)
    allowed = _energy_allowed(problem)
    if allowed is not None:
        total += weight * max(0, _energy(problem, u, range(len(u))) / allowed - 1) ** 2
    return total
