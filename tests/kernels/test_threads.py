"""Spreading work: every index once, whatever the threads; helpers that get no core are let go."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from exactgrad.kernels import threads
from exactgrad.kernels.threads import available_threads, choose_threads, for_each


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("workers", [-1, 0, 1, 2, 3, 16])
def test_every_index_is_run_once(count: int, workers: int) -> None:
    seen: list[int] = []
    for_each(count, seen.append, workers)  # list.append is atomic
    assert sorted(seen) == list(range(count))


def test_one_thread_goes_in_order_on_the_callers_thread() -> None:
    seen = []
    for_each(5, lambda i: seen.append((i, threading.get_ident())), 1)
    assert seen == [(i, threading.get_ident()) for i in range(5)]


def test_the_caller_does_all_the_work_if_no_helper_gets_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    release, held = threading.Event(), threading.Event()
    pool = ThreadPoolExecutor(max_workers=1)
    monkeypatch.setattr(threads, "_pool", lambda: pool)

    def occupy() -> None:
        held.set()
        release.wait(30)

    blocker = pool.submit(occupy)
    held.wait(30)
    by = []
    for_each(6, lambda i: by.append((i, threading.get_ident())), 4)  # would hang if idle helpers were waited for
    assert [i for i, _ in by] == list(range(6))
    assert {ident for _, ident in by} == {threading.get_ident()}
    release.set()
    blocker.result()
    pool.submit(lambda: None).result()  # the helpers that were let go do nothing later
    assert len(by) == 6
    pool.shutdown()


def test_an_error_in_a_task_reaches_the_caller() -> None:
    def fail(index: int) -> None:
        if index == 3:
            raise ZeroDivisionError("task 3")

    for workers in (1, 4):
        with pytest.raises(ZeroDivisionError, match="task 3"):
            for_each(8, fail, workers)


def test_small_work_stays_on_one_thread() -> None:
    assert choose_threads(0.0) == choose_threads(1e-4, 64) == 1
    assert choose_threads(1.0, 3) == 3
    assert choose_threads(1e9) == available_threads()
    assert choose_threads(1e9, 0) == 1
