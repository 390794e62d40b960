"""Spread the independent partitions of a kernel over threads, so that no thread waits for another one's turn.

The kernels release the GIL. Each thread takes the next partition when it is free, the calling thread too: on a busy
machine a thread that gets no core takes no work, and the others do it. Results do not depend on the number of
threads, because a partition writes only its own rows.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

# Below this much work per thread, waking it costs more than it saves.
WORTH_A_THREAD_S = 4e-4


def available_threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def choose_threads(work_s: float, limit: int | None = None) -> int:
    """Choose a number of threads for `work_s` seconds of single-thread work, at most `limit`.

    Examples
    --------
    >>> choose_threads(1e-5, limit=8)
    1
    """
    most = available_threads() if limit is None else limit
    return max(1, min(most, int(work_s / WORTH_A_THREAD_S)))


def for_each(count: int, task: Callable[[int], None], threads: int = 1) -> None:
    """Call ``task(i)`` for i in 0..count-1 on `threads` threads, the calling thread included."""
    if threads <= 1 or count <= 1:
        for index in range(count):
            task(index)
        return
    ticket = itertools.count()  # next() is atomic

    def work() -> None:
        while (index := next(ticket)) < count:
            task(index)

    helpers = [_pool().submit(work) for _ in range(min(threads, count) - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # one that never got a core has nothing left to do
            helper.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(2, available_threads()), thread_name_prefix="exactgrad-kernel")
