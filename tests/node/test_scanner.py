"""The scanner notices what happens to the hardware, and one bad look harms nothing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

import pytest

from driver.contract import Target
from driver.core import inventory as inventories
from driver.core.offering import Mode, Offer
from driver.model import slices
from driver.model.devices import Accelerator, Entry, Failure, Inventory, Snapshot
from driver.model.errors import Unavailable
from driver.model.occurrences import HardwareScanned, HardwareUnavailable, Occurrence
from driver.model.prepared import Preparation, Step
from driver.node import scanner as scanner_module
from driver.node.scanner import Scanner
from tests.fakes.hardware import snapshot
from tests.fakes.partitionable import carve, h100, own
from tests.fakes.waiting import wait_until


def accelerator(index: int) -> Accelerator:
    return Accelerator(
        pci_address=f"0000:0{index}:00.0",
        index=index,
        uuid=f"GPU-{index}",
        model="M",
        architecture=None,
        memory_bytes=None,
        multiprocessors=None,
        compute_capability=None,
        numa_node=None,
        pcie_root=None,
    )


def build(snapshot: Snapshot) -> Inventory:
    entries = tuple(Entry(slices.Device(name=f"gpu-{a.index}"), a, None) for a in snapshot.accelerators)
    return Inventory(snapshot, entries, snapshot.failures)


class Machine:
    """A vendor whose hardware is changed by hand."""

    name = "machine"

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.generation = 0
        self.away = False
        self.bug: Exception | None = None
        self.failures: tuple[Failure, ...] = ()
        self.looks = 0

    def fingerprint(self) -> str:
        return f"{self.count}/{self.generation}"

    def snapshot(self) -> Snapshot:
        self.looks += 1
        if self.away:
            raise Unavailable("the driver is not loaded")
        if self.bug:
            raise self.bug
        return Snapshot("machine", None, None, None, tuple(accelerator(i) for i in range(self.count)), self.failures)

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        raise NotImplementedError


class World:
    """A scanner with a clock and ears."""

    def __init__(self, count: int = 2, build: Callable[[Snapshot], Inventory] = build) -> None:
        self.machine = Machine(count)
        self.now = 100.0
        self.heard: list[Occurrence] = []
        self.changes = 0
        self.scanner = Scanner(
            self.machine,
            build,
            self.heard.append,
            self._count,
            scan_interval=0.01,
            rescan_interval=300,
            clock=lambda: self.now,
        )

    def _count(self) -> None:
        self.changes += 1

    @property
    def names(self) -> list[str] | None:
        inventory = self.scanner.inventory
        return None if inventory is None else [entry.name for entry in inventory.entries]


def test_the_first_look_gives_the_inventory_and_tells() -> None:
    world = World()
    world.scanner.scan()
    assert world.names == ["gpu-0", "gpu-1"]
    assert world.changes == 1
    assert [type(occurrence) for occurrence in world.heard] == [HardwareScanned]


def test_without_a_change_the_hardware_is_left_alone_until_the_long_interval() -> None:
    world = World()
    for _ in range(5):
        world.scanner.scan()
    assert world.machine.looks == 1
    world.now += 301
    world.scanner.scan()
    assert world.machine.looks == 2


def test_hot_plug_is_noticed() -> None:
    world = World()
    world.scanner.scan()
    world.machine.count = 3
    world.scanner.scan()
    assert world.names == ["gpu-0", "gpu-1", "gpu-2"]
    assert world.changes == 2


def test_a_driver_that_is_not_there_is_waited_for_and_said_once() -> None:
    world = World()
    world.machine.away = True
    for _ in range(4):
        world.scanner.scan()
    assert world.scanner.inventory is None
    assert world.heard == [HardwareUnavailable("the driver is not loaded")]
    world.machine.away = False
    world.scanner.scan()
    assert world.names == ["gpu-0", "gpu-1"]


def test_one_failed_look_withdraws_nothing_a_second_one_does() -> None:
    world = World()
    world.scanner.scan()
    world.machine.away, world.machine.generation = True, 1
    world.scanner.scan()
    assert world.names == ["gpu-0", "gpu-1"]
    world.scanner.scan()
    assert world.scanner.inventory is None
    assert world.changes == 2


def test_a_bug_in_a_vendor_is_reported_and_the_plugin_lives() -> None:
    world = World()
    world.scanner.scan()
    world.machine.bug, world.machine.generation = ZeroDivisionError("oops"), 1
    world.scanner.scan()
    assert world.names == ["gpu-0", "gpu-1"]
    assert "oops" in str(world.heard[-1])


def test_a_broken_device_is_named_with_its_reason() -> None:
    world = World()
    world.machine.failures = (Failure("0000:09:00.0", 9, "GPU is lost"),)
    world.scanner.scan()
    assert world.names == ["gpu-0", "gpu-1"]
    assert isinstance(world.heard[0], HardwareScanned)
    assert world.heard[0].omitted == (("0000:09:00.0", "GPU is lost"),)


def test_rebuilding_uses_the_last_look() -> None:
    world = World()
    world.scanner.rebuild()
    assert world.changes == 0
    world.scanner.scan()
    world.scanner.rebuild()
    assert world.machine.looks == 1
    assert world.changes == 1, "an equal inventory is no change"


@pytest.mark.parametrize("away", [False, True])
def test_the_thread_looks_tells_and_ends(away: bool) -> None:
    world = World()
    world.machine.away = away
    world.scanner.start()
    assert world.scanner.scanned.wait(10)
    world.scanner.stop()
    assert (world.names is None) == away
    assert world.changes >= 1, "the publisher is told even if there is nothing: one empty slice says the driver runs"


def test_hardware_that_is_back_unchanged_is_told() -> None:
    world = World()
    world.scanner.scan()
    world.machine.away, world.machine.generation = True, 1
    world.scanner.scan()
    world.machine.away = False
    world.scanner.scan()
    assert [type(each) for each in world.heard] == [HardwareScanned, HardwareUnavailable, HardwareScanned]
    assert world.changes == 1, "nothing changed for the slices"


class Hanging(Machine):
    """A driver whose second look does not come back before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.hung = threading.Event()
        self.let_go = threading.Event()

    def snapshot(self) -> Snapshot:
        if self.looks:
            self.hung.set()
            self.let_go.wait(20)
        return super().snapshot()


