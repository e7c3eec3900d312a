"""Steps that make and remove MIG devices on demand, and switch MIG mode for it.

Called by vendor.py for steps named `partition` and `partition-mode`, from several threads; sessions of NVML come one
after the other, so each `run` and `undo` has the GPU for itself as far as this process is concerned. Others (an admin,
mig-parted) may change instances at any time: what was not made here is named, never changed. `run` either has done all
of a step or leaves nothing of it behind; if it is interrupted, `undo` in a later process removes what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from driver.contract import Target
from driver.model.devices import Profile
from driver.model.errors import DriverError, InvalidInput, NotFound, StepFailed, StepRefused, Unavailable, Unsupported
from driver.model.prepared import PARTITION, PARTITION_MODE, Step
from driver.vendors.nvidia import instances, modes, nvml, nvml_mig
from driver.vendors.nvidia.begun import Begun
from driver.vendors.nvidia.nodes import Nodes
from driver.vendors.nvidia.pci import Bus

NAMES: Final = (PARTITION, PARTITION_MODE)
TRIES: Final = 10
"""How often something in use is tried: processes of a container that just ended may still be on their way out."""
MODE_TRIES: Final = 3
"""The same for a mode: a switch may take a second by itself."""
SECONDS_APART: Final = 0.1
_NOTHING_DONE: Final = (nvml.Exhausted, nvml.InUse, NotFound, Unsupported)
"""Answers to nvmlDeviceCreateGpuInstanceWithPlacement that say that there is no instance now."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What steps need of the machine. `pause` is given seconds."""

    session: Callable[[], AbstractContextManager[nvml.Session]]
    bus: Bus
    nodes: Nodes
    remembered: modes.Remembered
    begun: Begun
    pause: Callable[[float], None]


