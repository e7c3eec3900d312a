"""Random nodes on which it matters which devices are chosen (hypothesis): links, broken GPUs, network interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from hypothesis import strategies as st

from driver.core.allocator import Allocated, NodeView, Snapshot, allocate
from driver.core.allocator.outcomes import InvalidClaim
from driver.model.claims import ClaimStatus
from driver.model.objects import ObjectMeta
from driver.model.policies import Policy, Preference
from driver.model.published import Attribute, Capacity, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.requests import CelSelector, ClassSpec, Constraint, DeviceClass, DeviceRequest, Request, Selector
from driver.model.slices import CapacityPolicy, Counter, CounterConsumption, CounterSet, Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import make_claim

NODE: Final = NodeView("node-1")
GPUS: Final = "gpu.example.com"
NICS: Final = "nic.example.com"
_PROFILES: Final = (("1g", 1, (0, 1, 2)), ("2g", 2, (0, 2)), ("4g", 4, (0,)))


def make_class(name: str, expression: str) -> DeviceClass:
    selector = Selector(cel=CelSelector(expression=expression))
    return DeviceClass(metadata=ObjectMeta(name=name), spec=ClassSpec(selectors=(selector,)))


CLASSES: Final = {
    each.metadata.name: each
    for each in (
        make_class("any", "true"),
        make_class("gpu", 'device.attributes["accel-dra.dev"].?type.orValue("") == "gpu"'),
        make_class("partition", 'device.attributes["accel-dra.dev"].?type.orValue("") == "partition"'),
        make_class("shared", "device.allowMultipleAllocations"),
        make_class("nic", f'device.driver == "{NICS}"'),
    )
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Claims to be allocated together on a node of which something is taken."""

    snapshot: Snapshot
    claims: tuple[Claim, ...]
    policies: tuple[Policy, ...]


def make_gpu(
    name: str,
    *,
    domain: str | None = None,
    numa: int | None = None,
    root: str | None = None,
    memory: str = "40Gi",
    kind: str = "gpu",
) -> PublishedDevice:
    """Return a whole device of our vocabulary."""
    attributes = {"accel-dra.dev/type": Attribute(string=kind)} if kind else {}
    if domain is not None:
        attributes["accel-dra.dev/interconnectDomain"] = Attribute(string=domain)
    if numa is not None:
        attributes["resource.kubernetes.io/numaNode"] = Attribute(int_=numa)
    if root is not None:
        attributes["resource.kubernetes.io/pcieRoot"] = Attribute(string=root)
    capacity = {"accel-dra.dev/memory": Capacity(value=memory)} if memory else {}
    return PublishedDevice(name=name, attributes=attributes, capacity=capacity)


def make_partitions(parent: PublishedDevice) -> list[PublishedDevice]:
    """Return a GPU that can be broken up, after its partitions: seven of them overlap."""
    found = []
    for profile, size, places in _PROFILES:
        for place in places:
            kind = {**parent.attributes, "accel-dra.dev/type": Attribute(string="partition")}
            taken = {f"slice-{index}": Counter(value="1") for index in range(place, place + size)}
            found.append(_consume(parent, f"{parent.name}-{profile}-{place}", kind, taken, f"{10 * size}Gi"))
    whole = {f"slice-{index}": Counter(value="1") for index in range(4)}
    return [*found, _consume(parent, parent.name, parent.attributes, whole, "40Gi")]


def _consume(
    parent: PublishedDevice, name: str, attributes: dict[str, Attribute], taken: dict[str, Counter], memory: str
) -> PublishedDevice:
    return msgspec.structs.replace(
        parent,
        name=name,
        attributes=attributes,
        capacity={"accel-dra.dev/memory": Capacity(value=memory)},
        consumes_counters=(CounterConsumption(counter_set=f"{parent.name}-set", counters=taken),),
    )


def publish(
    driver: str, devices: Sequence[PublishedDevice], *, node: str = NODE.name, broken: Sequence[str] = ()
) -> list[PublishedSlice]:
    """Return the slices of one pool of a node; `broken` are the GPUs that have counters."""
    counters = {f"slice-{index}": Counter(value="1") for index in range(4)}
    sets = tuple(CounterSet(name=f"{each}-set", counters=counters) for each in broken)
    pool = Pool(name=node, generation=1, resource_slice_count=1 + bool(sets))
    parts = [PublishedSpec(driver=driver, pool=pool, node_name=node, devices=tuple(devices))]
    if sets:
        parts.append(PublishedSpec(driver=driver, pool=pool, node_name=node, shared_counters=sets))
    return [
        PublishedSlice(metadata=ObjectMeta(name=f"{node}-{driver}-{index}"), spec=spec)
        for index, spec in enumerate(parts)
    ]


