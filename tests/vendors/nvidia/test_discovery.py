"""Discovery: what NVML and sysfs say becomes a snapshot, GPU by GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pynvml
import pytest

from driver import vendors
from driver.core import inventory
from driver.model import vocabulary
from driver.model.devices import Accelerator, Failure, Partition, Snapshot
from driver.model.errors import Unavailable
from driver.vendors.nvidia import discovery
from tests.fakes.nvml.hardware import FakeNode, load_node
from tests.vendors.machines import make_roots
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import NODES, Rig

LOST = pynvml.NVML_ERROR_GPU_IS_LOST
UNKNOWN = pynvml.NVML_ERROR_UNKNOWN
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


def find(snapshot: Snapshot, address: str) -> Accelerator:
    return next(item for item in snapshot.accelerators if item.pci_address == address)


def said(code: int) -> str:
    """Return how a message ends that tells of an error of NVML."""
    return f"{pynvml.NVMLError(code)} (NVML error {code})"


def without_identity(accelerator: Accelerator) -> Accelerator:
    """Leave out what a simulation cannot know: UUIDs, handles, words; and the cores that NVML keeps quiet in MIG mode.

    Profiles are in the order of their names, which is none.
    """
    partitions = tuple(dataclasses.replace(part, uuid="", handle={}) for part in accelerator.partitions)
    ordered = sorted(accelerator.profiles, key=lambda profile: profile.name)
    changes: dict[str, object] = {"profiles": tuple(dataclasses.replace(each, handle={}) for each in ordered)}
    changes["partition_fault"] = accelerator.partition_fault and "some"
    if accelerator.partitioned:
        changes["multiprocessors"] = None
    return dataclasses.replace(accelerator, uuid="", handle={}, partitions=partitions, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("node", [*NODES, "hgx-b200", "hgx-h200", "hgx-a100-mig"])
def test_real_bindings_tell_what_the_data_files_say(build: Build, tmp_path: Path, node: str) -> None:
    """The same node, once simulated and once through NVML, has the same facts."""
    simulated = vendors.load("simulated", make_roots(tmp_path), {"node": node}).snapshot()
    rig = build(node)
    for gpu in rig.node.gpus:
        gpu.names_always = True
    seen = rig.create().snapshot()
    assert seen.failures == ()
    expected = [without_identity(item) for item in simulated.accelerators]
    assert [without_identity(item) for item in seen.accelerators] == expected
    versions = (seen.driver_version, seen.runtime_version, seen.management_version)
    assert versions == (simulated.driver_version, simulated.runtime_version, simulated.management_version)


def test_a_gpu_in_full(rig: Rig) -> None:
    first = rig.create().snapshot().accelerators[0]
    assert (first.pci_address, first.index, first.uuid) == ("0000:1b:00.0", 0, rig.node.gpus[0].uuid)
    assert (first.model, first.architecture) == ("NVIDIA H100 80GB HBM3", "Hopper")
    assert (first.memory_bytes, first.multiprocessors) == (81559 << 20, 132)
    assert (first.compute_capability, first.numa_node, first.pcie_root) == ("9.0", 0, "pci0000:15")
    assert first.handle == {"minor": 0}
    assert not first.partitioned
    assert len(first.links) == 18


def test_peer_defect_10_the_driver_version_keeps_its_exact_text(rig: Rig) -> None:
    rig.node.driver_version = "580.105.08"
    snapshot = rig.create().snapshot()
    assert snapshot.driver_version == "580.105.08"
    attributes = inventory.build(snapshot).entries[0].device.attributes
    assert attributes[vocabulary.DRIVER_VERSION_TEXT].string == "580.105.08"
    assert attributes[vocabulary.DRIVER_VERSION].version == "580.105.8"


def test_peer_defect_13_what_is_not_told_is_not_made_up(rig: Rig) -> None:
    """No memory size, no cores, no capability, no place: none is published, and no neighbour's is borrowed."""
    gpu = rig.node.gpus[3]
    for call in (
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetNumGpuCores",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetArchitecture",
    ):
        gpu.errors[call] = NOT_SUPPORTED
    (rig.tree.sys / "bus/pci/devices" / gpu.address / "numa_node").write_text("-1\n")
    snapshot = rig.create().snapshot()
    silent, other = find(snapshot, gpu.address), snapshot.accelerators[4]
    assert (silent.memory_bytes, silent.multiprocessors, silent.compute_capability) == (None, None, None)
    assert (silent.architecture, silent.numa_node) == (None, None)
    assert (other.memory_bytes, other.multiprocessors, other.numa_node) == (81559 << 20, 132, 1)
    device = next(entry.device for entry in inventory.build(snapshot).entries if entry.accelerator == silent)
    assert vocabulary.MEMORY not in device.capacity
    assert vocabulary.MULTIPROCESSORS not in device.capacity
    assert vocabulary.NUMA_NODE not in device.attributes


