"""A pulse design as a problem for a solver: controls -> limits -> waveform -> spins -> quality, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.transforms import Chain, EnergyScaling, Mirror
from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.pulses.assemble import ensemble_of, links_of, natural_scale, penalties_of, target_of
from exactgrad.pulses.controls import CHANNELS, UNITS
from exactgrad.pulses.job import Job, read_job
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.response import Response, read_response
from exactgrad.pulses.sweep import Sweep
from exactgrad.pulses.targets import SmoothMinimum, WeightedMean


class PulseProblem:
    """The design problem of a job.

    Built by `from_job`. The vector x is dimensionless: channel after channel, one value a (free, unmirrored) step.

    Attributes
    ----------
    job : Job
    folder : Path
        Where files lie that the job names.
    text : str
        The job as it was written.
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
        self.cost, weight = target_of(job, self.ensemble, float(self.step_s.sum()), folder)
        self.weight = weight
        table = job.ensemble
        self.objective = WeightedMean() if table.objective == "mean" else SmoothMinimum(table.sharpness)
        self.scale_hz = natural_scale(job, self.step_s)
        self.chain = Chain(tuple(links_of(job, self.step_s, self.scale_hz)))
        self.response: Response | None = None
        if job.response is not None:
            self.response = read_response(folder / job.response.file, self.step_s)
        self.penalties = tuple(penalties_of(job, self.step_s, self.scale_hz))
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
        """Build the problem of a job.

        Parameters
        ----------
        source : path, or dict
            A TOML file, or the same tables as a dict.
        threads : int, optional
            At most so many threads; results do not depend on it.

        Returns
        -------
        PulseProblem

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
        """Return 1 - quality (the objective's: mean or smooth minimum), before penalties, and its exact gradient.

        Parameters
        ----------
        x : ndarray, shape (size,), float64
            Dimensionless, of order one.

        Returns
        -------
        value : float
        gradient : ndarray, shape (size,), float64

        Raises
        ------
        InputError
            If x is of another shape or not finite, or so large that rotation angles overflow.
        """
        inputs = self.chain.trace(self._vector(x))
        steps = self._steps(inputs[-1])
        quality, m = self.cost.evaluate(self._sweep.turns(steps))
        total, share = self.objective.evaluate(quality, self.weight)
        if not np.isfinite(total):
            raise InputError(f"x: rotation angles overflow (largest |x| = {np.abs(x).max():.1e}; order one is meant)")
        gradient = self._sweep.gradient(steps, -share * m)
        return 1.0 - total, self.chain.pull_traced(inputs, self._pull_steps(inputs[-1], gradient))

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the sum of the penalties on the waveform and its exact gradient."""
        if not self.penalties:
            return 0.0, np.zeros(self.size)
        inputs = self.chain.trace(self._vector(x))
        parts = [penalty.evaluate(inputs[-1]) for penalty in self.penalties]
        gradient = np.sum([g for _, g in parts], axis=0)
        return sum(value for value, _ in parts), self.chain.pull_traced(inputs, gradient)

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
