"""Fake GPUs: what a fake NVML answers about each, and how each can fail. Made from the data files of `simulated`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pynvml

from driver.vendors.simulated import files

ARCHITECTURES = {
    "Turing": pynvml.NVML_DEVICE_ARCH_TURING,
    "Ampere": pynvml.NVML_DEVICE_ARCH_AMPERE,
    "Ada Lovelace": pynvml.NVML_DEVICE_ARCH_ADA,
    "Hopper": pynvml.NVML_DEVICE_ARCH_HOPPER,
    "Blackwell": pynvml.NVML_DEVICE_ARCH_BLACKWELL,
}
CORES = {"7.5": 64, "8.0": 64, "8.9": 128, "9.0": 128, "10.0": 128}
"""FP32 cores of a multiprocessor, as in the CUDA programming guide."""
VERSIONS = {2: 2, 3: 5, 4: 6, 5: 7}
"""What nvmlDeviceGetNvLinkVersion says about a generation (an A100 says 5: NVLink 3.1)."""
SPEEDS = {2: 25781, 3: 25000, 4: 26562, 5: 53125}
"""What NVML says the speed is, in MB/s, by generation (`nvidia-smi nvlink -s`)."""
ALL = "*"
"""In `errors`: every call."""


@dataclass
class FakeLink:
    """One NVLink."""

    version: int
    megabytes: int
    remote_type: int = pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH
    remote_address: str | None = None
    active: bool = True


@dataclass
class FakeFabric:
    """A multi-node fabric, joined or not."""

    cluster: bytes
    clique: int
    state: int = pynvml.NVML_GPU_FABRIC_STATE_COMPLETED
    status: int = pynvml.NVML_SUCCESS


@dataclass
class FakeInstance:
    """One MIG device."""

    slot: int
    profile: str
    gpu_instance: int
    compute_instance: int
    start: int
    size: int
    uuid: str
    attributes: dict[str, int]
    compute_start: int = 0
    name: str | None = None
    """What nvmlDeviceGetName says; None: product and profile."""
    errors: dict[str, int] = field(default_factory=dict)


@dataclass
class FakeGpu:
    """One GPU. `errors` maps a function of NVML (or ALL) to the error code it answers for this GPU."""

    address: str
    uuid: str
    name: str | bytes
    minor: int
    architecture: int
    capability: tuple[int, int]
    memory: int
    cores: int
    pcie_root: str | None = None
    numa_node: int | None = None
    links: list[FakeLink] = field(default_factory=list)
    fabric: FakeFabric | None = None
    mig: bool | None = None
    """None: this GPU has no MIG."""
    instances: list[FakeInstance] = field(default_factory=list)
    virtualization: int = pynvml.NVML_GPU_VIRTUALIZATION_MODE_NONE
    memory_nodes: tuple[int, ...] = ()
    compute_mode: int = pynvml.NVML_COMPUTEMODE_DEFAULT
    errors: dict[str, int] = field(default_factory=dict)

    def lose(self) -> None:
        """Fall off the bus: every call about it fails."""
        self.errors[ALL] = pynvml.NVML_ERROR_GPU_IS_LOST


@dataclass
class FakeNode:
    """One machine's GPUs and versions."""

    gpus: list[FakeGpu]
    driver_version: str = "580.126.09"
    management_version: str = "13.580.126.09"
    cuda_version: int = 13000
    switches: tuple[str, ...] = ()


def load_node(name: str) -> FakeNode:
    """Return the fake of a node that ships with the simulated vendor."""
    path = files.find_node(name)
    node = files.parse_node(path, files.read(path))
    major, minor = (node.runtime_version or "0.0").split(".")
    return FakeNode(
        gpus=[_gpu(node, device, index) for index, device in enumerate(node.devices)],
        driver_version=node.driver_version,
        management_version=node.management_version or "",
        cuda_version=int(major) * 1000 + int(minor) * 10,
        switches=node.switches,
    )


def _gpu(node: files.Node, device: files.Device, index: int) -> FakeGpu:
    model = files.read_model(device.model)
    assert model.compute_capability
    assert model.architecture
    assert model.memory_mib
    assert model.multiprocessors
    major, minor = (int(part) for part in model.compute_capability.split("."))
    return FakeGpu(
        address=device.pci_address,
        uuid=f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, device.pci_address)}",
        name=model.model,
        minor=index,
        architecture=ARCHITECTURES[model.architecture],
        capability=(major, minor),
        memory=model.memory_mib << 20,
        cores=model.multiprocessors * CORES[model.compute_capability],
        pcie_root=device.pcie_root,
        numa_node=device.numa_node,
        links=list(_links(node, device, model)),
        fabric=FakeFabric(uuid.UUID(node.fabric.cluster_uuid).bytes, node.fabric.clique) if node.fabric else None,
        mig=None if not model.profiles else device.partitions is not None,
        instances=list(_instances(device, model)),
    )


def _links(node: files.Node, device: files.Device, model: files.Model) -> Iterator[FakeLink]:
    if model.link is None or not device.links:
        return
    version, speed = VERSIONS[model.link.version], SPEEDS[model.link.version]
    if isinstance(device.links, dict):
        for peer, wide in device.links.items():
            for _ in range(wide):
                yield FakeLink(version, speed, pynvml.NVML_NVLINK_DEVICE_TYPE_GPU, peer)
        return
    switches = node.switches if device.links == "switches" else (None,)
    for index in range(model.link.count):
        yield FakeLink(version, speed, remote_address=switches[index % len(switches)])


def _instances(device: files.Device, model: files.Model) -> Iterator[FakeInstance]:
    placed = sorted((start, name) for name, starts in (device.partitions or {}).items() for start in starts)
    for slot, (start, name) in enumerate(placed):
        profile = model.profiles[name]
        yield FakeInstance(
            slot=slot,
            profile=name,
            gpu_instance=7 + slot,
            compute_instance=0,
            start=start,
            size=profile.size,
            uuid=f"MIG-{uuid.uuid5(uuid.NAMESPACE_OID, f'{device.pci_address}/{name}/{start}')}",
            attributes={
                "multiprocessorCount": profile.multiprocessors,
                "sharedCopyEngineCount": profile.copy_engines,
                "sharedDecoderCount": profile.decoders,
                "sharedEncoderCount": profile.encoders,
                "sharedJpegCount": profile.jpeg_engines,
                "sharedOfaCount": profile.ofa_engines,
                "gpuInstanceSliceCount": int(name.partition("g.")[0]),
                "computeInstanceSliceCount": int(name.partition("g.")[0]),
                "memorySizeMB": profile.memory_mib,
            },
        )
