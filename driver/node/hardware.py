"""All that is asked of hardware for a claim, and all that is changed: by the vendor, or by what is neutral of vendors.

Called by `node.transactions` while the records are held, and the hardware too if it is to be changed. Promises that a
change which claims share is run for each and undone with the last (`core.stepping` decides), that the records say at
every moment what may have to be undone, and that they are free for others while the hardware works.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from driver.contract import Steps, Target, Vendor
from driver.core import recording, stepping
from driver.model.errors import DriverError, StepRefused, Unsupported
from driver.model.occurrences import Emit, HardwareChanged
from driver.model.prepared import ClaimRef, ContainerEdits, Preparation, Record, Step
from driver.state.records import Ledger

_NOTHING = Preparation(ContainerEdits(), {})


class Executor(Protocol):
    """Who does and undoes steps, as in `contract.Steps`."""

    def run(self, step: Step, done: Sequence[Step]) -> Step:
        """Do it, or find it done."""

    def undo(self, step: Step) -> None:
        """Undo it, or find it undone."""


class Neutral(Executor, Protocol):
    """What serves some devices in place of their vendor, such as pass-through."""

    @property
    def names(self) -> frozenset[str]:
        """The steps that it does, also while it serves no device."""

    def takes(self, target: Target) -> bool:
        """Say whether it serves this device."""

    def plan(self, targets: Sequence[Target], held: Sequence[Step]) -> tuple[Step, ...]:
        """As `contract.Steps`, for the devices that it takes; `held` are the steps of all claims."""

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        """As `contract.Vendor`, for the devices that it takes."""


class Hardware:
    """The vendor of this node, and who stands in for it."""

    def __init__(self, vendor: Vendor, neutral: Sequence[Neutral], boot_id: str, emit: Emit) -> None:
        self._vendor = vendor
        self._neutral = tuple(neutral)
        self._boot_id = boot_id
        self._emit = emit

    def plan(self, ledger: Ledger, uid: str, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the steps that a claim needs, those of other claims as they stand there.

        Vendors plan first, also for devices that others serve then (power, modes). Changes nothing. Raises what they
        do, `StepContested` if another claim needs the hardware otherwise, and `HardwareWanted` if it is to be changed
        and not held: vendors may have to wait for hardware that is being changed before they can say how it is.
        """
        targets = _leave_out_missing(targets)
        if any(self._is_changed_for(target) for target in targets):
            ledger.want_hardware()
        planned = self._plan(ledger, uid, targets)
        if planned:
            ledger.want_hardware()
        return planned

    def _is_changed_for(self, target: Target) -> bool:
        """Say whether it is clear without asking that hardware is changed for a target, or has to be looked at."""
        gpu = target.accelerator
        is_made = target.partition is not None and target.partition.uuid is None
        is_switched = bool(gpu.profiles) and (gpu.partitioned or target.share_id is not None)
        is_asked = is_made or target.sharing is not None or (target.partition is None and is_switched)
        return is_asked or any(each.takes(target) for each in self._neutral)

    def _plan(self, ledger: Ledger, uid: str, targets: Sequence[Target]) -> tuple[Step, ...]:
        planned = list(self._vendor.plan(targets)) if targets and isinstance(self._vendor, Steps) else []
        for server in self._neutral:
            own = [target for target in targets if server.takes(target)]
            planned += server.plan(own, [step for record in ledger.holders() for step in record.steps]) if own else ()
        return stepping.share(planned, uid, ledger.holders(), self._boot_id) if planned else ()

    def describe(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        """Return what containers get. Raises `Unavailable` or `InvalidInput`.

        Of a partition that nobody has made admin access gets nothing; a claim that got nothing else either gets what
        comes with every device.
        """
        there = _leave_out_missing(targets)
        found = _NOTHING
        if targets and not there:
            return Preparation(self._vendor.prepare((), done).common, {})
        for server, own in self._divide(there):
            added = server.prepare(own, done)
            common = found.common if added.common == ContainerEdits() else added.common
            found = Preparation(common, {**found.devices, **added.devices})
        return found

    def run(self, ledger: Ledger, record: Record, begun: list[Step]) -> None:
        """Run the steps of a record; `begun` tells, whatever happens, which may have changed something."""
        for step in record.steps:
            begun.append(step)
            begun[-1] = self._run(ledger, record, step, begun)
            for other in stepping.spread(begun[-1], record.uid, ledger.all(), self._boot_id):
                ledger.put(other)

    def uphold(self, ledger: Ledger, record: Record) -> Record:
        """Run again what a process of ours has to hold; return the record as it is then. Raises what `run` does."""
        steps = list(record.steps)
        for number, step in enumerate(steps):
            if step.upkeep:
                with ledger.apart():
                    steps[number] = self._executor(step).run(step, tuple(steps[:number]))
        upheld = recording.with_steps(record, steps)
        if upheld != record:
            ledger.put(upheld)
        return upheld

    def undo(self, ledger: Ledger, record: Record, steps: Sequence[Step]) -> None:
        """Undo steps, last first, but those that other claims have too.

        Raises `StepFailed`, `StorageFailed`, `Unsupported`; then the record has only what is left to be undone.
        """
        left = list(steps)
        try:
            while left:
                if not stepping.is_held(left[-1], record, ledger.holders(), self._boot_id):
                    self._undo(ledger, record, left[-1])
                left.pop()
        except Exception:
            with contextlib.suppress(DriverError):  # else it names more than is left, and undoing is safe to repeat
                known = ledger.get(record.uid)
                if known is not None and tuple(left) != known.steps:
                    ledger.put(recording.interrupted(recording.with_steps(known, left)))
            raise

    def _run(self, ledger: Ledger, record: Record, step: Step, begun: list[Step]) -> Step:
        started = time.monotonic()
        try:
            with ledger.apart():
                done = self._executor(step).run(step, tuple(begun[:-1]))
        except StepRefused:
            begun.pop()
            raise
        self._tell(record, done, "run", started)
        return done

    def _undo(self, ledger: Ledger, record: Record, step: Step) -> None:
        started = time.monotonic()
        with ledger.apart():
            self._executor(step).undo(step)
        self._tell(record, step, "undo", started)

    def _tell(self, record: Record, step: Step, operation: str, started: float) -> None:
        claim = str(ClaimRef(record.namespace, record.name, record.uid))
        self._emit(HardwareChanged(claim, step.name, operation, recording.describe(step), time.monotonic() - started))

    def _divide(self, targets: Sequence[Target]) -> list[tuple[Vendor | Neutral, list[Target]]]:
        """Return who serves which targets; whoever serves none is left out."""
        servers: tuple[Vendor | Neutral, ...] = (self._vendor, *self._neutral)
        shares: list[tuple[Vendor | Neutral, list[Target]]] = [(each, []) for each in servers]
        for target in targets:
            server = next((number for number, each in enumerate(self._neutral, 1) if each.takes(target)), 0)
            shares[server][1].append(target)
        return [share for share in shares if share[1]]

    def _executor(self, step: Step) -> Executor:
        for each in self._neutral:
            if step.name in each.names:
                return each
        if not isinstance(self._vendor, Steps):
            raise Unsupported(f"vendor {self._vendor.name} cannot do or undo step {step.name}")
        return self._vendor


def _leave_out_missing(targets: Sequence[Target]) -> list[Target]:
    """Return targets without partitions that could be made and are not there, for who only looks on."""
    return [each for each in targets if not (each.admin_access and each.partition and each.partition.uuid is None)]
