"""Device metadata for containers (KEP-5304): which document each request gets, and how it comes into a container.

Called by `node.transactions`. One document a request, bind-mounted through a CDI spec of its own whose id is appended
to the request's first device. It must not write anything; that writing fails is no reason not to prepare a claim.
Layout: k8s.io/dynamic-resource-allocation kubeletplugin/metadata.go and api/metadata, v1alpha1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.core import cdi, shares
from driver.core.preparing import Grant, Place
from driver.model import quantities
from driver.model.claims import POD_CLAIM_NAME_ANNOTATION, ResourceClaim
from driver.model.prepared import ContainerEdits, Frozen, Mount
from driver.model.slices import DeviceAttribute
from driver.model.vocabulary import DOMAIN, MEMORY, SHARE

API_VERSION: Final = "metadata.resource.k8s.io/v1alpha1"
KIND: Final = "DeviceMetadata"
HOST_FOLDER: Final = "dra-device-metadata"
"""Below the plugin's data folder."""
FILE_NAME: Final = "metadata.json"
CONTAINER_FOLDER: Final = "/var/run/kubernetes.io/dra-device-attributes"

SHARE_ID: Final = f"{DOMAIN}/shareID"
"""Attributes of a share, beside those that are published of its device (docs/vocabulary.md, Shares)."""
SHARE_MEMORY: Final = f"{DOMAIN}/shareMemory"
SHARE_PERCENT: Final = f"{DOMAIN}/sharePercent"
SHARE_ENFORCED: Final = f"{DOMAIN}/shareEnforced"

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class _ObjectMeta(Frozen, frozen=True):
    name: str
    namespace: str
    uid: str
    generation: int


class _Device(Frozen, frozen=True):
    driver: str
    pool: str
    name: str
    attributes: dict[str, DeviceAttribute] = {}


class _Request(Frozen, frozen=True):
    name: str
    devices: tuple[_Device, ...]


class _DeviceMetadata(Frozen, frozen=True):
    api_version: str
    kind: str
    metadata: _ObjectMeta
    requests: tuple[_Request, ...]
    pod_claim_name: str | None = None


@dataclass(frozen=True, slots=True)
class RequestMetadata:
    """The document of one request, the CDI spec that mounts it, and the spec's CDI id."""

    request: str
    """Main request."""
    document: bytes
    spec: cdi.SpecFile
    cdi_id: str


def locate_claim(namespace: str, name: str) -> str:
    """Return the folder of a claim's documents, relative to the plugin's data folder."""
    return f"{HOST_FOLDER}/{namespace}_{name}"


def locate_document(namespace: str, name: str, request: str) -> str:
    """Return where a request's document is kept, relative to the plugin's data folder."""
    return f"{locate_claim(namespace, name)}/{request}/{FILE_NAME}"


def describe(
    claim: ResourceClaim, grants: Sequence[Grant], place: Place, data_folder: str
) -> tuple[RequestMetadata, ...]:
    """Return the metadata of each request that has devices of ours, in the order of the grants.

    `data_folder` is the plugin's data folder as the container runtime sees it.
    """
    requests = dict.fromkeys(request for grant in grants for request in grant.requests)
    return tuple(_describe_request(claim, request, grants, place, data_folder) for request in requests)


def _describe_request(
    claim: ResourceClaim, request: str, grants: Sequence[Grant], place: Place, data_folder: str
) -> RequestMetadata:
    main = request.partition("/")[0]
    kind = f"{place.driver}/metadata"
    name = f"{claim.metadata.uid}_{main}"
    mount = Mount(
        host_path=f"{data_folder}/{locate_document(claim.metadata.namespace, claim.metadata.name, main)}",
        container_path=f"{_container_folder(claim)}/{main}/{place.driver}-{FILE_NAME}",
        options=("ro", "bind"),
    )
    device = cdi.SpecDevice(name=name, container_edits=ContainerEdits(mounts=(mount,)))
    return RequestMetadata(
        request=main,
        document=_document(claim, request, grants, place),
        spec=cdi.SpecFile(f"{place.driver}_metadata_{claim.metadata.uid}_{main}.json", cdi.encode(kind, (device,))),
        cdi_id=cdi.qualify(kind, name),
    )


def _pod_claim_name(claim: ResourceClaim) -> str | None:
    """Return which of a pod's claims this is, if it was made from a template.

    The name becomes part of a path, and anyone who may edit the claim can write the annotation: only what the API
    allows as a name in a pod (pod.spec.resourceClaims[].name, a DNS label) is taken.
    """
    name = claim.metadata.annotations.get(POD_CLAIM_NAME_ANNOTATION)
    return name if name is not None and _DNS_LABEL.fullmatch(name) else None


def _container_folder(claim: ResourceClaim) -> str:
    pod_claim = _pod_claim_name(claim)
    if pod_claim is not None:
        return f"{CONTAINER_FOLDER}/resourceclaimtemplates/{pod_claim}"
    return f"{CONTAINER_FOLDER}/resourceclaims/{claim.metadata.name}"


def _describe_device(grant: Grant) -> dict[str, DeviceAttribute]:
    """Return what a container learns of a device: what is published, and of a share what it has of the device."""
    published = grant.entry.device.attributes
    if not grant.is_shared or grant.sharing is None:
        return published
    own = {
        SHARE_ID: DeviceAttribute(string=grant.share_id),
        SHARE_ENFORCED: DeviceAttribute(bool_=shares.is_enforced(grant.sharing)),
    }
    if MEMORY in grant.consumed_capacity:
        own[SHARE_MEMORY] = DeviceAttribute(string=grant.consumed_capacity[MEMORY])
    if SHARE in grant.consumed_capacity:
        own[SHARE_PERCENT] = DeviceAttribute(int_=quantities.parse(grant.consumed_capacity[SHARE]).rounded_up)
    return dict(sorted({**published, **own}.items()))


def _document(claim: ResourceClaim, request: str, grants: Sequence[Grant], place: Place) -> bytes:
    """Return a stream of JSON documents, newest version first; there is one version so far."""
    meta = claim.metadata
    devices = tuple(
        _Device(driver=place.driver, pool=place.pool, name=grant.entry.name, attributes=_describe_device(grant))
        for grant in grants
        if request in grant.requests
    )
    document = _DeviceMetadata(
        api_version=API_VERSION,
        kind=KIND,
        metadata=_ObjectMeta(name=meta.name, namespace=meta.namespace, uid=meta.uid, generation=1),
        requests=(_Request(name=request, devices=devices),),
        pod_claim_name=_pod_claim_name(claim),
    )
    return msgspec.json.encode(document) + b"\n"
