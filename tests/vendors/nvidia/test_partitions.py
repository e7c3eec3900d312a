"""MIG devices: profiles, places, engines, and those that do not answer."""

from __future__ import annotations

import dataclasses

import pynvml
import pytest

from driver.core import inventory
from driver.model.devices import Partition
from driver.vendors.nvidia import partitions
from driver.vendors.nvidia.nvml import InstanceAttributes
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
