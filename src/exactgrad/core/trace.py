"""The trace of a parameter: how it reaches the result, and how the gradient comes back.

A system walks its own equation sheet. Each stage is a cut through the chain: all of the parameter's influence passes
through it, so the scalar product of its cotangent (what the loss grows by) and its tangent (what it moves by when the
parameter grows by one unit) is the same number at every stage, the derivative itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AGREEMENT = 1e-10  # of |cotangent| |tangent|: forward against backward
COLUMNS = ("stage", "formula", "shape", "unit", "least", "most", "tangent", "cotangent", "cotangent . tangent")


@dataclass(frozen=True)
class Stage:
    """One cut through the chain.

    Attributes
    ----------
    name, formula, unit : str
    value : ndarray
    tangent, cotangent : ndarray
        Of one shape; not always the value's (a rotation moves by a small turn).
    """

    name: str
    formula: str
    unit: str
    value: np.ndarray
    tangent: np.ndarray
    cotangent: np.ndarray

    @property
    def derivative(self) -> float:
        """The derivative of the loss, as this stage has it."""
        return float(np.vdot(self.cotangent, self.tangent))

    @property
    def scale(self) -> float:
        """|cotangent| |tangent|: what an error of the derivative is relative to."""
        return float(np.linalg.norm(self.cotangent) * np.linalg.norm(self.tangent))


@dataclass(frozen=True)
class Picture:
    """Where a parameter acts: numbers over one or two axes, signed.

    Attributes
    ----------
    title, unit : str
    values : ndarray, shape (n,) or (rows, columns)
    x, y : str
        What the columns and the rows are.
    extent : (float, float, float, float)
        First and last of the columns, first and last of the rows.
    """

    title: str
    unit: str
    values: np.ndarray
    x: str
    y: str = ""
    extent: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Trace:
    """What a parameter does, stage by stage.

    Attributes
    ----------
    system, parameter, unit, meaning : str
    value : float
    example : str
        The job, or the embedded example.
    stages : tuple of Stage
        From the parameter to the loss; the last is the loss itself.
    loss_of_kernel : float
        The loss of the fused kernel.
    correlations : tuple of (str, float)
        Other parameters and their correlation with this one in this case (Gauss-Newton), the strongest first.
    pictures : tuple of Picture
    words : tuple of str
        What sign and size say here; computed from the case.
    """

    system: str
    parameter: str
    unit: str
    meaning: str
    value: float
    example: str
    stages: tuple[Stage, ...]
    loss_of_kernel: float
    correlations: tuple[tuple[str, float], ...] = ()
    pictures: tuple[Picture, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def loss(self) -> float:
        """The loss at the end of the stages."""
        return float(self.stages[-1].value)

    @property
    def derivative(self) -> float:
        """The derivative of the loss by the parameter, by the tangents alone (forward)."""
        return float(self.stages[-1].tangent)

    @property
    def backward(self) -> float:
        """The same by the cotangents alone: what comes back to the parameter."""
        return float(self.stages[0].cotangent)

    @property
    def disagreement(self) -> float:
        """Return the largest difference of a stage's derivative from the forward one, relative to its scale."""
        return max(
            abs(stage.derivative - self.derivative) / max(stage.scale, abs(self.derivative), 1e-300)
            for stage in self.stages
        )

    @property
    def off_kernel(self) -> float:
        """Return the difference of the stages' loss from the kernel's, relative to the larger of it and one."""
        return abs(self.loss - self.loss_of_kernel) / max(1.0, abs(self.loss_of_kernel))

    @property
    def agrees(self) -> bool:
        """Whether forward and backward agree, and the stages with the kernel."""
        return self.disagreement <= AGREEMENT and self.off_kernel <= 1e-12


def rows(trace: Trace) -> list[tuple[str, ...]]:
    """Return the stages as table rows, one cell for each of `COLUMNS`.

    Examples
    --------
    >>> one = np.ones(())
    >>> p, loss = Stage("distance", "", "mm", 3 * one, one, 6 * one), Stage("loss", "p^2", "", 9 * one, 6 * one, one)
    >>> rows(Trace("example", "distance", "mm", "", 3.0, "", (p, loss), 9.0))[1]
    ('loss', 'p^2', '()', '', '9', '9', '6', '1', '6')
    """
    return [
        (
            stage.name,
            stage.formula,
            str(tuple(stage.value.shape)),
            stage.unit,
            f"{stage.value.min():.5g}",
            f"{stage.value.max():.5g}",
            f"{np.abs(stage.tangent).max():.4g}",
            f"{np.abs(stage.cotangent).max():.4g}",
            f"{stage.derivative:.12g}",
        )
        for stage in trace.stages
    ]


def verdict(trace: Trace) -> str:
    """Return in one sentence whether forward, backward and kernel agree."""
    word = "agree" if trace.agrees else "DISAGREE"
    return (
        f"forward {trace.derivative:.12g}, backward {trace.backward:.12g} per {trace.unit or 'unit'}: they {word} "
        f"(to {trace.disagreement:.0e}); the stages' loss is the kernel's to {trace.off_kernel:.0e}"
    )


def correlations(names: Sequence[str], columns: Sequence[np.ndarray], chosen: int) -> tuple[tuple[str, float], ...]:
    """Return the correlation of derivative `chosen` of what is measured with each other one, the strongest first.

    `columns` are the derivatives by each parameter of `names`, weighted as the data are; a parameter that moves
    nothing is left out.

    Examples
    --------
    >>> found = correlations(("a", "b", "c"), [np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.zeros(2)], 0)
    >>> [(name, round(value, 4)) for name, value in found]
    [('b', 0.7071)]
    """
    norms = [float(np.linalg.norm(column)) for column in columns]
    if norms[chosen] == 0:
        return ()
    found = [
        (name, float(np.vdot(columns[chosen], column)) / (norms[chosen] * norm))
        for i, (name, column, norm) in enumerate(zip(names, columns, norms, strict=True))
        if i != chosen and norm > 0
    ]
    return tuple(
        sorted(found, key=lambda item: -round(abs(item[1]), 9))
    )  # equals stay as named, whatever their rounding


def confusing(found: Sequence[tuple[str, float]], least: float = 0.9) -> str:
    """Return a sentence about what of `found`, names with correlations of `least` or more, confuses a refinement."""
    strong = [f"{name} ({value:+.3f})" for name, value in found if abs(value) >= least]
    if strong:
        return f"A refinement would confuse it with {', '.join(strong)}: fix one of them or give more data."
    if found:
        name, value = found[0]
        return f"It is most like {name} ({value:+.3f}), which is not enough to confuse a refinement."
    return ""
