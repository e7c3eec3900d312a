"""What is left in one piece."""

from __future__ import annotations

import msgspec

from driver import vendors
from driver.core import inventory, slicing
from driver.core.deciding.fragmentation import measure
from driver.core.slicing import Identity
from driver.model.claims import Allocation, AllocationResult, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.published import Attribute, Capacity, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool
from driver.model.wanted import Claim
from driver.settings import Settings
from tests.fakes.controlled import make_claim

DRIVER = "gpu.accel-dra.dev"


def publish(node: str, hardware: str) -> list[PublishedSlice]:
    vendor = vendors.load("simulated", Settings().roots, {"node": hardware, "seed": node})
    devices = [entry.device for entry in inventory.build(vendor.snapshot()).entries]
    plan = slicing.plan(Identity(DRIVER, node, "uid", node, {}), slicing.layout(devices).contents, ())
    return [
        PublishedSlice(
            metadata=ObjectMeta(name=f"{node}-{index}"),
            spec=msgspec.convert(msgspec.to_builtins(each.spec), PublishedSpec),
        )
        for index, each in enumerate(plan.create)
    ]


def hold(name: str, pool: str, *devices: str, admin: bool = False) -> Claim:
    results = tuple(
        AllocationResult(request="r", driver=DRIVER, pool=pool, device=device, admin_access=admin or None)
        for device in devices
    )
    return make_claim(name, allocation=Allocation(devices=DeviceAllocation(results=results)))


def names(slices: list[PublishedSlice], kind: str) -> list[str]:
    return [
        device.name
        for each in slices
        for device in each.spec.devices
        if device.attributes["accel-dra.dev/type"].string == kind
    ]


def test_free_devices_are_counted_by_interconnect_domain() -> None:
    slices = publish("a", "hgx-h100")
    gpus = names(slices, "gpu")
    (domain,) = {
        device.attributes["accel-dra.dev/interconnectDomain"].string for each in slices for device in each.spec.devices
    }
    assert measure(slices, []).free == {("a", domain): 8}
    held = [hold("c", "a", *gpus[:3]), hold("monitor", "a", *gpus[:8], admin=True)]
    assert measure(slices, held).free == {("a", domain): 5}


def test_the_largest_is_a_whole_device_then_a_partition_then_a_smaller_one() -> None:
    slices = publish("a", "a100-mesh-mig")
    whole = hold("whole", "a", *names(slices, "gpu"))
    assert measure(slices, []).largest["a"][0] == "gpu"
    assert measure(slices, [whole]).free == {}
    assert measure(slices, [whole]).largest["a"][0] == "3g.40gb"
    large = [name for name in names(slices, "partition") if "-3g-" in name]
    assert measure(slices, [whole, hold("large", "a", *large)]).largest["a"][0] == "1g.10gb"
    assert measure(slices, [whole, hold("all", "a", *names(slices, "partition"))]).largest == {}


def part(name: str, profile: str, gib: int, counter: int) -> PublishedDevice:
    consumed = CounterConsumption(counter_set="gpu-0", counters={"slices": Counter(value=str(counter))})
    kind = {"accel-dra.dev/profile": Attribute(string=profile)} if profile else {}
    memory = {"accel-dra.dev/memory": Capacity(value=f"{gib}Gi")}
    return PublishedDevice(name=name, attributes=kind, capacity=memory, consumes_counters=(consumed,))


def test_a_device_whose_counters_are_used_up_cannot_be_had() -> None:
    devices = (
        part("gpu-0", "", 80, 7),
        part("large", "4g", 40, 4),
        part("small", "1g", 10, 1),
        part("tiny", "1g", 10, 1),
    )
    counters = CounterSet(name="gpu-0", counters={"slices": Counter(value="7")})
    pool = Pool(name="a", generation=1, resource_slice_count=2)
    slices = [
        PublishedSlice(
            metadata=ObjectMeta(name=f"s{index}"),
            spec=PublishedSpec(driver=DRIVER, pool=pool, node_name="a", devices=own, shared_counters=sets),
        )
        for index, (own, sets) in enumerate(((devices, ()), ((), (counters,))))
    ]
    gib = 2**30
    assert measure(slices, []).largest == {"a": ("device", 80 * gib)}
    assert measure(slices, [hold("c", "a", "small")]).largest == {"a": ("4g", 40 * gib)}
    assert measure(slices, [hold("c", "a", "small")]).free == {}
    assert measure(slices, [hold("c", "a", "large", "small")]).largest == {"a": ("1g", 10 * gib)}
    assert measure(slices, [hold("c", "a", "gpu-0")]).largest == {}


def test_other_pools_do_not_matter() -> None:
    slices = publish("a", "l40s")
    before = measure(slices, [])
    assert measure(slices, [hold("c", "b", *names(slices, "gpu"))]) == before
