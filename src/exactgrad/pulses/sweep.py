"""The two kernel sweeps over an ensemble: layout in blocks, partitions, threads. Units as in `kernel.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from exactgrad.kernels.threads import Team, choose_threads
from exactgrad.pulses import kernel

WIDTHS = range(kernel.LANES, 0, -8)  # lanes of a block; multiples of the vector length
BLOCK_LANES = 3  # what a block costs beside its lanes, in lanes
MOST_PARTITIONS = 64  # rows of partial gradients, so memory stays O(steps + spins)
STEP_SPIN_S = 2.5e-9  # one sweep, per step and spin, for choosing threads
PARTITION_S = 5e-5  # a partition is at least so much work


class Sweep:
    """Forward and backward sweeps of one ensemble.

    Parameters
    ----------
    offset_hz, b1 : ndarray, shape (S,)
    threads : int or None
        At most so many threads; None: as many as there are processors. Small work uses one all the same.
    """

    def __init__(self, offset_hz: np.ndarray, b1: np.ndarray, threads: int | None = None):
        self.spins = offset_hz.size
        self.threads = threads
        self.width = min(WIDTHS, key=lambda width: -(-self.spins // width) * (width + BLOCK_LANES))
        self.blocks = -(-self.spins // self.width)
        self.padded = self.blocks * self.width
        self._team = Team()
        self._bounds: dict[int, list[int]] = {}
        # Idle lanes repeat the last spin, so that they need no larger angles; their cotangents are zero.
        self._spins = np.stack([np.pad(row, (0, self.padded - self.spins), mode="edge") for row in (offset_hz, b1)])

    def _partition(self, steps: int) -> list[int]:
        """Return the block bounds of the partitions: by the work alone, so that sums never depend on threads."""
        if steps not in self._bounds:
            worth = int(steps * self.padded * STEP_SPIN_S / PARTITION_S)
            count = max(1, min(self.blocks, MOST_PARTITIONS, worth))
            self._bounds[steps] = [p * self.blocks // count for p in range(count + 1)]
        return self._bounds[steps]

    def turns(self, steps: np.ndarray) -> np.ndarray:
        """Return the total rotation of each spin as quaternions, shape (4, S), for `steps`, shape (4, N)."""
        turns = np.empty((4, self.padded))
        bounds = self._partition(steps.shape[1])

        def task(p: int) -> None:
            kernel.forward(steps, self._spins, self.width, bounds[p], bounds[p + 1], turns)

        self._run(task, len(bounds) - 1, steps.shape[1])
        return turns[:, : self.spins]

    def gradient(self, steps: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Return the gradient by the first three rows of `steps`, shape (3, N), for m_N, shape (3, S)."""
        m = self._pad(cotangents)
        bounds = self._partition(steps.shape[1])
        rows = np.zeros((len(bounds) - 1, 3, steps.shape[1]))

        def task(p: int) -> None:
            kernel.backward(steps, self._spins, m, self.width, bounds[p], bounds[p + 1], rows[p])

        self._run(task, len(bounds) - 1, steps.shape[1])
        return _sum_in_order(rows)

    def turning(self, steps: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """Return the small turns of the ends, shape (3, S), when `steps` changes by `changes`, shape (3, N)."""
        turning = np.empty((3, self.padded))
        bounds = self._partition(steps.shape[1])

        def task(p: int) -> None:
            kernel.forward_tangent(steps, changes, self._spins, self.width, bounds[p], bounds[p + 1], turning)

        self._run(task, len(bounds) - 1, steps.shape[1])
        return turning[:, : self.spins]

    def gradient_change(
        self, steps: np.ndarray, changes: np.ndarray, cotangents: np.ndarray, cotangent_changes: np.ndarray
    ) -> np.ndarray:
        """Return the change of `gradient`, shape (3, N), when `steps` and m_N change."""
        m, dm = self._pad(cotangents), self._pad(cotangent_changes)
        bounds = self._partition(steps.shape[1])
        rows = np.zeros((len(bounds) - 1, 3, steps.shape[1]))

        def task(p: int) -> None:
            kernel.backward_tangent(steps, changes, self._spins, m, dm, self.width, bounds[p], bounds[p + 1], rows[p])

        self._run(task, len(bounds) - 1, steps.shape[1])
        return _sum_in_order(rows)

    def _pad(self, cotangents: np.ndarray) -> np.ndarray:
        padded = np.zeros((3, self.padded))
        padded[:, : self.spins] = cotangents
        return padded

    def _run(self, task: Callable[[int], None], partitions: int, steps: int) -> None:
        self._team.for_each(partitions, task, choose_threads(steps * self.padded * STEP_SPIN_S, self.threads))


def _sum_in_order(rows: np.ndarray) -> np.ndarray:
    total = rows[0]
    for row in rows[1:]:
        total += row
    return total
