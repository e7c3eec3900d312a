"""Steps that claims share: run once, taken over, undone with the last; after failures, crashes, restarts and boots."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from driver.model.occurrences import RepairFailed
from driver.model.prepared import ClaimRef, Phase, Step
from driver.node.preparer import Preparer
from driver.state import record_files
from tests.fakes.bench import Bench, claim, device, node_inventory, prepare_one, result, unprepare_one
from tests.fakes.disks import CrashError, CrashingDisk
from tests.fakes.modal import ModalVendor
from tests.fakes.waiting import wait_until

LATER = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.vendor = ModalVendor(hardware=made.root / "hardware", disk=made.disk)
    return made


@pytest.fixture
def preparer(bench: Bench) -> Iterator[Preparer]:
    opened = bench.open()
    yield opened
    opened.close()


def modal(bench: Bench) -> ModalVendor:
    assert isinstance(bench.vendor, ModalVendor)
    return bench.vendor


def share(bench: Bench, uid: str, slot: int = 1) -> ClaimRef:
    """Put a claim for a share of a device into the cluster."""
    return bench.add(claim(uid, result(device(slot), shareID=f"share-{uid}")))


def mode(bench: Bench, slot: int = 1) -> str:
    return modal(bench).mode(device(slot))


def facts(bench: Bench) -> dict[str, dict[str, str]]:
    """Return the facts of each claim's mode step, by UID."""
    return {record.uid: step.facts for record in bench.records() for step in record.steps if step.name == "mode"}


def test_it_is_undone_with_the_last_claim(bench: Bench, preparer: Preparer) -> None:
    first, second = share(bench, "u1"), share(bench, "u2")
    assert not prepare_one(preparer, first).error
    assert not prepare_one(preparer, second).error
    assert mode(bench) == "fast"
    assert unprepare_one(preparer, first) == ""
    assert mode(bench) == "fast", "the second claim still needs it"
    assert modal(bench).undone == []
    assert unprepare_one(preparer, second) == ""
    assert bench.files() == {}


def test_the_value_from_before_is_that_of_the_first_claim(bench: Bench, preparer: Preparer) -> None:
    (bench.root / "hardware" / f"{device(1)}.mode").write_text("slow")
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    prepare_one(preparer, second)
    assert {uid: known["before"] for uid, known in facts(bench).items()} == {"u1": "slow", "u2": "slow"}
    unprepare_one(preparer, first)
    unprepare_one(preparer, second)
    assert mode(bench) == "slow"


def test_what_one_claim_learns_anew_the_others_know_too(bench: Bench, preparer: Preparer) -> None:
    for uid in ("u1", "u2", "u3"):
        assert not prepare_one(preparer, share(bench, uid)).error
    assert {known["uuid"] for known in facts(bench).values()} == {"run-3"}


def test_a_claim_that_needs_it_otherwise_is_refused_naming_the_other(bench: Bench, preparer: Preparer) -> None:
    modal(bench).wanted = {"u2": "careful"}
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    before = bench.files()
    error = prepare_one(preparer, second).error
    assert error == (
        "step mode: this claim wants mode careful, but claim default/claim-u1 (u1), which shares the device, "
        "has mode fast"
    )
    assert bench.files() == before, "a refusal leaves no trace"
    unprepare_one(preparer, first)
    assert not prepare_one(preparer, second).error
    assert mode(bench) == "careful"


def test_it_waits_a_while_for_a_claim_that_is_about_to_go(bench: Bench, preparer: Preparer) -> None:
    modal(bench).wanted = {"u2": "careful"}
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    real = bench.wait

    def wait(seconds: float) -> bool:
        if bench.records():
            unprepare_one(bench.open(), first)
        return real(seconds)

    bench.wait = wait  # type: ignore[method-assign]
    other = bench.open()
    assert not prepare_one(other, second).error
    other.close()


