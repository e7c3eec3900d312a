"""What is over a limit is found before it is sent, and what the recorded API server took is not called a fault."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from driver.core import limits
from driver.model.errors import InvalidInput
from driver.model.slices import (
    CapacityPolicy,
    CapacityRange,
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
)

TRANSCRIPT = Path(__file__).resolve().parent.parent / "data" / "transcripts" / "09a-validate-slices.json.gz"
SETS = {"set": CounterSet(name="set", counters={"slots": Counter(value="8")})}

STRICTER = {
    "the name of an attribute has two slashes": (79,),
    "a quantity is given as a number or is missing": (85, 86),
    "the counter set is not in the pool: the scheduler would call the whole pool invalid": (108,),
}
"""Steps of the transcript which the server accepts and we do not, on purpose or because our types cannot say it."""
NOT_MODELLED = {"bindingConditions", "bindingFailureConditions"}
NOT_MODELLED |= {"nodeName", "allNodes", "nodeSelector", "strings", "ints", "bools", "versions", "bindsToNode"}
NOT_MODELLED |= {"nodeAllocatableResourceMappings"}


def read_steps() -> Iterator[tuple[int, int, dict[str, object]]]:
    with gzip.open(TRANSCRIPT, "rt") as file:
        steps = json.load(file)["steps"]
    for step in steps:
        if step["op"] == "request" and isinstance(step["request"]["body"], dict):
            yield step["n"], step["response"]["status"], step["request"]["body"].get("spec", {})


def expand(value: object) -> object:
    """Resolve the transcript's `${repeat:x:65}`."""
    if isinstance(value, dict):
        return {expand(key): expand(each) for key, each in value.items()}
    if isinstance(value, list):
        return [expand(each) for each in value]
    if isinstance(value, str) and value.startswith("${repeat:"):
        _, text, count = value[2:-1].split(":")
        return text * int(count)
    return value


CASES = [
    pytest.param(code, expand(spec["devices"]), id=f"step-{number}")
    for number, code, spec in read_steps()
    if isinstance(spec.get("devices"), list)
    and len(spec["devices"]) == 1  # type: ignore[arg-type]
    and set(spec) == {"driver", "pool", "nodeName", "devices"}
    and spec["driver"] == "tr.example.com"
    and spec["pool"] == {"name": "tr-node", "generation": 1, "resourceSliceCount": 1}
    and not any(f'"{field}"' in json.dumps(spec["devices"]) for field in NOT_MODELLED)
    and not any(number in numbers for numbers in STRICTER.values())
]


def test_the_transcript_has_enough_to_say() -> None:
    assert len(CASES) > 25


@pytest.mark.parametrize(("code", "devices"), CASES)
def test_we_judge_devices_as_the_recorded_server_did(code: int, devices: list[object]) -> None:
    try:
        device = msgspec.convert(devices, tuple[Device, ...])[0]
    except msgspec.ValidationError:
        assert code in {400, 422}
        return
    known = {each.counter_set: CounterSet(name="x", counters=each.counters) for each in device.consumes_counters}
    assert bool(limits.find_device_faults(device, known)) == (code != 201)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "GPU"}, "device name 'GPU' is not a DNS label of at most 63 characters"),
        ({"name": "a.b"}, "device name 'a.b'"),
        ({"attributes": {"a.dev/b-c": DeviceAttribute(int_=1)}}, "is not an identifier of at most 32 characters"),
        ({"attributes": {f"a.dev/{'x' * 33}": DeviceAttribute(int_=1)}}, "is not an identifier"),
        ({"attributes": {f"{'x' * 64}/a": DeviceAttribute(int_=1)}}, "is not a DNS subdomain of at most 63"),
        ({"attributes": {"a.dev/a/b": DeviceAttribute(int_=1)}}, "is not a DNS subdomain"),
        ({"attributes": {"x": DeviceAttribute()}}, "attribute x has 0 values; exactly one is allowed"),
        ({"attributes": {"x": DeviceAttribute(int_=1, string="1")}}, "attribute x has 2 values"),
        ({"attributes": {"x": DeviceAttribute(int_=2**63)}}, "does not fit into 64 bits"),
        ({"attributes": {"x": DeviceAttribute(string="ü" * 33)}}, "has 66 bytes; at most 64 are allowed"),
        ({"attributes": {"x": DeviceAttribute(version="570.086.10")}}, "'570.086.10' is not a version of semver.org"),
        ({"capacity": {"x": DeviceCapacity(value="80 GB")}}, "capacity x: '80 GB' is not a quantity"),
        ({"taints": (DeviceTaint(key="", effect="None"),)}, "taint key '' is not a label key"),
        ({"taints": (DeviceTaint(key="A_b/c", effect="None"),)}, "the prefix is not a DNS subdomain"),
        ({"taints": (DeviceTaint(key="a", effect="Never"),)}, "effect 'Never' is not one of None, NoSchedule"),
        ({"taints": (DeviceTaint(key="a", value="x" * 64, effect="None"),)}, "is not a label value"),
        ({"taints": (DeviceTaint(key="a", effect="None"),) * 17}, "17 taints; at most 16 are allowed"),
    ],
)
def test_a_fault_names_field_value_and_what_is_allowed(fields: dict[str, object], reason: str) -> None:
    device = Device(**{"name": "gpu", **fields})  # type: ignore[arg-type]
    faults = limits.find_device_faults(device, SETS)
    assert len(faults) == 1
    assert reason in faults[0]


