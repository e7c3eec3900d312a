"""Random small clusters and claims for them (hypothesis): whole GPUs, partitions with counters, shared devices.

Values are few on purpose, so that claims compete, constraints bind and about half of all problems have an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import strategies as st

from driver.core.allocator import NodeView, Snapshot
from driver.model.claims import Toleration
from driver.model.objects import ObjectMeta
from driver.model.published import (
    Attribute,
    Capacity,
    PublishedDevice,
    PublishedSlice,
    PublishedSpec,
)
from driver.model.requests import (
    CapacityRequirements,
    CelSelector,
    ClaimSpec,
    ClassSpec,
    Constraint,
    DeviceClass,
    DeviceRequest,
    DevicesSpec,
    Request,
    Selector,
)
from driver.model.slices import (
    CapacityPolicy,
    CapacityRange,
    Counter,
    CounterConsumption,
    CounterSet,
    DeviceTaint,
    Pool,
)
from driver.model.wanted import Claim

DRIVER: Final = "gpu.example.com"
NODE: Final = NodeView("node-1", {"zone": "a"})
CLASSES: Final[Mapping[str, DeviceClass]] = {
    name: DeviceClass(
        metadata=ObjectMeta(name=name),
        spec=ClassSpec(selectors=(Selector(cel=CelSelector(expression=expression)),) if expression else ()),
    )
    for name, expression in {
        "any": "",
        "gpu": f'device.attributes["{DRIVER}"].type == "gpu"',
        "partition": f'device.attributes["{DRIVER}"].type == "partition"',
        "shared": "device.allowMultipleAllocations",
    }.items()
}
_SELECTORS: Final = (
    f'device.attributes["{DRIVER}"].domain == 0',
    f'device.attributes["{DRIVER}"].numa != 1',
    f'has(device.capacity["{DRIVER}"].memory) && device.capacity["{DRIVER}"].memory.compareTo(quantity("20Gi")) >= 0',
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Claims to allocate together on one node of a cluster."""

    slices: tuple[PublishedSlice, ...]
    claims: tuple[Claim, ...]

    @property
    def snapshot(self) -> Snapshot:
        """The cluster with nothing allocated."""
        return Snapshot(self.slices, CLASSES)


def make_slice(
    devices: Sequence[PublishedDevice],
    *,
    name: str = "slice-0",
    pool: Pool | None = None,
    counters: Sequence[CounterSet] = (),
    node_name: str = NODE.name,
) -> PublishedSlice:
    """Return one slice of a pool of the node."""
    return PublishedSlice(
        metadata=ObjectMeta(name=name),
        spec=PublishedSpec(
            driver=DRIVER,
            pool=pool or Pool(name="pool", generation=1, resource_slice_count=1),
            node_name=node_name,
            devices=tuple(devices),
            shared_counters=tuple(counters),
        ),
    )


def make_claim(name: str, *requests: Request, constraints: Sequence[Constraint] = ()) -> Claim:
    """Return a claim of the namespace `team`."""
    return Claim(
        metadata=ObjectMeta(name=name, namespace="team", uid=f"uid-{name}"),
        spec=ClaimSpec(devices=DevicesSpec(requests=requests, constraints=tuple(constraints))),
    )


def want(name: str, device_class: str = "any", *, count: int = 1, selectors: Sequence[str] = ()) -> DeviceRequest:
    """Return what a request, or an alternative of that name, asks for."""
    chosen = tuple(Selector(cel=CelSelector(expression=each)) for each in selectors)
    return DeviceRequest(name=name, device_class_name=device_class, count=count, selectors=chosen)


def ask(name: str, device_class: str = "any", *, count: int = 1, selectors: Sequence[str] = ()) -> Request:
    """Return a request for some devices of a class."""
    return Request(name=name, exactly=want("", device_class, count=count, selectors=selectors))


@st.composite
def whole_devices(draw: st.DrawFn, name: str) -> PublishedDevice:
    """A GPU that is taken as a whole."""
    taint = DeviceTaint(key="example.com/sick", effect=draw(st.sampled_from(["NoSchedule", "NoExecute", "None"])))
    attributes = {
        "type": Attribute(string="gpu"),
        "domain": Attribute(int_=draw(st.integers(0, 1))),
        "numa": Attribute(int_=draw(st.integers(0, 2))),
    }
    if draw(st.booleans()):
        attributes["rack"] = Attribute(string=draw(st.sampled_from("ab")))
    return PublishedDevice(
        name=name,
        attributes=attributes,
        capacity={"memory": Capacity(value=draw(st.sampled_from(["10Gi", "20Gi", "40Gi"])))},
        taints=(taint,) if draw(st.integers(0, 5)) == 0 else (),
    )


