"""What the scheduler can allocate and what preparing admits are the same, whatever claims hold already.

The scheduler is our allocator on the slices as they are published; preparing decides with the records of the claims.
Machines have partitions of ours, of somebody else, devices that cannot be switched, devices for virtual machines and
shares. Nothing that is allocated may be refused, and nothing that the scheduler would not allocate be admitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core import admitting, inventory, naming, preparing, shares, slicing
from driver.core.allocator import Allocated, NodeView, Snapshot, allocate
from driver.core.offering import Mode, Offer, Own
from driver.core.slicing import Identity
from driver.model import vocabulary as words
from driver.model.claims import Allocation, AllocationResult, ClaimStatus, ResourceClaim
from driver.model.devices import Accelerator, Entry, Inventory
from driver.model.objects import ObjectMeta
from driver.model.passthrough import Function, Group, View
from driver.model.prepared import ClaimRef, Phase, PreparedDevice, Record
from driver.model.published import PublishedSlice
from driver.model.requests import (
    CapacityRequirements,
    CelSelector,
    ClaimSpec,
    ClassSpec,
    DeviceClass,
    DeviceRequest,
    DevicesSpec,
    Request,
    Selector,
)
from driver.model.sharing import Strategy
from driver.model.wanted import Claim
from tests.fakes.hardware import snapshot
from tests.fakes.partitionable import carve, h100, make

DRIVER: Final = "gpu.accel-dra.dev"
NODE: Final = NodeView("node-1", {})
ADDRESSES: Final = ("0000:01:00.0", "0000:02:00.0")
CLASSES: Final[Mapping[str, DeviceClass]] = {"any": DeviceClass(metadata=ObjectMeta(name="any"), spec=ClassSpec())}
PROFILES: Final = ("1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
OWN: Final = f'device.attributes["{words.DOMAIN}"]'


class World:
    """Two devices, what is offered of them, the claims that hold something, and hardware that follows them."""

    def __init__(self, devices: tuple[Accelerator, ...], offer: Offer) -> None:
        self._devices = devices
        self._offer = offer
        self.held: dict[str, tuple[Claim, Record]] = {}
        first = self.look()
        identity = Identity(DRIVER, NODE.name, "uid", NODE.name, {})
        contents = slicing.layout([entry.device for entry in first.entries], first.counter_sets).contents
        made = slicing.plan(identity, contents, ()).create
        named = [
            msgspec.structs.replace(each, metadata=ObjectMeta(name=f"{number:05x}")) for number, each in enumerate(made)
        ]
        self._published = [entry.device for entry in first.entries]
        self._slices = msgspec.json.decode(msgspec.json.encode(named), type=list[PublishedSlice])

    def look(self) -> Inventory:
        """Return the inventory of the hardware as claims have made it."""
        found = self.look_again(self._offer)
        if self.held:
            assert [entry.device for entry in found.entries] == self._published, "no churn of slices"
        return found

    def look_again(self, offer: Offer) -> Inventory:
        """Return the inventory of the same hardware under another offer."""
        names = {device.device for _, record in self.held.values() for device in record.devices}
        devices, owned = [], set(self._offer.owned)
        for device in self._devices:
            mine = [
                (profile.name, place)
                for profile in device.profiles
                for place in profile.placements
                if naming.name_partition(device, make(device, profile.name, place)) in names
            ]
            foreign = tuple((part.profile, part.placement) for part in device.partitions)
            if device.partitioned or mine:
                devices.append(carve(device, *foreign, *[place for place in mine if place not in foreign]))
            else:
                devices.append(device)
            owned |= {
                Own(device.pci_address, name, place, f"MIG-{name}-{place}")
                for name, place in mine
                if (name, place) not in foreign
            }
        return inventory.build(snapshot(*devices), None, dataclasses.replace(offer, owned=frozenset(owned)))

    def try_to_allocate(self, request: DeviceRequest) -> Claim | None:
        """Return the claim with what the scheduler gives it, None if there is nothing for it."""
        name = f"claim-{len(self.held)}"
        spec = ClaimSpec(devices=DevicesSpec(requests=(Request(name="r", exactly=request),)))
        claim = Claim(metadata=ObjectMeta(name=name, namespace="team", uid=f"uid-{name}"), spec=spec)
        book = Snapshot(self._slices, CLASSES, [each for each, _ in self.held.values()])
        outcome = allocate(book, NODE, [claim])
        if not isinstance(outcome, Allocated):
            return None
        allocation = _number_shares(outcome.allocations[0], name)
        return msgspec.structs.replace(claim, status=ClaimStatus(allocation=allocation))

    def prepare(self, claim: Claim) -> None:
        """Prepare an allocated claim. Raises what preparing raises."""
        uid = claim.metadata.uid
        place = preparing.Place(DRIVER, NODE.name, self.look())
        plain = ResourceClaim(metadata=claim.metadata, status=claim.status)
        ref = ClaimRef("team", claim.metadata.name, uid)
        grants = preparing.plan(ref, plain, [record for _, record in self.held.values()], place)
        assert claim.status.allocation
        results = claim.status.allocation.devices.results
        assert len(grants) == len(results)
        self.held[uid] = (claim, Record(uid, "team", claim.metadata.name, Phase.PREPARED, "b", _hold(results)))

    def run(self, actions: list[DeviceRequest | int]) -> None:
        """Allocate and prepare what is asked for; a number releases a claim."""
        for action in actions:
            if isinstance(action, int):
                if action < len(self.held):
                    del self.held[sorted(self.held)[action]]
                continue
            claim = self.try_to_allocate(action)
            if claim is not None and claim.metadata.uid not in self.held:
                self.prepare(claim)

    def admits(self, entry: Entry, found: Inventory) -> bool:
        """Say whether preparing would admit another claim for all of one device."""
        held = [device for _, record in self.held.values() for device in record.devices]
        if not entry.device.allow_multiple_allocations:
            return admitting.find_rival(admitting.Wanted(entry), held, found) is None
        everything = {name: capacity.value for name, capacity in entry.device.capacity.items()}
        beside = [each.consumed_capacity for each in held if each.device == entry.name]
        rival = admitting.find_rival(admitting.Wanted(entry, "new", everything), held, found)
        return rival is None and not shares.find_excess(entry.device, beside, everything)


def _number_shares(allocation: Allocation, claim: str) -> Allocation:
    """Return the allocation with share ids that are one of a kind, as kube-scheduler draws them."""
    results = tuple(
        msgspec.structs.replace(result, share_id=f"{claim}-{number}") if result.share_id else result
        for number, result in enumerate(allocation.devices.results)
    )
    return msgspec.structs.replace(allocation, devices=msgspec.structs.replace(allocation.devices, results=results))


def _hold(results: tuple[AllocationResult, ...]) -> tuple[PreparedDevice, ...]:
    return tuple(
        PreparedDevice(
            requests=(result.request,),
            pool=result.pool,
            device=result.device,
            share_id=result.share_id,
            consumed_capacity=result.consumed_capacity,
        )
        for result in results
    )


def ask(*conditions: str, count: int = 1, capacity: Mapping[str, str] | None = None) -> DeviceRequest:
    return DeviceRequest(
        device_class_name="any",
        count=count,
        selectors=tuple(Selector(cel=CelSelector(expression=text)) for text in conditions),
        capacity=CapacityRequirements(requests=dict(capacity)) if capacity else None,
    )


def ask_for(entry: Entry) -> DeviceRequest:
    """Return a request that one device alone satisfies, named by what it is and not by its name."""
    kind = entry.device.attributes[words.TYPE].string
    where = f'device.attributes["{words.STANDARD_DOMAIN}"].pciBusID == "{entry.accelerator.pci_address}"'
    part = entry.partition
    if part is None:
        return ask(f'{OWN}.type == "{kind}" && {where}')
    return ask(
        f'{OWN}.type == "{kind}" && {where} && {OWN}.profile == "{part.profile}" && {OWN}.placement == {part.placement}'
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Return two devices in one of the states that hardware can be in, and an offer."""
    devices = []
    for address in ADDRESSES:
        device = h100(address)
        state = draw(st.sampled_from(["free", "left in partition mode", "fixed", "fixed in partition mode", "foreign"]))
        if state.startswith("fixed"):
            device = dataclasses.replace(device, partition_fault="GPU requires reset")
        if state.endswith("mode"):
            device = carve(device)
        if state == "foreign":
            device = carve(device, *draw(st.sampled_from([(("1g.10gb", 6),), (("2g.20gb", 2), ("1g.10gb+me", 5))])))
        devices.append(device)
    groups = {address: Group("1", (Function(address, 0x030200, driver="vendor"),)) for address in ADDRESSES}
    view = View(loaded=True, groups=groups) if draw(st.booleans()) else None
    strategy = draw(st.sampled_from([None, None, Strategy.MPS]))
    return World(tuple(devices), Offer(Mode.DYNAMIC, view=view, shares=strategy))


