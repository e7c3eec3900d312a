"""Claims for the twins of devices: handed over, described, given back, with the vendor's own steps around it."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import msgspec
import pytest

from driver.core import passthrough
from driver.model.devices import Entry, Inventory
from driver.model.passthrough import DRIVER
from driver.model.prepared import PrepareAnswer
from driver.node.passing import Passing
from driver.node.preparer import Preparer
from driver.passthrough.binding import Limits, Passthrough
from tests.fakes.bench import DRIVER as NAME
from tests.fakes.bench import (
    Bench,
    accelerator,
    claim,
    device,
    node_inventory,
    prepare_one,
    ref,
    result,
    unprepare_one,
)
from tests.fakes.pci import AUDIO, FakeKernel, Machine

ONE, SOUND, TWO = "0000:01:00.0", "0000:01:00.1", "0000:02:00.0"
TWIN = "vfio-0000-01-00-0"
ORIGINAL = {ONE: ("benchd", None), SOUND: ("sound", None), TWO: ("benchd", None)}
HANDED_OVER = {**ORIGINAL, ONE: (DRIVER, DRIVER), SOUND: (DRIVER, DRIVER)}


class Site:
    """A node with two devices and their twins."""

    def __init__(self, root: Path) -> None:
        self.bench = Bench(root)
        self.machine = Machine(root / "sys").build("benchd", "sound", DRIVER)
        self.machine.add(ONE, "11", native="benchd")
        self.machine.add(SOUND, "11", kind=AUDIO, native="sound")
        self.machine.add(TWO, "12", native="benchd")
        self.kernel = FakeKernel(self.machine)
        self.bench.inventory = with_twins(node_inventory(accelerator(1), accelerator(2)))
        self.preparer = self.start()

    def start(self) -> Preparer:
        """Start a new process of the plugin, which recovers what the last one has left."""
        proc = str(self.bench.root / "proc")
        binding = Passthrough(
            str(self.machine.root), proc, kernel=self.kernel, limits=Limits(change=20, probe=0.05, idle=0.05)
        )
        self.bench.neutral = (Passing(binding, self.bench.vendor, lambda: self.bench.inventory),)
        self.preparer = self.bench.open()
        self.preparer.recover()
        return self.preparer

    def prepare(self, uid: str, *devices: str, admin_access: bool = False) -> PrepareAnswer:
        results = [result(name, f"r{number}", adminAccess=admin_access) for number, name in enumerate(devices)]
        return prepare_one(self.preparer, self.bench.add(claim(uid, *results)))

    def document(self, name: str) -> dict[str, object]:
        found: dict[str, object] = msgspec.json.decode((self.bench.root / name).read_bytes())
        return found


def node(name: str, major: int, minor: int) -> dict[str, object]:
    return {
        "path": f"/dev/vfio/{name}",
        "type": "c",
        "major": major,
        "minor": minor,
        "permissions": "rw",
        "fileMode": 0o666,
    }


def with_twins(found: Inventory) -> Inventory:
    twins = [
        Entry(passthrough.describe(entry.device, entry.accelerator), entry.accelerator, None) for entry in found.entries
    ]
    return dataclasses.replace(found, entries=(*found.entries, *twins))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_claim_gets_the_device_through_vfio_and_gives_it_back(site: Site) -> None:
    answer = site.prepare("u1", TWIN)
    assert answer.error == ""
    assert answer.devices[0].cdi_device_ids == (
        f"k8s.{NAME}/claim=u1-{TWIN}",
        f"{NAME}/metadata=u1_r0",
    )
    assert site.machine.state() == HANDED_OVER
    spec = site.document(f"cdi/k8s.{NAME}-claim_u1.json")
    assert spec["devices"] == [
        {
            "name": f"u1-{TWIN}",
            "containerEdits": {
                "env": ["ACCEL_DRA_PCI_ADDRESS_VFIO_0000_01_00_0=0000:01:00.0"],
                "deviceNodes": [node("vfio", 10, 196), node("11", 244, 11)],
            },
        }
    ]
    assert "containerEdits" not in spec, "nothing of the vendor's driver"
    assert site.prepare("u1", TWIN) == answer
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert site.machine.state() == ORIGINAL
    assert site.bench.files() == {}


def test_the_metadata_tells_the_address_where_launchers_of_virtual_machines_look(site: Site) -> None:
    site.prepare("u1", TWIN)
    text = (site.bench.root / "state/dra-device-metadata/default_claim-u1/r0/metadata.json").read_text()
    assert '"resource.kubernetes.io/pciBusID":{"string":"0000:01:00.0"}' in text
    assert '"accel-dra.dev/type":{"string":"vfio"}' in text


@pytest.mark.parametrize(("first", "second"), [(TWIN, device(1)), (device(1), TWIN)])
def test_a_device_and_its_twin_are_never_prepared_for_two_claims(site: Site, first: str, second: str) -> None:
    assert site.prepare("u1", first).error == ""
    before = site.machine.state()
    assert f"device {second} (through {first}) is already prepared" in site.prepare("u2", second).error
    assert site.machine.state() == before
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert site.prepare("u2", second).error == ""


def test_one_claim_may_have_a_twin_and_a_device(site: Site) -> None:
    answer = site.prepare("u1", TWIN, device(2))
    assert [each.device for each in answer.devices] == [TWIN, device(2)]
    spec = site.document(f"cdi/k8s.{NAME}-claim_u1.json")
    assert "containerEdits" in spec
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert site.machine.state() == ORIGINAL


def test_what_the_vendor_wants_done_for_a_device_comes_first_and_is_undone_last(site: Site) -> None:
    site.bench.vendor.steps_per_device = 1
    assert site.prepare("u1", TWIN).error == ""
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert [(each.step, each.operation) for each in site.bench.changed] == [
        ("hold", "run"),
        ("vfio-bind", "run"),
        ("vfio-bind", "undo"),
        ("hold", "undo"),
    ]
    assert site.bench.changed[1].detail == "pciAddress 0000:01:00.0, group 11"


def test_a_device_in_use_leaves_no_trace(site: Site) -> None:
    site.bench.vendor.steps_per_device = 1
    folder = site.bench.root / "proc" / "77" / "fd"
    folder.mkdir(parents=True)
    (folder.parent / "comm").write_text("trainer\n")
    (folder / "5").symlink_to(f"/dev/{TWIN}")
    answer = site.prepare("u1", TWIN)
    assert answer.error.endswith(f"0000:01:00.0 is in use: process 77 (trainer) has /dev/{TWIN} open")
    assert site.machine.state() == ORIGINAL
    assert site.bench.files() == {}


def test_a_device_that_cannot_be_had_leaves_no_trace(site: Site) -> None:
    site.machine.add("0000:03:00.0", "11", kind=0x020000, native="sound")
    answer = site.prepare("u1", TWIN)
    assert "its IOMMU group 11 also holds 0000:03:00.0 (class 020000, driver sound)" in answer.error
    assert site.bench.files() == {}


def test_peer_defect_16_a_failed_binding_is_rolled_back_and_the_next_try_works(site: Site) -> None:
    site.kernel.refuse = {("unbind", SOUND): errno.EBUSY}
    assert "Device or resource busy" in site.prepare("u1", TWIN).error
    assert site.machine.state() == ORIGINAL
    assert site.bench.files() == {}
    site.kernel.refuse = {}
    assert site.prepare("u1", TWIN).error == ""


def test_what_cannot_be_given_back_is_kept_in_the_record_and_tried_again(site: Site) -> None:
    site.prepare("u1", TWIN)
    site.machine.unload("benchd")
    assert "benchd, which it had, is not loaded any more" in unprepare_one(site.preparer, ref("u1"))
    site.start()
    assert [record.uid for record in site.bench.records()] == ["u1"]
    site.machine.load("benchd")
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert site.machine.state() == ORIGINAL


@pytest.mark.parametrize("changes", range(7))
def test_a_crash_while_handing_over_is_undone_at_the_next_start(site: Site, changes: int) -> None:
    def crash() -> None:
        raise KeyboardInterrupt

    site.kernel.die, site.kernel.dies_after = crash, changes
    with pytest.raises(KeyboardInterrupt):
        site.prepare("u1", TWIN)
    site.kernel.dies_after = None
    site.start()
    assert site.machine.state() == ORIGINAL
    assert site.bench.files() == {}


def test_a_boot_is_survived(site: Site) -> None:
    """The kernel has bound everything anew; the claim's next prepare hands the device over again."""
    answer = site.prepare("u1", TWIN)
    for address in (ONE, SOUND):
        site.machine.unbind(address)
        site.machine.set_override(address, "")
        site.machine.probe(address)
    site.bench.reboot("99999999-2222-4333-8444-555555555555")
    site.start()
    assert site.machine.state() == ORIGINAL
    assert site.prepare("u1", TWIN) == answer
    assert site.machine.state() == HANDED_OVER
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert site.machine.state() == ORIGINAL


def test_admin_access_joins_whoever_has_the_device_and_takes_it_from_nobody(site: Site) -> None:
    assert "admin access takes it from nobody" in site.prepare("u2", TWIN, admin_access=True).error
    site.prepare("u1", TWIN)
    assert site.prepare("u2", TWIN, admin_access=True).error == ""
    assert unprepare_one(site.preparer, ref("u1")) == ""
    assert site.machine.state() == HANDED_OVER, "the other claim still has it"
    assert unprepare_one(site.preparer, ref("u2")) == ""
    assert site.machine.state() == ORIGINAL
