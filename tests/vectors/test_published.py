"""Allocations that Kubernetes v1.36.2 itself made on slices that this driver publishes, with counters and capacities.

Eight A100 in partitions, sixteen H100 whole or in partitions (two slices of counters), eight H100 with shares. Of the
scenarios that `hack.replay.scenarios` writes, those are left out that kube-scheduler's allocator did not decide within
20 s (8), that ours gives up on (2), and those in which a known defect of upstream refuses what an independent judge
finds allocated rightly (3, `multi-alloc-counter-rollback` in docs/allocator.md).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from driver.model.published import PublishedSlice
from hack.replay import allocator, scenarios
from hack.replay.allocator import MACHINES, Json, decode, read_machine
from hack.replay.published import MACHINES as PUBLISHED
from hack.replay.published import make_slices

VECTORS: Final = list(allocator.read(Path(__file__).parent / "published.jsonl.gz"))


@cache
def posed() -> dict[str, Json]:
    return {scenario["id"]: scenario for scenario in scenarios.pose_all()}


@pytest.mark.parametrize("machine", PUBLISHED)
def test_the_slices_are_still_published_like_this(machine: str) -> None:
    recorded = json.loads(gzip.decompress((MACHINES / f"{machine}.json.gz").read_bytes()))
    assert make_slices(machine) == recorded, "python -m hack.replay.scenarios; record what Kubernetes makes of it again"


def test_counters_of_more_than_eight_devices_are_in_several_slices() -> None:
    def count(machine: str) -> list[int]:
        return [len(each.spec.shared_counters) for each in read_machine(machine) if each.spec.shared_counters]

    assert [count(machine) for machine in PUBLISHED] == [[8], [8, 8], [8]]
    assert all(each.spec.pool.generation == 1 for machine in PUBLISHED for each in read_machine(machine))


@pytest.mark.parametrize("machine", PUBLISHED)
def test_recorded_scenarios_are_those_that_are_posed(machine: str) -> None:
    for vector in VECTORS:
        if vector["category"] == machine:
            assert {key: vector[key] for key in ("id", "category", "topic", "scenario")} == posed()[vector["id"]]


@pytest.mark.parametrize("machine", PUBLISHED)
@pytest.mark.parametrize("with_table", [True, False], ids=["as recorded", "with CEL"])
def test_our_allocator_answers_as_recorded(
    machine: str, record_property: Callable[[str, object], None], *, with_table: bool
) -> None:
    vectors = [vector for vector in VECTORS if vector["category"] == machine]
    if not with_table:  # the random ones have the same few selectors
        vectors = [vector for vector in vectors if not vector["topic"].startswith("at random")]
    found = [
        vector["id"]
        for vector in vectors
        if not allocator.allocate_vector(vector, with_table=with_table).agrees(allocator.wanted_answer(vector))
    ]
    record_property("vectors", f"{machine} {len(vectors) - len(found)} {len(vectors)}")
    assert found == []


def test_they_are_many_and_have_answers_of_every_kind() -> None:
    assert len(VECTORS) == 203
    assert len(posed()) == 216
    kinds = {(vector["category"], allocator.wanted_answer(vector).kind) for vector in VECTORS}
    assert kinds >= {(machine, kind) for machine in PUBLISHED for kind in ("ok", "no")}


def test_machines_are_slices_that_the_api_takes() -> None:
    for machine in PUBLISHED:
        again = decode(make_slices(machine), list[PublishedSlice])
        assert tuple(again) == read_machine(machine)
