"""The run folder of a design: what it is bound to, what it must not hold beforehand, what a resume reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from exactgrad.core import checkpoint
from exactgrad.core.run_folder import RUN, SUMMARY, read_object
from exactgrad.errors import FolderInUse, FormatError, InputError
from exactgrad.files import read_bytes, read_text
from exactgrad.pulses import output, presentation
from exactgrad.pulses.job import Job
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.starts import KINDS

RESULT, REPORT = "result.h5", "report.html"


def bound_text(description: dict) -> str:
    """Return what a checkpoint is bound to: the job less its budgets."""
    job = {**description["job"], "solve": dict(description["job"].get("solve", {}))}
    for key in ("max_seconds", "max_iterations"):
        job["solve"].pop(key, None)
    job.pop("output", None)
    return json.dumps(job, sort_keys=True)


def hash_inputs(job: Job, base: Path) -> dict[str, str]:
    """Return the files that a job reads, by the name it gives them, each with the hash of its content."""
    names = [job.ensemble.distribution, job.target.map, job.response.file if job.response else None]
    if job.solve.start not in KINDS:
        names.append(job.solve.start)
    return {name: hashlib.sha256(read_bytes(base / name)).hexdigest() for name in names if name is not None}


def refuse_used(folder: Path, problem: PulseProblem) -> None:
    """Refuse a folder in which a run, or a file that this run would write, stands already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file of this name exists; an output folder is needed")
    if (folder / SUMMARY).exists() or (folder / RESULT).exists():
        raise FolderInUse(f"{folder}: holds the results of a run; choose another --out (or `exactgrad resume` it)")
    if (folder / RUN).exists():
        raise FolderInUse(f"{folder}: holds an unfinished run; `exactgrad resume {folder}` carries it on")
    wanted = [
        REPORT,
        checkpoint.NAME,
        checkpoint.PREVIOUS,
        *(f"{name}.png" for name in presentation.FIGURES),
        *output.file_names(problem.job),
    ]
    for name in wanted:
        if (folder / name).exists():
            raise FolderInUse(f"{folder / name}: exists already and would be overwritten; choose another --out")
    own = folder / "job.toml"
    if own.exists() and read_text(own) != problem.text:
        raise FolderInUse(f"{own}: is another job; choose another --out")


def read_run(folder: Path) -> dict[str, Any]:
    """Read and check run.json; raises `InputError` if there is no run, `FormatError` if it is not a description."""
    path = folder / RUN
    if not path.is_file():
        raise InputError(f"{folder}: no run to resume ({RUN} is missing)")
    try:
        description = read_object(path)
        Job.model_validate(description["job"])
        for key, kind in (("command", str), ("base", str), ("threads", int | None), ("inputs", dict)):
            if not isinstance(description[key], kind):
                raise TypeError
        return description
    except (FormatError, ValueError, KeyError, TypeError):
        raise FormatError(f"{path}: not the description of a run") from None


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return summary.json's content, or None where there is none that can be read."""
    with contextlib.suppress(InputError):
        return read_object(folder / SUMMARY)
    return None
