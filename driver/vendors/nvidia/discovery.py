"""One look at the hardware: NVML and sysfs → Snapshot.

Called by vendor.py inside an NVML session. What identifies a GPU and gives it to a container must answer, or that GPU
is a `Failure`; everything else is None where it is not told. Nothing is estimated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from driver.model.devices import Accelerator, Failure, Profile, Snapshot
from driver.model.errors import DriverError, Unavailable, Unsupported
from driver.vendors.nvidia import links, modes, nvml, nvml_mig, partitions
from driver.vendors.nvidia.links import optional
from driver.vendors.nvidia.pci import Bus

_CORES: Final = {
    "3": 192, "5": 128, "6.0": 64, "6": 128, "7": 64, "8.0": 64, "8": 128, "9": 128, "10": 128, "11": 128, "12": 128,
}  # fmt: skip
"""FP32 cores of one multiprocessor by compute capability, or by its major number where all minors agree.

CUDA C++ Programming Guide, compute capabilities, arithmetic instructions (results per clock cycle, 32-bit floating
point add). NVML counts cores only; an unknown capability gives no number of multiprocessors.
"""
_UNLISTED: Final = "is bound to the nvidia driver, but NVML does not list it: see the kernel's log (NVRM, Xid)"
_MINOR: Final = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where discovery looks beside NVML."""

    bus: Bus
    proc: Path
    wsl: bool
    """In WSL no GPU has a device node of its own, hence none needs a minor number."""
    remembered: modes.Remembered


