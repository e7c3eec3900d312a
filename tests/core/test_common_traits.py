"""What devices share is told, and nothing is made up of what they do not have."""

from __future__ import annotations

import pytest

from driver.core import common_traits
from driver.model.claims import Allocation, AllocationResult, DeviceAllocation
from driver.model.objects import ObjectMeta
from driver.model.published import Attribute, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.slices import Pool
from driver.model.vocabulary import INTERCONNECT_DOMAIN, MODEL, NUMA_NODE


def place(domain: str | None, numa: int | None) -> dict[str, Attribute]:
    found = {MODEL: Attribute(string="same")}
    if domain is not None:
        found[INTERCONNECT_DOMAIN] = Attribute(string=domain)
    if numa is not None:
        found[NUMA_NODE] = Attribute(int_=numa)
    return found


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ([], ""),
        ([place("a", 0)], ""),
        ([place("a", 0), place("a", 0)], "interconnectDomain a, numaNode 0"),
        ([place("a", 0), place("b", 0)], "numaNode 0"),
        ([place("a", 0), place("a", None)], "interconnectDomain a"),
        ([place(None, None), place(None, None)], ""),
    ],
)
def test_only_what_all_of_several_devices_have_is_common(devices: list[dict[str, Attribute]], text: str) -> None:
    assert common_traits.describe_common(common_traits.find_common(devices)) == text


def test_devices_are_found_by_driver_pool_and_name() -> None:
    def pool(driver: str, name: str) -> PublishedSlice:
        devices = (PublishedDevice(name="gpu-0", attributes=place(f"{driver}/{name}", 0)),)
        return PublishedSlice(
            metadata=ObjectMeta(name=name), spec=PublishedSpec(driver=driver, pool=Pool(name=name), devices=devices)
        )

    result = AllocationResult(request="r", driver="d", pool="p", device="gpu-0")
    allocation = Allocation(devices=DeviceAllocation(results=(result,)))
    found = common_traits.list_attributes(allocation, [pool("d", "p"), pool("e", "p"), pool("d", "q")])
    assert [each[INTERCONNECT_DOMAIN].string for each in found] == ["d/p"]
