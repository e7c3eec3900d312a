"""Parts of a node fail one by one, and workloads do not notice or recover by themselves."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path

from driver.core.health import RECOVERY_SECONDS
from driver.model import vocabulary
from driver.simulation.access import SLICES, Body
from driver.simulation.nodes import NodeSpec, SimulatedNode
from driver.vendors.simulated import files
from tests.simulation.conftest import E2E, GPU, Start


def _node(e2e: E2E) -> SimulatedNode:
    return e2e.cluster.nodes["node-1"]


def _slice_uids(e2e: E2E) -> set[str]:
    return {each.metadata.uid for each in e2e.cluster.slices("node-1")}


def _run(e2e: E2E, name: str) -> dict[str, str]:
    """Run a pod with one GPU and return the environment of its container."""
    if name == "first":
        e2e.template("one")
    e2e.pod(name, "one")
    return e2e.container(e2e.cluster.wait_running(name)).contents.env


def test_slices_are_published_again_after_a_restarted_kubelet_wiped_them(start: Start) -> None:
    e2e = start()
    env = _run(e2e, "first")
    before = _slice_uids(e2e)
    _node(e2e).restart_kubelet()

    def is_new() -> bool:
        now = _slice_uids(e2e)
        return bool(now) and not now & before

    e2e.cluster.wait(is_new, "the slices to be wiped and published again")
    e2e.cluster.wait_ready()
    assert e2e.container(e2e.cluster.pod("first")).contents.env == env
    assert _run(e2e, "second") != env
    for name in ("first", "second"):
        e2e.cluster.delete_pod(name)
    assert e2e.cdi_files("node-1") == []


def test_a_killed_plugin_comes_back_with_all_it_knew(start: Start) -> None:
    e2e = start()
    first = _run(e2e, "first")
    documents = e2e.cdi_files("node-1")
    _node(e2e).kill_plugin(GPU)
    assert e2e.container(e2e.cluster.pod("first")).contents.env == first, "containers go on"
    _node(e2e).start_plugin(GPU)
    e2e.cluster.wait_ready()
    assert e2e.cdi_files("node-1") == documents
    assert _run(e2e, "second") != first
    e2e.cluster.delete_pod("first")
    e2e.cluster.delete_pod("second")
    assert e2e.cdi_files("node-1") == []


def test_a_pod_deleted_while_the_plugin_is_dead_ends_when_it_is_back(start: Start) -> None:
    e2e = start()
    _run(e2e, "first")
    _node(e2e).kill_plugin(GPU)
    e2e.cluster.delete_pod("first", wait=False)
    e2e.cluster.wait(lambda: e2e.cluster.sandbox(e2e.cluster.pod("first")) is None, "the containers to end")
    assert e2e.cdi_files("node-1"), "nobody could unprepare the claim"
    _node(e2e).start_plugin(GPU)
    e2e.cluster.wait(lambda: not e2e.claims(), "pod and claim to be gone")
    assert e2e.cdi_files("node-1") == []


def test_a_plugin_that_stays_away_loses_its_slices(start: Start) -> None:
    e2e = start()
    assert _node(e2e).stop_plugin(GPU) == 0
    assert e2e.cluster.slices("node-1"), "a plugin that ends leaves its slices to the next one"
    e2e.cluster.wait(lambda: not e2e.cluster.slices("node-1"), "the kubelet to wipe the slices")
    e2e.template("one")
    e2e.pod("p", "one")
    e2e.cluster.wait(lambda: e2e.messages("FailedScheduling"), "the pod to wait")
    _node(e2e).start_plugin(GPU)
    e2e.cluster.wait_running("p")


def test_two_versions_overlap_in_a_rolling_update(start: Start) -> None:
    e2e = start(NodeSpec(name="node-1", hardware="a100-mesh", drivers=()))
    node = _node(e2e)
    old, new = (str(uuid.uuid4()) for _ in range(2))
    node.start_plugin(GPU, pod_uid=old)
    e2e.cluster.wait(lambda: _endpoint(node).endswith(f"{old}.sock") and e2e.cluster.slices("node-1"), "the old plugin")
    first = _run(e2e, "first")
    before = {each.metadata.uid: each.metadata.resource_version for each in e2e.cluster.slices("node-1")}
    node.start_plugin(GPU, pod_uid=new)
    e2e.cluster.wait(lambda: _endpoint(node).endswith(f"{new}.sock"), "the new plugin")
    second = _run(e2e, "second")
    assert first != second, "the new plugin knows what the old one gave away"
    assert node.stop_plugin(f"{GPU}:{old}") == 0
    third = _run(e2e, "third")
    assert len({frozenset(env.items()) for env in (first, second, third)}) == 3
    for name in ("first", "second", "third"):
        e2e.cluster.delete_pod(name)
    assert e2e.cdi_files("node-1") == []
    after = {each.metadata.uid: each.metadata.resource_version for each in e2e.cluster.slices("node-1")}
    assert after == before, "both published the same, so nothing was written"


def _endpoint(node: SimulatedNode) -> str:
    plugin = node.kubelet.plugins.find(GPU)
    return plugin.endpoint if plugin is not None and plugin.connection.is_connected else ""


def test_pods_start_again_with_the_same_devices_after_a_reboot(start: Start) -> None:
    e2e = start()
    env = _run(e2e, "first")
    boot = (_node(e2e).proc / "sys/kernel/random/boot_id").read_text()
    _node(e2e).reboot()
    assert (_node(e2e).proc / "sys/kernel/random/boot_id").read_text() != boot
    pod = e2e.cluster.pod("first")
    e2e.cluster.wait(lambda: (sandbox := e2e.cluster.sandbox(pod)) and sandbox.containers, "the pod to start again")
    assert e2e.container(pod).contents.env == env
    assert _run(e2e, "second") != env
    for name in ("first", "second"):
        e2e.cluster.delete_pod(name)
    assert e2e.cdi_files("node-1") == []


def test_the_api_server_may_restart(start: Start) -> None:
    e2e = start()
    first = _run(e2e, "first")
    before = _slice_uids(e2e)
    e2e.cluster.restart_server()
    assert _run(e2e, "second") != first
    assert _slice_uids(e2e) == before
    e2e.cluster.delete_pod("first")
    e2e.cluster.delete_pod("second")
    e2e.cluster.wait(lambda: not e2e.claims(), "the claims to be removed")


def _names(e2e: E2E) -> list[str]:
    return [device.name for each in e2e.cluster.slices("node-1") for device in each.spec.devices]


def test_hardware_that_goes_and_comes_is_noticed_without_a_restart(start: Start, tmp_path: Path) -> None:
    hardware = tmp_path / "node.json"
    whole = json.loads(files.find_node("a100-mesh").read_text())
    hardware.write_text(json.dumps(whole))
    e2e = start(NodeSpec(name="node-1", hardware=str(hardware)))
    before = _names(e2e)
    assert len(before) == 4
    fewer = [{**each, "links": {}} for each in whole["devices"][:3]]
    hardware.write_text(json.dumps({**whole, "devices": fewer}))
    e2e.cluster.wait(lambda: len(_names(e2e)) == 3, "the device to go")
    hardware.write_text(json.dumps(whole))
    e2e.cluster.wait(lambda: _names(e2e) == before, "the device to come back under its name and in its place")


def test_an_unhealthy_device_is_given_to_nobody_and_its_neighbours_are(start: Start, tmp_path: Path) -> None:
    health = tmp_path / "health"
    e2e = start(NodeSpec(name="node-1", hardware="a100-mesh", vendor_options=(f"health={health}",)))
    sick = next(device for each in e2e.cluster.slices("node-1") for device in each.spec.devices)
    address = sick.attributes[vocabulary.PCI_BUS_ID].string
    health.write_text(json.dumps({"pciAddress": address, "cause": "xid-79", "severity": "unhealthy"}) + "\n")

    def is_tainted() -> bool:
        devices = {device.name: device for each in e2e.cluster.slices("node-1") for device in each.spec.devices}
        return any(taint.key == vocabulary.TAINT_UNHEALTHY for taint in devices[sick.name].taints)

    e2e.cluster.wait(is_tainted, "the device to be tainted")
    e2e.template("four", {"name": "gpu", "count": 4})
    e2e.pod("four", "four")
    e2e.cluster.wait(lambda: e2e.messages("FailedScheduling"), "the pod to be refused")
    assert "3 of 4 usable, 1 device has the taint accel-dra.dev/unhealthy" in e2e.messages("FailedScheduling")[0]
    e2e.template("three", {"name": "gpu", "count": 3})
    e2e.pod("three", "three")
    pod = e2e.cluster.wait_running("three")
    assert sick.name not in {device for _, device in e2e.devices(e2e.claim_of(pod))}


def _health_of(e2e: E2E, name: str) -> dict[str, tuple[str, str, str]]:
    """Return what a pod shows of its devices: per container the entry's name, health and message."""
    return {
        status.name: (entry.name, entry.resources[0].health, entry.resources[0].message)
        for status in e2e.cluster.pod(name).status.container_statuses
        for entry in status.allocated_resources_status
    }


