"""A process that ends between any two calls to NVML, and what a later one finds: nothing is left or lost.

The record of a claim holds the steps as planned until all of them were run; so that is all that undoing gets then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from driver.model.prepared import Step
from tests.fakes.nvml.hardware import FakeInstance
from tests.vendors.machines import Killed
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig
from tests.vendors.nvidia.test_partitioning import aim, look, run, shape, stand, undo, whole

FOREIGN = ("1g.10gb", 0)


@pytest.fixture
def rig(build: Build) -> Rig:
    """Return a machine on whose first GPU, in MIG mode, is an instance of an admin's."""
    rig = build("hgx-h100")
    rig.node.gpus[0].mig = True
    FakeInstance.make(rig.node.gpus[0], *FOREIGN)
    return rig


def lives(rig: Rig, action: Callable[[], object]) -> Iterator[int]:
    """Let a process do something and end ever later, until it lives to see it done. Yield after each death."""
    for calls in range(1000):
        rig.library.survives = calls
        try:
            action()
        except Killed:
            rig.library.revive()
            yield calls
        else:
            rig.library.revive()
            return
    pytest.fail("it never ends")


def test_a_process_that_ends_while_it_makes_a_partition(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    deaths = 0
    for calls in lives(rig, lambda: run(rig.create(), steps)):
        undo(rig.create(), steps)
        assert stand(rig) == before, f"after {calls} calls"
        deaths += 1
    assert deaths > 40
    assert shape(rig.node.gpus[0]) == [("1g.10gb", 0, 0), ("2g.20gb", 4, 0)]


def test_a_process_that_ends_while_it_switches_the_mode_on(build: Build) -> None:
    rig = build("hgx-h100")
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "7g.80gb", 0)])
    for calls in lives(rig, lambda: run(rig.create(), steps)):
        undo(rig.create(), steps)
        assert stand(rig) == before, f"after {calls} calls"
    assert shape(rig.node.gpus[0]) == [("7g.80gb", 0, 0)]


def test_a_process_that_ends_while_it_makes_a_gpu_whole(build: Build) -> None:
    rig = build("hgx-h100")
    rig.node.gpus[0].mig = True
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([whole(look(vendor))])
    for calls in lives(rig, lambda: run(rig.create(), steps)):
        undo(rig.create(), steps)
        assert stand(rig) == before, f"after {calls} calls"
    assert rig.node.gpus[0].mig is False


def test_a_process_that_ends_while_it_removes_a_partition(build: Build) -> None:
    """Undoing goes on where it stopped, with the UUID known, until the mode is switched back."""
    rig = build("hgx-h100")
    vendor, before = rig.create(), stand(rig)
    target = aim(look(vendor), "3g.40gb", 4)
    calls = 0
    while True:
        done = run(rig.create(), vendor.plan([target]))
        rig.library.survives = calls
        try:
            undo(rig.create(), done)
        except Killed:
            rig.library.revive()
        else:
            break
        undo(rig.create(), done)
        assert stand(rig) == before, f"after {calls} calls"
        calls += 1
    rig.library.revive()
    assert calls > 10
    assert stand(rig) == before


def test_a_process_that_ends_while_it_undoes_what_was_interrupted(rig: Rig) -> None:
    """Two deaths: one after the GPU instance was made, with no UUID known, and one at any time while it is removed."""
    vendor, before = rig.create(), stand(rig)
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    rig.library.calls.clear()
    run(rig.create(), steps)
    asked = len(rig.library.calls) - rig.library.calls[::-1].index("nvmlComputeInstanceGetInfo_v2")
    undo(rig.create(), steps)
    calls = 0
    while True:
        rig.library.survives = asked  # the compute instance is there, its UUID was not told yet
        with suppress(Killed):
            run(rig.create(), steps)
        rig.library.revive()
        assert len(rig.node.gpus[0].instances) == 2
        rig.library.survives = calls
        try:
            undo(rig.create(), steps)
        except Killed:
            rig.library.revive()
        else:
            break
        undo(rig.create(), steps)
        assert stand(rig) == before, f"after {calls} calls"
        calls += 1
    rig.library.revive()
    assert stand(rig) == before


def test_a_process_that_ends_while_it_plans_has_changed_nothing(rig: Rig) -> None:
    vendor, before = rig.create(), stand(rig)
    target = aim(look(vendor), "2g.20gb", 4)
    planned: list[tuple[Step, ...]] = []
    for _ in lives(rig, lambda: planned.append(rig.create().plan([target]))):
        assert stand(rig) == before
    assert planned == [vendor.plan([target])]


def test_an_instance_that_came_between_plan_and_death_is_only_removed_if_it_is_the_very_same(rig: Rig) -> None:
    """What cannot be told apart at all has the same profile, the same place, is idle, and came after the death."""
    vendor = rig.create()
    steps = vendor.plan([aim(look(vendor), "2g.20gb", 4)])
    others = [FakeInstance.make(rig.node.gpus[0], "1g.10gb", 4), FakeInstance.make(rig.node.gpus[0], "1g.10gb", 5)]
    undo(rig.create(), steps)
    assert [each for each in others if each in rig.node.gpus[0].instances] == others


def test_sixty_rounds_leave_no_trace(build: Build) -> None:
    """Ids are given out again all the time, and no step takes one for another's."""
    rig = build("hgx-h100")
    vendor, before = rig.create(), stand(rig)
    gpu = look(vendor)
    first = run(vendor, vendor.plan([aim(gpu, "1g.10gb", 6)]))
    for number in range(60):
        done = run(vendor, vendor.plan([aim(gpu, "1g.10gb", number % 6)]))
        vendor.undo(done[1])
        assert shape(rig.node.gpus[0]) == [("1g.10gb", 6, 0)]
    undo(vendor, first)
    assert stand(rig) == before