def test_memory_of_zero_is_no_memory(rig: Rig) -> None:
    rig.node.gpus[0].memory = 0
    assert rig.create().snapshot().accelerators[0].memory_bytes is None


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetMigMode"]
)
@pytest.mark.parametrize("code", [LOST, UNKNOWN, pynvml.NVML_ERROR_TIMEOUT, pynvml.NVML_ERROR_IRQ_ISSUE])
def test_one_broken_gpu_of_eight_is_one_failure(rig: Rig, call: str, code: int) -> None:
    before = rig.create().snapshot()
    broken = rig.node.gpus[5]
    broken.errors[call] = code
    after = rig.create().snapshot()
    assert [item for item in before.accelerators if item.pci_address != broken.address] == list(after.accelerators)
    (failure,) = after.failures
    assert (failure.pci_address, failure.index) == (broken.address, 5)
    assert failure.reason.startswith(f"GPU {broken.address} does not answer: {call}")
    assert f"(NVML error {code})" in failure.reason


def test_a_gpu_lost_on_any_call_is_one_failure(rig: Rig) -> None:
    """Even where the fact is optional: a lost GPU must not be published with less."""
    vendor = rig.create()
    vendor.snapshot()
    calls = {call for call in rig.library.calls if call.startswith("nvmlDevice")} - {"nvmlDeviceGetCount_v2"}
    assert len(calls) > 12
    for call in sorted(calls - {"nvmlDeviceGetHandleByIndex_v2"}):
        rig.node.gpus[2].errors = {call: LOST}
        snapshot = vendor.snapshot()
        assert len(snapshot.accelerators) == 7, call
        assert [failure.pci_address for failure in snapshot.failures] == [rig.node.gpus[2].address], call


@pytest.mark.parametrize("code", [UNKNOWN, NOT_SUPPORTED, pynvml.NVML_ERROR_TIMEOUT, pynvml.NVML_ERROR_NO_PERMISSION])
def test_an_optional_fact_that_fails_is_missing_and_nothing_else(rig: Rig, code: int) -> None:
    gpu = rig.node.gpus[0]
    nameless = "NVML tells no profiles of GPU instances"
    optional = {
        "nvmlDeviceGetMemoryInfo": {"memory_bytes": None, "profiles": (), "partition_fault": nameless},
        "nvmlDeviceGetNumGpuCores": {"multiprocessors": None},
        "nvmlDeviceGetCudaComputeCapability": {
            "multiprocessors": None,
            "compute_capability": None,
            "partition_fault": "NVML does not tell its compute capability, so it may need a reset",
        },
        "nvmlDeviceGetArchitecture": {"architecture": None},
        "nvmlDeviceGetGpuFabricInfoV": {},
        "nvmlDeviceGetVirtualizationMode": {},
        "nvmlDeviceGetNvLinkState": {"links": ()},
    }
    vendor = rig.create()
    whole = vendor.snapshot().accelerators[0]
    for call, missing in optional.items():
        gpu.errors = {call: code}
        snapshot = vendor.snapshot()
        assert snapshot.failures == (), call
        assert snapshot.accelerators[0] == dataclasses.replace(whole, **missing), call  # type: ignore[arg-type]


