"""Records: durable, shared by two instances, and an unreadable one harms nobody else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.model.errors import Corrupt, InvalidInput, StorageFailed, Unavailable
from driver.model.occurrences import Occurrence, RecordQuarantined
from driver.model.prepared import Phase, PreparedDevice, Record, Step
from driver.model.sharing import Sharing, Strategy
from driver.state import record_files, records
from driver.state.boots import read_boot_id
from driver.state.files import Disk
from driver.state.locks import SharedLock
from driver.state.records import Records
from tests.fakes.disks import FullDisk, WatchedDisk
from tests.fakes.processes import ending

DATA = Path(__file__).resolve().parent.parent / "data" / "records"
UID = "b0e6c0f2-7d5c-4f0e-9e3b-6f1f5d0c7a11"


def record(uid: str = UID, phase: Phase = Phase.PREPARED) -> Record:
    return Record(
        uid=uid,
        namespace="team-a",
        name="training",
        phase=phase,
        boot_id="11111111-2222-4333-8444-555555555555",
        devices=(
            PreparedDevice(
                requests=("gpu",),
                pool="node-a",
                device="gpu-0000-1a-00-0",
                cdi_device_ids=(f"k8s.gpu.accel-dra.dev/claim={uid}-gpu-0000-1a-00-0",),
                share_id="0f0e0d0c-0b0a-4908-8706-050403020100",
                admin_access=True,
            ),
        ),
        steps=(Step(name="partition", arguments={"profile": "1g.10gb"}),),
        cdi={f"k8s.gpu.accel-dra.dev-claim_{uid}.json": msgspec.Raw(b'{ "cdiVersion" : "0.5.0" }')},
        metadata={"gpu": msgspec.Raw(b'{"kind":"DeviceMetadata"}')},
    )


class Instance:
    """One instance of the plugin on a folder."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.happened: list[Occurrence] = []
        self.records = Records(str(root), disk or Disk(), self.happened.append)

    def put(self, added: Record) -> None:
        with self.records.transaction(20) as ledger:
            ledger.put(added)

    def remove(self, uid: str) -> None:
        with self.records.transaction(20) as ledger:
            ledger.remove(uid)

    def uids(self) -> list[str]:
        with self.records.transaction(20) as ledger:
            return [entry.uid for entry in ledger.all()]

    def get(self, uid: str) -> Record | None:
        with self.records.transaction(20) as ledger:
            return ledger.get(uid)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path)
    yield instance
    instance.records.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance(tmp_path)
    yield instance
    instance.records.close()


# The format


def test_a_record_comes_back_as_it_was_to_the_byte() -> None:
    text = record_files.encode(record())
    back = record_files.decode(text, "x")
    assert record_files.encode(back) == text
    assert back.devices == record().devices
    assert bytes(back.cdi[f"k8s.gpu.accel-dra.dev-claim_{UID}.json"]) == b'{ "cdiVersion" : "0.5.0" }'
    assert json.loads(text)["schemaVersion"] == 1


@pytest.mark.parametrize("path", sorted(DATA.glob("v*.json")), ids=lambda path: path.stem)
def test_records_of_released_versions_can_be_read(path: Path) -> None:
    back = record_files.decode(path.read_bytes(), str(path))
    assert back.uid == UID
    assert back.devices[0].cdi_device_ids == record().devices[0].cdi_device_ids
    assert back.cdi == record().cdi
    assert back.phase is Phase.PREPARED


def test_a_record_of_version_1_means_what_it_meant() -> None:
    back = record_files.decode((DATA / "v1-complete.json").read_bytes(), "x")
    assert back == record()
    assert (back.steps[0].facts, back.steps[0].key, back.devices[0].shared) == ({}, "", False)


def test_what_version_1_wrote_is_what_is_written_now() -> None:
    """If this fails, the format has changed: is it an addition? Then add a fixture. If not: a new version."""
    assert record_files.encode(record()) == (DATA / "v1-complete.json").read_bytes()


def test_what_version_2_wrote_is_what_is_written_now() -> None:
    assert record_files.encode(sharing_record()) == (DATA / "v2-complete.json").read_bytes()
    assert record_files.decode((DATA / "v2-complete.json").read_bytes(), "x") == sharing_record()


