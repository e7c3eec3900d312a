"""The simulated components' way to the API server: real HTTP, through the driver's own client.

Called by scheduler, controllers, kubelets, demo and tests. One `Kind` is one resource with the type it is read as.
Raises the errors of `driver.model.errors`. Safe for many threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec

from driver.kube.client import MERGE_PATCH, Client
from driver.model.errors import InvalidInput, NotFound
from driver.simulation.objects import Namespace, Node, Object, Page, Pod
from driver.simulation.resources import Claim, DeviceClass, Slice, Template

Json: TypeAlias = "bool | int | float | str | msgspec.Raw | Sequence[Json] | Mapping[str, Json] | None"
Body: TypeAlias = Mapping[str, Json]
"""An object or patch, as it is sent."""

ObjectT = TypeVar("ObjectT", bound=Object)


@dataclass(frozen=True, slots=True)
class Kind(Generic[ObjectT]):
    """One resource of the API."""

    group: str
    """`/api/v1` or `/apis/<group>/<version>`."""
    plural: str
    kind: str
    type: type[ObjectT]
    namespaced: bool = True
    decoder: msgspec.json.Decoder[ObjectT] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the decoder."""
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.type))

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of a collection (no name), an object, or a subresource of it."""
        scope = ("namespaces", namespace) if self.namespaced and namespace else ()
        return "/".join((self.group, *scope, self.plural, *(part for part in (name, subresource) if part)))


class Other(Object, frozen=True):
    """An object of a kind that is only written."""


_pages: Final = msgspec.json.Decoder(Page)
_DRA: Final = "/apis/resource.k8s.io/v1"
_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_ADMISSION: Final = "/apis/admissionregistration.k8s.io/v1"
PODS: Final = Kind("/api/v1", "pods", "Pod", Pod)
NODES: Final = Kind("/api/v1", "nodes", "Node", Node, namespaced=False)
NAMESPACES: Final = Kind("/api/v1", "namespaces", "Namespace", Namespace, namespaced=False)
EVENTS: Final = Kind("/api/v1", "events", "Event", Other)
LEASES: Final = Kind("/apis/coordination.k8s.io/v1", "leases", "Lease", Other)
CLAIMS: Final = Kind(_DRA, "resourceclaims", "ResourceClaim", Claim)
TEMPLATES: Final = Kind(_DRA, "resourceclaimtemplates", "ResourceClaimTemplate", Template)
CLASSES: Final = Kind(_DRA, "deviceclasses", "DeviceClass", DeviceClass, namespaced=False)
SLICES: Final = Kind(_DRA, "resourceslices", "ResourceSlice", Slice, namespaced=False)
_OTHERS: Final = (
    Kind("/api/v1", "configmaps", "ConfigMap", Other),
    Kind("/api/v1", "serviceaccounts", "ServiceAccount", Other),
    Kind(_RBAC, "roles", "Role", Other),
    Kind(_RBAC, "rolebindings", "RoleBinding", Other),
    Kind(_RBAC, "clusterroles", "ClusterRole", Other, namespaced=False),
    Kind(_RBAC, "clusterrolebindings", "ClusterRoleBinding", Other, namespaced=False),
    Kind(_ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", Other, namespaced=False),
    Kind(_ADMISSION, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", Other, namespaced=False),
)
KINDS: Final[Mapping[str, Kind[Object]]] = {
    kind.kind: kind  # type: ignore[misc]  # a Kind only produces its type, so it serves as a Kind of Object
    for kind in (PODS, NODES, NAMESPACES, EVENTS, CLAIMS, TEMPLATES, CLASSES, SLICES, *_OTHERS)
}
"""By the word in manifests."""


class Objects:
    """Reads and writes objects of one API server."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, kind: Kind[ObjectT], name: str, namespace: str = "") -> ObjectT:
        """Return one object."""
        return kind.decoder.decode(self.client.get(kind.path(namespace, name)))

    def find(self, kind: Kind[ObjectT], name: str, namespace: str = "") -> ObjectT | None:
        """Return one object, or None if it does not exist."""
        try:
            return self.get(kind, name, namespace)
        except NotFound:
            return None

    def list_all(
        self, kind: Kind[ObjectT], namespace: str = "", *, fields: str = "", labels: str = ""
    ) -> list[ObjectT]:
        """Return all objects of a namespace or of all namespaces."""
        return self.list_at(kind, namespace, fields=fields, labels=labels)[0]

    def list_at(
        self, kind: Kind[ObjectT], namespace: str = "", *, fields: str = "", labels: str = ""
    ) -> tuple[list[ObjectT], str]:
        """Return all objects and the resourceVersion from which to watch."""
        chosen = {"fieldSelector": fields, "labelSelector": labels}
        body = self.client.get(kind.path(namespace), {key: value for key, value in chosen.items() if value})
        page = _pages.decode(body)
        return [kind.decoder.decode(item) for item in page.items], page.metadata.resource_version

    def create(self, kind: Kind[ObjectT], body: Body, namespace: str = "") -> ObjectT:
        """Create an object; apiVersion and kind are added."""
        version = kind.group.removeprefix("/apis/").removeprefix("/api/")
        whole = {"apiVersion": version, "kind": kind.kind, **body}
        return kind.decoder.decode(self.client.create(kind.path(namespace), _encode(whole)))

    def patch(self, kind: Kind[ObjectT], target: ObjectT, body: Body, subresource: str = "") -> ObjectT:
        """Apply a JSON merge patch to the object that was read; `Conflict` if it is another one by now."""
        body = {**body, "metadata": {"uid": target.metadata.uid, **_mapping(body.get("metadata"))}}
        path = kind.path(target.metadata.namespace, target.metadata.name, subresource)
        return kind.decoder.decode(self.client.patch(path, _encode(body), MERGE_PATCH))

    def change(self, kind: Kind[ObjectT], target: ObjectT, body: Body, subresource: str = "") -> ObjectT:
        """Like `patch`, but `Conflict` if the object has changed at all since it was read."""
        version = {"resourceVersion": target.metadata.resource_version, **_mapping(body.get("metadata"))}
        return self.patch(kind, target, {**body, "metadata": version}, subresource)

    def delete(self, kind: Kind[ObjectT], target: ObjectT, grace: int | None = None) -> None:
        """Delete the object that was read, if it is still the same; gone already is fine."""
        options: dict[str, Json] = {"preconditions": {"uid": target.metadata.uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.client.delete(kind.path(*target.key), _encode(options))
        except NotFound:
            return

    def delete_all(self, kind: Kind[ObjectT], namespace: str = "", *, fields: str = "") -> None:
        """Delete a whole collection, or what a field selector chooses of it."""
        query = f"?{urlencode({'fieldSelector': fields})}" if fields else ""
        self.client.delete(f"{kind.path(namespace)}{query}", b"{}")

    def post(self, path: str, body: Body) -> None:
        """Create something whose answer nobody needs, such as a binding."""
        self.client.create(path, _encode(body))


def kind_of(manifest: Body) -> Kind[Object]:
    """Return the kind of a manifest. Raises `InvalidInput` for one that the embedded cluster does not take."""
    found = KINDS.get(str(manifest.get("kind")))
    if found is None:
        raise InvalidInput("kind", manifest.get("kind"), ", ".join(KINDS))
    return found


def _encode(body: Body) -> bytes:
    return msgspec.json.encode(body)


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
