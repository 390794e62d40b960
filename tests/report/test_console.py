"""The console: what goes where, on how many lines, and that no text steers the terminal."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.core.solve import Event
from exactgrad.report import console


class Terminal(io.StringIO):
    """A stderr that claims to be watched."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "60", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)  # pytest puts its own back before the test runs
    watched = console._console.__wrapped__()
    watched.file = screen
    monkeypatch.setattr(console, "_console", lambda width=None: watched)
    return watched.file


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(console, "monotonic", lambda: now.s)
    return now


def event(iteration=1, start=1, starts=1, max_iterations=100, seconds=1.0, phase=""):
    return SimpleNamespace(
        start=start,
        starts=starts,
        iteration=iteration,
        max_iterations=max_iterations,
        best_loss=0.25,
        seconds=seconds,
        phase=phase,
    )


def test_importing_is_cheap():
    code = "import sys, exactgrad.report.console; print([m for m in ('rich', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_json_is_one_strict_line_on_stdout(capsys):
    console.say("prose")
    console.print_json(
        {
            "status": "ok\nnot a second line",
            "nan": float("nan"),
            "inf": np.float32("-inf"),
            "nested": {"x": np.array([[1.5, np.nan], [0.1, 2.0]]), 3: (np.int8(4), None)},
            "bool": np.bool_(True),
            "scalar": np.array(7),
            "path": Path("a") / "b",
            "µ": "µs",
        }
    )
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and out.endswith("}\n") and err == "prose\n"

    def no_constants(name):
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(out, parse_constant=no_constants) == {
        "status": "ok\nnot a second line",
        "nan": None,
        "inf": None,
        "nested": {"x": [[1.5, None], [0.1, 2.0]], "3": [4, None]},
        "bool": True,
        "scalar": 7,
        "path": "a/b",
        "µ": "µs",
    }


@pytest.mark.parametrize("value", [1j, object(), {1, 2}, np.complex128(1)])
def test_json_refuses_what_it_cannot_say(value):
    with pytest.raises(TypeError):
        console.json_line({"x": value})


@given(st.floats())
@settings(deadline=None, derandomize=True, max_examples=50)
def test_json_keeps_every_finite_float(x):
    back = json.loads(console.json_line({"x": np.float64(x)}))["x"]
    assert back == x if np.isfinite(x) else back is None


@pytest.mark.parametrize(
    "text",
    [
        "runs[bold]/job[1].toml: no such file",
        "a\nb\r\nc\u2028d",
        "\x1b[31mred\x1b[0m \x07bell \x9b2J",
        "x" * 500,
        "undecodable \udc80 name",
        ":smile: [link=http://x]y[/link]",
        "left\u202eright",
    ],
)
def test_an_error_is_one_harmless_line(capsys, text):
    console.print_error(text)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and len(err.splitlines()) == 1 and err.endswith("\n")
    assert not set(err[:-1]) & set("\x1b\x07\x9b\r\u2028\u202e")
    if text.isascii() and text.isprintable():
        assert err == f"error: {text}\n"


def test_lines_of_an_error_are_joined(capsys):
    console.print_error("first\nsecond")
    assert capsys.readouterr().err == "error: first second\n"


def test_an_error_is_one_line_on_a_narrow_terminal_too(terminal):
    console.print_error("word " * 60)
    assert terminal.getvalue().rstrip("\n").count("\n") == 0


def test_prose_keeps_brackets_and_is_not_wrapped_in_a_log(capsys):
    console.say("see [red]job[/red].toml, " + "word " * 40)
    console.warn("10\u2009µs is [long]")
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == "" and first.startswith("see [red]job[/red].toml, word")
    assert second == "warning: 10\u2009µs is [long]"


def test_prose_is_wrapped_on_a_terminal(terminal):
    console.say("word " * 40)
    assert max(map(len, terminal.getvalue().splitlines())) <= 60


def test_table_shows_every_cell_and_aligns_numbers(capsys):
    console.table("Starts [all]", ["name", "loss"], [["a[1]", 0.5], ["b", 12345.0], ["\x1b[2J", None]])
    out, err = capsys.readouterr()
    assert out == "" and "\x1b" not in err
    for text in ("Starts [all]", "name", "loss", "a[1]", "12345", "–"):
        assert text in err
    rows = [line.rstrip() for line in err.splitlines() if line.strip().startswith(("a[1]", "b "))]
    assert len(rows[0]) == len(rows[1])  # right-aligned


