"""What a server drops is noticed, and no device is published that would be wrong without it."""

from __future__ import annotations

import msgspec
import pytest

from driver.core import adopting
from driver.core.adopting import PARTITIONS, SHARES, TAINTS, UNKNOWN, Memory
from driver.core.slicing import Identity
from driver.model.slices import (
    CapacityPolicy,
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
    Pool,
    ResourceSlice,
    SliceSpec,
)
from driver.model.vocabulary import MEMORY, SHARE, SHARING, TYPE
from tests.fakes.slice_store import SliceStore

PLAIN = Device(name="plain", attributes={"x": DeviceAttribute(int_=1)})
DRAW = CounterConsumption(counter_set="set", counters={"c": Counter(value="1")})
BROKEN = Device(name="broken", taints=(DeviceTaint(key="k", effect="NoSchedule"),))
EVICTED = Device(name="evicted", taints=(DeviceTaint(key="k", effect="NoExecute"),))
DEGRADED = Device(name="degraded", taints=(DeviceTaint(key="k", effect="None"),))
PART = Device(name="part", attributes={TYPE: DeviceAttribute(string="partition")}, consumes_counters=(DRAW,))
WHOLE = Device(name="set", attributes={TYPE: DeviceAttribute(string="gpu")}, consumes_counters=(DRAW,))
GUEST = Device(name="guest", attributes={TYPE: DeviceAttribute(string="vfio")}, consumes_counters=(DRAW,))
SHARED = Device(
    name="shared",
    attributes={SHARING: DeviceAttribute(string="MPS")},
    capacity={
        MEMORY: DeviceCapacity(value="80Gi", request_policy=CapacityPolicy(default="80Gi")),
        SHARE: DeviceCapacity(value="100", request_policy=CapacityPolicy(default="100")),
    },
    allow_multiple_allocations=True,
)
ALONE = Device(name="shared", capacity={MEMORY: DeviceCapacity(value="80Gi")})
SETS = (CounterSet(name="set", counters={"c": Counter(value="8")}),)
IDENTITY = Identity("d.example.com", "n", "u", "n", {})


def spec(*devices: Device, counters: tuple[CounterSet, ...] = ()) -> SliceSpec:
    return SliceSpec(driver="d", pool=Pool(name="p"), devices=devices, shared_counters=counters)


def strip(device: Device, **fields: object) -> Device:
    return msgspec.structs.replace(device, **fields)


def test_what_was_stored_as_sent_teaches_nothing() -> None:
    timed = strip(BROKEN, taints=(DeviceTaint(key="k", effect="NoSchedule", time_added="2026-01-01T00:00:00Z"),))
    memory, loss = adopting.learn(Memory(), spec(PLAIN, BROKEN), spec(PLAIN, timed))
    assert (memory, loss) == (Memory(), None)


@pytest.mark.parametrize(
    ("sent", "stored", "fields", "features"),
    [
        (spec(BROKEN), spec(strip(BROKEN, taints=())), ("devices[broken].taints",), (TAINTS,)),
        (spec(DEGRADED), spec(strip(DEGRADED, taints=())), ("devices[degraded].taints",), (TAINTS,)),
        (spec(PART), spec(strip(PART, consumes_counters=())), ("devices[part].consumesCounters",), (PARTITIONS,)),
        (spec(counters=SETS), spec(), ("sharedCounters",), (PARTITIONS,)),
        (
            spec(BROKEN, PART),
            spec(strip(BROKEN, taints=()), strip(PART, consumes_counters=())),
            ("devices[broken].taints", "devices[part].consumesCounters"),
            (TAINTS, PARTITIONS),
        ),
        (spec(PLAIN), spec(strip(PLAIN, attributes={})), ("devices[plain].attributes",), (UNKNOWN,)),
        (spec(PLAIN), spec(), ("devices[plain].name",), (UNKNOWN,)),
    ],
)
def test_a_loss_names_fields_and_features(
    sent: SliceSpec, stored: SliceSpec, fields: tuple[str, ...], features: tuple[str, ...]
) -> None:
    memory, loss = adopting.learn(Memory(), sent, stored)
    assert loss is not None
    assert loss.fields == fields
    assert set(loss.features) == set(features)
    assert memory.missing == set(features) - {UNKNOWN}


