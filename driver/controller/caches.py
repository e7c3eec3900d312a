"""Copies of what the controller decides about, each followed by a watch of its own and trimmed to what is read.

Made by `app`. Slices, classes, pods and nodes are followed all the time, so that a controller that takes over can act
at once. Claims are followed from the beginning of a term to its end (`terms` says why). What is left out: annotations
and managed fields; owners and labels of everything but nodes and claims; the containers of pods that are placed (one
is kept that asks for what all of them ask for); pod specs that no claim waits for; node conditions but `Ready`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.core import extended, soundness
from driver.core.deciding import loads
from driver.core.deciding.loads import Loads
from driver.core.deciding.world import World
from driver.kube import allocations, replies
from driver.kube.client import Client
from driver.kube.watching import Change, Pace, Source, Watch, What
from driver.model.errors import DriverError
from driver.model.objects import ObjectMeta
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim
from driver.model.workloads import ClusterNode, Workload, WorkloadSpec, WorkloadStatus

_DRA: Final = "/apis/resource.k8s.io/v1"
Wake = Callable[[bool], None]
"""Called after a change; True if a claim may be waiting for it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many objects are kept."""

    claims: int
    pods: int
    nodes: int
    slices: int


class Caches:
    """All copies. `complain` gets what goes wrong on any of the watches."""

    def __init__(
        self, client: Client, wake: Wake, complain: Callable[[Exception], None], pace: Pace | None = None
    ) -> None:
        self._client = client
        self._wake = wake
        self._complain = complain
        self._pace = pace
        self._loads = Loads()
        self._pods = Watch(client, Source("/api/v1/pods", Workload, trim=trim_pod), self._note_pod, complain, pace)
        self._nodes = Watch(client, Source("/api/v1/nodes", ClusterNode, trim=trim_node), self._note, complain, pace)
        slices = Source(f"{_DRA}/resourceslices", PublishedSlice, trim=trim_slice)
        self._slices = Watch(client, slices, self._note_slice, self._complain_of_api, pace)
        classes = Source(f"{_DRA}/deviceclasses", DeviceClass)
        self._classes = Watch(client, classes, self._note_class, self._complain_of_api, pace)
        self._claims: Watch[Claim] | None = None
        self._clock = (pace or Pace()).clock
        self._arrivals: dict[str, float] = {}
        self._changes = {"slices": 0, "classes": 0}

    def start(self) -> None:
        """Begin to follow all but the claims."""
        for watch in (self._pods, self._nodes, self._slices, self._classes):
            watch.start()

    def stop(self) -> None:
        """End all watches."""
        self.close_claims()
        for watch in (self._pods, self._nodes, self._slices, self._classes):
            watch.stop()

    def open_claims(self) -> None:
        """Begin to follow the claims with a list of what is stored now."""
        source = Source(allocations.PATH, Claim, trim=trim_claim, salvage=allocations.salvage)
        self._claims = Watch(self._client, source, self._note_claim, self._complain, self._pace)
        self._arrivals = {}
        self._claims.start()

    def arrival(self, claim: Claim) -> float | None:
        """Return when the watch of this term first showed a claim, in monotonic seconds."""
        return self._arrivals.get(claim.metadata.uid)

    def close_claims(self) -> None:
        """Forget the claims."""
        claims, self._claims = self._claims, None
        if claims is not None:
            claims.stop()

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not been read yet."""
        synced = {
            "pods": self._pods.has_synced,
            "nodes": self._nodes.has_synced,
            "slices": self._slices.has_synced,
            "classes": self._classes.has_synced,
            "claims": self._claims is None or self._claims.has_synced,
        }
        return tuple(name for name, is_synced in synced.items() if not is_synced)

    @property
    def sizes(self) -> Sizes:
        """How much is kept."""
        claims = self._claims.size if self._claims is not None else 0
        return Sizes(claims, self._pods.size, self._nodes.size, self._slices.size)

    @property
    def devices_version(self) -> int:
        """Another number whenever a slice or class has changed."""
        return sum(self._changes.values())

    def slices(self) -> list[PublishedSlice]:
        """Return all slices, as the API server orders them."""
        return [each for _, each in sorted(self._slices.snapshot().items())]

    def classes(self) -> dict[str, DeviceClass]:
        """Return all classes by name."""
        return self._classes.snapshot()

    def world(self) -> World:
        """Return one view of everything but devices."""
        return World(
            claims=self._claims.snapshot() if self._claims is not None else {},
            pods={key: pod for key, pod in self._pods.snapshot().items() if concerns(pod)},
            nodes=self._nodes.snapshot(),
            classes=self._classes.snapshot(),
            loads=self._loads.view(),
        )

    def _complain_of_api(self, error: Exception) -> None:
        self._complain(replies.name_missing_api(error) if isinstance(error, DriverError) else error)

    def _note_pod(self, change: Change[Workload]) -> None:
        if change.what is What.DELETED:
            self._loads.remove(change.object)
        else:
            self._loads.put(change.object)
        if _is_news(change):
            self._wake(concerns(change.object))

    def _note(self, change: Change[ClusterNode]) -> None:
        if _is_news(change):
            self._wake(change.what is not What.MODIFIED)

    def _note_slice(self, change: Change[PublishedSlice]) -> None:
        del change
        self._changes["slices"] += 1
        self._wake(True)

    def _note_class(self, change: Change[DeviceClass]) -> None:
        del change
        self._changes["classes"] += 1
        self._wake(True)

    def _note_claim(self, change: Change[Claim]) -> None:
        uid = change.object.metadata.uid
        if change.what is What.DELETED:
            self._arrivals.pop(uid, None)
        else:
            self._arrivals.setdefault(uid, self._clock())
        self._wake(True)


