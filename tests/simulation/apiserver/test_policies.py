"""ValidatingAdmissionPolicies: what they match, what they refuse, what happens when they fail."""

from __future__ import annotations

from typing import Any

import pytest

from driver.simulation.apiserver import ApiError, ApiServer
from driver.simulation.apiserver.policies import selects
from driver.simulation.apiserver.registry import Attempt
from driver.simulation.apiserver.statuses import failure
from driver.simulation.apiserver.values import JsonObject
from tests.simulation.apiserver.asking import DRA, MERGE, Asking, a_config_map, a_slice

GROUP = "/apis/admissionregistration.k8s.io/v1"
SLICES = f"{DRA}/resourceslices"


def install(
    api: Asking,
    *validations: dict[str, str],
    rule: dict[str, Any] | None = None,
    actions: tuple[str, ...] = ("Deny",),
    **spec: Any,
) -> None:
    """A policy about slices (or what `rule` says) and its binding."""
    about = {
        "apiGroups": ["resource.k8s.io"],
        "apiVersions": ["*"],
        "operations": ["*"],
        "resources": ["resourceslices"],
        **(rule or {}),
    }
    constraints = {"resourceRules": [about], **spec.pop("constraints", {})}
    policy = {"matchConstraints": constraints, "validations": list(validations), **spec}
    api.ok("POST", f"{GROUP}/validatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": policy})
    binding = {"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": list(actions)}}
    api.ok("POST", f"{GROUP}/validatingadmissionpolicybindings", binding)


def test_a_violation_is_refused_with_its_message(api: Asking) -> None:
    install(api, {"expression": "object.spec.driver == 'other'", "message": "only other"})
    code, message = api.refused("POST", SLICES, a_slice())
    assert code == 422
    assert message == (
        "resourceslices.resource.k8s.io \"s\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied "
        "request: only other"
    )


def test_message_expression_wins_and_without_any_the_expression_is_shown(api: Asking) -> None:
    install(api, {"expression": "false", "message": "x", "messageExpression": "'driver is ' + object.spec.driver"})
    assert api.refused("POST", SLICES, a_slice())[1].endswith("denied request: driver is gpu.example.com")
    api.ok(
        "PATCH",
        f"{GROUP}/validatingadmissionpolicies/p",
        {"spec": {"validations": [{"expression": "1 == 2"}]}},
        content_type=MERGE,
    )
    assert api.refused("POST", SLICES, a_slice())[1].endswith("denied request: failed expression: 1 == 2")


@pytest.mark.parametrize(("reason", "code"), [("Forbidden", 403), ("Unauthorized", 401), ("Invalid", 422)])
def test_the_reason_decides_the_status(api: Asking, reason: str, code: int) -> None:
    install(api, {"expression": "false", "reason": reason})
    assert api.answer("POST", SLICES, a_slice()).status == code


def test_updates_and_deletions_are_seen_with_the_old_object(api: Asking) -> None:
    api.ok("POST", SLICES, a_slice())
    install(
        api,
        {"expression": "request.operation != 'DELETE' || oldObject.spec.nodeName == 'other'"},
        {"expression": "request.operation != 'UPDATE' || object.metadata.name == oldObject.metadata.name"},
    )
    assert api.ok("PATCH", f"{SLICES}/s", {"metadata": {"labels": {"a": "b"}}}, content_type=MERGE)
    assert api.answer("DELETE", f"{SLICES}/s").status == 422
    assert api.answer("DELETE", SLICES).status == 422


def test_conditions_choose_requests(api: Asking) -> None:
    condition = {"name": "node-b", "expression": "object.spec.nodeName == 'node-b'"}
    install(api, {"expression": "false"}, matchConditions=[condition])
    assert api.ok("POST", SLICES, a_slice("s", "node-a"))
    assert api.answer("POST", SLICES, a_slice("t", "node-b")).status == 422


def test_variables_build_on_each_other(api: Asking) -> None:
    variables = [
        {"name": "node", "expression": "object.spec.nodeName"},
        {"name": "isOurs", "expression": "variables.node == 'node-a'"},
    ]
    install(api, {"expression": "variables.isOurs"}, variables=variables)
    assert api.ok("POST", SLICES, a_slice("s", "node-a"))
    assert api.answer("POST", SLICES, a_slice("t", "node-b")).status == 422


