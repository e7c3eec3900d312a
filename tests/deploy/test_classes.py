"""The DeviceClasses select what they say, on devices of any driver, and never fail on one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import yaml

from driver import vendors
from driver.core import cel, inventory
from driver.model.slices import Device, DeviceAttribute
from driver.settings import Settings
from tests.fakes.kustomize import items, mapping

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
SELECTORS: Final = {
    item["metadata"]["name"]: [cel.compile_selector(entry["cel"]["expression"]) for entry in item["spec"]["selectors"]]
    for path in [*DEPLOY.glob("base/deviceclasses.yaml"), *DEPLOY.glob("components/*/deviceclass.yaml")]
    for item in yaml.safe_load_all(path.read_text())
}
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
    assert set(SELECTORS) == {"gpu.accel-dra.dev", "partition.accel-dra.dev", *NVIDIA}


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


@pytest.mark.parametrize("name", NVIDIA)
def test_nvidias_names_give_devices_of_nvidia_only(name: str) -> None:
    assert select(name, "gpu.accel-dra.dev", device(type="gpu", vendor="nvidia"))
    assert not select(name, "gpu.accel-dra.dev", device(type="gpu", vendor="simulated"))
    assert not select(name, "gpu.accel-dra.dev", device(type="partition", vendor="nvidia"))


def test_published_devices_are_in_exactly_one_of_the_classes(tmp_path: Path) -> None:
    node = (
        '{"driverVersion": "1.2.3", "devices": ['
        '{"model": "h100-80gb", "pciAddress": "0000:01:00.0"},'
        '{"model": "h100-80gb", "pciAddress": "0000:02:00.0", "partitions": {"1g.10gb": [0, 1]}}]}'
    )
    (tmp_path / "node.json").write_text(node)
    vendor = vendors.load("simulated", Settings().roots, {"node": str(tmp_path / "node.json")})
    found = {
        entry.name: [name for name in SELECTORS if select(name, "gpu.accel-dra.dev", entry.device)]
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
