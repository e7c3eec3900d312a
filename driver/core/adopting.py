"""What the API server did not store of what was sent, and what is published instead.

Called by the publisher after each write. A server drops fields whose feature is off without a word (Kubernetes v1.36
pkg/registry/resource/resourceslice/strategy.go); a writer that insists writes for ever. So: a difference that does no
harm is adopted. A device that would be wrong without the field is left out: one that must not be scheduled and would
lose its taint, one that would be counted twice without its counters: of the forms in which an accelerator is offered
the whole device stays, partitions and the form for virtual machines go. A device that only loses the fence of our
controller is published without it and is kube-scheduler's then (`fencing`); one that cannot be shared out is published
for one claim at a time (`shares`). Which fields a server stores is asked
first with a dry run (`make_probe`), so that no such device is published even for a moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from driver.core import comparing, fencing, shares
from driver.core.slicing import Identity, Withheld
from driver.model.objects import ObjectMeta
from driver.model.slices import (
    API_VERSION,
    CapacityPolicy,
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceCapacity,
    DeviceTaint,
    Pool,
    ResourceSlice,
    SliceSpec,
)
from driver.model.vocabulary import DOMAIN, TYPE, TYPE_PARTITION, TYPE_VFIO

TAINTS: Final = "DRADeviceTaints"
PARTITIONS: Final = "DRAPartitionableDevices"
SHARES: Final = "DRAConsumableCapacity"
UNKNOWN: Final = "unknown"
"""Reported where no feature explains the difference: an admission webhook changes slices."""

FIELDS: Final = {
    TAINTS: ("devices[].taints",),
    PARTITIONS: ("devices[].consumesCounters", "sharedCounters"),
    SHARES: ("devices[].allowMultipleAllocations", "devices[].capacity[].requestPolicy"),
}
"""What a server without the feature does not store."""

_BLOCKING: Final = ("NoSchedule", "NoExecute")
_PROBE: Final = "probe"
_REASONS: Final = {
    TAINTS: "it must not be scheduled, and the API server does not store taints: turn on its feature DRADeviceTaints",
    PARTITIONS: "it shares hardware with other devices, and the API server does not store counters as Kubernetes has "
    "them from 1.35 on: turn on its feature DRAPartitionableDevices",
}


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of the server. Forgotten from time to time, because features can be turned on."""

    missing: frozenset[str] = frozenset()
    """Features that the server lacks."""
    present: frozenset[str] = frozenset()
    """Features that a probe found."""
    adopted: Mapping[str, tuple[Device, Device]] = field(default_factory=dict)
    """By device name: what was sent, and what the server made of it."""
    refused: Mapping[str, tuple[Device, str]] = field(default_factory=dict)
    """By device name: what was sent, and why the server refused it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be published on this server, and what is left out."""

    devices: tuple[Device, ...]
    counter_sets: tuple[CounterSet, ...]
    withheld: Withheld


@dataclass(frozen=True, slots=True)
class Loss:
    """What the server made different in one slice: field paths, and the features that are probably off."""

    fields: tuple[str, ...]
    features: tuple[str, ...]


def find_needed(devices: Iterable[Device]) -> frozenset[str]:
    """Return the features without which some of the devices must not be published, or not as they are meant."""
    listed = tuple(devices)
    needed = frozenset(feature for device in listed for feature in _need(device))
    wished = {
        TAINTS: any(map(fencing.is_fenced, listed)),
        PARTITIONS: any(each.consumes_counters for each in listed),
        SHARES: any(each.allow_multiple_allocations for each in listed),
    }
    return needed | {feature for feature, is_wished in wished.items() if is_wished}


def adapt(
    memory: Memory, devices: Sequence[Device], counter_sets: Sequence[CounterSet], engaged: Collection[str] = ()
) -> Offer:
    """Return what of the devices can be published as far as is known of the server.

    `engaged` are the names of whole devices of which claims have a part, or which a virtual machine has.
    """
    kept: list[Device] = []
    withheld: list[tuple[str, str]] = []
    for device in devices:
        lacking = sorted(_need(device, engaged) & memory.missing)
        stripped = _strip(memory, device)
        refused = memory.refused.get(device.name)
        if lacking:
            withheld.append((device.name, "; ".join(_REASONS[feature] for feature in lacking)))
        elif refused is not None and comparing.is_same_device(refused[0], stripped):
            withheld.append((device.name, refused[1]))
        else:
            kept.append(_replace_adopted(memory, stripped))
    sets = () if PARTITIONS in memory.missing else tuple(counter_sets)
    return Offer(tuple(kept), sets, tuple(withheld))


def learn(memory: Memory, sent: SliceSpec, stored: SliceSpec) -> tuple[Memory, Loss | None]:
    """Return what is known of the server after it answered a write, and what it made different, if anything."""
    fields: list[str] = []
    missing = set(memory.missing)
    adopted = dict(memory.adopted)
    answers = {device.name: device for device in stored.devices}
    for device in sent.devices:
        answer = answers.get(device.name)
        differences = comparing.find_differences(device, answer) if answer else ("name",)
        fields.extend(f"devices[{device.name}].{name}" for name in differences)
        lost = _find_lost(device, answer or Device(name=device.name))
        missing |= lost
        if answer and differences and not lost:
            adopted[device.name] = (device, answer)
    if not comparing.is_same_counter_sets(sent.shared_counters, stored.shared_counters):
        fields.append("sharedCounters")
        missing.add(PARTITIONS)
    if not fields:
        return memory, None
    features = tuple(sorted(missing - memory.missing)) or (UNKNOWN,)
    known = replace(memory, missing=frozenset(missing), present=memory.present - missing, adopted=adopted)
    return known, Loss(tuple(fields), features)