@pytest.mark.parametrize(("policy", "status"), [("Fail", 422), ("Ignore", 201)])
def test_failure_policy_decides_about_broken_expressions(api: Asking, policy: str, status: int) -> None:
    install(api, {"expression": "object.spec.nothing.here == 1"}, failurePolicy=policy)
    assert api.answer("POST", SLICES, a_slice()).status == status


def test_a_broken_condition_fails_too(api: Asking) -> None:
    condition = {"name": "broken", "expression": "object.spec.nothing == 1"}
    install(api, {"expression": "true"}, matchConditions=[condition])
    assert api.answer("POST", SLICES, a_slice()).status == 422


def test_warn_only_warns(api: Asking) -> None:
    install(api, {"expression": "false", "message": "mind this"}, actions=("Warn",))
    response = api.answer("POST", SLICES, a_slice())
    assert response.status == 201
    assert response.warnings == [
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': mind this",
    ]


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({}, 422),
        ({"operations": ["UPDATE"]}, 201),
        ({"resources": ["*"]}, 422),
        ({"resources": ["resourceclaims"]}, 201),
        ({"apiGroups": [""]}, 201),
        ({"apiVersions": ["v1"]}, 422),
        ({"resourceNames": ["other"]}, 201),
        ({"resourceNames": ["s"]}, 422),
        ({"scope": "Namespaced"}, 201),
        ({"scope": "Cluster"}, 422),
    ],
)
def test_rules_match_by_group_version_operation_resource_name_and_scope(
    api: Asking, rule: dict[str, Any], status: int
) -> None:
    install(api, {"expression": "false"}, rule=rule)
    assert api.answer("POST", SLICES, a_slice()).status == status


def test_excluded_resources_are_not_checked(api: Asking) -> None:
    excluded = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["*"]}
    install(api, {"expression": "false"}, constraints={"excludeResourceRules": [excluded]})
    assert api.answer("POST", SLICES, a_slice()).status == 201


def test_namespaces_are_selected_by_label(api: Asking) -> None:
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "n", "labels": {"checked": "yes"}}})
    install(
        api,
        {"expression": "namespaceObject.metadata.name == 'never'"},
        rule={"apiGroups": [""], "resources": ["configmaps"]},
        constraints={"namespaceSelector": {"matchLabels": {"checked": "yes"}}},
    )
    assert api.answer("POST", "/api/v1/namespaces/default/configmaps", a_config_map("a")).status == 201
    assert api.answer("POST", "/api/v1/namespaces/n/configmaps", a_config_map("a", "n")).status == 422


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        (None, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1"}}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {"a": "1"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
    ],
)
def test_label_selectors_of_objects(selector: JsonObject | None, labels: JsonObject, expected: bool) -> None:
    assert selects(selector, {"metadata": {"labels": labels}}) is expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec.matchConstraints: Required value"),
        ({"matchConstraints": {}}, "spec.matchConstraints.resourceRules: Required value"),
        ({"validations": [{"expression": " "}]}, "spec.validations[0].expression: Required value"),
    ],
)
def test_incomplete_policies_are_refused(api: Asking, spec: dict[str, Any], message: str) -> None:
    code, text = api.refused("POST", f"{GROUP}/validatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": spec})
    assert code == 422
    assert message in text


def test_other_hooks_are_asked_with_every_write() -> None:
    seen: list[tuple[str, str]] = []

    def admit(attempt: Attempt) -> None:
        seen.append((attempt.operation, attempt.resource.plural))
        if attempt.resource.plural == "nodes":
            raise failure(403, "Forbidden", "no nodes today")

    api = Asking(ApiServer(namespaces=("default",), admit=[admit]))
    assert ("CREATE", "namespaces") in seen
    assert api.refused("POST", "/api/v1/nodes", {"metadata": {"name": "n"}}) == (403, "no nodes today")
    with pytest.raises(ApiError, match="no nodes today"):
        api.server.store.create({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}})
    api.ok("DELETE", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
    assert seen[-1] == ("DELETE", "configmaps")
