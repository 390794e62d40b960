"""One refinement from job to files: data, search, errors, figures, report.

A run folder holds job.toml, run.json (what resume needs), checkpoint.h5 while unfinished, result.h5, summary.json,
report.html and figures. Results of a finished run are never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from exactgrad.core import checkpoint
from exactgrad.core.run_folder import RUN, Description, begun, job_text, reopened, with_overrides
from exactgrad.core.solve import Event, ending, interruptible
from exactgrad.diffraction.from_job import Shot, shots
from exactgrad.diffraction.job import Job, check_job, input_files, read_job
from exactgrad.diffraction.losses import Observed
from exactgrad.diffraction.refine_job import RefineTable, moved_start, plan_of, recorded_images, refine_table
from exactgrad.diffraction.refinement import output
from exactgrad.diffraction.refinement.plan import Plan
from exactgrad.diffraction.refinement.search import Progress, refine_images
from exactgrad.diffraction.refinement.unknowns import Unknowns
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Task:
    """A refinement, read and checked."""

    table: RefineTable
    todo: list[Shot]
    images: list[Settings]
    plan: Plan
    observed: list[Observed]
    text: str


def refine(
    source: Any,
    folder: Path,
    overrides: dict[str, Any] | None = None,
    threads: int | None = None,
    on_event: Listener = lambda event: None,
) -> dict[str, Any]:
    """Refine the parameters of a job against its recorded images and write the run folder.

    Parameters
    ----------
    source : path or dict
        The job, with a table [refine].
    folder : Path
        The run folder; made if missing, refused if results or an unfinished run stand in it.
    overrides : dict, optional
        Keys of [refine] that a command line replaces: seed, max_iterations, max_seconds.
    threads : int, optional
        At most so many; the result does not depend on it.
    on_event : callable
        Progress, from this thread.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    InputError
        For bad input; nothing was written then.
    """
    folder = Path(folder)
    job, base, text = read_job(source)
    name = "job" if isinstance(source, dict) else str(source)
    tables = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    refine_table(job, name)
    changed = with_overrides(tables, "refine", overrides)
    task = _task(check_job(changed, name), base, name if changed is tables else "command line", text)
    description = Description.of("diffraction", "refine", changed, base, input_files(changed, base), threads)
    pictures = [f"{figure}.png" for figure in output.FIGURES]
    with begun(folder, description, None if isinstance(source, dict) else text, pictures):
        return _carry_on(task, folder, description, None, threads, on_event)


def resume(
    folder: Path,
    threads: int | None = None,
    overrides: dict[str, Any] | None = None,
    on_event: Listener = lambda event: None,
) -> dict[str, Any]:
    """Carry an unfinished refinement on from its checkpoint, bit for bit as if it had not been stopped.

    Parameters
    ----------
    folder : Path
        A run folder.
    threads : int, optional
    overrides : dict, optional
        max_iterations or max_seconds, to give a run whose budget was used up a larger one.

    Returns
    -------
    dict
        The summary, as the run itself would have returned it.

    Raises
    ------
    InputError
        If there is no refinement in the folder, it is finished, or a file that it reads has changed.
    """
    folder = Path(folder)
    with reopened(folder, "refine") as found:
        description, base, name = found.changed("refine", overrides), Path(found.base), str(folder / RUN)
        task = _task(check_job(description.job, name), base, name, job_text(folder, description))
        progress = checkpoint.load(folder, _bound(found), partial(Progress.from_arrays, method=task.plan.method))
        return _carry_on(task, folder, description, progress, threads or description.threads, on_event)


def _task(job: Job, base: Path, name: str, text: str) -> Task:
    table = refine_table(job, name)
    try:
        todo = shots(job, base)
        images, plan = plan_of(table, todo, job, base)
        Unknowns(images, plan.members)  # what cannot be refined is told before anything is written
        observed = recorded_images(table, todo, job, base)
        return Task(table, todo, moved_start(images, plan, table.seed), plan, observed, text)
    except InputError as error:
        raise type(error)(f"{name}: {error}") from None


def _carry_on(
    task: Task,
    folder: Path,
    description: Description,
    progress: Progress | None,
    threads: int | None,
    on_event: Listener,
) -> dict[str, Any]:
    bound, names = _bound(description), [shot.name for shot in task.todo]
    with interruptible() as stop:
        found = refine_images(
            task.images,
            task.observed,
            task.plan,
            names,
            threads,
            task.table.max_seconds,
            stop,
            on_event,
            lambda state: checkpoint.save(folder, state, bound),
            progress,
        )
        outcome = ending(found.status, stop)
        if outcome["status"] != "converged":
            checkpoint.save(folder, found.progress, bound)
        summary = output.write(
            folder, found, {**description.head(), **outcome}, names, task, threads
        )  # one signal does not cut it short
    if outcome["status"] == "converged":
        checkpoint.discard(folder)
    return summary


def _bound(description: Description) -> str:
    return description.bound("refine", ("figures",))
