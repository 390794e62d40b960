"""The transmitter's response: a convolution, its exact transpose, and a file that says what it needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.core.verify import dot_test
from exactgrad.errors import FormatError, InputError
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.response import Response, read_response

STEPS = np.full(20, 2e-6)


def random_response(seed=0, taps=4) -> Response:
    rng = np.random.default_rng(seed)
    return Response(rng.normal(size=taps) + 1j * rng.normal(size=taps))


def by_hand(taps: np.ndarray, u: np.ndarray) -> np.ndarray:
    """u'_j = sum_k h_k u_{j-k}, as it is defined."""
    steps = u.shape[1]
    seen = np.zeros((3, steps + taps.size - 1))
    for j in range(seen.shape[1]):
        total = 0j
        for k in range(taps.size):
            if 0 <= j - k < steps:
                total += taps[k] * (u[0, j - k] + 1j * u[1, j - k])
        seen[0, j], seen[1, j] = total.real, total.imag
        seen[2, j] = u[2, j] if j < steps else 0.0
    return seen


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 30))
def test_it_is_the_sum_that_defines_it(seed, taps, steps):
    response = random_response(seed, taps)
    u = np.random.default_rng(seed + 1).normal(size=(3, steps))
    assert np.allclose(response.apply(u), by_hand(response.taps, u), atol=1e-13)


def dot(response: Response, taps: int, steps: int):
    u = np.zeros((3, steps))
    return dot_test(
        lambda v: response.push(u, v), lambda g: response.pull(u, g), ((3, steps), (3, steps + taps - 1)), "response"
    )


@pytest.mark.parametrize(("taps", "steps"), [(1, 1), (1, 9), (4, 9), (9, 4), (30, 1), (5, 200)])
def test_the_transpose_is_exact(taps, steps):
    check = dot(random_response(taps, taps), taps, steps)
    assert check.passed, check


class MissingConjugate(Response):
    """A planted bug: correlation with the taps themselves."""

    def pull(self, x, g):
        return Response(self.taps.conj()).pull(x, g)


class Reversed(Response):
    """A planted bug: convolution where correlation is needed."""

    def pull(self, x, g):
        return Response(self.taps[::-1]).pull(x, g)


class NoRingDown(Response):
    """A planted bug: the cotangent of the ring-down is dropped."""

    def pull(self, x, g):
        kept = g.copy()
        kept[:, x.shape[1] :] = 0.0
        return super().pull(x, kept)


@pytest.mark.parametrize("bug", [MissingConjugate, Reversed, NoRingDown])
def test_a_planted_bug_in_the_transpose_is_caught(bug):
    response = bug(random_response(3, 4).taps)
    assert not dot(response, 4, 9).passed


def test_it_is_linear():
    response, rng = random_response(), np.random.default_rng(1)
    x, v, g = rng.normal(size=(3, 7)), rng.normal(size=(3, 7)), rng.normal(size=(3, 10))
    assert np.array_equal(response.push(x, v), response.apply(v))
    assert not response.pull_tangent(x, v, g).any()


def test_a_perfect_transmitter_changes_nothing(tmp_path):
    (tmp_path / "h.csv").write_text("t_us,re,im\n0,1,0\n")
    response = read_response(tmp_path / "h.csv", STEPS)
    u = np.random.default_rng(0).normal(size=(3, 20))
    assert np.array_equal(response.apply(u), u)
    assert np.array_equal(response.pull(u, u), u)


def job(response=None) -> dict:
    tables = {
        "pulse": {"duration_us": 40.0, "step_us": 2.0, "controls": "xyz"},
        "target": {"transfer": ["z", "x"]},
        "ensemble": {"bandwidth_hz": 9000.0, "offsets": 5},
    }
    return tables if response is None else {**tables, "response": {"file": str(response)}}


