"""Lists and watches through the API: pages that stay consistent, events, transitions, expiry."""

from __future__ import annotations

import pytest

from tests.simulation.apiserver.asking import MERGE, Asking, a_config_map, a_slice, events

MAPS = "/api/v1/namespaces/default/configmaps"


def fill(api: Asking, *names: str) -> None:
    for name in names:
        api.server.store.create(a_config_map(name))


def names(document: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [item["metadata"]["name"] for item in document["items"]]


def test_pages_show_the_moment_of_the_first_one(api: Asking) -> None:
    fill(api, "a", "b", "c", "d")
    first = api.ok("GET", f"{MAPS}?limit=2")
    assert names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    api.ok("DELETE", f"{MAPS}/c")
    fill(api, "bb")
    second = api.ok("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert names(second) == ["c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = api.ok("GET", f"{MAPS}?limit=2&continue={second['metadata']['continue']}")
    assert names(third) == ["kube-root-ca.crt"]
    assert "continue" not in third["metadata"]


def test_pages_over_all_namespaces_continue_in_the_next_one(api: Asking) -> None:
    everything = names(api.ok("GET", "/api/v1/serviceaccounts"))
    seen: list[str] = []
    token = ""
    while True:
        page = api.ok(
            "GET", f"/api/v1/serviceaccounts?limit=1&continue={token}" if token else "/api/v1/serviceaccounts?limit=1"
        )
        seen += names(page)
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert seen == everything == ["default"] * 4


def test_a_page_of_a_selection_does_not_count_the_rest(api: Asking) -> None:
    fill(api, "a", "b")
    page = api.ok("GET", f"{MAPS}?limit=1&fieldSelector=metadata.name!=b")
    assert "remainingItemCount" not in page["metadata"]


def test_an_expired_token_offers_another_one(api: Asking) -> None:
    fill(api, "a", "b", "c")
    token = api.ok("GET", f"{MAPS}?limit=1")["metadata"]["continue"]
    fill(api, "bb")
    api.server.storage.compact()
    response = api.answer("GET", f"{MAPS}?limit=1&continue={token}")
    assert response.status == 410
    code, message = api.refused("GET", f"{MAPS}?limit=1&continue={token}")
    assert (code, "too old" in message) == (410, True)


@pytest.mark.parametrize("token", ["garbage", "e30", "W10", "eyJ2IjoxfQ", "====", "%00"])
def test_broken_tokens_are_a_400(api: Asking, token: str) -> None:
    code, message = api.refused("GET", f"{MAPS}?limit=1&continue={token}")
    assert code == 400
    assert message.startswith("invalid continue token")


def test_a_watch_shows_what_is_there_and_then_what_happens(api: Asking) -> None:
    fill(api, "a")
    watch = api.watch(f"{MAPS}?watch=true&fieldSelector=metadata.name!=kube-root-ca.crt")
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events(watch)] == [("ADDED", "a")]
    fill(api, "b")
    api.ok("PATCH", f"{MAPS}/a", {"data": {"x": "1"}}, content_type=MERGE)
    api.ok("PATCH", f"{MAPS}/a", {"data": {"x": "1"}}, content_type=MERGE)
    api.ok("DELETE", f"{MAPS}/b")
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events(watch)] == [
        ("ADDED", "b"),
        ("MODIFIED", "a"),
        ("DELETED", "b"),
    ]
    assert events(watch) == []


def test_a_watch_from_a_version_shows_later_changes_only(api: Asking) -> None:
    fill(api, "a")
    version = api.ok("GET", MAPS)["metadata"]["resourceVersion"]
    fill(api, "b")
    watch = api.watch(f"{MAPS}?watch=true&resourceVersion={version}")
    assert [event["object"]["metadata"]["name"] for event in events(watch)] == ["b"]


