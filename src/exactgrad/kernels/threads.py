"""Spread the independent partitions of a kernel over threads, so that no thread waits for another one's turn.

The kernels release the GIL. Each thread takes the next partition when it is free, the calling thread too: on a busy
machine a thread that gets no core takes no work, and the others do it. Results do not depend on the number of
threads, because a partition writes only its own rows.
"""

from __future__ import annotations

import itertools
import os
import threading
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


class Relay:
    """Work in two steps on threads: `make(i)` in any order, then `take(part, i)`, for each part in the order of i.

    A thread that is free takes what waits to be taken, or makes the next; nobody waits for a round to end. What is made
    is taken by all parts before more than `ahead` of them wait, so that little is held at a time.

    Parameters
    ----------
    count : int
        How many i there are.
    parts : int
        Parts of what takes: calls for different parts may run side by side.
    ahead : int
        Most i that are made and not yet taken by all parts, at least 1.
    """

    def __init__(self, count: int, parts: int, ahead: int):
        self._count, self._ahead = count, ahead
        self._made = [False] * count
        self._begun = 0  # how many i are being made, or are
        self._taken = [0] * parts  # how many i each part has taken
        self._is_busy = [False] * parts
        self._has_failed = False
        self._changed = threading.Condition()

    def run(
        self,
        make: Callable[[int], None],
        take: Callable[[int, int], None],
        drop: Callable[[int], None],
        threads: int = 1,
    ) -> None:
        """Do all of it on `threads` threads, the calling thread included; ``drop(i)`` after all parts have taken i."""

        def work() -> None:
            try:
                while (step := self._next()) is not None:
                    part, index = step
                    make(index) if part is None else take(part, index)
                    if self._finished(part, index):
                        drop(index)
            except BaseException:
                self._fail()  # so that nobody waits for what this thread held
                raise

        helpers = [_pool().submit(work) for _ in range(threads - 1)]
        try:
            work()
        finally:
            errors = [helper.exception() for helper in helpers if not helper.cancel()]
        for error in errors:
            if error is not None:
                raise error

    def _next(self) -> tuple[int | None, int] | None:
        """Return the part and i of a step that may be done now, None for the part that makes; wait for one."""
        with self._changed:
            while True:
                if self._has_failed or all(taken == self._count for taken in self._taken):
                    return None
                for part, index in enumerate(self._taken):
                    if not self._is_busy[part] and index < self._count and self._made[index]:
                        self._is_busy[part] = True
                        return part, index
                if self._begun < min(self._count, min(self._taken) + self._ahead):
                    self._begun += 1
                    return None, self._begun - 1
                self._changed.wait()

    def _finished(self, part: int | None, index: int) -> bool:
        """Note that a step is done; return whether that was the last one with this i."""
        with self._changed:
            if part is None:
                self._made[index] = True
            else:
                self._taken[part], self._is_busy[part] = index + 1, False
            self._changed.notify_all()
            return part is not None and min(self._taken) == index + 1

    def _fail(self) -> None:
        with self._changed:
            self._has_failed = True
            self._changed.notify_all()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=max(2, available_threads()), thread_name_prefix="exactgrad-kernel")
