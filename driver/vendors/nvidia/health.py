"""Faults of GPUs and MIG devices while they are in use, and their end. Called by vendor.py on the watchdog's thread.

Listens to the kernel's log and not to NVML's event set, although both tell the same XIDs: an event set keeps the
library loaded and the device files open, so that the driver could never be unloaded or updated, and it is blind while
it is not open. NVML is asked only which MIG device an instance number means, once a fault names one.

A fault ends with the life of the kernel module in which it occurred (a restart of the node, a reload of the driver), or
when the module says that nothing has to be done for the GPU any more. What is known of faults is kept in a file, so
that the end of those that an earlier process reported is told as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from driver.model.errors import DriverError
from driver.model.health import HealthEvent, Severity
from driver.vendors.nvidia import xids
from driver.vendors.nvidia.kernel_log import KernelLog
from driver.vendors.nvidia.xids import Xid

READ_SECONDS: Final = 0.5
"""How long the log is waited for before `stopped` is asked again."""
REPEAT_SECONDS: Final = 60.0
"""A fault that is said again and again is told this often."""
_LONGEST: Final = 200

FindParts = Callable[[str, int, int | None], list[str]]
"""UUIDs of the MIG devices of a GPU (PCI address) in a GPU instance, or of one compute instance in it."""


class _Known(msgspec.Struct, frozen=True):
    """A fault that was told."""

    pci_address: str
    cause: str
    partition_uuid: str | None = None


class _Memory(msgspec.Struct, frozen=True):
    life: str
    faults: tuple[_Known, ...] = ()


_decode: Final = msgspec.json.Decoder(_Memory).decode


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener looks. `life` tells which life of the kernel module this is; empty while it is not loaded."""

    log: KernelLog
    memory: Path
    life: Callable[[], str]
    find_parts: FindParts
    clock: Callable[[], float] = time.time


class Listener:
    """Turns the log into events. Used by one thread at a time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._told: dict[_Known, float] = {}

    def listen(self, stopped: Callable[[], bool]) -> Iterator[HealthEvent]:
        """Yield events until `stopped()`. Raises `Unavailable` if there is no log to read."""
        yield from self._recover()
        with self._place.log.follow() as stream:
            while not stopped():
                for message in stream.read(READ_SECONDS):
                    yield from self._heed(message)
                yield from self._recover()

    def _heed(self, message: str) -> Iterator[HealthEvent]:
        xid = xids.parse(message)
        if xid is None:
            return
        yield from self._recover()
        if xid.recovered:
            yield from self._end(lambda fault: fault.pci_address == xid.pci_address, xid.text)
            return
        severity = xids.judge(xid)
        if severity is not None:
            for known in self._locate(xid):
                if self._is_news(known):
                    self._remember(known)
                    yield self._event(known, severity, f"XID {xid.number}: {xid.text}")

    def _locate(self, xid: Xid) -> list[_Known]:
        """Return what has the fault: all of the GPU, or those MIG devices that are (still) in the instance it names."""
        whole = [_Known(xid.pci_address, xid.cause)]
        if xid.gpu_instance is None or xid.whole:
            return whole
        try:
            parts = self._place.find_parts(xid.pci_address, xid.gpu_instance, xid.compute_instance)
        except DriverError:
            return whole  # a GPU that does not answer is not only bad in one place
        return [_Known(xid.pci_address, xid.cause, part) for part in parts]

    def _is_news(self, known: _Known) -> bool:
        now = self._place.clock()
        if now - self._told.get(known, float("-inf")) < REPEAT_SECONDS:
            return False
        self._told[known] = now
        return True

    def _recover(self) -> Iterator[HealthEvent]:
        """End the faults of an earlier life of the kernel module."""
        life = self._place.life()
        if life and self._read().life not in ("", life):
            yield from self._end(lambda _: True, "the driver was loaded anew")

    def _end(self, over: Callable[[_Known], bool], why: str) -> Iterator[HealthEvent]:
        memory = self._read()
        self._write(tuple(fault for fault in memory.faults if not over(fault)))
        for fault in filter(over, memory.faults):
            self._told.pop(fault, None)
            yield self._event(fault, Severity.HEALTHY, why)

    def _remember(self, known: _Known) -> None:
        faults = self._read().faults
        if known not in faults:
            self._write((*faults, known))

    def _read(self) -> _Memory:
        try:
            return _decode(self._place.memory.read_bytes())
        except (OSError, msgspec.DecodeError):
            return _Memory("")

    def _write(self, faults: tuple[_Known, ...]) -> None:
        """Keep what is known. A folder that cannot be written keeps nothing; the events are told all the same."""
        fresh = self._place.memory.with_name(f".{self._place.memory.name}")
        life = self._place.life() or self._read().life
        try:
            fresh.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(_Memory(life, faults)))
            fresh.replace(self._place.memory)
        except OSError:
            return

    def _event(self, known: _Known, severity: Severity, text: str) -> HealthEvent:
        return HealthEvent(
            pci_address=known.pci_address,
            cause=known.cause,
            severity=severity,
            message=text[:_LONGEST].rstrip(": "),
            time=self._place.clock(),
            partition_uuid=known.partition_uuid,
        )


def read_life(sys_root: str, proc_root: str) -> str:
    """Return a text that is another after each boot and each time the kernel module is loaded; empty without it.

    The kernel numbers the entries of sysfs as it makes them (kernfs), so a module that is loaded again has a new one.
    """
    try:
        boot = Path(proc_root, "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path(sys_root, 'module', 'nvidia').stat().st_ino}"
    except OSError:
        return ""
