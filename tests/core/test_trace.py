"""The trace's own arithmetic, on a chain small enough to see through; and what it says when a stage is wrong."""

from dataclasses import replace

import numpy as np

from exactgrad.core.trace import Picture, Stage, Trace, confusing, correlations, rows, verdict
from exactgrad.report import trace_page


def square_of_twice(wrong=1.0):
    """loss = |2 p a|^2 at p = 3, a = (1, 2)."""
    a, one = np.array([1.0, 2.0]), np.ones(())
    y, dy = 6.0 * a, 2.0 * a
    stages = (
        Stage("parameter", "", "mm", 3 * one, one, np.array(2 * y @ dy)),
        Stage("doubled", "2 p a", "mm", y, wrong * dy, 2 * y),
        Stage("loss", "|.|^2", "mm^2", np.array(y @ y), np.array(2 * y @ dy), one),
    )
    return Trace("example", "p", "mm", "a length", 3.0, "by hand", stages, float(y @ y))


def test_every_stage_has_the_derivative():
    trace = square_of_twice()
    assert trace.agrees and trace.loss == 180.0 and trace.derivative == trace.backward == 120.0
    assert [row[-1] for row in rows(trace)] == ["120"] * 3
    assert "they agree" in verdict(trace)


def test_a_wrong_stage_and_a_wrong_kernel_are_told():
    wrong = square_of_twice(1.0 + 1e-6)
    assert not wrong.agrees and "DISAGREE" in verdict(wrong)
    assert not replace(square_of_twice(), loss_of_kernel=180.0 + 1e-6).agrees


def test_correlations_are_cosines_the_strongest_first():
    columns = [np.array([1.0, 0.0]), np.array([0.0, 2.0]), np.array([-3.0, 0.0]), np.zeros(2)]
    found = correlations("abcd", columns, 0)
    assert found == (("c", -1.0), ("b", 0.0))
    assert "c (-1.000)" in confusing(found) and "not enough" in confusing(found[1:]) and confusing(()) == ""
    assert correlations("abcd", columns, 3) == ()


def test_the_page_holds_the_stages_and_the_pictures():
    trace = replace(square_of_twice(), correlations=(("q", 0.5),), words=("A sentence.",))
    page = trace_page.markdown(trace, {"where": "where.png"})
    assert "| doubled | 2 p a | (2,) | mm | 6 | 12 |" in page and "\\|.\\|^2" in page
    assert "A sentence." in page and "| q | +0.5000 |" in page and "![where](where.png)" in page
    for values in (np.arange(5.0), np.arange(6.0).reshape(2, 3), np.zeros((2, 2))):
        assert trace_page.draw(Picture("where", "1", values, "x", "y")).startswith(b"\x89PNG")
