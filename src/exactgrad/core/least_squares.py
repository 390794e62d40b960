"""Levenberg-Marquardt whose whole state is arrays, and what a fit's curvature says of its parameters.

For losses whose expected second derivative is known as J^T W J: sums of squares, and minus any log likelihood. Each
step solves (J^T W J + mu D) p = -gradient with D the largest diagonal seen so far (Marquardt 1963; Moré 1978), so that
it does not depend on the parameters' units; mu follows the gain ratio (Nielsen 1999, IMM-REP-1999-05).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from exactgrad.core.lbfgs import Status
from exactgrad.core.parameters import Parameters
from exactgrad.core.transforms import Transform
from exactgrad.errors import InputError, require_finite, require_shape

FIRST_DAMPING = 1e-3
MOST_TRIALS = 40  # of one iteration; the damping has grown by 2^820 then
NOISE = 2e-16  # of the loss, relative: a smaller decrease cannot be seen
LEAST_DAMPING = 1e-15
CORRELATED = 0.99  # above which two parameters are told as correlated
SINGULAR = 1e-13  # eigenvalue of the curvature scaled to a unit diagonal, below which a direction is undetermined
AT_BOUND = 1e-6  # of the distance between two bounds


class ResidualProducts(Protocol):
    """A loss of a flat vector x, with its Gauss-Newton curvature."""

    def residual_products(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the loss, its gradient (n,), and J^T W J (n, n): symmetric, no negative eigenvalue.

        Where there is no loss (a cell that closes no more) it is infinite, and a step that leads there is refused.
        """


