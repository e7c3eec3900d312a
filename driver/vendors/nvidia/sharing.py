"""Sharing of GPUs and MIG devices, as steps: compute mode, time-slice, MPS daemon, MPS limits. Called by vendor.py.

It promises what `contract.Steps` does. The whole GPUs of a claim have one MPS daemon together, because a CUDA process
speaks with one daemon only; a MIG device, and a GPU of which claims have shares, has a daemon of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

import msgspec

from driver.contract import Runner, Target
from driver.model.errors import DriverError, InvalidInput, NotFound, StepFailed, Unsupported
from driver.model.prepared import PARTITION, ContainerEdits, Mount, Preparation, Step
from driver.model.sharing import Interval, Sharing, Strategy
from driver.vendors.nvidia import mps, nvml
from driver.vendors.nvidia.mps import ALL, MEBIBYTE, Control, Limits, Service

COMPUTE_MODE: Final = "compute-mode"
TIME_SLICE: Final = "time-slice"
MPS_DAEMON: Final = "mps-daemon"
MPS_LIMITS: Final = "mps-limits"
NAMES: Final = (COMPUTE_MODE, TIME_SLICE, MPS_DAEMON, MPS_LIMITS)
INTERVALS: Final = {Interval.DEFAULT: 0, Interval.SHORT: 1, Interval.MEDIUM: 2, Interval.LONG: 3}
"""Of `nvidia-smi compute-policy --set-timeslice`; NVML has no call for it."""
_DEFAULT: Final = "Default"
_EXCLUSIVE: Final = "ExclusiveProcess"
_VOLTA: Final = (7, 0)
"""Compute capability from which clients of MPS can be limited."""
_PIPE: Final = "/tmp/nvidia-mps"  # noqa: S108 - in the container, where CUDA looks for it by default
_SHM: Final = "/dev/shm"  # noqa: S108 - in the container
_MOUNT: Final = ("rw", "nosuid", "nodev", "bind")
_SMI_SECONDS: Final = 25.0
"""Without persistence mode the driver begins anew for each program; the kubelet waits for 45."""
OpenSession = Callable[[], AbstractContextManager[nvml.Session]]


class Sharer:
    """Plans, runs and undoes the steps of sharing, and says what containers get of them. Holds nothing."""

    def __init__(self, session: OpenSession, service: Service, runner: Runner) -> None:
        self._session = session
        self._service = service
        self._runner = runner

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the steps for those targets that are shared, each once. Raises `InvalidInput`, `Unsupported`."""
        shared = [each for each in targets if each.sharing and not each.admin_access]
        steps: list[Step] = []
        for step in (*self._plan_modes(shared), *self._plan_mps(shared)):
            if not step.key or step.key not in [other.key for other in steps]:
                steps.append(step)
        return tuple(steps)

    def run(self, step: Step, done: Sequence[Step]) -> Step:
        """Do a step, or find it done. Raises `StepFailed`."""
        with _telling(step):
            if step.name == COMPUTE_MODE:
                self._set_mode(step.arguments["uuid"], step.arguments["value"])
            elif step.name == TIME_SLICE:
                self._set_time_slice(step.arguments["uuid"], step.arguments["value"])
            elif step.name == MPS_LIMITS:
                self._control(step).keep(step.arguments["owner"], _read_limits(step))
                mps.refuse(step.name, self._control(step).announce())
            else:
                return self._start(step, done)
        return step

    def undo(self, step: Step) -> None:
        """Undo a step, or find it undone. Raises `StepFailed`."""
        with _telling(step):
            if step.name in (COMPUTE_MODE, TIME_SLICE):
                self._restore(step)
            elif step.name == MPS_LIMITS:
                self._control(step).forget(step.arguments["owner"])
                self._control(step).announce()  # one that does not answer is told when it is started again
            else:
                self._runner.stop(self._control(step).name, self._control(step).quit)
                self._control(step).remove()

    def extend(self, preparation: Preparation, targets: Sequence[Target], done: Sequence[Step]) -> Preparation:
        """Add to what containers get how they find the daemons of their devices."""
        devices = dict(preparation.devices)
        for target in filter(_uses_mps, targets):
            plain, more = devices[target.key], self.edit(target, done)
            devices[target.key] = msgspec.structs.replace(
                plain, env=plain.env + more.env, mounts=plain.mounts + more.mounts
            )
        return Preparation(preparation.common, devices)

    def edit(self, target: Target, done: Sequence[Step]) -> ContainerEdits:
        """Return how a container finds the daemon of a device; of one that others may use, also the claim's limits."""
        name = name_group(target)
        control = Control(self._service, name, ())
        env = [f"{mps.PIPES}={_PIPE}"]
        if name == target.name and target.sharing:
            env += _lower(target.sharing, _find_uuid(target, done))
        mounts = (
            Mount(host_path=str(control.pipe), container_path=_PIPE, options=_MOUNT),
            Mount(host_path=str(control.shm), container_path=_SHM, options=_MOUNT),
        )
        return ContainerEdits(env=tuple(env), mounts=mounts)

    def _plan_modes(self, shared: Sequence[Target]) -> Iterator[Step]:
        """Yield compute mode and time-slice of whole GPUs. MIG devices have neither."""
        whole = [each for each in shared if each.partition is None]
        if any(each.sharing and each.sharing.strategy is not Strategy.EXCLUSIVE for each in whole):
            with self._session() as session:
                before = {each.name: _read_mode(session, each.accelerator.uuid) for each in whole}
            for each in whole:
                yield from _plan_modes(each, before[each.name])

    def _plan_mps(self, shared: Sequence[Target]) -> Iterator[Step]:
        groups: dict[str, list[Target]] = {}
        for target in filter(_uses_mps, shared):
            _check_limits(target)
            groups.setdefault(name_group(target), []).append(target)
        if groups:
            self._service.programs.command(mps.PROGRAM, ())
            self._service.memory.check(self._service.root)
        for name, group in groups.items():
            facts = {"uuids": " ".join(_list_uuids(group))}
            arguments = _describe(name, group) | _place(group[0])
            key = f"{MPS_DAEMON}/{name}"
            yield Step(name=MPS_DAEMON, key=key, arguments=arguments, facts=facts, upkeep=True)
            yield from _plan_limits(name, group)

    def _start(self, step: Step, done: Sequence[Step]) -> Step:
        uuids = step.facts["uuids"] or _find_made(step.arguments, done)
        if not uuids:
            raise StepFailed(step.name, f"the MIG device of {step.arguments['daemon']} has not been made")
        control = self._control(step)
        control.make()
        self._runner.start(control.describe(uuids.split()))
        facts = {**step.facts, "uuids": uuids}
        return Step(name=step.name, key=step.key, arguments=step.arguments, facts=facts, upkeep=True)

    def _control(self, step: Step) -> Control:
        sizes = tuple(int(size) for size in step.arguments["sizes"].split())
        return Control(self._service, step.arguments["daemon"], sizes)

    def _set_mode(self, uuid: str, value: str) -> None:
        with self._session() as session:
            device = session.find(uuid)
            if device.compute_mode() != value:
                device.set_compute_mode(value)

    def _restore(self, step: Step) -> None:
        """Put back what was there, unless somebody else has set another mode since. A GPU that is gone has none."""
        try:
            with self._session() as session:
                mode = _read_mode(session, step.arguments["uuid"])  # of one that is lost it is not told
                if step.name == COMPUTE_MODE and mode == step.arguments["value"] != step.facts["before"]:
                    session.find(step.arguments["uuid"]).set_compute_mode(step.facts["before"])
        except NotFound:
            return
        except nvml.DeviceFault as error:
            if not error.lost:
                raise
            return
        if step.name == TIME_SLICE:
            self._set_time_slice(step.arguments["uuid"], _DEFAULT)

    def _set_time_slice(self, uuid: str, value: str) -> None:
        words = ("compute-policy", "--id", uuid, "--set-timeslice", str(INTERVALS[Interval(value)]))
        command = self._service.programs.command("nvidia-smi", words)
        self._service.programs.run(TIME_SLICE, command, seconds=_SMI_SECONDS)


