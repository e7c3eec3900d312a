"""Bring records, CDI files and hardware together again when the plugin starts, before it registers. Called by `app`.

What to do is decided in `core.recovery`. Promises to go on after any error: what cannot be repaired now is reported,
and the claim's next prepare or unprepare tries again.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from driver.core import cdi, metadata
from driver.core.recovery import plan_repairs
from driver.model.devices import Inventory
from driver.model.errors import Unavailable
from driver.model.occurrences import Emit, Recovered, RepairFailed
from driver.model.prepared import ClaimRef, Phase, Record
from driver.node.transactions import Transactions
from driver.state import files
from driver.state.cdi_dir import CdiDir
from driver.state.metadata_dir import MetadataDir
from driver.state.records import Ledger, Records

_LOCK_TIMEOUT: Final = 30.0
_UPHOLD_SECONDS: Final = 10.0
"""How long the start begins to bring up what claims need; the rest is `uphold`'s, and each claim's next prepare's."""
_T = TypeVar("_T")


class Recovery:
    """Repairs at start."""

    def __init__(
        self, transactions: Transactions, records: Records, specs: CdiDir, metadata_dir: MetadataDir, emit: Emit
    ) -> None:
        self._transactions = transactions
        self._records = records
        self._specs = specs
        self._metadata_dir = metadata_dir
        self._emit = emit

    def run(self, inventory: Inventory | None) -> Recovered:
        """Repair what can be repaired and report it.

        Without `inventory` (the hardware's driver is not there yet) claims from before the last boot wait for their
        next prepare. Raises `Unavailable` if another instance keeps the records, `StorageFailed` if they cannot be
        read.
        """
        with self._records.transaction(_LOCK_TIMEOUT, hardware=True, alone=True) as ledger:
            present = self._specs.names()
            site = self._transactions.site
            repairs = plan_repairs(site.driver, ledger.all(), present, site.boot_id, ledger.set_aside())
            removed = self._each([*repairs.remove, *self._leftovers(present)], str, self._remove)
            rolled_back = self._each(repairs.roll_back, _name, lambda record: self._roll_back(ledger, record))
            restored = self._each(repairs.restore, _name, self._transactions.restore)
            restored += self._each(repairs.renew, _name, lambda record: self._renew(ledger, record, inventory))
            self._each([ledger], lambda _: "all claims", self._sweep)
            recovered = Recovered(len(ledger.all()), rolled_back, restored, removed)
        self._transactions.doubt(record.uid for record in repairs.restore if any(step.upkeep for step in record.steps))
        with contextlib.suppress(Unavailable):  # the other instance holds it meanwhile; `uphold` tries again
            self.uphold(_UPHOLD_SECONDS)
        self._emit(recovered)
        return recovered

    def uphold(self, seconds: float = math.inf) -> None:
        """Start again what a process of ours has to hold for a claim, such as a daemon, and is not known to hold.

        A daemon may take long to come up, or not come up at all: other claims get their turn in between, and after so
        many `seconds` no further one is begun. Raises `Unavailable`, `StorageFailed` as `run` does.
        """
        end = time.monotonic() + seconds
        for uid in sorted(self._transactions.lapsed):
            if time.monotonic() > end:
                return
            with self._records.transaction(_LOCK_TIMEOUT, hardware=True) as ledger:
                found = [record for record in ledger.all() if record.uid == uid and record.phase is Phase.PREPARED]
                if not found:  # released, perhaps by another instance
                    self._transactions.settle(uid)
                self._each(found, _name, lambda record: self._uphold(ledger, record))

    def _each(self, items: Iterable[_T], name: Callable[[_T], str], repair: Callable[[_T], int]) -> int:
        """Repair one after the other, whatever happens to one; return the sum of what was repaired."""
        total = 0
        for item in items:
            try:
                total += repair(item)
            except Exception as error:  # noqa: BLE001 - a defect met at every start must not keep the plugin down
                self._emit(RepairFailed(name(item), type(error).__name__, str(error)))
        return total

    def _leftovers(self, present: Iterable[str]) -> list[str]:
        """Return files of ours in the CDI folder that a write which was interrupted has left."""
        driver = self._transactions.site.driver
        temporary = (name for name in sorted(present) if files.is_temporary(name))
        return [name for name in temporary if cdi.find_owner(driver, files.original_name(name))]

    def _remove(self, name: str) -> int:
        return int(self._specs.remove(name) and not files.is_temporary(name))

    def _roll_back(self, ledger: Ledger, record: Record) -> int:
        self._transactions.roll_back(ledger, record, record.steps)
        return 1

    def _renew(self, ledger: Ledger, record: Record, inventory: Inventory | None) -> int:
        """Write the specs of a claim from before the boot, if that changes no hardware; else its prepare will."""
        if inventory is None or record.steps:
            return 0
        renewed = self._transactions.renew(ledger, record, inventory, steps=False)
        return len(renewed.cdi) if renewed else 0

    def _uphold(self, ledger: Ledger, record: Record) -> int:
        self._transactions.uphold(ledger, record)
        return 0

    def _sweep(self, ledger: Ledger) -> int:
        """Remove temporary files, and metadata of claims that are gone (only while it is known whose it is)."""
        ledger.sweep()
        if not ledger.set_aside():
            keep = {metadata.locate_claim(record.namespace, record.name) for record in ledger.all()}
            self._metadata_dir.sweep(metadata.HOST_FOLDER, keep)
        return 0


def _name(record: Record) -> str:
    return str(ClaimRef(record.namespace, record.name, record.uid))
