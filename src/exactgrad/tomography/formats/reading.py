"""What every reader of this folder does: typed, bounded reads of named entries, and data read by projection.

A reader asks for a shape before it touches a value, so nothing larger than what the format allows is ever allocated.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.files import check_dataset, check_expansion, damage_told
from exactgrad.tomography.dataset import Dataset

MOST_PROJECTIONS = 100_000
MOST_PIXELS = 1 << 26  # of one projection
MOST_CHANNELS = 100_000  # azimuths times q of one pixel
MOST_VALUES = 1 << 31  # of one projection
MOST_VOXELS = 1 << 31
MOST_ENTRIES = 3 << 31  # of one read: three numbers a voxel
UNIT_LIMIT = 64  # characters

MOST_TWO_THETA_RAD = 1.2
DEGREES_QUESTION = "are these degrees?"

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Loaded:
    """What was found in a file.

    Attributes
    ----------
    datasets : tuple of Dataset
        One a q.
    format : str
        "mumott", "plain" or "NXazint2d".
    warnings : tuple of str
        What looks wrong, each with its evidence.
    angles : dict of str to ndarray
        What the file says of angles, in its own unit: the evidence where they are in degrees by mistake.
    """

    datasets: tuple[Dataset, ...]
    format: str
    warnings: tuple[str, ...] = ()
    angles: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings that say that all of the data may be misread."""
        return tuple(text for text in self.warnings if text.endswith(DEGREES_QUESTION))


class Stack:
    """Values (n, j, k, s) of which one projection is read at a time; ``stack[i]`` is (j, k, s).

    Parameters
    ----------
    read : callable
        Takes the number of a projection, returns its values.
    shape : (n, j, k, s)
    dtype : numpy dtype
    keep : object
        What must live as long as this (an open file).
    """

    def __init__(self, read: Callable[[int], np.ndarray], shape: tuple[int, ...], dtype: Any, keep: Any = None):
        self._read, self._keep = read, keep
        self.shape, self.dtype, self.ndim = shape, np.dtype(dtype), len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self._read(range(len(self))[index])
        if isinstance(index, tuple) and index:
            return self[index[0]][index[1:]]
        raise TypeError(f"one projection at a time: an int is needed, got {index!r}")

    def channels(self, first: int, last: int) -> Stack:
        """Return the stack of the channels from `first` up to `last`."""
        shape = (*self.shape[:3], last - first)
        return Stack(lambda i: np.ascontiguousarray(self._read(i)[..., first:last]), shape, self.dtype, self._keep)

    @property
    def nbytes(self) -> int:
        """How much memory all of it would take."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def whole(self) -> np.ndarray:
        """Read all projections into memory."""
        values = np.empty(self.shape, self.dtype)
        for i in range(len(self)):
            values[i] = self._read(i)
        return values


def half_the_memory() -> int:
    """Return half of this machine's memory in bytes: data larger than this stay on disk."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@dataclass
class Budget:
    """What the data sets that were asked for claim, and what they store: many small bombs are one large one."""

    declared: int = 0
    stored: int = 0
    seen: set[int] = field(default_factory=set)

    def spend(self, path: Path, item: Any) -> None:
        """Add a data set, once; raises `RefusedFile` if it is not plain, or all claim far more than they store."""
        import h5py

        address = h5py.h5o.get_info(item.id).addr
        if address in self.seen:
            return
        self.seen.add(address)
        self.declared += check_dataset(path, item)
        self.stored += item.id.get_storage_size()
        check_expansion(path, f"all up to {item.name}", self.declared, self.stored)


@contextlib.contextmanager
def open_data(path: Path) -> Iterator[Node]:
    """Open an HDF5 file of which single entries are read by name, and yield its root.

    Each entry is checked when it is asked for: reached by hard links alone, stored plainly in the file, of numbers, and
    not claiming more than it can hold. What nobody asks for may be anything (users' notes are text of any length, which
    `files.open_guarded` refuses in a file of ours).

    Raises
    ------
    InputError
        If it is no regular file; `FormatError` if it is not HDF5 or damaged.
    """
    import h5py

    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        handle = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(f"{path}: not a readable HDF5 file ({' '.join(str(error).split())[:120]})") from error
    with handle:
        yield Node(path, handle)


