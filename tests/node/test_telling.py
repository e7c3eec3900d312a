"""What is worth an Event becomes one on the right object, as the API server has it; the rest is counted only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.events import EventWriter
from driver.model.occurrences import (
    AuthorityPublished,
    DaemonEnded,
    DevicesWithheld,
    HardwareScanned,
    HealthReported,
    ModeRefused,
    Occurrence,
    RecordQuarantined,
    Registered,
    SlicesPublished,
)
from driver.model.prepared import ClaimRef, PrepareAnswer, PreparedDevice
from driver.model.sharing import Sharing, Strategy
from driver.node.telling import Teller
from driver.simulation.apiserver.server import ApiServer
from driver.telemetry.metrics import Metrics
from tests.fakes.waiting import wait_until

NODE = "node-1"
SCANNED = HardwareScanned(0.1, 7, (("0000:1a:00.0", "GPU is lost"), ("0000:1b:00.0", "no memory")))
WITHHELD = DevicesWithheld(NODE, (("gpu-0", "the server does not store taints"),))


class Event(TypedDict):
    """What tests look at of an Event."""

    reason: str
    note: str
    type: str
    regarding: Mapping[str, str]


class Told:
    """A teller, and the Events that it has led to."""

    def __init__(self, server: ApiServer) -> None:
        self._client = Client(Access(server=server.url))
        self._writer = EventWriter(self._client, "gpu.accel-dra.dev", NODE)
        self._writer.start()
        self.metrics = Metrics()
        self.teller = Teller(NODE, self.metrics, self._writer)

    def close(self) -> None:
        self._writer.stop()
        self._client.close()

    def events(self) -> list[Event]:
        items: list[Event] = json.loads(self._client.get("/apis/events.k8s.io/v1/events"))["items"]
        return items

    def wait(self, count: int) -> list[Event]:
        wait_until(lambda: len(self.events()) >= count, f"{count} events")
        return sorted(self.events(), key=lambda each: each["note"])


@pytest.fixture
def told() -> Iterator[Told]:
    with ApiServer() as server:
        world = Told(server)
        yield world
        world.close()


@pytest.mark.parametrize(
    ("occurrence", "expected"),
    [
        (
            RecordQuarantined("/q/uid.json", "its checksum is wrong"),
            [("RecordQuarantined", "/q/uid.json was set aside: its checksum is wrong")],
        ),
        (
            SCANNED,
            [
                ("DeviceOmitted", "0000:1a:00.0 is not published: GPU is lost"),
                ("DeviceOmitted", "0000:1b:00.0 is not published: no memory"),
            ],
        ),
        (
            DaemonEnded("mps-gpu-0", "it ended (exit status 1)", 2.0),
            [("DaemonEnded", "mps-gpu-0: it ended (exit status 1)")],
        ),
        (
            ModeRefused("accel-dra.dev/partitions", "on", "off", "off"),
            [
                (
                    "LabelRefused",
                    "label accel-dra.dev/partitions: 'on' is not allowed; allowed: off; partitions stay off",
                )
            ],
        ),
        (
            DevicesWithheld(NODE, (*((f"gpu-{number}", "no counters") for number in range(5)), ("gpu-9", "no taints"))),
            [
                ("DeviceOmitted", "gpu-0, gpu-1, gpu-2 and 2 more are not published: no counters"),
                ("DeviceOmitted", "gpu-9 is not published: no taints"),
            ],
        ),
        (WITHHELD, [("DeviceOmitted", "gpu-0 is not published: the server does not store taints")]),
        (
            HealthReported("0000:1a:00.0", "xid-79", "unhealthy", "fell off the bus"),
            [("DeviceFault", "0000:1a:00.0: xid-79: fell off the bus")],
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_what_concerns_the_node_is_a_warning_on_it(
    told: Told, occurrence: Occurrence, expected: list[tuple[str, str]]
) -> None:
    told.teller.tell(occurrence)
    events = told.wait(len(expected))
    assert [(each["reason"], each["note"]) for each in events] == expected
    for each in events:
        assert each["type"] == "Warning"
        assert {"kind": "Node", "name": NODE, "uid": NODE}.items() <= each["regarding"].items()


def test_a_pool_that_fell_back_is_told_and_one_that_did_not_is_not(told: Told) -> None:
    told.teller.tell(AuthorityPublished(NODE, "controller", "controller"))
    told.teller.tell(AuthorityPublished(NODE, "controller", "scheduler"))
    [event] = told.wait(1)
    assert event["reason"] == "AuthorityFellBack"
    assert "DRADeviceTaints" in event["note"]


def test_good_news_is_no_event(told: Told) -> None:
    for occurrence in (
        HealthReported("0000:1a:00.0", "xid-79", "healthy", ""),
        HardwareScanned(0.1, 8, ()),
        SlicesPublished(NODE, 1, 1, 8, 1, 0, 0, 0.1),
        Registered(accepted=True),
    ):
        told.teller.tell(occurrence)
    told.teller.tell(RecordQuarantined("last", "why"))
    assert [each["reason"] for each in told.wait(1)] == ["RecordQuarantined"]
    assert b'health_events_total{severity="healthy"} 1.0' in told.metrics.text()


def test_a_claim_that_is_refused_learns_why_and_its_neighbours_hear_nothing(told: Told) -> None:
    good, bad = ClaimRef("default", "good", "uid-1"), ClaimRef("default", "bad", "uid-2")

    def prepare(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        return {ref.uid: PrepareAnswer(error="gpu-0 is held by another claim" if ref is bad else "") for ref in refs}

    answers = told.teller.tell_answers(prepare)([good, bad])
    assert [answers[ref.uid].error for ref in (good, bad)] == ["", "gpu-0 is held by another claim"]
    [event] = told.wait(1)
    assert (event["reason"], event["note"]) == ("PrepareFailed", "gpu-0 is held by another claim")
    regarding = {"kind": "ResourceClaim", "namespace": "default", "name": "bad", "uid": "uid-2"}
    assert regarding.items() <= event["regarding"].items()


def test_a_claim_that_cannot_be_released_says_why(told: Told) -> None:
    """Its pod is terminating until it is, and nothing else tells whoever waits for that."""
    good, bad = ClaimRef("default", "good", "uid-1"), ClaimRef("default", "bad", "uid-2")

    def unprepare(refs: Sequence[ClaimRef]) -> Mapping[str, str]:
        return {ref.uid: "step partition: it is in use by processes 4711" if ref is bad else "" for ref in refs}

    errors = told.teller.tell_releases(unprepare)([good, bad])
    assert list(errors.values()) == ["", "step partition: it is in use by processes 4711"]
    [event] = told.wait(1)
    assert (event["reason"], event["note"]) == ("UnprepareFailed", errors["uid-2"])
    assert event["type"] == "Warning"
    regarding = {"kind": "ResourceClaim", "namespace": "default", "name": "bad", "uid": "uid-2"}
    assert regarding.items() <= event["regarding"].items()


def test_a_claim_whose_share_nothing_limits_is_told_so_and_one_with_limits_is_not(told: Told) -> None:
    loose, tight = ClaimRef("default", "loose", "uid-1"), ClaimRef("default", "tight", "uid-2")

    def prepare(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        strategies = {loose.uid: Strategy.TIME_SLICING, tight.uid: Strategy.MPS}
        return {ref.uid: PrepareAnswer((hold(Sharing(strategies[ref.uid])),)) for ref in refs}

    told.teller.tell_answers(prepare)([loose, tight])
    [event] = told.wait(1)
    assert (event["reason"], event["type"]) == ("ShareNotEnforced", "Normal")
    assert event["note"].startswith("gpu-0: this share of the device is not enforced")
    regarding = {"kind": "ResourceClaim", "namespace": "default", "name": "loose", "uid": "uid-1"}
    assert regarding.items() <= event["regarding"].items()


def hold(sharing: Sharing) -> PreparedDevice:
    return PreparedDevice(requests=("gpu",), pool="p", device="gpu-0", share_id="s", shared=True, sharing=sharing)
