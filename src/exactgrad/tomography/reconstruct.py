"""One reconstruction from a data file to a run folder: fits, errors, resolution, files, figures, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core import checkpoint
from exactgrad.core.lbfgs import Status
from exactgrad.core.run_folder import Description, begun, refuse_used, reopened, with_overrides
from exactgrad.core.solve import Budget, Event, Search, Stage, Stop, ending, interruptible, run
from exactgrad.errors import InputError
from exactgrad.tomography import formats, output, run_folder
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct_job import Job
from exactgrad.tomography.stages import Fit, Journal, Plan
from exactgrad.tomography.tables import read_job

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """How the fits ended.

    Attributes
    ----------
    problem : TomographyProblem
        All data, the voxels that are there, the chosen regularisation.
    x : ndarray
        The best vector of it.
    status : Status
    iterations, evaluations : int
        Of all fits.
    seconds : float
        Of all fits, earlier processes included.
    """

    problem: TomographyProblem
    x: np.ndarray
    status: Status
    iterations: int
    evaluations: int
    seconds: float


def reconstruct(
    path: Any,
    folder: Any,
    job: Any = None,
    overrides: dict[str, Any] | None = None,
    threads: int | None = None,
    on_event: Listener = lambda event: None,
    start: dict[str, Any] | None = None,
    q: int | str | None = None,
) -> dict[str, Any]:
    """Reconstruct A, B and the axis of every voxel of a data file, and write the run folder.

    Parameters
    ----------
    path : path
        Any data file that `formats.load` reads.
    folder : path
        The run folder; made if missing, refused if results or an unfinished run stand in it.
    job : path or dict, optional
        See `reconstruct_job.Job`; all of it has defaults.
    overrides : dict, optional
        Keys of [solve] that a command line replaces: max_iterations, max_seconds, seed.
    threads : int, optional
        Most threads; results do not depend on it.
    on_event : callable
        Progress, from this thread.
    start : dict of str to ndarray, optional
        Where one q starts, as `stages.Plan` takes it, and ``offsets`` (2, n); several q give it to each other.
    q : int or "all", optional
        Replaces data.q: which q where the file has several, from 0. Of several, each has its folder in the run folder.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    InputError
        For bad input; nothing was written then.
    """
    path, folder = Path(path), Path(folder)
    checked, text = read_job({} if job is None else job, Job)
    tables = with_overrides(checked.model_dump(mode="json", exclude_unset=True), "solve", overrides)
    tables = tables if q is None else {**tables, "data": {"q": q}}
    checked, _ = read_job(tables, Job)
    own_text = text if job is not None and not isinstance(job, dict) else None
    written = [run_folder.JOURNAL, *(f"{name}.png" for name in run_folder.PICTURES)]
    refuse_used(folder, own_text, written)  # before a large file is read
    if checked.data.may_be_several:
        from exactgrad.tomography import q_series

        numbers = q_series.chosen(path, checked.data)
        if len(numbers) > 1:
            return q_series.reconstruct(path, folder, tables, own_text, numbers, threads, on_event)
        tables = {**tables, "data": {"q": numbers[0]}}
        checked, _ = read_job(tables, Job)
    data, warnings = _load(path, checked)
    description = Description.of("tomography", "reconstruct", tables, path.parent, formats.files_of(path), threads)
    with begun(folder, description, own_text, written):
        return _carry_on(data, warnings, folder, description, _bound(description), threads, on_event, start)


def resume(
    folder: Any,
    threads: int | None = None,
    overrides: dict[str, Any] | None = None,
    on_event: Listener = lambda event: None,
    start: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Carry an unfinished reconstruction on, bit for bit as if it had not been stopped.

    Parameters
    ----------
    folder : path
        A run folder.
    threads : int, optional
        Does not change the result.
    overrides : dict, optional
        max_iterations or max_seconds, to give a run whose budget was used up a larger one.
    start : dict of str to ndarray, optional
        Where a run that was stopped before its first fit starts, as of `reconstruct`.

    Returns
    -------
    dict
        The summary, as the run itself would have returned it.

    Raises
    ------
    InputError
        If there is no run in the folder, it is finished, or its data have changed.
    """
    folder = Path(folder)
    with reopened(folder, "reconstruct") as found:
        description = found.changed("solve", overrides)
        checked, _ = read_job(description.job, Job)
        path, threads = _data_path(description), threads or description.threads
        if checked.data.may_be_several:
            from exactgrad.tomography import q_series

            numbers = q_series.chosen(path, checked.data)
            return q_series.carry_on(path, folder, description, numbers, threads, on_event)
        data, warnings = _load(path, checked)
        return _carry_on(data, warnings, folder, description, _bound(found), threads, on_event, start)


