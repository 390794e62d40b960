"""What is particular to a format: layout as its programs expect it, and dialects that its reader accepts."""

from __future__ import annotations

import numpy as np
import pypulseq
import pytest
import scipy.io

from exactgrad.errors import BackendMissing, FormatError, InputError
from exactgrad.pulses.formats import read_shape, write_shape
from exactgrad.pulses.pulse import Pulse

FOUR = Pulse.from_polar([1e-6] * 4, [5000.0, 2500.0, 0.0, 5000.0], np.deg2rad([0.0, 90.0, 0.0, 270.0]))


def written(tmp_path, name, pulse=FOUR, **options):
    path = tmp_path / "a"
    write_shape(path, pulse, name, title="my pulse", **options)
    return path.read_text().split("\n")


def test_simpson_layout(tmp_path):
    assert written(tmp_path, "simpson") == ["5000 0", "2500 90", "0 0", "5000 270", ""]


def test_xepr_layout(tmp_path):
    lines = ['begin shape1 "my pulse"', "1.000000,0.000000", "0.000000,0.500000"]
    assert written(tmp_path, "xepr") == [*lines, "0.000000,0.000000", "0.000000,-1.000000", "end shape1", ""]


def test_xepr_dialects(tmp_path):
    (tmp_path / "a.shp").write_bytes(b'begin shape048 "chirp"\r\n0.5,-0.25\r\n1.0,0\r\nend shape048\r\n')
    shape = read_shape(tmp_path / "a.shp", duration_us=2.0, rf_max_hz=100.0)
    assert (shape.title, shape.pulse.ux_hz.tolist(), shape.pulse.uy_hz.tolist()) == (
        "chirp",
        [50.0, 100.0],
        [-25.0, 0.0],
    )
    (tmp_path / "b.shp").write_text("begin shape1\n0.5\n-1\nend shape1\n")
    assert read_shape(tmp_path / "b.shp", duration_us=2.0, rf_max_hz=100.0).pulse.ux_hz.tolist() == [50.0, -100.0]


def test_siemens_layout(tmp_path):
    lines = written(tmp_path, "siemens", rf_max_hz=10000.0, bandwidth_hz=1e6)
    integral = abs(0.5 + 0.25j - 0.5j)
    # 1 MHz x 4 us = 4 cycles over 5.12 ms: 781.25 Hz over 10 mm of 42.577 MHz/T
    assert lines == [
        "PULSENAME: my pulse",
        "COMMENT: exactgrad: duration_us=4.0 rf_max_hz=10000.0",
        f"REFGRAD: {781.25 / 425.77478518:.9f}",
        "MINSLICE: 1.000000000",
        "MAXSLICE: 200.000000000",
        f"AMPINT: {integral:.9f}",
        "POWERINT: 0.562500000",
        "ABSINT: 1.250000000",
        "",
        "0.500000000\t0.000000000\t; (0)",
        "0.250000000\t1.570796327\t; (1)",
        "0.000000000\t0.000000000\t; (2)",
        "0.500000000\t4.712388980\t; (3)",
        "",
    ]


def test_varian_layout(tmp_path):
    pulse = Pulse(np.array([1e-6, 2.5e-6]), np.array([500.0, 0.0]), np.array([0.0, 250.0]), np.zeros(2))
    assert written(tmp_path, "varian", pulse, rf_max_hz=1000.0, exmode="Inversion", bandwidth_hz=2e6) == [
        "# TITLE my pulse",
        "# exactgrad: duration_us=3.5 rf_max_hz=1000.0",
        "# VERSION exactgrad",
        "# TYPE selective",
        "# MODULATION amplitude",
        "# EXCITEWIDTH -1",
        "# INVERTWIDTH 7",
        f"# INTEGRAL {np.hypot(500.0, 625.0) / 3500:.6f}",
        "# STEPS 2",
        "0.0 1023.0 0.0 0",
        "0.000000000 511.500000000 2.0 1",
        "90.000000000 255.750000000 5.0 1",
        "",
    ]
    write_shape(tmp_path / "b", FOUR, "varian", title="")
    assert "0.0 1023.0 0.0 0" not in (tmp_path / "b").read_text()


