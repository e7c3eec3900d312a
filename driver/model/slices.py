"""resource.k8s.io/v1 ResourceSlice and its parts, and the limits the API server enforces on them.

Names and limits: Kubernetes v1.36 staging/src/k8s.io/api/resource/v1/types.go and its validation.
"""

from __future__ import annotations

from typing import Final

import msgspec

from driver.model.objects import Api, ListMeta, ObjectMeta

API_VERSION: Final = "resource.k8s.io/v1"

MAX_DEVICES: Final = 128
"""Devices in one slice (ResourceSliceMaxDevices)."""
MAX_DEVICES_WITH_TAINTS_OR_COUNTERS: Final = 64
"""The same once any device of the slice has taints, consumes counters or has list attributes."""
MAX_COUNTER_SETS: Final = 8
"""Counter sets in one slice."""
MAX_COUNTERS_PER_SET: Final = 32
MAX_COUNTER_CONSUMPTIONS: Final = 2
"""consumesCounters entries of one device."""
MAX_ATTRIBUTES_AND_CAPACITIES: Final = 32
"""Attributes plus capacities of one device."""
MAX_TEXT: Final = 64
"""Bytes of a string or version attribute."""
MAX_TAINTS: Final = 16
MAX_VALID_VALUES: Final = 10
"""Values in a CapacityRequestPolicy (CapacityRequestPolicyDiscreteMaxOptions)."""


class DeviceAttribute(Api, frozen=True):
    """One value; exactly one field is set. None means not set, because 0 and false are values."""

    int_: int | None = msgspec.field(default=None, name="int")
    bool_: bool | None = msgspec.field(default=None, name="bool")
    string: str | None = None
    version: str | None = None


class CapacityRange(Api, frozen=True):
    """CapacityRequestPolicyRange: quantities in text. `min` is required, and `min` plus `step` must fit the value."""

    min: str | None = None
    max: str | None = None
    step: str | None = None


class CapacityPolicy(Api, frozen=True):
    """CapacityRequestPolicy (KEP-5075): how requests for a capacity are rounded and checked.

    What is not asked for is `default`, without it everything. At most one of values and range; both need a default.
    """

    default: str | None = None
    valid_values: tuple[str, ...] = ()
    valid_range: CapacityRange | None = None


class DeviceCapacity(Api, frozen=True):
    """An amount, as a Kubernetes quantity in text. A policy only on devices that allow several allocations."""

    value: str
    request_policy: CapacityPolicy | None = None


class Counter(Api, frozen=True):
    """One shared counter of a counter set."""

    value: str


class CounterSet(Api, frozen=True):
    """Counters that partitions of one device draw from (KEP-4815)."""

    name: str
    counters: dict[str, Counter]


class CounterConsumption(Api, frozen=True):
    """What a device takes from one counter set."""

    counter_set: str
    counters: dict[str, Counter]


class DeviceTaint(Api, frozen=True):
    """A reason not to use a device (KEP-5055). Effect: None, NoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class Device(Api, frozen=True):
    """One device as published. Attribute and capacity names are fully qualified."""

    name: str
    attributes: dict[str, DeviceAttribute] = {}
    capacity: dict[str, DeviceCapacity] = {}
    consumes_counters: tuple[CounterConsumption, ...] = ()
    taints: tuple[DeviceTaint, ...] = ()
    allow_multiple_allocations: bool = False
    """Several claims may have a share of it (KEP-5075)."""


class Pool(Api, frozen=True):
    """The pool a slice belongs to."""

    name: str
    generation: int = 0
    resource_slice_count: int = 0
    """At least 1 in every slice that is sent; 0 here because defaults are not encoded."""


class SliceSpec(Api, frozen=True):
    """ResourceSlice.spec of a node-local pool."""

    driver: str
    pool: Pool
    node_name: str = ""
    devices: tuple[Device, ...] = ()
    shared_counters: tuple[CounterSet, ...] = ()


class ResourceSlice(Api, frozen=True):
    """resource.k8s.io/v1 ResourceSlice."""

    metadata: ObjectMeta
    spec: SliceSpec
    api_version: str = ""
    kind: str = ""


class SliceList(Api, frozen=True):
    """A page of slices."""

    metadata: ListMeta = ListMeta()
    items: tuple[ResourceSlice, ...] = ()
