"""What the readers that use gemmi share: its errors as ours, bounded unpacking, rotations of a space group."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import ExactgradError, FormatError, RefusedFile
from exactgrad.files import read_bytes

TEXT_LIMIT_BYTES = 1 << 28
_OPERATION_DENOMINATOR = 24  # of gemmi's integer rotation matrices


@contextlib.contextmanager
def damage_told(path: Path, what: str) -> Iterator[None]:
    """Turn what gemmi raises on a bad file into one line."""
    try:
        yield
    except ExactgradError:
        raise
    except (RuntimeError, ValueError, IndexError, KeyError, OverflowError, MemoryError, UnicodeError) as error:
        raise FormatError(f"{path}: not a readable {what} ({' '.join(str(error).split())[:120]})") from error


def read_unpacked(path: Path) -> bytes:
    """Read a file that may be gzipped, at most 256 MiB unpacked.

    Raises
    ------
    RefusedFile
        If it is larger, packed or unpacked.
    FormatError
        If it is damaged.
    """
    data = read_bytes(path, TEXT_LIMIT_BYTES)
    if not data.startswith(b"\x1f\x8b"):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(data, TEXT_LIMIT_BYTES + 1)
    except zlib.error as error:
        raise FormatError(f"{path}: damaged gzip file ({error})") from error
    if len(text) > TEXT_LIMIT_BYTES:
        raise RefusedFile(f"{path}: unpacks to more than {TEXT_LIMIT_BYTES} bytes")
    if not unpacker.eof:
        raise FormatError(f"{path}: the gzip file is cut off")
    return text


def rotations(space_group: Any) -> list[np.ndarray]:
    """Return the rotation parts (int, shape (3, 3)) of a gemmi space group's operations, centring left out."""
    return [np.array(op.rot) // _OPERATION_DENOMINATOR for op in space_group.operations().sym_ops]


def cell_of(path: Path, cell: Any) -> tuple[float, float, float, float, float, float]:
    """Return the six parameters of a gemmi cell (angstrom, degrees), or say that they are not a cell."""
    six = (cell.a, cell.b, cell.c, cell.alpha, cell.beta, cell.gamma)
    sides_and_angles = np.isfinite(six).all() and min(six) > 0 and max(six[3:]) < 180
    if not (sides_and_angles and np.isfinite(cell.volume) and cell.volume > 0):
        raise FormatError(f"{path}: cell {' '.join(f'{v:g}' for v in six)}: not a unit cell")
    return six
