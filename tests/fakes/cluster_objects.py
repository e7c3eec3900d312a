"""Slices and classes for tests of the simulation, in a few words each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from driver.model.published import Attribute, Capacity, PublishedDevice, PublishedSpec
from driver.model.requests import (
    CelSelector,
    ClassSpec,
    Configuration,
    Selector,
)
from driver.model.slices import Counter, CounterConsumption, CounterSet, DeviceTaint, Pool
from driver.simulation.objects import Meta
from driver.simulation.resources import DeviceClass, Slice

DRIVER = "gpu.example.com"
CLASS = "gpu"
Scalar = str | int | bool


def device(
    name: str,
    memory: str = "80Gi",
    taints: Sequence[DeviceTaint] = (),
    counters: Mapping[str, int] | None = None,
    **attributes: Scalar,
) -> PublishedDevice:
    """Return a device with attributes in the driver's domain; `counters` are taken from the set `shared`."""
    consumed = {key: Counter(value=str(amount)) for key, amount in (counters or {}).items()}
    return PublishedDevice(
        name=name,
        attributes={f"{DRIVER}/{key}": _attribute(value) for key, value in attributes.items()},
        capacity={f"{DRIVER}/memory": Capacity(value=memory)},
        taints=tuple(taints),
        consumes_counters=(CounterConsumption(counter_set="shared", counters=consumed),) if consumed else (),
    )


def _attribute(value: Scalar) -> Attribute:
    if isinstance(value, bool):
        return Attribute(bool_=value)
    return Attribute(int_=value) if isinstance(value, int) else Attribute(string=value)


def slice_(
    *devices: PublishedDevice,
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
        spec=PublishedSpec(
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
