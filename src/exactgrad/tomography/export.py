"""A reconstruction in the form that other programs read: VTK, XDMF, or mumott's derived quantities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad import __version__
from exactgrad.errors import InputError
from exactgrad.tomography import derived
from exactgrad.tomography.formats import result, vtk, xdmf
from exactgrad.tomography.formats.result import Volume

FORMATS = ("vtk", "xdmf", "mumott")
FILES = {"vtk": "volume.vti", "xdmf": "volume.xdmf", "mumott": "mumott.h5"}


def export(folder: Any, to: str, out: Any = None) -> dict[str, Any]:
    """Write the result of a run for another program, beside it or to `out`.

    Parameters
    ----------
    folder : path
        A run folder, or a result.h5.
    to : str
        "vtk" (.vti), "xdmf" (.xdmf with a .h5 beside it) or "mumott" (the HDF5 that mumott's
        ``ReconstructionDerivedQuantities.write`` makes: arrays [z, y, x]).
    out : path, optional
        The file; by default ``volume.vti``, ``volume.xdmf`` or ``mumott.h5`` in the folder.

    Returns
    -------
    dict
        What `--json` prints; ``files`` are those written.

    Raises
    ------
    InputError
        If there is no result, the format is not known, or a file exists already.
    """
    if to not in FORMATS:
        raise InputError(f"--to {to}: must be one of {', '.join(FORMATS)}")
    folder = Path(folder)
    volume = result.read(folder)
    path = Path(out) if out is not None else (folder if folder.is_dir() else folder.parent) / FILES[to]
    if to == "vtk":
        vtk.write(path, arrays_of(volume), spacing_of(volume))
        files = [path]
    elif to == "xdmf":
        files = list(xdmf.write(path, arrays_of(volume), spacing_of(volume)))
    else:
        xdmf.write_plain_hdf5(path, derived_quantities(volume))
        files = [path]
    return {
        "system": "tomography",
        "command": "export",
        "version": __version__,
        "status": "written",
        "to": to,
        "files": [str(file) for file in files],
        "volume_shape": list(volume.shape),
        "voxels": int(volume.mask.sum()),
    }


def spacing_of(volume: Volume) -> tuple[float, float, float]:
    """Return the edges of a voxel: in the file's unit of length if it has one, else 1."""
    edge = volume.pixel_size or 1.0
    return (edge, edge, edge)


def arrays_of(volume: Volume) -> dict[str, np.ndarray]:
    """Return what is shown of a volume, 0 outside its mask; ``axis_by_A`` is the axis with a length for glyphs."""
    inside = volume.mask
    axis = np.where(inside[..., None], volume.axis, 0.0)
    arrays = {
        "mean_intensity": np.where(inside, derived.mean_intensity(volume.A, volume.B), 0.0),
        "A": np.where(inside, volume.A, 0.0),
        "B": np.where(inside, volume.B, 0.0),
        "anisotropy": np.where(inside, derived.anisotropy(volume.B), 0.0),
        "mask": inside.astype(float),
        "axis": axis,
        "axis_by_A": axis * np.abs(volume.A)[..., None],
    }
    known = {f"sigma_{name}": np.where(inside, values, 0.0) for name, values in volume.sigma.items()}
    return arrays | {name: np.where(np.isfinite(values), values, 0.0) for name, values in known.items()}


def derived_quantities(volume: Volume) -> dict[str, np.ndarray]:
    """Return mumott's derived quantities of a volume, in its order [z, y, x, ...], eigenvalues ascending.

    The second-moment tensor is <q q^T f> over the sphere, whose trace is the mean intensity, as in mumott 2.3.
    """
    A = np.where(volume.mask, volume.A, 0.0)
    values, vectors = derived.eigen(A, volume.B, volume.axis)
    quantities = {
        "mean_intensity": derived.mean_intensity(A, volume.B),
        "fractional_anisotropy": np.where(volume.mask, derived.anisotropy(volume.B), 0.0),
        **{f"eigenvector_{i + 1}": vectors[..., :, i] for i in range(3)},
        **{f"eigenvalue_{i + 1}": values[..., i] for i in range(3)},
        "second_moment_tensor": derived.second_moments(A, volume.B, volume.axis),
    }
    return {name: np.ascontiguousarray(np.moveaxis(array, (0, 1, 2), (2, 1, 0))) for name, array in quantities.items()}
