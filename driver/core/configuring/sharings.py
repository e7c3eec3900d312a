"""The fields of GpuConfig and PartitionConfig: how a device is shared. Called by `documents`.

sharing:
  strategy: Exclusive | TimeSlicing | MPS
  timeSlicing: {interval: Default | Short | Medium | Long}
  mps:
    activeThreadPercentage: 1 to 100
    pinnedMemoryLimit: quantity of bytes
    perDevice: [{index: n | uuid: text, activeThreadPercentage, pinnedMemoryLimit}]
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.core.configuring.fields import Reader
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import MAX_BINARY
from driver.model.sharing import Interval, Sharing, Strategy

FIELDS: Final = ("sharing",)
_SHARING_FIELDS: Final = ("strategy", "timeSlicing", "mps")
_LIMITS: Final = ("activeThreadPercentage", "pinnedMemoryLimit")
_MPS_FIELDS: Final = (*_LIMITS, "perDevice")
_OVERRIDE_FIELDS: Final = ("index", "uuid", *_LIMITS)

MAX_DEVICES: Final = 32
"""Devices of one claim (AllocationResultsMaxSize), and so overrides that can matter."""
_MAX_UUID: Final = 64
"""Bytes of a string attribute (DeviceAttributeMaxValueLength)."""
MIN_LIMIT: Final = 1 << 20
"""Bytes. NVIDIA MPS counts limits in MiB: a smaller one would be none at all."""
_ONLY_ONE: Final = "0: the request is given one device"
_PERCENT: Final = range(1, 101)


@dataclass(frozen=True, slots=True)
class Override:
    """Limits for one of the devices: by its place among those of the request, or by its UUID. None: not overridden."""

    index: int | None
    uuid: str | None
    active_thread_percentage: int | None
    pinned_memory_bytes: int | None
    path: str
    """Of the entry within the document."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A GpuConfig or PartitionConfig."""

    sharing: Sharing
    overrides: tuple[Override, ...] = ()

    def choose(self, index: int, uuid: str | None) -> Sharing:
        """Return what holds for the device at `index` of its request; of several overrides the last wins."""
        sharing = self.sharing
        for each in self.overrides:
            if each.index == index or (uuid is not None and each.uuid == uuid):
                percentage, limit = each.active_thread_percentage, each.pinned_memory_bytes
                sharing = msgspec.structs.replace(
                    sharing,
                    active_thread_percentage=sharing.active_thread_percentage if percentage is None else percentage,
                    pinned_memory_bytes=sharing.pinned_memory_bytes if limit is None else limit,
                )
        return sharing


def find_lost(config: DeviceConfig, places: Collection[int]) -> Iterator[InvalidInput]:
    """Yield a fault for each override by an index that no device has; `places` are those that there are."""
    for each in config.overrides:
        if each.index is not None and each.index not in places:
            last = max(places, default=0)
            allowed = f"0 to {last}: the devices that a request is given are counted from 0" if last else _ONLY_ONE
            yield InvalidInput(f"{each.path}.index", each.index, allowed)


def read(reader: Reader, *, partitions: bool) -> DeviceConfig:
    """Return the configuration; what is wrong is noted. `partitions`: it is for parts of a device."""
    inner = reader.open("sharing", _SHARING_FIELDS)
    if inner is None:
        if not reader.has("sharing"):
            reader.refuse("sharing", f"an object with the fields {', '.join(_SHARING_FIELDS)}")
        return DeviceConfig(Sharing())
    strategy = inner.choose("strategy", Strategy)
    if not inner.has("strategy"):
        inner.refuse("strategy", ", ".join(each.value for each in Strategy))
    interval = _read_interval(inner, strategy, partitions=partitions)
    settings = inner.open("mps", _MPS_FIELDS)
    percentage, limit = _read_limits(settings) if settings else (None, None)
    overrides = _read_overrides(settings) if settings else ()
    _refuse_settings_of_others(inner, strategy)
    return DeviceConfig(Sharing(strategy or Strategy.EXCLUSIVE, interval, percentage, limit), overrides)


def _refuse_settings_of_others(reader: Reader, strategy: Strategy | None) -> None:
    """Settings of a strategy that is not chosen would be lost without a word."""
    for name, owner in (("timeSlicing", Strategy.TIME_SLICING), ("mps", Strategy.MPS)):
        if strategy not in (None, owner) and reader.has(name):
            reader.refuse(name, f"only together with strategy {owner.value}")


def _read_interval(reader: Reader, strategy: Strategy | None, *, partitions: bool) -> Interval | None:
    settings = reader.open("timeSlicing", ("interval",))
    if settings is None:
        return None
    interval = settings.choose("interval", Interval)
    if partitions and interval not in (None, Interval.DEFAULT) and strategy in (None, Strategy.TIME_SLICING):
        settings.refuse("interval", f"{Interval.DEFAULT.value}; the time slice of a partition cannot be set")
    return interval


def _read_limits(reader: Reader) -> tuple[int | None, int | None]:
    percentage = reader.count("activeThreadPercentage", _PERCENT, "a whole number from 1 to 100")
    return percentage, _read_bytes(reader, "pinnedMemoryLimit")


def _read_bytes(reader: Reader, name: str) -> int | None:
    value = reader.fields.get(name)
    if value is None:
        return None
    allowed = "a quantity of bytes, such as 4Gi, at least 1Mi"
    if isinstance(value, bool) or not isinstance(value, str | int):
        reader.refuse(name, allowed)
        return None
    try:
        amount = quantities.parse(str(value))
    except InvalidInput:
        reader.refuse(name, allowed)
        return None
    count = amount.rounded_up
    if not amount.is_whole or not MIN_LIMIT <= count <= MAX_BINARY:
        reader.refuse(name, allowed)
        return None
    return count


def _read_overrides(reader: Reader) -> tuple[Override, ...]:
    seen: dict[int | str, str] = {}
    overrides: list[Override] = []
    for item in reader.open_each("perDevice", _OVERRIDE_FIELDS, MAX_DEVICES):
        overrides.append(_read_override(item))
        _refuse_repeated(item, overrides[-1], seen)
    return tuple(overrides)


def _read_override(reader: Reader) -> Override:
    index = reader.count("index", range(MAX_DEVICES), f"a whole number from 0 to {MAX_DEVICES - 1}")
    uuid = reader.fields.get("uuid")
    if uuid is not None and not (_is_uuid(uuid)):
        reader.refuse("uuid", f"the value of a device's attribute accel-dra.dev/uuid, 1 to {_MAX_UUID} characters")
        uuid = None
    if reader.has("index") and reader.has("uuid"):
        reader.refuse("uuid", "only one of index and uuid")
    elif not reader.has("index") and not reader.has("uuid"):
        reader.refuse("index", "one of index and uuid: which device is meant")
    if not any(reader.has(name) for name in _LIMITS):
        reader.refuse(_LIMITS[0], f"at least one of {' and '.join(_LIMITS)}")
    percentage, limit = _read_limits(reader)
    return Override(index, uuid if isinstance(uuid, str) else None, percentage, limit, reader.path)


def _is_uuid(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and 0 < len(value) <= _MAX_UUID


def _refuse_repeated(reader: Reader, override: Override, seen: dict[int | str, str]) -> None:
    """Refuse a second entry for a device: one of them would be lost. `seen` has the path of the first."""
    for name, key in (("index", override.index), ("uuid", override.uuid)):
        if key is not None and seen.setdefault(key, override.path) != override.path:
            reader.refuse(name, f"each device once; {seen[key]} is about the same one")
