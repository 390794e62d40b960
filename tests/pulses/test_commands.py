"""The commands as processes: killed, interrupted, run twice, out of disk; nothing is lost and nothing half-written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exactgrad.cli.main import main
from exactgrad.errors import FormatError
from exactgrad.files import SEAL_BYTES, read_hdf5

JOB = """
[pulse]
duration_us = 300.0
step_us = 2.0
[target]
transfer = ["z", "x"]
[ensemble]
bandwidth_hz = 8000.0
offsets = 11
b1_spread = 0.1
b1_points = 3
[limits]
peak_hz = 6000.0
[solve]
starts = 3
max_iterations = 40
seed = 7
[output]
figures = false
"""
TINY = """
[pulse]
duration_us = 60.0
step_us = 4.0
[target]
transfer = ["z", "x"]
[ensemble]
bandwidth_hz = 2000.0
offsets = 3
[solve]
starts = 1
max_iterations = 2
[output]
figures = false
"""
# The command line, with a checkpoint after every iteration, and a word on stdout when the search begins; another when a
# signal has been heard in the pause after that: what comes next acts as ever. (Started in the background, a shell's
# commands ignore SIGINT, and so would these tests' processes.)
RUNNER = """
import functools, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from exactgrad.pulses import design
design.Budget = functools.partial(design.Budget, checkpoint_every_s=0.0)
if {announce!r}:
    begun = getattr(design, {announce!r})
    def announced(*given, **named):
        end, said = time.monotonic() + {pause}, False
        print("ready", flush=True)
        while time.monotonic() < end:
            time.sleep(min(0.02, {pause}))
            if not said and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                said = not print("heard", flush=True)
        return begun(*given, **named)
    setattr(design, {announce!r}, announced)
from exactgrad.cli.main import main
sys.exit(main())
"""


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_goes_on():
    """A test that failed leaves no process behind."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
        process.communicate()


def command(*words, announce="run", pause=0.0, before="") -> subprocess.Popen:
    """Start the command line as a process of its own."""
    script = before + RUNNER.format(announce=announce, pause=pause)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    STARTED.append(process)
    return process


def ready(process: subprocess.Popen) -> None:
    assert process.stdout.readline() == "ready\n", process.stderr.read()


def kill(process: subprocess.Popen) -> int:
    process.kill()
    process.communicate()
    return process.returncode


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def resumed(folder) -> int:
    """Resume in this process."""
    return main(["resume", str(folder)])


def x_of(folder) -> bytes:
    return read_hdf5(folder / "result.h5")[0]["x"].tobytes()