@st.composite
def nodes(draw: st.DrawFn) -> list[PublishedSlice]:
    """A node with a few GPUs, some of which can be broken up, a shared device and network interfaces."""
    devices = [draw(gpus(f"gpu-{index}")) for index in range(draw(st.integers(1, 4)))]
    broken = []
    for index in range(draw(st.integers(0, 2))):
        parent = draw(gpus(f"mig-{index}"))
        broken.append(parent.name)
        devices.extend(make_partitions(parent))
    if draw(st.integers(0, 3)) == 0:
        policy = CapacityPolicy(default="4Gi")
        shared = msgspec.structs.replace(
            draw(gpus("shared-0")),
            capacity={"memory": Capacity(value="16Gi", request_policy=policy)},
            allow_multiple_allocations=True,
        )
        devices.extend([shared, msgspec.structs.replace(shared, name="shared-1")])
    nics = [draw(gpus(f"nic-{index}", kind="", memory="")) for index in range(draw(st.integers(0, 2)))]
    return [*publish(GPUS, devices, broken=broken), *publish(NICS, nics)]


@st.composite
def gpus(draw: st.DrawFn, name: str, *, kind: str = "gpu", memory: str | None = None) -> PublishedDevice:
    """A device somewhere on the node; what it does not say is unknown."""
    return make_gpu(
        name,
        domain=draw(st.sampled_from([None, "a", "b"])) if kind else None,
        numa=draw(st.sampled_from([None, 0, 1])),
        root=draw(st.sampled_from([None, "r0", "r1"])),
        memory=draw(st.sampled_from(["20Gi", "40Gi"])) if memory is None else memory,
        kind=kind,
    )


@st.composite
def asks(draw: st.DrawFn, name: str = "") -> DeviceRequest:
    """What a request or an alternative asks for."""
    is_all = draw(st.integers(0, 15)) == 0
    return DeviceRequest(
        name=name,
        device_class_name=draw(st.sampled_from(["gpu", "gpu", "partition", "any", "shared", "nic"])),
        allocation_mode="All" if is_all else "ExactCount",
        count=draw(st.integers(1, 2)),
    )


@st.composite
def claims(draw: st.DrawFn, name: str) -> Claim:
    """A claim with one or two requests."""
    wanted = []
    for index in range(draw(st.integers(1, 2))):
        if draw(st.integers(0, 3)):
            wanted.append(Request(name=f"r{index}", exactly=draw(asks())))
        else:
            wanted.append(Request(name=f"r{index}", first_available=(draw(asks("s0")), draw(asks("s1")))))
    rules = []
    if draw(st.integers(0, 4)) == 0:
        rules.append(Constraint(match_attribute="resource.kubernetes.io/pcieRoot"))
    return make_claim(name, *wanted, constraints=rules)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """What matters for one claim."""
    return Policy(
        interconnect=draw(
            st.sampled_from([Preference.PREFER, Preference.PREFER, Preference.REQUIRE, Preference.IGNORE])
        ),
        numa=draw(st.sampled_from([Preference.PREFER, Preference.PREFER, Preference.REQUIRE, Preference.IGNORE])),
    )


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Claims for a node on which some claims have devices already."""
    snapshot = Snapshot(draw(nodes()), CLASSES)
    for index in range(draw(st.integers(0, 2))):
        snapshot = hold(snapshot, draw(claims(f"old-{index}")))
    wanted = tuple(draw(claims(f"new-{index}")) for index in range(draw(st.integers(1, 2))))
    return Problem(snapshot, wanted, tuple(draw(policies()) for _ in wanted))


def hold(snapshot: Snapshot, claim: Claim) -> Snapshot:
    """Return the snapshot in which a claim has what first-fit gives it, if anything."""
    try:
        outcome = allocate(snapshot, NODE, [claim])
    except InvalidClaim:
        return snapshot
    if not isinstance(outcome, Allocated):
        return snapshot
    status = ClaimStatus(allocation=outcome.allocations[0])
    return snapshot.with_claims(msgspec.structs.replace(claim, status=status))
