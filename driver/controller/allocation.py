"""The devices as the rounds and the explanations see them: made anew when slices or classes have changed.

Called by `leading`, on its thread. This is the one place where the controller meets the allocator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from driver.controller.caches import Caches
from driver.core import answering, policies
from driver.core.allocator import Snapshot
from driver.core.answering import Found
from driver.core.deciding import demands, fragmentation
from driver.core.deciding.fragmentation import Measure
from driver.core.deciding.handovers import Handovers
from driver.core.deciding.stocks import DeviceStock
from driver.core.deciding.world import Reason, Stock, Waiting, World
from driver.model.errors import InvalidInput
from driver.model.policies import Policy
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim
from driver.model.workloads import Workload

_FEW: Final = 1000
"""Policies of claims that are gone that may be kept."""


class Devices:
    """The devices of all pools."""

    def __init__(
        self, caches: Caches, driver: str, fence_delay: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`driver`: under whose name policies are written; `fence_delay`: see `core.deciding.handovers`."""
        self._caches = caches
        self._driver = driver
        self._clock = clock
        self._handovers = Handovers(fence_delay)
        self._version = -1
        self._slices: Sequence[PublishedSlice] = ()
        self._classes: dict[str, DeviceClass] = {}
        self._stock = DeviceStock((), {})
        self._all = Snapshot()
        self._policies: dict[str, Policy | InvalidInput | None] = {}
        self._explained: dict[str, float] = {}

    def refresh(self) -> None:
        """Take over slices and classes if they have changed."""
        version = self._caches.devices_version
        if version == self._version and not self._handovers.is_due(self._clock()):
            if len(self._policies) > 2 * self._caches.sizes.claims + _FEW:
                self._policies = {}
            return
        classes = self._caches.classes()
        same = classes == self._classes
        self._slices, self._classes = self._caches.slices(), classes
        self._stock.put_devices(self._handovers.leave_out(self._slices, self._clock()), classes)
        # Pools whose slices have not changed stay compiled.
        self._all = self._all.with_slices(self._slices) if same else Snapshot(self._slices, classes)
        self._policies = self._policies if same else {}
        self._version = version

    @property
    def again_in(self) -> float | None:
        """Seconds after which a pool becomes ours that is left alone for now; None if there is none."""
        return self._handovers.due_in(self._clock())

    @property
    def stock(self) -> Stock:
        """The devices of the pools that are ours."""
        return self._stock

    def measure(self, world: World) -> Measure:
        """Return what is left of our pools in one piece."""
        return fragmentation.measure(self._stock.slices, world.claims.values())

    def ask(self, claim: Claim) -> Policy | None:
        """Return the policy of a claim; see `demands.Ask`. Read once for each claim while the classes stay."""
        uid = claim.metadata.uid
        if uid not in self._policies:
            self._policies[uid] = self._read(claim)
        found = self._policies[uid]
        if isinstance(found, InvalidInput):
            raise found
        return found

    def _read(self, claim: Claim) -> Policy | InvalidInput | None:
        try:
            return policies.find(claim, self._classes, self._driver)
        except InvalidInput as error:
            return error.with_traceback(None)

    def explain_foreign(
        self,
        world: World,
        foreign: Iterable[tuple[Claim, Workload]],
        clock: Callable[[], float],
        deadline: float,
    ) -> Iterator[Waiting]:
        """Say of claims that kube-scheduler allocates why it does not, those of one pod together, until the deadline.

        Who was not reached is among the first the next time.
        """
        snapshot = self._all.with_claims(
            *(each for each in world.claims.values() if each.status.allocation is not None)
        )
        by_pod: dict[str, tuple[Workload, list[Claim]]] = {}
        for claim, pod in foreign:
            by_pod.setdefault(pod.metadata.uid, (pod, []))[1].append(claim)
        turn = sorted(by_pod, key=lambda uid: self._explained.get(uid, float("-inf")))
        self._explained = {uid: self._explained[uid] for uid in turn if uid in self._explained}
        known: dict[bytes, Found | str] = {}
        for uid in turn:
            if clock() >= deadline:
                return
            self._explained[uid] = clock()
            yield from _explain(world, snapshot, *by_pod[uid], known)


def _explain(
    world: World, snapshot: Snapshot, pod: Workload, claims: Sequence[Claim], known: dict[bytes, Found | str]
) -> Iterator[Waiting]:
    """`known`: what was found out for pods that ask for the same."""
    missing = demands.claims_of(pod, world)[1]
    found: Found | str = missing
    if not missing:
        wishes = _list_wishes(world, pod, claims)
        if wishes not in known:
            known[wishes] = answering.find_first_fit(world, snapshot, pod, claims)
        found = known[wishes]
    text, reason = _describe(found, missing, pod)
    for claim in claims:
        yield Waiting(claim, reason, text, pod)


def _list_wishes(world: World, pod: Workload, claims: Sequence[Claim]) -> bytes:
    """Return everything that decides where a pod and its claims can go, as text."""
    others = [each.status.allocation for each in demands.claims_of(pod, world)[0] if each.status.allocation]
    spec = msgspec.structs.replace(pod.spec, resource_claims=())
    return msgspec.json.encode((spec, others, [(each.metadata.namespace, each.spec) for each in claims]))


def _describe(found: Found | str, missing: str, pod: Workload) -> tuple[str, Reason]:
    if missing:
        return f"waiting for pod {pod.metadata.name}, which waits for {missing}", Reason.NO_CONSUMER
    if isinstance(found, str):
        return found, Reason.NO_DEVICES
    where = f"its devices are free on node {found.node}"
    return f"waiting for kube-scheduler to place pod {pod.metadata.name}; {where}", Reason.SCHEDULER
