"""Devices for virtual machines, the whole path: published, allocated, handed over in the kernel, and given back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from driver.model.passthrough import DRIVER
from driver.simulation import manifests
from driver.simulation.cluster import Cluster
from driver.simulation.nodes import NodeSpec
from driver.simulation.processes import Value
from tests.fakes.pci import AUDIO, Listener, Machine
from tests.simulation.conftest import E2E, FAST, GPU

VFIO = "vfio.accel-dra.dev"
ONE, SOUND, TWO = "0000:3b:00.0", "0000:3b:00.1", "0000:af:00.0"
ORIGINAL = {ONE: ("gpud", None), SOUND: ("sound", None), TWO: ("gpud", None)}
HANDED_OVER = {**ORIGINAL, ONE: (DRIVER, DRIVER), SOUND: (DRIVER, DRIVER)}
FIRST, SECOND = "gpu-0000-3b-00-0", "gpu-0000-af-00-0"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Return the kernel's side of a node with two devices, of which the first has a sound function."""
    made = Machine(tmp_path / "sys").build("gpud", "sound", DRIVER)
    made.add(ONE, "11")
    made.add(SOUND, "11", kind=AUDIO, native="sound")
    made.add(TWO, "12")
    with Listener(made):
        yield made


@pytest.fixture
def begin(machine: Machine) -> Iterator[Callable[..., E2E]]:
    """Start a cluster with one node that offers its devices to virtual machines, if nothing else is said."""
    with ExitStack() as stack:

        def start(*, passthrough: bool = True) -> E2E:
            settings: dict[str, Value] = {"passthrough": passthrough, "sys-root": str(machine.root)}
            cluster = stack.enter_context(Cluster([NodeSpec(name="node-1", hardware="t4", settings=settings)], FAST))
            cluster.apply(manifests.find("components", "passthrough", "deviceclass.yaml"))
            cluster.wait_ready()
            e2e = E2E(cluster)
            e2e.template("vm", {"name": "gpu", "deviceClassName": VFIO})
            e2e.template("one")
            return e2e

        yield start


def test_a_device_has_partitions_for_some_and_is_whole_for_a_virtual_machine_later(
    tmp_path: Path, machine: Machine
) -> None:
    hardware = tmp_path / "node.json"
    device = {"model": "h100-80gb", "pciAddress": TWO}
    hardware.write_text(json.dumps({"driverVersion": "580.126.09", "devices": [device]}))
    settings: dict[str, Value] = {
        "passthrough": True,
        "partitions": "dynamic",
        "partition-profiles": "1g.10gb",
        "sys-root": str(machine.root),
    }
    with Cluster([NodeSpec(name="node-1", hardware=str(hardware), settings=settings)], FAST) as cluster:
        cluster.apply(manifests.find("components", "passthrough", "deviceclass.yaml"))
        cluster.wait_ready()
        e2e = E2E(cluster)
        e2e.template("vm", {"name": "gpu", "deviceClassName": VFIO})
        e2e.template("part", {"name": "gpu", "deviceClassName": "partition.accel-dra.dev"})
        before = published(e2e)
        e2e.pod("part", "part")
        cluster.wait_running("part")
        e2e.pod("vm", "vm")
        cluster.wait(lambda: e2e.messages("FailedScheduling") or None, "the virtual machine to wait for the partition")
        cluster.delete_pod("part")
        cluster.wait_running("vm")
        assert machine.driver(TWO) == DRIVER
        assert published(e2e) == before, "no device has come or gone"
        cluster.delete_pod("vm")
        assert machine.state() == ORIGINAL


def published(e2e: E2E) -> dict[str, list[str]]:
    """Return the names of devices with what they draw from."""
    devices = [device for each in e2e.cluster.slices("node-1", GPU) for device in each.spec.devices]
    return {device.name: [draw.counter_set for draw in device.consumes_counters] for device in devices}


