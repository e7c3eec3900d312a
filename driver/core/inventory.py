"""From a snapshot of the hardware to the devices this node offers: names, attributes, capacities, taints, order.

Called whenever the hardware or its health may have changed. It promises the same inventory, to the byte, for the same
facts; that every device keeps the API's limits; and that hardware it cannot publish is listed with its reason and
hides nothing else. A fact that is not known is left out and never published as 0. The attributes are specified in
docs/vocabulary.md. It must not know pools, slices or how they are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from driver.core import naming, specification, versions
from driver.core.health import HealthState, list_taints
from driver.core.interconnects import Domains, find_domains, sum_bandwidth
from driver.core.ordering import Place, order_devices
from driver.model import quantities, vocabulary
from driver.model.devices import Accelerator, Entry, Failure, Inventory, Partition, Snapshot
from driver.model.slices import MAX_TEXT, Device, DeviceAttribute, DeviceCapacity

Attributes = dict[str, DeviceAttribute]
Capacities = dict[str, DeviceCapacity]

_INT64: Final = range(-(2**63), 2**63)


def build(snapshot: Snapshot, health: HealthState | None = None) -> Inventory:
    """Return what the node offers, in the order in which devices should be taken, and what it leaves out and why."""
    health = health or HealthState()
    domains = find_domains(snapshot.accelerators)
    entries: dict[str, Entry] = {}
    omitted = [*snapshot.failures, *_find_empty(snapshot)]
    for place in order_devices(snapshot.accelerators, domains):
        entry = _make_entry(place, snapshot, domains, health)
        if entry.name in entries:
            omitted.append(_report_duplicate(entry, entries[entry.name]))
        else:
            entries[entry.name] = entry
    return Inventory(snapshot, tuple(entries.values()), tuple(omitted))


def _find_empty(snapshot: Snapshot) -> Iterator[Failure]:
    """Yield devices that offer nothing, unless their vendor has said why."""
    explained = {failure.pci_address for failure in snapshot.failures}
    for device in snapshot.accelerators:
        if device.partitioned and not device.partitions and device.pci_address not in explained:
            yield Failure(device.pci_address, device.index, "it is in partition mode and has no partitions")


def _report_duplicate(entry: Entry, first: Entry) -> Failure:
    uuid = (entry.partition or entry.accelerator).uuid
    other = (first.partition or first.accelerator).uuid
    reason = f"{uuid} would have the name {entry.name}, which {other} already has"
    return Failure(entry.accelerator.pci_address, entry.accelerator.index, reason)


def _make_entry(place: Place, snapshot: Snapshot, domains: Domains, health: HealthState) -> Entry:
    accelerator, partition = place
    if partition is None:
        name = naming.name_accelerator(accelerator)
        own = {**_describe_links(accelerator, domains)}
    else:
        name = naming.name_partition(accelerator, partition)
        own = _describe_partition(accelerator, partition)
    attributes = {**_describe_common(accelerator, snapshot), **own}
    capacity = _measure(partition or accelerator)
    # One is left for `allocator`, which is added when the device is published (`fencing`).
    attributes |= _take_extras(accelerator.extra, attributes, vocabulary.ENTRIES_PER_DEVICE - len(capacity) - 1)
    taints = list_taints(health, accelerator.pci_address, partition.uuid if partition else None)
    device = Device(name=name, attributes=dict(sorted(attributes.items())), capacity=capacity, taints=taints)
    return Entry(device, accelerator, partition)


def _describe_common(accelerator: Accelerator, snapshot: Snapshot) -> Attributes:
    """Return what every device says, whole or part: where it is and what it is made by."""
    return _present(
        {
            vocabulary.VENDOR: _exact(snapshot.vendor),
            vocabulary.TYPE: _exact(accelerator.type),
            vocabulary.MODEL: _text(accelerator.model),
            vocabulary.ARCHITECTURE: _text(accelerator.architecture),
            vocabulary.INDEX: _number(accelerator.index),
            vocabulary.UUID: _exact(accelerator.uuid),
            vocabulary.DRIVER_VERSION: _version(snapshot.driver_version),
            vocabulary.DRIVER_VERSION_TEXT: _text(snapshot.driver_version),
            vocabulary.RUNTIME_VERSION: _version(snapshot.runtime_version),
            vocabulary.COMPUTE_CAPABILITY: _version(accelerator.compute_capability),
            vocabulary.PCI_BUS_ID: _shaped(accelerator.pci_address, specification.BUS_ID),
            vocabulary.PCIE_ROOT: _shaped(accelerator.pcie_root, specification.PCIE_ROOT),
            vocabulary.NUMA_NODE: _number(accelerator.numa_node),
        }
    )


def _describe_links(accelerator: Accelerator, domains: Domains) -> Attributes:
    """Return what only whole devices say: a partition has no links of its own."""
    group = domains.get(accelerator.pci_address)
    fabric = accelerator.fabric
    return _present(
        {
            vocabulary.INTERCONNECT_DOMAIN: _exact(naming.slug(group[0])) if group else None,
            vocabulary.INTERCONNECT_GBPS: _number(sum_bandwidth(accelerator)),
            vocabulary.FABRIC_DOMAIN: _exact(f"{fabric.cluster_uuid}.{fabric.clique}") if fabric else None,
        }
    )


def _describe_partition(accelerator: Accelerator, partition: Partition) -> Attributes:
    return _present(
        {
            vocabulary.TYPE: _exact(vocabulary.TYPE_PARTITION),
            vocabulary.UUID: _exact(partition.uuid),
            vocabulary.PARENT_UUID: _exact(accelerator.uuid),
            vocabulary.PROFILE: _exact(partition.profile),
            vocabulary.PLACEMENT: _number(partition.placement),
        }
    )


def _measure(part: Accelerator | Partition) -> Capacities:
    """Return the capacities. A partition without decoders says so; memory and multiprocessors of 0 are not believed."""
    memory = part.memory_bytes
    counts = {vocabulary.MULTIPROCESSORS: part.multiprocessors or None}
    if isinstance(part, Partition):
        counts |= {
            vocabulary.COPY_ENGINES: part.copy_engines,
            vocabulary.DECODERS: part.decoders,
            vocabulary.ENCODERS: part.encoders,
            vocabulary.JPEG_ENGINES: part.jpeg_engines,
            vocabulary.OFA_ENGINES: part.ofa_engines,
        }
    texts = {vocabulary.MEMORY: quantities.from_bytes(memory) if memory and memory > 0 else None}
    texts |= {name: str(count) for name, count in counts.items() if count is not None and count >= 0}
    return {name: DeviceCapacity(value=text) for name, text in sorted(texts.items()) if text is not None}


def _take_extras(extra: Mapping[str, str | int | bool], own: Attributes, room: int) -> Attributes:
    """Return the vendor's own attributes that the API takes and that fit, by name; none may pose as one of ours."""
    names = [
        name
        for name in sorted(extra)
        if specification.is_qualified_name(name) and not name.startswith(specification.OWN_DOMAINS)
    ]
    values = _present({name: _value(extra[name]) for name in names})
    return dict(list(values.items())[: max(0, room - len(own))])


