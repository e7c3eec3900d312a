"""Partitions made on demand: the steps `partition-mode` and `partition`, and what the snapshot shows of them.

Called by `vendor`. It promises that what it did not make is never destroyed: an instance is this driver's if a step
knows its UUID or number, or if it stands at exactly the place for which a file, written just before the hardware is
asked, says that making it has begun. The file goes when the step is undone. It must not know claims beyond their UID.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from driver.contract import Target
from driver.model.devices import Accelerator, Failure, Partition, Profile, Snapshot
from driver.model.errors import InvalidInput, StepFailed, StepRefused, Unavailable, Unsupported
from driver.model.prepared import PARTITION, PARTITION_MODE, Step

from .instances import FIXED, Chip, Gpu, Instance, InstanceError, Instances, Layout

_WORDS: Final = {True: "on", False: "off"}


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of a node.

    `begun`: a folder with a file for each place where a partition is being made or was, which holds the UID of the
    claim, and another with the partition's UUID once it is known. None of them is ever replaced, which would make the
    file system write to the disk; nothing has to survive a power failure.
    """

    instances: Instances
    begun: Path

    def show(self, snapshot: Snapshot, chips: Mapping[str, Chip]) -> Snapshot:
        """Return a snapshot of the node file with what is on the accelerators now. Raises `Unavailable`."""
        accelerators: list[Accelerator] = []
        failures = list(snapshot.failures)
        for accelerator in snapshot.accelerators:
            chip = chips.get(accelerator.pci_address)
            layout = None if chip is None else self._look(chip)
            accelerators.append(accelerator if layout is None else _show(accelerator, layout))
            failures += () if layout is None else _list_halves(accelerator, layout)
        return replace(snapshot, accelerators=tuple(accelerators), failures=tuple(failures))

    def plan(self, target: Target, chips: Mapping[str, Chip]) -> tuple[Step, ...]:
        """Return the steps that make the partition of a target, or a device whole again; none if nothing is to do.

        Raises `Unsupported` if its accelerator cannot be had so now, `InvalidInput` if it has no such place.
        """
        part, address = target.partition, target.accelerator.pci_address
        if target.admin_access or (part is not None and part.uuid is not None):
            return ()
        chip = chips.get(address)
        if chip is None and part is not None:
            raise Unsupported(f"{target.name}: {address} is not there or cannot be partitioned")
        if chip is None:
            return ()
        layout = self._look(chip)
        if layout.fault is not None and layout.partitioned != (part is not None):
            state = "in partition mode" if layout.partitioned else "not in partition mode"
            raise Unsupported(f"{target.name}: {address} is {state}, and {layout.fault}")
        # Of several shares of a whole device each counts, also those that find it whole.
        if part is None and not layout.partitioned and target.share_id is None:
            return ()
        mode = () if layout.fault is not None else (_plan_mode(address, layout, wanted=part is not None),)
        return mode if part is None else (*mode, _plan_partition(target, chip, part, layout))

    def run_mode(self, step: Step, chips: Mapping[str, Chip]) -> Step:
        """Switch partition mode as a step says, or find it so."""
        chip, wanted = _get_chip(step, chips), step.arguments["mode"] == _WORDS[True]
        with _told(step), self.instances.open(chip) as gpu:
            layout = gpu.look()
            if layout.partitioned == wanted:
                return step
            if layout.fault is not None:
                raise StepRefused(step.name, layout.fault)
            if layout.instances:
                raise StepRefused(step.name, f"{step.arguments['pciAddress']}: {layout.instances[0]} is in the way")
            gpu.switch_mode(enabled=wanted)
        return step

    def undo_mode(self, step: Step, chips: Mapping[str, Chip]) -> None:
        """Switch partition mode back if the step switched it; not while there are partitions, which others made."""
        chip, before = chips.get(step.arguments["pciAddress"]), step.facts["before"]
        if chip is None or before == step.arguments["mode"]:
            return
        with _told(step), self.instances.open(chip) as gpu:
            if not gpu.look().instances:
                gpu.switch_mode(enabled=before == _WORDS[True])

    def run(self, step: Step, chips: Mapping[str, Chip]) -> Step:
        """Make a partition, go on where an earlier run was interrupted, or find it made."""
        chip = _get_chip(step, chips)
        profile = chip.find_profile(step.arguments["profile"])
        if profile is None:
            raise StepRefused(step.name, f"{step.arguments['pciAddress']} has no profile {step.arguments['profile']}")
        placement = int(step.arguments["placement"])
        with _told(step), self.instances.open(chip) as gpu:
            own = self._find_own(step, gpu.look())
            if own is None:
                own = self._create_gpu_instance(step, gpu, profile, placement)
            identity = own.uuid or gpu.create_compute_instance(own.number)
            self._file(step, "made").write_text(identity)
        return msgspec.structs.replace(step, facts={**step.facts, "uuid": identity})

    def undo(self, step: Step, chips: Mapping[str, Chip]) -> None:
        """Destroy the partition that the step made, whole or half, or find it gone, also with its accelerator."""
        chip = chips.get(step.arguments["pciAddress"])
        if chip is None:
            return
        with _told(step), self.instances.open(chip) as gpu:
            own = self._find_own(step, gpu.look())
            if own is not None:
                if own.uuid is not None:
                    gpu.destroy_compute_instance(own.number)
                gpu.destroy_gpu_instance(own.number)
            if self._has_begun(step):
                self._file(step).unlink(missing_ok=True)
                self._file(step, "made").unlink(missing_ok=True)

    def find_uuid(self, target: Target, chips: Mapping[str, Chip], done: Sequence[Step]) -> str:
        """Return the identity of the partition of a target, from the steps or, for who looks on, from the hardware.

        Raises `Unavailable` if it does not exist.
        """
        part, address = target.partition, target.accelerator.pci_address
        if part is None:
            return target.accelerator.uuid
        if part.uuid is not None:
            return part.uuid
        place = {"pciAddress": address, "profile": part.profile, "placement": str(part.placement)}
        for step in done:
            if step.name == PARTITION and step.arguments == place and "uuid" in step.facts:
                return step.facts["uuid"]
        if target.admin_access and address in chips:
            for each in self._look(chips[address]).instances:
                if (each.profile.name, each.placement) == (part.profile, part.placement) and each.uuid is not None:
                    return each.uuid
        raise Unavailable(f"{target.name} does not exist: {part.profile} at {part.placement} of {address}")

    def _create_gpu_instance(self, step: Step, gpu: Gpu, profile: Profile, placement: int) -> Instance:
        _check_free(step, gpu.look(), placement, profile.size)
        self._begin(step)
        try:
            number = gpu.create_gpu_instance(profile, placement)
        except InstanceError as error:
            self._file(step).unlink(missing_ok=True)
            raise StepRefused(step.name, f"{step.arguments['pciAddress']}: {error}") from error
        return Instance(number, profile, placement, None)

    def _look(self, chip: Chip) -> Layout:
        try:
            return self.instances.look(chip)
        except OSError as error:
            raise Unavailable(f"{error.filename} cannot be read: {error.strerror}") from error

    def _find_own(self, step: Step, layout: Layout) -> Instance | None:
        """Return the instance that a step has made or begun to make."""
        place = (step.arguments["profile"], int(step.arguments["placement"]))
        at_place = (each for each in layout.instances if (each.profile.name, each.placement) == place)
        found = next(at_place, None)
        if found is None or found.number == FIXED:
            return None
        begun = self._has_begun(step)
        known = step.facts.get("uuid") or (_read(self._file(step, "made")) if begun else None)
        if known is not None and found.uuid is not None:
            return found if known == found.uuid else None
        return found if begun and found.uuid not in step.facts["present"].split() else None

    def _has_begun(self, step: Step) -> bool:
        """Return whether making the partition of a step has begun, for its claim and not for a later one."""
        return _read(self._file(step)) == step.facts["claim"]

    def _begin(self, step: Step) -> None:
        self.begun.mkdir(parents=True, exist_ok=True)
        self._file(step, "made").unlink(missing_ok=True)
        self._file(step).write_text(step.facts["claim"])

    def _file(self, step: Step, suffix: str = "begun") -> Path:
        place = "-".join(step.arguments.values()).replace(":", "-")
        return self.begun / f"{place}.{suffix}"


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


