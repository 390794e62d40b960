"""The run folder of a reconstruction: what it is bound to, what it must not hold beforehand, what a resume reads.

It holds job.toml, run.json (what a resume needs), while unfinished journal.h5 (what the finished fits found) and
checkpoint.h5 (the fit that is under way), and at the end result.h5, summary.json, report.html and figures.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core import checkpoint
from exactgrad.core.run_folder import RUN, SUMMARY, read_object
from exactgrad.core.solve import Search
from exactgrad.errors import FolderInUse, FormatError, InputError
from exactgrad.files import read_hdf5, read_text, write_hdf5
from exactgrad.tomography.formats.result import NAME as RESULT
from exactgrad.tomography.stages import Journal

JOURNAL, REPORT, JOB = "journal.h5", "report.html", "job.toml"
PICTURES = ("slices", "glyphs", "projections", "residuals", "histograms", "convergence", "resolution")
SCHEMA = 1
BLOCK_BYTES = 1 << 20


def bound_text(description: dict[str, Any]) -> str:
    """Return what journal and checkpoint are bound to: the data and the job less its budgets and its output."""
    job = {**description["job"], "solve": dict(description["job"].get("solve", {}))}
    for key in ("max_seconds", "max_iterations"):
        job["solve"].pop(key, None)
    for table in ("output", "quality"):
        job.pop(table, None)
    return json.dumps({"job": job, "data_sha256": description["data_sha256"]}, sort_keys=True)


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file that may be larger than memory."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            while block := handle.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def refuse_used(folder: Path, text: str | None = None) -> None:
    """Refuse a folder in which a run, or a file that this run would write, stands already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file of this name exists; an output folder is needed")
    if (folder / SUMMARY).exists() or (folder / RESULT).exists():
        raise FolderInUse(f"{folder}: holds the results of a run; choose another --out (or `exactgrad resume` it)")
    if (folder / RUN).exists():
        raise FolderInUse(f"{folder}: holds an unfinished run; `exactgrad resume {folder}` carries it on")
    for name in (REPORT, JOURNAL, checkpoint.NAME, checkpoint.PREVIOUS, *(f"{name}.png" for name in PICTURES)):
        if (folder / name).exists():
            raise FolderInUse(f"{folder / name}: exists already and would be overwritten; choose another --out")
    own = folder / JOB
    if own.exists() and (text is None or read_text(own) != text):
        raise FolderInUse(f"{own}: is another job; choose another --out")


def read_run(folder: Path) -> dict[str, Any]:
    """Read and check run.json; raises `InputError` if there is no run, `FormatError` if it is not a description."""
    path = folder / RUN
    if not path.is_file():
        raise InputError(f"{folder}: no run to resume ({RUN} is missing)")
    try:
        description = read_object(path)
        for key, kind in (("job", dict), ("data", str), ("data_sha256", str), ("threads", int | None)):
            if not isinstance(description[key], kind):
                raise TypeError
        return description
    except (FormatError, KeyError, TypeError):
        raise FormatError(f"{path}: not the description of a run") from None


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return summary.json's content, or None where there is none that can be read."""
    with contextlib.suppress(InputError):
        return read_object(folder / SUMMARY)
    return None


def save_journal(folder: Path, journal: Journal, bound: str) -> None:
    """Write what the finished fits found, whole or not at all.

    Raises
    ------
    NotWritten
        If the folder cannot be written.
    """
    attributes = {"schema": SCHEMA, "job": checkpoint.job_hash(bound)}
    names = "\n".join(journal.arrays)  # the order counts, and HDF5 has its own
    write_hdf5(folder / JOURNAL, {**journal.arrays, "names": names}, attributes, overwrite=True)


def load_journal(folder: Path, bound: str) -> Journal:
    """Return what `save_journal` wrote; an empty journal where nothing was.

    Raises
    ------
    FormatError, InputError
        If the file is damaged, or belongs to another job.
    """
    path = folder / JOURNAL
    if not path.exists():
        return Journal()
    arrays, attributes = read_hdf5(path)
    if attributes.get("schema") != SCHEMA:
        raise FormatError(f"{path}: not a journal that this version can read")
    if str(attributes.get("job")) != checkpoint.job_hash(bound):
        raise InputError(f"{path}: belongs to another job; choose another output folder")
    try:
        names = bytes(arrays["names"]).decode().splitlines()
        return Journal({name: np.asarray(arrays[name]) for name in names})
    except (KeyError, ValueError, TypeError):
        raise FormatError(f"{path}: not the journal of a reconstruction") from None


def load_search(folder: Path, bound: str, fit: str, last: str | None) -> Search | None:
    """Return the state of a fit, or None where it has not begun: then the checkpoint is the last finished fit's.

    Raises
    ------
    FormatError, InputError
        As `core.checkpoint.load`.
    """
    try:
        return checkpoint.load(folder, bound_to(bound, fit))
    except FormatError:
        raise
    except InputError:
        if last is None:
            raise
        checkpoint.load(folder, bound_to(bound, last))
        checkpoint.discard(folder)
        return None


def bound_to(bound: str, fit: str) -> str:
    """Return what the checkpoint of a fit is bound to."""
    return f"{bound} {fit}"
