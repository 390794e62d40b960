"""The paper's tables: what is printed there, and some of its pulses designed again to the end."""

from dataclasses import replace

import numpy as np
import pytest

from exactgrad.errors import InputError
from exactgrad.pulses import paper
from exactgrad.pulses.job import check_job
from exactgrad.pulses.problem import PulseProblem

EVERY = [row for rows in paper.ROWS.values() for row in rows]
BY_NAME = {f"{row.table}-{row.number}": row for row in EVERY}


def test_tables_have_the_papers_rows_numbered_from_one():
    assert {name: len(rows) for name, rows in paper.ROWS.items()} == {"table7": 42, "table8": 8, "table9": 7}
    for name, rows in paper.ROWS.items():
        assert [(row.table, row.number) for row in rows] == [(name, i + 1) for i in range(len(rows))]
    assert len(EVERY) == 57


# Read off the printed tables: number, pulse, controls, step, quality, iterations, seconds.
ANCHORS = [
    ("table7-1", "excitation", "xy", 1.0, 0.9987, 4944, 665.4),
    ("table7-12", "excitation", "polar-z", 50.0, 0.9968, 65, 0.428),
    ("table7-20", "excitation", "phase", 10.0, 0.9995, 1018, 8.1),
    ("table7-29", "inversion", "polar", 10.0, 0.9996, 1192, 21.0),
    ("table7-42", "inversion", "phase", 50.0, 0.9932, 88, 0.215),
    ("table8-1", "excitation", "xy", 1.0, 0.99982, 3956, 1664.0),
    ("table8-5", "inversion", "xyz", 10.0, 0.99839, 104, 7.5),
    ("table8-8", "UR-180", "xy", 1.0, 0.99998, 2854, 3353.6),
    ("table9-1", "saturation", "phase", 2.0, 0.99999, 244, 1.6),
    ("table9-2", "excitation", "reduced", 2.0, 0.99627, 5000, 94570.0),
    ("table9-7", "UR-180", "phase", 1.0, 0.99951, 10000, 15411.0),
]


@pytest.mark.parametrize("anchor", ANCHORS, ids=lambda anchor: anchor[0])
def test_printed_numbers(anchor):
    row = BY_NAME[anchor[0]]
    printed = (row.pulse, row.controls, row.step_us, row.paper_quality, row.paper_iterations, row.paper_seconds)
    assert printed == anchor[1:]
    assert row.digits == (4 if row.table == "table7" else 5)
    assert round(row.paper_quality, row.digits) == row.paper_quality


# Steps, spins, duration (us), half bandwidth (Hz), lowest B1, peak (Hz), rms (Hz); from the captions and columns.
SETTINGS = [
    ("table7-1", 500, 33, 500, 3000, 0.90, 5000, None),
    ("table7-42", 10, 33, 500, 3000, 0.90, 5000, None),
    ("table8-1", 500, 93, 500, 20000, 0.95, 20000, 10000),
    ("table8-3", 500, 93, 500, 20000, 0.95, 10000, None),
    ("table8-7", 1000, 183, 1000, 20000, 0.95, 20000, 10000),
    ("table9-1", 60, 31, 120, 60000, 1.00, 10000, None),
    ("table9-2", 700, 1505, 1400, 60000, 0.90, None, 10000),
    ("table9-5", 300, 605, 300, 60000, 0.90, 20000, None),
    ("table9-7", 700, 605, 700, 60000, 0.90, 20000, None),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting[0])
def test_settings_reach_the_problem(setting):
    name, steps, spins, duration_us, half_hz, weakest, peak_hz, rms_hz = setting
    problem = PulseProblem.from_job(BY_NAME[name].job)
    assert (problem.steps, problem.ensemble.spins) == (steps, spins)
    assert problem.step_s.sum() == pytest.approx(duration_us * 1e-6, rel=1e-12)
    assert (problem.ensemble.offset_hz.min(), problem.ensemble.offset_hz.max()) == (-half_hz, half_hz)
    assert problem.ensemble.b1.min() == pytest.approx(weakest, rel=1e-12)
    assert problem.ensemble.b1.mean() == pytest.approx(1.0, rel=1e-12)
    assert (problem.job.limits.peak_hz, problem.job.limits.rms_hz) == (peak_hz, rms_hz)
    np.testing.assert_allclose(problem.weight, 1 / spins, rtol=1e-12)  # the plain mean of Eq. 10


@pytest.mark.parametrize("row", EVERY, ids=list(BY_NAME))
def test_every_job_is_valid_and_says_what_its_row_says(row):
    job = check_job(row.job, "row")
    assert job.pulse.controls == row.controls
    assert job.solve.max_iterations == row.max_iterations
    assert row.seeds == tuple(range(job.solve.seed, job.solve.seed + job.solve.starts))
    assert row.start == job.solve.start and row.start in ("random", "smooth", "chirp", "coarse")
    assert len(row.seeds) <= 32


