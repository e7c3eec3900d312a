"""MIG devices: profiles, places, engines, and those that do not answer."""

from __future__ import annotations

import dataclasses

import pynvml
import pytest

from driver.core import inventory
from driver.model.devices import Partition, Profile
from driver.vendors.nvidia import partitions
from driver.vendors.nvidia.nvml_mig import InstanceAttributes
from tests.fakes.nvml.hardware import FakeInstance
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig

MIXED = 1
"""The A100 with 3g.40gb, 2g.20gb and 1g.10gb."""


@pytest.fixture
def rig(build: Build) -> Rig:
    return build("a100-mig")


def look(rig: Rig, index: int = MIXED) -> tuple[Partition, ...]:
    return rig.create().snapshot().accelerators[index].partitions


def split(instance: FakeInstance, parts: int) -> list[FakeInstance]:
    """Return compute instances of one slice that share a GPU instance."""
    return [
        dataclasses.replace(
            instance,
            slot=instance.slot + 3 + number,
            profile=f"1c.{instance.profile}",
            compute_instance=number,
            compute_start=number,
            uuid=f"{instance.uuid}-{number}",
            attributes={**instance.attributes, "computeInstanceSliceCount": 1, "multiprocessorCount": 14},
        )
        for number in range(parts)
    ]


def test_a_partition_in_full(rig: Rig) -> None:
    instance = rig.node.gpus[MIXED].instances[0]
    first = look(rig)[0]
    assert (first.profile, first.placement, first.subplacement) == ("3g.40gb", 0, None)
    assert (first.uuid, first.memory_bytes) == (instance.uuid, instance.attributes["memorySizeMB"] << 20)
    assert first.multiprocessors == 42
    assert (first.copy_engines, first.decoders, first.encoders, first.jpeg_engines, first.ofa_engines) == (
        3,
        2,
        0,
        0,
        0,
    )
    assert first.handle == {"gpuInstance": 7, "computeInstance": 0}


def test_modes_of_partitioning(rig: Rig) -> None:
    accelerators = rig.create().snapshot().accelerators
    assert [(item.partitioned, len(item.partitions)) for item in accelerators] == [
        (True, 7),
        (True, 3),
        (True, 0),
        (False, 0),
    ]


def test_slots_may_have_gaps_and_any_order(rig: Rig) -> None:
    before = look(rig)
    instances = rig.node.gpus[MIXED].instances
    for instance, slot in zip(instances, (6, 2, 0), strict=True):
        instance.slot = slot
    instances.reverse()
    assert look(rig) == before
    assert [part.placement for part in before] == [0, 4, 6]


def test_compute_instances_that_share_a_gpu_instance(rig: Rig) -> None:
    gpu = rig.node.gpus[MIXED]
    gpu.instances = split(gpu.instances[0], 3)
    found = look(rig)
    assert [(part.profile, part.placement, part.subplacement) for part in found] == [
        ("1c.3g.40gb", 0, 0),
        ("1c.3g.40gb", 0, 1),
        ("1c.3g.40gb", 0, 2),
    ]
    assert [part.handle["computeInstance"] for part in found] == [0, 1, 2]
    names = {entry.name for entry in inventory.build(rig.create().snapshot()).entries if entry.partition in found}
    assert len(names) == 3, "each has a name of its own"


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "1g.5gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", "1g.5gb+me"),
        ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", "1c.3g.40gb"),
        ("NVIDIA RTX PRO 6000 Blackwell MIG 1g.24gb+me.all", "1g.24gb+me.all"),
        ("NVIDIA RTX PRO 6000 Blackwell MIG 1g.24gb-me", "1g.24gb-me"),
        ("NVIDIA RTX PRO 6000 Blackwell MIG 2g.48gb+gfx", "2g.48gb+gfx"),
        ("MIG 7g.80gb", "7g.80gb"),
        ("1g.10gb", "1g.10gb"),
        ("NVIDIA H100 80GB HBM3", None),
        ("NVIDIA H100 MIG 80gb", None),
        ("", None),
    ],
)
def test_the_profile_is_the_end_of_the_name(name: str, profile: str | None) -> None:
    assert partitions.profile_of(name) == profile


def attributes(memory_mib: int, gpu_slices: int, compute_slices: int) -> InstanceAttributes:
    return InstanceAttributes(memory_mib << 20, 14, 1, 0, 0, 0, 0, gpu_slices, compute_slices)


@pytest.mark.parametrize(
    ("memory", "gpu", "memory_mib", "slices", "profile"),
    [
        ("A100 40", 40960, 4864, (1, 1), "1g.5gb"),
        ("A100 40", 40960, 9856, (1, 1), "1g.10gb"),
        ("A100 40", 40960, 19968, (3, 3), "3g.20gb"),
        ("A100 40", 40960, 19968, (3, 1), "1c.3g.20gb"),
        ("A100 40", 40960, 40192, (7, 7), "7g.40gb"),
        ("A100 80", 81920, 9728, (1, 1), "1g.10gb"),
        ("H100 80", 81559, 9984, (1, 1), "1g.10gb"),
        ("H100 80", 81559, 81152, (7, 7), "7g.80gb"),
    ],
)
def test_a_name_without_a_profile_leaves_the_arithmetic(
    memory: str, gpu: int, memory_mib: int, slices: tuple[int, int], profile: str
) -> None:
    assert partitions.computed_profile(attributes(memory_mib, *slices), gpu << 20) == profile, memory


