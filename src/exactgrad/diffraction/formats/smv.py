"""SMV images (ADSC): a text header of whole 512-byte blocks, then unsigned 16-bit pixels of either byte order.

Header values are kept as text, in file order; `number` turns one into a float. The C program leaves out the semicolon
after DIALS_ORIGIN: the reader ends a value at the line end too, and the writer can do the same (`c_layout`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.diffraction.formats.bounds import (
    check_dimensions,
    check_size,
    read_image_bytes,
    require_integers,
)
from exactgrad.errors import FormatError, InputError
from exactgrad.files import write_atomic

BLOCK_BYTES = 512
MAX_HEADER_BYTES = 65_536
MAX_KEYS = 1000
NO_SEMICOLON = "DIALS_ORIGIN"
_LAYOUT_KEYS = ("HEADER_BYTES", "DIM", "BYTE_ORDER", "TYPE", "SIZE1", "SIZE2")
_ORDERS = {"little_endian": "<u2", "big_endian": ">u2"}


@dataclass(frozen=True)
class SmvImage:
    """An SMV file: `pixels` (uint16, shape (slow, fast)) and `header` (key to text, in file order)."""

    pixels: np.ndarray
    header: dict[str, str]

    def number(self, key: str) -> float | None:
        """Return a header value as a float, or None if the key is not there.

        Raises
        ------
        FormatError
            If the value is not a finite number.
        """
        return _number(Path("SMV header"), self.header, key)


def read(path: Path) -> SmvImage:
    """Read an SMV image.

    Raises
    ------
    FormatError
        If the header is not one, or the file has not exactly the pixels that it declares.
    InputError, RefusedFile
        As `files.read_bytes`.
    """
    data = read_image_bytes(path, 2)
    header_bytes = _header_bytes(path, data)
    header = _parse(path, data[:header_bytes].decode("latin-1"))
    fast, slow = (_whole(path, header, key) for key in ("SIZE1", "SIZE2"))
    check_dimensions(path, slow, fast)
    if header.get("TYPE", "unsigned_short") != "unsigned_short":
        raise FormatError(f"{path}: TYPE={header['TYPE'][:40]}: only unsigned_short is read")
    order = header.get("BYTE_ORDER", "")
    if order not in _ORDERS:
        raise FormatError(f"{path}: BYTE_ORDER={order[:40]}: must be little_endian or big_endian")
    check_size(path, len(data) - header_bytes, 2 * slow * fast, f"SIZE1={fast}, SIZE2={slow}")
    pixels = np.frombuffer(data, _ORDERS[order], offset=header_bytes).reshape(slow, fast)
    return SmvImage(pixels.astype(np.uint16), header)


def _header_bytes(path: Path, data: bytes) -> int:
    first = data[:BLOCK_BYTES].decode("latin-1")
    if not first.startswith("{") or "HEADER_BYTES=" not in first:
        raise FormatError(f"{path}: does not begin with {{ and HEADER_BYTES=: not an SMV image")
    text = first.partition("HEADER_BYTES=")[2].partition(";")[0].strip()
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise FormatError(f"{path}: HEADER_BYTES={text[:40]}: a whole number is needed")
    size = int(text)
    if not BLOCK_BYTES <= size <= MAX_HEADER_BYTES or size % BLOCK_BYTES:
        raise FormatError(f"{path}: HEADER_BYTES={size}: a multiple of 512, at most {MAX_HEADER_BYTES}, is needed")
    if len(data) < size:
        raise FormatError(f"{path}: ends within its header of {size} bytes")
    return size


def _parse(path: Path, text: str) -> dict[str, str]:
    body, closed, _ = text[1:].partition("}")
    if not closed:
        raise FormatError(f"{path}: the header has no closing }}")
    header: dict[str, str] = {}
    for piece in body.replace(";", "\n").splitlines():
        key, equals, value = piece.partition("=")
        if equals:
            header[key.strip()] = value.strip()  # a key given twice: the last counts, as in the C program
    if len(header) > MAX_KEYS:
        raise FormatError(f"{path}: {len(header)} header keys; at most {MAX_KEYS} are read")
    return header


def _number(path: Path, header: dict[str, str], key: str) -> float | None:
    if key not in header:
        return None
    try:
        value = float(header[key])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"{path}: {key}={header[key][:40]}: a finite number is needed")
    return value


def _whole(path: Path, header: dict[str, str], key: str) -> int:
    value = _number(path, header, key)
    if value is None or value != math.floor(value):
        raise FormatError(f"{path}: {key}={header.get(key, '(missing)')[:40]}: a whole number of pixels is needed")
    return int(value)


def write(
    path: Path,
    pixels: np.ndarray,
    header: dict[str, str],
    big_endian: bool = False,
    c_layout: bool = False,
    overwrite: bool = False,
) -> None:
    """Write an SMV image.

    Parameters
    ----------
    path : Path
        The file.
    pixels : ndarray, shape (slow, fast)
        Whole numbers from 0 to 65535.
    header : dict of str to str
        Keys in the order to be written; those of the layout (HEADER_BYTES, DIM, BYTE_ORDER, TYPE, SIZE1, SIZE2) are
        set here and come first.
    big_endian : bool
        Byte order of the pixels.
    c_layout : bool
        True leaves out the semicolon that the C program forgets, to be its file byte for byte.

    Raises
    ------
    InputError
        If a pixel does not fit, a key or value would break the header, or as `files.write_atomic`.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.img"
    >>> write(path, np.eye(3), {"DISTANCE": "100"})
    >>> read(path).number("DISTANCE")
    100.0
    """
    array = require_integers(pixels, np.uint16)
    order = "big_endian" if big_endian else "little_endian"
    for size in range(BLOCK_BYTES, MAX_HEADER_BYTES + 1, BLOCK_BYTES):
        layout = dict(
            zip(_LAYOUT_KEYS, (str(size), "2", order, "unsigned_short", *map(str, array.shape[::-1])), strict=True)
        )
        text = _header_text({**layout, **{k: v for k, v in header.items() if k not in layout}}, c_layout)
        if len(text) <= size:
            write_atomic(path, text.ljust(size).encode("ascii") + array.astype(_ORDERS[order]).tobytes(), overwrite)
            return
    raise InputError(f"{path}: the header is longer than {MAX_HEADER_BYTES} bytes")


def _header_text(header: dict[str, str], c_layout: bool) -> str:
    lines = []
    for key, value in header.items():
        pair = f"{key}={value}"
        if not (pair.isascii() and pair.isprintable()) or any(c in pair for c in ";{}") or "=" in key or not key:
            raise InputError(f"SMV header {pair[:60]!r}: printable ASCII without ; {{ }} is needed")
        lines.append(pair + ("" if c_layout and key == NO_SEMICOLON else ";"))
    return "\n".join(["{", *lines, "}\f"])
