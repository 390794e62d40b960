"""Data in and volumes out: `load` finds the format; what is read of a file is checked to be harmless first."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exactgrad.errors import FormatError, InputError

if TYPE_CHECKING:
    from exactgrad.tomography.dataset import Dataset
    from exactgrad.tomography.formats.reading import Loaded


class DataWarning(UserWarning):
    """All of a data file may be misread (angles in degrees); the message says why one thinks so."""


def load(path: Any, q: int | None = None, memory_bytes: int | None = None) -> Dataset:
    """Read a data set; the format is found from the content.

    Parameters
    ----------
    path : path
        mumott's HDF5 (`formats.mumott`), our plain layout (`formats.plain`), or a table that says where the images of
        NXazint2d files were taken (`formats.nxazint`).
    q : int, optional
        Which q, from 0, where the file has several.
    memory_bytes : int, optional
        Data that take more stay on disk and are read by projection; half of the machine's memory by default.

    Raises
    ------
    InputError
        One line: what is missing or wrong, and where.

    Warns
    -----
    DataWarning
        If angles look like degrees. What a file lacks without harm (dead pixels, NaN, padding) is told by `read` and by
        ``exactgrad tomography info``.
    """
    found = read(path, memory_bytes)
    for text in found.doubts:
        warnings.warn(f"{path}: {text}", DataWarning, stacklevel=2)
    return one_of(path, found, q)


def one_of(path: Any, found: Loaded, q: int | None) -> Dataset:
    """Return the data set of one q (from 0; None where there is only one), or say how many there are.

    Raises
    ------
    InputError
        If `q` is missing or out of range.
    """
    count = len(found.datasets)
    if q is None and count > 1:
        raise InputError(f"{path}: holds {count} q: say which one, q = 0 to {count - 1} (reconstruct also takes all)")
    if q is not None and not 0 <= q < count:
        raise InputError(f"{path}: q = {q}: must be from 0 to {count - 1}")
    return found.datasets[q or 0]


def load_all(path: Any, memory_bytes: int | None = None) -> tuple[Dataset, ...]:
    """Read the data sets of every q in a file.

    Parameters
    ----------
    path, memory_bytes
        As of `load`.

    Returns
    -------
    tuple of Dataset
        In the order of the file's q.

    Raises
    ------
    InputError
        As `load`.
    """
    found = read(path, memory_bytes)
    for text in found.doubts:
        warnings.warn(f"{path}: {text}", DataWarning, stacklevel=2)
    return found.datasets


def files_of(path: Path) -> list[str]:
    """Return the names of all files that a data set is read from, relative to the folder of `path`, which is one."""
    from exactgrad.tomography.formats import nxazint

    return [path.name, *(nxazint.named_files(path) if nxazint.is_table(path) else [])]


def read(path: Any, memory_bytes: int | None = None) -> Loaded:
    """Read every q, and say what was found and what looks wrong; parameters and errors as of `load`."""
    from exactgrad.tomography.formats import mumott, nxazint, plain
    from exactgrad.tomography.formats.reading import Stack, damage_told, half_the_memory, open_data

    path = Path(path)
    limit = half_the_memory() if memory_bytes is None else memory_bytes
    if nxazint.is_table(path):
        return nxazint.read(path, limit)
    with contextlib.ExitStack() as kept:
        root = kept.enter_context(open_data(path))
        with damage_told(path):
            format_of = next((item for item in (mumott, plain) if item.recognised(root)), None)
        if format_of is None:
            raise FormatError(
                f"{path}: neither mumott's layout (a group projections) nor the plain one (a data set I); "
                "NXazint2d files are named in a table of positions, which is what to load"
            )
        held = kept.pop_all()  # lazy stacks keep it, and with it the file, alive
        try:
            with damage_told(path):  # the library may stumble at any name of a damaged file
                found: Loaded = format_of.read(root, limit, held)
        except BaseException:
            held.close()
            raise
        if not any(isinstance(part, Stack) for data in found.datasets for part in (data.data, data.weights)):
            held.close()
        return found
