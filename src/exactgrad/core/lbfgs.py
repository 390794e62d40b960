"""L-BFGS whose whole state is arrays: it can be saved after any iteration and continued bit for bit.

Liu & Nocedal (1989) two-loop recursion; line search for the strong Wolfe conditions by safeguarded cubic
interpolation, or Hager & Zhang's approximate ones, which judge by the slope: near the precision limit differences of
the loss drown in rounding, its slope does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from exactgrad.errors import InputError

SUFFICIENT, CURVATURE = 1e-4, 0.9
MOST_TRIALS = 30
PATIENCE = 8  # trials after which sufficient decrease is enough
LONGEST = 100.0  # a line search goes at most so many first steps far: a bounded loss may fall for ever
PLATEAU = 20  # iterations over which a plateau is judged

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


class Status(Enum):
    """Why a run stopped, as a sentence."""

    RUNNING = "still running"
    GRADIENT = "converged: the gradient is zero to the tolerance"
    PLATEAU = "converged: the loss no longer decreases by more than the tolerance"
    PRECISION = "converged: no step decreases the loss any more in double precision"
    ITERATIONS = "the iteration budget was used up"
    SECONDS = "the time budget was used up"
    INTERRUPTED = "interrupted; the best result so far was kept"

    @property
    def converged(self) -> bool:
        """True where more iterations would not help."""
        return self in (Status.GRADIENT, Status.PLATEAU, Status.PRECISION)


@dataclass(frozen=True)
class State:
    """Everything an L-BFGS run is, at an iteration boundary.

    Attributes
    ----------
    x, gradient : ndarray, shape (n,)
    value : float
        Loss at x.
    moves, yields : ndarray, shape (memory + 1, n)
        Ring of the last s = x' - x and y = g' - g. At most `memory` rows are in use: the next state writes the spare
        one, so that a state stays whole until its successor's successor.
    curvatures : ndarray, shape (memory + 1,)
        s . y of each pair.
    newest, pairs, iteration, evaluations : int
    history : ndarray, shape (iteration + 1,)
        Loss after each iteration.
    status : Status
    """

    x: np.ndarray
    gradient: np.ndarray
    value: float
    moves: np.ndarray
    yields: np.ndarray
    curvatures: np.ndarray
    newest: int = 0
    pairs: int = 0
    iteration: int = 0
    evaluations: int = 1
    history: np.ndarray = field(default_factory=lambda: np.zeros(0))
    status: Status = Status.RUNNING

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the state as named arrays."""
        counts = np.array([self.newest, self.pairs, self.iteration, self.evaluations], dtype=np.int64)
        return {
            "x": self.x,
            "gradient": self.gradient,
            "value": np.array(self.value),
            "moves": self.moves,
            "yields": self.yields,
            "curvatures": self.curvatures,
            "counts": counts,
            "history": self.history,
            "status": np.frombuffer(self.status.name.encode(), np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> State:
        """Return the state that `to_arrays` described."""
        newest, pairs, iteration, evaluations = (int(n) for n in arrays["counts"])
        names = ("x", "gradient", "moves", "yields", "curvatures", "history")
        return cls(
            **{name: np.array(arrays[name], dtype=np.float64, order="C") for name in names},
            value=float(arrays["value"]),
            newest=newest,
            pairs=pairs,
            iteration=iteration,
            evaluations=evaluations,
            status=Status[bytes(arrays["status"]).decode("ascii")],
        )


def infinite_outside(loss: Loss) -> Loss:
    """Return the loss that is infinite, with gradient 0, where there is no model: a search comes back from there."""

    def known(x: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            return loss(x)
        except InputError:
            if not np.isfinite(x).all():
                raise
            return np.inf, np.zeros_like(x)

    return known


def begin(loss: Loss, x: np.ndarray, memory: int) -> State:
    """Evaluate the loss at x and return the first state; `memory` is how many pairs are kept."""
    x = np.ascontiguousarray(x, dtype=np.float64)
    value, gradient = loss(x)
    ring = np.zeros((memory + 1, x.size))
    return State(x, gradient, value, ring, ring.copy(), np.zeros(memory + 1), history=np.array([value]))


def advance(loss: Loss, state: State, tolerance: float) -> State:
    """Return the state one iteration later; both share the ring of pairs, so only the newer one may advance again.

    Parameters
    ----------
    loss : callable
        x to (value, gradient).
    state : State
    tolerance : float
        A plateau is a decrease of less than this per iteration, relative to max(1, |loss|).
    """
    if np.abs(state.gradient).max(initial=0.0) <= 1e-15:
        return replace(state, status=Status.GRADIENT)
    direction, slope, pairs = _direction(state)
    first = 1.0 if pairs else min(1.0, 0.1 / np.abs(state.gradient).max())
    found = _line_search(infinite_outside(loss), state.x, state.value, slope, direction, first)
    if found is None and pairs:
        return advance(loss, replace(state, pairs=0, evaluations=state.evaluations + MOST_TRIALS), tolerance)
    if found is None:
        return replace(state, status=Status.PRECISION)
    x, value, gradient, trials = found
    newest, pairs = _remember(state, x - state.x, gradient - state.gradient, pairs)
    history = np.append(state.history, value)
    status = Status.RUNNING
    if history.size > PLATEAU and history[-1 - PLATEAU] - value <= PLATEAU * tolerance * max(1.0, abs(value)):
        status = Status.PLATEAU
    return replace(
        state,
        x=x,
        value=value,
        gradient=gradient,
        newest=newest,
        pairs=pairs,
        iteration=state.iteration + 1,
        evaluations=state.evaluations + trials,
        history=history,
        status=status,
    )


def _direction(state: State) -> tuple[np.ndarray, float, int]:
    """Return a descent direction, its slope, and how many pairs made it."""
    from exactgrad.core.kernel import dot, lbfgs_direction

    direction = np.empty_like(state.x)
    for pairs in (state.pairs, 0):
        lbfgs_direction(
            state.gradient, state.moves, state.yields, state.curvatures, state.newest, pairs,
            np.empty(state.moves.shape[0]), direction,
        )  # fmt: skip
        slope = dot(state.gradient, direction)
        if slope < 0:
            break
    return direction, slope, pairs


def _remember(state: State, move: np.ndarray, yielded: np.ndarray, pairs: int) -> tuple[int, int]:
    """Put a pair in the ring if its curvature is positive; return the newest index and the count."""
    from exactgrad.core.kernel import dot

    curvature = dot(move, yielded)
    if curvature <= 1e-14 * dot(yielded, yielded) * 1e-2:
        return state.newest, pairs
    ring = state.moves.shape[0]
    newest = (state.newest + 1) % ring
    state.moves[newest], state.yields[newest], state.curvatures[newest] = move, yielded, curvature
    return newest, min(pairs + 1, ring - 1)


def _line_search(
    loss: Loss, x: np.ndarray, value0: float, slope0: float, direction: np.ndarray, first: float
) -> tuple[np.ndarray, float, np.ndarray, int] | None:
    """Return (x, value, gradient, trials) at a step that satisfies the Wolfe conditions, or None.

    Where a limit begins to bind the slope may jump, and no step satisfies the curvature condition: then the best step
    of sufficient decrease is taken.
    """
    from exactgrad.core.kernel import dot

    noise = 1e-15 * max(1.0, abs(value0))
    step, low, low_value, low_slope = first, 0.0, value0, slope0
    high = high_value = high_slope = np.inf
    fallback = None
    for trial in range(1, MOST_TRIALS + 1):
        point = x + step * direction
        value, gradient = loss(point)
        slope = dot(gradient, direction)
        enough = value <= value0 + SUFFICIENT * step * slope0
        nearly = value <= value0 + noise and slope <= (2 * SUFFICIENT - 1) * slope0
        if (enough and abs(slope) <= -CURVATURE * slope0) or (nearly and slope >= CURVATURE * slope0):
            return point, value, gradient, trial
        if not (enough or nearly) or value > low_value + noise or not np.isfinite(value):
            high, high_value, high_slope = step, value, slope
        else:
            if slope * (high - low if np.isfinite(high) else 1.0) >= 0:
                high, high_value, high_slope = low, low_value, low_slope
            low, low_value, low_slope = step, value, slope
            fallback = (point, value, gradient) if enough and value < value0 else fallback
        if fallback and trial >= PATIENCE:
            return *fallback, trial
        if not np.isfinite(high):
            if step >= LONGEST * first:
                return point, value, gradient, trial
            step = min(_extrapolate(step, low_slope, slope0), LONGEST * first)
        else:
            step = _interpolate(low, low_value, low_slope, high, high_value, high_slope)
            if abs(high - low) * np.abs(direction).max() <= 1e-16 * max(1.0, np.abs(x).max()):
                break
    return (*fallback, trial) if fallback else None


def _extrapolate(step: float, slope: float, slope0: float) -> float:
    """Return a longer step: the secant's zero of the slope, between twice and ten times the step."""
    secant = step * slope0 / (slope0 - slope) if slope > slope0 else np.inf
    return float(np.clip(secant, 2.0 * step, 10.0 * step))


def _interpolate(a: float, fa: float, da: float, b: float, fb: float, db: float) -> float:
    """Return the minimiser of the cubic through both ends, kept a tenth of the interval away from them."""
    low, high = min(a, b), max(a, b)
    margin = 0.1 * (high - low)
    if not (np.isfinite(fb) and np.isfinite(db)):
        return low + 0.5 * (high - low)
    d1 = da + db - 3.0 * (fa - fb) / (a - b)
    square = d1 * d1 - da * db
    best = 0.5 * (a + b)
    if square >= 0:
        d2 = np.sign(b - a) * np.sqrt(square)
        spread = db - da + 2.0 * d2
        if spread != 0:
            best = b - (b - a) * (db + d2 - d1) / spread
    return float(np.clip(best, low + margin, high - margin)) if np.isfinite(best) else 0.5 * (a + b)
