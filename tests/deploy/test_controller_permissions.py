"""The controller uses every right that its roles grant, and no other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from driver.controller.app import REPORTER, Controller
from driver.controller.settings import ControllerSettings
from driver.core.fencing import Authority
from driver.kube import access
from driver.kube.client import Client
from driver.kube.events import EventWriter, Happening, Regarding
from driver.model.errors import Forbidden
from driver.simulation.apiserver import ApiServer
from driver.simulation.apiserver.values import JsonObject
from tests.fakes import blanks, kustomize
from tests.fakes.http_server import Reply, Request
from tests.fakes.installing import ADMIN, guarded_server, install, issue_token
from tests.fakes.kustomize import Object, items, mapping
from tests.fakes.published_machines import add_machine
from tests.fakes.recording import Need, Recorder, read_need
from tests.fakes.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = kustomize.render(ROOT / "deploy" / "base")
ACCOUNT: Final = "accel-dra-controller"
ROLES: Final = (("ClusterRole", ACCOUNT), ("Role", ACCOUNT))
STATUS: Final = Need("patch", "resource.k8s.io", "resourceclaims/status")
BINDING: Final = Need("patch", "resource.k8s.io", "resourceclaims/binding")
"""Asked by the API server of whoever writes an allocation (from 1.36 on); no path of its own."""


def list_rights(rule: Object) -> list[Need]:
    return [
        Need(str(verb), str(group), str(resource))
        for group in items(rule["apiGroups"])
        for resource in items(rule["resources"])
        for verb in items(rule["verbs"])
    ]


GRANTED: Final = {
    need
    for item in BASE
    if kustomize.identity(item) in ROLES
    for rule in map(mapping, items(item["rules"]))
    for need in list_rights(rule)
}
RIGHTS: Final = sorted(GRANTED - {BINDING})


class Losing(Recorder):
    """A recorder that loses the answer to the first allocation, so that the controller has to ask what became of it.

    The claim `blanks` is one that no JSON patch changes.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._left = 1

    def _forward(self, request: Request) -> Reply | None:
        reply = blanks.answer("blanks", request, super()._forward)
        if read_need(request) == STATUS and reply is not None and reply.status == 200 and self._left:
            self._left -= 1
            return None
        return reply


@dataclass
class Site:
    """A cluster with one machine that belongs to the controller, seen through a recorder."""

    server: ApiServer
    recorder: Recorder
    settings: ControllerSettings

    def create(self, kind: str, name: str, spec: JsonObject) -> None:
        version = "v1" if kind == "Pod" else "resource.k8s.io/v1"
        metadata: JsonObject = {"name": name, "namespace": "default"}
        self.server.store.create({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})

    def workload(self, name: str, count: int) -> None:
        exactly: JsonObject = {"deviceClassName": "topology.accel-dra.dev", "count": count}
        self.create("ResourceClaim", name, {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}})
        uses: JsonObject = {"name": "c", "resourceClaimName": name}
        self.create("Pod", name, {"containers": [{"name": "m", "image": "x"}], "resourceClaims": [uses]})

    def is_allocated(self, name: str) -> bool:
        claims = [mapping(each) for each in self.server.store.list("resourceclaims")]
        (claim,) = [each for each in claims if mapping(each["metadata"])["name"] == name]
        return "allocation" in mapping(claim.get("status") or {})


