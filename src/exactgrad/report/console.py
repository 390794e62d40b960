"""The console, the only place that prints: prose, tables and progress to stderr, JSON to stdout.

Text is never read as markup and never rings, moves or recolours the terminal: a file name may hold anything.
Times are in seconds.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from time import monotonic
from typing import Any, Protocol
from unicodedata import category

import numpy as np

from exactgrad.report.numbers import cell_text, checked_rows, number_columns

PLAIN_LINE_EVERY_S = 5.0
REDRAW_EVERY_S = 0.1
_LOG_WIDTH = 10_000  # characters; where nobody watches there is no width to fit in
_STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories


@cache
def _console(width: int | None = None) -> Any:
    """Rich's console on stderr: one for all, so that prose is drawn above a running progress line."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, width=width)


def _harmless(text: str, keep: str = "\n\t") -> str:
    """Escape controls, direction marks and line separators, save those in `keep`: no text steers the terminal."""
    return "".join(
        c if c in keep or category(c) not in _STEERING else c.encode("unicode_escape").decode() for c in text
    )


def _print(text: str, style: str = "") -> None:
    from rich.text import Text

    console = _console()
    # a log file wants the sentence on one line; a terminal wants it wrapped at words
    console.print(Text(_harmless(text), style=style), soft_wrap=not console.is_terminal)


def say(text: str) -> None:
    """Print prose to stderr."""
    _print(text)


def warn(text: str) -> None:
    """Print a warning to stderr, marked as one."""
    _print(f"warning: {text}", "yellow")


def print_error(text: str) -> None:
    """Print one error as exactly one line on stderr, whatever the text holds."""
    from rich.text import Text

    line = "error: " + _harmless(" ".join(text.splitlines()), keep="")
    _console().print(Text(line, style="red"), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table to stderr; columns of numbers stand to the right.

    Parameters
    ----------
    title : str
        One line above the table; empty for none.
    columns : sequence of str
        Headings, with their unit ("peak (kHz)").
    rows : iterable of sequences
        One cell a column: text, number, bool or None.

    Raises
    ------
    ValueError
        If a row has more or fewer cells than there are columns.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = checked_rows(columns, rows)
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, is_right in zip(columns, number_columns(len(columns), cells), strict=True):
        drawn.add_column(Text(heading), justify="right" if is_right else "left")
    for row in cells:
        drawn.add_row(*(Text(_harmless(cell_text(cell))) for cell in row))
    if title:
        _print(title, "bold")  # as Rich's own title it would be folded to the width of the table
    (_console() if _console().is_terminal else _console(_LOG_WIDTH)).print(drawn)


def json_line(obj: dict[str, Any]) -> str:
    """Write a dictionary as one line of strict JSON: NaN and infinity become null, NumPy becomes plain numbers.

    Parameters
    ----------
    obj : dict
        Nested dictionaries, sequences, NumPy arrays and scalars, paths, text, numbers, bool and None.

    Raises
    ------
    TypeError
        If a value is none of these.

    Examples
    --------
    >>> json_line({"loss": np.float64(0.5), "esd": float("nan"), "u": np.arange(2)})
    '{"loss": 0.5, "esd": null, "u": [0, 1]}'
    """
    return json.dumps(_plain(obj), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def print_json(obj: dict[str, Any]) -> None:
    """Print `json_line(obj)` to stdout and flush; a command calls it once, last."""
    sys.stdout.write(json_line(obj) + "\n")
    sys.stdout.flush()


class Event(Protocol):
    """What a solver tells of its search; `core.solve.Event` is one.

    Attributes
    ----------
    start, starts : int
        Starts that are still searched, and starts that there were.
    iteration, max_iterations : int
        Most iterations that a start has done in this phase, and the phase's budget.
    best_loss : float
    seconds : float
        Since the solver began.
    phase : str
        What it does, in a few words; may be empty.
    """

    @property
    def start(self) -> int: ...  # noqa: D102 - described above
    @property
    def starts(self) -> int: ...  # noqa: D102
    @property
    def iteration(self) -> int: ...  # noqa: D102
    @property
    def max_iterations(self) -> int: ...  # noqa: D102
    @property
    def best_loss(self) -> float: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def phase(self) -> str: ...  # noqa: D102


class Progress:
    """Draw a solver's events as one line; a context manager.

    On a terminal the line is redrawn in place at most ten times a second and vanishes at the end; elsewhere at most one
    plain line is printed every five seconds.

    Parameters
    ----------
    describe : callable
        Makes the caption of an event, e.g. ``lambda event: f"quality {1 - event.best_loss:.6f}"``.
    quiet : bool
        True prints nothing.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> event = SimpleNamespace(start=1, starts=1, iteration=1, max_iterations=9, best_loss=1.0, seconds=0.1, phase="")
    >>> with Progress(lambda event: f"loss {event.best_loss:g}", quiet=True) as progress:
    ...     progress(event)
    """

    def __init__(self, describe: Callable[[Any], str], quiet: bool = False):
        self._describe = describe
        self._quiet = quiet
        self._live: Any = None
        self._task: Any = None
        self._shown_at = -math.inf
        self._phase: str | None = None
        self._first = (0.0, 0.0)  # clock and fraction of the budget at the first event of the phase

    def __enter__(self) -> Progress:
        console = _console()
        if not self._quiet and console.is_terminal and console.is_interactive:
            self._live = _progress_line(console)
            self._task = self._live.add_task("", total=1.0, left="")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take one event in; draw it if it is time to."""
        if self._quiet:
            return
        now = monotonic()
        done = min(1.0, event.iteration / max(1, event.max_iterations))
        if event.phase != self._phase:
            self._phase, self._first = event.phase, (now, done)
        if now - self._shown_at < (REDRAW_EVERY_S if self._live else PLAIN_LINE_EVERY_S):
            return
        self._shown_at = now
        left_s = time_left_s(now - self._first[0], self._first[1], done)
        left = "" if left_s is None else f"budget ends in {clock(left_s)}"  # the search may converge before it
        text = _harmless(" · ".join(part for part in (_position(event), self._describe(event)) if part), keep="")
        if self._live:
            self._live.update(self._task, description=text, completed=done, left=left, refresh=True)
        else:
            say(" · ".join(part for part in (text, f"{clock(event.seconds)} elapsed", left) if part))


def _progress_line(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    return Progress(
        BarColumn(bar_width=20),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        TextColumn("{task.fields[left]}", markup=False, style="dim", table_column=Column(no_wrap=True)),
        console=console,
        transient=True,
        auto_refresh=False,  # redrawn by events: no thread beside the solver's
        redirect_stdout=False,  # stdout is for JSON
        redirect_stderr=False,
    )


def _position(event: Event) -> str:
    starts = f"{event.start} of {event.starts} starts" if event.starts > 1 else ""
    count = f"iteration {event.iteration}/{event.max_iterations}"
    return " · ".join(part for part in (event.phase, starts, count) if part)


def time_left_s(elapsed_s: float, done_first: float, done: float) -> float | None:
    """Estimate the seconds left from the part of the work done since a first look; None before any was done.

    Examples
    --------
    >>> time_left_s(10.0, 0.0, 0.25)
    30.0
    """
    if done <= done_first:
        return None
    return elapsed_s * (1.0 - done) / (done - done_first)


def clock(seconds: float) -> str:
    """Write a span of time as people read it.

    Examples
    --------
    >>> clock(7.2), clock(75), clock(3700)
    ('7 s', '1:15 min', '1:01 h')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