def test_a_look_that_hangs_holds_up_neither_health_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner_module, "_LAST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(scanner_module, "_SLOW_LOOK_SECONDS", 0.05)
    world = World()
    machine = Hanging()
    scanner = Scanner(
        machine, build, world.heard.append, lambda: None, scan_interval=0.01, rescan_interval=300, clock=lambda: 1.0
    )
    scanner.start()
    assert scanner.scanned.wait(10)
    machine.generation = 1
    assert machine.hung.wait(10)
    scanner.rebuild()
    wait_until(lambda: HardwareUnavailable("the driver has not answered for 0 s") in world.heard, "the complaint")
    scanner.stop()
    assert scanner.inventory is not None
    machine.let_go.set()
    wait_until(lambda: not scanner.alive, "the end of the thread")


def test_what_another_mode_offers_is_told_without_a_look() -> None:
    reasons: list[str] = []

    def build_in_mode(snapshot: Snapshot) -> Inventory:
        omitted = tuple(Failure("0000:00:00.0", 0, reason, "partitions") for reason in reasons)
        return dataclasses.replace(build(snapshot), omitted=omitted)

    world = World(build=build_in_mode)
    world.scanner.scan()
    world.scanner.rebuild()
    assert len(world.heard) == 1, "nothing is news"
    reasons.append("it cannot be partitioned")
    world.scanner.rebuild()
    assert world.heard[1:] == [
        HardwareScanned(None, 2, (("0000:00:00.0 (partitions)", "it cannot be partitioned"),)),
    ]
    world.machine.away = True
    world.machine.generation += 1
    world.scanner.scan()
    world.scanner.rebuild()
    assert [type(each) for each in world.heard[2:]] == [HardwareUnavailable], "the mode is no sign of the driver"


def test_a_partition_that_was_made_is_offered_and_no_news() -> None:
    device = carve(h100(), ("1g.10gb", 0))
    states = [h100(), device]
    offer = Offer(Mode.DYNAMIC, owned=own(device, ("1g.10gb", 0)))
    world = World(build=lambda _: inventories.build(snapshot(states[0]), None, offer))
    world.scanner.scan()
    states.reverse()
    world.machine.generation += 1
    world.scanner.scan()
    assert world.changes == 2, "whoever prepares must know"
    assert [type(each) for each in world.heard] == [HardwareScanned]
    found = world.scanner.inventory
    assert found is not None
    assert [entry.partition.uuid for entry in found.entries if entry.partition and entry.partition.uuid] == [
        "MIG-1g.10gb-0"
    ]