def test_devices_that_would_be_unsafe_are_left_out_and_the_others_stay() -> None:
    memory = Memory(missing=frozenset({TAINTS, PARTITIONS}))
    offer = adopting.adapt(memory, [PLAIN, BROKEN, EVICTED, DEGRADED, PART], SETS)
    assert offer.devices == (PLAIN, strip(DEGRADED, taints=()))
    assert offer.counter_sets == ()
    reasons = dict(offer.withheld)
    assert set(reasons) == {"broken", "evicted", "part"}
    assert "turn on its feature DRADeviceTaints" in reasons["broken"]
    assert "turn on its feature DRAPartitionableDevices" in reasons["part"]


def test_without_counters_the_whole_device_stays_and_its_other_forms_go() -> None:
    memory = Memory(missing=frozenset({PARTITIONS}))
    offer = adopting.adapt(memory, [PART, WHOLE, GUEST], SETS)
    assert offer.devices == (strip(WHOLE, consumes_counters=()),)
    assert offer.counter_sets == ()
    assert [name for name, _ in offer.withheld] == ["part", "guest"]


def test_without_counters_a_whole_device_of_which_claims_have_a_part_goes_too() -> None:
    offer = adopting.adapt(Memory(missing=frozenset({PARTITIONS})), [PART, WHOLE], SETS, {"set"})
    assert offer.devices == ()
    assert {name for name, _ in offer.withheld} == {"part", "set"}
    assert adopting.adapt(Memory(), [PART, WHOLE], SETS, {"set"}).devices == (PART, WHOLE)


def test_a_device_that_is_refused_as_it_was_sent_is_not_sent_again() -> None:
    memory = Memory(missing=frozenset({PARTITIONS}))
    sent = strip(WHOLE, consumes_counters=())
    refused = adopting.refuse(memory, sent, "no")
    assert adopting.adapt(refused, [WHOLE], SETS).withheld == (("set", "the API server refuses it: no"),)


def test_everything_is_offered_to_a_server_that_lacks_nothing() -> None:
    offer = adopting.adapt(Memory(), [PLAIN, BROKEN, DEGRADED, PART], SETS)
    assert offer.devices == (PLAIN, BROKEN, DEGRADED, PART)
    assert (offer.counter_sets, offer.withheld) == (SETS, ())


def test_a_harmless_difference_is_adopted_until_the_device_changes() -> None:
    answer = strip(PLAIN, attributes={"x": DeviceAttribute(int_=2)})
    memory, _ = adopting.learn(Memory(), spec(PLAIN), spec(answer))
    assert adopting.adapt(memory, [PLAIN], ()).devices == (answer,)
    changed = strip(PLAIN, attributes={"x": DeviceAttribute(int_=3)})
    assert adopting.adapt(memory, [changed], ()).devices == (changed,)


def test_a_device_that_lost_its_taint_is_never_adopted_without_it() -> None:
    answer = strip(BROKEN, taints=(), attributes={"y": DeviceAttribute(int_=1)})
    memory, _ = adopting.learn(Memory(), spec(BROKEN), spec(answer))
    assert adopting.adapt(memory, [BROKEN], ()).devices == ()


def test_a_refused_device_is_left_out_until_it_changes() -> None:
    memory = adopting.refuse(Memory(), PLAIN, "spec.devices[0] is invalid")
    offer = adopting.adapt(memory, [PLAIN, DEGRADED], ())
    assert offer.devices == (DEGRADED,)
    assert offer.withheld == (("plain", "the API server refuses it: spec.devices[0] is invalid"),)
    changed = strip(PLAIN, attributes={})
    assert adopting.adapt(memory, [changed], ()).devices == (changed,)


def test_only_features_that_safety_depends_on_are_needed() -> None:
    assert adopting.find_needed([PLAIN, DEGRADED]) == frozenset()
    assert adopting.find_needed([PLAIN, BROKEN]) == {TAINTS}
    assert adopting.find_needed([EVICTED, PART]) == {TAINTS, PARTITIONS}


