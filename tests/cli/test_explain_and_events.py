"""A person who asks and a person who reads Events are told the same, and what is foretold comes true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from driver.cli.explain import Question, answer
from driver.core.answering import Answer, State
from driver.core.fencing import Authority
from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation.access import Json
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
