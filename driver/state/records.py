"""Records of prepared claims: one durable file each, shared by the instances of a rolling update.

Used by `node.transactions`. Everything happens inside `Records.transaction`, which holds a lock between threads and
processes and first sees what another instance has changed. Whoever changes hardware holds a second lock besides, and
lets go of the first while the hardware works (`Ledger.apart`): claims for which none is changed do not wait for it. So
a record in the phase `preparing` is one whose writer died for whoever holds the hardware, and for nobody else.

A file that is no record is moved to `quarantine/`, with the reason beside it, and reported; the others are served. A
disk that does not let us read proves nothing about the file, and a record of a later version belongs to that version:
both are left where they are.

Layout below the root: `claims/<uid>.json`, `quarantine/`, `unprepared/<uid>`, `lock`, `hardware.lock`.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driver.core.ownership import Holdings
from driver.model.errors import Corrupt, InvalidInput, StorageFailed, Unavailable, Unsupported
from driver.model.occurrences import Emit, RecordQuarantined, RepairFailed
from driver.model.prepared import CLAIM_UID, PreparedDevice, Record
from driver.state import files, record_files
from driver.state.files import Disk
from driver.state.locks import Grip, SharedLock

_REASON: Final = ".reason"
_CLOSE_TIMEOUT: Final = 5.0
_MARK_SECONDS: Final = 300.0
"""How long it is remembered that a claim was unprepared: longer than any prepare call lasts."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A record, or why it is none for us, with what its file looked like when it was read."""

    record: Record | record_files.TooNew
    inode: int
    mtime_ns: int


class HardwareWanted(Exception):  # noqa: N818 - no error: the transaction is begun again with the hardware
    """A transaction would change hardware and does not hold it. Nothing was changed so far."""


@dataclass(frozen=True, slots=True)
class _Hold:
    """What a transaction holds."""

    grip: Grip
    hardware: bool
    alone: bool
    """The records are kept also while the hardware works."""


