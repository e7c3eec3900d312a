"""The ResourceClaim controller: claims from templates, and claims whose users are gone. Called by the cluster.

What kube-controller-manager does (pkg/controller/resourceclaim): generated claims are recorded in the pod's status,
consumers that are gone or done are removed from status.reservedFor, a claim without consumers is deallocated and loses
its finalizer, a generated one of a pod that is done is deleted. Collecting garbage is the API server's own business.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from driver.model.claims import POD_CLAIM_NAME_ANNOTATION, ConsumerReference
from driver.model.errors import DriverError
from driver.model.workloads import ClaimReference
from driver.simulation.access import CLAIMS, PODS, TEMPLATES, Body, Json, Objects
from driver.simulation.caching import Cache
from driver.simulation.events import Clock, Recorder
from driver.simulation.loops import Loop
from driver.simulation.objects import Pod
from driver.simulation.resources import DELETE_PROTECTION, Claim

_SYNC_SECONDS = 0.05
_MAX_BASE = 57
"""Characters of a generated name before its last dash (controller.go, generateName)."""


class ClaimsController:
    """Keeps claims in step with pods until it is stopped."""

    def __init__(self, objects: Objects, now: Clock) -> None:
        self._objects = objects
        self._events = Recorder(objects, "resource_claim", now)
        self._loop = Loop("claims-controller", self._run)
        self._pods = Cache(objects, PODS, self._loop.wake)
        self._claims = Cache(objects, CLAIMS, self._loop.wake)
        self._templates = Cache(objects, TEMPLATES, self._loop.wake)
        self._caches = (self._pods, self._claims, self._templates)
        self._complained: set[tuple[str, str]] = set()

    def start(self) -> None:
        """Begin to work."""
        for cache in self._caches:
            cache.start()
        self._loop.start()

    def stop(self) -> None:
        """End, and wait for all threads."""
        self._loop.stop()
        for cache in self._caches:
            cache.stop()

    def _run(self) -> float | None:
        if not all(cache.is_synced for cache in self._caches):
            return _SYNC_SECONDS
        claims = self._claims.items()
        pods = {pod.metadata.uid: pod for pod in self._pods.items()}
        work = [*(partial(self._generate, pod, claims) for pod in pods.values())]
        work += [partial(self._release, claim, pods) for claim in claims]
        failure: DriverError | None = None
        for step in work:
            try:
                step()
            except DriverError as error:
                failure = error
        if failure is not None:
            raise failure
        return None

    def _generate(self, pod: Pod, claims: list[Claim]) -> None:
        """Create the claims that a pod's templates stand for and record their names."""
        if pod.metadata.deletion_timestamp or pod.is_done:
            return
        entries = [each for each in pod.spec.resource_claims if each.resource_claim_template_name]
        if all(pod.claim_name(entry) for entry in entries):
            return
        names: dict[str, str] = {}
        for entry in entries:
            claim = self._find_generated(pod, entry, claims) or self._create(pod, entry)
            if claim is not None:
                names[entry.name] = claim.metadata.name
        statuses = [{"name": entry, "resourceClaimName": name} for entry, name in names.items()]
        if statuses:
            self._pods.put(self._objects.patch(PODS, pod, {"status": {"resourceClaimStatuses": statuses}}, "status"))

    @staticmethod
    def _find_generated(pod: Pod, entry: ClaimReference, claims: list[Claim]) -> Claim | None:
        own = (claim for claim in claims if claim.owner == pod.metadata.uid)
        return next(
            (each for each in own if each.metadata.annotations.get(POD_CLAIM_NAME_ANNOTATION) == entry.name), None
        )

    def _create(self, pod: Pod, entry: ClaimReference) -> Claim | None:
        template = self._templates.get(entry.resource_claim_template_name or "", pod.metadata.namespace)
        if template is None:
            self._complain(pod, entry)
            return None
        owner: Body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod.metadata.name,
            "uid": pod.metadata.uid,
            "controller": True,
        }
        body: Body = {
            "metadata": {
                "generateName": _base_name(pod.metadata.name, entry.name),
                "labels": template.spec.metadata.labels,
                "annotations": {**template.spec.metadata.annotations, POD_CLAIM_NAME_ANNOTATION: entry.name},
                "ownerReferences": [owner],
            },
            "spec": template.spec.spec,
        }
        created = self._objects.create(CLAIMS, body, pod.metadata.namespace)
        self._claims.put(created)
        return created

    def _complain(self, pod: Pod, entry: ClaimReference) -> None:
        if (pod.metadata.uid, entry.name) in self._complained:
            return
        self._complained.add((pod.metadata.uid, entry.name))
        name = entry.resource_claim_template_name
        message = (
            f'PodResourceClaim {entry.name}: resource claim template "{name}": '
            f'resourceclaimtemplate.resource.k8s.io "{name}" not found'
        )
        self._events.record(pod, "FailedResourceClaimCreation", message, warning=True)

    def _release(self, claim: Claim, pods: Mapping[str, Pod]) -> None:
        """Remove consumers that are gone; free and delete what nobody uses any more."""
        kept = [each.uid for each in claim.status.reserved_for if self._is_used(claim, each, pods)]
        is_abandoned = bool(claim.owner) and not self._is_used(claim, _owner(claim), pods)
        is_unwanted = is_abandoned or bool(claim.metadata.deletion_timestamp)
        if len(kept) < len(claim.status.reserved_for) or (not kept and claim.status.allocation and is_unwanted):
            claim = self._drop_consumers(claim, kept)
        if is_unwanted and not claim.status.allocation:
            claim = self._unprotect(claim)
        if is_abandoned and not kept and not claim.metadata.deletion_timestamp:
            self._objects.delete(CLAIMS, claim)

    def _is_used(self, claim: Claim, consumer: ConsumerReference, pods: Mapping[str, Pod]) -> bool:
        """Say whether a consumer still needs the claim. Other consumers than pods are none of our business.

        A pod that is not known here is looked up: this copy of the pods may be older than that of the claims.
        """
        if consumer.resource != "pods":
            return True
        pod = pods.get(consumer.uid)
        if pod is None:
            pod = self._objects.find(PODS, consumer.name, claim.metadata.namespace)
        return pod is not None and pod.metadata.uid == consumer.uid and _can_run(pod)

    def _drop_consumers(self, claim: Claim, kept: list[str]) -> Claim:
        references: list[Json] = [
            {"resource": each.resource, "name": each.name, "uid": each.uid}
            for each in claim.status.reserved_for
            if each.uid in kept
        ]
        status: dict[str, Json] = {"reservedFor": references or None}
        if not references:
            status["allocation"] = None
        written = self._objects.change(CLAIMS, claim, {"status": status}, "status")
        self._claims.put(written)
        return written if references else self._unprotect(written)

    def _unprotect(self, claim: Claim) -> Claim:
        if DELETE_PROTECTION not in claim.metadata.finalizers:
            return claim
        finalizers = [each for each in claim.metadata.finalizers if each != DELETE_PROTECTION]
        written = self._objects.change(CLAIMS, claim, {"metadata": {"finalizers": finalizers or None}})
        self._claims.put(written)
        return written


def _owner(claim: Claim) -> ConsumerReference:
    name = next(each.name for each in claim.metadata.owner_references if each.uid == claim.owner)
    return ConsumerReference(resource="pods", name=name, uid=claim.owner)


def _can_run(pod: Pod) -> bool:
    """False for a pod that is done, or that is deleted and was never placed."""
    return not pod.is_done and bool(pod.spec.node_name or not pod.metadata.deletion_timestamp)


def _base_name(pod: str, entry: str) -> str:
    """Return `<pod>-<entry>-`, both cut in proportion to their lengths where together they are too long."""
    length = len(pod) + 1 + len(entry)
    if length > _MAX_BASE:
        pod, entry = pod[: len(pod) * _MAX_BASE // length], entry[: len(entry) * _MAX_BASE // length]
    return f"{pod}-{entry}-"
