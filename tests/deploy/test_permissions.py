"""The plugin uses every right that its role grants, and no other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import pytest
import yaml

from driver.kube import access
from driver.kube.client import Client
from driver.kube.events import EventWriter, Happening, Regarding
from driver.kubelet import methods
from driver.kubelet.pb.dra.v1 import api_pb2 as dra
from driver.node.app import Plugin
from driver.settings import Settings
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.values import JsonObject
from tests.fakes.recording import Need, Recorder
from tests.fakes.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
ROLE: Final = next(yaml.safe_load_all((ROOT / "deploy" / "base" / "clusterrole.yaml").read_text()))
GRANTED: Final = {
    Need(verb, group, resource)
    for rule in ROLE["rules"]
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
}
DRIVER: Final = "gpu.accel-dra.dev"
NODE: Final = "node-a"
CLAIM: Final[JsonObject] = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c", "namespace": "default"},
    "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]}},
}


@dataclass
class Site:
    """A cluster with one node, seen through a recorder."""

    server: ApiServer
    recorder: Recorder
    settings: Settings
    health: Path

    def list_devices(self) -> list[dict[str, object]]:
        slices = self.server.store.list("resourceslices")
        return [device for item in slices for device in item["spec"].get("devices", [])]  # type: ignore[union-attr,misc,index,call-overload]


def leave_a_slice(server: ApiServer) -> None:
    """What a version of the driver with other names has left behind; the plugin removes it."""
    spec: JsonObject = {
        "driver": DRIVER,
        "nodeName": NODE,
        "pool": {"name": NODE, "generation": 1, "resourceSliceCount": 1},
    }
    server.store.create(
        {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "old"}, "spec": spec}
    )


@contextmanager
def open_site(server: ApiServer, kubeconfig: dict[str, object]) -> Iterator[Site]:
    """Make the node's folders; `kubeconfig` is the user's part of the file."""
    # Socket paths have to be short.
    with tempfile.TemporaryDirectory(prefix="s") as folder, Recorder(server.url) as recorder:
        root = Path(folder)
        config = root / "config"
        config.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": recorder.url}}],
                    "users": [{"name": "u", "user": kubeconfig}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        health = root / "health"
        settings = Settings(
            node_name=NODE,
            vendor="simulated",
            vendor_options=("node=t4", f"health={health}"),
            kubeconfig=str(config),
            kubelet_plugins_dir=str(root / "p"),
            kubelet_registry_dir=str(root / "r"),
            cdi_root=str(root / "cdi"),
            scan_interval=0.05,
        )
        yield Site(server, recorder, settings, health)


def do_everything(site: Site) -> None:
    """Publish, republish, change, clean up, prepare, tell: all that the plugin ever asks of the API server."""
    leave_a_slice(site.server)
    claim = site.server.store.create(CLAIM)
    uid = str(claim["metadata"]["uid"])  # type: ignore[index,call-overload]
    with Plugin(site.settings):
        wait_until(site.list_devices, "slices")
        wait_until(lambda: Need("watch", "resource.k8s.io", "resourceslices") in site.recorder.needs, "the watch")
        address = site.list_devices()[0]["attributes"]["resource.kubernetes.io/pciBusID"]["string"]  # type: ignore[index]
        fault = {"pciAddress": address, "cause": "xid-79", "severity": "unhealthy", "message": "gone"}
        site.health.write_text(json.dumps(fault) + "\n")
        wait_until(lambda: site.list_devices()[0].get("taints"), "the taint")
        endpoint = Path(site.settings.data_dir, "dra.sock")
        wait_until(endpoint.is_socket, "the socket")
        with grpc.insecure_channel(f"unix:{endpoint}") as channel:
            request = dra.NodePrepareResourcesRequest(claims=[dra.Claim(namespace="default", name="c", uid=uid)])
            answer = methods.PREPARE_V1.dial(channel)(request, timeout=45)
        assert "not allocated" in answer.claims[uid].error
        wait_until(lambda: Need("create", "events.k8s.io", "events") in site.recorder.needs, "the event")
    repeat_an_event(site)


def repeat_an_event(site: Site) -> None:
    """The plugin tells a repetition ten seconds later; the same writer does it at once here."""
    client = Client(access.load(site.settings.kubeconfig, {}))
    writer = EventWriter(client, DRIVER, NODE, pause=0.01)
    writer.start()
    happening = Happening(Regarding("v1", "Node", "", NODE), "DeviceFault", "ServeDevices", "again", warning=True)
    writer.post(happening)
    wait_until(lambda: site.server.store.list("events.events.k8s.io", fields="reason=DeviceFault"), "the event")
    writer.post(happening)
    wait_until(lambda: Need("patch", "events.k8s.io", "events") in site.recorder.needs, "its repetition")
    writer.stop()
    client.close()


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        running.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        yield running


def test_the_plugin_uses_exactly_what_its_role_grants(server: ApiServer) -> None:
    with open_site(server, {}) as site:
        do_everything(site)
        assert site.recorder.needs == GRANTED
