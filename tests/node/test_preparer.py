"""The preparer as the kubelet's service calls it: answers, errors of one claim, and what is left on disk."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from driver.model.claims import ClaimStatus, ResourceClaim
from driver.model.errors import Forbidden, Unavailable
from driver.model.occurrences import ClaimPrepared, ClaimUnprepared, MetadataFailed
from driver.model.prepared import ClaimRef, ContainerEdits, Phase, PrepareAnswer
from driver.node.preparer import Preparer
from tests.fakes import cdi as judge
from tests.fakes.bench import (
    BOOT,
    DRIVER,
    NODE,
    Bench,
    PlainVendor,
    accelerator,
    claim,
    device,
    node_inventory,
    opaque,
    prepare_one,
    ref,
    result,
    unprepare_one,
)
from tests.fakes.disks import FullDisk, WatchedDisk


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def preparer(bench: Bench) -> Iterator[Preparer]:
    opened = bench.open()
    opened.recover()
    bench.happened.clear()
    yield opened
    opened.close()


def spec_of(bench: Bench, uid: str) -> dict[str, object]:
    return judge.check((bench.root / f"cdi/k8s.{DRIVER}-claim_{uid}.json").read_bytes())


# One claim


def test_a_plain_device(bench: Bench, preparer: Preparer) -> None:
    answer = prepare_one(preparer, bench.add(claim("u1", result(device(1), "gpu/a100"))))
    (prepared,) = answer.devices
    assert answer.error == ""
    assert (prepared.requests, prepared.pool, prepared.device, prepared.share_id) == (("gpu",), NODE, device(1), None)
    assert prepared.cdi_device_ids == (
        f"k8s.{DRIVER}/claim=u1-{device(1)}",
        f"{DRIVER}/metadata=u1_gpu",
    )
    assert spec_of(bench, "u1")["containerEdits"]
    (record,) = bench.records()
    assert (record.phase, record.boot_id, record.devices) == (Phase.PREPARED, BOOT, answer.devices)
    assert [type(entry) for entry in bench.happened] == [ClaimPrepared]


def test_the_answer_is_the_same_on_every_repeat_and_needs_no_api_server(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result(device(1))))
    first = prepare_one(preparer, wanted)
    files = bench.files()
    bench.claims.clear()
    bench.inventory = None
    assert [prepare_one(preparer, wanted) for _ in range(3)] == [first] * 3
    assert bench.files() == files
    assert bench.limits[1:] == [2.0] * 3, "the API server may contradict, for a moment"
    preparer.close()
    again = bench.open()
    again.recover()
    assert prepare_one(again, wanted) == first
    again.close()


def test_a_plain_device_costs_one_durable_write(bench: Bench) -> None:
    synced: list[str] = []
    disk = WatchedDisk(lambda operation, path: synced.append(path.name) if operation == "sync" else None)
    bench.disk = disk
    preparer = bench.open()
    preparer.recover()
    synced.clear()
    prepare_one(preparer, bench.add(claim("u1", result(device(1)), result(device(2), "b"))))
    assert synced == ["claims"]
    preparer.close()


def test_files_that_vanished_are_there_again_after_a_repeat(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result(device(1))))
    prepare_one(preparer, wanted)
    files = bench.files()
    for path in [*(bench.root / "cdi").iterdir(), *(bench.root / "state/dra-device-metadata").rglob("*.json")]:
        path.unlink()
    assert not prepare_one(preparer, wanted).error
    assert bench.files() == files


def test_unprepare_leaves_nothing(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result(device(1)), result(device(2), "b")))
    prepare_one(preparer, wanted)
    bench.claims.clear()
    bench.inventory = None
    bench.vendor.away = "not loaded"
    assert unprepare_one(preparer, wanted) == ""
    assert bench.files() == {}
    assert list((bench.root / "state/dra-device-metadata").iterdir()) == []
    assert bench.fetched == ["claim-u1"]


def test_peer_defect_16_unprepare_removes_the_cdi_spec(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result(device(1))))
    prepare_one(preparer, wanted)
    assert list((bench.root / "cdi").iterdir())
    unprepare_one(preparer, wanted)
    assert not list((bench.root / "cdi").iterdir())


@pytest.mark.parametrize("uid", ["never-seen", "../../etc/passwd", ""])
def test_unprepare_of_an_unknown_claim_is_done_already(bench: Bench, preparer: Preparer, uid: str) -> None:
    assert preparer.unprepare([ClaimRef("ns", "name", uid)]) == {uid: ""}
    assert isinstance(bench.happened[0], ClaimUnprepared)


def test_a_uid_that_is_none_is_refused(bench: Bench, preparer: Preparer) -> None:
    bench.claims["evil"] = msgspec.structs.replace(claim("x", result(device(1))), metadata=claim("../x").metadata)
    answer = preparer.prepare([ClaimRef("default", "evil", "../x")])["../x"]
    assert "claim UID" in answer.error
    assert bench.files() == {}


def test_a_claim_without_devices_of_ours_is_prepared_with_none(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result("eth0", driver="nic.example.com")))
    assert prepare_one(preparer, wanted) == PrepareAnswer()
    assert bench.files() == {}
    assert unprepare_one(preparer, wanted) == ""


def test_peer_defect_11_a_claim_of_two_drivers_gets_ours(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(
        claim(
            "u1",
            result("eth0", "nic", driver="nic.example.com", pool="x"),
            result(device(1)),
            config=[opaque(b"not even json", driver="nic.example.com")],
        )
    )
    assert [entry.device for entry in prepare_one(preparer, wanted).devices] == [device(1)]


def test_peer_defect_09_two_shares_of_a_device_in_one_claim_and_another_in_a_second(
    bench: Bench, preparer: Preparer
) -> None:
    first = bench.add(claim("u1", result(device(1), "a", shareID="s1"), result(device(1), "b", shareID="s2")))
    second = bench.add(claim("u2", result(device(1), shareID="s3")))
    assert [entry.share_id for entry in prepare_one(preparer, first).devices] == ["s1", "s2"]
    assert [entry.share_id for entry in prepare_one(preparer, second).devices] == ["s3"]
    names = [entry["name"] for entry in spec_of(bench, "u1")["devices"]]  # type: ignore[attr-defined]
    assert names == [f"u1-{device(1)}-s1", f"u1-{device(1)}-s2"]


def test_a_vendor_with_nothing_to_inject_is_success_without_a_spec(bench: Bench, preparer: Preparer) -> None:
    bench.vendor.edits = bench.vendor.common = ContainerEdits()
    wanted = bench.add(claim("u1", result(device(1))))
    answer = prepare_one(preparer, wanted)
    assert answer.devices[0].cdi_device_ids == (f"{DRIVER}/metadata=u1_gpu",)
    assert not (bench.root / f"cdi/k8s.{DRIVER}-claim_u1.json").exists()


# What is refused, for one claim alone


def broken(bench: Bench) -> dict[str, tuple[ClaimRef, str]]:
    """Return claims that must fail, by case, with what the answer has to say."""
    waiting = msgspec.structs.replace(claim("waiting"), status=ClaimStatus())
    return {
        "not found": (ref("nowhere"), "claim default/claim-nowhere not found"),
        "replaced": (ClaimRef("default", bench.add(claim("new", result(device(2)))).name, "old"), "got replaced"),
        "not allocated": (bench.add(waiting), "not allocated"),
        "no such device": (bench.add(claim("gone", result(device(9)))), f"device {device(9)} of request gpu"),
        "another pool": (bench.add(claim("pool", result(device(2), pool="node-b"))), "node-b"),
        "busy": (
            bench.add(claim("busy", result(device(1)))),
            "already prepared for claim default/claim-holder (holder)",
        ),
        "peer defect 03": (bench.add(claim("cfg", result(device(2)), config=[opaque(b"{}")])), "apiVersion"),
    }


@pytest.mark.parametrize(
    "case", ["not found", "replaced", "not allocated", "no such device", "another pool", "busy", "peer defect 03"]
)
def test_bad_input_is_an_error_at_once_and_of_one_claim(bench: Bench, preparer: Preparer, case: str) -> None:
    prepare_one(preparer, bench.add(claim("holder", result(device(1)))))
    bad, text = broken(bench)[case]
    good = bench.add(claim("good", result(device(3))))
    before = bench.now
    answers = preparer.prepare([bad, good])
    assert text in answers[bad.uid].error
    assert answers[bad.uid].devices == ()
    assert not answers[good.uid].error
    assert bench.now == before or case == "busy", "what will not pass is not waited for"
    assert {record.uid for record in bench.records()} == {"holder", "good"}
    assert bench.faults == []


def test_a_refusal_is_reported_with_its_kind(bench: Bench, preparer: Preparer) -> None:
    prepare_one(preparer, ref("nowhere"))
    (occurrence,) = bench.happened
    assert isinstance(occurrence, ClaimPrepared)
    assert (occurrence.claim, occurrence.reason) == (str(ref("nowhere")), "NotFound")


def test_a_defect_of_ours_is_an_error_of_one_claim(bench: Bench) -> None:
    def fetch(_namespace: str, name: str) -> ResourceClaim:
        if name == "claim-bad":
            raise KeyError(name)
        return bench.claims[name]

    bench.reach = fetch
    preparer = bench.open()
    answers = preparer.prepare([ref("bad"), bench.add(claim("good", result(device(1))))])
    preparer.close()
    assert answers["bad"].error == "internal error: KeyError: 'claim-bad'"
    assert not answers["good"].error
    assert [type(error) for error in bench.faults] == [KeyError]


def test_peer_defect_18_no_device_is_prepared_for_two_claims(bench: Bench, preparer: Preparer) -> None:
    """Both at the same time: one wins, the other is told who."""
    refs = [bench.add(claim(f"u{number}", result(device(1)))) for number in range(6)]
    answers = preparer.prepare(refs)
    winners = [uid for uid, answer in answers.items() if not answer.error]
    assert len(winners) == 1
    assert all(winners[0] in answer.error for uid, answer in answers.items() if uid != winners[0])
    unprepare_one(preparer, ref(winners[0]))
    loser = next(entry for entry in refs if entry.uid != winners[0])
    assert not prepare_one(preparer, loser).error


def test_admin_access_is_given_beside_a_holder_and_holds_nothing(bench: Bench, preparer: Preparer) -> None:
    admin = bench.add(claim("admin", result(device(1), adminAccess=True)))
    assert not prepare_one(preparer, bench.add(claim("u1", result(device(1))))).error
    assert not prepare_one(preparer, admin).error
    unprepare_one(preparer, ref("u1"))
    assert not prepare_one(preparer, bench.add(claim("u2", result(device(1))))).error


# Away for now


def away(bench: Bench, times: int, error: Exception) -> Callable[[str, str], ResourceClaim]:
    """Return a fetch that fails so many times."""
    left = iter(range(times))

    def fetch(namespace: str, name: str) -> ResourceClaim:
        if next(left, None) is not None:
            bench.fetched.append(name)
            raise error
        return bench.fetch(namespace, name)

    return fetch


@pytest.fixture
def wanted(bench: Bench) -> ClaimRef:
    return bench.add(claim("u1", result(device(1))))


def test_an_api_server_that_comes_back_is_used_within_the_call(bench: Bench, wanted: ClaimRef) -> None:
    bench.reach = away(bench, 5, Unavailable("connection refused"))
    preparer = bench.open()
    assert not prepare_one(preparer, wanted).error
    assert bench.fetched == ["claim-u1"] * 6
    assert 0 < bench.now < 3
    preparer.close()


def test_after_forty_seconds_the_last_error_is_told(bench: Bench, wanted: ClaimRef) -> None:
    bench.reach = away(bench, 10**9, Unavailable("connection refused"))
    preparer = bench.open()
    assert prepare_one(preparer, wanted).error == "gave up after 40 s: connection refused"
    assert 35 < bench.now <= 40
    assert 15 < len(bench.fetched) < 40
    assert bench.limits == sorted(bench.limits, reverse=True), "each read is given what is left"
    assert bench.limits[0] > 39
    assert 1 <= bench.limits[-1] < 5, "so that the last error arrives before the kubelet gives up after 45 s"
    preparer.close()


def test_the_api_server_says_how_long_to_wait(bench: Bench, wanted: ClaimRef) -> None:
    bench.reach = away(bench, 1, Unavailable("too many requests", retry_after=7))
    preparer = bench.open()
    assert not prepare_one(preparer, wanted).error
    assert bench.now == 7
    preparer.close()


def test_a_missing_permission_is_not_waited_for(bench: Bench, wanted: ClaimRef) -> None:
    bench.reach = away(bench, 1, Forbidden("cannot get resourceclaims"))
    preparer = bench.open()
    assert prepare_one(preparer, wanted).error == "cannot get resourceclaims"
    assert bench.now == 0
    preparer.close()


def test_no_inventory_yet_is_waited_for(bench: Bench, preparer: Preparer, wanted: ClaimRef) -> None:
    bench.inventory = None
    assert "their driver is not loaded" in prepare_one(preparer, wanted).error
    assert bench.now > 35
    assert unprepare_one(preparer, wanted) == ""
    assert bench.files() == {}


def test_a_vendor_that_is_away_is_waited_for(bench: Bench, preparer: Preparer, wanted: ClaimRef) -> None:
    bench.vendor.away = "libbench.so is missing"
    assert "libbench.so is missing" in prepare_one(preparer, wanted).error
    bench.vendor.away = ""
    assert not prepare_one(preparer, wanted).error


def test_a_plugin_that_is_being_stopped_does_not_keep_waiting(bench: Bench, wanted: ClaimRef) -> None:
    bench.reach = away(bench, 10**9, Unavailable("connection refused"))
    bench.stopping = True
    preparer = bench.open()
    assert prepare_one(preparer, wanted).error == "the plugin is stopping: connection refused"
    preparer.close()


def test_unprepare_ends_a_prepare_that_still_waits(bench: Bench, wanted: ClaimRef) -> None:
    """The kubelet gives up on the call and unprepares; what it no longer knows must not be prepared afterwards."""
    waiting, go_on = threading.Event(), threading.Event()

    def fetch(_namespace: str, name: str) -> ResourceClaim:
        waiting.set()
        assert go_on.wait(20)
        return bench.claims[name]

    bench.reach = fetch
    preparer = bench.open()
    answers: list[PrepareAnswer] = []
    forgotten = threading.Thread(target=lambda: answers.append(prepare_one(preparer, wanted)))
    forgotten.start()
    assert waiting.wait(20)
    assert unprepare_one(preparer, wanted) == ""
    go_on.set()
    forgotten.join(20)
    assert "unprepared while it was being prepared" in answers[0].error
    assert bench.files() == {}
    assert not prepare_one(preparer, wanted).error, "a later call is a new one"
    preparer.close()


def test_unprepare_by_another_instance_ends_a_prepare_that_still_waits(bench: Bench, wanted: ClaimRef) -> None:
    """The kubelet was given the new instance while its forgotten call still waits in the old one."""
    waiting, go_on = threading.Event(), threading.Event()

    def fetch(_namespace: str, name: str) -> ResourceClaim:
        if not waiting.is_set():
            waiting.set()
            assert go_on.wait(20)
        return bench.claims[name]

    bench.reach = fetch
    old, new = bench.open(), bench.open()
    answers: list[PrepareAnswer] = []
    forgotten = threading.Thread(target=lambda: answers.append(prepare_one(old, wanted)))
    forgotten.start()
    assert waiting.wait(20)
    assert unprepare_one(new, wanted) == ""
    go_on.set()
    forgotten.join(20)
    assert "unprepared while it was being prepared" in answers[0].error
    assert bench.files() == {}
    assert not prepare_one(old, wanted).error, "a later call is a new one"
    old.close()
    new.close()


# Several at a time


def test_claims_of_one_call_are_read_at_the_same_time(bench: Bench) -> None:
    meeting = threading.Barrier(3, timeout=20)

    def fetch(namespace: str, name: str) -> ResourceClaim:
        meeting.wait()
        return bench.fetch(namespace, name)

    refs = [bench.add(claim(f"u{slot}", result(device(slot)))) for slot in (1, 2, 3)]
    bench.reach = fetch
    preparer = bench.open()
    answers = preparer.prepare(refs)
    assert list(answers) == ["u1", "u2", "u3"]
    assert not any(answer.error for answer in answers.values())
    preparer.close()


def test_a_call_does_not_wait_for_another_calls_read(bench: Bench) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def fetch(namespace: str, name: str) -> ResourceClaim:
        if name == "claim-slow":
            reading.set()
            assert go_on.wait(20)
        return bench.fetch(namespace, name)

    slow, quick = (bench.add(claim(uid, result(device(slot)))) for slot, uid in enumerate(("slow", "quick"), 1))
    bench.reach = fetch
    preparer = bench.open()
    answers: list[PrepareAnswer] = []
    first = threading.Thread(target=lambda: answers.append(prepare_one(preparer, slow)))
    first.start()
    assert reading.wait(20)
    assert not prepare_one(preparer, quick).error
    assert unprepare_one(preparer, quick) == ""
    go_on.set()
    first.join(20)
    assert not answers[0].error
    preparer.close()


def test_the_same_claim_in_two_calls_at_once_has_one_answer(bench: Bench, wanted: ClaimRef) -> None:
    meeting = threading.Barrier(2, timeout=20)

    def fetch(namespace: str, name: str) -> ResourceClaim:
        meeting.wait()
        return bench.fetch(namespace, name)

    bench.reach = fetch
    preparer = bench.open()
    answers: list[PrepareAnswer] = []
    threads = [threading.Thread(target=lambda: answers.append(prepare_one(preparer, wanted))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers[0] == answers[1]
    assert not answers[0].error
    preparer.close()


def test_steps_of_different_claims_never_run_at_the_same_time(bench: Bench) -> None:
    running = threading.Lock()

    def watch(operation: str, path: Path) -> None:
        if operation == "write" and "hardware" in str(path):
            assert running.acquire(blocking=False), "two steps at once"
            threading.Event().wait(0.002)  # a step takes time: a chance for the other to get in
            running.release()

    bench.disk = bench.vendor.disk = WatchedDisk(watch)
    bench.vendor.steps_per_device = 2
    refs = [bench.add(claim(f"u{slot}", result(device(slot)))) for slot in (1, 2, 3, 4)]
    preparer = bench.open()
    assert not any(answer.error for answer in preparer.prepare(refs).values())
    assert len(bench.files("hardware")) == 8
    preparer.close()


# Steps


def test_steps_are_written_down_before_they_are_run(bench: Bench, wanted: ClaimRef) -> None:
    phases: list[tuple[str, Phase]] = []

    def watch(operation: str, path: Path) -> None:
        if "hardware" in str(path):
            phases.append((operation, bench.records()[0].phase))

    bench.disk = bench.vendor.disk = WatchedDisk(watch)
    bench.vendor.steps_per_device = 2
    preparer = bench.open()
    prepare_one(preparer, wanted)
    assert phases == [("write", Phase.PREPARING)] * 2
    assert bench.records()[0].phase is Phase.PREPARED
    phases.clear()
    assert unprepare_one(preparer, wanted) == ""
    assert phases == [("unlink", Phase.PREPARING)] * 2
    assert bench.files() == {}
    preparer.close()


def test_peer_defect_07_a_failed_step_is_undone_with_all_before_it(bench: Bench, preparer: Preparer) -> None:
    undone: list[str] = []
    bench.vendor.disk = WatchedDisk(lambda operation, path: undone.append(path.name) if operation == "unlink" else None)
    bench.vendor.steps_per_device = 3
    bench.vendor.fail_runs = {f"{device(1)}.2"}
    wanted = bench.add(claim("u1", result(device(1))))
    assert "the hardware refuses" in prepare_one(preparer, wanted).error
    assert undone == [f"{device(1)}.1", f"{device(1)}.0"]
    assert bench.files() == {}
    bench.vendor.fail_runs = set()
    assert not prepare_one(preparer, wanted).error


def test_a_step_that_cannot_be_undone_keeps_the_record_and_the_device(bench: Bench, preparer: Preparer) -> None:
    bench.vendor.steps_per_device = 2
    bench.vendor.fail_runs = {f"{device(1)}.1"}
    bench.vendor.fail_undos = {f"{device(1)}.0"}
    wanted = bench.add(claim("u1", result(device(1))))
    error = prepare_one(preparer, wanted).error
    assert "keeps" in error
    assert "refuses" in error
    assert bench.records()[0].phase is Phase.PREPARING
    other = bench.add(claim("u2", result(device(1))))
    assert "already prepared for claim default/claim-u1" in prepare_one(preparer, other).error
    assert "keeps" in unprepare_one(preparer, wanted)
    bench.vendor.fail_undos = set()
    assert unprepare_one(preparer, wanted) == ""
    assert bench.files() == {}
    bench.vendor.fail_runs = set()
    assert not prepare_one(preparer, other).error


def test_a_repeat_after_a_failed_undo_starts_from_a_clean_device(bench: Bench, preparer: Preparer) -> None:
    bench.vendor.steps_per_device = 2
    bench.vendor.fail_runs, bench.vendor.fail_undos = {f"{device(1)}.1"}, {f"{device(1)}.0"}
    wanted = bench.add(claim("u1", result(device(1))))
    assert prepare_one(preparer, wanted).error
    bench.vendor.fail_runs, bench.vendor.fail_undos = set(), set()
    assert not prepare_one(preparer, wanted).error
    assert len(bench.files("hardware")) == 2


def test_a_repeat_after_a_failed_undo_undoes_also_what_it_does_not_need(bench: Bench, preparer: Preparer) -> None:
    bench.vendor.steps_per_device = 2
    bench.vendor.fail_runs, bench.vendor.fail_undos = {f"{device(1)}.1"}, {f"{device(1)}.0"}
    wanted = bench.add(claim("u1", result(device(1))))
    assert prepare_one(preparer, wanted).error
    assert list(bench.files("hardware")) == [f"hardware/{device(1)}.0"]
    bench.vendor.fail_runs, bench.vendor.fail_undos, bench.vendor.steps_per_device = set(), set(), 0
    assert not prepare_one(preparer, wanted).error
    assert bench.files("hardware") == {}
    assert bench.records()[0].phase is Phase.PREPARED


def test_a_vendor_that_cannot_undo_its_steps_any_more_is_told_so(bench: Bench) -> None:
    bench.vendor.steps_per_device = 1
    wanted = bench.add(claim("u1", result(device(1))))
    first = bench.open()
    assert prepare_one(first, wanted).error == ""
    first.close()
    bench.vendor = PlainVendor()  # type: ignore[assignment]
    preparer = bench.open()
    assert "bench cannot do or undo step hold" in preparer.unprepare([wanted])["u1"]
    assert bench.records(), "nothing is forgotten"
    preparer.close()


# A disk that refuses


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("full", ["cdi/", "state/claims"])
def test_a_full_disk_is_an_error_of_the_claim_and_leaves_nothing(tmp_path: Path, full: str, steps: int) -> None:
    disk = FullDisk()
    bench = Bench(tmp_path, disk)
    bench.vendor.steps_per_device = steps
    wanted = bench.add(claim("u1", result(device(1))))
    preparer = bench.open()
    disk.full = (full,)
    assert "No space left on device" in prepare_one(preparer, wanted).error
    assert bench.files() == {}
    assert bench.now == 0
    disk.full = ()
    assert not prepare_one(preparer, wanted).error
    preparer.close()


def test_a_full_disk_does_not_keep_a_claim_from_being_released(tmp_path: Path) -> None:
    """The kubelet evicts pods because the disk is full: those that do not end leave no room."""
    disk = FullDisk()
    bench = Bench(tmp_path, disk)
    bench.vendor.steps_per_device = 2
    wanted = bench.add(claim("u1", result(device(1))))
    preparer = bench.open()
    assert not prepare_one(preparer, wanted).error
    disk.full = ("state/", "cdi/")
    bench.vendor.fail_undos = {f"{device(1)}.0"}
    assert "keeps" in unprepare_one(preparer, wanted)
    assert "keeps" in prepare_one(preparer, wanted).error, "half of it is gone: it is not given out as if it were whole"
    bench.vendor.fail_undos = set()
    assert unprepare_one(preparer, wanted) == ""
    assert bench.files() == {}
    disk.full = ()
    assert not prepare_one(preparer, wanted).error
    preparer.close()


def test_a_disk_that_fails_after_the_rename_leaves_nothing(tmp_path: Path) -> None:
    disk = FullDisk()
    bench = Bench(tmp_path, disk)
    wanted = bench.add(claim("u1", result(device(1))))
    preparer = bench.open()
    disk.when_syncing = ("claims",)
    assert "Input/output error" in prepare_one(preparer, wanted).error
    disk.when_syncing = ()
    assert bench.files() == {}
    assert not prepare_one(preparer, wanted).error
    preparer.close()


# Metadata


def test_metadata_that_cannot_be_written_is_only_reported(tmp_path: Path) -> None:
    disk = FullDisk()
    disk.full = ("dra-device-metadata",)
    bench = Bench(tmp_path, disk)
    preparer = bench.open()
    answer = prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    assert answer.devices[0].cdi_device_ids == (f"k8s.{DRIVER}/claim=u1-{device(1)}",)
    assert [type(entry) for entry in bench.happened] == [MetadataFailed, ClaimPrepared]
    assert bench.files("state/dra-device-metadata") == {}
    preparer.close()


def test_metadata_can_be_switched_off(bench: Bench) -> None:
    preparer = bench.open(dataclasses.replace(bench.settings, device_metadata=False))
    answer = prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    assert answer.devices[0].cdi_device_ids == (f"k8s.{DRIVER}/claim=u1-{device(1)}",)
    assert not (bench.root / "state/dra-device-metadata").exists()
    preparer.close()


def test_metadata_from_before_it_was_switched_off_is_kept_up_and_removed(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result(device(1))))
    answer = prepare_one(preparer, wanted)
    before = bench.files()
    document = bench.root / "state/dra-device-metadata/default_claim-u1/gpu/metadata.json"
    document.unlink()
    leaked = bench.root / "state/dra-device-metadata/default_gone/gpu"
    leaked.mkdir(parents=True)
    preparer.close()
    off = bench.open(dataclasses.replace(bench.settings, device_metadata=False))
    off.recover()
    assert prepare_one(off, wanted) == answer
    assert bench.files() == before, "its container mounts the document"
    assert not leaked.exists()
    assert unprepare_one(off, wanted) == ""
    assert bench.files() == {}
    off.close()


def test_the_document_lies_where_the_container_runtime_looks(bench: Bench, preparer: Preparer) -> None:
    prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    spec = judge.check((bench.root / f"cdi/{DRIVER}_metadata_u1_gpu.json").read_bytes())
    source = Path(spec["devices"][0]["containerEdits"]["mounts"][0]["hostPath"])  # type: ignore[index]
    assert json.loads(source.read_text())["requests"][0]["devices"][0]["name"] == device(1)


def test_a_new_claim_of_the_same_name_keeps_its_document_when_the_old_one_goes(
    bench: Bench, preparer: Preparer
) -> None:
    old = bench.add(claim("old", result(device(1))))
    prepare_one(preparer, old)
    new = claim("new", result(device(2)))
    bench.claims[old.name] = msgspec.structs.replace(new, metadata=msgspec.structs.replace(new.metadata, name=old.name))
    assert not prepare_one(preparer, ClaimRef("default", old.name, "new")).error
    assert unprepare_one(preparer, old) == ""
    assert b'"new"' in (bench.root / f"state/dra-device-metadata/default_{old.name}/gpu/metadata.json").read_bytes()


def test_inventory_changes_do_not_touch_prepared_claims(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", result(device(1))))
    first = prepare_one(preparer, wanted)
    bench.inventory = node_inventory(accelerator(7))
    assert prepare_one(preparer, wanted) == first
    assert unprepare_one(preparer, wanted) == ""