@contextmanager
def _told(step: Step) -> Iterator[None]:
    """Turn what the hardware and the disk refuse into the failure of a step."""
    try:
        yield
    except InstanceError as error:
        raise StepFailed(step.name, f"{step.arguments['pciAddress']}: {error}") from error
    except OSError as error:
        raise StepFailed(step.name, f"{error.filename}: {error.strerror}") from error


def _show(accelerator: Accelerator, layout: Layout) -> Accelerator:
    parts = tuple(each.profile.shape(each.placement, each.uuid) for each in layout.instances if each.uuid is not None)
    return replace(accelerator, partitioned=layout.partitioned, partition_fault=layout.fault, partitions=parts)


def _list_halves(accelerator: Accelerator, layout: Layout) -> Iterator[Failure]:
    for each in layout.instances:
        if each.uuid is None:
            reason = f"GPU instance {each.number} has no compute instance: {each}"
            yield Failure(accelerator.pci_address, accelerator.index, reason)


def _plan_mode(address: str, layout: Layout, *, wanted: bool) -> Step:
    """Return the step that switches partition mode, or counts another claim in that needs it so."""
    return Step(
        name=PARTITION_MODE,
        arguments={"pciAddress": address, "mode": _WORDS[wanted]},
        facts={"before": _WORDS[layout.partitioned]},
        key=f"{PARTITION_MODE}/{address}",
    )


def _plan_partition(target: Target, chip: Chip, part: Partition, layout: Layout) -> Step:
    """Return the step that makes a partition. It has a key because several claims may have shares of the partition."""
    _check_place(chip, part)
    address = target.accelerator.pci_address
    place = {"pciAddress": address, "profile": part.profile, "placement": str(part.placement)}
    present = " ".join(each.uuid for each in layout.instances if each.uuid)
    facts = {"present": present, "claim": target.claim}
    return Step(name=PARTITION, arguments=place, facts=facts, key="/".join((PARTITION, *place.values())))


def _check_place(chip: Chip, part: Partition) -> None:
    profile = chip.find_profile(part.profile)
    if profile is None:
        raise InvalidInput("profile", part.profile, ", ".join(each.name for each in chip.accelerator.profiles))
    if part.placement not in profile.placements:
        raise InvalidInput(f"{part.profile}: placement", part.placement, ", ".join(map(str, profile.placements)))


def _check_free(step: Step, layout: Layout, placement: int, size: int) -> None:
    """Raise `StepRefused` naming what is in the way; it is never destroyed, whoever made it."""
    for each in layout.instances:
        if each.overlaps(placement, size):
            address = step.arguments["pciAddress"]
            raise StepRefused(
                step.name, f"{address}: {each} is in the way, and this driver did not make it for this claim"
            )


def _get_chip(step: Step, chips: Mapping[str, Chip]) -> Chip:
    chip = chips.get(step.arguments["pciAddress"])
    if chip is None:
        raise StepRefused(step.name, f"{step.arguments['pciAddress']} is not there")
    return chip
