"""Every wrong job is one line that names file, key, value, unit and what is allowed; nothing is written."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.cli.main import main
from exactgrad.core.job_file import JOB_LIMIT_BYTES
from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.pulses.design import design
from exactgrad.pulses.job import Job, check_job, read_job
from exactgrad.pulses.problem import PulseProblem

GOOD = {
    "pulse": {"duration_us": 50.0, "step_us": 1.0},
    "target": {"transfer": ["z", "x"]},
    "ensemble": {"bandwidth_hz": 2000.0, "offsets": 3},
}
MISSING = object()
NAN, INF = float("nan"), float("inf")


def toml(value) -> str:
    """Write a value as TOML writes it inline."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def text_of(job: dict) -> str:
    return "".join(f"{json.dumps(key)} = {toml(table)}\n" for key, table in job.items())


def changed(*changes) -> dict:
    """The good job with some keys, given as "table.key", replaced or left out."""
    job = copy.deepcopy(GOOD)
    for place, value in changes:
        *tables, key = place.split(".")
        at = job
        for table in tables:
            at = at.setdefault(table, {})
        if value is MISSING:
            at.pop(key, None)
        else:
            at[key] = value
    return job


def aim(**kinds):
    return ("target", kinds)


BAND = {"offset_hz": [-1000.0, 1000.0], "transfer": ["z", "x"]}
HELD = {"from_us": 0.0, "to_us": 5.0}
BAD = {
    # what is missing
    "no duration": ([("pulse.duration_us", MISSING)], "pulse.duration_us: missing"),
    "no step": ([("pulse.step_us", MISSING)], "pulse.step_us: missing"),
    "no [pulse]": ([("pulse", MISSING)], "pulse: missing"),
    "no [target]": ([("target", MISSING)], "target: missing"),
    "no [ensemble]": ([("ensemble", MISSING)], "ensemble: missing"),
    "no bandwidth": ([("ensemble.bandwidth_hz", MISSING)], "ensemble.bandwidth_hz: missing"),
    "no offsets": ([("ensemble.offsets", MISSING)], "ensemble.offsets: missing"),
    "no angle": ([aim(rotation={"axis": "x"})], "target.rotation.angle_deg: missing (in degrees)"),
    "no end of a hold": ([("pulse.hold", [{"from_us": 0.0}])], "pulse.hold.0.to_us: missing (in us)"),
    "no file of a response": ([("response", {})], "response.file: missing"),
    "no aim": ([aim()], "target: exactly one of transfer, rotation, saturation, transverse"),
    "no aim in a band": (
        [aim(band=[{"offset_hz": [-1000.0, 1000.0]}])],
        "target.band.0: exactly one of transfer, rotation, saturation, transverse is needed, got none",
    ),
    "no amplitude of phase controls": (
        [("pulse.controls", "phase")],
        "limits.peak_hz: missing; it is the amplitude (Hz) of pulse.controls = 'phase'",
    ),
    # what is unknown
    "unknown table": ([("pulses", {})], "pulses: unknown key"),
    "unknown key": ([("pulse.steps", 3)], "pulse.steps: unknown key"),
    "a misspelt key, not the one that it leaves missing": (
        [("pulse.duration_us", MISSING), ("pulse.duration", 50.0)],
        "pulse.duration: unknown key",
    ),
    "a capital": ([("pulse.Step_us", 1.0)], "pulse.'Step_us': unknown key"),
    "a capital table": ([("Pulse", {})], "'Pulse': unknown key"),
    "a hyphen": ([("pulse.step-us", 1.0)], "pulse.'step-us': unknown key"),
    "two lines as a key": ([("pulse.a\nb", 1.0)], r"pulse.'a\nb': unknown key"),
    "unknown key in a hold": ([("pulse.hold", [{**HELD, "until": 1}])], "pulse.hold.0.until: unknown key"),
    "unknown controls": ([("pulse.controls", "abc")], "pulse.controls = 'abc': Input should be 'xy', 'xyz', 'polar'"),
    "unknown axis": ([aim(transfer=["z", "q"])], "target.transfer.1 = 'q': Input should be 'x', 'y', 'z', '-x'"),
    "unknown format": ([("output.formats", ["doc"])], "format 'doc': unknown; there are: bruker, csv, matlab"),
    "unknown method": ([("solve.method", "adam")], "solve.method = 'adam': Input should be 'lbfgs' or 'newton'"),
    "unknown objective": ([("ensemble.objective", "median")], "ensemble.objective = 'median': Input should be 'mean'"),
    "unknown enforcement": ([("limits.enforce", "hope")], "limits.enforce = 'hope': Input should be 'map' or 'penal"),
    "unknown power map": ([("limits.power_map", "x")], "limits.power_map = 'x': Input should be 'exact' or 'tanh'"),
    "unknown parity": ([("pulse.symmetry", "foo")], "pulse.symmetry = 'foo': Input should be 'even' or 'odd'"),
    "parity of an unknown channel": ([("pulse.symmetry", {"q": "even"})], "pulse.symmetry"),
    "unknown start": (
        [("solve.start", "foo")],
        "solve.start = 'foo': neither one of random, smooth, chirp, coarse nor",
    ),
    "a start that no file can be called": ([("solve.start", "x" * 300)], "solve.start = 'xxx"),
    "a start with a zero byte": ([("solve.start", "a\0b")], r"solve.start = 'a\x00b': neither"),
    # wrong types
    "text for a number": ([("pulse.duration_us", "50")], "pulse.duration_us = '50': Input should be a valid number"),
    "text with a unit": ([("limits.peak_hz", "10 kHz")], "limits.peak_hz = '10 kHz': Input should be a valid number"),
    "bool for a number": ([("pulse.duration_us", True)], "pulse.duration_us = True us: Input should be a valid numb"),
    "number for text": ([("pulse.controls", 3)], "pulse.controls = 3: Input should be 'xy'"),
    "a fraction of an offset": ([("ensemble.offsets", 2.5)], "ensemble.offsets = 2.5: Input should be a valid integer"),
    "text for a flag": ([("solve.halving", "yes")], "solve.halving = 'yes': Input should be a valid boolean"),
    "one for a flag": ([("output.figures", 1)], "output.figures = 1: Input should be a valid boolean"),
    "number for a table": ([("pulse", 3)], "pulse = 3: a table is needed"),
    "list for a table": ([("pulse", [])], "pulse = []: a table is needed"),
    "number for a list": ([("pulse.hold", 3)], "pulse.hold = 3: Input should be a valid list"),
    "one format, not a list": ([("output.formats", "bruker")], "output.formats = 'bruker': Input should be a valid l"),
    "a transfer from nowhere": ([aim(transfer=["z"])], "target.transfer.1: missing"),
    # values
    "negative duration": (
        [("pulse.duration_us", -50.0)],
        "pulse.duration_us = -50.0 us: Input should be greater than 0",
    ),
    "NaN": ([("pulse.duration_us", NAN)], "pulse.duration_us = nan us: Input should be a finite number"),
    "infinity": ([("ensemble.centre_hz", INF)], "ensemble.centre_hz = inf Hz: Input should be a finite number"),
    "huge": (
        [("ensemble.centre_hz", 1e300)],
        "ensemble.centre_hz = 1e+300 Hz: Input should be less than or equal to 1",
    ),
    "tiny": ([("pulse.duration_us", 1e-320)], "pulse.duration_us: 9.99989e-321: must be at least 1e-15"),
    "huge integer": ([("ensemble.bandwidth_hz", 10**400)], "ensemble.bandwidth_hz = 1000000000"),
    "zero step": ([("pulse.step_us", 0.0)], "pulse.step_us = 0.0 us: Input should be greater than"),
    "step that does not divide": ([("pulse.step_us", 7.0)], "pulse.step_us = 7 us: pulse.duration_us = 50 us must be"),
    "longer step than pulse": ([("pulse.step_us", 200.0)], "must be a whole number of steps, from 1 to 1000000"),
    "too many steps": ([("pulse.step_us", 1e-9)], "must be a whole number of steps, from 1 to 1000000"),
    "steps twice": ([("pulse.steps_us", [25.0, 25.0])], "pulse: give step_us or steps_us, not both"),
    "zero steps": ([("pulse.step_us", MISSING), ("pulse.steps_us", [])], "pulse.steps_us = []: List should have at le"),
    "a negative one of the steps": (
        [("pulse.step_us", MISSING), ("pulse.steps_us", [60.0, -10.0])],
        "pulse.steps_us.1 = -10.0: Input should be greater than",
    ),
    "steps that add up to something else": (
        [("pulse.step_us", MISSING), ("pulse.steps_us", [25.0, 24.0])],
        "pulse.duration_us = 50 us: pulse.steps_us add up to 49 us",
    ),
    "negative bandwidth": (
        [("ensemble.bandwidth_hz", -2000.0)],
        "ensemble.bandwidth_hz = -2000.0 Hz: Input should be greater than or equal to 0",
    ),
    "zero offsets": ([("ensemble.offsets", 0)], "ensemble.offsets = 0: Input should be greater than or equal to 1"),
    "too many spins": (
        [("ensemble.offsets", 1_000_000), ("ensemble.b1_points", 5), ("ensemble.b1_spread", 0.1)],
        "ensemble: 1000000 offsets x 5 B1 points; 1 to 4000000 are allowed",
    ),
    "B1 from zero": ([("ensemble.b1_spread", 1.0)], "ensemble.b1_spread = 1.0: Input should be less than 1"),
    "negative B1 spread": ([("ensemble.b1_spread", -0.1)], "ensemble.b1_spread = -0.1: Input should be greater than"),
    "no B1 at all": ([("ensemble.b1", [])], "ensemble.b1 = []: List should have at least 1 item"),
    "NaN in a list": ([("ensemble.b1", [1.0, NAN])], "ensemble.b1.1 = nan: Input should be a finite number"),
    "offsets twice": ([("ensemble.offsets_hz", [0.0])], "ensemble: give offsets_hz or bandwidth_hz, not both"),
    "B1 twice": (
        [("ensemble.b1", [1.0]), ("ensemble.b1_spread", 0.1)],
        "ensemble: give b1 or b1_spread, not both",
    ),
    "a distribution and offsets": (
        [("ensemble.distribution", "b0.csv")],
        "ensemble: give distribution or bandwidth_hz, not both",
    ),
    "too few weights": ([("ensemble.offset_weights", [1.0])], "ensemble.offset_weights: 1 values where 3 are needed"),
    "weights of zero": ([("ensemble.offset_weights", [0.0] * 3)], "ensemble.offset_weights: weights must be >= 0 and"),
    "a negative weight": ([("ensemble.b1_weights", [-1.0])], "ensemble.b1_weights.0 = -1.0: Input should be greater"),
    "no sharpness": ([("ensemble.sharpness", 0.0)], "ensemble.sharpness = 0.0: Input should be greater than"),
    "an axis without length": ([aim(transfer=["z", [0.0, 0.0, 0.0]])], "target.transfer.1 = [0.0, 0.0, 0.0]: a vector"),
    "NaN in an axis": ([aim(transfer=["z", [0.0, NAN, 1.0]])], "target.transfer.1 = [0.0, nan, 1.0]"),
    "two aims": ([("target.saturation", "z")], "target: exactly one of"),
    "an aim and bands": ([("target.band", [BAND])], "target: give one aim for all spins, or a list of bands"),
    "an empty band": (
        [aim(band=[BAND, {**BAND, "offset_hz": [5000.0, 6000.0]}])],
        "target.band.1: no spin of the ensemble lies in it",
    ),
    "bands without weight": ([aim(band=[{**BAND, "weight": 0.0}])], "target.band: all weights are zero"),
    "a phase slope of a rotation": (
        [aim(rotation={"axis": "x", "angle_deg": 90.0}, phase_slope=0.5)],
        "target: phase_slope belongs to a transfer",
    ),
    "zero peak": ([("limits.peak_hz", 0.0)], "limits.peak_hz = 0.0 Hz: Input should be greater than"),
    "negative rms": ([("limits.rms_hz", -1.0)], "limits.rms_hz = -1.0 Hz: Input should be greater than"),
    "huge rms": ([("limits.rms_hz", 1e200)], "limits.rms_hz = 1e+200 Hz: Input should be less than or equal to 1"),
    "zero energy": ([("limits.energy_hz2_s", 0.0)], "limits.energy_hz2_s = 0.0: Input should be greater than"),
    "too few peaks": ([("limits.peak_hz", [1e3, 2e3])], "limits.peak_hz: 2 values for 50 steps"),
    "no peaks": ([("limits.peak_hz", [])], "limits.peak_hz = []"),
    "a hold of no step": ([("pulse.hold", [{**HELD, "to_us": 0.1}])], "pulse.hold.0: 0 to 0.1 us holds no step of 0"),
    "a hold after the end": ([("pulse.hold", [{**HELD, "to_us": 99.0}])], "pulse.hold.0: 0 to 99 us holds no step"),
    "everything held": ([("pulse.hold", [{**HELD, "to_us": 50.0}])], "pulse.hold: every step is held"),
    "a hold above the peak": (
        [("pulse.hold", [{**HELD, "ux_hz": 300.0, "uy_hz": 400.0}]), ("limits.peak_hz", 499.0)],
        "pulse.hold.0: amplitude 500 Hz: must be <= 499 Hz, the limits.peak_hz",
    ),
    "a hold that takes all energy": (
        [("pulse.hold", [{**HELD, "ux_hz": 1e3}]), ("limits.energy_hz2_s", 5.0)],
        "pulse.hold: the held segments alone take 5 Hz^2 s of 5 Hz^2 s allowed",
    ),
    "symmetry of half the channels": ([("pulse.symmetry", {"x": "even"})], "pulse.symmetry.y: a parity for each of x"),
    "symmetry of unsymmetric steps": (
        [("pulse.symmetry", "even"), ("pulse.step_us", MISSING), ("pulse.steps_us", [20.0, 30.0])],
        "pulse.symmetry: the step lengths themselves are not symmetric in time",
    ),
    "no starts": ([("solve.starts", 0)], "solve.starts = 0: Input should be greater than or equal to 1"),
    "negative seed": ([("solve.seed", -1)], "solve.seed = -1: Input should be greater than or equal to 0"),
    "negative iterations": ([("solve.max_iterations", -1)], "solve.max_iterations = -1: Input should be greater"),
    "no time": ([("solve.max_seconds", 0.0)], "solve.max_seconds = 0.0: Input should be greater than"),
    "no memory": ([("solve.memory", 0)], "solve.memory = 0: Input should be greater than or equal to 1"),
    "more than the machine has": (
        [("pulse.step_us", 1e-4), ("solve.starts", 100_000), ("solve.memory", 1000)],
        "solve.starts = 100000, solve.memory = 1000: the search would take",
    ),
    "NaN as tolerance": ([("solve.tolerance", NAN)], "solve.tolerance = nan: Input should be a finite number"),
    "a format twice": ([("output.formats", ["csv", "csv"])], "output.formats: csv, csv: a format is named twice"),
    "no format": ([("output.formats", [])], "output.formats = []: List should have at least 1 item"),
    "a name that leads elsewhere": ([("output.name", "../x")], "output.name = '../x': String should match pattern"),
    "an empty name": ([("output.name", "")], "output.name = '': String should match pattern"),
    "a name of two lines": ([("output.name", "a\n")], r"output.name = 'a\n': String should match pattern"),
    "no amplitude at 100 %": ([("output.rf_max_hz", 0.0)], "output.rf_max_hz = 0.0 Hz: Input should be greater than"),
    "100 % below the peak": (
        [("output.rf_max_hz", 900.0), ("limits.peak_hz", 1000.0)],
        "output.rf_max_hz = 900 Hz: must be >= 1000 Hz, the limits.peak_hz",
    ),
    "no sense of phase": ([("output.phase_sign", 0)], "output.phase_sign = 0: Input should be 1 or -1"),
    # files
    "no distribution": (
        [("ensemble", {"distribution": "b0.csv"})],
        "b0.csv: no such file",
    ),
    "no response": ([("response.file", "h.csv")], "h.csv: no such file"),
    "a folder as response": ([("response.file", ".")], "not a regular file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_job_is_one_line_and_writes_nothing(tmp_path, capsys, case):
    changes, message = BAD[case]
    path, out = tmp_path / "job.toml", tmp_path / "out"
    path.write_text(text_of(changed(*changes)))
    assert main(["pulse", "design", str(path), "--out", str(out), "--json"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"error: {path}: ")
    assert message in found.err
    assert found.err.count("\n") == 1
    assert not out.exists()


def test_the_good_job_of_this_table_is_good(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(text_of(GOOD))
    job, folder, text = read_job(path)
    assert job.solve.starts == 8
    assert (folder, text) == (tmp_path, text_of(GOOD))
    assert PulseProblem.from_job(path).steps == 50


@pytest.mark.parametrize("case", ["negative bandwidth", "unknown key", "no duration"])
def test_the_same_lines_in_python(tmp_path, case):
    changes, message = BAD[case]
    with pytest.raises(InputError) as caught:
        design(changed(*changes), tmp_path / "out")
    assert message in str(caught.value)
    assert str(caught.value).startswith("job: ")
    assert not (tmp_path / "out").exists()


TEXTS = {
    "not TOML": (b"[pulse\n", FormatError, "not valid TOML: "),
    "prose": (b"A pulse of 50 us, please.\n", FormatError, "not valid TOML: "),
    "a key twice": (b"[pulse]\nstep_us = 1.0\nstep_us = 2.0\n", FormatError, "not valid TOML: "),
    "empty": (b"", InputError, "pulse: missing"),
    "zero bytes": (b"\0" * 100, FormatError, "holds zero bytes"),
    "nested too deeply": (b"a = " + b"[" * 100_000, FormatError, "not valid TOML: "),
    "a number of 5000 digits": (b"[pulse]\nduration_us = " + b"9" * 5000, FormatError, "not valid TOML: "),
    "1e999": (b"[pulse]\nduration_us = 1e999", InputError, "pulse.duration_us = inf us: Input should be a finite"),
    "a date": (b"[pulse]\nduration_us = 2020-01-01", InputError, "pulse.duration_us = datetime.date(2020, 1, 1)"),
    "huge": (b"#" * (JOB_LIMIT_BYTES + 1), RefusedFile, "larger than 16777216 bytes"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_file_that_is_no_job(tmp_path, case):
    data, error, message = TEXTS[case]
    path = tmp_path / "job.toml"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_job(path)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_and_a_folder(tmp_path):
    for path, message in ((tmp_path / "a.toml", "no such file"), (tmp_path, "not a regular file")):
        with pytest.raises(InputError, match=message):
            read_job(path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--seed", "-1"], "command line: solve.seed = -1: Input should be greater than or equal to 0"),
        (["--starts", "0"], "command line: solve.starts = 0: Input should be greater than or equal to 1"),
        (["--max-seconds", "nan"], "command line: solve.max_seconds = nan: Input should be a finite number"),
        (["--max-iterations", "-5"], "command line: solve.max_iterations = -5: Input should be greater"),
        (["--max-iterations", "many"], "Invalid value for '--max-iterations'"),
        (["--threads", "0"], "Invalid value for '--threads'"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(tmp_path, capsys, option, message):
    (tmp_path / "job.toml").write_text(text_of(GOOD))
    assert main(["pulse", "design", str(tmp_path / "job.toml"), "--out", str(tmp_path / "out"), *option]) == 2
    found = capsys.readouterr()
    assert message in found.err and found.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


class TestTheContract:
    def test_one_offset_is_on_resonance_and_one_b1_is_nominal(self):
        problem = PulseProblem.from_job(changed(("ensemble.offsets", 1), ("ensemble.b1_spread", 0.3)))
        assert problem.ensemble.offset_hz.tolist() == [0.0]
        assert problem.ensemble.b1.tolist() == [1.0]

    def test_one_offset_is_at_the_centre(self):
        problem = PulseProblem.from_job(changed(("ensemble.offsets", 1), ("ensemble.centre_hz", 70.0)))
        assert problem.ensemble.offset_hz.tolist() == [70.0]

    def test_the_grid_reaches_from_end_to_end(self):
        problem = PulseProblem.from_job(
            changed(("ensemble.centre_hz", 100.0), ("ensemble.b1_spread", 0.2), ("ensemble.b1_points", 2))
        )
        assert problem.ensemble.offset_hz.tolist() == [-900.0, -900.0, 100.0, 100.0, 1100.0, 1100.0]
        assert problem.ensemble.b1.tolist() == [0.8, 1.2] * 3

    def test_a_step_that_divides_to_rounding(self):
        assert PulseProblem.from_job(changed(("pulse.step_us", 0.1))).steps == 500

    def test_steps_of_any_length_need_no_duration(self):
        job = check_job(changed(("pulse", {"steps_us": [1, 2.5, 3.0]})), "job")
        assert np.allclose(job.pulse.step_s(), [1e-6, 2.5e-6, 3e-6], rtol=1e-15)

    def test_a_job_survives_the_way_to_a_run_folder(self):
        job = check_job(changed(("target.transfer", ["z", [1.0, 0.0, 1.0]]), ("limits.peak_hz", [1e3] * 50)), "job")
        again = Job.model_validate(json.loads(json.dumps(job.model_dump(mode="json", exclude_unset=True))))
        assert again == job


EXTREMES = st.one_of(
    st.floats(),
    st.integers(-(10**20), 10**20),
    st.sampled_from(
        [0.0, -0.0, 5e-324, 1e-15, 1e15, 1.7e308, INF, NAN, 2**63, -1, 1, True, None, "", "x", [], [1.0], {}]
    ),
    st.text(max_size=5),
)
PLACES = [
    f"{table}.{key}"
    for table, item in Job.model_fields.items()
    if hasattr(item.annotation, "model_fields")
    for key in item.annotation.model_fields
]


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.dictionaries(st.sampled_from(PLACES), EXTREMES, min_size=1, max_size=3))
def test_any_value_of_any_key_gives_a_problem_or_one_line(changes):
    """And a problem that is given has a finite value and gradient."""
    try:
        job = check_job(changed(*changes.items()), "job")
        if round((job.pulse.duration_us or 1) / (job.pulse.step_us or 1)) > 1000 or (job.ensemble.offsets or 1) > 1000:
            return  # right, but long
        problem = PulseProblem(job)
        x = problem.start(0)
    except InputError as error:
        assert "\n" not in str(error)
        return
    value, gradient = problem.value_and_gradient(x)
    penalty, more = problem.penalty_and_gradient(x)
    assert math.isfinite(value) and math.isfinite(penalty)
    assert np.isfinite(gradient).all() and np.isfinite(more).all()