def test_the_arithmetic_needs_its_numbers() -> None:
    assert partitions.computed_profile(attributes(4864, 1, 1), None) is None
    assert partitions.computed_profile(attributes(4864, 0, 0), 40960 << 20) is None


def test_an_older_driver_that_names_no_profile(rig: Rig) -> None:
    expected = look(rig)
    for instance in rig.node.gpus[MIXED].instances:
        instance.name = "NVIDIA A100-SXM4-80GB"
    assert look(rig) == expected


def test_engines_are_optional_but_a_profile_is_not(rig: Rig) -> None:
    first, second, _ = rig.node.gpus[MIXED].instances
    first.errors["nvmlDeviceGetAttributes_v2"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    second.errors["nvmlDeviceGetAttributes_v2"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    second.name = "NVIDIA A100-SXM4-80GB"
    snapshot = rig.create().snapshot()
    found = snapshot.accelerators[MIXED].partitions
    assert [(part.profile, part.memory_bytes, part.decoders) for part in found[:1]] == [("3g.40gb", None, None)]
    assert len(found) == 2
    (failure,) = snapshot.failures
    assert failure.reason == "MIG device 1 does not answer: NVML names no profile: 'NVIDIA A100-SXM4-80GB'"


@pytest.mark.parametrize(
    "call",
    [
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetGpuInstanceId",
        "nvmlDeviceGetComputeInstanceId",
        "nvmlDeviceGetName",
        "nvmlDeviceGetUUID",
    ],
)
def test_one_partition_that_does_not_answer_is_one_partition(rig: Rig, call: str) -> None:
    before = rig.create().snapshot()
    broken = rig.node.gpus[MIXED].instances[1]
    broken.errors[call] = pynvml.NVML_ERROR_UNKNOWN
    after = rig.create().snapshot()
    assert len(after.accelerators) == 4
    kept = after.accelerators[MIXED].partitions
    assert kept == tuple(part for part in before.accelerators[MIXED].partitions if part.uuid != broken.uuid)
    (failure,) = after.failures
    assert (failure.pci_address, failure.index) == (rig.node.gpus[MIXED].address, MIXED)
    assert failure.reason.startswith("MIG device 1 does not answer: nvmlDevice")


def test_without_root_places_are_secret_and_the_reason_says_so_once(rig: Rig) -> None:
    for gpu in rig.node.gpus:
        gpu.errors["nvmlDeviceGetGpuInstanceById"] = pynvml.NVML_ERROR_NO_PERMISSION
    snapshot = rig.create().snapshot()
    assert [len(item.partitions) for item in snapshot.accelerators] == [0, 0, 0, 0]
    why = "do not answer: nvmlDeviceGetGpuInstanceById: Insufficient Permissions (NVML error 4)"
    assert [failure.reason for failure in snapshot.failures] == [
        f"MIG devices 0, 1, 2, 3, 4, 5, 6 {why}",
        f"MIG devices 0, 1, 2 {why}",
    ]


def test_a_gpu_lost_while_its_partitions_are_read_is_a_failure(rig: Rig) -> None:
    rig.node.gpus[MIXED].errors["nvmlDeviceGetGpuInstanceById"] = pynvml.NVML_ERROR_GPU_IS_LOST
    snapshot = rig.create().snapshot()
    assert len(snapshot.accelerators) == 3
    assert [failure.pci_address for failure in snapshot.failures] == [rig.node.gpus[MIXED].address]


def test_instances_come_and_go_between_looks(rig: Rig) -> None:
    vendor = rig.create()
    gpu = rig.node.gpus[MIXED]
    removed = gpu.instances.pop(0)
    assert len(vendor.snapshot().accelerators[MIXED].partitions) == 2
    gpu.instances.append(removed)
    assert len(vendor.snapshot().accelerators[MIXED].partitions) == 3
    gpu.mig = False
    whole = vendor.snapshot().accelerators[MIXED]
    assert (whole.partitioned, whole.partitions, whole.multiprocessors) == (False, (), 108)


def test_what_a_gpu_can_be_partitioned_into_does_not_depend_on_its_mode(build: Build) -> None:
    """Placements are told in any mode, and names are worked out where NVML tells none."""
    rig = build("hgx-h100")
    off = rig.create().snapshot().accelerators[0]
    assert (off.partitioned, off.partition_fault) == (False, None)
    rig.node.gpus[0].mig = True
    on = rig.create().snapshot().accelerators[0]
    assert on.partitioned
    assert on.profiles == off.profiles
    assert [(each.name, each.size, each.placements) for each in off.profiles] == [
        ("1g.10gb", 1, (0, 1, 2, 3, 4, 5, 6)),
        ("2g.20gb", 2, (0, 2, 4)),
        ("3g.40gb", 4, (0, 4)),
        ("4g.40gb", 4, (0,)),
        ("7g.80gb", 8, (0,)),
        ("1g.10gb+me", 1, (0, 1, 2, 3, 4, 5, 6)),
        ("1g.20gb", 2, (0, 2, 4, 6)),
    ]


def test_a_profile_in_full(build: Build) -> None:
    largest = build("hgx-h100").create().snapshot().accelerators[0].profiles[4]
    assert largest == Profile(
        name="7g.80gb",
        size=8,
        placements=(0,),
        memory_bytes=81152 << 20,
        multiprocessors=132,
        copy_engines=8,
        decoders=7,
        encoders=0,
        jpeg_engines=7,
        ofa_engines=1,
        handle={"profile": 0, "slices": 7},
    )


def test_two_revisions_of_one_name_are_one_profile(rig: Rig) -> None:
    gpu = rig.node.gpus[MIXED]
    twin = dataclasses.replace(gpu.profiles[0], number=12, id=99)
    gpu.profiles = (*gpu.profiles, twin)
    found = rig.create().snapshot().accelerators[MIXED].profiles
    assert [each.handle["profile"] for each in found if each.name == "1g.10gb"] == [19]


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT])
def test_a_profile_without_a_place_is_none(rig: Rig, code: int) -> None:
    rig.node.gpus[MIXED].errors["nvmlDeviceGetGpuInstancePossiblePlacements_v2"] = code
    found = rig.create().snapshot().accelerators[MIXED]
    assert found.profiles == ()
    assert found.partition_fault == "NVML tells no profiles of GPU instances"
    assert len(found.partitions) == 3


