"""Claims in memory with the API server's rules, and a network between them and each controller that fails on demand.

The rules are those that matter to who holds a device: uid and resourceVersion are preconditions, an allocation is set
once and only ever cleared, a deleted object stays while it has finalizers. That no device is given away twice is *not*
checked, as in the API server: that is what tests look for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from driver.model.claims import DELETE_PROTECTION, Allocation, ConsumerReference
from driver.model.errors import Conflict, NotFound, Rejected, Unavailable
from driver.model.wanted import Claim
from driver.model.workloads import Workload

T = TypeVar("T")


class Store:
    """The storage. Every change is logged, so that copies can lag behind."""

    def __init__(self) -> None:
        self.claims: dict[str, Claim] = {}
        self.pods: dict[str, Workload] = {}
        self.log: list[tuple[str, Claim | None]] = []
        self.version = 1

    def create(self, claim: Claim) -> None:
        """Add a claim, under a UID that was never used."""
        self.version += 1
        meta = msgspec.structs.replace(
            claim.metadata, uid=f"{claim.metadata.name}-{self.version}", resource_version=str(self.version)
        )
        self._keep(msgspec.structs.replace(claim, metadata=meta))

    def change(self, claim: Claim, change: Callable[[Claim], Claim]) -> Claim:
        """Apply a change to the claim that was read, if it is still as it was."""
        key = f"{claim.metadata.namespace}/{claim.metadata.name}"
        current = self.claims.get(key)
        if current is None:
            raise NotFound(f"{key} not found", name=claim.metadata.name)
        if current.metadata.uid != claim.metadata.uid:
            raise Conflict("another uid")
        if current.metadata.resource_version != claim.metadata.resource_version:
            raise Conflict("the object has been modified")
        changed = change(current)
        before, after = current.status.allocation, changed.status.allocation
        if before is not None and after is not None and before != after:
            raise Rejected("status.allocation is immutable")
        if changed.status.reserved_for and after is None:
            raise Rejected("status.reservedFor needs an allocation")
        self.version += 1
        meta = msgspec.structs.replace(changed.metadata, resource_version=str(self.version))
        changed = msgspec.structs.replace(changed, metadata=meta)
        self._keep(changed)
        return changed

    def delete(self, claim: Claim) -> None:
        """Delete a claim, or mark it while it has finalizers."""

        def mark(current: Claim) -> Claim:
            return _with_meta(current, deletion_timestamp="2026-01-02T00:00:00Z")

        self.change(claim, mark)

    def _keep(self, claim: Claim) -> None:
        key = f"{claim.metadata.namespace}/{claim.metadata.name}"
        if claim.metadata.deletion_timestamp and not claim.metadata.finalizers:
            self.claims.pop(key, None)
            self.log.append((key, None))
        else:
            self.claims[key] = claim
            self.log.append((key, claim))


@dataclass
class Copy:
    """What one controller's watch has shown it."""

    store: Store
    claims: dict[str, Claim] = field(default_factory=dict)
    at: int = 0

    def relist(self) -> None:
        """Begin with all that there is."""
        self.claims, self.at = dict(self.store.claims), len(self.store.log)

    def advance(self, events: int) -> None:
        """Take in so many changes."""
        for key, claim in self.store.log[self.at : self.at + events]:
            self.at += 1
            if claim is None:
                self.claims.pop(key, None)
            else:
                self.claims[key] = claim


class CrashError(Exception):
    """The controller is killed at this instruction."""


class Network:
    """One controller's way to the store; implements `controller.terms.Claims`.

    `faults` by verb (protect, unprotect, allocate, clear, read), each consumed by one request: `refuse` it is not done,
    `lose` it is done and the answer lost, `late` it is done at some later time and the answer lost, `crash`, or a
    function that is called before it is done.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.faults: dict[str, str | Callable[[], None]] = {}
        self.late: list[Callable[[], object]] = []
        self.written: list[tuple[str, str]] = []

    def list_all(self) -> Sequence[Claim]:
        return self._send("read", lambda: list(self.store.claims.values()))

    def fetch(self, claim: Claim) -> Claim | None:
        key = f"{claim.metadata.namespace}/{claim.metadata.name}"
        return self._send("read", lambda: self.store.claims.get(key))

    def fetch_pods(self, namespace: str) -> Sequence[Workload]:
        return self._send(
            "read", lambda: [pod for pod in self.store.pods.values() if pod.metadata.namespace == namespace]
        )

    def protect(self, claim: Claim) -> Claim:
        finalizers = (*claim.metadata.finalizers, DELETE_PROTECTION)
        return self._write("protect", claim, lambda now: _with_meta(now, finalizers=finalizers))

    def unprotect(self, claim: Claim) -> Claim:
        rest = tuple(each for each in claim.metadata.finalizers if each != DELETE_PROTECTION)
        return self._write("unprotect", claim, lambda now: _with_meta(now, finalizers=rest))

    def allocate(self, claim: Claim, allocation: Allocation) -> Claim:
        assert allocation.allocation_timestamp
        return self._write("allocate", claim, lambda now: with_status(now, allocation=allocation))

    def clear(self, claim: Claim) -> Claim:
        def clear(now: Claim) -> Claim:
            assert not now.status.reserved_for, "an allocation in use was taken back"
            return with_status(now, allocation=None)

        return self._write("clear", claim, clear)

    def _write(self, verb: str, claim: Claim, change: Callable[[Claim], Claim]) -> Claim:
        self.written.append((verb, claim.metadata.name))
        return self._send(verb, lambda: self.store.change(claim, change))

    def _send(self, verb: str, request: Callable[[], T]) -> T:
        fault = self.faults.pop(verb, "")
        if callable(fault):
            fault()
        elif fault == "crash":
            raise CrashError
        elif fault == "refuse" or (fault and verb == "read"):
            raise Unavailable("away")
        elif fault == "late":
            self.late.append(request)
            raise Unavailable("timed out")
        answer = request()
        if fault == "lose":
            raise Unavailable("the answer was lost")
        return answer


def with_status(claim: Claim, **changes: Any) -> Claim:
    """Return a claim with another status."""
    return msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, **changes))


def _with_meta(claim: Claim, **changes: Any) -> Claim:
    return msgspec.structs.replace(claim, metadata=msgspec.structs.replace(claim.metadata, **changes))


def reserve(store: Store, claim: Claim, pod: Workload) -> None:
    """What kube-scheduler writes for a pod whose claim is allocated."""
    entry = ConsumerReference(resource="pods", name=pod.metadata.name, uid=pod.metadata.uid)
    store.change(claim, lambda now: with_status(now, reserved_for=(*now.status.reserved_for, entry)))


def deallocate(store: Store, claim: Claim) -> Claim:
    """What kube-scheduler's PostFilter writes, and kube-controller-manager once the last user is gone."""
    return store.change(claim, lambda now: with_status(now, allocation=None, reserved_for=()))


def release(store: Store, claim: Claim) -> None:
    """What kube-controller-manager writes for a claim without users."""
    claim = deallocate(store, claim)
    rest = tuple(each for each in claim.metadata.finalizers if each != DELETE_PROTECTION)
    store.change(claim, lambda now: _with_meta(now, finalizers=rest))
