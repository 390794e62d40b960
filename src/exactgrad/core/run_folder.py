"""A run folder, whatever the system: what it says of itself, how a run takes it, goes on in it, and leaves it.

It holds job.toml, run.json (what a resume needs), checkpoint.h5 while unfinished, and at the end result.h5, figures,
report.html and, last of all, summary.json: a folder with a summary is complete. Nothing finished is overwritten.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exactgrad
from exactgrad.core import checkpoint
from exactgrad.errors import FolderInUse, FormatError, InputError
from exactgrad.files import hash_of, hold_folder, read_text, write_atomic

RUN, SUMMARY, JOB = "run.json", "summary.json", "job.toml"
RESULT, REPORT = "result.h5", "report.html"
JSON_LIMIT_BYTES = 16 * 1024 * 1024
BUDGETS = ("max_iterations", "max_seconds")


@dataclass(frozen=True)
class Description:
    """What run.json says: enough to do the run again, and to carry it on.

    Attributes
    ----------
    system, command : str
    job : dict
        The job's tables, with what the command line changed.
    base : str
        The folder that names of files in the job are relative to.
    inputs : dict of str to str
        The files that the run reads, relative to `base`, each with the SHA-256 of its content.
    threads : int or None
    version : str
        Of exactgrad.
    """

    system: str
    command: str
    job: dict[str, Any]
    base: str
    inputs: dict[str, str]
    threads: int | None = None
    version: str = exactgrad.__version__

    @classmethod
    def of(
        cls, system: str, command: str, job: dict[str, Any], base: Path, inputs: Iterable[str], threads: int | None
    ) -> Description:
        """Describe a run that begins now; the files that it reads are hashed."""
        hashes = {name: hash_of(base / name) for name in inputs}
        return cls(system, command, job, str(base.resolve()), hashes, threads)

    @classmethod
    def read(cls, folder: Path, command: str) -> Description:
        """Read run.json.

        Raises
        ------
        InputError
            If there is no run in the folder, or one of another command; `FormatError` if the file is no description.
        """
        path = folder / RUN
        if not path.is_file():
            raise InputError(f"{folder}: no run to resume ({RUN} is missing)")
        try:
            content = read_object(path)
        except FormatError:
            content = {}
        kinds = {"system": str, "command": str, "job": dict, "base": str, "inputs": dict, "threads": int | None}
        is_one = all(key in content and isinstance(content[key], kind) for key, kind in kinds.items())
        if not is_one or not all(isinstance(digest, str) for digest in content["inputs"].values()):
            raise FormatError(f"{path}: not the description of a run")
        if content["command"] != command:
            raise InputError(f"{folder}: a run of `{content['command'][:40]}`; only `{command}` can be carried on")
        return cls(**{key: content[key] for key in kinds}, version=str(content.get("version")))

    def changed(self, table: str, overrides: Mapping[str, Any] | None) -> Description:
        """Return the description with keys of a table of its job replaced; None stands for a key that stays."""
        return Description(**{**vars(self), "job": with_overrides(self.job, table, overrides)})

    def bound(self, table: str, free: Iterable[str] = ()) -> str:
        """Return what a checkpoint is bound to: the input files and the job less its budgets and its `free` parts."""
        kept = {key: value for key, value in self.job.items() if key not in ("output", *free)}
        kept[table] = {key: value for key, value in kept.get(table, {}).items() if key not in (*BUDGETS, *free)}
        return json.dumps({"job": kept, "inputs": self.inputs}, sort_keys=True)

    def refuse_changed_inputs(self) -> None:
        """Raise `InputError` if a file that the run reads is no longer what it was when the run began."""
        for name, digest in self.inputs.items():
            path = Path(self.base) / name
            if hash_of(path) != digest:
                raise InputError(f"{path}: has changed since this run began; the run cannot go on as it was")

    def head(self) -> dict[str, str]:
        """Return the keys with which every summary begins."""
        return {"system": self.system, "command": self.command, "version": exactgrad.__version__}


def with_overrides(job: dict[str, Any], table: str, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a job with keys of one table replaced; None stands for a key that stays.

    Examples
    --------
    >>> with_overrides({"solve": {"seed": 1, "starts": 4}}, "solve", {"seed": 2, "starts": None})
    {'solve': {'seed': 2, 'starts': 4}}
    """
    changes = {key: value for key, value in (overrides or {}).items() if value is not None}
    return {**job, table: {**job.get(table, {}), **changes}} if changes else job


@contextlib.contextmanager
def begun(
    folder: Path, description: Description, text: str | None, written: Iterable[str] = (), again: bool = False
) -> Iterator[None]:
    """Hold a folder for a new run, with run.json in it, and job.toml where the job came as text.

    Parameters
    ----------
    folder : Path
        Made if missing.
    description : Description
    text : str or None
        The job file's content.
    written : iterable of str
        The files, beside those of every run, that the run will write.
    again : bool
        Whether this very run, if it was cut off, is done again in its place (it has no checkpoint to go on from).

    Raises
    ------
    FolderInUse
        If a run, or a file that this one would write, stands in the folder.
    """
    written, same = list(written), description if again else None
    refuse_used(folder, text, written, same)
    with hold_folder(folder):
        refuse_used(folder, text, written, same)
        if text is not None:
            write_atomic(folder / JOB, text, overwrite=True)
        write_atomic(folder / RUN, json.dumps(vars(description), indent=1), overwrite=True)
        yield


