"""One look sees what the vendor sees, what claims have made of it, and what was handed to virtual machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from driver.contract import Target
from driver.core.ownership import Holdings
from driver.core.passthrough import list_bound
from driver.model.devices import Accelerator, Failure, Snapshot
from driver.model.errors import StorageFailed, Unavailable
from driver.model.prepared import PARTITION, Preparation, Step
from driver.node.surveying import Surveyor
from tests.fakes.hardware import accelerator, partition, snapshot
from tests.fakes.passing import ONE, TWO, Site

MADE = Step(
    name=PARTITION,
    arguments={"pciAddress": TWO, "profile": "1g.10gb", "placement": "0"},
    facts={"uuid": "MIG-1g.10gb-0"},
)


class Machine:
    """A vendor that cannot see what is bound to another driver, as they are, and claims whose records change."""

    name = "machine"

    def __init__(self, root: Path) -> None:
        self.site = Site(root)
        self.accelerators: tuple[Accelerator, ...] = (
            accelerator(ONE),
            accelerator(TWO, index=1, partitioned=True, partitions=(partition(),)),
        )
        self.steps: tuple[Step, ...] = ()
        self.mark: object = 1
        self.broken = False
        self.reads = 0
        self.hot = 0

    def fingerprint(self) -> str:
        return str(self.hot)

    def snapshot(self) -> Snapshot:
        seen = [each for each in self.accelerators if self.site.machine.driver(each.pci_address) == "gpud"]
        if not seen:
            raise Unavailable("the driver is not loaded")
        return snapshot(*seen)

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        raise NotImplementedError

    def read(self) -> Holdings:
        self.reads += 1
        if self.broken:
            raise StorageFailed("claims", "Input/output error", action="read")
        return Holdings(self.steps, self.mark)

    def survey(self, *, passthrough: bool = True) -> Surveyor:
        return Surveyor(self, self.site.passthrough, self.read, offers_passthrough=passthrough)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_partitions_of_claims_are_told_from_others(machine: Machine) -> None:
    surveyor = machine.survey()
    assert surveyor.snapshot().ownership.strangers == {"MIG-1g.10gb-0"}
    machine.steps = (MADE,)
    found = surveyor.snapshot()
    assert found.ownership.strangers == frozenset()
    assert [own.uuid for own in found.ownership.owned] == ["MIG-1g.10gb-0"]
    assert found.ownership.steps == (MADE,)


def test_a_doubt_asks_for_another_look_and_is_settled_by_it(machine: Machine) -> None:
    surveyor = machine.survey()
    machine.mark = None
    before = surveyor.fingerprint()
    assert surveyor.snapshot().ownership.doubtful
    assert surveyor.fingerprint() != before, "the scanner looks again"
    before = surveyor.fingerprint()
    assert not surveyor.snapshot().ownership.doubtful
    assert surveyor.fingerprint() == before


def test_while_records_cannot_be_read_nobody_becomes_a_stranger(machine: Machine) -> None:
    surveyor = machine.survey()
    machine.steps, machine.broken = (MADE,), True
    for _ in range(3):
        found = surveyor.snapshot()
        assert [own.uuid for own in found.ownership.owned] == ["MIG-1g.10gb-0"]
    machine.broken, machine.mark = False, None
    assert not surveyor.snapshot().ownership.doubtful, "the record says that it is ours"


def test_news_that_no_fingerprint_tells_can_be_told(machine: Machine) -> None:
    surveyor = machine.survey()
    seen = {surveyor.fingerprint()}
    for _ in range(3):
        surveyor.expect_news()
        seen.add(surveyor.fingerprint())
    machine.hot = 1
    seen.add(surveyor.fingerprint())
    assert len(seen) == 5


def test_a_device_that_was_handed_over_is_still_seen(machine: Machine) -> None:
    surveyor = machine.survey()
    whole = surveyor.snapshot()
    assert whole.view is not None
    assert set(whole.view.groups) == {ONE, TWO}
    before = surveyor.fingerprint()
    machine.steps = (machine.site.passthrough.run(machine.site.plan()),)
    assert surveyor.fingerprint() != before
    found = surveyor.snapshot()
    assert [each.pci_address for each in found.snapshot.accelerators] == [ONE, TWO]
    assert list_bound(found.ownership.steps) == {ONE}


def test_they_are_seen_also_if_the_vendor_has_none_left(machine: Machine) -> None:
    surveyor = machine.survey()
    machine.accelerators = machine.accelerators[:1]
    surveyor.snapshot()
    machine.steps = (machine.site.passthrough.run(machine.site.plan()),)
    assert [each.pci_address for each in surveyor.snapshot().snapshot.accelerators] == [ONE]
    machine.steps = ()
    with pytest.raises(Unavailable, match="the driver is not loaded"):
        surveyor.snapshot()


def test_with_the_setting_off_the_kernel_is_asked_only_about_what_is_handed_over_still(machine: Machine) -> None:
    machine.steps = (machine.site.passthrough.run(machine.site.plan()),)
    surveyor = machine.survey(passthrough=False)
    found = surveyor.snapshot()
    assert [each.pci_address for each in found.snapshot.accelerators] == [ONE, TWO]
    assert found.view is None
    machine.site.passthrough.undo(machine.steps[0])
    machine.steps = ()
    found = surveyor.snapshot()
    assert [each.pci_address for each in found.snapshot.accelerators] == [ONE, TWO]
    assert "loaded" not in surveyor.fingerprint()


def test_failures_of_the_vendor_are_kept(machine: Machine) -> None:
    failure = Failure(TWO, 1, "it fell off the bus")
    real = machine.snapshot
    machine.snapshot = lambda: Snapshot("m", None, None, None, real().accelerators, (failure,))  # type: ignore[method-assign]
    assert machine.survey().snapshot().snapshot.failures == (failure,)
