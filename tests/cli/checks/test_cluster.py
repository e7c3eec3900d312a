"""Each way in which the cluster can be wrong gives its own line, asked of the embedded API server over HTTP."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver.cli.checks import cluster, features
from driver.cli.checks.cluster import PERMISSIONS, Cluster
from driver.cli.checks.findings import Finding, Level
from driver.core.fencing import Authority
from driver.kube.access import Access
from driver.kube.client import Client
from driver.settings import Settings
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.gates import gates_of
from driver.simulation.apiserver.values import JsonObject
from tests.fakes.http_server import HttpServer, status

DRIVER = "gpu.accel-dra.dev"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


@pytest.fixture
def client(server: ApiServer) -> Iterator[Client]:
    made = Client(Access(server=server.url))
    yield made
    made.close()


@pytest.fixture
def nowhere(server: ApiServer) -> Iterator[Client]:
    """A client to whom every path is unknown, as on a server without DRA."""
    made = Client(Access(server=f"{server.url}/nowhere"))
    yield made
    made.close()


@pytest.fixture
def look(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., list[Finding]]]:
    """Run one check by name against the server, with these settings."""
    opened: list[Cluster] = []

    def run(name: str, **changes: str) -> list[Finding]:
        path = server.kubeconfig(tmp_path / "kubeconfig")
        found = Cluster(Settings(kubeconfig=str(path), **changes), {})  # type: ignore[arg-type]
        opened.append(found)
        first, *others = found.list_checks()
        findings = list(first.look())
        if name == first.name:
            return findings
        (check,) = [check for check in others if check.name == name]
        return list(check.look())

    yield run
    for each in opened:
        each.close()


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]


def make_node(server: ApiServer, runtime: str = "containerd://2.1.4") -> None:
    info: JsonObject = {"kubeletVersion": "v1.36.2", "containerRuntimeVersion": runtime}
    node: JsonObject = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}
    server.store.create(node)
    server.store.patch("nodes", "node-a", {"status": {"nodeInfo": info}}, subresource="status")


def publish(server: ApiServer, name: str, generation: int = 1, count: int = 1, *, fenced: int = 0) -> None:
    fence: JsonObject = {"taints": [{"key": "accel-dra.dev/controller-only", "effect": "NoSchedule"}]}
    spec: JsonObject = {
        "driver": DRIVER,
        "nodeName": "node-a",
        "pool": {"name": "node-a", "generation": generation, "resourceSliceCount": count},
        "devices": [{"name": f"{name}-{index}", **(fence if index < fenced else {})} for index in range(2)],
    }
    value: JsonObject = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": spec,
    }
    server.store.create(value)


def make_class(server: ApiServer, name: str) -> None:
    server.store.create(
        {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": name}, "spec": {}}
    )


def test_without_any_server_the_cluster_is_left_out() -> None:
    first, *others = Cluster(Settings(), {}).list_checks()
    (finding,) = first.look()
    assert finding.level is Level.WARNING
    assert "--kubeconfig" in finding.advice
    assert [list(check.look()) for check in others] == [[]] * len(others)


def test_a_pod_without_a_token() -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    (finding,) = Cluster(Settings(), environment).look_at_server()
    assert finding.level is Level.FAILED
    assert "token" in finding.text


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    first, *_ = Cluster(Settings(kubeconfig=str(tmp_path / "none")), {}).list_checks()
    (finding,) = first.look()
    assert finding.level is Level.FAILED
    assert str(tmp_path / "none") in finding.text


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    config = tmp_path / "config"
    config.write_text(
        f'{{"clusters": [{{"name": "c", "cluster": {{"server": "http://127.0.0.1:{port}"}}}}],'
        '"contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"}'
    )
    (finding,) = Cluster(Settings(kubeconfig=str(config)), {}).look_at_server()
    assert finding.level is Level.FAILED
    assert f"http://127.0.0.1:{port}" in finding.text
    assert "firewalls" in finding.advice


def test_a_server_that_does_not_know_us(tmp_path: Path) -> None:
    refusing = HttpServer(lambda _: status(401, "Unauthorized"))
    config = tmp_path / "config"
    config.write_text(
        f'{{"clusters": [{{"name": "c", "cluster": {{"server": "{refusing.url}"}}}}],'
        '"contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"}'
    )
    with refusing:
        (finding,) = Cluster(Settings(kubeconfig=str(config)), {}).look_at_server()
    assert finding.level is Level.FAILED
    assert "does not accept our credentials" in finding.text
    assert "expired" in finding.advice


def test_a_server_that_answers(look: Callable[..., list[Finding]]) -> None:
    (finding,) = look("api-server")
    assert finding.level is Level.OK
    assert "Kubernetes v1.36" in finding.text


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("v1.33.9", "failed"),
        ("v1.34.0", "ok"),
        ("v1.36.2-gke.100", "ok"),
        ("v1.37.0+k3s1", "ok"),
        ("v1.38.0", "warning"),
        ("v2.0.0", "warning"),
        ("unknown", "warning"),
    ],
)
def test_versions(version: str, level: str) -> None:
    finding = cluster.judge_version(version, "https://s")
    assert finding.level.value == level
    assert version in finding.text


@pytest.mark.parametrize(
    ("runtime", "warned"),
    [("containerd://1.7.24", True), ("containerd://2.0.1", False), ("cri-o://1.34.0", False), ("", False)],
)
def test_container_runtimes_that_ignore_cdi(runtime: str, warned: bool) -> None:
    found = list(cluster.judge_runtime(runtime))
    assert bool(found) is warned
    assert all("enable_cdi = true" in finding.advice for finding in found)


def test_the_api_group(client: Client, nowhere: Client) -> None:
    assert levels(list(cluster.look_at_group(client))) == ["ok"]
    (finding,) = cluster.look_at_group(nowhere)
    assert finding.level is Level.FAILED
    assert "1.34" in finding.advice


def test_all_permissions(client: Client) -> None:
    (finding,) = cluster.look_at_permissions(client)
    assert finding.text == f"all {len(PERMISSIONS)} rights that the plugin uses"


def test_a_server_that_does_not_say_what_we_may_do_is_tried(nowhere: Client) -> None:
    silent, tried = cluster.look_at_permissions(nowhere)
    assert silent.level is Level.WARNING
    assert tried.level is Level.FAILED
    assert tried.text.startswith("ResourceSlices cannot be listed")


def test_our_node(look: Callable[..., list[Finding]], server: ApiServer) -> None:
    make_node(server)
    (finding,) = look("node-object", node_name="node-a")
    assert finding == Finding(Level.OK, "node node-a: kubelet v1.36.2, containerd://2.1.4")


def test_a_node_whose_runtime_needs_a_setting(look: Callable[..., list[Finding]], server: ApiServer) -> None:
    make_node(server, runtime="containerd://1.7.24")
    assert levels(look("node-object", node_name="node-a")) == ["ok", "warning"]


def test_a_node_that_does_not_exist(look: Callable[..., list[Finding]]) -> None:
    (finding,) = look("node-object", node_name="node-b")
    assert finding.level is Level.FAILED
    assert "there is no Node node-b" in finding.text


def test_no_node_name(look: Callable[..., list[Finding]]) -> None:
    (finding,) = look("node-object")
    assert finding.level is Level.WARNING


def test_a_server_with_every_feature(client: Client, server: ApiServer) -> None:
    (finding,) = features.try_features(client, DRIVER, "node-a")
    assert finding.level is Level.OK
    assert server.store.list("resourceslices") == [], "a dry run stores nothing"


@pytest.mark.parametrize("minor", [34, 35])
def test_a_server_that_drops_fields(minor: int) -> None:
    with ApiServer(gates=gates_of(minor)) as old:
        client = Client(Access(server=old.url))
        found = list(features.try_features(client, DRIVER, "node-a"))
        client.close()
    assert levels(found) == ["warning"] * 3
    assert [finding.text.split()[0] for finding in found] == [
        "DRADeviceTaints",
        "DRAPartitionableDevices",
        "DRAConsumableCapacity",
    ]
    assert all("1.36" in finding.advice for finding in found)


def test_counters_of_1_34_are_of_no_use_to_us() -> None:
    gates = dataclasses.replace(gates_of(34), partitionable_devices=True, device_taints=True, consumable_capacity=True)
    with ApiServer(gates=gates) as old:
        client = Client(Access(server=old.url))
        lacks, keeps = features.try_features(client, DRIVER, "node-a")
        client.close()
    assert lacks.text.startswith("DRAPartitionableDevices is that of Kubernetes 1.34, with another layout: ")
    assert (lacks.level, lacks.advice) == (Level.WARNING, "upgrade to 1.35 or later")
    assert keeps.text == "the server keeps taints, allowMultipleAllocations"


def test_an_authority_that_the_server_does_not_allow_is_warned_of(client: Client) -> None:
    assert levels(list(features.try_features(client, DRIVER, "node-a", Authority.CONTROLLER))) == ["ok"]
    with ApiServer(gates=gates_of(35)) as old:
        other = Client(Access(server=old.url))
        found = list(features.try_features(other, DRIVER, "node-a", Authority.CONTROLLER))
        other.close()
    assert any("allocation-authority controller has no effect" in finding.text for finding in found)


def test_features_without_a_node_name(client: Client) -> None:
    assert levels(list(features.try_features(client, DRIVER, ""))) == ["ok"]


def test_a_slice_that_is_refused_is_a_warning(client: Client) -> None:
    (finding,) = features.try_features(client, "Not A Name", "node-a")
    assert finding.level is Level.WARNING
    assert "refuses" in finding.text


def test_an_identity_that_may_write_everywhere_is_warned_of(client: Client) -> None:
    (finding,) = features.try_policy(client, DRIVER, "node-a")
    assert finding.level is Level.WARNING
    assert "every node" in finding.text


def test_the_policy_says_nothing_about_an_administrator(look: Callable[..., list[Finding]]) -> None:
    (finding,) = look("slice-policy", node_name="node-a")
    assert finding.level is Level.OK


def test_device_classes(look: Callable[..., list[Finding]], server: ApiServer) -> None:
    make_class(server, "gpu.accel-dra.dev")
    make_class(server, "topology.accel-dra.dev")
    there, missing, _ = look("device-classes")
    assert there == Finding(Level.OK, "DeviceClass gpu.accel-dra.dev")
    assert missing.level is Level.WARNING
    assert "partition.accel-dra.dev" in missing.text
    assert "kubectl apply -k deploy/base" in missing.advice


def test_no_slices(look: Callable[..., list[Finding]]) -> None:
    (finding,) = look("slices", node_name="node-a")
    assert finding.level is Level.WARNING
    assert "no slice is published for node node-a" in finding.text


def test_slices_of_the_newest_generation_count(look: Callable[..., list[Finding]], server: ApiServer) -> None:
    publish(server, "old", generation=1)
    publish(server, "new-a", generation=2, count=2)
    publish(server, "new-b", generation=2, count=2)
    (finding,) = look("slices", node_name="node-a")
    assert finding == Finding(Level.OK, "4 devices in 2 slices of node node-a, allocated by kube-scheduler")


def test_slices_say_who_allocates_their_devices(look: Callable[..., list[Finding]], server: ApiServer) -> None:
    publish(server, "first", count=2, fenced=2)
    (finding, _) = look("slices", node_name="node-a")
    assert finding.text.endswith("allocated by the accel-dra controller")
    publish(server, "second", count=2)
    (finding,) = look("slices", node_name="node-a")
    assert finding.text.endswith("2 of them allocated by the accel-dra controller only")


def test_a_pool_that_is_not_complete(look: Callable[..., list[Finding]], server: ApiServer) -> None:
    publish(server, "only", count=2)
    _, finding = look("slices")
    assert finding.level is Level.WARNING
    assert "pool node-a has 1 of 2 slices" in finding.text
