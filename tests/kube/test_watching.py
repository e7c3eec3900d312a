"""The watch against a server that misbehaves: each way in which other informers fail is a test here.

Others hammer a server that ends streams at once or answers 500, lose the deletions of a gap, ask for no bookmarks,
hold on to connections, or give up a whole list for one bad item (reference: the measurements that led to our own).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.watching import Change, Pace, Source, Watch
from driver.model.errors import Forbidden, Unavailable
from driver.model.slices import ResourceSlice
from tests.fakes.collection import CUT, END, Collection
from tests.fakes.http_server import Reply, Request, status
from tests.fakes.waiting import wait_until

PATH = "/apis/resource.k8s.io/v1/resourceslices"
QUICK = Pace(first_pause=0.01, longest_pause=0.1, steady=0.0, idle=20.0, watch=30, page=2)


class Observer:
    """A watch and everything it told."""

    def __init__(self, collection: Collection, pace: Pace = QUICK) -> None:
        self.changes: list[str] = []
        self.complaints: list[Exception] = []
        self.fail_on = ""
        self.client = Client(Access(server=collection.server.url), timeout=5)
        source = Source(PATH, ResourceSlice, field_selector="spec.driver=d,spec.nodeName=n")
        self.watch = Watch(self.client, source, self._notify, self.complaints.append, pace)

    def __enter__(self) -> Observer:
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self.client.close()

    def names(self) -> list[str]:
        return sorted(self.watch.snapshot())

    def _notify(self, change: Change[ResourceSlice]) -> None:
        name = change.object.metadata.name
        if name == self.fail_on:
            self.fail_on = ""
            raise RuntimeError(f"a bug that {name} brings out")
        self.changes.append(f"{change.what.value} {name}")


@pytest.fixture
def collection() -> Iterator[Collection]:
    with Collection() as made:
        yield made


def test_it_lists_in_pages_and_then_follows(collection: Collection) -> None:
    for name in "abcde":
        collection.put(name)
    with Observer(collection) as observer:
        assert observer.watch.wait_until_synced(20)
        assert observer.names() == list("abcde")
        wait_until(lambda: collection.watches == 1)
        collection.put("f")
        collection.put("a", devices=[{"name": "gpu-0"}])
        collection.remove("b")
        wait_until(lambda: observer.changes[-1:] == ["DELETED b"])
        assert observer.names() == list("acdef")
        assert [device.name for device in observer.watch.snapshot()["a"].spec.devices] == ["gpu-0"]
    assert observer.changes == [*(f"ADDED {name}" for name in "abcde"), "ADDED f", "MODIFIED a", "DELETED b"]
    assert [each.query.get("continue") for each in collection.lists] == [None, "2", "4"]
    assert {each.query["fieldSelector"] for each in collection.server.requests} == {"spec.driver=d,spec.nodeName=n"}


def test_half_a_character_in_one_object_hides_neither_it_nor_the_others(collection: Collection) -> None:
    """A name of a device stands for opaque parameters of a claim, which anybody can write."""
    for name in "ab":
        collection.put(name, devices=[{"name": f"{name}\ud83d"}])
    with Observer(collection) as observer:
        assert observer.watch.wait_until_synced(20)
        wait_until(lambda: collection.watches == 1)
        collection.put("c", devices=[{"name": "\ude00"}])
        wait_until(lambda: observer.names() == list("abc"))
        assert observer.complaints == []
        assert observer.watch.snapshot()["c"].spec.devices[0].name == "\ufffd"


def test_it_asks_for_bookmarks_and_resumes_from_them(collection: Collection) -> None:
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.bookmark()
        wait_until(lambda: collection.delivered == collection.version)
        collection.forget()  # everything before the bookmark is gone: without it, the next watch would be answered 410
        collection.close_streams(END)
        wait_until(lambda: collection.opened == 2 and collection.watches == 1)
        collection.put("a")
        wait_until(lambda: observer.names() == ["a"])
    watches = [each.query for each in collection.server.requests if "watch" in each.query]
    assert {query["allowWatchBookmarks"] for query in watches} == {"true"}
    assert 30 <= int(watches[0]["timeoutSeconds"]) <= 60
    assert len(collection.lists) == 1


@pytest.mark.parametrize("how", [END, CUT])
def test_a_stream_that_ends_is_resumed_where_it_was(collection: Collection, how: str) -> None:
    collection.put("a")
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.put("b")
        wait_until(lambda: observer.names() == ["a", "b"])
        collection.close_streams(how)
        collection.put("c")
        wait_until(lambda: observer.names() == ["a", "b", "c"])
    assert observer.changes == ["ADDED a", "ADDED b", "ADDED c"]
    assert len(collection.lists) == 1


def test_deletions_and_replacements_during_a_gap_are_not_lost(collection: Collection) -> None:
    for name in "abc":
        collection.put(name)
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.faults.extend([None, None])  # away while all of this happens
        collection.close_streams(CUT)
        collection.remove("a")
        collection.put("b", uid="another-b")
        collection.put("c", devices=[{"name": "gpu-0"}])
        collection.put("d")
        collection.forget()
        wait_until(lambda: observer.names() == ["b", "c", "d"])
    after = observer.changes[3:]
    assert sorted(after) == ["ADDED b", "ADDED d", "DELETED a", "DELETED b", "MODIFIED c"]
    assert after.index("DELETED b") < after.index("ADDED b")
    assert len(collection.lists) >= 2


def test_a_gap_in_which_nothing_happened_tells_nothing(collection: Collection) -> None:
    collection.put("a")
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.bookmark()
        collection.forget()
        collection.oldest += 1
        collection.close_streams(END)
        wait_until(lambda: len(collection.lists) == 2)
        collection.oldest = 0
        wait_until(lambda: collection.watches == 1)
    assert observer.changes == ["ADDED a"]


def test_a_server_that_ends_every_stream_at_once_is_not_hammered(collection: Collection) -> None:
    collection.end_at_once = True
    slow = Pace(first_pause=0.05, longest_pause=10.0, steady=60.0, random=lambda: 1.0)
    with Observer(collection, slow):
        wait_until(lambda: collection.opened >= 5)
    watches = [each.at for each in collection.server.requests if "watch" in each.query]
    assert watches[4] - watches[3] >= 0.4
    assert len(collection.lists) == 1


@pytest.mark.parametrize("code", [500, 403, 410])
def test_a_server_that_refuses_is_asked_ever_more_rarely(collection: Collection, code: int) -> None:
    collection.always = status(code, "no")
    slow = Pace(first_pause=0.05, longest_pause=10.0, steady=60.0, random=lambda: 1.0)
    with Observer(collection, slow) as observer:
        wait_until(lambda: len(collection.server.requests) >= 5)
        assert collection.server.requests[4].at - collection.server.requests[3].at >= 0.4
        assert not observer.watch.has_synced
        collection.always = None
        assert observer.watch.wait_until_synced(20)
    assert "no" in str(observer.complaints[0])


def test_retry_after_is_kept(collection: Collection) -> None:
    collection.faults.append(Reply(429, b"busy", {"Retry-After": "1"}))
    with Observer(collection) as observer:
        assert observer.watch.wait_until_synced(20)
        assert collection.lists[1].at - collection.lists[0].at >= 1.0
    assert isinstance(observer.complaints[0], Unavailable)


def test_a_missing_permission_is_told_in_the_servers_words(collection: Collection) -> None:
    collection.always = status(403, 'User "x" cannot watch resource "resourceslices"')
    with Observer(collection) as observer:
        wait_until(lambda: observer.complaints)
    assert isinstance(observer.complaints[0], Forbidden)
    assert 'cannot watch resource "resourceslices"' in str(observer.complaints[0])


def test_410_in_the_middle_of_a_paged_list_starts_over(collection: Collection) -> None:
    for name in "abcde":
        collection.put(name)
    first = iter([True])
    original = collection.server.handle

    def interfere(request: Request) -> Reply | None:
        if request.query.get("continue") == "2" and next(first, False):
            return status(410, "The provided continue parameter is too old")
        return original(request)

    collection.server.handle = interfere
    with Observer(collection) as observer:
        assert observer.watch.wait_until_synced(20)
        assert observer.names() == list("abcde")


def test_one_object_that_cannot_be_read_costs_nothing_else(collection: Collection) -> None:
    collection.put("a")
    collection.put("bad", pool={"name": "n", "generation": "one"})
    collection.put("c")
    with Observer(collection) as observer:
        assert observer.watch.wait_until_synced(20)
        assert observer.names() == ["a", "c"]
        wait_until(lambda: collection.watches == 1)
        collection.put("c", pool="broken")
        wait_until(lambda: observer.names() == ["a"])
        collection.put("c")
        collection.put("bad")
        wait_until(lambda: observer.names() == ["a", "bad", "c"])
    assert observer.changes[2:] == ["DELETED c", "ADDED c", "ADDED bad"]
    assert all("cannot be read" in str(each) for each in observer.complaints)


@pytest.mark.parametrize("line", [b"not json", b'{"type": "ADDED"}', b'{"type": "ADDED", "object": 5}'])
def test_a_line_that_cannot_be_read_leads_to_a_new_list(collection: Collection, line: bytes) -> None:
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.send(line)
        wait_until(lambda: len(collection.lists) == 2)
        collection.put("a")
        wait_until(lambda: observer.names() == ["a"])


def test_kinds_of_events_that_are_new_to_us_are_skipped(collection: Collection) -> None:
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.send(b'{"type": "RENAMED", "object": {"metadata": {"name": "x", "resourceVersion": "101"}}}')
        collection.put("a")
        wait_until(lambda: observer.names() == ["a"])
    assert observer.changes == ["ADDED a"]
    assert observer.complaints == []


def test_a_silent_stream_is_opened_again(collection: Collection) -> None:
    with Observer(collection, Pace(first_pause=0.01, steady=0.0, idle=0.3)) as observer:
        wait_until(lambda: collection.opened >= 3)
        collection.put("a")
        wait_until(lambda: observer.names() == ["a"])


def test_a_place_the_server_never_reached_is_given_up(collection: Collection) -> None:
    # After a restore from backup the server is silent about a version that is still to come for it.
    collection.put("a")
    with Observer(collection, Pace(first_pause=0.01, steady=0.0, idle=0.3)) as observer:
        wait_until(lambda: collection.watches == 1)
        collection.remove("a")
        wait_until(lambda: observer.names() == [])
        collection._version = 50
        collection._events.clear()
        collection.put("b")
        wait_until(lambda: observer.names() == ["b"])


def test_an_error_in_a_callback_is_reported_and_does_not_end_the_watch(collection: Collection) -> None:
    with Observer(collection) as observer:
        wait_until(lambda: collection.watches == 1)
        observer.fail_on = "a"
        collection.put("a")
        wait_until(lambda: observer.complaints)
        collection.put("b")
        wait_until(lambda: observer.names() == ["a", "b"])
    assert "a bug that a brings out" in str(observer.complaints[0])


def test_the_pause_doubles_up_to_its_limit_and_is_jittered() -> None:
    with Collection() as collection:
        observer = Observer(collection, Pace(first_pause=1.0, longest_pause=5.0, random=lambda: 0.0))
        pauses = []
        for failures in range(1, 6):
            observer.watch._failures = failures
            pauses.append(observer.watch._pause())
        observer.client.close()
    assert pauses == [0.5, 1.0, 2.0, 2.5, 2.5]


def test_it_stops_at_once_while_it_waits_for_data(collection: Collection) -> None:
    observer = Observer(collection)
    observer.watch.start()
    wait_until(lambda: collection.watches == 1)
    began = time.monotonic()
    observer.watch.stop()
    assert time.monotonic() - began < 4
    assert not any(thread.name.startswith("watch ") for thread in threading.enumerate())
    observer.client.close()


def test_it_stops_at_once_while_it_pauses(collection: Collection) -> None:
    collection.always = status(500, "no")
    observer = Observer(collection, Pace(first_pause=60.0))
    observer.watch.start()
    wait_until(lambda: observer.complaints)
    observer.watch.stop()
    assert not any(thread.name.startswith("watch ") for thread in threading.enumerate())
    observer.client.close()


def test_connections_are_not_piled_up(collection: Collection) -> None:
    with Observer(collection):
        for round_ in range(10):
            wait_until(lambda expected=round_ + 1: collection.opened == expected)  # type: ignore[misc]
            collection.close_streams(END)
        wait_until(lambda: collection.opened == 11)
    assert collection.watches <= 1
