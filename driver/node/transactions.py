"""What is done for one claim while the records are held: plan, journal, steps, files, record.

Whatever would change hardware raises `HardwareWanted` before it has changed anything, unless that is held, too.

Called by `node.preparer` (claims) and `node.recovery` (start). Promises that an interruption anywhere leaves a record
from which the claim can be undone or completed, that a failure leaves nothing behind, and that a plain device costs
one durable write. It must not wait for anything but the disk and the vendor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from driver.contract import Target
from driver.core import cdi, metadata, preparing, recording, recovery, stepping
from driver.core.metadata import RequestMetadata
from driver.core.preparing import Grant, Place
from driver.model.claims import ResourceClaim
from driver.model.devices import Inventory
from driver.model.errors import DriverError, StepFailed, StorageFailed, Unavailable
from driver.model.occurrences import Emit, MetadataFailed
from driver.model.prepared import ClaimRef, ContainerEdits, Phase, Preparation, PreparedDevice, Record, Step
from driver.node.hardware import Hardware
from driver.state.cdi_dir import CdiDir
from driver.state.metadata_dir import MetadataDir
from driver.state.records import Ledger

_NOTHING = Preparation(ContainerEdits(), {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Who and where we are."""

    driver: str
    pool: str
    boot_id: str
    device_metadata: bool
    """Whether claims get device metadata (KEP-5304) from now on; that of claims which have it is kept up."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A claim that is about to be prepared."""

    record: Record
    """With the steps as planned. Complete if there are none; else without what containers get."""
    targets: Sequence[Target]
    complete: Callable[[Preparation, Sequence[Step]], Record]
    """Makes the record of what containers get, once the steps were run as given."""


