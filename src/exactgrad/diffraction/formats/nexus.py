"""NeXus NXmx images (HDF5): frames with gzip or, with the extra `eiger`, bitshuffle and LZ4; detector modules,
wavelength, rotation axis and angles.

A module is a panel: it has its own geometry, and its pixels are a rectangle of the frame (`data_origin`, `data_size`),
or, where the frames are stacks (n, module, slow, fast), a layer of it.

The frame is McStas': z along the beam. An experiment in another frame is turned into it with little turn about the
beam, but which way is up is not known. What the file says of a direction is a chain of translations and rotations
(``depends_on``), which the reader follows. Files that point to others by links, as Eiger masters do, are refused
before anything is read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.formats import bitshuffle
from exactgrad.diffraction.formats.bounds import MAX_PIXELS, check_dimensions, check_finite, require_image
from exactgrad.diffraction.formats.experiment import (
    MAX_PANELS,
    Experiment,
    Panel,
    make_panel,
    unit_vector,
    wavelength,
)
from exactgrad.errors import FormatError, InputError, RefusedFile, require_range
from exactgrad.files import damage_told, open_guarded, write_atomic_with

LIMIT_BYTES = 8 << 30
MAX_FRAMES = 100_000
MAX_CHAIN = 50
_LENGTHS_M = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "micron": 1e-6, "nm": 1e-9, "angstrom": 1e-10, "A": 1e-10}
_ANGLES = {"deg": np.pi / 180, "degree": np.pi / 180, "degrees": np.pi / 180, "rad": 1.0, "radian": 1.0}
_DETECTOR = "entry/instrument/detector"
Corner = tuple[int, int]


@dataclass(frozen=True)
class NexusImages:
    """`frames` (n, slow, fast) as stored, the `experiment`, and the `saturation` value or None.

    `corners` are the first pixels (slow, fast) of the experiment's panels in a frame.
    """

    frames: np.ndarray
    experiment: Experiment
    saturation: float | None
    corners: tuple[Corner, ...] = ((0, 0),)

    def of_panel(self, index: int) -> np.ndarray:
        """Return the frames of one panel, shape (n, slow, fast)."""
        (slow, fast), shape = self.corners[index], self.experiment.panels[index].shape
        return self.frames[:, slow : slow + shape[0], fast : fast + shape[1]]


def write(
    path: Path,
    frames: np.ndarray,
    experiment: Experiment,
    saturation: float | None = None,
    sensor_thickness_m: float = 0.0,
    sensor_material: str = "Si",
    overwrite: bool = False,
) -> None:
    """Write frames.

    Parameters
    ----------
    path : Path
        The file.
    frames : ndarray, shape (slow, fast) or (n, slow, fast), or a list of such
        Finite numbers; the dtype is kept. Of several panels a list, one entry a panel; the file's frames have the
        panels one below the other.
    experiment : Experiment
        Panels of the frames' shapes, and a wavelength.
    saturation : float or None
        The end of the trusted range, in the frames' unit.
    sensor_thickness_m : float
        0 if not known.

    Raises
    ------
    InputError
        If shapes disagree, the wavelength is missing, or as `files.write_atomic`.
    """
    import h5py

    stack = _stacked(frames, experiment)
    if experiment.wavelength_m is None:
        raise InputError("experiment: a wavelength is needed")
    require_range("sensor_thickness", sensor_thickness_m, "m", low=0.0)
    file = io.BytesIO()  # the library crashes on a full disk, so it never sees the disk
    with h5py.File(file, "w", track_order=True) as handle:
        _group(handle, "entry", "NXentry")
        handle["entry"].attrs["default"] = "data"
        _text(handle, "entry/definition", "NXmx")
        _group(handle, "entry/data", "NXdata").attrs["signal"] = "data"
        handle.create_dataset(
            "entry/data/data", data=stack, chunks=(1, *stack.shape[1:]), compression="gzip", shuffle=True
        )
        _group(handle, "entry/instrument", "NXinstrument")
        _text(handle, "entry/instrument/name", "exactgrad")
        _group(handle, "entry/instrument/beam", "NXbeam")
        _value(handle, "entry/instrument/beam/incident_wavelength", experiment.wavelength_m * 1e10, "angstrom")
        _write_detector(handle, experiment, saturation, sensor_thickness_m, sensor_material)
        _write_sample(handle, experiment, len(stack))
    write_atomic_with(path, lambda temporary: temporary.write_bytes(file.getbuffer()), overwrite)


def _write_detector(
    handle: Any, experiment: Experiment, saturation: float | None, thickness_m: float, material: str
) -> None:
    panel, at = experiment.panels[0], f"{_DETECTOR}/"
    _group(handle, _DETECTOR, "NXdetector")
    handle[at + "data"] = handle["entry/data/data"]
    _text(handle, at + "depends_on", ".")
    _value(handle, at + "x_pixel_size", panel.pixel_size_m[0], "m")
    _value(handle, at + "y_pixel_size", panel.pixel_size_m[1], "m")
    beam = _beam_centre(experiment) if len(experiment.panels) == 1 else None
    if len(experiment.panels) == 1:
        _value(handle, at + "distance", float(panel.origin_m @ panel.normal), "m")
    if beam is not None:
        _value(handle, at + "beam_center_x", beam[0], "pixel")
        _value(handle, at + "beam_center_y", beam[1], "pixel")
    _value(handle, at + "sensor_thickness", thickness_m, "m")
    _text(handle, at + "sensor_material", material)
    if saturation is not None:
        handle[at + "saturation_value"] = float(saturation)
    row = 0
    for index, one in enumerate(experiment.panels):
        name = "module" if len(experiment.panels) == 1 else f"module_{index:04d}"
        _write_module(handle, at + name, one, row, _to_mcstas(experiment.beam_direction))
        row += one.shape[0]


def _write_module(handle: Any, name: str, panel: Panel, row: int, turn: np.ndarray) -> None:
    _group(handle, name, "NXdetector_module")
    handle[f"{name}/data_origin"] = np.array([row, 0])
    handle[f"{name}/data_size"] = np.array(panel.shape)
    origin = turn @ panel.origin_m
    length = float(np.linalg.norm(origin))
    way = origin / length if length else np.array([0.0, 0.0, 1.0])
    _transformation(handle, f"{name}/module_offset", length, "m", "translation", way, ".")
    axes = (("fast", panel.fast_axis, panel.pixel_size_m[0]), ("slow", panel.slow_axis, panel.pixel_size_m[1]))
    for axis, vector, size in axes:
        where, offset = f"{name}/{axis}_pixel_direction", f"/{name}/module_offset"
        _transformation(handle, where, size, "m", "translation", turn @ vector, offset)


def _stacked(frames: Any, experiment: Experiment) -> np.ndarray:
    """Return the file's frames, shape (n, slow, fast), with the panels one below the other."""
    several = len(experiment.panels) > 1 and isinstance(frames, list | tuple)
    parts = []
    for given in frames if several else [frames]:
        stack = np.asarray(given)
        stack = stack[None] if stack.ndim == 2 else stack
        if stack.ndim != 3 or not 1 <= len(stack) <= MAX_FRAMES:
            raise InputError(f"frames: shape {np.shape(given)} where (slow, fast) or (n, slow, fast) is needed")
        for image in stack:
            require_image(image)
        parts.append(stack)
    shapes, wanted = [part.shape[1:] for part in parts], [panel.shape for panel in experiment.panels]
    if shapes != wanted or len({len(part) for part in parts}) > 1:
        raise InputError(f"frames of {shapes} pixels, panels of {wanted}: a panel's frames must have its shape")
    width = max(shape[1] for shape in shapes)
    padded = [np.pad(part, ((0, 0), (0, 0), (0, width - part.shape[2]))) for part in parts]
    return np.concatenate(padded, axis=1) if several else parts[0]


