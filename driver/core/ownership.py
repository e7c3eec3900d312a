"""Which partitions on the hardware were made for claims, and which are somebody else's. Never a guess.

Called by `node.surveying` with one look at the hardware and the steps of all records from before and after it. A
record has the step that makes a partition from before it is made until after it is removed. So whoever is in no record
while no record changes is a stranger. While records do change (another thread or another instance of the plugin is at
work), one look proves nothing: a partition may have come and gone between two reads. Then a partition is a stranger
only if it was one in the look before, too: it has been there in between, and so would have been its record.
Until that is certain it is treated as ours, which changes nothing of what is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from driver.core import partitioning
from driver.core.offering import Own
from driver.model.devices import Accelerator, Partition, Snapshot
from driver.model.prepared import PreparedDevice, Step


@dataclass(frozen=True, slots=True)
class Holdings:
    """The steps of all records at one moment, and the devices."""

    steps: tuple[Step, ...]
    mark: object = None
    """Another one after every change of a record; None if records were being changed just then."""
    devices: tuple[PreparedDevice, ...] = ()
    """What those claims hold, where that is known."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What of a look is ours."""

    steps: tuple[Step, ...]
    """Of all claims that had any while we looked."""
    owned: frozenset[Own]
    strangers: frozenset[str] = frozenset()
    """UUIDs of partitions that are in no record, as far as we saw: to be compared with the next look."""
    doubtful: bool = False
    """Some of the strangers are treated as ours for now: another look is worthwhile."""
    devices: tuple[PreparedDevice, ...] = ()
    """What claims held before or after we looked."""


def judge(snapshot: Snapshot, before: Holdings, after: Holdings, last: frozenset[str]) -> Ownership:
    """Return what is ours in a look between two reads of the records.

    `last` are the strangers of the look before, which ended before `before` was read.
    """
    steps = (*before.steps, *(step for step in after.steps if step not in before.steps))
    owned = partitioning.owned(steps)
    unknown = [each for each in _list(snapshot) if not partitioning.is_ours(*each, owned)]
    strangers = frozenset(part.uuid for _, part in unknown if part.uuid)
    certain = before.mark is not None and before.mark == after.mark
    doubted = [] if certain else [each for each in unknown if each[1].uuid not in last]
    kept = (Own(each.pci_address, part.profile, part.placement, part.uuid or "") for each, part in doubted)
    devices = (*before.devices, *(each for each in after.devices if each not in before.devices))
    return Ownership(steps, owned.union(kept), strangers, bool(doubted), devices)


def _list(snapshot: Snapshot) -> Iterator[tuple[Accelerator, Partition]]:
    for accelerator in snapshot.accelerators:
        for part in accelerator.partitions:
            yield accelerator, part
