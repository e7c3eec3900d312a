"""Any history of two instances, a kubelet, a stranger and crashes ends in slices that are right and stay right.

The machine drives the publisher's own rounds over a store that keeps slices as the API server does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driver.core import shares
from driver.core.adopting import SHARES, TAINTS
from driver.core.settling import Instance
from driver.core.slicing import SlicePlan
from driver.kube.slices import Written
from driver.model.errors import Conflict, Unavailable
from driver.model.slices import (
    CapacityPolicy,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
    ResourceSlice,
)
from driver.model.vocabulary import SHARE, SHARING
from driver.node.publishing import Place, Rounds, Stock
from tests.fakes.slice_store import SliceStore

DRIVER, NODE = "gpu.example.com", "node-1"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
TAINT = DeviceTaint(key="a.dev/broken", effect="NoSchedule")


def make_devices(count: int, tainted: bool, shared: bool, repainted: set[int]) -> tuple[Device, ...]:
    """Devices of which some look different, so that a change may touch any of the slices."""
    devices = [
        Device(name=f"gpu-{index}", attributes={"look": DeviceAttribute(bool_=index in repainted)})
        for index in range(count)
    ]
    if tainted and devices:
        devices[0] = msgspec.structs.replace(devices[0], taints=(TAINT,))
    return tuple(map(share, devices) if shared else devices)


def share(device: Device) -> Device:
    """Return a device of which claims can have shares."""
    whole = DeviceCapacity(value="100", request_policy=CapacityPolicy(default="100"))
    attributes = {**device.attributes, SHARING: DeviceAttribute(string="MPS")}
    return msgspec.structs.replace(
        device, attributes=attributes, capacity={SHARE: whole}, allow_multiple_allocations=True
    )


inventories = st.builds(
    make_devices,
    st.sampled_from([0, 1, 64, 65, 128, 129, 257, 300]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([False, True]),
    st.sampled_from([set(), set(), {0}, {140}, {0, 140}]),
)


class StoreApi:
    """A round's view of the store; the next write can be made to fail after some steps."""

    def __init__(self, store: SliceStore) -> None:
        self.store = store
        self.dies_after: int | None = None

    def fetch(self) -> tuple[ResourceSlice, ...]:
        return self.store.list()

    def fetch_node_uid(self) -> str:
        return "node-uid"

    def apply(self, plan: SlicePlan, report: Callable[[Written], None]) -> None:
        stop, self.dies_after = self.dies_after, None
        self.store.apply(plan, lambda sent, stored: report(Written(sent, stored)), stop_after=stop)
        if stop is not None:
            raise Unavailable("the connection broke")

    def rehearse(self, wanted: ResourceSlice) -> ResourceSlice | None:
        rehearsal = SliceStore(lacking=self.store.lacking)
        return rehearsal.create(wanted)


class World(RuleBasedStateMachine):
    """Two instances of the plugin on one node; `now` is everybody's clock."""

    @initialize(lacking=st.sets(st.sampled_from([TAINTS, SHARES])), devices=inventories, upgrading=st.booleans())
    def begin(self, lacking: set[str], devices: tuple[Device, ...], upgrading: bool) -> None:
        self.now = 1000.0
        self.store = SliceStore(lacking=frozenset(lacking))
        self.api = StoreApi(self.store)
        self.wanted = {"old": devices, "young": devices}
        self.alive = {"old", "young"} if upgrading else {"old"}
        self.rounds = {"old": self._start(0), "young": self._start(1)}

    def _start(self, seconds: int) -> Rounds:
        instance = Instance(START + dt.timedelta(seconds=seconds), f"i{seconds}")
        return Rounds(self.api, Place(DRIVER, NODE, instance), lambda _: None, lambda: self.now)

    def _round(self, who: str) -> float | None:
        try:
            return self.rounds[who].publish(Stock(tuple(self.wanted[who])))
        except (Unavailable, Conflict):
            return 1.0

    @rule(who=st.sampled_from(["old", "young"]))
    def publish(self, who: str) -> None:
        if who in self.alive:
            self._round(who)

    @rule(who=st.sampled_from(["old", "young"]), after=st.integers(0, 3))
    def publish_and_break(self, who: str, after: int) -> None:
        if who in self.alive:
            self.api.dies_after = after
            self._round(who)
            self.api.dies_after = None

    @rule(devices=inventories, who=st.sampled_from(["old", "young"]))
    def see_other_devices(self, devices: tuple[Device, ...], who: str) -> None:
        """One version of the plugin sees something else than the other."""
        self.wanted[who] = devices

    @rule(devices=inventories, after=st.sampled_from([None, None, 0, 1, 2]))
    def change_hardware(self, devices: tuple[Device, ...], after: int | None) -> None:
        self.wanted = {"old": devices, "young": devices}
        for who in sorted(self.alive):
            self.api.dies_after = after
            self._round(who)
            self.api.dies_after = None

    @rule(who=st.sampled_from(["old", "young"]))
    def toggle_instance(self, who: str) -> None:
        """The second one starts, or one of two ends."""
        self.alive = self.alive - {who} if len(self.alive) == 2 else {"old", "young"}

    @rule()
    def wipe(self) -> None:
        self.store.wipe()

    @rule(data=st.data())
    def delete_one(self, data: st.DataObject) -> None:
        if self.store.slices:
            self.store.remove(data.draw(st.sampled_from(sorted(self.store.slices))))

    @rule(data=st.data(), devices=inventories)
    def tamper(self, data: st.DataObject, devices: tuple[Device, ...]) -> None:
        if self.store.slices and len(devices) <= 64:
            plain = tuple(msgspec.structs.replace(device, taints=()) for device in devices)
            self.store.tamper(data.draw(st.sampled_from(sorted(self.store.slices))), plain)

    @rule(seconds=st.sampled_from([0.5, 10.0, 31.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def no_device_is_offered_without_the_taint_it_must_have(self) -> None:
        if not hasattr(self, "store") or TAINTS not in self.store.lacking:
            return
        # Strangers may write what they like; whatever our rounds wrote last must be safe.
        for each in self.store.list():
            assert not any(device.taints for device in each.spec.devices)

    def teardown(self) -> None:
        """Let everybody run until nobody has anything to do: this must happen, and the result must be right."""
        if not hasattr(self, "store"):
            return
        for _ in range(40):
            before = self.store.writes
            waits = [self._round(who) for who in sorted(self.alive, reverse=True)]
            if self.store.writes == before and all(wait is None for wait in waits):
                break
            self.now += max((wait for wait in waits if wait), default=0.3)
            if self._is_settled():
                break
        self._check(self.wanted["young" if "young" in self.alive else "old"])

    def _is_settled(self) -> bool:
        """True once the youngest has what it wants, even if an older one waits for its turn."""
        return self._round("young" if "young" in self.alive else "old") is None and len(self.alive) > 1

    def _check(self, wanted: tuple[Device, ...]) -> None:
        published = self.store.list()
        expected = [device for device in wanted if not (device.taints and TAINTS in self.store.lacking)]
        if SHARES in self.store.lacking:
            expected = [shares.withdraw(device) for device in expected]
        assert [device for each in published for device in each.spec.devices] == expected
        pools = {each.spec.pool for each in published}
        assert len(pools) == 1
        assert pools.pop().resource_slice_count == len(published)
        assert [each.metadata.name[:6] for each in published] == [f"{index:05x}-" for index in range(len(published))]


World.TestCase.settings = settings(max_examples=150, stateful_step_count=20)
TestWorld = World.TestCase
