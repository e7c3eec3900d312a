"""The resources this server has: names, versions, verbs, subresources, selectable fields.

A table that discovery, routing, the store and the clients' tests read. Names, short names and verbs are those of
Kubernetes v1.36's own discovery documents. A kind that is not listed is answered with 404.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Final

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS: Final = ("get", "patch", "update")

Path = tuple[str, ...]


@dataclass(frozen=True)
class Subresource:
    """A path below an object: `status` is stored with it, the others do something of their own."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, eq=False)
class Resource:
    """One stored resource. `fields` maps selectable fields to where they lie in the object."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[Subresource, ...] = ()
    fields: dict[str, Path] = field(default_factory=dict)
    generation: bool = False
    """Whether metadata.generation counts changes of the spec."""
    home: Resource | None = None
    """The resource whose objects these are, where one kind is served by two groups."""
    also: tuple[str, ...] = ()
    """Older versions of the same group in which it is served too."""
    conditional: bool = False
    """Whether an update must name the resourceVersion (no unconditional update)."""
    create_on_update: bool = False
    """Whether PUT of a missing object creates it."""
    shows_deleted: bool = False
    """Whether a delete answers the object; others answer a Status."""

    @property
    def group_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        """The singular name kubectl accepts."""
        return self.kind.lower()

    @property
    def status(self) -> bool:
        """Whether status is a subresource, isolated from the rest."""
        return any(sub.name == "status" for sub in self.subresources)

    @property
    def stored(self) -> Resource:
        """The resource as which its objects are stored."""
        return self.home or self

    @property
    def storage_hash(self) -> str:
        """StorageVersionHash of discovery: tells clients that two resources share their storage."""
        stored = self.stored
        digest = hashlib.sha256(f"{stored.group}/{stored.version}/{stored.kind}".encode()).digest()
        return base64.b64encode(digest[:8]).decode()

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of that name."""
        return next((sub for sub in self.subresources if sub.name == name), None)


def _status(kind: str) -> Subresource:
    return Subresource("status", kind, STATUS_VERBS)


def _below(prefix: str, names: str, target: str = "") -> dict[str, Path]:
    return {f"{prefix}.{name}": (target or prefix, name) for name in names.split()}


_EVENT_OBJECT = "kind namespace name uid apiVersion resourceVersion fieldPath"
_NO_COLLECTION = tuple(verb for verb in VERBS if verb != "deletecollection")

_CORE = (
    Resource("", "v1", "configmaps", "ConfigMap", namespaced=True, short=("cm",)),
    Resource(
        "",
        "v1",
        "events",
        "Event",
        namespaced=True,
        short=("ev",),
        create_on_update=True,
        fields=_below("involvedObject", _EVENT_OBJECT)
        | {
            "reason": ("reason",),
            "reportingComponent": ("reportingComponent",),
            "source": ("source", "component"),
            "type": ("type",),
        },
    ),
    Resource(
        "",
        "v1",
        "namespaces",
        "Namespace",
        namespaced=False,
        short=("ns",),
        verbs=_NO_COLLECTION,
        subresources=(Subresource("finalize", "Namespace", ("update",)), _status("Namespace")),
        fields={"status.phase": ("status", "phase")},
    ),
    Resource(
        "",
        "v1",
        "nodes",
        "Node",
        namespaced=False,
        short=("no",),
        subresources=(_status("Node"),),
        fields={"spec.unschedulable": ("spec", "unschedulable")},
    ),
    Resource(
        "",
        "v1",
        "pods",
        "Pod",
        namespaced=True,
        short=("po",),
        categories=("all",),
        generation=True,
        shows_deleted=True,
        subresources=(
            Subresource("binding", "Binding", ("create",)),
            Subresource("ephemeralcontainers", "Pod", STATUS_VERBS),
            Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
            _status("Pod"),
        ),
        fields=_below("spec", "nodeName restartPolicy schedulerName serviceAccountName hostNetwork")
        | _below("status", "phase podIP nominatedNodeName"),
    ),
    Resource(
        "",
        "v1",
        "resourcequotas",
        "ResourceQuota",
        namespaced=True,
        short=("quota",),
        subresources=(_status("ResourceQuota"),),
    ),
    Resource("", "v1", "secrets", "Secret", namespaced=True, fields={"type": ("type",)}),
    Resource(
        "",
        "v1",
        "serviceaccounts",
        "ServiceAccount",
        namespaced=True,
        short=("sa",),
        shows_deleted=True,
        subresources=(Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),),
    ),
)

