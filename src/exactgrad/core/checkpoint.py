"""Checkpoints that survive a kill: whole, checksummed, the previous one kept, bound to the job they belong to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from exactgrad.core.solve import Search
from exactgrad.errors import FormatError, InputError
from exactgrad.files import read_hdf5, write_hdf5

SCHEMA = 1
NAME, PREVIOUS = "checkpoint.h5", "checkpoint.h5.1"


def job_hash(text: str) -> str:
    """Return the hash that binds a checkpoint to a job's text and options."""
    return hashlib.sha256(text.encode()).hexdigest()


def save(folder: Path, search: Search, job: str) -> None:
    """Write the search to ``folder/checkpoint.h5``, whole or not at all; the one before stays as ``checkpoint.h5.1``.

    Raises
    ------
    InputError
        If the folder cannot be written.
    """
    path = Path(folder) / NAME
    if path.exists():
        try:
            os.replace(path, path.with_name(PREVIOUS))
        except OSError as error:
            raise InputError(f"{path}: cannot be kept as {PREVIOUS}: {error.strerror or error}") from error
    write_hdf5(path, dict(search.to_arrays()), {"schema": SCHEMA, "job": job_hash(job)})


def load(folder: Path, job: str) -> Search | None:
    """Return the newest whole checkpoint of this job in `folder`, or None if there is none at all.

    Raises
    ------
    FormatError
        If there are checkpoints but none is whole.
    InputError
        If the checkpoint belongs to another job or a newer version of the program.
    """
    paths = [path for path in (Path(folder) / NAME, Path(folder) / PREVIOUS) if path.exists()]
    problems = []
    for path in paths:
        try:
            arrays, attributes = read_hdf5(path)
        except FormatError as error:
            problems.append(str(error))
            continue
        if int(attributes.get("schema", 0)) > SCHEMA:
            raise InputError(f"{path}: written by a newer version (schema {attributes['schema']}, known: {SCHEMA})")
        if attributes.get("job") != job_hash(job):
            raise InputError(f"{path}: belongs to another job; choose another output folder")
        return Search.from_arrays({name: np.asarray(value) for name, value in arrays.items()})
    if problems:
        raise FormatError(problems[0])
    return None


def discard(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in (NAME, PREVIOUS):
        (Path(folder) / name).unlink(missing_ok=True)