@pytest.mark.parametrize(
    ("consumptions", "reason"),
    [
        ([("nope", {"slots": "1"})], "the pool has no such counter set"),
        ([("set", {"nope": "1"})], "it has no counter 'nope'"),
        ([("set", {})], "has 0 counters; 1 to 32 are allowed"),
        ([("set", {"slots": "x"})], "counter slots: 'x' is not a quantity"),
        ([("set", {"slots": "1"}), ("set", {"slots": "1"})], "is listed twice"),
        ([("set", {"slots": "1"})] * 3, "consumes from 3 counter sets; at most 2 are allowed"),
    ],
)
def test_consumption_is_checked_against_the_counter_sets(
    consumptions: list[tuple[str, dict[str, str]]], reason: str
) -> None:
    draws = tuple(
        CounterConsumption(counter_set=name, counters={key: Counter(value=value) for key, value in counters.items()})
        for name, counters in consumptions
    )
    assert any(reason in fault for fault in limits.find_device_faults(Device(name="p", consumes_counters=draws), SETS))


@pytest.mark.parametrize(
    ("name", "counters", "faults"),
    [("set", 1, 0), ("set", 32, 0), ("set", 33, 1), ("set", 0, 1), ("Set_1", 1, 1), ("Set_1", 33, 2)],
)
def test_counter_sets_have_limits_of_their_own(name: str, counters: int, faults: int) -> None:
    counter_set = CounterSet(name=name, counters={f"c{index}": Counter(value="1") for index in range(counters)})
    assert len(limits.find_counter_set_faults(counter_set)) == faults


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (CapacityPolicy(default="?"), "capacity x: '?' is not a quantity"),
        (
            CapacityPolicy(valid_range=CapacityRange(min="1")),
            "has no default, which valid values and a valid range need",
        ),
        (CapacityPolicy(valid_values=("1",)), "has no default"),
        (
            CapacityPolicy(default="1", valid_values=("1",), valid_range=CapacityRange(min="1")),
            "one of them is allowed",
        ),
        (CapacityPolicy(default="1", valid_range=CapacityRange()), "its valid range has no min"),
        (
            CapacityPolicy(default="1", valid_range=CapacityRange(min="2")),
            "min 2, default 1, max 8 and value 8 are not",
        ),
        (CapacityPolicy(default="9", valid_range=CapacityRange(min="2")), "min 2, default 9"),
        (CapacityPolicy(default="3", valid_range=CapacityRange(min="2", max="9")), "max 9 and value 8 are not in"),
        (
            CapacityPolicy(default="8", valid_range=CapacityRange(min="2", step="7")),
            "too large for one step above min 2",
        ),
        (CapacityPolicy(default="8", valid_range=CapacityRange(min="2", step="0")), "step 0 is not above 0"),
        (CapacityPolicy(default="8", valid_range=CapacityRange(min="2", step="4")), "is not a whole number of steps 4"),
        (CapacityPolicy(default="2", valid_range=CapacityRange(min="2", max="7", step="2")), "or max 7 is not a whole"),
        (CapacityPolicy(default="1", valid_values=("2", "1")), "are not ascending whole numbers"),
        (CapacityPolicy(default="100m", valid_values=("100m", "200m")), "are not ascending whole numbers"),
        (CapacityPolicy(default="1", valid_values=("1", "9")), "valid value 9 is more than there is: 8"),
        (CapacityPolicy(default="3", valid_values=("1", "2")), "default 3 is not one of its valid values"),
    ],
)
def test_a_request_policy_that_the_server_would_not_take_is_named(policy: CapacityPolicy, reason: str) -> None:
    capacity = {"x": DeviceCapacity(value="8", request_policy=policy)}
    faults = limits.find_device_faults(Device(name="gpu", capacity=capacity, allow_multiple_allocations=True), SETS)
    assert len(faults) == 1
    assert reason in faults[0]


def test_a_request_policy_needs_a_device_that_is_shared_and_eleven_values_are_too_many() -> None:
    alone = Device(name="gpu", capacity={"x": DeviceCapacity(value="8", request_policy=CapacityPolicy(default="0"))})
    assert "only a device that allows multiple allocations" in limits.find_device_faults(alone, SETS)[0]
    assert limits.find_device_faults(msgspec.structs.replace(alone, allow_multiple_allocations=True), SETS) == ()
    policy = CapacityPolicy(default="1", valid_values=tuple(str(number) for number in range(11)))
    many = Device(
        name="gpu",
        capacity={"x": DeviceCapacity(value="88", request_policy=policy)},
        allow_multiple_allocations=True,
    )
    assert "11 valid values; at most 10 are allowed" in limits.find_device_faults(many, SETS)[0]


def test_all_faults_of_a_device_are_told_at_once() -> None:
    device = Device(name="A", attributes={"x": DeviceAttribute()}, capacity={"y": DeviceCapacity(value="?")})
    assert len(limits.find_device_faults(device, SETS)) == 3


def test_a_long_value_is_not_quoted_in_full() -> None:
    faults = limits.find_device_faults(Device(name="x" * 10_000), SETS)
    assert len(faults[0]) < 200


@pytest.mark.parametrize("pool", ["node", "rack-1/node.x", "a/b/c"])
def test_pool_names_are_subdomains_between_slashes(pool: str) -> None:
    limits.check_names("d.example.com", "node", pool)


@pytest.mark.parametrize(
    "names", [("", "n", "p"), ("d", "N", "p"), ("d", "n", ""), ("d", "n", "a/"), ("d", "n", "x" * 254)]
)
def test_other_names_are_refused(names: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidInput):
        limits.check_names(*names)
