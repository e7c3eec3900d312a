"""Start of the plugin after a crash, a reboot, a lost CDI folder, a damaged record: nothing of others is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from driver.model.occurrences import RecordQuarantined, Recovered, RepairFailed
from driver.model.prepared import Phase, PrepareAnswer
from driver.node.preparer import Preparer
from driver.state import files
from tests.fakes import cdi as judge
from tests.fakes.bench import (
    DRIVER,
    Bench,
    accelerator,
    claim,
    device,
    node_inventory,
    prepare_one,
    ref,
    result,
    unprepare_one,
)
from tests.fakes.disks import CrashError, CrashingDisk, FullDisk

LATER = "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def prepared(bench: Bench, uid: str = "u1", slot: int = 1) -> PrepareAnswer:
    """Prepare a claim and end the plugin."""
    preparer = bench.open()
    answer = prepare_one(preparer, bench.add(claim(uid, result(device(slot)))))
    preparer.close()
    assert not answer.error
    return answer


def restart(bench: Bench) -> tuple[Preparer, Recovered]:
    bench.happened.clear()
    preparer = bench.open()
    return preparer, preparer.recover()


def crash(bench: Bench, at: int) -> None:
    """Prepare a claim and die before change number `at`."""
    disk = CrashingDisk()
    bench.disk = bench.vendor.disk = disk
    preparer = bench.open()
    disk.changes, disk.crash_at = 0, at
    with pytest.raises(CrashError):
        prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    preparer.close()
    bench.disk = bench.vendor.disk = files.Disk()


def test_a_clean_node(bench: Bench) -> None:
    preparer, recovered = restart(bench)
    assert recovered == Recovered(0, 0, 0, 0)
    assert bench.happened == [recovered]
    preparer.close()


def test_a_plain_restart_changes_nothing(bench: Bench) -> None:
    answer = prepared(bench)
    before = bench.files()
    preparer, recovered = restart(bench)
    assert recovered == Recovered(1, 0, 0, 0)
    assert bench.files() == before
    assert prepare_one(preparer, ref("u1")) == answer
    preparer.close()


def test_a_lost_cdi_folder_is_written_again_to_the_byte(bench: Bench) -> None:
    prepared(bench)
    before = bench.files()
    for path in (bench.root / "cdi").iterdir():
        path.unlink()
    (bench.root / "cdi").rmdir()
    bench.inventory = None
    preparer, recovered = restart(bench)
    assert recovered == Recovered(1, 0, 2, 0)
    assert bench.files() == before
    preparer.close()


def test_leaked_specs_of_ours_are_removed_and_nothing_of_others(bench: Bench) -> None:
    ours = [f"k8s.{DRIVER}-claim_gone.json", f"{DRIVER}_metadata_gone_gpu.json", f".k8s.{DRIVER}-claim_gone.json.tmp"]
    others = ["nvidia.yaml", "k8s.gpu.nvidia.com-claim_gone.json", ".k8s.gpu.nvidia.com-claim_gone.json.tmp", "README"]
    for name in ours + others:
        (bench.root / "cdi" / name).write_text("{}")
    (bench.root / "state/dra-device-metadata/default_gone/gpu").mkdir(parents=True)
    (bench.root / "state/dra-device-metadata/default_gone/gpu/metadata.json").write_text("{}")
    preparer, recovered = restart(bench)
    assert recovered.removed_specs == 2
    assert sorted(path.name for path in (bench.root / "cdi").iterdir()) == sorted(others)
    assert list((bench.root / "state/dra-device-metadata").iterdir()) == []
    preparer.close()


def test_a_claim_that_was_being_prepared_is_undone(bench: Bench) -> None:
    bench.vendor.steps_per_device = 3
    crash(bench, at=9)
    assert bench.records()[0].phase is Phase.PREPARING
    assert bench.files("hardware")
    preparer, recovered = restart(bench)
    assert recovered == Recovered(0, 1, 0, 0)
    assert bench.files() == {}
    preparer.close()


def test_hardware_that_cannot_be_undone_keeps_its_record_and_the_plugin_starts(bench: Bench) -> None:
    bench.vendor.steps_per_device = 3
    crash(bench, at=9)
    bench.vendor.fail_undos = {f"{device(1)}.0"}
    prepared_other = claim("u2", result(device(2)))
    preparer, recovered = restart(bench)
    assert (recovered.kept, recovered.rolled_back) == (1, 0)
    assert isinstance(bench.happened[0], RepairFailed)
    assert bench.happened[0].claim == str(ref("u1"))
    assert not prepare_one(preparer, bench.add(prepared_other)).error
    bench.vendor.fail_undos = set()
    assert unprepare_one(preparer, ref("u1")) == ""
    preparer.close()


def test_a_defect_of_the_vendor_does_not_keep_the_plugin_down(bench: Bench) -> None:
    bench.vendor.steps_per_device = 3
    crash(bench, at=9)
    bench.vendor.disk = None  # type: ignore[assignment]
    preparer, recovered = restart(bench)
    assert recovered.rolled_back == 0
    assert [type(entry) for entry in bench.happened] == [RepairFailed, Recovered]
    preparer.close()


# After a boot


def test_specs_are_made_anew_after_a_boot_because_device_numbers_have_changed(bench: Bench) -> None:
    answer = prepared(bench)
    name = f"cdi/k8s.{DRIVER}-claim_u1.json"
    before = bench.files()[name]
    bench.reboot(LATER)
    preparer, recovered = restart(bench)
    assert recovered == Recovered(1, 0, 2, 0)
    assert bench.files()[name] == before.replace(b'"major":195', b'"major":196')
    assert bench.records()[0].boot_id == LATER
    bench.inventory = None
    assert prepare_one(preparer, ref("u1")) == answer
    preparer.close()


def test_hardware_that_is_not_there_yet_after_a_boot_is_left_to_the_next_prepare(bench: Bench) -> None:
    answer = prepared(bench)
    bench.reboot(LATER)
    bench.inventory = None
    preparer, recovered = restart(bench)
    assert recovered == Recovered(1, 0, 0, 0)
    assert "not loaded" in prepare_one(preparer, ref("u1")).error
    bench.inventory = node_inventory()
    assert prepare_one(preparer, ref("u1")) == answer
    assert b'"major":196' in bench.files()[f"cdi/k8s.{DRIVER}-claim_u1.json"]
    preparer.close()


def test_stale_specs_that_survived_a_boot_are_not_trusted(bench: Bench) -> None:
    """With /etc/cdi as the folder, files outlive a boot, and what was not synced may be half there."""
    prepared(bench)
    bench.boot(LATER)
    bench.inventory = None
    preparer, recovered = restart(bench)
    assert recovered.removed_specs == 2
    assert bench.files("cdi") == {}
    preparer.close()


def test_hardware_is_not_changed_at_start_but_by_the_next_prepare(bench: Bench) -> None:
    bench.vendor.steps_per_device = 2
    answer = prepared(bench)
    bench.reboot(LATER)
    preparer, _ = restart(bench)
    assert bench.files("hardware") == {}
    assert prepare_one(preparer, ref("u1")) == answer
    assert len(bench.files("hardware")) == 2
    assert bench.records()[0].boot_id == LATER
    assert unprepare_one(preparer, ref("u1")) == ""
    assert bench.files() == {}
    preparer.close()


def test_steps_that_are_no_longer_wanted_after_a_boot_are_undone(bench: Bench) -> None:
    bench.vendor.steps_per_device = 3
    prepared(bench)
    bench.boot(LATER)
    bench.vendor.steps_per_device = 1
    preparer, _ = restart(bench)
    assert not prepare_one(preparer, ref("u1")).error
    assert list(bench.files("hardware")) == [f"hardware/{device(1)}.0"]
    preparer.close()


def test_a_device_that_did_not_come_back_is_reported_and_can_be_unprepared(bench: Bench) -> None:
    prepared(bench)
    bench.reboot(LATER)
    bench.inventory = node_inventory(accelerator(2))
    preparer, recovered = restart(bench)
    assert recovered.kept == 1
    assert isinstance(bench.happened[0], RepairFailed)
    assert f"device {device(1)}" in prepare_one(preparer, ref("u1")).error
    assert unprepare_one(preparer, ref("u1")) == ""
    assert bench.files() == {}
    preparer.close()


def test_devices_stay_held_over_a_boot(bench: Bench) -> None:
    prepared(bench)
    bench.reboot(LATER)
    preparer, _ = restart(bench)
    assert "claim-u1" in prepare_one(preparer, bench.add(claim("u2", result(device(1))))).error
    preparer.close()


def test_a_document_that_vanished_is_there_again_after_a_boot(bench: Bench) -> None:
    prepared(bench)
    document = bench.root / "state/dra-device-metadata/default_claim-u1/gpu/metadata.json"
    text = document.read_bytes()
    document.unlink()
    bench.reboot(LATER)
    preparer, _ = restart(bench)
    assert document.read_bytes() == text
    preparer.close()


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_hardware_is_not_changed_at_start_whether_by_new_steps_or_by_undoing_old_ones(
    bench: Bench, before: int, after: int
) -> None:
    bench.vendor.steps_per_device = before
    prepared(bench)
    bench.boot(LATER)
    hardware = bench.files("hardware")
    bench.vendor.steps_per_device = after
    preparer, _ = restart(bench)
    assert bench.files("hardware") == hardware
    assert bench.records()[0].boot_id != LATER
    assert not prepare_one(preparer, ref("u1")).error
    assert len(bench.files("hardware")) == after
    preparer.close()


def test_steps_that_are_half_undone_after_a_boot_are_known_to_be(bench: Bench) -> None:
    """Should we die here, the next start must not take the claim for one that is ready."""
    bench.vendor.steps_per_device = 3
    prepared(bench)
    bench.boot(LATER)
    bench.vendor.steps_per_device = 1
    bench.vendor.fail_undos = {f"{device(1)}.1"}
    preparer, _ = restart(bench)
    assert "keeps" in prepare_one(preparer, ref("u1")).error
    (record,) = bench.records()
    assert (record.phase, len(record.steps)) == (Phase.PREPARING, 2), "what is undone is not undone again"
    bench.vendor.fail_undos = set()
    assert unprepare_one(preparer, ref("u1")) == ""
    assert bench.files() == {}
    preparer.close()


# Damage


def test_peer_defect_19_a_damaged_record_does_not_stop_unprepare(bench: Bench) -> None:
    prepared(bench)
    prepared(bench, "u2", 2)
    (bench.root / "state/claims/u1.json").write_bytes(b"\x00" * 64)
    preparer, recovered = restart(bench)
    assert recovered == Recovered(1, 0, 0, 0)
    assert isinstance(bench.happened[0], RecordQuarantined)
    assert f"cdi/k8s.{DRIVER}-claim_u1.json" in bench.files(), "its containers may still be restarted"
    assert unprepare_one(preparer, ref("u1")) == ""
    assert not [name for name in bench.files("cdi") if "u1" in name]
    assert unprepare_one(preparer, ref("u2")) == ""
    assert list((bench.root / "state/quarantine").iterdir()) == []
    preparer.close()


def test_peer_defect_19_a_claim_with_a_damaged_record_can_be_prepared_again(bench: Bench) -> None:
    answer = prepared(bench)
    (bench.root / "state/claims/u1.json").write_bytes(b"")
    preparer, _ = restart(bench)
    assert prepare_one(preparer, ref("u1")) == answer
    assert unprepare_one(preparer, ref("u1")) == ""
    assert bench.files("cdi", "state/claims") == {}
    preparer.close()


def test_a_cdi_folder_that_cannot_be_written_is_reported_for_each_claim_and_the_plugin_starts(tmp_path: Path) -> None:
    disk = FullDisk()
    bench = Bench(tmp_path, disk)
    prepared(bench)
    for path in (bench.root / "cdi").iterdir():
        path.unlink()
    disk.full = ("cdi/",)
    preparer, recovered = restart(bench)
    assert (recovered.kept, recovered.restored_specs) == (1, 0)
    assert isinstance(bench.happened[0], RepairFailed)
    assert "No space left" in prepare_one(preparer, ref("u1")).error
    disk.full = ()
    assert not prepare_one(preparer, ref("u1")).error
    assert judge.check(bench.files()[f"cdi/k8s.{DRIVER}-claim_u1.json"])
    preparer.close()


# A rolling update


def test_the_next_instance_takes_over_while_the_old_one_still_serves(bench: Bench) -> None:
    old = bench.open()
    old.recover()
    first = prepare_one(old, bench.add(claim("u1", result(device(1)))))
    new, recovered = restart(bench)
    assert recovered == Recovered(1, 0, 0, 0)
    second = prepare_one(new, bench.add(claim("u2", result(device(2)))))
    assert prepare_one(new, ref("u1")) == first
    assert prepare_one(old, ref("u2")) == second
    assert "claim-u2" in prepare_one(old, bench.add(claim("u3", result(device(2))))).error
    assert unprepare_one(old, ref("u2")) == ""
    assert not prepare_one(new, ref("u3")).error
    assert unprepare_one(new, ref("u1")) == ""
    assert unprepare_one(old, ref("u3")) == ""
    assert bench.files() == {}
    old.close()
    new.close()
