"""The HTTP edge: what goes over the wire, and what many clients at once see of each other."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from driver.simulation.apiserver import ApiServer, Options, Pace
from driver.simulation.apiserver.values import JsonObject
from tests.simulation.apiserver.asking import MERGE, a_config_map, a_slice

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def running() -> Iterator[ApiServer]:
    with ApiServer(pace=Pace(bookmarks=0.05, second=0.05)) as server:
        yield server


@pytest.fixture
def wire(running: ApiServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=10)
    yield connection
    connection.close()


def ask(
    wire: http.client.HTTPConnection, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    wire.request(method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()})
    response = wire.getresponse()
    return response, response.read()


def test_one_connection_serves_many_requests(wire: http.client.HTTPConnection) -> None:
    ask(wire, "GET", "/healthz")
    socket = wire.sock
    for _ in range(5):
        response, body = ask(wire, "GET", "/readyz")
        assert (response.status, body) == (200, b"ok")
    assert wire.sock is socket


def test_answers_carry_their_type_and_length(wire: http.client.HTTPConnection) -> None:
    response, body = ask(wire, "GET", MAPS)
    assert response.headers["Content-Type"] == "application/json"
    assert int(response.headers["Content-Length"]) == len(body)
    assert "Content-Encoding" not in response.headers


def test_a_body_over_three_mebibytes_is_refused(wire: http.client.HTTPConnection) -> None:
    response, body = ask(wire, "POST", MAPS, b" " * (3 * 1024 * 1024 + 1), content_type="application/json")
    assert (response.status, json.loads(body)["reason"]) == (413, "RequestEntityTooLarge")


def test_a_body_may_come_in_chunks(wire: http.client.HTTPConnection) -> None:
    body = json.dumps(a_config_map("a", k="v")).encode()
    parts = iter([body[:10], body[10:]])
    wire.request("POST", MAPS, parts, {"content-type": "application/json"}, encode_chunked=True)
    assert wire.getresponse().status == 201


def test_the_first_of_repeated_parameters_counts(running: ApiServer, wire: http.client.HTTPConnection) -> None:
    running.store.create(a_config_map("a"))
    query = "fieldSelector=metadata.name%3Da&fieldSelector=metadata.name%3Dnone"
    assert len(json.loads(ask(wire, "GET", f"{MAPS}?{query}")[1])["items"]) == 1


def test_repeated_accept_headers_are_one(wire: http.client.HTTPConnection) -> None:
    wire.putrequest("GET", MAPS)
    wire.putheader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
    wire.putheader("Accept", "application/json")
    wire.endheaders()
    assert json.loads(wire.getresponse().read())["kind"] == "Table"


def test_escaped_paths_name_what_they_stand_for(running: ApiServer, wire: http.client.HTTPConnection) -> None:
    role: JsonObject = {
        "kind": "ClusterRole",
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {"name": "a:b"},
    }
    running.store.create(role)
    response, _ = ask(wire, "GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/a%3Ab")
    assert response.status == 200


def test_warnings_become_headers(wire: http.client.HTTPConnection) -> None:
    body = json.dumps({"metadata": {"name": "a"}, "colour": "red"}).encode()
    response, _ = ask(wire, "POST", MAPS, body, content_type="application/json")
    assert response.headers.get_all("Warning") == ['299 - "unknown field \\"colour\\""']


def test_a_watch_gets_bookmarks_and_ends_in_time(running: ApiServer, wire: http.client.HTTPConnection) -> None:
    running.store.create(a_config_map("a"))
    query = "watch=1&allowWatchBookmarks=true&timeoutSeconds=5&fieldSelector=metadata.name%3Da"
    response, body = ask(wire, "GET", f"{MAPS}?{query}")
    events = [json.loads(line) for line in body.splitlines()]
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert events[0]["type"] == "ADDED"
    assert {event["type"] for event in events[1:]} == {"BOOKMARK"}


def test_a_watch_that_is_ended_leaves_the_connection_usable(wire: http.client.HTTPConnection) -> None:
    ask(wire, "GET", f"{MAPS}?watch=1&timeoutSeconds=1")
    assert ask(wire, "GET", "/healthz")[0].status == 200


def test_every_watcher_sees_every_change_in_order(running: ApiServer) -> None:
    count, watchers = 50, 8
    started = threading.Barrier(watchers + 1)

    def follow() -> list[str]:
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=10)
        connection.request("GET", "/apis/resource.k8s.io/v1/resourceslices?watch=1&resourceVersion=0")
        response = connection.getresponse()
        started.wait()
        try:
            return [json.loads(response.readline())["object"]["metadata"]["name"] for _ in range(count)]
        finally:
            connection.close()

    with ThreadPoolExecutor(watchers) as pool:
        seen = [pool.submit(follow) for _ in range(watchers)]
        started.wait()
        names = [f"s-{index}" for index in range(count)]
        for name in names:
            running.store.create(a_slice(name))
        assert all(one.result() == names for one in seen)


def test_of_concurrent_writers_one_wins_each_version(running: ApiServer) -> None:
    running.store.create(a_config_map("a", n="0"))

    def add_one(_: int) -> int:
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=10)
        conflicts = 0
        while True:
            value = json.loads(ask(connection, "GET", f"{MAPS}/a")[1])
            value["data"]["n"] = str(int(value["data"]["n"]) + 1)
            body = json.dumps(value).encode()
            status = ask(connection, "PUT", f"{MAPS}/a", body, content_type="application/json")[0].status
            if status == 200:
                connection.close()
                return conflicts
            assert status == 409
            conflicts += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_one, range(40)))
    assert running.store.get("configmaps", "a", "default")["data"] == {"n": "40"}


def test_stopping_ends_open_watches() -> None:
    options: Options = {"pace": Pace()}
    server = ApiServer(**options).start()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/api/v1/nodes?watch=1")
    response = connection.getresponse()
    server.stop()
    assert response.read() == b""
    connection.close()


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PROPFIND"])
def test_unknown_methods_are_not_allowed(wire: http.client.HTTPConnection, method: str) -> None:
    assert ask(wire, method, MAPS)[0].status == 405


def test_an_error_of_ours_is_an_answer(
    running: ApiServer, wire: http.client.HTTPConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(running.registry, "create", fail)
    body = json.dumps(a_config_map("a")).encode()
    response, answer = ask(wire, "POST", MAPS, body, content_type="application/json")
    assert (response.status, json.loads(answer)["reason"]) == (500, "InternalError")


def test_a_patch_without_a_known_type_is_refused(running: ApiServer, wire: http.client.HTTPConnection) -> None:
    running.store.create(a_config_map("a"))
    assert ask(wire, "PATCH", f"{MAPS}/a", b"{}", content_type="text/plain")[0].status == 415
    assert ask(wire, "PATCH", f"{MAPS}/a", b'{"data":{"k":"v"}}', content_type=MERGE)[0].status == 200