TARGETS = [  # start and end of a rotation about an axis that does each pulse perfectly
    ("excitation", ("y", 90.0), ("y", -90.0)),
    ("inversion", ("x", 180.0), ("x", 90.0)),
    ("saturation", ("x", -90.0), ("x", 180.0)),
    ("UR-90", ("x", 90.0), ("x", -90.0)),
    ("UR-180", ("x", 180.0), ("x", 90.0)),
]


@pytest.mark.parametrize("pulse, right, wrong", TARGETS)
def test_targets_are_the_papers(pulse, right, wrong):
    from exactgrad.pulses.targets import parse_axis, rotation_quaternion

    cost = PulseProblem.from_job(next(row for row in EVERY if row.pulse == pulse).job).cost
    values = []
    for axis, angle in (right, wrong):
        turn = rotation_quaternion(parse_axis("axis", axis), np.deg2rad(angle))
        values.append(float(cost.evaluate(turn[:, None])[0][0]))
    assert values[0] == pytest.approx(1.0, abs=1e-12)
    assert values[1] < 0.9


def test_universal_rotations_count_the_sign():
    cost = PulseProblem.from_job(BY_NAME["table9-6"].job).cost
    from exactgrad.pulses.targets import parse_axis, rotation_quaternion

    turn = -rotation_quaternion(parse_axis("axis", "x"), np.pi / 2)
    assert cost.evaluate(turn[:, None])[0][0] == pytest.approx(-1.0)


def test_reached_compares_at_the_printed_digits():
    row = BY_NAME["table8-1"]
    assert paper.reached(0.999815001, row) and paper.reached(0.99982, row)
    assert not paper.reached(0.999814999, row)
    assert not paper.reached(0.99814, BY_NAME["table7-1"])


@pytest.mark.parametrize("name", ["table7-3", "table7-20", "table7-33", "table7-42", "table9-1"])
def test_cheap_rows_reach_the_paper(name):
    row = BY_NAME[name]
    result = paper.run_row(row)
    assert result.reached, result
    assert result.peak_hz <= row.job["limits"]["peak_hz"] * (1 + 1e-12)
    assert result.rms_hz <= result.peak_hz * (1 + 1e-12)
    assert 0 <= result.quality_dense_min <= result.quality_dense_mean <= 1
    assert result.quality_dense_mean == pytest.approx(result.quality, abs=5e-3)  # another simulation, a denser grid


def test_a_row_is_the_same_on_any_number_of_threads():
    row = BY_NAME["table7-42"]
    one, two = paper.run_row(row, threads=1), paper.run_row(row, threads=2)
    assert (one.quality, one.iterations) == (two.quality, two.iterations)


def test_a_row_that_falls_short_says_so():
    row = BY_NAME["table7-42"]
    hasty = replace(row, job={**row.job, "solve": {**row.job["solve"], "starts": 1, "max_iterations": 2}})
    assert not paper.run_row(hasty, threads=1).reached


def test_reproduce_gives_columns_rows_and_a_verdict(monkeypatch):
    said = []
    summary = paper.reproduce("table7", row=42, say=said.append)
    assert summary["status"] == "reached" and len(summary["rows"]) == 1 and len(said) == 1
    cells = dict(zip(summary["columns"], summary["rows"][0], strict=True))
    assert cells["row"] == 42 and cells["paper's quality"] == 0.9932 and cells["reached"] is True
    harder = replace(BY_NAME["table7-42"], paper_quality=0.9999)
    monkeypatch.setitem(paper.ROWS, "table7", (harder,))
    summary = paper.reproduce("table7")
    assert summary["status"] == "not reached" and summary["message"].startswith("0 of 1 rows")


def test_table6_is_a_table_too(monkeypatch):
    timed = {
        "name": "dR/dtheta_x",
        "coordinates": "cartesian",
        "method": "analytical",
        "calls": "whole array",
        "microseconds_per_1000": 123.0,
        "paper_laptop_us": 325.9,
        "paper_workstation_us": None,
    }
    monkeypatch.setattr(paper, "table6", lambda: [timed])  # the timing itself takes most of a minute
    summary = paper.reproduce("table6")
    assert summary["status"] == "reached" and len(summary["rows"][0]) == len(summary["columns"])
    assert summary["rows"] == [[1, "dR/dtheta_x, cartesian", "analytical", "whole array", 123.0, 325.9, None]]


@pytest.mark.parametrize("name, row", [("table5", None), ("table8", 0), ("table8", 9), ("table6", 1)])
def test_no_such_table_or_row(name, row):
    with pytest.raises(InputError, match=r"^paper: "):
        paper.table(name, row)
