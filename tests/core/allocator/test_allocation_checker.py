"""The judge of allocations is right itself: it accepts what Kubernetes recorded, and refuses what is changed in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from driver.model.claims import Allocation, AllocationResult
from driver.model.wanted import Claim
from hack.replay import allocator
from tests.fakes.allocation_checker import World, check

VECTORS = Path(__file__).parents[2] / "vectors" / "allocator.jsonl.gz"
Case = tuple[World, list[Claim], list[Allocation]]


def _decode(vector: allocator.Json) -> Case:
    scenario = allocator.read_scenario(vector)
    world = World(scenario.node, scenario.slices, scenario.classes, scenario.allocated)
    allocations = allocator.decode(allocator.wanted_answer(vector).allocations, list[Allocation])
    return world, scenario.claims, allocations


@pytest.fixture(scope="module")
def answers() -> list[Case]:
    return [_decode(each) for each in allocator.read(VECTORS) if allocator.wanted_answer(each).kind == "ok"]


def test_what_kubernetes_allocated_is_valid(answers: list[Case]) -> None:
    assert len(answers) > 400
    assert [fault for world, claims, allocations in answers for fault in check(world, claims, allocations)] == []


def _change(allocation: Allocation, edit: Callable[[AllocationResult], AllocationResult]) -> Allocation:
    results = tuple(map(edit, allocation.devices.results))
    return msgspec.structs.replace(allocation, devices=msgspec.structs.replace(allocation.devices, results=results))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda each: msgspec.structs.replace(each, device="nobody"), "not a device that the node can use"),
        (lambda each: msgspec.structs.replace(each, request="nobody"), "not one of the claim's"),
        (lambda each: msgspec.structs.replace(each, admin_access=not each.admin_access), "admin access"),
        (lambda each: msgspec.structs.replace(each, share_id="x" if each.share_id is None else None), "share id"),
        (lambda each: msgspec.structs.replace(each, binding_conditions=("x",)), "binding conditions"),
        (lambda each: msgspec.structs.replace(each, consumed_capacity={"x": "1"}), "consumes"),
    ],
)
def test_a_changed_result_is_refused(
    answers: list[Case], edit: Callable[[AllocationResult], AllocationResult], complaint: str
) -> None:
    for world, claims, allocations in answers[::10]:
        changed = [_change(each, edit) for each in allocations]
        if changed != allocations:
            assert any(complaint in fault for fault in check(world, claims, changed))


def test_a_result_too_few_is_refused(answers: list[Case]) -> None:
    for world, claims, allocations in answers[::10]:
        if len(allocations) == 1 and allocations[0].devices.results:
            devices = msgspec.structs.replace(allocations[0].devices, results=allocations[0].devices.results[1:])
            shorter = msgspec.structs.replace(allocations[0], devices=devices)
            assert check(world, claims, [shorter]) != []


def test_devices_that_are_held_already_are_refused(answers: list[Case]) -> None:
    """The same allocation once more, to a claim of another name: only admin access and shares may fit again."""
    for world, claims, allocations in answers[::10]:
        results = [result for each in allocations for result in each.devices.results]
        if results and all(each.share_id is None and not each.admin_access for each in results):
            held = [
                msgspec.structs.replace(claim, status=msgspec.structs.replace(claim.status, allocation=each))
                for claim, each in zip(claims, allocations, strict=True)
            ]
            again = World(world.node, world.slices, world.classes, [*world.allocated, *held])
            assert any("held twice" in fault for fault in check(again, claims, allocations))
