"""Devices are handed to vfio-pci and given back, whatever the kernel, other people and crashes do meanwhile."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from driver.core import passthrough
from driver.model.errors import StepFailed, StepRefused
from driver.model.passthrough import DRIVER, Function, View
from driver.model.prepared import DeviceNode, Step
from driver.passthrough.binding import Passthrough
from tests.fakes.passing import HANDED_OVER, ONE, ORIGINAL, PORT, SOUND, TWO, Site
from tests.fakes.pci import AUDIO, BRIDGE

BRIEF = 0.5
"""Seconds that a kernel is given which does not answer."""


class Rig(Site):
    """With what tests look at."""

    def refuse(self, step: Step, why: str) -> None:
        """See that a step is refused and nothing was touched."""
        before, changes = self.machine.state(), len(self.kernel.changes)
        with pytest.raises(StepRefused) as refused:
            self.passthrough.run(step)
        assert str(refused.value) == f"step vfio-bind: {why}"
        assert self.machine.state() == before
        assert len(self.kernel.changes) == changes

    def fail(self, step: Step, why: str) -> None:
        """See that a step fails for this reason, and that undoing it leads back."""
        with pytest.raises(StepFailed) as failed:
            self.passthrough.run(step)
        assert not isinstance(failed.value, StepRefused)
        assert str(failed.value) == f"step vfio-bind: {why}"

    def refuse_to_undo(self, step: Step, why: str) -> None:
        with pytest.raises(StepFailed) as failed:
            self.passthrough.undo(step)
        assert str(failed.value) == f"step vfio-bind: {why}"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_look_finds_groups_classes_and_drivers(rig: Rig) -> None:
    view = rig.passthrough.look([ONE, TWO, "0000:ff:00.0"])
    assert view.loaded
    assert set(view.groups) == {ONE, TWO}
    group = view.groups[ONE]
    assert group is not None
    assert group.number == "27"
    assert group.functions == (
        Function(PORT, BRIDGE, 0x10DE, 0x2330, "pcieport"),
        Function(ONE, 0x030200, 0x10DE, 0x2330, "gpud"),
        Function(SOUND, AUDIO, 0x10DE, 0x2330, "sound"),
    )


def test_a_look_at_a_machine_without_iommu_or_sysfs_is_no_error(rig: Rig, tmp_path: Path) -> None:
    rig.machine.add("0000:5e:00.0", None)
    rig.machine.unload(DRIVER)
    assert rig.passthrough.look(["0000:5e:00.0"]) == View(False, {"0000:5e:00.0": None})
    assert Passthrough(str(tmp_path / "nothing"), str(tmp_path)).look([ONE]) == View()


def test_a_look_tells_virtual_functions_and_overrides(rig: Rig) -> None:
    (rig.machine.device(TWO) / "sriov_numvfs").write_text("16\n")
    rig.machine.set_override(TWO, "gpud")
    group = rig.passthrough.look([TWO]).groups[TWO]
    assert group is not None
    assert (group.functions[0].virtual_functions, group.functions[0].override) == (16, "gpud")


def test_the_fingerprint_changes_with_drivers_and_groups_only(rig: Rig) -> None:
    first = rig.passthrough.fingerprint([ONE, TWO])
    assert rig.passthrough.fingerprint([ONE, TWO]) == first
    rig.passthrough.run(rig.plan())
    second = rig.passthrough.fingerprint([ONE, TWO])
    rig.machine.unload(DRIVER)
    third = rig.passthrough.fingerprint([ONE, TWO])
    assert len({first, second, third}) == 3


def test_a_device_is_handed_over_with_its_functions_and_given_back(rig: Rig) -> None:
    step = rig.plan()
    done = rig.passthrough.run(step)
    assert rig.machine.state() == HANDED_OVER, "the bridge stays"
    assert passthrough.edit("x", done).device_nodes == (
        DeviceNode(path="/dev/vfio/vfio", type="c", major=10, minor=196, permissions="rw", file_mode=0o666),
        DeviceNode(path="/dev/vfio/27", type="c", major=244, minor=27, permissions="rw", file_mode=0o666),
    )
    assert {**done.facts, "nodes": ""} == {**step.facts, "nodes": ""}
    rig.passthrough.undo(done)
    assert rig.machine.state() == ORIGINAL


def test_the_kernels_newer_nodes_are_given_too_where_it_has_them(rig: Rig) -> None:
    (rig.machine.root / "class" / "misc" / "iommu").mkdir()
    (rig.machine.root / "class" / "misc" / "iommu" / "dev").write_text("10:261\n")
    for number, address in enumerate((ONE, SOUND)):
        folder = rig.machine.device(address) / "vfio-dev" / f"vfio{number}"
        folder.mkdir(parents=True)
        (folder / "dev").write_text(f"511:{number}\n")
    step = rig.plan()
    nodes = passthrough.edit("x", rig.passthrough.run(step)).device_nodes
    assert [(node.path, node.major, node.minor) for node in nodes] == [
        ("/dev/vfio/vfio", 10, 196),
        ("/dev/vfio/27", 244, 27),
        ("/dev/iommu", 10, 261),
        ("/dev/vfio/devices/vfio0", 511, 0),
        ("/dev/vfio/devices/vfio1", 511, 1),
    ]
    shutil.rmtree(rig.machine.root / "class" / "misc" / "vfio")
    nodes = passthrough.edit("x", rig.passthrough.run(step)).device_nodes
    assert [node.path for node in nodes] == ["/dev/iommu", "/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio1"]


def test_running_and_undoing_twice_changes_nothing_more(rig: Rig) -> None:
    step = rig.plan()
    done = rig.passthrough.run(step)
    changes = list(rig.kernel.changes)
    assert rig.passthrough.run(step) == done
    assert rig.kernel.changes == changes
    rig.passthrough.undo(done)
    changes = list(rig.kernel.changes)
    rig.passthrough.undo(done)
    assert rig.kernel.changes == changes


def test_a_function_without_a_driver_is_without_one_again(rig: Rig) -> None:
    rig.machine.unbind(SOUND)
    step = rig.plan()
    rig.passthrough.run(step)
    assert rig.machine.state() == HANDED_OVER
    rig.passthrough.undo(step)
    assert rig.machine.state() == {**ORIGINAL, SOUND: (None, None)}


def test_an_override_of_somebody_else_is_there_again(rig: Rig) -> None:
    rig.machine.set_override(ONE, "gpud")
    step = rig.plan()
    rig.passthrough.run(step)
    rig.passthrough.undo(step)
    assert rig.machine.state() == {**ORIGINAL, ONE: ("gpud", "gpud")}


def test_a_boot_leaves_nothing_to_undo(rig: Rig) -> None:
    """The kernel has bound everything anew, and overrides are gone."""
    rig.passthrough.undo(rig.plan())
    assert rig.machine.state() == ORIGINAL
    assert rig.kernel.changes == []


def test_a_missing_kernel_driver_is_said_and_not_loaded(rig: Rig) -> None:
    step = rig.plan()
    rig.machine.unload(DRIVER)
    rig.refuse(step, "the kernel driver vfio-pci is not loaded (modprobe vfio-pci on the node)")


def test_a_device_that_is_gone_before_is_refused(rig: Rig) -> None:
    step = rig.plan()
    rig.machine.remove(ONE)
    rig.refuse(step, f"{ONE} has vanished from the PCI bus")
    rig.passthrough.undo(step)


def test_a_device_of_another_group_than_planned_is_refused(rig: Rig) -> None:
    step = rig.plan()
    moved = msgspec.structs.replace(step, facts={**step.facts, "group": "3"})
    rig.refuse(moved, f"{ONE} is in IOMMU group 27 now, and was in 3")


def test_a_device_that_somebody_else_has_bound_to_vfio_is_not_touched_and_named(rig: Rig) -> None:
    step = rig.plan()
    rig.machine.unbind(ONE)
    rig.machine.bind(ONE, DRIVER)
    rig.refuse(step, f"{ONE} is bound to vfio-pci by somebody else")
    before = rig.machine.state()
    rig.passthrough.undo(step)
    assert rig.machine.state() == before
    assert rig.passthrough.look([TWO]).taken == {ONE}
    with pytest.raises(StepRefused, match=f"{ONE}: it is bound to vfio-pci by somebody else"):
        rig.plan()


def test_a_device_that_got_another_driver_meanwhile_is_refused_and_left(rig: Rig) -> None:
    step = rig.plan()
    rig.machine.load("other")
    rig.machine.unbind(SOUND)
    rig.machine.bind(SOUND, "other")
    rig.refuse(step, f"{SOUND} is bound to other now, and was bound to sound")
    rig.passthrough.undo(step)
    assert rig.machine.driver(SOUND) == "other"


def test_a_device_that_a_process_has_open_is_not_touched_and_the_process_named(rig: Rig) -> None:
    step = rig.plan()
    rig.open_file(9, "/dev/gpu1")
    rig.open_file(4711, "/dev/gpu0")
    rig.refuse(step, f"{ONE} is in use: process 4711 (trainer) has /dev/gpu0 open")
    rig.end(4711)
    rig.passthrough.run(step)
    assert rig.machine.state() == HANDED_OVER
    rig.open_file(4712, "/dev/gpu0")
    rig.passthrough.run(step)


def test_a_process_that_ends_soon_is_waited_for(rig: Rig) -> None:
    step = rig.plan()
    rig.open_file(4711, "/dev/gpu0")
    ending = threading.Timer(0.05, rig.end, [4711])
    ending.start()
    rig.open(idle=20).run(step)
    ending.join()
    assert rig.machine.state() == HANDED_OVER


def test_a_device_in_use_that_the_kernel_refuses_to_take_is_rolled_back(rig: Rig) -> None:
    step = rig.plan()
    rig.kernel.refuse = {("unbind", SOUND): errno.EBUSY}
    rig.fail(step, f"the kernel does not take {SOUND} from sound: Device or resource busy")
    rig.passthrough.undo(step)
    assert rig.machine.state() == ORIGINAL


def test_a_device_in_use_that_the_kernel_waits_for_is_given_back_once_it_is_free(rig: Rig) -> None:
    """The kernel goes on taking it, whatever we do: undoing has to come after that, also in another process."""
    step = rig.plan()
    free = rig.kernel.in_use[ONE] = threading.Event()
    rig.passthrough = rig.open(change=BRIEF)
    rig.fail(
        step,
        f"{ONE} is in use: the kernel has not managed to take {ONE} from gpud within 0.5 s, and is still at it",
    )
    busy = f"{ONE} is in use: the kernel is still taking it from gpud"
    rig.refuse_to_undo(step, busy)
    rig.refuse(step, busy)
    group = rig.passthrough.look([ONE]).groups[ONE]
    assert group is not None
    assert [each.settled for each in group.functions] == [True, False, True]
    rig.passthrough = rig.open(change=BRIEF)
    rig.refuse_to_undo(step, busy)
    free.set()
    rig.open().undo(step)
    assert rig.machine.state() == ORIGINAL


def test_a_virtual_machine_that_still_has_the_device_keeps_it_until_it_ends(rig: Rig) -> None:
    step = rig.plan()
    rig.passthrough.run(step)
    free = rig.kernel.in_use[ONE] = threading.Event()
    rig.passthrough = rig.open(change=BRIEF)
    why = f"{ONE} is in use: the kernel has not managed to take {ONE} from vfio-pci within 0.5 s, and is still at it"
    rig.refuse_to_undo(step, why)
    assert rig.machine.state()[SOUND] == ORIGINAL[SOUND], "the others are given back"
    free.set()
    rig.open().undo(step)
    assert rig.machine.state() == ORIGINAL


def test_a_device_that_the_kernel_does_not_bind_is_rolled_back(rig: Rig) -> None:
    step = rig.plan()
    rig.kernel.ignore = {("drivers_probe", SOUND)}
    why = f"the kernel has not bound {SOUND} to vfio-pci, nor to another driver; the kernel's log says why"
    rig.fail(step, why)
    rig.passthrough.undo(step)
    assert rig.machine.state() == ORIGINAL


def test_a_device_that_another_driver_takes_is_left_with_it(rig: Rig) -> None:
    step = rig.plan()
    rig.machine.load("other")
    rig.kernel.instead = {ONE: "other"}
    rig.fail(step, f"the kernel has not bound {ONE} to vfio-pci; it is bound to other")
    rig.passthrough.undo(step)
    assert rig.machine.state() == {**ORIGINAL, ONE: ("other", None)}, "somebody else's decision, without our override"


def test_a_write_that_has_no_effect_is_found_out(rig: Rig) -> None:
    step = rig.plan()
    rig.kernel.ignore = {("unbind", ONE)}
    rig.fail(step, f"the kernel has not taken {ONE} from gpud")
    rig.passthrough.undo(step)
    assert rig.machine.state() == ORIGINAL


@pytest.mark.parametrize("moment", ["driver_override", "unbind", "drivers_probe"])
def test_a_device_that_vanishes_meanwhile_leaves_the_rest_as_it_was(rig: Rig, moment: str) -> None:
    step = rig.plan()
    rig.kernel.vanish = {(moment, SOUND)}
    rig.fail(step, f"{SOUND} has vanished from the PCI bus")
    rig.passthrough.undo(step)
    assert rig.machine.state() == {address: state for address, state in ORIGINAL.items() if address != SOUND}


@pytest.mark.parametrize("moment", ["unbind", "driver_override", "bind"])
def test_a_device_that_vanishes_while_it_is_given_back_is_done_at_the_next_try(rig: Rig, moment: str) -> None:
    step = rig.plan()
    rig.passthrough.run(step)
    rig.kernel.vanish = {(moment, SOUND)}
    rig.refuse_to_undo(step, f"{SOUND} has vanished from the PCI bus")
    rig.passthrough.undo(step)
    assert rig.machine.state() == {address: state for address, state in ORIGINAL.items() if address != SOUND}


def test_a_former_driver_that_is_gone_is_named_and_waited_for(rig: Rig) -> None:
    step = rig.plan()
    rig.passthrough.run(step)
    rig.machine.unload("gpud")
    why = f"{ONE} has no driver now: gpud, which it had, is not loaded any more"
    rig.refuse_to_undo(step, why)
    rig.refuse_to_undo(step, why)
    assert rig.machine.state()[ONE] == (None, None)
    rig.machine.load("gpud")
    rig.passthrough.undo(step)
    assert rig.machine.state() == ORIGINAL


def test_a_former_driver_that_does_not_take_it_back_is_named(rig: Rig) -> None:
    step = rig.plan()
    rig.passthrough.run(step)
    rig.kernel.refuse = {("bind", ONE): errno.EIO}
    rig.refuse_to_undo(step, f"the kernel does not give {ONE} back to gpud: Input/output error")
    rig.kernel.refuse = {}
    rig.passthrough.undo(step)
    assert rig.machine.state() == ORIGINAL


def test_no_device_node_is_a_failure(rig: Rig) -> None:
    step = rig.plan()
    rig.machine.makes_nodes = False
    rig.fail(step, "the kernel has made no device node for IOMMU group 27")
    rig.passthrough.undo(step)
    assert rig.machine.state() == ORIGINAL


def test_two_devices_are_handed_over_at_the_same_time(rig: Rig) -> None:
    steps = [rig.plan(ONE), rig.plan(TWO)]
    patient = rig.open()
    for act in (patient.run, patient.undo):
        threads = [threading.Thread(target=call(act, step)) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = ORIGINAL if act == patient.undo else {**HANDED_OVER, TWO: (DRIVER, DRIVER)}
        assert rig.machine.state() == expected


def call(act: Callable[[Step], object], step: Step) -> Callable[[], None]:
    return lambda: void(act(step))


def void(_: object) -> None:
    """Drop a result."""
