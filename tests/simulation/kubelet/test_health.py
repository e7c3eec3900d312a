"""What the simulated kubelet knows of devices' health, for how long, and how pods show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from driver.kubelet.health import HealthService
from driver.model.health import DeviceHealth, Severity
from driver.simulation.kubelet.health import MAX_MESSAGE, HealthCache, HealthStream, describe
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.wire import HEALTH_V1, HEALTH_V1ALPHA1, V1, Device, DeviceReport, DraConnection
from tests.fakes.plugins import serve, short_folder
from tests.fakes.waiting import wait_until

DRIVER: Final = "gpu.example.com"
GPU: Final = Device(("gpu",), "node-1", "gpu-0", ("example.com/claim=a", "example.com/claim=b"))
OTHER: Final = Device(("gpu",), "node-1", "gpu-1", ())
HEALTHY: Final = DeviceReport("node-1", "gpu-0", "Healthy", "", 10)
SICK: Final = DeviceReport("node-1", "gpu-0", "Unhealthy", "xid-79", 10)


class World:
    """A cache with a clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.changes = 0
        self.cache = HealthCache(lambda: self.now, self.count)

    def count(self) -> None:
        self.changes += 1


@pytest.fixture
def world() -> World:
    return World()


def test_what_nobody_has_reported_is_unknown(world: World) -> None:
    assert world.cache.find(DRIVER, GPU) == ("Unknown", "")


def test_a_report_is_true_until_its_timeout(world: World) -> None:
    world.cache.take(DRIVER, [SICK])
    world.now += 9.9
    assert world.cache.find(DRIVER, GPU) == ("Unhealthy", "xid-79")
    world.now += 0.2
    assert world.cache.find(DRIVER, GPU) == ("Unknown", ""), "the message goes with the health"


def test_without_a_timeout_it_is_30_seconds(world: World) -> None:
    world.cache.take(DRIVER, [DeviceReport("node-1", "gpu-0", "Healthy", "", 0)])
    world.now += 29.9
    assert world.cache.find(DRIVER, GPU)[0] == "Healthy"
    world.now += 0.2
    assert world.cache.find(DRIVER, GPU)[0] == "Unknown"


def test_only_changes_wake_pods(world: World) -> None:
    for report, changes in ((HEALTHY, 1), (HEALTHY, 1), (SICK, 2), (SICK, 2), (HEALTHY, 3)):
        world.cache.take(DRIVER, [report])
        assert world.changes == changes


def test_a_device_that_is_not_named_again_keeps_its_time(world: World) -> None:
    world.cache.take(DRIVER, [HEALTHY, DeviceReport("node-1", "gpu-1", "Healthy", "", 10)])
    world.now += 8
    world.cache.take(DRIVER, [HEALTHY])
    world.now += 8
    assert world.cache.find(DRIVER, GPU)[0] == "Healthy"
    assert world.cache.find(DRIVER, OTHER)[0] == "Unknown"


def test_the_end_of_a_stream_makes_the_drivers_devices_unknown_and_no_others(world: World) -> None:
    world.cache.take(DRIVER, [HEALTHY])
    world.cache.take("other.example.com", [HEALTHY])
    world.cache.clear(DRIVER)
    assert world.cache.find(DRIVER, GPU)[0] == "Unknown"
    assert world.cache.find("other.example.com", GPU)[0] == "Healthy"
    before = world.changes
    world.cache.clear(DRIVER)
    assert world.changes == before, "there was nothing to forget"


def test_long_messages_are_cut_as_the_api_demands(world: World) -> None:
    world.cache.take(DRIVER, [DeviceReport("node-1", "gpu-0", "Unhealthy", "x" * 2000, 10)])
    message = world.cache.find(DRIVER, GPU)[1]
    assert len(message) == MAX_MESSAGE
    assert message.endswith("x...")


def test_a_pod_shows_the_first_cdi_device_or_driver_pool_and_device() -> None:
    shown = describe(
        [("claim:a/gpu", [(DRIVER, GPU), (DRIVER, OTHER)]), ("claim:b", [])],
        lambda _, device: ("Unhealthy", "xid-79") if device is GPU else ("Healthy", ""),
    )
    assert shown == [
        {
            "name": "claim:a/gpu",
            "resources": [
                {"resourceID": "example.com/claim=a", "health": "Unhealthy", "message": "xid-79"},
                {"resourceID": f"{DRIVER}/node-1/gpu-1", "health": "Healthy"},
            ],
        }
    ]


def test_a_device_that_is_listed_twice_is_shown_once() -> None:
    shown = describe([("claim:a", [(DRIVER, GPU), (DRIVER, GPU)])], lambda *_: ("Healthy", ""))
    assert shown == [{"name": "claim:a", "resources": [{"resourceID": "example.com/claim=a", "health": "Healthy"}]}]


@pytest.fixture
def socket() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "dra.sock"


@pytest.mark.parametrize("version", [HEALTH_V1, HEALTH_V1ALPHA1])
def test_a_stream_that_ends_is_opened_again(socket: Path, version: str) -> None:
    cache = HealthCache(time.monotonic, lambda: None)
    devices = [DeviceHealth("gpu-0", Severity.UNHEALTHY, "xid-79")]
    service = HealthService("node-1", lambda: devices, print)
    server = serve(socket, *service.handlers())
    connection = DraConnection(str(socket), V1)
    stream = HealthStream(DRIVER, connection, version, cache, Timings(speed=50.0))
    stream.start()
    try:
        wait_until(lambda: cache.find(DRIVER, GPU) == ("Unhealthy", "xid-79"), "the first list")
        service.close()
        wait_until(lambda: cache.find(DRIVER, GPU) == ("Unknown", ""), "the end of the stream")
        server.stop(0).wait()
        devices[:] = [DeviceHealth("gpu-0", Severity.HEALTHY)]
        service = HealthService("node-1", lambda: devices, print)
        server = serve(socket, *service.handlers())
        connection.look()
        wait_until(lambda: cache.find(DRIVER, GPU) == ("Healthy", ""), "the stream to be opened again")
    finally:
        connection.close()
        stream.stop()
        service.close()
        server.stop(0).wait()
    assert not [each for each in threading.enumerate() if each.name == "health-stream"]
    assert cache.find(DRIVER, GPU) == ("Unknown", "")


def test_a_plugin_without_the_service_is_asked_again_without_harm(socket: Path) -> None:
    server = serve(socket)
    connection = DraConnection(str(socket), V1)
    cache = HealthCache(time.monotonic, lambda: None)
    stream = HealthStream(DRIVER, connection, HEALTH_V1, cache, Timings(speed=500.0))
    stream.start()
    wait_until(lambda: connection.is_connected, "the connection")
    connection.close()
    stream.stop()
    server.stop(0).wait()
    assert cache.find(DRIVER, GPU) == ("Unknown", "")
