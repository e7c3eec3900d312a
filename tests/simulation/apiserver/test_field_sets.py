"""Sets of fields: ownership paths, comparison, merging and pruning as structured-merge-diff does them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from driver.simulation.apiserver.field_sets import (
    compare,
    fields_of,
    from_fields_v1,
    in_set_order,
    merged,
    show_path,
    to_fields_v1,
    without,
)
from driver.simulation.apiserver.schemas import STRUCTS
from driver.simulation.apiserver.values import JsonObject

CLAIM = STRUCTS["ResourceClaim"]
POD = STRUCTS["Pod"]
DEVICE: JsonObject = {"driver": "d", "pool": "p", "device": "x"}
DEVICE_KEY = 'k:{"device":"x","driver":"d","pool":"p"}'


def status(*devices: JsonObject) -> JsonObject:
    return {"status": {"devices": list(devices)}}


def test_scalars_atomic_values_and_list_items_are_owned() -> None:
    value: JsonObject = {
        "metadata": {"labels": {"a": "1"}, "finalizers": ["x/y"]},
        "spec": {"containers": [{"name": "main", "args": ["a", "b"]}], "nodeSelector": {"zone": "a"}},
    }
    owned = fields_of(POD, value)
    container = ("f:spec", "f:containers", 'k:{"name":"main"}')
    assert owned == {
        ("f:metadata", "f:labels", "f:a"),
        ("f:metadata", "f:finalizers", 'v:"x/y"'),
        ("f:spec", "f:nodeSelector"),
        container,
        (*container, "f:name"),
        (*container, "f:args"),
    }


def test_empty_objects_and_null_are_owned_as_they_are() -> None:
    assert fields_of(POD, {"spec": {"securityContext": {}}}) == {("f:spec", "f:securityContext")}


def test_keys_of_list_items_leave_out_what_is_not_set_and_know_defaults() -> None:
    assert (("f:status", "f:devices", DEVICE_KEY)) in fields_of(CLAIM, status(DEVICE))
    ports: JsonObject = {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}
    assert any('k:{"containerPort":80,"protocol":"TCP"}' in path for path in fields_of(POD, ports))


def test_compare_finds_what_came_went_and_changed() -> None:
    old: JsonObject = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "x"}}
    new: JsonObject = {"metadata": {"labels": {"a": "9", "c": "3"}}, "spec": {"nodeName": "x"}}
    changes = compare(POD, old, new)
    assert changes.modified == {("f:metadata", "f:labels", "f:a")}
    assert changes.removed == {("f:metadata", "f:labels", "f:b")}
    assert changes.added == {("f:metadata", "f:labels", "f:c")}


def test_compare_adds_whole_branches_with_every_node() -> None:
    changes = compare(POD, {"metadata": {}}, {"metadata": {"labels": {"a": "1"}}})
    assert changes.added == {("f:metadata", "f:labels"), ("f:metadata", "f:labels", "f:a")}


def test_compare_does_not_look_into_atomic_values() -> None:
    changes = compare(POD, {"spec": {"nodeSelector": {"a": "1"}}}, {"spec": {"nodeSelector": {"a": "2"}}})
    assert changes.modified == {("f:spec", "f:nodeSelector")}


def test_merging_lays_one_over_the_other_and_keeps_the_rest() -> None:
    other: JsonObject = {"driver": "e", "pool": "p", "device": "y"}
    result = merged(
        CLAIM, status({**DEVICE, "networkData": {"interfaceName": "a"}}), status({**DEVICE, "data": {}}, other)
    )
    assert result == status({**DEVICE, "networkData": {"interfaceName": "a"}, "data": {}}, other)


def test_new_items_come_behind_those_that_are_there_unless_shared_ones_say_otherwise() -> None:
    def pods(*items: str) -> JsonObject:
        return {"spec": {"containers": [{"name": item} for item in items]}}

    assert merged(POD, pods("a", "b"), pods("c")) == pods("a", "b", "c")
    assert merged(POD, pods("a", "b"), pods("c", "b")) == pods("a", "c", "b")
    assert merged(POD, pods("a", "b"), pods("b", "a")) == pods("b", "a")


def test_without_removes_paths_and_nothing_else() -> None:
    value: JsonObject = {"metadata": {"labels": {"a": "1", "b": "2"}}, **status(DEVICE)}
    paths = [("f:metadata", "f:labels", "f:a"), ("f:status", "f:devices", DEVICE_KEY)]
    assert without(CLAIM, value, paths) == {"metadata": {"labels": {"b": "2"}}, "status": {"devices": []}}


def test_the_tree_form_marks_members_with_children_by_a_dot() -> None:
    paths = frozenset({("f:a",), ("f:a", "f:b"), ("f:c", "f:d")})
    assert to_fields_v1(paths) == {"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}}}
    assert from_fields_v1(to_fields_v1(paths)) == paths


def test_paths_are_shown_as_conflicts_name_them() -> None:
    path = ("f:status", "f:devices", DEVICE_KEY, "f:data")
    assert show_path(path) == '.status.devices[device="x",driver="d",pool="p"].data'
    assert show_path(("f:metadata", "f:finalizers", 'v:"a/b"')) == '.metadata.finalizers[="a/b"]'


def test_members_come_before_what_lies_below() -> None:
    paths = [("f:a", "f:b", "f:c"), ("f:a", "f:d"), ("f:a", "f:b", "f:a")]
    assert in_set_order(paths) == [("f:a", "f:d"), ("f:a", "f:b", "f:a"), ("f:a", "f:b", "f:c")]


ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.frozensets(st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple), max_size=8)


@given(PATHS)
def test_fields_v1_is_lossless(paths: frozenset[tuple[str, ...]]) -> None:
    assert from_fields_v1(to_fields_v1(paths)) == paths


LABELS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=3)


@given(LABELS, LABELS)
def test_merging_twice_is_merging_once(live: dict[str, str], config: dict[str, str]) -> None:
    left: JsonObject = {"metadata": {"labels": dict(live)}}
    right: JsonObject = {"metadata": {"labels": dict(config)}}
    once = merged(POD, left, right)
    assert merged(POD, once, right) == once
    changes = compare(POD, once, once)
    assert not changes.added | changes.modified | changes.removed