def sharing_record() -> Record:
    """Return a record with all that version 2 has in addition."""
    step = Step(
        name="partition-mode",
        arguments={"pciAddress": "0000:1a:00.0", "mode": "on"},
        facts={"before": "off"},
        key="partition-mode/0000:1a:00.0",
        upkeep=True,
    )
    (held,) = record().devices
    shared = msgspec.structs.replace(
        held, consumed_capacity={"share": "25"}, shared=True, sharing=Sharing(Strategy.MPS, active_thread_percentage=25)
    )
    return msgspec.structs.replace(record(), devices=(shared,), steps=(step,))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": (Step(name="x", facts={"before": "off"}),)},
        {"steps": (Step(name="x", key="x/1"),)},
        {"steps": (Step(name="x", upkeep=True),)},
        {"devices": (PreparedDevice(requests=("a",), pool="p", device="d", consumed_capacity={"share": "1"}),)},
        {"devices": (PreparedDevice(requests=("a",), pool="p", device="d", shared=True),)},
        {"devices": (PreparedDevice(requests=("a",), pool="p", device="d", sharing=Sharing()),)},
    ],
)
def test_what_version_1_would_lose_by_writing_it_again_is_not_for_version_1(change: dict[str, object]) -> None:
    """Set back, a plugin of version 1 leaves such a record as it is; without the facts nobody could undo the steps."""
    text = json.loads(record_files.encode(msgspec.structs.replace(record(), **change)))
    assert (text["schemaVersion"], text["minReader"]) == (2, 2)


def rewrite(change: dict[str, object], inside: dict[str, object] | None = None) -> bytes:
    """Return a record's file with other fields, its checksum made to match."""
    document = json.loads(record_files.encode(record()))
    body = json.dumps({**document.pop("record"), **(inside or {})})
    checksum = json.loads(record_files.encode(record()))["checksum"].partition(":")[0]
    assert checksum == "sha256"

    document["checksum"] = f"sha256:{hashlib.sha256(body.encode()).hexdigest()}"
    head = json.dumps({**document, **change})
    return f'{head[:-1]}, "record": {body}}}'.encode()


def test_additions_of_a_later_version_are_tolerated() -> None:
    text = rewrite(
        {"schemaVersion": 2, "minReader": 1, "note": "x"}, {"nodeName": "a", "devices": [], "more": {"a": [1]}}
    )
    assert record_files.decode(text, "x").uid == UID


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty"),
        (b"{", "not a record"),
        (b"[]", "not a record"),
        (b"\x00" * 100, "not a record"),
        (b"\xff\xfe", "not a record"),
        (b"[" * 100_000, "not a record"),
        (record_files.encode(record())[:-20], "not a record"),
        (record_files.encode(record()).replace(b"training", b"trainee!"), "checksum"),
        (rewrite({"schemaVersion": 9, "minReader": 9}), "version 9"),
        (rewrite({}, {"phase": "resting"}), "not a record"),
        (rewrite({}, {"uid": 7}), "not a record"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: bytes, why: str) -> None:
    with pytest.raises(Corrupt, match=why) as caught:
        record_files.decode(text, "/claims/x.json")
    assert str(caught.value).startswith("/claims/x.json: ")


@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed_or_harmless(data: st.DataObject) -> None:
    text = bytearray(record_files.encode(record()))
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        back = record_files.decode(bytes(text), "x")
    except Corrupt:
        return
    assert record_files.encode(back) == record_files.encode(record())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_corrupt(text: bytes) -> None:
    with pytest.raises(Corrupt):
        record_files.decode(text, "x")


# The folder


def test_a_record_is_there_for_the_next_start(one: Instance, tmp_path: Path) -> None:
    one.put(record())
    again = Instance(tmp_path)
    assert again.get(UID) == record()
    again.remove(UID)
    again.records.close()
    assert one.uids() == []
    assert list((tmp_path / "claims").iterdir()) == []


def test_one_record_is_one_durable_write(tmp_path: Path) -> None:
    seen: list[str] = []
    instance = Instance(tmp_path, WatchedDisk(lambda operation, _: seen.append(operation)))
    seen.clear()
    instance.put(record())
    assert seen == ["write", "rename", "sync"]
    instance.records.close()


def test_records_are_for_root_alone(one: Instance, tmp_path: Path) -> None:
    one.put(record())
    assert (tmp_path / "claims" / f"{UID}.json").stat().st_mode & 0o007 == 0
    assert (tmp_path / "claims").stat().st_mode & 0o007 == 0


@pytest.mark.parametrize("uid", ["", "..", "../x", "a/b", "-", "a\0b", "x" * 200, ".hidden"])
def test_a_uid_that_is_none_never_becomes_a_path(one: Instance, tmp_path: Path, uid: str) -> None:
    with pytest.raises(InvalidInput, match="claim UID"):
        one.put(msgspec.structs.replace(record(), uid=uid))
    assert list((tmp_path / "claims").iterdir()) == []


def test_removing_what_is_not_there_is_done_already(one: Instance) -> None:
    one.remove("nobody")


def test_a_full_disk_keeps_the_old_record(tmp_path: Path) -> None:
    disk = FullDisk()
    instance = Instance(tmp_path, disk)
    instance.put(record(phase=Phase.PREPARING))
    disk.full = (f"{UID}",)
    with pytest.raises(StorageFailed, match="No space left"):
        instance.put(record())
    disk.full = ()
    kept = instance.get(UID)
    assert kept is not None
    assert kept.phase is Phase.PREPARING
    assert len(list((tmp_path / "claims").iterdir())) == 1
    instance.records.close()