def name_group(target: Target) -> str:
    """Return what the daemon of a target is named after: its device, or its claim if that has all of the GPU."""
    alone = target.partition is None and not target.shared and target.claim
    return f"claim-{target.claim}" if alone else target.name


def _uses_mps(target: Target) -> bool:
    return target.sharing is not None and target.sharing.strategy is Strategy.MPS and not target.admin_access


def _read_mode(session: nvml.Session, uuid: str) -> str:
    """Return the compute mode; an empty text for a GPU that has none."""
    try:
        return session.find(uuid).compute_mode()
    except Unsupported:
        return ""


def _plan_modes(target: Target, before: str) -> Iterator[Step]:
    sharing, uuid = target.sharing, target.accelerator.uuid
    if sharing is None or sharing.strategy is Strategy.EXCLUSIVE:
        return
    if before:
        mode = _EXCLUSIVE if sharing.strategy is Strategy.MPS else _DEFAULT
        arguments = {"uuid": uuid, "value": mode}
        yield Step(name=COMPUTE_MODE, key=f"{COMPUTE_MODE}/{uuid}", arguments=arguments, facts={"before": before})
    if sharing.interval is not None:
        arguments = {"uuid": uuid, "value": sharing.interval.value}
        yield Step(name=TIME_SLICE, key=f"{TIME_SLICE}/{uuid}", arguments=arguments)


