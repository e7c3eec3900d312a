"""What a shared device publishes is accepted and means what it says; what a share consumes becomes its limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypedDict, Unpack

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import inventory, limits, shares, specification
from driver.core.allocator.capacities import compile_capacity, take
from driver.model import quantities, vocabulary
from driver.model.claims import AllocationResult
from driver.model.errors import InvalidInput
from driver.model.prepared import ContainerEdits, Preparation, PreparedDevice
from driver.model.published import Capacity
from driver.model.sharing import Interval, Sharing, Strategy
from driver.model.slices import CapacityPolicy, Device, DeviceAttribute, DeviceCapacity
from tests.fakes.hardware import GIBIBYTE, Changes, accelerator, partition, snapshot

MEBIBYTE: Final = 2**20
MPS_LIMITS: Final = Sharing(Strategy.MPS, active_thread_percentage=25, pinned_memory_bytes=20 * GIBIBYTE)


def whole(**facts: Unpack[Changes]) -> Device:
    (entry,) = inventory.build(snapshot(accelerator(**facts))).entries
    return entry.device


def shared(strategy: Strategy = Strategy.MPS, **facts: Unpack[Changes]) -> Device:
    return shares.offer_shares(whole(**facts), strategy)


def consume(device: Device, **asked: str) -> dict[str, str]:
    """Return what Kubernetes makes of a request for these capacities."""
    published = [
        compile_capacity(name, Capacity(value=each.value, request_policy=each.request_policy))
        for name, each in device.capacity.items()
    ]
    names = {f"{vocabulary.DOMAIN}/{name}": quantities.parse(text) for name, text in asked.items()}
    taken = take(published, names)
    assert taken is not None
    return {name: quantities.canonical(amount) for name, amount in taken.items()}


def give(device: Device, share_id: str | None = "share-1", **asked: str) -> AllocationResult:
    return AllocationResult(
        request="gpu",
        driver="d",
        pool="p",
        device=device.name,
        share_id=share_id,
        consumed_capacity=consume(device, **asked) if share_id else {},
    )


def test_a_shared_device_says_so_and_shares_out_memory_and_compute() -> None:
    device = shared(memory_bytes=80 * GIBIBYTE, multiprocessors=132)
    assert device.allow_multiple_allocations
    assert device.attributes[vocabulary.SHARING] == DeviceAttribute(string="MPS")
    assert msgspec.to_builtins(device.capacity) == {
        "accel-dra.dev/memory": {
            "value": "80Gi",
            "requestPolicy": {"default": "80Gi", "validRange": {"min": "64Mi", "step": "1Mi"}},
        },
        "accel-dra.dev/multiprocessors": {"value": "132", "requestPolicy": {"default": "0"}},
        "accel-dra.dev/share": {
            "value": "100",
            "requestPolicy": {"default": "100", "validRange": {"min": "1", "step": "1"}},
        },
    }


@pytest.mark.parametrize("strategy", [None, Strategy.MPS])
@pytest.mark.parametrize("kind", ["vfio", "nic"])
def test_only_devices_for_processes_are_shared_and_only_if_asked(strategy: Strategy | None, kind: str) -> None:
    assert shares.offer_shares(whole(), None) == whole()
    passed_on = msgspec.structs.replace(
        whole(), attributes={**whole().attributes, vocabulary.TYPE: DeviceAttribute(string=kind)}
    )
    assert shares.offer_shares(passed_on, strategy) == passed_on


def test_the_setting_names_a_strategy() -> None:
    assert shares.read_strategy("off") is None
    assert shares.read_strategy("MPS") is Strategy.MPS
    assert shares.read_strategy("TimeSlicing") is Strategy.TIME_SLICING


@given(st.one_of(st.none(), st.integers(1, 2**41), st.integers(0, 2**20).map(lambda count: count * MEBIBYTE)))
def test_whatever_the_size_it_is_accepted_by_the_api_and_follows_the_specification(memory: int | None) -> None:
    device = shared(memory_bytes=memory)
    assert limits.find_device_faults(device, {}) == ()
    assert specification.check(device) == ()


def test_partitions_are_shared_too_and_keep_their_engines_for_all() -> None:
    parent = accelerator(partitioned=True, partitions=(partition("1g.10gb", 3),))
    (entry,) = inventory.build(snapshot(parent)).entries
    device = shares.offer_shares(entry.device, Strategy.MPS)
    assert device.allow_multiple_allocations
    assert specification.check(device) == ()
    consumed = consume(device, memory="1Gi", share="10")
    assert consumed["accel-dra.dev/decoders"] == "0"


@pytest.mark.parametrize(
    ("asked", "memory", "share"),
    [
        ({}, "80Gi", "100"),
        ({"memory": "20Gi"}, "20Gi", "100"),
        ({"memory": "20Gi", "share": "25"}, "20Gi", "25"),
        ({"memory": "1", "share": "500m"}, "64Mi", "1"),
        ({"memory": "65000001", "share": "1500m"}, "64Mi", "2"),
        ({"memory": "20Gi", "share": "25", "multiprocessors": "10"}, "20Gi", "25"),
    ],
)
def test_what_is_asked_for_is_consumed_in_whole_steps_and_the_rest_as_a_whole(
    asked: dict[str, str], memory: str, share: str
) -> None:
    consumed = consume(shared(memory_bytes=80 * GIBIBYTE), **asked)
    assert quantities.parse(consumed["accel-dra.dev/memory"]) == quantities.parse(memory)
    assert consumed["accel-dra.dev/share"] == share


def test_memory_that_is_no_whole_number_of_steps_is_given_as_a_whole_and_leaves_no_room() -> None:
    device = shared(memory_bytes=80 * GIBIBYTE + 12345)
    consumed = consume(device)
    assert consumed["accel-dra.dev/memory"] == "80Gi"
    assert not shares.leaves_room(device, consumed)
    assert shares.leaves_room(device, consume(device, memory="79Gi", share="99"))


def test_words_of_the_vendor_make_room_the_last_first() -> None:
    extra: dict[str, str | int | bool] = {f"acme.example/word{index:02d}": index for index in range(30)}
    device = shared(extra=extra)
    assert specification.check(device) == ()
    kept = [name for name in device.attributes if name.startswith("acme.example/")]
    assert kept == sorted(extra)[: len(kept)]
    assert len(device.attributes) + len(device.capacity) == vocabulary.ENTRIES_PER_DEVICE - 1
    assert kept


def test_a_device_withdrawn_from_sharing_is_as_if_it_had_never_been_shared() -> None:
    assert shares.withdraw(shared()) == whole()
    assert shares.withdraw(whole()) == whole()


@pytest.mark.parametrize(
    ("asked", "percentage", "memory"),
    [
        ({"memory": "20Gi", "share": "25"}, 25, 20 * GIBIBYTE),
        ({"memory": "64Mi", "share": "1"}, 1, 64 * MEBIBYTE),
        ({"memory": "79Gi", "share": "99"}, 99, 79 * GIBIBYTE),
    ],
)
def test_what_a_share_consumes_becomes_its_limits(asked: dict[str, str], percentage: int, memory: int) -> None:
    device = shared(memory_bytes=80 * GIBIBYTE)
    sharing = shares.decide_sharing(device, give(device, **asked), None)
    assert sharing == Sharing(Strategy.MPS, active_thread_percentage=percentage, pinned_memory_bytes=memory)


@pytest.mark.parametrize("asked", [{}, {"memory": "20Gi"}, {"share": "50"}, {"memory": "20Gi", "share": "100"}])
@pytest.mark.parametrize(
    "configured", [None, Sharing(Strategy.TIME_SLICING, Interval.LONG), Sharing(Strategy.EXCLUSIVE), MPS_LIMITS]
)
def test_who_leaves_no_room_has_the_device_alone_and_as_configured(
    asked: dict[str, str], configured: Sharing | None
) -> None:
    device = shared(memory_bytes=80 * GIBIBYTE)
    assert shares.decide_sharing(device, give(device, **asked), configured) == configured


def test_a_device_that_is_no_share_is_shared_as_configured() -> None:
    device = whole()
    assert shares.decide_sharing(device, give(device, share_id=None), MPS_LIMITS) == MPS_LIMITS
    admin = msgspec.structs.replace(give(shared(), memory="1Gi", share="1"), admin_access=True)
    assert shares.decide_sharing(shared(), admin, None) is None


@pytest.mark.parametrize(
    ("configured", "percentage", "memory"),
    [
        (Sharing(Strategy.MPS), 25, 20 * GIBIBYTE),
        (Sharing(Strategy.MPS, active_thread_percentage=10), 10, 20 * GIBIBYTE),
        (Sharing(Strategy.MPS, active_thread_percentage=80), 25, 20 * GIBIBYTE),
        (Sharing(Strategy.MPS, pinned_memory_bytes=GIBIBYTE), 25, GIBIBYTE),
        (Sharing(Strategy.MPS, pinned_memory_bytes=50 * GIBIBYTE, active_thread_percentage=1), 1, 20 * GIBIBYTE),
    ],
)
def test_configuration_may_lower_the_limits_of_a_share_and_never_raise_them(
    configured: Sharing, percentage: int, memory: int
) -> None:
    device = shared(memory_bytes=80 * GIBIBYTE)
    sharing = shares.decide_sharing(device, give(device, memory="20Gi", share="25"), configured)
    assert sharing == Sharing(Strategy.MPS, active_thread_percentage=percentage, pinned_memory_bytes=memory)


@pytest.mark.parametrize(
    ("strategy", "configured", "fault"),
    [
        (Strategy.MPS, Sharing(Strategy.TIME_SLICING), "sharing.strategy: 'TimeSlicing' is not allowed; allowed: MPS"),
        (Strategy.MPS, Sharing(Strategy.EXCLUSIVE), "sharing.strategy: 'Exclusive' is not allowed; allowed: MPS"),
        (Strategy.TIME_SLICING, Sharing(Strategy.MPS), "sharing.strategy: 'MPS' is not allowed; allowed: TimeSlicing"),
        (
            Strategy.TIME_SLICING,
            Sharing(Strategy.TIME_SLICING, Interval.SHORT),
            "sharing.timeSlicing.interval: 'Short' is not allowed; allowed: none",
        ),
    ],
)
def test_configuration_that_others_on_the_device_would_notice_is_refused(
    strategy: Strategy, configured: Sharing, fault: str
) -> None:
    device = shared(strategy)
    with pytest.raises(InvalidInput) as refused:
        shares.decide_sharing(device, give(device, memory="1Gi", share="10"), configured)
    assert str(refused.value).startswith("request gpu: configuration for a share of gpu-0000-1a-00-0: ")
    assert fault in str(refused.value)


def test_time_slicing_limits_nothing_and_says_so() -> None:
    device = shared(Strategy.TIME_SLICING)
    for configured in (None, Sharing(Strategy.TIME_SLICING), Sharing(Strategy.TIME_SLICING, Interval.DEFAULT)):
        sharing = shares.decide_sharing(device, give(device, memory="1Gi", share="10"), configured)
        assert sharing == Sharing(Strategy.TIME_SLICING)
        assert sharing is not None
        assert not shares.is_enforced(sharing)
    assert shares.is_enforced(MPS_LIMITS)


def test_a_share_that_outlives_the_setting_is_served_without_limits() -> None:
    given = give(shared(), memory="1Gi", share="10")
    assert shares.decide_sharing(whole(), given, None) == Sharing(Strategy.TIME_SLICING)


@pytest.mark.parametrize(
    ("held", "wanted", "excess"),
    [
        ([], {}, ""),
        ([{}], {"memory": "1Gi", "share": "1"}, "memory 1Gi is wanted and 0 is left"),
        ([{"memory": "20Gi", "share": "25"}] * 3, {"memory": "20Gi", "share": "25"}, ""),
        (
            [{"memory": "20Gi", "share": "25"}] * 3,
            {"memory": "21Gi", "share": "25"},
            "memory 21Gi is wanted and 20Gi is left",
        ),
        ([{"memory": "1Gi", "share": "50"}], {"memory": "1Gi", "share": "51"}, "share 51 is wanted and 50 is left"),
        ([{"memory": "20Gi", "share": "25"}], {}, "memory 80Gi is wanted and 60Gi is left"),
    ],
)
def test_the_node_adds_up_shares_itself(held: list[dict[str, str]], wanted: dict[str, str], excess: str) -> None:
    device = shared(memory_bytes=80 * GIBIBYTE)
    others = [consume(device, **asked) for asked in held]
    assert shares.find_excess(device, others, consume(device, **wanted)) == excess


def test_a_held_share_of_which_nothing_is_known_is_not_counted() -> None:
    device = shared()
    assert shares.find_excess(device, [{}], consume(device, share="50", memory="1Gi")) == ""


@given(st.lists(st.tuples(st.integers(64, 40 * 1024), st.integers(1, 60)), min_size=1, max_size=5))
def test_limits_of_all_shares_that_fit_never_add_up_to_more_than_the_device(parts: list[tuple[int, int]]) -> None:
    device = shared(memory_bytes=80 * GIBIBYTE)
    held: list[Mapping[str, str]] = []
    given = [
        give(device, f"share-{index}", memory=f"{mib}Mi", share=str(part)) for index, (mib, part) in enumerate(parts)
    ]
    fitting: list[Sharing | None] = []
    for each in given:
        if not shares.find_excess(device, held, each.consumed_capacity):
            held.append(each.consumed_capacity)
            fitting.append(shares.decide_sharing(device, each, None))
    limited = [each for each in fitting if each is not None]
    assert sum(each.active_thread_percentage or 100 for each in limited) <= 100
    assert sum(each.pinned_memory_bytes or 80 * GIBIBYTE for each in limited) <= 80 * GIBIBYTE


def test_a_device_too_small_to_be_divided_is_given_as_a_whole() -> None:
    device = shared(memory_bytes=64 * MEBIBYTE)
    assert device.capacity[vocabulary.MEMORY] == DeviceCapacity(value="64Mi")
    assert not shares.leaves_room(device, consume(device, share="10"))


def test_a_device_whose_memory_is_not_known_shares_out_its_compute() -> None:
    device = shared(memory_bytes=None)
    assert vocabulary.MEMORY not in device.capacity
    sharing = shares.decide_sharing(device, give(device, share="30"), None)
    assert sharing == Sharing(Strategy.MPS, active_thread_percentage=30)


def test_engines_are_not_used_up_by_who_does_not_ask_for_them() -> None:
    assert shared(multiprocessors=132).capacity[vocabulary.MULTIPROCESSORS].request_policy == CapacityPolicy(
        default="0"
    )


def test_containers_are_told_whether_their_share_is_enforced_and_others_nothing() -> None:
    def hold(share_id: str | None, sharing: Sharing | None, *, shared: bool = True) -> PreparedDevice:
        return PreparedDevice(
            requests=("gpu",), pool="p", device="gpu", share_id=share_id, shared=shared, sharing=sharing
        )

    slices = Sharing(Strategy.TIME_SLICING)
    own = ContainerEdits(env=("A=1",))
    devices = [hold("s1", slices), hold("s2", MPS_LIMITS), hold("s3", slices, shared=False), hold(None, None)]
    told = shares.announce(Preparation(own, {"gpu-s1": own, "gpu-s3": own, "gpu": own}), devices)
    assert told.common == own
    assert {key: edits.env for key, edits in told.devices.items()} == {
        "gpu-s1": ("A=1", "ACCEL_DRA_SHARE_ENFORCED=false"),
        "gpu-s2": ("ACCEL_DRA_SHARE_ENFORCED=true",),
        "gpu-s3": ("A=1",),
        "gpu": ("A=1",),
    }
    assert shares.find_unenforced([*devices, hold("s4", slices)]) == ("gpu",)


def test_devices_of_which_shares_are_held_stay_shared_as_they_were() -> None:
    def hold(name: str, sharing: Sharing | None, **fields: Unpack[_Held]) -> PreparedDevice:
        return PreparedDevice(requests=("gpu",), pool="p", device=name, sharing=sharing, **fields)

    slices = Sharing(Strategy.TIME_SLICING)
    held = [
        hold("limited", MPS_LIMITS, share_id="s1", shared=True),
        hold("limited", None, share_id="s2"),
        hold("turns", slices, share_id="s1", shared=True),
        hold("alone", MPS_LIMITS, share_id="s1"),
        hold("watched", None, share_id="s1", admin_access=True),
        hold("unshared", MPS_LIMITS),
    ]
    mps, turns = Strategy.MPS, Strategy.TIME_SLICING
    assert shares.keep(held, mps) == {"limited": mps, "turns": turns, "alone": mps}
    assert shares.keep(held, None) == {"limited": mps, "turns": turns, "alone": turns}
    assert shares.keep(reversed(held), None) == shares.keep(held, None)
    offered = [shares.offer_shares(whole(), strategy) for strategy in (mps, None)]
    assert shares.is_kept(offered, mps) is False
    assert shares.is_kept(offered, turns)
    assert shares.is_kept(offered, None)


class _Held(TypedDict, total=False):
    share_id: str
    shared: bool
    admin_access: bool
