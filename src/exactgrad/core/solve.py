"""Solve a problem from many starts: the one loop that every system uses.

A search is a list of stages (coarse to fine; most have one), and a portfolio of starts that goes through them. Within
the last stage, successive halving gives the better half of the starts twice the iterations of the round before.
Starts run side by side, one thread each; the last ones left share the threads inside their kernels. Nothing that a
run computes depends on the number of threads or on when it was interrupted.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from exactgrad.core import lbfgs
from exactgrad.core.lbfgs import State, Status
from exactgrad.core.problem import Problem
from exactgrad.kernels.threads import available_threads

LAST_ROUND = 1_000_000
HALVING_FIRST_ROUND = 25  # iterations below which starts are not compared


@dataclass(frozen=True)
class Stage:
    """One problem of a search, its `max_iterations`, and how (`lift`) a vector of the stage before becomes a start."""

    problem: Problem
    max_iterations: int
    lift: Callable[[np.ndarray], np.ndarray] = np.copy


@dataclass(frozen=True)
class Budget:
    """What a search may spend, and how it spends it.

    Attributes
    ----------
    max_seconds : float or None
        Wall time, that of earlier processes included.
    tolerance : float
        Relative decrease of the loss below which a search has converged.
    memory : int
        Pairs that L-BFGS keeps.
    halving : bool
        Give up the worse half of the starts between rounds of doubled length.
    threads : int or None
    checkpoint_every_s : float
    """

    max_seconds: float | None = None
    tolerance: float = 1e-12
    memory: int = 20
    halving: bool = True
    threads: int | None = None
    checkpoint_every_s: float = 20.0


@dataclass(frozen=True)
class Event:
    """What a progress bar is told.

    `phase`, number `start` of `starts`, `iteration` of `max_iterations`, `best_loss` so far, `seconds` so far.
    """

    start: int
    starts: int
    iteration: int
    max_iterations: int
    best_loss: float
    seconds: float
    phase: str


@dataclass
class Search:
    """The whole state of a search: what a checkpoint holds.

    Attributes
    ----------
    vectors : list of ndarray
        Start of every member in the present stage.
    states : list of State or None
        Where each member is; None before its first evaluation.
    alive : list of int
        Members still searched.
    stage, round : int
    evaluations : int
        Spent in earlier stages.
    seconds : float
        Time spent before this process.
    histories : list of ndarray
        Loss after each iteration, every start of every earlier stage.
    """

    vectors: list[np.ndarray]
    states: list[State | None]
    alive: list[int]
    stage: int = 0
    round: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    histories: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def begin(cls, vectors: Sequence[np.ndarray]) -> Search:
        """Return the search that has done nothing yet."""
        return cls(list(vectors), [None] * len(vectors), list(range(len(vectors))))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the search as named arrays."""
        arrays = {
            "alive": np.array(self.alive, dtype=np.int64),
            "counts": np.array([len(self.states), self.stage, self.round, self.evaluations], dtype=np.int64),
            "seconds": np.array(self.seconds),
        }
        for i, (vector, state) in enumerate(zip(self.vectors, self.states, strict=True)):
            arrays[f"members/{i}/vector"] = vector
            if state is not None:
                arrays.update({f"members/{i}/state/{name}": value for name, value in state.to_arrays().items()})
        for i, history in enumerate(self.histories):
            arrays[f"histories/{i}"] = history
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Search:
        """Return the search that `to_arrays` described."""
        count, stage, turn, evaluations = (int(n) for n in arrays["counts"])
        vectors, states = [], []
        for i in range(count):
            vectors.append(np.array(arrays[f"members/{i}/vector"]))
            prefix = f"members/{i}/state/"
            part = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
            states.append(State.from_arrays(part) if part else None)
        histories = [arrays[f"histories/{i}"] for i in range(sum(name.startswith("histories/") for name in arrays))]
        alive = [int(i) for i in arrays["alive"]]
        return cls(vectors, states, alive, stage, turn, evaluations, float(arrays["seconds"]), histories)

    def best(self) -> tuple[int, State]:
        """Return the member with the least loss (the first of equals) and its state."""
        done = [(state.value, i) for i, state in enumerate(self.states) if state is not None and i in self.alive]
        index = min(done)[1]
        state = self.states[index]
        assert state is not None  # noqa: S101 - it was filtered above
        return index, state


@dataclass(frozen=True)
class Result:
    """How a search ended.

    Attributes
    ----------
    x : ndarray
        The best vector of the last stage (of an earlier one, lifted, if the search was stopped there).
    loss : float
        Value + penalties at x.
    status : Status
    start : int
        Which start it came from.
    iterations, evaluations : int
        Summed over all starts and stages of this search.
    seconds : float
        Wall time, earlier processes included.
    histories : list of ndarray
        Loss after each iteration, every start of the last stage.
    search : Search
        The state, for a checkpoint.
    """

    x: np.ndarray
    loss: float
    status: Status
    start: int
    iterations: int
    evaluations: int
    seconds: float
    histories: list[np.ndarray]
    search: Search


