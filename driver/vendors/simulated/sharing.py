"""Sharing of simulated devices, as steps: compute mode, time-slice, MPS daemon, limits. Called by `vendor`.

It promises what `contract.Steps` does. Modes are files below the state root; the MPS daemon is a real process
(`mps_control.py`) that the driver runs. The whole devices of a claim have one daemon together, because a process can
speak with one daemon only; a partition, or a device of which claims have shares, has a daemon of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from driver.contract import Daemon, Runner, Target
from driver.model.devices import Accelerator
from driver.model.errors import InvalidInput, StepFailed
from driver.model.prepared import ContainerEdits, Mount, Step
from driver.model.sharing import Sharing, Strategy

from .mps_folder import ALL, MEBIBYTE, Folder, Limits

COMPUTE_MODE: Final = "compute-mode"
TIME_SLICE: Final = "time-slice"
MPS_DAEMON: Final = "mps-daemon"
MPS_LIMITS: Final = "mps-limits"
STEPS: Final = (COMPUTE_MODE, TIME_SLICE, MPS_DAEMON, MPS_LIMITS)
DEFAULT: Final = "Default"
EXCLUSIVE_PROCESS: Final = "ExclusiveProcess"
_PROGRAM: Final = Path(__file__).with_name("mps_control.py")
_MOUNT: Final = ("rw", "nosuid", "nodev", "bind")


class Sharer:
    """Runs the steps of sharing, and says what containers get of them."""

    def __init__(self, vendor: str, root: Path, runner: Runner) -> None:
        """`root`: the vendor's folder below the state root."""
        self._vendor = vendor
        self._root = root
        self._runner = runner

    def plan(self, targets: Sequence[Target]) -> tuple[Step, ...]:
        """Return the steps for those targets that are shared, each once. Raises `InvalidInput`."""
        steps: list[Step] = []
        for step in self._plan(targets):
            if not step.key or step.key not in [other.key for other in steps]:
                steps.append(step)
        return tuple(steps)

    def run(self, step: Step) -> Step:
        """Do a step. Raises `StepFailed`."""
        with _telling(step):
            if step.name == MPS_DAEMON:
                self._start(step)
            elif step.name == MPS_LIMITS:
                self._folder(step).keep(step.arguments["owner"], _read_limits(step))
                reason = self._folder(step).announce()
                if reason:
                    raise StepFailed(step.name, f"the daemon does not take the limits: {reason}")
            else:
                self._write_mode(step, step.arguments["value"])
        return step

    def undo(self, step: Step) -> None:
        """Undo a step. Raises `StepFailed`."""
        with _telling(step):
            if step.name == MPS_DAEMON:
                self._runner.stop(self._name(step.arguments["daemon"]), lambda: _quit(self._folder(step)))
                self._folder(step).remove()
            elif step.name == MPS_LIMITS:
                self._folder(step).forget(step.arguments["owner"])
                self._folder(step).announce()  # one that does not answer is told when it is started again
            elif self._read_mode(step.name, step.arguments["uuid"]) == step.arguments["value"]:
                self._write_mode(step, step.facts["before"])

    def edit(self, target: Target) -> ContainerEdits:
        """Return how a container finds the daemon of a device; for one that others may use, also its limits."""
        if not _uses_mps(target):
            return ContainerEdits()
        name, prefix = name_group(target), self._vendor.upper().replace("-", "_")
        pipe = f"/tmp/{self._vendor}-mps"  # noqa: S108 - in the container
        env = [f"{prefix}_MPS_PIPE_DIRECTORY={pipe}"]
        if name == target.name and target.sharing:
            env += _lower(prefix, target.sharing)
        mount = Mount(host_path=str(self._root / "mps" / name / "pipe"), container_path=pipe, options=_MOUNT)
        return ContainerEdits(env=tuple(env), mounts=(mount,))

    def _plan(self, targets: Sequence[Target]) -> Iterator[Step]:
        for target in targets:
            if target.sharing and target.partition is None and not target.admin_access:
                yield from self._plan_modes(target.accelerator, target.sharing)
        for name, group in _group(targets).items():
            yield Step(name=MPS_DAEMON, key=f"{MPS_DAEMON}/{name}", arguments=_describe(name, group), upkeep=True)
            yield from _plan_limits(name, group)

    def _plan_modes(self, gpu: Accelerator, sharing: Sharing) -> Iterator[Step]:
        if sharing.strategy is not Strategy.EXCLUSIVE:
            mode = EXCLUSIVE_PROCESS if sharing.strategy is Strategy.MPS else DEFAULT
            yield self._plan_mode(COMPUTE_MODE, gpu.uuid, mode)
        if sharing.interval is not None:
            yield self._plan_mode(TIME_SLICE, gpu.uuid, sharing.interval.value)

    def _plan_mode(self, name: str, uuid: str, value: str) -> Step:
        facts = {"before": self._read_mode(name, uuid)}
        return Step(name=name, key=f"{name}/{uuid}", arguments={"uuid": uuid, "value": value}, facts=facts)

    def _read_mode(self, name: str, uuid: str) -> str:
        try:
            return (self._root / name / uuid).read_text()
        except OSError:
            return DEFAULT

    def _write_mode(self, step: Step, value: str) -> None:
        path = self._root / step.name / step.arguments["uuid"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if value == DEFAULT:
            path.unlink(missing_ok=True)
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(value)
            temporary.replace(path)

    def _start(self, step: Step) -> None:
        folder = self._folder(step)
        folder.make()
        daemon = Daemon(
            name=self._name(step.arguments["daemon"]),
            command=(sys.executable, "-IS", str(_PROGRAM), str(folder.pipe), str(len(folder.sizes))),
            environment={},
            ready=folder.announce,
            end=lambda: _quit(folder),
        )
        self._runner.start(daemon)

    def _name(self, group: str) -> str:
        return f"{self._vendor}-mps-{group}"

    def _folder(self, step: Step) -> Folder:
        sizes = tuple(int(size) for size in step.arguments["sizes"].split())
        return Folder(self._root / "mps" / step.arguments["daemon"], sizes)


def name_group(target: Target) -> str:
    """Return what the daemon of a target is named after: its device, or its claim if that has all of the device."""
    alone = target.partition is None and not target.shared and target.claim
    return f"claim-{target.claim}" if alone else target.name


def _uses_mps(target: Target) -> bool:
    return target.sharing is not None and target.sharing.strategy is Strategy.MPS and not target.admin_access


def _group(targets: Sequence[Target]) -> dict[str, list[Target]]:
    groups: dict[str, list[Target]] = {}
    for target in targets:
        if _uses_mps(target):
            groups.setdefault(name_group(target), []).append(target)
    return groups


def _describe(name: str, group: Sequence[Target]) -> dict[str, str]:
    """Return which daemon it is, and the bytes of its devices, 0 where that is not known."""
    sizes = {target.name: (target.partition or target.accelerator).memory_bytes or 0 for target in group}
    return {"daemon": name, "sizes": " ".join(str(size) for size in sizes.values())}


def _plan_limits(name: str, group: Sequence[Target]) -> Iterator[Step]:
    """Yield a step for each share, or one for all devices that the claim has alone."""
    for each in [[target] for target in group] if name == group[0].name else [group]:
        sharings = [target.sharing for target in each if target.sharing]
        percentages = {sharing.active_thread_percentage for sharing in sharings}
        if len(percentages) > 1:
            allowed = "the same for all whole devices of a claim, which have one MPS daemon together"
            raise InvalidInput("activeThreadPercentage", sorted(map(str, percentages)), allowed)
        for target in each:
            _refuse_unknown_memory(target)
        yield Step(
            name=MPS_LIMITS,
            arguments={
                **_describe(name, each),
                "owner": "-".join(filter(None, (each[0].claim, each[0].share_id))),
                "percentage": str(percentages.pop() or ALL),
                "memory": " ".join(str(sharing.pinned_memory_bytes or 0) for sharing in sharings),
            },
        )


def _refuse_unknown_memory(target: Target) -> None:
    limit = target.sharing.pinned_memory_bytes if target.sharing else None
    size = (target.partition or target.accelerator).memory_bytes
    if limit is not None and (size is None or limit < MEBIBYTE):
        allowed = "none: the size of its memory is not known" if size is None else "at least 1Mi"
        raise InvalidInput(f"device {target.name}: pinnedMemoryLimit", limit, allowed)


def _read_limits(step: Step) -> Limits:
    memory = tuple(int(limit) or None for limit in step.arguments["memory"].split())
    return Limits(int(step.arguments["percentage"]), memory)


def _lower(prefix: str, sharing: Sharing) -> Iterator[str]:
    if sharing.active_thread_percentage is not None:
        yield f"{prefix}_MPS_ACTIVE_THREAD_PERCENTAGE={sharing.active_thread_percentage}"
    if sharing.pinned_memory_bytes is not None:
        yield f"{prefix}_MPS_PINNED_DEVICE_MEM_LIMIT=0={sharing.pinned_memory_bytes // MEBIBYTE}M"


def _quit(folder: Folder) -> None:
    folder.ask(["quit"])


@contextlib.contextmanager
def _telling(step: Step) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StepFailed(step.name, f"{error.filename or 'the state folder'}: {error.strerror}") from error
