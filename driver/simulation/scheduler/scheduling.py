"""The scheduler: finds a node for every waiting pod, allocates its claims, binds it. Called by the cluster.

One loop, one pod after the other, every decision from caches that follow the API server and know the scheduler's own
writes. The writes are those of kube-scheduler: finalizer, then allocation with reservedFor and allocationTimestamp
(without which nobody could ever bind the pod), then the binding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.core.extended import map_resources
from driver.model.errors import DriverError
from driver.simulation.access import CLAIMS, CLASSES, NODES, PODS, SLICES, Body, Json, Objects
from driver.simulation.caching import Cache
from driver.simulation.events import Clock, Recorder, format_time
from driver.simulation.loops import Loop
from driver.simulation.objects import Node, Pod
from driver.simulation.resources import DELETE_PROTECTION, Claim
from driver.simulation.scheduler import devices, extended
from driver.simulation.scheduler.devices import Answer, Devices, SchedulingError

_SYNC_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Need:
    """What a pod needs from the scheduler beside a node."""

    ready: tuple[Claim, ...]
    """Claims that are allocated already."""
    missing: tuple[Claim, ...]
    """Claims to allocate."""
    extended: Claim | None
    """The claim for extended resources, perhaps not created yet; it is also one of the others."""
    mappings: tuple[Json, ...]
    resources: tuple[str, ...]
    """Extended resources that a node must have by itself."""


class Scheduler:
    """Places pods until it is stopped."""

    def __init__(self, objects: Objects, now: Clock) -> None:
        self._objects = objects
        self._now = now
        self._events = Recorder(objects, "default-scheduler", now)
        self._loop = Loop("scheduler", self._run)
        self._pods = Cache(objects, PODS, self._loop.wake)
        self._nodes = Cache(objects, NODES, self._loop.wake)
        self._claims = Cache(objects, CLAIMS, self._loop.wake)
        self._slices = Cache(objects, SLICES, self._loop.wake)
        self._classes = Cache(objects, CLASSES, self._loop.wake)
        self._caches = (self._pods, self._nodes, self._claims, self._slices, self._classes)
        self._devices = Devices()
        self._bound: set[str] = set()

    def start(self) -> None:
        """Begin to schedule."""
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
        pods = self._pods.items()
        self._bound &= {pod.metadata.uid for pod in pods if not pod.spec.node_name}
        waiting = [pod for pod in pods if _is_waiting(pod) and pod.metadata.uid not in self._bound]
        failure: DriverError | None = None
        for pod in sorted(waiting, key=lambda pod: (pod.metadata.creation_timestamp or "", pod.key)):
            try:
                self._schedule(pod)
            except DriverError as error:
                failure = error
        if failure is not None:
            raise failure
        return None

    def _schedule(self, pod: Pod) -> None:
        try:
            need = self._find_need(pod)
            if need is None:
                return
            node, answer, message = self._choose(pod, need)
        except SchedulingError as error:
            self._report(pod, "SchedulerError", str(error))
            return
        if node is None:
            self._report(pod, "Unschedulable", message)
            self._give_up_claim(pod, need)
            return
        self._allocate(pod, need, answer)
        self._bind(pod, node)

    def _find_need(self, pod: Pod) -> _Need | None:
        """Return the claims of a pod; None while one of them does not exist yet."""
        claims: dict[str, Claim] = {}
        for entry in pod.spec.resource_claims:
            name = pod.claim_name(entry)
            claim = self._claims.get(name, pod.metadata.namespace) if name else None
            if claim is None:
                return None
            _check_claim(pod, claim)
            claims[claim.metadata.uid] = claim
        classes = map_resources(self._classes.items())
        special, mappings = extended.make_claim(pod, classes)
        if special is not None:
            special = extended.find_claim(pod, self._claims.items()) or special
            claims[special.metadata.uid] = special
        ready = tuple(claim for claim in claims.values() if claim.status.allocation)
        missing = tuple(claim for claim in claims.values() if not claim.status.allocation)
        return _Need(ready, missing, special, tuple(mappings), tuple(extended.find_unserved(pod, classes)))

    def _choose(self, pod: Pod, need: _Need) -> tuple[Node | None, Answer, str]:
        """Return the best node and the devices there, or None and why there is none."""
        self._devices.look(self._slices.items(), self._classes.items(), self._claims.items())
        best: tuple[Node | None, Answer] = (None, Answer(score=-1))
        obstacles: dict[str, str] = {}
        refusing: list[Node] = []
        for node in self._nodes.items():
            obstacle = _find_obstacle(pod, node, need)
            if obstacle:
                obstacles[node.metadata.name] = obstacle
                continue
            answer = self._devices.allocate(node, need.missing)
            if answer is None:
                refusing.append(node)
            elif answer.score > best[1].score:
                best = (node, answer)
        message = "" if best[0] else self._explain(refusing, need, obstacles)
        return best[0], best[1], message

    def _explain(self, refusing: Sequence[Node], need: _Need, obstacles: Mapping[str, str]) -> str:
        reasons = [self._devices.explain(refusing, need.missing)] if refusing else []
        reasons += [f"{name}: {obstacle}" for name, obstacle in obstacles.items()]
        total = len(refusing) + len(obstacles)
        return f"0/{total} nodes are available: {'; '.join(reasons) or 'there are no nodes'}"

    def _allocate(self, pod: Pod, need: _Need, answer: Answer) -> None:
        for claim, allocation in zip(need.missing, answer.allocations, strict=True):
            body = devices.write_out(allocation, format_time(self._now()))
            self._write_allocation(pod, self._create(pod, claim), body)
        for claim in need.ready:
            if not claim.is_reserved_for(pod.metadata.uid):
                self._write_status(claim, {"reservedFor": [*_references(claim), pod.reference]})
        if need.extended is not None and pod.status.extended_resource_claim_status is None:
            created = extended.find_claim(pod, self._claims.items())
            if created is not None:
                self._publish_mappings(pod, created, need.mappings)

    def _give_up_claim(self, pod: Pod, need: _Need) -> None:
        """Clear one allocation that keeps the pod from nodes, if nobody else uses it: kube-scheduler's PostFilter."""
        for claim in need.ready:
            selector = claim.status.allocation.node_selector if claim.status.allocation else None
            if selector is None or any(each.uid != pod.metadata.uid for each in claim.status.reserved_for):
                continue
            free = _Need((), (), None, (), need.resources)
            if any(
                not selector.matches(node.metadata.name, node.metadata.labels) and not _find_obstacle(pod, node, free)
                for node in self._nodes.items()
            ):
                self._write_status(claim, {"allocation": None, "reservedFor": None})
                return

    def _create(self, pod: Pod, claim: Claim) -> Claim:
        """Create a claim that only exists in memory; return others as they are."""
        if claim.metadata.resource_version:
            return claim
        created = self._objects.create(CLAIMS, extended.describe(pod, claim), pod.metadata.namespace)
        self._claims.put(created)
        return created

    def _write_allocation(self, pod: Pod, claim: Claim, allocation: Body) -> None:
        if DELETE_PROTECTION not in claim.metadata.finalizers:
            finalizers = [*claim.metadata.finalizers, DELETE_PROTECTION]
            claim = self._objects.change(CLAIMS, claim, {"metadata": {"finalizers": finalizers}})
            self._claims.put(claim)
        self._write_status(claim, {"allocation": allocation, "reservedFor": [pod.reference]})

    def _write_status(self, claim: Claim, status: Body) -> None:
        self._claims.put(self._objects.change(CLAIMS, claim, {"status": status}, "status"))

    def _publish_mappings(self, pod: Pod, claim: Claim, mappings: Sequence[Json]) -> None:
        status: Body = {"resourceClaimName": claim.metadata.name, "requestMappings": list(mappings)}
        self._objects.patch(PODS, pod, {"status": {"extendedResourceClaimStatus": status}}, "status")

    def _bind(self, pod: Pod, node: Node) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": node.metadata.name}
        meta = {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "uid": pod.metadata.uid}
        body: Mapping[str, Json] = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        self._objects.post(PODS.path(*pod.key, "binding"), body)
        self._bound.add(pod.metadata.uid)
        self._events.record(pod, "Scheduled", f"Successfully assigned {pod} to {node}")

    def _report(self, pod: Pod, reason: str, message: str) -> None:
        known = pod.condition("PodScheduled")
        if known is not None and (known.reason, known.message) == (reason, message):
            return
        condition: Body = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(self._now()),
        }
        self._pods.put(self._objects.patch(PODS, pod, {"status": {"conditions": [condition]}}, "status"))
        self._events.record(pod, "FailedScheduling", message, warning=True)


