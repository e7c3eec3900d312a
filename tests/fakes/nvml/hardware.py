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


@dataclass(frozen=True)
class FakeProfile:
    """A shape of GPU instances. `number` is NVML's constant, `id` what a GPU calls it (`nvidia-smi mig -lgip`)."""

    number: int
    id: int
    name: str
    slices: int
    size: int
    places: tuple[int, ...]
    memory: int
    """In MiB."""
    multiprocessors: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg_engines: int
    ofa_engines: int

    def amounts(self) -> tuple[int, ...]:
        """Return what instances of it take from the GPU, beside memory slices."""
        engines = (self.copy_engines, self.decoders, self.encoders, self.jpeg_engines, self.ofa_engines)
        return self.multiprocessors, *engines

    def attributes(self, compute_slices: int | None = None) -> dict[str, int]:
        """Return nvmlDeviceAttributes_t of a MIG device with so many compute slices (all of them)."""
        mine = self.slices if compute_slices is None else compute_slices
        return {
            "multiprocessorCount": self.multiprocessors * mine // self.slices,
            "sharedCopyEngineCount": self.copy_engines,
            "sharedDecoderCount": self.decoders,
            "sharedEncoderCount": self.encoders,
            "sharedJpegCount": self.jpeg_engines,
            "sharedOfaCount": self.ofa_engines,
            "gpuInstanceSliceCount": self.slices,
            "computeInstanceSliceCount": mine,
            "memorySizeMB": self.memory,
        }


@dataclass
class FakeInstance:
    """One MIG device, or a GPU instance that has none (`compute_instance` is None)."""

    slot: int
    profile: str
    gpu_instance: int
    compute_instance: int | None
    start: int
    size: int
    uuid: str
    attributes: dict[str, int]
    compute_start: int = 0
    name: str | None = None
    """What nvmlDeviceGetName says; None: product and profile."""
    processes: list[int] = field(default_factory=list)
    """Ids of processes that compute on it."""
    errors: dict[str, int] = field(default_factory=dict)

    @classmethod
    def make(cls, gpu: FakeGpu, profile: str, start: int, *, bare: bool = False) -> FakeInstance:
        """Put an instance on a GPU as an admin would: with ids unlike those of the fake library."""
        shape = next(each for each in gpu.profiles if each.name == profile)
        number = 40 + len(gpu.instances)
        made = cls(
            slot=-1 if bare else next(slot for slot in range(7) if all(each.slot != slot for each in gpu.instances)),
            profile=profile,
            gpu_instance=number,
            compute_instance=None if bare else 0,
            start=start,
            size=shape.size,
            uuid="" if bare else f"MIG-admin-{gpu.minor}-{number}",
            attributes=shape.attributes(),
        )
        gpu.instances.append(made)
        return made


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
    pending: bool | None = None
    """The mode after the next reset; None: the same."""
    needs_reset: bool = False
    """The mode takes effect with a reset only."""
    clients: list[int] = field(default_factory=list)
    """Processes that hold the whole GPU."""
    profiles: tuple[FakeProfile, ...] = ()
    names_always: bool = False
    """It tells names of profiles also while MIG mode is off, for which nvml.h does not vouch."""
    instances: list[FakeInstance] = field(default_factory=list)
    virtualization: int = pynvml.NVML_GPU_VIRTUALIZATION_MODE_NONE
    memory_nodes: tuple[int, ...] = ()
    compute_mode: int = pynvml.NVML_COMPUTEMODE_DEFAULT
    errors: dict[str, int] = field(default_factory=dict)

    def lose(self) -> None:
        """Fall off the bus: every call about it fails."""
        self.errors[ALL] = pynvml.NVML_ERROR_GPU_IS_LOST

    def reset(self) -> None:
        """Be reset: a pending mode comes true, instances are gone."""
        self.mig, self.pending = self.mig if self.pending is None else self.pending, None
        self.instances.clear()


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
        needs_reset=major < 9,
        profiles=tuple(_profiles(model)),
        instances=list(_instances(device, model)),
    )


NUMBERS = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4, 8: 5, 6: 6}
"""NVML_GPU_INSTANCE_PROFILE_N_SLICE and NVML_COMPUTE_INSTANCE_PROFILE_N_SLICE by N."""
IDS = {0: 19, 1: 14, 2: 9, 3: 5, 4: 0, 7: 20, 9: 15}
"""Profile ids by number, as `nvidia-smi mig -lgip` shows them; others are made up."""
REVISIONS = {"+me": 7, "+gfx": 10, "-me": 13, "+me.all": 15}
"""NVML_GPU_INSTANCE_PROFILE_1_SLICE_… by the end of a name; those of two slices follow at once."""
TWICE = 9
"""NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2: twice the memory of the plain one."""


def _profiles(model: files.Model) -> Iterator[FakeProfile]:
    """Yield the profiles of a data file as NVML has them: by number."""
    numbers: dict[int, str] = {}
    for name in sorted(model.profiles, key=lambda name: model.profiles[name].memory_mib):
        number = _number(name)
        numbers[TWICE if number in numbers else number] = name
    for number, name in sorted(numbers.items()):
        profile = model.profiles[name]
        yield FakeProfile(
            number=number,
            id=IDS.get(number, 30 + number),
            name=name,
            slices=int(name.partition("g.")[0]),
            size=profile.size,
            places=profile.placements,
            memory=profile.memory_mib,
            multiprocessors=profile.multiprocessors,
            copy_engines=profile.copy_engines,
            decoders=profile.decoders,
            encoders=profile.encoders,
            jpeg_engines=profile.jpeg_engines,
            ofa_engines=profile.ofa_engines,
        )


def _number(name: str) -> int:
    slices = int(name.partition("g.")[0])
    ending = name.partition("gb")[2]
    return REVISIONS[ending] + slices - 1 if ending else NUMBERS[slices]


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
    profiles = {profile.name: profile for profile in _profiles(model)}
    for slot, (start, name) in enumerate(placed):
        yield FakeInstance(
            slot=slot,
            profile=name,
            gpu_instance=7 + slot,
            compute_instance=0,
            start=start,
            size=profiles[name].size,
            uuid=f"MIG-{uuid.uuid5(uuid.NAMESPACE_OID, f'{device.pci_address}/{name}/{start}')}",
            attributes=profiles[name].attributes(),
        )
