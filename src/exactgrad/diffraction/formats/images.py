"""One image from a file of any format that holds its own shape; the first bytes say which format it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.errors import FormatError, InputError

_BEGINNINGS = {
    "smv": b"{",
    "cbf": b"###CBF",
    "pgm": b"P5",
    "npy": b"\x93NUMPY",
    "nexus": b"\x89HDF",
}


def detect_format(path: Path) -> str:
    """Return smv, cbf, pgm, npy or nexus.

    Raises
    ------
    FormatError
        If the file begins like none of them.
    InputError
        If it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        with open(path, "rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    for name, beginning in _BEGINNINGS.items():
        if head.startswith(beginning):
            return name
    raise FormatError(f"{path}: not an image of a format that is read ({', '.join(_BEGINNINGS)})")


def read_image(path: Path) -> np.ndarray:
    """Read one image, shape (slow, fast), dtype as stored; of a NeXus stack the first frame.

    Raises
    ------
    FormatError, RefusedFile, InputError
        As the format's own reader.
    """
    from exactgrad.diffraction.formats import cbf, nexus, npy, pgm, smv

    name = detect_format(path)
    if name == "smv":
        return smv.read(path).pixels
    if name == "cbf":
        return cbf.read(path).pixels
    if name == "pgm":
        return pgm.read(path)[0]
    if name == "nexus":
        return nexus.read(path).frames[0]
    return npy.read(path)