class Transactions:
    """Changes to claims. Every method wants the ledger, so that none can be called without holding the records."""

    def __init__(self, site: Site, hardware: Hardware, specs: CdiDir, metadata_dir: MetadataDir, emit: Emit) -> None:
        self.site = site
        self._hardware = hardware
        self._specs = specs
        self._metadata_dir = metadata_dir
        self._emit = emit
        self._lapsed: set[str] = set()
        self._undoing: set[str] = set()
        """UIDs of claims that are being undone although the disk did not let us write that down."""

    def resume(self, ledger: Ledger, uid: str, inventory: Inventory | None) -> Record | None:
        """Return the record of a claim that is prepared, with its files in place; None if it is not prepared.

        An interrupted claim is rolled back first. One from before the last boot is prepared again from its record.
        """
        record = ledger.get(uid)
        if record is None:
            return None
        if record.phase is Phase.PREPARING or uid in self._undoing:
            ledger.want_hardware()  # else it may be in the midst of being prepared
            self.roll_back(ledger, record, record.steps)
            return None
        if record.boot_id != self.site.boot_id:
            return self.renew(ledger, record, inventory)
        self.restore(record)
        return self.uphold(ledger, record) if uid in self._lapsed else record

    def prepare(
        self, ledger: Ledger, ref: ClaimRef, claim: ResourceClaim, inventory: Inventory | None
    ) -> tuple[PreparedDevice, ...]:
        """Prepare a claim, or answer as before if it is prepared with the devices that it has now.

        Raises what `core.preparing.plan` and vendors do.
        """
        resumed = self.resume(ledger, ref.uid, inventory)
        if resumed is not None and self.agrees(resumed, claim):
            return resumed.devices
        if resumed is not None:
            self.unprepare(ledger, ref.uid)
        place = self._place(inventory)
        grants = preparing.plan(ref, claim, [*ledger.all(), *self._hold_unread(ledger, place)], place)
        if not grants:
            return ()
        targets = [grant.aim(ref.uid) for grant in grants]
        steps = self._hardware.plan(ledger, ref.uid, targets)

        def outline(preparation: Preparation, documents: Sequence[RequestMetadata]) -> Record:
            return recording.draft(ref, place, grants, preparation, documents, self.site.boot_id)

        def complete(preparation: Preparation, done: Sequence[Step]) -> Record:
            documents = self._describe(claim, preparing.learn(grants, done), place)
            return outline(preparation, self._write_metadata(ledger, ref, documents))

        if steps:
            first = outline(_NOTHING, self._describe(claim, grants, place))
        else:
            first = complete(self._hardware.describe(targets), ())
        record = self._carry_out(ledger, Draft(recording.with_steps(first, steps), targets, complete))
        return record.devices

    def agrees(self, record: Record, claim: ResourceClaim) -> bool:
        """Say whether the API server's claim has the devices of the record."""
        return recovery.agrees(record, claim, self.site.driver, self.site.pool)

    def unprepare(self, ledger: Ledger, uid: str) -> None:
        """Undo a claim, from its record alone. One that is not known is done already.

        Raises `StepFailed` or `StorageFailed`; then the record stays and the kubelet's next try continues. A full disk
        is no reason: pods that end are what makes room on it.
        """
        record = ledger.get(uid)
        if record is None:
            self._remove_strays(uid)
        else:
            if record.steps or record.phase is Phase.PREPARING:
                ledger.want_hardware()
            if record.steps and record.phase is Phase.PREPARED:
                self._begin_undoing(ledger, record)
            self.roll_back(ledger, record, record.steps)
        ledger.release(uid)

    def _begin_undoing(self, ledger: Ledger, record: Record) -> None:
        """Write down that a claim is being undone. If we die without that, it looks prepared until it is undone again.

        All that is lost then is that undoing goes on by itself when the plugin starts.
        """
        try:
            ledger.put(recording.interrupted(record))
        except StorageFailed:
            self._undoing.add(record.uid)

    def roll_back(self, ledger: Ledger, record: Record, steps: Sequence[Step]) -> None:
        """Undo steps, last first, then remove what a claim has left. Raises `StepFailed`, `StorageFailed`."""
        self._hardware.undo(ledger, record, steps)
        self._lapsed.discard(record.uid)
        for name in dict.fromkeys((*record.cdi, cdi.name_file(self.site.driver, record.uid))):
            self._specs.remove(name)
        if record.metadata:
            self._remove_metadata(ledger, record)
        ledger.remove(record.uid)
        self._undoing.discard(record.uid)

    @property
    def lapsed(self) -> frozenset[str]:
        """UIDs of prepared claims for which a process of ours does not hold what it should."""
        return frozenset(self._lapsed - self._undoing)

    def doubt(self, uids: Iterable[str]) -> None:
        """Take claims for lapsed until they are upheld, as when the plugin has just started."""
        self._lapsed.update(uids)

    def settle(self, uid: str) -> None:
        """Take a claim that is not prepared any more for lapsed no longer."""
        self._lapsed.discard(uid)

    def uphold(self, ledger: Ledger, record: Record) -> Record:
        """Run again what a process of ours has to hold for a prepared claim. If that fails its next prepare tries."""
        self._lapsed.add(record.uid)
        ledger.want_hardware()
        upheld = self._hardware.uphold(ledger, record)
        self._lapsed.discard(record.uid)
        return upheld

    def restore(self, record: Record, before: Record | None = None) -> int:
        """Write the files of a record that are missing, exactly as they were; return how many CDI specs were.

        Metadata is written also where it is another one than `before`.
        """
        missing = [name for name in record.cdi if not self._specs.has(name)]
        for name in missing:
            self._specs.store(name, bytes(record.cdi[name]))
        for request, document in record.metadata.items():
            path = metadata.locate_document(record.namespace, record.name, request)
            outdated = before is not None and bytes(before.metadata.get(request, b"")) != bytes(document)
            if outdated or not self._metadata_dir.has(path):
                self._metadata_dir.store(path, bytes(document) + b"\n")
        return len(missing)

    def renew(
        self, ledger: Ledger, record: Record, inventory: Inventory | None, *, steps: bool = True
    ) -> Record | None:
        """Prepare a claim again after a boot: the hardware is asked again, the kubelet's answer stays the same.

        With `steps` false nothing is done, and None returned, if hardware would have to be changed.
        """
        grants = preparing.plan_again(record, self._place(inventory))
        targets = [grant.aim(record.uid) for grant in grants]
        planned = self._hardware.plan(ledger, record.uid, targets)
        if planned and not steps:
            return None
        if record.steps:  # planned again afterwards: some of it may outlive a boot, and looks as if it had been so
            ledger.want_hardware()
            ledger.put(recording.interrupted(record))
            self._hardware.undo(ledger, record, record.steps)
            planned = self._hardware.plan(ledger, record.uid, targets)

        def complete(preparation: Preparation, done: Sequence[Step]) -> Record:
            documents = stepping.replace_identities(record.metadata, record.steps, done)
            renewed = recording.renew(record, self.site.driver, preparation, self.site.boot_id)
            return recording.with_metadata(renewed, documents)

        edits = _NOTHING if planned else self._hardware.describe(targets)
        first = recording.with_steps(complete(edits, ()), planned)
        renewed = self._carry_out(ledger, Draft(first, targets, complete))
        self.restore(renewed, record)
        return renewed

    def _place(self, inventory: Inventory | None) -> Place:
        if inventory is None:
            raise Unavailable("the devices of this node are not known yet: their driver is not loaded")
        return Place(self.site.driver, self.site.pool, inventory)

    def _hold_unread(self, ledger: Ledger, place: Place) -> list[Record]:
        """Return records for claims whose own is not understood: their containers may be running."""
        held = []
        for uid, devices in ledger.unread().items():
            text = self._specs.read(cdi.name_file(self.site.driver, uid))
            held.append(preparing.hold_unread(uid, devices, cdi.list_devices(text, uid), place))
        return held

    def _carry_out(self, ledger: Ledger, draft: Draft) -> Record:
        """Do what is planned, then keep and return the record. On failure everything is undone and the record is gone.

        Before hardware is changed the record says what is about to be; afterwards, what was done.
        """
        record = draft.record
        begun: list[Step] = []
        try:
            if record.steps:
                ledger.put(recording.interrupted(record))
                self._hardware.run(ledger, record, begun)
                edits = self._hardware.describe(draft.targets, begun)
                record = recording.with_steps(draft.complete(edits, begun), begun)
            for name, text in record.cdi.items():
                self._specs.store(name, bytes(text))
            ledger.put(record)
        except Exception as error:
            try:
                self.roll_back(ledger, record, begun)
            except DriverError as second:
                raise StepFailed("roll back", f"{second}; it had to be undone because: {error}") from error
            raise
        return record

    def _describe(self, claim: ResourceClaim, grants: Sequence[Grant], place: Place) -> tuple[RequestMetadata, ...]:
        if not self.site.device_metadata:
            return ()
        return metadata.describe(claim, grants, place, self._metadata_dir.root)

    def _write_metadata(
        self, ledger: Ledger, ref: ClaimRef, documents: Sequence[RequestMetadata]
    ) -> Sequence[RequestMetadata]:
        """Write the metadata of a claim; return none of it if that fails, which is only reported."""
        try:
            for entry in documents:
                path = metadata.locate_document(ref.namespace, ref.name, entry.request)
                self._metadata_dir.store(path, entry.document)
        except StorageFailed as error:
            with contextlib.suppress(StorageFailed):
                self._remove_metadata(ledger, ref)
            self._emit(MetadataFailed(str(ref), str(error)))
            return ()
        return documents

    def _remove_metadata(self, ledger: Ledger, claim: Record | ClaimRef) -> None:
        """Remove a claim's documents, unless another claim of the same name has its own there."""
        name = (claim.namespace, claim.name)
        if all((other.namespace, other.name) != name or other.uid == claim.uid for other in ledger.all()):
            self._metadata_dir.remove(metadata.locate_claim(*name))

    def _remove_strays(self, uid: str) -> None:
        """Remove specs of a claim without a record: its record could not be read, or its prepare was interrupted."""
        for name in self._specs.names():
            if cdi.find_owner(self.site.driver, name) == uid:
                self._specs.remove(name)