def _write_sample(handle: Any, experiment: Experiment, frames: int) -> None:
    _group(handle, "entry/sample", "NXsample")
    if experiment.rotation_axis is None:
        _text(handle, "entry/sample/depends_on", ".")
        return
    _text(handle, "entry/sample/depends_on", "/entry/sample/transformations/omega")
    _group(handle, "entry/sample/transformations", "NXtransformations")
    angles = (experiment.start_deg or 0.0) + (experiment.step_deg or 0.0) * np.arange(frames)
    axis = _to_mcstas(experiment.beam_direction) @ experiment.rotation_axis
    omega = "entry/sample/transformations/omega"
    _transformation(handle, omega, angles, "deg", "rotation", axis, ".")
    _value(handle, f"{omega}_end", angles + (experiment.step_deg or 0.0), "deg")


def _to_mcstas(beam: np.ndarray) -> np.ndarray:
    """Return a rotation that takes the unit vector `beam` to z: the smallest, after half a turn about y if z < 0."""
    flip = np.diag([-1.0, 1.0, -1.0]) if beam[2] < 0 else np.eye(3)  # the formula loses all digits near -z
    x, y, z = flip @ beam
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])  # [beam x z] as a matrix
    return (np.eye(3) + cross + cross @ cross / (1 + z)) @ flip


