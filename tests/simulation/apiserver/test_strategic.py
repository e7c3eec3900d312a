"""Strategic merge patch: lists by key, order, directives (util/strategicpatch upstream)."""

from __future__ import annotations

import pytest

from driver.simulation.apiserver import ApiError
from driver.simulation.apiserver.schemas import STRUCTS
from driver.simulation.apiserver.strategic import merge_strategic
from driver.simulation.apiserver.values import JsonObject


def patched(kind: str, target: JsonObject, patch: JsonObject) -> JsonObject:
    return merge_strategic(STRUCTS[kind], target, patch)


def conditions(*types: str) -> JsonObject:
    return {"conditions": [{"type": one, "status": "False"} for one in types]}


def names(value: object) -> list[str]:
    assert isinstance(value, dict)
    return [entry["type"] for entry in value["conditions"]]


def test_lists_with_a_merge_key_merge_by_it() -> None:
    merged = patched("NodeStatus", conditions("A", "B"), {"conditions": [{"type": "B", "status": "True"}]})
    assert merged["conditions"] == [{"type": "A", "status": "False"}, {"type": "B", "status": "True"}]


def test_entries_of_the_patch_that_are_new_come_before_those_only_the_server_has() -> None:
    merged = patched("NodeStatus", conditions("Old"), conditions("New"))
    assert names(merged) == ["New", "Old"]


def test_set_element_order_decides_the_order() -> None:
    patch: JsonObject = {
        "$setElementOrder/conditions": [{"type": "C"}, {"type": "A"}],
        "conditions": [{"type": "C", "status": "True"}],
    }
    assert names(patched("NodeStatus", conditions("A", "B"), patch)) == ["C", "A", "B"]


def test_an_entry_is_deleted_by_directive() -> None:
    patch: JsonObject = {"conditions": [{"type": "A", "$patch": "delete"}]}
    assert names(patched("NodeStatus", conditions("A", "B"), patch)) == ["B"]


def test_a_list_is_replaced_by_directive() -> None:
    patch: JsonObject = {"conditions": [{"$patch": "replace"}, {"type": "Z", "status": "True"}]}
    assert patched("NodeStatus", conditions("A", "B"), patch)["conditions"] == [{"type": "Z", "status": "True"}]


def test_an_object_is_replaced_or_emptied_by_directive() -> None:
    target: JsonObject = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    replaced = patched("Node", target, {"metadata": {"labels": {"$patch": "replace", "c": "3"}}})
    assert replaced == {"metadata": {"labels": {"c": "3"}}}
    emptied = patched("Node", target, {"metadata": {"labels": {"$patch": "delete"}}})
    assert emptied == {"metadata": {"labels": {}}}


def test_null_deletes_and_other_lists_are_replaced() -> None:
    target: JsonObject = {"spec": {"taints": [{"key": "a"}], "unschedulable": True}}
    merged = patched("Node", target, {"spec": {"taints": [{"key": "b"}], "unschedulable": None}})
    assert merged == {"spec": {"taints": [{"key": "b"}]}}


def test_plain_lists_with_merge_strategy_are_united_and_can_lose_values() -> None:
    target: JsonObject = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched("Node", target, {"metadata": {"finalizers": ["c", "a"]}}) == {
        "metadata": {"finalizers": ["c", "a", "b"]}
    }
    patch: JsonObject = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert patched("Node", target, patch) == {"metadata": {"finalizers": ["b"]}}


def test_retain_keys_drops_the_others() -> None:
    target: JsonObject = {"volumes": [{"name": "v", "emptyDir": {}}]}
    patch: JsonObject = {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}
    assert patched("PodSpec", target, patch) == {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}


def test_nested_lists_merge_on_their_own_key() -> None:
    target: JsonObject = {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}
    patch: JsonObject = {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}
    merged = patched("PodSpec", target, patch)
    assert merged["containers"] == [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}]


def test_reservations_of_a_claim_merge_by_uid_and_devices_do_not() -> None:
    target: JsonObject = {"reservedFor": [{"uid": "1", "name": "a"}], "devices": [{"driver": "x"}]}
    patch: JsonObject = {"reservedFor": [{"uid": "2", "name": "b"}], "devices": [{"driver": "y"}]}
    merged = patched("ResourceClaimStatus", target, patch)
    assert merged["reservedFor"] == [{"uid": "2", "name": "b"}, {"uid": "1", "name": "a"}]
    assert merged["devices"] == [{"driver": "y"}]


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"conditions": [{"status": "True"}]}, "does not contain declared merge key: type"),
        ({"$patch": "bogus"}, "unknown patch type"),
    ],
)
def test_broken_patches_are_a_400(patch: JsonObject, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        patched("NodeStatus", conditions("A"), patch)