@dataclass(slots=True)
class _Findings:
    """What one look collects.

    `nameless` are GPUs that fail before they tell their address: index, error. `pending` are addresses of those that
    are still on their way into a fabric.
    """

    accelerators: list[Accelerator] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    nameless: list[tuple[int, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)


def take(session: nvml.Session, machine: Machine, vendor: str) -> tuple[Snapshot, bool]:
    """Return all GPUs that NVML lists or should list, and whether they are settled (no fabric is being joined).

    Raises `Unavailable` if the driver goes away meanwhile.
    """
    found = _Findings()
    for index in range(session.count()):
        _look(session, machine, index, found)
    snapshot = Snapshot(
        vendor=vendor,
        driver_version=optional(session.driver_version) or None,
        runtime_version=session.runtime_version(),
        management_version=optional(session.management_version) or None,
        accelerators=tuple(found.accelerators),
        failures=(*found.failures, *_unplaced(found.nameless, _unseen(machine.bus, found.seen))),
    )
    return snapshot, not found.pending


def _look(session: nvml.Session, machine: Machine, index: int, found: _Findings) -> None:
    """Look at one GPU; whatever is wrong with it stays with it."""
    address: str | None = None
    try:
        device = session.device(index)
        address = device.pci_address()
        found.seen.add(address)
        if optional(device.serves_virtual_machines):
            return
        fabric, pending = optional(device.fabric) or (None, False)
        accelerator, reasons = describe(device, machine, address, index)
    except Unavailable:
        raise
    except DriverError as error:
        if address is None:
            found.nameless.append((index, str(error)))
        else:
            found.failures.append(Failure(address, index, f"GPU {address} does not answer: {error}"))
        return
    found.accelerators.append(replace(accelerator, fabric=fabric))
    if pending:
        found.pending.add(address)
    if reasons:
        found.failures.append(Failure(address, index, "; ".join(reasons)))


def describe(device: nvml.Device, machine: Machine, address: str, index: int) -> tuple[Accelerator, tuple[str, ...]]:
    """Return one GPU without its fabric, and why some of its MIG devices are missing."""
    uuid, name = device.uuid(), device.name()
    if not uuid or not name:
        raise nvml.DeviceFault(f"NVML gives no {'UUID' if name else 'name'}")
    memory = optional(device.memory_bytes)
    enabled = nvml_mig.enabled(device)
    parts, reasons = partitions.find(device, memory) if enabled else ((), ())
    capability = optional(device.compute_capability)
    profiles, fault = _possible(device, machine, address, memory)
    cores = multiprocessors(optional(device.cores), capability)
    accelerator = Accelerator(
        pci_address=address,
        index=index,
        uuid=uuid,
        model=name,
        architecture=optional(device.architecture),
        memory_bytes=memory,
        multiprocessors=machine.remembered.multiprocessors(uuid, cores, partitioned=enabled),
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        numa_node=_numa_node(device, machine.bus, address),
        pcie_root=machine.bus.root(address),
        links=links.walk(device, machine.bus),
        partitioned=enabled,
        partitions=parts,
        profiles=profiles,
        partition_fault=fault,
        handle={} if machine.wsl else {"minor": _minor(device, machine.proc, address)},
    )
    return accelerator, reasons


def _possible(
    device: nvml.Device, machine: Machine, address: str, memory: int | None
) -> tuple[tuple[Profile, ...], str | None]:
    """Return the shapes in which a GPU can be partitioned, and why its mode cannot be switched; nothing without MIG."""
    try:
        current, pending = nvml_mig.modes(device)
    except Unsupported:
        return (), None
    try:
        profiles = partitions.possible(device, memory)
    except Unavailable:
        raise
    except DriverError as error:
        if isinstance(error, nvml.DeviceFault) and error.lost:
            raise
        return (), str(error)
    refusal = machine.remembered.refusal(address, on=current)
    return profiles, modes.find_fault(device, (current, pending), optional(device.compute_capability), refusal)


def multiprocessors(cores: int | None, capability: tuple[int, int] | None) -> int | None:
    """Return the number of streaming multiprocessors, or None if the numbers do not say.

    >>> multiprocessors(16896, (9, 0)), multiprocessors(6912, (8, 0)), multiprocessors(100, (99, 0))
    (132, 108, None)
    """
    if not cores or capability is None:
        return None
    each = _CORES.get(f"{capability[0]}.{capability[1]}") or _CORES.get(str(capability[0]))
    return cores // each if each and cores % each == 0 else None


def _numa_node(device: nvml.Device, bus: Bus, address: str) -> int | None:
    """Ask sysfs; NVML only where sysfs has no such device, and only if it names a single node."""
    if bus.has(address):
        return bus.numa_node(address)
    nodes = optional(device.memory_nodes) or ()
    return nodes[0] if len(nodes) == 1 else None


def _minor(device: nvml.Device, proc: Path, address: str) -> int:
    """Return N of /dev/nvidiaN, from NVML or from the kernel module's own file."""
    minor = optional(device.minor)
    if minor is not None:
        return minor
    path = proc / "driver" / "nvidia" / "gpus" / address / "information"
    try:
        match = _MINOR.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        match = None
    if match is None:
        raise nvml.DeviceFault(f"neither NVML nor {path} tells the minor number of its device node")
    return int(match.group(1))


def _unseen(bus: Bus, seen: set[str]) -> list[str]:
    """Return GPUs that the kernel gave to the nvidia driver and that NVML did not show."""
    return [gpu.address for gpu in bus.gpus() if gpu.driver == "nvidia" and gpu.address not in seen]


def _unplaced(nameless: list[tuple[int, str]], unseen: list[str]) -> list[Failure]:
    """Report GPUs that NVML lists without an address, and addresses that NVML does not list; often the same ones.

    Each is reported once: by address where enough addresses are left over for all of them, else by index.
    """
    if len(nameless) > len(unseen):
        return [Failure(None, index, f"GPU {index} does not answer: {error}") for index, error in nameless]
    if not nameless:
        return [Failure(address, None, f"GPU {address} {_UNLISTED}") for address in unseen]
    index = nameless[0][0] if len(unseen) == 1 else None
    errors = " or ".join(sorted({error for _index, error in nameless}))
    return [Failure(address, index, f"GPU {address} does not answer: {errors}") for address in unseen]