def _beam_centre(experiment: Experiment) -> tuple[float, float] | None:
    """Return where the beam meets the panel, in pixels (fast, slow); None where it does not."""
    panel = experiment.panels[0]
    along = float(experiment.beam_direction @ panel.normal)
    if abs(along) < 1e-9:
        return None
    point = experiment.beam_direction * float(panel.origin_m @ panel.normal) / along - panel.origin_m
    return (
        float(point @ panel.fast_axis) / panel.pixel_size_m[0],
        float(point @ panel.slow_axis) / panel.pixel_size_m[1],
    )


def _group(handle: Any, name: str, nx_class: str) -> Any:
    group = handle.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _text(handle: Any, name: str, text: str) -> None:
    handle[name] = np.bytes_(text.encode("ascii", "replace"))  # of fixed length: our guard refuses the other kind


def _value(handle: Any, name: str, value: Any, units: str) -> None:
    handle[name] = value
    handle[name].attrs["units"] = units


def _transformation(
    handle: Any, name: str, value: Any, units: str, kind: str, vector: np.ndarray, depends_on: str
) -> None:
    _value(handle, name, value, units)
    handle[name].attrs.update({"transformation_type": kind, "vector": vector, "depends_on": depends_on})


def read(path: Path) -> NexusImages:
    """Read the frames and the geometry of an NXmx file.

    Raises
    ------
    FormatError
        If an entry is missing, of the wrong kind, or not finite.
    RefusedFile
        As `files.open_guarded`: too large, links, or another compression than gzip, lzf, and bitshuffle with LZ4.
    BackendMissing
        If the last is needed and the extra `eiger` is not installed.
    """
    path = Path(path)
    with open_guarded(path, LIMIT_BYTES, partial(bitshuffle.is_allowed, path)) as handle, damage_told(path):
        return _read(path, handle)


def _read(path: Path, handle: Any) -> NexusImages:
    data = _dataset(path, handle, "entry/data/data")
    if data.ndim not in (2, 3, 4) or data.dtype.kind not in "iuf":
        raise FormatError(f"{path}: entry/data/data: shape {data.shape} of {data.dtype}: frames of numbers are needed")
    layers = data.shape[1] if data.ndim == 4 else 1
    shape = check_dimensions(path, layers * data.shape[-2], data.shape[-1])
    if data.size > MAX_PIXELS * 16 or data.size // (shape[0] * shape[1]) > MAX_FRAMES:
        raise RefusedFile(f"{path}: entry/data/data: shape {data.shape} is more than is read at once")
    frames = check_finite(path, data[()].reshape(-1, *shape))
    beam = _dataset(path, handle, "entry/instrument/beam/incident_wavelength")
    angles = _angles(path, handle)
    panels, corners = _panels(path, handle, shape, data.shape[-2])
    return NexusImages(
        frames,
        Experiment(
            panels=panels,
            beam_direction=np.array([0.0, 0.0, 1.0]),
            wavelength_m=wavelength(path, float(_numbers(path, beam)[0]) * _unit(path, beam, _LENGTHS_M)),
            rotation_axis=None if angles is None else angles[0],
            start_deg=None if angles is None else angles[1],
            step_deg=None if angles is None else angles[2],
        ),
        _saturation(path, handle),
        corners,
    )


