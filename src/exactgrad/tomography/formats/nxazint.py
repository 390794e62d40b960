"""NXazint2d: azimuthally integrated images (MAX IV, ESRF, pyFAI), with a table that says where each was taken.

An NXazint2d file holds ``I`` (image, azimuth, radius), ``azimuthal_axis`` (with its unit) and ``radial_axis``; it knows
nothing of a scan. What is loaded is therefore the table, CSV or HDF5, one row an image:

* ``projection``, ``j``, ``k``: whole numbers from 0, the place of the image in the data set;
* ``inner_angle_deg`` and ``outer_angle_deg``, or ``inner_angle`` and ``outer_angle`` in rad: R = R_outer R_inner, the
  same in all rows of a projection;
* optional: ``image`` (its number in the file, from 0; by default a file's rows in order), ``file`` (relative to the
  table), ``transmission``, ``j_offset``, ``k_offset`` (pixels).

In CSV, lines before the heading that begin with ``#`` set what belongs to all rows, ``# key = values``: ``file``, and
mumott's root keys (``volume_shape``, ``inner_axis``, ``outer_axis``, the frame), ``two_theta`` (rad), ``pixel_size``,
``length_unit``, and ``q_ranges``, pairs of limits in the unit of the radial axis, ``0.2 0.3, 0.5 0.7``: each pair is
one q, the mean over the radial bins within. In HDF5 the columns are data sets of one length in a group ``table`` (text
of fixed length), and the keys are data sets beside it.

Places without an image are NaN and get weight 0. The files often hold links and text that our guard refuses in whole
files; here only the three data sets that are read must be plain, and reached without links.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.files import read_text
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats.mumott import INNER_AXIS, OUTER_AXIS, rotation_of
from exactgrad.tomography.formats.reading import (
    MOST_PIXELS,
    MOST_PROJECTIONS,
    Loaded,
    Node,
    Stack,
    damage_told,
    looks_like_degrees,
    naming,
    open_data,
)
from exactgrad.tomography.geometry import Geometry

MOST_GROUPS = 1000  # that are searched for the data
TABLE_LIMIT_BYTES = 1 << 30
MOST_ROWS = 20_000_000
_DIRECTIONS = (
    *("p_direction_0", "j_direction_0", "k_direction_0"),
    *("detector_direction_origin", "detector_direction_positive_90"),
)
_SIZES = dict.fromkeys((*_DIRECTIONS, "volume_shape", "inner_axis", "outer_axis"), 3) | {
    "two_theta": 1,
    "pixel_size": 1,
}
_TEXTS = ("file", "length_unit")
_WHOLE = ("projection", "j", "k", "image")
_REAL = (
    *("inner_angle", "outer_angle", "inner_angle_deg", "outer_angle_deg"),
    *("transmission", "j_offset", "k_offset"),
)


@dataclass
class Table:
    """Columns of one length, and what belongs to all rows."""

    path: Path
    columns: dict[str, np.ndarray]
    keys: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    q_ranges: np.ndarray | None = None  # (T, 2)


def is_table(path: Path) -> bool:
    """Say whether a file is a table, from its suffix (CSV) or from the group ``table`` in it (HDF5)."""
    if path.suffix.lower() in (".csv", ".txt"):
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        if handle.read(8) != b"\x89HDF\r\n\x1a\n":
            return False
    with open_data(path) as root, damage_told(path):
        return root.has_group("table") and not root.has_group("projections")


def read(path: Path, memory_bytes: int) -> Loaded:
    """Read a table and the images that it names; parameters as of `formats.mumott.read`.

    Raises
    ------
    FormatError
        If the table or a file is wrong; the message names the row or the data set.
    RefusedFile
        If a data set is stored outside its file, or claims more than it holds.
    """
    table = _read_csv(path) if path.suffix.lower() in (".csv", ".txt") else _read_hdf5(path)
    place = _places(table)
    angles, rotation = _turns(table, place)
    count, rows, columns = (int(place[name].max()) + 1 for name in ("projection", "j", "k"))
    shape = (count, rows, columns)
    if shape[0] > MOST_PROJECTIONS or shape[1] * shape[2] > MOST_PIXELS:
        raise FormatError(f"{path}: {shape[0]} projections of {shape[1]} x {shape[2]} pixels: more than is read")
    warnings = [looks_like_degrees(name, values, 2.2 * np.pi) for name, values in angles.items()]
    with contextlib.ExitStack() as opened:
        sources = [_Source(path.parent / name, opened) for name in _file_names(table)]
        _check_axes(sources)
        if table.q_ranges is None and len(sources[0].radius) > 1:
            warnings.append(f"no q_ranges: the mean over all {len(sources[0].radius)} radial bins is taken")
        with naming(path):
            datasets = _datasets(table, place, rotation, sources, shape, memory_bytes)
        if any(isinstance(data.data, Stack) for data in datasets):
            sources[0].files = opened.pop_all()  # the stacks hold the sources, and with them the files, open
    return Loaded(datasets, "NXazint2d", tuple(text for text in warnings if text), angles)


def _check_axes(sources: list[_Source]) -> None:
    first = sources[0]
    for source in sources[1:]:
        for name in ("azimuth", "radius"):
            own, common = getattr(source, name), getattr(first, name)
            if own.shape != common.shape or not np.allclose(own, common):
                raise FormatError(f"{source.path}: its {name} axis differs from that of {first.path}")


def _datasets(
    table: Table,
    place: dict[str, np.ndarray],
    rotation: np.ndarray,
    sources: list[_Source],
    shape: tuple[int, int, int],
    memory_bytes: int,
) -> tuple[Dataset, ...]:
    first = sources[0]
    ranges = np.array([[-np.inf, np.inf]]) if table.q_ranges is None else table.q_ranges
    stacks = [_stack(sources, place, shape, limits) for limits in ranges]
    in_memory = sum(stack.nbytes for stack in stacks) <= memory_bytes
    transmission, weights = _transmission(table, place, shape)
    pixel = table.keys.get("pixel_size")
    directions: dict[str, Any] = {name: table.keys[name] for name in _DIRECTIONS if name in table.keys}
    geometry = Geometry(
        rotation=rotation,
        projection_shape=shape[1:],
        volume_shape=_volume(table, shape),
        detector_angles=first.azimuth,
        j_offset=_per_projection(table, place, "j_offset", shape[0]),
        k_offset=_per_projection(table, place, "k_offset", shape[0]),
        two_theta=float(table.keys.get("two_theta", np.zeros(1))[0]),
        **directions,
    )
    return tuple(
        Dataset(
            geometry,
            stack.whole() if in_memory else stack,
            weights,
            transmission,
            q=first.mean_radius(limits),
            q_unit=first.radial_unit,
            pixel_size=None if pixel is None else float(pixel[0]),
            length_unit=table.texts.get("length_unit", ""),
            name=table.path.stem,
        )
        for limits, stack in zip(ranges, stacks, strict=True)
    )


def _read_csv(path: Path) -> Table:
    text = read_text(path, TABLE_LIMIT_BYTES)
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    table = Table(path, {})
    for number, line in enumerate(lines[:start], 1):
        key, equals, value = line.strip().lstrip("#").partition("=")
        if equals:
            _take_key(table, key.strip(), value.strip(), f"line {number}")
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines[start:])), strict=True))
    except csv.Error as error:
        raise FormatError(f"{path}: not a CSV table: {error}") from None
    if len(rows) < 2:
        raise FormatError(f"{path}: a heading and at least one row are needed")
    names = [name.strip() for name in rows[0]]
    unknown = [name for name in names if name not in (*_WHOLE, *_REAL, "file")]
    if unknown or len(set(names)) < len(names):
        problem = f"column {unknown[0]!r} is not known" if unknown else "a column stands twice"
        raise FormatError(f"{path}: line {start + 1}: {problem}; known: {', '.join((*_WHOLE, *_REAL, 'file'))}")
    body = [(start + 2 + i, row) for i, row in enumerate(rows[1:]) if any(cell.strip() for cell in row)]
    for number, row in body:
        if len(row) != len(names):
            raise FormatError(f"{path}: line {number}: {len(row)} columns where {len(names)} are needed")
    for column, name in enumerate(names):
        cells = [row[column].strip() for _, row in body]
        table.columns[name] = np.array(cells) if name == "file" else _floats(path, name, cells, body)
    return table


def _floats(path: Path, name: str, cells: list[str], body: list[tuple[int, list[str]]]) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = float(cell)
        except ValueError:
            raise FormatError(f"{path}: line {body[i][0]}: {name} = {cell[:40]!r}: a number is needed") from None
    return values


def _take_key(table: Table, key: str, value: str, where: str) -> None:
    if key in _TEXTS:
        table.texts[key] = value
        return
    if key != "q_ranges" and key not in _SIZES:
        known = ", ".join((*_TEXTS, *_SIZES, "q_ranges"))
        raise FormatError(f"{table.path}: {where}: key {key[:40]!r} is not known; known: {known}")
    try:
        numbers = np.array([float(word) for word in value.replace(",", " ").split()])
    except ValueError:
        raise FormatError(f"{table.path}: {where}: {key} = {value[:40]!r}: numbers are needed") from None
    _put_key(table, key, numbers, where)


def _put_key(table: Table, key: str, numbers: np.ndarray, where: str) -> None:
    if key == "q_ranges":
        if not numbers.size or numbers.size % 2 or not np.all(numbers[::2] <= numbers[1::2]):
            raise FormatError(f"{table.path}: {where}: q_ranges: pairs of a lower and an upper limit are needed")
        table.q_ranges = numbers.reshape(-1, 2)
    elif numbers.size != _SIZES[key] or not np.all(np.isfinite(numbers)):
        raise FormatError(f"{table.path}: {where}: {key}: {_SIZES[key]} finite numbers are needed")
    else:
        table.keys[key] = numbers


def _read_hdf5(path: Path) -> Table:
    table = Table(path, {})
    with open_data(path) as root, damage_told(path):
        node = root.child("table")
        for name in (*_WHOLE, *_REAL):
            values = node.numbers(name, shape=(None,))
            if values is not None:
                table.columns[name] = values
        names = node.find("file")
        if names is not None:
            table.columns["file"] = np.array([_text(path, name) for name in names[()].ravel()])
        for key in _TEXTS:
            item = root.find(key)
            if item is not None:
                table.texts[key] = _text(path, item[()])
        for key in ("q_ranges", *_SIZES):
            item = root.find(key)
            if item is not None:
                numbers = root.required(key, shape=(None,) * item.ndim)
                _put_key(table, key, numbers.ravel(), "the root")
    lengths = {len(values) for values in table.columns.values()}
    if len(lengths) != 1 or not 0 < max(lengths) <= MOST_ROWS:
        raise FormatError(f"{path}: table: columns of one length are needed, got lengths {sorted(lengths)}")
    return table


def _text(path: Path, value: Any) -> str:
    if not isinstance(value, bytes):
        raise FormatError(f"{path}: text of fixed length is needed, got {type(value).__name__}")
    return value.decode("utf-8", "replace")


def _places(table: Table) -> dict[str, np.ndarray]:
    """Check the whole numbers; return projection, j, k, image and file (its number) of every row."""
    place = {}
    for name in _WHOLE:
        values = table.columns.get(name)
        if values is None:
            if name != "image":
                raise FormatError(f"{table.path}: column {name}: missing")
            continue
        bad = np.flatnonzero(
            ~(np.isfinite(values) & (values == np.rint(values)) & (values >= 0) & (values < MOST_ROWS))
        )
        if len(bad):
            raise FormatError(
                f"{table.path}: row {bad[0] + 1}: {name} = {values[bad[0]]}: a whole number >= 0 is needed"
            )
        place[name] = values.astype(int)
    count = len(place["projection"])
    files = table.columns.get("file")
    place["file"] = np.zeros(count, int) if files is None else np.unique(files, return_inverse=True)[1].ravel()
    if "image" not in place:  # the rows of a file in order
        place["image"] = np.zeros(count, int)
        for number in range(int(place["file"].max()) + 1):
            rows = place["file"] == number
            place["image"][rows] = np.arange(rows.sum())
    at = np.stack([place[name] for name in ("projection", "j", "k")])
    if np.unique(at, axis=1).shape[1] < count:
        raise FormatError(f"{table.path}: two rows have the same projection, j and k")
    missing = np.setdiff1d(np.arange(place["projection"].max() + 1), place["projection"])
    if len(missing):
        raise FormatError(f"{table.path}: projection {missing[0]}: no row has it")
    return place


def _file_names(table: Table) -> list[str]:
    files = table.columns.get("file")
    if files is not None:
        return [str(name) for name in np.unique(files)]
    if "file" not in table.texts:
        raise FormatError(f"{table.path}: file: missing; a column, or one for all rows")
    return [table.texts["file"]]


def _turns(table: Table, place: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the angles given in radians, and the rotations (n, 3, 3)."""
    count = int(place["projection"].max()) + 1
    given, angle = {}, {}
    for name in ("inner_angle", "outer_angle"):
        in_deg = _per_projection(table, place, f"{name}_deg", count, missing=np.nan)
        in_rad = _per_projection(table, place, name, count, missing=np.nan)
        if np.isfinite(in_deg).any() and np.isfinite(in_rad).any():
            raise FormatError(f"{table.path}: give {name} or {name}_deg, not both")
        if np.isfinite(in_rad).any():
            given[name] = in_rad
        angle[name] = np.nan_to_num(np.where(np.isfinite(in_deg), np.deg2rad(in_deg), in_rad))
    axes = {}
    for name, default in (("inner_axis", INNER_AXIS), ("outer_axis", OUTER_AXIS)):
        axis = table.keys.get(name, np.array(default))
        if not 0.999 < np.linalg.norm(axis) < 1.001:
            raise FormatError(f"{table.path}: {name} = {axis.tolist()}: a unit vector is needed")
        axes[name] = axis / np.linalg.norm(axis)
    return given, np.stack(
        [
            rotation_of(axes["outer_axis"], outer) @ rotation_of(axes["inner_axis"], inner)
            for inner, outer in zip(angle["inner_angle"], angle["outer_angle"], strict=True)
        ]
    )


