"""What a reconstruction keeps in its run folder while it is unfinished.

journal.h5 holds what the finished fits found, checkpoint.h5 the fit that is under way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.core import checkpoint
from exactgrad.core.solve import Search
from exactgrad.errors import FormatError, InputError
from exactgrad.files import read_hdf5, write_hdf5
from exactgrad.tomography.stages import Journal

JOURNAL = "journal.h5"
PICTURES = ("slices", "glyphs", "projections", "residuals", "histograms", "convergence", "resolution")
SCHEMA = 2


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
        return checkpoint.load(folder, bound_to(bound, fit), Search.from_arrays)
    except FormatError:
        raise
    except InputError:
        if last is None:
            raise
        checkpoint.load(folder, bound_to(bound, last), Search.from_arrays)
        checkpoint.discard(folder)
        return None


def bound_to(bound: str, fit: str) -> str:
    """Return what the checkpoint of a fit is bound to."""
    return f"{bound} {fit}"
