"""The storage: versions, key order, history, compaction, listeners, threads."""

from __future__ import annotations

import threading

import pytest

from driver.simulation.apiserver.kinds import by_name
from driver.simulation.apiserver.storage import Expired, Storage
from driver.simulation.apiserver.values import JsonObject, metadata

PODS, NODES = by_name("pods"), by_name("nodes")


def pod(name: str, namespace: str = "n", **more: str) -> JsonObject:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace, "uid": name, **more}}


def put(storage: Storage, name: str, namespace: str = "n", **more: str) -> int:
    return storage.put(PODS, (namespace, name), pod(name, namespace, **more)).rv


def names(storage: Storage, namespace: str = "") -> list[str]:
    return [str(metadata(item.value)["name"]) for item in storage.items(PODS, namespace)]


def test_every_write_gets_the_next_version_of_all() -> None:
    storage = Storage()
    first = put(storage, "a")
    second = storage.put(NODES, ("", "n"), {"metadata": {"name": "n"}}).rv
    assert second == first + 1
    assert storage.remove(PODS, ("n", "a")).rv == second + 1 == storage.version


def test_the_version_is_shown_behind_the_uid() -> None:
    storage = Storage()
    rv = put(storage, "a", labels="x")
    item = storage.get(PODS, ("n", "a"))
    assert item is not None
    assert list(metadata(item.value).items()) == [
        ("name", "a"),
        ("namespace", "n"),
        ("uid", "a"),
        ("resourceVersion", str(rv)),
        ("labels", "x"),
    ]


def test_stored_values_do_not_change_under_later_writes() -> None:
    storage = Storage()
    value = pod("a")
    first = storage.put(PODS, ("n", "a"), value)
    storage.put(PODS, ("n", "a"), {**value, "spec": {"x": 1}})
    assert "spec" not in first.value
    assert "resourceVersion" not in metadata(value)


def test_items_come_in_key_order_and_by_namespace() -> None:
    storage = Storage()
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y"), ("ab", "w")):
        put(storage, name, namespace)
    assert names(storage) == ["y", "z", "w", "x"]
    assert names(storage, "a") == ["y", "z"]
    assert names(storage, "c") == []


def test_removing_what_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Storage().remove(PODS, ("n", "a"))


def test_changes_after_a_version_come_in_order() -> None:
    storage = Storage()
    start = storage.version
    put(storage, "a")
    middle = put(storage, "b")
    storage.remove(PODS, ("n", "a"))
    changes = storage.changes(PODS, start)
    assert [(change.key[1], change.deleted) for change in changes] == [("a", False), ("b", False), ("a", True)]
    assert [change.key[1] for change in storage.changes(PODS, middle)] == ["a"]
    assert storage.changes(NODES, start) == []


def test_old_states_can_be_read_again() -> None:
    storage = Storage()
    put(storage, "a")
    then = put(storage, "b")
    storage.remove(PODS, ("n", "a"))
    put(storage, "b", labels="new")
    put(storage, "c")
    old = storage.items_at(PODS, then)
    assert [metadata(item.value)["name"] for item in old] == ["a", "b"]
    assert "labels" not in metadata(old[1].value)


def test_what_is_compacted_is_expired_everywhere() -> None:
    storage = Storage()
    old = put(storage, "a")
    new = put(storage, "b")
    storage.compact(old)
    assert [change.key[1] for change in storage.changes(PODS, old)] == ["b"]
    with pytest.raises(Expired):
        storage.changes(PODS, old - 1)
    with pytest.raises(Expired):
        storage.changes(NODES, old - 1)
    storage.compact()
    assert storage.floor(PODS) == new
    with pytest.raises(Expired):
        storage.items_at(PODS, old)
    assert names(storage) == ["a", "b"]


def test_a_long_history_forgets_its_beginning() -> None:
    storage = Storage(history=10)
    start = storage.version
    for number in range(50):
        put(storage, "a", labels=str(number))
    with pytest.raises(Expired):
        storage.changes(PODS, start)
    kept = storage.changes(PODS, storage.floor(PODS))
    assert 10 <= len(kept) <= 20
    assert kept[-1].rv == storage.version


def test_listeners_hear_their_resource_until_they_stop() -> None:
    storage = Storage()
    heard: list[int] = []
    stop = storage.listen(PODS, lambda: heard.append(storage.version))
    rv = put(storage, "a")
    storage.put(NODES, ("", "n"), {"metadata": {}})
    stop()
    put(storage, "b")
    assert heard == [rv]


def test_json_is_encoded_once_a_state() -> None:
    calls = []

    def render(value: JsonObject) -> bytes:
        calls.append(value)
        return b"{}"

    storage = Storage(renderer=lambda _resource: render)
    put(storage, "a")
    item = storage.get(PODS, ("n", "a"))
    assert item is not None
    assert item.json is item.json
    assert len(calls) == 1


def test_threads_may_write_at_once() -> None:
    storage = Storage(history=100_000)
    start = storage.version

    def write(prefix: str) -> None:
        for number in range(200):
            put(storage, f"{prefix}{number}")

    threads = [threading.Thread(target=write, args=(prefix,)) for prefix in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.version == start + 800
    versions = [change.rv for change in storage.changes(PODS, start)]
    assert versions == sorted(set(versions))
    assert len(names(storage)) == 800
