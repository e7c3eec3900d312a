"""Hands devices to vfio-pci and gives them back to the drivers they had: the step `vfio-bind`.

`node.transactions` calls `run` and `undo` for that step as it calls a vendor's for others; the scanner calls `look`.
Promises that `run` touches nothing if it refuses, that `undo` leads back from wherever `run`, or `undo` itself, was
interrupted, in any process, and that what somebody else has bound to vfio-pci is left alone. The order of changes is
what tells us from others: driver_override says vfio-pci from before the first change until after the last one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from driver.core import passthrough
from driver.core.passthrough import Former
from driver.model.errors import StepFailed, StepRefused
from driver.model.passthrough import DRIVER, STEP, Function, Group, View
from driver.model.prepared import Step
from driver.passthrough.holders import find_holder
from driver.passthrough.sysfs import Bus, Kernel, read_override
from driver.passthrough.waiting import Patience, StillBusy

_GLANCE: Final = 0.02
"""Seconds between looks whether the kernel has bound a device. It does so before a write returns; a driver that probes
in the background does it a little later."""
_PAUSE: Final = 0.2
"""Seconds between looks whether a device is still in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long is waited for what, in seconds."""

    change: float = 10.0
    """For each change of a driver: a large GPU is torn down and set up in 1 to 3 s."""
    probe: float = 2.0
    """For a driver that binds a device in the background."""
    idle: float = 5.0
    """For the last process that has a device open."""
    look: float = 0.5
    """In a look, for a device that is being bound or unbound."""


class Passthrough:
    """The PCI devices of one machine. Methods may be called from several threads, for one device from one at a time."""

    def __init__(
        self, sys_root: str, proc_root: str, *, kernel: Kernel | None = None, limits: Limits | None = None
    ) -> None:
        """Only tests give `kernel` and `limits`."""
        self._bus = Bus(sys_root)
        self._proc_root = proc_root
        self._kernel = kernel or Kernel()
        self._limits = limits or Limits()
        self._patience = Patience(self._limits.change)

    def look(self, addresses: Iterable[str]) -> View:
        """Return what there is for these devices now. Never raises."""
        found = {address: self._bus.group(address) for address in addresses if self._bus.has(address)}
        return View(
            loaded=self._bus.loaded,
            groups={address: group and self._settle(group) for address, group in found.items()},
            taken=self._bus.taken(),
        )

    def fingerprint(self, addresses: Iterable[str]) -> str:
        """Return a text that changes when another look is worthwhile. Reads links only."""
        lines = [f"{address} {self._bus.group_number(address)} {self._bus.driver(address)}" for address in addresses]
        return "\n".join([f"loaded {self._bus.loaded}", f"taken {sorted(self._bus.taken())}", *lines])

    def run(self, step: Step, done: Sequence[Step] = ()) -> Step:  # noqa: ARG002 - the signature of contract.Steps
        """Hand a device over with all its functions, or find it handed over; return the step with its device nodes.

        Raises `StepRefused` before anything was done, else `StepFailed`.
        """
        formers, group = passthrough.list_formers(step), step.facts["group"]
        reason = self._refuse(formers, group) or self._find_holder(formers, passthrough.list_uses(step))
        if reason:
            raise StepRefused(STEP, reason)
        try:
            for former in formers:
                self._take(former)
        except _Trouble as trouble:
            raise StepFailed(STEP, str(trouble)) from trouble
        nodes = self._bus.nodes(group, [former.address for former in formers])
        if not nodes:
            raise StepFailed(STEP, f"the kernel has made no device node for IOMMU group {group}")
        return passthrough.complete(step, nodes)

    def undo(self, step: Step) -> None:
        """Give a device back with all its functions, or find it given back. One that has vanished needs nothing.

        Raises `StepFailed` with all that is not as it was; the next call goes on from there.
        """
        troubles = []
        for former in reversed(passthrough.list_formers(step)):
            try:
                self._give_back(former)
            except _Trouble as trouble:
                troubles.append(str(trouble))
        if troubles:
            raise StepFailed(STEP, "; ".join(troubles))

    def _settle(self, group: Group) -> Group:
        return Group(group.number, tuple(self._read_override(each) for each in group.functions))

    def _read_override(self, function: Function) -> Function:
        try:
            override = self._override(function.address, self._limits.look)
        except StillBusy:
            return replace(function, settled=False)
        except OSError:  # it has just gone
            return function
        return replace(function, override=override)

    def _override(self, address: str, seconds: float | None = None) -> str | None:
        """Return the override of a function; once this returns, no earlier change of its driver is under way."""
        folder = self._bus.device(address)
        return self._patience.do(address, lambda: read_override(self._kernel, folder), seconds)

    def _refuse(self, formers: Sequence[Former], group: str) -> str:
        """Return what is not as it was when the step was planned, or nothing."""
        if not self._bus.loaded:
            return f"the kernel driver {DRIVER} is not loaded (modprobe {DRIVER} on the node)"
        return next((reason for former in formers if (reason := self._explain(former, group))), "")

    def _explain(self, former: Former, group: str) -> str:
        address = former.address
        if not self._bus.has(address):
            return f"{address} has vanished from the PCI bus"
        if self._bus.group_number(address) != group:
            return f"{address} is in IOMMU group {self._bus.group_number(address)} now, and was in {group}"
        try:
            override, driver = self._wait_for(address)
        except _Trouble as trouble:
            return str(trouble)
        if driver == DRIVER and override != DRIVER:
            return f"{address} is bound to {DRIVER} by somebody else"
        if driver not in {DRIVER, former.driver, None}:
            return f"{address} is bound to {driver} now, and was bound to {former.driver or 'no driver'}"
        return ""

    def _find_holder(self, formers: Sequence[Former], uses: Collection[str]) -> str:
        """Return who has a device open that is still with its former driver, if that does not end in a little while."""
        end = time.monotonic() + self._limits.idle
        while self._bus.driver(formers[0].address) != DRIVER:
            holder = find_holder(self._proc_root, uses)
            if not holder:
                break
            if time.monotonic() >= end:
                return f"{formers[0].address} is in use: {holder}"
            time.sleep(_PAUSE)
        return ""

    def _wait_for(self, address: str) -> tuple[str | None, str | None]:
        """Return override and driver of a function, once nothing that was begun before is under way any more."""
        try:
            return self._override(address), self._bus.driver(address)
        except StillBusy as error:
            why = f"{address} is in use: the kernel is still taking it from {self._bus.driver(address)}"
            raise _Trouble(why) from error
        except OSError as error:
            raise _Trouble(f"driver_override of {address} cannot be read: {error.strerror}") from error

    def _take(self, former: Former) -> None:
        address = former.address
        driver = self._bus.driver(address)
        if driver == DRIVER:
            return
        self._set_override(address, DRIVER)
        if driver is not None:
            self._unbind(address, driver)
        self._tell(address, self._bus.probe, address, f"bind {address} to {DRIVER}")
        self._expect(address, DRIVER)

    def _give_back(self, former: Former) -> None:
        address = former.address
        if not self._bus.has(address):
            return
        override, driver = self._wait_for(address)
        if driver == DRIVER and override != DRIVER:
            return  # somebody else has it now
        if driver == DRIVER:
            self._unbind(address, DRIVER)
            driver = None
        if override == DRIVER:
            self._set_override(address, former.override or "")
        if driver is None and former.driver is not None:
            self._bind(address, former.driver)

    def _unbind(self, address: str, driver: str) -> None:
        self._tell(address, self._bus.device(address) / "driver" / "unbind", address, f"take {address} from {driver}")
        if self._settle_on(address, None) is not None:
            raise _Trouble(f"the kernel has not taken {address} from {driver}")

    def _bind(self, address: str, driver: str) -> None:
        if not self._bus.has_driver(driver):
            raise _Trouble(f"{address} has no driver now: {driver}, which it had, is not loaded any more")
        self._tell(address, self._bus.driver_folder(driver) / "bind", address, f"give {address} back to {driver}")
        self._expect(address, driver)

    def _set_override(self, address: str, driver: str) -> None:
        path = self._bus.device(address) / "driver_override"
        self._tell(address, path, driver, f"set driver_override of {address}")

    def _tell(self, address: str, path: Path, text: str, what: str) -> None:
        """Write to a file of the kernel that concerns one function."""
        try:
            self._patience.do(address, lambda: self._kernel.write(path, f"{text}\n"))
        except StillBusy as error:
            seconds = f"{self._patience.seconds:g} s"
            why = f"{address} is in use: the kernel has not managed to {what} within {seconds}, and is still at it"
            raise _Trouble(why) from error
        except OSError as error:
            if not self._bus.has(address):
                raise _Trouble(f"{address} has vanished from the PCI bus") from error
            raise _Trouble(f"the kernel does not {what}: {error.strerror}") from error

    def _expect(self, address: str, driver: str) -> None:
        found = self._settle_on(address, driver)
        if found == driver:
            return
        if not self._bus.has(address):
            raise _Trouble(f"{address} has vanished from the PCI bus")
        instead = f"; it is bound to {found}" if found else ", nor to another driver; the kernel's log says why"
        raise _Trouble(f"the kernel has not bound {address} to {driver}{instead}")

    def _settle_on(self, address: str, driver: str | None) -> str | None:
        """Return the driver of a function once it is the wanted one, or after a while whichever it is."""
        end = time.monotonic() + self._limits.probe
        while (found := self._bus.driver(address)) != driver and time.monotonic() < end:
            time.sleep(_GLANCE)
        return found


class _Trouble(Exception):  # noqa: N818 - what is wrong, in one sentence; becomes a StepFailed or StepRefused
    pass
