"""Every check names the value and what is allowed, and lets nothing but real, finite numbers through."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.errors import (
    BackendMissing,
    CheckFailed,
    ExactgradError,
    FolderInUse,
    FormatError,
    InputError,
    NotWritten,
    RefusedFile,
    require_finite,
    require_range,
    require_shape,
)


@pytest.mark.parametrize("kind", [FormatError, RefusedFile, FolderInUse, BackendMissing, NotWritten])
def test_bad_input_exits_with_2(kind):
    assert issubclass(kind, InputError)
    assert kind.exit_code == 2


def test_a_failed_check_exits_with_1():
    assert CheckFailed.exit_code == 1
    assert issubclass(CheckFailed, ExactgradError) and not issubclass(CheckFailed, InputError)


REFUSED = {
    "None": (None, "real numbers expected"),
    "text": ("1.5", "real numbers expected"),
    "texts": (["1", "2"], "real numbers expected"),
    "bytes": (b"1", "real numbers expected"),
    "complex": (np.array([1 + 2j]), "real numbers expected"),
    "ragged": ([[1.0], [1.0, 2.0]], "real numbers expected"),
    "object": (object(), "real numbers expected"),
    "dates": (np.array(["2020-01-01"], dtype="M8[D]"), "real numbers expected"),
    "a dict": ({"a": 1}, "real numbers expected"),
    "huge integer": (10**400, "real numbers expected"),
    "NaN": (float("nan"), r"n = nan Hz: a finite number is needed"),
    "infinity": (float("inf"), r"n = inf Hz: a finite number is needed"),
    "minus infinity": ([0.0, -np.inf], r"n\[1\] = -inf Hz: a finite number"),
    "NaN in a table": (np.array([[0, 1], [np.nan, 2]]), r"n\[1, 0\] = nan Hz: a finite number"),
    "beyond double": (np.array([np.finfo(np.longdouble).max]), r"n\[0\] = inf Hz: a finite number"),
    "several lines": ("a\nb\nc", r"real numbers expected, got 'a\\nb\\nc'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_not_finite_real_numbers_are_refused(case):
    value, message = REFUSED[case]
    with warnings.catch_warnings(), pytest.raises(InputError, match=message) as caught:
        warnings.simplefilter("error")
        require_finite("n", value, "Hz")
    assert type(caught.value) is InputError
    assert "\n" not in str(caught.value)


ACCEPTED = {
    "number": (1.5, 1.5),
    "whole number": (3, 3.0),
    "beyond 64 bits": (10**25, 1e25),
    "list": ([1, 2.5], [1.0, 2.5]),
    "empty": ([], []),
    "big-endian": (np.array([1.0, 2.0], dtype=">f8"), [1.0, 2.0]),
    "float32": (np.array([0.5], dtype=np.float32), [0.5]),
    "every second": (np.arange(6.0)[::2], [0.0, 2.0, 4.0]),
    "bool": (True, 1.0),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_real_numbers_become_float64(case):
    value, expected = ACCEPTED[case]
    found = require_finite("n", value)
    assert found.dtype == np.float64
    assert np.array_equal(found, expected)


def test_a_read_only_array_is_accepted_and_not_changed():
    given_array = np.arange(3.0)
    given_array.flags.writeable = False
    assert np.array_equal(require_finite("n", given_array), [0, 1, 2])


@pytest.mark.parametrize(
    ("shape", "wanted", "text"),
    [
        ((3,), (4,), r"axis: shape \(3,\) where \(4\) is needed"),
        ((3,), (None, 3), r"where \(any, 3\) is needed"),
        ((), (None,), r"shape \(\) where \(any\)"),
        ((2, 0), (2, 3), r"shape \(2, 0\) where \(2, 3\)"),
    ],
)
def test_a_wrong_shape_is_told_with_the_one_needed(shape, wanted, text):
    with pytest.raises(InputError, match=text):
        require_shape("axis", np.zeros(shape), wanted)


def test_none_in_a_shape_stands_for_any_length():
    array = np.zeros((7, 3))
    assert require_shape("axis", array, (None, 3)) is array


@pytest.mark.parametrize(
    ("value", "bounds", "text"),
    [
        (-1.0, {"low": 0.0}, r"^t = -1 us: must be >= 0 us$"),
        (0.0, {"low": 0.0, "open_low": True}, r"^t = 0 us: must be > 0 us$"),
        (11.0, {"low": 1.0, "high": 10.0}, r"^t = 11 us: must be >= 1 and <= 10 us$"),
        (11.0, {"high": 10.0}, r"^t = 11 us: must be <= 10 us$"),
        (float("nan"), {"low": 0.0}, r"^t = nan us: a finite number is needed$"),
        ("1", {}, "real numbers expected"),
    ],
)
def test_out_of_range_is_told_with_value_unit_and_bounds(value, bounds, text):
    with pytest.raises(InputError, match=text):
        require_range("t", value, "us", **bounds)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.floats(), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_number_passes_exactly_when_it_is_finite_and_within_the_bounds(value, low, high):
    inside = np.isfinite(value) and low <= value <= high
    try:
        assert require_range("n", value, low=low, high=high) == value
        assert inside
    except InputError:
        assert not inside
