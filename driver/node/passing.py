"""Serves the pass-through twins of devices in the place of their vendor. Given to `preparer` and `scanner` by `app`.

Twins are decided on in `core.passthrough` and handed over by `driver.passthrough`; here the two meet the vendor, who
knows through which device nodes a device is used until it is taken away. It keeps nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from driver.contract import Target, Vendor
from driver.core import passthrough
from driver.model.devices import Inventory, Snapshot
from driver.model.errors import Unavailable
from driver.model.passthrough import STEP, View
from driver.model.prepared import ContainerEdits, Preparation, Step
from driver.passthrough.binding import Passthrough

_NAMES: Final = frozenset({STEP})


class Passing:
    """What `node.hardware` asks of whoever stands in for the vendor (`Neutral`)."""

    def __init__(self, binding: Passthrough, vendor: Vendor, inventory: Callable[[], Inventory | None]) -> None:
        """`inventory` is the latest look at the hardware."""
        self._binding = binding
        self._vendor = vendor
        self._inventory = inventory

    @property
    def names(self) -> frozenset[str]:
        """The steps that it does."""
        return _NAMES

    def takes(self, target: Target) -> bool:
        """Say whether this is the twin of a device and not the device itself."""
        return passthrough.is_aimed_at_twin(target)

    def look(self, snapshot: Snapshot | None, steps: Iterable[Step]) -> View:
        """Return what the kernel says about all devices that the vendor sees or that are handed over."""
        seen = {each.pci_address for each in snapshot.accelerators} if snapshot else set[str]()
        return self._binding.look(sorted(seen | passthrough.list_bound(steps)))

    def plan(self, targets: Sequence[Target], held: Sequence[Step]) -> tuple[Step, ...]:
        """Return the steps that hand the devices over. Changes nothing.

        Raises `StepRefused` with the reason why a device cannot be had, and what vendors raise.
        """
        found = self._inventory()
        if found is None:
            raise Unavailable("the devices of this node are not known yet: their driver is not loaded")
        view, bound = self.look(found.snapshot, held), passthrough.list_bound(held)
        return tuple(
            passthrough.plan(
                target,
                found.snapshot,
                view,
                steps=held,
                nodes=() if target.accelerator.pci_address in bound else self._list_nodes(target),
            )
            for target in targets
        )

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        """Return what containers get of devices that were handed over."""
        steps = {step.arguments["pciAddress"]: step for step in done if step.name == STEP}
        edits = {target.key: passthrough.edit(target.name, steps[target.accelerator.pci_address]) for target in targets}
        return Preparation(ContainerEdits(), edits)

    def run(self, step: Step, done: Sequence[Step]) -> Step:
        """Hand a device over. Raises `StepFailed`, `StepRefused`."""
        return self._binding.run(step, done)

    def undo(self, step: Step) -> None:
        """Give a device back. Raises `StepFailed`."""
        self._binding.undo(step)

    def _list_nodes(self, target: Target) -> tuple[str, ...]:
        """Return the device nodes that containers would get of the device while its vendor's driver has it."""
        edits = self._vendor.prepare([target]).devices.get(target.key, ContainerEdits())
        return tuple(node.path for node in edits.device_nodes)
