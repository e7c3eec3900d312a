"""The search finds what upstream finds, and says in one sentence why there is nothing to find."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from driver.model.slices import Device, DeviceAttribute, DeviceTaint
from driver.simulation.resources import Claim, Constraint, DeviceClass, DeviceRequest, Request, Slice, Toleration
from driver.simulation.scheduler import search
from driver.simulation.scheduler.search import Answer, World
from driver.simulation.scheduler.selecting import SchedulingError
from tests.fakes.cluster_objects import DRIVER, claim, device, device_class, node, slice_, wanted

BIG = f'device.capacity["{DRIVER}"].memory.isGreaterThan(quantity("60Gi"))'
LINK = f"{DRIVER}/link"


def _allocate(
    claims: Claim | Sequence[Claim],
    *slices: Slice,
    taken: Sequence[str] = (),
    classes: Sequence[DeviceClass] = (),
) -> Answer:
    known = {each.metadata.name: each for each in classes or (device_class(),)}
    world = World(slices, known, frozenset((DRIVER, "node-1", name) for name in taken))
    return search.allocate([claims] if isinstance(claims, Claim) else claims, node(), world)


def _names(answer: Answer) -> list[str]:
    return [each.candidate.device.name for each in answer.taken]


def _gpus(count: int) -> list[Device]:
    return [device(f"gpu-{index}") for index in range(count)]


def test_devices_are_taken_in_the_order_of_pools_slices_and_lists() -> None:
    slices = [
        slice_(device("d"), name="b", pool="z", count=2),
        slice_(device("c"), device("a"), name="a", pool="z", count=2),
        slice_(device("e"), name="c", pool="y"),
    ]
    assert _names(_allocate(claim(wanted(count=4)), *slices)) == ["e", "c", "a", "d"]


def test_devices_in_use_are_skipped_and_nothing_is_taken_twice() -> None:
    answer = _allocate([claim(wanted(), wanted()), claim(wanted(), name="d")], slice_(*_gpus(4)), taken=["gpu-1"])
    assert _names(answer) == ["gpu-0", "gpu-2", "gpu-3"]


def test_all_selectors_of_class_and_request_must_hold() -> None:
    devices = [device("small", "40Gi", kind="gpu"), device("nic", kind="nic"), device("big", kind="gpu")]
    classes = [device_class("gpu", f'device.attributes["{DRIVER}"].kind == "gpu"')]
    assert _names(_allocate(claim(wanted(BIG)), slice_(*devices), classes=classes)) == ["big"]


def test_an_earlier_request_gives_way_to_a_later_one() -> None:
    small, big = device("big"), device("small", "40Gi")
    answer = _allocate(claim(wanted(), wanted(BIG)), slice_(small, big))
    assert _names(answer) == ["small", "big"]


def test_linked_devices_are_found_behind_unlinked_ones() -> None:
    devices = [device("a", link="x"), device("b", link="y"), device("c"), device("d", link="y"), device("e", link="x")]
    constraint = Constraint(match_attribute=LINK)
    assert _names(_allocate(claim(wanted(count=2), constraints=[constraint]), slice_(*devices))) == ["a", "e"]
    answer = _allocate(claim(wanted(count=2), constraints=[constraint]), slice_(*devices), taken=["a"])
    assert _names(answer) == ["b", "d"]


def test_a_constraint_may_concern_some_requests_only() -> None:
    devices = [device("a", link="x"), device("b", link="y"), device("c", link="x")]
    constraint = Constraint(requests=("r0", "r2"), match_attribute=LINK)
    assert _names(_allocate(claim(wanted(), wanted(), wanted(), constraints=[constraint]), slice_(*devices))) == [
        "a",
        "b",
        "c",
    ]


def test_types_and_values_must_both_match() -> None:
    devices = [device("a", link="1"), device("b", link=1), device("c", link=1)]
    constraint = Constraint(match_attribute=LINK)
    assert _names(_allocate(claim(wanted(count=2), constraints=[constraint]), slice_(*devices))) == ["b", "c"]


def test_distinct_values() -> None:
    devices = [device("a", link="x"), device("b", link="x"), device("c", link="y"), device("d")]
    constraint = Constraint(distinct_attribute=LINK)
    assert _names(_allocate(claim(wanted(count=2), constraints=[constraint]), slice_(*devices))) == ["a", "c"]
    answer = _allocate(claim(wanted(count=3), constraints=[constraint]), slice_(*devices))
    assert "no 3 of the 4 usable ones satisfy distinctAttribute" in answer.reason


def _first_available(*subs: DeviceRequest) -> Request:
    return Request(name="r", first_available=subs)


def test_the_first_alternative_that_fits_is_taken_and_scored() -> None:
    subs = _first_available(wanted(BIG, name="big"), wanted(name="any"))
    big = _allocate(claim(subs), slice_(device("gpu-0")))
    small = _allocate(claim(subs), slice_(device("gpu-0", "40Gi")))
    assert [each.taken[0].request.name for each in (big, small)] == ["r/big", "r/any"]
    assert big.score > small.score > 0


def test_an_alternative_gives_way_to_what_comes_after_it() -> None:
    subs = _first_available(wanted(name="any"), wanted(BIG, name="big"))
    answer = _allocate(claim(subs, wanted('device.driver == "none"')), slice_(*_gpus(2)))
    assert not answer.taken
    answer = _allocate(
        claim(_first_available(wanted(BIG, name="big"), wanted(name="any")), wanted(BIG)),
        slice_(device("big"), device("small", "1Gi")),
    )
    assert [(each.request.name, each.candidate.device.name) for each in answer.taken] == [
        ("r/any", "small"),
        ("r1", "big"),
    ]


def test_all_takes_every_device_that_matches_or_nothing() -> None:
    every = claim(wanted(BIG, mode="All"))
    devices = [device("a"), device("b", "1Gi"), device("c")]
    assert _names(_allocate(every, slice_(*devices))) == ["a", "c"]
    assert not _allocate(every, slice_(*devices), taken=["c"]).taken
    assert not _allocate(every, slice_(device("b", "1Gi"))).taken


def test_admin_access_looks_at_devices_in_use_and_takes_none_away() -> None:
    answer = _allocate(
        [claim(wanted(mode="All", admin=True)), claim(wanted(), name="d")], slice_(*_gpus(2)), taken=["gpu-0"]
    )
    assert not answer.taken, "within one call the device is spoken for"
    answer = _allocate(claim(wanted(mode="All", admin=True)), slice_(*_gpus(2)), taken=["gpu-0"])
    assert _names(answer) == ["gpu-0", "gpu-1"]


@pytest.mark.parametrize(
    ("toleration", "is_taken"),
    [
        (None, False),
        (Toleration(key="k", operator="Exists"), True),
        (Toleration(operator="Exists"), True),
        (Toleration(key="k", value="v", effect="NoSchedule"), True),
        (Toleration(key="k", value="other"), False),
        (Toleration(key="other", operator="Exists"), False),
        (Toleration(key="k", operator="Exists", effect="NoExecute"), False),
        (Toleration(key="k", operator="Like", value="v"), False),
    ],
)
def test_taints_keep_devices_from_those_who_do_not_tolerate_them(toleration: Toleration | None, is_taken: bool) -> None:
    taint = DeviceTaint(key="k", value="v", effect="NoSchedule")
    request = DeviceRequest(device_class_name="gpu", tolerations=(toleration,) if toleration else ())
    answer = _allocate(claim(request), slice_(device("gpu-0", taints=[taint])))
    assert bool(answer.taken) is is_taken
    if not is_taken:
        assert answer.reason.endswith("1 match its selectors, 1 are tainted")


def test_a_taint_without_effect_hinders_nobody() -> None:
    taint = DeviceTaint(key="accel-dra.dev/degraded", effect="None")
    assert _allocate(claim(wanted()), slice_(device("gpu-0", taints=[taint]))).taken


def test_counters_limit_partitions_of_one_device() -> None:
    parts = [device(f"part-{index}", counters={"memory": 40}) for index in range(3)]
    counters = slice_(name="counters", counters={"memory": 80}, count=2)
    assert len(_allocate(claim(wanted(count=2)), slice_(*parts, count=2), counters).taken) == 2
    assert not _allocate(claim(wanted(count=3)), slice_(*parts, count=2), counters).taken
    assert not _allocate(claim(wanted(count=2)), slice_(*parts, count=2), counters, taken=["part-0"]).taken


def test_counters_come_back_when_a_device_is_given_back() -> None:
    parts = [
        device("whole", counters={"memory": 80}),
        device("a", counters={"memory": 40}),
        device("b", counters={"memory": 40}),
    ]
    counters = slice_(name="counters", counters={"memory": 80}, count=2)
    assert _names(_allocate(claim(wanted(count=2)), slice_(*parts, count=2), counters)) == ["a", "b"]


@pytest.mark.parametrize(
    "slices",
    [
        [slice_(*_gpus(1), count=2)],
        [slice_(*_gpus(1)), slice_(*_gpus(1), name="t", generation=2, count=2)],
        [slice_(device("x"), device("x"))],
        [slice_(device("x", counters={"memory": 1}))],
        [slice_(*_gpus(1), node="node-2")],
    ],
    ids=["incomplete", "newer generation incomplete", "duplicate", "unknown counter", "other node"],
)
def test_devices_of_pools_that_cannot_be_used_do_not_exist(slices: list[Slice]) -> None:
    assert "needs 1 of 0 devices" in _allocate(claim(wanted()), *slices).reason


def test_only_the_newest_generation_counts() -> None:
    slices = [slice_(device("old"), name="a"), slice_(device("new"), name="b", generation=2)]
    assert _names(_allocate(claim(wanted()), *slices)) == ["new"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (claim(wanted(class_="none")), "device class none does not exist"),
        (claim(wanted(mode="Some")), "unsupported count mode Some"),
        (claim(wanted("")), "CEL expression empty"),
        (claim(wanted("device.nope")), "CEL compile error"),
        (claim(wanted(f'device.attributes["{DRIVER}"].nope == 1')), "CEL runtime error: no such key: nope"),
        (claim(wanted("device.driver")), "could not be converted to bool"),
        (claim(wanted(count=33)), "number of requested devices 33 exceeds the claim limit of 32"),
        (claim(wanted(), constraints=[Constraint()]), "constraint #0: empty constraint"),
        (
            claim(wanted(count=2, mode="All"), constraints=[Constraint(match_attribute=LINK)]),
            "claim constraint would not be satisfied",
        ),
    ],
)
def test_what_is_wrong_with_a_claim_stops_the_pod(broken: Claim, reason: str) -> None:
    with pytest.raises(SchedulingError, match=reason):
        _allocate(broken, slice_(*_gpus(2)))


def test_all_devices_of_an_incomplete_pool_cannot_be_had() -> None:
    with pytest.raises(SchedulingError, match=r"asks for all devices, but resource pool .* currently being updated"):
        _allocate(claim(wanted(mode="All")), slice_(*_gpus(1), count=2))


def test_a_published_attribute_without_value_stops_the_pod_only_if_somebody_looks() -> None:
    broken = Device(name="gpu-0", attributes={f"{DRIVER}/bad": DeviceAttribute()})
    assert _allocate(claim(wanted()), slice_(broken)).taken
    with pytest.raises(SchedulingError, match=r"attribute gpu.example.com/bad: unsupported attribute value"):
        _allocate(claim(wanted("true")), slice_(broken))


def test_claims_without_requests_need_nothing() -> None:
    answer = _allocate([claim()], slice_())
    assert (answer.taken, answer.reason) == ((), "")


@pytest.mark.parametrize(
    ("wanted_claim", "taken", "reason"),
    [
        (claim(wanted(count=3)), [], "request r0 needs 3 of 2 devices, 2 match its selectors"),
        (
            claim(wanted(count=2)),
            ["gpu-0"],
            "request r0 needs 2 of 2 devices, 2 match its selectors, 1 of them are allocated",
        ),
        (
            claim(wanted(BIG), wanted('device.driver == "x"')),
            [],
            "request r1 needs 1 of 2 devices, 0 match its selectors",
        ),
        (
            claim(wanted(count=2), constraints=[Constraint(match_attribute=LINK)]),
            [],
            f"no 2 of the 2 usable ones satisfy matchAttribute {LINK}",
        ),
        (
            claim(_first_available(wanted("false", name="a"), wanted("false", name="b"))),
            [],
            "request r/a needs 1 of 2 devices, 0 match its selectors, or request r/b",
        ),
    ],
)
def test_reasons(wanted_claim: Claim, taken: list[str], reason: str) -> None:
    assert reason in _allocate(wanted_claim, slice_(*_gpus(2)), taken=taken).reason
