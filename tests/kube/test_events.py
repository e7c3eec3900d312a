"""Events: one per happening, repetitions counted in its series, and never a failure for whoever posts."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.events import EventWriter, Happening, Regarding
from driver.model.occurrences import EventLost, Occurrence
from driver.simulation.apiserver.server import ApiServer
from tests.fakes.http_server import HttpServer, Reply, Request, status
from tests.fakes.waiting import wait_until

CLAIM = Regarding("resource.k8s.io/v1", "ResourceClaim", "ns", "claim", "uid-1")
NODE = Regarding("v1", "Node", "", "node-1")


def happen(note: str = "no such device", regarding: Regarding = CLAIM) -> Happening:
    return Happening(regarding, "PrepareFailed", "Prepare", note, warning=True)


class EventServer:
    """Stores events over HTTP as the API server does, as far as a recorder can tell."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, object]] = {}
        self.always: Reply | None = None
        self.server = HttpServer(self._handle)

    def __enter__(self) -> EventServer:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def count(self, number: int = 0) -> int:
        series = list(self.events.values())[number].get("series", {"count": 1})
        assert isinstance(series, dict)
        return int(series["count"])

    def _handle(self, request: Request) -> Reply:
        if self.always is not None:
            return self.always
        if request.method == "POST":
            meta = request.json["metadata"]
            assert isinstance(meta, dict)
            name = meta["name"]
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name), name
            assert len(name) <= 253
            assert name not in self.events
            self.events[name] = {**request.json, "metadata": {**meta, "name": name}}
            return Reply(201, self.events[name])
        name = request.path.rpartition("/")[2]
        if name not in self.events:
            return status(404, f'events "{name}" not found')
        assert set(request.json) == {"series"}, "everything else is immutable"
        series = request.json["series"]
        assert isinstance(series, dict)
        assert series["count"] >= 2, "the API server refuses less"
        self.events[name]["series"] = series
        return Reply(200, self.events[name])


@pytest.fixture
def server() -> Iterator[EventServer]:
    with EventServer() as made:
        yield made


class Recorder:
    def __init__(self, url: str, pause: float = 0.01) -> None:
        self.client = Client(Access(server=url), timeout=5)
        self.told: list[Occurrence] = []
        self.writer = EventWriter(self.client, "gpu.example.com", "node-1", pause=pause, emit=self.told.append)

    def __enter__(self) -> EventWriter:
        self.writer.start()
        return self.writer

    def __exit__(self, *_: object) -> None:
        self.writer.stop()
        self.client.close()


def test_an_event_has_what_the_api_asks_for(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        writer.post(happen())
        wait_until(lambda: server.events)
    request = server.server.requests[0]
    assert request.path == "/apis/events.k8s.io/v1/namespaces/ns/events"
    body = request.json
    name = body["metadata"].pop("name")  # type: ignore[attr-defined]
    assert name.startswith("claim.")
    time = body.pop("eventTime")
    assert isinstance(time, str)
    assert len(time) == len("2026-01-01T00:00:00.000000Z")
    assert body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": "ns"},
        "reportingController": "gpu.example.com",
        "reportingInstance": "node-1",
        "regarding": {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "namespace": "ns",
            "name": "claim",
            "uid": "uid-1",
        },
        "reason": "PrepareFailed",
        "action": "Prepare",
        "note": "no such device",
        "type": "Warning",
    }


