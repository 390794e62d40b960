"""XDMF: a small XML file that tells ParaView how to read the volume in the HDF5 file beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from exactgrad.errors import InputError
from exactgrad.files import write_atomic, write_atomic_with
from exactgrad.tomography.formats.vtk import volume_shape, x_fastest


def write(
    path: Path,
    arrays: dict[str, np.ndarray],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Write arrays of one volume to `path` (.xdmf) and the values to an HDF5 file of the same name (.h5) beside it.

    Parameters
    ----------
    path : Path
        The XML file.
    arrays : dict of str to ndarray
        Scalars [x, y, z] and vectors [x, y, z, 3]; stored as float32, [z, y, x] as ParaView wants it.
    spacing : (float, float, float)
        Edges of a voxel along x, y and z, in any unit of length; the volume's centre stands at the origin.

    Returns
    -------
    xml, values : Path

    Raises
    ------
    InputError
        If the shapes differ, a file exists, or as `files.write_atomic`.
    """
    shape = volume_shape(arrays)
    path = Path(path)
    values_at = path.with_suffix(".h5")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already and is not overwritten")
    write_plain_hdf5(values_at, {name: x_fastest(values) for name, values in arrays.items()}, overwrite)
    write_atomic(path, _xml(arrays, shape, spacing, values_at.name), overwrite)
    return path, values_at


def write_plain_hdf5(path: Path, arrays: dict[str, Any], overwrite: bool = False) -> None:
    """Write named arrays as HDF5, gzip where it pays, whole or not at all; for other programs, so without our seal."""
    import h5py

    image = io.BytesIO()  # the library crashes on a full disk, so it never sees the disk
    with h5py.File(image, "w", track_order=True) as handle:
        for name, values in arrays.items():
            data = np.asarray(values)
            packed = {"compression": "gzip", "shuffle": True} if data.size > 1000 else {}
            handle.create_dataset(name, data=data, **packed)
    write_atomic_with(path, lambda temporary: temporary.write_bytes(image.getbuffer()), overwrite)


def _xml(
    arrays: dict[str, np.ndarray], shape: tuple[int, int, int], spacing: tuple[float, float, float], file: str
) -> str:
    # the format lists x last, in sizes, origin and spacing alike
    sizes = " ".join(str(n) for n in reversed(shape))
    origin = " ".join(repr(-(n - 1) / 2 * float(edge)) for n, edge in reversed(list(zip(shape, spacing, strict=True))))
    edges = " ".join(repr(float(edge)) for edge in reversed(spacing))
    rows = []
    for name, values in arrays.items():
        kind, size = ("Vector", f"{sizes} 3") if values.ndim == 4 else ("Scalar", sizes)
        rows.append(
            f'<Attribute Name={quoteattr(name)} AttributeType="{kind}" Center="Node">\n'
            f'<DataItem Dimensions="{size}" NumberType="Float" Precision="4" Format="HDF">'
            f"{escape(file)}:/{escape(name)}</DataItem>\n</Attribute>\n"
        )
    return (
        '<?xml version="1.0" ?>\n<Xdmf Version="2.0">\n<Domain>\n<Grid Name="volume" GridType="Uniform">\n'
        f'<Topology TopologyType="3DCoRectMesh" Dimensions="{sizes}"/>\n<Geometry GeometryType="ORIGIN_DXDYDZ">\n'
        f'<DataItem Dimensions="3" NumberType="Float" Precision="8" Format="XML">{origin}</DataItem>\n'
        f'<DataItem Dimensions="3" NumberType="Float" Precision="8" Format="XML">{edges}</DataItem>\n</Geometry>\n'
        f"{''.join(rows)}</Grid>\n</Domain>\n</Xdmf>\n"
    )
