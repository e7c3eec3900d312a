"""One look at everything that decides what this node offers: hardware, records, the kernel's view of PCI devices.

`app` gives it to the scanner in place of the vendor. Promises that partitions made for claims are never taken for
somebody else's, whatever is being prepared meanwhile (`core.ownership`), and that devices which were handed to virtual
machines are seen although their vendor cannot see them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from driver.contract import Vendor
from driver.core import ownership, passthrough
from driver.core.offering import Offer
from driver.core.ownership import Holdings, Ownership
from driver.model.devices import Snapshot
from driver.model.errors import DriverError, Unavailable
from driver.model.passthrough import View
from driver.model.prepared import Step
from driver.passthrough.binding import Passthrough
from driver.settings import Settings, make_offer
from driver.state import record_files


def look_once(settings: Settings, vendor: Vendor) -> tuple[Snapshot, Offer]:
    """Return what the plugin of this node would see and offer, for commands. Raises what vendors raise.

    What claims have made of the hardware is read from the plugin's records, without waiting for it.
    """
    found = record_files.peek_holdings(Path(settings.records_root))
    held = dataclasses.replace(found, mark=found.steps)
    devices = Passthrough(settings.sys_root, settings.proc_root)
    surveyor = Surveyor(vendor, devices, lambda: held, offers_passthrough=settings.passthrough)
    survey = surveyor.snapshot()
    return survey.snapshot, make_offer(settings, held, survey.view)


@dataclass(frozen=True, slots=True)
class Survey:
    """One look."""

    snapshot: Snapshot
    ownership: Ownership
    view: View | None = None
    """None if devices are not passed through."""


class Surveyor:
    """Looks at a node. `look` and `fingerprint` are called by one thread, the scanner's.

    `read_steps` returns the steps of all claims and raises `StorageFailed`. With `offers_passthrough` the kernel is
    always asked about PCI devices, else only about those that are handed over still.
    """

    def __init__(
        self,
        vendor: Vendor,
        devices: Passthrough,
        read_steps: Callable[[], Holdings],
        *,
        offers_passthrough: bool,
    ) -> None:
        self._vendor = vendor
        self._devices = devices
        self._read_steps = read_steps
        self._offers_passthrough = offers_passthrough
        self._strangers: frozenset[str] = frozenset()
        self._addresses: tuple[str, ...] = ()
        self._news = itertools.count(1)
        self._round = 0
        self.name = vendor.name

    def expect_news(self) -> None:
        """Make the next fingerprint another one, because something was changed that it cannot tell."""
        self._round = next(self._news)

    def fingerprint(self) -> str:
        """Return a text that changes when a new look is worthwhile. Cheap, as that of `contract.Vendor`."""
        asked = self._addresses or self._offers_passthrough
        kernel = self._devices.fingerprint(self._addresses) if asked else ""
        return f"{self._vendor.fingerprint()}\n{kernel}\n{self._round}"

    def snapshot(self) -> Survey:
        """Look now. Raises what vendors raise."""
        before = self._read()
        found: Snapshot | None = None
        failure: DriverError | None = None
        try:
            found = self._vendor.snapshot()
        except Unavailable as error:  # a vendor's driver may not answer once all its devices are handed over
            failure = error
        after = self._read()
        steps = (*(before.steps if before else ()), *(after.steps if after else ()))
        view = self._look_at_devices(found, steps)
        kept = passthrough.keep(found, steps, view) if view else found
        if kept is None:
            raise failure or Unavailable("the driver is not loaded")
        return Survey(kept, self._judge(kept, before, after), view if self._offers_passthrough else None)

    def _read(self) -> Holdings | None:
        """Return the steps of all claims; None if they cannot be read, which whoever prepares claims tells."""
        try:
            return self._read_steps()
        except DriverError:
            return None

    def _look_at_devices(self, found: Snapshot | None, steps: tuple[Step, ...]) -> View | None:
        bound = passthrough.list_bound(steps)
        seen = (each.pci_address for each in found.accelerators) if found and self._offers_passthrough else ()
        self._addresses = tuple(sorted({*bound, *seen}))
        return self._devices.look(self._addresses) if self._addresses or self._offers_passthrough else None

    def _judge(self, found: Snapshot, before: Holdings | None, after: Holdings | None) -> Ownership:
        """Decide what is ours. Records that cannot be read prove nothing, and neither does the look before them."""
        known = before is not None and after is not None
        judged = ownership.judge(
            found, before or Holdings(()), after or Holdings(()), self._strangers if known else frozenset()
        )
        self._strangers = judged.strangers if known else frozenset()
        if judged.doubtful:
            self.expect_news()
        return judged
