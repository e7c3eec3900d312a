"""ResourceSlices of any driver, with everything that an allocator looks at.

`model.slices` is what this driver publishes itself; these types add what other drivers may say (attributes with lists,
binding conditions, devices of several nodes in one pool). Names: Kubernetes v1.36
staging/src/k8s.io/api/resource/v1/types.go. A field of a later version is skipped.
"""

from __future__ import annotations

import msgspec

from driver.model.objects import Api, ListMeta, ObjectMeta
from driver.model.selection import NodeSelector
from driver.model.slices import CapacityPolicy, CounterConsumption, CounterSet, DeviceTaint, Pool


class Attribute(Api, frozen=True):
    """DeviceAttribute; exactly one field is set. None means not set, because 0, false and "" are values."""

    int_: int | None = msgspec.field(default=None, name="int")
    bool_: bool | None = msgspec.field(default=None, name="bool")
    string: str | None = None
    version: str | None = None
    ints: tuple[int, ...] | None = None
    bools: tuple[bool, ...] | None = None
    strings: tuple[str, ...] | None = None
    versions: tuple[str, ...] | None = None


class Capacity(Api, frozen=True):
    """DeviceCapacity: an amount, as a quantity in text, and how it may be shared."""

    value: str
    request_policy: CapacityPolicy | None = None


class PublishedDevice(Api, frozen=True):
    """Device of any driver."""

    name: str
    attributes: dict[str, Attribute] = {}
    capacity: dict[str, Capacity] = {}
    consumes_counters: tuple[CounterConsumption, ...] = ()
    taints: tuple[DeviceTaint, ...] = ()
    node_name: str = ""
    node_selector: NodeSelector | None = None
    all_nodes: bool = False
    binds_to_node: bool = False
    binding_conditions: tuple[str, ...] = ()
    binding_failure_conditions: tuple[str, ...] = ()
    allow_multiple_allocations: bool = False


class PublishedSpec(Api, frozen=True):
    """ResourceSlice.spec of any driver; exactly one way to choose nodes is set."""

    driver: str
    pool: Pool
    node_name: str = ""
    node_selector: NodeSelector | None = None
    all_nodes: bool = False
    per_device_node_selection: bool = False
    devices: tuple[PublishedDevice, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()


class PublishedSlice(Api, frozen=True):
    """resource.k8s.io/v1 ResourceSlice of any driver."""

    metadata: ObjectMeta
    spec: PublishedSpec


class PublishedList(Api, frozen=True):
    """A page of slices."""

    metadata: ListMeta = ListMeta()
    items: tuple[PublishedSlice, ...] = ()
