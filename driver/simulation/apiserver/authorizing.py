"""May they: RBAC over the stored roles and bindings, the rules for nodes, and what everybody may.

Called by the dispatcher for each request where authorization is on, by access reviews and by the finer checks of
claim status. Decisions and reasons are those of Kubernetes' RBAC and node authorizers (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from driver.simulation.apiserver.kinds import by_name
from driver.simulation.apiserver.node_rules import node_decision, node_of
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.statuses import ApiError, failure, object_details, qualified
from driver.simulation.apiserver.storage import Storage
from driver.simulation.apiserver.values import Json, JsonObject, items, metadata, obj, text

MASTERS: Final = "system:masters"
_PUBLIC: Final = frozenset({"/version", "/version/", "/healthz", "/livez", "/readyz"})
_DISCOVERY: Final = ("/api", "/apis", "/openapi", "/version")
_SELF_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
_ROLES: Final = {name: by_name(name) for name in ("clusterroles", "roles", "clusterrolebindings", "rolebindings")}


@dataclass(frozen=True)
class Attributes:
    """What somebody wants to do: authorizer.Attributes upstream. `path` is set for non-resource requests only."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""

    @property
    def full_resource(self) -> str:
        """The resource, with its subresource, as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True)
class Decision:
    """Yes or no, and why."""

    allowed: bool
    reason: str = ""


class Authorizer:
    """Decides by what is stored now."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def decide(self, user: User, wanted: Attributes) -> Decision:
        """Whether the user may."""
        if MASTERS in user.groups:
            return Decision(allowed=True)
        if _everybody(user, wanted):
            return Decision(allowed=True, reason="RBAC: allowed by a default role")
        node = node_of(user)
        if node:
            allowed, reason = node_decision(self._storage, node, wanted)
            if allowed:
                return Decision(allowed=True)
            by_role = self._by_role(user, wanted)
            return by_role if by_role.allowed else Decision(allowed=False, reason=reason)
        return self._by_role(user, wanted)

    def _by_role(self, user: User, wanted: Attributes) -> Decision:
        for rule, reason in self.rules(user, wanted.namespace):
            if rule_allows(rule, wanted):
                return Decision(allowed=True, reason=reason)
        return Decision(allowed=False)

    def rules(self, user: User, namespace: str) -> Iterator[tuple[JsonObject, str]]:
        """Every rule that holds for the user in a namespace (cluster-wide if empty), with the reason it gives."""
        yield from self._bound_rules("clusterrolebindings", user, "")
        if namespace:
            yield from self._bound_rules("rolebindings", user, namespace)

    def _bound_rules(self, bindings: str, user: User, namespace: str) -> Iterator[tuple[JsonObject, str]]:
        for item in self._storage.items(_ROLES[bindings], namespace):
            binding = item.value
            subject = next(
                (one for one in items(binding.get("subjects")) if _is_subject(user, obj(one), namespace)), None
            )
            if subject is None:
                continue
            role = obj(binding.get("roleRef"))
            reason = (
                f"RBAC: allowed by {_show_binding(binding)} of {_show_role(role, namespace)} to {_show(obj(subject))}"
            )
            for rule in items(obj(self._role(role, namespace)).get("rules")):
                yield obj(rule), reason

    def _role(self, reference: JsonObject, namespace: str) -> JsonObject | None:
        name = text(reference.get("name"))
        kind, key = (
            ("clusterroles", ("", name)) if reference.get("kind") == "ClusterRole" else ("roles", (namespace, name))
        )
        found = self._storage.get(_ROLES[kind], key)
        return found.value if found else None


def _everybody(user: User, wanted: Attributes) -> bool:
    """The default roles: public information, discovery, reviews about oneself."""
    if wanted.path:
        if wanted.path in _PUBLIC:
            return wanted.verb == "get"
        known = wanted.path in _DISCOVERY or any(wanted.path.startswith(f"{prefix}/") for prefix in _DISCOVERY)
        return known and wanted.verb == "get" and "system:authenticated" in user.groups
    return wanted.verb == "create" and wanted.resource in _SELF_REVIEWS and "system:authenticated" in user.groups


def rule_allows(rule: Mapping[str, Json], wanted: Attributes) -> bool:
    """Whether one PolicyRule covers the attributes."""
    if not _covers(rule.get("verbs"), wanted.verb):
        return False
    if wanted.path:
        return any(_path_matches(text(pattern), wanted.path) for pattern in items(rule.get("nonResourceURLs")))
    if not _covers(rule.get("apiGroups"), wanted.group):
        return False
    names = items(rule.get("resourceNames"))
    return _covers_resource(items(rule.get("resources")), wanted) and (not names or wanted.name in names)


def _covers(listed: Json, value: str) -> bool:
    return "*" in items(listed) or value in items(listed)


def _covers_resource(listed: list[Json], wanted: Attributes) -> bool:
    if "*" in listed or wanted.full_resource in listed:
        return True
    return bool(wanted.subresource) and f"*/{wanted.subresource}" in listed


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in {"*", path} or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _is_subject(user: User, subject: JsonObject, namespace: str) -> bool:
    kind, name = subject.get("kind"), text(subject.get("name"))
    if kind == "User":
        return user.name == name
    if kind == "Group":
        return name in user.groups
    where = text(subject.get("namespace")) or namespace
    return user.name == f"system:serviceaccount:{where}:{name}"


def _show_binding(binding: JsonObject) -> str:
    meta = metadata(binding)
    if meta.get("namespace"):
        return f'RoleBinding "{text(meta.get("name"))}/{text(meta["namespace"])}"'
    return f'ClusterRoleBinding "{text(meta.get("name"))}"'


def _show_role(role: JsonObject, _namespace: str) -> str:
    return f'{text(role.get("kind"))} "{text(role.get("name"))}"'


def _show(subject: JsonObject) -> str:
    name = text(subject.get("name"))
    if subject.get("kind") == "ServiceAccount":
        name = f"{name}/{text(subject.get('namespace'))}"
    return f'{text(subject.get("kind"))} "{name}"'


def forbidden(user: User, wanted: Attributes, reason: str = "") -> ApiError:
    """The 403 of a refused request."""
    return failure(403, "Forbidden", forbidden_text(user, wanted, reason), _details(wanted))


def forbidden_text(user: User, wanted: Attributes, reason: str = "") -> str:
    """Its message."""
    tail = f": {reason}" if reason else ""
    if wanted.path:
        return f'forbidden: User "{user.name}" cannot {wanted.verb} path "{wanted.path}"{tail}'
    named = f' "{wanted.name}"' if wanted.name else ""
    scope = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    return (
        f'{qualified(wanted.resource, wanted.group)}{named} is forbidden: User "{user.name}" cannot {wanted.verb} '
        f'resource "{wanted.full_resource}" in API group "{wanted.group}" {scope}{tail}'
    )


def _details(wanted: Attributes) -> JsonObject:
    return {} if wanted.path else object_details(wanted.group, wanted.resource, wanted.name)
