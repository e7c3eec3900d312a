"""Shares of a device (consumable capacity, KEP-5075): what is published, and what a share that was given means.

`inventory` calls `offer_shares`, `adopting` `withdraw`, `preparing` the rest. With shares a device may be given to
several claims at a time, each with a part of its memory and of its compute; kube-scheduler adds up what is taken. The
strategy is the node's and not the claim's, so that two claims on one device never contradict each other.

A claim that does not say how much it wants gets all of it, so one that knows nothing of shares has the device alone,
as it would without. Whoever leaves no room for another share is alone on the device and is not limited either: a claim
for a device with at least so much memory means the same on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from driver.model import quantities, vocabulary
from driver.model.claims import AllocationResult
from driver.model.errors import InvalidInput
from driver.model.prepared import ContainerEdits, Preparation, PreparedDevice
from driver.model.quantities import NANO, Quantity
from driver.model.sharing import Interval, Sharing, Strategy
from driver.model.slices import CapacityPolicy, CapacityRange, Device, DeviceAttribute, DeviceCapacity

OFF: Final = "off"
"""Value of the setting `shares` with which a device is given to one claim at a time."""

MEMORY_STEP: Final = 2**20
"""Bytes. Memory is limited in MiB (CUDA_MPS_PINNED_DEVICE_MEM_LIMIT takes no smaller unit), so no step is lost."""
LEAST_MEMORY: Final = 64 * MEMORY_STEP
"""Bytes. Less does not even hold the context that every process on a GPU has, and what is left over of a device after
other shares must not look as if something could run there."""
ENFORCED_VARIABLE: Final = "ACCEL_DRA_SHARE_ENFORCED"
"""Environment variable of containers with a share: `true` or `false`."""
WHOLE: Final = 100
"""`share` of a whole device: percent, because that is the unit in which MPS limits threads (1 to 100, no fractions)."""

_TYPES: Final = (vocabulary.TYPE_GPU, vocabulary.TYPE_PARTITION)
_LEAST: Final = {
    vocabulary.MEMORY: Quantity(LEAST_MEMORY * NANO),
    vocabulary.SHARE: Quantity(NANO),
}
"""What is shared out, and the least of it that one claim can have."""
_ENTRIES: Final = vocabulary.ENTRIES_PER_DEVICE - 1
"""One is left for `allocator`, which is added when the device is published (`fencing`)."""
_NOT_COUNTED: Final = CapacityPolicy(default="0")
"""Engines and multiprocessors go with `share`: a claim that does not ask for them must not use them up for others."""


def read_strategy(choice: str) -> Strategy | None:
    """Return the strategy that the setting `shares` names, None if it is off."""
    return None if choice == OFF else Strategy(choice)


def offer_shares(device: Device, strategy: Strategy | None) -> Device:
    """Return a device as it is published if several claims may share it; one that cannot be shared as it is.

    Vendors' own attributes make room for what is added, the last by name first.
    """
    kind = device.attributes.get(vocabulary.TYPE)
    if strategy is None or kind is None or kind.string not in _TYPES:
        return device
    capacity = {name: _share_out(name, each.value) for name, each in device.capacity.items()}
    capacity[vocabulary.SHARE] = _share_out(vocabulary.SHARE, str(WHOLE))
    attributes = {**device.attributes, vocabulary.SHARING: DeviceAttribute(string=strategy.value)}
    return msgspec.structs.replace(
        device,
        attributes=_make_room(attributes, _ENTRIES - len(capacity)),
        capacity=dict(sorted(capacity.items())),
        allow_multiple_allocations=True,
    )


def keep(devices: Iterable[PreparedDevice], strategy: Strategy | None) -> dict[str, Strategy]:
    """Return by name how devices are shared of which claims hold shares, whatever the setting says meanwhile.

    Published in another way the scheduler would give away what the node must refuse. `strategy` is the setting; it
    holds where a claim has a share that leaves no room, which is not set up in any way.
    """
    kept: dict[str, Strategy] = {}
    for held in devices:
        if held.share_id is None or held.admin_access:
            continue
        if held.shared and held.sharing is not None:
            kept[held.device] = held.sharing.strategy
        else:
            kept.setdefault(held.device, strategy or Strategy.TIME_SLICING)
    return kept


def is_kept(devices: Iterable[Device], strategy: Strategy | None) -> bool:
    """Say whether any device is published as shared in another way than the setting says."""
    wanted = strategy.value if strategy else None
    said = (device.attributes.get(vocabulary.SHARING) for device in devices)
    return any(attribute is not None and attribute.string != wanted for attribute in said)


def withdraw(device: Device) -> Device:
    """Return a device as it is published where it cannot be shared: for one claim at a time."""
    attributes = {name: each for name, each in device.attributes.items() if name != vocabulary.SHARING}
    capacity = {name: DeviceCapacity(value=each.value) for name, each in device.capacity.items()}
    capacity.pop(vocabulary.SHARE, None)
    return msgspec.structs.replace(device, attributes=attributes, capacity=capacity, allow_multiple_allocations=False)


def _share_out(name: str, value: str) -> DeviceCapacity:
    if name == vocabulary.SHARE:
        span = CapacityRange(min="1", step="1")
        return DeviceCapacity(value=value, request_policy=CapacityPolicy(default=value, valid_range=span))
    if name != vocabulary.MEMORY:
        return DeviceCapacity(value=value, request_policy=_NOT_COUNTED)
    size = quantities.parse(value).rounded_up
    if size < LEAST_MEMORY + MEMORY_STEP:
        return DeviceCapacity(value=value)  # too small to be shared: without a policy a claim takes all of it
    span = CapacityRange(min=quantities.from_bytes(LEAST_MEMORY), step=quantities.from_bytes(MEMORY_STEP))
    everything = quantities.from_bytes(size - size % MEMORY_STEP)
    return DeviceCapacity(value=value, request_policy=CapacityPolicy(default=everything, valid_range=span))


def _make_room(attributes: Mapping[str, DeviceAttribute], room: int) -> dict[str, DeviceAttribute]:
    own = (f"{vocabulary.DOMAIN}/", f"{vocabulary.STANDARD_DOMAIN}/")
    foreign = sorted(name for name in attributes if not name.startswith(own))
    excess = max(0, len(attributes) - room)
    dropped = set(foreign[len(foreign) - excess :] if excess else ())
    return {name: attributes[name] for name in sorted(attributes) if name not in dropped}


def decide_sharing(device: Device, result: AllocationResult, configured: Sharing | None) -> Sharing | None:
    """Return how a device that was given is shared: what its share says, within what is configured.

    `device` as the inventory has it, `configured` what opaque configuration says for this result. Raises
    `InvalidInput` if configuration wants something that the others on the device would notice.
    """
    if result.share_id is None or result.admin_access or not leaves_room(device, result.consumed_capacity):
        return configured
    strategy = _read_strategy(device)
    if configured is not None:
        _refuse_contradiction(result, strategy, configured)
    if strategy is not Strategy.MPS:
        return Sharing(strategy)
    return _lower(_limit(device, result.consumed_capacity), configured or Sharing())


def leaves_room(device: Device, consumed: Mapping[str, str]) -> bool:
    """Say whether another share of the device can be given beside one that takes so much."""
    return all(
        _most(device.capacity[name]) - _read(consumed, name, _most(device.capacity[name])) >= least
        for name, least in _LEAST.items()
        if name in device.capacity
    )


def find_excess(device: Device, held: Iterable[Mapping[str, str]], wanted: Mapping[str, str]) -> str:
    """Return in a few words what of a device is not there for a share beside those that are held; empty if all is.

    `held` and `wanted` are capacities consumed. What a held share takes is not known, and so not counted, if its
    record could not be read.
    """
    others = tuple(held)
    for name in _LEAST:
        capacity = device.capacity.get(name)
        if capacity is None or name not in wanted:
            continue
        left = quantities.parse(capacity.value)
        for each in others:
            left -= _read(each, name, Quantity(0))
        asked = quantities.parse(wanted[name])
        if asked > left:
            return f"{name.rpartition('/')[2]} {asked} is wanted and {left} is left"
    return ""


def announce(preparation: Preparation, devices: Iterable[PreparedDevice]) -> Preparation:
    """Return what containers get with a variable for those that have a share, which says whether it is enforced.

    It is the same for all shares of a node, so a container may have several.
    """
    edits = dict(preparation.devices)
    for held in devices:
        if held.shared and held.sharing is not None:
            key = f"{held.device}-{held.share_id}"
            variable = f"{ENFORCED_VARIABLE}={str(is_enforced(held.sharing)).lower()}"
            own = edits.get(key, ContainerEdits())
            edits[key] = msgspec.structs.replace(own, env=(*own.env, variable))
    return Preparation(preparation.common, edits)


def find_unenforced(devices: Iterable[PreparedDevice]) -> tuple[str, ...]:
    """Return the devices of which a claim has a share that nothing limits, each once."""
    loose = (held.device for held in devices if held.shared and held.sharing and not is_enforced(held.sharing))
    return tuple(dict.fromkeys(loose))


def is_enforced(sharing: Sharing) -> bool:
    """Say whether anything keeps the processes of one share from using more than it has."""
    return sharing.strategy is Strategy.MPS


def _read_strategy(device: Device) -> Strategy:
    """Return the node's strategy. Without one the setting was turned off after the share was given: nothing limits."""
    attribute = device.attributes.get(vocabulary.SHARING)
    return Strategy(attribute.string) if attribute is not None and attribute.string else Strategy.TIME_SLICING


