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
one q, the mean over the radial bins within; of a radial axis in degrees or radians it is one scattering angle, which
stands for ``two_theta``. In HDF5 the columns are data sets of one length in a group ``table`` (text
of fixed length), and the keys are data sets beside it.

Standard errors beside ``I`` (``I_errors``, ``I_sigma`` or ``errors``, of its shape) become weights I/errors^2: the
counts behind one unit of intensity, with which the square-root and the Poisson cost are -log L. Where I or its error is
not above 0 (an empty ray), it is the mean of I over that of errors^2 of the segment in this projection. An error that
is not finite is weight 0.

Places without an image are NaN and get weight 0. The files often hold links and text that our guard refuses in whole
files; here only the three data sets that are read must be plain, and reached without links.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
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
    looks_backward,
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
_ERRORS = ("I_errors", "I_sigma", "errors")
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
    table = _read_table(path)
    place = _places(table)
    angles, rotation = _turns(table, place)
    count, rows, columns = (int(place[name].max()) + 1 for name in ("projection", "j", "k"))
    shape = (count, rows, columns)
    if shape[0] > MOST_PROJECTIONS or shape[1] * shape[2] > MOST_PIXELS:
        raise FormatError(f"{path}: {shape[0]} projections of {shape[1]} x {shape[2]} pixels: more than is read")
    warnings = [looks_like_degrees(name, values, 2.2 * np.pi) for name, values in angles.items()]
    warnings.append(looks_backward(table.keys.get("two_theta", np.zeros(1))))
    with contextlib.ExitStack() as opened:
        sources = [_Source(path.parent / name, opened) for name in _file_names(table)]
        _check_axes(sources)
        if table.q_ranges is None and len(sources[0].radius) > 1:
            warnings.append(f"no q_ranges: the mean over all {len(sources[0].radius)} radial bins is taken")
        without = [source.path.name for source in sources if source.errors is None]
        if 0 < len(without) < len(sources):
            warnings.append(
                f"{len(without)} of {len(sources)} files (first: {without[0]}) have no errors: none are used, every "
                "weight is 1"
            )
        with naming(path):
            datasets = _datasets(table, place, rotation, sources, shape, memory_bytes)
        if any(isinstance(data.data, Stack) for data in datasets):
            sources[0].files = opened.pop_all()  # the stacks hold the sources, and with them the files, open
    return Loaded(datasets, "NXazint2d", tuple(text for text in warnings if text), angles)


def named_files(path: Path) -> list[str]:
    """Return the names of the files that a table names, as it does; raises as `read`."""
    return _file_names(_read_table(path))