def test_profiles_beyond_those_of_the_bindings_are_found(rig: Rig) -> None:
    """A newer driver knows more: numbers are tried until NVML calls one invalid."""
    gpu = rig.node.gpus[MIXED]
    newer = dataclasses.replace(gpu.profiles[0], number=pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT, id=99, name="1g.10gb+x")
    gpu.profiles = (*gpu.profiles, newer)
    rig.library.profile_count = pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT + 1
    names = [each.name for each in rig.create().snapshot().accelerators[MIXED].profiles]
    assert "1g.10gb+x" in names


def test_without_root_it_is_said_why_a_gpu_cannot_be_partitioned(build: Build) -> None:
    rig = build("hgx-h100")
    rig.node.gpus[0].errors["nvmlDeviceGetGpuInstancePossiblePlacements_v2"] = pynvml.NVML_ERROR_NO_PERMISSION
    snapshot = rig.create().snapshot()
    assert snapshot.accelerators[0].profiles == ()
    assert "Insufficient Permissions" in (snapshot.accelerators[0].partition_fault or "")
    assert snapshot.failures == (), "it is as good as ever while it is whole"


def test_a_gpu_without_mig_has_no_profiles_and_nothing_to_explain(build: Build) -> None:
    for found in build("t4").create().snapshot().accelerators:
        assert (found.profiles, found.partition_fault, found.partitioned) == ((), None, False)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"pending": True}, "MIG mode is off and will be on after a reset of the GPU, which is pending"),
        ({"mig": True, "pending": False}, "MIG mode is on and will be off after a reset of the GPU, which is pending"),
        (
            {"capability": (8, 0)},
            "MIG mode is switched with a reset of the GPU (compute capability 8.0), which is not done here",
        ),
        (
            {"virtualization": pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU},
            "the GPU is a virtual one (vGPU), which its host partitions",
        ),
        ({"mig": True}, None),
        ({"capability": (10, 0)}, None),
        ({"virtualization": pynvml.NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH}, None),
    ],
)
def test_why_a_mode_cannot_be_switched(build: Build, change: dict[str, object], fault: str | None) -> None:
    rig = build("hgx-h100")
    for name, value in change.items():
        setattr(rig.node.gpus[0], name, value)
    found = rig.create().snapshot().accelerators[0]
    assert found.partition_fault == fault
    assert found.profiles


@pytest.mark.parametrize(
    ("node", "names"),
    [
        ("a100-mesh", ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb", "1g.5gb+me", "1g.10gb"]),
        ("hgx-h200", ["1g.18gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb", "1g.18gb+me", "1g.35gb"]),
        ("hgx-b200", ["1g.23gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb", "1g.23gb+me", "1g.45gb"]),
    ],
)
def test_names_that_are_worked_out_are_those_of_nvidia(build: Build, node: str, names: list[str]) -> None:
    found = build(node).create().snapshot().accelerators[0].profiles
    assert [each.name for each in found] == names


def test_cores_of_a_gpu_in_mig_mode_are_remembered(build: Build) -> None:
    """Else a GPU that is switched for a claim would be published with other capacities, and back again."""
    rig = build("hgx-h100")
    vendor = rig.create()
    assert vendor.snapshot().accelerators[0].multiprocessors == 132
    rig.node.gpus[0].mig = True
    assert vendor.snapshot().accelerators[0].multiprocessors == 132
    assert rig.create().snapshot().accelerators[0].multiprocessors is None, "who never saw them does not guess"