def _is_waiting(pod: Pod) -> bool:
    spec = pod.spec
    return not (spec.node_name or spec.scheduling_gates or pod.metadata.deletion_timestamp or pod.is_done)


def _check_claim(pod: Pod, claim: Claim) -> None:
    if claim.metadata.deletion_timestamp:
        raise SchedulingError(f'resourceclaim "{claim.metadata.name}" is being deleted')
    if claim.owner and claim.owner != pod.metadata.uid:
        raise SchedulingError(f'ResourceClaim "{claim}" was not created for pod {pod} (pod is not owner)')


def _find_obstacle(pod: Pod, node: Node, need: _Need) -> str:
    """Say what keeps a pod from a node before any device is looked at; empty if nothing does."""
    if not node.is_ready or node.spec.unschedulable:
        return "the node is not ready" if not node.is_ready else "the node is unschedulable"
    if any(node.metadata.labels.get(key) != value for key, value in pod.spec.node_selector.items()):
        return "the node does not match the pod's node selector"
    for name in need.resources:
        if name not in node.status.allocatable:
            return f"Insufficient {name}"
    for claim in need.ready:
        selector = claim.status.allocation.node_selector if claim.status.allocation else None
        if selector is not None and not selector.matches(node.metadata.name, node.metadata.labels):
            return f"claim {claim} is allocated for another node"
    return ""


def _references(claim: Claim) -> list[Json]:
    return [
        {
            "resource": each.resource,
            "name": each.name,
            "uid": each.uid,
            **({"apiGroup": each.api_group} if each.api_group else {}),
        }
        for each in claim.status.reserved_for
    ]
