"""From the devices of a node to the slices of its pool, and from the slices that exist to the changes they need.

Called by the publisher and by `accel-dra inventory`. Promises: at least one slice, so that "no devices" is not "no
driver"; devices keep their order, because it is the order in which they are taken; the same input gives the same plan
to the byte; nothing is planned that the API server would refuse. Must not read the server or a clock.

The generation rules are those of the DRA helper library (k8s.io/dynamic-resource-allocation/resourceslice): a change
of one slice alone keeps the generation, because it is atomic; anything else raises it, so that schedulers ignore the
pool until all of its slices have arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from driver.core import comparing, limits, settling
from driver.model.objects import ObjectMeta, OwnerReference
from driver.model.slices import (
    API_VERSION,
    MAX_COUNTER_SETS,
    MAX_DEVICES,
    MAX_DEVICES_WITH_TAINTS_OR_COUNTERS,
    CounterSet,
    Device,
    Pool,
    ResourceSlice,
    SliceSpec,
)

KIND: Final = "ResourceSlice"
_INDEX_DIGITS: Final = 5
"""Digits of the index in a slice's name; more only for pools with more than 16^5 slices."""
_INDEX: Final = re.compile(r"([0-9a-f]+)-")

Withheld = tuple[tuple[str, str], ...]
"""Devices or counter sets that are not published, each with the reason."""
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose slices these are. The pool is named like the node; the Node owns the slices."""

    driver: str
    node: str
    node_uid: str
    pool: str
    annotations: Mapping[str, str]
    """Put on every slice that is written; a difference alone is no reason to write."""


@dataclass(frozen=True, slots=True)
class Content:
    """What one slice holds: devices or counter sets, never both (the API refuses that from 1.35 on)."""

    devices: tuple[Device, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The contents of a pool's slices, in index order, and what is left out."""

    contents: tuple[Content, ...]
    withheld: Withheld

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices that are published."""
        return tuple(device for content in self.contents for device in content.devices)


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """What to do, in this order: delete, update, create."""

    delete: tuple[ResourceSlice, ...]
    """As read, with uid and resourceVersion: they are preconditions."""
    update: tuple[ResourceSlice, ...]
    """As wanted, with name, uid and resourceVersion of what was read."""
    create: tuple[ResourceSlice, ...]
    generation: int
    keep: tuple[ResourceSlice, ...] = ()
    """Slices that are right as they are."""

    @property
    def is_empty(self) -> bool:
        """True if nothing has to be written."""
        return not (self.delete or self.update or self.create)


def layout(devices: Sequence[Device], counter_sets: Sequence[CounterSet] = ()) -> Layout:
    """Distribute devices and counter sets over slices. What is over a limit is left out, with its reason.

    Counter sets come first and in slices of their own, at most 8 each. 128 devices fit into a slice, 64 in every slice
    of the pool once any device has taints or consumes counters: one taint then changes one slice, not the boundaries.
    """
    withheld: list[tuple[str, str]] = []
    known: dict[str, CounterSet] = {}
    for counter_set in counter_sets:
        _keep(known, counter_set.name, counter_set, limits.find_counter_set_faults(counter_set), withheld)
    fit: dict[str, Device] = {}
    for device in devices:
        _keep(fit, device.name, device, limits.find_device_faults(device, known), withheld)
    limited = any(device.taints or device.consumes_counters for device in fit.values())
    size = MAX_DEVICES_WITH_TAINTS_OR_COUNTERS if limited else MAX_DEVICES
    contents = [Content(shared_counters=part) for part in _split(tuple(known.values()), MAX_COUNTER_SETS)]
    contents += [Content(devices=part) for part in _split(tuple(fit.values()), size)]
    return Layout(tuple(contents) or (Content(),), tuple(withheld))


def plan(identity: Identity, contents: Sequence[Content], published: Iterable[ResourceSlice]) -> SlicePlan:
    """Return the changes that make the published slices of this driver and node hold the contents.

    Slices of other drivers and nodes are not touched. Raises `InvalidInput` for names the API server would refuse.
    """
    limits.check_names(identity.driver, identity.node, identity.pool)
    all_ours = [each for each in published if _is_ours(identity, each)]
    ours = [each for each in all_ours if not each.metadata.deletion_timestamp]
    pool = [each for each in ours if each.spec.pool.name == identity.pool]
    # Slices that are being deleted still count for schedulers until they are gone.
    generation = max(
        (each.spec.pool.generation for each in all_ours if each.spec.pool.name == identity.pool), default=0
    )
    matched = _match(pool, generation, len(contents))
    new = [index for index in range(len(contents)) if index not in matched]
    changed = {
        index for index, each in matched.items() if not _is_current(identity, each, contents[index], len(contents))
    }
    if new or len(changed) > 1:
        generation += 1
        changed = set(matched)
    wanted_pool = Pool(name=identity.pool, generation=generation, resource_slice_count=len(contents))
    kept = {each.metadata.uid for each in matched.values()}
    return SlicePlan(
        delete=tuple(sorted((each for each in ours if each.metadata.uid not in kept), key=_name)),
        update=tuple(_revise(identity, wanted_pool, contents[index], matched[index]) for index in sorted(changed)),
        create=tuple(_make(identity, wanted_pool, contents[index], index) for index in new),
        generation=generation,
        keep=tuple(matched[index] for index in sorted(matched.keys() - changed)),
    )


def read_index(name: str, count: int) -> int | None:
    """Return the index that a slice's name starts with; None if it is not one of ours for a pool of `count` slices."""
    found = _INDEX.match(name)
    if found is None or len(found[1]) != _digits(count):
        return None
    index = int(found[1], 16)
    return index if index < count else None