def requests() -> st.SearchStrategy[DeviceRequest]:
    """Return what workloads ask for."""
    capacity = st.sampled_from([None, None, {words.MEMORY: "4Gi"}, {words.MEMORY: "30Gi"}])
    parts = st.builds(
        lambda profile, count, wanted: ask(
            f'{OWN}.type == "partition" && {OWN}.profile == "{profile}"', count=count, capacity=wanted
        ),
        st.sampled_from(PROFILES),
        st.integers(1, 3),
        capacity,
    )
    wholes = st.builds(lambda wanted: ask(f'{OWN}.type == "gpu"', capacity=wanted), capacity)
    return st.one_of(parts, wholes, st.just(ask(f'{OWN}.type == "vfio"')))


@given(
    worlds(),
    st.lists(st.one_of(requests(), st.integers(0, 5)), min_size=2, max_size=10),
    st.lists(st.integers(0, 999), min_size=1, max_size=8),
)
@settings(max_examples=40)
def test_what_the_scheduler_allocates_is_admitted_and_nothing_else(
    world: World, actions: list[DeviceRequest | int], looked_at: list[int]
) -> None:
    world.run(actions)
    found = world.look()
    for number in looked_at:
        # The whole devices come last: small numbers are for them, so that they are looked at in most examples.
        entry = found.entries[-1 - number % len(found.entries)]
        allocated = world.try_to_allocate(ask_for(entry)) is not None
        assert world.admits(entry, found) is allocated, entry.name


