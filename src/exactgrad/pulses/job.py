"""The job file: what a user may ask for, checked key by key. TOML; times in us, frequencies in Hz, angles in deg."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, Strict, model_validator

from exactgrad.core import job_file
from exactgrad.core.job_file import LARGEST, Flag, NotNegative, Table, Whole
from exactgrad.errors import InputError

MOST_STEPS = 1_000_000

# No quantity in these units is larger or smaller; squares and reciprocals of what is allowed stay finite.
LEAST = 1e-15


def _not_tiny(value: float) -> float:
    if value < LEAST:
        raise ValueError(f"{value:g}: must be at least {LEAST:g}")
    return value


Positive = Annotated[float, Strict(), Field(gt=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_not_tiny)]
Finite = Annotated[float, Strict(), Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Axis = Literal["x", "y", "z", "-x", "-y", "-z"] | tuple[Finite, Finite, Finite]
Parity = Literal["even", "odd"]


class HeldSegment(Table):
    """Steps between two times whose waveform is given; zero (blanked) by default."""

    from_us: NotNegative
    to_us: Positive
    ux_hz: Finite = 0.0
    uy_hz: Finite = 0.0
    uz_hz: Finite = 0.0


class PulseTable(Table):
    """[pulse]: steps and controls."""

    duration_us: Positive | None = None
    step_us: Positive | None = None
    steps_us: list[Positive] | None = Field(default=None, min_length=1, max_length=MOST_STEPS)
    controls: Literal["xy", "xyz", "polar", "polar-z", "phase", "reduced", "reduced-z"] = "xy"
    symmetry: Parity | dict[Literal["x", "y", "z", "amplitude", "phase"], Parity] | None = None
    hold: list[HeldSegment] = Field(default_factory=list)

    def step_s(self) -> np.ndarray:
        """Return the step lengths in seconds, shape (N,).

        Raises
        ------
        InputError
            If the duration is not a whole number of steps, or there are too many.
        """
        if self.steps_us is not None:
            if self.step_us is not None:
                raise InputError("pulse: give step_us or steps_us, not both")
            steps = np.array(self.steps_us) * 1e-6
            if self.duration_us is not None and abs(steps.sum() * 1e6 - self.duration_us) > 1e-6 * self.duration_us:
                raise InputError(
                    f"pulse.duration_us = {self.duration_us:g} us: pulse.steps_us add up to {steps.sum() * 1e6:g} us"
                )
            return steps
        if self.duration_us is None or self.step_us is None:
            key = "duration_us" if self.duration_us is None else "step_us"
            raise InputError(f"pulse.{key}: missing (or give pulse.steps_us, a list)")
        count = self.duration_us / self.step_us
        if not 1 <= round(count) <= MOST_STEPS or abs(count - round(count)) > 1e-6 * count:
            raise InputError(
                f"pulse.step_us = {self.step_us:g} us: pulse.duration_us = {self.duration_us:g} us must be a whole "
                f"number of steps, from 1 to {MOST_STEPS}"
            )
        return np.full(round(count), self.duration_us / round(count) * 1e-6)


class RotationTable(Table):
    """target.rotation: a universal rotation."""

    axis: Axis
    angle_deg: Finite
    sign_free: Flag = False


class Aim(Table):
    """What one band of spins shall do; exactly one of the four kinds."""

    transfer: tuple[Axis, Axis] | None = None
    rotation: RotationTable | None = None
    saturation: Axis | None = None
    transverse: Axis | None = None
    phase_slope: Finite = 0.0

    @model_validator(mode="after")
    def _one_kind(self) -> Aim:
        if type(self) is TargetTable and (self.band or self.map is not None):
            return self
        given = [
            kind for kind in ("transfer", "rotation", "saturation", "transverse") if getattr(self, kind) is not None
        ]
        if len(given) != 1:
            kinds = "transfer, rotation, saturation, transverse"
            more = " (or a list of target.band, or target.map)" if type(self) is TargetTable else ""
            raise ValueError(f"exactly one of {kinds}{more} is needed, got {', '.join(given) or 'none'}")
        if self.phase_slope and self.transfer is None:
            raise ValueError("phase_slope belongs to a transfer")
        return self


class Band(Aim):
    """A band of the ensemble with an aim of its own; spins are judged by the first band that holds them."""

    offset_hz: tuple[Finite, Finite]
    b1: tuple[Finite, Finite] | None = None
    weight: NotNegative = 1.0


class TargetTable(Aim):
    """[target]: one aim for all spins, or bands with one each, or a map of end states from a CSV file."""

    band: list[Band] = Field(default_factory=list)
    map: str | None = None
    start: Axis = "z"

    @model_validator(mode="after")
    def _aim_or_bands(self) -> TargetTable:
        kinds = ("transfer", "rotation", "saturation", "transverse")
        aims = any(getattr(self, kind) is not None for kind in kinds)
        if aims + bool(self.band) + (self.map is not None) > 1:
            raise ValueError("give one aim for all spins, or a list of bands, or a map; not two of them")
        if self.map is None and "start" in self.model_fields_set:
            raise ValueError("start belongs to a map")
        return self


class EnsembleTable(Table):
    """[ensemble]: offsets x B1, or a measured distribution."""

    bandwidth_hz: NotNegative | None = None
    centre_hz: Finite = 0.0
    offsets: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    offsets_hz: list[Finite] | None = Field(default=None, min_length=1)
    offset_weights: list[NotNegative] | None = None
    b1_spread: Annotated[Finite, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    b1_points: Annotated[Whole, Field(ge=1, le=100_000)] = 1
    b1: list[Finite] | None = Field(default=None, min_length=1)
    b1_weights: list[NotNegative] | None = None
    distribution: str | None = None
    objective: Literal["mean", "worst"] = "mean"
    sharpness: Positive = 200.0

    @model_validator(mode="after")
    def _one_way(self) -> EnsembleTable:
        offsets, fields = ("bandwidth_hz", "centre_hz", "offsets"), ("b1_spread", "b1_points")
        every = (*offsets, *fields, "offsets_hz", "offset_weights", "b1", "b1_weights")
        for key, others in (("distribution", every), ("offsets_hz", offsets), ("b1", fields)):
            both = [other for other in others if getattr(self, key) is not None and other in self.model_fields_set]
            if both:
                raise ValueError(f"give {key} or {both[0]}, not both")
        return self


class LimitsTable(Table):
    """[limits]: each optional, all of them composable."""

    peak_hz: Positive | Annotated[list[Positive], Field(min_length=1, max_length=MOST_STEPS)] | None = None
    rms_hz: Positive | None = None
    energy_hz2_s: Positive | None = None
    power_map: Literal["exact", "tanh"] | None = None
    enforce: Literal["map", "penalty"] = "map"
    penalty_weight: Positive = 10.0


class PenaltiesTable(Table):
    """[penalties]: costs on the waveform."""

    smoothness: NotNegative = 0.0


class ResponseTable(Table):
    """[response]: the transmitter's impulse response, from a CSV file."""

    file: str