@contextlib.contextmanager
def reopened(folder: Path, command: str) -> Iterator[Description]:
    """Hold the folder of an unfinished run of `command` whose input files are what they were; gives its description.

    Raises
    ------
    InputError
        If there is no such run, or a file that it reads has changed; `FolderInUse` if it is finished.
    """
    description = Description.read(folder, command)
    with hold_folder(folder):
        finished = read_summary(folder)
        if finished is not None and finished.get("status") == "converged":
            raise FolderInUse(f"{folder}: this run is finished ({finished.get('message', '')})")
        try:
            description.refuse_changed_inputs()
        except InputError as error:
            raise type(error)(f"{folder / RUN}: {error}") from None
        yield description


def job_text(folder: Path, description: Description) -> str:
    """Return the job as its user wrote it, or where it came as a dict its JSON."""
    own = folder / JOB
    return read_text(own) if own.exists() else json.dumps(description.job)


def refuse_used(folder: Path, text: str | None, written: Iterable[str] = (), same: Description | None = None) -> None:
    """Refuse a folder in which a run (but the `same` one, cut off), or a file that this run would write, stands."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file of this name exists; an output folder is needed")
    if (folder / SUMMARY).exists() or (folder / RESULT).exists():
        raise FolderInUse(f"{folder}: holds the results of a run; choose another --out (or `exactgrad resume` it)")
    if same is not None and _is_begun(folder, same):
        return
    if (folder / RUN).exists() and same is not None:
        raise FolderInUse(f"{folder}: holds another run, which was cut off; choose another --out")
    if (folder / RUN).exists():
        raise FolderInUse(f"{folder}: holds an unfinished run; `exactgrad resume {folder}` carries it on")
    for name in (REPORT, checkpoint.NAME, checkpoint.PREVIOUS, *written):
        if (folder / name).exists():
            raise FolderInUse(f"{folder / name}: exists already and would be overwritten; choose another --out")
    own = folder / JOB
    if own.exists() and (text is None or read_text(own) != text):
        raise FolderInUse(f"{own}: is another job; choose another --out")


def _is_begun(folder: Path, description: Description) -> bool:
    """Return whether run.json describes this very run; the number of threads does not count."""
    with contextlib.suppress(InputError):
        found = read_object(folder / RUN)
        return all(found.get(key) == value for key, value in vars(description).items() if key != "threads")
    return False


Pictures = Mapping[str, tuple[str, bytes, str]]
"""Figures by name: title, PNG, caption."""


def leave(folder: Path, summary: dict[str, Any], pictures: Pictures, html: str) -> None:
    """Write figures, report and, last of all, the summary.

    Raises
    ------
    NotWritten
        If the folder cannot be written.
    """
    write_report(folder, pictures, html)
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=1), overwrite=True)


def write_report(folder: Path, pictures: Pictures, html: str) -> list[Path]:
    """Write figures and report, each whole or not at all; return their paths, the report first.

    Raises
    ------
    NotWritten
        If the folder cannot be written.
    """
    for name, (_title, png, _caption) in pictures.items():
        write_atomic(folder / f"{name}.png", png, overwrite=True)
    write_atomic(folder / REPORT, html, overwrite=True)
    return [folder / REPORT, *(folder / f"{name}.png" for name in pictures)]


def left_by(folder: Path, needed: Iterable[str] = (SUMMARY, RESULT)) -> dict[str, Any]:
    """Return the summary of a run that has left its results.

    Raises
    ------
    InputError
        If a needed file is missing: the run was cut off before it could write it; `FormatError` if it is damaged.
    """
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        what = f"{' and '.join(missing)} missing"
        raise InputError(f"{folder}: this run was cut off: {what}; `exactgrad resume {folder}` carries it on")
    return read_object(folder / SUMMARY)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return summary.json's content, or None where there is none that can be read."""
    with contextlib.suppress(InputError):
        return read_object(folder / SUMMARY)
    return None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    InputError
        If the file cannot be read; `FormatError` if it is not JSON, or no object.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.json"
    >>> _ = path.write_text('{"system": "pulses"}')
    >>> read_object(path)
    {'system': 'pulses'}
    """
    text = read_text(path, JSON_LIMIT_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: a JSON object is needed, got {text.strip()[:40]!r}")
    return content


def system_of(folder: Path) -> str:
    """Return the name of the system that made a run folder.

    Raises
    ------
    InputError
        If there is no such folder, it holds no run, or its run.json names no system.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / RUN).is_file():
        raise InputError(f"{folder}: not a run folder ({RUN} is missing)")
    name = read_object(folder / RUN).get("system")
    if not isinstance(name, str):
        raise FormatError(f"{folder / RUN}: key system: the name of a system is needed, got {str(name)[:40]!r}")
    return name
