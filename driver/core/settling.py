"""Who gives way when two write the same slices: two instances of the plugin during an upgrade, or a stranger.

Called by the publisher. Every slice we write says which instance wrote it. The rule: an instance never overwrites what
a younger one wrote until it has held back for `FIRST_HOLD` seconds, and each further time twice as long; the younger
one owes the older nothing. So an upgrade settles on what the new version publishes, and a new version that was rolled
back or died is replaced after one hold. Against a stranger who keeps deleting or changing our slices we answer at once
for the first few times and then ever more slowly. Nothing here reads a clock; times are monotonic seconds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from driver.model.slices import ResourceSlice
from driver.model.vocabulary import DOMAIN

ANNOTATION: Final = f"{DOMAIN}/publisher"
"""On every slice: `<start of the instance, RFC 3339>/<its id>`."""

DEBOUNCE: Final = 0.3
"""Seconds to wait for further changes by others: the kubelet deletes a node's slices one after the other."""
COURTESY: Final = 1.0
"""Seconds more that an older instance waits, so that the younger one is the one who writes again."""
FREE_REACTIONS: Final = 4
"""Reactions within a window that are not slowed down: a kubelet may restart a few times in a row."""
WINDOW: Final = 120.0
LONGEST_REACTION: Final = 60.0
FIRST_HOLD: Final = 30.0
LONGEST_HOLD: Final = 900.0


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One run of the plugin. A later start is the younger one; ids decide between equal starts."""

    started: dt.datetime
    id: str

    def __str__(self) -> str:
        return f"{self.started.astimezone(dt.UTC).isoformat(timespec='milliseconds')}/{self.id}"


@dataclass(frozen=True, slots=True)
class Settling:
    """What the publisher remembers of others."""

    reactions: tuple[float, ...] = ()
    """When we had to write because of changes by others, within the last `WINDOW` seconds."""
    hold: float = FIRST_HOLD
    held_until: float | None = None
    """While holding back: until when."""
    overwrote_at: float | None = None
    """When we last overwrote a younger instance."""
    saw_younger_at: float | None = None


def read_writer(published: ResourceSlice) -> Instance | None:
    """Return the instance that wrote a slice; None if it does not say."""
    started, slash, name = published.metadata.annotations.get(ANNOTATION, "").rpartition("/")
    if not slash:
        return None
    try:
        moment = dt.datetime.fromisoformat(started)
    except ValueError:
        return None
    return Instance(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC), name)


def find_younger(me: Instance, published: Iterable[ResourceSlice]) -> Instance | None:
    """Return the youngest instance that wrote one of the slices, if it is younger than we are."""
    writers = [writer for writer in map(read_writer, published) if writer is not None and writer > me]
    return max(writers, default=None)


def delay_reaction(state: Settling, now: float) -> float:
    """Return how many seconds to wait, after a change by others was seen, before looking at it."""
    recent = sum(now - time < WINDOW for time in state.reactions)
    delay: float = min(DEBOUNCE * 2 ** max(0, recent - FREE_REACTIONS + 1), LONGEST_REACTION)
    if state.saw_younger_at is not None and now - state.saw_younger_at < LONGEST_HOLD:
        delay += COURTESY
    return delay


def note_reaction(state: Settling, now: float) -> Settling:
    """Return the state after we had to write because of a change by others."""
    recent = tuple(time for time in state.reactions if now - time < WINDOW)
    return replace(state, reactions=(*recent, now))


def hold_back(state: Settling, younger: Instance | None, now: float) -> tuple[Settling, float]:
    """Return how many seconds to hold back before writing; 0 to write now.

    Called when something is to be written. `younger` is the instance whose work would be overwritten.
    """
    if younger is None:
        return replace(state, held_until=None), 0.0
    state = replace(state, saw_younger_at=now)
    if state.held_until is None:
        quiet = state.overwrote_at is None or now - state.overwrote_at > 2 * state.hold
        state = replace(state, hold=FIRST_HOLD) if quiet else state
        return replace(state, held_until=now + state.hold), state.hold
    if now < state.held_until:
        return state, state.held_until - now
    doubled = min(2 * state.hold, LONGEST_HOLD)
    return replace(state, hold=doubled, held_until=None, overwrote_at=now), 0.0


def release(state: Settling) -> Settling:
    """Return the state after a look that found nothing to write."""
    return replace(state, held_until=None)
