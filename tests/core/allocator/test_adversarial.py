"""Claims that cannot be had, or only just, do not cost more than a glance: steps are counted, not seconds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from driver.core.allocator import Allocated, Snapshot, Unsatisfiable, allocate
from driver.model.published import Attribute, PublishedDevice
from driver.model.requests import Constraint, Request
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool
from tests.fakes.clusters import CLASSES, DRIVER, NODE, ask, make_claim, make_slice, want

FEW = 2_000
"""Steps that take a fraction of a second."""


def gpu(name: str, **attributes: int) -> PublishedDevice:
    return PublishedDevice(
        name=name,
        attributes={
            "type": Attribute(string="gpu"),
            **{key: Attribute(int_=value) for key, value in attributes.items()},
        },
    )


def partition(name: str, counter_set: str, **takes: int) -> PublishedDevice:
    counters = {key: Counter(value=str(value)) for key, value in takes.items()}
    return PublishedDevice(
        name=name,
        attributes={
            "type": Attribute(string="partition"),
            **{key: Attribute(int_=each) for key, each in takes.items()},
        },
        consumes_counters=(CounterConsumption(counter_set=counter_set, counters=counters),),
    )


def node_of(devices: Sequence[PublishedDevice], counters: Sequence[CounterSet] = ()) -> Snapshot:
    pool = Pool(name="pool", generation=1, resource_slice_count=1 + bool(counters))
    slices = [make_slice(devices, pool=pool)]
    if counters:
        slices.append(make_slice((), name="counters", pool=pool, counters=counters))
    return Snapshot(slices, CLASSES)


def match(attribute: str, *requests: str) -> Constraint:
    return Constraint(requests=requests, match_attribute=f"{DRIVER}/{attribute}")


def distinct(attribute: str, *requests: str) -> Constraint:
    return Constraint(requests=requests, distinct_attribute=f"{DRIVER}/{attribute}")


def refuse(snapshot: Snapshot, *requests: Request, constraints: Sequence[Constraint] = ()) -> None:
    outcome = allocate(snapshot, NODE, [make_claim("claim", *requests, constraints=constraints)])
    assert isinstance(outcome, Unsatisfiable)
    assert outcome.steps <= FEW


def different(index: int) -> str:
    """A selector that every device matches, and no two requests share."""
    return f'device.attributes["{DRIVER}"].type != "{index}"'


def test_sixteen_requests_that_must_match_in_groups_of_fifteen() -> None:
    snapshot = node_of([gpu(f"gpu-{index}", domain=index // 15) for index in range(64)])
    refuse(snapshot, *(ask(f"r{index}") for index in range(16)), constraints=[match("domain")])


def test_the_same_with_requests_of_which_no_two_are_alike() -> None:
    snapshot = node_of([gpu(f"gpu-{index}", domain=index // 15) for index in range(64)])
    wanted = [ask(f"r{index}", selectors=[different(index)]) for index in range(16)]
    refuse(snapshot, *wanted, constraints=[match("domain")])


def test_one_request_for_sixteen_that_must_match_in_groups_of_fifteen() -> None:
    snapshot = node_of([gpu(f"gpu-{index}", domain=index % 4) for index in range(60)])
    refuse(snapshot, ask("r", count=16), constraints=[match("domain")])


def test_two_constraints_of_which_each_alone_can_be_kept() -> None:
    snapshot = node_of([gpu(f"gpu-{index}", domain=index % 4, numa=index // 16) for index in range(64)])
    refuse(snapshot, *(ask(f"r{index}") for index in range(8)), constraints=[match("domain"), match("numa")])


def test_distinct_values_of_which_there_are_too_few() -> None:
    snapshot = node_of([gpu(f"gpu-{index}", rack=index % 15) for index in range(64)])
    refuse(snapshot, *(ask(f"r{index}") for index in range(16)), constraints=[distinct("rack")])


def test_distinct_values_that_are_enough_but_not_for_each_request() -> None:
    devices = [gpu(f"gpu-{index}", rack=index % 16) for index in range(64)]
    few = f'device.attributes["{DRIVER}"].rack < 7'
    wanted = [ask(f"r{index}", selectors=[few]) for index in range(8)] + [ask(f"s{index}") for index in range(8)]
    refuse(node_of(devices), *wanted, constraints=[distinct("rack")])


def test_a_pair_that_cannot_match_behind_many_that_can() -> None:
    """The fourteen requests before have no part in it, so none of them is tried again."""
    devices = [gpu(f"gpu-{index}", domain=index) for index in range(64)]
    wanted = [ask(f"r{index}", selectors=[different(index)]) for index in range(16)]
    refuse(node_of(devices), *wanted, constraints=[match("domain", "r14", "r15")])


def test_counters_that_just_miss() -> None:
    """Eight sets with seven slices each: three do not fit three times into seven."""
    sets = [CounterSet(name=f"set-{index}", counters={"slices": Counter(value="7")}) for index in range(8)]
    devices = [partition(f"p-{index}-{place}", f"set-{index}", slices=3) for index in range(8) for place in range(4)]
    refuse(node_of(devices, sets), ask("r", count=17))
    refuse(node_of(devices, sets), *(ask(f"r{index}") for index in range(17)))


def test_counters_that_just_miss_in_the_sum_of_different_sizes() -> None:
    sets = [CounterSet(name=f"set-{index}", counters={"slices": Counter(value="7")}) for index in range(8)]
    devices = [
        partition(f"p-{index}-{size}-{place}", f"set-{index}", slices=size)
        for index in range(8)
        for size in (1, 3, 4)
        for place in range(2)
    ]
    sizes = [f'device.attributes["{DRIVER}"].slices == {size}' for size in (4, 3, 1)]
    wanted = [
        ask(f"r{index}-{size}", selectors=[size_is]) for index in range(8) for size, size_is in enumerate(sizes[:2])
    ]
    refuse(node_of(devices, sets), *wanted, ask("one", selectors=[sizes[2]]))


def test_counters_that_are_just_enough() -> None:
    sets = [CounterSet(name=f"set-{index}", counters={"slices": Counter(value="7")}) for index in range(8)]
    devices = [partition(f"p-{index}-{size}", f"set-{index}", slices=size) for index in range(8) for size in (1, 3, 4)]
    sizes = [f'device.attributes["{DRIVER}"].slices == {size}' for size in (4, 3)]
    wanted = [ask(f"r{index}-{size}", selectors=[size_is]) for index in range(8) for size, size_is in enumerate(sizes)]
    outcome = allocate(node_of(devices, sets), NODE, [make_claim("claim", *wanted)])
    assert isinstance(outcome, Allocated)
    assert outcome.steps <= FEW


@pytest.mark.parametrize("lists", [2, 4, 8])
def test_lists_of_eight_alternatives_that_all_want_what_is_not_there_together(lists: int) -> None:
    devices = [gpu(f"gpu-{index}", domain=index % 2) for index in range(2 * lists - 1)]
    subs = [
        Request(
            name=f"r{number}",
            first_available=tuple(want(f"s{index}", count=2, selectors=[different(index)]) for index in range(8)),
        )
        for number in range(lists)
    ]
    refuse(node_of(devices), *subs)


def test_lists_of_eight_alternatives_under_a_constraint_that_none_can_keep() -> None:
    devices = [gpu(f"gpu-{index}", domain=index) for index in range(16)]
    subs = [
        Request(
            name=f"r{number}",
            first_available=tuple(want(f"s{index}", selectors=[different(index)]) for index in range(8)),
        )
        for number in range(8)
    ]
    refuse(node_of(devices), *subs, constraints=[match("domain")])


def test_twenty_claims_for_nineteen_devices() -> None:
    snapshot = node_of([gpu(f"gpu-{index}") for index in range(19)])
    claims = [make_claim(f"claim-{index}", ask("r", selectors=[different(index)])) for index in range(20)]
    outcome = allocate(snapshot, NODE, claims)
    assert isinstance(outcome, Unsatisfiable)
    assert outcome.steps <= FEW


def test_equal_claims_for_groups_that_are_too_small() -> None:
    """Each of ten claims wants a pair of one domain; 21 devices in three domains of seven make nine pairs."""
    snapshot = node_of([gpu(f"gpu-{index}", domain=index // 7) for index in range(21)])
    claims = [make_claim(f"claim-{index}", ask("r", count=2), constraints=[match("domain")]) for index in range(10)]
    outcome = allocate(snapshot, NODE, claims)
    assert isinstance(outcome, Unsatisfiable)
    assert outcome.steps <= FEW


def test_a_search_is_as_deep_as_its_claims_ask_for() -> None:
    snapshot = node_of([gpu(f"gpu-{index}") for index in range(128)])
    claims = [make_claim(f"claim-{index}", *(ask(f"r{number}") for number in range(32))) for index in range(4)]
    outcome = allocate(snapshot, NODE, claims)
    assert isinstance(outcome, Allocated)
    assert outcome.steps == 128


def test_a_broken_selector_is_met_even_where_the_search_has_no_end() -> None:
    snapshot = node_of([gpu(f"gpu-{index}", domain=index // 15) for index in range(64)])
    wanted = [ask(f"r{index}", selectors=[different(index)]) for index in range(15)]
    broken = ask("broken", selectors=[f'device.attributes["{DRIVER}"].nothing == 1'])
    outcome = allocate(node_of([gpu("gpu-0")]), NODE, [make_claim("none")])
    assert isinstance(outcome, Allocated)
    with pytest.raises(Exception, match="selector #0"):
        allocate(snapshot, NODE, [make_claim("claim", *wanted, broken, constraints=[match("domain")])])
