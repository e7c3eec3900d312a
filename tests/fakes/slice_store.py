"""Slices as the API server keeps them, as a value store without HTTP: for laws over many thousands of histories.

Enforces what matters to whoever plans writes: names from generateName, uid and resourceVersion preconditions, limits.
Can lack features, as a server whose gates are off drops fields without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from driver.core import limits
from driver.core.adopting import PARTITIONS, SHARES, TAINTS
from driver.core.slicing import SlicePlan
from driver.model.errors import Conflict, Rejected
from driver.model.slices import MAX_DEVICES, Device, DeviceCapacity, ResourceSlice

Report = Callable[[ResourceSlice, ResourceSlice], None]
Observe = Callable[[str, ResourceSlice, int], None]
"""Kind of event, the slice, the version of the change."""


class SliceStore:
    """One server's slices. `writes` counts what changed something."""

    def __init__(self, *, lacking: frozenset[str] = frozenset(), observe: Observe = lambda *_: None) -> None:
        self.slices: dict[str, ResourceSlice] = {}
        self.lacking = lacking
        self.writes = 0
        self._observe = observe
        self._version = 0

    @property
    def version(self) -> int:
        """The newest version."""
        return self._version

    def list(self) -> tuple[ResourceSlice, ...]:
        """All slices by name."""
        return tuple(self.slices[name] for name in sorted(self.slices))

    def apply(self, plan: SlicePlan, report: Report | None = None, *, stop_after: int | None = None) -> None:
        """Do what a plan says; the writer dies after `stop_after` writes."""
        steps: list[Callable[[], object]] = [partial(self.delete, each) for each in plan.delete]
        steps += [partial(self._write, self.update, each, report) for each in plan.update]
        steps += [partial(self._write, self.create, each, report) for each in plan.create]
        for step in steps[:stop_after]:
            step()

    def create(self, wanted: ResourceSlice) -> ResourceSlice:
        """POST."""
        version = self._next()
        name = f"{wanted.metadata.generate_name[:58]}{version:05d}"
        made = _rename(wanted, name=name, uid=f"uid-{version}", creation_timestamp=f"{version:09d}")
        return self._put(made, version)

    def update(self, wanted: ResourceSlice) -> ResourceSlice:
        """PATCH of spec and annotations."""
        known = self._find(wanted)
        merged = {**known.metadata.annotations, **wanted.metadata.annotations}
        revised = _rename(known, annotations=merged, owner_references=wanted.metadata.owner_references)
        return self._put(msgspec.structs.replace(revised, spec=wanted.spec), self._next())

    def delete(self, doomed: ResourceSlice) -> None:
        """DELETE with preconditions; gone already is fine."""
        if doomed.metadata.name in self.slices:
            self._find(doomed)
            self.remove(doomed.metadata.name)

    def remove(self, name: str) -> None:
        """Delete behind the owner's back."""
        gone = self.slices.pop(name)
        self._observe("DELETED", gone, self._next())

    def wipe(self) -> None:
        """Delete everything one by one, as a kubelet does when it starts."""
        for name in sorted(self.slices):
            self.remove(name)

    def tamper(self, name: str, devices: tuple[Device, ...]) -> None:
        """Change a slice's devices behind its owner's back."""
        known = self.slices[name]
        changed = msgspec.structs.replace(known, spec=msgspec.structs.replace(known.spec, devices=devices))
        self._put(changed, self._next())

    def _write(
        self, write: Callable[[ResourceSlice], ResourceSlice], wanted: ResourceSlice, report: Report | None
    ) -> None:
        stored = write(wanted)
        if report is not None:
            report(wanted, stored)

    def _find(self, wanted: ResourceSlice) -> ResourceSlice:
        known = self.slices.get(wanted.metadata.name)
        meta = wanted.metadata
        if known is None or (meta.uid, meta.resource_version) != (
            known.metadata.uid,
            known.metadata.resource_version,
        ):
            raise Conflict(f"slice {meta.name} changed")
        return known

    def _put(self, wanted: ResourceSlice, version: int) -> ResourceSlice:
        _check(wanted)
        spec = msgspec.structs.replace(
            wanted.spec,
            devices=tuple(map(self._drop, wanted.spec.devices)),
            shared_counters=() if PARTITIONS in self.lacking else wanted.spec.shared_counters,
        )
        stored = msgspec.structs.replace(_rename(wanted, resource_version=str(version)), spec=spec)
        kind = "MODIFIED" if stored.metadata.name in self.slices else "ADDED"
        self.slices[stored.metadata.name] = stored
        self._observe(kind, stored, version)
        return stored

    def _drop(self, device: Device) -> Device:
        if TAINTS in self.lacking:
            device = msgspec.structs.replace(device, taints=())
        if PARTITIONS in self.lacking:
            device = msgspec.structs.replace(device, consumes_counters=())
        if SHARES in self.lacking:
            capacity = {name: DeviceCapacity(value=each.value) for name, each in device.capacity.items()}
            device = msgspec.structs.replace(device, capacity=capacity, allow_multiple_allocations=False)
        return device

    def _next(self) -> int:
        self._version += 1
        self.writes += 1
        return self._version


def _rename(published: ResourceSlice, **changes: object) -> ResourceSlice:
    return msgspec.structs.replace(published, metadata=msgspec.structs.replace(published.metadata, **changes))


def _check(wanted: ResourceSlice) -> None:
    """Refuse what the API server would."""
    spec = wanted.spec
    limits.check_names(spec.driver, spec.node_name, spec.pool.name)
    special = any(device.taints or device.consumes_counters for device in spec.devices)
    if spec.devices and spec.shared_counters:
        raise Rejected("only one of `sharedCounters` or `devices` is allowed")
    if len(spec.devices) > (64 if special else MAX_DEVICES) or len(spec.shared_counters) > 8:
        raise Rejected("Too many")
    if len({device.name for device in spec.devices}) < len(spec.devices):
        raise Rejected("Duplicate value")
    if spec.pool.resource_slice_count < 1 or spec.pool.generation < 0:
        raise Rejected("must be greater than zero")
