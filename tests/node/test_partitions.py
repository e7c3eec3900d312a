"""Partitions on demand, from the claim to the container's metadata: what containers learn, and who is in the way."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.core.offering import Mode
from driver.model.prepared import PARTITION, PARTITION_MODE
from driver.vendors.simulated.instances import CREATE_COMPUTE_INSTANCE, DESTROY_GPU_INSTANCE
from tests.fakes.node_world import Held, World

SMALL = {
    "deviceClassName": "partition",
    "selectors": [{"cel": {"expression": 'device.attributes["accel-dra.dev"].profile == "1g.10gb"'}}],
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, {"partitions": "dynamic"})
    yield made
    assert not made.faults
    made.stop()


def give(world: World) -> Held:
    held = world.allocate(SMALL)
    assert held is not None
    return held


def prepare(world: World, held: Held) -> str:
    return world.preparers[0].prepare([held.ref])[held.ref.uid].error


def release(world: World, held: Held) -> str:
    return world.preparers[0].unprepare([held.ref])[held.ref.uid]


def told(world: World, held: Held) -> str:
    """Return the UUID that the claim's metadata tells containers."""
    (path,) = (world.root / "state/dra-device-metadata").glob(f"*_{held.claim.metadata.name}/r0/metadata.json")
    (device,) = json.loads(path.read_text())["requests"][0]["devices"]
    return str(device["attributes"]["accel-dra.dev/uuid"]["string"])


def made(world: World) -> dict[str, tuple[str, int]]:
    """Return profile and placement of what is on the hardware, by UUID."""
    return {str(uuid): (name, at) for _, parts in world.layout().values() for name, at, uuid in parts}


def test_metadata_tells_the_identity_that_is_not_published(world: World) -> None:
    held = give(world)
    assert prepare(world, held) == ""
    assert [told(world, held)] == list(made(world))
    (record,) = world.records()
    assert told(world, held).encode() in bytes(record.metadata["r0"])
    assert "accel-dra.dev/uuid" not in world.devices()[held.devices[0]].attributes


def test_after_a_boot_metadata_tells_the_new_identity(world: World) -> None:
    held = give(world)
    prepare(world, held)
    before = told(world, held)
    world.reboot()
    assert made(world) == {}
    assert prepare(world, held) == ""
    assert told(world, held) != before
    assert [told(world, held)] == list(made(world))
    (record,) = world.records()
    assert before.encode() not in bytes(record.metadata["r0"])
    assert {step.facts.get("uuid") for step in record.steps} == {None, told(world, held)}


def test_the_mode_is_switched_with_the_first_and_back_with_the_last(world: World) -> None:
    first, second = give(world), give(world)
    assert prepare(world, first) == prepare(world, second) == ""
    assert [[step.name for step in record.steps] for record in world.records()] == [[PARTITION_MODE, PARTITION]] * 2
    assert [step.facts["before"] for record in world.records() for step in record.steps[:1]] == ["off", "off"]
    assert release(world, first) == ""
    assert any(partitioned for partitioned, _ in world.layout().values())
    assert release(world, second) == ""
    assert not any(partitioned for partitioned, _ in world.layout().values())
    assert world.files() == {}


def test_a_stranger_in_the_way_is_named_and_left_alone(world: World) -> None:
    held = give(world)
    address = world.inventory.find(held.devices[0]).accelerator.pci_address  # type: ignore[union-attr]
    profile = world.vendor.look().chips[address].find_profile("7g.80gb")
    assert profile is not None
    uuid = world.make_foreign(address, profile, 0)
    before = world.layout(), world.files()
    error = prepare(world, held)
    assert f"7g.80gb at 0 ({uuid}) is in the way" in error
    assert (world.layout(), world.files()) == before
    world.scan()
    offered = {name for name, device in world.devices().items() if address.replace(":", "-").replace(".", "-") in name}
    assert len(offered) == 1, "the stranger as itself, and nothing that it overlaps"


def test_hardware_that_refuses_half_way_is_put_back(world: World) -> None:
    held = give(world)
    world.refused = {CREATE_COMPUTE_INSTANCE}
    before = world.layout()
    assert "refused: create-compute-instance" in prepare(world, held)
    assert (world.layout(), world.files()) == (before, {})
    world.refused = set()
    assert prepare(world, held) == ""


def test_what_cannot_be_put_back_is_kept_in_mind_and_tried_again(world: World) -> None:
    held = give(world)
    prepare(world, held)
    world.refused = {DESTROY_GPU_INSTANCE}
    assert "refused: destroy-gpu-instance" in release(world, held)
    (record,) = world.records()
    assert [step.name for step in record.steps] == [PARTITION_MODE, PARTITION]
    world.refused = set()
    assert release(world, held) == ""
    assert (made(world), world.files()) == ({}, {})


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.STATIC])
def test_in_another_mode_what_is_held_stays_and_the_rest_comes_when_it_is_released(world: World, mode: Mode) -> None:
    held = give(world)
    prepare(world, held)
    world.switch(mode)
    world.scan()
    address = world.inventory.find(held.devices[0]).accelerator.pci_address  # type: ignore[union-attr]
    whole = f"gpu-{address.replace(':', '-').replace('.', '-')}"
    assert held.devices[0] in world.devices()
    assert whole not in world.devices()
    assert len(world.devices()) == 8, "seven whole devices and what is held"
    world.reboot()
    assert held.devices[0] in world.devices(), "also after a boot, which took the partition"
    assert prepare(world, held) == ""
    assert release(world, held) == ""
    assert sorted(world.devices()) == sorted({*world.devices(), whole})
    assert len(world.devices()) == 8


def test_a_claim_for_what_the_new_mode_does_not_offer_is_refused_with_the_reason(world: World) -> None:
    held = give(world)
    world.switch(Mode.STATIC)
    world.scan()
    assert f"device {held.devices[0]} of request r0 is not on this node now" in prepare(world, held)
    world.switch(Mode.DYNAMIC)
    world.scan()
    assert prepare(world, held) == ""


def test_whenever_somebody_looks_partitions_of_claims_change_nothing_that_is_published(tmp_path: Path) -> None:
    """Two instances make and remove partitions as fast as they can while a third looks; a stranger stays one."""
    world = World(tmp_path, {"partitions": "dynamic"}, in_real_time=True)
    profile = world.profile("0000:df:00.0", "1g.10gb")
    world.make_foreign("0000:df:00.0", profile, 0)
    world.scan()
    wanted = [give(world) for _ in range(4)]
    expected = world.look()
    stop = threading.Event()
    errors: list[str] = []

    def work(instance: int) -> None:
        mine = wanted[2 * instance : 2 * instance + 2]
        while not stop.is_set():
            for calls in (world.preparers[instance].prepare, world.preparers[instance].unprepare):
                for held in mine:
                    answer = calls([held.ref])[held.ref.uid]
                    errors.append(answer if isinstance(answer, str) else answer.error)

    threads = [threading.Thread(target=work, args=(instance,)) for instance in range(2)]
    for thread in threads:
        thread.start()
    try:
        looks = itertools.count()
        while next(looks) < 40 or (len(errors) < 20 and all(thread.is_alive() for thread in threads)):
            found = world.look()
            assert [entry.device for entry in found.entries] == [entry.device for entry in expected.entries]
            assert found.counter_sets == expected.counter_sets
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not [error for error in errors if error]
    assert len(errors) >= 20, "there was something to see"
    world.stop()
