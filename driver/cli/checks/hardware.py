"""Checks of the vendor's side: the driver's files, the devices that answer, the device nodes containers would get.

Called by `cli.doctor` through `list_checks`. It changes nothing and holds no device open. It knows no vendor: it asks
the one that is configured, through the contract.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from driver import vendors
from driver.cli.checks.findings import Check, Finding, failed, ok, warning
from driver.contract import Roots, Target, Vendor
from driver.core import inventory, passthrough
from driver.model.devices import Failure, Inventory
from driver.model.errors import DriverError, InvalidInput, Unavailable
from driver.model.prepared import ContainerEdits, DeviceNode, Preparation
from driver.node import surveying
from driver.settings import Settings, vendor_options

Load = Callable[[str, Roots, Mapping[str, str]], Vendor]
"""`driver.vendors.load`: name, roots, options."""

_SHOWN: Final = 3
"""Devices and missing files that are named; the others are counted."""


class Hardware:
    """The machine's accelerators as the configured vendor sees them, looked at once."""

    def __init__(self, settings: Settings, load: Load = vendors.load) -> None:
        self._settings = settings
        self._load = load
        self._roots = settings.roots
        self._vendor: Vendor | None = None
        self._inventory: Inventory | None = None

    def list_checks(self) -> list[Check]:
        """Return the checks in the order in which they build on each other."""
        vendor = self._settings.vendor
        return [
            Check("driver-root", "looking at the driver's files", self.look_at_root),
            Check("hardware", f"asking the {vendor} driver for its devices", self.look_at_devices),
            Check("device-nodes", "looking at device nodes and driver files", self.look_at_nodes),
        ]

    def look_at_root(self) -> Iterator[Finding]:
        """Yield whether the folder with the vendor's driver is there."""
        seen = Path(self._roots.driver_root_mount)
        where = _describe_mount(self._roots.driver_root, str(seen))
        if not seen.is_dir():
            advice = "mount the driver's root into the pod and say where with --driver-root-mount"
            yield failed(f"driver root {where} is not a folder", advice)
        elif not next(seen.iterdir(), None):
            advice = "wait for the driver container; the plugin looks again by itself (see docs/operations.md)"
            yield warning(f"driver root {where} is empty: the driver is not there yet", advice)
        else:
            yield ok(f"driver root {where}")

    def look_at_devices(self) -> Iterator[Finding]:
        """Yield what the vendor's library reports: versions, devices that work, devices that do not."""
        vendor = self._load(self._settings.vendor, self._roots, vendor_options(self._settings))
        try:
            snapshot, offer = surveying.look_once(self._settings, vendor)
        except Unavailable as error:
            advice = "install or repair the driver, or say where it is with --driver-root; the plugin waits for it"
            yield failed(f"the {vendor.name} driver does not answer: {error}", advice)
            return
        self._vendor, self._inventory = vendor, inventory.build(snapshot, None, offer)
        versions = (f"driver {snapshot.driver_version}", f"runtime {snapshot.runtime_version}")
        known = ", ".join(text for text in versions if not text.endswith("None"))
        yield from _describe_devices(self._inventory, f"{vendor.name}, {known}" if known else vendor.name)

    def look_at_nodes(self) -> Iterator[Finding]:
        """Yield whether what a container would get is there: the vendor's own edits, one device after the other."""
        if self._vendor is None or self._inventory is None:
            return
        # What is yet to be made has no device nodes.
        there = [entry for entry in self._inventory.entries if not entry.partition or entry.partition.uuid]
        there = [entry for entry in there if not passthrough.is_twin(entry.device)]
        preparations = [_prepare(self._vendor, self._inventory, entry.name) for entry in there]
        nodes, files = _collect(preparations)
        missing = [problem for node in nodes if (problem := self._find_problem(node))]
        yield from _report(
            len(nodes), missing, "device nodes", "load the driver's kernel modules (modprobe, or reboot)"
        )
        roots = self._roots
        gone = [path for path in files if not os.path.lexists(see(path, roots.driver_root, roots.driver_root_mount))]
        yield from _report(len(files), gone, "driver files", "reinstall the driver, or correct --driver-root")

    def _find_problem(self, node: DeviceNode) -> str:
        """Return what is wrong with a device node, empty if nothing is."""
        path = node.host_path or node.path
        try:
            found = Path(see(path, self._roots.dev_root, self._roots.dev_root_mount)).stat()
        except OSError as error:
            return f"{path} ({error.strerror})"
        if not (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            return f"{path} (not a device node)"
        number = (os.major(found.st_rdev), os.minor(found.st_rdev))
        if node.major is not None and number != (node.major, node.minor):
            return f"{path} (is device {number[0]}:{number[1]}, should be {node.major}:{node.minor})"
        return ""


def see(path: str, root: str, mount: str) -> str:
    """Return where this process sees a path of the host, if `root` is seen at `mount`."""
    prefix = root.rstrip("/")
    return mount.rstrip("/") + path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def _describe_devices(found: Inventory, source: str) -> Iterator[Finding]:
    lacking: dict[tuple[str, str], list[Failure]] = {}
    for failure in found.omitted:
        if failure.part:
            lacking.setdefault((failure.part, failure.reason), []).append(failure)
        else:
            yield _describe_missing(failure)
    yield from map(_describe_lacking, lacking.values())
    if found.entries:
        models: dict[str, int] = {}
        for entry in found.entries:
            kind = f" {entry.partition.profile}" if entry.partition else ""
            made = " (to be made)" if entry.partition and entry.partition.uuid is None else ""
            twin = " (for a virtual machine)" if passthrough.is_twin(entry.device) else ""
            text = f"{entry.accelerator.model}{kind}{made}{twin}"
            models[text] = models.get(text, 0) + 1
        text = ", ".join(f"{count} x {model}" for model, count in models.items())
        yield ok(f"{text} ({source})")
    else:
        advice = "right for a node without accelerators; otherwise see whether the machine lists them (lspci)"
        yield warning(f"no device to publish ({source}); the node's pool is empty", advice)


def _describe_missing(failure: Failure) -> Finding:
    where = failure.pci_address or f"number {failure.index}"
    advice = "the other devices are published; look for this one in the driver's log (dmesg) and drain the node"
    return warning(f"device {where} is left out: {failure.reason}", advice)


def _describe_lacking(failures: Sequence[Failure]) -> Finding:
    """Return what devices do not offer, for one reason, while they are published: often all of a node."""
    where = _name([each.pci_address or "this node" for each in failures])
    less = "offers less than it could" if len(failures) == 1 else "offer less than they could"
    advice = "docs/operations.md, Partitions, says which devices can be partitioned, and what the settings do"
    if failures[0].part == inventory.PASSTHROUGH:
        advice = "docs/operations.md, Devices for virtual machines, says what a node needs"
    return warning(f"{where} {less} ({failures[0].part}): {failures[0].reason}", advice)


def _name(things: Sequence[str]) -> str:
    """Return the first of them, and how many more there are."""
    others = f" and {len(things) - _SHOWN} more" if len(things) > _SHOWN else ""
    return f"{', '.join(things[:_SHOWN])}{others}"


def _prepare(vendor: Vendor, found: Inventory, name: str) -> Preparation:
    """Return what a claim for one device would get. Changes nothing (contract of `Vendor.prepare`)."""
    entry = found.find(name)
    if entry is None:
        raise InvalidInput("device", name, "a device of the inventory")
    target = Target(name, entry.accelerator, entry.partition, admin_access=False, share_id=None)
    try:
        return vendor.prepare([target])
    except DriverError as error:
        raise Unavailable(f"device {name} cannot be prepared: {error}") from error


def _collect(preparations: list[Preparation]) -> tuple[list[DeviceNode], list[str]]:
    """Return the different device nodes and the different host files of all edits, in order."""
    edits: list[ContainerEdits] = []
    for preparation in preparations:
        edits += [preparation.common, *preparation.devices.values()]
    nodes = {node.host_path or node.path: node for edit in edits for node in edit.device_nodes}
    files = {mount.host_path: None for edit in edits for mount in edit.mounts}
    return list(nodes.values()), list(files)


def _report(count: int, missing: list[str], what: str, advice: str) -> Iterator[Finding]:
    if missing:
        yield failed(f"{len(missing)} of {count} {what} cannot be used: {_name(missing)}", advice)
    elif count:
        yield ok(f"{what}: {count}")


def _describe_mount(path: str, seen: str) -> str:
    return path if path == seen else f"{path} (seen at {seen})"
