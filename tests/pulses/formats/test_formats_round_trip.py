"""Law: what a format can hold comes back, to the digits the format writes; what it cannot hold is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import InputError
from exactgrad.pulses.formats import FORMATS, detect_format, read_shape, write_shape
from exactgrad.pulses.pulse import Pulse

NAMES = ("bruker", "csv", "matlab", "pulseq", "siemens", "simpson", "varian", "xepr")
# Error of a component, relative to rf_max: half a unit of the last digit written, amplitude and phase together.
KEPT = {
    "bruker": 2e-9,
    "csv": 0.0,
    "matlab": 1e-15,
    "pulseq": 1e-5,
    "siemens": 2e-9,
    "simpson": 2e-14,
    "varian": 1e-10,
    "xepr": 6e-7,
}
LAW = settings(deadline=None, derandomize=True, max_examples=25)


@st.composite
def pulses(draw, uniform=True, z=False):
    count = draw(st.integers(1, 12))
    amplitude = st.one_of(st.just(0.0), st.floats(1e-3, 20000.0))
    values = draw(st.lists(st.tuples(amplitude, st.floats(-400.0, 400.0)), min_size=count, max_size=count))
    step = draw(st.floats(1e-8, 1e-3))
    ratios = (
        np.ones(count) if uniform else np.array(draw(st.lists(st.integers(1, 255), min_size=count, max_size=count)))
    )
    uz = draw(st.lists(st.floats(-1e5, 1e5), min_size=count, max_size=count)) if z else None
    a, degrees = np.array(values).T
    return Pulse.from_polar(step * ratios, a, np.deg2rad(degrees), uz)


def round_trip(folder, pulse, name, phase_sign=1, factor=1.0):
    path = folder / f"pulse{FORMATS[name].suffix}"
    rf_max_hz = factor * pulse.peak_hz
    write_shape(
        path, pulse, name, title="round trip", rf_max_hz=rf_max_hz, phase_sign=phase_sign, exmode="None", overwrite=True
    )
    assert detect_format(path) == name
    return read_shape(
        path,
        duration_us=None if FORMATS[name].holds_duration else pulse.duration_s * 1e6,
        rf_max_hz=None if FORMATS[name].holds_rf_max or rf_max_hz == 0 else rf_max_hz,
        phase_sign=phase_sign,
    )


def assert_same(pulse, back, name, scale):
    limit = KEPT[name] * scale
    assert np.abs(back.ux_hz - pulse.ux_hz).max() <= limit
    assert np.abs(back.uy_hz - pulse.uy_hz).max() <= limit
    assert np.abs(back.step_s / pulse.step_s - 1).max() <= (1e-6 if name == "pulseq" else 1e-12)


def test_every_format_is_listed():
    assert tuple(FORMATS) == NAMES
    assert all(item.name == name for name, item in FORMATS.items())
    assert len({item.suffix.lower() for item in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize("name", NAMES)
@given(pulse=pulses(), phase_sign=st.sampled_from([1, -1]), factor=st.sampled_from([1.0, 1.0, 3.7]))
@LAW
def test_uniform_pulses_come_back(tmp_path_factory, name, pulse, phase_sign, factor):
    folder = tmp_path_factory.getbasetemp()
    if pulse.peak_hz == 0:
        return test_pulses_without_rf(folder, name)
    shape = round_trip(folder, pulse, name, phase_sign, factor)
    assert_same(pulse, shape.pulse, name, factor * pulse.peak_hz)
    assert shape.format == name
    if name not in ("simpson", "pulseq"):
        assert shape.rf_max_hz == pytest.approx(factor * pulse.peak_hz, rel=1e-14)


@pytest.mark.parametrize("name", ["csv", "matlab", "varian"])
@given(pulse=pulses(uniform=False))
@LAW
def test_steps_of_several_lengths_come_back(tmp_path_factory, name, pulse):
    shape = round_trip(tmp_path_factory.getbasetemp(), pulse, name)
    assert_same(pulse, shape.pulse, name, pulse.peak_hz)


@pytest.mark.parametrize("name", ["csv", "matlab"])
@given(pulse=pulses(uniform=False, z=True))
@LAW
def test_offset_controls_come_back_bit_for_bit(tmp_path_factory, name, pulse):
    shape = round_trip(tmp_path_factory.getbasetemp(), pulse, name)
    assert np.array_equal(shape.pulse.uz_hz, pulse.uz_hz)
    assert np.array_equal(shape.pulse.step_s, pulse.step_s)


@pytest.mark.parametrize("name", NAMES)
def test_pulses_without_rf(tmp_path, name):
    pulse = Pulse(np.full(3, 1e-5), np.zeros(3), np.array([0.0, -0.0, 0.0]), np.zeros(3))
    if name == "pulseq":
        with pytest.raises(InputError, match="pulseq cannot hold a pulse without rf"):
            round_trip(tmp_path, pulse, name)
    elif name == "xepr":
        with pytest.raises(InputError, match="give rf_max_hz"):
            round_trip(tmp_path, pulse, name)
    else:
        assert round_trip(tmp_path, pulse, name).pulse.peak_hz == 0


def test_csv_keeps_every_bit(tmp_path):
    rng = np.random.default_rng(3)
    pulse = Pulse(rng.uniform(1e-7, 1e-5, 200), *rng.normal(0, 1e4, (3, 200)))
    shape = round_trip(tmp_path, pulse, "csv")
    for field in ("step_s", "ux_hz", "uy_hz", "uz_hz"):
        assert np.array_equal(getattr(shape.pulse, field), getattr(pulse, field))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("csv", "matlab")])
def test_an_offset_control_is_refused_where_it_cannot_be_held(tmp_path, name):
    pulse = Pulse(np.full(2, 1e-5), np.ones(2), np.zeros(2), np.array([0.0, 5.0]))
    assert not FORMATS[name].holds_z
    with pytest.raises(InputError, match=f"format {name} cannot hold an offset control"):
        write_shape(tmp_path / "a", pulse, name, title="")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("csv", "matlab", "varian")])
def test_steps_of_several_lengths_are_refused_where_there_is_one_dwell(tmp_path, name):
    pulse = Pulse(np.array([1e-5, 2e-5]), np.ones(2), np.zeros(2), np.zeros(2))
    assert FORMATS[name].needs_uniform_steps
    with pytest.raises(InputError, match=f"format {name} has one step length, .* steps of 10 to 20 us"):
        write_shape(tmp_path / "a", pulse, name, title="")


@pytest.mark.parametrize("ratio", [256.0, np.sqrt(2), 1 + 1e-4])
def test_varian_refuses_ratios_it_cannot_write(tmp_path, ratio):
    pulse = Pulse(np.array([1e-5, ratio * 1e-5]), np.ones(2), np.zeros(2), np.zeros(2))
    with pytest.raises(InputError, match="whole numbers from 1 to 255"):
        write_shape(tmp_path / "a", pulse, "varian", title="")


@pytest.mark.parametrize("name", NAMES)
def test_two_writes_are_byte_equal(tmp_path, name):
    from datetime import datetime

    pulse = Pulse.from_polar([1e-6] * 7, np.linspace(1, 2, 7), np.linspace(0, 9, 7))
    when = datetime(2020, 1, 2, 3, 4, 5)
    for file in ("a", "b"):
        write_shape(tmp_path / file, pulse, name, title="same", when=when)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arguments_are_checked(tmp_path):
    pulse = Pulse.from_polar([1e-6] * 2, [100.0, 50.0], [0.0, 1.0])
    path = tmp_path / "a.csv"
    for options, message in [
        ({"rf_max_hz": 90.0}, "rf_max_hz = 90 Hz: below the pulse's peak of 100 Hz"),
        ({"rf_max_hz": float("nan")}, "rf_max_hz = nan Hz: a finite number"),
        ({"phase_sign": 0}, "phase_sign = 0: must be"),
        ({"exmode": "Rotation"}, "exmode 'Rotation': must be one of None, Excitation"),
        ({"bandwidth_hz": -1.0}, "bandwidth_hz = -1 Hz: must be >= 0"),
        ({"flip_angle_deg": float("inf")}, "flip_angle_deg = inf deg"),
    ]:
        with pytest.raises(InputError, match=message):
            write_shape(path, pulse, "csv", title="", **options)
    with pytest.raises(InputError, match="format 'jeol': unknown; there are: bruker, csv"):
        write_shape(path, pulse, "jeol", title="")
    assert not path.exists()
    write_shape(path, pulse, "csv", title="")
    with pytest.raises(InputError, match="exists already and is not overwritten"):
        write_shape(path, pulse, "csv", title="")
    for options, message in [
        ({"duration_us": 0.0}, "duration_us = 0 us: must be > 0"),
        ({"rf_max_hz": -5.0}, "rf_max_hz = -5 Hz: must be > 0"),
        ({"rf_max_hz": 99.0}, "rf_max_hz = 99 Hz: below the peak of 100 Hz"),
        ({"phase_sign": 2}, "phase_sign = 2"),
        ({"format": "jeol"}, "format 'jeol': unknown"),
    ]:
        with pytest.raises(InputError, match=message):
            read_shape(path, **options)


def test_a_title_cannot_write_lines_of_its_own(tmp_path):
    pulse = Pulse.from_polar([1e-6] * 2, [100.0, 50.0], [0.0, 1.0])
    title = 'x\n##END=\n# rf_max_hz: 7\n$$ exactgrad: duration_us=1 rf_max_hz=7 "end shape1\x07'
    for name in NAMES:
        path = tmp_path / f"{name}{FORMATS[name].suffix}"
        write_shape(path, pulse, name, title=title)
        shape = read_shape(path, duration_us=2.0, rf_max_hz=100.0)
        assert shape.pulse.steps == 2
        assert np.abs(shape.pulse.ux_hz - pulse.ux_hz).max() < 1e-3
        assert not any("7 Hz" in note or "1 us" in note for note in shape.notes)


def test_arguments_win_over_the_file_and_a_note_says_so(tmp_path):
    pulse = Pulse.from_polar([1e-6] * 10, [100.0] * 10, [0.0] * 10)
    for name, peak in (("bruker", 200.0), ("varian", 200.0), ("siemens", 200.0), ("matlab", 200.0), ("csv", 100.0)):
        path = tmp_path / f"a{FORMATS[name].suffix}"
        write_shape(path, pulse, name, title="", rf_max_hz=100.0)
        shape = read_shape(path, duration_us=20.0, rf_max_hz=200.0)
        assert shape.pulse.duration_s == pytest.approx(20e-6, rel=1e-14)
        assert (shape.rf_max_hz, shape.pulse.peak_hz) == (200.0, pytest.approx(peak, rel=1e-9))
        assert any("the file says 10 us; duration_us = 20 us counts" in note for note in shape.notes)
        assert any("the file says 100 Hz at 100 %; rf_max_hz = 200 Hz counts" in note for note in shape.notes)
        assert any("in Hz and stay" in note for note in shape.notes) == (name == "csv")


def test_what_neither_file_nor_argument_says_is_asked_for(tmp_path):
    pulse = Pulse.from_polar([1e-6] * 2, [100.0, 50.0], [0.0, 1.0])
    write_shape(tmp_path / "a.simpson", pulse, "simpson", title="")
    write_shape(tmp_path / "a.shp", pulse, "xepr", title="")
    with pytest.raises(InputError, match=r"a\.simpson: does not say how long .*--duration-us"):
        read_shape(tmp_path / "a.simpson")
    with pytest.raises(InputError, match=r"a\.shp: does not say the amplitude at 100 %.*--rf-max-hz"):
        read_shape(tmp_path / "a.shp", duration_us=2.0)
