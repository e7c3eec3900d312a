"""Tells everyone who should know what the controller did, or why claims wait: log, metrics, Events on claims and pods.

`leading` calls it on its thread. It never fails and never waits: Events are written on a thread of their own. What is
told again and when is decided by `core.deciding.notices`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from driver.core import extended
from driver.core.deciding.world import Reason, Waiting
from driver.kube.events import EventWriter, Happening, Regarding
from driver.model.errors import DriverError
from driver.model.objects import ObjectMeta
from driver.model.occurrences import ClaimWaits, ClusterUnavailable, Occurrence
from driver.model.wanted import Claim
from driver.model.workloads import Workload
from driver.telemetry import logs
from driver.telemetry.controller_metrics import ControllerMetrics

ACTION: Final = "Allocate"
_CLAIM_API: Final = "resource.k8s.io/v1"
_PATIENT: Final = frozenset({Reason.NO_CONSUMER, Reason.GROUP_INCOMPLETE, Reason.SCHEDULER})
"""Reasons that are no news to worry about."""
_REPEAT_SECONDS: Final = 60.0
_MOST_SAID: Final = 100
"""Failures that are remembered so that they are not said again at once."""
_MOST_PODS: Final = 256
"""Of one claim that are told: as many as the API lets use it (ResourceClaimReservedForMaxSize)."""


class Teller:
    """Hands every occurrence to log and metrics, and makes Events of what concerns an object."""

    def __init__(
        self, metrics: ControllerMetrics, events: EventWriter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._events = events
        self._clock = clock
        self._said: dict[str, float] = {}

    def tell(self, occurrence: Occurrence) -> None:
        """Log and count one occurrence."""
        logs.log_occurrence(occurrence)
        self._metrics.count(occurrence)

    def tell_failure(self, error: Exception) -> None:
        """Say that something went wrong that is tried again; a defect of ours comes with the place where it is.

        The same is counted each time and said once a minute.
        """
        occurrence, now = ClusterUnavailable(str(error) or type(error).__name__), self._clock()
        self._metrics.count(occurrence)
        if now < self._said.get(occurrence.error, float("-inf")) + _REPEAT_SECONDS:
            return
        if len(self._said) >= _MOST_SAID:
            self._said.clear()
        self._said[occurrence.error] = now
        logs.log_occurrence(occurrence)
        if not isinstance(error, DriverError):
            logs.LOGGER.error("defect in the controller", exc_info=error)

    def tell_waiting(self, waiting: Waiting, pods: Sequence[Workload] = ()) -> None:
        """Say on a claim, and on the pods that wait for it, why it is not allocated. `pods`: those that share it."""
        claim, reason = waiting.claim, waiting.reason
        self.tell(ClaimWaits(str(claim), reason.value, waiting.text))
        subject = f"claim {claim.metadata.name}"
        if extended.is_imagined(claim):
            subject = "extended resources"
        else:
            self._post(_regard_claim(claim), waiting, waiting.text)
        first = () if waiting.pod is None else (waiting.pod,)
        told = {pod.metadata.uid: pod for pod in (*first, *pods[:_MOST_PODS]) if not pod.spec.node_name}
        for pod in told.values():
            self._post(_regard_pod(pod.metadata), waiting, f"{subject}: {waiting.text}")

    def tell_allocated(self, claim: Claim, node: str, devices: int) -> None:
        """Say on a claim what it was given."""
        where = f" on node {node}" if node else ""
        note = f"{devices} device{'s' if devices != 1 else ''}{where} allocated"
        self._events.post(Happening(_regard_claim(claim), "Allocated", ACTION, note))

    def _post(self, regarding: Regarding, waiting: Waiting, note: str) -> None:
        warning = waiting.reason not in _PATIENT
        self._events.post(Happening(regarding, waiting.reason.value, ACTION, note, warning=warning))


def _regard_claim(claim: Claim) -> Regarding:
    meta = claim.metadata
    return Regarding(_CLAIM_API, "ResourceClaim", meta.namespace, meta.name, meta.uid)


def _regard_pod(meta: ObjectMeta) -> Regarding:
    return Regarding("v1", "Pod", meta.namespace, meta.name, meta.uid)
