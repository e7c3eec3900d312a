"""Claims that share devices through MPS, from the claim to the daemon's process and back, for each vendor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pynvml
import pytest

from driver.contract import Vendor
from driver.core import inventory
from driver.daemons.places import Place
from driver.daemons.supervisor import Supervisor
from driver.model.occurrences import DaemonStarted, RepairFailed
from driver.model.prepared import ClaimRef
from driver.node.preparer import Preparer, open_preparer
from driver.vendors.simulated.vendor import Simulated
from tests.fakes.bench import Bench, claim, opaque, prepare_one, result, unprepare_one
from tests.fakes.waiting import wait_until
from tests.vendors.machines import make_roots
from tests.vendors.nvidia.sharers import QUICK, Shop
from tests.vendors.simulated.clients import Client

GROUP = "config.accel-dra.dev/v1alpha1"
LIMITS = {"activeThreadPercentage": 40, "pinnedMemoryLimit": "2Gi"}


def configure(**mps: object) -> bytes:
    sharing = {"strategy": "MPS", "mps": mps} if mps else {"strategy": "MPS"}
    return msgspec.json.encode({"apiVersion": GROUP, "kind": "GpuConfig", "sharing": sharing})


class Node:
    """A node's folders, claims and hardware; `start` is a fresh process of the plugin on it."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.root = root
        self.supervisor = self.supervise()
        self.vendor = self.make()
        self.bench.inventory = inventory.build(self.vendor.snapshot())
        self.preparer = self.open()

    def supervise(self) -> Supervisor:
        return Supervisor(self.root / "state/daemons", self.bench.emit, QUICK)

    def make(self) -> Vendor:
        return Simulated(make_roots(self.root), {"node": "l40s"}, self.supervisor)

    def open(self) -> Preparer:
        return open_preparer(self.bench.settings, self.vendor, self.bench.outside(), self.bench.disk)

    def restart(self) -> None:
        """End the plugin and start it again."""
        self.preparer.close()
        self.supervisor.close()
        self.supervisor = self.supervise()
        self.vendor = self.make()
        self.preparer = self.open()
        self.preparer.recover()

    def device(self, number: int = 0) -> str:
        assert self.bench.inventory
        return self.bench.inventory.entries[number].name

    def add(self, uid: str, **mps: object) -> ClaimRef:
        return self.bench.add(claim(uid, result(self.device()), config=[opaque(configure(**mps))]))

    def daemons(self) -> dict[str, int]:
        """Return the number of each daemon's process by name."""
        places = (Place(folder) for folder in (self.root / "state/daemons").glob("*"))
        return {place.name: process.pid for place in places if (process := place.read())}

    def started(self) -> list[str]:
        """Return how daemons came to run, in order."""
        return [each.how for each in self.bench.happened if isinstance(each, DaemonStarted)]

    def modes(self) -> list[str]:
        """Return the GPUs whose compute mode is not the default."""
        return sorted(path.name for path in (self.root / "state/simulated").glob("compute-mode/*"))

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.root / "state").glob("*/mps/*"))

    def prevent(self) -> None:
        """Make daemons fail from now on."""
        folder = self.root / "state/simulated/mps/claim-u1/pipe"
        (folder / "control").mkdir(parents=True)

    def sweep(self) -> None:
        for name in self.daemons():
            self.supervisor.stop(name)
        self.preparer.close()
        self.supervisor.close()


class NvidiaNode(Node):
    """The same with an NVIDIA driver whose programs are fake."""

    def supervise(self) -> Supervisor:
        if not hasattr(self, "shop"):
            self.shop = Shop(self.root)
        self.shop.start()
        return self.shop.supervisor

    def make(self) -> Vendor:
        vendor = self.shop.rig.create()
        vendor._sharer = self.shop.sharer
        self.shop.told = self.bench.happened
        return vendor

    def modes(self) -> list[str]:
        gpus = self.shop.rig.node.gpus
        return sorted(gpu.uuid for gpu in gpus if gpu.compute_mode != pynvml.NVML_COMPUTEMODE_DEFAULT)

    def prevent(self) -> None:
        folder = self.shop.service.root / "claim-u1"
        folder.mkdir(parents=True)
        (folder / "broken").touch()


@pytest.fixture(params=[Node, NvidiaNode], ids=["simulated", "nvidia"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    make: Callable[[Path], Node] = request.param
    node = make(tmp_path)
    yield node
    node.sweep()


def test_a_claim_with_mps_has_its_daemon_until_it_is_unprepared(node: Node) -> None:
    wanted = node.add("u1", **LIMITS)
    answer = prepare_one(node.preparer, wanted)
    assert (answer.error, len(answer.devices)) == ("", 1)
    assert [name.endswith("mps-claim-u1") for name in node.daemons()] == [True]
    assert len(node.modes()) == 1
    assert b"MPS_PIPE_DIRECTORY=" in b"".join(node.bench.files("cdi").values())
    running = node.daemons()
    assert prepare_one(node.preparer, wanted) == answer
    assert node.daemons() == running
    assert unprepare_one(node.preparer, wanted) == ""
    assert (node.daemons(), node.modes(), node.left()) == ({}, [], [])


def test_peer_defect_07_a_daemon_that_does_not_come_up_leaves_nothing_behind(node: Node) -> None:
    node.prevent()
    wanted = node.add("u1", **LIMITS)
    answer = prepare_one(node.preparer, wanted)
    assert "mps-claim-u1: " in answer.error
    assert "its last words: " in answer.error
    assert answer.devices == ()
    assert (node.daemons(), node.modes(), node.left()) == ({}, [], [])
    assert node.bench.files("cdi", "state/claims") == {}
    assert prepare_one(node.preparer, wanted).error == "", "what was in the way went with the attempt"
    assert unprepare_one(node.preparer, wanted) == ""


def test_a_daemon_lives_on_over_a_restart_of_the_plugin_and_is_watched_again(node: Node) -> None:
    wanted = node.add("u1")
    prepare_one(node.preparer, wanted)
    before = node.daemons()
    node.restart()
    assert node.daemons() == before
    (pid,) = before.values()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: node.started()[-2:] == ["found", "again"])
    assert unprepare_one(node.preparer, wanted) == ""
    assert (node.daemons(), node.modes(), node.left()) == ({}, [], [])


def test_a_daemon_that_died_with_the_plugin_is_started_for_the_pods_that_run(node: Node) -> None:
    wanted = node.add("u1")
    prepare_one(node.preparer, wanted)
    node.supervisor.close()
    ((name, pid),) = node.daemons().items()
    os.kill(pid, signal.SIGKILL)
    node.restart()
    assert node.daemons()[name] != pid
    assert not [each for each in node.bench.happened if isinstance(each, RepairFailed)]
    assert unprepare_one(node.preparer, wanted) == ""


def test_limits_of_the_configuration_are_those_of_the_daemon(tmp_path: Path) -> None:
    node = Node(tmp_path)
    try:
        wanted = node.add("u1", **LIMITS)
        prepare_one(node.preparer, wanted)
        with Client(tmp_path / "state/simulated/mps/claim-u1/pipe") as client:
            assert client.join() == "granted 40 0=2048M"
        assert unprepare_one(node.preparer, wanted) == ""
    finally:
        node.sweep()


def test_a_limit_that_makes_no_sense_is_refused_before_anything_is_done(node: Node) -> None:
    answer = prepare_one(node.preparer, node.add("u1", activeThreadPercentage=0))
    assert "activeThreadPercentage" in answer.error
    assert (node.daemons(), node.modes(), node.left()) == ({}, [], [])
