"""The order in which devices are published, which is the order in which they are taken. Called by `inventory`.

kube-scheduler takes the first device that fits, by pool, slice and position. So what a small request should take
comes first: small partitions of devices that are already broken up, then whole devices without links, then the
others; and neighbours (same interconnect domain, same NUMA node, same PCIe root) stand side by side, so that a request
for two gets two that are close. Of the places where a partition could be made, that comes first which spoils least for
larger ones. The order depends on the hardware alone and is total: the same to the byte each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from driver.core.interconnects import Domains
from driver.core.partitioning import Division, Part
from driver.model.devices import Accelerator, Partition

Place = tuple[Division, Part | None]

_LOSS: Final = 720_720
"""What it costs to lose the only place of a profile; a part of it if there are several. All to 16 divide it."""


def order_devices(divisions: Sequence[Division], domains: Domains) -> tuple[Place, ...]:
    """Return every device that is offered, most expendable first: parts, then whole devices."""
    devices = _order_accelerators([division.accelerator for division in divisions], domains)
    rank = {device.pci_address: number for number, device in enumerate(devices)}
    neighbours = sorted(divisions, key=lambda division: rank[division.accelerator.pci_address])
    parts = [
        ((*_size_of_partition(part.published), number, *_position(part, division)), (division, part))
        for number, division in enumerate(neighbours)
        for part in division.parts
    ]
    ordered = [place for _, place in sorted(parts, key=lambda item: item[0])]
    return (*ordered, *((division, None) for division in neighbours if division.whole))


def _position(part: Part, division: Division) -> tuple[int, int, int]:
    """Return the place of a part among those of its profile: what its allocation costs, then where it is."""
    return (_weigh(part, division), part.published.placement, part.published.subplacement or 0)


def _weigh(part: Part, division: Division) -> int:
    """Return how much of what larger partitions could have would be lost. What exists already costs nothing."""
    if not part.takes:
        return 0
    own = part.published
    bulk = _bulk(own)
    larger = [other.published for other in division.parts if other.takes and _bulk(other.published) > bulk]
    places = Counter(other.profile for other in larger)
    return sum(_LOSS // places[other.profile] for other in larger if _overlap(other, own))


def _bulk(partition: Partition) -> tuple[int, int]:
    return (partition.size or 0, partition.multiprocessors or 0)


def _overlap(one: Partition, other: Partition) -> bool:
    return max(one.placement, other.placement) < min(
        one.placement + (one.size or 0), other.placement + (other.size or 0)
    )


def _order_accelerators(accelerators: Sequence[Accelerator], domains: Domains) -> list[Accelerator]:
    """Return the accelerators group by group: groups without links, small groups and small devices come first."""

    def group_of(device: Accelerator) -> tuple[str, ...]:
        return domains.get(device.pci_address, ())

    def neighbourhood(device: Accelerator) -> tuple[int, str, str]:
        # Unknown stands after known, and never between two that are known to be close.
        node = device.numa_node if device.numa_node is not None else 1 << 30
        return (node, device.pcie_root or "~", device.pci_address)

    by_group = sorted(accelerators, key=group_of)
    groups = [sorted(members, key=neighbourhood) for _, members in groupby(by_group, key=group_of)]
    unlinked = [[device] for group in groups if not group_of(group[0]) for device in group]
    linked = [group for group in groups if group_of(group[0])]
    ordered = [
        *sorted(unlinked, key=lambda group: (_size(group[0]), neighbourhood(group[0]))),
        *sorted(linked, key=lambda group: (len(group), _size(group[0]), neighbourhood(group[0]))),
    ]
    return [device for group in ordered for device in group]


def _size(device: Accelerator) -> tuple[int, int, str]:
    return (device.memory_bytes or 0, device.multiprocessors or 0, device.model)


def _size_of_partition(partition: Partition) -> tuple[int, int, str]:
    return (partition.multiprocessors or 0, partition.memory_bytes or 0, partition.profile)