def _describe(name: str, group: Sequence[Target]) -> dict[str, str]:
    """Return which daemon it is, and the bytes of its devices, 0 where that is not known."""
    sizes = {target.name: _size(target) or 0 for target in group}
    return {"daemon": name, "sizes": " ".join(str(size) for size in sizes.values())}


def _size(target: Target) -> int | None:
    return (target.partition or target.accelerator).memory_bytes


def _place(target: Target) -> dict[str, str]:
    """Return where a MIG device is, as the step that makes it says."""
    part = target.partition
    if part is None:
        return {}
    return {
        "pciAddress": target.accelerator.pci_address,
        "profile": part.profile,
        "placement": str(part.placement),
    }


def _list_uuids(group: Sequence[Target]) -> list[str]:
    """Return the UUIDs of a daemon's devices, each once, as far as they exist."""
    found = ((target.partition or target.accelerator).uuid for target in group)
    return list(dict.fromkeys(uuid for uuid in found if uuid))


def _find_made(place: dict[str, str], done: Sequence[Step]) -> str:
    """Return the UUID of the MIG device that an earlier step of the claim has made at a place."""
    for step in done:
        if step.name == PARTITION and all(step.arguments[key] == place.get(key) for key in _PLACE):
            return step.facts.get("uuid", "")
    return ""


_PLACE: Final = ("pciAddress", "profile", "placement")


def _find_uuid(target: Target, done: Sequence[Step]) -> str:
    return (target.partition or target.accelerator).uuid or _find_made(_place(target), done)


def _plan_limits(name: str, group: Sequence[Target]) -> Iterator[Step]:
    """Yield a step for each share, or one for all GPUs that the claim has alone."""
    for each in [[target] for target in group] if name == group[0].name else [group]:
        sharings = [target.sharing for target in each if target.sharing]
        percentages = {sharing.active_thread_percentage for sharing in sharings}
        if len(percentages) > 1:
            allowed = "the same for all whole GPUs of a claim, which have one MPS daemon together"
            raise InvalidInput("activeThreadPercentage", sorted(map(str, percentages)), allowed)
        yield Step(
            name=MPS_LIMITS,
            arguments={
                **_describe(name, each),
                "owner": "-".join(filter(None, (each[0].claim, each[0].share_id))),
                "percentage": str(percentages.pop() or ALL),
                "memory": " ".join(str(sharing.pinned_memory_bytes or 0) for sharing in sharings),
            },
        )


def _check_limits(target: Target) -> None:
    """Refuse limits that the hardware cannot keep."""
    sharing = target.sharing
    limit = sharing.pinned_memory_bytes if sharing else None
    if sharing is None or (limit is None and sharing.active_thread_percentage is None):
        return
    capability = target.accelerator.compute_capability
    if capability is not None and tuple(int(part) for part in capability.split(".")) < _VOLTA:
        raise Unsupported(f"device {target.name}: MPS limits need compute capability 7.0, this one has {capability}")
    if limit is not None and (_size(target) is None or limit < MEBIBYTE):
        allowed = "none: the size of its memory is not known" if _size(target) is None else "at least 1Mi"
        raise InvalidInput(f"device {target.name}: pinnedMemoryLimit", limit, allowed)


def _read_limits(step: Step) -> Limits:
    memory = tuple(int(limit) or None for limit in step.arguments["memory"].split())
    return Limits(int(step.arguments["percentage"]), memory)


def _lower(sharing: Sharing, uuid: str) -> Iterator[str]:
    if sharing.active_thread_percentage is not None:
        yield f"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE={sharing.active_thread_percentage}"
    if sharing.pinned_memory_bytes is not None:
        yield f"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT={uuid}={sharing.pinned_memory_bytes // MEBIBYTE}M"


@contextlib.contextmanager
def _telling(step: Step) -> Iterator[None]:
    try:
        yield
    except StepFailed:
        raise
    except DriverError as error:
        raise StepFailed(step.name, str(error)) from error
    except OSError as error:
        raise StepFailed(step.name, f"{error.filename or 'the state folder'}: {error.strerror}") from error
