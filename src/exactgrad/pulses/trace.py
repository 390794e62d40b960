"""The trace of a pulse's parameters: from a waveform, an offset or the rf field to the quality, and back.

A name alone moves all steps together ("amplitude": each by 1 Hz); with an index it moves one ("amplitude[17]").
"""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from exactgrad.core.trace import Picture, Stage, Trace, confusing, correlations
from exactgrad.errors import InputError
from exactgrad.pulses import model
from exactgrad.pulses.problem import PulseProblem

INDEXED = re.compile(r"([a-z_0-9]+?)(?:\[(\d{1,7})\])?")
ALIASES = {
    "x": "ux", "ux_hz": "ux", "omega_x": "ux", "theta_x": "ux",
    "y": "uy", "uy_hz": "uy", "omega_y": "uy", "theta_y": "uy",
    "z": "uz", "uz_hz": "uz", "omega_z": "uz", "theta_z": "uz", "z_control": "uz",
    "theta_xy": "amplitude", "nu_rf": "amplitude", "alpha": "phase", "offset_hz": "offset", "B1": "b1",
}  # fmt: skip
WAVEFORM = {  # name: unit, meaning, du per unit of (u, amplitude, cos, sin)
    "ux": ("Hz", "rf amplitude along x", lambda a, cos, sin: (np.ones_like(a), 0 * a, 0 * a)),
    "uy": ("Hz", "rf amplitude along y", lambda a, cos, sin: (0 * a, np.ones_like(a), 0 * a)),
    "uz": ("Hz", "offset control", lambda a, cos, sin: (0 * a, 0 * a, np.ones_like(a))),
    "amplitude": ("Hz", "rf amplitude", lambda a, cos, sin: (cos, sin, 0 * a)),
    "phase": ("deg", "rf phase", lambda a, cos, sin: np.radians(1.0) * np.stack((-a * sin, a * cos, 0 * a))),
}
OF_SPINS = {"offset": ("Hz", "resonance offset of all spins"), "b1": ("", "rf field of all spins, of the nominal one")}


def names() -> tuple[str, ...]:
    """Return the names of all parameters that can be traced, without aliases."""
    return (*WAVEFORM, *OF_SPINS)


def trace(parameter: str, job: Path | None = None) -> Trace:
    """Return the trace of a parameter in a job (its starting pulse), or in the embedded example.

    Raises
    ------
    InputError
        If there is no such parameter or step, or the job is wrong.

    Examples
    --------
    >>> found = trace("phase")
    >>> found.agrees, found.unit, [stage.name for stage in found.stages][-2:]
    (True, 'deg', ['quality', 'loss'])
    """
    if job is not None:
        return _traced(PulseProblem.from_job(job), parameter, str(job))
    with as_file(files("exactgrad.pulses") / "demo.toml") as example:
        return _traced(PulseProblem.from_job(example), parameter, "the embedded example's starting pulse")


def _traced(problem: PulseProblem, parameter: str, example: str) -> Trace:
    name, step = _named(parameter, problem.steps)
    walk = Walk(problem)
    du, dt = walk.tangents(name, step)
    unit, meaning = (*WAVEFORM.get(name, ()), *OF_SPINS.get(name, ()))[:2]
    where = "" if step is None else f" in step {step}"
    stages = walk.stages(f"{name}{where}", unit, walk.value(name, step), du, dt)
    return Trace(
        system="pulses",
        parameter=name if step is None else f"{name}[{step}]",
        unit=unit,
        meaning=meaning + (" of every step" if name in WAVEFORM and step is None else where),
        value=walk.value(name, step),
        example=example,
        stages=stages,
        loss_of_kernel=problem.value_and_gradient(walk.x)[0],
        correlations=(found := walk.alike(name)),
        pictures=walk.pictures(name, dt),
        words=walk.words(name, unit, float(stages[-1].tangent), dt, found),
    )


