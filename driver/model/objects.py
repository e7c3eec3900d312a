"""Parts that all Kubernetes objects share, as msgspec structs that decode straight from JSON.

`omit_defaults` gives the API's own equality: an absent field, null and an empty one are the same.
Fields the driver does not use are not decoded and so never written back (we patch, we do not put).
"""

from __future__ import annotations

import msgspec


class Api(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every API type: frozen, camelCase in JSON, defaults left out."""


class OwnerReference(Api, frozen=True):
    """metav1.OwnerReference."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Api, frozen=True):
    """The fields of metav1.ObjectMeta that the driver reads or writes."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class ListMeta(Api, frozen=True):
    """metav1.ListMeta; `continue_` is the paging token."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class StatusCause(Api, frozen=True):
    """metav1.StatusCause: one field that is wrong, and why."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Api, frozen=True):
    """metav1.StatusDetails, as far as the driver reads it."""

    name: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class Status(Api, frozen=True):
    """metav1.Status: what the API server answers instead of an object."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


class Node(Api, frozen=True):
    """The part of v1.Node the driver reads: its identity, for the owner reference of slices."""

    metadata: ObjectMeta