def _keep(
    known: dict[str, _Item], name: str, item: _Item, faults: tuple[str, ...], withheld: list[tuple[str, str]]
) -> None:
    if name in known:
        faults = (*faults, f"the name {name} is already taken")
    if faults:
        withheld.append((name, "; ".join(faults)))
    else:
        known[name] = item


def _split(items: tuple[_Item, ...], size: int) -> Iterator[tuple[_Item, ...]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _digits(count: int) -> int:
    return max(_INDEX_DIGITS, len(f"{max(count - 1, 0):x}"))


def _is_ours(identity: Identity, published: ResourceSlice) -> bool:
    return published.spec.driver == identity.driver and published.spec.node_name == identity.node


def _match(pool: Iterable[ResourceSlice], generation: int, count: int) -> dict[int, ResourceSlice]:
    """Return the slices that can stay, by index: of the newest generation, one an index.

    Of several with one index stays the one of the youngest writer, then the oldest, then the first by name, whatever
    they hold: two instances that both wrote must come to the same choice.
    """
    matched: dict[int, ResourceSlice] = {}
    for each in sorted(pool, key=_preference):
        index = read_index(each.metadata.name, count)
        if index is not None and each.spec.pool.generation == generation:
            matched.setdefault(index, each)
    return matched


def _preference(published: ResourceSlice) -> tuple[float, str, str, str]:
    writer = settling.read_writer(published)
    age = -writer.started.timestamp() if writer else 0.0
    meta = published.metadata
    return age, writer.id if writer else "", meta.creation_timestamp or "", meta.name


def _is_current(identity: Identity, published: ResourceSlice, content: Content, count: int) -> bool:
    spec = published.spec
    return (
        spec.pool.resource_slice_count == count
        and comparing.is_same_devices(spec.devices, content.devices)
        and comparing.is_same_counter_sets(spec.shared_counters, content.shared_counters)
        and _own(identity) in published.metadata.owner_references
    )


def _make(identity: Identity, pool: Pool, content: Content, index: int) -> ResourceSlice:
    digits = _digits(pool.resource_slice_count)
    return ResourceSlice(
        api_version=API_VERSION,
        kind=KIND,
        metadata=ObjectMeta(
            generate_name=f"{index:0{digits}x}-{identity.driver}-{identity.node}-",
            annotations=dict(identity.annotations),
            owner_references=(_own(identity),),
        ),
        spec=_spell(identity, pool, content.devices, content.shared_counters),
    )


def _revise(identity: Identity, pool: Pool, content: Content, published: ResourceSlice) -> ResourceSlice:
    """Return what a published slice shall become; times of taints and owners that are not ours are kept."""
    stored = {device.name: device for device in published.spec.devices}
    devices = tuple(
        comparing.keep_times(device, stored[device.name]) if device.name in stored else device
        for device in content.devices
    )
    meta = published.metadata
    owner = _own(identity)
    foreign = (other for other in meta.owner_references if not other.controller and other.uid != owner.uid)
    return ResourceSlice(
        api_version=API_VERSION,
        kind=KIND,
        metadata=ObjectMeta(
            name=meta.name,
            uid=meta.uid,
            resource_version=meta.resource_version,
            annotations=dict(identity.annotations),
            owner_references=(owner, *foreign),
        ),
        spec=_spell(identity, pool, devices, content.shared_counters),
    )


def _spell(
    identity: Identity, pool: Pool, devices: tuple[Device, ...], shared_counters: tuple[CounterSet, ...]
) -> SliceSpec:
    return SliceSpec(
        driver=identity.driver,
        node_name=identity.node,
        pool=pool,
        devices=devices,
        shared_counters=shared_counters,
    )


def _own(identity: Identity) -> OwnerReference:
    return OwnerReference(api_version="v1", kind="Node", name=identity.node, uid=identity.node_uid, controller=True)


def _name(published: ResourceSlice) -> str:
    return published.metadata.name