def refuse(memory: Memory, device: Device, reason: str) -> Memory:
    """Return what is known after the server refused a device: it is left out until it changes."""
    return replace(memory, refused={**memory.refused, device.name: (device, f"the API server refuses it: {reason}")})


def make_probe(identity: Identity, feature: str) -> ResourceSlice:
    """Return a slice for a dry run that tells whether the server stores what a feature is for."""
    return ResourceSlice(
        api_version=API_VERSION,
        kind="ResourceSlice",
        metadata=ObjectMeta(generate_name=f"{_PROBE}-{identity.driver}-"),
        spec=SliceSpec(
            driver=identity.driver,
            pool=Pool(name=identity.pool, generation=1, resource_slice_count=1),
            node_name=identity.node,
            devices=(_make_probe_device(feature),),
        ),
    )


def read_probe(memory: Memory, feature: str, answer: ResourceSlice | None) -> Memory:
    """Return what is known after a dry run; `answer` is None if the server refused the probe."""
    stored = answer.spec.devices[0] if answer and answer.spec.devices else Device(name=_PROBE)
    if _find_lost(_make_probe_device(feature), stored):
        return replace(memory, missing=memory.missing | {feature}, present=memory.present - {feature})
    return replace(memory, missing=memory.missing - {feature}, present=memory.present | {feature})


def make_old_probe(identity: Identity) -> ResourceSlice:
    """Return a slice that only Kubernetes 1.34 takes: devices together with their counters (KEP-4815 before 1.35)."""
    probe = make_probe(identity, PARTITIONS)
    counters = CounterSet(name=_PROBE, counters={_PROBE: Counter(value="1")})
    return msgspec.structs.replace(probe, spec=msgspec.structs.replace(probe.spec, shared_counters=(counters,)))


def read_old_probe(memory: Memory, answer: ResourceSlice | None) -> Memory:
    """Return what is known after a dry run of the old layout: who takes it makes nothing of the one that we publish."""
    if answer is None:
        return memory
    return replace(memory, missing=memory.missing | {PARTITIONS}, present=memory.present - {PARTITIONS})


def _make_probe_device(feature: str) -> Device:
    if feature == TAINTS:
        return Device(name=_PROBE, taints=(DeviceTaint(key=f"{DOMAIN}/{_PROBE}", effect="NoSchedule"),))
    if feature == SHARES:
        amount = DeviceCapacity(value="1", request_policy=CapacityPolicy(default="1"))
        return Device(name=_PROBE, capacity={f"{DOMAIN}/{_PROBE}": amount}, allow_multiple_allocations=True)
    draw = CounterConsumption(counter_set=_PROBE, counters={_PROBE: Counter(value="1")})
    return Device(name=_PROBE, consumes_counters=(draw,))


def _need(device: Device, engaged: Collection[str] = ()) -> frozenset[str]:
    """Return the features without which a device must not be published.

    Without counters one device of each accelerator can stay: the whole one, unless claims have it in another form.
    """
    kind = device.attributes.get(TYPE)
    is_form = kind is not None and kind.string in (TYPE_PARTITION, TYPE_VFIO)
    needed = {
        TAINTS: any(taint.effect in _BLOCKING and not fencing.is_fence(taint) for taint in device.taints),
        PARTITIONS: bool(device.consumes_counters) and (is_form or device.name in engaged),
    }
    return frozenset(feature for feature, is_needed in needed.items() if is_needed)


def _find_lost(sent: Device, stored: Device) -> frozenset[str]:
    """Return the features that would explain what is missing from the stored device."""
    lost = set()
    if any(not any(comparing.is_same_kind(taint, other) for other in stored.taints) for taint in sent.taints):
        lost.add(TAINTS)
    if sent.consumes_counters and "consumesCounters" in comparing.find_differences(sent, stored):
        lost.add(PARTITIONS)
    if sent.allow_multiple_allocations and not _is_shared_alike(sent, stored):
        lost.add(SHARES)
    return frozenset(lost)


def _is_shared_alike(sent: Device, stored: Device) -> bool:
    """Say whether all that makes shares of a device is stored; that a webhook changed an amount is another matter."""
    return stored.allow_multiple_allocations and all(
        name not in stored.capacity or stored.capacity[name].request_policy is not None
        for name, each in sent.capacity.items()
        if each.request_policy is not None
    )


def _strip(memory: Memory, device: Device) -> Device:
    """Return the device without what the server would not store: taints that inform or fence, shares, counters."""
    if PARTITIONS in memory.missing and device.consumes_counters:
        device = msgspec.structs.replace(device, consumes_counters=())
    if SHARES in memory.missing and device.allow_multiple_allocations:
        device = shares.withdraw(device)
    return fencing.take_down(device) if TAINTS in memory.missing and device.taints else device


def _replace_adopted(memory: Memory, device: Device) -> Device:
    known = memory.adopted.get(device.name)
    return known[1] if known is not None and comparing.is_same_device(known[0], device) else device