def test_an_old_driver_without_newer_functions_still_gives_its_gpus(rig: Rig) -> None:
    rig.library.absent = {
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetGpuFabricInfoV",
        "nvmlDeviceGetNvLinkRemoteDeviceType",
        "nvmlDeviceGetNumGpuCores",
        "nvmlDeviceGetArchitecture",
        "nvmlSystemGetCudaDriverVersion_v2",
    }
    snapshot = rig.create().snapshot()
    assert len(snapshot.accelerators) == 8
    assert snapshot.failures == ()
    assert snapshot.runtime_version == "13.0"
    assert snapshot.accelerators[0].multiprocessors is None


def test_names_are_cleaned_and_names_that_are_no_text_are_a_failure(rig: Rig) -> None:
    rig.node.gpus[0].name = "  NVIDIA\tH100\x01 80GB  "
    rig.node.gpus[1].name = b"\xff\xfeH100"
    rig.node.gpus[2].name = ""
    rig.node.gpus[3].uuid = ""
    snapshot = rig.create().snapshot()
    assert snapshot.accelerators[0].model == "NVIDIA H100 80GB"
    assert [failure.index for failure in snapshot.failures] == [1, 2, 3]
    reasons = [failure.reason for failure in snapshot.failures]
    assert "is not text" in reasons[0]
    assert "gives no name" in reasons[1]
    assert "gives no UUID" in reasons[2]


def test_the_minor_comes_from_the_kernel_module_where_nvml_keeps_quiet(rig: Rig) -> None:
    rig.node.gpus[1].minor = 11
    rig.tree.sync()
    rig.node.gpus[1].errors["nvmlDeviceGetMinorNumber"] = NOT_SUPPORTED
    assert rig.create().snapshot().accelerators[1].handle == {"minor": 11}


@pytest.mark.parametrize("content", [None, "Model: \t NVIDIA H100\n"])
def test_a_gpu_without_a_minor_cannot_be_given_away(rig: Rig, content: str | None) -> None:
    gpu = rig.node.gpus[1]
    gpu.errors["nvmlDeviceGetMinorNumber"] = NOT_SUPPORTED
    information = rig.tree.proc / "driver/nvidia/gpus" / gpu.address / "information"
    information.unlink()
    if content is not None:
        information.write_text(content)
    snapshot = rig.create().snapshot()
    assert [failure.pci_address for failure in snapshot.failures] == [gpu.address]
    assert "tells the minor number" in snapshot.failures[0].reason


def test_a_gpu_without_a_handle_is_named_by_the_address_that_is_left_over(rig: Rig) -> None:
    rig.node.gpus[5].errors["nvmlDeviceGetHandleByIndex_v2"] = LOST
    (failure,) = rig.create().snapshot().failures
    assert (failure.pci_address, failure.index) == (rig.node.gpus[5].address, 5)
    assert "nvmlDeviceGetHandleByIndex: GPU is lost" in failure.reason


def test_several_gpus_without_a_handle_are_named_but_not_matched(rig: Rig) -> None:
    for index in (2, 6):
        rig.node.gpus[index].errors["nvmlDeviceGetHandleByIndex_v2"] = LOST
    snapshot = rig.create().snapshot()
    assert len(snapshot.accelerators) == 6
    assert [(item.pci_address, item.index) for item in snapshot.failures] == [
        (rig.node.gpus[2].address, None),
        (rig.node.gpus[6].address, None),
    ]


def test_gpus_without_a_handle_keep_their_index_where_sysfs_is_silent(rig: Rig) -> None:
    for gpu in rig.node.gpus:
        rig.tree.unplug(gpu.address)
    rig.node.gpus[7].errors["nvmlDeviceGetHandleByIndex_v2"] = pynvml.NVML_ERROR_INSUFFICIENT_POWER
    snapshot = rig.create().snapshot()
    assert [(item.pci_address, item.index) for item in snapshot.failures] == [(None, 7)]
    assert snapshot.failures[0].reason.startswith("GPU 7 does not answer: nvmlDeviceGetHandleByIndex")