def test_devices_of_their_own_are_not_shared(bench: Bench, preparer: Preparer) -> None:
    modal(bench).wanted = {"u2": "careful"}
    first, second = share(bench, "u1"), share(bench, "u2", slot=2)
    prepare_one(preparer, first)
    assert not prepare_one(preparer, second).error
    unprepare_one(preparer, first)
    assert (mode(bench, 1), mode(bench, 2)) == ("plain", "careful")


def test_two_shares_of_a_device_in_one_claim_are_one_step(bench: Bench, preparer: Preparer) -> None:
    both = bench.add(claim("u1", result(device(1), "a", shareID="s1"), result(device(1), "b", shareID="s2")))
    assert not prepare_one(preparer, both).error
    (record,) = bench.records()
    assert len(record.steps) == 1
    unprepare_one(preparer, both)
    assert bench.files() == {}


def test_a_failing_claim_does_not_undo_what_another_has(bench: Bench, preparer: Preparer) -> None:
    first = share(bench, "u1")
    prepare_one(preparer, first)
    bench.vendor.steps_per_device = 1
    bench.vendor.fail_runs = {f"{device(2)}.0"}
    two = bench.add(claim("u2", result(device(1), "a", shareID="s2"), result(device(2), "b")))
    before = {name: text for name, text in bench.files().items() if "u1" not in name}
    assert "refuses" in prepare_one(preparer, two).error
    assert {name: text for name, text in bench.files().items() if "u1" not in name} == before
    assert mode(bench) == "fast"
    unprepare_one(preparer, first)
    assert bench.files() == {}


def test_a_refused_step_is_not_undone_and_the_earlier_ones_are(bench: Bench, preparer: Preparer) -> None:
    bench.vendor.steps_per_device = 1
    modal(bench).refuse = "somebody else's setting is in the way"
    wanted = bench.add(claim("u1", result(device(2), "b"), result(device(1), "a", shareID="s1")))
    modal(bench).plan = _reverse(modal(bench))  # type: ignore[method-assign]
    assert "in the way" in prepare_one(preparer, wanted).error
    assert modal(bench).undone == [], "nothing of it was done"
    assert [(entry.step, entry.operation) for entry in bench.changed] == [("hold", "run"), ("hold", "undo")]
    assert bench.files() == {}


def _reverse(vendor: ModalVendor):  # type: ignore[no-untyped-def] # noqa: ANN202 - a method in place of another
    plan = vendor.plan
    return lambda targets: tuple(reversed(plan(targets)))


def test_a_refused_step_is_forgotten_also_if_the_earlier_ones_cannot_be_undone(
    bench: Bench, preparer: Preparer
) -> None:
    """Else the retry would undo what this claim has never done."""
    bench.vendor.steps_per_device = 1
    modal(bench).refuse = "somebody else's setting is in the way"
    modal(bench).plan = _reverse(modal(bench))  # type: ignore[method-assign]
    bench.vendor.fail_undos = {f"{device(2)}.0"}
    wanted = bench.add(claim("u1", result(device(2), "b"), result(device(1), "a", shareID="s1")))
    assert "keeps" in prepare_one(preparer, wanted).error
    (record,) = bench.records()
    assert [step.name for step in record.steps] == ["hold"]
    bench.vendor.fail_undos = set()
    assert unprepare_one(preparer, wanted) == ""
    assert modal(bench).undone == []
    assert bench.files() == {}


def test_a_claim_that_could_not_be_undone_counts_until_it_is(bench: Bench, preparer: Preparer) -> None:
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    bench.vendor.fail_undos = {f"{device(1)}.mode"}
    assert "keeps" in unprepare_one(preparer, first)
    assert not prepare_one(preparer, second).error
    bench.vendor.fail_undos = set()
    assert unprepare_one(preparer, first) == ""
    assert mode(bench) == "fast", "the second claim took it over"
    assert unprepare_one(preparer, second) == ""
    assert mode(bench) == "plain"
    assert bench.files() == {}


