"""Claims that exist no longer are released, but never early, and never because the API server does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from driver.model.claims import ClaimStatus, ResourceClaim
from driver.model.errors import Forbidden, Unavailable
from driver.model.occurrences import RepairFailed, StaleClaimReleased
from driver.node.collecting import GRACE
from driver.node.preparer import Preparer
from tests.fakes.bench import Bench, claim, device, prepare_one, ref, result, unprepare_one

LATER = "99999999-2222-4333-8444-555555555555"
NAME = "claim-u1"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.vendor.steps_per_device = 1
    return made


@pytest.fixture
def preparer(bench: Bench) -> Iterator[Preparer]:
    opened = bench.open()
    opened.recover()
    assert not prepare_one(opened, bench.add(claim("u1", result(device(1))))).error
    bench.happened.clear()
    yield opened
    opened.close()


def look_until_sure(bench: Bench, preparer: Preparer) -> int:
    """Look, let the time of grace pass, look again."""
    first = preparer.collect()
    bench.now += GRACE + 1
    return first + preparer.collect()


def change(bench: Bench, how: str) -> None:
    """Take the claim away from the node."""
    old = bench.claims[NAME]
    replaced = claim("u2", result(device(1)))
    other_node = claim("u1", result(device(1), pool="node-b"))
    bench.claims = {
        "deleted": {},
        "replaced": {NAME: msgspec.structs.replace(replaced, metadata=msgspec.structs.replace(old.metadata, uid="u2"))},
        "deallocated": {NAME: msgspec.structs.replace(old, status=ClaimStatus())},
        "moved": {NAME: other_node},
    }[how]


def test_claims_that_exist_are_left_alone(bench: Bench, preparer: Preparer) -> None:
    before = bench.files()
    assert look_until_sure(bench, preparer) == 0
    assert bench.files() == before
    assert bench.happened == []


@pytest.mark.parametrize("how", ["deleted", "replaced", "deallocated", "moved"])
def test_a_claim_that_is_gone_for_long_is_released(bench: Bench, preparer: Preparer, how: str) -> None:
    change(bench, how)
    assert look_until_sure(bench, preparer) == 1
    assert bench.files() == {}
    (occurrence,) = bench.happened
    assert isinstance(occurrence, StaleClaimReleased)
    assert occurrence.claim == str(ref("u1"))
    assert not prepare_one(preparer, bench.add(claim("u3", result(device(1))))).error


def test_a_pod_deleted_by_force_keeps_its_device_while_it_may_still_run(bench: Bench, preparer: Preparer) -> None:
    change(bench, "deleted")
    for _ in range(5):
        assert preparer.collect() == 0
        bench.now += GRACE / 6
    assert "claim-u1" in prepare_one(preparer, bench.add(claim("u3", result(device(1))))).error
    assert unprepare_one(preparer, ref("u1")) == ""
    bench.now += GRACE
    assert preparer.collect() == 0


def test_a_claim_that_is_seen_again_starts_its_time_anew(bench: Bench, preparer: Preparer) -> None:
    kept = dict(bench.claims)
    bench.claims = {}
    preparer.collect()
    bench.now += GRACE - 1
    bench.claims = kept
    preparer.collect()
    bench.claims = {}
    bench.now += 2
    assert preparer.collect() == 0


def test_after_a_boot_nothing_runs_and_nothing_is_waited_for(bench: Bench, preparer: Preparer) -> None:
    preparer.close()
    bench.reboot(LATER)
    bench.claims = {}
    again = bench.open()
    again.recover()
    assert again.collect() == 1
    assert bench.files() == {}
    again.close()


@pytest.mark.parametrize(
    ("error", "told"), [(Unavailable("connection refused"), set()), (Forbidden("no"), {RepairFailed})]
)
def test_an_api_server_that_does_not_answer_decides_nothing(
    bench: Bench, preparer: Preparer, error: Exception, told: set[type]
) -> None:
    def fetch(_namespace: str, _name: str) -> ResourceClaim:
        raise error

    bench.reach = fetch
    preparer.close()
    again = bench.open()
    assert look_until_sure(bench, again) == 0
    assert bench.files()
    assert {type(entry) for entry in bench.happened} == told
    again.close()


def test_hardware_that_cannot_be_undone_is_reported_and_tried_again(bench: Bench, preparer: Preparer) -> None:
    bench.claims = {}
    bench.vendor.fail_undos = {f"{device(1)}.0"}
    assert look_until_sure(bench, preparer) == 0
    assert isinstance(bench.happened[-1], RepairFailed)
    bench.vendor.fail_undos = set()
    assert preparer.collect() == 1
    assert bench.files() == {}


def test_what_changed_while_we_asked_is_not_touched(bench: Bench, preparer: Preparer) -> None:
    """The kubelet unprepares and prepares again between our question and its answer."""
    preparer.close()

    def fetch(namespace: str, name: str) -> ResourceClaim:
        if bench.now:
            other = Bench(bench.root)
            other.vendor.steps_per_device = 2
            beside = other.open()
            unprepare_one(beside, ref("u1"))
            prepare_one(beside, other.add(claim("u1", result(device(2)))))
            beside.close()
        return bench.fetch(namespace, name)

    bench.reach = fetch
    bench.claims = {}
    again = bench.open()
    assert look_until_sure(bench, again) == 0
    assert [entry.device for entry in bench.records()[0].devices] == [device(2)]
    again.close()


def test_it_runs_beside_everything_else_until_the_plugin_ends(bench: Bench) -> None:
    looked = threading.Event()

    def fetch(namespace: str, name: str) -> ResourceClaim:
        looked.set()
        return bench.fetch(namespace, name)

    preparer = bench.open()
    prepare_one(preparer, bench.add(claim("u1", result(device(1)))))
    preparer.close()
    bench.reach = fetch
    again = bench.open()
    again.start_collecting()
    deadline = time.monotonic() + 20
    while not looked.is_set():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    bench.stopping = True
    again.close()
    assert bench.faults == []
