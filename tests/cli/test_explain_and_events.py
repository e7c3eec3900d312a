"""A person who asks and a person who reads Events are told the same, and what is foretold comes true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from driver.cli import explain_text
from driver.cli.explain import Question, answer
from driver.core.answering import Answer, State
from driver.core.fencing import Authority
from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation.access import CLASSES, Json
from tests.controller.site import GPU, SPACE, TOPOLOGY, Site, open_site
from tests.fakes.installing import ADMIN


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path) as site:
        yield site


def ask(site: Site, question: Question) -> list[Answer]:
    client = Client(Access(server=site.server.url, token=ADMIN))
    try:
        return answer(client, question, GPU)[0]
    finally:
        client.close()


@pytest.mark.parametrize(
    ("count", "policy"),
    [
        (9, {}),
        (2, {"interconnect": "Sometimes"}),
        (2, {"group": {"size": 2}}),
    ],
    ids=["too many devices", "a wrong policy", "half a group"],
)
def test_explain_says_what_the_events_say(site: Site, count: int, policy: dict[str, Json]) -> None:
    site.machine("node-a")
    site.workload("c", count, policy=policy, group="g" if "group" in policy else "")
    (told,) = ask(site, Question("claim", "c", SPACE))
    assert told.state is State.WAITING
    site.controller()
    assert site.wait_event("ResourceClaim", "c", told.reason) == told.message
    assert site.wait_event("Pod", "c", told.reason) == f"claim c: {told.message}"


def test_a_pod_that_waits_for_an_extended_resource_is_told_why(site: Site) -> None:
    site.machine("open", authority=Authority.SCHEDULER)
    site.objects.create(CLASSES, {"metadata": {"name": "ext"}, "spec": {"extendedResourceName": "example.com/gpu"}})
    limits: Json = {"example.com/gpu": 9}
    site.pod("p", containers=[{"name": "main", "image": "x", "resources": {"limits": limits}}], resourceClaims=[])
    (told,) = ask(site, Question("pod", "p", SPACE))
    assert (told.state, told.by) == (State.WAITING, Authority.SCHEDULER)
    assert "8" in told.message
    assert explain_text.show([told], ()).startswith("✗ extended resources of pod p: waits (NoSuitableDevices)")
    site.controller(explain_every=0.5)
    assert site.wait_event("Pod", "p", "NoSuitableDevices") == f"extended resources: {told.message}"
    assert site.events("ResourceClaim", "<extended-resources>") == []


def test_a_claim_of_kube_scheduler_that_no_pod_uses_says_so(site: Site) -> None:
    site.claim("idle", class_name=GPU)
    site.controller()
    assert "waiting for a pod that uses the claim" in site.wait_event("ResourceClaim", "idle", "WaitingForConsumer")


def test_what_explain_foretells_of_a_file_is_what_the_controller_does(site: Site) -> None:
    for name in ("node-a", "node-b"):
        site.machine(name)
    site.workload("first", 6)
    request = {"name": "gpu", "exactly": {"deviceClassName": TOPOLOGY, "count": 4}}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [request]}},
    }
    (told,) = ask(site, Question(namespace=SPACE, documents=(yaml.safe_load(yaml.safe_dump(claim)),)))
    assert told.state is State.WOULD_BE_ALLOCATED
    site.controller()
    site.wait_allocated("first")
    site.workload("c", 4)
    found = site.wait_allocated("c")
    assert told.allocation is not None
    assert found == [(each.pool, each.device) for each in told.allocation.devices.results]


def test_a_claim_for_kube_scheduler_is_told_from_which_devices_it_is_kept(site: Site) -> None:
    site.machine("node-a", authority=Authority.CONTROLLER)
    site.workload("c", 1, class_name=GPU)
    (told,) = ask(site, Question("claim", "c", SPACE))
    assert told.by is Authority.SCHEDULER
    assert "accel-dra.dev/controller-only" in told.message
