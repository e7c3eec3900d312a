"""The contract of `driver.contract` in full: what a vendor answers when the driver asks. Made by `create`.

It promises what the contract promises and is called from several threads at a time: all it keeps is the last look.
It must not know claims, slices or CDI documents. Options: `node` (name of a node that ships with the driver, or path
of a JSON file, read again whenever it changes), `seed` (tells apart the devices of nodes with the same file) and
`health` (path of a file with one health event a line; events are read as they are appended). What steps do stands in
modules of their own, `partitions` and `sharing`; power, which is a few lines, here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from driver.contract import Roots, Runner, Target
from driver.model.devices import Snapshot
from driver.model.errors import InvalidInput, StepFailed, Unavailable
from driver.model.health import HealthEvent
from driver.model.passthrough import DRIVER
from driver.model.prepared import PARTITION, PARTITION_MODE, ContainerEdits, DeviceNode, Preparation, Step

from . import faults, files, hardware, sharing
from .instances import Instances
from .partitions import Partitions
from .sharing import Sharer

NAME: Final = str(__package__).rpartition(".")[2]
"""The folder's own name, so that a copy under another name needs no edit."""
OPTIONS: Final = ("health", "node", "seed")
POWER_ON: Final = "power-on"
SECONDS_BETWEEN_LOOKS: Final = 0.2


def create(roots: Roots, options: Mapping[str, str], runner: Runner) -> Simulated:
    """Return the vendor for a machine. Raises `InvalidInput` for an unknown option or node."""
    for option in options:
        if option not in OPTIONS:
            raise InvalidInput("vendor option", option, ", ".join(OPTIONS))
    return Simulated(roots, options, runner)


