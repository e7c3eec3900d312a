"""Puts together what the kubelet's health stream sends: inventory, health, and the devices that claims hold.

`app` composes it; called on the threads of the streams. Promises a list whatever else goes on: while the records
cannot be read, the devices that were held at the last look stand for those that are held now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from driver.core import reporting
from driver.core.health import HealthState
from driver.model.devices import Inventory
from driver.model.errors import DriverError
from driver.model.health import DeviceHealth


class Reporter:
    """Answers with all devices of the node. `health` returns None if nobody watches for faults."""

    def __init__(
        self,
        inventory: Callable[[], Inventory | None],
        health: Callable[[], HealthState | None],
        prepared: Callable[[], frozenset[str]],
    ) -> None:
        self._inventory = inventory
        self._health = health
        self._prepared = prepared
        self._last_prepared: frozenset[str] = frozenset()

    def report(self) -> tuple[DeviceHealth, ...]:
        """Return the health of each device, as it is now."""
        with contextlib.suppress(DriverError):  # whoever prepares claims says what is wrong with the records
            self._last_prepared = self._prepared()
        return reporting.report(self._inventory(), self._health(), self._last_prepared)
