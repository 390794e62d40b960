"""Genuine Bruker shapes and their dialects; the sense of the phase; the integral factor."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from exactgrad.errors import FormatError, InputError
from exactgrad.pulses.formats import EXMODES, integral_factor, read_shape, write_shape
from exactgrad.pulses.pulse import Pulse

GENUINE = Path(__file__).parents[2] / "data" / "bruker_shapes"
# name: points, first and last point (percent, degrees) as printed in the file
EXPECTED = {
    "Eburp2_1000.pk": (1000, (5.4881, 0.0), (5.671816, 0.0)),
    "q3_1000.pk": (1000, (0.03116348, 180.0), (9.622071, 0.0)),
    "r_snob_1000.pk": (1000, (5.146041, 180.0), (5.148024, 180.0)),
    "sed_200.pk": (200, (1e-4, 0.0), (1e-4, 0.0)),
}


def genuine(name):
    return read_shape(GENUINE / name, duration_us=1000.0, rf_max_hz=100.0)


def printed_integral_factor(name):
    return re.search(r"INTEGFAC= (\S+)", (GENUINE / name).read_text())[1]


def digits_unit(token):
    """One unit of the last printed digit."""
    mantissa, _, exponent = token.partition("E")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def mean_amplitude(pulse, rf_max_hz):
    """The planted bug: INTEGFAC without the phase."""
    return float(np.mean(pulse.amplitude_hz) / rf_max_hz)


@pytest.mark.parametrize("name", EXPECTED)
def test_genuine_points(name):
    count, first, last = EXPECTED[name]
    shape = genuine(name)
    assert (shape.format, shape.pulse.steps) == ("bruker", count)
    for i, (percent, degrees) in ((0, first), (-1, last)):
        assert shape.pulse.amplitude_hz[i] == pytest.approx(percent, rel=1e-12)
        assert np.rad2deg(shape.pulse.phase_rad[i]) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("name", EXPECTED)
def test_genuine_integral_factor_to_every_printed_digit(name):
    token = printed_integral_factor(name)
    assert abs(integral_factor(genuine(name).pulse, 100.0) - float(token)) <= 0.51 * digits_unit(token)


@pytest.mark.parametrize("name", ["Eburp2_1000.pk", "q3_1000.pk"])
def test_an_integral_factor_without_phase_is_caught(name):
    token = printed_integral_factor(name)
    assert abs(mean_amplitude(genuine(name).pulse, 100.0) - float(token)) > 1000 * digits_unit(token)


@pytest.mark.parametrize("name", EXPECTED)
def test_genuine_shapes_survive_our_writer(tmp_path, name):
    shape = genuine(name)
    write_shape(tmp_path / "copy.pk", shape.pulse, "bruker", title=name)
    back = read_shape(tmp_path / "copy.pk")
    assert np.hypot(back.pulse.ux_hz - shape.pulse.ux_hz, back.pulse.uy_hz - shape.pulse.uy_hz).max() < 2e-7
    assert (back.title, back.notes) == (name, ())


def test_the_topspin_35_dialect_is_explained():
    shape = read_shape(GENUINE / "r_snob_1000.pk", rf_max_hz=100.0)
    assert shape.pulse.duration_s == pytest.approx(1e-3)  # its SHAPE_LENGTH
    assert shape.notes == ("NPOINTS given 2 times: the last, 1000, counts",)


def test_header_layout(tmp_path):
    pulse = Pulse.from_polar([1e-6] * 4, [5000.0, 2500.0, 0.0, 5000.0], np.deg2rad([0.0, 90.0, 0.0, 270.0]))
    path = tmp_path / "a.pk"
    write_shape(
        path,
        pulse,
        "bruker",
        title="my pulse",
        rf_max_hz=10000.0,
        exmode="Excitation",
        bandwidth_hz=1e5,
        when=datetime(2007, 7, 25, 12, 53),
    )
    assert path.read_text().split("\n") == [
        "##TITLE= my pulse",
        "##JCAMP-DX= 5.00 Bruker JCAMP library",
        "##DATA TYPE= Shape Data",
        "##ORIGIN= exactgrad",
        "##OWNER= <exactgrad>",
        "##DATE= 2007/07/25",
        "##TIME= 12:53:00",
        "$$ exactgrad: duration_us=4.0 rf_max_hz=10000.0",
        "$$ power: 100 % = 10000 Hz = that of a hard 90 degree pulse of 25 us; relative to a hard pulse of nu Hz "
        "it is 20 log10(10000 / nu) dB",
        "##$SHAPE_PARAMETERS= Type: exactgrad, length 4 us, RFmax 10000 Hz",
        "##MINX= 0.000000E00",
        "##MAXX= 5.000000E01",
        "##MINY= 0.000000E00",
        "##MAXY= 2.700000E02",
        "##$SHAPE_EXMODE= Excitation",
        "##$SHAPE_TOTROT= 9.000000E01",
        "##$SHAPE_TYPE= Excitation",
        "##$SHAPE_USER_DEF= ",
        "##$SHAPE_REPHFAC= ",
        "##$SHAPE_BWFAC= 4.000000E-01",
        "##$SHAPE_BWFAC50= ",
        "##$SHAPE_INTEGFAC= 1.397542E-01",  # |0.5 + 0.25i + 0 - 0.5i| / 4 = sqrt(0.3125) / 4
        "##$SHAPE_MODE= 1",
        "##NPOINTS= 4",
        "##XYPOINTS= (XY..XY)",
        "5.000000000E01, 0.000000000E00",
        "2.500000000E01, 9.000000000E01",
        "0.000000000E00, 0.000000000E00",
        "5.000000000E01, 2.700000000E02",
        "##END=",
        "",
    ]


@pytest.mark.parametrize("exmode", EXMODES)
def test_every_exmode_is_written(tmp_path, exmode):
    write_shape(tmp_path / "a", Pulse.from_polar([1e-6], [1.0], [0.0]), "bruker", title="", exmode=exmode)
    text = (tmp_path / "a").read_text()
    assert f"##$SHAPE_EXMODE= {exmode}\n" in text
    assert "##$SHAPE_MODE= 0\n" in text


POINTS = [(50.0, 0.0), (100.0, 90.0), (25.0, 270.0)]
DIALECTS = {
    "bare": "##TITLE= t\n##XYPOINTS= (XY..XY)\n50, 0\n100, 90\n25, 270\n##END=\n",
    "CRLF": "##TITLE= t\r\n##NPOINTS= 3\r\n##XYPOINTS= (XY..XY)\r\n50, 0\r\n100, 90\r\n25, 270\r\n##END=\r\n",
    "old Mac line ends": "##TITLE= t\r##XYPOINTS= (XY..XY)\r50, 0\r100, 90\r25, 270\r##END",
    "tabs": "##XYPOINTS= (XY..XY)\n50\t0\n100 \t 90\n25,\t270\n##END\n##TITLE= ignored",
    "order": "##NPOINTS= 3\n##XYPOINTS= (XY..XY)\n50 0\n100 90\n25 270\n##MAXX= 100\n##TITLE= t\n##END=",
    "comments": "$$ hello\n##TITLE= t $$ u\n##XYPOINTS= (XY..XY)\n$$ here\n50 0 $$ there\n100 90\n\n25 270\n##END=\n$$",
    "MAXX not 100": "##MAXX= 77\n##XYPOINTS= (XY..XY)\n50 0\n100 90\n25 270\n##END=",
    "negative": "##XYPOINTS= (XY..XY)\n50 0\n-100 270\n25 -90\n##END=",
    "key spelling": "##npoints= 3\n## xy points =(XY..XY)\n50 0\n1.0E02 90\n2.5e+1 270\n##end=",
    "two NPOINTS": "##NPOINTS= 4\n##NPOINTS= 3\n##XYPOINTS= (XY..XY..)\n50 0\n100 90\n25 270\n##END",
    "array": "##$SHAPE_X= (0..3)\n1 2\n3 4\n##XYPOINTS= (XY..XY)\n50 0\n100 90\n25 270\n##END",
    "byte-order mark": "\ufeff##TITLE= t\n##XYPOINTS= (XY..XY)\n50 0\n100 90\n25 270\n##END",
    "XWIN-NMR": "RFVERSION_F\n50 0\n100 90\n25 270\n",
    "XWIN-NMR above 100": "RFVERSION_F\n1000 0\n2000 90\n500 270\n",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects(tmp_path, dialect):
    path = tmp_path / "a"
    path.write_bytes(DIALECTS[dialect].encode())
    shape = read_shape(path, duration_us=3.0, rf_max_hz=100.0)
    assert shape.format == "bruker"
    expected = Pulse.from_polar([1e-6] * 3, *np.array([(a, np.deg2rad(p)) for a, p in POINTS]).T)
    assert np.allclose(shape.pulse.ux_hz, expected.ux_hz, rtol=0, atol=1e-12)
    assert np.allclose(shape.pulse.uy_hz, expected.uy_hz, rtol=0, atol=1e-12)


def test_xwin_amplitudes_alone_have_phase_zero(tmp_path):
    (tmp_path / "a").write_text("RFVERSION_F\n50\n-25\n")
    pulse = read_shape(tmp_path / "a", duration_us=3.0, rf_max_hz=100.0).pulse
    assert np.allclose((pulse.ux_hz, pulse.uy_hz), [(50.0, -25.0), (0.0, 0.0)], atol=1e-12)


def test_amplitudes_slightly_above_100_stay():
    shape = genuine("q3_1000.pk")
    assert shape.pulse.peak_hz == pytest.approx(100.0029, rel=1e-12)
    assert shape.rf_max_hz == 100.0


J = "##TITLE= t\n##NPOINTS= {}\n##XYPOINTS= (XY..XY)\n{}##END=\n"
HOSTILE = {
    "count": (J.format(3, "1 0\n2 0\n"), r"a:2: NPOINTS= 3, but 2 points follow"),
    "count 1e18": (J.format("1000000000000000000", "1 0\n"), r"a:2: NPOINTS = 10+: a whole number from 1 to 1000000"),
    "count half": (J.format("1.5", "1 0\n"), r"a:2: NPOINTS = 1\.5: a whole"),
    "count word": (J.format("many", "1 0\n"), r"a:2: NPOINTS = 'many': a finite decimal"),
    "NaN": (J.format(1, "nan 0\n"), r"a:4: amplitude % = 'nan': a finite decimal"),
    "inf": (J.format(1, "1 -inf\n"), r"a:4: phase deg = '-inf'"),
    "1e999": (J.format(1, "1e999 0\n"), r"a:4: amplitude % = 1e999: must not exceed"),
    "unicode digits": (J.format(1, "١٢ 0\n"), r"a:4: amplitude % = '١٢': a finite decimal"),
    "underscore": (J.format(1, "1_0 0\n"), r"a:4: amplitude % = '1_0'"),
    "one column": (J.format(1, "1\n"), r"a:4: 1 columns where 2 are needed \(amplitude %, phase deg\)"),
    "three columns": (J.format(1, "1 2 3\n"), r"a:4: 3 columns"),
    "decimal comma": (J.format(1, "1,5 2,5\n"), r"a:4: 4 columns"),
    "in Hz": (J.format(1, "5000 0\n"), r"a:4: amplitude 5000: at most 110 percent"),
    "no XYPOINTS": ("##TITLE= t\n1 2\n##END=\n", r"a:3: no ##XYPOINTS"),
    "two XYPOINTS": (J.format(1, "1 0\n##XYPOINTS= (XY..XY)\n1 0\n"), r"a:5: a second ##XYPOINTS \(.* line 3\)"),
    "X++": ("##XYPOINTS= (X++(Y..Y))\n##END=", r"a:1: ##XYPOINTS= .* only \(XY\.\.XY\)"),
    "no points": (J.format(1, ""), r"a:3: no points follow"),
    "truncated": ("##XYPOINTS= (XY..XY)\n1 0\n2 0", r"a:3: no ##END= after 2 points: cut off"),
    "long line": ("##TITLE= " + "x" * 5000, r"a:1: a line of 5009 characters; at most 4096"),
    "length": ("##$SHAPE_LENGTH= -1\n##XYPOINTS= (XY..XY)\n1 0\n##END=", r"a:1: SHAPE_LENGTH = -1: must be > 0"),
    "own comment": ("##TITLE=\n$$ exactgrad: duration_us=1e999 rf_max_hz=1", r"a:2: duration_us = 1e999"),
    "XWIN empty": ("RFVERSION_F\n", r"a:1: no points after RFVERSION_F"),
    "XWIN word": ("RFVERSION_F\n1 0\nx 0", r"a:3: amplitude = 'x'"),
    "XWIN columns": ("RFVERSION_F\n1 0 0\n", r"a:2: 3 columns where 1 to 2"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files(tmp_path, case):
    text, message = HOSTILE[case]
    path = tmp_path / "a"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=message) as caught:
        read_shape(path, duration_us=1.0, rf_max_hz=1.0)
    assert "\n" not in str(caught.value)


def test_too_many_points(tmp_path, monkeypatch):
    path = tmp_path / "a"
    monkeypatch.setattr("exactgrad.pulses.formats.transfer.MAX_POINTS", 100)  # the real bound takes seconds to reach
    path.write_text("##XYPOINTS= (XY..XY)\n" + "1 0\n" * 101 + "##END=")
    with pytest.raises(FormatError, match="holds 101 points; from 1 to 100 are read"):
        read_shape(path, duration_us=1.0, rf_max_hz=1.0)
    path.write_text("##XYPOINTS= (XY..XY)\n" + "\n" * 1_100_000)
    with pytest.raises(FormatError, match="1100001 lines; at most 1010000 are read"):
        read_shape(path, duration_us=1.0, rf_max_hz=1.0)


def magnetisation(pulse, offset_hz):
    """Independent loop: turn (0, 0, 1) by Rodrigues' formula, step by step."""
    m = np.array([0.0, 0.0, 1.0])
    for dt, ux, uy, uz in zip(pulse.step_s, pulse.ux_hz, pulse.uy_hz, pulse.uz_hz, strict=True):
        t = 2 * np.pi * dt * np.array([ux, uy, offset_hz + uz])
        angle = np.linalg.norm(t)
        n = t / angle
        m = m * np.cos(angle) + np.cross(n, m) * np.sin(angle) + n * (n @ m) * (1 - np.cos(angle))
    return m