def test_a_wide_table_is_not_cut_in_a_log(capsys):
    console.table("", ["c"] * 30, [["0123456789"] * 30])
    assert capsys.readouterr().err.count("0123456789") == 30


def test_table_refuses_a_short_row():
    with pytest.raises(ValueError, match="row 1 has 1 cells"):
        console.table("t", ["a", "b"], [[1, 2], [3]])


def test_progress_in_a_log_is_one_line_in_five_seconds(capsys, clock):
    with console.Progress(lambda e: f"quality {1 - e.best_loss:.2f}") as progress:
        for iteration in range(1, 101):
            progress(event(iteration, seconds=iteration * 0.1))
            clock.s += 0.099
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 2  # at 0 s and at 5 s of 10 s
    assert lines[0] == "iteration 1/100 · quality 0.75 · 0 s elapsed"
    assert lines[1].startswith("iteration 52/100 · quality 0.75 · 5 s elapsed · budget ends in 5 s")


def test_a_new_phase_is_estimated_from_its_own_start(capsys, clock):
    progress = console.Progress(lambda e: "")
    for phase, first, second in (("stage 1 of 2", 10, 60), ("stage 2 of 2", 0, 50)):
        progress(event(first, start=3, starts=8, phase=phase))
        clock.s += 5.0
        progress(event(second, start=3, starts=8, phase=phase))
        clock.s += 5.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "stage 1 of 2 · 3 of 8 starts · iteration 10/100 · 1 s elapsed",
        "stage 1 of 2 · 3 of 8 starts · iteration 60/100 · 1 s elapsed · budget ends in 4 s",
        "stage 2 of 2 · 3 of 8 starts · iteration 0/100 · 1 s elapsed",
        "stage 2 of 2 · 3 of 8 starts · iteration 50/100 · 1 s elapsed · budget ends in 5 s",
    ]


def test_resumed_progress_estimates_from_what_it_saw(capsys, clock):
    progress = console.Progress(lambda e: "")
    progress(event(80))
    clock.s += 10.0
    progress(event(90))
    assert capsys.readouterr().err.splitlines()[-1].endswith("budget ends in 10 s")


def test_progress_takes_the_solver_s_own_events(capsys, clock):
    with console.Progress(lambda e: f"{e.best_loss:g}") as progress:
        progress(Event(8, 8, 1, 10, 0.25, 0.0, "search"))
    assert capsys.readouterr().err == "search · 8 of 8 starts · iteration 1/10 · 0.25 · 0 s elapsed\n"


def test_quiet_progress_prints_nothing(capsys, terminal):
    with console.Progress(lambda e: "x", quiet=True) as progress:
        progress(event())
    assert terminal.getvalue() == "" and capsys.readouterr().out == ""


def test_progress_on_a_terminal_is_one_line_that_vanishes(terminal, clock, capsys):
    with console.Progress(lambda e: "quality [0.75] " + "x" * 100) as progress:
        for iteration in range(1, 6):
            progress(event(iteration))
            clock.s += 1.0
        drawn = terminal.getvalue()
        console.say("a word between")
        console.print_json({"a": 1})
    assert "iteration 5/100" in drawn and "quality [0." in drawn
    assert "\n" not in drawn  # redrawn in place, also where the caption is too long
    assert "a word between" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased
    assert capsys.readouterr().out == '{"a": 1}\n'


def test_progress_on_a_terminal_is_drawn_ten_times_a_second_at_most(terminal, clock):
    with console.Progress(lambda e: "") as progress:
        for iteration in range(1, 1001):
            progress(event(iteration, max_iterations=1000))
            clock.s += 0.001
    assert 5 <= terminal.getvalue().count("iteration ") <= 12


def test_time_left_is_unknown_before_anything_was_done():
    assert console.time_left_s(3.0, 0.5, 0.5) is None
    assert console.time_left_s(3.0, 0.0, 1.0) == 0.0


@pytest.mark.parametrize(("s", "text"), [(0, "0 s"), (59.6, "1:00 min"), (3599.7, "1:00 h"), (7325, "2:02 h")])
def test_clock(s, text):
    assert console.clock(s) == text
