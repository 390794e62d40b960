"""Files that are not what they say: an exact error class and one line, never a hang, a crash or a NaN."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.pulses.formats import FORMATS, detect_format, read_shape, write_shape
from exactgrad.pulses.pulse import Pulse

NAMES = tuple(FORMATS)
GIVEN = {"duration_us": 10.0, "rf_max_hz": 1e6}


def refused(path, error, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        read_shape(path, **(GIVEN | options))
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def valid_file(folder, name):
    path = folder / f"valid{FORMATS[name].suffix}"
    pulse = Pulse.from_polar([1e-6] * 9, np.linspace(0, 100, 9), np.linspace(0, 9, 9))
    write_shape(path, pulse, name, title="t", overwrite=True)
    return path


@pytest.mark.parametrize("name", [*NAMES, None])
class TestEveryFormat:
    def test_missing(self, tmp_path, name):
        refused(tmp_path / "a.pk", InputError, "no such file", format=name)

    def test_folder(self, tmp_path, name):
        refused(tmp_path, InputError, "not a regular file", format=name)

    def test_pipe(self, tmp_path, name):
        os.mkfifo(tmp_path / "a.pk")
        refused(tmp_path / "a.pk", InputError, "not a regular file", format=name)

    def test_unreadable_name(self, tmp_path, name):
        refused(tmp_path / ("x" * 300), InputError, "cannot be read|no such file", format=name)

    def test_empty(self, tmp_path, name):
        (tmp_path / "a").write_bytes(b"")
        refused(tmp_path / "a", FormatError, "empty|not a MATLAB", format=name)

    def test_blank(self, tmp_path, name):
        (tmp_path / "a").write_bytes(b" \r\n\n \t\n")
        refused(tmp_path / "a", FormatError, "empty|not a MATLAB", format=name)

    def test_sparse_300_megabytes(self, tmp_path, name):
        with open(tmp_path / "a.pk", "wb") as handle:
            handle.truncate(300_000_000)
        refused(tmp_path / "a.pk", RefusedFile, "larger than 67108864 bytes", format=name)

    def test_binary(self, tmp_path, name):
        (tmp_path / "a").write_bytes(bytes(range(256)) * 4)
        refused(tmp_path / "a", FormatError, "zero bytes|not a MATLAB|not recognised", format=name)

    def test_prose(self, tmp_path, name):
        (tmp_path / "a").write_text("It was a dark and stormy night\nand 1 2 the pulse was lost\n")
        refused(tmp_path / "a", FormatError, "a", format=name)


SEQ = "[VERSION]\nmajor 1\nminor 5\nrevision 0\n[RF]\n{}\n[SHAPES]\n{}"
RF = "1 100 1 2 0 1 0 0 0 0 0 u"
HOSTILE = {
    "simpson": {
        "blank line": ("1 2\n\n3 4\n", r":2: 0 columns where 2 are needed"),
        "comment": ("1 2\n# no\n", r":2: 2 columns|:2: amplitude Hz = '#'"),
        "three columns": ("1 2 3\n", r":1: 3 columns"),
        "NaN": ("1 2\nNaN 4\n", r":2: amplitude Hz = 'NaN'"),
        "1e999": ("1e999 0\n", r":1: amplitude Hz = 1e999"),
        "1e31": ("1e31 0\n", r":1: amplitude Hz = 1e31: must not exceed 1e\+30"),
        "unicode": ("1 ٣\n", r":1: phase deg = '٣'"),
    },
    "varian": {
        "word": ("# c\n0 x 1 1\n", r":2: amplitude = 'x'"),
        "one column": ("0 1\n5\n", r":2: 1 columns where 2 to 4"),
        "five columns": ("0 1 1 1 1\n", r":1: 5 columns"),
        "amplitude": ("0 1025 1 1\n", r":1: amplitude 1025: must not exceed 1024"),
        "length": ("0 1 -1 1\n", r":1: length -1: must be >= 0"),
        "late zero length": ("0 1 1 1\n0 1023 0 0\n", r":2: length 0: only the first line"),
        "only zero length": ("0 1023 0 0\n", r":1: no lines of phase"),
        "only comments": ("# a\n# b\n", r":2: no lines of phase"),
        "own comment": ("# exactgrad: duration_us=-3 rf_max_hz=1\n0 1 1 1\n", r":1: duration_us = -3: must be > 0"),
        "own comment rf": ("# exactgrad: duration_us=3 rf_max_hz=-1\n0 1 1 1\n", r":1: rf_max_hz = -1: must be >= 0"),
    },
    "xepr": {
        "no begin": ("0,0\n", r":1: 'begin shape' is needed first"),
        "cut off": ('begin shape1 "a"\n0,0\n', r":2: no 'end shape' after 1 points: cut off"),
        "other end": ('begin shape1 "a"\n0,0\nend shape2\n', r":3: 'end shape2' closes 'begin shape1'"),
        "two shapes": ('begin shape1 "a"\n0,0\nend shape1\nbegin shape2 "b"\n0,0\nend shape2\n', r":4: more after"),
        "range": ('begin shape1 "a"\n0,1.1\nend shape1\n', r":2: '0,1.1': x and y must be from -1 to 1"),
        "none": ('begin shape1 "a"\nend shape1\n', r":2: a shape without points"),
        "columns": ('begin shape1 "a"\n0,0,0\nend shape1\n', r":2: 3 columns where 1 to 2"),
        "NaN": ('begin shape1 "a"\nnan,0\nend shape1\n', r":2: x = 'nan'"),
    },
    "siemens": {
        "no points": ("PULSENAME: a\nREFGRAD: 1\n", r":2: no lines of amplitude and phase"),
        "range": ("PULSENAME: a\n1.2 0 ;(0)\n", r":2: amplitude 1.2: from 0 to 1"),
        "columns": ("PULSENAME: a\n1.0 ;(0)\n", r":2: 1 columns where 2"),
        "two pulses": ("PULSENAME: a\n1 0 ;(0)\nPULSENAME: b\n1 0 ;(0)\n", r":3: PULSENAME: a header line after"),
        "inf": ("PULSENAME: a\ninf 0 ;(0)\n", r":2: amplitude = 'inf'"),
    },
    "csv": {
        "one column": ("ux_hz\n1\n", r":1: columns ux_hz and uy_hz, or amp_hz and phase_deg"),
        "no names": ("1,2\n3,4\n", r":1: columns ux_hz and uy_hz"),
        "no rows": ("ux_hz,uy_hz\n", r":1: no line of column names followed by rows"),
        "short row": ("ux_hz,uy_hz\n1,2\n3\n", r":3: 1 columns where 2 are named"),
        "twice": ("ux_hz,uy_hz,UX_Hz\n1,2,3\n", r":1: column 'ux_hz' is named twice"),
        "NaN": ("ux_hz,uy_hz\n1,nan\n", r":2: uy_hz = 'nan'"),
        "empty cell": ("ux_hz,uy_hz\n1,\n", r":2: uy_hz = ''"),
        "step": ("ux_hz,uy_hz,step_s\n1,2,1e-6\n1,2,0\n", r"step_s = 0 s in row 2: must be > 0"),
        "dt": ("# dt_s: -1\nux_hz,uy_hz\n1,2\n", r":1: dt_s = -1: must be > 0"),
        "rf_max": ("# rf_max_hz: -1\nux_hz,uy_hz\n1,2\n", r":1: rf_max_hz = -1: must be >= 0"),
        "edited": ("ux_hz,uy_hz,amp_hz,phase_deg\n1,0,1,0\n1,0,2,0\n", r":1: amp_hz and phase_deg differ .* in row 2"),
        "uneven t_s": ("t_s,ux_hz,uy_hz\n0,1,2\n1,1,2\n3,1,2\n", r":1: t_s has steps of several lengths"),
    },
    "pulseq": {
        "version": ("[VERSION]\nmajor 2\nminor 0\n", r"Pulseq version 2\.0; 1\.2 to 1\.5 are read"),
        "no version": ("[RF]\n1 2 3\n", r"Pulseq version 0\.0"),
        "no rf": (SEQ.format("", ""), "holds 0 rf pulses"),
        "two rf": (SEQ.format(RF + "\n" + RF, ""), "holds 2 rf pulses"),
        "columns": (SEQ.format("1 2 3", ""), r":6: 3 columns where \[RF\] of this version has 12"),
        "no shape": (SEQ.format(RF, ""), r":6: magnitude shape 1: no such shape"),
        "shape 0": (SEQ.format("1 100 0 0 0 1 0 0 0 0 0 u", ""), r":6: magnitude shape 0: a shape is needed"),
        "frequency": (SEQ.format("1 100 1 2 0 1 0 0 0 50 0 u", ""), r":6: an rf frequency offset is not read"),
        "bomb": (
            SEQ.format(RF, "shape_id 1\nnum_samples 1000000000000\n1\n1\n999999999998\n"),
            r":9: num_samples = 10+:",
        ),
        "run": (
            SEQ.format(RF, "shape_id 1\nnum_samples 9\n1\n1\n1e6\n"),
            r":9: num_samples 9, but the shape holds more",
        ),
        "short": (SEQ.format(RF, "shape_id 1\nnum_samples 9\n1\n2\n"), r":9: num_samples 9, but the shape holds 2"),
        "cut run": (
            SEQ.format(RF, "shape_id 1\nnum_samples 9\n1\n1\n"),
            r":9: a run of 1 in this shape has no whole count",
        ),
        "half run": (SEQ.format(RF, "shape_id 1\nnum_samples 9\n1\n1\n.5\n"), r":9: a run of 1 in this shape has no"),
        "lengths": (
            SEQ.format(RF, "shape_id 1\nnum_samples 1\n1\nshape_id 2\nnum_samples 2\n0\n1\n"),
            r":6: shapes of 1, 2 and 1 points",
        ),
        "NaN": (SEQ.format(RF, "shape_id 1\nnum_samples 1\nnan\n"), r":10: magnitude shape = 'nan'"),
        "times": (
            SEQ.format(
                "1 100 1 0 2 1 0 0 0 0 0 u", "shape_id 1\nnum_samples 2\n1\n.5\nshape_id 2\nnum_samples 2\n0\n9\n"
            ),
            r":6: samples that are not at the middle of equal steps",
        ),
    },
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in HOSTILE.items() for case in cases])
def test_hostile_text(tmp_path, name, case):
    text, message = HOSTILE[name][case]
    path = tmp_path / "a"
    path.write_text(text, encoding="utf-8")
    refused(path, FormatError, message, format=name)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("simpson", "matlab", "csv", "varian", "siemens")])
def test_every_truncation_is_noticed(tmp_path, name):
    """Formats with an end mark or a count: any cut that loses a point is an error."""
    path = valid_file(tmp_path, name)
    lines = path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.strip() and not line.startswith(("#", "Type", "Hash", "[SIG")))
    for end in range(1, last):
        path.write_text("".join(lines[:end]))
        refused(path, FormatError, "a", format=name)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(deadline=None, derandomize=True, max_examples=40)
def test_damaged_bytes_give_a_pulse_or_a_documented_error(tmp_path_factory, name, data):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(valid_file(folder, name).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        shape = read_shape(path, format=name, duration_us=10.0, rf_max_hz=1e12)
    except InputError:
        return
    assert np.isfinite(shape.pulse.ux_hz).all()


def save(path, **variables):
    scipy.io.savemat(path, variables)


GOOD = {"xy_profile": np.ones((2, 3)), "pulse_dt": np.full((1, 3), 1e-6), "pwr_level": 6.0}
BAD_MATLAB = {
    "no profile": ({"a": 1.0}, "no variable xy_profile"),
    "transposed": ({"xy_profile": np.ones((3, 2))}, r"xy_profile: shape \(3, 2\) where \(2, N\)"),
    "no columns": ({"xy_profile": np.ones((2, 0))}, r"xy_profile: shape \(2, 0\)"),
    "three axes": ({"xy_profile": np.ones((2, 3, 2))}, r"xy_profile: shape \(2, 3, 2\); at most"),
    "struct": ({"xy_profile": {"x": 1.0}}, "xy_profile is of class struct"),
    "cell": ({"xy_profile": np.array([[1], ["a"]], dtype=object)}, "xy_profile is of class cell"),
    "text": ({"xy_profile": "abc"}, "xy_profile is of class char"),
    "logical": ({"xy_profile": np.ones((2, 3), bool)}, "xy_profile is of class logical"),
    "complex": ({"xy_profile": 1j * np.ones((2, 3))}, "xy_profile: real numbers are needed"),
    "NaN": ({"xy_profile": np.full((2, 3), np.nan)}, "xy_profile holds a value that is not finite"),
    "huge": ({"xy_profile": np.full((2, 3), 1e300)}, r"not finite or exceeds 1e\+30"),
    "count": ({"pulse_dt": np.full((1, 2), 1e-6)}, "pulse_dt: 2 values for 3 points"),
    "zero step": ({"pulse_dt": np.zeros((1, 3))}, "pulse_dt = 0 s: must be > 0 s"),
    "two levels": ({"pwr_level": np.ones((1, 2))}, "pwr_level: one number >= 0"),
    "negative level": ({"pwr_level": -1.0}, "pwr_level: one number >= 0"),
    "title": ({"title": 5.0}, "title is of class double; text is needed"),
    "sparse": ({"xy_profile": __import__("scipy.sparse").sparse.csc_array(np.ones((2, 3)))}, "of class sparse"),
}


@pytest.mark.parametrize("case", BAD_MATLAB)
def test_matlab_variables(tmp_path, case):
    variables, message = BAD_MATLAB[case]
    save(tmp_path / "a.mat", **(GOOD | variables if case != "no profile" else variables))
    refused(tmp_path / "a.mat", FormatError, message)


def test_matlab_z_profile_needs_a_unit(tmp_path):
    save(tmp_path / "a.mat", xy_profile=np.ones((2, 3)), z_profile=np.ones((1, 3)))
    refused(tmp_path / "a.mat", FormatError, "z_profile without pwr_level has no unit")


def test_matlab_other_variables_are_never_loaded(tmp_path):
    save(tmp_path / "a.mat", **GOOD, other={"cell": np.array([1, "a"], dtype=object)}, big=np.zeros(1000))
    assert read_shape(tmp_path / "a.mat").pulse.steps == 3


def element(kind, payload):
    return struct.pack("<II", kind, len(payload)) + payload


def test_matlab_containers(tmp_path):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, GOOD)
    good = buffer.getvalue()
    header, body = good[:128], good[128:]
    path = tmp_path / "a.mat"
    for content, error, message in [
        (header.replace(b"5.0", b"7.3"), FormatError, "7.3 .* save it with -v7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), FormatError, "7.3 .* save it with -v7"),
        (header[:126] + b"XX" + body, FormatError, "not a MATLAB version 5 file"),
        (good[:-3], FormatError, "cut off: the element at byte"),
        (good + b"\0\0", FormatError, "cut off at byte"),
        (header + element(9, bytes(8)), FormatError, "element type 9 at byte 128 is not a variable"),
        (header + element(15, b"not zlib"), FormatError, "damaged at byte 128"),
        (header + element(14, bytes(40)), FormatError, "not a readable .mat file|no variable xy_profile"),
        (header + element(15, zlib.compress(bytes(70_000_000))), RefusedFile, "inflates to more than 67108864 bytes"),
        (good + body, FormatError, "xy_profile stands in the file twice"),
    ]:
        path.write_bytes(content)
        refused(path, error, message, format="matlab")


def test_matlab_compressed_files_are_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", GOOD, do_compression=True)
    shape = read_shape(tmp_path / "a.mat")
    assert shape.pulse.duration_s == pytest.approx(3e-6)
    assert shape.rf_max_hz == pytest.approx(6 / (2 * np.pi))


def test_detection_asks_where_two_formats_are_possible(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("100 0\n50 90\n")
    with pytest.raises(FormatError, match=r"a\.txt: format not recognised; name it \(--format\): simpson, varian$"):
        detect_format(path)
    for suffix, name in ((".simpson", "simpson"), (".RF", "varian"), (".rf", "varian")):
        other = path.with_suffix(suffix)
        other.write_text(path.read_text())
        assert detect_format(other) == name


def test_content_decides_against_the_suffix(tmp_path):
    for name in NAMES:
        source = valid_file(tmp_path, name)
        wrong = tmp_path / ("wrong.csv" if name != "csv" else "wrong.pk")
        wrong.write_bytes(source.read_bytes())
        if name == "simpson":
            with pytest.raises(FormatError, match="simpson, varian"):
                detect_format(wrong)
        else:
            assert detect_format(wrong) == name