@st.composite
def partitions(draw: st.DrawFn, name: str, counter_sets: Sequence[str]) -> PublishedDevice:
    """A partition that draws on one or two of the counter sets."""
    used = draw(st.lists(st.sampled_from(counter_sets), min_size=1, max_size=2, unique=True))
    return PublishedDevice(
        name=name,
        attributes={
            "type": Attribute(string="partition"),
            "domain": Attribute(int_=draw(st.integers(0, 1))),
            "numa": Attribute(int_=0),
        },
        capacity={"memory": Capacity(value="10Gi")},
        consumes_counters=tuple(
            CounterConsumption(counter_set=each, counters={"slices": Counter(value=str(draw(st.integers(1, 4))))})
            for each in used
        ),
        allow_multiple_allocations=draw(st.integers(0, 5)) == 0,
    )


@st.composite
def shared_devices(draw: st.DrawFn, name: str) -> PublishedDevice:
    """A device that several claims may have shares of."""
    policy = draw(
        st.sampled_from(
            [
                None,
                CapacityPolicy(default="4Gi"),
                CapacityPolicy(default="2Gi", valid_values=("2Gi", "8Gi")),
                CapacityPolicy(default="2Gi", valid_range=CapacityRange(min="2Gi", step="2Gi", max="8Gi")),
            ]
        )
    )
    return PublishedDevice(
        name=name,
        attributes={
            "type": Attribute(string="gpu"),
            "domain": Attribute(int_=draw(st.integers(0, 1))),
            "numa": Attribute(int_=0),
        },
        capacity={"memory": Capacity(value="16Gi", request_policy=policy)},
        allow_multiple_allocations=True,
    )


@st.composite
def node_slices(draw: st.DrawFn) -> tuple[PublishedSlice, ...]:
    """One pool of the node in up to three slices."""
    counters = [
        CounterSet(name=f"set-{index}", counters={"slices": Counter(value=str(draw(st.integers(3, 8))))})
        for index in range(draw(st.integers(0, 2)))
    ]
    names = [each.name for each in counters]
    devices = [draw(whole_devices(f"gpu-{index}")) for index in range(draw(st.integers(0, 4)))]
    devices += [draw(shared_devices(f"shared-{index}")) for index in range(draw(st.integers(0, 2)))]
    if names:
        devices += [draw(partitions(f"part-{index}", names)) for index in range(draw(st.integers(0, 5)))]
    cut = draw(st.integers(0, len(devices)))
    parts = [part for part in (devices[:cut], devices[cut:]) if part]
    pool = Pool(name="pool", generation=1, resource_slice_count=len(parts) + bool(counters))
    slices = [make_slice(part, name=f"slice-{index}", pool=pool) for index, part in enumerate(parts)]
    if counters:
        slices.append(make_slice((), name="counters", pool=pool, counters=counters))
    return tuple(slices)


@st.composite
def device_requests(draw: st.DrawFn, name: str = "") -> DeviceRequest:
    """What one request, or one alternative, asks for."""
    tolerations = (Toleration(operator="Exists"),) if draw(st.integers(0, 3)) == 0 else ()
    asked = CapacityRequirements(requests={"memory": draw(st.sampled_from(["1Gi", "3Gi", "8Gi", "20Gi"]))})
    selectors = draw(st.lists(st.sampled_from(_SELECTORS), max_size=1))
    is_all = draw(st.integers(0, 7)) == 0
    return DeviceRequest(
        name=name,
        device_class_name=draw(st.sampled_from(sorted(CLASSES))),
        selectors=tuple(Selector(cel=CelSelector(expression=each)) for each in selectors),
        allocation_mode="All" if is_all else "ExactCount",
        count=0 if is_all else draw(st.integers(1, 3)),
        tolerations=tolerations,
        capacity=asked if draw(st.integers(0, 2)) == 0 else None,
    )


@st.composite
def requests(draw: st.DrawFn, name: str) -> Request:
    """An exact request, or a list of alternatives."""
    if draw(st.integers(0, 3)):
        return Request(name=name, exactly=draw(device_requests()))
    count = draw(st.integers(1, 3))
    return Request(name=name, first_available=tuple(draw(device_requests(f"sub-{index}")) for index in range(count)))


@st.composite
def constraints(draw: st.DrawFn, names: Sequence[str]) -> Constraint:
    """A constraint on all or some of the requests."""
    concerned = draw(st.lists(st.sampled_from(names), max_size=len(names), unique=True))
    attribute = f"{DRIVER}/{draw(st.sampled_from(['domain', 'numa', 'rack']))}"
    if draw(st.booleans()):
        return Constraint(requests=tuple(concerned), match_attribute=attribute)
    return Constraint(requests=tuple(concerned), distinct_attribute=attribute)


@st.composite
def claims(draw: st.DrawFn, name: str) -> Claim:
    """A claim with up to three requests."""
    asked = [draw(requests(f"r{index}")) for index in range(draw(st.integers(1, 3)))]
    names = [each.name for each in asked]
    rules = [draw(constraints(names)) for _ in range(draw(st.integers(0, 2)))]
    return make_claim(name, *asked, constraints=rules)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A cluster of one node and claims that are allocated together."""
    wanted = tuple(draw(claims(f"claim-{index}")) for index in range(draw(st.integers(1, 2))))
    return Problem(draw(node_slices()), wanted)
