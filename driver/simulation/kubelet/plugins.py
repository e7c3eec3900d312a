"""DRA drivers that are registered on one node, and their slices when they go away. Called by watcher and claims.

Rules: pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go. Several endpoints of a driver are kept in the order in which
they registered; calls go to the latest that is connected, else to the latest. A lost connection does not deregister,
but a driver without any for a while loses its slices.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from driver.model.errors import DriverError
from driver.simulation.access import SLICES, Objects
from driver.simulation.kubelet.health import HealthCache, HealthStream
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.wire import HEALTH_V1, HEALTH_V1ALPHA1, V1, V1BETA1, DraConnection, Info

PLUGIN_TYPE: Final = "DRAPlugin"
SERVICES: Final = (V1, V1BETA1)
"""What kubelets from 1.34 on speak."""
HEALTH_SERVICES: Final = (HEALTH_V1, HEALTH_V1ALPHA1)
"""In the order in which Kubernetes 1.37 takes them, if the plugin names them."""
_DRIVER_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_DRIVER_NAME: Final = 63
_MAX_PATH: Final = 107


class RegistrationError(Exception):
    """The kubelet does not take this plugin; the text is sent to it."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One registered endpoint of a driver."""

    driver: str
    endpoint: str
    connection: DraConnection
    health: HealthStream | None
    """None if the plugin names no health service."""

    def close(self) -> None:
        """Hang up."""
        self.connection.close()
        if self.health:
            self.health.stop()


class Plugins:
    """All registered plugins of a node. Safe for several threads."""

    def __init__(
        self,
        objects: Objects,
        node_name: str,
        timings: Timings,
        clock: Callable[[], float],
        health: HealthCache,
        services: tuple[str, ...] = SERVICES,
    ) -> None:
        self._objects = objects
        self._node_name = node_name
        self._timings = timings
        self._clock = clock
        self._health = health
        self._services = services
        self._plugins: list[Plugin] = []
        self._lock = threading.Lock()
        self._wipes: dict[str, float] = {"": clock()}
        """When to delete the slices of a driver; the empty name stands for all, at once, at the kubelet's start."""

    def validate(self, info: Info, root: str) -> str:
        """Return the service to speak with a plugin. Raises `RegistrationError`.

        `root` is the kubelet's root folder; 1.37 refuses endpoints outside it.
        """
        if info.type != PLUGIN_TYPE:
            raise RegistrationError(f"no handler registered for plugin type: {info.type}")
        if not _DRIVER_NAME.fullmatch(info.name) or len(info.name) > _MAX_DRIVER_NAME:
            raise RegistrationError(f"invalid DRA driver name {info.name!r}")
        if not info.versions:
            raise RegistrationError("empty list of supported gRPC services (aka supported versions)")
        service = next((version for version in info.versions if version in self._services), "")
        if not service:
            raise RegistrationError(f"none of the supported gRPC services {list(info.versions)} is supported here")
        if not info.endpoint.startswith(f"{root}/") or "/../" in info.endpoint:
            raise RegistrationError(f"endpoint {info.endpoint!r} is not inside {root!r}")
        if len(info.endpoint.encode()) > _MAX_PATH:
            raise RegistrationError(f"endpoint {info.endpoint!r} is longer than a Unix socket path may be")
        return service

    def register(self, driver: str, endpoint: str, service: str, versions: tuple[str, ...] = ()) -> None:
        """Take a plugin in, connect to it and open its health stream. `versions` are all that it says it speaks.

        Raises `RegistrationError` for an endpoint that is known.
        """
        with self._lock:
            if any(each.driver == driver and each.endpoint == endpoint for each in self._plugins):
                raise RegistrationError(f"endpoint {endpoint} already registered for DRA driver plugin {driver}")
        connection = DraConnection(endpoint, service)
        plugin = Plugin(driver, endpoint, connection, self._open_health(driver, connection, versions))
        with self._lock:
            self._plugins.append(plugin)
        if plugin.health:
            plugin.health.start()
        self._review(driver)

    def _open_health(self, driver: str, connection: DraConnection, versions: tuple[str, ...]) -> HealthStream | None:
        version = next((each for each in HEALTH_SERVICES if each in versions), None)
        return HealthStream(driver, connection, version, self._health, self._timings) if version else None

    def deregister(self, driver: str, endpoint: str) -> None:
        """Forget a plugin whose registration socket is gone."""
        with self._lock:
            gone = [each for each in self._plugins if (each.driver, each.endpoint) == (driver, endpoint)]
            self._plugins = [each for each in self._plugins if each not in gone]
        for plugin in gone:
            plugin.close()
        self._review(driver)

    def find(self, driver: str) -> Plugin | None:
        """Return the plugin to call: the latest that is connected, else the latest; None if there is none."""
        with self._lock:
            own = [each for each in self._plugins if each.driver == driver]
        connected = [each for each in own if each.connection.is_connected]
        return connected[-1] if connected else own[-1] if own else None

    def list_all(self) -> list[Plugin]:
        """Return all plugins in the order in which they registered."""
        with self._lock:
            return list(self._plugins)

    def tend(self) -> None:
        """Notice lost connections, reconnect and delete slices that are due. Called again and again."""
        for plugin in self.list_all():
            plugin.connection.look()
            self._review(plugin.driver)
        now = self._clock()
        with self._lock:
            due = [driver for driver, time in self._wipes.items() if time <= now]
        for driver in due:
            self._wipe(driver)

    def close(self) -> None:
        """Hang up on all, as the end of the kubelet does."""
        for plugin in self.list_all():
            plugin.close()

    def _review(self, driver: str) -> None:
        """Plan the deletion of a driver's slices once nothing of it is connected; call it off when it is back."""
        with self._lock:
            if any(each.driver == driver and each.connection.is_connected for each in self._plugins):
                self._wipes.pop(driver, None)
            else:
                self._wipes.setdefault(driver, self._clock() + self._timings.wipe_delay)

    def _wipe(self, driver: str) -> None:
        fields = f"spec.nodeName={self._node_name}" + (f",spec.driver={driver}" if driver else "")
        try:
            self._objects.delete_all(SLICES, fields=fields)
        except DriverError:
            return  # stays due, so the next `tend` tries again
        with self._lock:
            self._wipes.pop(driver, None)
