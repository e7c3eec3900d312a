"""What the kernel says about giving a whole PCI device to a virtual machine: IOMMU groups and drivers.

Read from sysfs by `driver.passthrough`, judged by `core.passthrough`. Facts: kernel documentation, driver-api/vfio.rst
and Documentation/ABI/testing/sysfs-bus-pci. A group is the smallest set of functions that the IOMMU can keep apart from
the rest of the machine, so it can only be given away as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

STEP: Final = "vfio-bind"
"""Name of the step that gives the functions of a device to vfio-pci."""
DRIVER: Final = "vfio-pci"
"""The kernel driver through which a program in user space drives a PCI device (CONFIG_VFIO_PCI)."""


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function."""

    address: str
    """`dddd:bb:dd.f`, lower case."""
    kind: int
    """Class code, 24 bits: base class, subclass, programming interface (PCI Code and ID Assignment)."""
    vendor_id: int | None = None
    device_id: int | None = None
    driver: str | None = None
    """The kernel driver it is bound to."""
    override: str | None = None
    """Its driver_override: the only driver that may be bound to it from now on; None: whichever knows it."""
    virtual_functions: int = 0
    """How many SR-IOV functions it has been divided into (sriov_numvfs)."""
    settled: bool = True
    """False while the kernel is binding or unbinding it, for as long as a driver does not let go of it."""


@dataclass(frozen=True, slots=True)
class Group:
    """An IOMMU group with everything in it."""

    number: str
    functions: tuple[Function, ...]


@dataclass(frozen=True, slots=True)
class View:
    """One look at sysfs."""

    loaded: bool = False
    """Whether the kernel has the driver vfio-pci now."""
    groups: Mapping[str, Group | None] = field(default_factory=dict)
    """By PCI address of the devices asked for. Missing: not on the bus. None: the IOMMU does not manage it."""
    taken: frozenset[str] = frozenset()
    """PCI addresses of all accelerators (by their class) that are bound to vfio-pci, by us or by others."""
