"""A loop does its work when woken, once for many wake-ups, again after errors, and not any more when it was stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from driver.model.errors import Unavailable
from driver.simulation.loops import Loop
from tests.fakes.waiting import wait_until

Begin = Callable[[Callable[[], float | None]], Loop]


@pytest.fixture
def begin() -> Iterator[Begin]:
    loops: list[Loop] = []

    def start(work: Callable[[], float | None]) -> Loop:
        loops.append(Loop("test", work))
        loops[-1].start()
        return loops[-1]

    yield start
    for loop in loops:
        loop.stop()


def test_work_is_done_at_the_start_and_at_each_wake_up(begin: Begin) -> None:
    done: list[int] = []
    loop = begin(lambda: done.append(1))
    for count in (1, 2, 3):
        wait_until(lambda wanted=count: len(done) == wanted, "the work")  # type: ignore[misc]
        loop.wake()


def test_wake_ups_while_it_works_are_one_more_run(begin: Begin) -> None:
    working, go_on = threading.Event(), threading.Event()
    runs: list[int] = []

    def work() -> None:
        runs.append(1)
        working.set()
        go_on.wait(20)

    loop = begin(work)
    assert working.wait(20)
    for _ in range(10):
        loop.wake()
    go_on.set()
    wait_until(lambda: len(runs) == 2, "the second run")
    loop.stop()
    assert len(runs) == 2


def test_work_that_asks_for_it_is_done_again_without_being_woken(begin: Begin) -> None:
    runs: list[int] = []

    def work() -> float | None:
        runs.append(1)
        return 0.01 if len(runs) < 3 else None

    begin(work)
    wait_until(lambda: len(runs) == 3, "three runs")


def test_an_error_is_kept_until_the_work_goes_well_again() -> None:
    seen: list[str] = []

    def work() -> None:
        seen.append(loop.last_error)
        if len(seen) < 3:
            raise Unavailable(f"away {len(seen)}")

    loop = Loop("test", work)
    loop.start()
    wait_until(lambda: len(seen) == 3, "the work to go well")
    wait_until(lambda: not loop.last_error, "the error to be forgotten")
    loop.stop()
    assert seen == ["", "away 1", "away 2"]


def test_a_stopped_loop_is_not_woken_again(begin: Begin) -> None:
    runs: list[int] = []
    loop = begin(lambda: runs.append(1))
    wait_until(lambda: runs, "the first run")
    loop.stop()
    before = len(runs)
    loop.wake()
    loop.stop()
    assert len(runs) == before


def test_a_loop_that_never_ran_can_be_stopped() -> None:
    Loop("test", lambda: None).stop()
