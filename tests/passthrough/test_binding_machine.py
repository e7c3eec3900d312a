"""Any history of claims, crashes, faults, strangers, reloads and boots leaves every device where it belongs.

Five devices: one with a sound function, two alone, two in one group. A claim's record is written before its step is run
and removed after it was undone, as `node.transactions` does it.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from driver.contract import Target
from driver.core import passthrough
from driver.model.devices import Snapshot
from driver.model.errors import StepFailed, StepRefused
from driver.model.passthrough import DRIVER
from driver.model.prepared import Step
from driver.passthrough.binding import Limits, Passthrough
from tests.fakes.hardware import accelerator, snapshot
from tests.fakes.pci import AUDIO, FakeKernel, Machine

GPUS = ("0000:1a:00.0", "0000:2a:00.0", "0000:3a:00.0", "0000:4a:00.0", "0000:4b:00.0")
SOUND = "0000:1a:00.1"
GROUPS = dict(zip(GPUS, ("10", "20", "30", "40", "40"), strict=True))
NATIVE = {**dict.fromkeys(GPUS, "gpud"), SOUND: "sound"}

LIMITS = Limits(change=20, probe=0.02)

gpus = st.sampled_from(GPUS)
faults = st.sampled_from([None, None, "unbind", "drivers_probe", "bind", "driver_override"])
deaths = st.sampled_from([None, None, None, *range(7)])


class Crash(BaseException):
    """The process is gone."""


def crash() -> None:
    raise Crash


class Passing(RuleBasedStateMachine):
    """`records` are steps by device, `strangers` the overrides of devices that somebody else has bound to vfio-pci."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.machine = Machine(self.root / "sys").build("gpud", "sound", DRIVER)
        for address in GPUS:
            self.machine.add(address, GROUPS[address])
        self.machine.add(SOUND, "10", kind=AUDIO, native="sound")
        self.records: dict[str, Step] = {}
        self.unfinished: set[str] = set()
        self.strangers: dict[str, str | None] = {}
        self.loaded = True
        self.restart()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def restart(self) -> None:
        """Begin a new process of the plugin; nothing that an earlier one held in memory is left."""
        self.kernel = FakeKernel(self.machine, die=crash)
        self.passthrough = Passthrough(str(self.machine.root), "/nothing", kernel=self.kernel, limits=LIMITS)

    def functions(self, address: str) -> list[str]:
        return [address, SOUND] if address == GPUS[0] else [address]

    def see(self) -> Snapshot | None:
        """Look as a vendor does, which sees what its own driver has and nothing while that is not loaded."""
        found = [
            accelerator(address, index=index)
            for index, address in enumerate(GPUS)
            if self.machine.driver(address) == "gpud"
        ]
        return snapshot(*found) if self.loaded else None

    def offer(self) -> tuple[Snapshot | None, passthrough.Verdict]:
        """Return what the scanner would have."""
        view = self.passthrough.look(GPUS)
        kept = passthrough.keep(self.see(), self.records.values(), view)
        bound = passthrough.list_bound(self.records.values())
        return kept, passthrough.decide(kept, view, bound) if kept else passthrough.Verdict()

    @rule(address=gpus, death=deaths, fault=faults)
    def prepare(self, address: str, death: int | None, fault: str | None) -> None:
        kept, verdict = self.offer()
        if kept is None or address in self.records:
            return
        device = next((each for each in kept.accelerators if each.pci_address == address), None)
        if device is None:
            assert address in self.strangers or not self.loaded
            return
        target = Target("vfio", device, None, admin_access=False, share_id=None)
        try:
            step = passthrough.plan(target, kept, self.passthrough.look(GPUS), steps=self.records.values())
        except StepRefused:
            assert address not in verdict.offered, "what is offered can be had"
            return
        assert address in verdict.offered
        self.records[address] = step
        self.unfinished.add(address)
        self.kernel.dies_after = None if death is None else len(self.kernel.changes) + death
        self.kernel.refuse = {(fault, address): errno.EBUSY} if fault else {}
        try:
            self.records[address] = self.passthrough.run(step)
            self.unfinished.discard(address)
        except StepFailed:
            self.undo(address)
        except Crash:
            self.restart()
        self.kernel.dies_after, self.kernel.refuse = None, {}

    def undo(self, address: str) -> None:
        """Undo a step; the record stays if that does not work now."""
        self.unfinished.add(address)
        try:
            self.passthrough.undo(self.records[address])
        except StepFailed:
            return
        except Crash:
            self.restart()
            return
        del self.records[address]
        self.unfinished.discard(address)

    @precondition(lambda self: self.records)
    @rule(data=st.data(), death=deaths, fault=faults)
    def release(self, data: st.DataObject, death: int | None, fault: str | None) -> None:
        address = data.draw(st.sampled_from(sorted(self.records)))
        self.kernel.dies_after = None if death is None else len(self.kernel.changes) + death
        self.kernel.refuse = {(fault, address): errno.EBUSY} if fault else {}
        self.undo(address)
        self.kernel.dies_after, self.kernel.refuse = None, {}

    @rule()
    def recover(self) -> None:
        self.restart()
        for address in sorted(self.unfinished):
            self.undo(address)
            assert (address in self.records) <= (not self.loaded), "nothing else can hold it up"

    @rule(address=gpus, overridden=st.booleans())
    def take_by_hand(self, address: str, *, overridden: bool) -> None:
        """Bind a device to vfio-pci as others do it: by its override, or by telling vfio-pci its ids (new_id)."""
        if address not in self.records and address not in self.strangers:
            self.machine.unbind(address)
            self.machine.set_override(address, DRIVER if overridden else "")
            self.machine.bind(address, DRIVER)
            self.strangers[address] = DRIVER if overridden else None

    @rule(address=gpus)
    def give_back_by_hand(self, address: str) -> None:
        if address in self.strangers:
            self.machine.unbind(address)
            self.machine.set_override(address, "")
            self.machine.probe(address)
            del self.strangers[address]

    @rule()
    def reload(self) -> None:
        """Unload the vendor's driver, or load it again."""
        self.loaded = not self.loaded
        if self.loaded:
            self.machine.load("gpud")
        else:
            self.machine.unload("gpud")

    @rule()
    def boot(self) -> None:
        """Forget overrides and bind everything anew; records stay, and are undone before anything else."""
        for address in NATIVE:
            self.machine.unbind(address)
            self.machine.set_override(address, "")
            self.machine.probe(address)
        self.strangers.clear()
        self.unfinished |= set(self.records)
        self.recover()

    @invariant()
    def every_function_is_where_it_belongs(self) -> None:
        state = self.machine.state()
        for address in GPUS:
            for function in self.functions(address):
                if address in self.unfinished:
                    continue
                native = NATIVE[function] if self.loaded or function == SOUND else None
                if function in self.strangers:
                    assert state[function] == (DRIVER, self.strangers[function]), "nobody has touched it"
                else:
                    assert state[function] == ((DRIVER, DRIVER) if address in self.records else (native, None))

    @invariant()
    def whatever_a_claim_has_stays_published(self) -> None:
        kept, verdict = self.offer()
        published = {each.pci_address for each in kept.accelerators} if kept else set()
        assert published == (set(GPUS) - set(self.strangers) if self.loaded else set(self.records))
        assert set(self.records) <= verdict.offered
        assert not verdict.offered & (set(self.strangers) | {GPUS[3], GPUS[4]} - set(self.records))


Passing.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestPassing = Passing.TestCase
