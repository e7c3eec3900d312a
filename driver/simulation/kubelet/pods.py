"""Pods of one node: started once their claims are prepared, ended before these are unprepared. Called by the kubelet.

One worker a pod at a time, several pods at once: a claim that takes its 45 seconds keeps no other pod waiting. What is
wrong is written where people look: the pod's status and its events, in the kubelet's words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from driver.model.errors import DriverError
from driver.simulation.access import PODS, Body
from driver.simulation.events import Clock, Recorder, format_time
from driver.simulation.kubelet import statuses
from driver.simulation.kubelet.claims import Claims, PrepareError
from driver.simulation.kubelet.health import Find, describe
from driver.simulation.kubelet.timings import Timings
from driver.simulation.objects import Pod, ResourceStatus
from driver.simulation.runtime.containers import Runtime, Wanted
from driver.simulation.runtime.injection import InjectionError

_WORKERS: Final = 16
_KILLED: Final = 137
_statuses: Final = msgspec.json.Decoder(tuple[ResourceStatus, ...])
"""Exit code of a container that was stopped."""
Step = Callable[[], float]
"""One piece of work on a pod; returns the seconds before the next."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Where time and chance come from."""

    clock: Callable[[], float]
    now: Clock
    jitter: Callable[[], float]
    """From 0 to 1: waits are stretched by up to a half."""


@dataclass(slots=True)
class _Work:
    """What is known about one pod's worker."""

    is_busy: bool = False
    next_try: float = 0.0
    exit_code: int | None = None
    """Of a pod whose containers were ended here."""
    is_ended: bool = False
    """Ended, unprepared, and its last status written."""