@pytest.mark.parametrize("name", ["bruker", "varian", "simpson", "xepr", "siemens", "csv", "matlab", "pulseq"])
def test_a_rising_phase_excites_positive_offsets(tmp_path, name):
    n, dt, shift = 200, 1e-5, 3000.0
    t = (np.arange(n) + 0.5) * dt
    envelope = np.exp(-0.5 * ((t - 1e-3) / 3e-4) ** 2)
    envelope *= 0.5 / (envelope.sum() * dt)  # an inversion
    pulse = Pulse.from_polar(np.full(n, dt), envelope, 2 * np.pi * shift * t)
    path = tmp_path / "off_centre"
    write_shape(path, pulse, name, title="")
    given = {"duration_us": 2000.0, "rf_max_hz": pulse.peak_hz * (1 + 1e-9)}
    plus = read_shape(path, format=name, **given).pulse
    minus = read_shape(path, format=name, phase_sign=-1, **given).pulse
    assert magnetisation(plus, shift)[2] < -0.99
    assert magnetisation(plus, -shift)[2] > 0.99
    assert magnetisation(minus, -shift)[2] < -0.99
    write_shape(path, pulse, name, title="", phase_sign=-1, overwrite=True)
    assert magnetisation(read_shape(path, format=name, **given).pulse, -shift)[2] < -0.99


def test_integral_factor_weighs_by_time_and_needs_rf():
    pulse = Pulse.from_polar([1e-6, 3e-6], [100.0, 50.0], [0.0, np.pi / 2])
    assert integral_factor(pulse) == pytest.approx(np.hypot(1 * 1, 3 * 0.5) / 4, rel=1e-14)
    assert integral_factor(pulse, 200.0) == pytest.approx(integral_factor(pulse) / 2, rel=1e-14)
    with pytest.raises(InputError, match="rf_max_hz = 0 Hz: must be > 0"):
        integral_factor(Pulse.from_polar([1e-6], [0.0], [0.0]))
