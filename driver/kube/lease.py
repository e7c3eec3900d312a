"""Leader election by a Lease: take it, keep it, say for how long one may act, give it back.

Called by the controller's composition root. One thread talks to the API server; `term` may be asked from any.
Promises: at most one process has a term at any moment, as long as the machines' clocks run at the same speed (within
`duration - renew_deadline`); a term that ended never comes back, a later one has another number. Needs the permissions
get, create and patch on leases.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from driver.core import leasing
from driver.core.leasing import Lease, LeaseSpec, Sighting, Step, Terms
from driver.kube import decoding
from driver.kube.client import MERGE_PATCH, Client
from driver.model.errors import Conflict, DriverError, NotFound

_JITTER: Final = 0.2
"""Part of a pause by which it may be longer, so that candidates do not ask in step."""
_STOP_SECONDS: Final = 3.0
"""For an attempt that is under way at the end, and for giving the lease back; else it runs out by itself."""
_decoder: Final = decoding.Decoder(Lease)


class Leases(Protocol):
    """Where a lease is kept. Methods raise `DriverError`."""

    def fetch(self, timeout: float) -> Lease | None:
        """Return the lease as it is now, None if there is none."""

    def create(self, spec: LeaseSpec, timeout: float) -> Lease:
        """Create it. Raises `Conflict` if somebody was faster."""

    def change(self, lease: Lease, spec: LeaseSpec, timeout: float) -> Lease:
        """Write it. Raises `Conflict` if it is not as it was read."""


class StoredLease:
    """One Lease of an API server."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self._client = client
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"

    def fetch(self, timeout: float) -> Lease | None:
        """Return the lease as it is now."""
        try:
            return _decoder.decode(self._client.get(self._path, timeout=timeout), "lease")
        except NotFound as error:
            if error.name == self._name:
                return None
            raise

    def create(self, spec: LeaseSpec, timeout: float) -> Lease:
        """Create it."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": spec,
        }
        return _decoder.decode(
            self._client.create(self._collection, msgspec.json.encode(body), timeout=timeout), "lease"
        )

    def change(self, lease: Lease, spec: LeaseSpec, timeout: float) -> Lease:
        """Write it as a merge patch, so that fields of later versions survive."""
        meta = {"uid": lease.metadata.uid, "resourceVersion": lease.metadata.resource_version}
        fields = {
            "holderIdentity": spec.holder_identity,
            "leaseDurationSeconds": spec.lease_duration_seconds,
            "acquireTime": spec.acquire_time,
            "renewTime": spec.renew_time,
            "leaseTransitions": spec.lease_transitions,
        }
        body = msgspec.json.encode({"metadata": meta, "spec": fields})
        return _decoder.decode(self._client.patch(self._path, body, MERGE_PATCH, timeout=timeout), "lease")


class Elector:
    """Stands for election until it is stopped.

    `changed` is called when a term begins or ends, `complain` for every failure; both on the elector's thread.
    """

    def __init__(
        self,
        leases: Leases,
        identity: str,
        terms: Terms,
        changed: Callable[[], None],
        complain: Callable[[Exception], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._identity = identity
        self._terms = terms
        self._changed = changed
        self._complain = complain
        self._clock = clock
        self._sighting: Sighting | None = None
        self._began = 0
        self._until = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Begin to stand for election."""
        self._thread.start()

    def stop(self) -> None:
        """End, and give the lease back. Whoever acts in its name has to have ended before."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        if self.term is not None and not self._thread.is_alive():
            self._until = float("-inf")
            self._release()

    @property
    def alive(self) -> bool:
        """True while the thread runs; only a defect ends it before `stop`."""
        return self._thread.is_alive()

    @property
    def term(self) -> int | None:
        """The number of the term while one may act, else None."""
        return self._began if self._clock() < self._until else None

    @property
    def holder(self) -> str:
        """Who was the last to be seen with the lease."""
        return self._sighting.lease.spec.holder_identity if self._sighting else ""

    def try_once(self) -> None:
        """Look at the lease and take or renew it if that is possible. Raises `DriverError`."""
        asked = self._clock()
        leads = self.term is not None
        # A renewal that comes too late is worth nothing, and the next attempt has to have its turn.
        timeout = max(0.1, min(self._until - asked, self._terms.longest_write) if leads else self._terms.renew_deadline)
        if not leads or self._sighting is None:
            self._look(timeout)
        if self._sighting is None:
            self._win(asked, self._leases.create(self._describe(None), timeout))
        elif leasing.decide(self._sighting, self._identity, self._clock()) is not Step.WAIT:
            lease = self._sighting.lease
            asked = self._clock()
            try:
                self._win(asked, self._leases.change(lease, self._describe(lease.spec), timeout))
            except (Conflict, NotFound):
                self._look(timeout)
                raise

    def _look(self, timeout: float) -> None:
        lease = self._leases.fetch(timeout)
        self._sighting = leasing.look(self._sighting, lease, self._clock()) if lease is not None else None

    def _win(self, asked: float, lease: Lease) -> None:
        """Count the term from before the request was sent: the server's clock for it may have begun then."""
        self._sighting = Sighting(lease, asked)
        if lease.spec.holder_identity != self._identity:
            return
        is_new = self.term is None
        if is_new:
            self._began += 1
        self._until = asked + self._terms.renew_deadline
        if is_new:
            self._changed()

    def _run(self) -> None:
        while not self._stop.is_set():
            led = self._until > float("-inf")
            try:
                self.try_once()
            except DriverError as error:
                self._complain(error)
            except Exception as error:  # noqa: BLE001 - a defect must not end the election; it is reported and tried again
                self._complain(error)
            if led and self.term is None:
                self._until = float("-inf")
                self._changed()
            pause = self._terms.retry * (1 + _JITTER * random.random())  # noqa: S311 - nothing secret
            self._stop.wait(pause)

    def _release(self) -> None:
        if self._sighting is None:
            return
        lease = self._sighting.lease
        try:
            self._leases.change(lease, leasing.release(lease.spec, _now()), _STOP_SECONDS)
        except DriverError as error:
            self._complain(error)

    def _describe(self, before: LeaseSpec | None) -> LeaseSpec:
        return leasing.write(before, self._identity, self._terms, _now())


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
