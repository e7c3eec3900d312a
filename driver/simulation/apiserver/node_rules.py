"""What a kubelet's own credentials allow: the node authorizer and the NodeRestriction plugin, for what DRA touches.

Called by the authorizer for users `system:node:NAME` of group system:nodes, and by admission for their writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from driver.simulation.apiserver.kinds import by_name
from driver.simulation.apiserver.registry import Attempt
from driver.simulation.apiserver.requests import User
from driver.simulation.apiserver.selectors import parse_fields
from driver.simulation.apiserver.statuses import failure, object_details, qualified
from driver.simulation.apiserver.storage import Storage
from driver.simulation.apiserver.values import JsonObject, dig, items, metadata, obj, text

if TYPE_CHECKING:
    from driver.simulation.apiserver.authorizing import Attributes

_GROUP: Final = "system:nodes"
_PREFIX: Final = "system:node:"
_OWN_SLICES: Final = frozenset({"list", "watch", "deletecollection"})
_FREE: Final = frozenset(
    {
        ("", "nodes"),
        ("", "nodes/status"),
        ("", "pods"),
        ("", "pods/status"),
        ("", "pods/eviction"),
        ("", "events"),
        ("events.k8s.io", "events"),
        ("coordination.k8s.io", "leases"),
        ("", "serviceaccounts/token"),
        ("", "configmaps"),
        ("resource.k8s.io", "resourceslices"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    }
)


def node_of(user: User) -> str:
    """The node whose kubelet this is; empty for everybody else."""
    is_node = _GROUP in user.groups and user.name.startswith(_PREFIX)
    return user.name.removeprefix(_PREFIX) if is_node else ""


def node_decision(storage: Storage, node: str, wanted: Attributes) -> tuple[bool, str]:
    """Whether a node may, and why not."""
    if wanted.resource == "resourceslices" and wanted.verb in _OWN_SLICES:
        terms = parse_fields(wanted.field_selector)
        if any(term.field == "spec.nodeName" and term.equal and term.value == node for term in terms):
            return True, ""
        return False, "can only list/watch/deletecollection resourceslices with nodeName field selector"
    if wanted.resource == "resourceclaims" and wanted.verb == "get":
        if _uses_claim(storage, node, wanted.namespace, wanted.name):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"
    return (wanted.group, wanted.full_resource) in _FREE, ""


def _uses_claim(storage: Storage, node: str, namespace: str, claim: str) -> bool:
    """Whether a pod of the node names the claim, itself or by its generated name."""
    for item in storage.items(by_name("pods"), namespace):
        if dig(item.value, ("spec", "nodeName")) != node:
            continue
        names = [obj(one).get("resourceClaimName") for one in items(dig(item.value, ("spec", "resourceClaims")))]
        names += [
            obj(one).get("resourceClaimName") for one in items(dig(item.value, ("status", "resourceClaimStatuses")))
        ]
        if claim in names:
            return True
    return False


def restrict_nodes(attempt: Attempt) -> None:
    """NodeRestriction: a kubelet writes only slices of its own node (403 otherwise)."""
    node = node_of(attempt.write.user)
    if not node or attempt.resource.plural != "resourceslices":
        return
    value: JsonObject = attempt.new if attempt.new is not None else attempt.old or {}
    if dig(value, ("spec", "nodeName")) == node:
        return
    what = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}[attempt.operation]
    name = text(metadata(value).get("name"))
    resource, group = attempt.resource.plural, attempt.resource.group
    message = (
        f'{qualified(resource, group)} "{name}" is forbidden: can only {what} ResourceSlice with the same NodeName as '
        "the requesting node"
    )
    raise failure(403, "Forbidden", message, object_details(group, resource, name))