def _bound(description: Description) -> str:
    return description.bound("solve", ("quality",))


def _data_path(description: Description) -> Path:
    return Path(description.base) / next(iter(description.inputs))


def _load(path: Path, job: Job) -> tuple[Dataset, list[str]]:
    """Return the data of the q that the job names, and what looks wrong in them."""
    from exactgrad.tomography.info import describe

    q = job.data.number
    data = formats.one_of(path, formats.read(path), q)
    if not any(float(data.projection(n)[1].sum()) > 0 for n in range(data.geometry.projections)):
        raise InputError(f"{path}: no value has a weight above 0: there is nothing to reconstruct from")
    return data, describe(path, q)["warnings"]


def _carry_on(
    data: Dataset,
    warnings: list[str],
    folder: Path,
    description: Description,
    bound: str,
    threads: int | None,
    on_event: Listener,
    start: dict[str, Any] | None,
) -> dict[str, Any]:
    """Run the fits that are not finished and write what they come to."""
    job, _ = read_job(description.job, Job)
    journal = run_folder.load_journal(folder, bound)
    if start is not None and not journal.arrays:
        journal.begin(start)
        run_folder.save_journal(folder, journal, bound)
    plan = Plan(data, job, threads, journal.start())
    with interruptible() as stop:
        outcome = _fits(plan, journal, folder, bound, threads, stop, on_event)
        how = ending(outcome.status, stop)
        told = {**description.head(), **how, "data": str(_data_path(description)), "warnings": warnings}
        summary = output.finish(plan, journal, outcome, folder, told, threads)
    if how["status"] == "converged":
        checkpoint.discard(folder)
        (folder / run_folder.JOURNAL).unlink(missing_ok=True)
    return summary


def _fits(
    plan: Plan,
    journal: Journal,
    folder: Path,
    bound: str,
    threads: int | None,
    stop: Stop,
    on_event: Listener,
) -> Outcome:
    """Run fit after fit until all are finished, the budget is used up, or it is asked to stop."""
    solve = plan.job.solve
    last = next(reversed(journal.histories()), None)
    status = Status.PLATEAU
    while (fit := plan.next(journal)) is not None:
        began = journal.spent()
        search = run_folder.load_search(folder, bound, fit.name, last)
        left = None if solve.max_seconds is None else max(solve.max_seconds - began[2], 1e-9)
        result = run(
            [Stage(fit.problem, fit.iterations)],
            Search.begin([fit.x]) if search is None else search,
            Budget(left, fit.tolerance, solve.memory, threads=threads),
            stop,
            _titled(fit, float(began[2]), on_event),
            partial(_save, folder, run_folder.bound_to(bound, fit.name)),
        )
        spent = np.array([result.iterations, result.evaluations, result.seconds])
        is_cut = result.status in (Status.INTERRUPTED, Status.SECONDS)
        if is_cut or (fit.is_final and not result.status.converged):
            checkpoint.save(folder, result.search, run_folder.bound_to(bound, fit.name))
            problem, x = plan.lifted(journal, fit, result.x)
            total = began + spent
            return Outcome(problem, x, result.status, int(total[0]), int(total[1]), float(total[2]))
        journal.add(fit.name, fit.keep(result.x), result.histories[0], spent)
        plan.after(fit, journal)
        run_folder.save_journal(folder, journal, bound)
        checkpoint.discard(folder)
        last, status = fit.name, result.status if fit.is_final else status
    total = journal.spent()
    return Outcome(*plan.lifted(journal, None, None), status, int(total[0]), int(total[1]), float(total[2]))


def _titled(fit: Fit, began_s: float, on_event: Listener) -> Listener:
    return lambda event: on_event(replace(event, phase=fit.title, seconds=event.seconds + began_s))


def _save(folder: Path, bound: str, search: Search) -> None:
    checkpoint.save(folder, search, bound)
