"""Evaluate and convert: closed forms, every kind of target, and files as they come from elsewhere."""

from __future__ import annotations

import json

import numpy as np
import pytest

from exactgrad.cli.main import main
from exactgrad.errors import InputError
from exactgrad.pulses.bloch import simulate
from exactgrad.pulses.evaluate import convert_file, evaluate_file, parse_target
from exactgrad.pulses.formats import list_formats, read_shape, write_shape
from exactgrad.pulses.pulse import Pulse

ONE_SPIN = {"bandwidth_hz": 0.0, "offsets": 1, "b1_spread": 0.0, "b1_points": 1}


@pytest.fixture
def hard(tmp_path):
    """A 90 degree pulse about x: 50 us at 5 kHz."""
    path = tmp_path / "hard.pk"
    write_shape(path, Pulse.from_polar([1e-5] * 5, [5000.0] * 5, [0.0] * 5), "bruker", title="hard 90")
    return path


def random_pulse(steps=30, seed=0, z_hz=0.0) -> Pulse:
    rng = np.random.default_rng(seed)
    return Pulse(np.full(steps, 2e-6), *rng.normal(0, 8000, (2, steps)), rng.normal(0, 1, steps) * z_hz)


class TestTargets:
    @pytest.mark.parametrize(
        ("text", "quality"),
        [
            ("transfer:z,-y", 1.0),
            ("transfer:z,y", -1.0),
            ("transfer:z,x", 0.0),
            ("transfer:x,x", 1.0),
            (" transfer:z,-y".strip(), 1.0),
            ("transfer: z , -y", 1.0),
            ("rotation:x,90", 1.0),
            ("rotation:x,-90", 0.0),  # cos 90: half of the angle between them
            ("rotation:x,0", np.cos(np.pi / 4)),
            ("rotation:x,450", -1.0),  # the sign of the quaternion counts
            ("saturation:z", 1.0),
            ("saturation:x", 0.0),
            ("transverse:z", 1.0),
            ("transverse:x", 0.0),
        ],
    )
    def test_a_hard_90_degree_pulse(self, hard, text, quality):
        assert np.isclose(evaluate_file(hard, text, ONE_SPIN)["quality"], quality, atol=1e-9)

    def test_off_resonance_it_is_the_rotation_about_the_tilted_axis(self, hard):
        found = evaluate_file(hard, "transfer:z,z", {"bandwidth_hz": 6000.0, "offsets": 3})
        nu = np.hypot(5000.0, 3000.0)
        tilted = 1 - (5000.0 / nu) ** 2 * (1 - np.cos(2 * np.pi * nu * 50e-6))
        assert np.isclose(found["quality"], (2 * tilted + 0.0) / 3, atol=1e-9)
        assert np.isclose(found["quality_min"], min(tilted, 0.0), atol=1e-9)

    def test_b1_scales_the_angle(self, hard):
        found = evaluate_file(hard, "transfer:z,z", {**ONE_SPIN, "b1_spread": 0.2, "b1_points": 2})
        angles = np.deg2rad([72.0, 108.0])
        assert np.isclose(found["quality"], np.cos(angles).mean(), atol=1e-9)
        assert np.isclose(found["quality_min"], np.cos(angles[1]), atol=1e-9)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "transfer",
            "transfer:",
            "transfer:z",
            "transfer:z,x,y",
            "rotation:x",
            "rotation:x,ninety",
            "saturation:",
            "saturation:z,x",
            "inversion:z",
            "Transfer:z,x",
            "transfer;z,x",
            "a\nb",
        ],
    )
    def test_a_wrong_text_is_told_with_what_is_allowed(self, text):
        with pytest.raises(InputError, match=r"--target .*(must be transfer:FROM,TO or|is not an angle)"):
            parse_target(text)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("transfer:z,q", "target.transfer.1 = 'q': Input should be 'x', 'y', 'z'"),
            ("saturation:q", "target.saturation = 'q': Input should be"),
            ("rotation:x,nan", "target.rotation.angle_deg = nan degrees: Input should be a finite number"),
            ("rotation:x,1e999", "target.rotation.angle_deg = inf degrees: Input should be a finite number"),
            ("rotation:w,90", "target.rotation.axis = 'w'"),
        ],
    )
    def test_a_wrong_value_is_told_with_its_key(self, hard, capsys, text, message):
        assert main(["pulse", "evaluate", str(hard), "--target", text]) == 2
        found = capsys.readouterr()
        assert found.out == "" and found.err.count("\n") == 1
        assert message in found.err


