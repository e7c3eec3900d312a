"""Claims as the controller reads and writes them: whole lists, and the four writes of an allocation's life.

Called by `controller.terms`. Every write is conditional on the uid and resourceVersion of the claim that it is given,
so that it does nothing if anybody has changed that claim since; what others have put into it survives. Must not decide
anything, and never repeats a write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from driver.kube import decoding
from driver.kube.client import MERGE_PATCH, Client
from driver.kube.verbatim import MEDIA_TYPE, Document
from driver.model.claims import DELETE_PROTECTION, Allocation, ResourceClaim
from driver.model.errors import Conflict, NotFound, Rejected, Unavailable
from driver.model.wanted import Claim
from driver.model.workloads import Workload

PATH: Final = "/apis/resource.k8s.io/v1/resourceclaims"
_PAGE: Final = 500
_claims: Final = decoding.Decoder(Claim)
_rests: Final = decoding.Decoder(ResourceClaim)
_pods: Final = decoding.Decoder(Workload)


class StoredClaims:
    """The claims of one API server."""

    def __init__(self, client: Client, write_timeout: float) -> None:
        """`write_timeout`: seconds after which a write is given up, though it may still happen."""
        self._client = client
        self._timeout = write_timeout

    def list_all(self) -> tuple[Claim, ...]:
        """Return all claims as they are now: the API server answers from its storage and not from a cache."""
        return tuple(_read(item) for item in self._list(PATH))

    def fetch(self, claim: Claim) -> Claim | None:
        """Return the claim of this name as it is now, None if there is none."""
        try:
            return _claims.decode(self._client.get(_path(claim)), f"claim {claim}")
        except NotFound as error:
            if error.name == claim.metadata.name:
                return None
            raise

    def fetch_pods(self, namespace: str) -> tuple[Workload, ...]:
        """Return the pods of a namespace as they are now."""
        path = f"/api/v1/namespaces/{namespace}/pods"
        return tuple(_pods.decode(item, "pod") for item in self._list(path))

    def protect(self, claim: Claim) -> Claim:
        """Add the finalizer that keeps a claim while it is allocated."""
        return self._finalize(claim, [*claim.metadata.finalizers, DELETE_PROTECTION])

    def unprotect(self, claim: Claim) -> Claim:
        """Remove that finalizer. A claim that was deleted meanwhile goes with it."""
        rest = [each for each in claim.metadata.finalizers if each != DELETE_PROTECTION]
        return self._finalize(claim, rest)

    def allocate(self, claim: Claim, allocation: Allocation) -> Claim:
        """Write an allocation, which has to have its timestamp."""
        return self._change(claim, {"status": {"allocation": allocation}}, {}, "/status")

    def clear(self, claim: Claim) -> Claim:
        """Take the allocation back."""
        return self._change(claim, {"status": {"allocation": None}}, {}, "/status")

    def _finalize(self, claim: Claim, finalizers: Sequence[str]) -> Claim:
        """Write the finalizers; as protobuf if the server finds that a JSON patch changes the spec, see `verbatim`."""
        try:
            return self._change(claim, {}, {"finalizers": finalizers or None})
        except Rejected as error:
            if error.field != "spec":
                raise
        path, meta = _path(claim), claim.metadata
        found = Document(self._client.get(path, accept=MEDIA_TYPE, timeout=self._timeout))
        if (found.uid, found.resource_version) != (meta.uid, meta.resource_version):
            raise Conflict(f"claim {claim} has changed")
        body = found.with_finalizers(finalizers)
        return _claims.decode(self._client.replace(path, body, MEDIA_TYPE, timeout=self._timeout), f"claim {claim}")

    def _change(self, claim: Claim, body: Mapping[str, object], meta: Mapping[str, object], under: str = "") -> Claim:
        condition = {"uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version}
        patch = msgspec.json.encode({**body, "metadata": {**condition, **meta}})
        answer = self._client.patch(f"{_path(claim)}{under}", patch, MERGE_PATCH, timeout=self._timeout)
        return _claims.decode(answer, f"claim {claim}")

    def _list(self, path: str) -> Iterator[msgspec.Raw]:
        params: dict[str, str | int] = {"limit": _PAGE}
        while True:
            page = decoding.read_page(self._client.get(path, params), path)
            yield from page.items or ()
            if not page.metadata.continue_:
                return
            params["continue"] = page.metadata.continue_


def salvage(raw: msgspec.Raw) -> Claim | None:
    """Return a claim without its spec, where that is what cannot be read: what it holds it holds all the same."""
    try:
        rest = _rests.decode(raw, "claim")
    except Unavailable:
        return None
    return Claim(metadata=rest.metadata, status=rest.status)


def _read(raw: msgspec.Raw) -> Claim:
    try:
        return _claims.decode(raw, "claim")
    except Unavailable:
        rest = salvage(raw)
        if rest is None:
            raise
        return rest


def _path(claim: Claim) -> str:
    meta = claim.metadata
    return f"/apis/resource.k8s.io/v1/namespaces/{meta.namespace}/resourceclaims/{meta.name}"
