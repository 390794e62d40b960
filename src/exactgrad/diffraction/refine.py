"""One refinement from job to files: data, search, errors, figures, report.

A run folder holds job.toml, run.json (what resume needs), checkpoint.h5 while unfinished, result.h5, summary.json,
report.html and figures. Results of a finished run are never overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exactgrad
from exactgrad.core.run_folder import RUN, SUMMARY, read_object
from exactgrad.core.solve import Event, interruptible
from exactgrad.diffraction.from_job import Shot, shots
from exactgrad.diffraction.job import Job, check_job, read_job
from exactgrad.diffraction.losses import Observed
from exactgrad.diffraction.refine_job import RefineTable, moved_start, plan_of, recorded_images, refine_table
from exactgrad.diffraction.refinement import checkpoint, output
from exactgrad.diffraction.refinement.plan import Plan
from exactgrad.diffraction.refinement.search import Progress, refine_images
from exactgrad.diffraction.refinement.unknowns import Unknowns
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import FolderInUse, FormatError, InputError
from exactgrad.files import hold_folder, read_bytes, read_text, write_atomic

Listener = Callable[[Event], None]
BUDGETS = ("max_iterations", "max_seconds")
LARGEST_INPUT_BYTES = 4 * 1024**3


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
    changes = {key: value for key, value in (overrides or {}).items() if value is not None}
    tables = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    refine_table(job, name)
    tables["refine"] = {**tables["refine"], **changes}
    task = _task(check_job(tables, name), base, "command line" if changes else name, text)
    _refuse_used(folder, text)
    with hold_folder(folder):
        _refuse_used(folder, text)
        description = {
            "system": "diffraction",
            "command": "refine",
            "version": exactgrad.__version__,
            "job": tables,
            "base": str(base.resolve()),
            "inputs": _hashes(tables, base),
            "threads": threads,
        }
        if not isinstance(source, dict):
            write_atomic(folder / "job.toml", text, overwrite=True)
        write_atomic(folder / RUN, json.dumps(description, indent=1), overwrite=True)
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

    Raises
    ------
    InputError
        If there is no refinement in the folder, it is finished, or a file that it reads has changed.
    """
    folder = Path(folder)
    description = _read_run(folder)
    with hold_folder(folder):
        if _status(folder) == "converged":
            raise FolderInUse(f"{folder}: this run is finished")
        bound = _bound_text(description)
        changes = {key: value for key, value in (overrides or {}).items() if value is not None}
        description["job"]["refine"] = {**description["job"]["refine"], **changes}
        base, name = Path(description["base"]), str(folder / RUN)
        for key, digest in _hashes(description["job"], base).items():
            if description["inputs"].get(key) != digest:
                raise InputError(f"{base / key}: has changed since this run began; the run cannot go on as it was")
        text = read_text(folder / "job.toml") if (folder / "job.toml").exists() else json.dumps(description["job"])
        task = _task(check_job(description["job"], name), base, name, text)
        progress = checkpoint.load(folder, bound, task.plan.method)
        return _carry_on(task, folder, description, progress, threads or description["threads"], on_event)


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
    description: dict[str, Any],
    progress: Progress | None,
    threads: int | None,
    on_event: Listener,
) -> dict[str, Any]:
    bound, names = _bound_text(description), [shot.name for shot in task.todo]
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
        status = "converged" if found.status.converged else "budget"
        outcome = {"status": status, "message": found.status.value}
        if stop:
            outcome["status"] = "interrupted"
            outcome["signal"] = signal.Signals(stop.signal).name if stop.signal is not None else "SIGINT"
        if outcome["status"] != "converged":
            checkpoint.save(folder, found.progress, bound)
        summary = output.write(folder, found, outcome, names, task, threads)  # one signal does not cut it short
    if outcome["status"] == "converged":
        checkpoint.discard(folder)
    return summary


def _bound_text(description: dict[str, Any]) -> str:
    """Return what a checkpoint is bound to: the job less its budgets."""
    table = {key: value for key, value in description["job"]["refine"].items() if key not in (*BUDGETS, "figures")}
    return json.dumps({**description["job"], "refine": table, "output": None}, sort_keys=True)


def _hashes(tables: dict[str, Any], base: Path) -> dict[str, str]:
    """Return the files that a job reads, by the name it gives them, each with the hash of its content."""
    names = {text for text in _texts(tables) if text and len(text) < 1000 and (base / text).is_file()}
    names |= {word for word in tables.get("options", "").split() if (base / word).is_file()}
    return {name: hashlib.sha256(read_bytes(base / name, LARGEST_INPUT_BYTES)).hexdigest() for name in sorted(names)}


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _refuse_used(folder: Path, text: str) -> None:
    """Refuse a folder in which a run, or a file that this run would write, stands already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file of this name exists; an output folder is needed")
    if (folder / SUMMARY).exists() or (folder / output.RESULT).exists():
        raise FolderInUse(f"{folder}: holds the results of a run; choose another --out (or `exactgrad resume` it)")
    if (folder / RUN).exists():
        raise FolderInUse(f"{folder}: holds an unfinished run; `exactgrad resume {folder}` carries it on")
    for name in (*output.FILES, *checkpoint.FILES):
        if (folder / name).exists():
            raise FolderInUse(f"{folder / name}: exists already and would be overwritten; choose another --out")
    own = folder / "job.toml"
    if own.exists() and read_text(own) != text:
        raise FolderInUse(f"{own}: is another job; choose another --out")


def _status(folder: Path) -> str | None:
    with contextlib.suppress(InputError):
        return read_object(folder / SUMMARY).get("status")
    return None


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    if not path.is_file():
        raise InputError(f"{folder}: no run to resume ({RUN} is missing)")
    description = read_object(path)
    kinds = {"command": str, "base": str, "threads": int | None, "inputs": dict, "job": dict}
    if not all(key in description and isinstance(description[key], kind) for key, kind in kinds.items()):
        raise FormatError(f"{path}: not the description of a run")
    if description["command"] != "refine" or not isinstance(description["job"].get("refine"), dict):
        raise InputError(f"{folder}: a run of `{description['command']}`; only a refinement can be resumed")
    return description
