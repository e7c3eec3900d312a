"""Sharing of simulated devices: modes and their return, daemons that are processes, limits that hold."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from driver.contract import Target
from driver.daemons.guarding import Timings
from driver.daemons.launching import Patience
from driver.daemons.places import Place
from driver.daemons.supervisor import Supervisor
from driver.model.devices import Partition
from driver.model.errors import InvalidInput, StepFailed
from driver.model.occurrences import DaemonStarted, Occurrence
from driver.model.prepared import ContainerEdits, Step
from driver.model.sharing import Interval, Sharing, Strategy
from driver.vendors.simulated.vendor import Simulated
from tests.fakes.waiting import wait_until
from tests.vendors.machines import make_roots
from tests.vendors.simulated.clients import Client

GIB = 1 << 30
QUICK = Timings(first_pause=0.02, longest_pause=0.1, tick=0.05, patience=Patience(5.0, 1.0, 5.0))
MPS = Sharing(Strategy.MPS)


class Node:
    """A machine with simulated devices, whose daemons are processes."""

    def __init__(self, root: Path, node: str = "l40s") -> None:
        self.root = root
        self.node = node
        self.told: list[Occurrence] = []
        self.start()

    def start(self) -> None:
        """Start the plugin."""
        roots = make_roots(self.root)
        self.supervisor = Supervisor(Path(roots.state_root) / "daemons", self.told.append, QUICK)
        self.vendor = Simulated(roots, {"node": self.node}, self.supervisor)

    def target(self, number: int = 0, sharing: Sharing | None = MPS, claim: str = "c1", **more: object) -> Target:
        plain: dict[str, object] = {"partition": None, "admin_access": False, "share_id": None} | more
        gpu = self.vendor.snapshot().accelerators[number]
        return Target(f"gpu-{number}", gpu, claim=claim, sharing=sharing, **plain)  # type: ignore[arg-type]

    def mebibytes(self) -> int:
        """Return the memory of each device."""
        return (self.target().accelerator.memory_bytes or 0) >> 20

    def prepare(self, *targets: Target) -> tuple[list[Step], dict[str, ContainerEdits]]:
        done: list[Step] = []
        for step in self.vendor.plan(targets):
            done.append(self.vendor.run(step, tuple(done)))
        return done, dict(self.vendor.prepare(targets, done).devices)

    def unprepare(self, steps: Sequence[Step]) -> None:
        for step in reversed(steps):
            self.vendor.undo(step)

    def state(self) -> list[str]:
        """Return the files that sharing keeps, without logs."""
        root = self.root / "state" / "simulated"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())

    def daemons(self) -> list[str]:
        """Return the names of daemons that run."""
        folders = (self.root / "state/daemons").glob("*")
        return sorted(folder.name for folder in folders if Place(folder).read())

    def kill(self, daemon: str) -> None:
        process = Place(self.root / "state/daemons" / daemon).read()
        assert process
        os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for folder in (tmp_path / "state/daemons").glob("*"):
        node.supervisor.stop(folder.name)
    node.supervisor.close()


def pipe(edits: ContainerEdits) -> Path:
    """Return the host's folder behind the container's pipe folder."""
    (mount,) = edits.mounts
    assert f"SIMULATED_MPS_PIPE_DIRECTORY={mount.container_path}" in edits.env
    return Path(mount.host_path)


def test_a_claim_that_shares_nothing_has_no_steps(node: Node) -> None:
    assert node.vendor.plan([node.target(sharing=None), node.target(1, Sharing())]) == ()
    assert node.state() == []


def test_admin_access_changes_nothing_and_gets_nothing(node: Node) -> None:
    target = node.target(admin_access=True)
    assert node.vendor.plan([target]) == ()
    assert node.vendor.prepare([target]).devices["gpu-0"].mounts == ()


def test_time_slicing_sets_interval_and_mode_and_gives_both_back(node: Node) -> None:
    sharing = Sharing(Strategy.TIME_SLICING, Interval.LONG)
    steps, edits = node.prepare(node.target(sharing=sharing))
    uuid = node.target().accelerator.uuid
    assert [(step.name, step.key, step.arguments["value"]) for step in steps] == [
        ("compute-mode", f"compute-mode/{uuid}", "Default"),
        ("time-slice", f"time-slice/{uuid}", "Long"),
    ]
    assert node.state() == [f"time-slice/{uuid}"]
    assert edits["gpu-0"].mounts == ()
    node.unprepare(steps)
    node.unprepare(steps)
    assert node.state() == []


def test_a_mode_that_an_admin_set_comes_back(node: Node) -> None:
    first, _ = node.prepare(node.target(sharing=Sharing(Strategy.TIME_SLICING, Interval.SHORT)))
    second, _ = node.prepare(node.target(sharing=Sharing(Strategy.TIME_SLICING, Interval.LONG), claim="c2"))
    node.unprepare(second)
    uuid = node.target().accelerator.uuid
    assert (node.root / "state/simulated/time-slice" / uuid).read_text() == "Short"
    node.unprepare(first)
    assert node.state() == []


def test_a_mode_that_somebody_else_has_set_since_is_left(node: Node) -> None:
    steps, _ = node.prepare(node.target(sharing=Sharing(Strategy.TIME_SLICING, Interval.SHORT)))
    path = node.root / "state/simulated/time-slice" / node.target().accelerator.uuid
    path.write_text("Medium")
    node.unprepare(steps)
    assert path.read_text() == "Medium"


def test_mps_starts_one_daemon_with_the_limits_of_the_claim_and_ends_it(node: Node) -> None:
    steps, edits = node.prepare(node.target(sharing=Sharing(Strategy.MPS, None, 40, 2 * GIB)))
    assert [step.name for step in steps] == ["compute-mode", "mps-daemon", "mps-limits"]
    assert [step.upkeep for step in steps] == [False, True, False]
    assert node.daemons() == ["simulated-mps-claim-c1"]
    with Client(pipe(edits["gpu-0"])) as client:
        assert client.join() == "granted 40 0=2048M"
        assert client.ask("allocate 0 2049M").startswith("error: out of memory")
    node.unprepare(steps)
    assert node.daemons() == []
    assert node.state() == []
    node.unprepare(steps)


def test_steps_run_again_find_everything_done(node: Node) -> None:
    targets = [node.target(sharing=Sharing(Strategy.MPS, None, 40))]
    first = node.prepare(*targets)
    started = [each for each in node.told if isinstance(each, DaemonStarted)]
    second = node.prepare(*targets)
    assert first[1] == second[1]
    assert [(step.name, step.arguments) for step in first[0]] == [(step.name, step.arguments) for step in second[0]]
    assert {each.pid for each in node.told if isinstance(each, DaemonStarted)} == {started[0].pid}
    node.unprepare(first[0])
    assert node.state() == []


def test_whole_devices_of_a_claim_have_one_daemon_together(node: Node) -> None:
    sharings = (Sharing(Strategy.MPS, None, 50, GIB), Sharing(Strategy.MPS, None, 50))
    steps, edits = node.prepare(node.target(0, sharings[0]), node.target(1, sharings[1]))
    assert [step.name for step in steps] == ["compute-mode", "compute-mode", "mps-daemon", "mps-limits"]
    assert pipe(edits["gpu-0"]) == pipe(edits["gpu-1"])
    with Client(pipe(edits["gpu-0"])) as client:
        assert client.join() == f"granted 50 0=1024M,1={node.mebibytes()}M"
    node.unprepare(steps)
    assert node.state() == []


def test_devices_that_could_be_shared_and_are_taken_as_a_whole_have_one_daemon_together(node: Node) -> None:
    """Where claims can have shares, a claim that leaves no room has a share id, too."""
    steps, edits = node.prepare(node.target(0, share_id="s1"), node.target(1, share_id="s2"))
    assert pipe(edits["gpu-0-s1"]) == pipe(edits["gpu-1-s2"])
    node.unprepare(steps)
    assert node.state() == []


def test_one_daemon_cannot_have_two_percentages(node: Node) -> None:
    targets = [node.target(0, Sharing(Strategy.MPS, None, 50)), node.target(1, Sharing(Strategy.MPS, None, 60))]
    with pytest.raises(InvalidInput, match=r"activeThreadPercentage: .*'50', '60'.* same for all whole devices"):
        node.vendor.plan(targets)


def test_claims_that_have_shares_of_a_device_meet_in_its_daemon(node: Node) -> None:
    big = node.target(0, Sharing(Strategy.MPS, None, 60, 8 * GIB), "c1", share_id="s1", shared=True)
    small = node.target(0, Sharing(Strategy.MPS, None, 20, 2 * GIB), "c2", share_id="s2", shared=True)
    first, of_big = node.prepare(big)
    second, of_small = node.prepare(small)
    assert node.daemons() == ["simulated-mps-gpu-0"]
    assert {step.key for step in first} & {step.key for step in second} - {""} == {
        f"compute-mode/{big.accelerator.uuid}",
        "mps-daemon/gpu-0",
    }
    assert "SIMULATED_MPS_ACTIVE_THREAD_PERCENTAGE=20" in of_small["gpu-0-s2"].env
    assert "SIMULATED_MPS_PINNED_DEVICE_MEM_LIMIT=0=2048M" in of_small["gpu-0-s2"].env
    folder = pipe(of_big["gpu-0-s1"])
    assert folder == pipe(of_small["gpu-0-s2"])
    with Client(folder) as client:
        assert client.join() == "granted 60 0=8192M"
        assert client.join("20", "0=2048M") == "granted 20 0=2048M"
    node.unprepare(first[2:])  # what is shared is undone with the last claim only
    with Client(folder) as client:
        assert client.join() == "granted 20 0=2048M"
    node.unprepare([*first[:2], *second[2:]])  # the driver takes what is shared over as it was found first
    assert node.state() == []


def test_a_claim_without_limits_lifts_those_of_the_daemon(node: Node) -> None:
    first, edits = node.prepare(node.target(0, Sharing(Strategy.MPS, None, 20, GIB), "c1", share_id="s1", shared=True))
    second, _ = node.prepare(node.target(0, MPS, "c2", share_id="s2", shared=True))
    with Client(pipe(edits["gpu-0-s1"])) as client:
        assert client.join() == f"granted 100 0={node.mebibytes()}M"
    node.unprepare(second[2:])
    with Client(pipe(edits["gpu-0-s1"])) as client:
        assert client.join() == "granted 20 0=1024M"
    node.unprepare(first)


def test_a_partition_has_a_daemon_of_its_own_and_no_modes(tmp_path: Path) -> None:
    node = Node(tmp_path, "hgx-h100-mig")
    gpu = next(gpu for gpu in node.vendor.snapshot().accelerators if gpu.partitions)
    part: Partition = gpu.partitions[0]
    target = Target("gpu-0-part", gpu, part, admin_access=False, share_id=None, claim="c1", sharing=MPS)
    try:
        steps, edits = node.prepare(target)
        assert [step.name for step in steps] == ["mps-daemon", "mps-limits"]
        assert node.daemons() == ["simulated-mps-gpu-0-part"]
        assert part.memory_bytes
        with Client(pipe(edits["gpu-0-part"])) as client:
            assert client.join() == f"granted 100 0={part.memory_bytes >> 20}M"
        node.unprepare(steps)
        assert node.state() == []
    finally:
        node.supervisor.stop("simulated-mps-gpu-0-part")
        node.supervisor.close()


def test_limits_are_told_again_to_a_daemon_that_was_killed(node: Node) -> None:
    steps, edits = node.prepare(node.target(sharing=Sharing(Strategy.MPS, None, 30, GIB)))
    node.kill("simulated-mps-claim-c1")
    wait_until(lambda: [each.how for each in node.told if isinstance(each, DaemonStarted)] == ["started", "again"])
    with Client(pipe(edits["gpu-0"])) as client:
        assert client.join() == "granted 30 0=1024M"
    node.unprepare(steps)


def test_clients_live_on_while_the_plugin_is_restarted(node: Node) -> None:
    steps, edits = node.prepare(node.target(sharing=Sharing(Strategy.MPS, None, 30, GIB)))
    with Client(pipe(edits["gpu-0"])) as client:
        client.join()
        node.supervisor.close()
        assert client.ask("allocate 0 512M") == "ok"
        node.start()
        for step in steps:
            if step.upkeep:
                node.vendor.run(step, ())
        assert client.ask("allocate 0 512M") == "ok"
        assert client.ask("allocate 0 1M") == "error: out of memory: 1024M of 1024M are used"
    node.unprepare(steps)
    assert node.state() == []


def test_a_claim_is_undone_by_a_plugin_that_did_not_prepare_it(node: Node) -> None:
    steps, _ = node.prepare(node.target())
    node.supervisor.close()
    node.start()
    node.unprepare(steps)
    assert (node.daemons(), node.state()) == ([], [])


def test_steps_that_were_never_run_can_be_undone(node: Node) -> None:
    node.unprepare(node.vendor.plan([node.target(), node.target(1)]))
    assert (node.daemons(), node.state()) == ([], [])


def test_limits_that_a_daemon_does_not_take_are_a_failure(node: Node) -> None:
    steps, _ = node.prepare(node.target())
    node.supervisor.stop("simulated-mps-claim-c1")
    with pytest.raises(StepFailed, match="mps-limits: the daemon does not take the limits"):
        node.vendor.run(steps[-1], ())
    node.unprepare(steps)


def test_a_limit_below_one_mebibyte_is_refused(node: Node) -> None:
    with pytest.raises(InvalidInput, match="gpu-0: pinnedMemoryLimit: 4096 is not allowed; allowed: at least 1Mi"):
        node.vendor.plan([node.target(sharing=Sharing(Strategy.MPS, None, None, 4096))])


def test_a_state_folder_that_cannot_be_written_fails_the_step(node: Node) -> None:
    (node.root / "state").mkdir(exist_ok=True)
    (node.root / "state/simulated").write_text("")
    (first, *_) = node.vendor.plan([node.target()])
    with pytest.raises(StepFailed, match=r"step compute-mode: .*: Not a directory"):
        node.vendor.run(first, ())
