"""A pulse design as a problem for a solver: controls -> limits -> waveform -> spins -> quality, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.transforms import Chain, EnergyScaling, EnergyTanh, Hold, Mirror, RadialTanh, Transform
from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.pulses import controls
from exactgrad.pulses.controls import CHANNELS, UNITS
from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.job import Aim, Job, read_job
from exactgrad.pulses.penalties import EnergyExcess, PeakExcess, Penalty, Smoothness
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.response import Response, read_response
from exactgrad.pulses.sweep import Sweep
from exactgrad.pulses.targets import (
    Bands,
    Cost,
    Rotation,
    Saturation,
    SmoothMinimum,
    Transfer,
    Transverse,
    WeightedMean,
    parse_axis,
    rotation_quaternion,
)


class PulseProblem:
    """The design problem of a job.

    Built by `from_job`. The vector x is dimensionless: channel after channel, one value a (free, unmirrored) step.

    Attributes
    ----------
    job : Job
    step_s : ndarray, shape (N,)
    ensemble : Ensemble
    cost : Cost
    objective : WeightedMean or SmoothMinimum
    size : int
        Length of x.
    scale_hz : float
        Amplitude that x = 1 stands for.

    Examples
    --------
    >>> p = PulseProblem.from_job({"pulse": {"duration_us": 50.0, "step_us": 1.0}, "target": {"transfer": ["z", "x"]},
    ...                            "ensemble": {"bandwidth_hz": 2000.0, "offsets": 3}})
    >>> value, gradient = p.value_and_gradient(p.start(seed=0))
    >>> 0 <= value <= 2, gradient.shape
    (True, (100,))
    """

    def __init__(self, job: Job, folder: Path = Path(), threads: int | None = None, text: str = ""):
        self.job, self.folder, self.text = job, folder, text
        self.step_s = job.pulse.step_s()
        self.ensemble = ensemble_of(job, folder)
        self.cost, weight = target_of(job, self.ensemble, float(self.step_s.sum()))
        self.weight = weight
        table = job.ensemble
        self.objective = WeightedMean() if table.objective == "mean" else SmoothMinimum(table.sharpness)
        self.scale_hz = _natural_scale(job, self.step_s)
        self.chain = Chain(tuple(_links(job, self.step_s, self.scale_hz)))
        self.response: Response | None = None
        if job.response is not None:
            self.response = read_response(folder / job.response.file, self.step_s)
        self.penalties = tuple(_penalties(job, self.step_s, self.scale_hz))
        mirrored = any(isinstance(link, Mirror) for link in self.chain.links)
        self.columns = -(-self.steps // 2) if mirrored else self.steps
        self.size = len(CHANNELS[job.pulse.controls]) * self.columns
        seen = self.step_s
        if self.response is not None:
            seen = np.full(self.steps + self.response.taps.size - 1, self.step_s[0])
        self._angle = 2 * np.pi * seen  # rad per Hz, each step that the spins see
        self._sweep = Sweep(self.ensemble.offset_hz, self.ensemble.b1, threads)

    @classmethod
    def from_job(cls, source: Any, threads: int | None = None) -> PulseProblem:
        """Build the problem of a TOML job file, or of its tables as a dict.

        Raises
        ------
        InputError
            One line that names the file, the key, the value, the unit and what is allowed.
        """
        job, folder, text = read_job(source)
        return cls(job, folder, threads, text)

    @property
    def steps(self) -> int:
        """Number of pulse steps N."""
        return self.step_s.size

    def limit_threads(self, threads: int | None) -> None:
        """Use at most so many threads in the sweeps; results do not depend on it."""
        self._sweep.threads = threads

    def start(self, seed: int = 0) -> np.ndarray:
        """Return the starting vector of the job's kind for this seed, shape (size,)."""
        from exactgrad.pulses.starts import start_vector

        return start_vector(self, seed)

    def pulse(self, x: np.ndarray) -> Pulse:
        """Return the pulse that x stands for, all limits applied (as the console plays it)."""
        ux, uy, uz = self.chain.apply(self._vector(x))
        return Pulse(self.step_s, ux, uy, uz)

    def parameters(self, x: np.ndarray) -> Parameters:
        """Return the channels of x in their units, and the ensemble as fixed parameters."""
        table = self._vector(x).reshape(-1, self.columns)
        scales = {"rad": 1.0, "Hz": self.scale_hz}
        channels = [
            Parameter(name, table[i] * scales[UNITS[name]], UNITS[name], aliases=_ALIASES[name], meaning=_MEANING[name])
            for i, name in enumerate(CHANNELS[self.job.pulse.controls])
        ]
        spins = [
            Parameter("offset", self.ensemble.offset_hz, "Hz", fixed=True, meaning="resonance offset of each spin"),
            Parameter("b1", self.ensemble.b1, "", fixed=True, meaning="rf field of each spin relative to nominal"),
        ]
        return Parameters((*channels, *spins))

    def qualities(self, x: np.ndarray) -> np.ndarray:
        """Return the quality of every spin, shape (S,)."""
        return self.cost.evaluate(self._sweep.turns(self._steps(self.chain.apply(self._vector(x)))))[0]

    def quality(self, x: np.ndarray) -> float:
        """Return the weighted mean quality over the ensemble (equal weights: the paper's Eq. 10)."""
        return WeightedMean().evaluate(self.qualities(x), self.weight)[0]

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return 1 - quality (the objective's: mean or smooth minimum), before penalties, and its exact gradient."""
        inputs = self.chain.trace(self._vector(x))
        steps = self._steps(inputs[-1])
        quality, m = self.cost.evaluate(self._sweep.turns(steps))
        total, share = self.objective.evaluate(quality, self.weight)
        gradient = self._sweep.gradient(steps, -share * m)
        return 1.0 - total, self.chain.pull_traced(inputs, self._pull_steps(inputs[-1], gradient))

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the sum of the penalties on the waveform and its exact gradient."""
        if not self.penalties:
            return 0.0, np.zeros(self.size)
        inputs = self.chain.trace(self._vector(x))
        parts = [penalty.evaluate(inputs[-1]) for penalty in self.penalties]
        return sum(value for value, _ in parts), self.chain.pull_traced(inputs, sum(g for _, g in parts))

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the exact Hessian of value + penalties at x times v, in O(steps + spins) memory."""
        inputs = self.chain.trace(self._vector(x))
        tangents = self.chain.push_traced(inputs, self._vector(v))
        u, du = inputs[-1], tangents[-1]
        steps, changes = self._steps(u), self._angle * (du if self.response is None else self.response.apply(du))
        turns = self._sweep.turns(steps)
        turning = self._sweep.turning(steps, changes)
        quality, m = self.cost.evaluate(turns)
        _, share = self.objective.evaluate(quality, self.weight)
        dshare = self.objective.tangent(quality, self.weight, np.sum(m * turning, axis=0))
        dm = dshare * m + share * self.cost.tangent(turns, turning)
        g = self._pull_steps(u, self._sweep.gradient(steps, -share * m))
        dg = self._pull_steps(u, self._sweep.gradient_change(steps, changes, -share * m, -dm))
        for penalty in self.penalties:
            g = g + penalty.evaluate(u)[1]
            dg = dg + penalty.tangent(u, du)
        return self.chain.pull_pair(inputs, tangents, g, dg)

    def off_kink(self, x: np.ndarray) -> np.ndarray | None:
        """Return x with larger amplitudes if it lies just inside the energy limit, so that the limit binds smoothly."""
        amplitudes = np.array([UNITS[name] == "Hz" and name != "z" for name in CHANNELS[self.job.pulse.controls]])
        for i, link in enumerate(self.chain.links):
            if not isinstance(link, EnergyScaling) or not amplitudes.any():
                continue
            before = Chain(self.chain.links[:i])
            if not 0.9 * link.limit <= link.factor(before.apply(x))[1] <= 1.001 * link.limit:
                return None
            for growth in (1.02, 1.05, 1.1, 1.2, 1.5, 2.0):
                larger = (x.reshape(-1, self.columns) * np.where(amplitudes, growth, 1.0)[:, None]).ravel()
                if link.factor(before.apply(larger))[1] > 1.01 * link.limit:
                    return larger
        return None

    def _vector(self, x: Any) -> np.ndarray:
        return require_shape("x", require_finite("x", x), (self.size,))

    def _steps(self, u: np.ndarray) -> np.ndarray:
        seen = u if self.response is None else self.response.apply(u)
        return np.vstack((self._angle * seen, self._angle))

    def _pull_steps(self, u: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        seen = self._angle * gradient
        return seen if self.response is None else self.response.pull(u, seen)


_ALIASES = {
    "x": ("ux", "ux_hz", "omega_x", "theta_x"),
    "y": ("uy", "uy_hz", "omega_y", "theta_y"),
    "z": ("uz", "uz_hz", "omega_z", "theta_z"),
    "amplitude": ("theta_xy", "nu_rf"),
    "phase": ("alpha",),
}
_MEANING = {
    "x": "rf amplitude along x, each step",
    "y": "rf amplitude along y, each step",
    "z": "offset control, each step",
    "amplitude": "rf amplitude, each step",
    "phase": "rf phase, each step",
}


def ensemble_of(job: Job, folder: Path) -> Ensemble:
    """Return the spins of a job: a grid, or a measured distribution from a file in `folder`."""
    table = job.ensemble
    if table.distribution is not None:
        if table.bandwidth_hz is not None or table.offsets_hz is not None:
            raise InputError("ensemble: give a distribution or offsets, not both")
        return Ensemble.from_csv(folder / table.distribution)
    if table.offsets_hz is not None:
        if table.bandwidth_hz is not None or table.offsets is not None:
            raise InputError("ensemble: give offsets_hz or bandwidth_hz with offsets, not both")
        offsets = np.array(table.offsets_hz)
    else:
        for key in ("bandwidth_hz", "offsets"):
            if getattr(table, key) is None:
                raise InputError(f"ensemble.{key}: missing (or give ensemble.offsets_hz, a list)")
        half = table.bandwidth_hz / 2
        offsets = table.centre_hz + (np.linspace(-half, half, table.offsets) if table.offsets > 1 else np.zeros(1))
    if table.b1 is not None:
        b1 = np.array(table.b1)
    else:
        spread = table.b1_spread
        b1 = np.linspace(1 - spread, 1 + spread, table.b1_points) if table.b1_points > 1 else np.ones(1)
    return Ensemble.from_grid(offsets, b1, table.offset_weights, table.b1_weights)


def target_of(job: Job, ensemble: Ensemble, duration_s: float) -> tuple[Cost, np.ndarray]:
    """Return the cost of all spins, and their weights (a band's weight multiplies those of its spins)."""
    table = job.target
    if not table.band:
        return _cost("target", table, ensemble.offset_hz, duration_s), ensemble.weight
    left = np.ones(ensemble.spins, dtype=bool)
    weight, members = np.zeros(ensemble.spins), []
    for i, band in enumerate(table.band):
        low, high = sorted(band.offset_hz)
        inside = left & (ensemble.offset_hz >= low) & (ensemble.offset_hz <= high)
        if band.b1 is not None:
            inside &= (ensemble.b1 >= min(band.b1)) & (ensemble.b1 <= max(band.b1))
        spins = np.flatnonzero(inside)
        if spins.size == 0:
            raise InputError(f"target.band.{i}: no spin of the ensemble lies in it (and in no band before it)")
        left &= ~inside
        weight[spins] = band.weight * ensemble.weight[spins]
        members.append((spins, _cost(f"target.band.{i}", band, ensemble.offset_hz[spins], duration_s)))
    if weight.sum() <= 0:
        raise InputError("target.band: all weights are zero")
    rest = np.flatnonzero(left)  # transition regions: judged by nothing
    if rest.size:
        members.append((rest, Transfer(np.array([[0.0], [0.0], [1.0]]), np.zeros((3, 1)))))
    return Bands(tuple(members)), weight / weight.sum()


def _cost(key: str, aim: Aim, offset_hz: np.ndarray, duration_s: float) -> Cost:
    if aim.transfer is not None:
        initial = parse_axis(f"{key}.transfer.0", aim.transfer[0])[:, None]
        target = parse_axis(f"{key}.transfer.1", aim.transfer[1])[:, None]
        if aim.phase_slope:
            angle = 2 * np.pi * aim.phase_slope * duration_s * offset_hz
            cos, sin = np.cos(angle), np.sin(angle)
            turned = (cos * target[0] - sin * target[1], sin * target[0] + cos * target[1])
            target = np.stack((*turned, np.broadcast_to(target[2], angle.shape)))
        return Transfer(initial, target)
    if aim.rotation is not None:
        axis = parse_axis(f"{key}.rotation.axis", aim.rotation.axis)
        quaternion = rotation_quaternion(axis, np.deg2rad(aim.rotation.angle_deg))
        return Rotation(quaternion[:, None], aim.rotation.sign_free)
    if aim.saturation is not None:
        axis = parse_axis(f"{key}.saturation", aim.saturation)[:, None]
        return Saturation(axis, axis)
    axis = parse_axis(f"{key}.transverse", aim.transverse)[:, None]
    return Transverse(axis, axis)


def _natural_scale(job: Job, step_s: np.ndarray) -> float:
    """Return the amplitude that suits x = 1: a limit, else what half the bandwidth or a turn needs."""
    limits, duration = job.limits, float(step_s.sum())
    if limits.peak_hz is not None:
        return float(np.max(limits.peak_hz))
    if limits.rms_hz is not None or limits.energy_hz2_s is not None:
        return float(np.sqrt(_energy_limit(job, step_s) / duration))
    return max((job.ensemble.bandwidth_hz or 0.0) / 2, 1.0 / duration)


def _energy_limit(job: Job, step_s: np.ndarray) -> float | None:
    """Return the energy, Hz^2 s, that the rms and the energy limit allow together."""
    limits = job.limits
    bounds = []
    if limits.rms_hz is not None:
        bounds.append(limits.rms_hz**2 * float(step_s.sum()))
    if limits.energy_hz2_s is not None:
        bounds.append(limits.energy_hz2_s)
    return min(bounds) if bounds else None


def _peak(job: Job, steps: int) -> np.ndarray | None:
    peak = job.limits.peak_hz
    if peak is None:
        return None
    peak = np.asarray(peak, dtype=float)
    if peak.ndim and peak.size != steps:
        raise InputError(f"limits.peak_hz: {peak.size} values for {steps} steps")
    return np.broadcast_to(peak, (steps,))


def _links(job: Job, step_s: np.ndarray, scale_hz: float) -> list[Transform]:
    """Return the way from x to the waveform: channels, symmetry, controls, peak, energy, held segments."""
    kind, limits, steps = job.pulse.controls, job.limits, step_s.size
    names = CHANNELS[kind]
    peak = _peak(job, steps)
    links: list[Transform] = [controls.Channels(len(names))]
    if job.pulse.symmetry is not None:
        links.append(Mirror(_signs(job, step_s), steps))
    if kind == "phase":
        links.append(controls.PhaseOnly(peak))
    elif names[0] == "amplitude":
        links.append(controls.Polar(scale_hz))
    else:
        links.append(controls.Cartesian(scale_hz))
    held, values = _held(job, step_s)
    if limits.enforce == "map":
        if peak is not None and kind != "phase":
            links.append(RadialTanh(peak))
        energy = _energy_limit(job, step_s)
        if energy is not None:
            taken = float(np.sum(step_s * held * (values[0] ** 2 + values[1] ** 2)))
            if taken >= energy:
                raise InputError(
                    f"pulse.hold: the held segments alone take {taken:g} Hz^2 s of {energy:g} Hz^2 s allowed"
                )
            tanh = limits.power_map == "tanh" or (
                limits.power_map is None and kind.startswith("reduced") and limits.peak_hz is None
            )
            links.append((EnergyTanh if tanh else EnergyScaling)(np.where(held, 0.0, step_s), energy - taken))
    if held.any():
        links.append(Hold(held, values))
    return links


def _signs(job: Job, step_s: np.ndarray) -> tuple[int, ...]:
    names, wish = CHANNELS[job.pulse.controls], job.pulse.symmetry
    if np.abs(step_s - step_s[::-1]).max() > 1e-9 * step_s.max():
        raise InputError("pulse.symmetry: the step lengths themselves are not symmetric in time")
    if isinstance(wish, str):
        wish = dict.fromkeys(names, wish)
    for name in (*wish, *names):
        if name not in names or name not in wish:
            raise InputError(
                f"pulse.symmetry.{name}: a parity for each of {', '.join(names)} is needed, and for nothing else"
            )
    return tuple(1 if wish[name] == "even" else -1 for name in names)


def _held(job: Job, step_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends_us = np.cumsum(step_s) * 1e6
    middles_us = ends_us - step_s * 5e5
    held, values = np.zeros(step_s.size, dtype=bool), np.zeros((3, step_s.size))
    for i, segment in enumerate(job.pulse.hold):
        inside = (middles_us >= segment.from_us) & (middles_us <= segment.to_us)
        if not inside.any() or segment.to_us > ends_us[-1] * (1 + 1e-9):
            raise InputError(
                f"pulse.hold.{i}: {segment.from_us:g} to {segment.to_us:g} us holds no step of 0 to {ends_us[-1]:g} us"
            )
        values[:, inside] = np.array([[segment.ux_hz], [segment.uy_hz], [segment.uz_hz]])
        held |= inside
    if held.all():
        raise InputError("pulse.hold: every step is held, nothing is left to design")
    return held, values


def _penalties(job: Job, step_s: np.ndarray, scale_hz: float) -> list[Penalty]:
    penalties: list[Penalty] = []
    if job.penalties.smoothness:
        penalties.append(Smoothness(job.penalties.smoothness, scale_hz))
    if job.limits.enforce == "penalty":
        peak, energy = _peak(job, step_s.size), _energy_limit(job, step_s)
        if peak is not None and job.pulse.controls != "phase":
            penalties.append(PeakExcess(job.limits.penalty_weight, peak, step_s / step_s.sum()))
        if energy is not None:
            penalties.append(EnergyExcess(job.limits.penalty_weight, step_s, energy))
    return penalties