# Crashes and restarts


@pytest.mark.parametrize("crash_at", range(1, 15))
def test_wherever_the_second_claim_is_cut_off_the_first_keeps_it(bench: Bench, crash_at: int) -> None:
    preparer = bench.open()
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    preparer.close()
    disk = CrashingDisk()
    bench.disk = bench.vendor.disk = disk
    dying = bench.open()
    disk.crash_at = disk.changes + crash_at
    with pytest.raises(CrashError):
        prepare_one(dying, second)
    dying.close()
    disk.crash_at = 0
    again = bench.open()
    again.recover()
    assert mode(bench) == "fast"
    assert unprepare_one(again, first) == ""
    assert unprepare_one(again, second) == ""
    assert bench.files() == {}
    again.close()


@pytest.mark.parametrize("crash_at", range(1, 15))
def test_wherever_the_last_claim_is_cut_off_nothing_leaks(bench: Bench, crash_at: int) -> None:
    preparer = bench.open()
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    prepare_one(preparer, second)
    unprepare_one(preparer, first)
    preparer.close()
    disk = CrashingDisk()
    bench.disk = bench.vendor.disk = disk
    dying = bench.open()
    disk.crash_at = disk.changes + crash_at
    with pytest.raises(CrashError):
        unprepare_one(dying, second)
    dying.close()
    disk.crash_at = 0
    again = bench.open()
    again.recover()
    assert unprepare_one(again, second) == ""
    assert bench.files() == {}
    again.close()


def test_two_instances_of_the_plugin_count_together(bench: Bench) -> None:
    old, new = bench.open(), bench.open()
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(old, first)
    prepare_one(new, second)
    assert unprepare_one(new, first) == ""
    assert mode(bench) == "fast"
    assert unprepare_one(old, second) == ""
    assert bench.files() == {}
    old.close()
    new.close()


def test_a_claim_of_a_later_version_of_the_plugin_counts(bench: Bench, preparer: Preparer) -> None:
    """A rolling update back: what the newer instance prepared is running, and only that instance can undo it."""
    modal(bench).wanted = {"u3": "careful"}
    (bench.root / "hardware" / f"{device(1)}.mode").write_text("slow")
    first, second, third, fourth = (share(bench, uid) for uid in ("u1", "u2", "u3", "u4"))
    prepare_one(preparer, first)
    prepare_one(preparer, second)
    preparer.close()
    path = bench.root / "state/claims/u2.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**json.loads(path.read_bytes()), "minReader": record_files.SCHEMA_VERSION + 1}))
    new.replace(path)
    before = path.read_bytes()
    older = bench.open()
    assert unprepare_one(older, first) == ""
    assert mode(bench) == "fast", "the claim that is not understood needs it still"
    assert "unknown/unknown (u2)" in prepare_one(older, third).error
    assert not prepare_one(older, fourth).error
    taken = record_files.decode((path.parent / "u4.json").read_bytes(), "u4")
    assert taken.steps[0].facts["before"] == "slow"
    assert unprepare_one(older, fourth) == ""
    assert mode(bench) == "fast"
    assert path.read_bytes() == before
    older.close()


def test_after_a_boot_it_is_counted_anew(bench: Bench, preparer: Preparer) -> None:
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    prepare_one(preparer, second)
    bench.reboot(LATER)
    again = bench.open()
    again.recover()
    assert not prepare_one(again, first).error
    assert mode(bench) == "fast"
    assert unprepare_one(again, first) == "", "nothing of the second claim runs: it is undone"
    assert mode(bench) == "plain"
    assert not prepare_one(again, second).error
    assert mode(bench) == "fast"
    assert unprepare_one(again, second) == ""
    assert bench.files() == {}
    again.close()


