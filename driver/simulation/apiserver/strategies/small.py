"""The kinds with few rules: nodes, namespaces, events, leases, RBAC, admission policies, secrets."""

from __future__ import annotations

import base64
from typing import Final

from driver.simulation.apiserver.checking import (
    Faults,
    invalid,
    plain_label_rules,
    required,
    unsupported,
)
from driver.simulation.apiserver.strategies.base import Strategy, keep
from driver.simulation.apiserver.tidying import same
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text

RBAC_GROUP: Final = "rbac.authorization.k8s.io"


class NodeStrategy(Strategy):
    """Nodes; a new one is tainted until it is ready (admission plugin TaintNodesByCondition)."""

    def prepare_create(self, value: JsonObject) -> None:
        """Adds the not-ready taint; the status a kubelet sends along stays."""
        spec = value.setdefault("spec", {})
        taints = items(obj(spec).get("taints"))
        not_ready: JsonObject = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        if not any(obj(taint).get("key") == not_ready["key"] for taint in taints):
            obj(spec)["taints"] = [*taints, not_ready]

    def prepare_status(self, new: JsonObject, old: JsonObject) -> None:
        """The spec stays; labels and annotations may change."""
        keep(new, old, "spec")

    def default(self, value: JsonObject) -> None:
        """Fills in: allocatable defaults to capacity."""
        status = obj(value.get("status"))
        if status.get("capacity") and not status.get("allocatable"):
            status["allocatable"] = dict(obj(status["capacity"]))


class NamespaceStrategy(Strategy):
    """Namespaces carry the finalizer `kubernetes` in their spec until they are empty."""

    def prepare_create(self, value: JsonObject) -> None:
        """Active, with the finalizer and the label of its name."""
        value["status"] = {"phase": "Active"}
        value["spec"] = {"finalizers": ["kubernetes"]}
        meta = metadata(value)
        labels = obj(meta.get("labels"))
        meta["labels"] = {**labels, "kubernetes.io/metadata.name": meta.get("name")}

    def prepare_update(self, new: JsonObject, old: JsonObject) -> None:
        """Spec and status stay."""
        keep(new, old, "spec")
        keep(new, old, "status")

    def lingers(self, value: JsonObject) -> bool:
        """Until spec.finalizers is empty."""
        return bool(obj(value.get("spec")).get("finalizers"))

    def mark_deleting(self, value: JsonObject) -> None:
        """Phase Terminating."""
        value["status"] = {**obj(value.get("status")), "phase": "Terminating"}

    def validate_name(self, name: str) -> list[str]:
        """A DNS label."""
        return plain_label_rules(name)


class LeaseStrategy(Strategy):
    """Leases."""

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Positive duration, transitions that are not negative."""
        del old, subresource
        spec = obj(new.get("spec"))
        faults: Faults = []
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if isinstance(duration, int) and duration <= 0:
            faults.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        if isinstance(transitions, int) and transitions < 0:
            faults.append(invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
        return faults


class RoleStrategy(Strategy):
    """Roles and ClusterRoles."""

    def validate_name(self, name: str) -> list[str]:
        """RBAC names are path segments only."""
        return path_segment_rules(name)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Every rule has verbs, and names resources or URLs."""
        del old, subresource
        faults: Faults = []
        for index, entry in enumerate(items(new.get("rules"))):
            rule = obj(entry)
            path = f"rules[{index}]"
            if not rule.get("verbs"):
                faults.append(required(f"{path}.verbs", "verbs must contain at least one value"))
            if rule.get("nonResourceURLs"):
                continue
            if not rule.get("apiGroups"):
                faults.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
            if not rule.get("resources"):
                faults.append(required(f"{path}.resources", "resource rules must supply at least one resource"))
        return faults


def path_segment_rules(name: str) -> list[str]:
    """What is wrong with a name that only has to fit into a path."""
    found = [f"may not be '{name}'"] if name in {".", ".."} else []
    return found + [f"may not contain '{character}'" for character in "/%" if character in name]


