"""Health of devices as the kubelet knows it (KEP-4680): streams of plugins, a memory with time limits, pod statuses.

Called by the kubelet and its pod worker. Rules: pkg/kubelet/cm/dra (healthinfo.go, manager.go): what a plugin says is
true for as long as it says, 30 seconds if it does not; the end of a stream makes all devices of its driver unknown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from driver.simulation.access import Body, Json
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.wire import CallError, Device, DeviceReport, DraConnection

UNKNOWN: Final = "Unknown"
MAX_MESSAGE: Final = 1024
_DEFAULT_TIMEOUT: Final = 30.0

Reported = tuple[str, str]
"""Health as pods show it (Healthy, Unhealthy, Unknown), and a message."""
Find = Callable[[str, Device], Reported]
"""Answers for a device that a driver has prepared."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The last report about a device."""

    report: Reported
    timeout: float
    end: float


class HealthCache:
    """What is known about the devices of all drivers on a node. Safe for several threads."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._lock = threading.Lock()
        self._known: dict[str, dict[tuple[str, str], _Known]] = {}

    def take(self, driver: str, devices: Iterable[DeviceReport]) -> None:
        """Take in what a plugin reports; devices that it does not name keep their time limit."""
        now = self._clock()
        with self._lock:
            known = self._known.setdefault(driver, {})
            before = {name: self._read(each, now) for name, each in known.items()}
            for each in devices:
                timeout = float(each.timeout) if each.timeout > 0 else _DEFAULT_TIMEOUT
                report = (each.health, _cut(each.message))
                known[each.pool, each.device] = _Known(report, timeout, now + timeout)
            changed = before != {name: self._read(each, now) for name, each in known.items()}
        if changed:
            self._changed()

    def clear(self, driver: str) -> None:
        """Forget a driver's devices, because nobody reports them now."""
        with self._lock:
            changed = bool(self._known.pop(driver, None))
        if changed:
            self._changed()

    def find(self, driver: str, device: Device) -> Reported:
        """Return what pods show for a device that a driver has prepared."""
        with self._lock:
            known = self._known.get(driver, {}).get((device.pool_name, device.device_name))
            return self._read(known, self._clock()) if known else (UNKNOWN, "")

    @staticmethod
    def _read(known: _Known, now: float) -> Reported:
        return known.report if now < known.end else (UNKNOWN, "")


class HealthStream:
    """The stream of one plugin: opened, read until it ends, opened again after a pause, until `stop`."""

    def __init__(
        self, driver: str, connection: DraConnection, version: str, cache: HealthCache, timings: Timings
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._version = version
        self._cache = cache
        self._pause = timings.health_retry
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health-stream", daemon=True)

    def start(self) -> None:
        """Open the stream, soon."""
        self._thread.start()

    def stop(self) -> None:
        """End; the connection must be closed by now."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                for devices in self._connection.watch_health(self._version):
                    self._cache.take(self._driver, devices)
            except CallError:
                pass  # opened again below, like a stream that ended
            self._cache.clear(self._driver)
            self._stop.wait(self._pause)


Users = Sequence[tuple[str, Sequence[tuple[str, Device]]]]
"""What a container references: the name of its entry, and the devices behind it with their drivers."""


def describe(users: Users, find: Find) -> list[Json]:
    """Return `allocatedResourcesStatus` of a container; the API takes each `resourceID` of a claim once."""
    return [{"name": name, "resources": list(_describe(devices, find).values())} for name, devices in users if devices]


def _describe(devices: Sequence[tuple[str, Device]], find: Find) -> Mapping[str, Body]:
    described: dict[str, Body] = {}
    for driver, device in devices:
        identity = next(iter(device.cdi_device_ids), f"{driver}/{device.pool_name}/{device.device_name}")
        health, message = find(driver, device)
        said: Mapping[str, Json] = {"message": message} if message else {}
        described.setdefault(identity, {"resourceID": identity, "health": health, **said})
    return described


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 3] + "..."
