"""Older servers: what Kubernetes 1.34 drops without a word, and what 1.36 keeps."""

from __future__ import annotations

from typing import Any

import pytest

from driver.simulation.apiserver import ApiServer, FeatureGates, gates_of
from driver.simulation.apiserver.kinds import by_name
from tests.simulation.apiserver.asking import DRA, MERGE, Asking, a_claim, a_slice, an_allocation

SLICES = f"{DRA}/resourceslices"
CLAIMS = f"{DRA}/namespaces/default/resourceclaims"


@pytest.fixture
def old() -> Asking:
    """A server of 1.34."""
    return Asking(ApiServer(gates=gates_of(34)))


def created(api: Asking, **spec: Any) -> dict[str, Any]:
    document: dict[str, Any] = api.ok("POST", SLICES, a_slice(**spec))["spec"]
    return document


@pytest.mark.parametrize(
    "device",
    [
        {"name": "d", "taints": [{"key": "a", "effect": "NoSchedule"}]},
        {"name": "d", "consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}]},
        {"name": "d", "allowMultipleAllocations": True},
        {"name": "d", "bindsToNode": True, "bindingConditions": ["a"], "bindingFailureConditions": ["b"]},
    ],
)
def test_1_34_drops_fields_of_devices_that_1_36_keeps(old: Asking, api: Asking, device: dict[str, Any]) -> None:
    assert created(old, devices=[device])["devices"] == [{"name": "d"}]
    kept = created(api, devices=[device])["devices"][0]
    assert set(kept) == set(device)


def test_1_34_drops_shared_counters_and_per_device_selection(old: Asking) -> None:
    counters = [{"name": "s", "counters": {"c": {"value": "1"}}}]
    assert "sharedCounters" not in created(old, sharedCounters=counters)
    code, message = old.refused("POST", SLICES, a_slice("t", nodeName=None, perDeviceNodeSelection=True))
    assert code == 422
    assert "exactly one of `nodeName`" in message


def test_1_34_drops_request_policies(old: Asking) -> None:
    capacity = {"memory": {"value": "10", "requestPolicy": {"default": "1"}}}
    devices = [{"name": "d", "allowMultipleAllocations": True, "capacity": capacity}]
    assert created(old, devices=devices)["devices"] == [{"name": "d", "capacity": {"memory": {"value": "10"}}}]


def test_1_34_takes_128_devices_whatever_they_carry(old: Asking) -> None:
    devices = [{"name": f"d{index}", "taints": [{"key": "a", "effect": "NoSchedule"}]} for index in range(128)]
    assert len(created(old, devices=devices)["devices"]) == 128
    code, message = old.refused("POST", SLICES, a_slice("t", devices=[{"name": f"d{index}"} for index in range(129)]))
    assert (code, "must have at most 128 items" in message) == (422, True)


def test_1_34_drops_tolerations_and_capacity_of_requests(old: Asking) -> None:
    claim = a_claim(tolerations=[{"key": "a"}], capacity={"requests": {"memory": "1Gi"}})
    exactly = old.ok("POST", CLAIMS, claim)["spec"]["devices"]["requests"][0]["exactly"]
    assert set(exactly) == {"deviceClassName", "allocationMode", "count"}


def test_1_34_knows_no_extended_resources(old: Asking) -> None:
    device_class = {"metadata": {"name": "c"}, "spec": {"extendedResourceName": "example.com/gpu"}}
    assert old.ok("POST", f"{DRA}/deviceclasses", device_class)["spec"] == {}


def test_what_is_in_use_stays_usable_after_a_feature_is_switched_off(api: Asking) -> None:
    taint = {"key": "a", "effect": "NoSchedule"}
    api.ok("POST", SLICES, a_slice(devices=[{"name": "d", "taints": [taint]}]))
    stored = api.server.storage.get(by_name("resourceslices"), ("", "s"))
    assert stored is not None
    without = ApiServer(gates=FeatureGates(device_taints=False))
    without.storage.put(by_name("resourceslices"), ("", "s"), stored.value)
    other = Asking(without)
    changed = {"spec": {"devices": [{"name": "e", "taints": [taint]}]}}
    kept = other.ok("PATCH", f"{SLICES}/s", changed, content_type=MERGE)["spec"]["devices"][0]
    assert kept["taints"][0]["key"] == "a"


def test_device_status_can_be_switched_off() -> None:
    api = Asking(ApiServer(gates=FeatureGates(device_status=False)))
    api.ok("POST", CLAIMS, a_claim())
    api.ok("PATCH", f"{CLAIMS}/c/status", {"status": {"allocation": an_allocation()}}, content_type=MERGE)
    devices = [{"driver": "gpu.example.com", "pool": "node-a", "device": "gpu-0"}]
    written = api.ok("PATCH", f"{CLAIMS}/c/status", {"status": {"devices": devices}}, content_type=MERGE)
    assert "devices" not in written["status"]


@pytest.mark.parametrize(("minor", "version"), [(34, "v1.34.0"), (35, "v1.35.0"), (36, "v1.36.2"), (37, "v1.37.0")])
def test_version_says_which_server_this_is(minor: int, version: str) -> None:
    document = Asking(ApiServer(gates=gates_of(minor))).ok("GET", "/version")
    assert document["gitVersion"] == version
    assert document["minor"] == str(minor)


def test_other_versions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.33"):
        gates_of(33)
