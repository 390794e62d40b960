"""Files built to do harm, and files cut or damaged: one line, in a moment, and never a crash or a huge allocation."""

from __future__ import annotations

import os
import resource

import h5py
import numpy as np
import pytest

from exactgrad.errors import ExactgradError, InputError, RefusedFile
from exactgrad.tomography import formats
from exactgrad.tomography.compare import compare
from exactgrad.tomography.evaluate import evaluate
from exactgrad.tomography.formats import load, result
from exactgrad.tomography.info import describe

J, K, S = 3, 4, 2


def sound(path):
    with h5py.File(path, "w") as handle:
        handle["detector_angles"] = [0.0, 1.0]
        handle["volume_shape"] = [3, 3, 4]
        for i in range(2):
            handle[f"projections/{i}/data"] = np.ones((J, K, S), np.float32)
            handle[f"projections/{i}/diode"] = np.ones((J, K))
    return path


def external_link(handle, path):
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as secret:
        secret["data"] = np.ones((J, K, S))
    del handle["projections/1/data"]
    handle["projections/1/data"] = h5py.ExternalLink(str(other), "/data")


def external_projection(handle, path):
    handle["projections/2"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(handle, path):
    handle["projections/1/weights"] = h5py.SoftLink("/projections/0/data")


def external_storage(handle, path):
    del handle["projections/0/diode"]
    handle.create_dataset("projections/0/diode", (J, K), "f8", external=[("/etc/passwd", 0, J * K * 8)])


def virtual(handle, path):
    layout = h5py.VirtualLayout((J, K, S), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", (J, K, S))
    del handle["projections/0/data"]
    handle.create_virtual_dataset("projections/0/data", layout)


def shape_bomb(handle, path):
    del handle["projections/0/data"]
    handle.create_dataset("projections/0/data", (100_000, 100_000, S), "f4", chunks=(100, 100, S))


def gzip_bomb(handle, path):
    del handle["projections/0/data"]
    bomb = handle.create_dataset(
        "projections/0/data", (40_000, 4_000, S), "f4", chunks=(2000, 1000, S), compression="gzip"
    )
    bomb[:2000, :1000] = 0


def many_small_bombs(handle, path):
    for i in range(2, 400):
        handle.create_dataset(f"projections/{i}/data", (1000, 1000, S), "f4", chunks=(100, 100, S))


def cycle(handle, path):
    handle["projections/0/again"] = handle["projections"]


def cycle_for_a_projection(handle, path):
    handle["projections/2"] = handle["projections"]


def text_for_data(handle, path):
    del handle["projections/0/data"]
    handle.create_dataset("projections/0/data", data=["a", "b"])


def reference(handle, path):
    del handle["projections/0/data"]
    handle["projections/0/data"] = np.array([handle.ref] * 2, dtype=h5py.ref_dtype)


def complex_numbers(handle, path):
    del handle["projections/0/data"]
    handle["projections/0/data"] = np.ones((J, K, S), complex)


def no_values(handle, path):
    del handle["projections/0/data"]
    handle["projections/0/data"] = h5py.Empty("f4")


def projections_is_data(handle, path):
    del handle["projections"]
    handle["projections"] = 1.0


def projection_is_data(handle, path):
    del handle["projections/1"]
    handle["projections/1"] = 1.0


def angles_is_a_group(handle, path):
    del handle["detector_angles"]
    handle.create_group("detector_angles")


def a_million_angles(handle, path):
    del handle["detector_angles"]
    handle["detector_angles"] = np.zeros(1_000_000)


def volume_bomb(handle, path):
    handle["volume_shape"][...] = [2**20, 2**20, 2**20]


def infinite_volume(handle, path):
    del handle["volume_shape"]
    handle["volume_shape"] = [np.inf, 3, 3]


def huge_attribute(handle, path):
    handle["q"] = [1.0]
    handle["q"].attrs["units"] = np.bytes_(b"x" * 60_000)


HOSTILE = [
    external_link,
    external_projection,
    soft_link,
    external_storage,
    virtual,
    shape_bomb,
    gzip_bomb,
    many_small_bombs,
    cycle_for_a_projection,
    text_for_data,
    reference,
    complex_numbers,
    no_values,
    projections_is_data,
    projection_is_data,
    angles_is_a_group,
    a_million_angles,
    volume_bomb,
    infinite_volume,
]


def spoiled(tmp_path, spoil):
    path = sound(tmp_path / "data.h5")
    with h5py.File(path, "a") as handle:
        spoil(handle, path)
    return path


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda f: f.__name__)
def test_refused_in_one_line_without_the_memory(tmp_path, spoil):
    path = spoiled(tmp_path, spoil)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for reader in (load, describe, lambda p: load(p, memory_bytes=0)):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB; the bombs are 600 MB and more


@pytest.mark.parametrize("spoil", [external_link, virtual, external_storage, shape_bomb])
def test_the_worst_are_refused_as_such(tmp_path, spoil):
    with pytest.raises(RefusedFile):
        load(spoiled(tmp_path, spoil))


def test_what_nobody_asks_for_may_be_anything(tmp_path):
    """Beamlines leave notes and links in their files; they are not opened, so they can do no harm."""
    os.mkfifo(tmp_path / "pipe")  # whoever opens it waits for ever
    path = sound(tmp_path / "data.h5")
    with h5py.File(path, "a") as handle:
        handle["sample"] = "a bone"  # text of any length
        handle["projections/0/comment"] = "first"
        handle["raw"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/data")
        handle.create_dataset("huge", (10**6, 10**6), "f8", chunks=(100, 100))
        handle["projections/1/raw"] = h5py.SoftLink("/nowhere")
    assert describe(path)["projections"] == 2


def test_a_link_to_a_pipe_is_refused_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    path = sound(tmp_path / "data.h5")
    with h5py.File(path, "a") as handle:
        handle["projections/0/weights"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/data")
    with pytest.raises(RefusedFile, match="projections/0/weights is a soft or external link"):
        load(path)


def test_a_cycle_that_nothing_reads_does_no_harm(tmp_path):
    assert load(spoiled(tmp_path, cycle)).shape == (2, J, K, S)


def test_a_unit_that_is_too_long_is_left_out(tmp_path):
    assert load(spoiled(tmp_path, huge_attribute)).q_unit == ""


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_off(tmp_path, part):
    path = sound(tmp_path / "data.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError):
        load(path)


def test_bytes_overwritten_anywhere_give_an_answer_or_one_line(tmp_path):
    path = sound(tmp_path / "data.h5")
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(400):
        spoilt = bytearray(content)
        at = int(random.integers(0, len(content)))
        spoilt[at : at + 8] = random.bytes(8)
        path.write_bytes(bytes(spoilt))
        try:
            (data,) = formats.read(path).datasets
            assert all(np.isfinite(part).all() for part in data.projection(0))
        except ExactgradError as error:
            assert "\n" not in str(error)


class TestOtherFiles:
    """Parameters, results and truths come from strangers too."""

    @pytest.fixture
    def fields(self, tmp_path):
        def make(**changes):
            one = np.ones((3, 3, 4))
            content = {"A": one, "B": one, "theta_op": one, "phi_op": one} | changes
            with h5py.File(tmp_path / "p.h5", "w") as handle:
                for name, value in content.items():
                    if value is not None:
                        handle[name] = value
            return tmp_path / "p.h5"

        return make

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"B": None}, "p.h5: B: missing"),
            ({"theta_op": None}, "p.h5: theta_op: missing"),
            ({"A": np.ones((3, 3))}, r"A: shape \(3, 3\) where \(any, any, any\)"),
            ({"B": np.ones((3, 4, 3))}, r"B: shape \(3, 4, 3\) where \(3, 3, 4\)"),
            ({"phi_op": np.full((3, 3, 4), np.nan)}, r"phi_op\[0, 0, 0\] = nan"),
            ({"A": h5py.ExternalLink("other.h5", "/A")}, "external link"),
            ({name: np.ones((2, 2, 2)) for name in ("A", "B", "theta_op", "phi_op")}, r"A: shape \(2, 2, 2\) where"),
        ],
    )
    def test_parameters(self, tmp_path, fields, changes, message):
        data = sound(tmp_path / "data.h5")
        with pytest.raises(InputError, match=message) as caught:
            evaluate(data, fields(**changes), tmp_path / "gradient.h5")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "gradient.h5").exists()

    def test_a_shape_bomb_for_a_truth(self, tmp_path, fields):
        path = fields(A=None)
        with h5py.File(path, "a") as handle:
            handle.create_dataset("A", (4000, 4000, 4000), "f8", chunks=(10, 10, 10))
        for reader in (result.read_truth, result.read, result.read_parameters):
            with pytest.raises(RefusedFile):
                reader(path)
        with pytest.raises(InputError):
            compare(path, path)


def test_a_damaged_file_closes_its_handle(tmp_path):
    """A handle left open would lock the file, and run a process out of descriptors."""
    path = spoiled(tmp_path, no_values)
    for _ in range(3):
        with pytest.raises(InputError):
            formats.read(path)
    with h5py.File(path, "a") as handle:
        handle["free"] = 1