def test_a_gpu_that_nvml_does_not_list_is_reported(rig: Rig) -> None:
    missing = rig.node.gpus.pop(4)
    snapshot = rig.create().snapshot()
    assert len(snapshot.accelerators) == 7
    (failure,) = snapshot.failures
    assert (failure.pci_address, failure.index) == (missing.address, None)
    assert "bound to the nvidia driver, but NVML does not list it" in failure.reason


@pytest.mark.parametrize("driver", ["vfio-pci", "nouveau", None])
def test_gpus_of_another_kernel_driver_just_do_not_appear(rig: Rig, driver: str | None) -> None:
    gone = rig.node.gpus.pop(4)
    rig.tree.plug(gone.address, "pci0000:97", driver=driver)
    snapshot = rig.create().snapshot()
    assert gone.address not in {item.pci_address for item in snapshot.accelerators}
    assert snapshot.failures == ()


def test_virtual_functions_and_gpus_of_hypervisors_do_not_appear(rig: Rig) -> None:
    function = rig.tree.plug("0000:1b:00.4", "pci0000:15")
    (function / "physfn").symlink_to("../0000:1b:00.0")
    rig.node.gpus[0].virtualization = pynvml.NVML_GPU_VIRTUALIZATION_MODE_HOST_VGPU
    rig.node.gpus[1].virtualization = pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    snapshot = rig.create().snapshot()
    assert [item.index for item in snapshot.accelerators] == [1, 2, 3, 4, 5, 6, 7]
    assert snapshot.failures == ()


def test_a_node_whose_gpus_all_went_elsewhere_is_empty_not_broken(rig: Rig) -> None:
    for gpu in rig.node.gpus:
        rig.tree.plug(gpu.address, "pci0000:97", driver="vfio-pci")
    rig.node.gpus.clear()
    snapshot = rig.create().snapshot()
    assert (snapshot.accelerators, snapshot.failures) == ((), ())
    assert snapshot.driver_version == "580.126.09"


def test_hot_plug_is_seen_at_the_next_look(rig: Rig) -> None:
    vendor = rig.create()
    removed = rig.node.gpus.pop(0)
    rig.tree.unplug(removed.address)
    assert len(vendor.snapshot().accelerators) == 7
    rig.node.gpus.append(removed)
    rig.tree.sync()
    assert find(vendor.snapshot(), removed.address).index == 7


def test_the_numa_node_is_nvmls_only_where_sysfs_has_no_such_device(rig: Rig) -> None:
    gpu = rig.node.gpus[0]
    gpu.memory_nodes = (3,)
    (rig.tree.sys / "bus/pci/devices" / gpu.address / "numa_node").write_text("-1\n")
    assert rig.create().snapshot().accelerators[0].numa_node is None
    rig.tree.unplug(gpu.address)
    bare = rig.create().snapshot().accelerators[0]
    assert (bare.numa_node, bare.pcie_root) == (3, None)
    gpu.memory_nodes = (0, 65)
    assert rig.create().snapshot().accelerators[0].numa_node is None


def test_the_fabric_counts_once_it_is_joined(build: Build) -> None:
    rig = build("nvl72-tray")
    vendor = rig.create()
    fabric = rig.node.gpus[0].fabric
    assert fabric is not None
    found = vendor.snapshot().accelerators[0].fabric
    assert found is not None
    assert (found.cluster_uuid, found.clique) == ("5c1f4c2e-9b1d-4a3b-8f67-2d0e5a7c9b31", 32766)
    for change in (
        {"state": pynvml.NVML_GPU_FABRIC_STATE_IN_PROGRESS},
        {"status": UNKNOWN},
        {"cluster": bytes(16)},
    ):
        rig.node.gpus[0].fabric = dataclasses.replace(fabric, **change)
        assert vendor.snapshot().accelerators[0].fabric is None, change
    rig.node.gpus[0].fabric = fabric
    assert vendor.snapshot().accelerators[0].fabric == found
    rig.library.absent = {"nvmlDeviceGetGpuFabricInfoV"}
    assert vendor.snapshot().accelerators[0].fabric is None


