"""The lock of the records when somebody removes its file, and on a disk that refuses."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

from driver.model.errors import StorageFailed, Unavailable
from driver.model.prepared import Phase, Record
from driver.state.files import Disk
from driver.state.locks import SharedLock
from driver.state.records import Records
from tests.fakes.waiting import wait_until


def record(uid: str) -> Record:
    return Record(uid=uid, namespace="team-a", name=uid, phase=Phase.PREPARED, boot_id="b")


def test_instances_agree_on_one_file_after_it_was_removed_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = SharedLock(path)
    path.unlink()
    second = SharedLock(path)
    with first.hold(1):
        with pytest.raises(Unavailable, match="another instance"), second.hold(0):
            pass
        path.unlink()
    with second.hold(0), pytest.raises(Unavailable, match="another instance"), first.hold(0):
        pass
    assert path.exists()
    first.close()
    second.close()


def test_changes_are_seen_although_the_counter_begins_anew(tmp_path: Path) -> None:
    one, two = (Records(str(tmp_path), Disk(), print) for _ in range(2))
    with one.transaction(1) as ledger:
        ledger.put(record("a"))
    stamp = (tmp_path / "claims").stat()
    (tmp_path / "lock").unlink()
    with two.transaction(1) as ledger:
        ledger.put(record("b"))
    os.utime(tmp_path / "claims", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with one.transaction(1) as ledger:
        assert [entry.uid for entry in ledger.all()] == ["a", "b"]
    one.close()
    two.close()


def test_no_descriptor_is_lost_when_the_file_is_opened_again(tmp_path: Path) -> None:
    lock = SharedLock(tmp_path / "lock")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        (tmp_path / "lock").unlink()
        with lock.hold(1):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    lock.close()


def test_a_counter_that_cannot_be_written_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    lock = SharedLock(tmp_path / "lock")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with lock.hold(1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(StorageFailed, match=r"cannot write .*lock: File too large"):
                lock.count()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    lock.close()


def test_records_whose_folder_is_gone_are_a_failure_of_the_disk(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "state"), Disk(), print)
    with records.transaction(1) as ledger:
        (tmp_path / "state/claims").rmdir()
        with pytest.raises(StorageFailed, match="claims"):
            ledger.remove("a")
        with pytest.raises(StorageFailed, match="claims"):
            ledger.sweep()
    for name in ("lock", "hardware.lock"):
        (tmp_path / "state" / name).unlink()
    (tmp_path / "state").rmdir()
    with pytest.raises(StorageFailed, match="lock"), records.transaction(1):
        pass
    records.close()


def test_whoever_waits_longest_is_next(tmp_path: Path) -> None:
    lock = SharedLock(tmp_path / "lock")
    order: list[int] = []
    threads: list[threading.Thread] = []

    def hold(number: int) -> None:
        for _ in range(2):
            with lock.hold(20):
                order.append(number)

    with lock.hold(1):
        for number in range(6):
            threads.append(threading.Thread(target=hold, args=(number,)))
            threads[-1].start()
            wait_until(lambda: lock.waiting == len(threads), "it stands in the queue")
    for thread in threads:
        thread.join(20)
    assert order[:6] == list(range(6))
    assert sorted(order[6:]) == list(range(6))
    lock.close()


def test_whoever_gives_up_is_not_waited_for(tmp_path: Path) -> None:
    lock = SharedLock(tmp_path / "lock")
    with lock.hold(1), pytest.raises(Unavailable, match="other claims"), lock.hold(0.01):
        pass
    with lock.hold(0):
        pass
    lock.close()
