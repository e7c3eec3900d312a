"""Slices, classes and claims for tests of the simulated scheduler, in a few words each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from driver.model.claims import AllocationResult, ConsumerReference
from driver.model.slices import (
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
    Pool,
)
from driver.simulation.objects import Meta, Node, NodeCondition, NodeStatus
from driver.simulation.resources import (
    Allocation,
    CelSelector,
    Claim,
    ClaimSpec,
    ClaimStatus,
    ClassSpec,
    Configuration,
    Constraint,
    DeviceClass,
    DeviceRequest,
    DeviceResults,
    DevicesSpec,
    PlacedSliceSpec,
    Request,
    Selector,
    Slice,
)

DRIVER = "gpu.example.com"
CLASS = "gpu"
Scalar = str | int | bool


def device(
    name: str,
    memory: str = "80Gi",
    taints: Sequence[DeviceTaint] = (),
    counters: Mapping[str, int] | None = None,
    **attributes: Scalar,
) -> Device:
    """Return a device with attributes in the driver's domain; `counters` are taken from the set `shared`."""
    consumed = {key: Counter(value=str(amount)) for key, amount in (counters or {}).items()}
    return Device(
        name=name,
        attributes={f"{DRIVER}/{key}": _attribute(value) for key, value in attributes.items()},
        capacity={f"{DRIVER}/memory": DeviceCapacity(value=memory)},
        taints=tuple(taints),
        consumes_counters=(CounterConsumption(counter_set="shared", counters=consumed),) if consumed else (),
    )


def _attribute(value: Scalar) -> DeviceAttribute:
    if isinstance(value, bool):
        return DeviceAttribute(bool_=value)
    return DeviceAttribute(int_=value) if isinstance(value, int) else DeviceAttribute(string=value)


def slice_(
    *devices: Device,
    name: str = "s",
    node: str = "node-1",
    pool: str = "",
    generation: int = 1,
    count: int = 1,
    driver: str = DRIVER,
    counters: Mapping[str, int] | None = None,
) -> Slice:
    """Return a slice of a node's pool; `counters` fill the set `shared`."""
    filled = {key: Counter(value=str(amount)) for key, amount in (counters or {}).items()}
    return Slice(
        metadata=Meta(name=name),
        spec=PlacedSliceSpec(
            driver=driver,
            pool=Pool(name=pool or node, generation=generation, resource_slice_count=count),
            node_name=node,
            devices=devices,
            shared_counters=(CounterSet(name="shared", counters=filled),) if filled else (),
        ),
    )


def select(*expressions: str) -> tuple[Selector, ...]:
    """Return selectors."""
    return tuple(Selector(cel=CelSelector(expression=each)) for each in expressions)


def device_class(
    name: str = CLASS, *expressions: str, config: Sequence[Configuration] = (), resource: str = "", created: str = ""
) -> DeviceClass:
    """Return a class; without expressions it takes every device."""
    spec = ClassSpec(selectors=select(*expressions), config=tuple(config), extended_resource_name=resource)
    return DeviceClass(metadata=Meta(name=name, creation_timestamp=created or None), spec=spec)


def wanted(
    *expressions: str,
    name: str = "",
    count: int = 1,
    mode: str = "ExactCount",
    admin: bool = False,
    class_: str = CLASS,
) -> DeviceRequest:
    """Return what a request wants."""
    return DeviceRequest(
        name=name,
        device_class_name=class_,
        selectors=select(*expressions),
        count=count,
        allocation_mode=mode,
        admin_access=admin,
    )


def claim(
    *requests: Request | DeviceRequest,
    name: str = "c",
    constraints: Sequence[Constraint] = (),
    config: Sequence[Configuration] = (),
) -> Claim:
    """Return a claim; a bare `wanted` becomes the request `r<index>`."""
    whole = tuple(
        each if isinstance(each, Request) else Request(name=f"r{index}", exactly=each)
        for index, each in enumerate(requests)
    )
    spec = ClaimSpec(devices=DevicesSpec(requests=whole, constraints=tuple(constraints), config=tuple(config)))
    return Claim(metadata=Meta(name=name, namespace="ns", uid=f"uid-{name}"), spec=spec)


def allocated(base: Claim, *devices: str, admin: bool = False, consumers: Sequence[str] = ()) -> Claim:
    """Return the claim with these devices of node-1 allocated."""
    results = tuple(
        AllocationResult(request="r0", driver=DRIVER, pool="node-1", device=each, admin_access=admin or None)
        for each in devices
    )
    references = tuple(ConsumerReference(resource="pods", name=each, uid=f"uid-{each}") for each in consumers)
    status = ClaimStatus(allocation=Allocation(devices=DeviceResults(results=results)), reserved_for=references)
    return msgspec.structs.replace(base, status=status)


def node(name: str = "node-1", *, ready: bool = True, **labels: str) -> Node:
    """Return a node."""
    condition = NodeCondition(type="Ready", status=str(ready))
    return Node(metadata=Meta(name=name, labels=labels), status=NodeStatus(conditions=(condition,)))