def _refuse_contradiction(result: AllocationResult, strategy: Strategy, configured: Sharing) -> None:
    where = f"request {result.request}: configuration for a share of {result.device}: sharing"
    if configured.strategy is not strategy:
        raise InvalidInput(
            f"{where}.strategy", configured.strategy.value, f"{strategy.value}, which all shares of this node have"
        )
    if configured.interval not in (None, Interval.DEFAULT):
        raise InvalidInput(
            f"{where}.timeSlicing.interval", configured.interval.value, "none: other claims share the device"
        )


def _limit(device: Device, consumed: Mapping[str, str]) -> Sharing:
    """Return what MPS has to limit: of each capacity that is not taken as a whole."""
    memory = _read_part(device, consumed, vocabulary.MEMORY)
    return Sharing(
        Strategy.MPS,
        active_thread_percentage=_read_part(device, consumed, vocabulary.SHARE),
        pinned_memory_bytes=memory,
    )


def _read_part(device: Device, consumed: Mapping[str, str], name: str) -> int | None:
    capacity = device.capacity.get(name)
    if capacity is None or name not in consumed:
        return None
    amount = quantities.parse(consumed[name])
    return None if amount >= _most(capacity) else amount.rounded_up


def _lower(limits: Sharing, configured: Sharing) -> Sharing:
    """Return the tighter of each limit: configuration may lower what a share gives and never raise it."""
    return msgspec.structs.replace(
        limits,
        active_thread_percentage=_least(limits.active_thread_percentage, configured.active_thread_percentage),
        pinned_memory_bytes=_least(limits.pinned_memory_bytes, configured.pinned_memory_bytes),
    )


def _least(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _most(capacity: DeviceCapacity) -> Quantity:
    """Return what a claim takes that does not ask: all of it, in whole steps."""
    policy = capacity.request_policy
    return quantities.parse(policy.default if policy and policy.default else capacity.value)


def _read(amounts: Mapping[str, str], name: str, default: Quantity) -> Quantity:
    return quantities.parse(amounts[name]) if name in amounts else default
