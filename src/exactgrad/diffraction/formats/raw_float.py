"""The C program's float image: float32, little-endian, slow-major, no header; its shape comes from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import (
    check_dimensions,
    check_finite,
    check_size,
    read_image_bytes,
    require_image,
)
from exactgrad.errors import InputError
from exactgrad.files import write_atomic


def read(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a float image.

    Parameters
    ----------
    path : Path
        The file.
    shape : (int, int)
        Pixels along (slow, fast).

    Returns
    -------
    ndarray of float32, shape (slow, fast)

    Raises
    ------
    FormatError
        If the file has another number of pixels, or one is not finite.
    InputError, RefusedFile
        As `files.read_bytes`.
    """
    slow, fast = check_dimensions(path, *shape)
    data = read_image_bytes(path)
    check_size(path, len(data), 4 * slow * fast, f"{slow} x {fast} float32")
    return check_finite(path, np.frombuffer(data, "<f4").reshape(slow, fast)).astype(np.float32)


def write(path: Path, image: np.ndarray, overwrite: bool = False) -> None:
    """Write a float image; raises `InputError` if a pixel is not finite or beyond float32."""
    array = require_image(image)
    if np.abs(array).max() > np.finfo(np.float32).max:
        raise InputError(f"image: its largest pixel, {np.abs(array).max():g}, does not fit in float32")
    write_atomic(path, array.astype("<f4").tobytes(), overwrite)