@given(worlds(), st.lists(requests(), min_size=1, max_size=6), st.sampled_from(Mode))
@settings(max_examples=30)
def test_what_claims_have_is_kept_and_kept_from_others_whatever_is_offered_now(
    world: World, actions: list[DeviceRequest], mode: Mode
) -> None:
    """The mode is switched while claims hold devices, and neither shares nor pass-through are offered any more."""
    world.run([*actions])
    found = world.look_again(Offer(mode))
    held = [device for _, record in world.held.values() for device in record.devices]
    offered = {entry.name: entry for entry in found.entries}
    parts = {
        entry.name for entry in world.look().entries if entry.partition and words.UUID not in entry.device.attributes
    }
    assert {device.device for device in held} & parts <= offered.keys(), "a partition that a claim has stays published"
    for entry in found.entries:
        if admitting.find_rival(admitting.Wanted(entry), held, found) is not None:
            continue
        beside = [device.device for device in held if naming.is_at(device.device, entry.accelerator.pci_address)]
        assert entry.name not in beside
        if entry.partition is None:
            assert beside == [], "a whole device is nobody's"
        else:
            assert all(device in parts or device in offered for device in beside), "beside partitions only"
            assert entry.accelerator.pci_address not in {find_address(device) for device in beside}


def find_address(device: str) -> str:
    """Return the address of a device that is all of its accelerator, else nothing."""
    return next((address for address in ADDRESSES if device.endswith(naming.slug(address))), "")


def test_every_device_of_a_full_machine_is_refused_by_both() -> None:
    world = World(tuple(map(h100, ADDRESSES)), Offer(Mode.DYNAMIC))
    for _ in range(2):
        claim = world.try_to_allocate(ask(f'{OWN}.type == "partition" && {OWN}.profile == "1g.10gb"', count=7))
        assert claim is not None
        world.prepare(claim)
    found = world.look()
    for entry in found.entries:
        assert world.try_to_allocate(ask_for(entry)) is None, entry.name
        assert not world.admits(entry, found), entry.name


def test_shares_fill_a_device_and_the_rest_of_it_is_nobody_elses() -> None:
    world = World((h100(ADDRESSES[0]),), Offer(Mode.DYNAMIC, shares=Strategy.MPS))
    for _ in range(3):
        claim = world.try_to_allocate(ask(f'{OWN}.type == "gpu"', capacity={words.MEMORY: "20Gi", words.SHARE: "30"}))
        assert claim is not None
        world.prepare(claim)
    found = world.look()
    for entry in found.entries:
        assert world.try_to_allocate(ask_for(entry)) is None, entry.name
        assert not world.admits(entry, found), entry.name