def test_a_pod_shows_that_its_device_is_sick_and_that_it_has_recovered(start: Start, tmp_path: Path) -> None:
    health = tmp_path / "health"
    e2e = start(NodeSpec(name="node-1", hardware="a100-mesh", vendor_options=(f"health={health}",)))
    e2e.template("one")
    containers: list[Body] = [
        {"name": "main", "resources": {"claims": [{"name": "gpu", "request": "gpu"}]}},
        {"name": "logger"},
    ]
    e2e.pod("user", "one", containers=containers)
    pod = e2e.cluster.wait_running("user")
    e2e.pod("neighbour", "one")
    e2e.cluster.wait_running("neighbour")
    healthy = {"main": ("claim:gpu/gpu", "Healthy", "")}
    e2e.cluster.wait(lambda: _health_of(e2e, "user") == healthy, "the device to be shown healthy")
    [(_, device)] = e2e.devices(e2e.claim_of(pod))
    address = next(
        each.attributes[vocabulary.PCI_BUS_ID].string
        for found in e2e.cluster.slices("node-1")
        for each in found.spec.devices
        if each.name == device
    )

    def tell(cause: str, severity: str, seconds_ago: float = 0.0) -> None:
        event = {"pciAddress": address, "cause": cause, "severity": severity, "message": "it says"}
        with health.open("a") as events:
            events.write(json.dumps({**event, "time": time.time() - seconds_ago}) + "\n")

    started = e2e.container(pod)
    tell("nvlink-3", "degraded")
    e2e.cluster.wait(
        lambda: _health_of(e2e, "user") == {"main": ("claim:gpu/gpu", "Healthy", "nvlink-3: it says")}, "the remark"
    )
    tell("xid-79", "unhealthy")
    sick = {"main": ("claim:gpu/gpu", "Unhealthy", "xid-79: it says; nvlink-3: it says")}
    e2e.cluster.wait(lambda: _health_of(e2e, "user") == sick, "the device to be shown sick")
    assert _health_of(e2e, "neighbour") == {"main": ("claim:gpu", "Healthy", "")}
    for cause in ("xid-79", "nvlink-3"):
        tell(cause, "healthy", seconds_ago=RECOVERY_SECONDS + 1)
    e2e.cluster.wait(lambda: _health_of(e2e, "user") == healthy, "the device to be shown healthy again")
    assert e2e.container(e2e.cluster.pod("user")) is started, "the container was left alone"


