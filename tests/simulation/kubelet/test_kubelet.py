"""The simulated kubelet prepares, starts, ends and remembers as the real one does, and words its refusals alike."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.model.errors import Corrupt
from driver.simulation.access import CLAIMS, EVENTS, NODES, PODS, Body, Json, Objects
from driver.simulation.apiserver import ApiServer
from driver.simulation.kubelet.kubelets import Folders, Kubelet, Options
from driver.simulation.kubelet.timings import Timings
from driver.simulation.objects import Pod
from driver.simulation.resources import Claim
from driver.simulation.runtime.containers import Runtime
from tests.fakes.plugins import FakePlugin, answer, short_folder
from tests.fakes.waiting import wait_until

DRIVER = "gpu.example.com"
NODE = "node-1"
FAST = Options(timings=Timings(speed=200.0, call_limit=2.0))


class World:
    """One node with a simulated kubelet, an API server, and what tests do to them."""

    def __init__(self, server: ApiServer, root: Path) -> None:
        self.server = server
        self.root = root
        self.cdi = root / "cdi"
        self.cdi.mkdir()
        self._client = Client(Access(server=server.url))
        self.objects = Objects(self._client)
        self.objects.create(NODES, {"metadata": {"name": NODE}})
        self.runtime = Runtime([self.cdi])
        self._kubelet: Kubelet | None = None

    @property
    def kubelet(self) -> Kubelet:
        assert self._kubelet is not None
        return self._kubelet

    def start(self, options: Options = FAST) -> None:
        self._kubelet = Kubelet(self.objects, NODE, Folders(self.root), self.runtime, options)
        self._kubelet.start()

    def stop(self) -> None:
        if self._kubelet is not None:
            self._kubelet.stop()
        self._kubelet = None

    def close(self) -> None:
        self.stop()
        self._client.close()

    def connected(self, driver: str = DRIVER) -> bool:
        plugin = self.kubelet.plugins.find(driver)
        return plugin is not None and plugin.connection.is_connected

    def claim(self, name: str, *, drivers: Sequence[str] = (DRIVER,), requests: Sequence[str] = ("gpu",)) -> Claim:
        """Create an allocated claim, and the CDI document that the fake plugin's answer names."""
        spec: Json = {
            "devices": {"requests": [{"name": each, "exactly": {"deviceClassName": "c"}} for each in requests]}
        }
        created = self.objects.create(CLAIMS, {"metadata": {"name": name}, "spec": spec}, "default")
        results: list[Json] = [
            {"request": request, "driver": driver, "pool": NODE, "device": f"gpu-{index}"}
            for index, request in enumerate(requests)
            for driver in drivers
        ]
        created = self.objects.patch(
            CLAIMS, created, {"status": {"allocation": {"devices": {"results": results}}}}, "status"
        )
        edits = {"env": [f"CLAIM={name}"], "deviceNodes": [{"path": f"/dev/{name}", "hostPath": "/dev/null"}]}
        document = {
            "cdiVersion": "0.5.0",
            "kind": "example.com/claim",
            "devices": [{"name": created.metadata.uid, "containerEdits": edits}],
        }
        (self.cdi / f"{name}.json").write_text(json.dumps(document))
        return created

    def pod(
        self,
        name: str,
        claims: Sequence[Claim] = (),
        containers: Mapping[str, Body] | None = None,
        *,
        reserve: bool = True,
    ) -> Pod:
        """Create a pod on the node that uses claims; without `containers`, its one container uses them all."""
        references: list[Json] = [{"name": each.metadata.name} for each in claims]
        made = containers if containers is not None else {"main": {"claims": references}}
        spec: Body = {
            "nodeName": NODE,
            "containers": [{"name": key, "image": "x", "resources": value} for key, value in made.items()],
            "resourceClaims": [
                {"name": each.metadata.name, "resourceClaimName": each.metadata.name} for each in claims
            ],
        }
        pod = self.objects.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")
        for each in claims if reserve else ():
            self.reserve(each, pod)
        return pod

    def reserve(self, claim: Claim, *pods: Pod) -> None:
        now = self.objects.get(CLAIMS, claim.metadata.name, "default")
        known: list[Json] = [
            {"resource": "pods", "name": each.name, "uid": each.uid} for each in now.status.reserved_for
        ]
        self.objects.patch(
            CLAIMS, now, {"status": {"reservedFor": [*known, *(pod.reference for pod in pods)]}}, "status"
        )

    def phase(self, name: str) -> str:
        found = self.objects.find(PODS, name, "default")
        return found.status.phase if found else "gone"

    def wait_running(self, name: str) -> None:
        wait_until(lambda: self.phase(name) == "Running", f"{name} to run")

    def wait_gone(self, name: str) -> None:
        wait_until(lambda: self.phase(name) == "gone", f"{name} to end")

    def delete(self, name: str, grace: int | None = 2) -> None:
        self.objects.delete(PODS, self.objects.get(PODS, name, "default"), grace=grace)

    def messages(self, reason: str) -> list[str]:
        body = json.loads(self.objects.client.get(EVENTS.path("default")))
        return [item["message"] for item in body["items"] if item["reason"] == reason]

    def wait_refused(self, text: str) -> None:
        def look() -> bool:
            return any(text in message for message in self.messages("FailedPrepareDynamicResources"))

        wait_until(look, f"a refusal with {text!r}; there are {self.messages('FailedPrepareDynamicResources')}")


