"""Claims whose record is not understood: their containers may run, so that their devices are nobody else's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from driver.model.occurrences import RecordQuarantined, RepairFailed
from driver.state import record_files
from tests.fakes.bench import (
    DRIVER,
    Bench,
    accelerator,
    claim,
    device,
    node_inventory,
    partition,
    prepare_one,
    ref,
    result,
    unprepare_one,
)

LATER = record_files.SCHEMA_VERSION + 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    preparer = made.open()
    for uid, share_id in (("u1", None), ("u5", "s1")):
        wanted = made.add(claim(uid, result(device(1 if uid == "u1" else 2), shareID=share_id)))
        assert not prepare_one(preparer, wanted).error
    preparer.close()
    return made


def record_of(bench: Bench, uid: str) -> Path:
    return bench.root / f"state/claims/{uid}.json"


def make_newer(bench: Bench, uid: str, **record: object) -> None:
    """Turn a record into one of a version that we do not know."""
    path = record_of(bench, uid)
    document = json.loads(path.read_bytes())
    document["record"] |= record
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**document, "schemaVersion": LATER, "minReader": LATER}))
    new.replace(path)


def test_a_device_whose_record_is_damaged_is_given_to_nobody_until_it_is_unprepared(bench: Bench) -> None:
    record_of(bench, "u1").write_bytes(b"{")
    preparer = bench.open()
    preparer.recover()
    other = bench.add(claim("u2", result(device(1))))
    assert (
        f"device {device(1)} is already prepared for claim unknown/unknown (u1)" in prepare_one(preparer, other).error
    )
    assert not prepare_one(preparer, bench.add(claim("u3", result(device(3))))).error
    assert unprepare_one(preparer, ref("u1")) == ""
    assert not prepare_one(preparer, other).error
    preparer.close()


def test_a_share_whose_record_is_damaged_holds_only_itself(bench: Bench) -> None:
    record_of(bench, "u5").write_bytes(b"")
    preparer = bench.open()
    assert prepare_one(preparer, bench.add(claim("u2", result(device(2), shareID="s1")))).error
    assert prepare_one(preparer, bench.add(claim("u3", result(device(2))))).error
    assert not prepare_one(preparer, bench.add(claim("u4", result(device(2), shareID="s2")))).error
    preparer.close()


def test_a_partition_whose_record_is_damaged_holds_its_whole_and_not_its_neighbours(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.inventory = node_inventory(accelerator(1, partition(0), partition(1)))
    names = [entry.name for entry in bench.inventory.entries if entry.partition]
    preparer = bench.open()
    assert not prepare_one(preparer, bench.add(claim("u1", result(names[0])))).error
    record_of(bench, "u1").write_bytes(b"")
    os.utime(record_of(bench, "u1").parent)
    assert prepare_one(preparer, bench.add(claim("u2", result(names[0])))).error
    assert not prepare_one(preparer, bench.add(claim("u3", result(names[1])))).error
    preparer.close()


def test_a_claim_whose_record_is_damaged_can_itself_be_prepared_again(bench: Bench) -> None:
    record_of(bench, "u1").write_bytes(b"{")
    preparer = bench.open()
    assert not prepare_one(preparer, ref("u1")).error
    assert unprepare_one(preparer, ref("u1")) == ""
    assert not prepare_one(preparer, bench.add(claim("u2", result(device(1))))).error
    preparer.close()


def test_after_unprepare_nothing_is_in_quarantine_and_leaked_metadata_is_swept_again(bench: Bench) -> None:
    record_of(bench, "u1").write_bytes(b"{")
    documents = bench.root / "state/dra-device-metadata"
    preparer = bench.open()
    preparer.recover()
    assert (documents / "default_claim-u1").exists(), "nobody knows any more whose it is"
    assert unprepare_one(preparer, ref("u1")) == ""
    preparer.close()
    assert list((bench.root / "state/quarantine").iterdir()) == []
    again = bench.open()
    again.recover()
    assert [path.name for path in documents.iterdir()] == ["default_claim-u5"]
    again.close()


@pytest.mark.parametrize("record", [{}, {"devices": "as a text"}])
def test_the_record_of_a_later_version_stays_and_holds_its_devices(bench: Bench, record: dict[str, object]) -> None:
    """A rolling update back: what the newer instance prepared is running."""
    make_newer(bench, "u1", **record)
    before = bench.files()
    preparer = bench.open()
    preparer.recover()
    assert bench.files() == before
    assert "unknown/unknown (u1)" in prepare_one(preparer, bench.add(claim("u2", result(device(1))))).error
    assert "later version of the plugin" in prepare_one(preparer, ref("u1")).error
    assert f"it is of version {LATER}" in unprepare_one(preparer, ref("u1"))
    assert bench.files() == before
    assert not [entry for entry in bench.happened if isinstance(entry, RecordQuarantined)]
    preparer.close()


def test_an_older_instance_leaves_a_record_that_appears_while_it_runs(bench: Bench) -> None:
    preparer = bench.open()
    assert not prepare_one(preparer, ref("u1")).error
    make_newer(bench, "u1")
    os.utime(record_of(bench, "u1").parent)
    assert not prepare_one(preparer, bench.add(claim("u3", result(device(3))))).error
    assert record_of(bench, "u1").exists()
    assert f"cdi/k8s.{DRIVER}-claim_u1.json" in bench.files()
    preparer.close()


def test_a_record_that_the_disk_does_not_give_concerns_its_claim_only(bench: Bench) -> None:
    """A link to itself is what a test can make that any reader, root too, cannot read: ELOOP."""
    path = record_of(bench, "u1")
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to(path)
    preparer = bench.open()
    preparer.recover()
    complaint = f"cannot read {path}: {os.strerror(errno.ELOOP)}"
    assert [each.error for each in bench.happened if isinstance(each, RepairFailed)] == [complaint]
    assert prepare_one(preparer, ref("u1")).error == complaint
    assert unprepare_one(preparer, ref("u1")) == complaint
    assert "unknown/unknown (u1)" in prepare_one(preparer, bench.add(claim("u2", result(device(1))))).error
    assert not prepare_one(preparer, bench.add(claim("u3", result(device(3))))).error
    assert path.is_symlink()
    assert f"cdi/k8s.{DRIVER}-claim_u1.json" in bench.files()
    path.unlink()
    path.write_bytes(kept)
    assert "default/claim-u1" in prepare_one(preparer, ref("u2")).error
    assert unprepare_one(preparer, ref("u1")) == ""
    preparer.close()
