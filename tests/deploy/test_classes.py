"""The DeviceClasses select what they say, on devices of any driver, and never fail on one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import pytest
import yaml

from driver import vendors
from driver.core import cel, inventory, policies
from driver.core.offering import Offer
from driver.model import vocabulary
from driver.model.objects import ObjectMeta
from driver.model.policies import Policy
from driver.model.requests import ClaimSpec, DeviceClass, DeviceRequest, DevicesSpec, Request
from driver.model.sharing import Strategy
from driver.model.slices import Device, DeviceAttribute
from driver.model.wanted import Claim
from driver.settings import Settings
from tests.fakes.kustomize import items, mapping

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
SELECTORS: Final = {
    item["metadata"]["name"]: [cel.compile_selector(entry["cel"]["expression"]) for entry in item["spec"]["selectors"]]
    for path in [*DEPLOY.glob("base/deviceclasses.yaml"), *DEPLOY.glob("components/*/deviceclass.yaml")]
    for item in yaml.safe_load_all(path.read_text())
}
SHARED: Final = "shared.accel-dra.dev"
VFIO: Final = "vfio.accel-dra.dev"
NVIDIA: Final = ("gpu.nvidia.com", "nvidia-gpu.accel-dra.dev")


def select(name: str, driver: str, device: Device) -> bool:
    return all(cel.matches(selector, cel.view(driver, device)) for selector in SELECTORS[name])


def device(**attributes: str | int | bool) -> Device:
    """A device with attributes of our domain."""
    values = {f"accel-dra.dev/{name}": _attribute(value) for name, value in attributes.items()}
    return Device(name="d", attributes=values)


def _attribute(value: str | int | bool) -> DeviceAttribute:
    if isinstance(value, bool):
        return DeviceAttribute(bool_=value)
    return DeviceAttribute(string=value) if isinstance(value, str) else DeviceAttribute(int_=value)


def test_the_classes_are_these() -> None:
    assert set(SELECTORS) == {
        "gpu.accel-dra.dev",
        "partition.accel-dra.dev",
        SHARED,
        "topology.accel-dra.dev",
        VFIO,
        *NVIDIA,
    }


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize(
    "foreign",
    [
        Device(name="bare"),
        Device(name="other", attributes={"gpu.nvidia.com/type": DeviceAttribute(string="gpu")}),
        Device(name="unqualified", attributes={"type": DeviceAttribute(string="gpu")}),
        device(),
        device(type=1),
        device(type=True, vendor=False),
        device(type="gpux", vendor="nvidia"),
        device(vendor="nvidia"),
    ],
    ids=lambda item: ",".join(item.attributes) or item.name,
)
def test_a_device_without_our_attributes_does_not_match_and_is_no_error(name: str, foreign: Device) -> None:
    assert select(name, "gpu.nvidia.com", foreign) is False


def test_whole_devices_and_partitions_have_a_class_each() -> None:
    assert select("gpu.accel-dra.dev", "any.driver", device(type="gpu"))
    assert not select("gpu.accel-dra.dev", "any.driver", device(type="partition"))
    assert select("partition.accel-dra.dev", "any.driver", device(type="partition"))
    assert not select("partition.accel-dra.dev", "any.driver", device(type="gpu"))
    assert not select("gpu.accel-dra.dev", "any.driver", device(type="nic"))


def test_devices_for_virtual_machines_have_a_class_and_nothing_else_is_in_it() -> None:
    for kind in ("gpu", "partition", "nic", "vfio"):
        assert select(VFIO, "any.driver", device(type=kind)) is (kind == "vfio")
    others = [name for name in SELECTORS if name != VFIO]
    assert not any(select(name, "any.driver", device(type="vfio")) for name in others)


def test_devices_that_can_be_shared_have_a_class_beside_that_of_their_type() -> None:
    for kind in ("gpu", "partition"):
        for strategy in ("MPS", "TimeSlicing"):
            assert select(SHARED, "any.driver", device(type=kind, sharing=strategy))
            assert select(f"{kind}.accel-dra.dev", "any.driver", device(type=kind, sharing=strategy))
        assert not select(SHARED, "any.driver", device(type=kind))
        assert not select(SHARED, "any.driver", device(type=kind, sharing=True))
    assert not select(SHARED, "any.driver", device(type="nic", sharing="MPS"))


@pytest.mark.parametrize("strategy", [Strategy.MPS, Strategy.TIME_SLICING])
def test_published_devices_are_in_the_class_if_the_setting_is_on(strategy: Strategy) -> None:
    vendor = vendors.load("simulated", Settings().roots, {"node": "a100-mesh-mig"})
    alone, offered = (inventory.build(vendor.snapshot(), None, Offer(shares=each)) for each in (None, strategy))
    assert {select(SHARED, "gpu.accel-dra.dev", entry.device) for entry in alone.entries} == {False}
    assert {select(SHARED, "gpu.accel-dra.dev", entry.device) for entry in offered.entries} == {True}


@pytest.mark.parametrize("name", NVIDIA)
def test_nvidias_names_give_devices_of_nvidia_only(name: str) -> None:
    assert select(name, "gpu.accel-dra.dev", device(type="gpu", vendor="nvidia"))
    assert not select(name, "gpu.accel-dra.dev", device(type="gpu", vendor="simulated"))
    assert not select(name, "gpu.accel-dra.dev", device(type="partition", vendor="nvidia"))


def test_the_topology_class_has_the_gpus_and_asks_the_controller_with_the_default_policy() -> None:
    for kind in ("gpu", "partition", "nic"):
        ours = device(type=kind, allocator="controller")
        assert select("gpu.accel-dra.dev", "any.driver", ours) is (kind == "gpu")
        assert select("topology.accel-dra.dev", "any.driver", ours) is (kind == "gpu")
        assert not select("topology.accel-dra.dev", "any.driver", device(type=kind))
    documents = yaml.safe_load_all((DEPLOY / "base" / "deviceclasses.yaml").read_text())
    decoded = [msgspec.json.decode(msgspec.json.encode(each), type=DeviceClass) for each in documents]
    classes = {each.metadata.name: each for each in decoded}
    found = {
        name: policies.find(Claim(metadata=ObjectMeta(), spec=ask(name)), classes, vocabulary.DEFAULT_DRIVER_NAME)
        for name in classes
    }
    assert {name for name, policy in found.items() if policy is not None} == {"topology.accel-dra.dev"}
    assert found["topology.accel-dra.dev"] == Policy()


def ask(class_name: str) -> ClaimSpec:
    request = Request(name="r", exactly=DeviceRequest(device_class_name=class_name))
    return ClaimSpec(devices=DevicesSpec(requests=(request,)))


def test_published_devices_are_in_exactly_one_of_the_classes_of_kube_scheduler(tmp_path: Path) -> None:
    node = (
        '{"driverVersion": "1.2.3", "devices": ['
        '{"model": "h100-80gb", "pciAddress": "0000:01:00.0"},'
        '{"model": "h100-80gb", "pciAddress": "0000:02:00.0", "partitions": {"1g.10gb": [0, 1]}}]}'
    )
    (tmp_path / "node.json").write_text(node)
    vendor = vendors.load("simulated", Settings().roots, {"node": str(tmp_path / "node.json")})
    found = {
        entry.name: [
            name
            for name in SELECTORS
            if name != "topology.accel-dra.dev" and select(name, "gpu.accel-dra.dev", entry.device)
        ]
        for entry in inventory.build(vendor.snapshot()).entries
    }
    assert sorted(found.values()) == [["gpu.accel-dra.dev"], *[["partition.accel-dra.dev"]] * 2]


def test_no_two_classes_share_an_extended_resource() -> None:
    names = [
        mapping(item["spec"])["extendedResourceName"]
        for path in [*DEPLOY.glob("base/deviceclasses.yaml"), *DEPLOY.glob("components/*/deviceclass.yaml")]
        for item in yaml.safe_load_all(path.read_text())
        if "extendedResourceName" in item["spec"]
    ]
    assert len(set(items(names))) == len(names) == 3