class SolveTable(Table):
    """[solve]: how to search."""

    start: str = "random"
    chirp_bandwidth_hz: Positive | None = None
    starts: Annotated[Whole, Field(ge=1, le=100_000)] = 8
    seed: Annotated[Whole, Field(ge=0, le=2**63 - 1)] = 0
    max_iterations: Annotated[Whole, Field(ge=0, le=100_000_000)] = 2000
    max_seconds: Positive | None = None
    method: Literal["lbfgs", "newton"] = "lbfgs"
    memory: Annotated[Whole, Field(ge=1, le=1000)] = 20
    halving: Flag = True
    tolerance: NotNegative = 1e-12


class OutputTable(Table):
    """[output]: which files, in which convention."""

    formats: Annotated[list[str], Field(min_length=1)] = Field(default=["bruker", "csv"])
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")] = "pulse"
    rf_max_hz: Positive | None = None
    phase_sign: Literal[1, -1] = 1
    figures: Flag = True


class Job(Table):
    """A whole job."""

    pulse: PulseTable
    target: TargetTable
    ensemble: EnsembleTable
    limits: LimitsTable = LimitsTable()
    penalties: PenaltiesTable = PenaltiesTable()
    response: ResponseTable | None = None
    solve: SolveTable = SolveTable()
    output: OutputTable = OutputTable()

    @model_validator(mode="after")
    def _consistent(self) -> Job:
        if self.pulse.controls == "phase" and self.limits.peak_hz is None:
            raise ValueError("limits.peak_hz: missing; it is the amplitude (Hz) of pulse.controls = 'phase'")
        if self.limits.peak_hz is None:
            return self
        peak, most = float(np.max(self.limits.peak_hz)), self.output.rf_max_hz
        if most is not None and most < peak:
            raise ValueError(f"output.rf_max_hz = {most:g} Hz: must be >= {peak:g} Hz, the limits.peak_hz")
        for i, segment in enumerate(self.pulse.hold):
            held = math.hypot(segment.ux_hz, segment.uy_hz)
            if held > peak:
                raise ValueError(f"pulse.hold.{i}: amplitude {held:g} Hz: must be <= {peak:g} Hz, the limits.peak_hz")
        return self


def read_job(source: Any) -> tuple[Job, Path, str]:
    """Read and check a job.

    Parameters
    ----------
    source : path, or dict
        A TOML file, or the same tables as a dict.

    Returns
    -------
    job : Job
    folder : Path
        What relative file names in the job are relative to.
    text : str
        The TOML text (for a dict, its JSON).

    Raises
    ------
    InputError
        One line that names the file, the key, the value and what is allowed.
    """
    job, text = job_file.read_job(source, Job)
    return job, Path() if isinstance(source, dict) else Path(source).parent, text


def check_job(tables: dict[str, Any], name: str) -> Job:
    """Validate the tables of a job; raises `InputError` naming the first wrong key."""
    return job_file.check_job(tables, name, Job)


@contextlib.contextmanager
def blaming(name: str) -> Iterator[None]:
    """Put `name` before the message of an `InputError` that leaves the block: a key alone does not say whose it is."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name}: {error}") from None
