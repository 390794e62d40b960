"""Cells of tables: what counts as a number, and how it is written."""

import numpy as np
import pytest

from exactgrad.report.numbers import cell_text, is_number, number_columns


@pytest.mark.parametrize("cell", [0, 1.5, -3e-9, np.float32(2), np.int64(3), "0.99", "1e-3", "-2", float("nan")])
def test_numbers_are_seen(cell):
    assert is_number(cell)


@pytest.mark.parametrize("cell", ["", "x", "1_0", "0x10", True, np.bool_(False), None, "12 kHz", [1.0]])
def test_other_cells_are_not(cell):
    assert not is_number(cell)


def test_text_of_cells():
    cells = [np.bool_(True), False, np.float64(1 / 3), 10**7, None, -0.0001234567, "a"]
    assert [cell_text(cell) for cell in cells] == ["yes", "no", "0.333333", "10000000", "–", "-0.000123457", "a"]


def test_a_column_with_one_word_is_text_and_an_empty_one_too():
    assert number_columns(4, [[1, "a", None, None], [2, 3, None, 1.0]]) == [True, False, False, True]
    assert number_columns(2, []) == [False, False]
