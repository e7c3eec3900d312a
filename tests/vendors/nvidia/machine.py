"""Machines with NVIDIA GPUs for the contract suite: a fake NVML below the real bindings, and a fake driver's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pynvml

from driver.contract import Roots, Vendor
from driver.vendors import NoRunner
from driver.vendors.nvidia.vendor import Nvidia, parse_options
from tests.fakes.nvml.hardware import FakeNode, load_node
from tests.fakes.nvml.library import FakeLibrary, FakeLoader
from tests.fakes.nvml.tree import Tree
from tests.vendors.machines import Machine

NODES = ("hgx-h100", "hgx-h100-mig", "a100-mesh", "a100-mig", "l40s", "nvl72-tray", "t4")


class Rig:
    """One machine: hardware, its files, and the library that a vendor finds there."""

    def __init__(self, folder: Path, node: FakeNode | str) -> None:
        self.node = load_node(node) if isinstance(node, str) else node
        self.tree = Tree(folder, self.node)
        self.library = FakeLibrary(self.node)
        self.loader_path = self.tree.install()
        self.loader = FakeLoader({str(self.loader_path): self.library})
        self.tree.load()

    def create(self, options: Mapping[str, str] | None = None, roots: Roots | None = None) -> Nvidia:
        """Return a vendor on this machine."""
        return Nvidia(roots or self.tree.roots(), parse_options(options or {}), self.loader, NoRunner())

    def unload(self) -> None:
        """Remove the kernel modules, as before a reload of the driver."""
        self.tree.unload()
        self.library.errors["nvmlInitWithFlags"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED


def machines(folder: Path) -> Sequence[Machine]:
    """Return the nodes of the data files; each can break."""
    return [_machine(folder / name, name) for name in NODES]


def _machine(folder: Path, name: str) -> Machine:
    rig = Rig(folder, name)
    return Machine(name, _creates(rig), rig.node.gpus[0].lose, rig.unload)


def _creates(rig: Rig) -> Callable[[Mapping[str, str]], Vendor]:
    return rig.create
