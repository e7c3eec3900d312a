"""What never returns is waited for no longer than a while, and nothing is done to that device meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from driver.passthrough.waiting import Patience, StillBusy


def test_results_and_errors_come_through() -> None:
    patience = Patience(5)
    assert patience.do("a", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        patience.do("a", lambda: 1 // 0)


def test_what_hangs_holds_up_its_own_device_only() -> None:
    patience, free, done = Patience(5), threading.Event(), list[str]()
    with pytest.raises(StillBusy):
        patience.do("a", lambda: hang(free, done), 0.01)
    with pytest.raises(StillBusy):
        patience.do("a", lambda: done.append("second"), 0.01)
    assert patience.do("b", lambda: "other") == "other"
    assert done == [], "the second was not begun"
    free.set()
    patience.do("a", lambda: done.append("third"))
    assert done == ["first", "third"]


def test_many_at_once_take_turns() -> None:
    patience, lock, order = Patience(20), threading.Lock(), list[int]()

    def act(number: int) -> None:
        assert lock.acquire(blocking=False), "somebody else is at this device"
        order.append(number)
        lock.release()

    threads = [threading.Thread(target=patience.do, args=("a", bind(act, number))) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == list(range(20))


def hang(free: threading.Event, done: list[str]) -> None:
    free.wait()
    done.append("first")


def bind(act: Callable[[int], None], number: int) -> Callable[[], None]:
    return lambda: act(number)
