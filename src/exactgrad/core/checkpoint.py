"""Checkpoints that survive a kill: whole, checksummed, the previous one kept, bound to the job they belong to."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from exactgrad.core.solve import Search
from exactgrad.errors import FormatError, InputError, NotWritten
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
    NotWritten
        If the folder cannot be written.
    """
    path = Path(folder) / NAME
    if path.exists():
        try:
            os.replace(path, path.with_name(PREVIOUS))
        except OSError as error:
            raise NotWritten(f"{path}: cannot be kept as {PREVIOUS}: {error.strerror or error}") from error
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
    damaged: dict[Path, FormatError] = {}
    for path in paths:
        try:
            search = _read(path, job)
        except FormatError as error:
            damaged[path] = error
            continue
        for other in damaged:  # else the next save would put it in the place of this one
            with contextlib.suppress(OSError):
                os.replace(other, other.with_name(other.name + ".damaged"))
        return search
    if damaged:
        raise next(iter(damaged.values()))
    return None


def _read(path: Path, job: str) -> Search:
    arrays, attributes = read_hdf5(path)
    schema = attributes.get("schema")
    if not isinstance(schema, int | np.integer):
        raise FormatError(f"{path}: not a checkpoint (it has no schema number)")
    if schema > SCHEMA:
        raise InputError(f"{path}: written by a newer version (schema {schema}, known: {SCHEMA})")
    if str(attributes.get("job")) != job_hash(job):
        raise InputError(f"{path}: belongs to another job; choose another output folder")
    try:
        return Search.from_arrays({name: np.asarray(value) for name, value in arrays.items()})
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: not a checkpoint of a search ({type(error).__name__}: {error})") from None


def discard(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in (NAME, PREVIOUS):
        (Path(folder) / name).unlink(missing_ok=True)