def test_a_device_that_cannot_be_shared_out_is_published_for_one_claim_at_a_time() -> None:
    memory = Memory(missing=frozenset({SHARES}))
    offer = adopting.adapt(memory, [PLAIN, SHARED], ())
    assert (offer.devices, offer.withheld) == ((PLAIN, ALONE), ())
    assert adopting.find_needed([PLAIN, SHARED]) == {SHARES}


def test_a_server_that_drops_shares_is_told_once_and_not_written_to_for_ever() -> None:
    store = SliceStore(lacking=frozenset({SHARES}))
    probe = adopting.make_probe(IDENTITY, SHARES)
    sent = spec(SHARED)
    stored = store.create(msgspec.structs.replace(probe, spec=msgspec.structs.replace(probe.spec, devices=(SHARED,))))
    memory, loss = adopting.learn(Memory(), sent, stored.spec)
    assert loss is not None
    assert loss.fields == ("devices[shared].capacity", "devices[shared].allowMultipleAllocations")
    assert loss.features == (SHARES,)
    (again,) = adopting.adapt(memory, [SHARED], ()).devices
    kept = store.create(msgspec.structs.replace(probe, spec=msgspec.structs.replace(probe.spec, devices=(again,))))
    assert adopting.learn(memory, spec(again), kept.spec) == (memory, None)


def test_a_webhook_that_changes_an_amount_has_not_turned_the_feature_off() -> None:
    smaller = SHARED.capacity | {MEMORY: DeviceCapacity(value="40Gi", request_policy=CapacityPolicy(default="40Gi"))}
    memory, loss = adopting.learn(Memory(), spec(SHARED), spec(strip(SHARED, capacity=smaller)))
    assert loss is not None
    assert (loss.features, memory.missing) == ((UNKNOWN,), frozenset())


@pytest.mark.parametrize("feature", [TAINTS, PARTITIONS, SHARES])
def test_a_probe_tells_what_a_server_stores(feature: str) -> None:
    probe = adopting.make_probe(IDENTITY, feature)
    for lacking in (frozenset[str](), frozenset({feature})):
        memory = adopting.read_probe(Memory(), feature, SliceStore(lacking=lacking).create(probe))
        assert (memory.missing, memory.present) == (lacking, frozenset({feature}) - lacking)


def test_a_probe_that_is_refused_means_the_feature_is_missing() -> None:
    memory = adopting.read_probe(Memory(present=frozenset({TAINTS})), TAINTS, None)
    assert memory == Memory(missing=frozenset({TAINTS}))


def test_a_feature_that_appears_is_used_again() -> None:
    stored: ResourceSlice = adopting.make_probe(IDENTITY, TAINTS)
    memory = adopting.read_probe(Memory(missing=frozenset({TAINTS})), TAINTS, stored)
    assert adopting.adapt(memory, [BROKEN], ()).devices == (BROKEN,)


def test_a_feature_that_goes_away_is_noticed_at_the_next_write() -> None:
    memory, loss = adopting.learn(Memory(present=frozenset({TAINTS})), spec(BROKEN), spec(strip(BROKEN, taints=())))
    assert loss is not None
    assert memory == Memory(missing=frozenset({TAINTS}))


def test_counters_are_asked_for_before_any_device_that_draws_them_is_published() -> None:
    assert adopting.find_needed([WHOLE]) == {PARTITIONS}
    assert adopting.find_needed([PLAIN]) == frozenset()


def test_a_server_that_takes_counters_beside_devices_has_another_idea_of_them() -> None:
    probe = adopting.make_old_probe(IDENTITY)
    assert probe.spec.devices
    assert [made.name for made in probe.spec.shared_counters] == [
        draw.counter_set for device in probe.spec.devices for draw in device.consumes_counters
    ]
    known = Memory(present=frozenset({PARTITIONS}))
    assert adopting.read_old_probe(known, None) == known
    assert adopting.read_old_probe(known, probe) == Memory(missing=frozenset({PARTITIONS}))
