"""What a node will refuse is known before: in the node's own sentences, and nothing about what is not its business."""

from __future__ import annotations

import json

from driver.core import foreseeing
from driver.model import vocabulary
from driver.model.claims import Allocation, AllocationConfiguration, AllocationResult, DeviceAllocation
from driver.model.published import Attribute, PublishedDevice
from tests.fakes.bench import opaque
from tests.fakes.clusters import DRIVER, make_slice


def config(kind: str = "GpuConfig", strategy: str = "MPS", driver: str = DRIVER) -> AllocationConfiguration:
    content = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": kind, "sharing": {"strategy": strategy}}
    return opaque(json.dumps(content).encode(), "gpu", driver=driver)


def find(*entries: AllocationConfiguration, type_: str = "gpu", device: str = "d-0") -> tuple[str, ...]:
    published = PublishedDevice(name="d-0", attributes={vocabulary.TYPE: Attribute(string=type_)})
    results = (AllocationResult(request="gpu", driver=DRIVER, pool="pool", device=device),)
    allocation = Allocation(devices=DeviceAllocation(results=results, config=entries))
    return foreseeing.find_refusals(allocation, [make_slice([published])], DRIVER)


def test_good_configuration_is_not_refused() -> None:
    assert find(config()) == find() == ()
    assert find(config("PartitionConfig"), type_="partition") == ()


def test_wrong_configuration_is_refused_in_the_words_of_the_node() -> None:
    (refusal,) = find(config(strategy="Mps"))
    assert refusal == (
        f"configuration for {DRIVER} of the claim: parameters.sharing.strategy: 'Mps' is not allowed; "
        "allowed: Exclusive, TimeSlicing, MPS (MPS was probably meant)"
    )


def test_every_fault_is_a_sentence_of_its_own() -> None:
    assert len(find(config("GpuConf"), config("PartitionConf"))) == 2


def test_configuration_for_another_type_of_device_than_was_given_is_refused() -> None:
    (refusal,) = find(config(), type_="partition")
    assert "'GpuConfig' is not allowed; allowed: PartitionConfig for a device of type partition" in refusal


def test_what_other_drivers_are_told_and_devices_that_are_gone_are_passed_over() -> None:
    assert find(config(strategy="Mps", driver="other.example.com")) == ()
    assert find(config("PartitionConfig"))
    assert find(config("PartitionConfig"), device="gone") == ()
