"""Machines with NVIDIA GPUs for the contract suite: a fake NVML below the real bindings, and a fake driver's files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pynvml

from driver.contract import Roots, Vendor
from driver.vendors import NoRunner
from driver.vendors.nvidia.vendor import Nvidia, parse_options
from tests.fakes.nvml.calls import Refused
from tests.fakes.nvml.hardware import FakeInstance, FakeNode, load_node
from tests.fakes.nvml.library import FakeLibrary, FakeLoader
from tests.fakes.nvml.tree import Tree
from tests.vendors.machines import Admin, Machine

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
        self.library.changed = self.tree.sync_capabilities
        self.pauses: list[float] = []
        """Seconds that the vendor waited: it does not really."""

    def create(self, options: Mapping[str, str] | None = None, roots: Roots | None = None) -> Nvidia:
        """Return a vendor on this machine, as a new process."""
        self.library.changes = None
        if self.library.dead:
            self.library.revive()
        told = parse_options(options or {})
        return Nvidia(roots or self.tree.roots(), told, self.loader, NoRunner(), self.pauses.append)

    def only_once(self, call: str, *, first: int | None = None, then: int | None) -> Callable[..., bytes | None]:
        """Return a function that ends with one code at first and then with another; None: as it always does."""
        codes = itertools.chain([first], itertools.repeat(then))

        def answer(*arguments: object) -> bytes | None:
            code = next(codes)
            if code is not None:
                raise Refused(code)
            return self.library.function(call)(*arguments)

        return answer

    def unload(self) -> None:
        """Remove the kernel modules, as before a reload of the driver."""
        self.tree.unload()
        self.library.errors["nvmlInitWithFlags"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED


def machines(folder: Path) -> Sequence[Machine]:
    """Return the nodes of the data files, with four of their GPUs at most; each can break."""
    return [_machine(folder / name, name) for name in NODES]


def _machine(folder: Path, name: str) -> Machine:
    node = load_node(name)
    rig = Rig(folder, replace(node, gpus=node.gpus[:4]))
    admin = Admin(partial(_create, rig), partial(_destroy, rig), partial(_occupy, rig))
    return Machine(name, _creates(rig), rig.node.gpus[0].lose, rig.unload, admin, partial(_interrupt, rig))


def _create(rig: Rig, address: str, profile: str, placement: int) -> str:
    """Do what `nvidia-smi mig -cgi PROFILE:PLACEMENT -C` does."""
    gpu = next(each for each in rig.node.gpus if each.address == address)
    gpu.mig = True
    made = FakeInstance.make(gpu, profile, placement)
    rig.tree.sync_capabilities()
    return made.uuid


def _destroy(rig: Rig, identity: str) -> None:
    for gpu in rig.node.gpus:
        gpu.instances[:] = [each for each in gpu.instances if each.uuid != identity]
    rig.tree.sync_capabilities()


def _occupy(rig: Rig, identity: str, used: bool) -> None:
    (found,) = (each for gpu in rig.node.gpus for each in gpu.instances if each.uuid == identity)
    found.processes[:] = [4711] if used else []


def _interrupt(rig: Rig, _vendor: Vendor, changes: int) -> None:
    rig.library.changes = changes


def _creates(rig: Rig) -> Callable[[Mapping[str, str]], Vendor]:
    return rig.create