class Ledger:
    """The records while they are held: true to the folder, written through to it."""

    def __init__(self, root: Path, disk: Disk, emit: Emit, lock: SharedLock) -> None:
        self._claims = root / record_files.FOLDER
        self._quarantine = root / "quarantine"
        self._unprepared = root / "unprepared"
        self._disk = disk
        self._emit = emit
        self._lock = lock
        self._loaded: dict[str, _Loaded] = {}
        self._failed: dict[str, StorageFailed] = {}
        self._marks_swept = -math.inf
        self._seen: tuple[int, int, int] | None = None
        self._hold: _Hold | None = None
        files.make_folder(disk, self._claims, 0o750)

    def begin(self, hold: _Hold | None) -> None:
        """Take note of what the transaction holds that begins, or goes on; None at its end."""
        self._hold = hold

    def want_hardware(self) -> None:
        """Raise `HardwareWanted` if the transaction must not change hardware. To be asked before anything is done.

        Raises `Unavailable` if the records were closed in its midst.
        """
        if self._hold is None:
            raise Unavailable("the records were closed: the plugin is stopping")
        if not self._hold.hardware:
            raise HardwareWanted

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Let others have the records while the hardware works; in the end they are read again.

        Waits for them as long as it takes: what was done to hardware has to be written down. Raises `Unavailable` if
        the records were closed meanwhile, `StorageFailed`.
        """
        self.want_hardware()
        hold = self._hold
        if hold is None or hold.alone:
            yield
            return
        self._hold = None
        hold.grip.drop()
        try:
            yield
        finally:
            hold.grip.take(math.inf)
            self._hold = hold
            self.refresh()

    def get(self, uid: str) -> Record | None:
        """Return the record of a claim.

        Raises `Unsupported` if only a later version of the plugin understands it, `StorageFailed` if the disk does not
        give it.
        """
        if uid in self._failed:
            raise self._failed[uid]
        loaded = self._loaded.get(uid)
        if loaded is None:
            return None
        if isinstance(loaded.record, record_files.TooNew):
            raise Unsupported(
                f"the record of claim {uid} was written by a later version of the plugin: {loaded.record}"
            )
        return loaded.record

    def all(self) -> tuple[Record, ...]:
        """Return all records that are understood, by UID."""
        records = (self._loaded[uid].record for uid in sorted(self._loaded))
        return tuple(record for record in records if isinstance(record, Record))

    def holders(self) -> tuple[Record, ...]:
        """Return all records, those of a later version as far as they are understood: these must not be written.

        Whether such a claim's steps were run is not known, so they count as interrupted.
        """
        newer = (
            loaded.record.sketch(uid)
            for uid, loaded in sorted(self._loaded.items())
            if isinstance(loaded.record, record_files.TooNew)
        )
        return (*self.all(), *newer)

    def holdings(self) -> Holdings:
        """Return what all records say, also those that only a later version understands as a whole."""
        return record_files.sum_up((self._loaded[uid].record for uid in sorted(self._loaded)), self._seen)

    def unread(self) -> Mapping[str, tuple[PreparedDevice, ...] | None]:
        """Return the devices of claims that are prepared and whose record is not understood, None if not known."""
        newer = {
            uid: loaded.record.devices
            for uid, loaded in self._loaded.items()
            if isinstance(loaded.record, record_files.TooNew)
        }
        return {uid: newer.get(uid) for uid in sorted(self.set_aside()) if uid in newer or uid not in self._loaded}

    def put(self, record: Record) -> None:
        """Write a record down; it survives a power failure once this returns.

        One that takes the place of another may be lost to a power failure, but the other one is there then: what it
        says has to be made again or undone after a boot in any case.
        Raises `InvalidInput` for a UID that is none, `StorageFailed`.
        """
        if not CLAIM_UID.fullmatch(record.uid):
            raise InvalidInput("claim UID", record.uid, "letters, digits, '-' and '.'")
        path = self._path(record.uid)
        self._lock.count()
        is_new = record.uid not in self._loaded
        files.store(self._disk, path, record_files.encode(record), mode=0o640, durable=True, sync_name=is_new)
        try:
            status = path.stat()
        except OSError as error:
            raise StorageFailed(str(path), error.strerror or str(error), action="read") from error
        self._loaded[record.uid] = _Loaded(record, status.st_ino, status.st_mtime_ns)
        self._seen = self._stamp()

    def remove(self, uid: str) -> None:
        """Forget a record for good, if there is one. Raises `StorageFailed`."""
        self._lock.count()
        files.discard(self._disk, self._path(uid), durable=True)
        self._loaded.pop(uid, None)
        self._seen = self._stamp()

    def set_aside(self) -> Set[str]:
        """Return the claim UIDs whose records are in quarantine, of a later version, or not to be had from the disk."""
        newer = {uid for uid, loaded in self._loaded.items() if isinstance(loaded.record, record_files.TooNew)}
        newer |= self._failed.keys()
        with contextlib.suppress(OSError):
            return newer.union(path.name.partition(record_files.SUFFIX)[0] for path in self._quarantine.iterdir())
        return frozenset(newer)

    def release(self, uid: str) -> None:
        """Drop what is in quarantine of a claim that is unprepared now, as far as the disk lets us."""
        for name in (f"{uid}{record_files.SUFFIX}", f"{uid}{record_files.SUFFIX}{_REASON}"):
            if CLAIM_UID.fullmatch(uid):
                with contextlib.suppress(StorageFailed):
                    files.discard(self._disk, self._quarantine / name, durable=False)

    def mark_unprepared(self, uid: str) -> None:
        """Let prepare calls of other instances that are under way see that the claim was unprepared meanwhile.

        This concerns a rare race only, so that a disk which refuses is no reason to fail.
        """
        if not CLAIM_UID.fullmatch(uid):
            return
        with contextlib.suppress(OSError, StorageFailed):
            files.make_folder(self._disk, self._unprepared, 0o750)
            self._lock.count()
            path = self._unprepared / uid
            self._disk.write(path, str(self._lock.read_counter()).encode(), 0o640, sync=False)
            self._sweep_marks(path.stat().st_mtime)

    def _sweep_marks(self, now: float) -> None:
        """Remove old marks, now and then: each look at them costs as much as there are."""
        if now < self._marks_swept + _MARK_SECONDS:
            return
        self._marks_swept = now
        for mark in self._unprepared.iterdir():
            if mark.stat().st_mtime < now - _MARK_SECONDS:
                files.discard(self._disk, mark, durable=False)

    def read_mark(self, uid: str) -> bytes:
        """Return a text that is another one after each `mark_unprepared` of the claim, by any instance."""
        with contextlib.suppress(OSError, ValueError):
            if CLAIM_UID.fullmatch(uid):
                return (self._unprepared / uid).read_bytes()
        return b""

    def sweep(self) -> None:
        """Remove what interrupted writes have left. Raises `StorageFailed`."""
        try:
            found = sorted(self._claims.iterdir())
        except OSError as error:
            raise StorageFailed(str(self._claims), error.strerror or str(error), action="read") from error
        for path in found:
            if files.is_temporary(path.name):
                files.discard(self._disk, path, durable=False)

    def refresh(self) -> None:
        """Read what has changed in the folder since we last looked. Raises `StorageFailed` if it cannot be read."""
        if not self._claims.is_dir():  # removed by hand
            files.make_folder(self._disk, self._claims, 0o750)
        if self._seen == self._stamp() and not self._failed:
            return
        found = self._scan()
        self._failed = {uid: error for uid, error in self._failed.items() if uid in found}
        self._loaded = {uid: loaded for uid, loaded in self._loaded.items() if uid in found}
        for uid, (inode, mtime_ns) in found.items():
            loaded = self._loaded.get(uid)
            if loaded is None or (loaded.inode, loaded.mtime_ns) != (inode, mtime_ns):
                self._load(uid, inode, mtime_ns)
        self._seen = self._stamp()

    def _scan(self) -> dict[str, tuple[int, int]]:
        """Return inode and modification time of each record's file, by UID."""
        found: dict[str, tuple[int, int]] = {}
        try:
            with os.scandir(self._claims) as entries:
                for entry in entries:
                    if entry.name.endswith(record_files.SUFFIX):
                        status = entry.stat(follow_symlinks=False)
                        found[entry.name.removesuffix(record_files.SUFFIX)] = (status.st_ino, status.st_mtime_ns)
        except OSError as error:
            raise StorageFailed(str(self._claims), error.strerror or str(error)) from error
        return found

    def _load(self, uid: str, inode: int, mtime_ns: int) -> None:
        path = self._path(uid)
        self._loaded.pop(uid, None)
        try:
            content = path.read_bytes()
            self._failed.pop(uid, None)
            record = record_files.decode(content, str(path))
        except FileNotFoundError:
            return
        except IsADirectoryError:
            self._set_aside(path, "it is a folder")
        except OSError as error:
            self._fail(uid, StorageFailed(str(path), error.strerror or str(error), action="read"))
        except record_files.TooNew as error:
            self._loaded[uid] = _Loaded(error, inode, mtime_ns)
            self._emit(RepairFailed(uid, type(error).__name__, str(error)))
        except Corrupt as error:
            self._set_aside(path, error.why)
        else:
            if record.uid == uid:
                self._loaded[uid] = _Loaded(record, inode, mtime_ns)
            else:
                self._set_aside(path, f"it is the record of claim {record.uid}")

    def _fail(self, uid: str, error: StorageFailed) -> None:
        """Leave a record that the disk does not give where it is: it is tried again, and concerns its claim only."""
        if uid not in self._failed:
            self._emit(RepairFailed(uid, type(error).__name__, str(error)))
        self._failed[uid] = error

    def _set_aside(self, path: Path, why: str) -> None:
        """Move a file that is no record away. If even that fails it is reported and left out."""
        target = self._quarantine / path.name
        try:
            files.make_folder(self._disk, self._quarantine, 0o750)
            files.store(self._disk, target.with_name(f"{path.name}{_REASON}"), f"{why}\n".encode(), durable=False)
            self._disk.rename(path, target)
        except (OSError, StorageFailed) as error:
            why = f"{why}; it could not be moved to {self._quarantine}: {error}"
        self._emit(RecordQuarantined(str(path), why))

    # The folder's modification time alone cannot tell two changes within one tick of the kernel's clock apart, so
    # writers also count, before they write: a write that fails half-way is read again too. The time is there to see
    # what was changed by hand.

    def _stamp(self) -> tuple[int, int, int]:
        try:
            changed = self._claims.stat().st_mtime_ns
        except OSError as error:
            raise StorageFailed(str(self._claims), error.strerror or str(error), action="read") from error
        return self._lock.generation, self._lock.read_counter(), changed

    def _path(self, uid: str) -> Path:
        return self._claims / f"{uid}{record_files.SUFFIX}"


