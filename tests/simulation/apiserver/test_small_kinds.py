"""The rules of kinds that a DRA driver meets in passing."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.simulation.apiserver.asking import MERGE, Asking

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
DAEMONS = "/apis/apps/v1/namespaces/default/daemonsets"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}


def named(name: str = "n", **rest: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **rest}


def daemon_set(**spec: Any) -> dict[str, Any]:
    labels = {"app": "driver"}
    containers = [{"name": "main", "image": "example:1"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "serviceAccountName": "driver"}}
    return named(spec={"selector": {"matchLabels": labels}, "template": template, **spec})


def policy(**spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    whole = {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}], **spec}
    return named(spec={key: value for key, value in whole.items() if value is not None})


def event(**meta: Any) -> dict[str, Any]:
    regarding = {"apiVersion": "v1", "kind": "Pod", "name": "p", "namespace": "default"}
    words = {"reason": "R", "action": "A", "note": "n", "type": "Normal"}
    reporter = {"reportingController": "example.com/c", "reportingInstance": "i"}
    time = "2026-01-01T00:00:00.000000Z"
    return {"metadata": meta, "regarding": regarding, "eventTime": time, **words, **reporter}


EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
BAD = [
    pytest.param(EVENTS, event(generateName="p."), "metadata.generateName: Invalid value", id="event base"),
    pytest.param(EVENTS, event(name="p_1"), "metadata.name: Invalid value", id="event name"),
    pytest.param("/api/v1/namespaces", named("A_b"), "metadata.name: Invalid value", id="namespace name"),
    pytest.param("/api/v1/namespaces", named("a.b"), "a lowercase RFC 1123 label", id="namespace with dots"),
    pytest.param(LEASES, named(spec={"leaseDurationSeconds": 0}), "must be greater than 0", id="lease duration"),
    pytest.param(
        LEASES, named(spec={"leaseTransitions": -1}), "must be greater than or equal to 0", id="lease transitions"
    ),
    pytest.param(f"{RBAC}/clusterroles", named(rules=[{"verbs": []}]), "rules[0].verbs: Required", id="no verbs"),
    pytest.param(
        f"{RBAC}/clusterroles", named(rules=[{**RULE, "apiGroups": []}]), "rules[0].apiGroups: Required", id="no groups"
    ),
    pytest.param(
        f"{RBAC}/clusterroles",
        named(rules=[{**RULE, "resources": []}]),
        "rules[0].resources: Required",
        id="no resources",
    ),
    pytest.param(f"{RBAC}/clusterroles", named("a%b"), "may not contain '%'", id="role name"),
    pytest.param(f"{RBAC}/clusterroles", named(".."), "may not be '..'", id="role name of dots"),
    pytest.param(
        f"{RBAC}/clusterrolebindings",
        named(roleRef={**ROLE, "kind": "Role"}),
        'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
        id="role of a namespace",
    ),
    pytest.param(
        f"{RBAC}/clusterrolebindings", named(roleRef={**ROLE, "name": ""}), "roleRef.name: Required", id="no role"
    ),
    pytest.param(
        f"{RBAC}/clusterrolebindings",
        named(roleRef=ROLE, subjects=[{"kind": "ServiceAccount", "name": "a"}]),
        "subjects[0].namespace: Required",
        id="account without namespace",
    ),
    pytest.param(
        f"{RBAC}/clusterrolebindings",
        named(roleRef=ROLE, subjects=[{"kind": "Robot", "name": ""}]),
        'subjects[0].kind: Unsupported value: "Robot"',
        id="subject kind",
    ),
    pytest.param(
        f"{ADMISSION}/validatingadmissionpolicies",
        policy(matchConstraints=None),
        "spec.matchConstraints: Required",
        id="no constraints",
    ),
    pytest.param(
        f"{ADMISSION}/validatingadmissionpolicies",
        policy(matchConstraints={"resourceRules": []}),
        "spec.matchConstraints.resourceRules: Required",
        id="no rules",
    ),
    pytest.param(
        f"{ADMISSION}/validatingadmissionpolicies",
        policy(validations=None),
        "at least one of them is required",
        id="no validations",
    ),
    pytest.param(
        f"{ADMISSION}/validatingadmissionpolicies",
        policy(validations=[{"expression": " "}]),
        "spec.validations[0].expression: Required",
        id="empty expression",
    ),
    pytest.param(
        f"{ADMISSION}/validatingadmissionpolicybindings",
        named(spec={"validationActions": []}),
        "spec.policyName: Required",
        id="no policy",
    ),
    pytest.param(
        f"{ADMISSION}/validatingadmissionpolicybindings",
        named(spec={"policyName": "p", "validationActions": ["Shout"]}),
        'spec.validationActions[0]: Unsupported value: "Shout": supported values: "Audit", "Deny", "Warn"',
        id="action",
    ),
    pytest.param(DEPLOYMENTS, daemon_set(selector=None), "spec.selector: Required", id="no selector of replicas"),
    pytest.param(
        DEPLOYMENTS, daemon_set(strategy={"type": "Slow"}), 'strategy.type: Unsupported value: "Slow"', id="strategy"
    ),
    pytest.param(
        DEPLOYMENTS,
        daemon_set(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        "may not be specified when strategy `type` is 'Recreate'",
        id="recreate by steps",
    ),
    pytest.param(
        DEPLOYMENTS,
        daemon_set(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
        "may not be 0 when `maxSurge` is 0",
        id="no step",
    ),
    pytest.param(
        BUDGETS,
        named(spec={"minAvailable": 1, "maxUnavailable": 1}),
        "minAvailable and maxUnavailable cannot be both set",
        id="two limits",
    ),
    pytest.param(DAEMONS, daemon_set(selector=None), "spec.selector: Required", id="no selector"),
    pytest.param(
        DAEMONS,
        daemon_set(selector={"matchLabels": {"app": "other"}}),
        "`selector` does not match template `labels`",
        id="selector of others",
    ),
    pytest.param(
        DAEMONS,
        daemon_set(template={"metadata": {"labels": {"app": "driver"}}, "spec": {"containers": []}}),
        "spec.template.spec.containers: Required",
        id="no containers",
    ),
]


@pytest.mark.parametrize(("path", "body", "fault"), BAD)
def test_faults_are_named(api: Asking, path: str, body: dict[str, Any], fault: str) -> None:
    code, message = api.refused("POST", path, body)
    assert code == 422
    assert fault in message


def test_a_binding_keeps_its_role_and_completes_its_subjects(api: Asking) -> None:
    subjects = [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "a", "namespace": "default"}]
    body = named(roleRef={"kind": "ClusterRole", "name": "r"}, subjects=subjects)
    made = api.ok("POST", f"{RBAC}/clusterrolebindings", body)
    assert made["roleRef"] == ROLE
    assert [one.get("apiGroup") for one in made["subjects"]] == ["rbac.authorization.k8s.io", None]
    other = {"roleRef": {"name": "other"}}
    code, message = api.refused("PATCH", f"{RBAC}/clusterrolebindings/n", other, content_type=MERGE)
    assert code == 422
    assert "cannot change roleRef" in message


def test_url_rules_need_no_resources(api: Asking) -> None:
    api.ok("POST", f"{RBAC}/clusterroles", named("a:b", rules=[{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]))
    assert api.ok("GET", f"{RBAC}/clusterroles/a:b")["rules"][0]["nonResourceURLs"] == ["/metrics"]


def test_a_node_is_tainted_until_ready_and_offers_what_it_has(api: Asking) -> None:
    body = named(status={"capacity": {"cpu": "4"}})
    made = api.ok("POST", "/api/v1/nodes", body)
    assert made["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    assert made["status"]["allocatable"] == {"cpu": "4"}
    changed = {**made, "spec": {"unschedulable": True}, "status": {"capacity": {"cpu": "8"}}}
    after = api.ok("PUT", "/api/v1/nodes/n/status", changed)
    assert "unschedulable" not in after["spec"]
    assert after["status"]["capacity"] == {"cpu": "8"}
    known = named("m", spec={"taints": made["spec"]["taints"]})
    assert len(api.ok("POST", "/api/v1/nodes", known)["spec"]["taints"]) == 1


def test_a_namespace_is_active_and_labelled(api: Asking) -> None:
    made = api.ok("POST", "/api/v1/namespaces", named(status={"phase": "Terminating"}))
    assert made["status"] == {"phase": "Active"}
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}
    after = api.ok("PUT", "/api/v1/namespaces/n", {**made, "spec": {}, "status": {}})
    assert (after["spec"], after["status"]) == (made["spec"], made["status"])


def test_a_policy_is_completed(api: Asking) -> None:
    spec = api.ok("POST", f"{ADMISSION}/validatingadmissionpolicies", policy())["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConstraints"]["matchPolicy"] == "Equivalent"
    assert spec["matchConstraints"]["resourceRules"][0]["scope"] == "*"
    binding = named(spec={"policyName": "n", "validationActions": ["Deny"], "matchResources": {}})
    made = api.ok("POST", f"{ADMISSION}/validatingadmissionpolicybindings", binding)
    assert made["spec"]["matchResources"] == {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
    }


def test_a_daemon_set_is_completed_and_keeps_its_selector(api: Asking) -> None:
    made = api.ok("POST", DAEMONS, daemon_set())
    assert made["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
    }
    assert made["spec"]["template"]["spec"]["serviceAccount"] == "driver"
    assert "tolerations" not in made["spec"]["template"]["spec"]
    assert made["metadata"]["generation"] == 1
    change = {"spec": {"selector": {"matchLabels": {"app": None}}}}
    code, message = api.refused("PATCH", f"{DAEMONS}/n", change, content_type=MERGE)
    assert code == 422
    assert "field is immutable" in message
    image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "example:2"}]}}}}
    assert api.ok("PATCH", f"{DAEMONS}/n", image, content_type=MERGE)["metadata"]["generation"] == 2
    on_delete = api.ok("POST", DAEMONS, {**daemon_set(updateStrategy={"type": "OnDelete"}), "metadata": {"name": "o"}})
    assert on_delete["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_a_secrets_plain_text_is_stored_encoded(api: Asking) -> None:
    made = api.ok("POST", "/api/v1/namespaces/default/secrets", named(stringData={"key": "väl"}))
    assert made["type"] == "Opaque"
    assert base64.b64decode(made["data"]["key"]).decode() == "väl"
    assert "stringData" not in made


def test_a_lease_is_taken_and_renewed(api: Asking) -> None:
    spec = {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    made = api.ok("POST", LEASES, named(spec=spec))
    assert made["spec"] == spec
    made["spec"]["renewTime"] = "2026-01-01T00:00:05.123456Z"
    assert api.ok("PUT", f"{LEASES}/n", made)["spec"]["renewTime"] == "2026-01-01T00:00:05.123456Z"
    assert api.refused("PUT", f"{LEASES}/n", made)[0] == 409


def test_a_deployment_has_the_defaults_of_kubernetes(api: Asking) -> None:
    made = api.ok("POST", DEPLOYMENTS, daemon_set())
    spec = made["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert spec["template"]["spec"]["serviceAccount"] == "driver"
    code, message = api.refused(
        "PATCH", f"{DEPLOYMENTS}/n", {"spec": {"selector": {"matchLabels": {"app": "other"}}}}, content_type=MERGE
    )
    assert (code, "field is immutable" in message) == (422, True)


def test_a_budget_is_stored_and_speaks_of_no_pods(api: Asking) -> None:
    made = api.ok("POST", BUDGETS, named(spec={"maxUnavailable": "50%", "selector": {"matchLabels": {"app": "x"}}}))
    assert made["spec"]["maxUnavailable"] == "50%"
    assert made["status"]["disruptionsAllowed"] == 0
