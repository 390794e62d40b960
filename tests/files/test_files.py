"""Files are whole or not there; a file built to do harm is refused before a value of it is read."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad import files
from exactgrad.errors import FolderInUse, FormatError, InputError, NotWritten, RefusedFile
from exactgrad.files import (
    SEAL_BYTES,
    hold_folder,
    open_guarded,
    read_bytes,
    read_hdf5,
    read_text,
    write_atomic,
    write_atomic_with,
    write_hdf5,
)

NOT_A_FOLDER = Path("/proc/version/below")  # a folder that nobody can make, root neither


class TestWriteAtomic:
    def test_text_and_bytes_are_written_as_they_are(self, tmp_path):
        write_atomic(tmp_path / "a", "µ\r\nb\n")
        write_atomic(tmp_path / "b", b"\0\xff")
        assert (tmp_path / "a").read_bytes() == "µ\r\nb\n".encode()
        assert (tmp_path / "b").read_bytes() == b"\0\xff"

    def test_a_file_that_exists_is_kept(self, tmp_path):
        (tmp_path / "a").write_text("old")
        with pytest.raises(InputError, match="a: exists already and is not overwritten"):
            write_atomic(tmp_path / "a", "new")
        assert (tmp_path / "a").read_text() == "old"
        assert os.listdir(tmp_path) == ["a"]

    def test_overwrite_replaces(self, tmp_path):
        (tmp_path / "a").write_text("old")
        write_atomic(tmp_path / "a", "new", overwrite=True)
        assert (tmp_path / "a").read_text() == "new"

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize(
        "path",
        [NOT_A_FOLDER / "a", Path("/proc/a"), Path("missing/a"), Path("x" * 300), Path("file/a")],
        ids=["below a file of /proc", "in /proc", "no folder", "name too long", "below a file"],
    )
    def test_what_cannot_be_written_is_one_line(self, tmp_path, path, overwrite):
        (tmp_path / "file").write_text("")
        with pytest.raises(NotWritten, match="cannot be written: ") as caught:
            write_atomic(tmp_path / path, "text", overwrite)
        assert "\n" not in str(caught.value)

    def test_a_folder_is_no_file(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(NotWritten, match="Is a directory"):
            write_atomic(tmp_path / "a", "text", overwrite=True)

    @pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt()])
    def test_a_writer_that_fails_half_way_leaves_the_old_file_alone(self, tmp_path, error):
        def writer(temporary):
            temporary.write_text("half")
            raise error

        (tmp_path / "a").write_text("old")
        with pytest.raises(type(error)):
            write_atomic_with(tmp_path / "a", writer, overwrite=True)
        assert (tmp_path / "a").read_text() == "old"
        assert os.listdir(tmp_path) == ["a"]

    def test_the_content_is_synced_before_the_name_and_the_name_before_the_return(self, tmp_path, monkeypatch):
        done = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
        monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
        write_atomic(tmp_path / "a.txt", "text")
        assert done == [str(tmp_path / f".a.txt.tmp-{os.getpid()}.txt"), "replace", str(tmp_path)]

    @pytest.mark.parametrize("limit", [0, 10, 4096])
    def test_full_disk(self, tmp_path, limit):
        done = in_child(
            limit,
            "from exactgrad.files import *; from pathlib import Path; from exactgrad.errors import NotWritten\n"
            f"try: write_atomic(Path({str(tmp_path)!r}) / 'a', b'x' * 5000)\n"
            "except NotWritten as error: print(error)",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{tmp_path / 'a'}: cannot be written: File too large\n"
        assert os.listdir(tmp_path) == []


def in_child(limit_bytes: int, code: str) -> subprocess.CompletedProcess:
    """Run Python code where no file may grow beyond a limit: the same errors as on a full disk."""
    script = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n{code}"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


class TestRead:
    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="a: no such file"):
            read_bytes(tmp_path / "a")

    def test_folder_pipe_and_device(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
            with pytest.raises(InputError, match="not a regular file"):
                read_bytes(path)

    def test_one_byte_too_many(self, tmp_path):
        (tmp_path / "a").write_bytes(b"12345")
        assert read_bytes(tmp_path / "a", 5) == b"12345"
        with pytest.raises(RefusedFile, match="larger than 4 bytes"):
            read_bytes(tmp_path / "a", 4)

    def test_a_name_that_no_file_can_have(self, tmp_path):
        with pytest.raises(InputError, match="cannot be read: File name too long"):
            read_bytes(tmp_path / ("x" * 300))

    @pytest.mark.parametrize(
        ("data", "text"), [(b"\xef\xbb\xbfa", "a"), (b"\xc2\xb5s", "µs"), (b"\xb5s", "µs"), (b"", "")]
    )
    def test_text(self, tmp_path, data, text):
        (tmp_path / "a").write_bytes(data)
        assert read_text(tmp_path / "a") == text

    def test_zero_bytes_are_no_text(self, tmp_path):
        (tmp_path / "a").write_bytes(b"a\0b")
        with pytest.raises(FormatError, match="holds zero bytes"):
            read_text(tmp_path / "a")


ARRAYS = {"x": np.arange(5.0), "deep/er/table": np.eye(3), "count": np.array(7), "empty": np.zeros((0, 3))}


class TestOwnHdf5:
    def test_round_trip(self, tmp_path):
        write_hdf5(tmp_path / "a.h5", {**ARRAYS, "text": "µs"}, {"schema": 1, "name": "a b", "pi": 3.5})
        arrays, attributes = read_hdf5(tmp_path / "a.h5")
        assert bytes(arrays.pop("text")).decode() == "µs"
        assert arrays.keys() == ARRAYS.keys()
        for name, value in ARRAYS.items():
            assert np.array_equal(arrays[name], value) and arrays[name].dtype == value.dtype
        assert attributes == {"schema": 1, "name": "a b", "pi": 3.5}

    def test_plain_h5py_reads_it(self, tmp_path):
        write_hdf5(tmp_path / "a.h5", ARRAYS, {"schema": 1})
        with h5py.File(tmp_path / "a.h5") as handle:
            assert np.array_equal(handle["deep/er/table"][()], np.eye(3))

    def test_the_last_line_is_the_digest_of_what_is_before_it(self, tmp_path):
        write_hdf5(tmp_path / "a.h5", ARRAYS, {})
        data = (tmp_path / "a.h5").read_bytes()
        assert data[-SEAL_BYTES:].decode() == f"\nsha256 {hashlib.sha256(data[:-SEAL_BYTES]).hexdigest()}\n"

    @settings(deadline=None, derandomize=True, max_examples=30)
    @given(
        st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="/.\0", exclude_categories=("Cs",)), min_size=1),
            st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.complex128, np.bool_]).flatmap(
                lambda dtype: st.lists(st.integers(0, 1), max_size=5).map(lambda v: np.array(v, dtype=dtype))
            ),
            max_size=4,
        )
    )
    def test_the_guard_accepts_what_we_write(self, tmp_path_factory, arrays):
        path = tmp_path_factory.mktemp("own") / "a.h5"
        write_hdf5(path, arrays, {"schema": 1})
        found, _ = read_hdf5(path)
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
        with open_guarded(path) as handle:
            assert set(handle) == set(arrays)

    def test_every_flipped_bit_and_every_cut_is_found(self, tmp_path):
        path = tmp_path / "a.h5"
        write_hdf5(path, {"x": np.arange(40.0), "scalar": np.array(1.5)}, {"schema": 1})
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        damaged = [whole[:size] for size in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1)]
        damaged += [whole + b"x"]
        for place in np.concatenate((np.arange(64), rng.integers(0, len(whole), 400), len(whole) - 1 - np.arange(80))):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << rng.integers(8)
            damaged.append(bytes(flipped))
        for data in damaged:
            path.write_bytes(data)
            with pytest.raises(FormatError, match="damaged or cut off"):
                read_hdf5(path)

    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(InputError, match="No such file"):
            read_hdf5(tmp_path / "a.h5")
        with pytest.raises(InputError, match="Is a directory"):
            read_hdf5(tmp_path)

    @pytest.mark.parametrize("limit", [100, 5000, 100_000])
    def test_full_disk_is_an_error_and_not_a_crash_of_the_library(self, tmp_path, limit):
        done = in_child(
            limit,
            "from exactgrad.files import *; from pathlib import Path; from exactgrad.errors import NotWritten\n"
            "import numpy as np\n"
            f"try: write_hdf5(Path({str(tmp_path)!r}) / 'a.h5', {{'x': np.ones(50000), 'y': np.ones(9)}}, {{}})\n"
            "except NotWritten as error: print(error)",
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{tmp_path / 'a.h5'}: cannot be written: File too large\n"
        assert done.stderr == ""
        assert os.listdir(tmp_path) == []


def seal(path: Path) -> None:
    """Give a file the seal of one of ours: anyone can."""
    data = path.read_bytes()
    path.write_bytes(data + f"\nsha256 {hashlib.sha256(data).hexdigest()}\n".encode())


def external_link(handle):
    handle["a"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_link_in_a_group(handle):
    handle.create_group("deep/er")["a"] = h5py.ExternalLink("other.h5", "/")


def soft_link(handle):
    handle["x"] = np.arange(3.0)
    handle["a"] = h5py.SoftLink("/x")


def dangling_soft_link(handle):
    handle["a"] = h5py.SoftLink("/nowhere")


def external_storage(handle):
    handle.create_dataset("a", (16,), np.uint8, external=[("/etc/passwd", 0, 16)])


def virtual(handle):
    layout = h5py.VirtualLayout((4,), np.float64)
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    handle.create_virtual_dataset("a", layout)


def variable_length(handle):
    handle.create_dataset("a", (2,), h5py.vlen_dtype(np.float64))


def variable_text(handle):
    handle["a"] = "text"


def object_reference(handle):
    handle["x"] = 1.0
    handle.create_dataset("a", data=[handle["x"].ref], dtype=h5py.ref_dtype)


def region_reference(handle):
    handle["x"] = np.arange(5.0)
    handle.create_dataset("a", data=[handle["x"].regionref[1:2]], dtype=h5py.regionref_dtype)


def reference_in_a_compound(handle):
    handle.create_dataset("a", (1,), np.dtype([("n", "f8"), ("r", h5py.ref_dtype)]))


def unknown_filter(handle):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(handle.id, b"a", h5py.h5t.NATIVE_DOUBLE, space, plist)


def shape_bomb(handle):
    handle.create_dataset("a", (10_000_000,), np.float64, chunks=(1000,))


def shape_bomb_of_pieces(handle):
    for i in range(12):  # each of them is small enough
        handle.create_dataset(f"a{i}", (8_000_000,), np.float64, chunks=(1000,))


def two_to_the_31(handle):
    handle.create_dataset("a", (2**31 + 1,), np.float64, chunks=(2**20,))


def chunk_bomb(handle):
    handle.create_dataset("a", (1,), np.float64, maxshape=(None,), chunks=(2**28,))


def item_bomb(handle):
    handle.create_dataset("a", (3,), np.dtype((np.void, 2**28)), chunks=(1,))


def gzip_bomb(handle):
    handle.create_dataset("a", data=np.zeros(20_000_000, np.uint8).reshape(20, -1), compression=9, chunks=True)
    handle.create_dataset("b", data=np.zeros(90_000_000, np.uint8), compression=9, chunks=(15_000_000,))


def named_type(handle):
    handle["a"] = np.dtype("f8")


HOSTILE = {
    external_link: (RefusedFile, "//a is a soft or external link"),
    external_link_in_a_group: (RefusedFile, "/deep/er/a is a soft or external link"),
    soft_link: (RefusedFile, "//a is a soft or external link"),
    dangling_soft_link: (RefusedFile, "//a is a soft or external link"),
    external_storage: (RefusedFile, "/a is stored outside the file"),
    virtual: (RefusedFile, "/a is stored outside the file"),
    variable_length: (RefusedFile, "/a holds references, objects or variable-length values"),
    variable_text: (RefusedFile, "/a holds references, objects or variable-length values"),
    object_reference: (RefusedFile, "/a holds references, objects or variable-length values"),
    region_reference: (RefusedFile, "/a holds references, objects or variable-length values"),
    reference_in_a_compound: (RefusedFile, "/a holds references, objects or variable-length values"),
    unknown_filter: (RefusedFile, "/a uses a compression that is not read"),
    shape_bomb: (RefusedFile, "/a claims 80000000 bytes but stores 0"),
    shape_bomb_of_pieces: (RefusedFile, r"all up to a\d+ claims 128000000 bytes but stores 0"),
    two_to_the_31: (RefusedFile, "/a claims 17179869192 bytes"),
    chunk_bomb: (RefusedFile, "/a claims 2147483648 bytes but stores 0"),
    item_bomb: (RefusedFile, "/a claims 805306368 bytes"),
    gzip_bomb: (RefusedFile, r"claims \d+ bytes but stores"),
    named_type: (RefusedFile, "/a is neither a group nor a dataset"),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("build", HOSTILE, ids=lambda build: build.__name__)
def test_hostile_hdf5(tmp_path, build, sealed):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as handle:
        build(handle)
    error, message = HOSTILE[build]
    if sealed:
        seal(path)
    with pytest.raises(InputError, match=message) as caught:
        if sealed:
            read_hdf5(path)
        else:
            with open_guarded(path):
                raise AssertionError("it was opened")
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_more_than_the_bytes_that_were_allowed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        handle["a"] = np.arange(1000.0)
    with open_guarded(tmp_path / "a.h5", limit_bytes=8000):
        pass
    with pytest.raises(RefusedFile, match="declares more than 7999 bytes"), open_guarded(tmp_path / "a.h5", 7999):
        pass


def test_more_objects_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "HDF5_OBJECT_LIMIT", 50)
    with h5py.File(tmp_path / "a.h5", "w") as handle:
        for i in range(51):
            handle.create_group(f"g{i}")
    with pytest.raises(RefusedFile, match="more than 50 objects"), open_guarded(tmp_path / "a.h5"):
        pass


def test_a_cycle_of_hard_links_is_walked_once(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as handle:
        handle["g/x"] = np.arange(3.0)
        handle["g/again"] = handle["g"]
        handle["g/root"] = handle["/"]
        handle["twice"] = handle["g/x"]
    seal(path)
    with open_guarded(path) as handle:
        assert "g" in handle
    arrays, _ = read_hdf5(path)
    assert len(arrays) == 1
    assert np.array_equal(next(iter(arrays.values())), np.arange(3.0))


def test_five_thousand_groups_deep(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as handle:
        group = handle
        for _ in range(5000):
            group = group.create_group("g")
        group["x"] = 1.0
    seal(path)
    arrays, _ = read_hdf5(path)
    assert list(arrays) == ["g/" * 5000 + "x"]


def test_a_large_attribute_is_not_read(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest", track_order=True) as handle:
        handle.attrs.create("a", np.zeros(100_000))
    seal(path)
    with pytest.raises(RefusedFile, match="attribute a is larger than 65536 bytes"):
        read_hdf5(path)


def test_a_dataset_without_values_is_no_array(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as handle:
        handle["nothing"] = h5py.Empty("f8")
        handle["x"] = 1.0
    seal(path)
    assert list(read_hdf5(path)[0]) == ["x"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable HDF5 file"),
        (b"\x89HDF\r\n\x1a\n", "not a readable HDF5 file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "not a readable HDF5 file"),
        (b"plain text\n" * 100, "not a readable HDF5 file"),
    ],
)
def test_not_hdf5(tmp_path, data, message):
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(FormatError, match=message) as caught, open_guarded(tmp_path / "a.h5"):
        pass
    assert "\n" not in str(caught.value)


def test_truncated(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as handle:
        handle["a"] = np.arange(1000.0)
    data = path.read_bytes()
    for size in (50, 500, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"not a readable HDF5 file|damaged HDF5 file"), open_guarded(path):
            pass


def test_no_file_a_folder_and_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path / "a", "no such file"), (tmp_path, "regular"), (tmp_path / "pipe", "regular")):
        with pytest.raises(InputError, match=message), open_guarded(path):
            pass


def _hold(folder, ready, release):
    with hold_folder(folder):
        ready.set()
        release.wait(30)


class TestHoldFolder:
    def test_it_is_made_with_its_parents(self, tmp_path):
        with hold_folder(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()

    def test_a_second_process_is_refused_until_the_first_ends(self, tmp_path):
        context = multiprocessing.get_context("spawn")
        ready, release = context.Event(), context.Event()
        other = context.Process(target=_hold, args=(tmp_path, ready, release))
        other.start()
        try:
            assert ready.wait(30)
            with pytest.raises(FolderInUse, match="another run is using this folder"), hold_folder(tmp_path):
                pass
        finally:
            other.kill()  # no time to clean up: the hold must end all the same
            other.join()
        with hold_folder(tmp_path):
            pass

    def test_a_second_hold_of_the_same_process_is_refused_too(self, tmp_path):
        with hold_folder(tmp_path), pytest.raises(FolderInUse), hold_folder(tmp_path):
            pass

    @pytest.mark.parametrize("folder", [NOT_A_FOLDER, Path("/proc/a"), Path("file"), Path("file/a")])
    def test_a_folder_that_cannot_be_written(self, tmp_path, folder):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(NotWritten, match="cannot be used as output folder"), hold_folder(tmp_path / folder):
            pass
        assert (tmp_path / "file").read_text() == "mine"
