"""Checkpoints of a refinement: whole, checksummed, the previous one kept, bound to the job they belong to."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from exactgrad.core.checkpoint import NAME, PREVIOUS, SCHEMA, discard, job_hash
from exactgrad.diffraction.refinement.search import Progress
from exactgrad.errors import FormatError, InputError, NotWritten
from exactgrad.files import read_hdf5, write_hdf5

FILES = (NAME, PREVIOUS)

__all__ = ["FILES", "discard", "load", "save"]


def save(folder: Path, progress: Progress, job: str) -> None:
    """Write the progress, whole or not at all; the one before stays; raises `NotWritten` if the folder cannot be."""
    path = Path(folder) / NAME
    if path.exists():
        try:
            os.replace(path, path.with_name(PREVIOUS))
        except OSError as error:
            raise NotWritten(f"{path}: cannot be kept as {PREVIOUS}: {error.strerror or error}") from error
    write_hdf5(path, dict(progress.to_arrays()), {"schema": SCHEMA, "job": job_hash(job)})


def load(folder: Path, job: str, method: str) -> Progress | None:
    """Return the newest whole checkpoint of this job, or None if there is none at all.

    Raises
    ------
    FormatError
        If there are checkpoints but none is whole.
    InputError
        If it belongs to another job or a newer version of the program.
    """
    damaged: list[tuple[Path, FormatError]] = []
    for path in (Path(folder) / NAME, Path(folder) / PREVIOUS):
        if not path.exists():
            continue
        try:
            progress = _read(path, job, method)
        except FormatError as error:
            damaged.append((path, error))
            continue
        for other, _ in damaged:  # else the next save would put it in the place of this one
            with contextlib.suppress(OSError):
                os.replace(other, other.with_name(other.name + ".damaged"))
        return progress
    if damaged:
        raise damaged[0][1]
    return None


def _read(path: Path, job: str, method: str) -> Progress:
    arrays, attributes = read_hdf5(path)
    schema = attributes.get("schema")
    if not isinstance(schema, int | np.integer):
        raise FormatError(f"{path}: not a checkpoint (it has no schema number)")
    if schema > SCHEMA:
        raise InputError(f"{path}: written by a newer version (schema {schema}, known: {SCHEMA})")
    if str(attributes.get("job")) != job_hash(job):
        raise InputError(f"{path}: belongs to another job; choose another output folder")
    try:
        return Progress.from_arrays({name: np.asarray(value) for name, value in arrays.items()}, method)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: not a checkpoint of a refinement ({type(error).__name__}: {error})") from None
