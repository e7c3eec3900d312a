"""The doctor sees daemons that do not run, and what they would need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.cli.checks.daemons import Daemons, is_shared
from driver.cli.checks.findings import Level
from driver.daemons import processes
from driver.daemons.places import Place
from driver.daemons.processes import Process
from tests.fakes.folders import Machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="m") as root:
        yield Machine(Path(root))


def look(machine: Machine, **options: str) -> list[tuple[Level, str]]:
    checks = Daemons(machine.settings(**options)).list_checks()
    return [(finding.level, finding.text) for check in checks for finding in check.look()]


def note(machine: Machine, name: str, process: Process) -> Place:
    """Write down what a plugin does that started a daemon."""
    place = Place(Path(machine.settings().records_root) / "daemons" / name)
    assert place.try_lock()
    place.write(process)
    place.unlock()
    return place


def test_without_daemons_there_is_nothing_to_say(machine: Machine) -> None:
    assert look(machine) == []


def test_daemons_that_run_are_counted_and_one_that_does_not_is_named(machine: Machine) -> None:
    this = processes.identify(os.getpid())
    assert this
    note(machine, "mps-a", this)
    note(machine, "mps-b", this)
    note(machine, "mps-c", Process(os.getpid(), this.start + 1)).log.path.write_text("no device\n")
    stopped = note(machine, "mps-d", this)
    stopped.clear()
    assert look(machine) == [
        (Level.WARNING, "daemon mps-c does not run; its last words: no device"),
        (Level.OK, "2 daemons running"),
    ]


def test_control_groups_that_cannot_be_had_are_a_failure(machine: Machine, tmp_path: Path) -> None:
    tree = tmp_path / "cgroup"
    wanted = tree / "accel-dra"
    tree.mkdir()
    assert look(machine, daemon_cgroup=str(wanted)) == [
        (Level.FAILED, f"{wanted} is not in a tree of control groups"),
    ]
    (tree / "cgroup.procs").touch()
    assert look(machine, daemon_cgroup=str(wanted)) == [(Level.OK, f"daemons get control groups below {wanted}")]
    wanted.touch()
    assert look(machine, daemon_cgroup=str(wanted)) == [(Level.FAILED, f"control group {wanted} is not a folder")]


def test_shared_memory_that_the_host_does_not_see_is_a_warning(machine: Machine) -> None:
    folder = machine.settings().records_root
    table = machine.proc / "self" / "mountinfo"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(f"30 22 8:1 / {folder} rw - ext4 /dev/sda1 rw\n")
    ((level, text),) = look(machine, shares="MPS")
    assert level is Level.WARNING
    assert text.endswith("NVIDIA MPS would be refused")
    table.write_text(f"30 22 8:1 / {folder} rw shared:5 - ext4 /dev/sda1 rw\n")
    assert look(machine, shares="MPS") == [(Level.OK, f"the host sees what is mounted in {folder}")]
    assert look(machine, shares="TimeSlicing") == []


def test_the_nearest_mount_counts() -> None:
    table = "1 0 8:1 / / rw shared:1 - ext4 a rw\n2 1 8:2 / /var/lib rw - ext4 b rw\nnonsense\n"
    assert is_shared(table, "/etc")
    assert not is_shared(table, "/var/lib/kubelet")
    assert is_shared(table, "/var/library")