@pytest.fixture
def world() -> Iterator[World]:
    with ApiServer() as server, short_folder() as root:
        world = World(server, root)
        yield world
        world.close()


@pytest.fixture
def plugin(world: World) -> Iterator[FakePlugin]:
    with FakePlugin(world.root, DRIVER) as plugin:
        world.start()
        wait_until(world.connected)
        yield plugin
        world.stop()


def test_a_pod_without_claims_runs_and_sees_nothing(world: World) -> None:
    world.start()
    pod = world.pod("plain")
    world.wait_running("plain")
    sandbox = world.runtime.find(pod.metadata.uid)
    assert sandbox is not None
    assert sandbox.containers["main"].contents.env == {}
    assert world.objects.get(NODES, NODE).is_ready


def test_a_claim_is_prepared_before_its_pod_runs_and_unprepared_after(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("one")
    pod = world.pod("p", [claim])
    world.wait_running("p")
    assert plugin.prepared == [[claim.metadata.uid]]
    sandbox = world.runtime.find(pod.metadata.uid)
    assert sandbox is not None
    assert sandbox.containers["main"].contents.env == {"CLAIM": "one"}
    assert plugin.unprepared == []
    world.delete("p")
    world.wait_gone("p")
    assert plugin.unprepared == [[claim.metadata.uid]]
    assert world.runtime.find(pod.metadata.uid) is None
    assert world.kubelet.claims.list_infos() == []


def test_only_the_container_that_references_a_claim_gets_it(world: World, plugin: FakePlugin) -> None:
    del plugin
    claim = world.claim("one")
    pod = world.pod("p", [claim], {"authorized": {"claims": [{"name": "one"}]}, "unauthorized": {}})
    world.wait_running("p")
    sandbox = world.runtime.find(pod.metadata.uid)
    assert sandbox is not None
    assert sandbox.containers["authorized"].contents.device_nodes
    assert not sandbox.containers["unauthorized"].contents.device_nodes


def test_a_container_gets_the_request_it_names(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("two", requests=("a", "b"))
    document = json.loads((world.cdi / "two.json").read_text())
    document["devices"] = [
        {"name": f"{claim.metadata.uid}-{request}", "containerEdits": {"env": [f"GOT_{request.upper()}=1"]}}
        for request in ("a", "b")
    ]
    (world.cdi / "two.json").write_text(json.dumps(document))

    def prepare(request: v1.NodePrepareResourcesRequest) -> dict[str, v1.NodePrepareResourceResponse]:
        (asked,) = request.claims
        devices = [
            v1.Device(
                request_names=[name],
                pool_name=NODE,
                device_name=name,
                cdi_device_ids=[f"example.com/claim={asked.uid}-{name}"],
            )
            for name in ("a", "b")
        ]
        return {asked.uid: v1.NodePrepareResourceResponse(devices=devices)}

    plugin.script.prepare = prepare
    containers: dict[str, Body] = {
        "both": {"claims": [{"name": "two"}]},
        "one": {"claims": [{"name": "two", "request": "b"}]},
    }
    pod = world.pod("p", [claim], containers)
    world.wait_running("p")
    sandbox = world.runtime.find(pod.metadata.uid)
    assert sandbox is not None
    assert sandbox.containers["both"].contents.env == {"GOT_A": "1", "GOT_B": "1"}
    assert sandbox.containers["one"].contents.env == {"GOT_B": "1"}


def test_a_claim_that_is_not_reserved_for_the_pod_is_refused(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("one")
    pod = world.pod("p", [claim], reserve=False)
    world.wait_refused(f"pod p({pod.metadata.uid}) is not allowed to use ResourceClaim one({claim.metadata.uid})")
    assert plugin.prepared == []
    world.reserve(claim, pod)
    world.wait_running("p")


def test_an_unknown_driver_is_refused_also_for_a_claim_that_is_prepared(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("one")
    first, second = world.pod("first", [claim]), None
    world.wait_running("first")
    plugin.withdraw()
    wait_until(lambda: world.kubelet.plugins.find(DRIVER) is None)
    second = world.pod("second", [claim])
    world.wait_refused(f"DRA driver {DRIVER} is not registered")
    plugin.register()
    world.wait_running("second")
    assert plugin.prepared == [[claim.metadata.uid]], "it was prepared once for both"
    assert first.metadata.uid != second.metadata.uid


def test_a_shared_claim_is_unprepared_with_its_last_pod(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("one")
    for name in ("first", "second"):
        world.pod(name, [claim])
        world.wait_running(name)
    world.delete("first")
    world.wait_gone("first")
    assert plugin.unprepared == []
    world.delete("second")
    world.wait_gone("second")
    assert plugin.unprepared == [[claim.metadata.uid]]


def test_all_claims_of_a_pod_go_to_a_driver_in_one_call(world: World, plugin: FakePlugin) -> None:
    claims = [world.claim("one"), world.claim("two")]
    world.pod("p", claims)
    world.wait_running("p")
    assert [sorted(call) for call in plugin.prepared] == [sorted(each.metadata.uid for each in claims)]


def test_a_claim_with_two_drivers_goes_to_both(world: World, plugin: FakePlugin) -> None:
    with FakePlugin(world.root, "nic.example.com") as other:
        wait_until(lambda: world.connected("nic.example.com"))
        claim = world.claim("one", drivers=(DRIVER, "nic.example.com"))
        world.pod("p", [claim])
        world.wait_running("p")
        assert plugin.prepared == other.prepared == [[claim.metadata.uid]]
        world.delete("p")
        world.wait_gone("p")
        assert plugin.unprepared == other.unprepared == [[claim.metadata.uid]]


Answers = Callable[[v1.NodePrepareResourcesRequest], Mapping[str, v1.NodePrepareResourceResponse]]


def _answer_error(request: v1.NodePrepareResourcesRequest) -> Mapping[str, v1.NodePrepareResourceResponse]:
    return {each.uid: v1.NodePrepareResourceResponse(error="the GPU is on fire") for each in request.claims}


def _answer_nothing(request: v1.NodePrepareResourcesRequest) -> Mapping[str, v1.NodePrepareResourceResponse]:
    del request
    return {}


def _answer_another(request: v1.NodePrepareResourcesRequest) -> Mapping[str, v1.NodePrepareResourceResponse]:
    return {f"{each.uid}-other": v1.NodePrepareResourceResponse() for each in request.claims}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (_answer_error, "NodePrepareResources failed for ResourceClaim one: the GPU is on fire"),
        (_answer_nothing, "NodePrepareResources skipped 1 ResourceClaims"),
        (_answer_another, "NodePrepareResources returned result for unknown claim UID"),
    ],
)
def test_wrong_answers_keep_the_pod_waiting_until_they_are_right(
    world: World, plugin: FakePlugin, answers: Answers, reason: str
) -> None:
    plugin.script.prepare = answers
    world.pod("p", [world.claim("one")])
    world.wait_refused(reason)
    assert world.phase("p") == "Pending"
    plugin.script.prepare = None
    world.wait_running("p")


def test_a_call_that_takes_too_long_is_given_up_and_repeated(world: World, plugin: FakePlugin) -> None:
    released = threading.Event()

    def dawdle(request: v1.NodePrepareResourcesRequest) -> Mapping[str, v1.NodePrepareResourceResponse]:
        released.wait(10)
        return answer(request)

    plugin.script.prepare = dawdle
    world.pod("slow", [world.claim("one")])
    world.pod("other", [])
    world.wait_running("other")
    world.wait_refused("DEADLINE_EXCEEDED")
    released.set()
    world.wait_running("slow")


def test_a_failed_unprepare_keeps_the_pod_until_it_succeeds(world: World, plugin: FakePlugin) -> None:
    plugin.script.unprepare = lambda request: {each.uid: "busy" for each in request.claims}
    world.pod("p", [world.claim("one")])
    world.wait_running("p")
    world.delete("p")
    wait_until(lambda: len(plugin.unprepared) > 1)
    assert world.phase("p") == "Running"
    plugin.script.unprepare = lambda _: {}
    calls = len(plugin.unprepared)
    wait_until(lambda: len(plugin.unprepared) > calls)
    assert world.phase("p") == "Running", "an answer without the claim is no success"
    plugin.script.unprepare = None
    world.wait_gone("p")


def test_a_pod_that_was_never_prepared_is_unprepared_all_the_same(world: World, plugin: FakePlugin) -> None:
    plugin.script.prepare = _answer_error
    claim = world.claim("one")
    world.pod("p", [claim])
    world.wait_refused("on fire")
    world.delete("p")
    world.wait_gone("p")
    assert plugin.unprepared == [[claim.metadata.uid]]


def test_a_pod_that_finishes_is_unprepared_before_its_last_status(world: World, plugin: FakePlugin) -> None:
    phases: list[str] = []

    def unprepare(request: v1.NodeUnprepareResourcesRequest) -> Mapping[str, str]:
        phases.append(world.phase("job"))
        return {each.uid: "" for each in request.claims}

    plugin.script.unprepare = unprepare
    pod = world.pod("job", [world.claim("one")])
    world.wait_running("job")
    world.runtime.finish(pod.metadata.uid, 0)
    world.kubelet.sync_soon()
    wait_until(lambda: world.phase("job") == "Succeeded")
    assert phases == ["Running"]
    world.delete("job", grace=None)
    world.wait_gone("job")


def test_a_device_that_no_document_defines_stops_the_container_and_says_so(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("one")
    document = (world.cdi / "one.json").read_text()
    (world.cdi / "one.json").unlink()
    world.pod("p", [claim])
    wait_until(lambda: world.messages("Failed"))
    assert f"unresolvable CDI devices example.com/claim={claim.metadata.uid}" in world.messages("Failed")[0]
    status = json.loads(world.objects.client.get(PODS.path("default", "p")))["status"]
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerError"
    (world.cdi / "one.json").write_text(document)
    world.wait_running("p")
    assert len(plugin.prepared) == 1, "the sandbox stands, so nothing is prepared again"


def test_a_restarted_kubelet_remembers_claims_and_does_not_prepare_running_pods(
    world: World, plugin: FakePlugin
) -> None:
    claim = world.claim("one")
    world.pod("p", [claim])
    world.wait_running("p")
    world.stop()
    world.start()
    wait_until(world.connected)
    (info,) = world.kubelet.claims.list_infos()
    assert (info.claim.uid, info.prepared) == (claim.metadata.uid, False)
    assert len(plugin.prepared) == 1
    world.delete("p")
    world.wait_gone("p")
    assert plugin.unprepared == [[claim.metadata.uid]]


def test_a_claim_that_is_prepared_again_after_a_restart_lists_its_devices_twice(
    world: World, plugin: FakePlugin
) -> None:
    claim = world.claim("one")
    world.pod("first", [claim])
    world.wait_running("first")
    world.stop()
    world.start()
    wait_until(world.connected)
    world.pod("second", [claim])
    world.wait_running("second")
    assert plugin.prepared == [[claim.metadata.uid]] * 2
    (info,) = world.kubelet.claims.list_infos()
    assert len(info.drivers[DRIVER]) == 2
    assert len(set(info.drivers[DRIVER])) == 1


def test_a_pod_that_vanished_while_the_kubelet_was_away_is_cleaned_up(world: World, plugin: FakePlugin) -> None:
    claim = world.claim("one")
    pod = world.pod("p", [claim])
    world.wait_running("p")
    world.stop()
    world.delete("p", grace=0)
    world.start()
    wait_until(lambda: plugin.unprepared)
    wait_until(lambda: world.runtime.find(pod.metadata.uid) is None)
    assert plugin.unprepared == [[claim.metadata.uid]]


def test_a_force_deleted_pod_blocks_a_new_claim_of_the_same_name_until_it_is_unprepared(
    world: World, plugin: FakePlugin
) -> None:
    plugin.script.unprepare = lambda request: {each.uid: "busy" for each in request.claims}
    old = world.claim("one")
    world.pod("old", [old])
    world.wait_running("old")
    world.delete("old", grace=0)
    wait_until(lambda: plugin.unprepared)
    world.objects.delete(CLAIMS, world.objects.get(CLAIMS, "one", "default"))
    wait_until(lambda: world.objects.find(CLAIMS, "one", "default") is None)
    new = world.claim("one")
    world.pod("new", [new])
    world.wait_refused(f"old ResourceClaim with same name one and different UID {old.metadata.uid} still exists")
    plugin.script.unprepare = None
    world.wait_running("new")


def test_a_corrupt_checkpoint_keeps_the_kubelet_from_starting(world: World, plugin: FakePlugin) -> None:
    del plugin
    world.pod("p", [world.claim("one")])
    world.wait_running("p")
    world.stop()
    state = world.root / "dra_manager_state"
    document = json.loads(state.read_text())
    state.write_text(json.dumps(document | {"Checksum": 1}))
    with pytest.raises(Corrupt, match="checksum"):
        world.start()
    state.write_text("{")
    with pytest.raises(Corrupt, match="corrupted"):
        world.start()
    state.unlink()


def test_an_old_kubelet_speaks_v1beta1_with_the_same_result(world: World) -> None:
    with FakePlugin(world.root, DRIVER) as plugin:
        world.start(Options(timings=FAST.timings, services=("v1beta1.DRAPlugin",)))
        wait_until(world.connected)
        world.pod("p", [world.claim("one")])
        world.wait_running("p")
        assert plugin.versions_called == ["v1beta1"]
        world.delete("p")
        world.wait_gone("p")
        world.stop()


def test_the_api_server_may_be_away_for_a_while(world: World, plugin: FakePlugin) -> None:
    del plugin
    world.server.stop()
    world.server.start()
    world.pod("p", [world.claim("one")])
    world.wait_running("p")