class Simulated:
    """Vendor, Steps and Health over one node file."""

    def __init__(self, roots: Roots, options: Mapping[str, str], runner: Runner) -> None:
        self._path = files.find_node(options.get("node", "hgx-h100"))
        self._seed = options.get("seed", self._path.stem)
        self._health = Path(options["health"]) if "health" in options else None
        self._away = Path(roots.sys_root, "bus", "pci", "drivers", DRIVER)
        state = Path(roots.state_root) / NAME
        self._power = state / "power"
        self.instances = Instances(state / "instances", Path(roots.proc_root, "sys/kernel/random/boot_id"))
        """What stands for the vendor's library, for tests that act as an administrator."""
        self._partitions = Partitions(self.instances, state / "begun")
        self._sharer = Sharer(NAME, state, runner)
        self._seen: tuple[bytes, hardware.Hardware] | None = None

    @property
    def name(self) -> str:
        """Value of the attribute `accel-dra.dev/vendor`."""
        return NAME

    def fingerprint(self) -> str:
        """Return a text that changes when the node file, a partition or the driver of a device does.

        `absent` while there is no file.
        """
        try:
            content = files.read(self._path)
        except Unavailable:
            return "absent"
        changes = f"{self.instances.fingerprint()} {self._list_away()}"
        return hashlib.sha256(content + changes.encode()).hexdigest()

    def snapshot(self) -> Snapshot:
        """Return the hardware as it is now. Raises `Unavailable` (no file) or `InvalidInput` (bad file)."""
        look = self.look()
        shown, away = self._partitions.show(look.snapshot, look.chips), self._list_away()
        return replace(shown, accelerators=tuple(each for each in shown.accelerators if each.pci_address not in away))

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:
        """Return a device node and a variable for each device."""
        look = self.look()
        prefix = NAME.upper().replace("-", "_")
        return Preparation(
            common=ContainerEdits(env=(f"{prefix}_DRIVER_VERSION={look.snapshot.driver_version}",)),
            devices={target.key: self._edit(target, prefix, look, done) for target in targets},
        )

    def _edit(self, target: Target, prefix: str, look: hardware.Hardware, done: Sequence[Step]) -> ContainerEdits:
        edits = _edits(target, prefix, self._partitions.find_uuid(target, look.chips, done))
        shared = self._sharer.edit(target)
        return ContainerEdits(env=edits.env + shared.env, device_nodes=edits.device_nodes, mounts=shared.mounts)

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the steps that power devices on, make partitions and share; for a claim that only looks on, none."""
        look = self.look()
        steps = [_power_on(target) for target in targets if look.managed_power and not target.admin_access]
        for target in targets:
            steps += (step for step in self._partitions.plan(target, look.chips) if step not in steps)
        return (*steps, *self._sharer.plan(targets))

    def run(self, step: Step, done: Sequence[Step]) -> Step:  # noqa: ARG002 - one does not depend on the other
        """Do a step, or find it done. Raises `StepFailed` or `StepRefused`."""
        if step.name in sharing.STEPS:
            return self._sharer.run(step)
        look = self.look()
        if step.name == PARTITION_MODE:
            return self._partitions.run_mode(step, look.chips)
        if step.name == PARTITION:
            return self._partitions.run(step, look.chips)
        return self._power_on(step, look.power_faults)

    def undo(self, step: Step) -> None:
        """Undo a step, or find it undone."""
        if step.name in sharing.STEPS:
            self._sharer.undo(step)
        elif step.name == PARTITION_MODE:
            self._partitions.undo_mode(step, self.look().chips)
        elif step.name == PARTITION:
            self._partitions.undo(step, self.look().chips)
        else:
            self._power_off(step)

    def _power_on(self, step: Step, power_faults: Mapping[str, str]) -> Step:
        reason = power_faults.get(step.arguments["pciAddress"])
        if reason is not None:
            raise StepFailed(step.name, reason)
        try:
            self._power.mkdir(parents=True, exist_ok=True)
            (self._power / step.arguments["switch"]).touch()
        except OSError as error:
            raise StepFailed(step.name, f"{self._power}: {error.strerror}") from error
        return step

    def _power_off(self, step: Step) -> None:
        try:
            (self._power / step.arguments["switch"]).unlink(missing_ok=True)
        except OSError as error:
            raise StepFailed(step.name, f"{self._power}: {error.strerror}") from error

    def watch_health(self, stopped: Callable[[], bool]) -> Iterator[HealthEvent]:
        """Yield the events of the health file and then those appended to it, until `stopped()`."""
        read = 0
        while not stopped():
            events = faults.read(self._health, time.time()) if self._health else ()
            yield from events[read if read <= len(events) else 0 :]  # a file that got shorter was begun anew
            read = len(events)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _list_away(self) -> list[str]:
        """Return the addresses of what virtual machines have: no library lists a device that its driver has not."""
        try:
            return sorted(path.name for path in self._away.iterdir())
        except OSError:  # the kernel has no such driver
            return []

    def look(self) -> hardware.Hardware:
        """Return what the node file says, without what was changed since. For tests that act as an administrator."""
        content = files.read(self._path)
        seen = self._seen
        if seen is None or seen[0] != content:
            seen = (content, hardware.look(NAME, files.parse_node(self._path, content), self._seed))
            self._seen = seen
        return seen[1]


def _edits(target: Target, prefix: str, identity: str) -> ContainerEdits:
    """Return a node that any user may open: /dev/null under the device's own name, as there is no hardware."""
    part = target.partition
    suffix = "" if part is None else f"-{part.profile.replace('.', '-').replace('+', '-')}-{part.placement}"
    node = DeviceNode(
        path=f"/dev/{NAME}-{target.accelerator.type}{target.accelerator.index}{suffix}",
        host_path="/dev/null",
        type="c",
        major=1,
        minor=3,
        file_mode=0o666,
        permissions="rw",
    )
    variable = f"{prefix}_{target.name.upper().replace('-', '_')}"
    return ContainerEdits(env=(f"{variable}={identity}",), device_nodes=(node,))


def _power_on(target: Target) -> Step:
    """One switch a device and share, so that undoing it for one claim does not power off another's."""
    part = target.partition
    place = "" if part is None else f"{part.profile}-{part.placement}"
    switch = "-".join(filter(None, (target.accelerator.uuid, place, target.share_id)))
    return Step(name=POWER_ON, arguments={"pciAddress": target.accelerator.pci_address, "switch": switch})
