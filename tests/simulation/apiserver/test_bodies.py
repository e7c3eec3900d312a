"""Bodies and options: media types, type information, names, dry runs, preconditions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.apiserver.asking import APPLY, DRA, MERGE, STRATEGIC, Asking, a_claim, a_config_map, a_slice

MAPS = "/api/v1/namespaces/default/configmaps"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
JSON_PATCH = "application/json-patch+json"


def test_yaml_is_read_like_json(api: Asking) -> None:
    body = b"metadata:\n  name: a\ndata:\n  k: v\n"
    assert api.ok("POST", MAPS, body, content_type="application/yaml")["data"] == {"k": "v"}
    code, message = api.refused("POST", MAPS, b"a: [", content_type="application/yaml")
    assert code == 400
    assert message.startswith("error converting YAML to JSON")


def test_json_with_parameters_or_without_a_type_is_json(api: Asking) -> None:
    api.ok("POST", MAPS, a_config_map("a"), content_type="application/json; charset=utf-8")
    api.ok("POST", MAPS, a_config_map("b"))
    assert api.refused("POST", MAPS, a_config_map("c"), content_type="text/plain")[0] == 415


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"{", b"", b"null"])
def test_what_is_no_object_is_unrecognized(api: Asking, body: bytes) -> None:
    assert api.refused("POST", MAPS, body, content_type="application/json")[0] == 400


def test_kind_and_version_may_be_left_out_but_not_be_wrong(api: Asking) -> None:
    made = api.ok("POST", MAPS, {"metadata": {"name": "a"}})
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
    code, message = api.refused("POST", MAPS, {"kind": "Secret", "metadata": {"name": "b"}})
    assert (code, "cannot be handled as a ConfigMap" in message) == (400, True)
    code, message = api.refused("POST", MAPS, {"apiVersion": "v2", "metadata": {"name": "b"}})
    assert (code, "does not match the expected API version (v1)" in message) == (400, True)


def test_names_and_namespaces_must_agree_with_the_path(api: Asking) -> None:
    api.ok("POST", MAPS, a_config_map("a"))
    assert api.refused("PUT", f"{MAPS}/a", a_config_map("b"))[1] == (
        "the name of the object (b) does not match the name on the URL (a)"
    )
    assert api.refused("PUT", f"{MAPS}/a", {"metadata": {}})[1] == "name must be provided"
    code, message = api.refused("POST", MAPS, a_config_map("c", "kube-system"))
    assert code == 400
    assert "the namespace of the provided object does not match the namespace sent on the request" in message


def test_names_may_be_generated(api: Asking) -> None:
    made = [api.ok("POST", MAPS, {"metadata": {"generateName": "a-"}})["metadata"] for _ in range(2)]
    assert made[0]["name"] != made[1]["name"]
    assert all(one["name"].startswith("a-") and one["generateName"] == "a-" for one in made)
    code, message = api.refused("POST", MAPS, {"metadata": {}})
    assert (code, "name or generateName is required" in message) == (422, True)


@pytest.mark.parametrize(("base", "path"), [("a.", MAPS), ("A.-", MAPS), ("a.", EVENTS)])
def test_the_base_of_a_generated_name_has_to_be_a_name_but_for_its_last_dash(api: Asking, base: str, path: str) -> None:
    code, message = api.refused("POST", path, {"metadata": {"generateName": base}, "reportingController": "a.b"})
    assert (code, f'metadata.generateName: Invalid value: "{base}": a lowercase RFC 1123' in message) == (422, True)


def test_events_of_the_old_api_may_be_named_after_a_pod_and_a_dot(api: Asking) -> None:
    event = {"metadata": {"generateName": "a."}, "involvedObject": {"namespace": "default"}}
    assert api.ok("POST", "/api/v1/namespaces/default/events", event)["metadata"]["name"].startswith("a.")


@pytest.mark.parametrize(
    ("query", "kind"),
    [("dryRun=Some", "CreateOptions"), ("fieldValidation=Loud", "CreateOptions")],
)
def test_unknown_options_are_refused(api: Asking, query: str, kind: str) -> None:
    code, message = api.refused("POST", f"{MAPS}?{query}", a_config_map("a"))
    assert code == 422
    assert kind in message


@pytest.mark.parametrize("validation", ["Strict", "Warn", "Ignore", ""])
def test_unknown_fields_are_refused_warned_about_or_ignored(api: Asking, validation: str) -> None:
    body = b'{"metadata":{"name":"a"},"colour":"red","data":{"k":"1","k":"2"}}'
    path = f"{MAPS}?fieldValidation={validation}"
    if validation == "Strict":
        code, message = api.refused("POST", path, body)
        assert code == 400
        assert 'strict decoding error: duplicate field "data.k", unknown field "colour"' in message
        return
    answer = api.answer("POST", path, body)
    assert answer.status == 201
    assert answer.warnings == ([] if validation == "Ignore" else ['duplicate field "data.k"', 'unknown field "colour"'])


@pytest.mark.parametrize(
    ("method", "suffix", "body", "headers"),
    [
        ("POST", "", a_config_map("new"), {}),
        ("PUT", "/a", a_config_map("a", k="changed"), {}),
        ("PATCH", "/a", {"data": {"k": "changed"}}, {"content_type": MERGE}),
        ("PATCH", "/a", {"data": {"k": "changed"}}, {"content_type": STRATEGIC}),
        ("PATCH", "/a", [{"op": "add", "path": "/data", "value": {"k": "changed"}}], {"content_type": JSON_PATCH}),
        ("DELETE", "/a", None, {}),
        ("DELETE", "", None, {}),
    ],
)
def test_a_dry_run_answers_but_changes_nothing(
    api: Asking, method: str, suffix: str, body: object, headers: dict[str, str]
) -> None:
    api.ok("POST", MAPS, a_config_map("a", k="v"))
    before = api.ok("GET", MAPS)
    api.ok(method, f"{MAPS}{suffix}?dryRun=All", body, **headers)
    assert api.ok("GET", MAPS) == before


def test_a_dry_apply_creates_nothing(api: Asking) -> None:
    path = f"{DRA}/resourceslices/s?fieldManager=me&dryRun=All"
    assert api.ok("PATCH", path, a_slice(), content_type=APPLY)["metadata"]["name"] == "s"
    assert api.ok("GET", f"{DRA}/resourceslices")["items"] == []


def test_deletions_heed_uid_and_version(api: Asking) -> None:
    meta = api.ok("POST", MAPS, a_config_map("a"))["metadata"]
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        code, message = api.refused("DELETE", f"{MAPS}/a", {"preconditions": wrong})
        assert code == 409
        assert "in the precondition" in message
    right = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    api.ok("DELETE", f"{MAPS}/a", {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": right})
    assert api.answer("DELETE", f"{MAPS}/a").status == 404


@pytest.mark.parametrize(
    "options",
    [{"propagationPolicy": "Sideways"}, {"dryRun": ["Some"]}],
)
def test_unknown_delete_options_are_refused(api: Asking, options: dict[str, Any]) -> None:
    api.ok("POST", MAPS, a_config_map("a"))
    assert api.refused("DELETE", f"{MAPS}/a", options)[0] == 422


def test_delete_options_may_stand_in_the_query(api: Asking) -> None:
    api.ok("POST", MAPS, a_config_map("a"))
    assert api.refused("DELETE", f"{MAPS}/a?propagationPolicy=Sideways")[0] == 422
    assert api.refused("DELETE", f"{MAPS}/a?gracePeriodSeconds=soon")[0] == 400
    api.ok("DELETE", f"{MAPS}/a?propagationPolicy=Background&gracePeriodSeconds=0")


def test_a_finalizer_holds_what_is_deleted_until_it_goes(api: Asking) -> None:
    held = {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}
    api.ok("POST", MAPS, held)
    marked = api.ok("DELETE", f"{MAPS}/a")
    assert marked["metadata"]["deletionTimestamp"]
    again = api.ok("DELETE", f"{MAPS}/a")["metadata"]
    assert again["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    code, message = api.refused("PATCH", f"{MAPS}/a", more, content_type=MERGE)
    assert (code, "no new finalizers can be added" in message) == (422, True)
    api.ok("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert api.answer("GET", f"{MAPS}/a").status == 404


@pytest.mark.parametrize("media", [MERGE, STRATEGIC, JSON_PATCH])
def test_a_patch_must_be_of_its_types_shape(api: Asking, media: str) -> None:
    api.ok("POST", MAPS, a_config_map("a"))
    wrong: object = {} if media == JSON_PATCH else []
    assert api.refused("PATCH", f"{MAPS}/a", wrong, content_type=media)[0] == 400
    assert api.refused("PATCH", f"{MAPS}/a", b"{", content_type=media)[0] == 400


def test_a_patch_that_spoils_types_or_fields_says_what_it_made(api: Asking) -> None:
    api.ok("POST", MAPS, a_config_map("a"))
    code, message = api.refused("PATCH", f"{MAPS}/a", {"data": {"k": 1}}, content_type=MERGE)
    assert code == 422
    assert "patch: Invalid value" in message
    code, message = api.refused("PATCH", f"{MAPS}/a", {"data": {"k": 1}}, content_type=STRATEGIC)
    assert (code, "map[data:map[k:1]]" in message) == (422, True)
    path = f"{MAPS}/a?fieldValidation=Strict"
    code, message = api.refused("PATCH", path, {"colour": "red"}, content_type=MERGE)
    assert (code, 'unknown field "colour"' in message) == (422, True)


def test_a_patch_may_demand_a_version(api: Asking) -> None:
    version = api.ok("POST", MAPS, a_config_map("a"))["metadata"]["resourceVersion"]
    api.ok("PATCH", f"{MAPS}/a", {"data": {"k": "v"}}, content_type=MERGE)
    stale = {"metadata": {"resourceVersion": version}, "data": {"k": "w"}}
    assert api.refused("PATCH", f"{MAPS}/a", stale, content_type=MERGE)[0] == 409


def test_a_patch_of_nothing_is_not_found(api: Asking) -> None:
    assert api.refused("PATCH", f"{MAPS}/a", {}, content_type=MERGE) == (404, 'configmaps "a" not found')


def test_json_patch_tests_before_it_writes(api: Asking) -> None:
    api.ok("POST", MAPS, a_config_map("a", k="v"))
    steps = [{"op": "test", "path": "/data/k", "value": "w"}, {"op": "remove", "path": "/data/k"}]
    assert api.refused("PATCH", f"{MAPS}/a", steps, content_type=JSON_PATCH)[0] == 422
    steps[0]["value"] = "v"
    assert "data" not in api.ok("PATCH", f"{MAPS}/a", steps, content_type=JSON_PATCH)


@pytest.mark.parametrize(
    ("config", "query", "code"),
    [
        ({"kind": "Secret", "apiVersion": "v1"}, "?fieldManager=me", 400),
        ({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "b"}}, "?fieldManager=me", 400),
        ({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"managedFields": [{}]}}, "?fieldManager=me", 400),
        ({"kind": "ConfigMap", "apiVersion": "v1", "colour": "red"}, "?fieldManager=me", 500),
        ({"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": 1}}, "?fieldManager=me", 500),
        ({"kind": "ConfigMap", "apiVersion": "v1"}, "", 422),
    ],
)
def test_an_apply_must_be_right_about_itself(api: Asking, config: dict[str, Any], query: str, code: int) -> None:
    assert api.refused("PATCH", f"{MAPS}/a{query}", config, content_type=APPLY)[0] == code


def test_an_apply_may_be_yaml_only(api: Asking) -> None:
    code, _ = api.refused("PATCH", f"{MAPS}/a?fieldManager=me", b"a: [", content_type=APPLY)
    assert code == 400


def test_writes_that_change_nothing_keep_the_version(api: Asking) -> None:
    claim = api.ok("POST", f"{DRA}/namespaces/default/resourceclaims", a_claim())
    path = f"{DRA}/namespaces/default/resourceclaims/c"
    assert api.ok("PUT", path, claim) == claim
    assert api.ok("PATCH", path, {}, content_type=MERGE) == claim
    assert api.ok("PATCH", path, [], content_type=JSON_PATCH) == claim
    assert api.ok("PUT", f"{path}/status", claim) == claim


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/unicorns", 404),
        ("GET", "/apis/none.example.com/v1/things", 404),
        ("GET", "/api/v1/nodes/n/unicorn", 404),
        ("POST", "/api/v1/nodes/n", 405),
        ("PUT", "/api/v1/nodes", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("POST", "/api/v1/pods", 405),
        ("GET", "/api/v1/namespaces/default/pods/p/binding", 405),
        ("GET", "/nowhere", 404),
    ],
)
def test_paths_and_methods_that_do_not_exist(api: Asking, method: str, path: str, code: int) -> None:
    assert api.answer(method, path, {} if method in {"POST", "PUT"} else None).status == code