def test_varian_dialects(tmp_path):
    path = tmp_path / "a.RF"
    path.write_text("# Pbox\n0.0\t512.0 1.0\n90.0 1024.0 3.0 # up\n180 256 1 0\n")
    shape = read_shape(path, duration_us=5.0, rf_max_hz=100.0)
    assert np.allclose(shape.pulse.step_s, [1e-6, 3e-6, 1e-6])
    assert np.allclose(shape.pulse.amplitude_hz, [50.0, 100.0, 0.0])
    assert shape.notes == (
        "the largest amplitude is 1024, not 1023: it is 100 %, as on the console",
        "1 steps have their gate closed: their amplitude is 0",
    )
    path.write_text("0 1023 0 0\n0 511.5\n")
    shape = read_shape(path, duration_us=5.0, rf_max_hz=100.0)
    assert (shape.pulse.ux_hz.tolist(), shape.notes) == ([50.0], ())


def test_csv_layout(tmp_path):
    lines = written(tmp_path, "csv", rf_max_hz=10000.0)
    assert lines[:6] == [
        "# format: exactgrad pulse 1",
        "# title: my pulse",
        "# dt_s: 1e-06",
        "# rf_max_hz: 10000.0",
        "# convention: phase = atan2(uy, ux), active right-handed rotation, offset > 0 turns x towards y",
        "t_s,step_s,amp_hz,phase_deg,ux_hz,uy_hz,uz_hz",
    ]
    assert lines[6] == "0.0,1e-06,5000.0,0.0,5000.0,0.0,0.0"


@pytest.mark.parametrize(
    ("text", "steps_us"),
    [
        ("phase_deg, AMP_Hz ,step_s\n0,1,1e-6\n90,2,3e-6\n", [1.0, 3.0]),
        ("# dt_s: 2e-6\nuy_hz,ux_hz\n0,1\n2,0\n", [2.0, 2.0]),
        ("t_s,uy_hz,ux_hz\r\n0,0,1\r\n2e-6,2,0\r\n", [2.0, 2.0]),
        ("uy_hz,ux_hz,note\n0,1,start\n2,0,end\n", None),
    ],
)
def test_csv_dialects(tmp_path, text, steps_us):
    path = tmp_path / "a.csv"
    path.write_text(text)
    shape = read_shape(path, duration_us=None if steps_us else 10.0)
    assert np.allclose(shape.pulse.ux_hz, [1.0, 0.0], atol=1e-15)
    assert np.allclose(shape.pulse.uy_hz, [0.0, 2.0], atol=1e-15)
    assert np.allclose(shape.pulse.step_s * 1e6, steps_us or [5.0, 5.0])
    assert shape.notes == (("columns ignored: note",) if "note" in text else ())


def test_csv_whose_maximum_is_below_its_peak(tmp_path):
    (tmp_path / "a.csv").write_text("# rf_max_hz: 1\n# dt_s: 1\nux_hz,uy_hz\n2,0\n")
    with pytest.raises(FormatError, match="says rf_max_hz = 1 Hz, but its amplitudes reach 2 Hz"):
        read_shape(tmp_path / "a.csv")


def test_matlab_layout(tmp_path):
    pulse = Pulse(np.array([1e-6, 2e-6]), np.array([500.0, 0.0]), np.array([0.0, 250.0]), np.array([0.0, 100.0]))
    write_shape(tmp_path / "a.mat", pulse, "matlab", title="my pulse", rf_max_hz=1000.0)
    found = scipy.io.loadmat(tmp_path / "a.mat")
    assert np.array_equal(found["xy_profile"], [[0.5, 0.0], [0.0, 0.25]])
    assert np.array_equal(found["z_profile"], [[0.0, 0.1]])
    assert np.array_equal(found["uz_hz"], [[0.0, 100.0]])
    assert np.array_equal(found["pulse_dt"], [[1e-6, 2e-6]])
    assert found["pwr_level"].item() == 2 * np.pi * 1000
    assert found["title"].item() == "my pulse"


def test_matlab_dialects(tmp_path):
    xy = np.array([[1, 0], [0, -1]], dtype=np.int16)
    scipy.io.savemat(
        tmp_path / "a.mat", {"xy_profile": xy, "pulse_dt": 1e-6, "pwr_level": 200 * np.pi, "z_profile": 0.5}
    )
    pulse = read_shape(tmp_path / "a.mat").pulse
    assert np.allclose(pulse.ux_hz, [100.0, 0.0])
    assert np.allclose(pulse.uy_hz, [0.0, -100.0])
    assert np.allclose(pulse.uz_hz, [50.0, 50.0])
    scipy.io.savemat(tmp_path / "b.mat", {"xy_profile": xy})
    assert read_shape(tmp_path / "b.mat", duration_us=4.0, rf_max_hz=10.0).pulse.step_s.tolist() == [2e-6, 2e-6]