def test_objects_that_leave_a_selection_are_deleted_for_its_watchers(api: Asking) -> None:
    slices = "/apis/resource.k8s.io/v1/resourceslices"
    api.ok("POST", slices, {**a_slice(), "metadata": {"name": "s", "labels": {"in": "yes"}}})
    watch = api.watch(f"{slices}?watch=true&labelSelector=in%3Dyes".replace("%3D", "="))
    events(watch)
    left = api.ok("PATCH", f"{slices}/s", {"metadata": {"labels": {"in": "no"}}}, content_type=MERGE)
    api.ok("PATCH", f"{slices}/s", {"metadata": {"labels": {"other": "x"}}}, content_type=MERGE)
    back = api.ok("PATCH", f"{slices}/s", {"metadata": {"labels": {"in": "yes"}}}, content_type=MERGE)
    seen = events(watch)
    assert [event["type"] for event in seen] == ["DELETED", "ADDED"]
    assert seen[0]["object"]["metadata"]["labels"] == {"in": "yes"}
    assert seen[0]["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
    assert seen[1]["object"] == back


def test_bookmarks_carry_the_newest_version_and_only_who_wants_them_gets_any(api: Asking) -> None:
    plain = api.watch(f"{MAPS}?watch=true&resourceVersion=1")
    marked = api.watch(f"{MAPS}?watch=true&allowWatchBookmarks=true")
    fill(api, "a")
    assert plain.bookmark() == []
    (line,) = marked.bookmark()
    assert f'"resourceVersion":"{api.server.storage.version}"'.encode() in line
    assert b'"kind":"ConfigMap"' in line


def test_streaming_lists_end_with_a_marked_bookmark(api: Asking) -> None:
    fill(api, "a")
    watch = api.watch(
        f"{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    *added, end = events(watch)
    assert {event["type"] for event in added} == {"ADDED"}
    assert end["type"] == "BOOKMARK"
    assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watcher_that_falls_behind_is_told_so_and_ended(api: Asking) -> None:
    watch = api.watch(f"{MAPS}?watch=true")
    events(watch)
    fill(api, "a")
    api.server.storage.compact()
    fill(api, "b")
    (event,) = events(watch)
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410
    assert watch.ended()


def test_exact_lists_show_the_past(api: Asking) -> None:
    fill(api, "a")
    version = api.ok("GET", MAPS)["metadata"]["resourceVersion"]
    fill(api, "b")
    then = api.ok("GET", f"{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")
    assert names(then) == ["a", "kube-root-ca.crt"]


def test_delete_collection_removes_what_is_selected_and_answers_it(api: Asking) -> None:
    slices = "/apis/resource.k8s.io/v1/resourceslices"
    for name, node in (("s1", "a"), ("s2", "b"), ("s3", "a")):
        api.ok("POST", slices, a_slice(name, node))
    gone = api.ok("DELETE", f"{slices}?fieldSelector=spec.nodeName=a")
    assert names(gone) == ["s1", "s3"]
    assert names(api.ok("GET", slices)) == ["s2"]


@pytest.mark.parametrize(
    ("query", "code", "expected"),
    [
        ("resourceVersion=x", 400, "invalid resource version"),
        ("resourceVersion=999999", 504, "Too large resource version: 999999"),
        ("limit=many", 400, 'parsing "many"'),
        ("resourceVersionMatch=Exact", 422, "forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Exact&resourceVersion=0", 422, 'forbidden for resourceVersion "0"'),
        ("resourceVersionMatch=Roughly&resourceVersion=1", 422, 'Unsupported value: "Roughly"'),
        ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
        ("fieldSelector=spec.x=1", 400, "is not a known field selector"),
        ("labelSelector=a+in+(", 400, "unable to parse"),
    ],
)
def test_options_of_lists_that_make_no_sense_are_refused(api: Asking, query: str, code: int, expected: str) -> None:
    found, message = api.refused("GET", f"{MAPS}?{query.replace('+', ' ')}")
    assert (found, expected in message) == (code, True), message


@pytest.mark.parametrize(
    ("query", "code"),
    [("resourceVersion=x", 500), ("resourceVersion=999999", 504)],
)
def test_a_get_may_not_ask_for_the_future(api: Asking, query: str, code: int) -> None:
    fill(api, "a")
    assert api.refused("GET", f"{MAPS}/a?{query}")[0] == code
    assert api.ok("GET", f"{MAPS}/a?resourceVersion=0")["metadata"]["name"] == "a"
