"""Who gives way: the older instance to the younger, and everybody to a stranger who will not stop."""

from __future__ import annotations

import datetime as dt

import pytest

from driver.core import settling
from driver.core.settling import Instance, Settling
from driver.model.objects import ObjectMeta
from driver.model.slices import Pool, ResourceSlice, SliceSpec

START = dt.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
OLD = Instance(START, "old")
YOUNG = Instance(START + dt.timedelta(seconds=5), "young")


def write(annotation: str | None) -> ResourceSlice:
    annotations = {} if annotation is None else {settling.ANNOTATION: annotation}
    return ResourceSlice(metadata=ObjectMeta(annotations=annotations), spec=SliceSpec(driver="d", pool=Pool(name="p")))


def test_a_slice_says_who_wrote_it() -> None:
    assert str(OLD) == "2026-01-01T12:00:00.123+00:00/old"
    read = settling.read_writer(write(str(OLD)))
    assert read is not None
    assert read.id == "old"
    assert abs(read.started - OLD.started) < dt.timedelta(milliseconds=1)


@pytest.mark.parametrize("text", [None, "", "old", "/old", "yesterday/old", "2026-13-01T00:00:00Z/old"])
def test_a_slice_of_a_stranger_says_nothing(text: str | None) -> None:
    assert settling.read_writer(write(text)) is None


def test_a_start_without_a_zone_is_taken_as_utc() -> None:
    read = settling.read_writer(write("2026-01-01T12:00:00/x"))
    assert read == Instance(dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC), "x")


def test_only_younger_instances_count_and_never_we_ourselves() -> None:
    published = [write(str(OLD)), write(str(YOUNG)), write(None)]
    assert settling.find_younger(OLD, published) is not None
    assert settling.find_younger(YOUNG, published) is None
    assert settling.find_younger(OLD, [write(str(OLD)), write(None)]) is None


def test_equal_starts_are_decided_by_id() -> None:
    twin = Instance(OLD.started.replace(microsecond=0), "a")
    other = Instance(OLD.started.replace(microsecond=0), "b")
    assert settling.find_younger(twin, [write(str(other))]) == other
    assert settling.find_younger(other, [write(str(twin))]) is None


def test_nobody_younger_means_write_now() -> None:
    assert settling.hold_back(Settling(), None, 0.0) == (Settling(), 0.0)


def test_the_older_holds_back_and_then_tries_once() -> None:
    state, wait = settling.hold_back(Settling(), YOUNG, 100.0)
    assert wait == 30.0
    state, wait = settling.hold_back(state, YOUNG, 110.0)
    assert wait == 20.0
    state, wait = settling.hold_back(state, YOUNG, 130.0)
    assert wait == 0.0


def test_each_further_time_it_holds_back_twice_as_long() -> None:
    state, now, waits = Settling(), 0.0, []
    for _ in range(8):
        state, wait = settling.hold_back(state, YOUNG, now)
        waits.append(wait)
        now += wait
        state, wait = settling.hold_back(state, YOUNG, now)
        assert wait == 0.0
        now += 0.3  # the younger one answers at once
    assert waits == [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]


def test_after_a_quiet_time_it_starts_from_the_beginning() -> None:
    state, _ = settling.hold_back(Settling(), YOUNG, 0.0)
    state, _ = settling.hold_back(state, YOUNG, 30.0)
    state, wait = settling.hold_back(state, YOUNG, 30.0 + 121.0)
    assert wait == 30.0


def test_holding_back_ends_when_nothing_is_to_be_written() -> None:
    state, _ = settling.hold_back(Settling(), YOUNG, 0.0)
    state = settling.release(state)
    state, wait = settling.hold_back(state, YOUNG, 25.0)
    assert wait == 30.0


def test_the_first_reactions_come_within_two_seconds_and_later_ones_ever_more_slowly() -> None:
    state, delays = Settling(), []
    for step in range(16):
        now = float(step)
        delays.append(settling.delay_reaction(state, now))
        state = settling.note_reaction(state, now)
    assert delays[:4] == [0.3] * 4
    assert delays[4:7] == [0.6, 1.2, 2.4]
    assert delays[-1] == 60.0
    assert delays == sorted(delays)


def test_old_reactions_are_forgotten() -> None:
    state = Settling()
    for step in range(10):
        state = settling.note_reaction(state, float(step))
    assert settling.delay_reaction(state, 200.0) == 0.3
    assert settling.note_reaction(state, 200.0).reactions == (200.0,)


def test_whoever_saw_a_younger_one_lets_it_go_first() -> None:
    state, _ = settling.hold_back(Settling(), YOUNG, 0.0)
    assert settling.delay_reaction(settling.release(state), 1.0) == pytest.approx(1.3)
    assert settling.delay_reaction(settling.release(state), 901.0) == pytest.approx(0.3)
