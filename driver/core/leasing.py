"""Who leads: what to do with a Lease of coordination.k8s.io/v1 that was just read. Pure; `kube.lease` does it.

The rules are those of client-go's leaderelection. A lease is held until it has not changed for as long as its holder
said, measured by the clock of the one who looks: clocks of different machines are never compared, and the times written
in the lease are for people. The holder counts from before it sent its last successful renewal, and stops writing after
`renew_deadline`, so that a write which it began takes its end before anybody else may lead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from driver.model.errors import InvalidInput
from driver.model.objects import Api, ObjectMeta


class LeaseSpec(Api, frozen=True):
    """LeaseSpec. Times are metav1.MicroTime."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Api, frozen=True):
    """coordination.k8s.io/v1 Lease."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


@dataclass(frozen=True, slots=True)
class Terms:
    """How a lease is held. Seconds."""

    duration: int = 15
    """Without a renewal for so long another one may take it."""
    renew_deadline: float = 10.0
    """Without a renewal for so long the holder stops to act."""
    retry: float = 2.0
    """Between two attempts."""

    @property
    def longest_write(self) -> float:
        """For how long a request may be under way that was sent at the last moment."""
        return self.duration - self.renew_deadline


class Step(Enum):
    """What to do now."""

    WAIT = "wait"
    TAKE = "take"
    RENEW = "renew"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as it was seen, and when it was first seen so."""

    lease: Lease
    since: float


def check(terms: Terms) -> Terms:
    """Return the terms, or raise `InvalidInput` if a holder could still write when another one takes the lease."""
    if not 1 <= terms.duration <= 3600:
        raise InvalidInput("lease-duration", terms.duration, "1 to 3600 seconds")
    if not 0 < terms.renew_deadline < terms.duration:
        raise InvalidInput(
            "renew-deadline", terms.renew_deadline, f"above 0 and below lease-duration, {terms.duration}"
        )
    if not 0 < terms.retry < terms.renew_deadline:
        raise InvalidInput("lease-retry", terms.retry, f"above 0 and below renew-deadline, {terms.renew_deadline:g}")
    return terms


def look(before: Sighting | None, lease: Lease, now: float) -> Sighting:
    """Return the sighting after a lease was read: the clock starts anew whenever it has changed."""
    if before is not None and before.lease.metadata.uid == lease.metadata.uid and before.lease.spec == lease.spec:
        return Sighting(lease, before.since)
    return Sighting(lease, now)


def decide(sighting: Sighting, identity: str, now: float) -> Step:
    """Return what one who wants to lead does."""
    spec = sighting.lease.spec
    if spec.holder_identity == identity:
        return Step.RENEW
    if not spec.holder_identity or now >= sighting.since + spec.lease_duration_seconds:
        return Step.TAKE
    return Step.WAIT


def write(before: LeaseSpec | None, identity: str, terms: Terms, time: str) -> LeaseSpec:
    """Return the lease as its holder writes it to take or to renew it."""
    renews = before is not None and before.holder_identity == identity
    transitions = before.lease_transitions + (not renews) if before is not None else 0
    acquired = before.acquire_time if renews and before is not None else time
    return LeaseSpec(
        holder_identity=identity,
        lease_duration_seconds=terms.duration,
        acquire_time=acquired,
        renew_time=time,
        lease_transitions=transitions,
    )


def release(before: LeaseSpec, time: str) -> LeaseSpec:
    """Return the lease as one leaves it who ends: the next one need not wait."""
    return LeaseSpec(
        lease_duration_seconds=1,
        acquire_time=before.acquire_time,
        renew_time=time,
        lease_transitions=before.lease_transitions,
    )
