"""Which configuration rules which device of a claim, and what it says.

Called by `core.preparing` for the node and by `core.policies` for the controller. Position decides, as the API says:
class entries come first, claim entries later, and a later one wins, however specific an earlier one is. Configuration
for other drivers is none of our business and is not even parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from driver.core.configuring import documents, sharings
from driver.core.configuring.documents import TYPE_OF_KIND
from driver.core.configuring.fields import put, raise_all, split
from driver.core.configuring.sharings import DeviceConfig
from driver.model.claims import SOURCE_CLASS, AllocationConfiguration, AllocationResult, OpaqueConfiguration
from driver.model.errors import InvalidInput
from driver.model.sharing import Sharing

_KIND_OF_TYPE: Final = {type_: kind for kind, type_ in TYPE_OF_KIND.items()}


@dataclass(frozen=True, slots=True)
class Given:
    """One device that a claim was given: a result of our driver, and what kind of device that is."""

    result: AllocationResult
    type: str
    """Value of the attribute `accel-dra.dev/type`."""
    uuid: str | None = None
    """None: not known (yet), as of a partition that does not exist yet."""


def find_sharing(
    entries: Iterable[AllocationConfiguration], driver: str, given: Sequence[Given]
) -> tuple[Sharing | None, ...]:
    """Return how each of the devices is shared, in their order; None where no configuration says anything.

    `given` are all results of our driver, as they stand in the allocation. Raises `InvalidInput` with every fault of
    the configurations that count: one that is not of a kind of ours, one that names a request whose device is of
    another type, and the last one for each device unless it can be read. Devices with admin access are only looked at
    and never set up.
    """
    ours = [entry for entry in entries if entry.opaque is not None and entry.opaque.driver == driver]
    bench = _Bench(driver)
    for entry in ours:
        bench.identify(entry)
    seats = _seat(given)
    rulers = [_find_ruler(ours, driver, each, bench) for each in given]
    bench.refuse_lost_overrides(rulers, seats)
    raise_all(bench.faults.values())
    return tuple(
        bench.read(ruler).choose(seat, each.uuid) if ruler is not None else None
        for ruler, seat, each in zip(rulers, seats, given, strict=True)
    )


def applying(
    entries: Iterable[AllocationConfiguration], driver: str, result: AllocationResult
) -> tuple[AllocationConfiguration, ...]:
    """Return the entries of `driver` that apply to `result`, in order, repeated copies once (at their last place).

    An entry applies if it names no request, or the result's request exactly, or its main request when the result is
    for a subrequest (ResourceClaim API, DeviceClaimConfiguration.requests). Kubernetes 1.36 may list a claim's entry
    several times.
    """
    chosen: dict[tuple[str, bytes], AllocationConfiguration] = {}
    for entry in entries:
        if entry.opaque is not None and entry.opaque.driver == driver and _names(entry.requests, result):
            key = (entry.source, bytes(entry.opaque.parameters))
            chosen.pop(key, None)
            chosen[key] = entry
    return tuple(chosen.values())


@dataclass(slots=True)
class _Bench:
    """What was read and found in the configurations of one claim; each text is read once."""

    driver: str
    faults: dict[str, InvalidInput] = field(default_factory=dict)
    """By their text: the same configuration may hold for several devices."""
    kinds: dict[bytes, str] = field(default_factory=dict)
    configs: dict[bytes, DeviceConfig] = field(default_factory=dict)

    def identify(self, entry: AllocationConfiguration) -> str:
        """Return the kind of an entry, empty if it is none of ours."""
        text = _text(entry)
        if text not in self.kinds:
            try:
                self.kinds[text] = documents.identify(text)
            except InvalidInput:
                self.kinds[text] = ""
                self._note_all(entry)
        return self.kinds[text]

    def _note_all(self, entry: AllocationConfiguration) -> None:
        """Note everything that is wrong with an entry, as the webhook does."""
        try:
            documents.read(_text(entry))
        except InvalidInput as error:
            self.note(entry, error)

    def read(self, entry: AllocationConfiguration) -> DeviceConfig:
        """Return what an entry says; nothing if it cannot be read."""
        text = _text(entry)
        if text not in self.configs:
            content: object = None
            try:
                content = documents.read(text)
            except InvalidInput as error:
                self.note(entry, error)
            self.configs[text] = content if isinstance(content, DeviceConfig) else DeviceConfig(Sharing())
        return self.configs[text]

    def note(self, entry: AllocationConfiguration, error: InvalidInput) -> None:
        """Note faults of an entry, with their place."""
        source = "class" if entry.source == SOURCE_CLASS else "claim"
        for fault in split(put(error, f"configuration for {self.driver} of the {source}: parameters")):
            self.faults.setdefault(str(fault), fault)

    def refuse_lost_overrides(self, rulers: Sequence[AllocationConfiguration | None], seats: Sequence[int]) -> None:
        """Refuse overrides of a claim by an index that none of its devices has; a class is for claims of any size."""
        reached: dict[bytes, set[int]] = {}
        for ruler, seat in zip(rulers, seats, strict=True):
            if ruler is not None:
                reached.setdefault(_text(ruler), set()).add(seat)
        for ruler in rulers:
            if ruler is not None and ruler.source != SOURCE_CLASS:
                for fault in sharings.find_lost(self.read(ruler), reached[_text(ruler)]):
                    self.note(ruler, fault)


def _find_ruler(
    ours: Sequence[AllocationConfiguration], driver: str, given: Given, bench: _Bench
) -> AllocationConfiguration | None:
    """Return the entry that decides about sharing a device."""
    wanted = _KIND_OF_TYPE.get(given.type)
    ruler = None
    for entry in applying(ours, driver, given.result) if not given.result.admin_access else ():
        kind = bench.identify(entry)
        if kind == wanted:
            ruler = entry
        elif kind in TYPE_OF_KIND and entry.requests and entry.source != SOURCE_CLASS:
            # A class names no requests: those of its entries in an allocation are the scheduler's.
            allowed = f"{wanted or 'no sharing'} for a device of type {given.type}, which request "
            bench.note(entry, InvalidInput("kind", kind, f"{allowed}{given.result.request} was given"))
    return ruler


def _seat(given: Sequence[Given]) -> list[int]:
    """Return the place of each device among those of its main request."""
    counts: dict[str, int] = {}
    seats: list[int] = []
    for each in given:
        request = each.result.main_request
        seats.append(counts.get(request, 0))
        counts[request] = seats[-1] + 1
    return seats


def _names(requests: tuple[str, ...], result: AllocationResult) -> bool:
    return not requests or result.request in requests or result.main_request in requests


def _text(entry: AllocationConfiguration) -> bytes:
    opaque = entry.opaque or OpaqueConfiguration(driver="")
    return bytes(opaque.parameters)