def _panels(
    path: Path, handle: Any, frame: tuple[int, int], layer: int
) -> tuple[tuple[Panel, ...], tuple[Corner, ...]]:
    """Return the panels, and where each begins in a frame; `layer` is the rows of one in a stack."""
    group = handle.get(_DETECTOR)
    items = group.items() if hasattr(group, "items") else ()
    names = sorted(name for name, item in items if _words(item, "NX_class") == "NXdetector_module")
    if len(names) > MAX_PANELS:
        raise RefusedFile(f"{path}: {len(names)} detector modules; at most {MAX_PANELS} are read")
    if len(names) < 2:
        if frame[0] != layer:
            raise FormatError(f"{path}: entry/data/data: a stack of layers, but {len(names)} detector modules")
        return (_panel(path, handle, f"{_DETECTOR}/{names[0] if names else 'module'}", frame),), ((0, 0),)
    panels, corners = [], []
    for name in names:
        where = f"{_DETECTOR}/{name}"
        corner, size = (_whole(path, handle, f"{where}/{key}") for key in ("data_origin", "data_size"))
        if len(corner) == 3:  # of a stack: its layers lie one below the other here
            if len(size) != 3 or size[0] != 1 or not 0 <= corner[1] <= layer - size[1]:
                raise FormatError(f"{path}: {where}: data_origin and data_size are not within one layer")
            corner = corner[0] * layer + corner[1], corner[2]
        first, shape = (corner[-2], corner[-1]), (size[-2], size[-1])
        if any(not 0 <= a < a + n <= whole for a, n, whole in zip(first, shape, frame, strict=True)):
            raise FormatError(f"{path}: {where}: pixels from {first}, {shape} of them, in frames of {frame}")
        panels.append(_panel(path, handle, where, shape))
        corners.append(first)
    order = sorted(range(len(names)), key=corners.__getitem__)
    return tuple(panels[i] for i in order), tuple(corners[i] for i in order)


def _whole(path: Path, handle: Any, name: str) -> tuple[int, ...]:
    """Return two or three whole numbers."""
    values = _numbers(path, _dataset(path, handle, name))
    if values.size not in (2, 3) or (values != np.rint(values)).any() or np.abs(values).max() > MAX_PIXELS:
        raise FormatError(f"{path}: {name}: two or three whole numbers are needed")
    return tuple(int(value) for value in values)


def _panel(path: Path, handle: Any, module: str, shape: tuple[int, int]) -> Panel:
    vectors, sizes = {}, {}
    for name in ("fast", "slow"):
        item = _dataset(path, handle, f"{module}/{name}_pixel_direction")
        sizes[name] = float(_numbers(path, item)[0]) * _unit(path, item, _LENGTHS_M)
        vectors[name] = unit_vector(path, item.name, _vector(path, item, "vector"))
    origin = np.zeros(3)
    item = _dataset(path, handle, f"{module}/fast_pixel_direction")
    for step in _chain(path, handle, item):
        shift, turn = _placed(path, step)
        origin = shift + turn @ origin
        vectors = {name: turn @ vector for name, vector in vectors.items()}
    return make_panel(
        path,
        module.removeprefix(f"{_DETECTOR}/"),
        origin.tolist(),
        vectors["fast"].tolist(),
        vectors["slow"].tolist(),
        (sizes["fast"], sizes["slow"]),
        shape,
    )


