"""The table of states is complete, agrees with what claims hold, and decides what takes all counters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import states
from driver.core.states import Event, State, Use


@pytest.mark.parametrize(
    ("state", "uses"),
    [
        (State.FREE, set(Use)),
        (State.WHOLE, set()),
        (State.PARTITIONED, {Use.PARTITION}),
        (State.SHARED, {Use.SHARE}),
        (State.PASSTHROUGH, set()),
    ],
)
def test_what_is_admitted_beside_what_is_held(state: State, uses: set[Use]) -> None:
    assert set(states.list_uses(state)) == uses


@pytest.mark.parametrize(
    ("use", "takes_all"), [(Use.WHOLE, True), (Use.SHARE, True), (Use.PASSTHROUGH, True), (Use.PARTITION, False)]
)
def test_what_leaves_no_room_for_a_partition_takes_all_counters(use: Use, takes_all: bool) -> None:
    assert states.takes_all(use) is takes_all


def test_every_state_can_be_reached_and_left() -> None:
    assert {state for after in states.TABLE.values() for state in after} == set(State)
    assert {state for state, _ in states.TABLE} == set(State)


def test_every_use_has_an_event_of_its_own_and_every_event_occurs() -> None:
    assert len(set(states.PREPARING.values())) == len(Use)
    assert {event for _, event in states.TABLE} == set(Event)


def test_a_fault_can_come_in_every_state_and_recovery_leads_back_to_what_is_held() -> None:
    assert all(states.TABLE[state, Event.FAULT] == (State.FAILING,) for state in states.HELD)
    assert states.TABLE[State.FAILING, Event.RECOVERY] == states.HELD
    assert set(states.HELD) == set(State) - {State.FAILING}


@given(st.lists(st.one_of(st.sampled_from(Use), st.sampled_from(["release", "fault", "recovery"])), max_size=12))
def test_whatever_happens_to_a_device_the_table_knows_it(actions: Sequence[Use | str]) -> None:
    """Claims come as far as they are admitted and go one by one, faults come and go: each step is in the table."""
    held: list[Use] = []
    failing = False
    for action in actions:
        before = states.find_state(held, is_failing=failing)
        if isinstance(action, Use):
            if not states.admits(states.find_state(held), action):
                continue
            held.append(action)
            event = states.PREPARING[action]
        elif action == "release":
            if len(held) != 1:
                del held[-1:]
                continue
            held.clear()
            event = Event.RELEASE
        else:
            if failing is (action == "fault"):
                continue
            failing = action == "fault"
            event = Event.FAULT if failing else Event.RECOVERY
        assert states.find_state(held, is_failing=failing) in states.TABLE[before, event]


def test_uses_that_exclude_each_other_count_as_the_one_that_takes_most() -> None:
    assert states.find_state([Use.PARTITION, Use.WHOLE]) is State.WHOLE
    assert states.find_state([Use.SHARE, Use.PARTITION]) is State.SHARED
    assert states.find_state([Use.WHOLE, Use.PASSTHROUGH]) is State.PASSTHROUGH
