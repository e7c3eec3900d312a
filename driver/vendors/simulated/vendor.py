"""The contract of `driver.contract` in full: what a vendor answers when the driver asks. Made by `create`.

It promises what the contract promises and is called from several threads at a time: all it keeps is the last look.
It must not know claims, slices or CDI documents. Options: `node` (name of a node that ships with the driver, or path
of a JSON file, read again whenever it changes), `seed` (tells apart the devices of nodes with the same file) and
`health` (path of a file with one health event a line; events are read as they are appended).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from driver.contract import Roots, Runner, Target
from driver.model.devices import Snapshot
from driver.model.errors import InvalidInput, StepFailed, Unavailable
from driver.model.health import HealthEvent
from driver.model.prepared import ContainerEdits, DeviceNode, Preparation, Step

from . import faults, files, hardware

NAME: Final = str(__package__).rpartition(".")[2]
"""The folder's own name, so that a copy under another name needs no edit."""
OPTIONS: Final = ("health", "node", "seed")
POWER_ON: Final = "power-on"
SECONDS_BETWEEN_LOOKS: Final = 0.2


def create(roots: Roots, options: Mapping[str, str], runner: Runner) -> Simulated:  # noqa: ARG001 - has no daemons yet
    """Return the vendor for a machine. Raises `InvalidInput` for an unknown option or node."""
    for option in options:
        if option not in OPTIONS:
            raise InvalidInput("vendor option", option, ", ".join(OPTIONS))
    return Simulated(roots, options)


class Simulated:
    """Vendor, Steps and Health over one node file."""

    def __init__(self, roots: Roots, options: Mapping[str, str]) -> None:
        self._path = files.find_node(options.get("node", "hgx-h100"))
        self._seed = options.get("seed", self._path.stem)
        self._health = Path(options["health"]) if "health" in options else None
        self._power = Path(roots.state_root) / NAME / "power"
        self._seen: tuple[bytes, hardware.Hardware] | None = None

    @property
    def name(self) -> str:
        """Value of the attribute `accel-dra.dev/vendor`."""
        return NAME

    def fingerprint(self) -> str:
        """Return a text that changes when the node file does; `absent` while there is none."""
        try:
            return hashlib.sha256(files.read(self._path)).hexdigest()
        except Unavailable:
            return "absent"

    def snapshot(self) -> Snapshot:
        """Return the hardware as the file has it now. Raises `Unavailable` (no file) or `InvalidInput` (bad file)."""
        return self._look().snapshot

    def prepare(self, targets: Sequence[Target], done: Sequence[Step] = ()) -> Preparation:  # noqa: ARG002 - power tells containers nothing
        """Return a device node and a variable for each device."""
        look = self._look()
        prefix = NAME.upper().replace("-", "_")
        return Preparation(
            common=ContainerEdits(env=(f"{prefix}_DRIVER_VERSION={look.snapshot.driver_version}",)),
            devices={target.key: _edits(target, prefix) for target in targets},
        )

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the power-on steps if the node asks for them."""
        managed = self._look().managed_power
        return tuple(_power_on(target) for target in targets if managed and not target.admin_access)

    def run(self, step: Step, done: Sequence[Step]) -> Step:  # noqa: ARG002 - one does not depend on the other
        """Power a device on, or find it on. Raises `StepFailed` if it refuses."""
        reason = self._look().power_faults.get(step.arguments["pciAddress"])
        if reason is not None:
            raise StepFailed(step.name, reason)
        try:
            self._power.mkdir(parents=True, exist_ok=True)
            (self._power / step.arguments["switch"]).touch()
        except OSError as error:
            raise StepFailed(step.name, f"{self._power}: {error.strerror}") from error
        return step

    def undo(self, step: Step) -> None:
        """Power a device off, or find it off; needs nothing but the step."""
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

    def _look(self) -> hardware.Hardware:
        content = files.read(self._path)
        seen = self._seen
        if seen is None or seen[0] != content:
            seen = (content, hardware.look(NAME, files.parse_node(self._path, content), self._seed))
            self._seen = seen
        return seen[1]


def _edits(target: Target, prefix: str) -> ContainerEdits:
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
    return ContainerEdits(env=(f"{variable}={(part or target.accelerator).uuid}",), device_nodes=(node,))


def _power_on(target: Target) -> Step:
    """One switch a device and share, so that undoing it for one claim does not power off another's."""
    switch = "-".join(filter(None, ((target.partition or target.accelerator).uuid, target.share_id)))
    return Step(name=POWER_ON, arguments={"pciAddress": target.accelerator.pci_address, "switch": switch})
