"""The refinement itself: from positions, then stage by stage against pixels, until the regions stay where they are.

The regions lie where spots are predicted, so they depend on the parameters. Within a stage they rest; the last stage
is begun anew from its own end until its regions are those it began with. Then the optimum is one of the data, not of
the start. All that a run is, at an iteration's end, is in `Progress`; going on from there gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exactgrad.core import lbfgs, least_squares
from exactgrad.core.lbfgs import Status
from exactgrad.core.solve import Event, Stop, total_loss
from exactgrad.diffraction.losses import Observed
from exactgrad.diffraction.position_refinement import refine_positions
from exactgrad.diffraction.problem import DiffractionProblem, look_around_spots
from exactgrad.diffraction.refinement.peaks import find_peaks
from exactgrad.diffraction.refinement.plan import Plan
from exactgrad.diffraction.refinement.unknowns import Unknowns
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError

MOST_TURNS = 10  # of the last stage
EARLY_ITERATIONS, EARLY_TOLERANCE = 20, 1e-6  # of the stages before it
MEMORY = 20
SAVE_EVERY_S = 20.0
State = Any  # of `least_squares` or of `lbfgs`: x, value, iteration, evaluations, history, status, to_arrays


@dataclass
class Progress:
    """The whole state of a refinement: what a checkpoint holds.

    Attributes
    ----------
    values : ndarray
        Of all unknowns, where the present stage began.
    stage, turn : int
        Which stage; how often the last one was begun anew.
    state : State or None
        Of the solver within the stage; None before its first evaluation.
    histories : list of ndarray
        Loss per pixel after each iteration of every earlier stage and turn.
    evaluations, iterations : int
        Spent before the present stage.
    seconds : float
        Spent before this process.
    peaks : ndarray, shape (3,)
        Spots found, spots indexed, and their typical distance in pixels; NaN where positions were not used.
    settled : bool
        Whether the last stage ended with the regions it began with.
    """

    values: np.ndarray
    stage: int = -1
    turn: int = 0
    state: State | None = None
    histories: list[np.ndarray] = field(default_factory=list)
    evaluations: int = 0
    iterations: int = 0
    seconds: float = 0.0
    peaks: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))
    settled: bool = False

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the progress as named arrays."""
        counts = [self.stage, self.turn, self.evaluations, self.iterations, self.settled, self.state is not None]
        arrays = {"values": self.values, "counts": np.array(counts, dtype=np.int64), "peaks": self.peaks}
        arrays["seconds"] = np.array(self.seconds)
        arrays |= {f"histories/{i}": history for i, history in enumerate(self.histories)}
        if self.state is not None:
            arrays |= {f"state/{name}": array for name, array in self.state.to_arrays().items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], method: str) -> Progress:
        """Return the progress that `to_arrays` described."""
        stage, turn, evaluations, iterations, settled, has_state = (int(n) for n in arrays["counts"])
        parts = {name.removeprefix("state/"): array for name, array in arrays.items() if name.startswith("state/")}
        count = sum(name.startswith("histories/") for name in arrays)
        return cls(
            np.array(arrays["values"]),
            stage,
            turn,
            _states(method).from_arrays(parts) if has_state else None,
            [np.array(arrays[f"histories/{i}"]) for i in range(count)],
            evaluations,
            iterations,
            float(arrays["seconds"]),
            np.array(arrays["peaks"]),
            bool(settled),
        )


