"""One round of publishing: make the API server hold the slices of this node's devices.

Called by the publisher's worker, one round at a time. Level-triggered: every round reads what is published, plans the
whole difference and applies it, whatever woke it. Reads fresh from the API server, so that it never plans on what it
wrote itself a moment ago. Must not wait or retry: it says when the next round is due.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from driver.core import adopting, fencing, settling, slicing
from driver.core.adopting import Memory
from driver.core.fencing import Authority
from driver.core.settling import Instance, Settling
from driver.core.slicing import Identity, Layout, SlicePlan, Withheld
from driver.kube.slices import Refused, Written
from driver.kube.watching import Change, What
from driver.model.devices import Inventory
from driver.model.occurrences import (
    AuthorityPublished,
    DevicesWithheld,
    Emit,
    FieldsDropped,
    PublishFailed,
    SlicesPublished,
)
from driver.model.slices import CounterSet, Device, ResourceSlice

_AGAIN: Final = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """For which driver and node we publish, which run of the plugin we are, and who shall allocate the devices."""

    driver: str
    node: str
    instance: Instance
    authority: Authority = Authority.SCHEDULER


@dataclass(frozen=True, slots=True)
class Stock:
    """What is to be published."""

    devices: tuple[Device, ...] = ()
    counter_sets: tuple[CounterSet, ...] = ()
    engaged: frozenset[str] = frozenset()
    """Names of whole devices of which claims have a part, or which a virtual machine has."""


def take_stock(inventory: Inventory) -> Stock:
    """Return what of an inventory is published."""
    devices = tuple(entry.device for entry in inventory.entries)
    return Stock(devices, inventory.counter_sets, inventory.engaged)


class SliceApi(Protocol):
    """What a round needs of the API server, for one driver on one node. Raises `driver.model.errors`."""

    def fetch(self) -> tuple[ResourceSlice, ...]:
        """Return the slices as they are now."""

    def fetch_node_uid(self) -> str:
        """Return the uid of the Node object, which owns the slices."""

    def apply(self, plan: SlicePlan, report: Callable[[Written], None]) -> None:
        """Write what the plan says. Raises `Refused` if one device is to blame, `Conflict` if a slice changed."""

    def rehearse(self, wanted: ResourceSlice) -> ResourceSlice | None:
        """Return what the server would store, or None if it would refuse."""


class Rounds:
    """Publishes devices, and remembers between rounds what was learnt of the server and of others."""

    def __init__(self, api: SliceApi, place: Place, emit: Emit, clock: Callable[[], float]) -> None:
        self._api = api
        self._place = place
        self._emit = emit
        self._clock = clock
        self._node_uid = ""
        self._memory = Memory()
        self._settling = Settling()
        self._known: dict[str, str] = {}
        self._doomed: set[str] = set()
        """UIDs of slices that we deleted in the last round that deleted any."""
        self._withheld: Withheld = ()
        self._losses: set[adopting.Loss] = set()
        self._reported = False
        self._authority: Authority | None = None

    def warm_up(self) -> None:
        """Do what the first round needs and does not depend on devices: connect, read the Node."""
        self._identify()

    def publish(self, stock: Stock, *, provoked: bool = False) -> float | None:
        """Publish; return the seconds until the next round has to follow, or None if all is well.

        `provoked`: the round answers to a change by others. Raises what the API server's answers mean.
        """
        started = self._clock()
        devices = fencing.fence(stock.devices, self._place.authority)
        identity = self._identify()
        self._probe(identity, devices)
        published = self._api.fetch()
        self._known = {each.metadata.uid: each.metadata.resource_version for each in published}
        laid_out = self._lay_out(devices, stock)
        plan = slicing.plan(identity, laid_out.contents, published)
        if plan.is_empty:
            self._settling = settling.release(self._settling)
            self._finish(plan, laid_out, started)
            return None
        wait = self._hold_back(plan, published)
        if wait:
            return wait
        if provoked:
            self._settling = settling.note_reaction(self._settling, self._clock())
        return self._write(plan, laid_out, started)

    def is_news(self, change: Change[ResourceSlice]) -> bool:
        """Tell whether a change was made by others: not the echo of what we read or wrote."""
        meta = change.object.metadata
        if change.what is What.DELETED:  # perhaps of one that was just made, of which we have not heard back yet
            return meta.uid not in self._doomed
        return self._known.get(meta.uid) != meta.resource_version

    def delay_reaction(self) -> float:
        """Return how many seconds to wait before answering to a change by others."""
        return settling.delay_reaction(self._settling, self._clock())

    def forget_node(self) -> None:
        """Read the Node again: it may have been replaced, and then whatever its predecessor owns is deleted."""
        self._node_uid = ""

    def forget_server(self) -> None:
        """Try again what the server did not take: its features may have been turned on."""
        self._memory = Memory()
        self._losses.clear()

    def _identify(self) -> Identity:
        place = self._place
        if not self._node_uid:
            self._node_uid = self._api.fetch_node_uid()
        annotations = {settling.ANNOTATION: str(place.instance)}
        return Identity(place.driver, place.node, self._node_uid, pool=place.node, annotations=annotations)

    def _probe(self, identity: Identity, devices: Sequence[Device]) -> None:
        """Ask for the features that devices depend on, before anything is published without them."""
        known = self._memory.present | self._memory.missing
        for feature in sorted(adopting.find_needed(devices) - known):
            answer = self._api.rehearse(adopting.make_probe(identity, feature))
            self._memory = adopting.read_probe(self._memory, feature, answer)
            if feature == adopting.PARTITIONS and feature in self._memory.present:
                answer = self._api.rehearse(adopting.make_old_probe(identity))
                self._memory = adopting.read_old_probe(self._memory, answer)
            if feature in self._memory.missing:
                loss = adopting.Loss(adopting.FIELDS[feature], (feature,))
                self._report_loss("dry run", loss)

    def _lay_out(self, devices: Sequence[Device], stock: Stock) -> Layout:
        offer = adopting.adapt(self._memory, devices, stock.counter_sets, stock.engaged)
        laid_out = slicing.layout(offer.devices, offer.counter_sets)
        withheld = offer.withheld + laid_out.withheld
        if withheld != self._withheld:
            self._withheld = withheld
            self._emit(DevicesWithheld(self._place.node, withheld))
        return laid_out

    def _hold_back(self, plan: SlicePlan, published: Sequence[ResourceSlice]) -> float:
        touched = {each.metadata.uid for each in (*plan.update, *plan.delete)}
        overwritten = [each for each in published if each.metadata.uid in touched]
        younger = settling.find_younger(self._place.instance, overwritten)
        was_holding = self._settling.held_until is not None
        self._settling, wait = settling.hold_back(self._settling, younger, self._clock())
        if wait and not was_holding:
            text = f"instance {younger}, which started after us, publishes something else; it goes first"
            self._emit(PublishFailed("HeldBack", text, wait))
        return wait

    def _write(self, plan: SlicePlan, laid_out: Layout, started: float) -> float | None:
        before = self._memory
        if plan.delete:
            self._doomed = {doomed.metadata.uid for doomed in plan.delete}
        for uid in self._doomed:
            self._known.pop(uid, None)
        try:
            self._api.apply(plan, self._learn)
        except Refused as error:
            self._memory = adopting.refuse(self._memory, error.device, str(error))
            return _AGAIN
        self._finish(plan, laid_out, started)
        return _AGAIN if self._memory.missing != before.missing else None

    def _learn(self, written: Written) -> None:
        stored = written.stored
        self._known[stored.metadata.uid] = stored.metadata.resource_version
        self._memory, loss = adopting.learn(self._memory, written.sent.spec, stored.spec)
        if loss is not None:
            self._report_loss(stored.metadata.name, loss)

    def _report_loss(self, name: str, loss: adopting.Loss) -> None:
        if loss not in self._losses:
            self._losses.add(loss)
            self._emit(FieldsDropped(self._place.node, name, loss.fields, loss.features))

    def _finish(self, plan: SlicePlan, laid_out: Layout, started: float) -> None:
        """Tell that the server holds what we want, if that is news."""
        self._tell_authority()
        if plan.is_empty and self._reported:
            return
        self._reported = True
        self._emit(
            SlicesPublished(
                pool=self._place.node,
                generation=plan.generation,
                slices=len(laid_out.contents),
                devices=len(laid_out.devices),
                created=len(plan.create),
                updated=len(plan.update),
                deleted=len(plan.delete),
                seconds=self._clock() - started,
            )
        )

    def _tell_authority(self) -> None:
        """Tell who allocates our devices: the server may not store the fence that keeps kube-scheduler away."""
        wanted = self._place.authority
        authority = Authority.SCHEDULER if adopting.TAINTS in self._memory.missing else wanted
        if authority is not self._authority:
            self._authority = authority
            self._emit(AuthorityPublished(self._place.node, wanted.value, authority.value))
