"""PGM (P5) images: 8 or 16 bit grey, with a comment line, as the C program writes its preview."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import check_dimensions, check_size, read_image_bytes, require_integers
from exactgrad.errors import FormatError, InputError
from exactgrad.files import write_atomic

_HEADER_BYTES = 4096
_TOKEN = re.compile(rb"\s*(?:#([^\r\n]*)[\r\n]\s*)*(\d{1,9})(?=\s|#)")


def read(path: Path) -> tuple[np.ndarray, str]:
    """Read a binary PGM image.

    Returns
    -------
    pixels : ndarray of uint8 or uint16, shape (slow, fast)
    comment : str
        The comment lines of the header, joined by line ends.

    Raises
    ------
    FormatError
        If it is not a P5 file or has not exactly the pixels that it declares.
    """
    data = read_image_bytes(path, 2)
    if not re.match(rb"P5\s", data):
        raise FormatError(f"{path}: does not begin with P5: not a binary PGM image")
    position, values, comments = 2, [], []
    for name in ("width", "height", "maximum"):
        found = _TOKEN.match(data[:_HEADER_BYTES], position)
        if not found:
            raise FormatError(f"{path}: no {name} in the header")
        comments += re.findall(rb"#([^\r\n]*)", found[0])
        values.append(int(found[2]))
        position = found.end()
    fast, slow, maximum = values
    check_dimensions(path, slow, fast)
    if not 1 <= maximum <= 65535:
        raise FormatError(f"{path}: maximum {maximum}: must be from 1 to 65535")
    dtype = np.dtype("u1" if maximum < 256 else ">u2")
    check_size(path, len(data) - position - 1, dtype.itemsize * slow * fast, f"{fast} x {slow}, maximum {maximum}")
    pixels = np.frombuffer(data, dtype, offset=position + 1).reshape(slow, fast)
    if pixels.max() > maximum:
        raise FormatError(f"{path}: a pixel of {pixels.max()} where the maximum is {maximum}")
    return pixels.astype(dtype.newbyteorder("=")), b"\n".join(comments).decode("latin-1").strip()


def write(path: Path, pixels: np.ndarray, comment: str = "", overwrite: bool = False) -> None:
    """Write 8-bit pixels (whole numbers from 0 to 255, shape (slow, fast)) as P5, with one comment line."""
    array = require_integers(pixels, np.uint8)
    if not (comment.isascii() and (comment.isprintable() or not comment)) or len(comment) > 1000:
        raise InputError(f"PGM comment {comment[:40]!r}: one line of at most 1000 ASCII characters is needed")
    slow, fast = array.shape
    line = f"# {comment}\n" if comment else ""
    write_atomic(path, f"P5\n{fast} {slow}\n{line}255\n".encode() + array.tobytes(), overwrite)
