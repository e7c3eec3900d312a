"""The plugin uses every right that its role grants, and no other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import pytest

from driver.kube import access
from driver.kube.client import Client
from driver.kube.events import EventWriter, Happening, Regarding
from driver.kubelet import methods
from driver.kubelet.pb.dra.v1 import api_pb2 as dra
from driver.node.app import Plugin
from driver.settings import Settings
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.values import JsonObject
from tests.fakes import kustomize
from tests.fakes.installing import guarded_server, install, issue_token, make_node
from tests.fakes.kustomize import Object, items, mapping
from tests.fakes.recording import Need, Recorder
from tests.fakes.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = kustomize.render(ROOT / "deploy" / "base")
ROLE: Final = ("ClusterRole", "accel-dra-node")
GRANTED: Final = {
    Need(str(verb), str(group), str(resource))
    for item in BASE
    if kustomize.identity(item) == ROLE
    for rule in map(mapping, items(item["rules"]))
    for group in items(rule["apiGroups"])
    for resource in items(rule["resources"])
    for verb in items(rule["verbs"])
}
DRIVER: Final = "gpu.accel-dra.dev"
NODE: Final = "node-a"
CLAIM: Final[JsonObject] = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c", "namespace": "default"},
    "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": DRIVER}}]}},
}
RIGHTS: Final = sorted(GRANTED)


@dataclass
class Site:
    """A cluster with one node, seen through a recorder."""

    server: ApiServer
    recorder: Recorder
    settings: Settings
    health: Path

    def list_devices(self) -> list[dict[str, object]]:
        slices = self.server.store.list("resourceslices")
        return [mapping(device) for item in slices for device in items(mapping(item["spec"]).get("devices"))]


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
def open_site(server: ApiServer, token: str) -> Iterator[Site]:
    """Make the node's folders, and a kubeconfig with the token of the plugin's pod."""
    # Socket paths have to be short.
    with tempfile.TemporaryDirectory(prefix="s") as folder, Recorder(server.url) as recorder:
        root = Path(folder)
        config = root / "config"
        config.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": recorder.url}}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        health = root / "health"
        (root / "r").mkdir()
        settings = Settings(
            node_name=NODE,
            vendor="simulated",
            vendor_options=("node=t4", f"health={health}"),
            kubeconfig=str(config),
            kubelet_plugins_dir=str(root / "p"),
            kubelet_registry_dir=str(root / "r"),
            cdi_root=str(root / "cdi"),
            scan_interval=0.05,
            prepare_deadline=1.0,
        )
        yield Site(server, recorder, settings, health)


def do_everything(site: Site, done: Callable[[Need], bool]) -> None:
    """Publish, republish, change, clean up, prepare, tell: all that the plugin ever asks of the API server.

    Each action is followed by waiting for the right that it needs to be `done`.
    """

    def await_right(verb: str, resource: str) -> None:
        group = {"nodes": "", "events": "events.k8s.io"}.get(resource, "resource.k8s.io")
        wait_until(lambda: done(Need(verb, group, resource)), f"{verb} {resource}")

    leave_a_slice(site.server)
    claim = site.server.store.create(CLAIM)
    with Plugin(site.settings):
        for verb, resource in (
            ("get", "nodes"),
            *((verb, "resourceslices") for verb in ("list", "watch", "delete", "create")),
        ):
            await_right(verb, resource)
        fault = {"pciAddress": "0000:3b:00.0", "cause": "xid-79", "severity": "unhealthy", "message": "gone"}
        site.health.write_text(json.dumps(fault) + "\n")
        await_right("patch", "resourceslices")
        prepare(site, str(mapping(claim["metadata"])["uid"]))
        await_right("get", "resourceclaims")
        await_right("create", "events")
    repeat_an_event(site)
    await_right("patch", "events")


def prepare(site: Site, uid: str) -> None:
    """Ask for a claim that is not allocated: it is read, refused, and an Event says so."""
    endpoint = Path(site.settings.data_dir, "dra.sock")
    wait_until(endpoint.is_socket, "the socket")
    with grpc.insecure_channel(f"unix:{endpoint}") as channel:
        request = dra.NodePrepareResourcesRequest(claims=[dra.Claim(namespace="default", name="c", uid=uid)])
        answer = methods.PREPARE_V1.dial(channel)(request, timeout=45)
    assert answer.claims[uid].error


def repeat_an_event(site: Site) -> None:
    """The plugin tells a repetition ten seconds later; the same writer does it at once here."""
    client = Client(access.load(site.settings.kubeconfig, {}))
    writer = EventWriter(client, DRIVER, NODE, pause=0.01)
    writer.start()
    happening = Happening(Regarding("v1", "Node", "", NODE), "DeviceFault", "ServeDevices", "again", warning=True)
    writer.post(happening)
    wait_until(lambda: find_events(site.server), "the event")
    writer.post(happening)
    wait_until(lambda: Need("patch", "events.k8s.io", "events") in site.recorder.needs, "its repetition")
    writer.stop()
    client.close()


def find_events(server: ApiServer) -> list[JsonObject]:
    """Return the events of `repeat_an_event`."""
    return [event for event in server.store.list("events.events.k8s.io") if event.get("note") == "again"]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with guarded_server() as running:
        make_node(running, NODE)
        yield running


def test_the_plugin_works_with_its_role_and_uses_all_of_it(server: ApiServer) -> None:
    install(server, BASE)
    with open_site(server, issue_token(server, NODE)) as site:
        do_everything(site, lambda need: need in site.recorder.needs)
        assert site.recorder.refused == []
        assert site.recorder.needs == GRANTED


class RefusedError(Exception):
    """The plugin asked for something that it may not."""


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right.verb} {right.resource}")
def test_without_any_one_right_something_is_refused(server: ApiServer, right: Need) -> None:
    install(server, [without(right, item) for item in BASE])
    with open_site(server, issue_token(server, NODE)) as site:

        def done(need: Need) -> bool:
            if site.recorder.refused:
                raise RefusedError
            return need in site.recorder.needs

        with pytest.raises(RefusedError):
            do_everything(site, done)
        assert {seen.need for seen in site.recorder.refused} == {right}


def without(right: Need, item: Object) -> Object:
    """Return the object; the role without one of its rights."""
    if kustomize.identity(item) != ROLE:
        return item
    rules = [
        {"apiGroups": [need.group], "resources": [need.resource], "verbs": [need.verb]}
        for need in RIGHTS
        if need != right
    ]
    return {**item, "rules": rules}
