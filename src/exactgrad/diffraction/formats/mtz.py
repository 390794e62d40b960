"""CCP4 MTZ files: merged amplitudes (or intensities), expanded to P1 with Friedel mates; read through gemmi.

Which column, if none is named: the first pair of type G, F(+) and F(-); else the first F, with the first anomalous
difference D if there is one (F +- D/2, as the C program's script does); else the square root of the first intensity.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.formats.reflections import MAX_REFLECTIONS, Reflections, collect, expand_to_p1
from exactgrad.diffraction.formats.symmetry import cell_of, damage_told, rotations
from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.files import read_bytes

LIMIT_BYTES = 1 << 30
_RECORD_BYTES = 80
_TYPES = "GFRJK"


def read(path: Path, column: str | None = None) -> Reflections:
    """Read amplitudes from a merged MTZ file.

    Parameters
    ----------
    path : Path
        The file, at most 1 GiB.
    column : str or None
        Label of an amplitude (type F, R or G) or intensity (J or K) column; of a G or K pair name the first.

    Raises
    ------
    FormatError
        If it is not a complete merged MTZ file.
    InputError
        If there is no such column; the message lists those there are.
    RefusedFile
        If it is too large.

    Notes
    -----
    Missing values (NaN) are left out, and negative intensities give an amplitude of 0.
    """
    import gemmi

    path = Path(path)
    _check_layout(path, read_bytes(path, LIMIT_BYTES))
    with damage_told(path, "MTZ file"):
        mtz = gemmi.read_mtz_file(str(path))
        if mtz.batches:
            raise FormatError(f"{path}: unmerged (it has {len(mtz.batches)} batches); a merged file is needed")
        if mtz.spacegroup is None:
            raise FormatError(f"{path}: its space group is not known")
        hkl = mtz.make_miller_array()
        label, plus, minus = _amplitudes(path, mtz, column)
        cell = cell_of(path, mtz.get_cell())
        plus, minus = np.where(np.isnan(plus), minus, plus), np.where(np.isnan(minus), plus, minus)
        known = ~np.isnan(plus)
        indices, values = expand_to_p1(hkl[known], plus[known], minus[known], rotations(mtz.spacegroup))
        return collect(path, indices, values, cell, mtz.spacegroup.hm, label)


def _check_layout(path: Path, data: bytes) -> None:
    """Check that the columns and rows that the header declares are there, before anything is allocated for them."""
    if len(data) < 2 * _RECORD_BYTES or not data.startswith(b"MTZ "):
        raise FormatError(f"{path}: does not begin with MTZ: not an MTZ file")
    order = ">" if data[8] >> 4 == 1 else "<"  # the machine stamp
    (word,) = struct.unpack_from(order + "i", data, 4)
    if word == -1:
        (word,) = struct.unpack_from(order + "q", data, 12)
    start = 4 * (word - 1)
    if not _RECORD_BYTES <= start <= len(data) - _RECORD_BYTES:
        raise FormatError(f"{path}: its header should begin at byte {start}, beyond its {len(data)} bytes: cut off")
    found = re.search(rb"NCOL +(\d{1,9}) +(\d{1,9}) +(\d{1,9}) ", data[start:])
    if not found:
        raise FormatError(f"{path}: no NCOL record in the header")
    columns, rows, _ = map(int, found.groups())
    if rows > MAX_REFLECTIONS:
        raise RefusedFile(f"{path}: {rows} reflections; at most {MAX_REFLECTIONS} are read")
    if _RECORD_BYTES + 4 * columns * rows > start:
        raise FormatError(f"{path}: declares {rows} rows of {columns} columns but ends before them")


def _amplitudes(path: Path, mtz: Any, name: str | None) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the label used and the amplitudes of h k l and of its Friedel mate (NaN where missing)."""
    usable = [column for column in mtz.columns if column.type in _TYPES]
    listed = ", ".join(f"{column.label} ({column.type})" for column in usable) or "none"
    if name is not None:
        chosen = [column for column in usable if column.label == name]
        if not chosen:
            raise InputError(f"{path}: no amplitude or intensity column {name[:40]!r}; there are: {listed}")
    else:
        chosen = sorted(usable, key=lambda column: _TYPES.index(column.type))
        if not chosen:
            raise FormatError(f"{path}: no amplitude or intensity column")
    first = chosen[0]
    values = _doubles(first)
    if first.type in "GK":
        pair = [column for column in usable if column.type == first.type and column.idx > first.idx]
        if not pair:
            raise InputError(f"{path}: column {first.label} ({first.type}) has no partner for the other Friedel mates")
        label, plus, minus = f"{first.label}, {pair[0].label}", values, _doubles(pair[0])
    else:
        label, plus, minus = first.label, values, values
        differences = [column for column in mtz.columns if column.type == "D"]
        if name is None and first.type == "F" and differences:
            half = np.nan_to_num(_doubles(differences[0])) / 2
            label, plus, minus = f"{first.label} +- {differences[0].label}/2", values + half, values - half
    if first.type in "JK":
        label, plus, minus = f"sqrt({label})", _root(plus), _root(minus)
    return label, plus, minus


def _doubles(column: Any) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of a NaN that signals
        return np.array(column.array, np.float64)


def _root(intensity: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(intensity, 0))  # NaN, a missing value, stays NaN
