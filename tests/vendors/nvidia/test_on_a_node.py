"""MIG on demand from the published slice to the container and back: under the transactions of the node."""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import pytest

from driver.core import inventory, partitioning
from driver.core.offering import Mode, Offer
from driver.model.devices import Entry, Inventory
from driver.model.prepared import ClaimRef
from driver.model.slices import Device
from driver.node.preparer import Preparer
from tests.fakes.bench import Bench, BenchVendor, claim, prepare_one, result, unprepare_one
from tests.fakes.nvml.hardware import FakeInstance, load_node
from tests.vendors.machines import Killed
from tests.vendors.nvidia.machine import Rig
from tests.vendors.nvidia.test_partitioning import shape, stand


class Site:
    """A node with eight H100 that offers whatever can be made."""

    def __init__(self, folder: Path, gpus: int = 8) -> None:
        node = load_node("hgx-h100")
        node.gpus = node.gpus[:gpus]
        self.rig = Rig(folder / "machine", node)
        (folder / "bench").mkdir()
        self.bench = Bench(folder / "bench")
        self.vendor = self.rig.create()
        self.preparer = self.start()

    def start(self) -> Preparer:
        """Begin a new process of the plugin."""
        self.vendor = self.rig.create()
        self.bench.vendor = cast("BenchVendor", self.vendor)
        self.look()
        self.preparer = self.bench.open()
        return self.preparer

    def look(self) -> Inventory:
        """Look at the hardware as the scanner does."""
        steps = [step for record in self.bench.records() for step in record.steps]
        offer = Offer(Mode.DYNAMIC, owned=partitioning.owned(steps))
        found = inventory.build(self.vendor.snapshot(), None, offer)
        self.bench.inventory = found
        return found

    def published(self) -> list[Device]:
        return [entry.device for entry in self.look().entries]

    def ask(self, uid: str, *names: str) -> ClaimRef:
        """Put a claim into the cluster to which these devices are allocated."""
        return self.bench.add(claim(uid, *(result(name, f"r{number}") for number, name in enumerate(names))))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, gpus=2)


def test_a_partition_of_ours_changes_nothing_that_is_published(site: Site) -> None:
    before, hardware = site.published(), stand(site.rig)
    reference = site.ask("u1", "gpu-0000-1b-00-0-2g-20gb-4", "gpu-0000-1b-00-0-1g-10gb-0")
    answer = prepare_one(site.preparer, reference)
    assert not answer.error
    assert shape(site.rig.node.gpus[0]) == [("1g.10gb", 0, 0), ("2g.20gb", 4, 0)]
    assert site.published() == before
    assert prepare_one(site.preparer, reference) == answer
    assert unprepare_one(site.preparer, reference) == ""
    assert stand(site.rig) == hardware
    assert site.published() == before
    assert site.bench.files() == {}


def test_a_partition_of_somebody_else_is_published_as_it_is_and_what_overlaps_it_is_not(site: Site) -> None:
    site.rig.node.gpus[0].mig = True
    FakeInstance.make(site.rig.node.gpus[0], "3g.40gb", 4)
    site.rig.tree.sync_capabilities()
    entries = [entry for entry in site.look().entries if entry.accelerator.index == 0]
    foreign = [entry for entry in entries if entry.partition and entry.partition.uuid]
    assert [entry.name for entry in foreign] == ["gpu-0000-1b-00-0-3g-40gb-4"]
    assert all(ends(entry) <= 4 for entry in entries if entry not in foreign)
    answer = prepare_one(site.preparer, site.ask("u1", "gpu-0000-1b-00-0-1g-10gb-3"))
    assert not answer.error
    assert len(site.rig.node.gpus[0].instances) == 2


def ends(entry: Entry) -> int:
    assert entry.partition
    return entry.partition.placement + (entry.partition.size or 0)


def test_a_gpu_is_whole_for_one_claim_and_seven_for_others(site: Site) -> None:
    """No restart, and back again."""
    whole = site.ask("whole", "gpu-0000-1b-00-0")
    hardware = stand(site.rig)
    for _ in range(2):
        assert not prepare_one(site.preparer, whole).error
        assert unprepare_one(site.preparer, whole) == ""
        parts = [site.ask(f"p{place}", f"gpu-0000-1b-00-0-1g-10gb-{place}") for place in range(7)]
        assert [prepare_one(site.preparer, part).error for part in parts] == [""] * 7
        assert len(shape(site.rig.node.gpus[0])) == 7
        site.look()
        assert [unprepare_one(site.preparer, part) for part in random.Random(1).sample(parts, 7)] == [""] * 7
        site.look()
    assert stand(site.rig) == hardware
    assert site.bench.files() == {}


def test_a_gpu_that_something_holds_refuses_and_leaves_no_trace(site: Site) -> None:
    hardware = stand(site.rig)
    site.rig.node.gpus[0].clients = [4711]
    reference = site.ask("u1", "gpu-0000-1b-00-0-2g-20gb-4")
    assert "the GPU is in use, by processes 4711" in prepare_one(site.preparer, reference).error
    assert (stand(site.rig), site.bench.files()) == (hardware, {})
    site.rig.node.gpus[0].clients.clear()
    assert not prepare_one(site.preparer, reference).error


def test_a_node_killed_before_any_change_goes_on(site: Site) -> None:
    """The next process rolls back, and the kubelet's next try makes it anew."""
    hardware, published = stand(site.rig), site.published()
    reference = site.ask("u1", "gpu-0000-1b-00-0-2g-20gb-4", "gpu-0000-1b-00-0-1g-10gb-0")
    for changes in range(20):
        site.rig.library.changes = changes
        try:
            answer = prepare_one(site.preparer, reference)
        except Killed:
            site.preparer.close()
            answer = prepare_one(site.start(), reference)
            finished = False
        else:
            finished = True
        site.rig.library.changes = None
        assert not answer.error
        assert shape(site.rig.node.gpus[0]) == [("1g.10gb", 0, 0), ("2g.20gb", 4, 0)], changes
        site.look()
        assert unprepare_one(site.preparer, reference) == ""
        assert (stand(site.rig), site.bench.files(), site.published()) == (hardware, {}, published)
        if finished:
            break
    assert changes == 5, "the mode, and two instances of two kinds"


def test_fifty_six_partitions_come_and_go_without_drift(tmp_path: Path) -> None:
    site = Site(tmp_path)
    hardware, published = stand(site.rig), site.published()
    names = [device.name for device in published if "-1g-10gb-" in device.name and "me" not in device.name]
    assert len(names) == 56
    dice = random.Random(7)
    claims = [site.ask(f"u{number}", name) for number, name in enumerate(dice.sample(names, 56))]
    assert {prepare_one(site.preparer, each).error for each in claims} == {""}
    assert sum(len(gpu.instances) for gpu in site.rig.node.gpus) == 56
    assert site.published() == published
    assert {unprepare_one(site.preparer, each) for each in dice.sample(claims, 56)} == {""}
    assert (stand(site.rig), site.bench.files()) == (hardware, {})