def concerns(pod: Workload) -> bool:
    """Say whether claims have to do with a pod."""
    return bool(pod.spec.resource_claims) or extended.may_ask(pod)


def trim_pod(pod: Workload) -> Workload:
    """Return what is read of a pod: one that claims may wait for keeps what decides where it can run."""
    meta = _trim_meta(pod.metadata)
    if pod.is_done or not (concerns(pod) or pod.status.extended_resource_claim_status):
        kept = WorkloadSpec(node_name=pod.spec.node_name)
        if not pod.is_done and pod.spec.node_name:
            kept = WorkloadSpec(node_name=pod.spec.node_name, containers=loads.collapse(pod))
        return Workload(metadata=meta, spec=kept, status=WorkloadStatus(phase=pod.status.phase))
    status = msgspec.structs.replace(
        pod.status, conditions=tuple(each for each in pod.status.conditions if each.type == "PodScheduled")
    )
    if not pod.spec.node_name:
        return Workload(metadata=meta, spec=pod.spec, status=status)
    spec = WorkloadSpec(
        node_name=pod.spec.node_name,
        containers=loads.collapse(pod),
        priority=pod.spec.priority,
        resource_claims=pod.spec.resource_claims,
    )
    return Workload(metadata=meta, spec=spec, status=status)


def trim_node(node: ClusterNode) -> ClusterNode:
    """Return what is read of a node."""
    meta = msgspec.structs.replace(_trim_meta(node.metadata), labels=node.metadata.labels)
    conditions = tuple(each for each in node.status.conditions if each.type == "Ready")
    status = msgspec.structs.replace(node.status, conditions=conditions)
    return ClusterNode(metadata=meta, spec=node.spec, status=status)


def trim_slice(published: PublishedSlice) -> PublishedSlice:
    """Return what is read of a slice. Raises `InvalidInput` for one that nobody could use."""
    soundness.check(published)
    return PublishedSlice(metadata=_trim_meta(published.metadata), spec=published.spec)


def trim_claim(claim: Claim) -> Claim:
    """Return what is read of a claim; its finalizers are written back whole."""
    meta = msgspec.structs.replace(claim.metadata, annotations={})
    return msgspec.structs.replace(claim, metadata=meta)


def _is_news(change: Change[Workload] | Change[ClusterNode]) -> bool:
    """Say whether anything has changed that is read; a kubelet says now and then that all is as it was."""
    before, after = change.before, change.object
    if before is None or (before.spec, before.status) != (after.spec, after.status):
        return True
    version = before.metadata.resource_version
    return before.metadata != msgspec.structs.replace(after.metadata, resource_version=version)


def _trim_meta(meta: ObjectMeta) -> ObjectMeta:
    return ObjectMeta(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
        creation_timestamp=meta.creation_timestamp,
        deletion_timestamp=meta.deletion_timestamp,
    )
