"""Bitshuffle with LZ4, as Eiger detectors pack their frames: unpacked by the package hdf5plugin (extra `eiger`).

The library believes the lengths that a chunk states, so every chunk's are checked before it sees one: 8 bytes of
unpacked size and 4 of block size, each block's packed length (4 bytes) and its bytes, then what is left of fewer than
8 elements, as they are; numbers big-endian. Source: Masui et al., Astronomy and Computing 12 (2015) 181.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

from exactgrad.errors import BackendMissing, FormatError

FILTER = 32008
LARGEST_BLOCK_BYTES = 1 << 24
_LZ4, _SUBFILTER = 2, 4  # where the filter's numbers name what packs the shuffled bits


def is_allowed(path: Path, number: int, values: tuple[int, ...]) -> bool:
    """Whether an HDF5 filter is bitshuffle with LZ4; loads what unpacks it.

    Raises
    ------
    BackendMissing
        If it is, and hdf5plugin is not installed.
    """
    if number != FILTER or len(values) <= _SUBFILTER or values[_SUBFILTER] != _LZ4:
        return False
    try:
        import hdf5plugin  # noqa: F401 - makes the filter known to the library
    except ImportError:
        raise BackendMissing(
            f"{path}: packed by bitshuffle and LZ4, hdf5plugin is not installed; pip install 'exactgrad[eiger]', "
            "or h5repack -f GZIP=4 rewrites the file"
        ) from None
    return True


def check_chunks(path: Path, dataset: Any) -> None:
    """Check every chunk of a dataset, if it is packed so.

    Raises
    ------
    FormatError
        If a chunk's lengths are not those of its bytes, or other filters are mixed in.
    """
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if FILTER not in filters:
        return
    if filters != [FILTER]:
        raise FormatError(f"{path}: {dataset.name}: bitshuffle among other filters ({filters})")
    stored: list[Any] = []
    dataset.id.chunk_iter(stored.append)
    file_bytes = path.stat().st_size
    for chunk in stored:
        if chunk.filter_mask or not 0 < chunk.size <= file_bytes:
            raise FormatError(
                f"{path}: {dataset.name}: chunk {chunk.chunk_offset}: stored without its filter, or cut off"
            )
        _, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
        complaint = complaint_about(bytes(packed), math.prod(dataset.chunks), dataset.dtype.itemsize)
        if complaint:
            raise FormatError(f"{path}: {dataset.name}: chunk {chunk.chunk_offset}: {complaint}")


def complaint_about(packed: bytes, elements: int, element_bytes: int) -> str:
    """Return what is wrong with the lengths in one packed chunk; of no length if nothing is.

    Examples
    --------
    >>> complaint_about(bytes(11), 8, 2)
    '11 bytes; 12 or more are needed'
    >>> complaint_about(struct.pack(">QII", 16, 16, 3) + b"abc", 8, 2)
    ''
    """
    if len(packed) < 12:
        return f"{len(packed)} bytes; 12 or more are needed"
    unpacked, block_bytes = struct.unpack(">QI", packed[:12])
    if unpacked != elements * element_bytes:
        return f"unpacks to {unpacked} bytes where {elements * element_bytes} are needed"
    if block_bytes % (8 * element_bytes) or not 0 < block_bytes <= LARGEST_BLOCK_BYTES:
        return f"blocks of {block_bytes} bytes; a multiple of {8 * element_bytes} is needed"
    block = block_bytes // element_bytes
    blocks = elements // block + (elements % block >= 8)
    at = 12
    for _ in range(blocks):
        if at + 4 > len(packed):
            return f"ends before its {blocks} blocks do"
        at += 4 + int.from_bytes(packed[at : at + 4], "big")
    if at + elements % 8 * element_bytes != len(packed):
        return f"{len(packed)} bytes where its {blocks} blocks need {at + elements % 8 * element_bytes}"
    return ""