@contextmanager
def open_site(server: ApiServer) -> Iterator[Site]:
    """Make a kubeconfig with the token of the controller's pod, which leads to the recorder."""
    with tempfile.TemporaryDirectory() as folder, Losing(server.url) as recorder:
        config = Path(folder, "config")
        document = {
            "clusters": [{"name": "c", "cluster": {"server": recorder.url}}],
            "users": [{"name": "u", "user": {"token": issue_token(server, "node-a", ACCOUNT)}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        config.write_text(json.dumps(document))
        settings = ControllerSettings(
            kubeconfig=str(config),
            pod_name="controller",
            lease_duration=2,
            renew_deadline=1.2,
            lease_retry=0.1,
            explain_after=0.1,
            grace=0.2,
            fence_delay=0.1,
        )
        yield Site(server, recorder, settings)


def do_everything(site: Site, check: Callable[[], None]) -> None:
    """Lead, allocate, lose an answer, explain, take back: all that the controller ever asks of the API server."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            check()
            return condition()

        wait_until(look, what)

    with Controller(site.settings):
        site.workload("pair", 2)
        wait(lambda: site.is_allocated("pair"), "the allocation")
        site.workload("blanks", 1)
        wait(lambda: site.is_allocated("blanks"), "the allocation of a claim that only protobuf changes")
        site.workload("too-many", 9)
        wait(lambda: _has_event(site.server, "too-many"), "the explanation")
        # Nobody uses the claim any more: after the grace time the controller asks for the pods once more.
        client = Client(access.Access(server=site.server.url, token=ADMIN))
        client.delete("/api/v1/namespaces/default/pods/pair")
        client.close()
        wait(lambda: not site.is_allocated("pair"), "the devices to come back")
        wait(
            lambda: site.recorder.needs >= GRANTED - {BINDING, Need("patch", "events.k8s.io", "events")}, "every right"
        )
    repeat_an_event(site, check)


def repeat_an_event(site: Site, check: Callable[[], None]) -> None:
    """The controller tells a repetition half an hour later; the same writer does it at once here."""
    with ExitStack() as stack:
        client = Client(access.load(site.settings.kubeconfig, {}))
        stack.callback(client.close)
        writer = EventWriter(client, REPORTER, "controller", pause=0.01)
        stack.callback(writer.stop)
        writer.start()
        happening = Happening(
            Regarding("v1", "Node", "", "again"), "NoSuitableDevices", "Allocate", "again", warning=True
        )
        writer.post(happening)
        wait_until(lambda: _has_event(site.server, "again"), "the event")
        writer.post(happening)

        def is_repeated() -> bool:
            check()
            return Need("patch", "events.k8s.io", "events") in site.recorder.needs

        wait_until(is_repeated, "its repetition")


def _has_event(server: ApiServer, name: str) -> bool:
    events = [mapping(each) for each in server.store.list("events.events.k8s.io")]
    return any(mapping(each["regarding"])["name"] == name for each in events if each.get("regarding"))


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with guarded_server() as running:
        add_machine(running, "node-a", "hgx-h100", Authority.CONTROLLER)
        yield running


def test_the_controller_works_with_its_roles_and_uses_all_of_them(server: ApiServer) -> None:
    install(server, BASE)
    with open_site(server) as site:
        do_everything(site, lambda: None)
        assert site.recorder.refused == []
        assert site.recorder.needs == GRANTED - {BINDING}


class RefusedError(Exception):
    """The controller asked for something that it may not."""


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right.verb} {right.resource}")
def test_without_any_one_right_something_is_refused(server: ApiServer, right: Need) -> None:
    install(server, [without(right, item) for item in BASE])
    with open_site(server) as site:

        def check() -> None:
            if site.recorder.refused:
                raise RefusedError

        with pytest.raises(RefusedError):
            do_everything(site, check)
        assert {seen.need for seen in site.recorder.refused} == {right}


def test_without_the_right_to_bind_the_server_names_it_and_nothing_is_allocated(server: ApiServer) -> None:
    """A fault of the object to the API server (422) and no refusal of the request: the controller tells it on."""
    install(server, [without(BINDING, item) for item in BASE])
    with open_site(server) as site, Controller(site.settings):
        site.workload("pair", 2)
        wait_until(lambda: _has_event(server, "pair"), "the event")
        notes = [str(each.get("note")) for each in server.store.list("events.events.k8s.io")]
        assert any('requires resource="resourceclaims/binding"' in note for note in notes)
        assert not site.is_allocated("pair")


def without(right: Need, item: Object) -> Object:
    """Return the object; a role without one of its rights, its other rules one right each."""
    if kustomize.identity(item) not in ROLES:
        return item
    rules = [
        {**rule, "apiGroups": [need.group], "resources": [need.resource], "verbs": [need.verb]}
        for rule in map(mapping, items(item["rules"]))
        for need in list_rights(rule)
        if need != right
    ]
    return {**item, "rules": rules}


def test_a_lease_of_another_name_is_none_of_its_business(server: ApiServer) -> None:
    install(server, BASE)
    with open_site(server) as site:
        client = Client(access.load(site.settings.kubeconfig, {}))
        with pytest.raises(Forbidden):
            client.get("/apis/coordination.k8s.io/v1/namespaces/accel-dra/leases/other")
        with pytest.raises(Forbidden):
            client.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/accel-dra-controller")
        client.close()