def test_what_outlives_a_boot_is_brought_back_to_what_it_was(bench: Bench, preparer: Preparer) -> None:
    """A mode may be kept in the device's own memory: planned after the boot, it looks as if it had been so."""
    first, second = share(bench, "u1"), share(bench, "u2")
    prepare_one(preparer, first)
    prepare_one(preparer, second)
    bench.boot(LATER)
    assert mode(bench) == "fast"
    again = bench.open()
    again.recover()
    third = share(bench, "u3")
    assert not prepare_one(again, third).error
    assert not prepare_one(again, first).error
    assert {known["before"] for known in facts(bench).values()} == {"plain"}
    for wanted in (third, second, first):
        assert unprepare_one(again, wanted) == ""
    assert mode(bench) == "plain"
    again.close()


# Steps that a process of ours has to hold


def test_upkeep_is_run_again_at_every_start(bench: Bench, preparer: Preparer) -> None:
    modal(bench).upkeep = True
    wanted = share(bench, "u1")
    answer = prepare_one(preparer, wanted)
    (bench.root / "hardware" / f"{device(1)}.mode").unlink()
    again = bench.open()
    again.recover()
    assert mode(bench) == "fast"
    assert facts(bench)["u1"]["uuid"] == "run-2", "what was learnt anew is written down"
    assert prepare_one(again, wanted) == answer
    assert modal(bench).runs == 2
    again.close()


def test_steps_without_upkeep_are_left_alone(bench: Bench, preparer: Preparer) -> None:
    prepare_one(preparer, share(bench, "u1"))
    again = bench.open()
    again.recover()
    assert modal(bench).runs == 1
    again.close()


def test_upkeep_that_fails_is_reported_and_tried_again_with_the_next_repeat(bench: Bench, preparer: Preparer) -> None:
    modal(bench).upkeep = True
    first, other = share(bench, "u1"), share(bench, "u2", slot=2)
    answer = prepare_one(preparer, first)
    other_answer = prepare_one(preparer, other)
    bench.vendor.fail_runs = {f"{device(1)}.mode"}
    again = bench.open()
    again.recover()
    failed = [entry for entry in bench.happened if isinstance(entry, RepairFailed)]
    assert [(entry.claim, entry.reason) for entry in failed] == [(str(first), "StepFailed")]
    assert prepare_one(again, other) == other_answer
    assert "refuses" in prepare_one(again, first).error
    assert bench.records()[0].phase is Phase.PREPARED
    bench.vendor.fail_runs = set()
    assert prepare_one(again, first) == answer
    runs = modal(bench).runs
    assert prepare_one(again, first) == answer
    assert modal(bench).runs == runs, "once it holds it is not run again"
    assert unprepare_one(again, first) == unprepare_one(again, other) == ""
    assert bench.files() == {}
    again.close()


def test_upkeep_that_fails_is_tried_again_by_itself(bench: Bench, preparer: Preparer) -> None:
    """A pod that runs is not prepared again, and its daemon must not stay away for that."""
    modal(bench).upkeep = True
    prepare_one(preparer, share(bench, "u1"))
    bench.vendor.fail_runs = {f"{device(1)}.mode"}
    again = bench.open()
    again.recover()
    runs = modal(bench).runs
    again.uphold()
    assert len([entry for entry in bench.happened if isinstance(entry, RepairFailed)]) == 2
    bench.vendor.fail_runs = set()
    again.uphold()
    assert modal(bench).runs == runs + 1
    assert facts(bench)["u1"]["uuid"] == f"run-{runs + 1}"
    again.uphold()
    assert modal(bench).runs == runs + 1, "once it holds it is not run again"
    again.close()


