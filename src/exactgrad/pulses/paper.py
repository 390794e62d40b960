"""The pulses of Slad & Luy's Tables 7, 8 and 9, designed again: their quality and time beside ours, row by row.

A row is a complete job (its `solve` table holds the fixed seeds), so `exactgrad pulse design` does the same work.
The quality is the paper's: the plain mean over the training grid (Eq. 10), with the limits held exactly. Table 6, the
time of single derivatives, is `exactgrad.pulses.reference.table6.table6`.

Where the paper leaves a choice:

- "reduced" controls with a peak limit are the tanh of Eq. 37, which is how every peak limit is held here; the "polar"
  and the "reduced" rows of Table 7 are therefore one and the same problem, judged by different printed numbers.
- The two 1.4 ms rows of Table 9 restrict the rms amplitude. The paper's tanh (Eq. 46) never lets a pulse reach the
  limit, so these rows scale exactly (``power_map = "exact"``).
- The UR-180 pulse of Table 9 is searched among those whose phase is symmetric in time, which halves the unknowns: of
  starts 0 to 15 one reaches the paper's quality, and of starts 0 to 31 without the symmetry none does. A symmetric
  pulse is one that the paper's problem allows.
- Saturation is judged by 1 - Mz^2, and universal rotations by the sign-sensitive quaternion product of Eq. 13.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import exactgrad
from exactgrad.core.solve import Budget, Event, Search, Stage, run
from exactgrad.errors import InputError
from exactgrad.pulses.reference.table6 import table6

__all__ = ["ROWS", "Row", "RowResult", "reached", "reproduce", "rows_of", "run_row", "table", "table6"]

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Row:
    """One printed result of the paper and the job that reproduces it.

    Attributes
    ----------
    table : str
        "table7", "table8" or "table9".
    number : int
        Place in the table, from 1; the three step lengths of a printed row of Table 7 count as three.
    pulse, controls : str
        What the pulse does, and the paper's control set by its name here.
    step_us : float
    job : dict
        The whole job, seeds included.
    paper_quality : float
        As printed.
    digits : int
        Printed decimals.
    paper_iterations : int
    paper_seconds : float
        On one core of a laptop.
    note : str
        Where the job departs from the paper's.
    """

    table: str
    number: int
    pulse: str
    controls: str
    step_us: float
    job: dict[str, Any]
    paper_quality: float
    digits: int
    paper_iterations: int
    paper_seconds: float
    note: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the starts."""
        first = self.job["solve"]["seed"]
        return tuple(range(first, first + self.job["solve"]["starts"]))

    @property
    def start(self) -> str:
        """Kind of start."""
        return self.job["solve"]["start"]

    @property
    def max_iterations(self) -> int:
        """Iterations of the starts that are kept to the end."""
        return self.job["solve"]["max_iterations"]


@dataclass(frozen=True)
class RowResult:
    """What a row came to.

    Attributes
    ----------
    row : Row
    quality : float
        Plain mean over the training grid.
    reached : bool
        Whether the quality, rounded to the paper's digits, is at least the paper's.
    seconds : float
        Wall time of the whole search, all starts.
    iterations : int
        Summed over all starts.
    peak_hz, rms_hz : float
    quality_dense_mean, quality_dense_min : float
        On 401 offsets x 11 B1 over the range of the training grid, by an independent simulation.
    """

    row: Row
    quality: float
    reached: bool
    seconds: float
    iterations: int
    peak_hz: float
    rms_hz: float
    quality_dense_mean: float
    quality_dense_min: float


def reached(quality: float, row: Row) -> bool:
    """Return whether a quality, rounded to the row's printed digits, is at least the paper's."""
    return round(quality, row.digits) >= row.paper_quality


def run_row(row: Row, threads: int | None = None, on_event: Listener = lambda event: None) -> RowResult:
    """Design the pulse of a row.

    Parameters
    ----------
    row : Row
        Of `ROWS`.
    threads : int, optional
        Does not change the result.
    on_event : callable
        Progress.

    Examples
    --------
    >>> result = run_row(ROWS["table7"][2], threads=1)
    >>> result.reached, result.peak_hz <= 5000.0
    (True, True)
    """
    from exactgrad.pulses.certificate import dense_grid
    from exactgrad.pulses.problem import PulseProblem

    problem = PulseProblem.from_job(row.job)
    search = Search.begin([problem.start(seed) for seed in row.seeds])
    budget = Budget(halving=problem.job.solve.halving, memory=problem.job.solve.memory, threads=threads)
    result = run([Stage(problem, row.max_iterations)], search, budget, on_event=on_event)
    pulse, quality = problem.pulse(result.x), problem.quality(result.x)
    dense = dense_grid(problem, pulse)
    return RowResult(
        row=row,
        quality=quality,
        reached=reached(quality, row),
        seconds=result.seconds,
        iterations=result.iterations,
        peak_hz=pulse.peak_hz,
        rms_hz=pulse.rms_hz,
        quality_dense_mean=dense.mean,
        quality_dense_min=dense.least,
    )


