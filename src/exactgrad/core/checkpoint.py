"""Checkpoints that survive a kill: whole, checksummed, the previous one kept, bound to the job they belong to."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from exactgrad.errors import FormatError, InputError, NotWritten
from exactgrad.files import read_hdf5, write_hdf5

SCHEMA = 1
NAME, PREVIOUS = "checkpoint.h5", "checkpoint.h5.1"

State = TypeVar("State")
Build = Callable[[dict[str, np.ndarray]], State]


class Saved(Protocol):
    """A state that can say itself as named arrays."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state."""


def job_hash(text: str) -> str:
    """Return the hash that binds a checkpoint to a job's text and options."""
    return hashlib.sha256(text.encode()).hexdigest()


def save(folder: Path, state: Saved, job: str) -> None:
    """Write a run's state to ``folder/checkpoint.h5``, whole or not at all; the one before stays as checkpoint.h5.1.

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
    write_hdf5(path, dict(state.to_arrays()), {"schema": SCHEMA, "job": job_hash(job)})


def load(folder: Path, job: str, build: Build[State]) -> State | None:
    """Return the newest whole checkpoint of this job in `folder`, or None if there is none at all.

    Parameters
    ----------
    folder : Path
    job : str
        What the checkpoint must be bound to.
    build : callable
        Makes the state of its arrays again.

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
            state = _read(path, job, build)
        except FormatError as error:
            damaged[path] = error
            continue
        for other in damaged:  # else the next save would put it in the place of this one
            with contextlib.suppress(OSError):
                os.replace(other, other.with_name(other.name + ".damaged"))
        return state
    if damaged:
        raise next(iter(damaged.values()))
    return None


def _read(path: Path, job: str, build: Build[State]) -> State:
    arrays, attributes = read_hdf5(path)
    schema = attributes.get("schema")
    if not isinstance(schema, int | np.integer):
        raise FormatError(f"{path}: not a checkpoint (it has no schema number)")
    if schema > SCHEMA:
        raise InputError(f"{path}: written by a newer version (schema {schema}, known: {SCHEMA})")
    if str(attributes.get("job")) != job_hash(job):
        raise InputError(f"{path}: belongs to another job; choose another output folder")
    try:
        return build({name: np.asarray(value) for name, value in arrays.items()})
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path}: not a checkpoint of this kind of run ({type(error).__name__}: {error})") from None


def discard(folder: Path) -> None:
    """Remove the checkpoints of a finished run."""
    for name in (NAME, PREVIOUS):
        (Path(folder) / name).unlink(missing_ok=True)
