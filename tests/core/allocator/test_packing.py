"""Partitions of many sizes on GPUs that are nearly full: found or refused after a look ahead, not after all orders."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core.allocator import FIRST_FIT, Allocated, Snapshot, Unsatisfiable, allocate
from driver.core.allocator.packing import Packing, find
from driver.core.allocator.plans import Plan, make_plan
from driver.core.allocator.requests import compile_claim
from driver.core.allocator.search import Outcome, Search
from driver.core.allocator.tracking import Ledger
from driver.model.published import Attribute, PublishedDevice, PublishedSlice
from driver.model.requests import Constraint
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import CLASSES, DRIVER, NODE, ask, make_claim, make_slice

PLACEMENTS = {1: range(7), 2: (0, 2, 4), 3: (0, 4), 4: (0,)}
"""Where partitions of so many slices may begin on a GPU with eight; one of three takes four."""


def partition(gpu: int, size: int, start: int) -> PublishedDevice:
    width = 4 if size == 3 else size
    places = {f"slice-{start + place}": Counter(value="1") for place in range(width)}
    counters = {**places, "multiprocessors": Counter(value=str(size))}
    return PublishedDevice(
        name=f"gpu-{gpu}-{size}-{start}",
        attributes={"size": Attribute(int_=size)},
        consumes_counters=(CounterConsumption(counter_set=f"gpu-{gpu}", counters=counters),),
    )


def node_of(gpus: int) -> list[PublishedSlice]:
    pool = Pool(name="pool", resource_slice_count=gpus + 1)
    slices = [
        make_slice(
            [partition(gpu, size, start) for size, starts in PLACEMENTS.items() for start in starts],
            name=f"gpu-{gpu}",
            pool=pool,
        )
        for gpu in range(gpus)
    ]
    whole = {**{f"slice-{place}": Counter(value="1") for place in range(8)}, "multiprocessors": Counter(value="7")}
    sets = [CounterSet(name=f"gpu-{gpu}", counters=whole) for gpu in range(gpus)]
    return [*slices, make_slice((), name="counters", pool=pool, counters=sets)]


def claim_of(sizes: Sequence[int], *constraints: Constraint) -> Claim:
    wanted = [
        ask(f"r{index}", selectors=[f'device.attributes["{DRIVER}"].size == {size}'])
        for index, size in enumerate(sizes)
    ]
    return make_claim("claim", *wanted, constraints=constraints)


def plan_of(slices: Sequence[PublishedSlice], claim: Claim) -> tuple[Plan, Ledger]:
    snapshot = Snapshot(slices, CLASSES)
    pools = snapshot.pools.gather(NODE)
    plan = make_plan(pools, [compile_claim(claim, 0, CLASSES)], snapshot.usage, snapshot.evaluate)
    return plan, Ledger(pools, plan.claims, snapshot.usage, with_lists=False)


def packing_of(slices: Sequence[PublishedSlice], claim: Claim) -> Packing:
    found = find(*plan_of(slices, claim))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sizes", "fits"),
    [
        ([1] * 7, True),
        ([1] * 8, False),
        ([3, 3], True),
        ([3, 3, 1], False),
        ([3, 1, 1, 1, 1], True),
        ([4, 3], True),
        ([4, 4], False),
        ([2, 2, 2, 1], True),
        ([2, 2, 2, 2], False),
        ([], True),
    ],
)
def test_one_gpu(sizes: list[int], fits: bool) -> None:
    if sizes:
        assert packing_of(node_of(1), claim_of(sizes)).fits(0) is fits
    outcome = allocate(Snapshot(node_of(1), CLASSES), NODE, [claim_of(sizes)])
    assert isinstance(outcome, Allocated) is fits


@pytest.mark.parametrize("seed", range(6))
def test_nearly_full_nodes_are_decided_in_a_few_steps(seed: int) -> None:
    chance = random.Random(seed)
    sizes: list[int] = []
    while sum(sizes) < 26:
        sizes.append(chance.choice([1, 1, 2, 3, 4]))
    outcome = allocate(Snapshot(node_of(4), CLASSES), NODE, [claim_of(sizes)])
    assert outcome.steps <= 500
    assert isinstance(outcome, Allocated) or outcome.is_proven


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_it_says_what_the_search_finds(sizes: list[int]) -> None:
    plan, ledger = plan_of(node_of(2), claim_of(sizes))
    packing = find(plan, ledger)
    assert packing is not None
    said = packing.fits(0)
    assert said is (Search(plan, ledger, FIRST_FIT).run(1_000_000) is Outcome.FOUND)


def test_a_constraint_makes_it_a_bound_only() -> None:
    same = Constraint(match_attribute=f"{DRIVER}/size")
    claim = claim_of([1, 2], same)
    assert packing_of(node_of(1), claim).fits(0), "the constraint is left out"
    assert isinstance(allocate(Snapshot(node_of(1), CLASSES), NODE, [claim]), Unsatisfiable)


def test_requests_that_other_devices_can_serve_are_left_out() -> None:
    plain = make_slice(
        [PublishedDevice(name="whole", attributes={"size": Attribute(int_=4)})],
        name="x",
        pool=Pool(name="other", resource_slice_count=1),
    )
    assert find(*plan_of([plain], claim_of([4]))) is None
    assert packing_of([*node_of(1), plain], claim_of([4, 4, 1])).fits(0), "only the last request counts"
