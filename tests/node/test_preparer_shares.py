"""Shares through the preparer: what the kubelet is answered, what containers get, what survives restarts and boots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.model.sharing import Sharing, Strategy
from driver.node.preparer import Preparer
from tests.fakes import cdi as judge
from tests.fakes.bench import (
    DRIVER,
    Bench,
    claim,
    device,
    prepare_one,
    share,
    shared_inventory,
    unprepare_one,
)

LIMITS = Sharing(Strategy.MPS, active_thread_percentage=25, pinned_memory_bytes=20 * 2**30)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.inventory = shared_inventory(Strategy.MPS)
    return made


@pytest.fixture
def preparer(bench: Bench) -> Iterator[Preparer]:
    opened = bench.open()
    opened.recover()
    yield opened
    opened.close()


def environment(bench: Bench, uid: str) -> dict[str, list[str]]:
    document = judge.check((bench.root / f"cdi/k8s.{DRIVER}-claim_{uid}.json").read_bytes())
    return {each["name"]: each["containerEdits"]["env"] for each in document["devices"]}  # type: ignore[attr-defined]


def test_peer_defect_09_each_claim_learns_its_share_and_is_limited_to_it(bench: Bench, preparer: Preparer) -> None:
    first = bench.add(claim("u1", share(device(1), "s1", "20Gi", 25)))
    second = bench.add(claim("u2", share(device(1), "s2", "60Gi", 75)))
    answers = [prepare_one(preparer, wanted).devices[0] for wanted in (first, second)]
    assert [(each.device, each.share_id) for each in answers] == [(device(1), "s1"), (device(1), "s2")]
    assert answers[0].sharing == LIMITS
    assert answers[0].cdi_device_ids[0] == f"k8s.{DRIVER}/claim=u1-{device(1)}-s1"
    assert environment(bench, "u1") == {f"u1-{device(1)}-s1": ["ACCEL_DRA_SHARE_ENFORCED=true"]}


def test_what_the_scheduler_should_never_have_given_is_refused_until_there_is_room(
    bench: Bench, preparer: Preparer
) -> None:
    first = bench.add(claim("u1", share(device(1), "s1", "60Gi", 75)))
    second = bench.add(claim("u2", share(device(1), "s2", "20Gi", 26)))
    assert not prepare_one(preparer, first).error
    before = bench.files()
    assert "claim default/claim-u1 (u1); share 26 is wanted and 25 is left" in prepare_one(preparer, second).error
    assert bench.files() == before
    assert unprepare_one(preparer, first) == ""
    assert not prepare_one(preparer, second).error


def test_shares_survive_a_restart_and_a_boot_without_the_api_server(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", share(device(1), "s1", "20Gi", 25)))
    answer = prepare_one(preparer, wanted)
    preparer.close()
    bench.reboot("22222222-2222-4333-8444-555555555555")
    bench.claims.clear()
    again = bench.open()
    again.recover()
    (record,) = bench.records()
    assert record.devices == answer.devices
    assert record.devices[0].sharing == LIMITS
    assert environment(bench, "u1") == {f"u1-{device(1)}-s1": ["ACCEL_DRA_SHARE_ENFORCED=true"]}
    again.close()


def test_a_claim_that_is_given_another_share_of_its_device_is_prepared_anew(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", share(device(1), "s1", "20Gi", 25)))
    prepare_one(preparer, wanted)
    bench.add(claim("u1", share(device(1), "s2", "40Gi", 50)))
    (held,) = prepare_one(preparer, wanted).devices
    assert (held.share_id, held.sharing) == (
        "s2",
        Sharing(Strategy.MPS, active_thread_percentage=50, pinned_memory_bytes=40 * 2**30),
    )


def test_who_has_all_of_a_device_is_set_up_as_if_it_could_not_be_shared(bench: Bench, preparer: Preparer) -> None:
    wanted = bench.add(claim("u1", share(device(1), "s1", "80Gi", 100)))
    (held,) = prepare_one(preparer, wanted).devices
    assert (held.shared, held.sharing) == (False, None)
    assert "env" not in str(judge.check((bench.root / f"cdi/k8s.{DRIVER}-claim_u1.json").read_bytes())["devices"])
