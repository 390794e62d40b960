"""PNG, 8-bit grey: a preview for the eye. Written only."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import require_integers
from exactgrad.files import write_atomic


def write(path: Path, pixels: np.ndarray, overwrite: bool = False) -> None:
    """Write pixels (whole numbers from 0 to 255, shape (slow, fast)); raises `InputError` if one does not fit."""
    array = require_integers(pixels, np.uint8)
    slow, fast = array.shape
    rows = np.zeros((slow, fast + 1), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = array
    header = struct.pack(">IIBBBBB", fast, slow, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    write_atomic(path, b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks), overwrite)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