class Stop:
    """A wish to stop, set by a signal or by the caller; `signal` says which one it was."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal: int | None = None

    def set(self, signal_number: int | None = None) -> None:
        """Ask the search to stop after the iterations that are under way."""
        self.signal = self.signal or signal_number
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()


@contextlib.contextmanager
def interruptible() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a `Stop` while the block runs; a second signal acts as it always did."""
    stop = Stop()
    before: dict[int, object] = {}

    def handle(number: int, frame: object) -> None:
        for caught, handler in before.items():
            signal.signal(caught, handler)  # type: ignore[arg-type]
        stop.set(number)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)  # type: ignore[arg-type]


EXIT_CODES = {"converged": 0, "budget": 3, "SIGINT": 130, "SIGTERM": 143}


def exit_code(summary: dict[str, Any]) -> int:
    """Return what a command that ran a search exits with: 0 converged, 3 budget used up, 130 or 143 interrupted."""
    return EXIT_CODES[summary["signal"] if summary["status"] == "interrupted" else summary["status"]]


def ending(status: Status, stop: Stop, more: str = "") -> dict[str, str]:
    """Return what a summary says of how a run ended: status, message (with `more` at its end), signal (of `stop`).

    Examples
    --------
    >>> ending(Status.GRADIENT, Stop())["status"], ending(Status.ITERATIONS, Stop())["status"]
    ('converged', 'budget')
    """
    told = {"status": "converged" if status.converged else "budget", "message": status.value + more}
    if status is not Status.INTERRUPTED:
        return told
    name = signal.Signals(stop.signal).name if stop.signal is not None else "SIGINT"
    return {**told, "status": "interrupted", "signal": name}


def total_loss(problem: Problem) -> lbfgs.Loss:
    """Return the loss that is minimised: value + penalties, with its gradient."""

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = problem.value_and_gradient(x)
        penalty, extra = problem.penalty_and_gradient(x)
        return value + penalty, gradient + extra

    return loss


def run(
    stages: Sequence[Stage],
    search: Search,
    budget: Budget,
    stop: Stop | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_checkpoint: Callable[[Search], None] = lambda search: None,
) -> Result:
    """Carry a search on until it has converged, its budget is used up, or it is asked to stop.

    Parameters
    ----------
    stages : sequence of Stage
    search : Search
        `Search.begin(starts)`, or what a checkpoint held.
    budget : Budget
    stop : Stop, optional
    on_event, on_checkpoint : callable
        Called from the calling thread: progress, and the search to be saved every `checkpoint_every_s` seconds.

    Returns
    -------
    Result
        Also when it was stopped: the best vector so far.
    """
    runner = _Runner(stages, search, budget, Stop() if stop is None else stop, on_event, on_checkpoint)
    if search.stage == len(stages):  # it had used up a budget that may be larger now
        search.stage, search.round = len(stages) - 1, LAST_ROUND
    while runner.search.stage < len(stages):
        if not runner.round():
            break
    return runner.result()


