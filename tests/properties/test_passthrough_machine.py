"""Any history of claims for devices and their twins, crashes, boots, reloads and strangers: kernel, records, CDI agree.

Three devices, the first with a sound function. The plugin's own preparer, records, surveyor and inventory are driven;
only the kernel, the vendor and the kubelet's calls are made up.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from driver.core import inventory, passthrough
from driver.core.offering import Offer
from driver.model.devices import Inventory, Snapshot
from driver.model.errors import Unavailable
from driver.model.passthrough import DRIVER
from driver.model.prepared import Phase
from driver.node.passing import Passing
from driver.node.preparer import Preparer
from driver.node.surveying import Surveyor
from driver.passthrough.binding import Limits, Passthrough
from tests.fakes.bench import Bench, accelerator, claim, device, prepare_one, ref, result, unprepare_one
from tests.fakes.pci import AUDIO, FakeKernel, Machine

SLOTS = (1, 2, 3)
SOUND = "0000:01:00.1"
LIMITS = Limits(change=20, probe=0.02, idle=0.01)

slots = st.sampled_from(SLOTS)
uids = st.sampled_from(["u1", "u2", "u3"])
faults = st.sampled_from([None, None, "unbind", "drivers_probe", "bind", "driver_override"])
deaths = st.sampled_from([None, None, None, *range(7)])


class Crash(BaseException):
    """The process is gone."""


def crash() -> None:
    raise Crash


def address(slot: int) -> str:
    return f"0000:{slot:02x}:00.0"


def twin(slot: int) -> str:
    return device(slot).replace("gpu", "vfio")


class Vendor:
    """Sees what its own driver has, and nothing while that is not loaded."""

    name = "bench"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def fingerprint(self) -> str:
        return ""

    def snapshot(self) -> Snapshot:
        if not (self._machine.pci / "drivers" / "benchd").exists():
            raise Unavailable("benchd is not loaded")
        seen = [slot for slot in SLOTS if self._machine.driver(address(slot)) == "benchd"]
        return Snapshot("bench", "1.2.3", "13.0", "1", tuple(accelerator(slot) for slot in seen))


class Claims(RuleBasedStateMachine):
    """`strangers` are slots of devices that somebody else has bound to vfio-pci."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.bench = Bench(self.root)
        self.machine = Machine(self.root / "sys").build("benchd", "sound", DRIVER)
        for slot in SLOTS:
            self.machine.add(address(slot), str(slot), native="benchd")
        self.machine.add(SOUND, "1", kind=AUDIO, native="sound")
        self.strangers: set[int] = set()
        self.loaded = True
        self.boots = 0
        self.start()

    def teardown(self) -> None:
        self.preparer.close()
        shutil.rmtree(self.root)

    def start(self) -> None:
        """Start a process of the plugin."""
        self.kernel = FakeKernel(self.machine, die=crash)
        binding = Passthrough(str(self.machine.root), str(self.root / "proc"), kernel=self.kernel, limits=LIMITS)
        self.bench.neutral = (Passing(binding, self.bench.vendor, lambda: self.bench.inventory),)
        self.preparer: Preparer = self.bench.open()
        self.surveyor = Surveyor(Vendor(self.machine), binding, self.preparer.read_steps, offers_passthrough=True)  # type: ignore[arg-type]
        self.bench.inventory = self.look()
        self.preparer.recover()

    def crash(self) -> None:
        self.preparer.close()
        self.start()

    def look(self) -> Inventory | None:
        """Look as the scanner does."""
        try:
            survey = self.surveyor.snapshot()
        except Unavailable:
            return None
        bound = passthrough.list_bound(survey.ownership.steps)
        return inventory.build(survey.snapshot, None, Offer(view=survey.view, bound=bound))

    def arm(self, slot: int, death: int | None, fault: str | None) -> None:
        self.bench.inventory = self.look()
        self.kernel.dies_after = None if death is None else len(self.kernel.changes) + death
        self.kernel.refuse = {(fault, address(slot)): errno.EBUSY} if fault else {}

    def holders(self, slot: int) -> list[str]:
        names = {device(slot), twin(slot)}
        return [record.uid for record in self.bench.records() if names & {each.device for each in record.devices}]

    @rule(uid=uids, slot=slots, virtual=st.booleans(), death=deaths, fault=faults)
    def prepare(self, uid: str, slot: int, virtual: bool, death: int | None, fault: str | None) -> None:
        if any(record.uid == uid for record in self.bench.records()):
            return
        others = self.holders(slot)
        name = twin(slot) if virtual else device(slot)
        wanted = self.bench.add(claim(uid, result(name)))
        self.arm(slot, death, fault)
        found = self.bench.inventory
        try:
            answer = prepare_one(self.preparer, wanted)
        except Crash:
            self.crash()
            return
        finally:
            self.kernel.dies_after, self.kernel.refuse = None, {}
        if answer.error:
            offered = found is not None and found.find(name) is not None
            assert not offered or others or fault, answer.error
        else:
            assert not others, "nobody has what another claim has"

    @precondition(lambda self: self.bench.records())
    @rule(data=st.data(), death=deaths, fault=faults)
    def unprepare(self, data: st.DataObject, death: int | None, fault: str | None) -> None:
        record = data.draw(st.sampled_from(self.bench.records()))
        slot = int(record.devices[0].device.split("-")[2], 16)
        self.arm(slot, death, fault)
        try:
            unprepare_one(self.preparer, ref(record.uid))
        except Crash:
            self.crash()
        finally:
            self.kernel.dies_after, self.kernel.refuse = None, {}

    @rule()
    def restart(self) -> None:
        self.crash()
        if self.loaded:
            left = [record for record in self.bench.records() if record.phase is Phase.PREPARING]
            assert left == [], "nothing else can hold it up"

    @rule()
    def boot(self) -> None:
        self.preparer.close()
        for name in [*map(address, SLOTS), SOUND]:
            self.machine.unbind(name)
            self.machine.set_override(name, "")
            self.machine.probe(name)
        self.strangers.clear()
        self.boots += 1
        self.bench.reboot(f"{self.boots:08x}-2222-4333-8444-555555555555")
        self.start()

    @rule()
    def reload(self) -> None:
        """Unload the vendor's driver, or load it again."""
        self.loaded = not self.loaded
        if self.loaded:
            self.machine.load("benchd")
        else:
            self.machine.unload("benchd")

    @rule(slot=slots, overridden=st.booleans())
    def take_by_hand(self, slot: int, *, overridden: bool) -> None:
        if not self.holders(slot) and slot not in self.strangers:
            self.machine.unbind(address(slot))
            self.machine.set_override(address(slot), DRIVER if overridden else "")
            self.machine.bind(address(slot), DRIVER)
            self.strangers.add(slot)

    @rule(slot=slots)
    def give_back_by_hand(self, slot: int) -> None:
        if slot in self.strangers:
            self.machine.unbind(address(slot))
            self.machine.set_override(address(slot), "")
            self.machine.probe(address(slot))
            self.strangers.discard(slot)

    @invariant()
    def every_function_is_where_the_records_say(self) -> None:
        state = self.machine.state()
        boot = (self.root / "proc/sys/kernel/random/boot_id").read_text().strip()
        held = {each.device: record for record in self.bench.records() for each in record.devices}
        for slot in SLOTS:
            record = held.get(twin(slot))
            if record is not None and record.phase is Phase.PREPARING:
                continue
            bound = record is not None and record.boot_id == boot
            for function in [address(slot), *([SOUND] if slot == 1 else [])]:
                native = "sound" if function == SOUND else "benchd" if self.loaded else None
                if bound:
                    assert state[function] == (DRIVER, DRIVER)
                elif slot in self.strangers and function != SOUND:
                    assert state[function][0] == DRIVER
                else:
                    assert state[function] == (native, None)

    @invariant()
    def each_prepared_claim_has_its_documents_and_nobody_else_has(self) -> None:
        owners = {path.name.split("claim_")[-1].removesuffix(".json") for path in (self.root / "cdi").glob("*claim_*")}
        prepared = {record.uid for record in self.bench.records() if record.phase is Phase.PREPARED}
        assert owners <= {record.uid for record in self.bench.records()}
        boot = (self.root / "proc/sys/kernel/random/boot_id").read_text().strip()
        fresh = {record.uid for record in self.bench.records() if record.boot_id == boot}
        assert prepared & fresh <= owners

    @invariant()
    def what_is_published_can_be_counted_on(self) -> None:
        found = self.look()
        if found is None:
            assert not self.loaded
            return
        names = {entry.name for entry in found.entries}
        seen = set(SLOTS) - self.strangers if self.loaded else set[int]()
        assert {device(slot) for slot in seen} <= names
        assert {twin(slot) for slot in seen} <= names, "a device that is away is still published"
        assert all(entry.device.consumes_counters for entry in found.entries), "and never twice"


Claims.TestCase.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
TestClaims = Claims.TestCase
