"""Files built to break the commands: an exit code and one line, soon; never a traceback, a hang or a NaN."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.cli.main import main
from exactgrad.pulses.formats import list_formats, write_shape
from exactgrad.pulses.pulse import Pulse


def one_line(capsys, message: str) -> None:
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("error: ") and found.err.count("\n") == 1, found.err
    assert message in found.err


def plain_file(path):
    write_shape(path, Pulse.from_polar([1e-6] * 9, np.linspace(10, 100, 9), np.linspace(0, 6, 9)), "csv", title="t")


def no_file(path):
    pass


def folder(path):
    path.mkdir()


def pipe(path):
    os.mkfifo(path)


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


def link_to_itself(path):
    path.symlink_to(path)


def dangling_link(path):
    path.symlink_to(path.with_name("nowhere"))


def empty(path):
    path.write_bytes(b"")


def sparse_and_huge(path):
    with open(path, "wb") as handle:
        handle.truncate(50_000_000_000)


def truncated(path):
    path.write_text("##TITLE= cut\n##NPOINTS= 5\n##XYPOINTS= (XY..XY)\n50.0, 0.0\n50.0, 0.0\n")


def nan(path):
    path.write_text("##TITLE= nan\n##XYPOINTS= (XY..XY)\n50.0, 0.0\nnan, 0.0\n##END=\n")


def nan_in_csv(path):
    path.write_text("step_s,ux_hz,uy_hz\n1e-6,1,1\n1e-6,NaN,1\n")


def overflow(path):
    path.write_text("##TITLE= big\n##XYPOINTS= (XY..XY)\n1e999, 0.0\n##END=\n")


def overflow_in_csv(path):
    path.write_text("step_s,ux_hz,uy_hz\n1e-6,1e999,1\n")


def negative_step(path):
    path.write_text("step_s,ux_hz,uy_hz\n1e-6,1,1\n-1e-6,1,1\n")


def control_characters(path):
    path.write_text("##TITLE= \x1b[2J\x1b]0;owned\x07\n##XYPOINTS= (XY..XY)\n\x1b[31m, 0.0\n##END=\n")


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def hdf5_with_an_external_link(path):
    with h5py.File(path, "w") as handle:
        handle["ux_hz"] = h5py.ExternalLink("/etc/passwd", "/")


SHAPES = {
    no_file: "no such file",
    folder: "not a regular file",
    pipe: "not a regular file",
    link_to_a_device: "not a regular file",
    link_to_itself: "shape",
    dangling_link: "no such file",
    empty: "empty",
    sparse_and_huge: "larger than 67108864 bytes",
    truncated: "cut off",
    nan: ":4: ",
    nan_in_csv: ":3: ",
    overflow: ":3: ",
    overflow_in_csv: ":2: ",
    negative_step: "in row 2: must be > 0 s",
    control_characters: ":3: ",
    noise: "shape",
    hdf5_with_an_external_link: "shape",
}


@pytest.mark.parametrize("build", SHAPES, ids=lambda build: build.__name__)
class TestShapes:
    def test_evaluate(self, tmp_path, capsys, build):
        build(tmp_path / "shape")
        words = ["pulse", "evaluate", str(tmp_path / "shape"), "--target", "transfer:z,x", "--json"]
        assert main([*words, "--duration-us", "50", "--rf-max-hz", "1000"]) == 2
        one_line(capsys, SHAPES[build])

    def test_convert(self, tmp_path, capsys, build):
        build(tmp_path / "shape")
        words = ["pulse", "convert", str(tmp_path / "shape"), str(tmp_path / "b.csv"), "--json"]
        assert main([*words, "--duration-us", "50", "--rf-max-hz", "1000"]) == 2
        one_line(capsys, SHAPES[build])
        assert not (tmp_path / "b.csv").exists()

    def test_as_the_start_of_a_design(self, tmp_path, capsys, build):
        build(tmp_path / "shape")
        (tmp_path / "job.toml").write_text(
            "[pulse]\nduration_us = 50.0\nstep_us = 1.0\n[target]\nsaturation = 'z'\n[ensemble]\nbandwidth_hz = 0\n"
            "offsets = 1\n[solve]\nstart = 'shape'\n"
        )
        assert main(["pulse", "design", str(tmp_path / "job.toml"), "--out", str(tmp_path / "out"), "--json"]) == 2
        one_line(capsys, "shape")
        assert not (tmp_path / "out").exists()


NO_FOLDERS = ("/proc/version/out", "/proc/out", "/dev/null/out", "x" * 300)


@pytest.mark.parametrize("out", NO_FOLDERS)
def test_an_output_folder_that_cannot_be(tmp_path, capsys, out):
    (tmp_path / "job.toml").write_text(
        "[pulse]\nduration_us = 50.0\nstep_us = 1.0\n[target]\nsaturation = 'z'\n"
        "[ensemble]\nbandwidth_hz = 0\noffsets = 1\n"
    )
    assert main(["pulse", "design", str(tmp_path / "job.toml"), "--out", str(tmp_path / out)]) == 2
    one_line(capsys, out[:40])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "run.json is missing"),
        (lambda path: path.write_text("mine"), "no such folder"),
        (lambda path: (path.mkdir(), (path / "run.json").mkdir()), "run.json"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text('{"system": "pulses"}')), "not the description"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text('{"system": "plumbing"}')), "plumbing"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text('{"system": 3}')), "system"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("[" * 90_000)), "run.json"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, capsys, make, message):
    make(tmp_path / "out")
    assert main(["resume", str(tmp_path / "out"), "--json"]) == 2
    one_line(capsys, message)


@pytest.mark.skipif(sys.platform != "linux", reason="the address space can be limited on Linux only")
def test_a_huge_job_is_refused_in_little_memory(tmp_path):
    """What is refused was not allocated first: 3 GB of address space hold the libraries and no more."""
    (tmp_path / "job.toml").write_text(
        "[pulse]\nduration_us = 1e6\nstep_us = 1.0\n[target]\ntransfer = ['z', 'x']\n[ensemble]\nbandwidth_hz = 100.0\n"
        "offsets = 3\n[solve]\nstarts = 100000\nmemory = 1000\n"
    )
    limit = 3 * 1024**3
    words = ["pulse", "design", str(tmp_path / "job.toml"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "exactgrad.cli.main", *words],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "solve.starts = 100000, solve.memory = 1000: the search would take" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data(), name=st.sampled_from(sorted(set(list_formats()) - {"pulseq"})))
def test_a_file_with_any_bytes_changed_gives_numbers_or_one_line(tmp_path_factory, data, name):
    """Through the whole command, so that nothing that a reader lets pass breaks what comes after it."""
    home = tmp_path_factory.mktemp("any")
    path = home / f"a{list_formats()[name].suffix}"
    write_shape(path, Pulse.from_polar([1e-6] * 9, np.linspace(10, 100, 9), np.linspace(0, 6, 9)), name, title="t")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.one_of(st.sampled_from(b"0123456789.eE+-, \n#"), st.integers(0, 255)))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    path.write_bytes(bytes(content))
    words = ["pulse", "evaluate", str(path), "--target", "transfer:z,x", "--format", name, "--json"]
    words += ["--duration-us", "9", "--rf-max-hz", "1e14" if data.draw(st.booleans()) else "1e4"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(words)
    if code == 0:
        assert all(math.isfinite(value) for value in json.loads(out.getvalue()).values() if isinstance(value, float))
        assert "null" not in out.getvalue()  # which stands for NaN
    else:
        assert code == 2 and out.getvalue() == ""
        assert err.getvalue().startswith("error: ") and err.getvalue().count("\n") == 1
