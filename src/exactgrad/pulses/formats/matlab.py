"""MATLAB .mat files (version 5): plain numeric arrays, as Spinach users keep waveforms.

`xy_profile` (2 x N, in units of `pwr_level`), `z_profile` (1 x N, same units), `pwr_level` (rad/s, 100 %), `pulse_dt`
(1 x N, s), `uz_hz` (1 x N; B1 does not scale it, so it counts before `z_profile`), `title`. A file is inflated with a
ceiling and read by a bounded reader of our own: SciPy's can crash the process on a damaged file. Only these names are
read, if numeric; what else a file holds is passed over.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exactgrad.errors import FormatError, RefusedFile
from exactgrad.files import TEXT_LIMIT_BYTES, read_bytes
from exactgrad.pulses.formats.shape import Content, Format, Label, fractions
from exactgrad.pulses.formats.text import MAX_MAGNITUDE, MAX_POINTS, one_line
from exactgrad.pulses.pulse import Pulse

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_CLASS_NAMES = (
    "cell struct object char sparse double single int8 uint8 int16 uint16 int32 uint32 int64 uint64 function opaque"
)
_CLASSES = dict(enumerate(_CLASS_NAMES.split(), start=1))
_NUMERIC = {name for name in _CLASSES.values() if name in ("double", "single") or "int" in name}
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_FLAGS, _DIMENSIONS, _NAME, _COMPLEX, _LOGICAL = 6, 5, 1, 0x0800, 0x0200
_NAMES = ("xy_profile", "z_profile", "pwr_level", "pulse_dt", "uz_hz")
_DESCRIPTION = b"MATLAB 5.0 MAT-file, written by exactgrad"


def read(path: Path) -> Content:
    """Read a .mat file; raises `FormatError`, or `RefusedFile` if it inflates beyond `files.TEXT_LIMIT_BYTES`."""
    found, title = _load(path, _inflate(path, read_bytes(path)))
    if "xy_profile" not in found:
        raise FormatError(f"{path}: no variable xy_profile (2 x N)")
    xy = found["xy_profile"]
    if xy.ndim != 2 or xy.shape[0] != 2 or xy.shape[1] == 0:
        raise FormatError(f"{path}: xy_profile: shape {xy.shape} where (2, N) is needed")
    count = xy.shape[1]
    lengths, duration_s = np.ones(count), None
    if "pulse_dt" in found:
        lengths = _row(path, found, "pulse_dt", count)
        if not (lengths > 0).all():
            raise FormatError(f"{path}: pulse_dt = {lengths.min():g} s: must be > 0 s")
        duration_s = float(lengths.sum())
    rf_max_hz = None
    if "pwr_level" in found:
        if found["pwr_level"].size != 1 or found["pwr_level"].item() < 0:
            raise FormatError(f"{path}: pwr_level: one number >= 0 rad/s is needed")
        rf_max_hz = found["pwr_level"].item() / (2 * math.pi)
    uz_hz = _row(path, found, "uz_hz", count) if "uz_hz" in found else None
    if uz_hz is None and "z_profile" in found:
        if rf_max_hz is None:
            raise FormatError(f"{path}: z_profile without pwr_level has no unit")
        uz_hz = _row(path, found, "z_profile", count) * rf_max_hz
    return Content(xy[0], xy[1], lengths, duration_s=duration_s, rf_max_hz=rf_max_hz, uz_hz=uz_hz, title=title)


def _row(path: Path, found: dict[str, np.ndarray], name: str, count: int) -> np.ndarray:
    """Return a variable as shape (count,); one number stands for all."""
    values = found[name].ravel()
    if values.size not in (1, count):
        raise FormatError(f"{path}: {name}: {values.size} values for {count} points")
    return np.broadcast_to(values, (count,)).copy()


def _inflate(path: Path, data: bytes) -> bytes:
    """Return the file with its compressed elements inflated, at most `files.TEXT_LIMIT_BYTES` in all."""
    if data.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise FormatError(f"{path}: MATLAB 7.3 (HDF5) is not read; save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if not data.startswith(b"MATLAB 5.0 MAT-file") or order is None:
        raise FormatError(f"{path}: not a MATLAB version 5 file")
    parts, size, at = [data[:_HEADER_BYTES]], _HEADER_BYTES, _HEADER_BYTES
    while at < len(data):
        if at + 8 > len(data):
            raise FormatError(f"{path}: cut off at byte {at}")
        kind, length = struct.unpack(order + "II", data[at : at + 8])
        element = data[at + 8 : at + 8 + length]
        if len(element) != length:
            raise FormatError(f"{path}: cut off: the element at byte {at} declares {length} bytes")
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            try:
                parts.append(inflater.decompress(element, TEXT_LIMIT_BYTES - size + 1))
            except zlib.error as error:
                raise FormatError(f"{path}: damaged at byte {at}: {error}") from error
        elif kind == _MATRIX:
            parts.append(data[at : at + 8 + length])
        else:
            raise FormatError(f"{path}: element type {kind} at byte {at} is not a variable")
        size += len(parts[-1])
        if size > TEXT_LIMIT_BYTES:
            raise RefusedFile(f"{path}: inflates to more than {TEXT_LIMIT_BYTES} bytes")
        at += 8 + length
    return b"".join(parts)


def _load(path: Path, data: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Return our variables as float64 arrays, and the title; other variables are never read."""
    order = "<" if data[126:128] == b"IM" else ">"
    found: dict[str, np.ndarray] = {}
    title, seen = "", set()
    for at, body in _elements(path, data, _HEADER_BYTES, order):
        parts = _elements(path, body, 0, order)
        name, kind, shape, is_complex = _header(path, parts, at, order)
        if name not in (*_NAMES, "title"):
            continue
        if name in seen:
            raise FormatError(f"{path}: {name} stands in the file twice")
        seen.add(name)
        _check_listed(path, name, kind, shape)
        stored, values = _next(path, parts, at)
        if name == "title":
            title = one_line(values.decode(_text_of(stored, order), errors="replace"))
        elif is_complex:
            raise FormatError(f"{path}: {name}: real numbers are needed")
        else:
            found[name] = _numbers(path, name, shape, stored, values, order)
    return found, title


