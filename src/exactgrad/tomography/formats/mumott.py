"""mumott's HDF5 files (versions up to 2.3): a group a projection; read with all that the program accepts, and written.

Root: ``projections/0 .. N-1``, ``detector_angles`` (rad), and optionally ``volume_shape``, ``inner_axis``,
``outer_axis``, ``p_direction_0``, ``j_direction_0``, ``k_direction_0``, ``detector_direction_origin``,
``detector_direction_positive_90``, ``two_theta`` (rad; several: channel = two_theta slow x azimuth fast). A projection:
``data`` (j, k, channel), ``diode`` (j, k), ``weights`` (j, k), (j, k, 1) or (j, k, channel), ``rotation_matrix`` or the
angles ``inner_angle`` and ``outer_angle`` (rad; R = R_outer R_inner) about ``inner_axis`` and ``outer_axis``,
``j_offset``, ``k_offset`` (pixels). Older names: rot_mat, rotations, tilts, offset_j, offset_k.

Where we differ: ``diode`` may be missing (1); data that are NaN or infinite get weight 0, and so do pixels whose diode
is zero, negative or not finite; the data stay as measured, the diode belongs to the model. A smaller projection is
padded at its high end and its offsets grow by half of that, so that its pixels stay where j + 1/2 - J/2 + j_offset puts
them; mumott 2.3 lets them shrink by as much, which moves the image by the whole padding.

We also keep what mumott drops when it writes: ``two_theta``, and ``q`` (with its ``units``) and ``pixel_size`` (ditto).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad import rotations
from exactgrad.errors import FormatError, InputError
from exactgrad.files import write_atomic_with
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats.reading import (
    MOST_CHANNELS,
    MOST_PIXELS,
    MOST_PROJECTIONS,
    MOST_VALUES,
    Loaded,
    Node,
    Stack,
    damage_told,
    frame,
    looks_backward,
    looks_like_degrees,
    naming,
    volume_shape,
)
from exactgrad.tomography.geometry import Geometry

INNER_AXIS, OUTER_AXIS = (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)
AXIS_TOLERANCE = 1e-3
MATRIX_TOLERANCE = 1e-3  # between a rotation matrix and the angles beside it
_MOST_TURN_RAD, _MOST_TILT_RAD = 2.2 * np.pi, 1.1 * np.pi  # a little over a whole turn, and half of one


def recognised(root: Node) -> bool:
    """Say whether an open HDF5 file is of this format."""
    return root.has_group("projections")


def read(root: Node, memory_bytes: int, keep: Any = None) -> Loaded:
    """Read an open file.

    Parameters
    ----------
    root : Node
        Of `formats.reading.open_data`.
    memory_bytes : int
        Data and weights that take more stay in the file, of which one projection is read at a time.
    keep : object
        What keeps the file open for that.

    Raises
    ------
    FormatError
        If an entry is missing or wrong; the message names it.
    """
    path = root.path
    parts = _projections(root)
    angles = root.required("detector_angles", shape=(None,), unit="rad")
    two_theta = root.list("two_theta", unit="rad")
    two_theta = np.zeros(1) if two_theta is None else two_theta
    sizes = _sizes(parts, len(angles) * len(two_theta))
    padded = sizes.max(axis=0)
    shape = (int(padded[0]), int(padded[1]))
    turns = _Turns(root)
    rotation = np.stack([turns.of(part) for part in parts])
    offsets = np.array([_offset(part, *names) for part in parts for names in (_J_NAMES, _K_NAMES)]).reshape(-1, 2)
    offsets += (padded - sizes) / 2
    transmission, is_dead = _transmission(parts, shape)
    data: Any = _data(parts, shape, len(angles) * len(two_theta), keep)
    weights: Any = _weights(parts, sizes, data.shape, is_dead, keep)
    warnings = [
        *turns.warnings(),
        looks_like_degrees("detector_angles", angles, _MOST_TURN_RAD),
        looks_backward(two_theta),
        _dead_text(is_dead),
        _size_text(sizes),
    ]
    if data.nbytes + (0 if weights is None else weights.nbytes) <= memory_bytes:
        data, weights = data.whole(), None if weights is None else weights.whole()
    made = []
    q = root.list("q")
    if q is not None and len(q) != len(two_theta):
        raise FormatError(f"{path}: q: {len(q)} values where {len(two_theta)} is needed, as many as of two_theta")
    pixel = root.numbers("pixel_size", shape=())
    with naming(path):
        for i, angle in enumerate(two_theta):
            geometry = Geometry(
                rotation=rotation,
                projection_shape=shape,
                volume_shape=volume_shape(root, (shape[0], shape[0], shape[1])),
                detector_angles=angles,
                j_offset=offsets[:, 0],
                k_offset=offsets[:, 1],
                two_theta=float(angle),
                **frame(root),
            )
            first, last = i * len(angles), (i + 1) * len(angles)
            made.append(
                Dataset(
                    geometry,
                    _channels(data, first, last),
                    None if weights is None else _channels(weights, first, last),
                    transmission,
                    q=None if q is None else float(q[i]),
                    q_unit=root.unit("q"),
                    pixel_size=None if pixel is None else float(pixel),
                    length_unit=root.unit("pixel_size"),
                    name=path.stem,
                )
            )
    return Loaded(tuple(made), "mumott", tuple(text for text in warnings if text), turns.angles())


_J_NAMES, _K_NAMES = ("j_offset", "offset_j"), ("k_offset", "offset_k")


def _projections(root: Node) -> list[Node]:
    group = root.child("projections")
    count = len(group.group)
    if not 1 <= count <= MOST_PROJECTIONS:
        raise FormatError(f"{root.path}: projections: {count} members; from 1 to {MOST_PROJECTIONS} are read")
    names = set(group.group)
    for i in range(count):
        if str(i) not in names:
            raise FormatError(f"{root.path}: projections/{i}: missing; {count} members must be named 0 to {count - 1}")
    return [group.child(str(i)) for i in range(count)]


def _sizes(parts: list[Node], channels: int) -> np.ndarray:
    """Check the shape of every projection's data; return (n, 2)."""
    if not 1 <= channels <= MOST_CHANNELS:
        raise FormatError(f"{parts[0].path}: {channels} channels a pixel; from 1 to {MOST_CHANNELS} are read")
    sizes = []
    for part in parts:
        data = part.find("data")
        if data is None:
            raise FormatError(f"{part.path}: {part.prefix}data: missing")
        if data.dtype.kind not in "biuf" or data.ndim != 3 or data.shape[2] != channels or not data.size:
            raise FormatError(
                f"{part.path}: {part.prefix}data: shape {data.shape} of {data.dtype} where numbers of shape "
                f"(any, any, {channels}) are needed: as many channels as detector_angles (times two_theta)"
            )
        if data.shape[0] * data.shape[1] > MOST_PIXELS or data.size > MOST_VALUES:
            raise FormatError(f"{part.path}: {part.prefix}data: shape {data.shape} is more than is read at once")
        for name in ("diode", "weights"):
            item = part.find(name)
            allowed = [data.shape[:2]] if name == "diode" else [data.shape[:2], (*data.shape[:2], 1), data.shape]
            if item is not None and (item.dtype.kind not in "biuf" or item.shape not in allowed):
                raise FormatError(
                    f"{part.path}: {part.prefix}{name}: shape {item.shape} of {item.dtype} where numbers of shape "
                    f"{' or '.join(map(str, allowed))} are needed, as its data have"
                )
        sizes.append(data.shape[:2])
    return np.array(sizes)


