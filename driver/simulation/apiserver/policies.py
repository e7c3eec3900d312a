"""ValidatingAdmissionPolicies: matched, evaluated with CEL, enforced.

An admission hook of the registry. How an expression is evaluated is given at construction, so that this module knows
no language. Semantics: apiserver admission/plugin/policy/validating (v1.36), without parameters and authorizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.authenticating import user_info
from driver.simulation.apiserver.kinds import by_name
from driver.simulation.apiserver.registry import Attempt, Registry
from driver.simulation.apiserver.statuses import ApiError, Cause, failure, object_details, qualified
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, plain, text

Evaluate = Callable[[str, Mapping[str, object]], object]
"""Evaluates an expression over variables; raises `EvaluationFailed` if it cannot."""

POLICIES: Final = by_name("validatingadmissionpolicies")
BINDINGS: Final = by_name("validatingadmissionpolicybindings")
_CODES: Final = {"Invalid": 422, "Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}


class EvaluationFailed(Exception):  # noqa: N818 - a result that failurePolicy decides about
    """An expression does not compile or ends in an error."""


@dataclass(frozen=True)
class _Denial:
    message: str
    reason: str = "Invalid"


class Policies:
    """Evaluates the stored policies for each write."""

    def __init__(self, registry: Registry, evaluate: Evaluate) -> None:
        self._registry = registry
        self._evaluate = evaluate

    def admit(self, attempt: Attempt) -> None:
        """Refuses what a policy with a Deny binding refuses; Warn bindings warn."""
        for item in self._registry.storage.items(BINDINGS):
            binding = item.value
            spec = obj(binding.get("spec"))
            policy = self._registry.storage.get(POLICIES, ("", text(spec.get("policyName"))))
            if policy is None or not self._matches(obj(spec.get("matchResources")), attempt, needed=False):
                continue
            constraints = obj(obj(policy.value.get("spec")).get("matchConstraints"))
            if not self._matches(constraints, attempt, needed=True):
                continue
            for denial in self._violations(policy.value, attempt):
                self._enforce(policy.value, binding, denial, attempt)

    @staticmethod
    def _enforce(policy: JsonObject, binding: JsonObject, denial: _Denial, attempt: Attempt) -> None:
        names = [text(metadata(one).get("name")) for one in (policy, binding)]
        actions = items(obj(binding.get("spec")).get("validationActions"))
        if "Warn" in actions:
            attempt.write.warnings.append(
                f"Validation failed for ValidatingAdmissionPolicy '{names[0]}' with binding '{names[1]}': "
                f"{denial.message}"
            )
        if "Deny" in actions:
            what = f"ValidatingAdmissionPolicy '{names[0]}' with binding '{names[1]}' denied request: {denial.message}"
            raise _refusal(attempt, what, denial.reason)

    def _matches(self, constraints: JsonObject, attempt: Attempt, *, needed: bool) -> bool:
        rules = items(constraints.get("resourceRules"))
        if (rules or needed) and not any(_rule_matches(obj(rule), attempt) for rule in rules):
            return False
        if any(_rule_matches(obj(rule), attempt) for rule in items(constraints.get("excludeResourceRules"))):
            return False
        namespace = self._namespace(attempt)
        if namespace is not None and not selects(constraints.get("namespaceSelector"), namespace):
            return False
        objects = [value for value in (attempt.new, attempt.old) if value is not None]
        return any(selects(constraints.get("objectSelector"), value) for value in objects)

    def _namespace(self, attempt: Attempt) -> JsonObject | None:
        if not attempt.resource.namespaced:
            return None
        return self._registry.world.lookup("namespaces", ("", attempt.key[0]))

    def _violations(self, policy: JsonObject, attempt: Attempt) -> list[_Denial]:
        spec = obj(policy.get("spec"))
        variables: Mapping[str, object] = self._variables(attempt)
        try:
            for condition in items(spec.get("matchConditions")):
                if self._evaluate(text(obj(condition).get("expression")), variables) is not True:
                    return []
        except EvaluationFailed as error:
            return [_Denial(str(error))] if spec.get("failurePolicy") == "Fail" else []
        variables = {**variables, "variables": self._composed(items(spec.get("variables")), variables)}
        found = [self._validate(obj(one), variables, spec) for one in items(spec.get("validations"))]
        return [denial for denial in found if denial is not None]

    def _composed(self, declared: list[Json], variables: Mapping[str, object]) -> dict[str, object]:
        """`variables.NAME`, each over those before it. One that fails is missing where it is used."""
        composed: dict[str, object] = {}
        for entry in declared:
            expression = text(obj(entry).get("expression"))
            try:
                composed[text(obj(entry).get("name"))] = self._evaluate(
                    expression, {**variables, "variables": composed}
                )
            except EvaluationFailed:
                continue
        return composed

    def _validate(self, validation: JsonObject, variables: Mapping[str, object], spec: JsonObject) -> _Denial | None:
        expression = text(validation.get("expression"))
        try:
            if self._evaluate(expression, variables) is True:
                return None
        except EvaluationFailed as error:
            if spec.get("failurePolicy") != "Fail":
                return None
            return _Denial(f"expression '{expression}' resulted in error: {error}")
        message = self._message(validation, variables) or text(validation.get("message")).strip()
        return _Denial(
            message or f"failed expression: {expression.strip()}", text(validation.get("reason")) or "Invalid"
        )

    def _message(self, validation: JsonObject, variables: Mapping[str, object]) -> str:
        if not validation.get("messageExpression"):
            return ""
        try:
            message = self._evaluate(text(validation["messageExpression"]), variables)
        except EvaluationFailed:
            return ""
        return message.strip() if isinstance(message, str) else ""

    def _variables(self, attempt: Attempt) -> JsonObject:
        resource = attempt.resource
        request: JsonObject = {
            "uid": self._registry.world.sources.new_uid(),
            "kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
            "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
            "subResource": attempt.write.subresource,
            "requestKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
            "name": attempt.key[1],
            "namespace": attempt.key[0],
            "operation": attempt.operation,
            "userInfo": {"groups": [], "extra": {}, "uid": "", **user_info(attempt.write.user)},
            "dryRun": attempt.write.dry_run,
        }
        return {
            "object": plain(attempt.new),
            "oldObject": plain(attempt.old),
            "request": request,
            "params": None,
            "namespaceObject": plain(self._namespace(attempt)),
        }


def _rule_matches(rule: JsonObject, attempt: Attempt) -> bool:
    resource = attempt.resource
    wanted = f"{resource.plural}/{attempt.write.subresource}" if attempt.write.subresource else resource.plural
    resources = items(rule.get("resources"))
    by_resource = wanted in resources or ("*" in resources and "/" not in wanted) or "*/*" in resources
    by_resource = by_resource or f"{resource.plural}/*" in resources
    names = items(rule.get("resourceNames"))
    scope = rule.get("scope", "*")
    return (
        by_resource
        and _any(rule.get("apiGroups"), resource.group)
        and _any(rule.get("apiVersions"), resource.version)
        and _any(rule.get("operations"), attempt.operation)
        and (not names or attempt.key[1] in names)
        and scope in {"*", "Namespaced" if resource.namespaced else "Cluster"}
    )


def _any(listed: Json, value: str) -> bool:
    return "*" in items(listed) or value in items(listed)


def selects(selector: Json, value: JsonObject) -> bool:
    """Whether a metav1.LabelSelector selects an object; none and the empty one select everything."""
    labels = obj(metadata(value).get("labels"))
    if any(labels.get(key) != wanted for key, wanted in obj(obj(selector).get("matchLabels")).items()):
        return False
    return all(_expression(obj(one), labels) for one in items(obj(selector).get("matchExpressions")))


def _expression(term: JsonObject, labels: JsonObject) -> bool:
    key, operator, values = text(term.get("key")), term.get("operator"), items(term.get("values"))
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    inside = key in labels and labels[key] in values
    return inside if operator == "In" else not inside


def _refusal(attempt: Attempt, what: str, reason: str) -> ApiError:
    resource = attempt.resource
    value = attempt.new if attempt.new is not None else attempt.old or {}
    name = attempt.key[1] or text(metadata(value).get("name"))
    details = object_details(resource.group, resource.plural, name, [Cause("", what)])
    message = f'{qualified(resource.plural, resource.group)} "{name}" is forbidden: {what}'
    return failure(_CODES.get(reason, 422), reason, message, details)
