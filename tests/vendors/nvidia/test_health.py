"""Faults of GPUs and MIG devices, from a line in the kernel's log to a taint, and their end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pynvml
import pytest

from driver.core import health
from driver.core.health import HealthState
from driver.model.errors import Unavailable
from driver.model.health import HealthEvent, Severity
from driver.vendors.nvidia.vendor import Nvidia
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig

ONE, PARTS = "0000:1b:00.0", "0000:46:00.0"
BOOT = "5d0a3f0e-0b39-4c5c-9b51-5c3b1c1f0a11"


class Log:
    """A kernel's log, and a vendor that listens to it a batch of lines at a time."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.path = rig.tree.dev / "dev/kmsg"
        self.path.unlink()
        os.mkfifo(self.path)
        self.file = os.open(self.path, os.O_RDWR)
        boot = rig.tree.proc / "sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True)
        boot.write_text(f"{BOOT}\n")
        self.boot = boot

    def close(self) -> None:
        os.close(self.file)

    def tell(self, vendor: Nvidia, *lines: str) -> list[HealthEvent]:
        """Let the kernel say these lines while the vendor listens; return its events."""
        told = lines or ("nothing of interest",)
        os.write(self.file, "".join(f"4,1,1,-;NVRM: {line}\n" for line in told).encode())
        asked = iter(range(1))
        return list(vendor.watch_health(lambda: next(asked, None) is None))


@pytest.fixture
def log(build: Build) -> Iterator[Log]:
    log = Log(build("hgx-h100"))
    yield log
    log.close()


@pytest.fixture
def parts(build: Build) -> Iterator[Log]:
    """Return the log of a machine with MIG devices: instances 7, 8 and 9 on the second GPU."""
    log = Log(build("a100-mig"))
    yield log
    log.close()


def shorten(events: Sequence[HealthEvent]) -> list[tuple[str, str, Severity, str | None]]:
    return [(each.pci_address, each.cause, each.severity, each.partition_uuid) for each in events]


def fold(events: Sequence[HealthEvent]) -> HealthState:
    state = HealthState()
    for event in events:
        state = health.fold(state, event)
    return state


def xid(number: int, place: str = "0000:1b:00", text: str = "pid=7, name=python, x") -> str:
    return f"Xid (PCI:{place}): {number}, {text}"


def test_a_fault_in_full(log: Log) -> None:
    (event,) = log.tell(log.rig.create(), "GPU at PCI:0000:1b:00: GPU-1", xid(79, text="GPU has fallen off the bus."))
    assert shorten([event]) == [(ONE, "xid-79", Severity.UNHEALTHY, None)]
    assert event.message == "XID 79: GPU has fallen off the bus."
    assert event.time > 1e9


def test_programs_that_fail_are_no_fault(log: Log) -> None:
    assert log.tell(log.rig.create(), *(xid(number) for number in (13, 31, 43, 45, 68, 109))) == []


def test_peer_defect_01_a_fatal_fault_is_not_hidden_by_a_later_one_that_is_ignored(log: Log) -> None:
    state = fold(log.tell(log.rig.create(), xid(79), xid(43), xid(94)))
    assert health.find_severity(state, ONE, None) is Severity.UNHEALTHY
    assert [taint.value for taint in health.list_taints(state, ONE, None)] == ["xid-79", "xid-94"]


def test_peer_defect_08_a_fault_of_the_gpu_is_a_fault_of_all_its_mig_devices(parts: Log) -> None:
    state = fold(parts.tell(parts.rig.create(), xid(79, "0000:46:00")))
    for instance in parts.rig.node.gpus[1].instances:
        assert health.find_severity(state, PARTS, instance.uuid) is Severity.UNHEALTHY


def test_a_fault_of_one_mig_device_is_its_own(parts: Log) -> None:
    middle = parts.rig.node.gpus[1].instances[1]
    events = parts.tell(parts.rig.create(), xid(94, "0000:46:00 GPU-I:08 GPU-CI:00"), xid(48, "0000:46:00 GPU-I:08"))
    assert shorten(events) == [
        (PARTS, "xid-94", Severity.DEGRADED, middle.uuid),
        (PARTS, "xid-48", Severity.UNHEALTHY, middle.uuid),
    ]


def test_a_fault_of_all_that_was_met_in_one_instance_is_one_of_all(parts: Log) -> None:
    events = parts.tell(parts.rig.create(), xid(119, "0000:46:00 GPU-I:08"))
    assert shorten(events) == [(PARTS, "xid-119", Severity.UNHEALTHY, None)]


@pytest.mark.parametrize("place", ["0000:46:00 GPU-I:12", "0000:46:00 GPU-I:08 GPU-CI:03"])
def test_a_mig_device_that_is_gone_took_its_fault_along(parts: Log, place: str) -> None:
    assert parts.tell(parts.rig.create(), xid(94, place)) == []