def test_each_device_is_offered_twice_and_can_be_had_once(begin: Callable[..., E2E]) -> None:
    assert published(begin()) == {
        FIRST: [FIRST],
        SECOND: [SECOND],
        FIRST.replace("gpu", "vfio"): [FIRST],
        SECOND.replace("gpu", "vfio"): [SECOND],
    }


def test_nothing_is_offered_unless_it_is_asked_for(begin: Callable[..., E2E], machine: Machine) -> None:
    assert published(begin(passthrough=False)) == {FIRST: [], SECOND: []}
    assert machine.state() == ORIGINAL


def test_a_virtual_machine_gets_a_device_and_the_node_gets_it_back(begin: Callable[..., E2E], machine: Machine) -> None:
    e2e = begin()
    before = published(e2e)
    e2e.pod("vm", "vm")
    pod = e2e.cluster.wait_running("vm")
    assert e2e.devices(e2e.claim_of(pod)) == [("node-1", "vfio-0000-3b-00-0")]
    assert machine.state() == HANDED_OVER
    contents = e2e.container(pod).contents
    assert contents.env == {"ACCEL_DRA_PCI_ADDRESS_VFIO_0000_3B_00_0": ONE}
    assert [(node.path, node.major, node.minor) for node in contents.device_nodes] == [
        ("/dev/vfio/vfio", 10, 196),
        ("/dev/vfio/11", 244, 11),
    ]
    assert all(node.is_usable_by(107, ()) for node in contents.device_nodes)
    (mount,) = contents.mounts
    assert f'"resource.kubernetes.io/pciBusID":{{"string":"{ONE}"}}' in Path(mount.host_path).read_text()

    e2e.pod("first", "one")
    assert e2e.devices(e2e.claim_of(e2e.cluster.wait_running("first"))) == [("node-1", SECOND)]
    assert published(e2e) == before, "the vendor sees one device by now, and both are still published"
    e2e.pod("second", "one")
    e2e.cluster.wait(lambda: e2e.messages("FailedScheduling") or None, "the second pod to wait")
    e2e.cluster.delete_pod("vm")
    assert e2e.devices(e2e.claim_of(e2e.cluster.wait_running("second"))) == [("node-1", FIRST)]
    assert machine.state() == ORIGINAL


def test_a_killed_plugin_finds_the_device_where_it_left_it(begin: Callable[..., E2E], machine: Machine) -> None:
    e2e = begin()
    before = published(e2e)
    e2e.pod("vm", "vm")
    e2e.cluster.wait_running("vm")
    node = e2e.cluster.nodes["node-1"]
    node.kill_plugin(GPU)
    node.start_plugin(GPU, settings={"passthrough": False})
    e2e.cluster.wait_ready()
    e2e.cluster.delete_pod("vm")
    e2e.cluster.wait(lambda: machine.state() == ORIGINAL or None, "the device to be given back, the setting being off")
    node.stop_plugin(GPU)
    node.start_plugin(GPU)
    e2e.cluster.wait_ready()
    e2e.cluster.wait(lambda: published(e2e) == before or None, "the devices to be offered again")


def test_a_device_in_use_is_named_in_an_event_and_given_once_it_is_free(
    begin: Callable[..., E2E], machine: Machine
) -> None:
    e2e = begin()
    folder = e2e.cluster.nodes["node-1"].proc / "4711" / "fd"
    folder.mkdir(parents=True)
    (folder.parent / "comm").write_text("persistenced\n")
    (folder / "9").symlink_to("/dev/simulated-gpu0")
    e2e.pod("vm", "vm")

    def told() -> bool | None:
        return any("process 4711 (persistenced) has /dev/simulated-gpu0" in each for each in messages()) or None

    def messages() -> list[str]:
        return [*e2e.messages("FailedPrepareDynamicResources"), *e2e.messages("PrepareFailed")]

    e2e.cluster.wait(told, "an event that names the process")
    assert machine.state() == ORIGINAL
    (folder / "9").unlink()
    e2e.cluster.wait_running("vm", timeout=50)
    assert machine.state() == HANDED_OVER
