"""The two kernel sweeps over an ensemble: layout in blocks, partitions, threads. Units as in `kernel.py`."""

from __future__ import annotations

import numpy as np

from exactgrad.kernels.threads import choose_threads, for_each
from exactgrad.pulses import kernel

WIDTHS = (32, 24, 16, 8)  # lanes of a block; multiples of the vector length
MOST_PARTITIONS = 64  # rows of partial gradients, so memory stays O(steps + spins)
STEP_SPIN_S = 2.5e-9  # one sweep, per step and spin, for choosing threads


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
        self.width = min(WIDTHS, key=lambda width: -(-self.spins // width) * width)
        self.blocks = -(-self.spins // self.width)
        self.padded = self.blocks * self.width
        # Idle lanes repeat the last spin, so that they need no larger angles; their cotangents are zero.
        self._spins = np.stack([np.pad(row, (0, self.padded - self.spins), mode="edge") for row in (offset_hz, b1)])
        self.partitions = min(self.blocks, MOST_PARTITIONS)
        self._bounds = np.linspace(0, self.blocks, self.partitions + 1).astype(int)

    def turns(self, steps: np.ndarray) -> np.ndarray:
        """Return the total rotation of each spin as quaternions, shape (4, S), for `steps`, shape (4, N)."""
        turns = np.empty((4, self.padded))
        self._run(
            lambda p: kernel.forward(steps, self._spins, self.width, self._bounds[p], self._bounds[p + 1], turns),
            steps.shape[1],
        )
        return turns[:, : self.spins]

    def gradient(self, steps: np.ndarray, cotangents: np.ndarray) -> np.ndarray:
        """Return the gradient by the first three rows of `steps`, shape (3, N), for m_N, shape (3, S)."""
        m = self._pad(cotangents)
        rows = np.zeros((self.partitions, 3, steps.shape[1]))
        self._run(
            lambda p: kernel.backward(
                steps, self._spins, m, self.width, self._bounds[p], self._bounds[p + 1], rows[p]
            ),
            steps.shape[1],
        )
        return _sum_in_order(rows)

    def turning(self, steps: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """Return the small turns of the ends, shape (3, S), when `steps` changes by `changes`, shape (3, N)."""
        turning = np.empty((3, self.padded))
        bounds = self._bounds * self.width
        self._run(
            lambda p: kernel.forward_tangent(steps, changes, self._spins, bounds[p], bounds[p + 1], turning),
            steps.shape[1],
        )
        return turning[:, : self.spins]

    def gradient_change(
        self, steps: np.ndarray, changes: np.ndarray, cotangents: np.ndarray, cotangent_changes: np.ndarray
    ) -> np.ndarray:
        """Return the change of `gradient`, shape (3, N), when `steps` and m_N change."""
        m, dm = self._pad(cotangents), self._pad(cotangent_changes)
        rows = np.zeros((self.partitions, 3, steps.shape[1]))
        bounds = self._bounds * self.width
        self._run(
            lambda p: kernel.backward_tangent(
                steps, changes, self._spins, m, dm, bounds[p], bounds[p + 1], rows[p]
            ),
            steps.shape[1],
        )
        return _sum_in_order(rows)

    def _pad(self, cotangents: np.ndarray) -> np.ndarray:
        padded = np.zeros((3, self.padded))
        padded[:, : self.spins] = cotangents
        return padded

    def _run(self, task, steps: int) -> None:
        for_each(self.partitions, task, choose_threads(steps * self.padded * STEP_SPIN_S, self.threads))


def _sum_in_order(rows: np.ndarray) -> np.ndarray:
    total = rows[0].copy()
    for row in rows[1:]:
        total += row
    return total
