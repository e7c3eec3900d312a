"""The vendor as the node process uses it: waiting for a driver, its upgrade, its options, nothing held."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from driver import vendors
from driver.contract import Target, Vendor
from driver.core import inventory
from driver.model.errors import InvalidInput, Unavailable, Unsupported
from driver.model.prepared import Step
from driver.model.sharing import Sharing, Strategy
from driver.vendors.nvidia.vendor import parse_options
from tests.fakes.nvml.hardware import FakeNode, load_node
from tests.fakes.nvml.library import FakeLibrary, FakeLoader
from tests.fakes.nvml.tree import LIBRARIES, Tree
from tests.vendors.machines import make_roots
from tests.vendors.nvidia.machine import Rig

NEWER = "590.48.01"


def aim(vendor: Vendor) -> Target:
    entry = inventory.build(vendor.snapshot()).entries[0]
    return Target(entry.name, entry.accelerator, entry.partition, admin_access=False, share_id=None)


def upgrade(rig: Rig) -> FakeLibrary:
    """Put a newer driver in place of the installed one and reload it. Returns its library."""
    rig.tree.uninstall(rig.node.driver_version)
    node = FakeNode(gpus=rig.node.gpus, driver_version=NEWER, cuda_version=13010, switches=rig.node.switches)
    rig.tree.node = node
    library = FakeLibrary(node)
    rig.loader.libraries = {str(rig.tree.install()): library}
    rig.tree.load()
    return library


def test_it_is_loaded_by_name(tmp_path: Path) -> None:
    vendor = vendors.load("nvidia", make_roots(tmp_path), {})
    assert isinstance(vendor.fingerprint(), str)
    assert vendor.name == "nvidia"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node": "hgx-h100"}, "vendor option: 'node' is not allowed; allowed: cdi-hook, mps-users"),
        ({"mps-users": "two"}, "vendor option mps-users: 'two' is not allowed; allowed: one or many"),
        (
            {"cdi-hook": "nvidia-cdi-hook"},
            "vendor option cdi-hook: 'nvidia-cdi-hook' is not allowed; allowed: an absolute",
        ),
        ({"cdi-hook": ""}, "vendor option cdi-hook: '' is not allowed"),
    ],
)
def test_options_that_are_wrong_are_named(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        vendors.load("nvidia", make_roots(tmp_path), options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("hook", ["none", "/usr/bin/nvidia-ctk"])
def test_options_that_are_right(tmp_path: Path, hook: str) -> None:
    vendors.load("nvidia", make_roots(tmp_path), {"cdi-hook": hook})


def test_mps_users_is_one_or_many() -> None:
    assert [parse_options({"mps-users": users}).many_users for users in ("one", "many")] == [False, True]
    assert not parse_options({}).many_users


def test_steps_go_to_the_module_that_planned_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "t4")
    vendor = rig.create()
    sharing = Sharing(Strategy.TIME_SLICING)
    rig.node.gpus[0].compute_mode = pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS
    (step,) = vendor.plan([replace(aim(vendor), sharing=sharing)])
    assert vendor.run(step, ()) == step
    assert rig.node.gpus[0].compute_mode == pynvml.NVML_COMPUTEMODE_DEFAULT
    vendor.undo(step)
    assert rig.node.gpus[0].compute_mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS


def test_a_step_of_a_newer_version_is_unknown(tmp_path: Path) -> None:
    vendor = Rig(tmp_path, "t4").create()
    with pytest.raises(Unsupported, match="step fold is unknown to nvidia"):
        vendor.undo(Step(name="fold"))


def test_what_a_container_gets_of_mps_is_part_of_its_edits(tmp_path: Path) -> None:
    vendor = Rig(tmp_path, "t4").create()
    target = replace(aim(vendor), claim="c1", sharing=Sharing(Strategy.MPS))
    edits = vendor.prepare([target]).devices[target.key]
    assert edits.device_nodes == vendor.prepare([aim(vendor)]).devices[target.key].device_nodes
    assert edits.env == ("CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps",)
    assert [mount.container_path for mount in edits.mounts] == ["/tmp/nvidia-mps", "/dev/shm"]


def test_a_library_that_appears_later(tmp_path: Path) -> None:
    """No driver, then its files, then its modules: one process sees it all, by fingerprint and snapshot."""
    node = load_node("hgx-h100")
    tree, library = Tree(tmp_path, node), FakeLibrary(node)
    loader = FakeLoader({})
    rig = Rig.__new__(Rig)
    rig.node, rig.tree, rig.library, rig.loader, rig.pauses = node, tree, library, loader, []
    vendor = rig.create()
    with pytest.raises(Unavailable, match="not installed there"):
        vendor.snapshot()
    looks = [vendor.fingerprint()]
    library.errors["nvmlInitWithFlags"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    loader.libraries = {str(tree.install()): library}
    with pytest.raises(Unavailable, match="Driver Not Loaded"):
        vendor.snapshot()
    looks.append(vendor.fingerprint())
    library.errors.clear()
    tree.load()
    looks.append(vendor.fingerprint())
    assert len(vendor.snapshot().accelerators) == 8
    assert len(set(looks)) == 3


def test_a_driver_upgrade_without_a_restart(rig: Rig) -> None:
    vendor = rig.create()
    old = vendor.prepare([aim(vendor)])
    before = vendor.fingerprint()
    newer = upgrade(rig)
    assert vendor.fingerprint() != before
    snapshot = vendor.snapshot()
    assert (snapshot.driver_version, snapshot.runtime_version) == (NEWER, "13.1")
    assert newer.calls[0] == "nvmlInitWithFlags"
    new = vendor.prepare([aim(vendor)])
    assert new != old
    assert not [mount for mount in new.common.mounts if rig.node.driver_version in mount.host_path]
    assert [mount for mount in new.common.mounts if mount.host_path.endswith(f"libcuda.so.{NEWER}")]


def test_a_half_done_upgrade_is_not_given_to_containers(rig: Rig) -> None:
    """Libraries are new, the module is still the old one: CUDA would refuse in the container."""
    vendor = rig.create()
    target = aim(vendor)
    rig.tree.uninstall(rig.node.driver_version)
    rig.tree.node = FakeNode(gpus=rig.node.gpus, driver_version=NEWER)
    rig.tree.install()
    with pytest.raises(Unavailable, match=rf"kernel module is 580\.126\.09, the driver's libraries are {NEWER}"):
        vendor.prepare([target])


def test_a_driver_reload_between_two_looks(rig: Rig) -> None:
    vendor = rig.create()
    first = vendor.snapshot()
    rig.unload()
    with pytest.raises(Unavailable):
        vendor.snapshot()
    rig.library.errors.clear()
    rig.tree.load()
    assert vendor.snapshot() == first


def test_no_session_and_no_library_is_held_after_a_snapshot(rig: Rig) -> None:
    vendor = rig.create()
    vendor.snapshot()
    rig.node.gpus[0].lose()
    vendor.snapshot()
    assert (rig.library.open, rig.loader.opened) == (0, 0)
    assert rig.library.calls.count("nvmlInitWithFlags") == rig.library.calls.count("nvmlShutdown") == 2
    assert rig.library.handles == {}


def test_preparing_does_not_touch_the_driver(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(vendor)
    rig.library.calls.clear()
    vendor.prepare([target])
    assert rig.library.calls == []


def test_preparing_without_a_driver_waits(rig: Rig) -> None:
    vendor = rig.create()
    target = aim(vendor)
    rig.tree.uninstall(rig.node.driver_version)
    with pytest.raises(Unavailable, match="not installed there"):
        vendor.prepare([target])


def test_the_library_that_is_loaded_is_the_driver_roots_own(rig: Rig) -> None:
    """By its real path: an upgraded file of the same link must be another library to the linker."""
    rig.create(roots=rig.tree.roots("/run/nvidia/driver")).snapshot()
    assert rig.loader.paths == [str(rig.tree.driver / LIBRARIES / "libnvidia-ml.so.580.126.09")]


def test_a_driver_container_below_the_hosts_root(rig: Rig) -> None:
    rig.tree.uninstall(rig.node.driver_version)
    path = rig.tree.install(f"run/nvidia/driver/{LIBRARIES}")
    rig.loader.libraries = {str(path): rig.library}
    vendor = rig.create(roots=rig.tree.roots("/"))
    target = aim(vendor)
    mounts = {mount.container_path: mount.host_path for mount in vendor.prepare([target]).common.mounts}
    library = f"/{LIBRARIES}/libcuda.so.580.126.09"
    assert mounts[library] == f"/run/nvidia/driver{library}"


def test_a_claim_without_devices_of_ours_gets_no_devices(rig: Rig) -> None:
    assert rig.create().prepare([]).devices == {}
