"""Faults on purpose, seen by a client over real HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3

from driver.simulation.apiserver import ApiServer, Fault
from driver.simulation.apiserver.requests import Request
from tests.simulation.apiserver.asking import a_config_map

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def running() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(retries=False, timeout=10)
    yield pool
    pool.clear()


def get(http: urllib3.PoolManager, server: ApiServer, path: str = MAPS) -> urllib3.BaseHTTPResponse:
    return http.request("GET", server.url + path)


def test_the_next_requests_are_refused_with_retry_after(running: ApiServer, http: urllib3.PoolManager) -> None:
    running.faults.refuse(429, times=2, retry_after=3)
    answers = [get(http, running) for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "3"
    body = json.loads(answers[0].data)
    assert (body["reason"], body["details"]) == ("TooManyRequests", {"retryAfterSeconds": 3})


def test_a_fault_chooses_its_requests(running: ApiServer, http: urllib3.PoolManager) -> None:
    def is_node_list(request: Request) -> bool:
        return request.path == "/api/v1/nodes"

    running.faults.add(Fault(is_node_list, status=500, times=None))
    assert get(http, running).status == 200
    assert get(http, running, "/api/v1/nodes").status == 500
    assert get(http, running, "/api/v1/nodes").status == 500
    running.faults.clear()
    assert get(http, running, "/api/v1/nodes").status == 200


def test_a_connection_is_cut_before_an_answer(running: ApiServer, http: urllib3.PoolManager) -> None:
    running.faults.cut(times=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        get(http, running)
    assert get(http, running).status == 200


def test_a_write_that_was_cut_did_not_happen(running: ApiServer, http: urllib3.PoolManager) -> None:
    running.faults.cut(times=1)
    body = json.dumps(a_config_map("a"))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("POST", running.url + MAPS, body=body)
    assert http.request("POST", running.url + MAPS, body=body).status == 201


def test_a_write_whose_answer_was_lost_did_happen(running: ApiServer, http: urllib3.PoolManager) -> None:
    running.faults.lose(times=1)
    body = json.dumps(a_config_map("a"))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("POST", running.url + MAPS, body=body)
    assert http.request("POST", running.url + MAPS, body=body).status == 409


def test_latency_delays_and_adds_up_with_a_refusal(running: ApiServer, http: urllib3.PoolManager) -> None:
    running.faults.slow_down(0.1, times=1)
    running.faults.refuse(503, times=1)
    start = time.monotonic()
    assert get(http, running).status == 503
    assert time.monotonic() - start >= 0.1


def test_watches_break_without_a_last_chunk(running: ApiServer, http: urllib3.PoolManager) -> None:
    stream = http.request("GET", f"{running.url}{MAPS}?watch=true", preload_content=False)
    lines = stream.stream()
    assert json.loads(next(lines))["type"] == "ADDED"
    running.faults.cut_watches()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        next(lines)


def test_one_fault_at_a_time_is_spent_by_several_clients() -> None:
    server = ApiServer()
    server.faults.refuse(500, times=50)
    hits: list[int] = []

    def ask() -> None:
        hits.extend(server.faults.hit(Request("GET", MAPS)).status for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(hits) == [0] * 50 + [500] * 50
