"""VTK image data (.vti, XML): a volume that ParaView and VisIt open, scalars and vectors on the voxel centres.

Each array stands inline as base64 of its length in bytes (UInt64) and its values (Float32, little-endian), x fastest,
which is what the format calls "binary". Nothing is compressed, so that any XML reader gets at the numbers.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np

from exactgrad.errors import InputError
from exactgrad.files import write_atomic_with

_CHUNK_BYTES = 3 * (1 << 20)  # a multiple of three: base64 of the parts is then the base64 of the whole


def write(
    path: Path,
    arrays: dict[str, np.ndarray],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    overwrite: bool = False,
) -> None:
    """Write arrays of one volume; its centre stands at the origin, as the rotations have it.

    Parameters
    ----------
    path : Path
        The file, which ParaView wants to end in .vti.
    arrays : dict of str to ndarray
        Scalars [x, y, z] and vectors [x, y, z, 3]; stored as float32.
    spacing : (float, float, float)
        Edges of a voxel along x, y and z, in any unit of length.

    Raises
    ------
    InputError
        If the shapes differ, or as `files.write_atomic`.
    """
    shape = volume_shape(arrays)

    def fill(temporary: Path) -> None:
        with open(temporary, "wb") as out:
            out.write(_head(arrays, shape, spacing).encode())
            for name, values in arrays.items():
                parts = 3 if values.ndim == 4 else 1
                head = f'<DataArray type="Float32" Name={quoteattr(name)} NumberOfComponents="{parts}" format="binary">'
                out.write(f"{head}\n".encode())
                _write_base64(out, x_fastest(values))
                out.write(b"\n</DataArray>\n")
            out.write(b"</PointData>\n</Piece>\n</ImageData>\n</VTKFile>\n")

    write_atomic_with(path, fill, overwrite)


def volume_shape(arrays: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """Return the shape (x, y, z) that all arrays share, or say which one differs.

    Raises
    ------
    InputError
        If there is no array, or one is neither [x, y, z] nor [x, y, z, 3].
    """
    if not arrays:
        raise InputError("nothing to write: no arrays")
    shape = np.shape(next(iter(arrays.values())))[:3]
    for name, values in arrays.items():
        if np.shape(values) not in (shape, (*shape, 3)) or len(shape) != 3:
            raise InputError(f"{name}: shape {np.shape(values)} where {shape} or {(*shape, 3)} is needed")
    return shape


def x_fastest(values: np.ndarray) -> np.ndarray:
    """Return float32 values ordered [z, y, x] (or [z, y, x, 3]), so that x runs fastest in memory."""
    return np.ascontiguousarray(np.moveaxis(values, (0, 1, 2), (2, 1, 0)), dtype="<f4")


def _head(arrays: dict[str, np.ndarray], shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> str:
    extent = " ".join(f"0 {n - 1}" for n in shape)
    origin = " ".join(repr(-(n - 1) / 2 * float(edge)) for n, edge in zip(shape, spacing, strict=True))
    edges = " ".join(repr(float(edge)) for edge in spacing)
    first = {parts: next((name for name, v in arrays.items() if v.ndim == parts), None) for parts in (3, 4)}
    active = "".join(
        f" {kind}={quoteattr(name)}" for kind, name in (("Scalars", first[3]), ("Vectors", first[4])) if name
    )
    return (
        '<?xml version="1.0"?>\n'
        '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n'
        f'<ImageData WholeExtent="{extent}" Origin="{origin}" Spacing="{edges}">\n'
        f'<Piece Extent="{extent}">\n<PointData{active}>\n'
    )


def _write_base64(out: BinaryIO, values: np.ndarray) -> None:
    stream = values.reshape(-1).view(np.uint8)
    first = _CHUNK_BYTES - 8  # the length takes eight bytes of the first part
    out.write(base64.b64encode(struct.pack("<Q", len(stream)) + stream[:first].tobytes()))
    for start in range(first, len(stream), _CHUNK_BYTES):
        out.write(base64.b64encode(stream[start : start + _CHUNK_BYTES].tobytes()))
