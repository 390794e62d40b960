"""result.h5: what a reconstruction came to, one HDF5 file; and known truths, which have A, B and axis too.

``/A``, ``/B``, ``/mask``, ``/mean_intensity``, ``/anisotropy``, ``/sigma/A``, ``/sigma/B``, ``/sigma/axis_deg`` are
[x, y, z], ``/axis`` is [x, y, z, 3]. Root attributes: ``pixel_size`` with ``length_unit``, ``q`` with ``q_unit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import FormatError, InputError
from exactgrad.files import write_hdf5
from exactgrad.tomography.formats.reading import MOST_VOXELS, Node, damage_told, open_data

NAME = "result.h5"
SIGMAS = ("A", "B", "axis_deg")


@dataclass(frozen=True)
class Volume:
    """A, B and axis of every voxel, and what else is known of them.

    Attributes
    ----------
    A, B : ndarray, shape (x, y, z)
    axis : ndarray, shape (x, y, z, 3)
        Unit vectors, or zero where nothing is known.
    mask : ndarray, shape (x, y, z), bool
    sigma : dict of str to ndarray
        Standard errors, of ``"A"``, ``"B"``, ``"axis_deg"``.
    more : dict of str to ndarray
        Other volumes.
    pixel_size : float or None
        Edge of a voxel, in `length_unit`.
    """

    A: np.ndarray
    B: np.ndarray
    axis: np.ndarray
    mask: np.ndarray
    sigma: dict[str, np.ndarray] = field(default_factory=dict)
    more: dict[str, np.ndarray] = field(default_factory=dict)
    pixel_size: float | None = None
    length_unit: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(x, y, z)."""
        return self.A.shape


def write(
    path: Path,
    volume: Volume,
    more: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a result; mean intensity and anisotropy are computed here, so that they always belong to A and B.

    Parameters
    ----------
    path : Path
        The file.
    volume : Volume
    more : dict of str to array, optional
        Further data sets (residual maps, offsets, ...).
    attributes : dict, optional
        Further root attributes.

    Raises
    ------
    InputError
        As `files.write_hdf5`.
    """
    from exactgrad.tomography import derived

    arrays = {
        "A": volume.A,
        "B": volume.B,
        "axis": volume.axis,
        "mask": volume.mask,
        "mean_intensity": np.where(volume.mask, derived.mean_intensity(volume.A, volume.B), 0.0),
        "anisotropy": np.where(volume.mask, derived.anisotropy(volume.B), 0.0),
    }
    arrays |= {f"sigma/{name}": values for name, values in volume.sigma.items()}
    arrays |= volume.more | dict(more or {})
    sizes = {} if volume.pixel_size is None else {"pixel_size": volume.pixel_size, "length_unit": volume.length_unit}
    write_hdf5(path, arrays, sizes | dict(attributes or {}), overwrite)


def read(path: Path) -> Volume:
    """Read the result of a run, from its folder or from the file itself.

    Raises
    ------
    InputError
        If there is none, or it lacks A, B or axis.
    """
    path = Path(path)
    if path.is_dir():
        several = sorted(found.parent.name for found in path.glob(f"q_*/{NAME}"))
        path = path / NAME
        if several and not path.exists():
            raise InputError(f"{path.parent}: holds several q: name the folder of one, {several[0]} to {several[-1]}")
    if not path.exists():
        raise InputError(f"{path}: no such file; a run folder with {NAME}, or such a file, is needed")
    with open_data(path) as root, damage_told(path):
        A, B, axis = _fields(root)
        mask = root.numbers("mask", shape=A.shape)
        sigma = {}
        if root.has_group("sigma"):
            for name in SIGMAS:
                values = _loose(root.child("sigma"), name, A.shape)
                if values is not None:
                    sigma[name] = values
        more = {name: _loose(root, name, A.shape) for name in ("mean_intensity", "anisotropy")}
        pixel, unit = _size(path, root.group)
        return Volume(
            A,
            B,
            axis,
            A != 0 if mask is None else mask != 0,
            sigma,
            {name: values for name, values in more.items() if values is not None},
            pixel,
            unit,
        )


def read_truth(path: Path) -> Volume:
    """Read a known truth: A, B and theta_op, phi_op (or axis) at the root or in the group ``truth``.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = Path(path)
    with open_data(path) as root, damage_told(path):
        A, B, axis = _fields(root.child("truth") if root.has_group("truth") else root)
        return Volume(A, B, axis, A != 0)


def read_parameters(path: Path) -> dict[str, np.ndarray]:
    """Read A, B, theta_op and phi_op [x, y, z]; where there are no angles, of ``axis``; at the root of an HDF5 file.

    Raises
    ------
    InputError
        If one is missing, misshapen or not finite.
    """
    from exactgrad.tomography.sphere import angles_from_axis

    path = Path(path)
    with open_data(path) as root, damage_told(path):
        A = _volume(root, "A", None)
        values = {"A": A, "B": _volume(root, "B", A.shape)}
        if root.find("theta_op") is not None or root.find("axis") is None:
            return values | {name: _volume(root, name, A.shape) for name in ("theta_op", "phi_op")}
        theta, phi = angles_from_axis(root.required("axis", shape=(*A.shape, 3)))
        return values | {"theta_op": theta, "phi_op": phi}


def _fields(root: Node) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from exactgrad.tomography.sphere import axis_from_angles

    A = _volume(root, "A", None)
    B = _volume(root, "B", A.shape)
    if root.find("axis") is not None:
        return A, B, root.required("axis", shape=(*A.shape, 3))
    if root.find("theta_op") is None:
        raise FormatError(f"{root.path}: {root.prefix}axis: missing (or theta_op and phi_op, rad)")
    theta, phi = (_volume(root, name, A.shape) for name in ("theta_op", "phi_op"))
    return A, B, axis_from_angles(theta, phi)


def _volume(root: Node, name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    item = root.find(name)
    if item is not None and item.size > MOST_VOXELS:
        raise FormatError(f"{root.path}: {root.prefix}{name}: more than {MOST_VOXELS} voxels")
    return root.required(name, shape=(None, None, None) if shape is None else shape)


def _loose(node: Node, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read a volume that may hold NaN or infinity (an error that is not known)."""
    item = node.find(name)
    if item is None or item.shape != shape or item.dtype.kind not in "biuf":
        return None
    with damage_told(node.path):
        return np.asarray(item[()], float)


def _size(path: Path, handle: Any) -> tuple[float | None, str]:
    from exactgrad.files import HDF5_ATTRIBUTE_LIMIT_BYTES

    if "pixel_size" not in handle.attrs:
        return None, ""
    with damage_told(path):
        for name in ("pixel_size", "length_unit"):
            if name in handle.attrs and handle.attrs.get_id(name).get_storage_size() > HDF5_ATTRIBUTE_LIMIT_BYTES:
                raise FormatError(f"{path}: attribute {name} is too large")
        pixel = float(handle.attrs["pixel_size"])
        unit = str(handle.attrs.get("length_unit", ""))
    if not (np.isfinite(pixel) and pixel > 0):
        raise FormatError(f"{path}: attribute pixel_size = {pixel}: must be > 0")
    return pixel, unit
