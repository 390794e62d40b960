"""What a solver is given, whatever the instrument."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from exactgrad.core.parameters import Parameters


@runtime_checkable
class Problem(Protocol):
    """A differentiable loss of a flat vector x: any real vector of length `size` is allowed.

    What is minimised is value(x) + penalty(x): the value speaks of the data or the target alone, penalties of x.
    """

    size: int

    def parameters(self, x: np.ndarray) -> Parameters:
        """Return the named physical parameters at x."""

    def limit_threads(self, threads: int | None) -> None:
        """Use at most so many threads inside an evaluation; results must not depend on it."""

    def start(self, seed: int) -> np.ndarray:
        """Return a starting vector; the same seed gives the same vector."""

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the loss before penalties and its exact gradient."""

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the penalties and their exact gradient."""

    def off_kink(self, x: np.ndarray) -> np.ndarray | None:
        """Return a point beside x that a limit which begins to bind does not hold up, or None if x is not held up."""

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the exact second derivative of value + penalty at x, times v."""
