"""How a job is searched: its starts, its stages from coarse to fine, the last digits by Newton."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from exactgrad.core.lbfgs import Status
from exactgrad.core.solve import Result, Stage, Stop
from exactgrad.errors import InputError
from exactgrad.pulses.job import SolveTable
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.starts import resample, vector_of

COARSE_STEPS_S = (50e-6, 10e-6)
COARSE_ITERATIONS = 500
NEWTON_ITERATIONS = 200


def starting_vectors(stages: list[Stage], solve: SolveTable) -> list[np.ndarray]:
    """Return the starts of the first stage: seeds seed, seed + 1, ..."""
    return [stages[0].problem.start(solve.seed + i) for i in range(solve.starts)]


def stages_of(problem: PulseProblem) -> list[Stage]:
    """Return the search's stages: one, or 50 -> 10 us -> the job's own steps for coarse-to-fine starts."""
    most = problem.job.solve.max_iterations
    if problem.job.solve.start != "coarse":
        return [Stage(problem, most)]
    path = [coarse for step_s in COARSE_STEPS_S if (coarse := _coarser(problem, step_s)) is not None]
    stages = []
    for i, member in enumerate([*path, problem]):
        lift = _lift(path[i - 1], member) if i else np.copy
        stages.append(Stage(member, min(COARSE_ITERATIONS, most) if i < len(path) else most, lift))
    return stages


def _coarser(problem: PulseProblem, step_s: float) -> PulseProblem | None:
    """Return the same problem with steps joined to about `step_s`, or None where that would not be coarser."""
    job = problem.job
    group = round(step_s / float(np.median(problem.step_s)))
    while group > 1 and problem.steps % group:
        group -= 1
    if group < 2 or job.pulse.hold or isinstance(job.limits.peak_hz, list) or job.response is not None:
        return None
    steps_us = (problem.step_s.reshape(-1, group).sum(axis=1) * 1e6).tolist()
    pulse = job.pulse.model_copy(update={"steps_us": steps_us, "step_us": None, "duration_us": None})
    return PulseProblem(job.model_copy(update={"pulse": pulse}), problem.folder)


def _lift(coarse: PulseProblem, fine: PulseProblem) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map of a coarse vector to the fine one that plays (nearly: see `vector_of`) the same pulse."""

    def lift(x: np.ndarray) -> np.ndarray:
        return vector_of(fine, resample(coarse.pulse(x), fine.step_s))

    return lift


def refuse_too_large(problem: PulseProblem) -> None:
    """Refuse a search whose states alone, with their copies for a checkpoint, do not fit into the memory."""
    solve = problem.job.solve
    needed = 8 * problem.size * solve.starts * (4 * (solve.memory + 1) + 4)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"solve.starts = {solve.starts}, solve.memory = {solve.memory}: the search would take "
            f"{needed / 1e9:.0f} GB of memory, this machine has {there / 1e9:.0f} GB; choose fewer"
        )


def refine_by_newton(problem: PulseProblem, result: Result, stop: Stop, threads: int | None) -> tuple[Result, str]:
    """Refine the best result by trust-region Newton with exact Hessian products; return it and what to say of it."""
    from exactgrad.core.newton import newton

    if result.status in (Status.INTERRUPTED, Status.SECONDS):
        return result, ""
    most, began = problem.job.solve.max_seconds, time.monotonic()

    def seconds() -> float:
        return result.seconds + time.monotonic() - began

    problem.limit_threads(threads)
    x, loss, status, iterations = newton(
        problem, result.x, NEWTON_ITERATIONS, lambda: bool(stop) or (most is not None and seconds() >= most)
    )
    if status is Status.INTERRUPTED and not stop:
        status = Status.SECONDS
    refined = replace(
        result, x=x, loss=loss, status=status, iterations=result.iterations + iterations, seconds=seconds()
    )
    return refined, f" (Newton, {iterations} iterations after L-BFGS)"