def test_the_identity_gives_the_same_value_and_gradient(tmp_path):
    (tmp_path / "h.csv").write_text("t_us,re,im\n0,1,0\n2,0,0\n")
    plain, through = PulseProblem.from_job(job()), PulseProblem.from_job(job(tmp_path / "h.csv"))
    x = plain.start(0)
    value, gradient = plain.value_and_gradient(x)
    # the response lengthens the pulse by a step without rf, in which spins precess: only the one on resonance does not
    assert np.isclose(through.qualities(x)[2], plain.qualities(x)[2], atol=1e-13)
    (tmp_path / "one.csv").write_text("t_us,re\n0,1\n")
    one = PulseProblem.from_job(job(tmp_path / "one.csv"))
    assert one.value_and_gradient(x)[0] == value
    assert np.array_equal(one.value_and_gradient(x)[1], gradient)


BAD = {
    "no header": ("", FormatError, "no header line; columns t_us, re are needed"),
    "only comments": ("# t_us,re\n", FormatError, "no header line"),
    "no column": ("t_us,im\n0,1\n", FormatError, ":1: column re is missing (found: t_us, im)"),
    "unknown column": ("t_us,re,phase\n0,1,2\n", FormatError, ":1: column 'phase' is unknown or given twice"),
    "a column twice": ("t_us,re,re\n0,1,1\n", FormatError, ":1: column 're' is unknown or given twice"),
    "no rows": ("t_us,re\n", FormatError, "0 rows; 1 to 4000000 are allowed"),
    "text": (
        "# mine\nt_us,re\n0,1\n2,one\n",
        FormatError,
        ":4: 2 finite numbers, at most 1e+15, are needed, got '2,one",
    ),
    "NaN": ("t_us,re\n0,nan\n", FormatError, ":2: 2 finite numbers"),
    "1e999": ("t_us,re\n0,1e999\n", FormatError, ":2: 2 finite numbers"),
    "too few": ("t_us,re\n0,1\n\n2\n", FormatError, ":4: 2 finite numbers"),
    "too many": ("t_us,re\n0,1,1\n", FormatError, ":2: 2 finite numbers"),
    "underscores": ("t_us,re\n0,1_0\n", FormatError, ":2: 2 finite numbers"),
    "other digits": ("t_us,re\n0,١\n", FormatError, ":2: 2 finite numbers"),
    "an endless cell": ("t_us,re\n0," + "1" * 200_000, FormatError, ":2: not a line of CSV"),
    "a quote": ('t_us,re\n0,"1\n', FormatError, ":2: "),
    "late": ("t_us,re\n2,1\n4,1\n", FormatError, "the first row is at t_us = 2; a response starts at 0 us"),
    "another raster": ("t_us,re\n0,1\n1,1\n", InputError, "t_us = 1 in row 2; the pulse steps by 2 us"),
    "a gap": ("t_us,re\n0,1\n2,1\n6,1\n", InputError, "t_us = 6 in row 3; the pulse steps by 2 us"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_one_line(tmp_path, case):
    text, error, message = BAD[case]
    path = tmp_path / "h.csv"
    path.write_text(text)
    if case == "a quote":  # a cell that never ends is read as one; that it is a number or not is what counts
        assert read_response(path, STEPS).taps.tolist() == [1.0]
        return
    with pytest.raises(InputError) as caught:
        read_response(path, STEPS)
    assert type(caught.value) is error
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert message in str(caught.value)


def test_steps_of_several_lengths_have_no_raster(tmp_path):
    (tmp_path / "h.csv").write_text("t_us,re\n0,1\n2,1\n")
    with pytest.raises(InputError, match="a response needs pulse steps of one length"):
        read_response(tmp_path / "h.csv", np.array([2e-6, 3e-6]))


def test_what_a_good_file_says(tmp_path):
    (tmp_path / "h.csv").write_text("# measured\n RE , T_us,im\n\n1,0,0\n# half\n0.5,2,-0.25\r\n")
    assert read_response(tmp_path / "h.csv", STEPS).taps.tolist() == [1.0, 0.5 - 0.25j]