class TestRelaxation:
    def test_very_long_times_change_nothing(self, hard):
        ensemble = {"bandwidth_hz": 4000.0, "offsets": 5}
        for text in ("transfer:z,-y", "saturation:z", "transverse:z"):
            plain = evaluate_file(hard, text, ensemble)["quality"]
            slow = evaluate_file(hard, text, ensemble, t1_s=1e9, t2_s=1e9)["quality"]
            assert np.isclose(plain, slow, atol=1e-9)

    def test_transverse_decay(self, hard):
        slow, fast = (evaluate_file(hard, "transverse:z", ONE_SPIN, t2_s=t2)["quality"] for t2 in (1e-2, 1e-4))
        assert 0.99 < slow < 1.0
        assert fast < 0.9

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--t1-s", "0"], "t1_s = 0 s: must be >= 1e-07 s"),
            (["--t2-s", "-1"], "t2_s = -1 s: must be"),
            (["--t2-s", "nan"], "t2_s = nan s: a finite number is needed"),
            (["--t2-s", "0.1", "--target", "rotation:x,90"], "a rotation has no quality with relaxation"),
        ],
    )
    def test_wrong(self, hard, capsys, options, message):
        assert main(["pulse", "evaluate", str(hard), "--target", "transfer:z,x", *options]) == 2
        assert message in capsys.readouterr().err


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--bandwidth-hz", "-5"], "ensemble.bandwidth_hz = -5.0 Hz: Input should be greater than or equal to 0"),
            (["--bandwidth-hz", "nan"], "ensemble.bandwidth_hz = nan Hz: Input should be a finite number"),
            (["--bandwidth-hz", "1e300"], "ensemble.bandwidth_hz = 1e+300 Hz: Input should be less than or equal"),
            (["--bandwidth-hz", "wide"], "Invalid value for '--bandwidth-hz'"),
            (["--offsets", "0"], "ensemble.offsets = 0: Input should be greater than or equal to 1"),
            (["--offsets", "1000000", "--b1-points", "100"], "1 to 4000000 are allowed"),
            (["--b1-spread", "1"], "ensemble.b1_spread = 1.0: Input should be less than 1"),
            (["--b1-points", "0"], "ensemble.b1_points = 0: Input should be greater than or equal to 1"),
            (["--duration-us", "0"], "duration_us = 0 us: must be > 0 us"),
            (["--duration-us", "inf"], "duration_us = inf us: a finite number is needed"),
            (["--rf-max-hz", "-1"], "rf_max_hz = -1 Hz: must be > 0"),
            (["--phase-sign", "2"], "phase_sign = 2: must be +1 or -1"),
            (["--format", "doc"], "format 'doc': unknown; there are: bruker, csv, matlab"),
            (["--format", "csv"], "hard.pk"),
        ],
    )
    def test_wrong(self, hard, capsys, options, message):
        assert main(["pulse", "evaluate", str(hard), "--target", "transfer:z,x", *options, "--json"]) == 2
        found = capsys.readouterr()
        assert found.out == "" and found.err.count("\n") == 1
        assert message in found.err

    def test_no_target(self, hard, capsys):
        assert main(["pulse", "evaluate", str(hard)]) == 2
        assert "--target" in capsys.readouterr().err

    def test_what_the_file_does_not_say(self, tmp_path, capsys):
        path = tmp_path / "a.pk"
        path.write_text("##TITLE= plain\n##NPOINTS= 1\n##XYPOINTS= (XY..XY)\n100.0, 0.0\n##END=\n")
        words = ["pulse", "evaluate", str(path), "--target", "transfer:z,-y", "--json"]
        assert main(words) == 2
        assert "does not say how long the pulse is; give duration_us (--duration-us)" in capsys.readouterr().err
        assert main([*words, "--duration-us", "50"]) == 2
        assert "does not say the amplitude at 100 %; give rf_max_hz (--rf-max-hz)" in capsys.readouterr().err
        assert main([*words, "--duration-us", "50", "--rf-max-hz", "5000"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert np.isclose(found["quality"], 1.0, atol=1e-12)
        assert (found["peak_hz"], found["steps"]) == (5000.0, 1)

    def test_rf_max_scales_a_file_of_fractions(self, hard):
        found = evaluate_file(hard, "transfer:z,-z", ONE_SPIN, rf_max_hz=10_000.0)
        assert np.isclose(found["quality"], 1.0, atol=1e-9)
        assert any("rf_max_hz = 10000 Hz counts" in note for note in found["notes"])

    def test_the_sense_of_phase(self, tmp_path):
        write_shape(tmp_path / "y.pk", Pulse.from_polar([5e-5], [5000.0], [np.pi / 2]), "bruker", title="90 about y")
        for sign, target in ((1, "transfer:z,x"), (-1, "transfer:z,-x")):
            found = evaluate_file(tmp_path / "y.pk", target, ONE_SPIN, phase_sign=sign)
            assert np.isclose(found["quality"], 1.0, atol=1e-9)

    def test_offset_controls_are_not_scaled_by_b1(self, tmp_path):
        pulse = random_pulse(z_hz=9000.0)
        write_shape(tmp_path / "a.csv", pulse, "csv", title="z")
        found = evaluate_file(tmp_path / "a.csv", "transfer:z,x", {**ONE_SPIN, "b1_spread": 0.3, "b1_points": 2})
        expected = simulate(pulse, [0.0, 0.0], [0.7, 1.3], [0.0, 0.0, 1.0])[:, 0]
        assert np.isclose(found["quality"], expected.mean(), atol=1e-12)


class TestConvert:
    @pytest.mark.parametrize("name", list_formats())
    def test_from_csv_and_back(self, tmp_path, name):
        pulse = random_pulse()
        write_shape(tmp_path / "a.csv", pulse, "csv", title="mine", rf_max_hz=50_000.0)
        fmt = list_formats()[name]
        to = tmp_path / f"b{fmt.suffix}"
        summary = convert_file(tmp_path / "a.csv", to)
        assert (summary["from"], summary["to"], summary["file"]) == ("csv", name, str(to))
        convert_file(
            to,
            tmp_path / "c.csv",
            duration_us=None if fmt.holds_duration else 60.0,
            rf_max_hz=None if fmt.holds_rf_max else 50_000.0,
            shape_format=name,
        )
        again = read_shape(tmp_path / "c.csv").pulse
        tolerance = {"xepr": 2e-6, "pulseq": 1e-4}.get(name, 1e-8) * 50_000
        assert np.allclose([again.ux_hz, again.uy_hz], [pulse.ux_hz, pulse.uy_hz], rtol=0, atol=tolerance)
        assert np.isclose(again.duration_s, 60e-6, rtol=1e-9)

    def test_the_other_sense_of_phase_twice_is_the_same(self, tmp_path):
        write_shape(tmp_path / "a.csv", random_pulse(), "csv", title="mine")
        convert_file(tmp_path / "a.csv", tmp_path / "b.csv", phase_sign=-1)
        convert_file(tmp_path / "b.csv", tmp_path / "c.csv", phase_sign=-1)
        a, b, c = (read_shape(tmp_path / f"{name}.csv").pulse for name in "abc")
        assert np.allclose(b.uy_hz, -a.uy_hz, atol=1e-9)
        assert np.allclose(c.uy_hz, a.uy_hz, atol=1e-9)

    def test_an_existing_destination_is_kept(self, hard, tmp_path, capsys):
        (tmp_path / "b.csv").write_text("mine")
        assert main(["pulse", "convert", str(hard), str(tmp_path / "b.csv")]) == 2
        assert "b.csv: exists already and is not overwritten" in capsys.readouterr().err
        assert (tmp_path / "b.csv").read_text() == "mine"

    def test_onto_itself(self, hard):
        before = hard.read_bytes()
        with pytest.raises(InputError, match="exists already"):
            convert_file(hard, hard)
        assert hard.read_bytes() == before

    @pytest.mark.parametrize(
        ("to", "options", "message"),
        [
            ("b.doc", [], "its suffix names no format; give --to one of bruker (.pk), csv (.csv)"),
            ("b", [], "its suffix names no format"),
            ("b.csv", ["--to", "doc"], "format 'doc': unknown"),
            ("missing/b.csv", [], "cannot be written: No such file or directory"),
            ("hard.pk/b.csv", [], "cannot be written: Not a directory"),
            ("x" * 300 + ".csv", [], "cannot be written: File name too long"),
            ("b.csv", ["--rf-max-hz", "nan"], "rf_max_hz = nan Hz: a finite number is needed"),
            ("b.csv", ["--phase-sign", "0"], "phase_sign = 0: must be +1 or -1"),
        ],
    )
    def test_wrong(self, hard, tmp_path, capsys, to, options, message):
        assert main(["pulse", "convert", str(hard), str(tmp_path / to), *options, "--json"]) == 2
        found = capsys.readouterr()
        assert found.out == "" and found.err.count("\n") == 1
        assert message in found.err
        assert [path.name for path in tmp_path.iterdir()] == ["hard.pk"]

    def test_a_pulse_that_the_format_cannot_hold(self, tmp_path):
        write_shape(tmp_path / "z.csv", random_pulse(z_hz=100.0), "csv", title="z")
        with pytest.raises(InputError, match=r"format bruker cannot hold an offset control \(uz\)"):
            convert_file(tmp_path / "z.csv", tmp_path / "z.pk")
        uneven = Pulse(np.array([1e-6, 2.7e-6]), np.ones(2), np.ones(2), np.zeros(2))
        write_shape(tmp_path / "u.csv", uneven, "csv", title="u")
        with pytest.raises(InputError, match="format bruker has one step length"):
            convert_file(tmp_path / "u.csv", tmp_path / "u.pk")