class BindingStrategy(RoleStrategy):
    """RoleBindings and ClusterRoleBindings."""

    def default(self, value: JsonObject) -> None:
        """API groups of the role and the subjects."""
        role = obj(value.get("roleRef"))
        if not role.get("apiGroup"):
            role["apiGroup"] = RBAC_GROUP
        for subject in items(value.get("subjects")):
            kind = obj(subject).get("kind")
            if kind in {"User", "Group"} and not obj(subject).get("apiGroup"):
                obj(subject)["apiGroup"] = RBAC_GROUP

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """The role may not change; subjects are complete."""
        del subresource
        role = obj(new.get("roleRef"))
        faults: Faults = []
        allowed = ("Role", "ClusterRole") if self.resource.namespaced else ("ClusterRole",)
        if role.get("kind") not in allowed:
            faults.append(unsupported("roleRef.kind", text(role.get("kind")), allowed))
        if not role.get("name"):
            faults.append(required("roleRef.name"))
        for index, entry in enumerate(items(new.get("subjects"))):
            faults += _check_subject(obj(entry), f"subjects[{index}]")
        if old is not None and not same("RoleRef", role, old.get("roleRef")):
            faults.append(invalid("roleRef", role, "cannot change roleRef"))
        return faults


def _check_subject(subject: JsonObject, path: str) -> Faults:
    faults: Faults = []
    if not subject.get("name"):
        faults.append(required(f"{path}.name"))
    kind = text(subject.get("kind"))
    if kind not in {"ServiceAccount", "User", "Group"}:
        faults.append(unsupported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))
    if kind == "ServiceAccount" and not subject.get("namespace"):
        faults.append(required(f"{path}.namespace"))
    return faults


class PolicyStrategy(Strategy):
    """ValidatingAdmissionPolicies."""

    def default(self, value: JsonObject) -> None:
        """Fills in failurePolicy Fail, matchPolicy Equivalent, selectors that match all, scope *."""
        spec = obj(value.get("spec"))
        spec.setdefault("failurePolicy", "Fail")
        constraints = spec.get("matchConstraints")
        if isinstance(constraints, dict):
            default_match(constraints)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Something is matched and something is validated."""
        del old, subresource
        spec = obj(new.get("spec"))
        faults: Faults = []
        if spec.get("matchConstraints") is None:
            faults.append(required("spec.matchConstraints"))
        elif not items(obj(spec["matchConstraints"]).get("resourceRules")):
            faults.append(required("spec.matchConstraints.resourceRules"))
        if not spec.get("validations") and not spec.get("auditAnnotations"):
            why = "validations or auditAnnotations must be non-empty; at least one of them is required"
            faults += [required("spec.validations", why), required("spec.auditAnnotations", why)]
        for index, entry in enumerate(items(spec.get("validations"))):
            if not text(obj(entry).get("expression")).strip():
                faults.append(required(f"spec.validations[{index}].expression", "expression is not specified"))
        return faults


def default_match(constraints: JsonObject) -> None:
    """Defaults of MatchResources."""
    constraints.setdefault("matchPolicy", "Equivalent")
    constraints.setdefault("namespaceSelector", {})
    constraints.setdefault("objectSelector", {})
    for name in ("resourceRules", "excludeResourceRules"):
        for rule in items(constraints.get(name)):
            obj(rule).setdefault("scope", "*")


class PolicyBindingStrategy(Strategy):
    """ValidatingAdmissionPolicyBindings."""

    def default(self, value: JsonObject) -> None:
        """Defaults of matchResources."""
        match = obj(value.get("spec")).get("matchResources")
        if isinstance(match, dict):
            default_match(match)

    def validate(self, new: JsonObject, old: JsonObject | None, subresource: str) -> Faults:
        """Names a policy and says what happens."""
        del old, subresource
        spec = obj(new.get("spec"))
        faults: Faults = []
        if not spec.get("policyName"):
            faults.append(required("spec.policyName"))
        if not spec.get("validationActions"):
            faults.append(required("spec.validationActions"))
        for index, action in enumerate(items(spec.get("validationActions"))):
            if action not in {"Deny", "Warn", "Audit"}:
                faults.append(unsupported(f"spec.validationActions[{index}]", action, ("Audit", "Deny", "Warn")))
        return faults


class SecretStrategy(Strategy):
    """Secrets: plain text given is stored encoded."""

    def default(self, value: JsonObject) -> None:
        """Fills in type Opaque; stringData moves into data."""
        value["type"] = text(value.get("type")) or "Opaque"
        plain: Json = value.pop("stringData", None)
        if isinstance(plain, dict):
            data = obj(value.setdefault("data", {}))
            for key, one in plain.items():
                data[key] = base64.b64encode(text(one).encode()).decode()