def test_a_failed_sync_is_an_error_and_the_truth_is_read_again(tmp_path: Path) -> None:
    disk = FullDisk()
    instance = Instance(tmp_path, disk)
    disk.when_syncing = ("claims",)
    with pytest.raises(StorageFailed, match="Input/output error"):
        instance.put(record())
    assert instance.uids() == [UID]
    instance.records.close()


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="file"):
        Records(str(tmp_path / "file" / "state"), Disk(), print)


def test_a_claims_folder_removed_by_hand_is_made_again(one: Instance, tmp_path: Path) -> None:
    one.put(record())
    (tmp_path / "claims" / f"{UID}.json").unlink()
    (tmp_path / "claims").rmdir()
    assert one.uids() == []
    one.put(record())
    assert one.uids() == [UID]


# Two instances


def test_each_instance_sees_what_the_other_does(one: Instance, two: Instance) -> None:
    for round_ in range(20):
        uid = f"u{round_}"
        one.put(record(uid))
        assert two.get(uid) == record(uid)
        two.put(record(uid, Phase.PREPARING))
        seen = one.get(uid)
        assert seen is not None
        assert seen.phase is Phase.PREPARING
        two.remove(uid)
        assert one.get(uid) is None


def test_changes_within_one_tick_of_the_clock_are_seen(one: Instance, two: Instance, tmp_path: Path) -> None:
    """The kernel's file times may stand still for 4 ms; with them alone the second change would be missed."""
    claims = tmp_path / "claims"
    for round_ in range(20):
        one.put(record(f"a{round_}"))
        stamp = claims.stat()
        assert f"a{round_}" in two.uids()
        one.put(record(f"b{round_}"))
        os.utime(claims, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert f"b{round_}" in two.uids()


def test_what_an_admin_removes_by_hand_is_seen(one: Instance, tmp_path: Path) -> None:
    one.put(record())
    assert one.uids() == [UID]
    time.sleep(0.02)  # a person is slower than the kernel's clock
    (tmp_path / "claims" / f"{UID}.json").unlink()
    assert one.uids() == []


def test_a_transaction_excludes_the_other_instance(one: Instance, two: Instance) -> None:
    with one.records.transaction(1), pytest.raises(Unavailable, match="another instance"), two.records.transaction(0):
        pass
    assert two.uids() == []


def test_a_transaction_excludes_other_threads(one: Instance) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with one.records.transaction(20):
            held.set()
            release.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    with pytest.raises(Unavailable, match="other claims"), one.records.transaction(0):
        pass
    release.set()
    thread.join()
    assert one.uids() == []


def test_a_waiting_instance_goes_on_when_the_other_is_done(one: Instance, two: Instance) -> None:
    found: list[list[str]] = []
    with one.records.transaction(20) as ledger:
        thread = threading.Thread(target=lambda: found.append(two.uids()))
        thread.start()
        ledger.put(record())
    thread.join()
    assert found == [[UID]]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    lock = SharedLock(tmp_path / "lock")
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom driver.state.locks import SharedLock\n"
        "with SharedLock(Path(sys.argv[1])).hold(20):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable), lock.hold(0):
            pass
        process.kill()
        process.wait()
        with lock.hold(20):
            pass
    lock.close()


def test_the_counter_survives_and_counts(tmp_path: Path) -> None:
    first, second = SharedLock(tmp_path / "lock"), SharedLock(tmp_path / "lock")
    with first.hold(1):
        assert first.read_counter() == 0
        first.count()
        first.count()
    assert second.read_counter() == 2
    first.close()
    second.close()


# Quarantine


def test_peer_defect_19_an_unreadable_record_is_set_aside_and_the_others_are_served(
    one: Instance, tmp_path: Path
) -> None:
    one.put(record("good"))
    (tmp_path / "claims" / "bad.json").write_bytes(b"\x00\x00")
    again = Instance(tmp_path)
    assert again.uids() == ["good"]
    (occurrence,) = again.happened
    assert isinstance(occurrence, RecordQuarantined)
    assert occurrence.path.endswith("claims/bad.json")
    assert (tmp_path / "quarantine" / "bad.json").read_bytes() == b"\x00\x00"
    assert occurrence.reason in (tmp_path / "quarantine" / "bad.json.reason").read_text()
    with again.records.transaction(1) as ledger:
        assert ledger.set_aside() == {"bad"}
        ledger.put(record("bad"))
        ledger.remove("bad")
    again.records.close()


def test_a_record_that_is_damaged_while_we_run_is_set_aside_too(one: Instance, tmp_path: Path) -> None:
    one.put(record("a"))
    one.put(record("b"))
    damaged = tmp_path / "claims" / "a.json"
    temporary = damaged.with_suffix(".new")
    temporary.write_bytes(damaged.read_bytes()[:50])
    time.sleep(0.02)  # whoever does this by hand is slower than the kernel's clock
    temporary.replace(damaged)
    assert one.uids() == ["b"]
    assert len(one.happened) == 1


def test_a_record_under_another_claims_name_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "other.json").write_bytes(record_files.encode(record()))
    instance = Instance(tmp_path)
    assert instance.uids() == []
    assert (tmp_path / "quarantine" / "other.json").exists()
    instance.records.close()