def _elements(path: Path, data: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (type, content) of the elements of `data` from `at` on; each ends on a multiple of eight bytes."""
    while at < len(data):
        if at + 8 > len(data):
            raise FormatError(f"{path}: not a readable .mat file (cut off in an element's tag)")
        kind, length = struct.unpack(order + "II", data[at : at + 8])
        begins = at + 8
        if kind >> 16:  # a small element: its size and content are in the tag
            kind, length, begins = kind & 0xFFFF, kind >> 16, at + 4
        limit = at + 8 if begins == at + 4 else len(data)
        if begins + length > limit:
            raise FormatError(f"{path}: not a readable .mat file (an element declares {length} bytes)")
        yield kind, data[begins : begins + length]
        at = at + 8 if begins == at + 4 else begins + -(-length // 8) * 8


def _next(path: Path, parts: Iterator[tuple[int, bytes]], kind: int) -> tuple[int, bytes]:
    part = next(parts, None)
    if kind != _MATRIX or part is None:
        raise FormatError(f"{path}: not a readable .mat file (a variable lacks a part)")
    return part


def _header(
    path: Path, parts: Iterator[tuple[int, bytes]], element: int, order: str
) -> tuple[str, str, tuple[int, ...], bool]:
    """Return a variable's name, class, shape and whether it is complex."""
    stated = [_next(path, parts, element) for _ in range(3)]
    (of_flags, flags), (of_shape, shape), (of_name, name) = stated
    if (of_flags, of_shape, of_name) != (_FLAGS, _DIMENSIONS, _NAME) or len(flags) != 8 or len(shape) % 4 or not shape:
        raise FormatError(f"{path}: not a readable .mat file (a variable's header)")
    first = struct.unpack(order + "I", flags[:4])[0]
    sides = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if min(sides) < 0:
        raise FormatError(f"{path}: not a readable .mat file (a side of {min(sides)})")
    kind = "logical" if first & _LOGICAL else _CLASSES.get(first & 0xFF, "unknown")
    return name.decode("latin-1"), kind, sides, bool(first & _COMPLEX)


def _check_listed(path: Path, name: str, kind: str, shape: tuple[int, ...]) -> None:
    """Refuse our names where they are not plain numbers (the title: text), or are too large."""
    if name == "title":
        if kind != "char":
            raise FormatError(f"{path}: title is of class {kind}; text is needed")
    elif kind not in _NUMERIC:
        raise FormatError(f"{path}: {name} is of class {kind}; a plain numeric array is needed")
    elif len(shape) > 2 or math.prod(shape) > 2 * MAX_POINTS:
        raise FormatError(f"{path}: {name}: shape {shape}; at most 2 x {MAX_POINTS} is read")


def _text_of(stored: int, order: str) -> str:
    coding = _TEXT.get(stored, "latin-1")
    return coding + ("-le" if order == "<" else "-be") if coding == "utf-16" else coding


def _numbers(path: Path, name: str, shape: tuple[int, ...], stored: int, values: bytes, order: str) -> np.ndarray:
    """Return an array's numbers, column after column as MATLAB stores them, as float64."""
    kind = _STORED.get(stored)
    if kind is None or len(values) != math.prod(shape) * int(kind[1]):
        raise FormatError(f"{path}: {name}: {len(values)} bytes of type {stored} for shape {shape}")
    numbers = np.frombuffer(values, np.dtype(order + kind)).astype(np.float64).reshape(shape, order="F")
    if not np.all(np.abs(numbers) <= MAX_MAGNITUDE):  # also true for NaN
        raise FormatError(f"{path}: {name} holds a value that is not finite or exceeds {MAX_MAGNITUDE:g}")
    return numbers


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the .mat file's bytes (uncompressed, and without SciPy's time stamp, so that they repeat)."""
    import scipy.io

    maximum = label.rf_max_hz
    variables = {
        "xy_profile": np.vstack(fractions(pulse, maximum)),
        "pulse_dt": pulse.step_s[None, :],
        "pwr_level": 2 * math.pi * maximum,
        "uz_hz": pulse.uz_hz[None, :],
        "title": one_line(label.title),
    }
    if maximum > 0:
        variables["z_profile"] = pulse.uz_hz[None, :] / maximum
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables)
    data = buffer.getvalue()
    return _DESCRIPTION.ljust(116) + data[116:]


FORMAT = Format(
    name="matlab",
    title="MATLAB .mat, version 5 (Spinach layout)",
    suffix=".mat",
    read=read,
    write=write,
    holds_z=True,
    holds_duration=True,
    holds_rf_max=True,
    needs_uniform_steps=False,
)
