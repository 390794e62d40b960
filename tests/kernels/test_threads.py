"""Spreading work: every index once, whatever the threads; helpers that get no core are let go."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from exactgrad.kernels import threads
from exactgrad.kernels.threads import Relay, available_threads, choose_threads, for_each


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


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize(("count", "parts", "ahead"), [(0, 2, 1), (1, 1, 1), (9, 1, 2), (40, 3, 1), (40, 2, 5)])
def test_every_part_takes_what_is_made_in_order_and_little_waits(
    count: int, parts: int, ahead: int, workers: int
) -> None:
    lock = threading.Lock()
    held: set[int] = set()
    most = 0
    taken: list[list[int]] = [[] for _ in range(parts)]
    inside = [0] * parts

    def make(index: int) -> None:
        nonlocal most
        with lock:
            held.add(index)
            most = max(most, len(held))

    def take(part: int, index: int) -> None:
        with lock:
            assert index in held
            inside[part] += 1
            assert inside[part] == 1  # no other thread works in this part
        time.sleep(1e-4 * ((7 * index + part) % 3))
        with lock:
            taken[part].append(index)
            inside[part] -= 1

    def drop(index: int) -> None:
        with lock:
            assert all(index in done for done in taken)
            held.remove(index)

    Relay(count, parts, ahead).run(make, take, drop, workers)
    assert taken == [list(range(count))] * parts
    assert not held and most <= ahead + workers  # what is dropped is counted until then


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("step", ["make", "take", "drop"])
def test_an_error_in_a_step_ends_the_relay_and_reaches_the_caller(step: str, workers: int) -> None:
    def fail(name: str, index: int) -> None:
        if (name, index) == (step, 3):
            raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError, match=step):
        Relay(20, 2, 3).run(
            lambda i: fail("make", i), lambda part, i: fail("take", i), lambda i: fail("drop", i), workers
        )


def test_the_caller_does_the_whole_relay_if_no_helper_gets_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    pool = ThreadPoolExecutor(max_workers=1)
    monkeypatch.setattr(threads, "_pool", lambda: pool)
    blocker = pool.submit(release.wait, 30)
    steps: list[tuple[int, int]] = []
    Relay(4, 2, 2).run(lambda i: None, lambda part, i: steps.append((part, i)), lambda i: None, 3)
    assert sorted(steps) == [(part, i) for part in range(2) for i in range(4)]
    release.set()
    blocker.result()
    pool.shutdown()


def test_small_work_stays_on_one_thread() -> None:
    assert choose_threads(0.0) == choose_threads(1e-4, 64) == 1
    assert choose_threads(1.0, 3) == 3
    assert choose_threads(1e9) == available_threads()
    assert choose_threads(1e9, 0) == 1
