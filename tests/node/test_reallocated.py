"""A claim that was given other devices under the same UID, without having been unprepared here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.model.claims import ClaimStatus, ResourceClaim
from driver.model.errors import Unavailable
from driver.model.occurrences import StaleClaimReleased
from driver.model.prepared import ClaimRef
from driver.node.collecting import GRACE
from driver.node.preparer import Preparer
from tests.fakes.bench import Bench, claim, device, prepare_one, ref, result, unprepare_one


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.vendor.steps_per_device = 1
    return made


@pytest.fixture
def preparer(bench: Bench) -> Iterator[Preparer]:
    opened = bench.open()
    assert [each.device for each in prepare_one(opened, give(bench, 1)).devices] == [device(1)]
    yield opened
    opened.close()


def give(bench: Bench, slot: int) -> ClaimRef:
    """Allocate the claim."""
    return bench.add(claim("u1", result(device(slot))))


def test_a_repeat_gives_the_devices_that_the_claim_has_now(bench: Bench, preparer: Preparer) -> None:
    give(bench, 2)
    assert [each.device for each in prepare_one(preparer, ref("u1")).devices] == [device(2)]
    assert list(bench.files("hardware")) == [f"hardware/{device(2)}.0"]
    assert not prepare_one(preparer, bench.add(claim("u2", result(device(1))))).error
    assert unprepare_one(preparer, ref("u1")) == ""
    assert unprepare_one(preparer, ref("u2")) == ""
    assert bench.files() == {}


def test_without_an_api_server_the_record_stands_and_nobody_waits(bench: Bench, preparer: Preparer) -> None:
    give(bench, 2)
    preparer.close()

    def fetch(_namespace: str, _name: str) -> ResourceClaim:
        raise Unavailable("connection refused")

    bench.reach = fetch
    again = bench.open()
    bench.limits.clear()
    assert [each.device for each in prepare_one(again, ref("u1")).devices] == [device(1)]
    assert bench.now == 0
    assert bench.limits == [2.0]
    again.close()


def test_a_claim_that_is_not_allocated_or_another_one_changes_nothing(bench: Bench, preparer: Preparer) -> None:
    before = bench.files()
    pending = claim("u1")
    bench.claims["claim-u1"] = ResourceClaim(metadata=pending.metadata, status=ClaimStatus())
    assert not prepare_one(preparer, ref("u1")).error
    other = claim("u9", result(device(3)))
    bench.claims["claim-u1"] = other
    assert not prepare_one(preparer, ref("u1")).error
    assert bench.files() == before


def test_old_devices_that_cannot_be_given_back_are_not_forgotten(bench: Bench, preparer: Preparer) -> None:
    give(bench, 2)
    bench.vendor.fail_undos = {f"{device(1)}.0"}
    assert "keeps" in prepare_one(preparer, ref("u1")).error
    assert [each.device for each in bench.records()[0].devices] == [device(1)]
    bench.vendor.fail_undos = set()
    assert [each.device for each in prepare_one(preparer, ref("u1")).devices] == [device(2)]


def test_a_record_with_other_devices_is_released_in_the_end(bench: Bench, preparer: Preparer) -> None:
    give(bench, 2)
    assert preparer.collect() == 0
    bench.now += GRACE + 1
    assert preparer.collect() == 1
    assert StaleClaimReleased(str(ref("u1")), "the claim was given other devices") in bench.happened
    assert bench.files() == {}


def test_two_requests_for_one_device_agree_with_their_record(bench: Bench, preparer: Preparer) -> None:
    results = (result(device(3), "a/small", shareID="s"), result(device(3), "b", shareID="s"))
    wanted = bench.add(claim("u5", *results, result("eth0", "nic", driver="nic.example.com")))
    first = prepare_one(preparer, wanted)
    stamp = (bench.root / "state/claims/u5.json").stat().st_ino
    assert prepare_one(preparer, wanted) == first
    assert (bench.root / "state/claims/u5.json").stat().st_ino == stamp
