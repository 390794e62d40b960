"""Files: written whole or not at all, read with bounds.

A write goes to a temporary file in the same folder, is synced, renamed into place, and the folder is synced: a kill
at any moment leaves either the old file or the new one. A read states its size limit before it allocates. HDF5 from
strangers is walked by hand and refused unless every object is plain (see `open_guarded`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from exactgrad.errors import FolderInUse, FormatError, InputError, NotWritten, RefusedFile

TEXT_LIMIT_BYTES = 64 * 1024 * 1024
BLOCK_BYTES = 1 << 20
HDF5_LIMIT_BYTES = 64 * 1024**3
HDF5_OBJECT_LIMIT = 100_000
HDF5_EXPANSION_LIMIT = 1000  # gzip reaches about 1030:1, and only on a file that is all zeros
HDF5_EXPANSION_FREE_BYTES = 64 * 1024 * 1024
HDF5_ATTRIBUTE_LIMIT_BYTES = 64 * 1024
SEAL_BYTES = 73  # a line after the HDF5 data, which ends before it: "\nsha256 " + 64 hexadecimal digits + "\n"


def write_atomic(path: Path, content: str | bytes, overwrite: bool = False) -> None:
    """Write `content` to `path` whole or not at all.

    Parameters
    ----------
    path : Path
        Where the file shall stand; its folder must exist.
    content : str or bytes
        Text is written as UTF-8 with the line ends it has.
    overwrite : bool
        False refuses a path that exists.

    Raises
    ------
    InputError
        If the path exists (without `overwrite`).
    NotWritten
        If the system does not let it be written (full disk, read-only folder).

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_atomic(folder / "a.txt", "one line")
    >>> (folder / "a.txt").read_text()
    'one line'
    """
    data = content.encode() if isinstance(content, str) else content
    write_atomic_with(path, lambda temporary: temporary.write_bytes(data), overwrite)


def write_atomic_with(path: Path, writer: Callable[[Path], Any], overwrite: bool = False) -> None:
    """Let `writer` fill a temporary file beside `path`, then move it into place.

    Arguments and what is raised as of `write_atomic`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}{path.suffix}")
    try:
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already and is not overwritten")
        writer(temporary)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise NotWritten(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
    """Read a regular file of at most `limit_bytes`, or say why not.

    Raises
    ------
    InputError
        If the file is missing, not a regular file or not readable.
    RefusedFile
        If it is larger than the limit.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.bin"
    >>> _ = path.write_bytes(b"abc")
    >>> read_bytes(path)
    b'abc'
    """
    path = Path(path)
    with _reading(path) as handle:
        data = handle.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise RefusedFile(f"{path}: larger than {limit_bytes} bytes, the most that is read of such a file")
    return data


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not path.is_file():  # a pipe or a device never ends
            raise InputError(f"{path}: not a regular file")
        with open(path, "rb") as handle:
            yield handle
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file that may be larger than memory; raises `InputError` if it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.bin"
    >>> _ = path.write_bytes(b"abc")
    >>> hash_of(path)[:16]
    'ba7816bf8f01cfea'
    """
    digest = hashlib.sha256()
    with _reading(Path(path)) as handle:
        while block := handle.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: Path, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """Read a text file (UTF-8, else Latin-1; no byte-order mark) of at most `limit_bytes`; raises as `read_bytes`."""
    data = read_bytes(path, limit_bytes)
    if b"\0" in data:
        raise FormatError(f"{path}: holds zero bytes; a text file is needed")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def write_hdf5(path: Path, arrays: dict[str, Any], attributes: dict[str, Any], overwrite: bool = False) -> None:
    """Write named arrays and attributes to an HDF5 file, whole or not at all, sealed with its SHA-256.

    Parameters
    ----------
    path : Path
        The file.
    arrays : dict of str to array_like or str
        Dataset path ("best/x") to values; text is stored as UTF-8 bytes.
    attributes : dict
        Root attributes (numbers and text).

    Raises
    ------
    InputError
        As `write_atomic`.
    """
    import h5py

    image = io.BytesIO()  # the library crashes on a full disk, so it never sees the disk
    with h5py.File(image, "w", track_order=True) as handle:
        for name, value in arrays.items():
            data = np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else np.asarray(value)
            options = {"fletcher32": True} if data.ndim and data.size else {}
            handle.create_dataset(name, data=data, **options)
        for key, value in attributes.items():
            handle.attrs[key] = value
    digest = hashlib.sha256(image.getbuffer()).hexdigest()
    image.seek(0, os.SEEK_END)
    image.write(f"\nsha256 {digest}\n".encode())
    write_atomic_with(path, lambda temporary: temporary.write_bytes(image.getbuffer()), overwrite)


def read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read every dataset and root attribute of a file written by `write_hdf5`.

    Raises
    ------
    FormatError
        If a byte differs from what was written; this is found before the library sees the file.
    InputError, RefusedFile
        As `open_guarded`.
    """
    _check_seal(Path(path))
    with open_guarded(path) as handle, damage_told(path):
        arrays = {name: item[()] for name, item in _objects(path, handle) if getattr(item, "shape", None) is not None}
        for name in handle.attrs:
            if handle.attrs.get_id(name).get_storage_size() > HDF5_ATTRIBUTE_LIMIT_BYTES:
                raise RefusedFile(f"{path}: attribute {name} is larger than {HDF5_ATTRIBUTE_LIMIT_BYTES} bytes")
        return arrays, dict(handle.attrs)


def _check_seal(path: Path) -> None:
    try:
        with open(path, "rb") as handle:
            left = os.fstat(handle.fileno()).st_size - SEAL_BYTES
            digest = hashlib.sha256()
            while left > 0 and (block := handle.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
            seal = handle.read(SEAL_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if seal != f"\nsha256 {digest.hexdigest()}\n".encode():
        raise FormatError(f"{path}: damaged or cut off (its SHA-256 is not the one it was written with)")


@contextlib.contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Raise what the HDF5 library says of a damaged file, while it is read, as a `FormatError`."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: damaged HDF5 file ({' '.join(str(error).split())[:120]})") from error


@contextlib.contextmanager
def open_guarded(
    path: Path,
    limit_bytes: int = HDF5_LIMIT_BYTES,
    more_filters: Callable[[int, tuple[int, ...]], bool] | None = None,
) -> Iterator[Any]:
    """Open an HDF5 file for reading after every object in it was found harmless.

    Refused: links that are not hard links, external or virtual storage, reference, object and variable-length types,
    filters other than gzip, lzf, shuffle and fletcher32, more than 100 000 objects, more declared bytes than
    `limit_bytes`, and datasets that claim more than 1000 times their stored bytes. `more_filters` is asked about any
    other filter, by its number and its values.

    Raises
    ------
    RefusedFile
        If an object is refused; the message names it.
    FormatError
        If the file is not HDF5 or is damaged.
    """
    import h5py

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        handle = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(f"{path}: not a readable HDF5 file ({' '.join(str(error).split())[:120]})") from error
    with handle:
        with damage_told(path):
            _check_objects(path, handle, limit_bytes, more_filters or _no_more)
        yield handle


def _no_more(number: int, values: tuple[int, ...]) -> bool:
    return False


def _check_objects(path: Path, root: Any, limit_bytes: int, more: Callable[[int, tuple[int, ...]], bool]) -> None:
    import h5py

    declared, stored = 0, 0
    for name, item in _objects(path, root):
        if isinstance(item, h5py.Dataset):
            declared += check_dataset(path, item, more)
            stored += item.id.get_storage_size()
            if declared > limit_bytes:
                raise RefusedFile(f"{path}: declares more than {limit_bytes} bytes")
            check_expansion(path, f"all up to {name}", declared, stored)


def _objects(path: Path, root: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and object of every group and dataset, each once, where all links are hard links."""
    import h5py

    seen = {h5py.h5o.get_info(root.id).addr}
    groups = [("", root)]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise RefusedFile(f"{path}: {group.name}/{key} is a soft or external link")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > HDF5_OBJECT_LIMIT:
                raise RefusedFile(f"{path}: more than {HDF5_OBJECT_LIMIT} objects")
            if isinstance(item, h5py.Group):
                groups.append((f"{prefix}{key}/", item))
            elif not isinstance(item, h5py.Dataset):
                raise RefusedFile(f"{path}: {item.name} is neither a group nor a dataset")
            yield prefix + key, item


def check_dataset(path: Path, dataset: Any, more: Callable[[int, tuple[int, ...]], bool] = _no_more) -> int:
    """Return the bytes that a dataset declares, after it was found harmless; raises `RefusedFile`.

    `more` says of a filter's number and values whether it may be used beside those that are read anyway.
    """
    plain = dataset.id.get_create_plist()
    if dataset.is_virtual or plain.get_external_count():
        raise RefusedFile(f"{path}: {dataset.name} is stored outside the file")
    if dataset.dtype.hasobject:
        raise RefusedFile(f"{path}: {dataset.name} holds references, objects or variable-length values")
    allowed = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf
    filters = [plain.get_filter(i) for i in range(plain.get_nfilters())]
    if any(number not in allowed and not more(number, values) for number, _, values, _ in filters):
        raise RefusedFile(f"{path}: {dataset.name} uses a compression that is not read (gzip and lzf are)")
    values = max(int(dataset.size or 0), math.prod(dataset.chunks or (0,)))  # a chunk is read whole
    nbytes = values * dataset.dtype.itemsize
    check_expansion(path, dataset.name, nbytes, dataset.id.get_storage_size())
    return nbytes


def check_expansion(path: Path, name: str, nbytes: int, stored: int) -> None:
    """Raise `RefusedFile` if what is declared (`nbytes`) is too much more than what is stored."""
    if nbytes > HDF5_EXPANSION_FREE_BYTES and nbytes > HDF5_EXPANSION_LIMIT * max(stored, 1):
        raise RefusedFile(f"{path}: {name} claims {nbytes} bytes but stores {stored}")


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if missing) against a second run; the system drops the hold when this process ends.

    Raises
    ------
    FolderInUse
        If another process holds it.
    NotWritten
        If it cannot be made or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a")  # noqa: SIM115 - held open on purpose
    except OSError as error:
        raise NotWritten(f"{folder}: cannot be used as output folder: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FolderInUse(f"{folder}: another run is using this folder") from None
        remove_leftovers(folder)
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote into `folder`."""
    for path in Path(folder).glob(".*.tmp-*"):
        owner = path.name.partition(".tmp-")[2].split(".")[0]
        with contextlib.suppress(OSError):
            if owner.isdigit() and not _runs(int(owner)):
                path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
