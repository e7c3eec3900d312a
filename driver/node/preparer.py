"""The kubelet's calls for claims: read them fresh, do each as a transaction, answer for every one.

`app` gives `prepare` and `unprepare` to the kubelet's service, which calls them from several threads. Claims are read
from the API server outside of any lock, so that nobody waits for another's read; what may pass is tried again inside
the call, because the kubelet itself comes back only after a minute. An error concerns one claim and never another.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Final, TypeVar

from driver.contract import Vendor
from driver.core.ownership import Holdings
from driver.model.devices import Inventory
from driver.model.errors import Conflict, DeviceBusy, DriverError, Unavailable
from driver.model.occurrences import ClaimPrepared, ClaimUnprepared, Emit, Recovered
from driver.model.prepared import ClaimRef, PrepareAnswer, PreparedDevice, Record
from driver.node.collecting import Collector, Fetch
from driver.node.hardware import Hardware, Neutral
from driver.node.recovery import Recovery
from driver.node.transactions import Site, Transactions
from driver.settings import Settings
from driver.state.boots import read_boot_id
from driver.state.cdi_dir import CdiDir
from driver.state.files import Disk
from driver.state.metadata_dir import MetadataDir
from driver.state.records import HardwareWanted, Ledger, Records

_T = TypeVar("_T")

_FIRST_PAUSE: Final = 0.05
_SHORTEST_READ: Final = 1.0
"""Seconds that a read is given even at the very end; the kubelet waits longer than our deadline."""
_GLANCE: Final = 2.0
"""Seconds in which the API server may contradict a record. Repeats are rare: after the kubelet was restarted."""
_LONGEST_PAUSE: Final = 2.0
"""Seconds between tries: short enough to use an API server at once when it is back."""
_CLAIMS_AT_A_TIME: Final = 8
"""Claims of one call that are read at the same time. Calls share nothing: one pod's trouble is not another's."""
_BUSY_SECONDS: Final = 10.0
"""How long a device that another claim holds is waited for: after a pod was deleted by force, its claim is unprepared
seconds after its devices were given on."""
_LAST_LOOK_SECONDS: Final = 2.0
"""How long the end waits for a look for claims that exist no longer."""

_FIRST_COLLECTION: Final = 15.0
_COLLECTION_INTERVAL: Final = 300.0
"""Seconds between looks for claims that exist no longer: one GET for each prepared claim."""
_UPKEEP_INTERVAL: Final = 15.0
"""Seconds between two tries to hold what could not be held at start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the preparer reaches the world with."""

    fetch: Fetch
    inventory: Callable[[], Inventory | None]
    """The latest look at the hardware, None while its driver is not there."""
    emit: Emit
    on_fault: Callable[[str, Exception], None]
    """Told of errors that are a defect of ours, for the log."""
    clock: Callable[[], float]
    """Seconds, never going back."""
    wait: Callable[[float], bool]
    """Wait so many seconds; return True at once when the plugin is being stopped."""


def open_preparer(
    settings: Settings, vendor: Vendor, outside: Outside, disk: Disk | None = None, neutral: Sequence[Neutral] = ()
) -> Preparer:
    """Return a preparer on the folders of `settings`; `neutral` stand in for the vendor for some devices.

    Raises `StorageFailed` or `Unavailable` if the state folder or procfs cannot be used.
    """
    disk = disk or Disk()
    site = Site(
        driver=settings.driver_name,
        pool=settings.node_name,
        boot_id=read_boot_id(settings.proc_root),
        device_metadata=settings.device_metadata,
    )
    specs = CdiDir(settings.cdi_root, disk)
    documents = MetadataDir(settings.records_root, disk)
    records = Records(settings.records_root, disk, outside.emit)
    hardware = Hardware(vendor, neutral, site.boot_id, outside.emit)
    transactions = Transactions(site, hardware, specs, documents, outside.emit)
    keepers = Keepers(
        Recovery(transactions, records, specs, documents, outside.emit),
        Collector(transactions, records, outside.fetch, outside.clock, outside.emit),
    )
    return Preparer(transactions, records, keepers, outside, settings.prepare_deadline)


@dataclass(frozen=True, slots=True)
class Keepers:
    """What keeps records true: once at start, and from time to time."""

    recovery: Recovery
    collector: Collector


class Preparer:
    """Prepares and unprepares claims. `deadline` is how many seconds one call may take with all its tries."""

    def __init__(
        self, transactions: Transactions, records: Records, keepers: Keepers, outside: Outside, deadline: float
    ) -> None:
        self._transactions = transactions
        self._records = records
        self._keepers = keepers
        self._outside = outside
        self._deadline = deadline
        self._attempts = _Attempts()
        self._collecting = threading.Thread(target=self._collect, name="collector", daemon=True)

    def recover(self) -> Recovered:
        """Repair what a crash, a reboot or a lost CDI folder has left; to be called once, before registration.

        Raises `Unavailable` if another instance keeps the records busy, `StorageFailed` if they cannot be read.
        """
        return self._keepers.recovery.run(self._outside.inventory())

    def prepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        """Answer for each claim, by UID: its devices or one error. The same again gives the same again."""
        end = self._outside.clock() + self._deadline
        if len(refs) == 1:
            return {refs[0].uid: self._prepare_one(refs[0], end)}
        threads = max(1, min(len(refs), _CLAIMS_AT_A_TIME))
        with futures.ThreadPoolExecutor(threads, thread_name_prefix="prepare") as pool:
            answers = pool.map(lambda ref: self._prepare_one(ref, end), refs)
            return {ref.uid: answer for ref, answer in zip(refs, answers, strict=True)}

    def unprepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, str]:
        """Undo each claim, by UID: an empty text, or why it has to be tried again. Unknown claims are done already."""
        end = self._outside.clock() + self._deadline
        return {ref.uid: self._unprepare_one(ref, end) for ref in refs}

    def list_devices(self) -> frozenset[str]:
        """Return the names of all devices that claims hold; never waits. Raises `StorageFailed`."""
        return frozenset(device.device for record in self.list_records() for device in record.devices)

    def list_records(self) -> tuple[Record, ...]:
        """Return the records of all claims as they are now; never waits. Raises `StorageFailed`."""
        return self._records.list()

    def read_steps(self) -> Holdings:
        """Return what was done to hardware for all claims; never waits. Raises `StorageFailed`."""
        return self._records.look()

    def start_collecting(self) -> None:
        """Release claims that exist no longer, from now until `Outside.wait` says that the plugin is being stopped."""
        self._collecting.start()

    def collect(self) -> int:
        """Look once for claims that exist no longer; return how many were released after having been gone for long."""
        return self._keepers.collector.look(lambda: self._outside.wait(0))

    def close(self) -> None:
        """Let go of files after what is in progress, within seconds. `Outside.wait` must return True by now."""
        if self._collecting.is_alive():
            self._collecting.join(_LAST_LOOK_SECONDS)
        self._records.close()

    def uphold(self) -> None:
        """Try once more what recovery at start could not hold (a daemon); running pods are not prepared again."""
        self._keepers.recovery.uphold()

    def _collect(self) -> None:
        left = _FIRST_COLLECTION
        while not self._outside.wait(min(left, _UPKEEP_INTERVAL)):
            left -= min(left, _UPKEEP_INTERVAL)
            try:
                with contextlib.suppress(Unavailable):  # the hardware is busy; the next time is soon
                    self.uphold()
                if left <= 0:
                    left = _COLLECTION_INTERVAL
                    self.collect()
            except Exception as error:  # noqa: BLE001 - top of a thread that must not end
                self._outside.on_fault("collect", error)

    def _prepare_one(self, ref: ClaimRef, end: float) -> PrepareAnswer:
        started = self._outside.clock()
        try:
            with self._attempts.begin(ref.uid) as attempt:
                devices = self._try_until(ref, attempt, end)
        except Exception as error:  # noqa: BLE001 - one claim's trouble, whatever it is, must not become another's
            reason, text = self._explain("prepare", error)
            self._outside.emit(ClaimPrepared(str(ref), self._since(started), 0, reason, text))
            return PrepareAnswer(error=text)
        self._outside.emit(ClaimPrepared(str(ref), self._since(started), len(devices)))
        return PrepareAnswer(devices)

    def _unprepare_one(self, ref: ClaimRef, end: float) -> str:
        started = self._outside.clock()
        reason = text = ""
        try:
            self._transact(end, lambda ledger: self._withdraw(ledger, ref.uid))
        except Exception as error:  # noqa: BLE001 - one claim's trouble, whatever it is, must not become another's
            reason, text = self._explain("unprepare", error)
        self._outside.emit(ClaimUnprepared(str(ref), self._since(started), reason, text))
        return text

    def _try_until(self, ref: ClaimRef, attempt: _Attempt, end: float) -> tuple[PreparedDevice, ...]:
        """Try again what is only away for now, until `end`; then tell the last error."""
        started, pause = self._outside.clock(), _FIRST_PAUSE
        while True:
            try:
                return self._try_once(ref, attempt, end)
            except DeviceBusy:
                left = self._left(min(end, started + _BUSY_SECONDS))
                if left < _FIRST_PAUSE or self._outside.wait(min(pause, left)):
                    raise
            except Unavailable as error:
                left = self._left(end)
                if left < _FIRST_PAUSE:
                    raise Unavailable(f"gave up after {self._since(started):.0f} s: {error}") from error
                if self._outside.wait(min(max(pause, error.retry_after or 0), left)):
                    raise Unavailable(f"the plugin is stopping: {error}") from error
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _try_once(self, ref: ClaimRef, attempt: _Attempt, end: float) -> tuple[PreparedDevice, ...]:
        def resume(ledger: Ledger) -> Record | None:
            attempt.check(ref, ledger.read_mark(ref.uid))
            return self._transactions.resume(ledger, ref.uid, self._outside.inventory())

        record = self._transact(end, resume)
        if record is not None and not self._is_outdated(ref, record, end):
            return record.devices
        claim = self._outside.fetch(ref.namespace, ref.name, max(_SHORTEST_READ, self._left(end)))

        def prepare(ledger: Ledger) -> tuple[PreparedDevice, ...]:
            attempt.check(ref, ledger.read_mark(ref.uid))
            return self._transactions.prepare(ledger, ref, claim, self._outside.inventory())

        return self._transact(end, prepare)

    def _withdraw(self, ledger: Ledger, uid: str) -> None:
        self._attempts.withdraw(uid)
        ledger.mark_unprepared(uid)
        self._transactions.unprepare(ledger, uid)

    def _transact(self, end: float, act: Callable[[Ledger], _T]) -> _T:
        """Do it with the records, and with the hardware only if it is to be changed: that may take long for others."""
        try:
            with self._records.transaction(self._left(end)) as ledger:
                return act(ledger)
        except HardwareWanted:
            with self._records.transaction(self._left(end), hardware=True) as ledger:
                return act(ledger)

    def _is_outdated(self, ref: ClaimRef, record: Record, end: float) -> bool:
        """Say whether the claim has other devices now. Without the API server's answer the record stands."""
        try:
            claim = self._outside.fetch(ref.namespace, ref.name, min(_GLANCE, max(_SHORTEST_READ, self._left(end))))
        except DriverError:
            return False
        return not self._transactions.agrees(record, claim)

    def _explain(self, operation: str, error: Exception) -> tuple[str, str]:
        if isinstance(error, DriverError):
            return type(error).__name__, str(error)
        self._outside.on_fault(operation, error)
        return type(error).__name__, f"internal error: {type(error).__name__}: {error}"

    def _since(self, started: float) -> float:
        return self._outside.clock() - started

    def _left(self, end: float) -> float:
        return max(0.0, end - self._outside.clock())