def test_other_claims_get_their_turn_between_two_daemons_that_do_not_come_up(bench: Bench, preparer: Preparer) -> None:
    modal(bench).upkeep = True
    for uid, slot in (("u1", 1), ("u2", 2)):
        prepare_one(preparer, share(bench, uid, slot))
    bench.vendor.fail_runs = {f"{device(1)}.mode", f"{device(2)}.mode"}
    again = bench.open()
    again.recover()
    plain = bench.add(claim("u3", result(device(3))))
    bench.fetched.clear()
    waiting: list[threading.Thread] = []
    answers: list[str] = []
    run = bench.vendor.run

    def run_slowly(step: Step, done: Sequence[Step]) -> Step:
        if step.arguments["device"] == device(1):
            waiting.append(threading.Thread(target=lambda: answers.append(prepare_one(again, plain).error)))
            waiting[0].start()
            time.sleep(0.3)  # until it stands in the queue
        elif step.arguments["device"] == device(2):
            wait_until(lambda: "claim-u3" in bench.fetched, "the other claim had its turn")
        return run(step, done)

    bench.vendor.run = run_slowly  # type: ignore[method-assign]
    again.uphold()
    waiting[0].join(20)
    assert answers == [""]
    again.close()


def test_the_start_does_not_wait_for_every_daemon_that_does_not_come_up(
    bench: Bench, preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is served until the plugin has started. What is left is tried soon after, or when a claim asks for it."""
    modal(bench).upkeep = True
    answers = {uid: prepare_one(preparer, share(bench, uid, slot)) for uid, slot in (("u1", 1), ("u2", 2), ("u3", 3))}
    bench.vendor.fail_runs = {f"{device(slot)}.mode" for slot in (1, 2, 3)}
    monkeypatch.setattr("driver.node.recovery._UPHOLD_SECONDS", 0.0)
    runs = modal(bench).runs
    again = bench.open()
    again.recover()
    assert len([each for each in bench.happened if isinstance(each, RepairFailed)]) <= 1
    bench.vendor.fail_runs = set()
    assert prepare_one(again, share(bench, "u3", 3)) == answers["u3"]
    assert modal(bench).runs == runs + 1, "held before it is answered"
    again.uphold()
    assert modal(bench).runs == runs + 3
    again.close()


def test_upkeep_leaves_a_claim_alone_that_is_being_released(bench: Bench, preparer: Preparer) -> None:
    modal(bench).upkeep = True
    wanted = share(bench, "u1")
    prepare_one(preparer, wanted)
    bench.vendor.fail_runs = bench.vendor.fail_undos = {f"{device(1)}.mode"}
    again = bench.open()
    again.recover()
    assert "keeps" in unprepare_one(again, wanted)
    bench.vendor.fail_runs, runs = set(), modal(bench).runs
    again.uphold()
    assert modal(bench).runs == runs
    bench.vendor.fail_undos = set()
    assert unprepare_one(again, wanted) == ""
    assert bench.files() == {}
    again.close()


def test_upkeep_of_a_claim_from_before_a_boot_waits_for_its_prepare(bench: Bench, preparer: Preparer) -> None:
    modal(bench).upkeep = True
    prepare_one(preparer, share(bench, "u1"))
    bench.reboot(LATER)
    again = bench.open()
    again.recover()
    assert mode(bench) == "plain"
    again.close()


def test_what_was_done_to_hardware_is_told(bench: Bench, preparer: Preparer) -> None:
    wanted = share(bench, "u1")
    prepare_one(preparer, wanted)
    unprepare_one(preparer, wanted)
    run, undo = bench.changed
    assert (run.claim, run.step, run.operation) == (str(wanted), "mode", "run")
    assert run.detail == f"device {device(1)}, mode fast, before plain, uuid run-1"
    assert (undo.step, undo.operation) == ("mode", "undo")


def test_the_inventory_is_not_needed_to_undo(bench: Bench, preparer: Preparer) -> None:
    wanted = share(bench, "u1")
    prepare_one(preparer, wanted)
    bench.inventory = None
    assert unprepare_one(preparer, wanted) == ""
    assert bench.files() == {}
    bench.inventory = node_inventory()
