"""Which accelerators a virtual machine can have as a whole, and how one is handed over. Decisions only.

Called by `inventory` (what is published), `preparing` and `node.transactions` (the step, the edits) and by the scanner,
which keeps devices that the vendor cannot see while they are handed over. `driver.passthrough` does what is planned
here. It promises never to plan for a device that somebody else has handed over, nor for one whose IOMMU group would
take anything but the device itself from the host. No word of it belongs to one vendor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.contract import Target
from driver.core import naming
from driver.model import vocabulary
from driver.model.devices import Accelerator, Failure, Snapshot
from driver.model.errors import Corrupt, StepRefused
from driver.model.passthrough import DRIVER, STEP, Function, Group, View
from driver.model.prepared import ContainerEdits, DeviceNode, Step
from driver.model.slices import Device, DeviceAttribute

ADDRESS_VARIABLE: Final = "ACCEL_DRA_PCI_ADDRESS"
"""Environment variable with the PCI address, followed by `_` and the device's name in capitals."""
_BRIDGES: Final = (0x0604, 0x0607)
"""PCI-to-PCI and CardBus bridges. Only functions that end a bus have to leave their driver (vfio.rst: the kernel lets
those with another header type stay as they are)."""
_OF_OTHERS: Final = f"it is bound to {DRIVER} by somebody else"
_IDLE: Final = frozenset({None, "pci-stub"})
"""Drivers (or none) beside which the kernel calls a group viable (drivers/vfio/group.c, vfio_dev_driver_allowed)."""
_HOST_ONLY: Final = frozenset(
    {
        vocabulary.INTERCONNECT_DOMAIN,
        vocabulary.INTERCONNECT_GBPS,
        vocabulary.FABRIC_DOMAIN,
        vocabulary.DRIVER_VERSION,
        vocabulary.DRIVER_VERSION_TEXT,
        vocabulary.RUNTIME_VERSION,
    }
)
"""What a device loses on its way into a virtual machine: its links, and the driver of the host."""


class Former(msgspec.Struct, frozen=True, omit_defaults=True):
    """One function as it was before it was handed over."""

    address: str
    driver: str | None = None
    override: str | None = None


class _Facts(msgspec.Struct, frozen=True):
    """What is published of a device while its vendor cannot see it."""

    accelerator: Accelerator
    snapshot: Snapshot
    """What the vendor said of itself, without devices."""


