"""From a snapshot of the hardware to the devices this node offers: names, attributes, capacities, taints, order.

Called whenever the hardware or its health may have changed. It promises the same inventory, to the byte, for the same
facts; that every device keeps the API's limits; and that hardware it cannot publish is listed with its reason and
hides nothing else. A fact that is not known is left out and never published as 0. The attributes are specified in
docs/vocabulary.md. It must not know pools, slices or how they are written.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from driver.core import (
    admitting,
    counting,
    naming,
    partitioning,
    passthrough,
    shares,
    specification,
    states,
    versions,
)
from driver.core.health import HealthState, list_taints
from driver.core.interconnects import Domains, find_domains, sum_bandwidth
from driver.core.offering import Mode, Offer
from driver.core.ordering import Place, order_devices
from driver.core.partitioning import Division
from driver.core.suggesting import find_nearest
from driver.model import quantities, vocabulary
from driver.model.devices import Accelerator, Entry, Failure, Inventory, Partition, Snapshot
from driver.model.slices import MAX_TEXT, CounterSet, Device, DeviceAttribute, DeviceCapacity

Attributes = dict[str, DeviceAttribute]
Capacities = dict[str, DeviceCapacity]
_Found = TypeVar("_Found")

PASSTHROUGH: Final = "pass-through"
"""What of a device is not offered (`Failure.part`)."""

_INT64: Final = range(-(2**63), 2**63)


def build(snapshot: Snapshot, health: HealthState | None = None, offer: Offer | None = None) -> Inventory:
    """Return what the node offers, in the order in which devices should be taken, and what it leaves out and why."""
    health, offer = health or HealthState(), offer or Offer()
    devices, twice = _tell_apart(snapshot.accelerators, lambda device: (device, None))
    divisions = [partitioning.divide(device, offer) for device in devices]
    # What can be had whole has its links then, so that a partition of ours changes nothing that is published.
    domains = find_domains([dataclasses.replace(each.accelerator, partitioned=not each.whole) for each in divisions])
    places, again = _tell_apart(order_devices(divisions, domains), _locate)
    twins = passthrough.decide(snapshot, offer.view, offer.bound) if offer.view else passthrough.Verdict()
    counter_sets = {made.name: made for division in divisions for made in _count(division, twins.offered)}
    common = {naming.name_accelerator(each): _describe_common(each, snapshot) for each in devices}
    entries = [_draw(_make_entry(place, common, domains, health), place, counter_sets) for place in places]
    entries += [_make_twin(entry) for entry in entries if _is_whole(entry, twins.offered)]
    omitted = (
        *snapshot.failures,
        *_find_empty(snapshot, divisions),
        *twice,
        *again,
        *_find_unknown(snapshot, offer),
        *(dataclasses.replace(failure, part=PASSTHROUGH) for failure in twins.omitted),
    )
    shared = tuple(_share(entry, offer) for entry in entries)
    engaged = frozenset(
        naming.name_accelerator(each.accelerator)
        for each in divisions
        if each.accelerator.pci_address in offer.bound or any(part.takes and part.actual.uuid for part in each.parts)
    )
    return Inventory(snapshot, shared, omitted, tuple(counter_sets[name] for name in sorted(counter_sets)), engaged)


def _tell_apart(
    found: Iterable[_Found], locate: Callable[[_Found], tuple[Accelerator, Partition | None]]
) -> tuple[tuple[_Found, ...], list[Failure]]:
    """Return the first of each name, and for the others whose name it is."""
    first: dict[str, _Found] = {}
    failures: list[Failure] = []
    for each in found:
        accelerator, partition = locate(each)
        name = _name(accelerator, partition)
        if first.setdefault(name, each) is not each:
            holder, taken = locate(first[name])
            reason = (
                f"{_uuid(accelerator, partition)} would have the name {name}, which {_uuid(holder, taken)} already has"
            )
            failures.append(Failure(accelerator.pci_address, accelerator.index, reason))
    return tuple(first.values()), failures


def _locate(place: Place) -> tuple[Accelerator, Partition | None]:
    return place[0].accelerator, place[1].published if place[1] else None


def _name(accelerator: Accelerator, partition: Partition | None) -> str:
    return naming.name_partition(accelerator, partition) if partition else naming.name_accelerator(accelerator)


def _uuid(accelerator: Accelerator, partition: Partition | None) -> str | None:
    return partition.uuid if partition else accelerator.uuid


def _find_empty(snapshot: Snapshot, divisions: Sequence[Division]) -> Iterator[Failure]:
    """Yield what accelerators do not offer; one that offers nothing once, if its vendor has said why."""
    explained = {failure.pci_address for failure in snapshot.failures}
    for division in divisions:
        offers = division.whole or division.parts
        if offers or division.accelerator.pci_address not in explained:
            yield from division.omitted


def _find_unknown(snapshot: Snapshot, offer: Offer) -> Iterator[Failure]:
    """Yield profiles that shall be offered and that no device of this node has: somebody mistyped them."""
    known = dict.fromkeys(profile.name for device in snapshot.accelerators for profile in device.profiles)
    if offer.mode is Mode.DYNAMIC and known:
        for name in sorted(offer.profiles - known.keys()):
            nearest = find_nearest(name, known)
            meant = f" ({nearest} was probably meant)" if nearest else ""
            reason = f"no device here has the profile {name!r}{meant}; there are {', '.join(known)}"
            yield Failure(None, None, reason, partitioning.PARTITIONS)


def _count(division: Division, twins: Collection[str]) -> Iterator[CounterSet]:
    """Yield the counter set of an accelerator. One that offers a single device that takes something needs none."""
    wholes = division.whole * (1 + (division.accelerator.pci_address in twins))
    if sum(bool(part.takes) for part in division.parts) + wholes > 1:
        yield counting.make_set(division.accelerator, division.counters)


def _draw(entry: Entry, place: Place, counter_sets: Mapping[str, CounterSet]) -> Entry:
    """Return the entry with what its device takes of the counters of its accelerator."""
    division, part = place
    own = part.takes if part else {}
    takes = division.counters if states.takes_all(admitting.classify(entry)) else own
    counter_set = counter_sets.get(naming.name_accelerator(division.accelerator))
    if counter_set is None or not takes:
        return entry
    consumption = counting.consume(counter_set, takes)
    return dataclasses.replace(entry, device=msgspec.structs.replace(entry.device, consumes_counters=consumption))


def _is_whole(entry: Entry, addresses: Collection[str]) -> bool:
    return entry.partition is None and entry.accelerator.pci_address in addresses


def _make_twin(entry: Entry) -> Entry:
    """Return a whole device as it is offered to virtual machines. It is taken after all others."""
    return dataclasses.replace(entry, device=passthrough.describe(entry.device, entry.accelerator))


def _share(entry: Entry, offer: Offer) -> Entry:
    strategy = offer.kept.get(entry.name, offer.shares)
    return dataclasses.replace(entry, device=shares.offer_shares(entry.device, strategy)) if strategy else entry


def _make_entry(place: Place, common: Mapping[str, Attributes], domains: Domains, health: HealthState) -> Entry:
    accelerator, partition = _locate(place)
    own = _describe_partition(accelerator, partition) if partition else _describe_links(accelerator, domains)
    attributes = {**common[naming.name_accelerator(accelerator)], **own}
    capacity = _measure(partition or accelerator)
    # One is left for `allocator`, which is added when the device is published (`fencing`).
    attributes |= _take_extras(accelerator.extra, attributes, vocabulary.ENTRIES_PER_DEVICE - len(capacity) - 1)
    actual = place[1].actual if place[1] else None
    taints = list_taints(health, accelerator.pci_address, actual.uuid if actual else None)
    name = _name(accelerator, partition)
    device = Device(name=name, attributes=dict(sorted(attributes.items())), capacity=capacity, taints=taints)
    return Entry(device, accelerator, actual)


def _describe_common(accelerator: Accelerator, snapshot: Snapshot) -> Attributes:
    """Return what every device says, whole or part: where it is and what it is made by."""
    return _present(
        {
            vocabulary.VENDOR: _exact(snapshot.vendor),
            vocabulary.TYPE: _exact(accelerator.type),
            vocabulary.MODEL: _text(accelerator.model),
            vocabulary.ARCHITECTURE: _text(accelerator.architecture),
            vocabulary.INDEX: _number(accelerator.index),
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
            vocabulary.UUID: _exact(accelerator.uuid),
            vocabulary.INTERCONNECT_DOMAIN: _exact(naming.slug(group[0])) if group else None,
            vocabulary.INTERCONNECT_GBPS: _number(sum_bandwidth(accelerator)),
            vocabulary.FABRIC_DOMAIN: _exact(f"{fabric.cluster_uuid}.{fabric.clique}") if fabric else None,
        }
    )


def _describe_partition(accelerator: Accelerator, partition: Partition) -> Attributes:
    """Return what partitions say. One that is made when it is allocated has no identity that would last."""
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
