"""Tables: the cells that kubectl prints, kind by kind."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from driver.simulation.apiserver.tables import age, cells, columns_of
from driver.simulation.apiserver.watching import Watch
from tests.simulation.apiserver.asking import DRA, Asking, a_claim, a_config_map

NOW = dt.datetime(2026, 6, 1, 12, 0, 0, tzinfo=dt.UTC)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_799, "7h59m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (176_400, "2d1h"),
        (691_199, "7d23h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y0d"),
        (66_000_000, "2y33d"),
    ],
)
def test_ages_are_abbreviated_as_kubectl_does(seconds: int, shown: str) -> None:
    born = (NOW - dt.timedelta(seconds=seconds)).isoformat()
    assert age(born, NOW) == shown


def test_an_age_without_a_time_is_unknown() -> None:
    assert age("", NOW) == "<unknown>"


def row(plural: str, value: dict[str, Any]) -> dict[str, Any]:
    """Cells by column."""
    columns = columns_of(plural)
    value.setdefault("metadata", {"name": "n"})
    return dict(zip((column.name for column in columns), cells(columns, value, NOW), strict=True))


@pytest.mark.parametrize(
    ("meta", "status", "shown"),
    [
        ({}, {}, "pending"),
        ({}, {"allocation": {}}, "allocated"),
        ({}, {"allocation": {}, "reservedFor": [{}]}, "allocated,reserved"),
        ({"deletionTimestamp": "2026-06-01T11:00:00Z"}, {"allocation": {}}, "deleted,allocated"),
        ({"deletionTimestamp": "2026-06-01T11:00:00Z"}, {}, "deleted"),
    ],
)
def test_a_claims_state_is_told_in_words(meta: dict[str, Any], status: dict[str, Any], shown: str) -> None:
    assert row("resourceclaims", {"metadata": {"name": "n", **meta}, "status": status})["State"] == shown


@pytest.mark.parametrize(
    ("meta", "status", "shown"),
    [
        ({}, {"phase": "Running"}, "Running"),
        ({}, {"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({}, {"phase": "Pending", "conditions": [{"reason": "SchedulingGated"}]}, "SchedulingGated"),
        ({}, {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "Pulling"}}}]}, "Pulling"),
        ({}, {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "Error"}}}]}, "Error"),
        ({"deletionTimestamp": "2026-06-01T11:00:00Z"}, {"phase": "Running"}, "Terminating"),
    ],
)
def test_a_pods_status_is_its_most_telling_part(meta: dict[str, Any], status: dict[str, Any], shown: str) -> None:
    assert row("pods", {"metadata": {"name": "n", **meta}, "status": status})["Status"] == shown


def test_a_pods_containers_are_counted() -> None:
    statuses = [{"ready": True, "restartCount": 2}, {"ready": False, "restartCount": 1}]
    spec = {"containers": [{}, {}, {}], "nodeName": "node-a"}
    shown = row("pods", {"spec": spec, "status": {"containerStatuses": statuses, "podIP": "10.0.0.1"}})
    assert (shown["Ready"], shown["Restarts"], shown["IP"], shown["Node"]) == ("1/3", "3", "10.0.0.1", "node-a")
    assert row("pods", {})["Nominated Node"] == "<none>"


@pytest.mark.parametrize(
    ("spec", "conditions", "shown"),
    [
        ({}, [], "Unknown"),
        ({}, [{"type": "Ready", "status": "True"}], "Ready"),
        ({}, [{"type": "Ready", "status": "Unknown"}], "NotReady"),
        ({"unschedulable": True}, [{"type": "Ready", "status": "True"}], "Ready,SchedulingDisabled"),
    ],
)
def test_a_nodes_status(spec: dict[str, Any], conditions: list[dict[str, Any]], shown: str) -> None:
    assert row("nodes", {"spec": spec, "status": {"conditions": conditions}})["Status"] == shown


def test_a_nodes_roles_and_addresses() -> None:
    labels = {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/gpu": "", "other": "x"}
    addresses = [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}]
    info = {"kubeletVersion": "v1.36.2"}
    shown = row("nodes", {"metadata": {"labels": labels}, "status": {"addresses": addresses, "nodeInfo": info}})
    assert (shown["Roles"], shown["Internal-IP"], shown["External-IP"]) == ("gpu,worker", "10.0.0.1", "<none>")
    assert (shown["Version"], shown["OS-Image"]) == ("v1.36.2", "<unknown>")


@pytest.mark.parametrize(
    ("times", "seen"),
    [
        ({"series": {"lastObservedTime": "2026-06-01T11:59:50.000000Z"}, "eventTime": "2026-06-01T11:00:00Z"}, "10s"),
        ({"lastTimestamp": "2026-06-01T11:59:00Z"}, "60s"),
        ({"eventTime": "2026-06-01T11:00:00.000000Z"}, "60m"),
        ({}, "<unknown>"),
    ],
)
def test_an_event_was_last_seen(times: dict[str, Any], seen: str) -> None:
    event = {"involvedObject": {"kind": "ResourceClaim", "name": "c"}, "message": " text\n", "type": "Warning", **times}
    shown = row("events", event)
    assert shown["Last Seen"] == seen
    assert (shown["Object"], shown["Message"], shown["Type"]) == ("resourceclaim/c", "text", "Warning")


def test_other_kinds_count_what_they_hold() -> None:
    assert row("configmaps", {"data": {"a": "1", "b": "2"}})["Data"] == 2
    assert row("secrets", {"type": "Opaque"})["Data"] == 0
    assert row("validatingadmissionpolicies", {"spec": {"validations": [{}, {}]}})["Validations"] == 2
    assert row("validatingadmissionpolicybindings", {"spec": {"policyName": "p"}})["PolicyName"] == "p"
    assert row("leases", {"spec": {"holderIdentity": "me"}})["Holder"] == "me"
    assert row("namespaces", {"status": {"phase": "Active"}})["Status"] == "Active"
    assert row("rolebindings", {"roleRef": {"kind": "Role", "name": "r"}})["Role"] == "Role/r"
    created = {"metadata": {"name": "n", "creationTimestamp": "2026-06-01T11:00:00Z"}}
    assert row("clusterroles", created)["Created At"] == "2026-06-01T11:00:00Z"
    template = {"spec": {"nodeSelector": {"b": "2", "a": "1"}}}
    daemons = row("daemonsets", {"spec": {"template": template}, "status": {"numberReady": 3}})
    assert (daemons["Node Selector"], daemons["Ready"], daemons["Desired"]) == ("a=1,b=2", 3, 0)
    assert row("daemonsets", {})["Node Selector"] == "<none>"
    assert list(row("deviceclasses", {})) == ["Name", "Age"]


def test_rows_carry_metadata_objects_or_nothing(api: Asking) -> None:
    api.ok("POST", f"{DRA}/namespaces/default/resourceclaims", a_claim())
    path = f"{DRA}/namespaces/default/resourceclaims"
    table = api.ok("GET", path, accept=TABLE)
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "State", "Age"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = api.ok("GET", f"{path}?includeObject=Object", accept=TABLE)
    assert whole["rows"][0]["object"]["kind"] == "ResourceClaim"
    none = api.ok("GET", f"{path}?includeObject=None", accept=TABLE)
    assert none["rows"][0].get("object") is None
    single = api.ok("GET", f"{path}/c", accept=TABLE)
    assert single["rows"][0]["cells"][:2] == ["c", "pending"]


def test_a_watch_of_tables_names_its_columns_once(api: Asking) -> None:
    watch = api.raw("GET", "/api/v1/namespaces/default/configmaps?watch=1", accept=TABLE)
    api.server.store.create(a_config_map("a"))
    api.server.store.create(a_config_map("b"))
    assert isinstance(watch, Watch)
    lines = watch.take()
    assert [b'"columnDefinitions":[{' in line for line in lines] == [True] + [False] * (len(lines) - 1)


def test_metadata_alone_can_be_asked_for(api: Asking) -> None:
    api.ok("POST", f"{DRA}/namespaces/default/resourceclaims", a_claim())
    form = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = api.ok("GET", f"{DRA}/namespaces/default/resourceclaims", accept=form)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) <= {"metadata", "kind", "apiVersion"}
    assert api.answer("GET", f"{DRA}/resourceclaims", accept="application/json;as=Unknown;v=v1").status == 406