COLUMNS = (
    "row", "pulse", "controls", "step (us)", "paper's quality", "quality", "reached", "paper's time (s)", "time (s)",
    "paper's iterations", "iterations", "peak (kHz)", "rms (kHz)", "dense mean", "dense min",
)  # fmt: skip
COLUMNS6 = ("row", "derivative", "method", "calls", "time (us)", "paper's laptop (us)", "paper's workstation (us)")


def reproduce(
    name: str, row: int | None = None, threads: int | None = None, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Make a table of the paper again, and say whether every quality of it was reached.

    Parameters
    ----------
    name : str
        "table6", "table7", "table8" or "table9".
    row : int, optional
        Only the row of this number, from 1; not for Table 6.
    threads : int, optional
        Does not change the results.
    say : callable
        Is told each row's outcome when it is there.

    Returns
    -------
    dict
        `status` ("reached" or "not reached"), `message`, `title`, `columns`, `rows`, and what every summary has.

    Raises
    ------
    InputError
        If there is no such table or row.
    """
    began = time.monotonic()
    columns, rows = table(name, row, threads, say)
    if name == "table6":
        short, message = 0, "Table 6 holds times only: there is no quality to reach"
    else:
        short = sum(not cells[COLUMNS.index("reached")] for cells in rows)
        message = f"{len(rows) - short} of {len(rows)} rows reach the paper's quality at its printed digits"
    return {
        "system": "pulses",
        "command": "paper",
        "version": exactgrad.__version__,
        "status": "not reached" if short else "reached",
        "message": message,
        "seconds": round(time.monotonic() - began, 3),
        "title": f"Slad & Luy, {name.replace('table', 'Table ')}: the paper's figures beside ours",
        "columns": list(columns),
        "rows": [list(cells) for cells in rows],
    }


def table(
    name: str, row: int | None = None, threads: int | None = None, say: Callable[[str], None] = lambda text: None
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return a table of the paper, or one row of it, as columns and rows; see `reproduce`."""
    if name == "table6":
        if row is not None:
            raise InputError(f"paper: row = {row}: the times of table6 are compared all together; leave the row out")
        return COLUMNS6, _timings()
    rows = []
    for chosen in rows_of(name, row):
        result = run_row(chosen, threads)
        say(_sentence(result))
        rows.append(_cells(result))
    return COLUMNS, rows


def rows_of(name: str, row: int | None = None) -> tuple[Row, ...]:
    """Return the rows of a table, or the one of that number.

    Raises
    ------
    InputError
        If there is no such table or row.
    """
    if name not in ROWS:
        raise InputError(f"paper: no table {name!r}; there are table6, {', '.join(ROWS)}")
    if row is None:
        return ROWS[name]
    if not 1 <= row <= len(ROWS[name]):
        raise InputError(f"paper: row = {row}: {name} has rows 1 to {len(ROWS[name])}")
    return (ROWS[name][row - 1],)


def _timings() -> list[tuple[Any, ...]]:
    return [
        (
            number,
            f"{timed['name']}, {timed['coordinates']}",
            timed["method"],
            timed["calls"],
            round(timed["microseconds_per_1000"], 1),
            timed["paper_laptop_us"],
            timed["paper_workstation_us"],
        )
        for number, timed in enumerate(table6(), 1)
    ]


def _sentence(result: RowResult) -> str:
    row = result.row
    verdict = "reached" if result.reached else "NOT REACHED"
    return (
        f"{row.table} row {row.number}, {row.pulse} {row.controls} {row.step_us:g} us: {result.quality:.6f}, paper "
        f"{row.paper_quality:.{row.digits}f}: {verdict}; {result.seconds:.1f} s, paper {row.paper_seconds:g} s"
    )


def _cells(result: RowResult) -> tuple[Any, ...]:
    row = result.row
    return (
        row.number, row.pulse, row.controls, row.step_us, row.paper_quality, round(result.quality, 6), result.reached,
        row.paper_seconds, round(result.seconds, 2), row.paper_iterations, result.iterations,
        round(result.peak_hz / 1e3, 3), round(result.rms_hz / 1e3, 3),
        round(result.quality_dense_mean, 5), round(result.quality_dense_min, 5),
    )  # fmt: skip


TARGETS: dict[str, dict[str, Any]] = {
    "excitation": {"transfer": ["z", "x"]},
    "inversion": {"transfer": ["z", "-z"]},
    "saturation": {"saturation": "z"},
    "UR-90": {"rotation": {"axis": "x", "angle_deg": 90.0}},
    "UR-180": {"rotation": {"axis": "x", "angle_deg": 180.0}},
}


def _job(
    pulse: str,
    controls: str,
    step_us: float,
    duration_us: float,
    grid: tuple[int, float, int, float],
    limits: dict[str, Any],
    solve: dict[str, Any],
) -> dict[str, Any]:
    """Return a job; `grid` is offsets, bandwidth (Hz), B1 points, B1 +- %."""
    offsets, bandwidth_hz, b1_points, b1_percent = grid
    return {
        "pulse": {"duration_us": duration_us, "step_us": step_us, "controls": controls},
        "target": TARGETS[pulse],
        "ensemble": {
            "bandwidth_hz": bandwidth_hz,
            "offsets": offsets,
            "b1_points": b1_points,
            "b1_spread": b1_percent / 100,
        },
        "limits": limits,
        "solve": solve,
    }


def _solve(start: str, starts: int, max_iterations: int, seed: int = 0) -> dict[str, Any]:
    return {"start": start, "seed": seed, "starts": starts, "max_iterations": max_iterations}


# Table 7: 500 us, 6 kHz on 11 offsets, B1 +-10 % on 3 points, peak 5 kHz. (controls, iterations, seconds, quality),
# each for steps of 1, 10 and 50 us.
STEPS_US = (1.0, 10.0, 50.0)
SOLVE7 = (
    _solve("random", starts=12, max_iterations=1000),
    _solve("random", starts=24, max_iterations=2000),
    _solve("random", starts=32, max_iterations=1000),
)
TABLE7 = {
    "excitation": (
        ("xy", (4944, 424, 148), (665.4, 7.4, 0.598), (0.9987, 0.9960, 0.9973)),
        ("xyz", (1294, 152, 98), (306.2, 7.2, 0.277), (0.9990, 0.9938, 0.9955)),
        ("polar", (777, 134, 119), (383.9, 7.6, 0.608), (0.9962, 0.9949, 0.9923)),
        ("polar-z", (1083, 198, 65), (991.3, 12.8, 0.428), (0.9978, 0.9981, 0.9968)),
        ("reduced", (147, 146, 105), (17.7, 2.8, 0.407), (0.9966, 0.9991, 0.9985)),
        ("reduced-z", (765, 247, 85), (82.7, 5.5, 0.421), (0.9989, 0.9989, 0.9968)),
        ("phase", (847, 1018, 82), (53.7, 8.1, 0.126), (0.9981, 0.9995, 0.9963)),
    ),
    "inversion": (
        ("xy", (4805, 231, 87), (727.4, 5.4, 0.277), (0.9978, 0.9947, 0.9926)),
        ("xyz", (1427, 185, 70), (316.7, 6.8, 0.418), (0.9972, 0.9971, 0.9946)),
        ("polar", (809, 1192, 78), (488.6, 21.0, 0.318), (0.9926, 0.9996, 0.9972)),
        ("polar-z", (819, 173, 132), (632.9, 11.3, 0.74), (0.9950, 0.9961, 0.9987)),
        ("reduced", (331, 302, 95), (46.2, 3.5, 0.376), (0.9972, 0.9995, 0.9973)),
        ("reduced-z", (260, 121, 54), (40.8, 2.5, 0.228), (0.9965, 0.9995, 0.9926)),
        ("phase", (573, 753, 88), (39.2, 4.4, 0.215), (0.9997, 0.9981, 0.9932)),
    ),
}


def _table7() -> tuple[Row, ...]:
    flat = [
        (pulse, controls, i, quality[i], iterations[i], seconds[i])
        for pulse, printed in TABLE7.items()
        for controls, iterations, seconds, quality in printed
        for i in range(len(STEPS_US))
    ]
    return tuple(
        Row(
            table="table7",
            number=number,
            pulse=pulse,
            controls=controls,
            step_us=STEPS_US[i],
            job=_job(pulse, controls, STEPS_US[i], 500.0, (11, 6000.0, 3, 10.0), {"peak_hz": 5000.0}, SOLVE7[i]),
            paper_quality=quality,
            digits=4,
            paper_iterations=iterations,
            paper_seconds=seconds,
        )
        for number, (pulse, controls, i, quality, iterations, seconds) in enumerate(flat, 1)
    )


# Tables 8 and 9: pulse, controls, offsets, bandwidth (kHz), B1 points, B1 +- %, step (us), duration (us), rms and peak
# limit (kHz), iterations, seconds, quality.
TABLE8 = (
    ("excitation", "xy", 31, 40, 3, 5, 1, 500, 10, 20, 3956, 1664.0, 0.99982),
    ("excitation", "xyz", 31, 40, 3, 5, 10, 500, 10, 20, 90, 6.4, 0.99914),
    ("excitation", "phase", 31, 40, 3, 5, 1, 500, None, 10, 1248, 293.0, 0.99715),
    ("inversion", "xy", 31, 40, 3, 5, 1, 500, 10, 20, 1966, 690.0, 0.99983),
    ("inversion", "xyz", 31, 40, 3, 5, 10, 500, 10, 20, 104, 7.5, 0.99839),
    ("inversion", "phase", 31, 40, 3, 5, 1, 500, None, 10, 1473, 344.0, 0.99744),
    ("UR-90", "xy", 61, 40, 3, 5, 1, 1000, 10, 20, 5000, 3170.0, 0.99996),
    ("UR-180", "xy", 61, 40, 3, 5, 1, 1000, 10, 20, 2854, 3353.6, 0.99998),
)
TABLE9 = (
    ("saturation", "phase", 31, 120, 1, 0, 2, 120, None, 10, 244, 1.6, 0.99999),
    ("excitation", "reduced", 301, 120, 5, 10, 2, 1400, 10, None, 5000, 94570.0, 0.99627),
    ("excitation", "phase", 121, 120, 5, 10, 1, 350, None, 20, 894, 904.4, 0.99419),
    ("inversion", "reduced", 301, 120, 5, 10, 2, 1400, 10, None, 5000, 42864.0, 0.99989),
    ("inversion", "phase", 121, 120, 5, 10, 1, 300, None, 20, 567, 757.1, 0.99885),
    ("UR-90", "phase", 121, 120, 5, 10, 1, 600, None, 20, 2587, 2833.2, 0.99915),
    ("UR-180", "phase", 121, 120, 5, 10, 1, 700, None, 20, 10000, 15411.0, 0.99951),
)
# Chirps for inversion, random phases for the rest: see starts.py.
SOLVE8 = (
    _solve("random", starts=8, max_iterations=3000),
    _solve("random", starts=8, max_iterations=2000),
    _solve("random", starts=8, max_iterations=3000),
    _solve("chirp", starts=8, max_iterations=3000),
    _solve("random", starts=8, max_iterations=2000),
    _solve("chirp", starts=8, max_iterations=3000),
    _solve("random", starts=8, max_iterations=3000),
    _solve("random", starts=8, max_iterations=3000),
)
SOLVE9 = (
    _solve("random", starts=24, max_iterations=500),
    _solve("random", starts=4, max_iterations=2000),
    _solve("random", starts=8, max_iterations=2000),
    _solve("chirp", starts=4, max_iterations=1000),
    _solve("chirp", starts=4, max_iterations=1000),
    _solve("random", starts=4, max_iterations=2000),
    _solve("random", starts=16, max_iterations=3000),
)


def _later_row(name: str, number: int, printed: tuple[Any, ...], solve: dict[str, Any]) -> Row:
    """Return a row of Table 8 or 9."""
    pulse, controls, offsets, bandwidth_khz, b1_points, b1_percent, step_us, duration_us, rms_khz, peak_khz = printed[
        :10
    ]
    iterations, seconds, quality = printed[10:]
    limits: dict[str, Any] = {}
    if peak_khz is not None:
        limits["peak_hz"] = peak_khz * 1e3
    if rms_khz is not None:
        limits["rms_hz"] = rms_khz * 1e3
    grid = (offsets, bandwidth_khz * 1e3, b1_points, float(b1_percent))
    job = _job(pulse, controls, float(step_us), float(duration_us), grid, limits, solve)
    note = ""
    if controls == "reduced":
        limits["power_map"], note = "exact", "the rms limit is held by exact scaling, not by the tanh of Eq. 46"
    if (name, pulse) == ("table9", "UR-180"):
        job["pulse"]["symmetry"], note = {"phase": "even"}, "searched among pulses whose phase is symmetric in time"
    return Row(
        table=name,
        number=number,
        pulse=pulse,
        controls=controls,
        step_us=float(step_us),
        job=job,
        paper_quality=quality,
        digits=5,
        paper_iterations=iterations,
        paper_seconds=seconds,
        note=note,
    )


ROWS: dict[str, tuple[Row, ...]] = {
    "table7": _table7(),
    "table8": tuple(_later_row("table8", i + 1, TABLE8[i], SOLVE8[i]) for i in range(8)),
    "table9": tuple(_later_row("table9", i + 1, TABLE9[i], SOLVE9[i]) for i in range(7)),
}
