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
from time import perf_counter, thread_time

# Below this much work per thread, waking it costs more than it saves.
WORTH_A_THREAD_S = 4e-4
PAYS = 1.1  # helpers pay if they make the work so many times faster
FIRST_ALONE, MOST_ALONE = 4, 64  # runs without helpers after one that did not pay; doubled each time


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


def for_each(count: int, task: Callable[[int], None], threads: int = 1) -> float:
    """Call ``task(i)`` for i in 0..count-1 on `threads` threads, the calling thread included.

    Returns
    -------
    float
        How many times faster that was than the calling thread alone, judged by the CPU time of its own tasks.
    """
    if threads <= 1 or count <= 1:
        for index in range(count):
            task(index)
        return 1.0
    ticket = itertools.count()  # next() is atomic

    def work() -> int:
        done = 0
        while (index := next(ticket)) < count:
            task(index)
            done += 1
        return done

    start, own_start = perf_counter(), thread_time()
    helpers = [_pool().submit(work) for _ in range(min(threads, count) - 1)]
    done = work()
    own_s = thread_time() - own_start
    for helper in helpers:
        if not helper.cancel():  # one that never got a core has nothing left to do
            helper.result()
    return own_s * count / max(done, 1) / (perf_counter() - start)


class Team:
    """Threads for work that is done again and again: it goes on alone for a while where helpers did not pay.

    They do not on a busy machine: a helper that loses its core in the middle of a task is waited for.
    """

    def __init__(self) -> None:
        self._alone = 0  # runs to go without helpers
        self._longest = FIRST_ALONE

    def for_each(self, count: int, task: Callable[[int], None], threads: int = 1) -> None:
        """Call ``task(i)`` for i in 0..count-1 on at most so many threads."""
        if threads > 1 and self._alone > 0:
            self._alone -= 1
            threads = 1
        gain = for_each(count, task, threads)
        if threads > 1 and gain < PAYS:
            self._alone, self._longest = self._longest, min(2 * self._longest, MOST_ALONE)
        elif threads > 1:
            self._longest = FIRST_ALONE


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(2, available_threads()), thread_name_prefix="exactgrad-kernel")
