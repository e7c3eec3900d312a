"""Health events become health, once, and a vendor that fails is asked again without a busy loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from driver.core import health
from driver.core.health import HealthState
from driver.model.devices import Snapshot
from driver.model.health import HealthEvent, Severity
from driver.model.occurrences import HealthReported, HealthUnavailable, Occurrence
from driver.model.slices import Device, DeviceAttribute, DeviceTaint
from driver.node.watchdog import PAUSE_SECONDS, Watchdog
from tests.fakes.hardware import accelerator, partition, snapshot

ADDRESS = "0000:1a:00.0"
EMPTY = Snapshot("v", None, None, None, ())


def event(cause: str = "xid-79", severity: Severity = Severity.UNHEALTHY, at: float = 100.0) -> HealthEvent:
    return HealthEvent(ADDRESS, cause, severity, "message", at)


class Reporter:
    """A vendor whose events are given by the test; it fails first if told to."""

    def __init__(self, *events: HealthEvent, fails: bool = False) -> None:
        self.events = list(events)
        self.fails = fails
        self.calls = 0
        self.delivered = threading.Event()

    def watch_health(self, stopped: Callable[[], bool]) -> Iterator[HealthEvent]:
        self.calls += 1
        if self.fails:
            self.delivered.set()
            raise OSError("device lost")
        yield from self.events
        self.delivered.set()
        while not stopped():
            time.sleep(0.005)


class World:
    def __init__(self, reporter: Reporter | None = None) -> None:
        self.reporter = reporter or Reporter()
        self.now = 100.0
        self.changes = 0
        self.heard: list[Occurrence] = []
        self.watchdog = Watchdog(self.reporter, self._count, self.heard.append, clock=lambda: self.now)

    def _count(self) -> None:
        self.changes += 1

    def severity(self) -> Severity:
        return health.find_severity(self.watchdog.health, ADDRESS, None)


def test_a_fault_is_told_and_changes_health_once() -> None:
    world = World()
    world.watchdog.fold(event())
    world.watchdog.fold(event())
    assert world.severity() is Severity.UNHEALTHY
    assert world.changes == 1
    assert world.heard[0] == HealthReported(ADDRESS, "xid-79", "unhealthy", "message")


def test_recovery_settles_after_the_quiet_time() -> None:
    world = World()
    world.watchdog.fold(event())
    world.watchdog.fold(event(severity=Severity.HEALTHY, at=110))
    world.now = 110 + health.RECOVERY_SECONDS - 1
    world.watchdog.settle()
    assert world.severity() is Severity.UNHEALTHY
    world.now += 2
    world.watchdog.settle()
    assert world.severity() is Severity.HEALTHY


def test_peer_defect_18_a_taint_goes_away_with_its_fault() -> None:
    world = World()
    world.watchdog.fold(event())
    assert health.list_taints(world.watchdog.health, ADDRESS, None)
    world.watchdog.fold(event(severity=Severity.HEALTHY, at=110))
    world.now = 1000
    world.watchdog.settle()
    assert health.list_taints(world.watchdog.health, ADDRESS, None) == ()


def test_the_thread_listens_until_it_is_stopped() -> None:
    world = World(Reporter(event(), event("ecc", Severity.DEGRADED)))
    world.watchdog.start()
    assert world.reporter.delivered.wait(10)
    world.watchdog.stop()
    assert world.severity() is Severity.UNHEALTHY
    assert world.changes == 2


def test_peer_defect_08_a_failing_event_source_is_no_busy_loop() -> None:
    world = World(Reporter(fails=True))
    world.watchdog.start()
    assert world.reporter.delivered.wait(10)
    world.watchdog.stop()
    assert world.reporter.calls == 1
    assert world.heard == [HealthUnavailable("device lost")]


def test_health_is_not_known_while_the_event_source_fails() -> None:
    world = World(Reporter(fails=True))
    world.watchdog.start()
    assert world.reporter.delivered.wait(10)
    world.watchdog.stop()
    assert world.watchdog.health.deaf == "device lost"
    assert world.changes == 1
    world.watchdog.hear()
    assert world.watchdog.health.deaf == "device lost", "it is not listening"


def test_health_is_known_again_when_listening_has_gone_well_for_a_while() -> None:
    world = World()
    world.watchdog.start()
    assert world.reporter.delivered.wait(10)
    world.watchdog.stop()
    world.watchdog.health = HealthState(deaf="device lost")
    world.now += PAUSE_SECONDS - 1
    world.watchdog.hear()
    assert world.watchdog.health.deaf == "device lost"
    world.now += 1
    world.watchdog.hear()
    assert world.watchdog.health.deaf == ""


def test_what_is_known_of_faults_is_kept_while_nobody_listens() -> None:
    world = World()
    world.watchdog.health = HealthState(deaf="device lost")
    world.watchdog.fold(event())
    world.watchdog.restore([], EMPTY)
    assert (world.severity(), world.watchdog.health.deaf) == (Severity.UNHEALTHY, "device lost")


def test_a_published_fault_outlives_a_restart() -> None:
    published = Device(
        name="gpu-0000-1a-00-0",
        attributes={"resource.kubernetes.io/pciBusID": DeviceAttribute(string=ADDRESS)},
        taints=(DeviceTaint(key="accel-dra.dev/unhealthy", value="xid-79", effect="NoSchedule"),),
    )
    world = World()
    world.watchdog.fold(event("ecc", Severity.DEGRADED))
    world.watchdog.restore([published], EMPTY)
    assert world.severity() is Severity.UNHEALTHY
    assert {fault.cause for fault in health.find_faults(world.watchdog.health, ADDRESS, None)} == {"xid-79", "ecc"}


def test_the_end_of_a_published_fault_counts_though_it_was_told_before_the_fault_was_known() -> None:
    """A vendor knows at once that a restart of the node has ended a fault; what was published is read later."""
    published = Device(
        name="gpu-0000-1a-00-0",
        attributes={"resource.kubernetes.io/pciBusID": DeviceAttribute(string=ADDRESS)},
        taints=(DeviceTaint(key="accel-dra.dev/unhealthy", value="xid-79", effect="NoSchedule"),),
    )
    world = World()
    world.watchdog.fold(event(severity=Severity.HEALTHY, at=100))
    world.watchdog.restore([published], EMPTY)
    assert world.severity() is Severity.UNHEALTHY
    world.now = 100 + health.RECOVERY_SECONDS + 1
    world.watchdog.settle()
    assert world.severity() is Severity.HEALTHY


def test_a_fault_of_a_partition_ends_with_the_partition() -> None:
    whole = accelerator(ADDRESS, partitions=(partition(uuid="MIG-1"),))
    world = World()
    world.watchdog.fold(HealthEvent(ADDRESS, "ecc", Severity.DEGRADED, "message", 1.0, "MIG-1"))
    assert health.find_severity(world.watchdog.look(snapshot(whole)), ADDRESS, "MIG-1") is Severity.DEGRADED
    for _ in range(2):
        emptied = world.watchdog.look(snapshot(accelerator(ADDRESS)))
    assert health.find_severity(emptied, ADDRESS, "MIG-1") is Severity.HEALTHY
    again = world.watchdog.look(snapshot(whole))
    assert health.find_severity(again, ADDRESS, "MIG-1") is Severity.HEALTHY, "it does not come back"


def test_a_fault_of_a_partition_that_is_newer_than_the_last_look_is_kept() -> None:
    """One that was made for a claim a moment ago; a fault makes the inventory be built again from the last look."""
    before, after = snapshot(accelerator(ADDRESS)), accelerator(ADDRESS, partitions=(partition(uuid="MIG-1"),))
    world = World()
    world.watchdog.look(before)
    world.watchdog.fold(HealthEvent(ADDRESS, "xid-94", Severity.UNHEALTHY, "message", 1.0, "MIG-1"))
    for _ in range(3):
        world.watchdog.look(before)
    world.watchdog.look(snapshot(accelerator(ADDRESS)))
    found = world.watchdog.look(snapshot(after))
    assert health.find_severity(found, ADDRESS, "MIG-1") is Severity.UNHEALTHY
