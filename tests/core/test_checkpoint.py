"""A checkpoint is whole or refused, the one before it stands in for a damaged one, and it serves its own job only."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import partial

import numpy as np
import pytest

from exactgrad.core import checkpoint, lbfgs
from exactgrad.core.checkpoint import NAME, PREVIOUS, job_hash, save
from exactgrad.core.solve import Budget, Search, Stage, Stop, run
from exactgrad.errors import FormatError, InputError, NotWritten
from exactgrad.files import read_hdf5, write_hdf5

load = partial(checkpoint.load, build=Search.from_arrays)


class Valley:
    """Rosenbrock's valley in n dimensions: hundreds of iterations for L-BFGS, microseconds each."""

    def __init__(self, size=6):
        self.size = size

    def start(self, seed=0):
        return np.random.default_rng(seed).normal(size=self.size)

    def value_and_gradient(self, x):
        a, b = x[:-1], x[1:]
        gradient = np.zeros_like(x)
        gradient[:-1] = -400 * a * (b - a * a) - 2 * (1 - a)
        gradient[1:] += 200 * (b - a * a)
        return float(np.sum(100 * (b - a * a) ** 2 + (1 - a) ** 2)), gradient

    def penalty_and_gradient(self, x):
        return 0.0, np.zeros_like(x)

    def limit_threads(self, threads):
        pass

    def off_kink(self, x):
        return None


def stages(iterations=60):
    return [Stage(Valley(), iterations)]


def begun(starts=3):
    return Search.begin([Valley().start(seed) for seed in range(starts)])


def stopped_after(iterations, search=None):
    """A search that was stopped in the middle."""
    stop, events = Stop(), []

    def listen(event):
        events.append(event)
        if len(events) == iterations:
            stop.set()

    return run(stages(), begun() if search is None else search, Budget(threads=1), stop, listen).search


def equal(one: Search, two: Search) -> bool:
    a, b = one.to_arrays(), two.to_arrays()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("search", [begun(), stopped_after(1), stopped_after(40)], ids=["begun", "first", "middle"])
def test_what_is_loaded_is_what_was_saved(tmp_path, search):
    save(tmp_path, search, "job")
    found = load(tmp_path, "job")
    assert equal(found, search)
    for state, other in zip(search.states, found.states, strict=True):
        for item in fields(lbfgs.State) if state else ():
            assert np.array_equal(getattr(state, item.name), getattr(other, item.name))


@pytest.mark.parametrize("iterations", [1, 7, 30, 61, 100, 130])
def test_a_search_that_was_stopped_saved_and_loaded_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path, iterations):
    expected = run(stages(), begun(), Budget(threads=1))
    save(tmp_path, stopped_after(iterations), "job")
    result = run(stages(), load(tmp_path, "job"), Budget(threads=2))
    assert np.array_equal(result.x, expected.x)
    assert result.loss == expected.loss
    assert (result.iterations, result.evaluations) == (expected.iterations, expected.evaluations)
    assert all(np.array_equal(a, b) for a, b in zip(result.histories, expected.histories, strict=True))


def test_no_checkpoint_at_all(tmp_path):
    assert load(tmp_path, "job") is None