@dataclass(frozen=True)
class Node:
    """A group of an open HDF5 file whose entries are read by name.

    Attributes
    ----------
    path : Path
        For messages.
    group : h5py.Group
    prefix : str
        What stands before an entry's name in messages, e.g. ``"projections/3/"``.
    budget : Budget
        Of the whole file.
    """

    path: Path
    group: Any
    prefix: str = ""
    budget: Budget = field(default_factory=Budget)

    def find(self, *names: str) -> Any:
        """Return the first of these data sets that is there, or None.

        Raises
        ------
        FormatError
            If it is a group, or has no values.
        RefusedFile
            If it is a link, stored elsewhere, or no plain numbers or text.
        """
        for name in names:
            item = self.entry(name)
            if item is None:
                continue
            if not hasattr(item, "dtype") or item.shape is None:
                raise FormatError(f"{self.path}: {self.prefix}{name}: a data set with values is needed")
            self.budget.spend(self.path, item)
            return item
        return None

    def entry(self, name: str) -> Any:
        """Return the group or data set of this name, or None; raises `RefusedFile` if it is a link to elsewhere."""
        import h5py

        key, links = name.encode(), self.group.id.links
        if not links.exists(key):
            return None
        if links.get_info(key).type != h5py.h5l.TYPE_HARD:  # `in` and `get` would open what it points to
            raise RefusedFile(f"{self.path}: {self.prefix}{name} is a soft or external link")
        return self.group[name]

    def has_group(self, name: str) -> bool:
        """Say whether there is a group of this name; raises as `entry`."""
        item = self.entry(name)
        return item is not None and not hasattr(item, "dtype")

    def child(self, name: str) -> Node:
        """Return a group below this one; raises `FormatError` if it is missing or no group."""
        if not self.has_group(name):
            raise FormatError(f"{self.path}: {self.prefix}{name}: missing group")
        return Node(self.path, self.group[name], f"{self.prefix}{name}/", self.budget)

    def numbers(self, *names: str, shape: Shape, unit: str = "") -> np.ndarray | None:
        """Read finite numbers of the first name that is there, as float64, or None if none is.

        Parameters
        ----------
        names : str
            The name and its older ones.
        shape : tuple of int or None
            What it must have; None matches any length. ``()`` also takes any array of one value.

        Raises
        ------
        FormatError
            If its type or shape is another, or a value is not finite.
        """
        item = self.find(*names)
        if item is None:
            return None
        name = f"{self.path}: {self.prefix}{item.name.rsplit('/', 1)[1]}"
        if item.dtype.kind not in "biuf":
            raise FormatError(f"{name}: numbers are needed, got {item.dtype}")
        fits = len(item.shape) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, item.shape, strict=True)
        )
        if not fits and not (shape == () and item.size == 1):
            want_text = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
            raise FormatError(f"{name}: shape {item.shape} where {want_text} is needed")
        if item.size > MOST_ENTRIES:
            raise FormatError(f"{name}: {item.size} values, more than the {MOST_ENTRIES} that are read")
        with damage_told(self.path):
            values = np.asarray(item[()], np.float64)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            at = f"[{', '.join(str(int(i)) for i in bad[0])}]" if values.ndim else ""
            raise FormatError(f"{name}{at} = {values[tuple(bad[0])]} {unit}".rstrip() + ": a finite number is needed")
        return values.reshape(()) if shape == () else values

    def required(self, *names: str, shape: Shape, unit: str = "") -> np.ndarray:
        """Read as `numbers` does; raises `FormatError` if none of the names is there."""
        values = self.numbers(*names, shape=shape, unit=unit)
        if values is None:
            raise FormatError(f"{self.path}: {self.prefix}{names[0]}: missing{f' (in {unit})' if unit else ''}")
        return values

    def scalar(self, *names: str, default: float, unit: str = "") -> float:
        """Read one number, or return `default` if it is not there."""
        value = self.numbers(*names, shape=(), unit=unit)
        return default if value is None else float(value)

    def list(self, *names: str, unit: str = "") -> np.ndarray | None:
        """Read a list of numbers, or a single one as a list of one."""
        item = self.find(*names)
        if item is not None and item.ndim == 0:
            return np.atleast_1d(self.required(*names, shape=(), unit=unit))
        return self.numbers(*names, shape=(None,), unit=unit)

    def unit(self, name: str) -> str:
        """Return the attribute ``units`` of a data set; empty if it has none that is plain text."""
        item = self.find(name)
        if item is None or "units" not in item.attrs or item.attrs.get_id("units").get_storage_size() > UNIT_LIMIT:
            return ""
        with damage_told(self.path):
            value = item.attrs["units"]
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return text[:UNIT_LIMIT] if isinstance(text, str) and text.isprintable() else ""


