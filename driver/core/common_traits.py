"""What the devices of an allocation have in common: why they were chosen together, as far as links and places tell.

Called by `accel-dra explain` and the demo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from driver.model.claims import Allocation
from driver.model.published import PublishedSlice
from driver.model.vocabulary import FABRIC_DOMAIN, INTERCONNECT_DOMAIN, NUMA_NODE, PCIE_ROOT

TELLING: Final = (INTERCONNECT_DOMAIN, FABRIC_DOMAIN, NUMA_NODE, PCIE_ROOT)
"""Attributes of which it is worth knowing that all devices have the same value."""


class Value(Protocol):
    """An attribute of any driver's device, as far as it is looked at here."""

    @property
    def string(self) -> str | None:
        """Its text, if it is one."""

    @property
    def int_(self) -> int | None:
        """Its number, if it is one."""


Attributes = Mapping[str, Value]


def find_common(devices: Iterable[Attributes]) -> dict[str, str]:
    """Return the telling attributes that all devices have with one value, by name without domain; of two at least."""
    listed = list(devices)
    found: dict[str, str] = {}
    for name in TELLING if len(listed) > 1 else ():
        values = {_show(attributes.get(name)) for attributes in listed}
        if len(values) == 1 and "" not in values:
            found[name.rpartition("/")[2]] = values.pop()
    return found


def describe_common(common: Mapping[str, str]) -> str:
    """Return it in words: `interconnectDomain 0000-1b-00-0, numaNode 0`; empty if there is nothing."""
    return ", ".join(f"{name} {value}" for name, value in common.items())


def list_attributes(allocation: Allocation, slices: Iterable[PublishedSlice]) -> list[Attributes]:
    """Return the attributes of the devices of an allocation that are still published."""
    taken = {(each.driver, each.pool, each.device) for each in allocation.devices.results}
    found = {
        (each.spec.driver, each.spec.pool.name, device.name): device.attributes
        for each in slices
        for device in each.spec.devices
        if (each.spec.driver, each.spec.pool.name, device.name) in taken
    }
    return list(found.values())


def _show(value: Value | None) -> str:
    if value is None:
        return ""
    return value.string if value.string is not None else "" if value.int_ is None else str(value.int_)
