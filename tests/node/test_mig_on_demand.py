"""Claims for MIG devices on an NVIDIA node, from the claim to NVML and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pynvml
import pytest

from driver.core import inventory
from driver.core.offering import Mode, Offer
from driver.model.prepared import ClaimRef
from driver.node.preparer import open_preparer
from driver.node.surveying import Surveyor
from driver.passthrough.binding import Passthrough
from tests.fakes.bench import Bench, claim, prepare_one, result, unprepare_one
from tests.fakes.nvml.calls import Refused
from tests.vendors.nvidia.machine import Rig

CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"
SLICES = 7


class MigNode:
    """Eight H100 in dynamic mode. `look` is what the scanner does."""

    def __init__(self, root: Path) -> None:
        for folder in ("bench", "rig"):
            (root / folder).mkdir()
        self.bench, self.rig = Bench(root / "bench"), Rig(root / "rig", "hgx-h100")
        vendor = self.rig.create()
        self.preparer = open_preparer(self.bench.settings, vendor, self.bench.outside(), self.bench.disk)
        devices = Passthrough(str(root / "sys"), str(root / "proc"))
        self._surveyor = Surveyor(vendor, devices, self.preparer.read_steps, offers_passthrough=False)
        self.gpu = self.rig.node.gpus[0]
        self.look()

    def look(self) -> None:
        survey = self._surveyor.snapshot()
        offer = Offer(mode=Mode.DYNAMIC, owned=survey.ownership.owned)
        self.bench.inventory = inventory.build(survey.snapshot, None, offer)

    def smallest(self) -> list[str]:
        """Return the names of the seven smallest partitions of the first GPU."""
        assert self.bench.inventory
        address = self.bench.inventory.snapshot.accelerators[0].pci_address
        found = (each for each in self.bench.inventory.entries if each.accelerator.pci_address == address)
        return [each.name for each in found if each.partition and each.partition.profile == "1g.10gb"]

    def add(self, uid: str, *names: str, admin_access: bool = False) -> ClaimRef:
        results = (result(name, f"r{n}", adminAccess=admin_access or None) for n, name in enumerate(names))
        return self.bench.add(claim(uid, *results))

    def spec(self, uid: str) -> dict[str, object]:
        text = (self.bench.root / f"cdi/k8s.gpu.accel-dra.dev-claim_{uid}.json").read_bytes()
        return msgspec.json.decode(text, type=dict[str, object])

    def is_clean(self) -> bool:
        return not self.bench.files() and not self.gpu.mig and not self.gpu.instances


@pytest.fixture
def node(tmp_path: Path) -> Iterator[MigNode]:
    made = MigNode(tmp_path)
    yield made
    made.preparer.close()
    assert made.bench.faults == []


def test_seven_mig_devices_of_one_gpu_in_one_claim(node: MigNode) -> None:
    wanted = node.add("u1", *node.smallest())
    answer = prepare_one(node.preparer, wanted)
    assert (answer.error, len(answer.devices)) == ("", SLICES)
    assert sorted(each.start for each in node.gpu.instances) == list(range(SLICES))
    assert prepare_one(node.preparer, wanted) == answer
    assert unprepare_one(node.preparer, wanted) == ""
    assert node.is_clean()


def test_if_the_third_of_seven_is_refused_none_stays(node: MigNode) -> None:
    count = itertools.count(1)
    create = node.rig.library.function(CREATE)

    def refuse_the_third(*arguments: object) -> bytes | None:
        if next(count) == 3:
            raise Refused(pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES)
        return create(*arguments)

    node.rig.library.replaced[CREATE] = refuse_the_third
    wanted = node.add("u1", *node.smallest())
    assert "takes no 1g.10gb at memory slice" in prepare_one(node.preparer, wanted).error
    assert node.is_clean()
    assert not prepare_one(node.preparer, wanted).error
    assert unprepare_one(node.preparer, wanted) == ""
    assert node.is_clean()


def test_who_looks_on_gets_the_mig_devices_that_are_there(node: MigNode) -> None:
    names = node.smallest()
    owner, monitor = node.add("u1", names[2]), node.add("u2", *names, admin_access=True)
    assert not prepare_one(node.preparer, owner).error
    node.look()
    answer = prepare_one(node.preparer, monitor)
    assert (answer.error, len(answer.devices)) == ("", SLICES)
    assert len(node.gpu.instances) == 1
    devices = msgspec.convert(node.spec("u2")["devices"], list[dict[str, dict[str, object] | str]])
    with_nodes = [str(each["name"]) for each in devices if "deviceNodes" in each["containerEdits"]]
    assert with_nodes == [f"u2-{names[2]}"]
    for ref in (owner, monitor):
        assert unprepare_one(node.preparer, ref) == ""
    assert node.is_clean()


def test_who_looks_on_where_no_mig_device_is_gets_the_drivers_files(node: MigNode) -> None:
    monitor = node.add("u1", *node.smallest(), admin_access=True)
    assert not prepare_one(node.preparer, monitor).error
    assert "mounts" in msgspec.convert(node.spec("u1")["containerEdits"], dict[str, object])
    assert not node.gpu.mig
    assert unprepare_one(node.preparer, monitor) == ""
    assert node.is_clean()


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_pods_can_leave_a_gpu_that_is_lost(node: MigNode, code: int) -> None:
    """Its node is drained and booted then, which waits for them. A reset or a boot leaves no MIG device."""
    wanted = node.add("u1", *node.smallest()[:2])
    assert not prepare_one(node.preparer, wanted).error
    node.gpu.lose()
    node.gpu.errors.update(dict.fromkeys(node.gpu.errors, code))
    assert unprepare_one(node.preparer, wanted) == ""
    assert not node.bench.files()
    node.gpu.errors.clear()
    node.gpu.reset()
    node.look()
    again = node.add("u2", *node.smallest()[:2])
    assert not prepare_one(node.preparer, again).error
    assert unprepare_one(node.preparer, again) == ""
    assert not node.gpu.instances


def test_a_gpu_that_does_not_answer_for_now_keeps_its_claim(node: MigNode) -> None:
    wanted = node.add("u1", *node.smallest()[:2])
    assert not prepare_one(node.preparer, wanted).error
    node.gpu.errors["nvmlDeviceGetMigMode"] = pynvml.NVML_ERROR_TIMEOUT
    assert "step partition" in unprepare_one(node.preparer, wanted)
    node.gpu.errors.clear()
    assert unprepare_one(node.preparer, wanted) == ""
    assert node.is_clean()