def as_pypulseq_reads_it(path):
    sequence = pypulseq.Sequence()
    sequence.read(str(path))
    return sequence.get_block(1).rf


@pytest.mark.parametrize("dwell_us", [1.0, 10.0, 0.5, 0.8, 1.02, 7.3, 981.41304612])
@pytest.mark.parametrize("steps", [1, 2, 3, 50])
def test_pulseq_is_read_by_pypulseq_as_by_us(tmp_path, dwell_us, steps):
    rng = np.random.default_rng(5)
    pulse = Pulse.from_polar([dwell_us * 1e-6] * steps, rng.uniform(100, 9000, steps), rng.uniform(0, 7, steps))
    path = tmp_path / "a.seq"
    write_shape(path, pulse, "pulseq", title="my pulse", exmode="Excitation")
    theirs, ours = as_pypulseq_reads_it(path), read_shape(path)
    assert (ours.title, theirs.use) == ("my pulse", "excitation")
    signal = theirs.signal[: pulse.steps]
    assert np.abs(signal - (ours.pulse.ux_hz + 1j * ours.pulse.uy_hz)).max() < 1e-9 * pulse.peak_hz
    assert np.abs(signal - (pulse.ux_hz + 1j * pulse.uy_hz)).max() < 1e-5 * pulse.peak_hz
    assert ours.pulse.steps == steps
    assert ours.pulse.duration_s == pytest.approx(pulse.duration_s, rel=1e-8)
    assert theirs.t[0] + theirs.t[-1] == pytest.approx(pulse.duration_s, rel=1e-8)


def test_pulseq_files_of_others(tmp_path):
    """A packed shape, a block pulse by its edges, and a phase offset, as pypulseq writes them."""
    system = pypulseq.Opts(rf_dead_time=0, rf_ringdown_time=0)
    sinc = pypulseq.make_gauss_pulse(1.5, duration=1e-3, system=system, phase_offset=0.3, use="excitation")
    block = pypulseq.make_block_pulse(1.5, duration=2e-3, system=system, phase_offset=1.0, use="excitation")
    for event, steps in ((sinc, sinc.signal.size), (block, 1)):
        sequence = pypulseq.Sequence(system)
        sequence.add_block(event)
        sequence.write(str(tmp_path / "a.seq"))
        pulse = read_shape(tmp_path / "a.seq").pulse
        expected = event.signal[:steps] * np.exp(1j * event.phase_offset)
        assert pulse.steps == steps
        assert pulse.duration_s == pytest.approx(event.shape_dur, rel=1e-6)
        assert np.abs(pulse.ux_hz + 1j * pulse.uy_hz - expected).max() < 1e-5 * pulse.peak_hz


@pytest.mark.parametrize(
    ("minor", "rf"), [(2, "1 100 1 2 0 0 1.5708"), (3, "1 100 1 2 0 0 1.5708"), (4, "1 100 1 2 0 0 0 1.5708")]
)
def test_older_pulseq_versions(tmp_path, minor, rf):
    (tmp_path / "a.seq").write_text(
        f"# Pulseq sequence file\n[VERSION]\nmajor 1\nminor {minor}\nrevision 0\n[RF]\n{rf}\n[SHAPES]\n"
        "shape_id 1\nnum_samples 6\n0.5\n0\n0\n3\n\nshape_id 2\nnum_samples 6\n0\n0\n4\n"
    )
    pulse = read_shape(tmp_path / "a.seq").pulse
    assert np.allclose(pulse.ux_hz, 0.0, atol=1e-3)
    assert np.allclose(pulse.uy_hz, 50.0)
    assert pulse.duration_s == pytest.approx(6e-6)


def test_pulseq_without_its_library(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypulseq", None)
    with pytest.raises(BackendMissing, match=r"pip install 'exactgrad\[pulseq\]'"):
        write_shape(tmp_path / "a.seq", FOUR, "pulseq", title="")
    assert not list(tmp_path.iterdir())


def test_a_damaged_pulseq_write_is_not_handed_out(tmp_path, monkeypatch):
    """Planted: pypulseq scales the signal (what no_signal_scaling=True prevents)."""
    genuine = pypulseq.make_arbitrary_rf

    def scaled(**options):
        return genuine(**(options | {"no_signal_scaling": False, "flip_angle": 1.0}))

    monkeypatch.setattr(pypulseq, "make_arbitrary_rf", scaled)
    with pytest.raises(InputError, match="pulseq cannot hold this pulse to 1e-05"):
        write_shape(tmp_path / "a.seq", FOUR, "pulseq", title="")
    assert not list(tmp_path.iterdir())
