"""Each way in which driver and devices can be wrong gives its own line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest

from driver.cli.checks.findings import Finding, Level
from driver.cli.checks.hardware import Hardware, see
from driver.contract import Target
from driver.model.devices import Failure, Snapshot
from driver.model.errors import Unavailable
from driver.model.passthrough import DRIVER
from driver.model.prepared import ContainerEdits, DeviceNode, Mount, Preparation, Step
from driver.settings import Settings
from tests.fakes import hardware, pci

NULL: Final = DeviceNode(path="/dev/acme0", host_path="/dev/null", major=1, minor=3)


class Acme:
    """A vendor with one device, whose edits each test chooses."""

    name = "acme"

    def __init__(self, edits: ContainerEdits, error: str = "") -> None:
        self._edits = edits
        self._error = error

    def fingerprint(self) -> str:
        return ""

    def snapshot(self) -> Snapshot:
        return Snapshot("acme", None, None, None, (hardware.accelerator(),))

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:  # noqa: ARG002 - there are no steps
        if self._error:
            raise Unavailable(self._error)
        return Preparation(common=ContainerEdits(), devices={target.name: self._edits for target in targets})


def levels(findings: Iterable[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]


def look_at_nodes(settings: Settings, vendor: Acme) -> list[Finding]:
    """Run the checks that the last one builds on, then that one."""
    checks = Hardware(settings, lambda *_: vendor).list_checks()
    for check in checks[:-1]:
        list(check.look())
    return list(checks[-1].look())


def simulate(folder: Path, **node: object) -> Settings:
    """Return settings for a simulated node."""
    path = folder / "node.json"
    path.write_text(json.dumps({"driverVersion": "580.1", **node}))
    return Settings(vendor="simulated", vendor_options=(f"node={path}",))


def device(address: str, **more: object) -> dict[str, object]:
    return {"model": "h100-80gb", "pciAddress": address, **more}


def test_a_complete_machine_is_all_ok() -> None:
    for check in Hardware(Settings(vendor="simulated")).list_checks():
        found = list(check.look())
        assert found
        assert set(levels(found)) == {"ok"}, check.name


def test_the_driver_root_is_no_folder(tmp_path: Path) -> None:
    (finding,) = Hardware(Settings(driver_root=str(tmp_path / "none"))).look_at_root()
    assert finding.level is Level.FAILED
    assert "--driver-root-mount" in finding.advice


def test_an_empty_driver_root_waits_for_its_container(tmp_path: Path) -> None:
    (finding,) = Hardware(Settings(driver_root="/run/nvidia/driver", driver_root_mount=str(tmp_path))).look_at_root()
    assert finding.level is Level.WARNING
    assert "/run/nvidia/driver" in finding.text
    assert str(tmp_path) in finding.text


def test_devices_are_counted_by_model_with_versions(tmp_path: Path) -> None:
    options = simulate(tmp_path, devices=[device("0000:01:00.0"), device("0000:02:00.0")], runtimeVersion="13.0")
    (finding,) = Hardware(options).look_at_devices()
    assert finding.text == "2 x NVIDIA H100 80GB HBM3 (simulated, driver 580.1, runtime 13.0)"


def test_devices_for_virtual_machines_are_counted_apart_and_have_no_nodes_of_the_vendor(tmp_path: Path) -> None:
    kernel = pci.Machine(tmp_path / "sys").build("gpud", DRIVER)
    kernel.add("0000:01:00.0", "1")
    kernel.add("0000:02:00.0", None)
    options = simulate(tmp_path, devices=[device("0000:01:00.0"), device("0000:02:00.0")])
    machine = Hardware(dataclasses.replace(options, passthrough=True, sys_root=str(kernel.root)))
    lacking, found = machine.look_at_devices()
    assert found.text.startswith("2 x NVIDIA H100 80GB HBM3, 1 x NVIDIA H100 80GB HBM3 (for a virtual machine)")
    assert lacking.text.startswith("0000:02:00.0 offers less than it could (pass-through): it has no IOMMU group")
    assert lacking.advice.startswith("docs/operations.md, Devices for virtual machines")
    assert levels(machine.look_at_nodes()) == ["ok"]


def test_devices_that_lack_the_same_are_one_warning_and_those_that_do_not_answer_one_each(tmp_path: Path) -> None:
    addresses = [f"0000:0{number}:00.0" for number in range(1, 8)]
    kernel = pci.Machine(tmp_path / "sys").build("gpud", DRIVER)
    for address in addresses[:5]:
        kernel.add(address, None)
    broken = [device(address, failure="it fell off the bus") for address in addresses[5:]]
    options = simulate(tmp_path, devices=[*map(device, addresses[:5]), *broken])
    machine = Hardware(dataclasses.replace(options, passthrough=True, sys_root=str(kernel.root)))
    *gone, lacking, _ = machine.look_at_devices()
    assert [each.text.split(" is left out: ")[0] for each in gone] == [f"device {each}" for each in addresses[5:]]
    assert lacking.text.startswith(
        "0000:01:00.0, 0000:02:00.0, 0000:03:00.0 and 2 more offer less than they could (pass-through): it has no IOMMU"
    )


def test_partitions_are_counted_by_profile(tmp_path: Path) -> None:
    options = simulate(tmp_path, devices=[device("0000:01:00.0", partitions={"1g.10gb": [0, 1]})])
    (finding,) = Hardware(options).look_at_devices()
    assert finding.text.startswith("2 x NVIDIA H100 80GB HBM3 1g.10gb")


def test_a_device_that_does_not_answer_is_named_and_the_others_count(tmp_path: Path) -> None:
    options = simulate(
        tmp_path, devices=[device("0000:01:00.0"), device("0000:02:00.0", failure="it fell off the bus")]
    )
    broken, others = Hardware(options).look_at_devices()
    assert broken.level is Level.WARNING
    assert "0000:02:00.0" in broken.text
    assert "it fell off the bus" in broken.text
    assert others.text.startswith("1 x NVIDIA H100")


def test_no_device_is_a_warning(tmp_path: Path) -> None:
    (finding,) = Hardware(simulate(tmp_path)).look_at_devices()
    assert finding.level is Level.WARNING
    assert "pool is empty" in finding.text


def test_a_driver_that_is_not_there_fails_and_leaves_the_nodes_out(tmp_path: Path) -> None:
    machine = Hardware(Settings(vendor="simulated", vendor_options=(f"node={tmp_path}/none.json",)))
    (finding,) = machine.look_at_devices()
    assert finding.level is Level.FAILED
    assert "none.json" in finding.text
    assert list(machine.look_at_nodes()) == []


def test_device_nodes_and_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "lib.so").touch()
    edits = ContainerEdits(device_nodes=(NULL,), mounts=(Mount(host_path="/usr/lib.so", container_path="/lib.so"),))
    found = look_at_nodes(Settings(driver_root="/usr", driver_root_mount=str(tmp_path)), Acme(edits))
    assert [(finding.level, finding.text) for finding in found] == [
        (Level.OK, "device nodes: 1"),
        (Level.OK, "driver files: 1"),
    ]


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.exists, "No such file"),
        (Path.touch, "not a device node"),
        (link("/dev/zero"), "is device 1:5, should be 1:3"),
    ],
)
def test_a_device_node_that_cannot_be_used(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    (tmp_path / "dev").mkdir()
    make(tmp_path / "dev" / "null")
    (finding,) = look_at_nodes(Settings(dev_root_mount=str(tmp_path)), Acme(ContainerEdits(device_nodes=(NULL,))))
    assert finding.level is Level.FAILED
    assert finding.text.startswith("1 of 1 device nodes cannot be used: /dev/null (")
    assert reason in finding.text


def test_missing_driver_files_are_counted_and_some_named(tmp_path: Path) -> None:
    mounts = tuple(Mount(host_path=f"/usr/lib{n}.so", container_path=f"/lib{n}.so") for n in range(5))
    options = Settings(driver_root="/usr", driver_root_mount=str(tmp_path))
    (finding,) = look_at_nodes(options, Acme(ContainerEdits(mounts=mounts)))
    assert finding.level is Level.FAILED
    assert "5 of 5 driver files" in finding.text
    assert "/usr/lib0.so" in finding.text
    assert "and 2 more" in finding.text


def test_a_device_that_cannot_be_prepared_is_named() -> None:
    with pytest.raises(Unavailable, match="cannot be prepared: no libcuda"):
        look_at_nodes(Settings(), Acme(ContainerEdits(), error="no libcuda"))


def test_a_device_left_out_without_an_address_has_its_number() -> None:
    class Blind(Acme):
        def snapshot(self) -> Snapshot:
            failure = Failure(None, 3, "no PCI address")
            return dataclasses.replace(super().snapshot(), failures=(failure,))

    found = list(Hardware(Settings(), lambda *_: Blind(ContainerEdits())).look_at_devices())
    assert found[0].text == "device number 3 is left out: no PCI address"


@pytest.mark.parametrize(
    ("path", "root", "mount", "seen"),
    [
        ("/dev/null", "/", "/", "/dev/null"),
        ("/usr/lib/x", "/", "/driver-root", "/driver-root/usr/lib/x"),
        ("/run/nvidia/driver/usr/x", "/run/nvidia/driver", "/mnt", "/mnt/usr/x"),
        ("/run/nvidia/driver2/x", "/run/nvidia/driver", "/mnt", "/run/nvidia/driver2/x"),
        ("/usr/x", "/opt", "/mnt", "/usr/x"),
    ],
)
def test_host_paths_are_looked_at_where_they_are_mounted(path: str, root: str, mount: str, seen: str) -> None:
    assert see(path, root, mount) == seen
