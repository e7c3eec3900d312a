"""One object through several APIs: old versions of resource.k8s.io, and the two Event APIs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.apiserver.asking import DRA, MERGE, Asking, a_claim, a_slice

BETA1 = "/apis/resource.k8s.io/v1beta1"
BETA2 = "/apis/resource.k8s.io/v1beta2"
DEVICE = {"name": "gpu-0", "attributes": {"model": {"string": "x"}}}
OLD_DEVICE = {"name": "gpu-0", "basic": {"attributes": {"model": {"string": "x"}}}}


def old_slice(**spec: Any) -> dict[str, Any]:
    return {**a_slice(**spec), "apiVersion": "resource.k8s.io/v1beta1"}


def test_a_slice_written_the_new_way_reads_the_old_way(api: Asking) -> None:
    api.ok("POST", f"{DRA}/resourceslices", a_slice(devices=[DEVICE]))
    old = api.ok("GET", f"{BETA1}/resourceslices/s")
    assert (old["apiVersion"], old["kind"]) == ("resource.k8s.io/v1beta1", "ResourceSlice")
    assert old["spec"]["devices"] == [OLD_DEVICE]
    middle = api.ok("GET", f"{BETA2}/resourceslices/s")
    assert (middle["apiVersion"], middle["spec"]["devices"]) == ("resource.k8s.io/v1beta2", [DEVICE])


def test_a_slice_written_the_old_way_reads_the_new_way(api: Asking) -> None:
    made = api.ok("POST", f"{BETA1}/resourceslices", old_slice(devices=[OLD_DEVICE]))
    assert made["spec"]["devices"] == [OLD_DEVICE]
    assert api.ok("GET", f"{DRA}/resourceslices/s")["spec"]["devices"] == [DEVICE]


def test_lists_and_watches_of_old_versions_are_converted_too(api: Asking) -> None:
    api.ok("POST", f"{DRA}/resourceslices", a_slice(devices=[DEVICE]))
    listed = api.ok("GET", f"{BETA1}/resourceslices")
    assert listed["kind"] == "ResourceSliceList"
    assert listed["items"][0]["spec"]["devices"] == [OLD_DEVICE]
    watch = api.watch(f"{BETA1}/resourceslices?watch=1")
    assert b'"basic":{"attributes"' in watch.take()[0]


def test_requests_of_claims_and_templates_lose_and_gain_exactly(api: Asking) -> None:
    claims = "namespaces/default/resourceclaims"
    api.ok("POST", f"{DRA}/{claims}", a_claim(count=2))
    (request,) = api.ok("GET", f"{BETA1}/{claims}/c")["spec"]["devices"]["requests"]
    assert (request["name"], request["deviceClassName"], request["count"]) == ("gpu", "gpu.example.com", 2)
    assert "exactly" not in request
    template = {
        "apiVersion": "resource.k8s.io/v1beta1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "t"},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "deviceClassName": "gpu.example.com"}]}}},
    }
    api.ok("POST", f"{BETA1}/namespaces/default/resourceclaimtemplates", template)
    new = api.ok("GET", f"{DRA}/namespaces/default/resourceclaimtemplates/t")
    (request,) = new["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "gpu.example.com"
    assert set(request) == {"name", "exactly"}


def test_alternatives_look_alike_in_all_versions(api: Asking) -> None:
    claim = a_claim()
    alternatives = [{"name": "big", "deviceClassName": "gpu.example.com"}]
    claim["spec"]["devices"]["requests"] = [{"name": "gpu", "firstAvailable": alternatives}]
    api.ok("POST", f"{DRA}/namespaces/default/resourceclaims", claim)
    (request,) = api.ok("GET", f"{BETA1}/namespaces/default/resourceclaims/c")["spec"]["devices"]["requests"]
    assert set(request) == {"name", "firstAvailable"}


def test_a_class_has_the_same_shape_everywhere(api: Asking) -> None:
    value = {"apiVersion": "resource.k8s.io/v1beta1", "kind": "DeviceClass", "metadata": {"name": "k"}, "spec": {}}
    api.ok("POST", f"{BETA1}/deviceclasses", value)
    assert api.ok("GET", f"{DRA}/deviceclasses/k")["spec"] == {}


def test_a_patch_speaks_the_language_of_its_path(api: Asking) -> None:
    api.ok("POST", f"{DRA}/resourceslices", a_slice(devices=[DEVICE]))
    more = {"spec": {"devices": [OLD_DEVICE, {"name": "gpu-1", "basic": {}}]}}
    api.ok("PATCH", f"{BETA1}/resourceslices/s", more, content_type=MERGE)
    assert api.ok("GET", f"{DRA}/resourceslices/s")["spec"]["devices"] == [DEVICE, {"name": "gpu-1"}]


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        (BETA1, "resource.k8s.io/v1beta1 ResourceSlice is deprecated in v1.35+, unavailable in v1.38+"),
        (BETA2, "resource.k8s.io/v1beta2 ResourceSlice is deprecated in v1.36+, unavailable in v1.39+"),
        (DRA, ""),
    ],
)
def test_old_versions_are_warned_about(api: Asking, path: str, warning: str) -> None:
    answer = api.answer("GET", f"{path}/resourceslices")
    assert answer.warnings == ([warning] if warning else [])


def test_a_body_of_another_version_is_refused(api: Asking) -> None:
    code, message = api.refused("POST", f"{DRA}/resourceslices", old_slice())
    assert code == 400
    assert message == (
        "the API version in the data (resource.k8s.io/v1beta1) does not match the expected API version "
        "(resource.k8s.io/v1)"
    )


def test_an_event_has_two_faces(api: Asking) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "gpu.example.com",
        "reportingInstance": "gpu.example.com-node-a",
        "action": "Prepare",
        "reason": "PrepareFailed",
        "regarding": {"kind": "ResourceClaim", "namespace": "default", "name": "c"},
        "note": "no such device",
        "type": "Warning",
    }
    api.ok("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    old = api.ok("GET", "/api/v1/namespaces/default/events/e")
    assert old["apiVersion"] == "v1"
    assert (old["involvedObject"]["name"], old["message"]) == ("c", "no such device")
    assert (old["reportingComponent"], old["reportingInstance"]) == ("gpu.example.com", "gpu.example.com-node-a")
    assert "regarding" not in old
    api.ok("PATCH", "/api/v1/namespaces/default/events/e", {"message": "changed"}, content_type=MERGE)
    new = api.ok("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (new["apiVersion"], new["note"]) == ("events.k8s.io/v1", "changed")
    assert new["deprecatedSource"] == {}
    fields = "fieldSelector=regarding.name%3Dc,type%3DWarning".replace("%3D", "=")
    assert len(api.ok("GET", f"/apis/events.k8s.io/v1/events?{fields}")["items"]) == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"type": "Loud"}, 'type: Invalid value: "": has invalid value: Loud'),
        ({"reason": ""}, "reason: Required value"),
        ({"action": "x" * 129}, 'action: Invalid value: "": can have at most 128 characters'),
        ({"note": "x" * 1025}, 'message: Invalid value: "": can have at most 1024 characters'),
        ({"deprecatedCount": 2}, 'count: Invalid value: "": needs to be unset'),
        ({"deprecatedFirstTimestamp": "2026-01-01T00:00:00Z"}, 'firstTimestamp: Invalid value: "": needs to be unset'),
        ({"deprecatedSource": {"component": "x"}}, 'source: Invalid value: "": needs to be unset'),
        ({"series": {"count": 1, "lastObservedTime": None}}, 'series.count: Invalid value: "": should be at least 2'),
        ({"series": {"count": 2, "lastObservedTime": None}}, "series.lastObservedTime: Required value"),
        ({"reportingInstance": "x" * 129}, 'reportingInstance: Invalid value: "": can have at most 128 characters'),
    ],
)
def test_new_events_are_checked(api: Asking, change: dict[str, Any], fault: str) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "gpu.example.com",
        "reportingInstance": "i",
        "action": "Prepare",
        "reason": "PrepareFailed",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        "type": "Warning",
        **change,
    }
    code, message = api.refused("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert code == 422
    assert fault in message


def test_events_stay_what_they_were_about(api: Asking) -> None:
    event = {
        "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "reportingController": "gpu.example.com",
        "reportingInstance": "i",
        "action": "Prepare",
        "reason": "PrepareFailed",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        "type": "Warning",
    }
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    api.ok("POST", path, event)
    code, message = api.refused("PATCH", f"{path}/e", {"reason": "Other"}, content_type=MERGE)
    assert code == 422
    assert "reason: Invalid value" in message
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
    assert api.ok("PATCH", f"{path}/e", series, content_type=MERGE)["series"]["count"] == 2
