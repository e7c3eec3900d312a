"""What nobody refused in time is said by the node in the same words: in its answer to the kubelet and as an Event."""

from __future__ import annotations

import json
from pathlib import Path

from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.events import EventWriter
from driver.node.telling import Teller
from driver.simulation.apiserver import ApiServer
from driver.telemetry.metrics import Metrics
from tests.fakes import bench
from tests.fakes.waiting import wait_until
from tests.webhook.site import Caller, claim, config

BAD = {
    "strategy": "Mps",
    "timeSlicingConfig": {},
    "mps": {"activeThreadPercentage": "50", "perDevice": [{"index": 0, "pinnedMemoryLimit": "5"}]},
}


def test_the_event_of_the_claim_holds_the_sentences_of_the_webhook(caller: Caller, tmp_path: Path) -> None:
    bad = config(sharing=BAD)
    status = caller.ask(claim(bad))["status"]
    causes = status["details"]["causes"]
    assert len(causes) == 4
    sentences = [
        f"{each['field'].removeprefix('spec.devices.config[0].opaque.')}: {each['message']}" for each in causes
    ]
    answer, note = prepare(json.dumps(bad["opaque"]["parameters"]).encode(), tmp_path)
    assert note == answer
    for sentence in sentences:
        assert f"configuration for {bench.DRIVER} of the claim: {sentence}" in note


def prepare(parameters: bytes, folder: Path) -> tuple[str, str]:
    """Return what the node answers the kubelet about a claim with these parameters, and the note of the Event."""
    site = bench.Bench(folder)
    ref = site.add(bench.claim("u1", bench.result(bench.device(1)), config=[bench.opaque(parameters)]))
    preparer = site.open()
    preparer.recover()
    with ApiServer() as server:
        client = Client(Access(server=server.url))
        writer = EventWriter(client, bench.DRIVER, bench.NODE)
        writer.start()
        teller = Teller(bench.NODE, Metrics(), writer)
        answer = teller.tell_answers(preparer.prepare)([ref])[ref.uid]

        def read() -> list[str]:
            items = json.loads(client.get("/apis/events.k8s.io/v1/events"))["items"]
            return [each["note"] for each in items if each["reason"] == "PrepareFailed"]

        wait_until(read, "the Event")
        (note,) = read()
        writer.stop()
        client.close()
    preparer.close()
    return answer.error, note
