"""Files that fuzzing found, each read or refused in a line for good; a short seeded run; planted bugs to be found."""

import time
from pathlib import Path

import fuzz_targets
import numpy as np
import pytest
from reader_fuzz import complaint_about, fuzz

from exactgrad.errors import FormatError, InputError

FOUND = sorted((Path(__file__).parents[1] / "data" / "fuzz").iterdir())
READERS = fuzz_targets.READERS


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_is_read_or_refused(path):
    assert path.stat().st_size < 10_000
    assert complaint_about(READERS[path.name.partition("-")[0]], path) == ""


@pytest.mark.parametrize("name", READERS)
def test_the_files_to_begin_with_are_read(name, tmp_path):
    for content in fuzz_targets.seeds(name)[
        : len(fuzz_targets.seeds(name)) - sum(f.name.startswith(name) for f in FOUND)
    ]:
        (tmp_path / "a").write_bytes(content)
        READERS[name](tmp_path / "a")


@pytest.mark.parametrize("name", READERS)
def test_a_short_run_finds_nothing(name, tmp_path):
    seeds = fuzz_targets.seeds(name)
    for content in seeds:
        (tmp_path / "a").write_bytes(content)
        complaint_about(READERS[name], tmp_path / "a")
    findings, runs, pairs = fuzz(READERS[name], seeds, tmp_path / "a", seed=3, runs=60)
    assert findings == {} and runs == 60
    assert pairs > 30  # it does reach the reader


# -- what it would find -----------------------------------------------------------------------------------------------


def behind_three_doors(path):
    """Goes wrong only for a file that begins with three small letters."""
    data = path.read_bytes()
    if not b"a" <= data[0:1] <= b"z":
        raise FormatError(f"{path}: no first letter")
    if not b"a" <= data[1:2] <= b"z":
        raise FormatError(f"{path}: no second letter")
    if not b"a" <= data[2:3] <= b"z":
        raise FormatError(f"{path}: no third letter")
    raise KeyError("behind three doors")


def test_coverage_guides_the_search(tmp_path):
    arguments = [bytes(8)], tmp_path / "a", 2
    watched = ("test_fuzz_readers.py",)
    guided, _, pairs = fuzz(behind_three_doors, *arguments, runs=500, watched=watched)
    assert list(guided) == ["KeyError: 'behind three doors'"] and pairs >= 6
    blind, _, _ = fuzz(behind_three_doors, *arguments, runs=500, watched=watched, guided=False)
    assert blind == {}


def test_the_same_seed_gives_the_same_files(tmp_path):
    runs = []
    for _ in range(2):
        contents = []
        fuzz(READERS["stol"], fuzz_targets.seeds("stol"), tmp_path / "a", 5, 100, before_each=contents.append)
        runs.append(contents)
    assert runs[0] == runs[1] and len(set(runs[0])) > 60


def raises(error):
    def read(path):
        raise error

    return read


def hangs(path):
    while True:
        time.sleep(0.01)


def test_a_hang_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("reader_fuzz.SLOWEST_S", 0.2)
    assert complaint_about(hangs, tmp_path / "a") == "took more than 0.2 s"


def test_a_large_allocation_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("reader_fuzz.LARGEST_BYTES", 16 << 20)
    assert "MiB" in complaint_about(lambda path: np.ones(1 << 23), tmp_path / "a")
    assert complaint_about(lambda path: np.ones(1 << 20), tmp_path / "a") == ""


def test_what_a_reader_must_not_do(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    silent = InputError("x")
    silent.args = ("two\nlines",)
    for read, complaint in (
        (raises(FormatError("bad")), ""),
        (raises(silent), "not one line"),
        (raises(InputError("")), "not one line"),
        (raises(OSError("bad")), "OSError: bad"),
        (raises(MemoryError()), "MemoryError"),
        (lambda path: np.array([1e19]).astype(np.int64), "RuntimeWarning"),
    ):
        assert complaint in complaint_about(read, tmp_path / "a")
        assert complaint or complaint_about(read, tmp_path / "a") == ""