def _offset(part: Node, *names: str) -> float:
    return part.scalar(*names, default=0.0, unit="pixels")


class _Turns:
    """The rotation of each projection, with mumott's rule for axes: the file's, else the first projection's."""

    def __init__(self, root: Node):
        self._axes = {"inner": np.array(INNER_AXIS), "outer": np.array(OUTER_AXIS)}
        self._fixed = set()
        for which in self._axes:
            axis = root.numbers(f"{which}_axis", shape=(3,))
            if axis is not None:
                self._axes[which] = axis
                self._fixed.add(which)
        self._angles: dict[str, list[float]] = {"inner_angle": [], "outer_angle": []}
        self._from_angles = 0
        self._differs: tuple[str, float] | None = None
        self._first = True

    def of(self, part: Node) -> np.ndarray:
        axes = dict(self._axes)
        for which in axes:
            axis = part.numbers(f"{which}_axis", shape=(3,))
            if axis is not None:
                axes[which] = axis
                if self._first and which not in self._fixed:
                    self._axes[which] = axis
        self._first = False
        inner = part.numbers("inner_angle", "rotations", shape=(), unit="rad")
        outer = part.numbers("outer_angle", "tilts", shape=(), unit="rad")
        matrix = part.numbers("rotation_matrix", "rot_mat", shape=(3, 3))
        if inner is None and outer is None:
            return np.eye(3) if matrix is None else matrix
        angles = (0.0 if inner is None else float(inner), 0.0 if outer is None else float(outer))
        for name, angle in zip(self._angles, angles, strict=True):
            self._angles[name].append(angle)
        made = rotation_of(_unit_axis(part, "outer", axes), angles[1]) @ rotation_of(
            _unit_axis(part, "inner", axes), angles[0]
        )
        if matrix is None:
            self._from_angles += 1
            return made
        apart = float(np.abs(matrix - made).max())
        if apart > max(MATRIX_TOLERANCE, self._differs[1] if self._differs else 0.0):
            self._differs = (part.prefix.rstrip("/"), apart)
        return matrix

    def angles(self) -> dict[str, np.ndarray]:
        return {name: np.array(values) for name, values in self._angles.items()}

    def warnings(self) -> list[str]:
        limits = {"inner_angle": _MOST_TURN_RAD, "outer_angle": _MOST_TILT_RAD}
        texts = [looks_like_degrees(name, np.array(values), limits[name]) for name, values in self._angles.items()]
        if self._differs is not None:
            texts.append(
                f"{self._differs[0]}: rotation_matrix differs by {self._differs[1]:.2g} from its angles and axes; "
                "the matrix is used"
            )
        return texts


