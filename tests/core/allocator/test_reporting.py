"""Whoever listens hears the plan, every kind of refusal and the proof; nobody listening, nothing is said."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from driver.core.allocator import Snapshot, allocate
from driver.core.allocator.bounds import NoCommonValue, Proof, TooFew
from driver.core.allocator.constraints import Constraint
from driver.core.allocator.devices import Device
from driver.core.allocator.plans import Plan
from driver.core.allocator.reporting import Collecting
from driver.core.allocator.tracking import Refusal
from driver.model.published import Attribute, Capacity, PublishedDevice
from driver.model.requests import Constraint as Source
from driver.model.requests import DeviceRequest, Request
from driver.model.slices import Counter, CounterConsumption, CounterSet, DeviceTaint, Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import CLASSES, DRIVER, NODE, ask, make_claim, make_slice

ALL = Request(name="all", exactly=DeviceRequest(device_class_name="any", allocation_mode="All", count=0))


class Deaf:
    """Fails if it is told anything."""

    is_silent = True

    def planned(self, plan: Plan) -> None:
        raise AssertionError(plan)

    def proved(self, proof: Proof) -> None:
        raise AssertionError(proof)

    def refused(self, slot: int, device: Device, refusal: Refusal, constraint: Constraint | None) -> None:
        raise AssertionError(slot, device, refusal, constraint)


def hear(devices: Sequence[PublishedDevice], claim: Claim, *, counters: Sequence[CounterSet] = ()) -> Collecting:
    pool = Pool(name="pool", resource_slice_count=1 + bool(counters))
    slices = [make_slice(devices, pool=pool)]
    if counters:
        slices.append(make_slice((), name="counters", pool=pool, counters=counters))
    report = Collecting()
    allocate(Snapshot(slices, CLASSES), NODE, [claim], reporter=report)
    allocate(Snapshot(slices, CLASSES), NODE, [claim], reporter=Deaf())
    return report


def refusals(report: Collecting) -> set[Refusal]:
    return {refusal for found in report.refusals.values() for refusal, _ in found.values()}


PLAIN = PublishedDevice(name="plain", attributes={"x": Attribute(int_=1)})
OTHER = PublishedDevice(name="other", attributes={"x": Attribute(int_=2)})
SHARED = PublishedDevice(name="shared", capacity={"memory": Capacity(value="1")}, allow_multiple_allocations=True)
TAINTED = PublishedDevice(name="tainted", taints=(DeviceTaint(key="k", effect="NoSchedule"),))
PART = PublishedDevice(
    name="part",
    consumes_counters=(CounterConsumption(counter_set="set", counters={"c": Counter(value="2")}),),
)
SET = CounterSet(name="set", counters={"c": Counter(value="3")})


@pytest.mark.parametrize(
    ("devices", "claim", "counters", "refusal"),
    [
        ([PLAIN], make_claim("c", ask("one"), ask("two", selectors=["true"])), [], Refusal.IN_USE),
        ([SHARED], make_claim("c", ask("one"), ask("two")), [], Refusal.CAPACITY),
        ([PART, msgspec.structs.replace(PART, name="p")], make_claim("c", ask("r", count=2)), [SET], Refusal.COUNTERS),
        ([TAINTED], make_claim("c", ALL), [], Refusal.TAINT),
        (
            [PLAIN, OTHER],
            make_claim("c", ask("r", count=2), constraints=[Source(match_attribute=f"{DRIVER}/x")]),
            [],
            Refusal.CONSTRAINT,
        ),
    ],
)
def test_every_refusal_is_told(
    devices: list[PublishedDevice], claim: Claim, counters: list[CounterSet], refusal: Refusal
) -> None:
    assert refusal in refusals(hear(devices, claim, counters=counters))


def test_a_refused_device_keeps_its_first_reason_and_names_the_constraint() -> None:
    report = hear(
        [PLAIN, OTHER], make_claim("c", ask("r", count=2), constraints=[Source(match_attribute=f"{DRIVER}/x")])
    )
    ((_, constraint),) = [each for each in report.refusals[0].values() if each[0] is Refusal.CONSTRAINT][:1]
    assert constraint is not None
    assert constraint.rule.attribute == f"{DRIVER}/x"


def test_what_is_proved_is_told() -> None:
    assert hear([PLAIN], make_claim("c", ask("r", count=2))).proof == TooFew(0)
    devices = [PublishedDevice(name=f"d{index}", attributes={"x": Attribute(int_=index // 15)}) for index in range(60)]
    claim = make_claim("c", ask("r", count=16), constraints=[Source(match_attribute=f"{DRIVER}/x")])
    proof = hear(devices, claim).proof
    assert isinstance(proof, NoCommonValue)
    assert proof.values == {"0": 15, "1": 15, "2": 15, "3": 15}


def test_the_plan_is_told_also_when_all_goes_well() -> None:
    plan = hear([PLAIN, OTHER], make_claim("c", ask("r"))).plan
    assert plan is not None
    assert [device.name for device in plan.options[0][0].devices] == ["plain", "other"]
