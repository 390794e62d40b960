"""MATLAB .mat files (version 5): plain numeric arrays, as Spinach users keep waveforms.

`xy_profile` (2 x N, in units of `pwr_level`), `z_profile` (1 x N, same units), `pwr_level` (rad/s, 100 %), `pulse_dt`
(1 x N, s), `uz_hz` (1 x N; B1 does not scale it, so it counts before `z_profile`), `title`. A file is inflated here
with a ceiling and its variables are listed before SciPy loads any, and only these names are loaded, if numeric.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import FormatError, RefusedFile
from exactgrad.files import TEXT_LIMIT_BYTES, read_bytes
from exactgrad.pulses.formats.shape import Content, Format, Label, fractions
from exactgrad.pulses.formats.text import MAX_MAGNITUDE, MAX_POINTS, one_line
from exactgrad.pulses.pulse import Pulse

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC = {"double", "single", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
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
    """Return our variables as float64 arrays, and the title; other variables are never loaded."""
    import scipy.io

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            listed = scipy.io.whosmat(io.BytesIO(data))
            _check_listed(path, listed)
            loaded = scipy.io.loadmat(io.BytesIO(data), variable_names=[*_NAMES, "title"])
    except FormatError:
        raise
    except Exception as error:  # SciPy's reader raises whatever its parts do
        what = f"{type(error).__name__}: {one_line(str(error))}"
        raise FormatError(f"{path}: not a readable .mat file ({what})") from error
    found = {name: _numbers(path, name, loaded[name]) for name in _NAMES if name in loaded}
    title = loaded.get("title")
    return found, one_line(str(title.flat[0])) if isinstance(title, np.ndarray) and title.size == 1 else ""


def _check_listed(path: Path, listed: list[tuple[str, tuple[int, ...], str]]) -> None:
    """Refuse our names where they stand twice, are not plain numbers (the title: text), or are too large."""
    seen = set()
    for name, shape, kind in listed:
        if name not in (*_NAMES, "title"):
            continue
        if name in seen:
            raise FormatError(f"{path}: {name} stands in the file twice")
        seen.add(name)
        if name == "title":
            if kind != "char":
                raise FormatError(f"{path}: title is of class {kind}; text is needed")
            continue
        if kind not in _NUMERIC:
            raise FormatError(f"{path}: {name} is of class {kind}; a plain numeric array is needed")
        if len(shape) > 2 or math.prod(shape) > 2 * MAX_POINTS:
            raise FormatError(f"{path}: {name}: shape {shape}; at most 2 x {MAX_POINTS} is read")


def _numbers(path: Path, name: str, values: Any) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise FormatError(f"{path}: {name}: real numbers are needed")
    numbers = values.astype(np.float64)
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