def test_an_instance_that_cannot_be_looked_up_makes_it_a_fault_of_the_gpu(parts: Log) -> None:
    parts.rig.node.gpus[1].lose()
    events = parts.tell(parts.rig.create(), xid(94, "0000:46:00 GPU-I:08"))
    assert shorten(events) == [(PARTS, "xid-94", Severity.DEGRADED, None)]


def test_a_storm_of_the_same_fault_is_told_once_a_minute(log: Log) -> None:
    vendor = log.rig.create()
    events = log.tell(vendor, *[xid(94)] * 200, xid(94, "0000:43:00"))
    assert [each.pci_address for each in events] == [ONE, "0000:43:00.0"]
    assert log.tell(vendor, xid(94)) == []


def test_a_gpu_for_which_nothing_has_to_be_done_any_more_has_recovered(log: Log) -> None:
    vendor = log.rig.create()
    log.tell(vendor, xid(95), xid(154, text="GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"))
    log.tell(vendor, xid(95, "0000:43:00"))
    events = log.tell(vendor, xid(154, text="GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"))
    assert shorten(events) == [
        (ONE, "xid-95", Severity.HEALTHY, None),
        (ONE, "xid-154", Severity.HEALTHY, None),
    ]
    assert len(log.tell(vendor, xid(95))) == 1, "it may come again at once"


@pytest.mark.parametrize("event", ["boot", "reload"])
def test_faults_end_with_the_life_of_the_driver_also_those_of_an_earlier_process(log: Log, event: str) -> None:
    log.tell(log.rig.create(), xid(79), xid(94, "0000:43:00"))
    assert log.tell(log.rig.create()) == [], "a restart of the plugin ends nothing"
    if event == "boot":
        log.boot.write_text("another\n")
    else:
        module = log.rig.tree.sys / "module/nvidia"
        module.rename(module.with_name("kept"))  # so that the number is not given out again
        assert log.tell(log.rig.create()) == [], "it is not loaded yet"
        log.rig.tree.sync()
    events = log.tell(log.rig.create())
    assert shorten(events) == [
        (ONE, "xid-79", Severity.HEALTHY, None),
        ("0000:43:00.0", "xid-94", Severity.HEALTHY, None),
    ]
    assert log.tell(log.rig.create()) == []


def test_a_fault_right_after_a_reload_does_not_end_with_it(log: Log) -> None:
    log.tell(log.rig.create(), xid(79))
    log.boot.write_text("another\n")
    assert [(each.cause, each.severity) for each in log.tell(log.rig.create(), xid(95))] == [
        ("xid-79", Severity.HEALTHY),
        ("xid-95", Severity.UNHEALTHY),
    ]
    assert log.tell(log.rig.create()) == []


def test_a_memory_that_is_damaged_or_cannot_be_written_hides_no_fault(log: Log) -> None:
    folder = log.rig.tree.folder / "state/nvidia"
    folder.mkdir(parents=True)
    (folder / "faults.json").write_text("{")
    assert len(log.tell(log.rig.create(), xid(79))) == 1
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("not a folder")
    assert len(log.tell(log.rig.create(), xid(79))) == 1


def test_peer_defect_08_a_log_that_is_not_there_is_told_at_once(build: Build) -> None:
    """Whoever listens pauses before the next try, and says meanwhile that health is not known."""
    rig = build("hgx-h100")
    (rig.tree.dev / "dev/kmsg").unlink()
    with pytest.raises(Unavailable, match="faults of GPUs are not heard"):
        list(rig.create().watch_health(lambda: False))


def test_listening_holds_no_library_and_no_device(log: Log) -> None:
    vendor = log.rig.create()
    asked = iter(range(1))
    for event in vendor.watch_health(lambda: next(asked, None) is None):
        pytest.fail(f"nothing has happened: {event}")
    assert (log.rig.loader.paths, log.rig.library.calls) == ([], [])


def test_a_look_does_not_wait_for_the_listener(log: Log) -> None:
    """The two have nothing in common: no session is kept while the log is read."""
    vendor = log.rig.create()
    os.write(log.file, f"4,1,1,-;NVRM: {xid(79)}\n".encode())
    stream = vendor.watch_health(lambda: False)
    assert next(iter(stream)).cause == "xid-79"
    assert len(vendor.snapshot().accelerators) == 8


def test_a_lost_gpu_is_told_by_both(log: Log) -> None:
    vendor = log.rig.create()
    log.rig.node.gpus[0].errors["*"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert len(log.tell(vendor, xid(79))) == 1
    assert [failure.pci_address for failure in vendor.snapshot().failures] == [ONE]


def test_the_memory_is_small_and_plain(log: Log) -> None:
    log.tell(log.rig.create(), xid(79), xid(79), xid(94))
    (file,) = (path for path in Path(log.rig.tree.folder / "state/nvidia").iterdir() if path.is_file())
    assert file.read_text().count("xid-") == 2
