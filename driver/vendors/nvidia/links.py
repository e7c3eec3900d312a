"""NVLinks of one GPU, one by one.

Called by discovery.py. A link that does not answer is left as unknown as it is; only a lost GPU stops the walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

from driver.model.devices import Link, Remote
from driver.model.errors import DriverError, Unavailable
from driver.vendors.nvidia import nvml
from driver.vendors.nvidia.pci import Bus

_T = TypeVar("_T")

DATA_RATES: Final = {1: 20, 2: 25, 3: 25, 4: 25, 5: 50}
"""GB/s of data in one direction of one link, by generation: NVIDIA's whitepapers on P100, V100, A100, H100, Blackwell.

NVLink 6 is not in the list: its drivers tell the rate, and we do not guess it.
"""
_LINE_CODING: Final = 0.9
"""NVML tells the signalling rate, up to 6.25 % above the data rate (26562 MB/s for the 25 GB/s of NVLink 4)."""


def optional(read: Callable[[], _T]) -> _T | None:
    """Return a fact, or None if the GPU, its driver or our permissions do not give it.

    Raises `DeviceFault` if the GPU is lost and `Unavailable` if the driver went away: then nothing else is true either.
    """
    try:
        return read()
    except Unavailable:
        raise
    except nvml.DeviceFault as fault:
        if fault.lost:
            raise
    except DriverError:
        pass
    return None


def walk(device: nvml.Device, bus: Bus) -> tuple[Link, ...]:
    """Return all links that the GPU has, active or not, by index."""
    return tuple(_present(device, bus))


def _present(device: nvml.Device, bus: Bus) -> Iterator[Link]:
    for index in range(nvml.LINKS):
        active = optional(partial(device.link_active, index))
        if active is not None:
            yield _link(device, bus, index, active=active)


def _link(device: nvml.Device, bus: Bus, index: int, *, active: bool) -> Link:
    """Describe one link. NVML refuses most questions about a link that is down."""
    version = optional(partial(device.link_version, index))
    if not active:
        return Link(index, active, version, gbytes_per_second=None, remote=Remote.UNKNOWN, remote_address=None)
    address = optional(partial(device.link_remote_address, index))
    remote = optional(partial(device.link_remote, index)) or Remote.UNKNOWN
    if remote is Remote.UNKNOWN and address is not None:
        remote = bus.remote(address)
    rate = data_rate(optional(partial(device.link_megabytes, index)), version)
    return Link(index, active, version, rate, remote, address)


def data_rate(megabytes: int | None, version: int | None) -> int | None:
    """Return GB/s of data: the generation's own rate unless the link was told to run at another one.

    >>> data_rate(26562, 4), data_rate(13281, 4), data_rate(None, 5), data_rate(25000, None), data_rate(None, None)
    (25, 13, 50, 25, None)
    """
    nominal = DATA_RATES.get(version) if version is not None else None
    if megabytes is None:
        return nominal
    if nominal is not None and _LINE_CODING * megabytes <= nominal * 1000 <= megabytes * 1.05:
        return nominal
    return megabytes // 1000
