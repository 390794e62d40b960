"""The spins: grids, weights and measured distributions, and what is wrong with a file of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import FormatError, InputError, RefusedFile
from exactgrad.pulses import ensemble as module
from exactgrad.pulses.ensemble import Ensemble, read_columns


class TestGrid:
    def test_offsets_vary_slowest(self):
        spins = Ensemble.from_grid([-1.0, 0.0, 1.0], [0.9, 1.1])
        assert spins.offset_hz.tolist() == [-1, -1, 0, 0, 1, 1]
        assert spins.b1.tolist() == [0.9, 1.1] * 3
        assert (spins.spins, spins.grid) == (6, (3, 2))
        assert np.allclose(spins.weight, 1 / 6, rtol=1e-15)

    def test_weights_multiply(self):
        spins = Ensemble.from_grid([0.0, 1.0], [1.0, 2.0], [1.0, 3.0], [2.0, 0.0])
        assert np.allclose(spins.weight, [0.25, 0.0, 0.75, 0.0], rtol=1e-15)

    def test_a_single_number_is_a_list_of_one(self):
        assert Ensemble.from_grid(5.0, 1.0).spins == 1

    @settings(deadline=None, derandomize=True, max_examples=50)
    @given(st.lists(st.floats(0.0, 1.7e308), min_size=1, max_size=6))
    def test_weights_of_any_size_add_up_to_one(self, weights):
        if not any(weights):
            return
        spins = Ensemble.from_grid(np.arange(len(weights)), [1.0], weights)
        assert np.isclose(spins.weight.sum(), 1.0, rtol=1e-14)
        assert (spins.weight >= 0).all()

    @pytest.mark.parametrize(
        ("given_values", "message"),
        [
            (([], [1.0]), "ensemble: 0 offsets x 1 B1 points; 1 to 4000000 are allowed"),
            (([0.0], []), "ensemble: 1 offsets x 0 B1 points"),
            ((np.zeros(3000), np.ones(3000)), "ensemble: 3000 offsets x 3000 B1 points"),
            (([0.0, np.nan], [1.0]), r"ensemble.offsets_hz\[1\] = nan Hz: a finite number is needed"),
            (([0.0], [np.inf]), r"ensemble.b1\[0\] = inf: a finite number"),
            (([0.0], ["1"]), "ensemble.b1: real numbers expected"),
            (([0.0], [1.0], [1.0, 1.0]), "ensemble.offset_weights: 2 values where 1 are needed"),
            (
                ([0.0], [1.0], None, [-1.0]),
                "ensemble.b1_weights: weights must be >= 0 and not all zero, got a least of -1",
            ),
            (([0.0], [1.0], [0.0]), "ensemble.offset_weights: weights must be >= 0 and not all zero"),
            (([0.0], [1.0], [np.nan]), r"ensemble.offset_weights\[0\] = nan"),
        ],
    )
    def test_wrong(self, given_values, message):
        with pytest.raises(InputError, match=message):
            Ensemble.from_grid(*given_values)


def test_the_spacing_is_the_widest_gap():
    assert Ensemble.from_grid([0.0, 1.0, 5.0, 6.0], [0.9, 1.1]).spacing_hz() == 4.0
    assert Ensemble.from_grid([7.0], [0.9, 1.1]).spacing_hz() == 0.0


class TestDistribution:
    def test_a_measured_one(self, tmp_path):
        (tmp_path / "b.csv").write_text("# from a map\nb1, offset_hz ,weight\n0.9,-10,1\n\n1.1,20.5,3\n")
        spins = Ensemble.from_csv(tmp_path / "b.csv")
        assert spins.offset_hz.tolist() == [-10.0, 20.5]
        assert spins.b1.tolist() == [0.9, 1.1]
        assert spins.weight.tolist() == [0.25, 0.75]
        assert spins.grid is None

    def test_without_weights_all_count_alike(self, tmp_path):
        (tmp_path / "b.csv").write_text("offset_hz,b1\r\n1,1\r\n2,1\r\n")
        assert Ensemble.from_csv(tmp_path / "b.csv").weight.tolist() == [0.5, 0.5]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no header line; columns offset_hz, b1 are needed"),
            ("offset_hz\n1\n", ":1: column b1 is missing (found: offset_hz)"),
            ("offset_hz,b1,phase\n", ":1: column 'phase' is unknown or given twice; allowed: offset_hz, b1, weight"),
            ("offset_hz,b1\n", "0 rows; 1 to 4000000 are allowed"),
            ("# a\n\noffset_hz,b1\n1,1\n\n2\n", ":6: 2 finite numbers, at most 1e+15, are needed, got '2'"),
            ("offset_hz,b1\n1,nan\n", ":2: 2 finite numbers"),
            ("offset_hz,b1\n1e999,1\n", ":2: 2 finite numbers"),
            ("offset_hz,b1\n1e300,1\n", ":2: 2 finite numbers, at most 1e+15"),
            ("offset_hz;b1\n1;1\n", ":1: column offset_hz is missing"),
            ("1,1\n2,2\n", ":1: column offset_hz is missing"),
            ("offset_hz,b1\n1," + "9" * 200_000, ":2: not a line of CSV (field larger than field limit"),
            ("offset_hz," + "b" * 200_000, ":1: not a line of CSV"),
        ],
    )
    def test_a_wrong_one_is_told_with_its_line(self, tmp_path, text, message):
        path = tmp_path / "b.csv"
        path.write_text(text)
        with pytest.raises(FormatError) as caught:
            Ensemble.from_csv(path)
        assert str(caught.value).startswith(str(path))
        assert message in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize(("text", "message"), [("1,1,-1\n", "weights must be >= 0"), ("1,1,0\n", "not all zero")])
    def test_wrong_weights(self, tmp_path, text, message):
        (tmp_path / "b.csv").write_text("offset_hz,b1,weight\n" + text)
        with pytest.raises(InputError, match=message):
            Ensemble.from_csv(tmp_path / "b.csv")

    def test_too_many_rows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "MOST_SPINS", 3)
        (tmp_path / "b.csv").write_text("offset_hz,b1\n" + "1,1\n" * 4)
        with pytest.raises(FormatError, match="4 rows; 1 to 3 are allowed"):
            Ensemble.from_csv(tmp_path / "b.csv")

    def test_a_huge_file_is_not_read(self, tmp_path):
        with open(tmp_path / "b.csv", "wb") as handle:
            handle.truncate(200_000_000)
        with pytest.raises(RefusedFile, match="larger than 67108864 bytes"):
            Ensemble.from_csv(tmp_path / "b.csv")

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(st.text(max_size=60), st.booleans())
    def test_any_text_gives_spins_or_one_line(self, tmp_path_factory, text, headed):
        path = tmp_path_factory.mktemp("any") / "b.csv"
        path.write_bytes((("offset_hz,b1\n" if headed else "") + text).encode("utf-8", "surrogatepass"))
        try:
            columns = read_columns(path, required=("offset_hz", "b1"))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(np.isfinite(values).all() and values.size for values in columns.values())
