"""One generation of a pool, compiled: its devices, and the counters that they share. Made by `pools`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from driver.core.allocator.devices import Consumption, Device, PoolKey
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.published import PublishedDevice, PublishedSlice


class Generation:
    """One generation of a pool: all of its slices, and the counters that its devices share."""

    def __init__(self, slices: Sequence[PublishedSlice]) -> None:
        self.slices = sorted(slices, key=lambda each: each.metadata.name)
        spec = self.slices[0].spec
        self.key: PoolKey = (spec.driver, spec.pool.name)
        self.positions: dict[tuple[str, str], int] = {}
        """Of each counter, by counter set and counter name."""
        self.names: list[str] = []
        """Of each counter, without its counter set."""
        self.fault = ""
        """Why its counters make it invalid for every node; empty if they do not."""
        self.counters: tuple[int, ...] = self._read_counters()
        """What each counter holds when nothing is allocated, in units of 10^-9."""
        self.devices: dict[str, tuple[Device, ...]] = {}
        """Of all nodes, by name; a name that occurs twice has two."""
        self.by_slice: dict[int, tuple[Device, ...]] = {}
        """Devices of the slice that is at this position of `slices`."""
        self.unknown: dict[int, str] = {}
        """For a position of `slices`: the counter that a device there consumes and that does not exist."""
        self.verdicts: dict[str, dict[Device, object]] = {}
        """Kept by `candidates`: what each selector says of each device."""
        for position, each in enumerate(self.slices):
            self.by_slice[position] = () if each.spec.shared_counters else self._compile(position, each)

    def reduce(self, counters: tuple[int, ...], devices: Iterable[str]) -> tuple[int, ...]:
        """Return counters less what these devices take; names that the pool does not have (any more) take nothing."""
        left = list(counters)
        for name in devices:
            for device in self.devices.get(name, ()):
                for position, amount in device.counters:
                    left[position] -= amount
        return tuple(left)

    def _read_counters(self) -> tuple[int, ...]:
        amounts: list[int] = []
        seen: set[str] = set()
        for counter_set in (each for one in self.slices for each in one.spec.shared_counters):
            if counter_set.name in seen:
                self.fault = f"counter set {counter_set.name} is defined twice"
            seen.add(counter_set.name)
            for name, counter in counter_set.counters.items():
                self.positions[counter_set.name, name] = len(amounts)
                self.names.append(name)
                amounts.append(self._parse(counter.value))
        return tuple(amounts)

    def _parse(self, text: str) -> int:
        try:
            return quantities.parse(text, "counter").nanos
        except InvalidInput as error:
            self.fault = str(error)
            return 0

    def _compile(self, position: int, owner: PublishedSlice) -> tuple[Device, ...]:
        devices = tuple(Device(each, owner, self._consume(position, each)) for each in owner.spec.devices)
        for device in devices:
            self.devices[device.name] = (*self.devices.get(device.name, ()), device)
        return devices

    def _consume(self, position: int, device: PublishedDevice) -> Consumption:
        taken: dict[int, int] = {}
        for entry in device.consumes_counters:
            for name, counter in entry.counters.items():
                index = self.positions.get((entry.counter_set, name))
                if index is None:
                    self.unknown[position] = f"counter {entry.counter_set}/{name} of device {device.name} is unknown"
                else:
                    taken[index] = taken.get(index, 0) + self._parse(counter.value)
        return tuple((index, amount) for index, amount in taken.items() if amount)