@dataclass(slots=True, eq=False)
class _Attempt:
    """One prepare call's work on one claim."""

    withdrawn: bool = field(default=False)
    mark: bytes | None = field(default=None)
    """What the records said when the attempt began, which another instance of the plugin changes."""

    def check(self, ref: ClaimRef, mark: bytes) -> None:
        """Raise `Conflict` if the claim was unprepared since the attempt began. The first call is the beginning."""
        if self.mark is None:
            self.mark = mark
        if self.withdrawn or mark != self.mark:
            raise Conflict(f"claim {ref} was unprepared while it was being prepared")


class _Attempts:
    """Attempts under way, by claim.

    The kubelet may give up on a prepare call that still waits for the API server, and unprepare the claim. Without
    this, the forgotten call would prepare it afterwards, for nobody.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: defaultdict[str, list[_Attempt]] = defaultdict(list)

    @contextlib.contextmanager
    def begin(self, uid: str) -> Iterator[_Attempt]:
        """Count an attempt as under way."""
        attempt = _Attempt()
        with self._lock:
            self._running[uid].append(attempt)
        try:
            yield attempt
        finally:
            with self._lock:
                self._running[uid].remove(attempt)
                if not self._running[uid]:
                    del self._running[uid]

    def withdraw(self, uid: str) -> None:
        """End all attempts that are under way before they change anything more. Only while the records are held."""
        with self._lock:
            for attempt in self._running.get(uid, ()):
                attempt.withdrawn = True