_formers: Final = msgspec.json.Decoder(tuple[Former, ...])
_facts: Final = msgspec.json.Decoder(_Facts)
_nodes: Final = msgspec.json.Decoder(tuple[DeviceNode, ...])
_paths: Final = msgspec.json.Decoder(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be passed through, and what not."""

    offered: frozenset[str] = frozenset()
    """PCI addresses."""
    omitted: tuple[Failure, ...] = ()
    """The others, each with its reason."""


def decide(snapshot: Snapshot, view: View, bound: Collection[str] = ()) -> Verdict:
    """Return which accelerators of a snapshot (after `keep`) can be passed through, wherever they are offered whole.

    `bound` are the addresses of those that claims of ours have handed over (`list_bound`).
    """
    offered: set[str] = set()
    omitted: list[Failure] = []
    for accelerator in snapshot.accelerators:
        address = accelerator.pci_address
        if accelerator.type == vocabulary.TYPE_VFIO:
            continue
        reason = "" if address in bound else _explain(accelerator, snapshot, view)
        if reason:
            omitted.append(Failure(address, accelerator.index, reason))
        else:
            offered.add(address)
    known = {accelerator.pci_address for accelerator in snapshot.accelerators} | set(bound)
    omitted += (Failure(address, None, _OF_OTHERS) for address in sorted(view.taken - known))
    return Verdict(frozenset(offered), tuple(omitted))


def describe(whole: Device, accelerator: Accelerator) -> Device:
    """Return the pass-through twin of a whole device as it is published; taints and counters are the same."""
    attributes = {name: value for name, value in whole.attributes.items() if name not in _HOST_ONLY}
    attributes |= {vocabulary.TYPE: DeviceAttribute(string=vocabulary.TYPE_VFIO)}
    capacity = {name: value for name, value in whole.capacity.items() if name == vocabulary.MEMORY}
    return msgspec.structs.replace(
        whole,
        name=_name_twin(accelerator),
        attributes=dict(sorted(attributes.items())),
        capacity=capacity,
    )


def is_twin(device: Device) -> bool:
    """Say whether a published device is the pass-through twin of a whole one."""
    kind = device.attributes.get(vocabulary.TYPE)
    return kind is not None and kind.string == vocabulary.TYPE_VFIO


def is_aimed_at_twin(target: Target) -> bool:
    """Say whether a target is the twin of a device, and not the device itself."""
    return target.accelerator.type != vocabulary.TYPE_VFIO and target.name == _name_twin(target.accelerator)


def plan(
    target: Target, snapshot: Snapshot, view: View, *, steps: Iterable[Step] = (), nodes: Iterable[str] = ()
) -> Step:
    """Return the step that hands the device of `target` over: former drivers to be given back, facts to be published.

    `steps` are those of all records: what another claim has handed over already is its step, as it stands there.
    `nodes` are the device nodes through which the device is used while its vendor's driver has it. Raises
    `StepRefused` with the reason why it cannot be done.
    """
    accelerator, address = target.accelerator, target.accelerator.pci_address
    group = view.groups.get(address)
    theirs = [step for step in steps if step.name == STEP and step.arguments.get("pciAddress") == address]
    if group is not None and theirs and any(each.driver == DRIVER for each in _list_own(group, address)):
        return theirs[0]
    reason = _explain(accelerator, snapshot, view) or _explain_target(target)
    if group is None or reason:
        raise StepRefused(STEP, f"{target.name} cannot be passed through: {reason}")
    facts = _Facts(accelerator, dataclasses.replace(snapshot, accelerators=(), failures=()))
    own = sorted(_list_own(group, address), key=lambda each: each.address != address)
    formers = [Former(each.address, each.driver, each.override) for each in own]
    return Step(
        name=STEP,
        arguments={"pciAddress": address},
        facts={
            "group": group.number,
            "functions": msgspec.json.encode(formers).decode(),
            "device": msgspec.json.encode(facts).decode(),
            "uses": msgspec.json.encode(list(nodes)).decode(),
        },
        key=f"{STEP}/{address}",
    )


def list_formers(step: Step) -> tuple[Former, ...]:
    """Return the functions of a step as they were, the accelerator itself first. Raises `Corrupt`."""
    try:
        return _formers.decode(step.facts["functions"])
    except (KeyError, msgspec.DecodeError) as error:
        raise Corrupt(f"step {STEP}", f"functions: {error}") from error


def list_uses(step: Step) -> frozenset[str]:
    """Return the device nodes that nobody may have open when the device is taken from its driver."""
    return frozenset(_paths.decode(step.facts.get("uses", "[]")))


def complete(step: Step, nodes: Sequence[DeviceNode]) -> Step:
    """Return a step that was run, with the device nodes that the kernel made for it."""
    facts = {**step.facts, "nodes": msgspec.json.encode(list(nodes)).decode()}
    return msgspec.structs.replace(step, facts=facts)


def edit(name: str, step: Step) -> ContainerEdits:
    """Return what a container gets for device `name`, whose step was run: the nodes, and where the device is."""
    variable = f"{ADDRESS_VARIABLE}_{name.upper().replace('-', '_')}={step.arguments['pciAddress']}"
    return ContainerEdits(env=(variable,), device_nodes=_nodes.decode(step.facts.get("nodes", "[]")))


def list_bound(steps: Iterable[Step]) -> frozenset[str]:
    """Return the PCI addresses of accelerators that steps of records have handed over, or are about to."""
    return frozenset(step.arguments.get("pciAddress", "") for step in steps if step.name == STEP)


def keep(snapshot: Snapshot | None, steps: Iterable[Step], view: View) -> Snapshot | None:
    """Return a vendor's look with the devices that it cannot see because claims of ours have handed them over.

    `steps` are those of all records. Without a snapshot (a vendor's driver may not answer once all its devices are
    handed over) there is still what the steps know. A device that is no longer on the bus is not kept.
    """
    kept = {facts.accelerator.pci_address: facts for facts in _list_facts(steps)}
    kept = {address: facts for address, facts in kept.items() if address in view.groups}
    if snapshot is None:
        snapshot = next((facts.snapshot for facts in kept.values()), None)
    if snapshot is None:
        return None
    seen = {accelerator.pci_address for accelerator in snapshot.accelerators}
    missing = [facts.accelerator for address, facts in kept.items() if address not in seen]
    if not missing:
        return snapshot
    away = {accelerator.pci_address for accelerator in missing}
    return dataclasses.replace(
        snapshot,
        accelerators=tuple(sorted((*snapshot.accelerators, *missing), key=_place)),
        failures=tuple(failure for failure in snapshot.failures if failure.pci_address not in away),
    )


def _name_twin(accelerator: Accelerator) -> str:
    return naming.name_accelerator(dataclasses.replace(accelerator, type=vocabulary.TYPE_VFIO))


def _place(accelerator: Accelerator) -> tuple[int, str]:
    return accelerator.index, accelerator.pci_address


def _list_facts(steps: Iterable[Step]) -> Iterator[_Facts]:
    for step in steps:
        if step.name == STEP and "device" in step.facts:
            try:
                yield _facts.decode(step.facts["device"])
            except msgspec.DecodeError:  # of a later version: the device comes back with the vendor's own look
                continue


def _explain(accelerator: Accelerator, snapshot: Snapshot, view: View) -> str:
    """Return why a device cannot be passed through, one sentence without its subject; empty: it can."""
    address = accelerator.pci_address
    if address not in view.groups:
        return "it is not on the PCI bus of this node"
    group = view.groups[address]
    if group is None:
        return "it has no IOMMU group; the IOMMU must be on (firmware, kernel option intel_iommu=on or amd_iommu=on)"
    if not view.loaded:
        return f"the kernel driver {DRIVER} is not loaded (modprobe {DRIVER} on the node)"
    own = _list_own(group, address)
    others = {each.pci_address for each in snapshot.accelerators} - {address}
    reasons = (*(_explain_own(each) for each in own), *_explain_others(group, own, others))
    undriven = any(each.address == address and each.driver is None for each in own)
    return next((reason for reason in reasons if reason), "it has no driver to be given back to" if undriven else "")


def _explain_target(target: Target) -> str:
    """Return why a device cannot be handed over just now, although it can in general."""
    parts = target.accelerator.partitions
    if parts:
        return f"it has partitions: {', '.join(f'{part.profile} at {part.placement}' for part in parts)}"
    if target.admin_access:
        return "admin access takes it from nobody; it is there once a claim without admin access has it"
    return ""


def _explain_own(function: Function) -> str:
    if function.driver == DRIVER:
        return f"{function.address}: {_OF_OTHERS}"
    if function.override == DRIVER or not function.settled:
        return f"somebody else is changing the driver of {function.address}"
    if function.virtual_functions:
        return f"{function.address} is divided into {function.virtual_functions} virtual functions (sriov_numvfs)"
    return ""


def _explain_others(group: Group, own: Sequence[Function], accelerators: Collection[str]) -> Iterator[str]:
    for each in group.functions:
        if each.address in accelerators:
            yield f"its IOMMU group {group.number} also holds the accelerator {each.address}"
        elif each not in own and not _is_bridge(each) and each.driver not in _IDLE:
            yield (
                f"its IOMMU group {group.number} also holds {each.address} (class {each.kind:06x}, driver "
                f"{each.driver}), which the node would lose"
            )


def _list_own(group: Group, address: str) -> list[Function]:
    """Return the functions of the device itself: those of its slot, such as a GPU's audio and USB."""
    slot = address.rpartition(".")[0]
    return [each for each in group.functions if each.address.rpartition(".")[0] == slot and not _is_bridge(each)]


def _is_bridge(function: Function) -> bool:
    return function.kind >> 8 in _BRIDGES