@dataclass(frozen=True)
class State:
    """Everything a Levenberg-Marquardt run is, at an iteration boundary.

    Attributes
    ----------
    x, gradient : ndarray, shape (n,)
    curvature : ndarray, shape (n, n)
        J^T W J at x.
    scale : ndarray, shape (n,)
        D, the largest diagonal of the curvature so far.
    value, damping, growth : float
        Loss at x; mu; by how much mu grows at the next refusal.
    iteration, evaluations : int
    history : ndarray, shape (iteration + 1,)
        Loss after each iteration.
    status : Status
    """

    x: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    scale: np.ndarray
    value: float
    damping: float = FIRST_DAMPING
    growth: float = 2.0
    iteration: int = 0
    evaluations: int = 1
    history: np.ndarray = field(default_factory=lambda: np.zeros(0))
    status: Status = Status.RUNNING

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the state as named arrays."""
        return {
            "x": self.x,
            "gradient": self.gradient,
            "curvature": self.curvature,
            "scale": self.scale,
            "numbers": np.array([self.value, self.damping, self.growth]),
            "counts": np.array([self.iteration, self.evaluations], dtype=np.int64),
            "history": self.history,
            "status": np.frombuffer(self.status.name.encode(), np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> State:
        """Return the state that `to_arrays` described."""
        value, damping, growth = (float(number) for number in arrays["numbers"])
        iteration, evaluations = (int(count) for count in arrays["counts"])
        names = ("x", "gradient", "curvature", "scale", "history")
        return cls(
            **{name: np.array(arrays[name], dtype=np.float64, order="C") for name in names},
            value=value,
            damping=damping,
            growth=growth,
            iteration=iteration,
            evaluations=evaluations,
            status=Status[bytes(arrays["status"]).decode("ascii")],
        )


def begin(problem: ResidualProducts, x: np.ndarray) -> State:
    """Evaluate the problem at the start and return the first state.

    Raises
    ------
    InputError
        If the loss, its gradient or its curvature is not finite there.
    """
    x = np.array(x, dtype=np.float64)
    value, gradient, curvature = problem.residual_products(x)
    for name, numbers in (("loss", value), ("gradient", gradient), ("curvature", curvature)):
        require_finite(f"{name} at the start", numbers)
    require_shape("curvature", curvature, (x.size, x.size))
    return State(x, gradient, curvature, np.diagonal(curvature).copy(), value, history=np.array([value]))


def advance(problem: ResidualProducts, state: State, tolerance: float) -> State:
    """Return the state one accepted step later, or the same with the reason why there is none.

    Parameters
    ----------
    problem : ResidualProducts
    state : State
        As `begin`, `advance` or `State.from_arrays` gave it; it is not changed.
    tolerance : float
        A plateau is a step that was expected to lower the loss, and did, by no more than this times max(1, |loss|),
        while the damping held it back by no more than half.

    Examples
    --------
    >>> class Line:
    ...     def residual_products(self, x):
    ...         return 0.5 * float(x @ x), x, np.eye(2)
    >>> state = begin(Line(), [3.0, 4.0])
    >>> while state.status is Status.RUNNING:
    ...     state = advance(Line(), state, 1e-14)
    >>> bool(np.abs(state.x).max() < 1e-6), state.status.converged
    (True, True)
    """
    if not state.gradient.any():
        return replace(state, status=Status.GRADIENT)
    least = tolerance * max(1.0, abs(state.value))
    damping, growth, evaluations = state.damping, state.growth, state.evaluations
    for _ in range(MOST_TRIALS):
        step, promised = _step(state, damping)
        x = state.x + step
        if np.array_equal(x, state.x) or (promised <= NOISE * abs(state.value) and damping <= 1.0):
            break
        value, gradient, curvature = problem.residual_products(x)
        evaluations += 1
        decrease = state.value - value
        if decrease > 0 and np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(curvature).all():
            settled = promised <= least and decrease <= least and damping <= 1.0
            return replace(
                state,
                x=x,
                value=value,
                gradient=gradient,
                curvature=curvature,
                scale=np.maximum(np.diagonal(curvature), state.scale),
                damping=max(damping * max(1 / 3, 1 - (2 * decrease / promised - 1) ** 3), LEAST_DAMPING),
                growth=2.0,
                iteration=state.iteration + 1,
                evaluations=evaluations,
                history=np.append(state.history, value),
                status=Status.PLATEAU if settled else Status.RUNNING,
            )
        damping, growth = damping * growth, 2 * growth
    return replace(state, damping=damping, growth=growth, evaluations=evaluations, status=Status.PRECISION)


def minimise(
    problem: ResidualProducts,
    x: np.ndarray,
    max_iterations: int = 200,
    tolerance: float = 1e-12,
    halted: Callable[[State], bool] = lambda state: False,
) -> State:
    """Return the last state of a run from x, of `max_iterations` at most; `halted` sees every state and may end it."""
    state = begin(problem, x)
    while state.status is Status.RUNNING:
        if state.iteration >= max_iterations:
            return replace(state, status=Status.ITERATIONS)
        if halted(state):
            return replace(state, status=Status.INTERRUPTED)
        state = advance(problem, state, tolerance)
    return state


def _step(state: State, damping: float) -> tuple[np.ndarray, float]:
    """Return p and the decrease that the curvature promises for it, solved in units in which D is one."""
    from scipy.linalg import cho_factor, cho_solve

    unit = 1 / np.sqrt(np.where(state.scale > 0, state.scale, 1.0))
    matrix = state.curvature * unit[:, None] * unit
    slope = unit * state.gradient
    while True:  # rounding may have made the curvature indefinite, by less than its trace
        try:
            step = -cho_solve(cho_factor(matrix + damping * np.eye(unit.size)), slope)
            break
        except np.linalg.LinAlgError:
            damping *= 10.0
    return unit * step, 0.5 * float(step @ (damping * step - slope))


@dataclass(frozen=True)
class Transformed:
    """A problem of bounded physical parameters y as one of a free vector x: y_i = T_i(x_i), one transform an entry.

    With `transforms.Interval` an entry stays between two bounds, with `Exponential` above zero, with `Scale` it has
    its natural size. The curvature leaves T'' out, as it leaves out the model's: at a minimum inside, it counts
    nothing.
    """

    problem: ResidualProducts
    transforms: Sequence[Transform]

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Return y, shape (n,)."""
        return np.array([one.apply(entry) for one, entry in zip(self.transforms, x, strict=True)])

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """Return dy_i/dx_i, shape (n,)."""
        unit = np.ones(())
        return np.array([one.push(entry, unit) for one, entry in zip(self.transforms, x, strict=True)])

    def residual_products(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the loss, its gradient by x, and J^T W J by x."""
        value, gradient, curvature = self.problem.residual_products(self.apply(x))
        slopes = self.slopes(x)
        return value, slopes * gradient, curvature * slopes[:, None] * slopes


# -- what the curvature says ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failed:
    """A condition that standard errors rest on and that does not hold: its `kind`, the `names`, a sentence (`text`).

    Kinds: "not positive definite", "undetermined", "at bound", "correlated".
    """

    kind: str
    names: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Covariance:
    """What the curvature at a minimum says of the free parameters.

    Attributes
    ----------
    labels : tuple of str
        Names of the entries.
    esd : ndarray, shape (n,)
        Standard errors in the parameters' units; infinite where the data do not determine the parameter.
    matrix, correlation : ndarray, shape (n, n)
        Of the determined parameters; zero in the rows and columns of the others, but for 1 on the correlation's
        diagonal.
    failed : tuple of Failed
        Conditions that do not hold; none: the errors can be trusted as far as the loss is the true likelihood.
    """

    labels: tuple[str, ...]
    esd: np.ndarray
    matrix: np.ndarray
    correlation: np.ndarray
    failed: tuple[Failed, ...]

    def correlated(self, least: float = CORRELATED) -> list[tuple[str, str, float]]:
        """Return the pairs of a correlation beyond `least`, strongest first."""
        places = np.argwhere(np.triu(np.abs(self.correlation) > least, 1))
        pairs = [(self.labels[i], self.labels[j], float(self.correlation[i, j])) for i, j in places]
        return sorted(pairs, key=lambda pair: -abs(pair[2]))


def covariance(jtwj: np.ndarray, free: Parameters) -> Covariance:
    """Return standard errors and correlations from the curvature of minus a log likelihood at its minimum.

    Parameters
    ----------
    jtwj : ndarray, shape (n, n)
        Expected second derivative (Fisher's information) by the entries of `free.vector()`, in their units; in least
        squares J^T J of the residuals over sigma.
    free : Parameters
        Whose free part, with its bounds, the entries are.

    Raises
    ------
    InputError
        If the matrix is not finite, of another shape, or not symmetric to 1e-6 of its scale.

    Examples
    --------
    >>> from exactgrad.core.parameters import Parameter
    >>> got = covariance(np.diag([4.0, 0.25]), Parameters((Parameter("cell_a", 70.0), Parameter("distance", 100.0))))
    >>> got.esd.tolist(), got.failed
    ([0.5, 2.0], ())
    """
    labels = tuple(free.labels())
    n = len(labels)
    matrix = require_shape("curvature", require_finite("curvature", jtwj), (n, n))
    diagonal = np.maximum(np.diagonal(matrix), 0.0)
    unit = np.divide(1.0, np.sqrt(diagonal), out=np.zeros(n), where=diagonal > 0)
    scaled = matrix * unit[:, None] * unit
    if n and np.abs(scaled - scaled.T).max() > 1e-6:
        raise InputError("curvature: not symmetric")
    eigenvalues, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    failed = []
    if (np.diagonal(matrix) < 0).any() or (eigenvalues < -SINGULAR * n).any():
        worst = vectors[:, :1] if n else vectors
        failed.append(_not_definite(labels, matrix, worst))
    weak = vectors[:, eigenvalues <= SINGULAR * n]
    lost = (np.abs(weak) > 1e-3).any(axis=1) | (diagonal == 0)
    good = eigenvalues > SINGULAR * n
    inverse = (vectors[:, good] / eigenvalues[good]) @ vectors[:, good].T * unit[:, None] * unit
    inverse[lost] = inverse[:, lost] = 0.0
    variance = np.diagonal(inverse)
    esd = np.where(lost, np.inf, np.sqrt(variance))
    size = np.where(lost, 1.0, np.sqrt(variance))
    correlation = inverse / size[:, None] / size
    np.fill_diagonal(correlation, 1.0)
    failed += [_undetermined(labels, matrix, direction) for direction in weak.T]
    failed += _at_bounds(free, labels)
    got = Covariance(labels, esd, inverse, correlation, ())
    failed += [
        Failed("correlated", (a, b), f"{a} and {b}: correlation {r:.4f}; only a combination of them is determined")
        for a, b, r in got.correlated()
    ]
    return replace(got, failed=tuple(failed))


def _not_definite(labels: tuple[str, ...], matrix: np.ndarray, worst: np.ndarray) -> Failed:
    names = tuple(label for label, entry in zip(labels, np.diagonal(matrix), strict=True) if entry < 0)
    names = names or _involved(labels, worst[:, 0])
    return Failed("not positive definite", names, f"{', '.join(names)}: the loss curves down; this is no minimum")


def _undetermined(labels: tuple[str, ...], matrix: np.ndarray, direction: np.ndarray) -> Failed:
    names = _involved(labels, direction)
    if len(names) == 1 and matrix[labels.index(names[0]), labels.index(names[0])] <= 0:
        return Failed("undetermined", names, f"{names[0]}: the data do not depend on it")
    return Failed("undetermined", names, f"{', '.join(names)}: changed together, they leave the data as they are")


def _involved(labels: tuple[str, ...], direction: np.ndarray) -> tuple[str, ...]:
    """Return the names that take part in a direction, the largest first."""
    order = np.argsort(-np.abs(direction), kind="stable")
    return tuple(labels[i] for i in order if abs(direction[i]) > 0.1 * np.abs(direction).max())


def _at_bounds(free: Parameters, labels: tuple[str, ...]) -> list[Failed]:
    members = [member for member in free.free() for _ in range(member.value.size)]
    found = []
    for label, member, value in zip(labels, members, free.vector(), strict=True):
        width = member.high - member.low
        near = AT_BOUND * (width if np.isfinite(width) else max(1.0, abs(value)))
        for bound, side in ((member.low, "lower"), (member.high, "upper")):
            if abs(value - bound) <= near:
                text = f"{label}: at its {side} bound {bound:g} {member.unit}".rstrip() + "; its error means nothing"
                found.append(Failed("at bound", (label,), text))
    return found