def _read_table(path: Path) -> Table:
    return _read_csv(path) if path.suffix.lower() in (".csv", ".txt") else _read_hdf5(path)


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
    rows = _Rows(sources, place, shape)
    stacks = [_stack(rows, limits) for limits in ranges]
    transmission, is_dead = _transmission(table, place, shape)
    weights = [_weights(rows, limits, is_dead) for limits in ranges]
    in_memory = sum(part.nbytes for part in (*stacks, *weights) if part is not None) <= memory_bytes
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
    angle = None if "two_theta" in table.keys else radians_of(first.radial_unit)
    centres = [first.mean_radius(limits) for limits in ranges]
    return tuple(
        Dataset(
            geometry if angle is None else replace(geometry, two_theta=angle * (centre or 0.0)),
            stack.whole() if in_memory else stack,
            weight.whole() if in_memory and isinstance(weight, Stack) else weight,
            transmission,
            q=centre if radians_of(first.radial_unit) is None else None,
            q_unit=first.radial_unit if radians_of(first.radial_unit) is None else "",
            pixel_size=None if pixel is None else float(pixel[0]),
            length_unit=table.texts.get("length_unit", ""),
            name=table.path.stem,
        )
        for centre, stack, weight in zip(centres, stacks, weights, strict=True)
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
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the transmission, 1 where it is not a positive number, and where that is."""
    values, is_dead = np.ones(shape), np.zeros(shape, bool)
    column = table.columns.get("transmission")
    if column is None:
        return None, is_dead
    bad = ~(np.isfinite(column) & (column > 0))
    at = tuple(place[name] for name in ("projection", "j", "k"))
    values[at] = np.where(bad, 1.0, column)
    is_dead[at] = bad
    return values, is_dead


def _volume(table: Table, shape: tuple[int, ...]) -> tuple[int, int, int]:
    given = table.keys.get("volume_shape")
    if given is None:
        return (shape[1], shape[1], shape[2])
    if np.any(given != np.rint(given)) or np.any(given < 1):
        raise InputError(f"volume_shape = {given.tolist()}: three whole numbers are needed")
    return (int(given[0]), int(given[1]), int(given[2]))


def radians_of(unit: str) -> float | None:
    """Return what one of this unit is in radians, or None if it is no angle.

    Examples
    --------
    >>> radians_of("rad"), radians_of("1/nm")
    (1.0, None)
    """
    if unit.lower().startswith("deg"):
        return float(np.pi / 180)
    return 1.0 if unit.lower().startswith("rad") else None


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
        self.errors = node.find(*(name for name in _ERRORS if _no_link(node, name) is not None))
        if self.errors is not None and (
            self.errors.dtype.kind not in "iuf" or self.errors.shape != self.intensity.shape
        ):
            name = self.errors.name.rsplit("/", 1)[1]
            raise FormatError(f"{path}: {name}: numbers of shape {self.intensity.shape}, that of I, are needed")

    def _find(self, root: Node) -> Node:
        for node in _groups(root):
            found = [_no_link(node, name) for name in ("I", "azimuthal_axis", "radial_axis")]
            if all(hasattr(item, "dtype") for item in found) and found[0].ndim == 3:
                return node
        raise FormatError(f"{self.path}: no NXazint2d data (I of three axes, azimuthal_axis, radial_axis in one group)")

    def _azimuth_unit(self, node: Node) -> float:
        unit = node.unit("azimuthal_axis")
        found = radians_of(unit)
        if found is None:
            raise FormatError(
                f"{self.path}: {node.prefix}azimuthal_axis: units {unit!r}: degrees or radians are needed"
            )
        return found

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
        values, known, count = self._bins(number, bins)
        return np.where(count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)

    def variance(self, number: int, bins: slice) -> np.ndarray:
        """Return the variance of `image`, shape (azimuth,), from the errors of the bins that have a value."""
        _, known, count = self._bins(number, bins)
        with damage_told(self.path):
            errors = np.asarray(self.errors[number, :, bins], np.float64)
        with np.errstate(over="ignore"):
            total = np.where(known, errors, 0.0) ** 2
        return np.where(count > 0, total.sum(axis=-1) / np.maximum(count, 1) ** 2, np.nan)

    def _bins(self, number: int, bins: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the values of an image's bins (azimuth, bin), which are known, and how many (azimuth,)."""
        if number >= self.intensity.shape[0]:
            raise FormatError(f"{self.path}: image {number}: the file has {self.intensity.shape[0]}")
        with damage_told(self.path):
            values = np.asarray(self.intensity[number, :, bins], np.float64)
        known = np.isfinite(values)
        return values, known, known.sum(axis=-1)


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


class _Rows:
    """The rows of a table by projection: which image of which file lies where."""

    def __init__(self, sources: list[_Source], place: dict[str, np.ndarray], shape: tuple[int, ...]):
        self.sources, self.place = sources, place
        self.shape = (*shape, len(sources[0].azimuth))
        self._order = np.argsort(place["projection"], kind="stable")
        self._starts = np.searchsorted(place["projection"][self._order], np.arange(shape[0] + 1))

    def projection(self, i: int, read: Callable[[_Source, int, slice], np.ndarray], bins: list[slice]) -> np.ndarray:
        """Return what `read` gives of each image of a projection, shape (j, k, azimuth), NaN where there is none.

        `bins` are the radial bins of each source.
        """
        values = np.full(self.shape[1:], np.nan)
        for row in self._order[self._starts[i] : self._starts[i + 1]]:
            number, image = self.place["file"][row], int(self.place["image"][row])
            values[self.place["j"][row], self.place["k"][row]] = read(self.sources[number], image, bins[number])
        return values


def _stack(rows: _Rows, limits: np.ndarray) -> Stack:
    bins = [source.within(limits) for source in rows.sources]
    return Stack(lambda i: rows.projection(i, _Source.image, bins).astype(np.float32), rows.shape, np.float32, rows)


def _weights(rows: _Rows, limits: np.ndarray, is_dead: np.ndarray) -> Stack | np.ndarray | None:
    """Return I/errors^2 where all files have errors, else 1; 0 where the transmission is dead."""
    if any(source.errors is None for source in rows.sources):
        return np.where(is_dead, 0.0, 1.0)[..., None].astype(np.float32) if is_dead.any() else None
    bins = [source.within(limits) for source in rows.sources]

    def one(i: int) -> np.ndarray:
        mean, variance = (rows.projection(i, read, bins) for read in (_Source.image, _Source.variance))
        return np.where(is_dead[i][..., None], 0.0, counts_by_intensity(mean, variance)).astype(np.float32)

    return Stack(one, rows.shape, np.float32, rows)


def counts_by_intensity(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return mean/variance; where one is not above 0, that of the sums over all pixels of the segment (last axis).

    0 where one of them is not finite; 1 where a whole segment has no variance.

    Examples
    --------
    >>> counts_by_intensity(np.array([[2.0], [0.0], [np.nan]]), np.array([[0.5], [0.0], [1.0]])).ravel().tolist()
    [4.0, 4.0, 0.0]
    """
    known = np.isfinite(mean) & np.isfinite(variance)
    sharp = known & (mean > 0) & (variance > 0)
    above, below = (np.where(known, part, 0.0).reshape(-1, part.shape[-1]).sum(axis=0) for part in (mean, variance))
    common = np.divide(above, below, out=np.ones_like(above), where=(above > 0) & (below > 0))
    return np.where(sharp, np.divide(mean, variance, out=np.ones_like(mean), where=sharp), np.where(known, common, 0.0))