@dataclass(frozen=True)
class Found:
    """How a refinement ended.

    Attributes
    ----------
    problem : DiffractionProblem
        The last one, of all unknowns.
    x : ndarray
        Where it ended, in that problem.
    status : Status
    progress : Progress
    start : ndarray
        Values of the unknowns where all began.
    """

    problem: DiffractionProblem
    x: np.ndarray
    status: Status
    progress: Progress
    start: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Of all unknowns."""
        return self.problem.unknowns.values(self.x)


def refine_images(
    images: Sequence[Settings],
    observed: Sequence[Observed],
    plan: Plan,
    names: Sequence[str] = (),
    threads: int | None = None,
    max_seconds: float | None = None,
    stop: Stop | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_checkpoint: Callable[[Progress], None] = lambda progress: None,
    progress: Progress | None = None,
) -> Found:
    """Refine the unknowns of a plan against recorded images.

    Parameters
    ----------
    images : sequence of Settings
        Where to begin.
    observed : sequence of Observed
        What was recorded, one an image.
    plan : Plan
    names : sequence of str
        Of the images, for messages.
    threads : int or None
        The result does not depend on it.
    max_seconds : float or None
    stop : Stop, optional
    on_event, on_checkpoint : callable
    progress : Progress, optional
        What a checkpoint held.

    Raises
    ------
    InputError
        If an unknown cannot be refined, or no spot is found or predicted.
    """
    names = names or [f"image {i + 1}" for i in range(len(images))]
    run = _Run(
        images, observed, plan, names, threads, max_seconds, Stop() if stop is None else stop, on_event, on_checkpoint
    )
    return run.carried_on(Progress(run.start) if progress is None else progress)


class _Run:
    """The moving parts of `refine_images`."""

    def __init__(self, images, observed, plan, names, threads, max_seconds, stop, on_event, on_checkpoint):
        self.plan, self.observed, self.names, self.threads = plan, observed, names, threads
        self.max_seconds, self.stop = max_seconds, stop
        self.on_event, self.on_checkpoint = on_event, on_checkpoint
        self.unknowns = Unknowns(images, plan.members)
        self.start = self.unknowns.values(np.zeros(self.unknowns.size))
        self.stages = [stage for stage in plan.stages[:-1] if plan.chosen(stage)] + [("all",)]
        self.began = self.saved = time.monotonic()

    def carried_on(self, progress: Progress) -> Found:
        before = progress.seconds
        if progress.stage < 0:
            if self.plan.positions and self.plan.from_positions():
                self._positions(progress)
            progress.stage = 0
        while True:
            problem, state = self._stage(progress, before)
            values = progress.values.copy()
            values[self.plan.chosen(self.stages[progress.stage])] = problem.unknowns.values(state.x)
            last, ended = progress.stage == len(self.stages) - 1, state.status.converged
            if last:
                progress.settled = ended and self._same_regions(problem, values)
            goes_on = ended and not progress.settled and progress.turn + 1 < MOST_TURNS if last else True
            if not goes_on or self._halted(before):
                progress.seconds = self._seconds(before)
                return self._found(problem, state, progress, values, last)
            progress.histories.append(state.history / _per_pixel(problem, self.plan))
            progress.evaluations += state.evaluations
            progress.iterations += state.iteration
            progress.values, progress.state = values, None
            progress.stage, progress.turn = (progress.stage, progress.turn + 1) if last else (progress.stage + 1, 0)

    def _positions(self, progress: Progress) -> None:
        places = self.plan.from_positions()
        peaks = [find_peaks(one) for one in self.observed]
        unknowns = self.unknowns.among(places, self.unknowns.images)
        fit = refine_positions(unknowns, peaks, self.plan.restraints)
        progress.values = progress.values.copy()
        progress.values[places] = unknowns.values(fit.x)
        progress.peaks = np.array([fit.found, fit.used, fit.rms_px])

    def _problem(self, values: np.ndarray, places: Sequence[int]) -> DiffractionProblem:
        images, plan = self.unknowns.placed(values), self.plan
        looked = [
            look_around_spots(settings, seen, plan.radius_px, plan.least_excitation, name)
            for settings, seen, name in zip(images, self.observed, self.names, strict=True)
        ]
        members = [plan.members[place] for place in places]
        return DiffractionProblem(looked, members, plan.loss, plan.background, plan.restraints, self.threads)

    def _stage(self, progress: Progress, before: float) -> tuple[DiffractionProblem, State]:
        """Carry the present stage to its end, or to where the run is halted."""
        places, last = self.plan.chosen(self.stages[progress.stage]), progress.stage == len(self.stages) - 1
        problem = self._problem(progress.values, places)
        goal = self.plan.max_iterations if last else min(EARLY_ITERATIONS, self.plan.max_iterations)
        tolerance = self.plan.tolerance if last else EARLY_TOLERANCE
        if progress.state is None:
            progress.state = _begin(problem, self.plan.method)
        state = progress.state
        while state.status is Status.RUNNING and state.iteration < goal and not self._halted(before):
            state = progress.state = _advance(problem, state, self.plan.method, tolerance)
            self._report(problem, progress, goal, before)
        return problem, state

    def _same_regions(self, problem: DiffractionProblem, values: np.ndarray) -> bool:
        """Return whether the regions at these values are those of the problem."""
        images = zip(self.unknowns.placed(values), self.observed, problem.exposures, strict=True)
        for settings, seen, exposure in images:
            now = look_around_spots(settings, seen, self.plan.radius_px, self.plan.least_excitation, exposure.name)
            if not np.array_equal(now.regions.owner, exposure.regions.owner):
                return False
        return True

    def _found(
        self, problem: DiffractionProblem, state: State, progress: Progress, values: np.ndarray, last: bool
    ) -> Found:
        status = state.status
        if status is Status.RUNNING or not last:
            status = Status.INTERRUPTED if self.stop else Status.ITERATIONS
            if not self.stop and self.max_seconds is not None and progress.seconds >= self.max_seconds:
                status = Status.SECONDS
        x = state.x
        if problem.size < self.unknowns.size:  # halted before the last stage
            problem = self._problem(values, range(self.unknowns.size))
            x = np.zeros(problem.size)
        return Found(problem, x, status, progress, self.start)

    def _seconds(self, before: float) -> float:
        return before + time.monotonic() - self.began

    def _halted(self, before: float) -> bool:
        return bool(self.stop) or (self.max_seconds is not None and self._seconds(before) >= self.max_seconds)

    def _report(self, problem: DiffractionProblem, progress: Progress, goal: int, before: float) -> None:
        words = " ".join(self.stages[progress.stage])
        again = f", turn {progress.turn + 1}" if progress.turn else ""
        assert progress.state is not None  # noqa: S101 - it was set where the stage began
        self.on_event(
            Event(
                start=1,
                starts=1,
                iteration=progress.state.iteration,
                max_iterations=goal,
                best_loss=progress.state.value / _per_pixel(problem, self.plan),
                seconds=self._seconds(before),
                phase=f"stage {progress.stage + 1} of {len(self.stages)}: {words}{again}",
            )
        )
        now = time.monotonic()
        if now - self.saved >= SAVE_EVERY_S:
            self.saved = now
            kept, progress.seconds = progress.seconds, self._seconds(before)
            self.on_checkpoint(progress)
            progress.seconds = kept


def _states(method: str) -> Any:
    if method not in ("lm", "lbfgs"):
        raise InputError(f"refine.method = {method[:40]!r}: must be lm or lbfgs")
    return least_squares.State if method == "lm" else lbfgs.State


def _begin(problem: DiffractionProblem, method: str) -> State:
    x = np.zeros(problem.size)
    if _states(method) is least_squares.State:
        return least_squares.begin(problem, x)
    return lbfgs.begin(lbfgs.infinite_outside(total_loss(problem)), x, MEMORY)


def _advance(problem: DiffractionProblem, state: State, method: str, tolerance: float) -> State:
    if method == "lm":
        return least_squares.advance(problem, state, tolerance)
    return lbfgs.advance(total_loss(problem), state, tolerance)


def _per_pixel(problem: DiffractionProblem, plan: Plan) -> float:
    """Return what divides a solver's loss to make it that per pixel: L-BFGS is given it so."""
    return float(problem.pixels) if plan.method == "lm" else 1.0
