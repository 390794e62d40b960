"""Baseline TIFF, 16-bit grey, one uncompressed strip: an image for any viewer. Written only."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import require_integers
from exactgrad.files import write_atomic

_SHORT, _LONG = 3, 4


def write(path: Path, pixels: np.ndarray, overwrite: bool = False) -> None:
    """Write pixels (whole numbers from 0 to 65535, shape (slow, fast)); raises `InputError` if one does not fit."""
    data = require_integers(pixels, np.uint16).astype("<u2").tobytes()
    slow, fast = np.shape(pixels)
    entries = [
        (256, _LONG, fast),
        (257, _LONG, slow),
        (258, _SHORT, 16),  # bits
        (259, _SHORT, 1),  # no compression
        (262, _SHORT, 1),  # 0 is black
        (273, _LONG, 8),  # where the strip begins
        (277, _SHORT, 1),  # samples a pixel
        (278, _LONG, slow),  # rows in the strip
        (279, _LONG, len(data)),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    write_atomic(path, header + data + directory + struct.pack("<I", 0), overwrite)
