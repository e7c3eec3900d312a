"""The states of an accelerator, and the one table of what can follow what. docs/states.md is written from it.

Two decisions come from this table and from nowhere else. `admitting` asks it whether a claim can be prepared beside
what other claims hold; `inventory` asks it which devices take all counters of their accelerator. So kube-scheduler,
which looks at the counters, never allocates what preparing would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final


class State(Enum):
    """What is going on with an accelerator; the values are those of the metric."""

    FREE = "free"
    """No claim has anything of it."""
    WHOLE = "whole"
    """One claim has all of it."""
    PARTITIONED = "partitioned"
    """Claims have partitions of it, each its own."""
    SHARED = "shared"
    """Claims have shares of it, all of the one whole device."""
    PASSTHROUGH = "passthrough"
    """One claim has all of it, for a virtual machine; its vendor's driver does not see it."""
    FAILING = "failing"
    """It cannot be relied on, whoever has it."""


class Use(Enum):
    """What a claim has of an accelerator. A share of a partition is the use of a partition."""

    PASSTHROUGH = "pass-through"
    WHOLE = "whole device"
    SHARE = "share"
    PARTITION = "partition"


class Event(Enum):
    """What changes a state. Preparing and releasing what leaves others as they were is an event, too."""

    PREPARE_PASSTHROUGH = "prepare pass-through"
    PREPARE_WHOLE = "prepare whole device"
    PREPARE_SHARE = "prepare share"
    PREPARE_PARTITION = "prepare partition"
    RELEASE = "release the last claim"
    FAULT = "fault"
    RECOVERY = "recovery"


HELD: Final = (State.FREE, State.WHOLE, State.PARTITIONED, State.SHARED, State.PASSTHROUGH)
"""States that what claims hold decides alone."""
PREPARING: Final = {use: Event(f"prepare {use.value}") for use in Use}

TABLE: Final[Mapping[tuple[State, Event], tuple[State, ...]]] = {
    (State.FREE, Event.PREPARE_WHOLE): (State.WHOLE,),
    (State.FREE, Event.PREPARE_PARTITION): (State.PARTITIONED,),
    (State.FREE, Event.PREPARE_SHARE): (State.SHARED,),
    (State.FREE, Event.PREPARE_PASSTHROUGH): (State.PASSTHROUGH,),
    # Another partition, or another share of the same device. The counters and the capacities say how many.
    (State.PARTITIONED, Event.PREPARE_PARTITION): (State.PARTITIONED,),
    (State.SHARED, Event.PREPARE_SHARE): (State.SHARED,),
    (State.WHOLE, Event.RELEASE): (State.FREE,),
    (State.PARTITIONED, Event.RELEASE): (State.FREE,),
    (State.SHARED, Event.RELEASE): (State.FREE,),
    (State.PASSTHROUGH, Event.RELEASE): (State.FREE,),
    **{(state, Event.FAULT): (State.FAILING,) for state in HELD},
    # A fault takes nothing from the claims that have it, and a claim that tolerates its taint may still come.
    **{(State.FAILING, event): (State.FAILING,) for event in (*PREPARING.values(), Event.RELEASE)},
    (State.FAILING, Event.RECOVERY): HELD,
}
"""What follows, by state and event. Where several can, what claims hold decides. What is not here does not happen."""


def admits(state: State, use: Use) -> bool:
    """Say whether a claim can be prepared in a state, which is one of `HELD`: a fault hides what is held."""
    return (state, PREPARING[use]) in TABLE


def takes_all(use: Use) -> bool:
    """Say whether a device for this use takes all of its accelerator: what leaves no room for a partition does."""
    (state,) = TABLE[State.FREE, PREPARING[use]]
    return not admits(state, Use.PARTITION)


def find_state(uses: Iterable[Use], *, is_failing: bool = False) -> State:
    """Return the state of an accelerator of which claims have this.

    Uses that exclude each other (records of a version with other rules) count as the one that takes most.
    """
    if is_failing:
        return State.FAILING
    state = State.FREE
    for use in sorted(uses, key=list(Use).index):
        (state,) = TABLE.get((state, PREPARING[use]), (state,))
    return state


def list_uses(state: State) -> tuple[Use, ...]:
    """Return what can be prepared in a state that claims alone decide."""
    return tuple(use for use in Use if admits(state, use))
