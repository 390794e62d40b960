"""NumPy ``.npy`` images: any real numeric dtype, two dimensions, never a pickle."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from tokenize import TokenError

import numpy as np

from exactgrad.diffraction.formats.bounds import (
    check_dimensions,
    check_finite,
    check_size,
    read_image_bytes,
    require_image,
)
from exactgrad.errors import FormatError
from exactgrad.files import write_atomic

_HEADER_CHARS = 4096
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read(path: Path) -> np.ndarray:
    """Read an image, shape (slow, fast), in the machine's byte order.

    Raises
    ------
    FormatError
        If it is not a .npy file, holds objects, text or complex numbers, has other than two dimensions, is cut off, or
        has a pixel that is not finite.
    InputError, RefusedFile
        As `files.read_bytes`.
    """
    data = read_image_bytes(path, 8)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
            shape, fortran_order, dtype = _READERS[version](stream, max_header_size=_HEADER_CHARS)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, TokenError) as error:
        raise FormatError(f"{path}: not a readable .npy file ({' '.join(str(error).split())[:120]})") from error
    if dtype.kind not in "biuf":
        raise FormatError(f"{path}: holds {str(dtype)[:40]}: real numbers are needed")
    if len(shape) != 2:
        raise FormatError(f"{path}: shape {str(shape)[:60]} where (slow, fast) is needed")
    slow, fast = check_dimensions(path, *shape)
    check_size(path, len(data) - stream.tell(), dtype.itemsize * slow * fast, f"{slow} x {fast} {dtype}")
    flat = np.frombuffer(data, dtype, offset=stream.tell())
    image = flat.reshape((slow, fast), order="F" if fortran_order else "C")
    return check_finite(path, image).astype(dtype.newbyteorder("="))


def write(path: Path, image: np.ndarray, overwrite: bool = False) -> None:
    """Write an image of finite numbers, its dtype kept; raises as `files.write_atomic`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, require_image(image), version=(1, 0), allow_pickle=False)
    write_atomic(path, stream.getvalue(), overwrite)
