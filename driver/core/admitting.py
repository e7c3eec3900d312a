"""Whether a claim can have a device beside what other claims hold of the same accelerator: the last line of defence.

Called by `preparing`, by the metric and by `accel-dra inventory`. The rules are those that kube-scheduler sees: which
uses exclude each other stands in the table of `states`, which partitions have room beside each other in the counters of
the inventory. So whatever was allocated by the published slices is admitted, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from driver.core import counting, naming, passthrough, shares, states
from driver.core.counting import Amounts
from driver.core.health import HealthState, find_severity
from driver.core.states import State, Use
from driver.model import vocabulary
from driver.model.devices import Entry, Inventory
from driver.model.health import Severity
from driver.model.prepared import PreparedDevice
from driver.model.slices import CounterSet


@dataclass(frozen=True, slots=True)
class Wanted:
    """One device, or one share of it, that a claim was given."""

    entry: Entry
    share_id: str | None = None
    consumed: Mapping[str, str] = field(default_factory=dict)
    """What a share takes of the device; nothing where that is not known (a record that could not be read)."""


def find_rival(wanted: Wanted, held: Iterable[PreparedDevice], inventory: Inventory) -> PreparedDevice | None:
    """Return what another claim holds and what cannot be had beside it; None if `wanted` can be had.

    `held` is what all other claims hold. Admin access holds nothing.
    """
    address = wanted.entry.accelerator.pci_address
    there = [each for each in held if not each.admin_access and naming.is_at(each.device, address)]
    if not there:
        return None
    entries = {entry.name: entry for entry in inventory.entries if entry.accelerator.pci_address == address}
    state = states.find_state(_find_use(each, address, entries) for each in there)
    if not states.admits(state, _classify(wanted)):
        return next((each for each in there if each.device == wanted.entry.name), there[0])
    same = [each for each in there if each.device == wanted.entry.name]
    others = [each for each in there if each.device != wanted.entry.name]
    twice = next((each for each in same if not _is_other_share(each, wanted)), None)
    return twice or _find_crowd(wanted, others, entries, inventory.counter_sets)


def survey(inventory: Inventory, held: Iterable[PreparedDevice], health: HealthState | None = None) -> dict[str, State]:
    """Return the state of each accelerator, by the name of its whole device."""
    there = [each for each in held if not each.admin_access]
    entries = {entry.name: entry for entry in inventory.entries}
    found: dict[str, State] = {}
    for accelerator in inventory.snapshot.accelerators:
        address = accelerator.pci_address
        uses = [_find_use(each, address, entries) for each in there if naming.is_at(each.device, address)]
        ill = health is not None and find_severity(health, address, None) is Severity.UNHEALTHY
        found[naming.name_accelerator(accelerator)] = states.find_state(uses, is_failing=ill)
    return found


def classify(entry: Entry) -> Use:
    """Return what a claim has that is given this device alone."""
    if entry.partition is not None:
        return Use.PARTITION
    return Use.PASSTHROUGH if passthrough.is_twin(entry.device) else Use.WHOLE


def _classify(wanted: Wanted) -> Use:
    """Return the use. A share that leaves no room for another one is the whole device."""
    use = classify(wanted.entry)
    if use is not Use.WHOLE or wanted.share_id is None:
        return use
    is_alone = wanted.consumed and not shares.leaves_room(wanted.entry.device, wanted.consumed)
    return Use.WHOLE if is_alone else Use.SHARE


def _find_use(held: PreparedDevice, address: str, entries: Mapping[str, Entry]) -> Use:
    """Return the use of a held device. If it is not offered any more, its name tells what it was a part of."""
    entry = entries.get(held.device)
    if entry is not None:
        return _classify(Wanted(entry, held.share_id, held.consumed_capacity))
    if held.device.startswith(f"{vocabulary.TYPE_VFIO}-"):
        return Use.PASSTHROUGH
    if held.device.endswith(f"-{naming.slug(address)}"):
        return Use.WHOLE if held.share_id is None else Use.SHARE
    return Use.PARTITION


def _is_other_share(held: PreparedDevice, wanted: Wanted) -> bool:
    return None not in (held.share_id, wanted.share_id) and held.share_id != wanted.share_id


def _find_crowd(
    wanted: Wanted, others: Sequence[PreparedDevice], entries: Mapping[str, Entry], counter_sets: Iterable[CounterSet]
) -> PreparedDevice | None:
    """Return a held partition that takes what is missing for another one; shares of one device take it once."""
    for name, own in _read_draws(wanted.entry):
        left = next(counting.read(made.counters) for made in counter_sets if made.name == name)
        for each in {each.device: each for each in others}.values():
            entry = entries.get(each.device)
            left = counting.subtract(left, dict(_read_draws(entry)).get(name, {}) if entry else {})
            if not counting.fits(own, left):
                return each
    return None


def _read_draws(entry: Entry) -> Iterator[tuple[str, Amounts]]:
    for draw in entry.device.consumes_counters:
        yield draw.counter_set, counting.read(draw.counters)