def _named(parameter: str, steps: int) -> tuple[str, int | None]:
    matched = INDEXED.fullmatch(parameter) or INDEXED.fullmatch(parameter.lower())
    name = ALIASES.get(matched[1], matched[1]) if matched else ""
    if not matched or name not in names():
        raise InputError(f"{parameter[:40]}: no such parameter; there are: {', '.join(names())}")
    if matched[2] is None:
        return name, None
    if name in OF_SPINS or int(matched[2]) >= steps:
        raise InputError(f"{parameter}: an index is a step, 0 to {steps - 1}, of {', '.join(WAVEFORM)}")
    return name, int(matched[2])


class Walk:
    """The equation sheet at one pulse (the job's start, or x), its cotangents once, and any parameter's tangents."""

    def __init__(self, problem: PulseProblem, x: np.ndarray | None = None):
        self.problem, self.x = problem, problem.start(problem.job.solve.seed) if x is None else x
        self.u, self.step_s = model.seen_by_spins(problem, problem.chain.apply(self.x))
        self.t = model.rotation_vectors(self.u, self.step_s, problem.ensemble)
        self.turns = model.step_turns(self.t)
        self.total = model.total_turn(self.turns)
        self.quality, self.m_end = model.qualities(self.total, problem.cost)
        self.loss, self.share = model.loss(self.quality, problem.objective, problem.weight)
        self.m = model.total_turn_cotangent(self.turns, self.share[:, None] * self.m_end)
        self.by_t = model.step_turns_cotangent(self.t, self.m)
        self.by_u = model.rotation_vectors_cotangent(self.by_t, self.step_s, problem.ensemble)

    def value(self, name: str, step: int | None) -> float:
        """Return the value of one step, the rms of all, or that of the spins (mean)."""
        ensemble = self.problem.ensemble
        if name in OF_SPINS:
            return float(np.mean(ensemble.offset_hz if name == "offset" else ensemble.b1))
        ux, uy, uz = self.u
        waveform = {
            "ux": ux,
            "uy": uy,
            "uz": uz,
            "amplitude": np.hypot(ux, uy),
            "phase": np.degrees(np.arctan2(uy, ux)),
        }
        return float(waveform[name][step]) if step is not None else float(np.sqrt(np.mean(waveform[name] ** 2)))

    def tangents(self, name: str, step: int | None = None) -> tuple[np.ndarray | None, np.ndarray]:
        """Return du, shape (3, N), or None where the waveform stays, and dt, shape (N, S, 3)."""
        ensemble = self.problem.ensemble
        if name == "offset":
            return None, model.rotation_vectors_by_offset(self.step_s, ensemble)
        if name == "b1":
            by_b1 = model.rotation_vectors_by_b1(self.u, self.step_s)
            return None, np.broadcast_to(by_b1, (self.step_s.size, ensemble.spins, 3)).copy()
        ux, uy, _ = self.u
        amplitude = np.hypot(ux, uy)
        safe = np.where(amplitude > 0, amplitude, 1.0)  # a step without rf has phase 0
        cos, sin = np.where(amplitude > 0, ux / safe, 1.0), uy / safe
        du = np.array(WAVEFORM[name][2](amplitude, cos, sin))
        if step is not None:
            du[:, np.arange(du.shape[1]) != step] = 0.0
        return du, model.rotation_vectors_tangent(du, self.step_s, ensemble)

    def pushed(self, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the small turns of the steps and of the end, and how the qualities move."""
        small = model.step_turns_tangent(self.t, dt)
        end = model.total_turn_tangent(self.turns, small)
        return small, end, np.sum(self.m_end * end, axis=-1)

    def stages(self, name: str, unit: str, value: float, du: np.ndarray | None, dt: np.ndarray) -> tuple[Stage, ...]:
        """Return the stages from the parameter to the loss."""
        small, end, dq = self.pushed(dt)
        one = np.ones(())
        back = np.vdot(self.by_u, du) if du is not None else np.vdot(self.by_t, dt)
        first = [Stage(name, "", unit, np.array(value), one, np.array(back))]
        if du is not None:
            first.append(Stage("waveform", "u = (ux, uy, uz)", "Hz", self.u, du, self.by_u))
        return (
            *first,
            Stage("rotation vectors", "t = 2 pi dt (B1 ux, B1 uy, offset + uz)", "rad", self.t, dt, self.by_t),
            Stage("step rotations", "R = R(t), turned by J(t) dt", "rad", self.turns, small, self.m),
            Stage("total rotation", "Q = Q_N ... Q_1", "rad", self.total, end, self.share[:, None] * self.m_end),
            Stage("quality", "Phi of each spin", "", self.quality, dq, self.share),
            Stage("loss", "1 - objective of the qualities", "", np.array(self.loss), np.array(self.share @ dq), one),
        )

    def alike(self, name: str) -> tuple[tuple[str, float], ...]:
        """Return how much alike the parameters move the spins' qualities."""
        every = names()
        weight = np.sqrt(np.abs(self.share))
        columns = [weight * self.pushed(self.tangents(other)[1])[2] for other in every]
        return correlations(every, columns, every.index(name))

    def pictures(self, name: str, dt: np.ndarray) -> tuple[Picture, ...]:
        """Return where the parameter acts: each offset and time step at the rf field nearest the nominal one."""
        ensemble = self.problem.ensemble
        nominal = ensemble.b1[np.argmin(np.abs(ensemble.b1 - 1.0))]
        chosen = np.flatnonzero(ensemble.b1 == nominal)
        chosen = chosen[np.argsort(ensemble.offset_hz[chosen])]
        acting = np.sum(self.by_t * dt, axis=-1)[:, chosen].T
        offsets = ensemble.offset_hz[chosen]
        extent = (0.0, 1e6 * float(self.step_s.sum()), float(offsets[0]), float(offsets[-1]) or 1.0)
        title = f"where {name} acts: part of the loss's derivative"
        if chosen.size == 1:
            return (Picture(title, "per step", acting[0], "time (us)", extent=extent),)
        return (Picture(title, "per step and spin", acting, "time (us)", "offset (Hz)", extent),)

    def words(
        self, name: str, unit: str, derivative: float, dt: np.ndarray, found: tuple[tuple[str, float], ...]
    ) -> tuple[str, ...]:
        """Return what sign and size say of this pulse."""
        per, step = (f"1 {unit}", derivative) if unit else ("0.01", 0.01 * derivative)
        better = "lower" if derivative > 0 else "raise"
        sentences = [
            f"Growing it by {per} changes the loss ({self.loss:.5g}) by {step:+.3g}: {better} it for a better pulse."
        ]
        acting = np.sum(self.by_t * dt, axis=-1)
        by_time, by_spin = np.abs(acting.sum(axis=1)), np.abs(acting.sum(axis=0))
        if by_time.sum() > 0:
            order = np.argsort(-by_time)
            half = order[: 1 + int(np.searchsorted(np.cumsum(by_time[order]), by_time.sum() / 2))]
            times, most = 1e6 * np.cumsum(self.step_s)[half], int(np.argmax(by_spin))
            offset, b1 = self.problem.ensemble.offset_hz[most], self.problem.ensemble.b1[most]
            sentences.append(
                f"Half of it comes from {half.size} of {by_time.size} steps ({times.min():.0f} to {times.max():.0f} "
                f"us), most from the spin at {offset:+.0f} Hz with {b1:.2f} of the rf field."
            )
        whole = np.abs(acting).sum()
        if whole > 0 and abs(derivative) < 0.01 * whole:
            sentences.append(f"Its parts cancel to {abs(derivative) / whole:.1%}: small is the sum, not its influence.")
        return (*sentences, *filter(None, [confusing(found)]))