_EVENTS = (
    Resource(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        namespaced=True,
        short=("ev",),
        create_on_update=True,
        home=next(resource for resource in _CORE if resource.plural == "events"),
        fields=_below("regarding", _EVENT_OBJECT, "involvedObject")
        | _below("involvedObject", "kind namespace name")
        | {"reason": ("reason",), "reportingController": ("reportingComponent",), "type": ("type",)},
    ),
)

_DRA_OLD = ("v1beta2", "v1beta1")

_DRA = (
    Resource(
        "resource.k8s.io",
        "v1",
        "deviceclasses",
        "DeviceClass",
        namespaced=False,
        generation=True,
        also=_DRA_OLD,
        shows_deleted=True,
    ),
    Resource(
        "resource.k8s.io",
        "v1",
        "resourceclaims",
        "ResourceClaim",
        namespaced=True,
        subresources=(_status("ResourceClaim"),),
        also=_DRA_OLD,
        shows_deleted=True,
    ),
    Resource(
        "resource.k8s.io",
        "v1",
        "resourceclaimtemplates",
        "ResourceClaimTemplate",
        namespaced=True,
        also=_DRA_OLD,
        shows_deleted=True,
    ),
    Resource(
        "resource.k8s.io",
        "v1",
        "resourceslices",
        "ResourceSlice",
        namespaced=False,
        generation=True,
        also=_DRA_OLD,
        shows_deleted=True,
        fields=_below("spec", "nodeName driver"),
    ),
)

_RBAC = tuple(
    Resource("rbac.authorization.k8s.io", "v1", plural, kind, namespaced=namespaced)
    for plural, kind, namespaced in (
        ("clusterrolebindings", "ClusterRoleBinding", False),
        ("clusterroles", "ClusterRole", False),
        ("rolebindings", "RoleBinding", True),
        ("roles", "Role", True),
    )
)

_ADMISSION = (
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        namespaced=False,
        categories=("api-extensions",),
        generation=True,
        subresources=(_status("ValidatingAdmissionPolicy"),),
    ),
    Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        namespaced=False,
        categories=("api-extensions",),
        generation=True,
    ),
)

_APPS = (
    Resource(
        "apps",
        "v1",
        "daemonsets",
        "DaemonSet",
        namespaced=True,
        short=("ds",),
        categories=("all",),
        generation=True,
        subresources=(_status("DaemonSet"),),
    ),
    Resource(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        namespaced=True,
        short=("deploy",),
        categories=("all",),
        generation=True,
        subresources=(_status("Deployment"),),
    ),
)

_POLICY = (
    Resource(
        "policy",
        "v1",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        namespaced=True,
        short=("pdb",),
        generation=True,
        subresources=(_status("PodDisruptionBudget"),),
    ),
)

_COORDINATION = (
    Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True, conditional=True, create_on_update=True),
)

RESOURCES: Final = _CORE + _ADMISSION + _APPS + _COORDINATION + _EVENTS + _POLICY + _RBAC + _DRA
"""Every stored resource, each group's in the order of discovery."""


@dataclass(frozen=True)
class Review:
    """A resource that is only asked and never stored: create answers at once."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = False


REVIEWS: Final = (
    Review("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
    Review("authentication.k8s.io", "v1", "tokenreviews", "TokenReview"),
    Review("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True),
    Review("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    Review("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    Review("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview"),
)

_BY_PATH = {
    (resource.group, version, resource.plural): resource
    for resource in RESOURCES
    for version in (resource.version, *resource.also)
}
_REVIEW_BY_PATH = {(review.group, review.version, review.plural): review for review in REVIEWS}
GROUP_VERSIONS: Final = frozenset((group, version) for group, version, _ in (*_BY_PATH, *_REVIEW_BY_PATH))
"""Every (group, version) that exists."""


def find(group: str, version: str, plural: str) -> Resource | None:
    """The resource of a path, also in its older versions."""
    return _BY_PATH.get((group, version, plural))


def find_review(group: str, version: str, plural: str) -> Review | None:
    """The review of a path."""
    return _REVIEW_BY_PATH.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The resource of an object, by its apiVersion and kind."""
    group, _, version = api_version.rpartition("/")
    return next(
        (r for r in RESOURCES if r.kind == kind and r.group == group and version in (r.version, *r.also)),
        None,
    )


def by_name(name: str) -> Resource:
    """The resource called `name`: plural, or plural.group where the plural is not unique. KeyError if there is none."""
    plural, _, group = name.partition(".")
    for resource in RESOURCES:
        if resource.plural == plural and (not group or resource.group == group):
            return resource
    raise KeyError(name)
