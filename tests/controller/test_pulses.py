"""When rounds are: soon, together, and never all the time."""

from __future__ import annotations

import threading
import time

from driver.controller.pulses import Pulse
from tests.fakes.waiting import wait_until


def run(pulse: Pulse, at_most: float | None) -> threading.Event:
    ended = threading.Event()

    def wait() -> None:
        pulse.wait(at_most)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def test_a_wake_up_ends_the_waiting_and_one_before_it_as_well() -> None:
    pulse = Pulse()
    ended = run(pulse, None)
    pulse.wake()
    assert ended.wait(10)
    pulse.wake()
    pulse.wait(None)


def test_many_wake_ups_are_one_round() -> None:
    pulse = Pulse()
    for _ in range(100):
        pulse.wake()
    pulse.wait(None)
    assert not run(pulse, None).wait(0.1)
    pulse.stop()


def test_the_waiting_ends_by_itself_if_it_is_told_to() -> None:
    Pulse().wait(0.01)


def test_what_is_not_urgent_waits_and_what_is_does_not_wait_for_it() -> None:
    pulse = Pulse()
    pulse.wake(False)
    ended = run(pulse, None)
    assert not ended.wait(0.1)
    pulse.wake(True)
    assert ended.wait(0.8)


def test_a_rest_is_kept_whoever_wakes() -> None:
    pulse = Pulse()
    pulse.rest(0.2)
    began = time.monotonic()
    pulse.wake()
    pulse.wait(0.0)
    assert time.monotonic() - began >= 0.19


def test_stop_ends_all_waiting_for_ever() -> None:
    pulse = Pulse()
    ended = run(pulse, None)
    pulse.stop()
    assert ended.wait(10)
    pulse.rest(60)
    pulse.wait(None)
    wait_until(lambda: pulse.stopped)