def _per_projection(
    table: Table, place: dict[str, np.ndarray], name: str, count: int, missing: float = 0.0
) -> np.ndarray:
    values = np.full(count, missing)
    column = table.columns.get(name)
    if column is None:
        return values
    if not np.all(np.isfinite(column)):
        raise FormatError(f"{table.path}: column {name}: finite numbers are needed")
    values[place["projection"]] = column
    differs = np.flatnonzero(values[place["projection"]] != column)
    if len(differs):
        row = int(differs[0])
        raise FormatError(
            f"{table.path}: row {row + 1}: {name} = {column[row]:g} differs from another row of projection "
            f"{place['projection'][row]}"
        )
    return values


def _transmission(
    table: Table, place: dict[str, np.ndarray], shape: tuple[int, ...]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    column = table.columns.get("transmission")
    if column is None:
        return None, None
    values, is_dead = np.ones(shape), np.zeros(shape, bool)
    bad = ~(np.isfinite(column) & (column > 0))
    at = tuple(place[name] for name in ("projection", "j", "k"))
    values[at] = np.where(bad, 1.0, column)
    is_dead[at] = bad
    return values, np.where(is_dead, 0.0, 1.0)[..., None].astype(np.float32) if is_dead.any() else None


def _volume(table: Table, shape: tuple[int, ...]) -> tuple[int, int, int]:
    given = table.keys.get("volume_shape")
    if given is None:
        return (shape[1], shape[1], shape[2])
    if np.any(given != np.rint(given)) or np.any(given < 1):
        raise InputError(f"volume_shape = {given.tolist()}: three whole numbers are needed")
    return (int(given[0]), int(given[1]), int(given[2]))


class _Source:
    """One NXazint2d file: open, its three data sets found and checked."""

    def __init__(self, path: Path, opened: contextlib.ExitStack):
        self.path = path
        self.files: contextlib.ExitStack | None = None
        root = opened.enter_context(open_data(path))
        with damage_told(path):
            node = self._find(root)
        self.azimuth = node.required("azimuthal_axis", shape=(None,)) * self._azimuth_unit(node)
        self.radius = node.required("radial_axis", shape=(None,))
        self.radial_unit = node.unit("radial_axis")
        self.intensity = node.find("I")
        wanted = (len(self.azimuth), len(self.radius))
        if self.intensity.dtype.kind not in "iuf" or self.intensity.shape[-2:] != wanted:
            raise FormatError(f"{path}: I: numbers of shape (image, {wanted[0]}, {wanted[1]}) are needed")

    def _find(self, root: Node) -> Node:
        for node in _groups(root):
            found = [_no_link(node, name) for name in ("I", "azimuthal_axis", "radial_axis")]
            if all(hasattr(item, "dtype") for item in found) and found[0].ndim == 3:
                return node
        raise FormatError(f"{self.path}: no NXazint2d data (I of three axes, azimuthal_axis, radial_axis in one group)")

    def _azimuth_unit(self, node: Node) -> float:
        unit = node.unit("azimuthal_axis").lower()
        if unit.startswith("deg"):
            return float(np.pi / 180)
        if unit.startswith("rad"):
            return 1.0
        raise FormatError(f"{self.path}: {node.prefix}azimuthal_axis: units {unit!r}: degrees or radians are needed")

    def within(self, limits: np.ndarray) -> slice:
        """Return the radial bins between two limits."""
        inside = np.flatnonzero((self.radius >= limits[0]) & (self.radius <= limits[1]))
        if not len(inside):
            raise InputError(
                f"q_ranges: no radial bin between {limits[0]:g} and {limits[1]:g}; {self.path.name} has "
                f"{self.radius.min():g} to {self.radius.max():g} {self.radial_unit}".rstrip()
            )
        return slice(int(inside[0]), int(inside[-1]) + 1)

    def mean_radius(self, limits: np.ndarray) -> float | None:
        """Return the mean of the radial axis between two limits; None if it is not positive."""
        mean = float(self.radius[self.within(limits)].mean())
        return mean if mean > 0 else None

    def image(self, number: int, bins: slice) -> np.ndarray:
        """Return one image's mean over radial bins, shape (azimuth,); NaN where no bin has a value."""
        if number >= self.intensity.shape[0]:
            raise FormatError(f"{self.path}: image {number}: the file has {self.intensity.shape[0]}")
        with damage_told(self.path):
            values = np.asarray(self.intensity[number, :, bins], np.float64)
        known = np.isfinite(values)
        count = known.sum(axis=-1)
        return np.where(count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def _groups(root: Node) -> Iterator[Node]:
    """Yield the groups that hard links lead to, each once, nearest first."""
    import h5py

    queue, seen = [root], {h5py.h5o.get_info(root.group.id).addr}
    while queue:
        node = queue.pop(0)
        yield node
        for key in node.group:
            item = _no_link(node, key)
            if item is None or hasattr(item, "dtype") or not hasattr(item, "keys"):
                continue
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                queue.append(node.child(key))
                if len(seen) > MOST_GROUPS:
                    raise RefusedFile(f"{root.path}: more than {MOST_GROUPS} groups")


def _no_link(node: Node, name: str) -> Any:
    """Return an entry; None for a link to elsewhere, which is common in these files and never followed."""
    import h5py

    key, links = name.encode(), node.group.id.links
    if not links.exists(key) or links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return None
    return node.group[name]


def _stack(sources: list[_Source], place: dict[str, np.ndarray], shape: tuple[int, ...], limits: np.ndarray) -> Stack:
    bins = [source.within(limits) for source in sources]
    order = np.argsort(place["projection"], kind="stable")
    starts = np.searchsorted(place["projection"][order], np.arange(shape[0] + 1))
    segments = len(sources[0].azimuth)

    def one(i: int) -> np.ndarray:
        values = np.full((*shape[1:], segments), np.nan, np.float32)
        for row in order[starts[i] : starts[i + 1]]:
            number = place["file"][row]
            values[place["j"][row], place["k"][row]] = sources[number].image(int(place["image"][row]), bins[number])
        return values

    return Stack(one, (*shape, segments), np.float32, sources)