def test_events_on_cluster_scoped_objects_go_to_the_default_namespace(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        writer.post(happen(regarding=NODE))
        wait_until(lambda: server.events)
    assert server.server.requests[0].path == "/apis/events.k8s.io/v1/namespaces/default/events"
    regarding = server.server.requests[0].json["regarding"]
    assert regarding == {"apiVersion": "v1", "kind": "Node", "name": "node-1"}


def test_repetitions_are_counted_in_one_event(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        for count in range(1, 6):
            writer.post(happen())
            wait_until(lambda expected=count: server.events and server.count() == expected)  # type: ignore[misc]
    assert len(server.events) == 1


def test_what_was_repeated_before_it_was_written_is_counted(server: EventServer) -> None:
    recorder = Recorder(server.server.url)
    for _ in range(7):
        recorder.writer.post(happen())
    with recorder:
        wait_until(lambda: server.events and server.count() == 7)
    assert len(server.events) == 1


def test_a_storm_of_repetitions_is_a_trickle_of_requests(server: EventServer) -> None:
    with Recorder(server.server.url, pause=0.2) as writer:
        for _ in range(500):
            writer.post(happen())
        wait_until(lambda: server.events and server.count() == 500)
    assert len(server.server.requests) <= 4


def test_different_happenings_are_different_events(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        writer.post(happen("one"))
        writer.post(happen("other"))
        wait_until(lambda: len(server.events) == 2)


def test_an_event_that_expired_is_written_anew(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        writer.post(happen())
        wait_until(lambda: server.events)
        server.events.clear()
        writer.post(happen())
        wait_until(lambda: server.events)
    assert [each.method for each in server.server.requests] == ["POST", "PATCH", "POST"]


def test_a_long_note_is_cut_to_what_the_api_takes(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        writer.post(happen("ü" * 2000))
        wait_until(lambda: server.events)
    note = server.server.requests[0].json["note"]
    assert isinstance(note, str)
    assert len(note.encode()) <= 1024
    assert note.endswith("…")


def test_a_server_that_is_away_for_a_moment_loses_nothing(server: EventServer) -> None:
    server.always = status(503, "away")
    with Recorder(server.server.url) as writer:
        writer.post(happen())
        wait_until(lambda: len(server.server.requests) >= 2)
        server.always = None
        wait_until(lambda: server.events)
    assert writer.lost == 0


@pytest.mark.parametrize(("code", "requests"), [(503, 5), (403, 1), (422, 1)])
def test_an_event_that_cannot_be_written_is_given_up_and_said_to_be_lost(
    server: EventServer, code: int, requests: int
) -> None:
    server.always = status(code, "no")
    recorder = Recorder(server.server.url)
    with recorder as writer:
        writer.post(happen())
        wait_until(lambda: recorder.told)
        [lost] = recorder.told
        assert isinstance(lost, EventLost)
        assert (writer.lost, lost.reason, lost.regarding) == (1, "PrepareFailed", "ResourceClaim/ns/claim")
        assert "no" in lost.error
        assert len(server.server.requests) == requests
        server.always = None
        writer.post(happen())
        wait_until(lambda: server.events)


def test_posting_never_waits_and_never_grows_without_bound() -> None:
    released = threading.Event()

    def hang(_: Request) -> None:
        released.wait(30)

    with HttpServer(hang) as server, Recorder(server.url) as writer:
        for number in range(10_000):
            writer.post(happen(str(number)))
        assert len(writer._untold) <= 8192
        assert writer.lost >= 10_000 - 8193
        released.set()


def test_what_is_posted_at_once_is_all_written_and_only_the_last_is_remembered(server: EventServer) -> None:
    recorder = Recorder(server.server.url)
    for number in range(600):
        recorder.writer.post(happen(str(number)))
    with recorder as writer:
        wait_until(lambda: len(server.events) == 600 and not writer._untold)
        assert (writer.lost, len(writer._told)) == (0, 256)


def test_nothing_is_said_of_news_for_a_namespace_that_is_going_away(server: EventServer) -> None:
    server.always = status(403, "unable to create new content in namespace ns because it is being terminated")
    recorder = Recorder(server.server.url)
    with recorder as writer:
        writer.post(happen())
        wait_until(lambda: writer.lost == 1)
    assert recorder.told == []


def test_the_embedded_api_server_takes_them() -> None:
    with ApiServer() as server, Recorder(server.url) as writer:
        client = Client(Access(server=server.url))
        writer.post(happen(regarding=NODE))
        writer.post(happen(regarding=NODE))

        def read() -> list[dict[str, object]]:
            items = json.loads(client.get("/apis/events.k8s.io/v1/namespaces/default/events"))["items"]
            assert isinstance(items, list)
            return items

        wait_until(lambda: any("series" in each for each in read()))
        assert len(read()) == 1
        client.close()


def test_one_event_that_cannot_even_be_encoded_does_not_end_the_others(server: EventServer) -> None:
    with Recorder(server.server.url) as writer:
        writer.post(happen(regarding=Regarding("v1", "Node", "", "broken \ud800")))
        wait_until(lambda: writer.lost == 1)
        writer.post(happen("half a pair: \ud800"))
        wait_until(lambda: server.events)
    assert next(iter(server.events.values()))["note"] == "half a pair: \\ud800"