class _Runner:
    """The moving parts of `run`."""

    def __init__(self, stages, search, budget, stop, on_event, on_checkpoint):
        self.stages, self.search, self.budget, self.stop = stages, search, budget, stop
        self.on_event, self.on_checkpoint = on_event, on_checkpoint
        self.threads = budget.threads or available_threads()
        self.began, self.before = time.monotonic(), search.seconds
        self.lock = threading.Lock()
        self.saved = self.began

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def out_of_time(self) -> bool:
        return self.budget.max_seconds is not None and self.seconds() >= self.budget.max_seconds

    def halted(self) -> bool:
        return bool(self.stop) or self.out_of_time()

    def round(self) -> bool:
        """Run every living member to the end of this round; return whether the search goes on."""
        search, stage = self.search, self.stages[self.search.stage]
        goals = self._goals(stage.max_iterations)
        goal = goals[min(search.round, len(goals) - 1)]
        workers = min(self.threads, len(search.alive))
        stage.problem.limit_threads(max(1, self.threads // workers))
        loss = total_loss(stage.problem)
        if workers == 1:
            for member in search.alive:
                self._advance(loss, member, goal, report=True)
        else:
            with ThreadPoolExecutor(workers) as pool:
                pending = {pool.submit(self._advance, loss, member, goal, False) for member in search.alive}
                try:
                    while pending:
                        done, pending = wait(pending, timeout=0.2)
                        for future in done:
                            future.result()
                        self._report()
                except BaseException:
                    self.stop.set()
                    raise
        if self.halted():
            return False
        self._next(len(goals))
        return True

    def _goals(self, most: int) -> list[int]:
        """Return the iteration at which each round of the present stage ends."""
        last = self.search.stage == len(self.stages) - 1
        count = len(self.search.states)
        if not (last and self.budget.halving) or count == 1:
            return [most]
        rounds = int(np.ceil(np.log2(count)))
        goals = [most >> (rounds - i) for i in range(rounds + 1)]
        return sorted({max(goal, min(HALVING_FIRST_ROUND, most)) for goal in goals})

    def _advance(self, loss: lbfgs.Loss, member: int, goal: int, report: bool) -> None:
        state = self.search.states[member]
        if state is None:
            if self.stop:
                return
            state = lbfgs.begin(loss, self.search.vectors[member], self.budget.memory)
        with self.lock:
            self.search.states[member] = state
        while state.status is Status.RUNNING and state.iteration < goal and not self.halted():
            state = lbfgs.advance(loss, state, self.budget.tolerance)
            if state.status in (Status.PRECISION, Status.PLATEAU):
                state = self._off_kink(loss, state)
            with self.lock:
                self.search.states[member] = state
            if report:
                self._report()

    def _off_kink(self, loss: lbfgs.Loss, state: State) -> State:
        """Carry on from beside the kink of a limit, where that is no worse."""
        x = self.stages[self.search.stage].problem.off_kink(state.x)
        if x is None:
            return state
        value, gradient = loss(x)
        if value > state.value:
            return state
        return replace(
            state,
            x=x,
            value=value,
            gradient=gradient,
            pairs=0,
            evaluations=state.evaluations + 1,
            status=Status.RUNNING,
        )

    def _next(self, rounds: int) -> None:
        """Drop the worse half, or go to the next stage."""
        search = self.search
        with self.lock:
            search.round += 1
            if search.round < rounds:
                ranked = sorted(search.alive, key=lambda i: (search.states[i].value, i))
                search.alive = sorted(ranked[: -(-len(ranked) // 2)])
                return
            search.stage, search.round = search.stage + 1, 0
            if search.stage < len(self.stages):
                lift = self.stages[search.stage].lift
                search.histories += [state.history for state in search.states]
                search.evaluations += sum(state.evaluations for state in search.states)
                search.vectors = [lift(state.x) for state in search.states]
                search.states = [None] * len(search.vectors)
                search.alive = list(range(len(search.vectors)))

    def _report(self) -> None:
        search, now = self.search, time.monotonic()
        states = [state for state in search.states if state is not None]
        if not states:
            return
        stage = min(search.stage, len(self.stages) - 1)
        best = min(states, key=lambda state: state.value)
        self.on_event(
            Event(
                start=len(search.alive),
                starts=len(search.states),
                iteration=max(state.iteration for state in states),
                max_iterations=self.stages[stage].max_iterations,
                best_loss=best.value,
                seconds=self.seconds(),
                phase=f"stage {stage + 1} of {len(self.stages)}" if len(self.stages) > 1 else "search",
            )
        )
        if now - self.saved >= self.budget.checkpoint_every_s:
            self.saved = now
            self.on_checkpoint(self.snapshot())

    def snapshot(self) -> Search:
        """Return a copy of the search that no worker writes to.

        A worker that is under way writes only the one row of its ring that the published state does not use.
        """
        with self.lock:
            copies = [
                state
                and replace(
                    state, moves=state.moves.copy(), yields=state.yields.copy(), curvatures=state.curvatures.copy()
                )
                for state in self.search.states
            ]
            return replace(self.search, states=copies, seconds=self.seconds(), alive=list(self.search.alive))

    def result(self) -> Result:
        """Return the best of what there is."""
        search = self.snapshot()
        stage = min(search.stage, len(self.stages) - 1)
        if all(state is None for state in search.states):  # stopped before the first evaluation of this stage
            loss = total_loss(self.stages[stage].problem)
            first = lbfgs.begin(loss, search.vectors[search.alive[0]], self.budget.memory)
            search.states[search.alive[0]] = first
        start, state = search.best()
        x = state.x
        for later in self.stages[stage + 1 :]:
            x = later.lift(x)
        status = state.status
        if status is Status.RUNNING:
            status = Status.ITERATIONS
            if self.stop:
                status = Status.INTERRUPTED
            elif search.stage < len(self.stages) and self.out_of_time():
                status = Status.SECONDS
        done = [state for state in search.states if state is not None]
        value = state.value if stage == len(self.stages) - 1 else total_loss(self.stages[-1].problem)(x)[0]
        return Result(
            x=x,
            loss=value,
            status=status,
            start=start,
            iterations=sum(state.iteration for state in done) + sum(h.size - 1 for h in search.histories),
            evaluations=search.evaluations + sum(state.evaluations for state in done),
            seconds=search.seconds,
            histories=[state.history for state in done],
            search=search,
        )