class Records:
    """The records of this node. Any number of instances may share the folder."""

    def __init__(self, root: str, disk: Disk, emit: Emit) -> None:
        """Open the folder, make it if needed. Raises `StorageFailed`."""
        self._root = Path(root)
        files.make_folder(disk, self._root, 0o750)
        self._lock = SharedLock(Path(root, "lock"))
        self._hardware = SharedLock(Path(root, "hardware.lock"), "hardware")
        self._ledger = Ledger(Path(root), disk, emit, self._lock)

    @contextlib.contextmanager
    def transaction(self, timeout: float, *, hardware: bool = False, alone: bool = False) -> Iterator[Ledger]:
        """Hold the records alone for a while, with the `hardware` if it is to be changed.

        `alone`: also while the hardware works, else others get at the records meanwhile. Raises `Unavailable` if others
        hold them for longer than `timeout` seconds, `StorageFailed` if the folder cannot be read, `HardwareWanted`.
        """
        deadline = time.monotonic() + timeout
        with self._hardware.hold(timeout) if hardware else contextlib.nullcontext():
            left = timeout if not hardware else max(0.0, deadline - time.monotonic())
            with self._lock.grip(left) as grip:
                self._ledger.begin(_Hold(grip, hardware, alone))
                try:
                    self._ledger.refresh()
                    yield self._ledger
                finally:
                    if grip.held:
                        self._ledger.begin(None)

    def list(self) -> tuple[Record, ...]:
        """Return all records that are understood. Never waits: while somebody changes some, they are read as they are.

        Raises `StorageFailed` if the folder cannot be read.
        """
        try:
            with self.transaction(0) as ledger:
                return ledger.all()
        except Unavailable:
            return record_files.peek(self._root)

    def look(self) -> Holdings:
        """Return what all claims hold now. Never waits: while somebody changes records they are read as they are.

        Raises `StorageFailed` if the folder cannot be read.
        """
        try:
            with self.transaction(0) as ledger:
                return ledger.holdings()
        except Unavailable:
            return record_files.peek_holdings(self._root)

    def close(self) -> None:
        """Let go of the lock's file; nothing may be used afterwards. Safe to repeat.

        A transaction that does not end soon keeps it until the process ends: another instance must not get in.
        """
        with contextlib.suppress(Unavailable):
            try:
                with self._hardware.hold(_CLOSE_TIMEOUT), self._lock.hold(_CLOSE_TIMEOUT):
                    self._close()
            except StorageFailed:  # the folder is gone: there is nothing left to keep others out of
                self._close()

    def _close(self) -> None:
        self._hardware.close()
        self._lock.close()
