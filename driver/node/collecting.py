"""Releases claims that exist no longer although nobody unprepared them: the kubelet lost its state, or two calls raced.

`preparer` runs it on a thread of its own. Without it such a claim would hold its device for ever. It waits long before
it believes that a claim is gone, because a pod that was deleted by force may still be running, and its device is not
free until the kubelet has unprepared it. It must not decide anything while the API server does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from driver.core.recovery import explain_stale
from driver.model.claims import ResourceClaim
from driver.model.errors import DriverError, NotFound, Unavailable
from driver.model.occurrences import Emit, RepairFailed, StaleClaimReleased
from driver.model.prepared import ClaimRef, Record
from driver.node.transactions import Transactions
from driver.state.records import Records

Fetch = Callable[[str, str, float], ResourceClaim]
"""Namespace, name and the most seconds to wait, to the claim as the API server has it now. Raises `DriverError`."""

GRACE: Final = 600.0
"""Seconds for which a claim has to be seen gone, ten times what the kubelet's own retries take."""
_LOCK_TIMEOUT: Final = 30.0
_READ_TIMEOUT: Final = 10.0


class Collector:
    """Compares the records with the API server, look by look."""

    def __init__(
        self,
        transactions: Transactions,
        records: Records,
        fetch: Fetch,
        clock: Callable[[], float],
        emit: Emit,
    ) -> None:
        self._transactions = transactions
        self._records = records
        self._fetch = fetch
        self._clock = clock
        self._emit = emit
        self._gone_since: dict[str, float] = {}

    def look(self, stopping: Callable[[], bool]) -> int:
        """Look at every record once, until `stopping`; return how many claims were released."""
        with self._records.transaction(_LOCK_TIMEOUT) as ledger:
            known = ledger.all()
        self._gone_since = {
            record.uid: self._gone_since[record.uid] for record in known if record.uid in self._gone_since
        }
        return sum(self._check(record) for record in known if not stopping())

    def _check(self, record: Record) -> bool:
        ref = ClaimRef(record.namespace, record.name, record.uid)
        try:
            why = self._explain(record)
            return bool(why) and self._is_certain(record) and self._release(record, ref, why)
        except Unavailable:
            return False  # the next look will tell
        except DriverError as error:
            self._emit(RepairFailed(str(ref), type(error).__name__, str(error)))
            return False

    def _explain(self, record: Record) -> str:
        site = self._transactions.site
        try:
            claim = self._fetch(record.namespace, record.name, _READ_TIMEOUT)
        except NotFound:
            return explain_stale(record, None, site.driver, site.pool)
        why = explain_stale(record, claim, site.driver, site.pool)
        if not why:
            self._gone_since.pop(record.uid, None)
        return why

    def _is_certain(self, record: Record) -> bool:
        """Say whether the claim has been gone for long. Nothing of an earlier boot is running."""
        since = self._gone_since.setdefault(record.uid, self._clock())
        return record.boot_id != self._transactions.site.boot_id or self._clock() - since >= GRACE

    def _release(self, record: Record, ref: ClaimRef, why: str) -> bool:
        with self._records.transaction(_LOCK_TIMEOUT, hardware=True) as ledger:
            if ledger.get(record.uid) != record:
                return False  # the kubelet was faster
            self._transactions.unprepare(ledger, record.uid)
        self._emit(StaleClaimReleased(str(ref), why))
        return True
