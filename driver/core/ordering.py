"""The order in which devices are published, which is the order in which they are taken. Called by `inventory`.

kube-scheduler takes the first device that fits, by pool, slice and position. So what a small request should take
comes first: small partitions of devices that are already broken up, then whole devices without links, then the
others; and neighbours (same interconnect domain, same NUMA node, same PCIe root) stand side by side, so that a request
for two gets two that are close. The order depends on the hardware alone and is total: the same to the byte each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from driver.core.interconnects import Domains
from driver.model.devices import Accelerator, Partition

Place = tuple[Accelerator, Partition | None]


def order_devices(accelerators: Sequence[Accelerator], domains: Domains) -> tuple[Place, ...]:
    """Return every device that can be used, most expendable first. Devices in partition mode give only partitions."""
    neighbours = _order_accelerators(accelerators, domains)
    parts = [(device, partition) for device in neighbours for partition in device.partitions if device.partitioned]
    position = {device.pci_address: number for number, device in enumerate(neighbours)}
    parts.sort(key=lambda place: (*_size_of_partition(place[1]), position[place[0].pci_address], *_position(place[1])))
    return (*parts, *((device, None) for device in neighbours if not device.partitioned))


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


def _position(partition: Partition) -> tuple[int, int]:
    return (partition.placement, partition.subplacement or 0)