def test_versions_that_nvml_does_not_tell_are_none(rig: Rig) -> None:
    rig.library.errors = {
        "nvmlSystemGetDriverVersion": UNKNOWN,
        "nvmlSystemGetNVMLVersion": UNKNOWN,
        "nvmlSystemGetCudaDriverVersion_v2": pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        "nvmlSystemGetCudaDriverVersion": UNKNOWN,
    }
    snapshot = rig.create().snapshot()
    assert (snapshot.driver_version, snapshot.runtime_version, snapshot.management_version) == (None, None, None)
    assert len(snapshot.accelerators) == 8


@pytest.mark.parametrize(("number", "text"), [(13000, "13.0"), (12040, "12.4"), (11080, "11.8"), (10020, "10.2")])
def test_the_cuda_version_is_told_even_where_libcuda_is_not_found(rig: Rig, number: int, text: str) -> None:
    rig.node.cuda_version = number
    rig.library.errors["nvmlSystemGetCudaDriverVersion_v2"] = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    assert rig.create().snapshot().runtime_version == text


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
@pytest.mark.parametrize("call", ["nvmlDeviceGetUUID", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetNvLinkState"])
def test_a_driver_that_goes_away_meanwhile_is_no_failure_of_a_gpu(rig: Rig, call: str, code: int) -> None:
    rig.node.gpus[1].errors[call] = code
    with pytest.raises(Unavailable, match="NVML error"):
        rig.create().snapshot()
    assert (rig.library.open, rig.loader.opened) == (0, 0)


@pytest.mark.parametrize(
    ("cores", "capability", "expected"),
    [
        (2560, (7, 5), 40),
        (6912, (8, 0), 108),
        (10752, (8, 6), 84),
        (18176, (8, 9), 142),
        (16896, (9, 0), 132),
        (18944, (10, 0), 148),
        (3584, (6, 0), 56),
        (3840, (6, 1), 30),
        (16897, (9, 0), None),
        (16896, (42, 0), None),
        (16896, None, None),
        (0, (9, 0), None),
        (None, (9, 0), None),
    ],
)
def test_multiprocessors_are_counted_or_unknown(
    cores: int | None, capability: tuple[int, int] | None, expected: int | None
) -> None:
    assert discovery.multiprocessors(cores, capability) == expected


def test_failures_and_gpus_together_are_all_gpus(rig: Rig) -> None:
    """Whatever fails, in any mixture, every GPU is in the snapshot exactly once."""
    rig.node.gpus[0].lose()
    rig.node.gpus[1].errors["nvmlDeviceGetHandleByIndex_v2"] = UNKNOWN
    rig.node.gpus[2].errors["nvmlDeviceGetName"] = UNKNOWN
    snapshot = rig.create().snapshot()
    reported = [*(item.pci_address for item in snapshot.accelerators), *_addresses(snapshot.failures)]
    assert sorted(filter(None, reported)) == sorted(gpu.address for gpu in rig.node.gpus)


def _addresses(failures: tuple[Failure, ...]) -> list[str | None]:
    return [failure.pci_address for failure in failures]


def test_eight_gpus_with_seven_partitions_each(build: Build) -> None:
    snapshot = build("hgx-h100-mig").create().snapshot()
    partitions: list[Partition] = [part for item in snapshot.accelerators for part in item.partitions]
    assert len(partitions) == 56
    assert len({part.uuid for part in partitions}) == 56


def test_the_data_files_have_fakes() -> None:
    node = load_node("a100-mesh")
    assert isinstance(node, FakeNode)
    assert [gpu.capability for gpu in node.gpus] == [(8, 0)] * 4
