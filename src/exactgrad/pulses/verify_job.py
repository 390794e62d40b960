"""`exactgrad verify --job`, of a design: the gradient of the user's own pulse, spins, limits and penalties.

Of many spins a random part is taken, the same for all checks; for 50 digits a few of these.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.run_folder import RUN, Description
from exactgrad.core.solve import total_loss
from exactgrad.core.verify import Check, Verified, judge, worst
from exactgrad.errors import InputError
from exactgrad.pulses.job import blaming, check_job
from exactgrad.pulses.planted import check_kernel
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.sweep import Sweep
from exactgrad.pulses.targets import Bands, Cost
from exactgrad.pulses.verification import DIGITS_TOLERANCE, check_forward

MOST_WORK = 400_000  # steps x spins that are looked at: seconds
MOST_STEPS = 100_000
DIGITS_WORK, MOST_DIGITS = 500, 2000  # steps x spins in 50-digit arithmetic; of one spin
DIRECTIONS = 2  # dense ones, and as many single unknowns
LOUD = 4.0  # times a start: limits bind


def checks(job: Path, cases: int, seed: int) -> Verified:
    """Check the gradient of a job's problem at its start and at `cases` - 1 other points.

    Parameters
    ----------
    job : Path
        A TOML file, or a run folder.
    cases : int
        Points, >= 1; every second one is loud, so that limits bind.
    seed : int
        Of the spins that are taken, of the other points and of the directions.

    Raises
    ------
    InputError
        If the job is wrong, or has too many steps.
    """
    whole = _problem_of(job)
    if whole.steps > MOST_STEPS:
        raise InputError(f"{job}: {whole.steps} steps; at most {MOST_STEPS} are verified")
    problem, said = some_spins(whole, MOST_WORK // whole.steps, seed)
    points = [_point(problem, i, seed) for i in range(cases)]
    found = [
        _digits_check(problem, points[0], seed),
        worst(check_kernel(problem, x, "gradient, every entry") for x in points),
        worst(check_forward("forward mode", problem, x, seed) for x in points),
        *verify.check_problem(problem, points, seed),
    ]
    size = f"{whole.steps} steps, {problem.size} unknowns, {said}"
    return Verified(f"{size}; at its start and {cases - 1} other points (seed {seed})", found)


def _problem_of(job: Path) -> PulseProblem:
    """Return the problem of a job file, or of what a run folder says that its job was."""
    if not job.is_dir():
        return PulseProblem.from_job(job)
    description, name = Description.read(job, "design"), str(job / RUN)
    with blaming(name):
        return PulseProblem(check_job(description.job, name), Path(description.base))


def _point(problem: PulseProblem, number: int, seed: int) -> np.ndarray:
    """Return the job's own start, or another; beside it, where a limit that begins to bind holds it up."""
    x = problem.start(problem.job.solve.seed) if number == 0 else problem.start(seed + number)
    x = x * (LOUD if number % 2 else 1.0)
    beside = problem.off_kink(x)
    return x if beside is None else beside


def some_spins(problem: PulseProblem, most: int, seed: int) -> tuple[PulseProblem, str]:
    """Return a problem with at most so many of the spins, chosen at random, and which those are in words."""
    spins = problem.ensemble.spins
    most = max(most, 1)
    if spins <= most:
        return problem, f"all {spins} spins"
    heavy = np.flatnonzero(problem.weight > 0)
    chosen = np.sort(np.random.default_rng(seed).choice(heavy, min(most, heavy.size), replace=False))
    ensemble, weight = problem.ensemble, problem.weight[chosen]
    some = copy.copy(problem)
    some.ensemble = replace(
        ensemble,
        offset_hz=ensemble.offset_hz[chosen],
        b1=ensemble.b1[chosen],
        weight=ensemble.weight[chosen],
        grid=None,
    )
    some.weight = weight / weight.sum()
    some.cost = _of_spins(problem.cost, chosen, spins)
    some._sweep = Sweep(some.ensemble.offset_hz, some.ensemble.b1, problem._sweep.threads)
    return some, f"{chosen.size} of {spins} spins, taken at random (seed {seed})"


def _of_spins(cost: Cost, chosen: np.ndarray, spins: int) -> Cost:
    """Return what a cost asks of the chosen spins."""
    if isinstance(cost, Bands):
        return Bands(tuple(_member(*member, chosen) for member in cost.members))
    parts = {part.name: getattr(cost, part.name) for part in fields(cost)}  # type: ignore[arg-type]
    return replace(cost, **{name: _taken(value, chosen, spins) for name, value in parts.items()})  # type: ignore[type-var]


def _member(spins: np.ndarray, cost: Cost, chosen: np.ndarray) -> tuple[np.ndarray, Cost]:
    kept = np.isin(spins, chosen)
    return np.searchsorted(chosen, spins[kept]), _of_spins(cost, np.flatnonzero(kept), spins.size)


def _taken(value: Any, chosen: np.ndarray, spins: int) -> Any:
    is_of_spins = isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == spins
    return value[:, chosen] if is_of_spins else value


def _digits_check(problem: PulseProblem, x: np.ndarray, seed: int) -> Check:
    """Compare the gradient, along some directions, with 50-digit arithmetic; relative to max |g|."""
    name, by = "gradient, all digits", "50-digit arithmetic"
    few, _ = some_spins(problem, DIGITS_WORK // problem.steps, seed)
    if few.steps > MOST_DIGITS:
        return judge(name, "not run: too many steps for 50-digit arithmetic", 0.0, 0.0)
    gradient = total_loss(few)(x)[1]
    scale = max(np.abs(gradient).max(), verify.STATIONARY)
    try:
        from exactgrad.pulses.reference.fifty_digits import slope

        found = [(abs(slope(few, x, v) - gradient @ v) / scale, where) for where, v in _directions(few, x, seed)]
    except ImportError:
        return judge(name, "not run: mpmath is not installed; differences stand in", 0.0, 0.0)
    error, where = max(found, key=lambda item: (bool(np.isnan(item[0])), item[0]))
    return judge(name, by, error, DIGITS_TOLERANCE, where, f"{few.ensemble.spins} spins")


def _directions(problem: PulseProblem, x: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield named directions: dense ones, and single unknowns."""
    rng, labels = np.random.default_rng(seed), problem.parameters(x).labels()
    for number in range(DIRECTIONS):
        v = rng.normal(size=x.size)
        yield f"direction {number + 1}", v / np.linalg.norm(v)
    for i in rng.choice(x.size, min(DIRECTIONS, x.size), replace=False):
        yield labels[i], np.eye(1, x.size, i)[0]
