"""Caches follow the API server through everything that happens to streams; loops do their work whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from driver.simulation.access import NAMESPACES, PODS, Body, Objects, kind_of
from driver.simulation.apiserver import ApiServer
from driver.simulation.caching import Cache
from driver.simulation.loops import Loop
from driver.simulation.objects import Pod
from tests.fakes.waiting import wait_until

POD: Body = {"containers": [{"name": "c", "image": "x"}]}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer(history=20) as server:
        yield server


@pytest.fixture
def objects(server: ApiServer) -> Iterator[Objects]:
    client = Client(Access(server=server.url))
    yield Objects(client)
    client.close()


def _pod(objects: Objects, name: str, node: str = "") -> Pod:
    spec = {**POD, "nodeName": node} if node else POD
    return objects.create(PODS, {"metadata": {"name": name}, "spec": spec}, "default")


def _names(cache: Cache[Pod]) -> list[str]:
    return [pod.metadata.name for pod in cache.items()]


@pytest.fixture
def changes() -> list[int]:
    return []


@pytest.fixture
def cache(objects: Objects, changes: list[int]) -> Iterator[Cache[Pod]]:
    cache = Cache(objects, PODS, lambda: changes.append(1))
    cache.start()
    assert cache.wait_synced(20)
    yield cache
    cache.stop()


def test_a_cache_sees_what_was_there_what_comes_and_what_goes(
    objects: Objects, cache: Cache[Pod], changes: list[int]
) -> None:
    pod = _pod(objects, "a")
    wait_until(lambda: _names(cache) == ["a"])
    objects.patch(PODS, pod, {"metadata": {"labels": {"x": "y"}}})
    wait_until(lambda: (found := cache.get("a", "default")) is not None and found.metadata.labels == {"x": "y"})
    objects.delete(PODS, pod, grace=0)
    wait_until(lambda: _names(cache) == [])
    assert len(changes) >= 3
    assert cache.get("a", "default") is None


def test_a_field_selector_chooses(objects: Objects) -> None:
    _pod(objects, "here", "node-1")
    _pod(objects, "there", "node-2")
    cache = Cache(objects, PODS, lambda: None, fields="spec.nodeName=node-1")
    cache.start()
    assert cache.wait_synced(20)
    assert _names(cache) == ["here"]
    _pod(objects, "also-here", "node-1")
    wait_until(lambda: _names(cache) == ["also-here", "here"])
    cache.stop()


def test_a_restart_of_the_server_is_survived(server: ApiServer, objects: Objects, cache: Cache[Pod]) -> None:
    _pod(objects, "before")
    wait_until(lambda: _names(cache) == ["before"])
    server.stop()
    server.start()
    _pod(objects, "after")
    wait_until(lambda: _names(cache) == ["after", "before"])


def test_a_version_that_is_too_old_means_a_new_list(server: ApiServer, objects: Objects, cache: Cache[Pod]) -> None:
    pod = _pod(objects, "kept")
    gone = _pod(objects, "gone")
    wait_until(lambda: _names(cache) == ["gone", "kept"])
    server.stop()
    server.store.delete("pods", "gone", "default", grace=0)
    for number in range(60):
        server.store.patch("pods", "kept", {"metadata": {"labels": {"n": str(number)}}}, "default")
    server.start()
    wait_until(lambda: _names(cache) == ["kept"], "the deletion that no watch could tell")
    found = cache.get("kept", "default")
    assert found is not None
    assert found.metadata.labels == {"n": "59"}
    assert (found.metadata.uid, gone.metadata.name) == (pod.metadata.uid, "gone")


def test_ones_own_write_is_known_at_once_and_never_overtaken_by_older_news(objects: Objects) -> None:
    cache = Cache(objects, PODS, lambda: None)
    old = _pod(objects, "a")
    new = objects.patch(PODS, old, {"metadata": {"labels": {"x": "y"}}})
    cache.put(new)
    assert cache.get("a", "default") == new
    cache.put(old)
    assert cache.get("a", "default") == new


def test_a_cache_can_be_stopped_before_the_server_ever_answered() -> None:
    client = Client(Access(server="http://127.0.0.1:9"), timeout=0.5)
    cache = Cache(Objects(client), PODS, lambda: None)
    cache.start()
    assert not cache.wait_synced(0.05)
    cache.stop()
    assert not cache.is_synced
    client.close()


def test_reads_and_writes_by_uid_and_version(objects: Objects) -> None:
    pod = _pod(objects, "a")
    assert objects.get(PODS, "a", "default").metadata.uid == pod.metadata.uid
    assert objects.find(PODS, "b", "default") is None
    with pytest.raises(NotFound):
        objects.get(PODS, "b", "default")
    newer = objects.change(PODS, pod, {"metadata": {"labels": {"a": "1"}}})
    with pytest.raises(Conflict):
        objects.change(PODS, pod, {"metadata": {"labels": {"a": "2"}}})
    assert objects.patch(PODS, pod, {"metadata": {"labels": {"b": "1"}}}).metadata.labels == {"a": "1", "b": "1"}
    objects.delete(PODS, newer, grace=0)
    objects.delete(PODS, newer, grace=0)
    again = _pod(objects, "a")
    with pytest.raises(Conflict):
        objects.delete(PODS, pod, grace=0)
    assert again.metadata.uid != pod.metadata.uid


def test_paths_of_the_api() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("ns", "p", "status") == "/api/v1/namespaces/ns/pods/p/status"
    assert NAMESPACES.path("", "ns") == "/api/v1/namespaces/ns"
    assert kind_of({"kind": "Pod"}) is PODS
    with pytest.raises(InvalidInput, match="'Gadget' is not allowed; allowed: Pod"):
        kind_of({"kind": "Gadget"})


class _Work:
    """Work that counts, and fails as often as told."""

    def __init__(self, failures: int = 0, pause: float | None = None) -> None:
        self.runs = 0
        self._failures = failures
        self._pause = pause
        self.ran = threading.Event()

    def __call__(self) -> float | None:
        self.runs += 1
        self.ran.set()
        if self.runs <= self._failures:
            raise Unavailable("not now")
        return self._pause


def test_a_loop_runs_at_its_start_and_when_it_is_woken() -> None:
    work = _Work()
    loop = Loop("test", work)
    loop.start()
    wait_until(lambda: work.runs == 1)
    loop.wake()
    wait_until(lambda: work.runs == 2)
    loop.stop()
    loop.wake()
    assert work.runs == 2


def test_a_loop_runs_again_by_itself_when_its_work_says_so() -> None:
    work = _Work(pause=0.001)
    loop = Loop("test", work)
    loop.start()
    wait_until(lambda: work.runs > 3)
    loop.stop()


def test_a_loop_tries_again_after_an_error_and_remembers_it() -> None:
    work = _Work(failures=2)
    loop = Loop("test", work)
    loop.start()
    wait_until(lambda: loop.last_error == "not now" or work.runs > 1)
    wait_until(lambda: work.runs == 3 and loop.last_error == "")
    loop.stop()


def test_a_loop_that_never_started_can_be_stopped() -> None:
    Loop("test", _Work()).stop()