def _value(value: str | int | bool) -> DeviceAttribute | None:  # noqa: FBT001 - the value of an attribute, not a switch
    if isinstance(value, bool):
        return DeviceAttribute(bool_=value)
    return _exact(value) if isinstance(value, str) else _number(value, lowest=_INT64.start)


def _present(attributes: Mapping[str, DeviceAttribute | None]) -> Attributes:
    return {name: attribute for name, attribute in attributes.items() if attribute is not None}


def _text(text: str | None) -> DeviceAttribute | None:
    """Words for people: cut to the API's limit, in bytes of UTF-8."""
    cut = (text or "").encode()[:MAX_TEXT].decode(errors="ignore").strip()
    return DeviceAttribute(string=cut) if cut else None


def _exact(text: str | None) -> DeviceAttribute | None:
    """An identity: half of it would be another one, so it is left out if it is too long."""
    return DeviceAttribute(string=text) if text and len(text.encode()) <= MAX_TEXT else None


def _shaped(text: str | None, pattern: str) -> DeviceAttribute | None:
    """A text that readers compare with other drivers' texts: in the form that Kubernetes defines, or left out."""
    return DeviceAttribute(string=text) if text and re.fullmatch(pattern, text, re.ASCII) else None


def _number(number: int | None, lowest: int = 0) -> DeviceAttribute | None:
    """A count or a position; what is below 0 is a vendor's way to say that it does not know."""
    return DeviceAttribute(int_=number) if number is not None and lowest <= number < _INT64.stop else None


def _version(text: str | None) -> DeviceAttribute | None:
    version = versions.normalise(text)
    return DeviceAttribute(version=version) if version is not None else None
