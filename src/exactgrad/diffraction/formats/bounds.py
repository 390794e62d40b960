"""What is believed of a file before anything is allocated for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.errors import FormatError, InputError, RefusedFile, require_finite
from exactgrad.files import read_bytes

MAX_SIDE = 65_535  # pixels
MAX_PIXELS = 1 << 28  # 16384 x 16384
HEADER_LIMIT_BYTES = 1 << 20
MAX_VALUE = 1e30


def read_image_bytes(path: Path, bytes_per_pixel: int = 4) -> bytes:
    """Read a file that holds one image and its header; raises as `files.read_bytes`."""
    return read_bytes(path, MAX_PIXELS * bytes_per_pixel + HEADER_LIMIT_BYTES)


def check_dimensions(path: Path, slow: int, fast: int) -> tuple[int, int]:
    """Return (slow, fast) if both are possible numbers of pixels.

    Raises
    ------
    FormatError
        If one is not from 1 to 65535.
    RefusedFile
        If the image would have more than 2^28 pixels.
    """
    for name, pixels in (("slow", slow), ("fast", fast)):
        if not 1 <= pixels <= MAX_SIDE:
            raise FormatError(f"{path}: {pixels} pixels along {name}: must be from 1 to {MAX_SIDE}")
    if slow * fast > MAX_PIXELS:
        raise RefusedFile(f"{path}: {slow} x {fast} pixels: at most {MAX_PIXELS} are read")
    return slow, fast


def check_size(path: Path, have: int, need: int, what: str) -> None:
    """Raise `FormatError` unless the file has exactly the bytes that its dimensions ask for."""
    if have != need:
        raise FormatError(f"{path}: {have} bytes of pixels where {what} needs {need}")


def check_finite(path: Path, values: np.ndarray, what: str = "pixel") -> np.ndarray:
    """Return `values`, or say which element of a file is NaN, infinite or beyond 1e30 in magnitude."""
    with np.errstate(invalid="ignore"):
        good = np.abs(values) <= MAX_VALUE if values.dtype.kind == "f" else np.ones(1, bool)
    if not good.all():
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        raise FormatError(f"{path}: {what} {index} = {values[index]}: must be finite and <= {MAX_VALUE:g} in magnitude")
    return values


def require_image(image: np.ndarray) -> np.ndarray:
    """Return an image to be written as an array of numbers, shape (slow, fast), or say what is wrong.

    Raises
    ------
    InputError
        If it is not two-dimensional, empty, too large or not finite.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "biuf":
        raise InputError(f"image: numbers are needed, got {array.dtype}")
    if array.ndim != 2 or not 0 < array.size <= MAX_PIXELS or max(array.shape) > MAX_SIDE:
        raise InputError(f"image: shape {array.shape} where (slow, fast) is needed, each from 1 to {MAX_SIDE}")
    if array.dtype.kind == "f":
        require_finite("image", array)
    return array


def require_integers(image: np.ndarray, dtype: type[np.integer]) -> np.ndarray:
    """Return an image as `dtype` if every pixel is a whole number that it holds, or say which is not."""
    array = require_image(image)
    limits = np.iinfo(dtype)
    good = (array >= limits.min) & (array <= limits.max)
    if array.dtype.kind == "f":
        good &= array == np.floor(array)
    if not good.all():
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        raise InputError(
            f"image{list(index)} = {array[index]}: a whole number from {limits.min} to {limits.max} is needed"
        )
    return array.astype(dtype)
