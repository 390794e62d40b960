"""``Fdump.bin``, the C program's cache of amplitudes.

One text line ``h_min h_max k_min k_max l_min l_max``, a form feed, then doubles of this machine's byte order (little
endian is read and written), l fastest. The program allocates one plane more on each axis than it uses and dumps those
zeros too; the default amplitude of the run that wrote the file is in it for good.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import check_finite
from exactgrad.diffraction.formats.reflections import MAX_GRID_CELLS, MAX_INDEX, Grid, check_cells
from exactgrad.errors import FormatError, InputError, require_finite
from exactgrad.files import read_bytes, write_atomic

_HEADER = re.compile(rb"(-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6})\n\f")


def read(path: Path) -> Grid:
    """Read a dump.

    Raises
    ------
    FormatError
        If the header is not one, or the file has not exactly the doubles that it declares, all finite.
    RefusedFile
        If the grid would have more than 2^27 cells.
    """
    data = read_bytes(path, 8 * MAX_GRID_CELLS + 100)
    found = _HEADER.match(data)
    if not found:
        raise FormatError(f"{path}: does not begin with six index limits, a line end and a form feed")
    limits = np.array([int(text) for text in found.groups()]).reshape(3, 2)
    first, last = limits.T
    if (last < first).any() or np.abs(limits).max() > MAX_INDEX:
        raise FormatError(f"{path}: index limits {limits.ravel().tolist()}: pairs from -{MAX_INDEX} to {MAX_INDEX}")
    shape = tuple(int(n) for n in last - first + 2)
    check_cells(str(path), shape)
    need = 8 * shape[0] * shape[1] * shape[2]
    if len(data) - found.end() != need:
        raise FormatError(f"{path}: {len(data) - found.end()} bytes of amplitudes where its limits need {need}")
    values = np.frombuffer(data, "<f8", offset=found.end()).reshape(shape)[:-1, :-1, :-1]
    return Grid(check_finite(path, values, "F").astype(np.float64), (int(first[0]), int(first[1]), int(first[2])))


def write(path: Path, grid: Grid, overwrite: bool = False) -> None:
    """Write a dump as the C program does; raises `InputError` if an amplitude is not finite or an index too large."""
    values = require_finite("amplitude", grid.values)
    if values.ndim != 3 or not values.size:
        raise InputError(f"amplitudes: shape {values.shape} where (h, k, l) is needed")
    last = [first + size - 1 for first, size in zip(grid.first, values.shape, strict=True)]
    if max(map(abs, [*grid.first, *last])) > MAX_INDEX:
        raise InputError(f"indices from {grid.first} to {tuple(last)}: at most {MAX_INDEX} in magnitude")
    header = " ".join(f"{first} {end}" for first, end in zip(grid.first, last, strict=True))
    padded = np.pad(values, ((0, 1),) * 3)
    write_atomic(path, f"{header}\n\f".encode() + padded.astype("<f8").tobytes(), overwrite)