class Partitioner:
    """The two steps of one machine. Holds nothing between calls."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the steps for partitions that do not exist and for whole GPUs that are in MIG mode.

        NVML is asked only if there are any: what is on a GPU now tells later what an interrupted step has made.
        """
        wanted = [target for target in targets if _is_wanted(target)]
        for target in wanted:
            _check(target)
        if not wanted:
            return ()
        with self._machine.session() as session:
            return tuple(
                step
                for address in dict.fromkeys(target.accelerator.pci_address for target in wanted)
                for step in _plan_gpu(session, [each for each in wanted if each.accelerator.pci_address == address])
            )

    def run(self, step: Step, done: Sequence[Step]) -> Step:  # noqa: ARG002 - what it needs is on the GPU
        """Make a MIG device or switch the mode, or find it done. Raises `StepRefused` with the GPU as it was."""
        try:
            with self._machine.session() as session:
                if step.name == PARTITION_MODE:
                    return self._switch(session, step)
                return self._make(session.device_at(step.arguments["pciAddress"]), step)
        except StepFailed:
            raise
        except DriverError as error:
            raise StepRefused(step.name, f"{_gpu(step)}: {error}") from error

    def undo(self, step: Step) -> None:
        """Remove the MIG device or switch the mode back, or find it done. Raises `StepFailed`."""
        # A GPU that left, or lost its driver, took its MIG devices along.
        if self._machine.bus.driver(step.arguments["pciAddress"]) == "nvidia":
            try:
                with self._machine.session() as session:
                    self._undo(session.device_at(step.arguments["pciAddress"]), step)
            except StepFailed:
                raise
            except DriverError as error:
                # One that needs a reset or a boot comes back without them, and pods must be able to leave it before.
                if not (isinstance(error, nvml.DeviceFault) and error.lost):
                    raise StepFailed(step.name, f"{_gpu(step)}: {error}") from error
        if step.name == PARTITION:
            self._machine.begun.forget(step)

    def _undo(self, device: nvml.Device, step: Step) -> None:
        if step.name == PARTITION_MODE:
            self._switch_back(device, step)
        elif nvml_mig.enabled(device):
            self._clear(device, step)

    # -- MIG devices ------------------------------------------------------------------------------------------------

    def _make(self, device: nvml.Device, step: Step) -> Step:
        if not nvml_mig.enabled(device):
            raise StepRefused(step.name, f"{_gpu(step)}: MIG mode is off")
        found = self._find_own(device, step)
        if found is None:
            instances.refuse_foreign(device, step)
            self._machine.begun.write(step, {})
            found = self._create(device, step)
        try:
            facts = self._complete(device, step, found)
            self._machine.begun.write(step, facts)
        except DriverError as error:
            self._take_back(device, step, error)
            raise StepRefused(step.name, f"{_gpu(step)}: {error}") from error
        return msgspec.structs.replace(step, facts={**step.facts, **facts})

    def _find_own(self, device: nvml.Device, step: Step) -> instances.Own | None:
        """Return what this step has made: as its facts or its file name it, or as its file says that it has begun."""
        if "uuid" in step.facts:
            return instances.find_known(device, step, step.facts)
        note = self._machine.begun.read(step)
        if note is None:
            return None
        known = instances.find_known(device, step, note.facts) if note.facts else None
        return known if note.facts else instances.find_begun(device, step)

    def _create(self, device: nvml.Device, step: Step) -> instances.Own:
        wanted = instances.read(step)
        try:
            return instances.Own(nvml_mig.create(device, wanted.profile, wanted.place), None)
        except _NOTHING_DONE as error:
            self._machine.begun.forget(step)
            there = instances.name_all(device) or "no other MIG device is there"
            raise StepRefused(step.name, f"{_gpu(step)} takes no {wanted}: {error}; {there}") from error
        except DriverError as error:
            raise StepFailed(step.name, f"{_gpu(step)} took no {wanted}: {error}") from error

    def _complete(self, device: nvml.Device, step: Step, own: instances.Own) -> dict[str, str]:
        """Give the GPU instance its compute instance, and wait for the capabilities that let containers in."""
        part = own.part or own.parent.create_compute(int(step.arguments["slices"]))
        facts = {
            "uuid": part.device.uuid(),
            "gpuInstance": str(own.parent.id),
            "computeInstance": str(part.id),
            "minor": str(device.minor()),
        }
        self._await_capabilities(device.minor(), own.parent.id, part.id)
        return facts

    def _await_capabilities(self, minor: int, gpu_instance: int, compute_instance: int) -> None:
        """Wait a moment for the driver's files below /proc. Raises `Unavailable`."""
        for attempt in range(TRIES):
            try:
                self._machine.nodes.capabilities(minor, gpu_instance, compute_instance)
            except Unavailable:
                if attempt == TRIES - 1:
                    raise
                self._machine.pause(SECONDS_APART)
            else:
                return

    def _take_back(self, device: nvml.Device, step: Step, error: DriverError) -> None:
        """Remove what an attempt has left. Raises `StepFailed` if that fails, too: then `undo` goes on."""
        try:
            self._clear(device, step)
        except DriverError as second:
            text = f"{_gpu(step)}: {error}; what was begun could not be removed: {second}"
            raise StepFailed(step.name, text) from error
        self._machine.begun.forget(step)

    def _clear(self, device: nvml.Device, step: Step) -> None:
        """Remove the step's own MIG device, compute instance first. Waits a moment for processes on it to end."""
        own = self._find_own(device, step)
        if own is None:
            return
        try:
            if own.part is not None:
                self._patiently(own.part.destroy)
            self._patiently(own.parent.destroy)
        except nvml.InUse as error:
            users = instances.list_users(own.part.device) if own.part else ""
            named = f" by processes {users}" if users else ""
            raise StepFailed(step.name, f"{_gpu(step)}: {instances.read(step)} is in use{named}: {error}") from error

    def _patiently(self, action: Callable[[], None], tries: int = TRIES) -> None:
        """Do it, again for a moment while something is in use. Raises `InUse`."""
        for _ in range(tries - 1):
            try:
                return action()
            except nvml.InUse:
                self._machine.pause(SECONDS_APART)
        return action()

    # -- MIG mode ---------------------------------------------------------------------------------------------------

    def _switch(self, session: nvml.Session, step: Step) -> Step:
        address, on = step.arguments["pciAddress"], step.arguments["mode"] == modes.name(on=True)
        device = session.device_at(address)
        if not on and nvml_mig.enabled(device) and (there := instances.name_all(device)):
            raise StepRefused(step.name, f"{_gpu(step)} is wanted whole, but {there}")
        try:
            self._patiently(lambda: modes.switch(device, on=on), MODE_TRIES)
        except DriverError as error:
            raise self._refusal(device, step, on=on, error=error) from error
        try:
            # The GPU may have been unbound and bound again meanwhile: nothing read before is true any more.
            minor = session.device_at(address).minor()
        except DriverError as error:
            raise StepFailed(step.name, f"{_gpu(step)} was switched and does not answer: {error}") from error
        return msgspec.structs.replace(step, facts={**step.facts, "minor": str(minor)})

    def _refusal(self, device: nvml.Device, step: Step, *, on: bool, error: DriverError) -> StepFailed:
        """Say why the mode was not switched; and remember if it will not be, so that it is not offered again."""
        kind = StepRefused if _is_in(device, on=not on) else StepFailed
        text = f"{_gpu(step)}: MIG mode cannot be switched {modes.name(on=on)} now"
        if isinstance(error, nvml_mig.NeedsReset):
            why = f"MIG mode takes effect only with a reset of the GPU, or a restart of its virtual machine ({error})"
            self._machine.remembered.refuse(step.arguments["pciAddress"], on=not on, why=why)
            return kind(step.name, f"{text}: {why}")
        if isinstance(error, nvml.InUse):
            users = instances.list_users(device)
            named = f"by processes {users}" if users else "perhaps by a monitoring service"
            return kind(step.name, f"{text}: the GPU is in use, {named} ({error})")
        return kind(step.name, f"{text}: {error}")

    def _switch_back(self, device: nvml.Device, step: Step) -> None:
        """Switch to the mode of before, unless others are on the GPU.

        A mode that cannot be switched now stays: the GPU is as usable for the next claim, which tries it again, and
        no pod has to wait for its end because of a monitoring service that holds the GPU.
        """
        on = step.facts.get("before") == modes.name(on=True)
        if nvml_mig.enabled(device) == on or (not on and nvml_mig.gpu_instances(device)):
            return
        try:
            self._patiently(lambda: modes.switch(device, on=on), MODE_TRIES)
        except (nvml.InUse, nvml_mig.NeedsReset):
            return