class Pods:
    """The workers of one node; `sync` is called again and again with the pods that the API server has."""

    def __init__(
        self, events: Recorder, claims: Claims, runtime: Runtime, find: Find, timings: Timings, waits: Waits
    ) -> None:
        self._objects = events.objects
        self._claims = claims
        self._runtime = runtime
        self._find_health = find
        self._timings = timings
        self._waits = waits
        self._events = events
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="pod")
        self._work: dict[str, _Work] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the workers; what they have begun is finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def sync(self, pods: list[Pod], wake: Callable[[], None]) -> float | None:
        """Begin what is due, also for pods that are gone from the API server; return when to look again."""
        for pod in pods:
            self._begin(pod.metadata.uid, self._choose(pod), wake)
        known = {pod.metadata.uid for pod in pods}
        orphans = (set(self._runtime.list_sandboxes()) | self._claims.pod_uids()) - known
        for uid in orphans:
            self._begin(uid, partial(self._end_orphan, uid), wake)
        self._forget(known | orphans)
        now = self._waits.clock()
        waits = [work.next_try - now for work in self._work.values() if work.next_try > now]
        return min(waits, default=None)

    def _forget(self, kept: set[str]) -> None:
        with self._lock:
            self._work = {uid: work for uid, work in self._work.items() if uid in kept or work.is_busy}

    def expedite(self) -> None:
        """Forget all waits, so that every pod is tried at once."""
        with self._lock:
            for work in self._work.values():
                work.next_try = 0.0

    def _find_work(self, uid: str) -> _Work:
        with self._lock:
            return self._work.setdefault(uid, _Work())

    def _choose(self, pod: Pod) -> Step | None:
        """Return what to do about a pod, or None."""
        work = self._find_work(pod.metadata.uid)
        sandbox = self._runtime.find(pod.metadata.uid)
        if pod.metadata.deletion_timestamp:
            return lambda: self._delete(pod, work)
        if work.is_ended or (pod.is_done and sandbox is None):
            return None
        if work.exit_code is not None or pod.is_done or (sandbox is not None and sandbox.exit_code is not None):
            return lambda: self._end(pod, work)
        if sandbox is None or not sandbox.containers:
            return lambda: self._start(pod)
        return None if self._is_fresh(pod) else lambda: self._refresh(pod)

    def _begin(self, uid: str, step: Step | None, wake: Callable[[], None]) -> None:
        work = self._find_work(uid)
        if step is None or work.is_busy or work.next_try > self._waits.clock():
            return
        work.is_busy = True
        self._pool.submit(self._run, work, step, wake)

    def _run(self, work: _Work, step: Step, wake: Callable[[], None]) -> None:
        wait = self._timings.reconcile
        try:
            wait = step()
        except DriverError:
            pass  # the API server is away or somebody was faster: look again soon
        finally:
            work.next_try = self._waits.clock() + wait
            work.is_busy = False
            wake()

    def _start(self, pod: Pod) -> float:
        uid = pod.metadata.uid
        if self._runtime.find(uid) is None:
            if pod.status.phase != "Running":
                self._report(pod, statuses.creating(pod, self._moment()))
            try:
                self._claims.prepare(pod)
            except PrepareError as error:
                message = f"Failed to prepare dynamic resources: {error}"
                self._events.record(pod, "FailedPrepareDynamicResources", message, warning=True)
                return self._stretch(self._timings.resync)
            self._runtime.create(uid)
        return self._start_containers(pod)

    def _start_containers(self, pod: Pod) -> float:
        wanted: dict[str, Wanted] = {}
        for container in (*pod.spec.init_containers, *pod.spec.containers):
            devices = self._claims.devices(pod, container)
            names = tuple(name for device in devices for name in device.cdi_device_ids)
            user = container.security_context.run_as_user or pod.spec.security_context.run_as_user or 0
            wanted[container.name] = Wanted(names, user)
        try:
            self._runtime.start(pod.metadata.uid, wanted)
        except InjectionError as error:
            self._report(pod, statuses.blocked(pod, self._moment(), error.reason, str(error)))
            self._events.record(pod, "Failed", f"Error: {error}", warning=True)
            return self._stretch(self._timings.terminate_backoff)
        self._report(pod, statuses.running(pod, self._moment(), self._describe_devices(pod)))
        self._events.record(pod, "Started", "Containers started")
        return 0.0

    def _describe_devices(self, pod: Pod) -> statuses.Allocated:
        """Return the health of the devices that each container references."""
        containers = pod.spec.containers
        return {each.name: describe(self._claims.users(pod, each), self._find_health) for each in containers}

    def _is_fresh(self, pod: Pod) -> bool:
        """Return whether the pod shows the health of its devices; a pod that is not reported running yet shows none."""
        wanted = self._describe_devices(pod)
        return pod.status.phase != "Running" or all(
            each.allocated_resources_status == _statuses.decode(msgspec.json.encode(wanted.get(each.name, [])))
            for each in pod.status.container_statuses
        )

    def _refresh(self, pod: Pod) -> float:
        now = msgspec.json.decode(self._objects.client.get(PODS.path(pod.metadata.namespace, pod.metadata.name)))
        self._report(pod, statuses.refreshed(now["status"]["containerStatuses"], self._describe_devices(pod)))
        return self._timings.reconcile

    def _stop(self, uid: str, work: _Work) -> float:
        """End the containers, then unprepare; return 0 or the seconds to wait before the next attempt."""
        sandbox = self._runtime.find(uid)
        if work.exit_code is None:
            work.exit_code = _KILLED if sandbox is None or sandbox.exit_code is None else sandbox.exit_code
        self._runtime.remove(uid)
        try:
            self._claims.unprepare(uid)
        except PrepareError:
            return self._stretch(self._timings.terminate_backoff)
        return 0.0

    def _end(self, pod: Pod, work: _Work) -> float:
        wait = self._stop(pod.metadata.uid, work)
        if wait:
            return wait
        if not pod.is_done:
            self._report(pod, statuses.ended(pod, self._moment(), work.exit_code or 0))
        work.is_ended = True
        return 0.0

    def _delete(self, pod: Pod, work: _Work) -> float:
        if not work.is_ended:
            wait = self._end(pod, work)
            if wait:
                return wait
        self._objects.delete(PODS, pod, grace=0)
        return self._timings.reconcile

    def _end_orphan(self, uid: str) -> float:
        """End a pod that was deleted by force: its object is gone, its containers and claims are not."""
        return self._stop(uid, self._find_work(uid))

    def _report(self, pod: Pod, status: Body) -> None:
        self._objects.patch(PODS, pod, status, "status")

    def _moment(self) -> str:
        return format_time(self._waits.now())

    def _stretch(self, seconds: float) -> float:
        return seconds * (1 + self._waits.jitter() / 2)
