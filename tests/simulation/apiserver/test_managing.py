"""managedFields and server-side apply: ownership, conflicts, force, removal."""

from __future__ import annotations

import pytest

from driver.simulation.apiserver import ApiError
from driver.simulation.apiserver.managing import Applier, Manager, track_update
from driver.simulation.apiserver.schemas import STRUCTS
from driver.simulation.apiserver.values import JsonObject, items, metadata, obj, text

POD = STRUCTS["Pod"]
VERSION = "v1"
EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def labels(**values: str) -> JsonObject:
    return {"metadata": {"name": "p", "labels": dict(values)}}


def apply(live: JsonObject, config: JsonObject, manager: str, *, force: bool = False, now: str = EARLY) -> JsonObject:
    applier = Applier(POD, Manager(manager, "Apply", VERSION), now, frozenset({"status"}))
    return applier.apply(live, config, force=force)


def owners(value: JsonObject) -> dict[str, object]:
    return {
        f"{text(obj(entry)['operation'])} {text(obj(entry)['manager'])}": obj(entry)["fieldsV1"]
        for entry in items(metadata(value).get("managedFields"))
    }


def test_an_update_owns_what_it_changed() -> None:
    new = labels(a="1")
    track_update(POD, {"metadata": {}}, new, Manager("me", "Update", VERSION), EARLY)
    assert owners(new) == {"Update me": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}}


def test_an_update_takes_fields_from_others_and_drops_what_is_gone() -> None:
    first = labels(a="1", b="2")
    track_update(POD, {"metadata": {}}, first, Manager("one", "Update", VERSION), EARLY)
    second = labels(a="9")
    track_update(POD, first, second, Manager("two", "Update", VERSION), LATE)
    assert owners(second) == {
        "Update one": {"f:metadata": {"f:labels": {}}},
        "Update two": {"f:metadata": {"f:labels": {"f:a": {}}}},
    }


def test_an_update_without_change_leaves_times_alone() -> None:
    first = labels(a="1")
    track_update(POD, {"metadata": {}}, first, Manager("one", "Update", VERSION), EARLY)
    again = labels(a="1")
    track_update(POD, first, again, Manager("two", "Update", VERSION), LATE)
    assert metadata(again)["managedFields"] == metadata(first)["managedFields"]


def test_identity_is_never_owned() -> None:
    new: JsonObject = {"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}}
    track_update(POD, {"metadata": {}}, new, Manager("me", "Update", VERSION), EARLY)
    assert "managedFields" not in metadata(new)


def test_subresources_are_managers_of_their_own() -> None:
    new: JsonObject = {"metadata": {}, "status": {"phase": "Running"}}
    track_update(POD, {"metadata": {}, "status": {}}, new, Manager("kubelet", "Update", VERSION, "status"), EARLY)
    assert obj(items(metadata(new)["managedFields"])[0])["subresource"] == "status"


def test_applying_owns_all_that_is_applied_even_if_it_was_there() -> None:
    live = labels(a="1")
    track_update(POD, {"metadata": {}}, live, Manager("me", "Update", VERSION), EARLY)
    applied = apply(live, labels(a="1"), "applier")
    assert owners(applied) == {
        "Apply applier": {"f:metadata": {"f:labels": {"f:a": {}}}},
        "Update me": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}},
    }


def test_another_value_is_a_conflict_and_force_takes_it() -> None:
    live = apply({"metadata": {}}, labels(a="1"), "one")
    with pytest.raises(ApiError) as refusal:
        apply(live, labels(a="2"), "two")
    assert refusal.value.code == 409
    assert refusal.value.body["message"] == 'Apply failed with 1 conflict: conflict with "one": .metadata.labels.a'
    forced = apply(live, labels(a="2"), "two", force=True)
    assert metadata(forced)["labels"] == {"a": "2"}
    assert owners(forced) == {"Apply two": {"f:metadata": {"f:labels": {"f:a": {}}}}}


def test_conflicts_name_every_manager_and_field() -> None:
    live = apply({"metadata": {}}, labels(a="1", b="1"), "one")
    live = apply(live, labels(c="1"), "two")
    with pytest.raises(ApiError) as refusal:
        apply(live, labels(a="2", b="2", c="2"), "three")
    assert refusal.value.body["message"] == (
        'Apply failed with 3 conflicts: conflicts with "one":\n- .metadata.labels.a\n- .metadata.labels.b\n'
        'conflicts with "two":\n- .metadata.labels.c'
    )


def test_conflicts_with_updaters_say_when_and_in_which_version() -> None:
    live = labels(a="1")
    track_update(POD, {"metadata": {}}, live, Manager("kubectl-edit", "Update", VERSION), EARLY)
    with pytest.raises(ApiError, match='conflict with "kubectl-edit" using v1 at 2026-01-01T00:00:00Z'):
        apply(live, labels(a="2"), "applier")


def test_what_a_manager_applies_no_longer_goes_unless_somebody_else_owns_it() -> None:
    live = apply({"metadata": {}}, labels(a="1", b="1"), "one")
    live = apply(live, labels(b="1"), "two")
    smaller = apply(live, {"metadata": {"name": "p"}}, "one")
    assert metadata(smaller)["labels"] == {"b": "1"}


def test_the_same_apply_again_changes_nothing() -> None:
    live = apply({"metadata": {}}, labels(a="1"), "one", now=EARLY)
    assert apply(live, labels(a="1"), "one", now=LATE) == live


def test_fields_that_the_endpoint_ignores_are_not_applied() -> None:
    applied = apply({"metadata": {}}, {**labels(a="1"), "status": {"phase": "Running"}}, "one")
    assert "status" not in applied