def summary_of(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def content(folder) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


def assert_whole(folder) -> None:
    """Every file that has its name is complete."""
    for name in os.listdir(folder):
        if ".tmp-" in name or name == ".lock":
            continue
        path = folder / name
        if path.suffix in (".h5", ".1"):
            read_hdf5(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pk":
            assert path.read_text().endswith("##END=\n")
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The job's folder, and its run folder after a run that nothing disturbed."""
    home = tmp_path_factory.mktemp("home")
    (home / "job.toml").write_text(JOB)
    (home / "tiny.toml").write_text(TINY)
    assert main(["pulse", "design", str(home / "job.toml"), "--out", str(home / "out")]) == 3
    assert main(["pulse", "design", str(home / "tiny.toml"), "--out", str(home / "tiny")]) == 3
    return home


# Children of one process that has loaded everything: what they do is done soon, and a kill is a kill.
CHILDREN = """
import functools, os, random, signal, sys, time
from pathlib import Path
from exactgrad.cli.main import main
from exactgrad.pulses import design
design.Budget = functools.partial(design.Budget, checkpoint_every_s=0.0)
kind, job, base = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def child(work):
    number = os.fork()
    if number:
        return number
    code = 99
    try:
        code = work()
    finally:
        os._exit(code)

def run(*words):
    return lambda: main([*map(str, words), "--json"])

def finish(folder):
    words = ("resume", folder) if (folder / "run.json").exists() else ("pulse", "design", job, "--out", folder)
    assert os.waitstatus_to_exitcode(os.waitpid(child(run(*words)), 0)[1]) == 3, folder

def at_random_moments():
    rng, killed, attempt = random.Random(20261121), 0, 0
    began = time.monotonic()
    finish(base / "whole")
    span = time.monotonic() - began
    while killed < 8:
        attempt += 1
        assert attempt < 40
        folder = base / f"run{attempt}"
        number = child(run("pulse", "design", job, "--out", folder))
        time.sleep(rng.uniform(0, span))
        os.kill(number, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(number, 0)[1]):
            killed += 1
            finish(folder)
    return killed

def mortal(left, function, half=None):
    def acting(*given):
        left[0] -= 1
        if left[0] < 0:
            if half:
                half(*given)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given)
    return acting

def doomed(act, folder):
    left, write = [act], Path.write_bytes
    Path.write_bytes = mortal(left, write, lambda path, data: write(path, bytes(data)[: len(data) // 2]))
    os.fsync, os.replace = mortal(left, os.fsync), mortal(left, os.replace)
    return run("pulse", "design", job, "--out", folder)()

def at_every_act():
    for act in range(400):
        folder = base / f"run{act}"
        status = os.waitpid(child(lambda: doomed(act, folder)), 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 3
            return act
        finish(folder)

main(["pulse", "design", job, "--out", str(base / "warm"), "--threads", "1", "--json"])
print("killed", at_random_moments() if kind == "random" else at_every_act())
"""


def killed_children(kind: str, job: Path, folder: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, kind, str(job), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1].removeprefix("killed "))


class TestKill:
    def test_at_eight_random_moments(self, uninterrupted, tmp_path):
        assert killed_children("random", uninterrupted / "job.toml", tmp_path) == 8
        for folder in tmp_path.glob("run*"):
            assert_as_uninterrupted(folder, uninterrupted / "out")

    def test_at_every_write_sync_and_rename(self, uninterrupted, tmp_path):
        """Each is the last act of a run once; half a write counts as one."""
        assert killed_children("acts", uninterrupted / "tiny.toml", tmp_path) >= 40
        for folder in tmp_path.glob("run*"):
            assert_as_uninterrupted(folder, uninterrupted / "tiny")

    def test_again_and_again(self, uninterrupted, tmp_path):
        """The command line itself, and each time what it resumes."""
        out = tmp_path / "out"
        words = ["pulse", "design", uninterrupted / "job.toml", "--out", out]
        for pause in (0.05, 0.0, 0.15):
            process = command(*words)
            ready(process)
            time.sleep(pause)
            assert kill(process) == -signal.SIGKILL
            assert not (out / "summary.json").exists()
            assert_whole(out)
            words = ["resume", out]
        assert resumed(out) == 3
        assert_as_uninterrupted(out, uninterrupted / "out")

    def test_before_the_run_began(self, uninterrupted, tmp_path):
        words = ["pulse", "design", uninterrupted / "job.toml", "--out", tmp_path / "out"]
        process = command(*words, announce="begun", pause=20.0)
        ready(process)
        assert kill(process) == -signal.SIGKILL
        assert not (tmp_path / "out").exists()


def assert_as_uninterrupted(folder, whole) -> None:
    assert_whole(folder)
    assert x_of(folder) == x_of(whole)
    assert (folder / "pulse.csv").read_bytes() == (whole / "pulse.csv").read_bytes()
    found, expected = summary_of(folder), summary_of(whole)
    for key in ("status", "message", "loss", "quality", "iterations", "evaluations", "start"):
        assert found[key] == expected[key], key


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_the_best_pulse_is_kept_and_the_run_goes_on_from_there(self, uninterrupted, tmp_path, number, code):
        out = tmp_path / "out"
        process = command("pulse", "design", uninterrupted / "job.toml", "--out", out, "--json")
        ready(process)
        process.send_signal(number)
        returned, stdout, stderr = ended(process)
        assert returned == code, stderr
        summary = json.loads(stdout)
        assert summary == summary_of(out)
        assert (summary["status"], summary["signal"]) == ("interrupted", number.name)
        assert summary["message"] == "interrupted; the best result so far was kept"
        assert [Path(path).name for path in summary["pulse_files"]] == ["pulse.pk", "pulse.csv"]
        assert summary["iterations"] < summary_of(uninterrupted / "out")["iterations"]
        assert_whole(out)
        assert resumed(out) == 3
        assert_as_uninterrupted(out, uninterrupted / "out")
        assert "signal" not in summary_of(out)

    def test_a_signal_while_results_are_written_waits_for_them(self, uninterrupted, tmp_path):
        out = tmp_path / "out"
        process = command("pulse", "design", uninterrupted / "tiny.toml", "--out", out, announce="finish", pause=0.5)
        ready(process)
        process.send_signal(signal.SIGINT)
        returned, _, stderr = ended(process)
        assert returned == 3, stderr
        assert x_of(out) == x_of(uninterrupted / "tiny")

    def test_a_second_signal_ends_it_at_once_and_the_run_can_be_resumed(self, uninterrupted, tmp_path):
        out = tmp_path / "out"
        process = command(
            "pulse", "design", uninterrupted / "tiny.toml", "--out", out, "--json", announce="finish", pause=20.0
        )
        ready(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "heard\n"  # two pending signals would count as one
        process.send_signal(signal.SIGINT)
        returned, _, stderr = ended(process)
        assert returned == 130
        assert stderr == "error: interrupted\n"
        assert not (out / "summary.json").exists()
        assert resumed(out) == 3
        assert x_of(out) == x_of(uninterrupted / "tiny")

    def test_an_interrupted_resume(self, uninterrupted, tmp_path):
        out = tmp_path / "out"
        for words in (["pulse", "design", uninterrupted / "job.toml", "--out", out], ["resume", out]):
            process = command(*words)
            ready(process)
            process.send_signal(signal.SIGTERM)
            assert ended(process)[0] == 143
        assert resumed(out) == 3
        assert x_of(out) == x_of(uninterrupted / "out")


class TestBudgets:
    def test_time_used_up_is_3_and_the_rest_comes_with_more(self, uninterrupted, tmp_path):
        out = tmp_path / "out"
        job = str(uninterrupted / "job.toml")
        assert main(["pulse", "design", job, "--out", str(out), "--max-seconds", "0.001"]) == 3
        assert summary_of(out)["message"] == "the time budget was used up"
        assert_whole(out)
        assert main(["resume", str(out), "--max-seconds", "1000"]) == 3
        assert summary_of(out)["message"] == "the iteration budget was used up"
        assert x_of(out) == x_of(uninterrupted / "out")

    def test_resume_without_more_changes_nothing_of_the_pulse(self, uninterrupted, tmp_path):
        out = tmp_path / "out"
        assert main(["pulse", "design", str(uninterrupted / "tiny.toml"), "--out", str(out)]) == 3
        assert main(["resume", str(out)]) == 3
        assert x_of(out) == x_of(uninterrupted / "tiny")

    def test_another_number_of_threads_changes_no_bit(self, uninterrupted, tmp_path):
        out = tmp_path / "out"
        words = ["pulse", "design", str(uninterrupted / "job.toml"), "--out", str(out), "--threads", "1"]
        assert main([*words, "--max-seconds", "0.05"]) == 3
        assert main(["resume", str(out), "--max-seconds", "1000", "--threads", "3"]) == 3
        assert x_of(out) == x_of(uninterrupted / "out")


class TestDamagedCheckpoint:
    @pytest.fixture
    def stopped(self, uninterrupted, tmp_path):
        """A run folder with two checkpoints and no results."""
        out = tmp_path / "out"
        process = command("pulse", "design", uninterrupted / "job.toml", "--out", out)
        ready(process)
        while not (out / "checkpoint.h5.1").exists():
            time.sleep(0.005)
        kill(process)
        if not (out / "checkpoint.h5").exists():  # the kill came between two renames
            shutil.copy(out / "checkpoint.h5.1", out / "checkpoint.h5")
        return out

    def test_the_one_before_serves_as_well(self, uninterrupted, stopped):
        newest = stopped / "checkpoint.h5"
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 4
        newest.write_bytes(bytes(data))
        assert resumed(stopped) == 3
        assert x_of(stopped) == x_of(uninterrupted / "out")

    def test_none_that_is_whole_is_one_line(self, stopped, capsys):
        for path in stopped.glob("checkpoint.h5*"):
            path.write_bytes(path.read_bytes()[:-SEAL_BYTES])
        before = content(stopped)
        assert resumed(stopped) == 2
        assert_one_line(capsys.readouterr().err, "damaged or cut off")
        assert content(stopped) == before

    def test_a_checkpoint_of_another_job_is_refused(self, stopped, capsys):
        description = json.loads((stopped / "run.json").read_text())
        description["job"]["pulse"]["step_us"] = 4.0
        (stopped / "run.json").write_text(json.dumps(description))
        assert resumed(stopped) == 2
        assert_one_line(capsys.readouterr().err, "belongs to another job")


def assert_one_line(err: str, message: str) -> None:
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert message in err


class TestTwoRuns:
    def test_on_one_folder_at_once(self, uninterrupted, tmp_path, capsys):
        out = tmp_path / "out"
        first = command("pulse", "design", uninterrupted / "job.toml", "--out", out, pause=20.0)
        try:
            ready(first)
            before = content(out)
            assert main(["pulse", "design", str(uninterrupted / "job.toml"), "--out", str(out)]) == 2
            assert_one_line(capsys.readouterr().err, "holds an unfinished run")
            assert resumed(out) == 2
            assert_one_line(capsys.readouterr().err, "another run is using this folder")
            assert content(out) == before
        finally:
            kill(first)
        assert resumed(out) == 3

    def test_two_that_begin_together(self, uninterrupted, tmp_path):
        """One of them gets the folder, and it ends as if it had been alone."""
        words = ["pulse", "design", uninterrupted / "tiny.toml", "--out", tmp_path / "out"]
        both = [command(*words, announce="begun", pause=0.5) for _ in range(2)]
        results = sorted((ended(process) for process in both), key=lambda result: result[0])
        assert [code for code, _, _ in results] == [2, 3]
        assert results[0][2].startswith("error: ") and str(tmp_path / "out") in results[0][2]
        assert x_of(tmp_path / "out") == x_of(uninterrupted / "tiny")

    def test_on_a_folder_with_results(self, uninterrupted, tmp_path, capsys):
        before = content(uninterrupted / "tiny")
        assert main(["pulse", "design", str(uninterrupted / "tiny.toml"), "--out", str(uninterrupted / "tiny")]) == 2
        assert_one_line(capsys.readouterr().err, "holds the results of a run")
        assert content(uninterrupted / "tiny") == before


class TestFullDisk:
    @pytest.mark.parametrize("limit", [50, 400, 1500, 4000, 9000, 30_000])
    def test_it_is_one_line_and_what_is_there_is_whole(self, uninterrupted, tmp_path, limit, capsys):
        out = tmp_path / "out"
        before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        process = command(
            "pulse", "design", uninterrupted / "tiny.toml", "--out", out, "--json", announce="", before=before
        )
        code, stdout, stderr = ended(process)
        assert (code, stdout) == (2, "")
        assert_one_line(stderr, "cannot be written: File too large")
        assert not (out / "summary.json").exists()
        assert not [name for name in os.listdir(out) if ".tmp-" in name]
        assert_whole(out)
        if (out / "run.json").exists():  # then there is room again
            assert resumed(out) == 3
        else:
            assert main(["pulse", "design", str(uninterrupted / "tiny.toml"), "--out", str(out)]) == 3
        assert x_of(out) == x_of(uninterrupted / "tiny")

    def test_convert(self, uninterrupted, tmp_path):
        before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        source, to = uninterrupted / "tiny" / "pulse.pk", tmp_path / "a.csv"
        code, stdout, stderr = ended(command("pulse", "convert", source, to, announce="", before=before))
        assert (code, stdout) == (2, "")
        assert_one_line(stderr, f"{to}: cannot be written: File too large")
        assert os.listdir(tmp_path) == []


class TestJson:
    def test_design(self, uninterrupted, tmp_path):
        """As the installed module, and with nothing else on stdout."""
        words = ["pulse", "design", uninterrupted / "tiny.toml", "--out", tmp_path / "out", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "exactgrad.cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
        assert done.stdout.count("\n") == 1
        assert json.loads(done.stdout) == summary_of(tmp_path / "out")

    def test_without_it_stdout_is_empty(self, uninterrupted, tmp_path, capsys):
        pulse = str(uninterrupted / "tiny" / "pulse.pk")
        job, out = str(uninterrupted / "tiny.toml"), str(tmp_path / "out")
        for words, code in (
            (["pulse", "design", job, "--out", out], 3),
            (["resume", out], 3),
            (["pulse", "evaluate", pulse, "--target", "transfer:z,x"], 0),
            (["pulse", "convert", pulse, str(tmp_path / "a.csv")], 0),
        ):
            assert main(words) == code
            found = capsys.readouterr()
            assert found.out == ""
            assert found.err

    def test_resume_evaluate_convert(self, uninterrupted, tmp_path, capsys):
        pulse = str(uninterrupted / "tiny" / "pulse.pk")
        for words, name in (
            (["resume", str(uninterrupted / "tiny")], "design"),
            (["pulse", "evaluate", pulse, "--target", "transfer:z,x"], "evaluate"),
            (["pulse", "convert", pulse, str(tmp_path / "a.csv")], "convert"),
        ):
            main([*words, "--json"])
            out = capsys.readouterr().out
            assert out.count("\n") == 1
            found = json.loads(out)
            assert (found["system"], found["command"]) == ("pulses", name)
            assert found["version"] and found["status"] and found["message"]

    def test_a_wrong_job_leaves_stdout_empty(self, tmp_path, capsys):
        (tmp_path / "job.toml").write_text(TINY.replace("step_us = 4.0", "step_us = 7.0"))
        assert main(["pulse", "design", str(tmp_path / "job.toml"), "--out", str(tmp_path / "out"), "--json"]) == 2
        found = capsys.readouterr()
        assert found.out == ""
        assert_one_line(found.err, "pulse.step_us = 7 us")


def test_assert_whole_would_see_a_half_written_file(tmp_path):
    """The check that the tests above rest on."""
    for name, data in (("a.h5", b"\x89HDF"), ("a.json", b"{"), ("a.pk", b"##TITLE="), ("a.html", b"<html>")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises((FormatError, ValueError, AssertionError)):
            assert_whole(tmp_path)
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / name).unlink()
