"""Which devices can be passed through and why not, the step for it, and what stays published meanwhile."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from driver.contract import Target
from driver.core import inventory, passthrough, specification
from driver.model import vocabulary as words
from driver.model.devices import Accelerator, Failure, Snapshot
from driver.model.errors import Corrupt, StepRefused
from driver.model.passthrough import DRIVER, STEP, Function, Group, View
from driver.model.prepared import ContainerEdits, DeviceNode, Step
from tests.fakes.hardware import accelerator, link, partition, snapshot

ONE, TWO = "0000:1a:00.0", "0000:3b:00.0"
AUDIO = "0000:1a:00.1"
NODE = DeviceNode(path="/dev/vfio/vfio", type="c", major=10, minor=196, permissions="rw")
GPU, SOUND, BRIDGE, NETWORK = 0x030200, 0x040300, 0x060400, 0x020000


def function(address: str, driver: str | None = "gpud", kind: int = GPU) -> Function:
    return Function(address, kind, 0x10DE, 0x2330, driver)


def view(*functions: Function, loaded: bool = True) -> View:
    """Return a view in which the first device has a group of these functions, and the second one of its own."""
    group = Group("27", functions or (function(ONE), function(AUDIO, "sound", SOUND)))
    return View(loaded, {ONE: group, TWO: Group("31", (function(TWO),))})


def machine(*others: Accelerator) -> Snapshot:
    return snapshot(accelerator(ONE), *others)


def target(device: Accelerator | None = None, *, admin_access: bool = False) -> Target:
    device = device or accelerator(ONE)
    return Target("vfio-0000-1a-00-0", device, None, admin_access, None)


def planned(**changes: str) -> Step:
    step = passthrough.plan(target(), machine(), view())
    return msgspec.structs.replace(step, facts={**step.facts, **changes})


def test_a_device_with_a_group_of_its_own_is_offered() -> None:
    verdict = passthrough.decide(machine(accelerator(TWO, index=1)), view())
    assert verdict == passthrough.Verdict(frozenset({ONE, TWO}))


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (View(loaded=True), "it is not on the PCI bus of this node"),
        (
            View(True, {ONE: None}),
            "it has no IOMMU group; the IOMMU must be on (firmware, kernel option intel_iommu=on or amd_iommu=on)",
        ),
        (view(loaded=False), "the kernel driver vfio-pci is not loaded (modprobe vfio-pci on the node)"),
        (view(function(ONE), function(TWO)), "its IOMMU group 27 also holds the accelerator 0000:3b:00.0"),
        (
            view(function(ONE), function("0000:1b:00.0", "mlx5_core", NETWORK)),
            "its IOMMU group 27 also holds 0000:1b:00.0 (class 020000, driver mlx5_core), which the node would lose",
        ),
        (
            view(function(ONE), function("0000:1b:00.0", DRIVER, NETWORK)),
            "its IOMMU group 27 also holds 0000:1b:00.0 (class 020000, driver vfio-pci), which the node would lose",
        ),
        (view(function(ONE, None)), "it has no driver to be given back to"),
        (view(function(ONE, DRIVER)), "0000:1a:00.0: it is bound to vfio-pci by somebody else"),
        (view(function(ONE), function(AUDIO, DRIVER)), "0000:1a:00.1: it is bound to vfio-pci by somebody else"),
        (
            view(dataclasses.replace(function(ONE), virtual_functions=16)),
            "0000:1a:00.0 is divided into 16 virtual functions (sriov_numvfs)",
        ),
        (
            view(dataclasses.replace(function(ONE), override=DRIVER)),
            "somebody else is changing the driver of 0000:1a:00.0",
        ),
        (
            view(dataclasses.replace(function(ONE), settled=False)),
            "somebody else is changing the driver of 0000:1a:00.0",
        ),
    ],
)
def test_a_device_that_cannot_be_passed_through_is_named_with_the_reason(seen: View, reason: str) -> None:
    devices = snapshot(accelerator(ONE, index=4), accelerator(TWO, index=5))
    verdict = passthrough.decide(devices, seen)
    assert Failure(ONE, 4, reason) in verdict.omitted
    assert ONE not in verdict.offered
    with pytest.raises(StepRefused, match="vfio-0000-1a-00-0 cannot be passed through: ") as refused:
        passthrough.plan(target(), devices, seen)
    assert str(refused.value).endswith(reason)


@pytest.mark.parametrize(
    "beside",
    [
        function("0000:19:00.0", "pcieport", BRIDGE),
        function("0000:1b:00.0", None, NETWORK),
        function("0000:1b:00.0", "pci-stub", NETWORK),
    ],
    ids=["a bridge", "a device without driver", "a device that is kept idle"],
)
def test_what_the_kernel_allows_in_a_group_may_stay(beside: Function) -> None:
    seen = view(function(ONE), function(AUDIO, "sound", SOUND), beside)
    assert ONE in passthrough.decide(machine(), seen).offered
    formers = passthrough.list_formers(passthrough.plan(target(), machine(), seen))
    assert [former.address for former in formers] == [ONE, AUDIO], "and is left as it is"


def test_a_device_that_is_handed_over_by_a_claim_of_ours_stays_offered() -> None:
    seen = view(function(ONE, DRIVER))
    verdict = passthrough.decide(machine(), seen, bound=passthrough.list_bound([planned()]))
    assert verdict == passthrough.Verdict(frozenset({ONE}))


def test_devices_that_others_have_taken_are_named_although_no_vendor_lists_them() -> None:
    seen = dataclasses.replace(view(function(ONE)), taken=frozenset({TWO, ONE, "0000:99:00.0"}))
    verdict = passthrough.decide(snapshot(accelerator(TWO)), seen, bound=frozenset({ONE}))
    assert verdict.omitted == (Failure("0000:99:00.0", None, "it is bound to vfio-pci by somebody else"),)


def test_a_device_that_its_vendor_publishes_as_vfio_has_no_twin() -> None:
    device = dataclasses.replace(accelerator(ONE), type=words.TYPE_VFIO)
    assert passthrough.decide(snapshot(device), view()) == passthrough.Verdict()


def test_the_step_carries_the_former_drivers_with_the_accelerator_first() -> None:
    first = dataclasses.replace(function(AUDIO, "sound", SOUND), override="sound")
    step = passthrough.plan(target(), machine(), view(first, function(ONE)))
    assert (step.name, step.arguments, step.facts["group"]) == (STEP, {"pciAddress": ONE}, "27")
    assert step.key == "vfio-bind/0000:1a:00.0"
    assert passthrough.list_formers(step) == (
        passthrough.Former(ONE, "gpud"),
        passthrough.Former(AUDIO, "sound", "sound"),
    )


def test_a_device_with_partitions_is_not_handed_over_now() -> None:
    device = accelerator(ONE, partitioned=True, partitions=(partition("1g.10gb", 3), partition("2g.20gb", 4)))
    assert passthrough.decide(snapshot(device), view()).offered == {ONE}, "counters tell when"
    with pytest.raises(StepRefused, match=r"it has partitions: 1g\.10gb at 3, 2g\.20gb at 4$"):
        passthrough.plan(target(device), snapshot(device), view())


def test_admin_access_hands_nothing_over_and_joins_a_claim_that_has() -> None:
    with pytest.raises(StepRefused, match="admin access takes it from nobody"):
        passthrough.plan(target(admin_access=True), machine(), view())
    theirs = passthrough.complete(planned(), [NODE])
    joined = passthrough.plan(target(admin_access=True), machine(), view(function(ONE, DRIVER)), steps=[theirs])
    assert joined is theirs


def test_a_step_from_before_a_boot_is_planned_anew() -> None:
    old = planned(group="9")
    assert passthrough.plan(target(), machine(), view(), steps=[old]).facts["group"] == "27"


def test_a_step_that_cannot_be_read_is_named() -> None:
    with pytest.raises(Corrupt, match="step vfio-bind: functions: "):
        passthrough.list_formers(planned(functions="[{}]"))
    with pytest.raises(Corrupt, match="step vfio-bind: functions: "):
        passthrough.list_formers(Step(name=STEP))


def test_the_step_says_which_nodes_nobody_may_have_open() -> None:
    step = passthrough.plan(target(), machine(), view(), nodes=["/dev/gpu0"])
    assert passthrough.list_uses(step) == {"/dev/gpu0"}
    assert passthrough.list_uses(Step(name=STEP)) == frozenset()


def test_containers_get_the_nodes_and_the_address() -> None:
    step = passthrough.complete(planned(), [NODE, DeviceNode(path="/dev/vfio/27")])
    assert passthrough.edit("vfio-0000-1a-00-0", step) == ContainerEdits(
        env=("ACCEL_DRA_PCI_ADDRESS_VFIO_0000_1A_00_0=0000:1a:00.0",),
        device_nodes=(NODE, DeviceNode(path="/dev/vfio/27")),
    )


def test_the_twin_says_what_the_device_says_but_for_its_links_and_the_hosts_driver() -> None:
    device = accelerator(ONE, links=(link(0, TWO),))
    other = accelerator(TWO, index=1, links=(link(0, ONE),))
    entries = inventory.build(snapshot(device, other)).entries
    whole = next(entry.device for entry in entries if entry.accelerator == device)
    twin = passthrough.describe(whole, device)
    assert msgspec.to_builtins(twin) == {
        "name": "vfio-0000-1a-00-0",
        "attributes": {
            "accel-dra.dev/architecture": {"string": "Hopper"},
            "accel-dra.dev/computeCapability": {"version": "9.0.0"},
            "accel-dra.dev/index": {"int": 0},
            "accel-dra.dev/model": {"string": "NVIDIA H100 80GB HBM3"},
            "accel-dra.dev/type": {"string": "vfio"},
            "accel-dra.dev/uuid": {"string": "GPU-0000:1a:00.0"},
            "accel-dra.dev/vendor": {"string": "simulated"},
            "resource.kubernetes.io/numaNode": {"int": 0},
            "resource.kubernetes.io/pciBusID": {"string": "0000:1a:00.0"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:15"},
        },
        "capacity": {"accel-dra.dev/memory": {"value": "80Gi"}},
    }
    assert specification.check(twin) == ()
    assert passthrough.is_twin(twin)
    assert not passthrough.is_twin(whole)


def test_a_device_that_is_handed_over_stays_published_as_it_was() -> None:
    """The vendor does not list it any more, and may even report it as missing."""
    before = machine(accelerator(TWO, index=1))
    failure = Failure(ONE, None, "GPU is lost")
    after = dataclasses.replace(snapshot(accelerator(TWO, index=1)), failures=(failure, Failure(TWO, 1, "a link")))
    kept = passthrough.keep(after, [planned()], view())
    assert kept is not None
    assert kept.accelerators == before.accelerators
    assert kept.failures == (Failure(TWO, 1, "a link"),)
    assert passthrough.keep(before, [planned()], view()) == before, "what the vendor sees itself is as it says"


def test_facts_survive_the_record_in_full() -> None:
    device = accelerator(ONE, links=(link(0, TWO),), extra={"nvidia.com/x": True, "nvidia.com/y": 1, "a/z": "t"})
    device = dataclasses.replace(device, handle={"minor": 3, "id": "x"})
    step = passthrough.plan(target(device), snapshot(device), view())
    kept = passthrough.keep(snapshot(), [step], view())
    assert kept is not None
    assert kept.accelerators == (device,)


def test_devices_stay_published_when_the_vendor_has_none_left_to_answer_for() -> None:
    kept = passthrough.keep(None, [planned()], view())
    assert kept is not None
    assert kept == machine(), "with what the vendor last said of its driver"
    assert passthrough.keep(None, [], view()) is None


def test_a_device_that_was_pulled_out_is_not_kept() -> None:
    assert passthrough.keep(snapshot(), [planned()], View(loaded=True)) == snapshot()


def test_steps_of_others_and_of_later_versions_keep_nothing() -> None:
    steps = [Step(name="power-on", arguments={"pciAddress": ONE}), planned(device='{"later": 1}'), Step(name=STEP)]
    assert passthrough.keep(snapshot(), steps, view()) == snapshot()
    assert passthrough.list_bound(steps[:1]) == frozenset()