def _chain(path: Path, handle: Any, item: Any) -> list[Any]:
    """Return the transformations that `item` depends on, nearest first."""
    found: list[Any] = []
    parent = item.parent
    while True:
        target = item.attrs.get("depends_on", ".")
        target = target.decode("latin-1") if isinstance(target, bytes) else str(target)
        if target == ".":
            return found
        if len(found) == MAX_CHAIN:
            raise FormatError(f"{path}: {item.name}: depends_on more than {MAX_CHAIN} steps deep, or in a circle")
        name = target if target.startswith("/") else f"{parent.name}/{target}"
        item = _dataset(path, handle, name.lstrip("/"))
        parent = item.parent
        found.append(item)


def _placed(path: Path, item: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return shift (m) and rotation of one transformation, at its first value."""
    vector = unit_vector(path, item.name, _vector(path, item, "vector"))
    offset = np.zeros(3)
    if "offset" in item.attrs:
        offset = np.array(_vector(path, item, "offset")) * _LENGTHS_M.get(_words(item, "offset_units"), 1.0)
    value = float(_numbers(path, item)[0])
    if _words(item, "transformation_type") == "rotation":
        from exactgrad.rotations import maps

        return offset, maps.exp(value * _unit(path, item, _ANGLES) * vector)
    return offset + value * _unit(path, item, _LENGTHS_M) * vector, np.eye(3)


def _angles(path: Path, handle: Any) -> tuple[np.ndarray, float, float | None] | None:
    """Return axis, first angle and step (degrees) of the sample's innermost rotation, if it has one."""
    if "entry/sample/transformations/omega" not in handle:
        return None
    omega = _dataset(path, handle, "entry/sample/transformations/omega")
    angles = _numbers(path, omega) * (_unit(path, omega, _ANGLES) * 180 / np.pi)
    step = float(angles[1] - angles[0]) if len(angles) > 1 else None
    if step is None and "entry/sample/transformations/omega_end" in handle:
        end = _dataset(path, handle, "entry/sample/transformations/omega_end")
        step = float(_numbers(path, end)[0] * (_unit(path, end, _ANGLES) * 180 / np.pi) - angles[0])
    return unit_vector(path, omega.name, _vector(path, omega, "vector")), float(angles[0]), step


def _saturation(path: Path, handle: Any) -> float | None:
    name = "entry/instrument/detector/saturation_value"
    return float(_numbers(path, _dataset(path, handle, name))[0]) if name in handle else None


def _dataset(path: Path, handle: Any, name: str) -> Any:
    item = handle.get(name)
    if item is None or not hasattr(item, "dtype"):
        raise FormatError(f"{path}: no {name}: not an NXmx file as it is read here")
    bitshuffle.check_chunks(path, item)
    return item


def _numbers(path: Path, item: Any) -> np.ndarray:
    if item.dtype.kind not in "iuf" or not 1 <= item.size <= MAX_FRAMES:
        raise FormatError(f"{path}: {item.name}: from 1 to {MAX_FRAMES} numbers are needed")
    return check_finite(path, np.asarray(item[()], float).reshape(-1), item.name)


def _vector(path: Path, item: Any, name: str) -> list[float]:
    value = item.attrs.get(name)
    if not isinstance(value, np.ndarray) or value.shape != (3,) or value.dtype.kind not in "iuf":
        raise FormatError(f"{path}: {item.name}: its attribute {name} must be three numbers")
    return check_finite(path, value.astype(float), f"{item.name} {name}").tolist()


def _words(item: Any, name: str) -> str:
    value = item.attrs.get(name, "")
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _unit(path: Path, item: Any, known: dict[str, float]) -> float:
    unit = _words(item, "units")
    if unit not in known:
        raise FormatError(f"{path}: {item.name}: units {unit[:20]!r}: one of {', '.join(known)} is needed")
    return known[unit]