def rotation_of(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the active, right-handed rotation by `angle` (rad) about a unit `axis`, shape (3, 3).

    Examples
    --------
    >>> rotation_of(np.array([0.0, 0.0, 1.0]), np.pi / 2).round(6).tolist()[0]
    [0.0, -1.0, 0.0]
    """
    return rotations.exp(np.asarray(axis, float) * angle)


def _unit_axis(part: Node, which: str, axes: dict[str, np.ndarray]) -> np.ndarray:
    length = float(np.linalg.norm(axes[which]))
    if abs(length - 1.0) > AXIS_TOLERANCE:
        raise FormatError(
            f"{part.path}: {which}_axis = {axes[which].tolist()}: a unit vector is needed ({part.prefix})"
        )
    return axes[which] / length


def _transmission(parts: list[Node], shape: tuple[int, int]) -> tuple[np.ndarray | None, np.ndarray]:
    """Read the diodes; where one is not a positive number it is 1 and the pixel is marked dead."""
    is_dead = np.zeros((len(parts), *shape), bool)
    if all(part.find("diode") is None for part in parts):
        return None, is_dead
    values = np.ones((len(parts), *shape))
    for i, part in enumerate(parts):
        item = part.find("diode")
        if item is None:
            continue
        with damage_told(part.path):
            diode = np.asarray(item[()], np.float64)
        dead = ~(np.isfinite(diode) & (diode > 0))
        area = (i, slice(diode.shape[0]), slice(diode.shape[1]))
        values[area] = np.where(dead, 1.0, diode)
        is_dead[area] = dead
    return values, is_dead


def _data(parts: list[Node], shape: tuple[int, int], channels: int, keep: Any) -> Stack:
    items = [part.find("data") for part in parts]
    is_exact = all((item.dtype.kind == "f" and item.dtype.itemsize <= 4) or item.dtype.itemsize <= 2 for item in items)
    dtype = np.dtype(np.float32 if is_exact else np.float64)

    def one(i: int) -> np.ndarray:
        values = np.zeros((*shape, channels), dtype)
        with damage_told(parts[i].path), np.errstate(over="ignore", invalid="ignore"):
            part = items[i][()]
        values[: part.shape[0], : part.shape[1]] = part
        return values

    return Stack(one, (len(parts), *shape, channels), dtype, keep)


def _weights(
    parts: list[Node], sizes: np.ndarray, shape: tuple[int, ...], is_dead: np.ndarray, keep: Any
) -> Stack | None:
    """Return the weights, 0 in the padding and on dead pixels; None if all of them are 1."""
    items = [part.find("weights") for part in parts]
    if all(item is None for item in items) and not is_dead.any() and np.all(sizes == sizes.max(axis=0)):
        return None
    is_full = any(item is not None and item.ndim == 3 and item.shape[2] != 1 for item in items)
    channels = shape[3] if is_full else 1

    def one(i: int) -> np.ndarray:
        values = np.zeros((*shape[1:3], channels), np.float32)
        area = (slice(sizes[i, 0]), slice(sizes[i, 1]))
        if items[i] is None:
            values[area] = 1.0
        else:
            with damage_told(parts[i].path):
                given = np.asarray(items[i][()], np.float64)
            if np.any(given < 0):
                raise FormatError(f"{parts[i].path}: {parts[i].prefix}weights: {given.min():g} is below 0")
            values[area] = np.nan_to_num(given.reshape(*given.shape[:2], -1), nan=0.0, posinf=0.0)
        values[is_dead[i]] = 0.0
        return values

    return Stack(one, (*shape[:3], channels), np.float32, keep)


def _channels(values: Any, first: int, last: int) -> Any:
    """Return one q's channels of an array or a `Stack`; weights that all channels share stay as they are."""
    if values.shape[-1] == 1 or (first == 0 and values.shape[-1] == last):
        return values
    return values.channels(first, last) if isinstance(values, Stack) else values[..., first:last]


def _dead_text(is_dead: np.ndarray) -> str:
    count = int(is_dead.sum())
    if not count:
        return ""
    n, j, k = (int(i) for i in np.argwhere(is_dead)[0])
    return (
        f"diode is zero, negative or not finite in {count} pixels (first: projections/{n}/diode[{j}, {k}]): "
        "they get weight 0"
    )


def _size_text(sizes: np.ndarray) -> str:
    smaller = np.flatnonzero(np.any(sizes < sizes.max(axis=0), axis=1))
    if not len(smaller):
        return ""
    i = int(smaller[0])
    return (
        f"{len(smaller)} projections are smaller than {tuple(int(n) for n in sizes.max(axis=0))} pixels (first: "
        f"projections/{i} with {tuple(int(n) for n in sizes[i])}): padded at the high end with weight 0, and their "
        "offsets moved by half of it, so that their pixels stay where they are"
    )


def write(
    path: Path,
    datasets: Dataset | Sequence[Dataset],
    angles: dict[str, np.ndarray] | None = None,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write data in mumott's format, whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    datasets : Dataset, or a sequence of them
        Several q share all but data, weights, two_theta and q.
    angles : dict, optional
        ``inner_angle`` and ``outer_angle`` (rad, shape (n,)) and ``inner_axis`` and ``outer_axis`` (3,), written beside
        the rotation matrices.
    extra : dict of str to array, optional
        More data sets, e.g. ``"truth/A"``.

    Raises
    ------
    InputError
        If the data sets do not belong together, or as `files.write_atomic`.
    """
    import h5py

    several = [datasets] if isinstance(datasets, Dataset) else list(datasets)
    _check_together(several)
    image = io.BytesIO()  # the library crashes on a full disk, so it never sees the disk
    with h5py.File(image, "w", track_order=True) as handle:
        _write_root(handle, several, angles or {})
        for i in range(several[0].geometry.projections):
            _write_projection(handle.create_group(f"projections/{i}"), several, i, angles or {})
        for name, values in (extra or {}).items():
            _put(handle, name, values)
    write_atomic_with(path, lambda temporary: temporary.write_bytes(image.getbuffer()), overwrite)


def _check_together(several: list[Dataset]) -> None:
    first = several[0]
    for other in several[1:]:
        same = (
            other.data.shape == first.data.shape
            and np.array_equal(other.geometry.rotation, first.geometry.rotation)
            and np.array_equal(other.geometry.j_offset, first.geometry.j_offset)
            and np.array_equal(other.geometry.k_offset, first.geometry.k_offset)
            and np.array_equal(other.geometry.detector_angles, first.geometry.detector_angles)
        )
        if not same:
            raise InputError("data sets of several q must share their geometry and shape to be written to one file")


def _write_root(handle: Any, several: list[Dataset], angles: dict[str, np.ndarray]) -> None:
    geometry = several[0].geometry
    handle["detector_angles"] = np.asarray(geometry.detector_angles, float)
    handle["volume_shape"] = np.asarray(geometry.volume_shape, np.int64)
    directions = (
        *("p_direction_0", "j_direction_0", "k_direction_0"),
        *("detector_direction_origin", "detector_direction_positive_90"),
    )
    for name in directions:
        handle[name] = np.asarray(getattr(geometry, name), float)
    for name in ("inner_axis", "outer_axis"):
        if name in angles:
            handle[name] = np.asarray(angles[name], float)
    handle["two_theta"] = np.array([data.geometry.two_theta for data in several])
    if all(data.q is not None for data in several):
        handle["q"] = np.array([data.q for data in several], float)
        handle["q"].attrs["units"] = np.bytes_(several[0].q_unit.encode())
    if several[0].pixel_size is not None:
        handle["pixel_size"] = float(several[0].pixel_size)
        handle["pixel_size"].attrs["units"] = np.bytes_(several[0].length_unit.encode())


def _write_projection(group: Any, several: list[Dataset], i: int, angles: dict[str, np.ndarray]) -> None:
    geometry = several[0].geometry
    read = [data.projection(i) for data in several]
    dtype = np.result_type(*(data.data.dtype for data in several))
    _put(group, "data", np.concatenate([part[0] for part in read], axis=-1).astype(dtype))
    _put(group, "weights", np.concatenate([part[1] for part in read], axis=-1).astype(np.float32))
    _put(group, "diode", np.asarray(read[0][2], float))
    group["rotation_matrix"] = geometry.rotation[i]
    group["j_offset"], group["k_offset"] = float(geometry.j_offset[i]), float(geometry.k_offset[i])
    for name in ("inner_angle", "outer_angle"):
        if name in angles:
            group[name] = float(angles[name][i])


def _put(group: Any, name: str, values: Any) -> None:
    data = np.asarray(values)
    packed = {"compression": "gzip", "shuffle": True} if data.size > 64 else {}
    group.create_dataset(name, data=data, **packed)
