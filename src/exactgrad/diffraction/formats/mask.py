"""Masks: an image of the detector whose pixels of value 0 are left out, as in the C program's ``-mask``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.images import read_image
from exactgrad.errors import FormatError


def read(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask from an image of any format with a shape of its own.

    Parameters
    ----------
    path : Path
        SMV, CBF, PGM, .npy or NeXus.
    shape : (int, int)
        The detector's pixels along (slow, fast).

    Returns
    -------
    ndarray of bool, shape (slow, fast)
        True where the pixel counts.

    Raises
    ------
    FormatError
        If the image has another shape, or no pixel counts.
    """
    image = read_image(path)
    if image.shape != tuple(shape):
        raise FormatError(f"{path}: a mask of {image.shape} pixels for a detector of {tuple(shape)}")
    used = image != 0
    if not used.any():
        raise FormatError(f"{path}: every pixel of the mask is 0")
    return used
