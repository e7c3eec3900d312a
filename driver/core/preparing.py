"""May this claim be prepared here, and with which devices? The decision before anything is done.

Called by `node.transactions` under its lock. Promises the same plan for the same input, in the order of the
allocation. Results of other drivers are skipped before anything else is looked at. It is the last line of defence
against a device that two claims hold. It must not do anything: vendors, files and answers come after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from driver.contract import Target
from driver.core import admitting, naming, shares
from driver.core.configuring import ruling
from driver.model import vocabulary
from driver.model.claims import Allocation, AllocationResult, ResourceClaim
from driver.model.devices import Entry, Inventory
from driver.model.errors import Conflict, DeviceBusy, InvalidInput, NotFound
from driver.model.prepared import CLAIM_UID, PARTITION, ClaimRef, Phase, PreparedDevice, Record, Step
from driver.model.sharing import Sharing, Strategy
from driver.model.slices import DeviceAttribute


@dataclass(frozen=True, slots=True)
class Place:
    """Where claims are prepared: our driver, our pool, and what the node has."""

    driver: str
    pool: str
    inventory: Inventory


@dataclass(frozen=True, slots=True)
class Grant:
    """One device (or one share of it) of a claim, for one or more of its requests."""

    entry: Entry
    share_id: str | None
    admin_access: bool
    """True only if every request that has it asked for admin access: then the device is not held."""
    requests: tuple[str, ...]
    """As allocated: `request` or `request/subrequest`."""
    sharing: Sharing | None = None
    """What configuration and the share say; None: nothing."""
    consumed_capacity: Mapping[str, str] = field(default_factory=dict)
    """What a share takes of the device, as allocated."""

    @property
    def is_shared(self) -> bool:
        """True if other claims may have shares of the device beside this one."""
        if self.share_id is None or self.admin_access:
            return False
        return shares.leaves_room(self.entry.device, self.consumed_capacity)

    @property
    def main_requests(self) -> tuple[str, ...]:
        """The requests as the kubelet compares them, without subrequests."""
        return tuple(dict.fromkeys(request.partition("/")[0] for request in self.requests))

    def aim(self, claim: str) -> Target:
        """Return what the vendor needs to know; `claim` is the UID.

        A partition that is published without its UUID is made by a step. The inventory may be a little old: whether it
        is there just now, its vendor sees for itself. Admin access makes nothing: it gets what is there.
        """
        part = self.entry.partition
        if part is not None and not self.admin_access and vocabulary.UUID not in self.entry.device.attributes:
            profiles = self.entry.accelerator.profiles
            handle = next((each.handle for each in profiles if each.name == part.profile), part.handle)
            part = replace(part, uuid=None, handle=handle)
        return Target(
            self.entry.name,
            self.entry.accelerator,
            part,
            self.admin_access,
            self.share_id,
            claim,
            self.sharing,
            self.is_shared,
        )


def plan(ref: ClaimRef, claim: ResourceClaim, records: Iterable[Record], place: Place) -> tuple[Grant, ...]:
    """Return the devices of our driver that `claim` was given, none if it has only other drivers'.

    Raises `Conflict` (the claim was replaced), `InvalidInput` (not allocated, another pool, bad configuration),
    `NotFound` (the device is not here), `DeviceBusy` (another claim holds it).
    """
    allocation = _check_identity(ref, claim)
    ours = [result for result in allocation.devices.results if result.driver == place.driver]
    if not ours:
        return ()
    entries = [_locate(result, place) for result in ours]
    given = [_describe(result, entry) for result, entry in zip(ours, entries, strict=True)]
    configured = ruling.find_sharing(allocation.devices.config, place.driver, given)
    grants = _merge(_grant(*each) for each in zip(ours, entries, configured, strict=True))
    others = [record for record in records if record.uid != ref.uid]
    for position, grant in enumerate(grants):
        _refuse_crowded(grant, others, grants[:position], ref)
        _refuse_busy(grant, others, place.inventory)
    _refuse_several_daemons(grants)
    return grants


def plan_again(record: Record, place: Place) -> tuple[Grant, ...]:
    """Return the devices of a claim that was prepared before the machine was booted again, from its record.

    Raises `NotFound` if one of them is gone.
    """
    return tuple(
        Grant(
            entry=_find(held.device, held.requests, place),
            share_id=held.share_id,
            admin_access=held.admin_access,
            requests=held.requests,
            sharing=held.sharing,
            consumed_capacity=held.consumed_capacity,
        )
        for held in record.devices
    )


def learn(grants: Sequence[Grant], done: Sequence[Step]) -> tuple[Grant, ...]:
    """Return the grants with the identity of partitions that were made for them, which is not published."""
    made = {_place_of(step.arguments): step.facts.get("uuid", "") for step in done if step.name == PARTITION}
    return tuple(_learn(grant, made) for grant in grants)


def _learn(grant: Grant, made: Mapping[tuple[str, str, str], str]) -> Grant:
    part, device = grant.entry.partition, grant.entry.device
    if part is None:
        return grant
    uuid = made.get((grant.entry.accelerator.pci_address, part.profile, str(part.placement)))
    if not uuid:
        return grant
    attributes = {**device.attributes, vocabulary.UUID: DeviceAttribute(string=uuid)}
    device = msgspec.structs.replace(device, attributes=dict(sorted(attributes.items())))
    return replace(grant, entry=replace(grant.entry, device=device, partition=replace(part, uuid=uuid)))


def _place_of(arguments: Mapping[str, str]) -> tuple[str, str, str]:
    return arguments.get("pciAddress", ""), arguments.get("profile", ""), arguments.get("placement", "")


def hold_unread(uid: str, devices: Sequence[PreparedDevice] | None, offered: Sequence[str], place: Place) -> Record:
    """Return a record that holds the devices of a prepared claim whose own record is not understood.

    `devices` are those of its record if that much was read, `offered` what its CDI document gives.
    """
    found = tuple(devices) if devices is not None else tuple(_hold(name, place) for name in offered)
    return Record(uid=uid, namespace="unknown", name="unknown", phase=Phase.PREPARED, boot_id="", devices=found)


def _hold(offered: str, place: Place) -> PreparedDevice:
    """Take `name-shareID` apart: the longest name that fits, since parts are named after wholes."""
    names = (entry.name for entry in place.inventory.entries)
    device = max((name for name in names if f"{offered}-".startswith(f"{name}-")), key=len, default=offered)
    share_id = offered.removeprefix(device).removeprefix("-") or None
    return PreparedDevice(requests=(), pool=place.pool, device=device, share_id=share_id)


def _check_identity(ref: ClaimRef, claim: ResourceClaim) -> Allocation:
    if not CLAIM_UID.fullmatch(ref.uid):
        raise InvalidInput("claim UID", ref.uid, "letters, digits, '-' and '.'")
    if claim.metadata.uid != ref.uid:
        raise Conflict(
            f"claim {ref.namespace}/{ref.name} got replaced: the kubelet asks for UID {ref.uid}, "
            f"the API server has {claim.metadata.uid}"
        )
    if claim.status.allocation is None:
        raise InvalidInput(f"claim {ref}: status.allocation", None, "an allocation; this claim is not allocated")
    return claim.status.allocation


def _locate(result: AllocationResult, place: Place) -> Entry:
    if result.pool != place.pool:
        raise InvalidInput(f"request {result.request}: pool", result.pool, f"{place.pool}, the pool of this node")
    return _find(result.device, (result.request,), place)


def _describe(result: AllocationResult, entry: Entry) -> ruling.Given:
    """Return what configuration needs to know of a device; the UUID as it is published."""
    kind = entry.device.attributes.get(vocabulary.TYPE)
    uuid = entry.device.attributes.get(vocabulary.UUID)
    return ruling.Given(result, (kind and kind.string) or "", uuid.string if uuid else None)


def _grant(result: AllocationResult, entry: Entry, configured: Sharing | None) -> Grant:
    return Grant(
        entry=entry,
        share_id=result.share_id,
        admin_access=bool(result.admin_access),
        requests=(result.request,),
        sharing=shares.decide_sharing(entry.device, result, configured),
        consumed_capacity=result.consumed_capacity,
    )


def _find(device: str, requests: Sequence[str], place: Place) -> Entry:
    entry = place.inventory.find(device)
    if entry is not None:
        return entry
    inventory = place.inventory
    failures = (f for f in inventory.omitted if f.pci_address and naming.is_at(device, f.pci_address))
    reason = next((f": {failure.reason}" for failure in failures), "")
    if not reason and any(naming.is_at(device, found.pci_address) for found in inventory.snapshot.accelerators):
        what = "setting for pass-through" if device.startswith(f"{vocabulary.TYPE_VFIO}-") else "mode for partitions"
        reason = f": its accelerator is there, and does not offer this under the node's {what}"
    raise NotFound(f"device {device} of request {', '.join(requests)} is not on this node now{reason}")


def _merge(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Join grants of the same device and share: one device of a claim is one CDI device, whoever asked for it."""
    merged: dict[tuple[str, str | None], Grant] = {}
    for grant in grants:
        key = (grant.entry.name, grant.share_id)
        first = merged.get(key)
        merged[key] = grant if first is None else _join(first, grant)
    return tuple(merged.values())


