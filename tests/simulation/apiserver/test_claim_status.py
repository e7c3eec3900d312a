"""What may stand in a claim's status: allocation, reservations, and what drivers report about devices."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from driver.simulation.apiserver.strategies.claim_status import check_share
from tests.simulation.apiserver.asking import DRA, MERGE, Asking, a_claim, an_allocation

CLAIMS = f"{DRA}/namespaces/default/resourceclaims"
DEVICE = {"driver": "gpu.example.com", "pool": "node-a", "device": "gpu-0"}
CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Prepared",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
USER = {"resource": "pods", "name": "p", "uid": "u"}


def patch(api: Asking, **status: Any) -> dict[str, Any]:
    return api.ok("PATCH", f"{CLAIMS}/c/status", {"status": status}, content_type=MERGE)


def fault(api: Asking, **status: Any) -> str:
    code, message = api.refused("PATCH", f"{CLAIMS}/c/status", {"status": status}, content_type=MERGE)
    assert code == 422
    return message


@pytest.fixture
def claimed(api: Asking) -> Asking:
    """Somebody who asks a server with one allocated claim."""
    api.ok("POST", CLAIMS, a_claim())
    patch(api, allocation=an_allocation(), reservedFor=[USER])
    return api


def test_a_driver_reports_devices(claimed: Asking) -> None:
    network = {"interfaceName": "eth0", "ips": ["10.0.0.1/24", "fd00::1/64"], "hardwareAddress": "ea:9f:cb:40:b7:3b"}
    entry = {**DEVICE, "conditions": [CONDITION], "data": {"a": [1, 2.50]}, "networkData": network}
    assert patch(claimed, devices=[entry])["status"]["devices"] == [entry]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"device": "gpu-9"}, "must be an allocated device in the claim"),
        ({"driver": ""}, "devices[0].driver: Required value"),
        ({"driver": "_"}, "devices[0].driver: Invalid value"),
        ({"pool": ""}, "devices[0].pool: Required value"),
        ({"conditions": [{**CONDITION, "type": "a b"}]}, "conditions[0].type: Invalid value"),
        ({"conditions": [{**CONDITION, "status": "Maybe"}]}, 'Unsupported value: "Maybe"'),
        ({"conditions": [{**CONDITION, "reason": ""}]}, "conditions[0].reason: Required value"),
        ({"conditions": [{**CONDITION, "reason": "9"}]}, "a condition reason must start with alphabetic character"),
        ({"conditions": [{**CONDITION, "observedGeneration": -1}]}, "must be greater than or equal to zero"),
        ({"conditions": [{**CONDITION, "lastTransitionTime": None}]}, "lastTransitionTime: Required value"),
        ({"conditions": [CONDITION, CONDITION]}, 'conditions[1].type: Duplicate value: "Ready"'),
        ({"conditions": [{**CONDITION, "type": f"T{i}"} for i in range(9)]}, "must have at most 8 items"),
        ({"networkData": {"interfaceName": "x" * 257}}, "may not be more than 256 bytes"),
        ({"networkData": {"hardwareAddress": "x" * 129}}, "may not be more than 128 bytes"),
        ({"networkData": {"ips": ["10.0.0.1"]}}, "networkData.ips[0]: Invalid value"),
        ({"networkData": {"ips": ["10.0.0.1/24", "10.0.0.1/24"]}}, 'ips[1]: Duplicate value: "10.0.0.1/24"'),
        ({"networkData": {"ips": [f"10.0.0.{i}/24" for i in range(17)]}}, "must have at most 16 items"),
        ({"shareID": "x"}, "invalid UUID length: 1"),
        ({"data": "x" * 10241}, "devices[0].data"),
    ],
)
def test_faults_of_reports_are_named(claimed: Asking, change: dict[str, Any], expected: str) -> None:
    assert expected in fault(claimed, devices=[{**DEVICE, **change}])


def test_a_device_is_reported_once(claimed: Asking) -> None:
    code, message = claimed.refused(
        "PUT",
        f"{CLAIMS}/c/status",
        {**claimed.ok("GET", f"{CLAIMS}/c"), "status": {"allocation": an_allocation(), "devices": [DEVICE, DEVICE]}},
    )
    assert code == 422
    assert "devices[1]: Duplicate value" in message


def test_reports_go_with_the_allocation(claimed: Asking) -> None:
    patch(claimed, devices=[DEVICE])
    after = patch(claimed, allocation=None, reservedFor=None)
    assert not after["status"].get("devices")


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        ("0b2c5a0e-0f4d-4d4b-9e3e-0d6b2d6c1a11", ""),
        ("0B2C5A0E-0F4D-4D4B-9E3E-0D6B2D6C1A11", "RFC 4122 normalized form"),
        ("0b2c5a0e_0f4d_4d4b_9e3e_0d6b2d6c1a11", "invalid UUID format"),
        ("short", "invalid UUID length: 5"),
    ],
)
def test_shares_are_uuids_in_lower_case(share: str, expected: str) -> None:
    faults = check_share(share, "shareID")
    assert bool(faults) == bool(expected)
    assert all(expected in str(one) for one in faults)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"request": "other"}, "results[0].request"),
        ({"driver": ""}, "results[0].driver: Required value"),
        ({"pool": ""}, "results[0].pool: Required value"),
        ({"device": "A"}, "results[0].device: Invalid value"),
        ({"shareID": "x"}, "results[0].shareID: Invalid value"),
        ({"bindingConditions": ["a b"]}, "results[0].bindingConditions[0]: Invalid value"),
        ({"bindingConditions": [f"c{i}" for i in range(5)]}, "must have at most 4 items"),
        ({"tolerations": [{"operator": "Like"}]}, 'tolerations[0].operator: Unsupported value: "Like"'),
    ],
)
def test_faults_of_results_are_named(api: Asking, change: dict[str, Any], expected: str) -> None:
    api.ok("POST", CLAIMS, a_claim())
    allocation: Any = copy.deepcopy(an_allocation())
    allocation["devices"]["results"][0].update(change)
    assert expected in fault(api, allocation=allocation)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"opaque": {"driver": "gpu.example.com", "parameters": {}}}, "config[0].source: Required value"),
        ({"source": "FromMars", "opaque": {"driver": "gpu.example.com", "parameters": {}}}, '"FromMars"'),
        ({"source": "FromClass"}, "config[0].opaque: Required value"),
        (
            {"source": "FromClass", "requests": ["x"], "opaque": {"driver": "gpu.example.com", "parameters": {}}},
            "requests[0]",
        ),
        ({"source": "FromClass", "opaque": {"driver": "", "parameters": {}}}, "opaque.driver: Required value"),
        ({"source": "FromClass", "opaque": {"driver": "gpu.example.com"}}, "opaque.parameters: Required value"),
    ],
)
def test_faults_of_allocated_configs_are_named(api: Asking, config: dict[str, Any], expected: str) -> None:
    api.ok("POST", CLAIMS, a_claim())
    allocation: Any = copy.deepcopy(an_allocation())
    allocation["devices"]["config"] = [config]
    assert expected in fault(api, allocation=allocation)


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "'In' or 'NotIn'"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}, "'Exists' or 'DoesNotExist'"),
        ({"matchExpressions": [{"key": "a", "operator": "Gt"}]}, "'Lt' or 'Gt'"),
        ({"matchExpressions": [{"key": "a", "operator": "Like"}]}, "not a valid selector operator"),
        ({"matchExpressions": [{"key": "a b", "operator": "Exists"}]}, "key: Invalid value"),
        ({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]}, "not a valid selector operator"),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": []}]}, "must be only one value"),
        ({"matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}, "not a valid field selector key"),
    ],
)
def test_faults_of_node_selectors_are_named(api: Asking, term: dict[str, Any], expected: str) -> None:
    api.ok("POST", CLAIMS, a_claim())
    allocation = {**an_allocation(), "nodeSelector": {"nodeSelectorTerms": [term]}}
    assert expected in fault(api, allocation=allocation)


def test_an_allocation_never_changes_but_may_go(claimed: Asking) -> None:
    assert "status.allocation: Invalid value" in fault(claimed, allocation=an_allocation("node-b"))
    assert "may not be specified when `allocated` is not set" in fault(claimed, allocation=None)
    assert not patch(claimed, allocation=None, reservedFor=None)["status"]


@pytest.mark.parametrize("missing", ["resource", "name", "uid"])
def test_reservations_are_complete(claimed: Asking, missing: str) -> None:
    consumer = {key: value for key, value in USER.items() if key != missing}
    assert f"reservedFor[0].{missing}: Required value" in fault(claimed, reservedFor=[consumer])


def test_reservations_are_unique_and_few(claimed: Asking) -> None:
    many = [{**USER, "uid": str(index)} for index in range(257)]
    assert "must have at most 256 items" in fault(claimed, reservedFor=many)
    assert len(patch(claimed, reservedFor=many[:256])["status"]["reservedFor"]) == 256


def test_a_claim_that_is_going_takes_no_new_users(claimed: Asking) -> None:
    held = {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}
    claimed.ok("PATCH", f"{CLAIMS}/c", held, content_type=MERGE)
    claimed.ok("DELETE", f"{CLAIMS}/c")
    assert "new entries may not be added" in fault(claimed, reservedFor=[USER, {**USER, "uid": "v"}])
    assert "reservedFor" not in patch(claimed, reservedFor=None)["status"]
