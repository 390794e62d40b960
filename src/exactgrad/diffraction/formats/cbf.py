r"""CBF images with the byte-offset compression, as Dectris detectors and DIALS write them (mini-CBF).

A pixel is stored as its difference from the one before: one byte; or 0x80 and two bytes; or 0x80, 0x8000 and four; or
0x80, 0x8000, 0x80000000 and eight. The stream is decoded with the bytes that are left in view: it must give exactly
the declared pixels from exactly the declared bytes, each within int32, and match the MD5 sum if the header has one
(Hammersley, Bernstein and Westbrook, International Tables G, ch. 2.3).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import check_dimensions, read_image_bytes, require_integers
from exactgrad.errors import FormatError, InputError
from exactgrad.files import write_atomic

MARKER = b"\x0c\x1a\x04\xd5"
BOUNDARY = "--CIF-BINARY-FORMAT-SECTION--"
HEADER_LIMIT = 1 << 18
_DECODE = "Tuple((int64, int64, int64))(uint8[::1], int32[::1])"
_SHORT, _LONG, _OUT_OF_RANGE = 1, 2, 3  # what may be wrong with a stream


@dataclass(frozen=True)
class CbfImage:
    """A CBF file: `pixels` (int32, shape (slow, fast)) and `comments` (the convention's ``# ...`` lines, no ``#``)."""

    pixels: np.ndarray
    comments: tuple[str, ...]


def read(path: Path) -> CbfImage:
    """Read the first binary section of a CBF file.

    Raises
    ------
    FormatError
        If the header or the stream is not as described above.
    InputError, RefusedFile
        As `files.read_bytes`.
    """
    data = read_image_bytes(path, 8)
    if not data.startswith(b"###CBF"):
        raise FormatError(f"{path}: does not begin with ###CBF: not a CBF image")
    at = data.find(MARKER, 0, HEADER_LIMIT)
    if at < 0:
        raise FormatError(f"{path}: no binary section within the first {HEADER_LIMIT} bytes")
    text = data[:at].decode("latin-1").replace("\r\n", "\n")
    before, boundary, section = text.rpartition(BOUNDARY)
    if not boundary:
        raise FormatError(f"{path}: no {BOUNDARY} before the binary data")
    keys = {key.lower(): value.strip() for key, value in re.findall(r"^([\w-]+):[ \t]*(.*)$", section, re.MULTILINE)}
    slow, fast = _check_section(path, section, keys)
    size = _whole(path, keys, "x-binary-size")
    stream = data[at + len(MARKER) : at + len(MARKER) + size]
    if len(stream) != size:
        raise FormatError(f"{path}: {len(stream)} bytes follow where X-Binary-Size is {size}: cut off")
    digest = base64.b64encode(hashlib.md5(stream, usedforsecurity=False).digest()).decode()
    if keys.get("content-md5", digest) != digest:
        raise FormatError(f"{path}: the pixels' MD5 sum is {digest} where the header says {keys['content-md5'][:40]}")
    comments = tuple(line[1:].strip() for line in before.split("\n") if re.match(r"# ", line))
    return CbfImage(_decoded(path, stream, slow * fast).reshape(slow, fast), comments)


def _check_section(path: Path, section: str, keys: dict[str, str]) -> tuple[int, int]:
    """Return the declared (slow, fast) of a section that is 32-bit byte offset."""
    if "x-cbf_byte_offset" not in section.lower():
        raise FormatError(f'{path}: only conversions="x-CBF_BYTE_OFFSET" is read')
    element = keys.get("x-binary-element-type", "").strip('"')
    if element not in ("signed 32-bit integer", "unsigned 32-bit integer", "signed 16-bit integer"):
        raise FormatError(f"{path}: X-Binary-Element-Type {element[:40]!r}: integers of at most 32 bits are read")
    if keys.get("x-binary-element-byte-order", "LITTLE_ENDIAN") != "LITTLE_ENDIAN":
        raise FormatError(f"{path}: X-Binary-Element-Byte-Order must be LITTLE_ENDIAN")
    fast, slow = (_whole(path, keys, f"x-binary-size-{name}-dimension") for name in ("fastest", "second"))
    check_dimensions(path, slow, fast)
    if keys.get("x-binary-size-third-dimension", "1") not in ("0", "1"):
        raise FormatError(f"{path}: a stack of images; one is read")
    if _whole(path, keys, "x-binary-number-of-elements", slow * fast) != slow * fast:
        raise FormatError(f"{path}: X-Binary-Number-of-Elements differs from {slow} x {fast}")
    return slow, fast


def _whole(path: Path, keys: dict[str, str], key: str, default: int | None = None) -> int:
    text = keys.get(key, "" if default is None else str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise FormatError(f"{path}: {key}: {text[:40] or '(missing)'}: a whole number is needed")
    return int(text)


def _decoded(path: Path, stream: bytes, count: int) -> np.ndarray:
    if count > len(stream):  # each pixel takes a byte or more
        raise FormatError(f"{path}: {len(stream)} bytes cannot hold {count} pixels")
    pixels = np.empty(count, np.int32)
    problem, done, used = _decoder()(np.frombuffer(stream, np.uint8).copy(), pixels)
    if problem == _SHORT:
        raise FormatError(f"{path}: the compressed data end at pixel {done} of {count}")
    if problem == _OUT_OF_RANGE:
        raise FormatError(f"{path}: pixel {done} does not fit in 32 bits")
    if problem == _LONG:
        raise FormatError(f"{path}: {len(stream) - used} bytes are left after the last pixel")
    return pixels


@functools.cache
def _decoder() -> Callable[[np.ndarray, np.ndarray], tuple[int, int, int]]:
    from exactgrad.kernels.compile import compiled

    return compiled(_DECODE)(_decode)


def _decode(stream, pixels):
    """Return (problem, pixels decoded, bytes used); every read is of bytes that are there."""
    at, value, end = 0, 0, stream.size
    for index in range(pixels.size):
        width, escape = 1, 0x80
        while True:
            if at + width > end:
                return _SHORT, index, at
            step = 0
            for byte in range(width):
                step |= int(stream[at + byte]) << (8 * byte)
            at += width
            if width == 8 or step != escape:
                break
            width, escape = 2 * width, escape << (8 * width)
        if width < 8 and step >= escape:
            step -= 2 * escape
        value += step
        if value < -2147483648 or value > 2147483647:
            return _OUT_OF_RANGE, index, at
        pixels[index] = value
    return (_LONG if at != end else 0), pixels.size, at


def encode(pixels: np.ndarray) -> bytes:
    """Return the byte-offset stream of int32 pixels.

    Examples
    --------
    >>> encode(np.array([1, 2, 200, -70000], np.int32)).hex()
    '010180c600800080c8edfeff'
    """
    steps = np.diff(pixels.ravel().astype(np.int64), prepend=0)
    size = np.abs(steps)
    length = np.where(size < 0x80, 1, np.where(size < 0x8000, 3, np.where(size < 0x80000000, 7, 15)))
    start = np.cumsum(length) - length
    out = np.zeros(int(length.sum()), np.uint8)
    out[start[length == 1]] = steps[length == 1].astype(np.int8).view(np.uint8)
    for total, width, escape in ((3, 2, b"\x80"), (7, 4, b"\x80\x00\x80"), (15, 8, b"\x80\x00\x80\x00\x00\x00\x80")):
        at = start[length == total]
        payload = steps[length == total].astype(f"<i{width}").view(np.uint8).reshape(-1, width)
        out[at[:, None] + np.arange(len(escape))] = np.frombuffer(escape, np.uint8)
        out[at[:, None] + len(escape) + np.arange(width)] = payload
    return out.tobytes()


def write(path: Path, pixels: np.ndarray, comments: tuple[str, ...] = (), overwrite: bool = False) -> None:
    """Write a mini-CBF image.

    Parameters
    ----------
    path : Path
        The file.
    pixels : ndarray, shape (slow, fast)
        Whole numbers that fit in int32.
    comments : tuple of str
        Lines of the PILATUS_1.2 header convention, e.g. ``"Wavelength 1.0 A"``.

    Raises
    ------
    InputError
        If a pixel does not fit, or a comment is not one line of ASCII; or as `files.write_atomic`.
    """
    array = require_integers(pixels, np.int32)
    for line in comments:
        if not (line.isascii() and line.isprintable()) or BOUNDARY in line or len(line) > 1000:
            raise InputError(f"CBF comment {line[:40]!r}: one line of printable ASCII is needed")
    stream = encode(array)
    slow, fast = array.shape
    digest = base64.b64encode(hashlib.md5(stream, usedforsecurity=False).digest()).decode()
    convention = ['_array_data.header_convention "PILATUS_1.2"', "_array_data.header_contents", ";"]
    contents = [*convention, *(f"# {line}" for line in comments), ";", ""] if comments else []
    lines = [
        "###CBF: VERSION 1.5, written by exactgrad",
        "",
        "data_image_1",
        "",
        *contents,
        "_array_data.data",
        ";",
        BOUNDARY,
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(stream)}",
        "X-Binary-ID: 1",
        'X-Binary-Element-Type: "signed 32-bit integer"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        f"Content-MD5: {digest}",
        f"X-Binary-Number-of-Elements: {array.size}",
        f"X-Binary-Size-Fastest-Dimension: {fast}",
        f"X-Binary-Size-Second-Dimension: {slow}",
        "X-Binary-Size-Padding: 4095",
        "",
        "",
    ]
    tail = b"\0" * 4095 + f"\r\n{BOUNDARY}--\r\n;\r\n".encode()
    write_atomic(path, "\r\n".join(lines).encode("ascii") + MARKER + stream + tail, overwrite)
