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
from exactgrad.diffraction.formats.reflections import MAX_INDEX
from exactgrad.diffraction.structure_factors import MOST_ENTRIES, StructureFactors
from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.files import read_bytes, write_atomic

_HEADER = re.compile(rb"(-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6}) (-?\d{1,6})\n\f")


def read(path: Path, default: float = 0.0, interpolate: bool = False) -> StructureFactors:
    """Read a dump; `default` (electrons) is F of reflections outside its block.

    Raises
    ------
    FormatError
        If the header is not one, or the file has not exactly the doubles that it declares, all finite.
    RefusedFile
        If the block would have more entries than are held in memory (`structure_factors.MOST_ENTRIES`).
    """
    data = read_bytes(path, 9 * MOST_ENTRIES)
    found = _HEADER.match(data)
    if not found:
        raise FormatError(f"{path}: does not begin with six index limits, a line end and a form feed")
    limits = np.array([int(text) for text in found.groups()]).reshape(3, 2)
    first, last = limits.T
    if (last < first).any() or np.abs(limits).max() > MAX_INDEX:
        raise FormatError(f"{path}: index limits {limits.ravel().tolist()}: pairs from -{MAX_INDEX} to {MAX_INDEX}")
    sides = [int(side) for side in last - first + 2]
    entries = sides[0] * sides[1] * sides[2]
    if entries > MOST_ENTRIES:
        raise RefusedFile(f"{path}: {sides} entries; at most {MOST_ENTRIES} are held")
    if len(data) - found.end() != 8 * entries:
        raise FormatError(f"{path}: {len(data) - found.end()} bytes of F where its limits need {8 * entries}")
    table = np.frombuffer(data, "<f8", offset=found.end()).reshape(sides)[:-1, :-1, :-1]
    return StructureFactors(check_finite(path, table, "F").astype(np.float64), first, default, interpolate)


def write(path: Path, factors: StructureFactors, overwrite: bool = False) -> None:
    """Write a dump as the C program does; raises `InputError` if there is no table or an index is too large."""
    if not factors.table.size:
        raise InputError("structure factors: no table to dump")
    last = factors.lowest + np.array(factors.table.shape) - 1
    if max(np.abs(factors.lowest).max(), np.abs(last).max()) > MAX_INDEX:
        raise InputError(f"indices to {last.tolist()}: at most {MAX_INDEX} in magnitude")
    header = " ".join(f"{first} {end}" for first, end in zip(factors.lowest, last, strict=True))
    padded = np.pad(factors.table, ((0, 1),) * 3)
    write_atomic(path, f"{header}\n\f".encode() + padded.astype("<f8").tobytes(), overwrite)