def _join(first: Grant, second: Grant) -> Grant:
    if first.sharing and second.sharing and first.sharing != second.sharing:
        raise InvalidInput(
            f"request {second.requests[0]}: configuration of {second.entry.name}: sharing",
            second.sharing.strategy.value,
            f"the same as for request {first.requests[0]}, which was given the same device",
        )
    return replace(
        first,
        admin_access=first.admin_access and second.admin_access,
        requests=first.requests + second.requests,
        sharing=first.sharing or second.sharing,
    )


def _refuse_busy(grant: Grant, records: Sequence[Record], inventory: Inventory) -> None:
    """Raise `DeviceBusy` if another claim holds what is granted. Admin access neither holds nor is held up."""
    if grant.admin_access:
        return
    held = [(device, record) for record in records for device in record.devices]
    wanted = admitting.Wanted(grant.entry, grant.share_id, grant.consumed_capacity)
    rival = admitting.find_rival(wanted, [device for device, _ in held], inventory)
    if rival is not None:
        record = next(record for device, record in held if device is rival)
        through = "" if rival.device == grant.entry.name else f" (through {rival.device})"
        holder = str(ClaimRef(record.namespace, record.name, record.uid))
        raise DeviceBusy(f"{grant.entry.name}{through}", holder)


def _refuse_crowded(grant: Grant, records: Sequence[Record], own: Sequence[Grant], ref: ClaimRef) -> None:
    """Raise `DeviceBusy` if a share does not fit beside the others of its device: `records`, and `own` of the claim."""
    if grant.share_id is None or grant.admin_access:
        return
    device = grant.entry.name
    beside = [(record, held) for record in records for held in record.devices if _is_share(held, device)]
    for record, held in beside:
        if held.shared and grant.is_shared and _strategy(held.sharing) is not _strategy(grant.sharing):
            why = f"it is shared by {_spell(held.sharing)} and not by {_spell(grant.sharing)} until that is released"
            raise DeviceBusy(device, str(ClaimRef(record.namespace, record.name, record.uid)), why)
    taken: list[Mapping[str, str]] = [held.consumed_capacity for _, held in beside]
    taken += [each.consumed_capacity for each in own if each.entry.name == device and not each.admin_access]
    excess = shares.find_excess(grant.entry.device, taken, grant.consumed_capacity)
    if excess:
        holders = dict.fromkeys(str(ClaimRef(record.namespace, record.name, record.uid)) for record, _ in beside)
        raise DeviceBusy(device, " and ".join(holders) or str(ref), excess)


def _refuse_several_daemons(grants: Sequence[Grant]) -> None:
    """Raise `InvalidInput` for a request whose container would need two MPS daemons: a process speaks with one only.

    Partitions, and devices that other claims share, have a daemon each; the other devices of a claim have one together.
    """
    daemons: dict[str, set[str]] = {}
    for grant in grants:
        if _strategy(grant.sharing) is Strategy.MPS and not grant.admin_access:
            own = grant.entry.partition is not None or grant.is_shared
            for request in grant.main_requests:
                daemons.setdefault(request, set()).add(grant.entry.name if own else "")
    for request, names in daemons.items():
        if len(names) > 1:
            allowed = "with MPS one partition or share, or whole devices: a process speaks with one daemon only"
            raise InvalidInput(f"request {request}", f"{len(names)} devices with a daemon each", allowed)


def _is_share(held: PreparedDevice, device: str) -> bool:
    return held.device == device and held.share_id is not None and not held.admin_access


def _strategy(sharing: Sharing | None) -> Strategy | None:
    return None if sharing is None else sharing.strategy


def _spell(sharing: Sharing | None) -> str:
    strategy = _strategy(sharing)
    return "nothing" if strategy is None else strategy.value
