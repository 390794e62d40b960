"""Trust-region Newton by SciPy's conjugate gradients, fed with exact Hessian products: the last digits of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from exactgrad.core.lbfgs import Status
from exactgrad.core.problem import Problem
from exactgrad.core.solve import total_loss


def newton(
    problem: Problem, x: np.ndarray, max_iterations: int, halted: Callable[[], bool] = lambda: False
) -> tuple[np.ndarray, float, Status, int]:
    """Refine x by trust-region Newton.

    Parameters
    ----------
    problem : Problem
        With `hessian_product`.
    x : ndarray, shape (n,)
    max_iterations : int
    halted : callable
        Asked after every iteration.

    Returns
    -------
    x : ndarray, float (loss), Status, int (iterations)
        Never worse than the start.
    """
    from scipy.optimize import minimize

    loss = total_loss(problem)
    best, value, iterations = x, loss(x)[0], 0

    def after(intermediate_result: Any) -> None:
        nonlocal best, value, iterations
        iterations += 1
        if intermediate_result.fun <= value:
            best, value = intermediate_result.x.copy(), float(intermediate_result.fun)
        if halted():
            raise StopIteration

    result = minimize(
        loss,
        x,
        jac=True,
        hessp=problem.hessian_product,
        method="trust-ncg",  # SciPy's trust-krylov is not the same twice, and proposes NaN at singular Hessians
        callback=after,
        options={"maxiter": max_iterations, "gtol": 1e-12},
    )
    status = Status.GRADIENT if result.status == 0 else Status.ITERATIONS
    if halted():
        status = Status.INTERRUPTED
    elif result.status not in (0, 1):
        status = Status.PRECISION
    return best, value, status, iterations
