"""Frames packed by bitshuffle and LZ4, as Eiger detectors write them: read with the extra, a line without it."""

import io
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from exactgrad.diffraction.formats import nexus
from exactgrad.diffraction.formats.bitshuffle import complaint_about
from exactgrad.diffraction.formats.experiment import Experiment, make_panel
from exactgrad.errors import BackendMissing, FormatError, InputError, RefusedFile

SHAPE = (3, 31, 43)  # neither side a multiple of 8, so that a chunk ends in loose elements
FRAMES = np.random.default_rng(5).poisson(3, SHAPE).astype(np.uint32)


@pytest.fixture(scope="module")
def plugin():
    return pytest.importorskip("hdf5plugin", reason="the extra `eiger` is not installed (it needs hdf5plugin)")


@pytest.fixture
def eiger(tmp_path):
    """A function that writes an NXmx file whose frames are packed by a filter."""

    def write(packing, frames=FRAMES, **more):
        panel = make_panel(tmp_path, "p", [-0.01, 0.02, 0.2], [1, 0, 0], [0, -1, 0], (75e-6, 75e-6), frames.shape[1:])
        path = tmp_path / "eiger.h5"
        experiment = Experiment((panel,), np.array([0.0, 0.0, 1.0]), 1e-10)
        nexus.write(path, frames, experiment, saturation=1000, overwrite=True)
        with h5py.File(path, "r+") as handle:
            del handle["entry/instrument/detector/data"], handle["entry/data/data"]
            chunks = more.pop("chunks", (1, *frames.shape[1:]))
            handle.create_dataset("entry/data/data", data=frames, chunks=chunks, **packing, **more)
        return path

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float64])
@pytest.mark.parametrize("nelems", [0, 8, 64])
def test_frames_are_those_that_were_packed(plugin, eiger, dtype, nelems):
    frames = FRAMES.astype(dtype)
    path = eiger(plugin.Bitshuffle(nelems=nelems, cname="lz4"), frames)
    read = nexus.read(path)
    assert read.frames.dtype == dtype and np.array_equal(read.frames, frames) and read.saturation == 1000


def test_frames_in_tiles_and_large_ones(plugin, eiger):
    path = eiger(plugin.Bitshuffle(), chunks=(2, 16, 10))
    assert np.array_equal(nexus.read(path).frames, FRAMES)
    large = np.random.default_rng(6).poisson(1, (2, 400, 500)).astype(np.uint16)
    assert np.array_equal(nexus.read(eiger(plugin.Bitshuffle(), large)).frames, large)


def test_other_packings_are_refused_all_the_same(plugin, eiger):
    for packing in (plugin.Bitshuffle(cname="none"), plugin.Bitshuffle(cname="zstd"), plugin.LZ4(), plugin.Blosc()):
        with pytest.raises(RefusedFile, match="a compression that is not read"):
            nexus.read(eiger(packing))
    with pytest.raises(FormatError, match="bitshuffle among other filters"):
        nexus.read(eiger(plugin.Bitshuffle(), shuffle=True))


def test_without_the_extra_a_line_says_what_to_install(plugin, eiger, monkeypatch):
    path = eiger(plugin.Bitshuffle())
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # an import now fails
    with pytest.raises(BackendMissing, match=r"pip install 'exactgrad\[eiger\]'") as caught:
        nexus.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    plain = eiger({"compression": "gzip"})
    assert np.array_equal(nexus.read(plain).frames, FRAMES)


def test_a_file_with_gzip_does_not_load_the_extra(eiger):
    path = eiger({"compression": "gzip"})
    program = (
        "import sys; from pathlib import Path; from exactgrad.diffraction.formats import nexus; "
        f"nexus.read(Path({str(path)!r})); sys.exit('hdf5plugin' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# -- chunks whose lengths are not true, which the library would believe -----------------------------------------------


def packed_chunk(plugin, elements, dtype, nelems=0):
    file = io.BytesIO()
    with h5py.File(file, "w") as handle:
        values = np.arange(elements).astype(dtype) % 11
        item = handle.create_dataset("a", data=values, chunks=(elements,), **plugin.Bitshuffle(nelems=nelems))
        return bytes(item.id.read_direct_chunk((0,))[1])


@pytest.mark.parametrize("elements", [1, 7, 8, 9, 64, 1000, 2048, 2051, 2056, 9999])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f8"])
def test_every_chunk_of_the_library_is_in_order(plugin, elements, dtype):
    for nelems in (0, 16):
        chunk = packed_chunk(plugin, elements, dtype, nelems)
        assert complaint_about(chunk, elements, np.dtype(dtype).itemsize) == ""
        for spoilt in (chunk[:-1], chunk + b"\0", chunk[:12], chunk[:5]):
            assert spoilt == chunk or complaint_about(spoilt, elements, np.dtype(dtype).itemsize)


LIES = {
    "unpacked size": (0, struct.pack(">Q", 1 << 40), "unpacks to 1099511627776 bytes"),
    "block size 0": (8, struct.pack(">I", 0), "blocks of 0 bytes"),
    "block size odd": (8, struct.pack(">I", 33), "blocks of 33 bytes"),
    "block size": (8, struct.pack(">I", 0xFFFFFFE0), "blocks of 4294967264 bytes"),
    "more blocks": (8, struct.pack(">I", 32), "blocks"),
    "packed length": (12, struct.pack(">I", 0x7FFFFFFF), "bytes where its 1 blocks need 2147483"),
    "packed length 0": (12, struct.pack(">I", 0), "bytes where its 1 blocks need"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_chunk_that_lies_is_refused_before_it_is_unpacked(plugin, eiger, lie):
    at, content, message = LIES[lie]
    path = eiger(plugin.Bitshuffle())
    with h5py.File(path, "r+") as handle:
        item = handle["entry/data/data"].id
        chunk = bytearray(item.read_direct_chunk((1, 0, 0))[1])
        chunk[at : at + len(content)] = content
        item.write_direct_chunk((1, 0, 0), bytes(chunk))
    with pytest.raises(FormatError, match=message) as caught:
        nexus.read(path)
    assert "\n" not in str(caught.value)


def test_a_chunk_without_its_filter_is_refused(plugin, eiger):
    path = eiger(plugin.Bitshuffle())
    with h5py.File(path, "r+") as handle:
        handle["entry/data/data"].id.write_direct_chunk((1, 0, 0), b"abc", filter_mask=1)
    with pytest.raises(FormatError, match="stored without its filter"):
        nexus.read(path)


@pytest.mark.parametrize("seed", range(40))
def test_packed_bytes_changed_at_random_are_read_or_refused(plugin, eiger, seed):
    random = np.random.default_rng(seed)
    path = eiger(plugin.Bitshuffle(nelems=64))
    with h5py.File(path, "r+") as handle:
        item = handle["entry/data/data"].id
        chunk = bytearray(item.read_direct_chunk((0, 0, 0))[1])
        for at in random.integers(16, len(chunk), 5):
            chunk[at] = random.integers(256)
        item.write_direct_chunk((0, 0, 0), bytes(chunk))
    try:
        nexus.read(path)
    except InputError as error:
        assert "\n" not in str(error)