def test_a_folder_in_the_place_of_a_record_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "claims" / "odd.json").mkdir(parents=True)
    instance = Instance(tmp_path)
    assert instance.uids() == []
    assert instance.happened
    instance.records.close()


def test_a_quarantine_that_cannot_be_written_is_reported_and_the_others_are_served(
    one: Instance, tmp_path: Path
) -> None:
    one.put(record("good"))
    (tmp_path / "claims" / "bad.json").write_bytes(b"x")
    (tmp_path / "quarantine").touch()
    again = Instance(tmp_path)
    assert again.uids() == ["good"]
    (occurrence,) = again.happened
    assert isinstance(occurrence, RecordQuarantined)
    assert "could not be moved" in occurrence.reason
    again.records.close()


def test_what_interrupted_writes_left_is_swept_away(one: Instance, tmp_path: Path) -> None:
    one.put(record())
    (tmp_path / "claims" / ".x.json.tmp").write_bytes(b"half")
    with one.records.transaction(1) as ledger:
        ledger.sweep()
    assert [path.name for path in (tmp_path / "claims").iterdir()] == [f"{UID}.json"]


# Marks


def test_another_instance_sees_each_time_that_a_claim_was_unprepared(one: Instance, two: Instance) -> None:
    seen = set()
    for _ in range(5):
        with one.records.transaction(1) as ledger:
            ledger.mark_unprepared(UID)
        with two.records.transaction(1) as ledger:
            seen.add(ledger.read_mark(UID))
            assert ledger.read_mark("other") == b""
    assert len(seen) == 5


def test_marks_go_away_after_some_minutes(
    one: Instance, two: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_marks() -> list[str]:
        return sorted(path.name for path in (tmp_path / "unprepared").iterdir())

    with one.records.transaction(1) as ledger:
        for uid in ("old", "new"):
            ledger.mark_unprepared(uid)
        os.utime(tmp_path / "unprepared/old", (time.time() - 400,) * 2)
        os.utime(tmp_path / "unprepared/new", (time.time() - 200,) * 2)
        ledger.mark_unprepared("now")
        assert list_marks() == ["new", "now", "old"], "it has looked a moment ago"
    with two.records.transaction(1) as ledger:
        ledger.mark_unprepared("now")
    assert list_marks() == ["new", "now"]
    monkeypatch.setattr(records, "_MARK_SECONDS", 150.0)
    monkeypatch.setattr(one.records._ledger, "_marks_swept", time.time() - 150)
    with one.records.transaction(1) as ledger:
        ledger.mark_unprepared("later")
    assert list_marks() == ["later", "now"], "and looks again after minutes"


@pytest.mark.parametrize("uid", ["", "..", "../x", "a\0b"])
def test_a_uid_that_is_none_is_never_marked(one: Instance, tmp_path: Path, uid: str) -> None:
    with one.records.transaction(1) as ledger:
        ledger.mark_unprepared(uid)
        assert ledger.read_mark(uid) == b""
    assert not (tmp_path / "unprepared").exists()


def test_a_mark_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    disk = FullDisk()
    disk.full = ("unprepared",)
    instance = Instance(tmp_path, disk)
    with instance.records.transaction(1) as ledger:
        ledger.mark_unprepared(UID)
    instance.records.close()


# Boots


def test_the_boot_id_is_the_kernels(tmp_path: Path) -> None:
    assert len(read_boot_id("/proc")) == 36
    with pytest.raises(Unavailable, match="boot id"):
        read_boot_id(str(tmp_path))


# The end


def test_a_transaction_that_is_under_way_ends_before_the_records_are_closed(one: Instance) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with one.records.transaction(20) as ledger:
            held.set()
            release.wait(20)
            ledger.put(record())

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    closer = threading.Thread(target=one.records.close)
    closer.start()
    release.set()
    thread.join()
    closer.join()
    assert [entry.uid for entry in one.records._ledger.all()] == [UID]


def test_closed_records_say_so(one: Instance) -> None:
    one.records.close()
    one.records.close()
    with pytest.raises(Unavailable, match="closed"), one.records.transaction(1):
        pass