def test_the_one_before_is_kept(tmp_path):
    first, second, third = (stopped_after(n) for n in (2, 5, 9))
    for search in (first, second, third):
        save(tmp_path, search, "job")
    assert sorted(os.listdir(tmp_path)) == [NAME, PREVIOUS]
    assert equal(load(tmp_path, "job"), third)
    (tmp_path / NAME).unlink()
    assert equal(load(tmp_path, "job"), second)


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = b""
    elif how == "flipped":
        data[len(data) // 3] ^= 16
    elif how == "text":
        data = b"not HDF5\n" * 100
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped", "text"])
class TestDamaged:
    def test_the_one_before_it_is_used(self, tmp_path, how):
        before, after = stopped_after(4), stopped_after(8)
        save(tmp_path, before, "job")
        save(tmp_path, after, "job")
        damage(tmp_path / NAME, how)
        assert equal(load(tmp_path, "job"), before)

    def test_it_never_takes_the_place_of_the_whole_one(self, tmp_path, how):
        before, after = stopped_after(4), stopped_after(8)
        save(tmp_path, before, "job")
        save(tmp_path, after, "job")
        damage(tmp_path / NAME, how)
        save(tmp_path, load(tmp_path, "job"), "job")
        damage(tmp_path / NAME, how)  # the new one too
        assert equal(load(tmp_path, "job"), before)

    def test_both_damaged_is_one_line(self, tmp_path, how):
        for n in (4, 8):
            save(tmp_path, stopped_after(n), "job")
        damage(tmp_path / NAME, how)
        damage(tmp_path / PREVIOUS, how)
        with pytest.raises(FormatError, match=f"{NAME}: damaged or cut off") as caught:
            load(tmp_path, "job")
        assert "\n" not in str(caught.value)


def test_half_written_files_are_not_looked_at(tmp_path):
    search = stopped_after(4)
    save(tmp_path, search, "job")
    os.replace(tmp_path / NAME, tmp_path / f".{NAME}.tmp-123.h5")
    assert load(tmp_path, "job") is None


def test_another_job_is_refused_and_the_file_stays(tmp_path):
    save(tmp_path, stopped_after(4), "job")
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(InputError, match=f"{NAME}: belongs to another job; choose another output folder"):
        load(tmp_path, "another job")
    assert (tmp_path / NAME).read_bytes() == before


def rewrite(folder, arrays=None, **attributes):
    """Write a checkpoint that is whole, but not what it should be."""
    found, marks = read_hdf5(folder / NAME)
    found = arrays(found) if arrays else found
    write_hdf5(folder / NAME, found, {k: v for k, v in {**marks, **attributes}.items() if v is not None}, True)


def test_a_newer_schema_is_refused(tmp_path):
    save(tmp_path, stopped_after(4), "job")
    rewrite(tmp_path, schema=checkpoint.SCHEMA + 1)
    with pytest.raises(InputError, match=r"written by a newer version \(schema 2, known: 1\)"):
        load(tmp_path, "job")


WRONG = {
    "no schema": {"schema": None},
    "a schema that is no number": {"schema": "1"},
    "no counts": {"arrays": lambda found: {k: v for k, v in found.items() if k != "counts"}},
    "two counts": {"arrays": lambda found: {**found, "counts": found["counts"][:2]}},
    "more members than there are": {"arrays": lambda found: {**found, "counts": np.array([9, 0, 0])}},
    "a member without its value": {
        "arrays": lambda found: {k: v for k, v in found.items() if not k.endswith("state/value")}
    },
    "an unknown status": {
        "arrays": lambda found: {k: ("HAPPY" if k.endswith("status") else v) for k, v in found.items()}
    },
    "a table for a number": {"arrays": lambda found: {**found, "seconds": np.eye(3)}},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_whole_file_that_is_no_checkpoint_is_refused(tmp_path, case):
    save(tmp_path, stopped_after(4), "job")
    rewrite(tmp_path, **WRONG[case])
    with pytest.raises(FormatError, match=r"not a checkpoint") as caught:
        load(tmp_path, "job")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(NotWritten, match="cannot be written"):
        save(tmp_path / "missing", begun(), "job")


def test_a_failed_write_leaves_one_that_loads(tmp_path, monkeypatch):
    kept = stopped_after(4)
    save(tmp_path, kept, "job")

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(NotWritten, match="No space left on device"):
        save(tmp_path, stopped_after(8), "job")
    assert equal(load(tmp_path, "job"), kept)


def test_discard_removes_both(tmp_path):
    for n in (2, 3):
        save(tmp_path, stopped_after(n), "job")
    checkpoint.discard(tmp_path)
    assert os.listdir(tmp_path) == []
    checkpoint.discard(tmp_path)


def test_the_hash_is_of_the_text():
    assert job_hash("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # FIPS 180-4
