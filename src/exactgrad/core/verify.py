"""Is it exact? Checkers for any problem, transform or linear map; they return data, and planted bugs test them.

Every check states an error, what it is relative to, and what is allowed. References are independent of the code they
judge: differences extrapolated over a sweep of steps, Taylor remainders, inner products, bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exactgrad.core.parameters import Parameter
from exactgrad.core.problem import Problem
from exactgrad.core.solve import total_loss
from exactgrad.core.transforms import Transform

GRADIENT_TOLERANCE = 1e-8
HESSIAN_TOLERANCE = 1e-8  # of differences of the gradient, whose rounding is relative to all of it
SYMMETRY_TOLERANCE = 1e-11
DOT_TOLERANCE = 1e-12
SLOPE_TOLERANCE = 0.05
STATIONARY = 1e-3  # entries of a gradient below which it is compared absolutely: loss and x are of order one
FIRST_STEP = 0.25  # of a sweep of difference steps; x is of order one
LEVELS, ORDERS = 17, 5  # steps of a sweep, down to 4e-6; extrapolations, up to order 10
EPSILON = float(np.finfo(float).eps)
COLUMNS = ("verdict", "check", "against", "error", "allowed", "worst at", "note")


@dataclass(frozen=True)
class Check:
    """One line of a verification.

    Attributes
    ----------
    name : str
        What was checked.
    reference : str
        What it was compared with.
    error, tolerance : float
        Found and allowed, relative to what the checker says.
    passed : bool
        error <= tolerance; for a planted bug the contrary: the bug was caught. A NaN is never within tolerance.
    where : str
        The worst place.
    planted : bool
        True where a bug was put in on purpose.
    note : str
        What else a reader should know.
    """

    name: str
    reference: str
    error: float
    tolerance: float
    passed: bool
    where: str = ""
    planted: bool = False
    note: str = ""


def judge(name: str, reference: str, error: float, tolerance: float, where: str = "", note: str = "") -> Check:
    """Return the check of an error from a `reference` against a tolerance: `where` it is largest, and a `note`.

    Examples
    --------
    >>> judge("value", "closed form", float("nan"), 1e-12).passed
    False
    """
    return Check(name, reference, float(error), tolerance, bool(error <= tolerance), where, note=note)


def plant(name: str, check: Check) -> Check:
    """Return the row of a planted bug: it passes if `check`, made of the corrupted code, did not.

    Examples
    --------
    >>> plant("sign lost", judge("gradient", "differences", 0.3, 1e-8)).passed
    True
    """
    return replace(check, name=name, planted=True, passed=not check.passed)


def worst(checks: Iterable[Check]) -> Check:
    """Return the check that is furthest from passing: of one kind, at several points; a NaN is the furthest."""
    checks = list(checks)
    return max(checks, key=lambda c: (not c.passed, np.isnan(c.error), c.error / (c.tolerance or 1.0)))


@dataclass(frozen=True)
class Verified:
    """A user's own problem, verified.

    Attributes
    ----------
    subject : str
        What was looked at: all of the job, or which random part of it.
    checks : list of Check
    """

    subject: str
    checks: list[Check]


def report_rows(checks: Iterable[Check]) -> list[tuple[Any, ...]]:
    """Return the checks as table rows, one cell for each of `COLUMNS`.

    Examples
    --------
    >>> report_rows([judge("value", "closed form", 1.234e-15, 1e-12)])
    [('ok', 'value', 'closed form', '1.2e-15', '1e-12', '', '')]
    """
    verdicts = {(True, False): "ok", (False, False): "FAILED", (True, True): "caught", (False, True): "MISSED"}
    return [
        (verdicts[c.passed, c.planted], c.name, c.reference, f"{c.error:.1e}", f"{c.tolerance:g}", c.where, c.note)
        for c in checks
    ]


class Altered:
    """A problem with some methods replaced: how a planted bug goes through the checker that judges the real one.

    Examples
    --------
    >>> Altered(object(), size=3).size
    3
    """

    def __init__(self, problem: Any, **replaced: Any):
        self._problem = problem
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)


@dataclass(frozen=True)
class Difference:
    """A derivative by differences.

    Attributes
    ----------
    value : ndarray
        The best extrapolated value, the shape of the function's.
    error : float
        Its own estimate of its largest error.
    steps, plain : ndarray, shape (L,) and (L, ...)
        The sweep: steps, and the plain central differences. Their distance to `value` is the V-curve.
    """

    value: np.ndarray
    error: float
    steps: np.ndarray
    plain: np.ndarray

    def v_curve(self) -> np.ndarray:
        """Return the largest error of each plain central difference: falls as the step squared, then rises in noise."""
        return np.abs(self.plain - self.value).reshape(self.steps.size, -1).max(axis=1)


def best_central_difference(
    function: Callable[[np.ndarray], Any], x: np.ndarray, direction: np.ndarray, first_step: float = FIRST_STEP
) -> Difference:
    """Differentiate `function` at x along `direction`, as well as differences can.

    Central differences over a sweep of halved steps, extrapolated (Richardson; Ridders 1982). The entry whose own error
    estimate is least is taken, without a look at the gradient that it shall judge.

    Parameters
    ----------
    function : callable
        x to a number or an array.
    x, direction : ndarray, shape (n,)
    first_step : float
        Largest step, in units of `direction`.

    Examples
    --------
    >>> found = best_central_difference(lambda x: np.sin(x[0]), np.zeros(1), np.ones(1))
    >>> bool(abs(found.value - 1) < 1e-13)
    True
    """
    plain: list[np.ndarray] = []
    before: list[np.ndarray] = []
    best, least = np.array(np.nan), np.inf
    for step in first_step * 0.5 ** np.arange(LEVELS):
        ahead, behind = (np.asarray(function(x + sign * step * direction), dtype=float) for sign in (1, -1))
        row = [(ahead - behind) / (2 * step)]
        noise = EPSILON * max(np.abs(ahead).max(), np.abs(behind).max()) / step
        for order, coarse in enumerate(before[:ORDERS]):
            row.append(row[-1] + (row[-1] - coarse) / (4.0 ** (order + 1) - 1))
            error = max(np.abs(row[-1] - row[-2]).max(), np.abs(row[-1] - coarse).max()) + noise
            if error < least:
                best, least = row[-1], float(error)
        plain.append(row[0])
        before = row
        if noise > least:  # smaller steps cannot do better
            break
    return Difference(best, least, first_step * 0.5 ** np.arange(len(plain)), np.stack(plain))


def _directions(size: int, members: tuple[Parameter, ...], seed: int, dense: int) -> list[tuple[str, np.ndarray]]:
    """Return named unit vectors: `dense` random ones, one random in each parameter, and single coordinates of it."""
    rng = np.random.default_rng(seed)
    named = [(f"direction {i + 1}", rng.normal(size=size)) for i in range(dense)]
    first = 0
    for member in members:
        count = member.value.size
        within = np.zeros(size)
        within[first : first + count] = rng.normal(size=count)
        if count > 1:
            named.append((f"all of {member.name}", within))
        for i in sorted({0, count - 1, int(rng.integers(count))}):
            label = member.name if member.value.ndim == 0 else f"{member.name}[{i}]"
            named.append((label, np.eye(1, size, first + i)[0]))
        first += count
    return [(name, v / np.linalg.norm(v)) for name, v in named]


def check_gradient(
    problem: Problem,
    x: np.ndarray,
    name: str = "gradient",
    seed: int = 0,
    directions: int = 3,
    tolerance: float = GRADIENT_TOLERANCE,
) -> Check:
    """Compare the gradient of value + penalty with the best central difference; error relative to max |g|.

    Along `directions` random directions, and for every named parameter along a random direction within it and along
    single coordinates: an error in a class of parameters cannot hide behind larger ones.
    """
    loss = total_loss(problem)
    _, gradient = loss(x)
    if not np.isfinite(gradient).all():
        return judge(name, "best central difference", np.nan, tolerance, where=_label(problem, x, gradient))
    scale = max(np.abs(gradient).max(), 1e-300)
    found = []
    for where, v in _directions(x.size, problem.parameters(x).free(), seed, directions):
        difference = best_central_difference(lambda y: loss(y)[0], x, v)
        found.append((abs(float(difference.value) - float(gradient @ v)) / scale, where))
    named = [item for item in found[directions:] if not item[0] <= tolerance]  # says more than a random direction
    error = max(found, key=_alarm)[0]
    return judge(name, "best central difference", error, tolerance, max(named or found, key=_alarm)[1])


def _alarm(item: tuple[float, str]) -> tuple[bool, float]:
    return bool(np.isnan(item[0])), item[0]


def check_against(
    problem: Problem, x: np.ndarray, reference: np.ndarray, by: str, name: str = "gradient", tolerance: float = 1e-12
) -> Check:
    """Compare every entry of the gradient of value + penalty with a reference; error relative to max |reference|.

    Where all of the reference is below 1e-3, at a stationary point say, the error is relative to 1e-3.
    """
    _, gradient = total_loss(problem)(x)
    error = np.abs(gradient - reference)
    scale = max(np.abs(reference).max(), STATIONARY)
    return judge(name, by, error.max() / scale, tolerance, _label(problem, x, error))


def _label(problem: Problem, x: np.ndarray, error: np.ndarray) -> str:
    """Name the entry of x where `error` is largest, or the first that is not a number."""
    return problem.parameters(x).labels()[int(np.argmax(np.where(np.isnan(error), np.inf, error)))]


def taylor_slope(problem: Problem, x: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """Return the slope of log |f(x + h v) - f(x) - h g.v| over log h, and the decades of h it was fitted over.

    2 for an exact gradient, 1 for any other. The smallest steps whose remainder still stands clear of rounding are
    taken, three decades of them: there the next Taylor term no longer matters.
    """
    loss = total_loss(problem)
    value, gradient = loss(x)
    steps = 10.0 ** np.linspace(-6.5, 0.0, 53)
    remainders = np.array([abs(loss(x + h * v)[0] - value - h * (gradient @ v)) for h in steps])
    clear = np.flatnonzero(remainders < 2000 * EPSILON * max(1.0, abs(value)))
    first = int(clear[-1]) + 1 if clear.size else 0
    used = slice(first, first + 25)  # three decades
    if steps[used].size < 5:
        return np.nan, 0.0
    slope = np.polyfit(np.log(steps[used]), np.log(remainders[used]), 1)[0]
    return float(slope), float(np.log10(steps[used][-1] / steps[used][0]))


def check_taylor(problem: Problem, x: np.ndarray, name: str = "Taylor slope", seed: int = 0) -> Check:
    """Require a Taylor remainder of slope 2.00 +- 0.05 over three decades, along the most curved of 8 directions."""
    rng = np.random.default_rng(seed)
    vectors = [v / np.linalg.norm(v) for v in rng.normal(size=(8, x.size))]
    loss, h = total_loss(problem), 1e-4
    middle = loss(x)[0]
    v = max(vectors, key=lambda v: abs(loss(x + h * v)[0] - 2 * middle + loss(x - h * v)[0]))
    slope, decades = taylor_slope(problem, x, v)
    error = abs(slope - 2.0) if decades > 2.99 else np.nan
    return judge(
        name, "second-order remainder", error, SLOPE_TOLERANCE, note=f"slope {slope:.3f} over {decades:.1f} decades"
    )


def check_hessian(
    problem: Problem, x: np.ndarray, name: str = "Hessian", seed: int = 0, directions: int = 3
) -> tuple[Check, Check]:
    """Return the comparison of Hessian products, along so many directions, with differences of the gradient, and across
    the diagonal.

    Errors are relative to the largest entry of a product, and to |Hu| |v|.
    """
    rng = np.random.default_rng(seed)
    loss = total_loss(problem)
    vectors = [v / np.linalg.norm(v) for v in rng.normal(size=(directions, x.size))]
    products = [problem.hessian_product(x, v) for v in vectors]
    scale = max(max(np.abs(product).max() for product in products), 1e-300)
    errors = [
        np.abs(best_central_difference(lambda y: loss(y)[1], x, v).value - product).max() / scale
        for v, product in zip(vectors, products, strict=True)
    ]
    turned = [np.roll(np.arange(directions), -1), np.arange(directions)]
    asymmetry = [
        abs(vectors[i] @ products[j] - vectors[j] @ products[i])
        / max(np.linalg.norm(products[i]), np.linalg.norm(products[j]), 1e-300)
        for i, j in zip(*turned, strict=True)
    ]
    return (
        judge(name, "differences of the gradient", _largest(errors), HESSIAN_TOLERANCE),
        judge(f"{name}, symmetry", "u.Hv = v.Hu", _largest(asymmetry), SYMMETRY_TOLERANCE),
    )


def _largest(errors: list) -> float:
    """Return the largest, or NaN if there is one."""
    return float(np.max(np.asarray(errors, dtype=float)))


def dot_test(
    apply: Callable[[np.ndarray], np.ndarray],
    transpose: Callable[[np.ndarray], np.ndarray],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    name: str = "transpose",
    seed: int = 0,
    tolerance: float = DOT_TOLERANCE,
) -> Check:
    """Compare <A u, w> with <u, A^T w>; error relative to |A u| |w|, which a random inner product of zero cannot spoil.

    Parameters
    ----------
    apply, transpose : callable
        A and A^T, on arrays of the two `shapes` (domain, range).

    Notes
    -----
    Five random pairs and eight pairs of unit vectors: a single wrong row hides from random vectors. A dot test shows
    that both maps belong together, not that they are right.
    """
    rng = np.random.default_rng(seed)
    (domain, image), errors = shapes, []
    for draw in range(13):
        u, w = (_probe(rng, shape, unit=draw >= 5) for shape in (domain, image))
        forward, back = apply(u), transpose(w)
        norms = [float(np.linalg.norm(forward) * np.linalg.norm(w)), float(np.linalg.norm(u) * np.linalg.norm(back))]
        scale = max(*norms, 1e-300)
        errors.append(abs(float(np.sum(forward * w)) - float(np.sum(u * back))) / scale)
    return judge(name, "<Au, w> = <u, A'w>", _largest(errors), tolerance, where=f"draw {int(np.argmax(errors)) + 1}")


def _probe(rng: np.random.Generator, shape: tuple[int, ...], unit: bool) -> np.ndarray:
    if not unit:
        return rng.normal(size=shape)
    probe = np.zeros(shape)
    probe.flat[int(rng.integers(probe.size))] = 1.0
    return probe


def check_problem(problem: Problem, points: Sequence[np.ndarray], seed: int = 0) -> list[Check]:
    """Return a row of each kind that any problem allows, the worst over some points.

    Gradient against extrapolated differences, Taylor slope, Hessian products and their symmetry, bits.
    """
    hessian = [check_hessian(problem, x, "Hessian", seed) for x in points]
    return [
        worst(check_gradient(problem, x, "gradient, differences", seed) for x in points),
        worst(check_taylor(problem, x, "Taylor slope", seed) for x in points),
        worst(pair[0] for pair in hessian),
        worst(pair[1] for pair in hessian),
        worst(check_determinism(problem, x, "bit-equal") for x in points),
    ]


def check_determinism(problem: Problem, x: np.ndarray, name: str = "bit-equal", threads: int = 4) -> Check:
    """Evaluate twice, on one thread and on several: each bit of value, gradient and Hessian product must be equal."""

    def evaluate(limit: int | None) -> list[np.ndarray]:
        problem.limit_threads(limit)
        results = (*problem.value_and_gradient(x), problem.hessian_product(x, np.cos(np.arange(x.size))))
        return [np.asarray(item, dtype=float) for item in results]

    try:
        first = evaluate(1)
        for limit in (1, threads, threads, None):
            again = evaluate(limit)
            if any(a.tobytes() != b.tobytes() for a, b in zip(first, again, strict=True)):
                error = max(float(np.abs(a - b).max()) for a, b in zip(first, again, strict=True))
                return replace(
                    judge(name, "the same call again", error, 0.0, where=f"threads: {limit or 'all'}"), passed=False
                )
    finally:
        problem.limit_threads(None)
    return judge(name, "the same call again", 0.0, 0.0, note=f"1 and {threads} threads")


def check_transform(transform: Transform, x: np.ndarray, name: str = "transform", seed: int = 0) -> list[Check]:
    """Return the checks of a map: tangent and derivative of the pull by differences, the pull by a dot test.

    Errors of the differences are relative to the largest entry, or to one where all are smaller.
    """
    rng = np.random.default_rng(seed)
    v, g = rng.normal(size=x.shape), rng.normal(size=transform.apply(x).shape)
    tangent = best_central_difference(transform.apply, x, v).value
    second = best_central_difference(lambda y: transform.pull(y, g), x, v).value

    def against_differences(what: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> Check:
        error = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
        return judge(f"{name}, {what}", "best central difference", error, tolerance)

    return [
        against_differences("tangent", transform.push(x, v), tangent, GRADIENT_TOLERANCE),
        dot_test(
            lambda u: transform.push(x, u), lambda w: transform.pull(x, w), (x.shape, g.shape), f"{name}, transpose"
        ),
        against_differences("second derivative", transform.pull_tangent(x, v, g), second, HESSIAN_TOLERANCE),
    ]