def volume_shape(node: Node, default: tuple[int, int, int]) -> tuple[int, int, int]:
    """Read ``volume_shape``; raises `FormatError` if it is not three whole numbers of a size that can be held."""
    given = node.numbers("volume_shape", shape=(3,))
    values = np.array(default, float) if given is None else given
    if np.any(values != np.rint(values)) or np.any(values < 1) or float(np.prod(values)) > MOST_VOXELS:
        raise FormatError(
            f"{node.path}: volume_shape = {values.tolist()}: three whole numbers are needed, "
            f"at most {MOST_VOXELS} voxels"
        )
    return (int(values[0]), int(values[1]), int(values[2]))


def frame(node: Node) -> dict[str, Any]:
    """Read the five directions of the frame that are there; mumott's defaults stand for the rest.

    Raises
    ------
    FormatError
        If j or k is missing where p is there, or one of the two detector directions is: half a frame means nothing.
    """
    together = (
        ("p_direction_0", "j_direction_0", "k_direction_0"),
        ("detector_direction_origin", "detector_direction_positive_90"),
    )
    found: dict[str, Any] = {}
    for names in together:
        values = {name: node.numbers(name, shape=(3,)) for name in names}
        there = {name: value for name, value in values.items() if value is not None}
        if there and len(there) < len(names):
            missing = ", ".join(name for name in names if name not in there)
            raise FormatError(f"{node.path}: {missing}: missing, where {', '.join(there)} is given")
        found.update(there)
    return found


def looks_like_degrees(name: str, values: np.ndarray, most_rad: float) -> str:
    """Return a warning with its evidence if angles are too large to be in radians; else nothing.

    Examples
    --------
    >>> looks_like_degrees("inner_angle", np.array([0.0, 358.0]), 7.0)
    'inner_angle runs from 0 to 358, beyond any turn in radians (2 pi = 6.28): are these degrees?'
    """
    if not np.size(values) or float(np.max(np.abs(values))) <= most_rad:
        return ""
    low, high = float(np.min(values)), float(np.max(values))
    return f"{name} runs from {low:g} to {high:g}, beyond any turn in radians (2 pi = 6.28): {DEGREES_QUESTION}"


def looks_backward(two_theta: np.ndarray) -> str:
    """Return a warning if a scattering angle, rad, is beyond any detector behind the sample; else nothing.

    Examples
    --------
    >>> looks_backward(np.array([0.05, 2.0]))
    'two_theta = 2 rad is 115 degrees, where no detector behind the sample is: are these degrees?'
    """
    most = float(np.max(two_theta, initial=0.0))
    if most <= MOST_TWO_THETA_RAD:
        return ""
    return (
        f"two_theta = {most:g} rad is {np.rad2deg(most):.0f} degrees, where no detector behind the sample is: "
        f"{DEGREES_QUESTION}"
    )


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file before the message of an `InputError` that leaves the block."""
    try:
        yield
    except InputError as error:
        text = str(error)
        raise type(error)(text if text.startswith(str(path)) else f"{path}: {text}") from None