def resolve(targets: Sequence[Target], done: Sequence[Step]) -> list[Target]:
    """Return targets with the identities that steps have learnt. Raises `Unavailable` for a partition not made."""
    made = {_place(step.arguments): step.facts for step in done if step.name == PARTITION}
    minors = {step.arguments["pciAddress"]: int(step.facts["minor"]) for step in done if "minor" in step.facts}
    return [_resolve(target, made, minors) for target in targets]


def _resolve(target: Target, made: Mapping[tuple[str, ...], Mapping[str, str]], minors: Mapping[str, int]) -> Target:
    gpu, part = target.accelerator, target.partition
    if gpu.pci_address in minors:
        gpu = replace(gpu, handle={**gpu.handle, "minor": minors[gpu.pci_address]})
    if part is not None and part.uuid is None:
        facts = made.get((gpu.pci_address, part.profile, str(part.placement)))
        if facts is None:
            raise Unavailable(f"device {target.name}: its MIG device has not been made")
        ids = {key: int(facts[key]) for key in ("gpuInstance", "computeInstance")}
        part = replace(part, uuid=facts["uuid"], handle={**part.handle, **ids})
    return replace(target, accelerator=gpu, partition=part)


def _place(arguments: Mapping[str, str]) -> tuple[str, ...]:
    return arguments["pciAddress"], arguments["profile"], arguments["placement"]


def _is_wanted(target: Target) -> bool:
    """Whether something may have to be done: for a partition that does not exist, or a whole GPU in MIG mode.

    Of several shares of a whole GPU each counts, also those that find it out of MIG mode.
    """
    gpu = target.accelerator
    if target.partition is not None or target.admin_access or not gpu.profiles:
        return target.partition is not None and target.partition.uuid is None
    return gpu.partitioned or (target.share_id is not None and gpu.partition_fault is None)


def _check(target: Target) -> None:
    """Raise `InvalidInput` or `Unsupported` for what cannot be had in any case."""
    gpu, part = target.accelerator, target.partition
    if part is not None and target.admin_access:
        allowed = "a partition that exists or a whole GPU: administrative access makes no partitions"
        raise InvalidInput(f"device {target.name}, adminAccess", target.admin_access, allowed)
    if gpu.partitioned != (part is not None) and gpu.partition_fault is not None:
        raise Unsupported(f"device {target.name}: {gpu.partition_fault}")


def _plan_gpu(session: nvml.Session, targets: Sequence[Target]) -> Iterator[Step]:
    """Yield the steps for one GPU: its mode, unless that cannot be switched and so is as it must be; its partitions."""
    gpu = targets[0].accelerator
    device = session.device_at(gpu.pci_address)
    current = nvml_mig.enabled(device)
    parts = [(target, target.partition) for target in targets if target.partition is not None]
    if gpu.partition_fault is None:
        yield Step(
            name=PARTITION_MODE,
            arguments={"pciAddress": gpu.pci_address, "mode": modes.name(on=bool(parts))},
            facts={"before": modes.name(on=current)},
            key=f"{PARTITION_MODE}/{gpu.pci_address}",
        )
    present = instances.name_present(device) if current else ""
    for target, part in parts:
        profile = _find_profile(target.name, gpu.profiles, part.profile, part.placement)
        arguments = {
            "pciAddress": gpu.pci_address,
            "profile": profile.name,
            "placement": str(part.placement),
            "size": str(profile.size),
            "gpuInstanceProfile": str(profile.handle["profile"]),
            "slices": str(profile.handle["slices"]),
        }
        yield Step(
            name=PARTITION,
            arguments=arguments,
            facts={"present": present, "claim": target.claim},
            # Several claims may have shares of one partition.
            key="/".join((PARTITION, *_place(arguments))),
        )


def _find_profile(device: str, profiles: Sequence[Profile], name: str, placement: int) -> Profile:
    profile = next((each for each in profiles if each.name == name), None)
    if profile is None:
        raise InvalidInput(f"device {device}, profile", name, ", ".join(each.name for each in profiles) or "none")
    if placement not in profile.placements:
        raise InvalidInput(f"device {device}, placement", placement, ", ".join(map(str, profile.placements)))
    return profile


def _is_in(device: nvml.Device, *, on: bool) -> bool:
    """Whether a GPU is in a mode and will stay in it. One that does not answer is not."""
    try:
        return nvml_mig.modes(device) == (on, on)
    except DriverError:
        return False


def _gpu(step: Step) -> str:
    return f"GPU {step.arguments['pciAddress']}"