def test_health_is_unknown_without_the_plugin_and_known_again_with_it(start: Start) -> None:
    e2e = start()
    _run(e2e, "first")

    def shows(health: str) -> bool:
        return {health} == {each for _, each, _ in _health_of(e2e, "first").values()}

    e2e.cluster.wait(lambda: shows("Healthy"), "the device to be healthy")
    _node(e2e).kill_plugin(GPU)
    e2e.cluster.wait(lambda: shows("Unknown"), "the device to be unknown")
    _node(e2e).start_plugin(GPU)
    e2e.cluster.wait(lambda: shows("Healthy"), "the device to be healthy again")
    _node(e2e).restart_kubelet()
    e2e.cluster.wait(lambda: shows("Healthy"), "the device to be healthy after the kubelet came back")


def test_a_pod_shows_that_its_device_has_gone(start: Start, tmp_path: Path) -> None:
    hardware = tmp_path / "node.json"
    whole = json.loads(files.find_node("a100-mesh").read_text())
    hardware.write_text(json.dumps(whole))
    e2e = start(NodeSpec(name="node-1", hardware=str(hardware)))
    _run(e2e, "first")
    [(_, device)] = e2e.devices(e2e.claim_of(e2e.cluster.pod("first")))
    left = [
        {**each, "links": {}}
        for each in whole["devices"]
        if device != "gpu-" + re.sub(r"[:.]", "-", each["pciAddress"])
    ]
    assert len(left) == len(whole["devices"]) - 1
    hardware.write_text(json.dumps({**whole, "devices": left}))
    gone = {"main": ("claim:gpu", "Unhealthy", "the device is no longer found on this node")}
    e2e.cluster.wait(lambda: _health_of(e2e, "first") == gone, "the device to be shown gone")
    e2e.cluster.delete_pod("first")
    assert e2e.cdi_files("node-1") == [], "its claim is released though the device is gone"


def test_slices_that_somebody_deletes_come_back(start: Start) -> None:
    e2e = start()
    before = _slice_uids(e2e)
    for each in e2e.cluster.slices("node-1"):
        e2e.cluster.objects.delete(SLICES, each)
    e2e.cluster.wait(lambda: (now := _slice_uids(e2e)) and not now & before, "the slices to come back", timeout=10)
