"""The publisher over real HTTP: fast at first, stubborn when the server is away, calm against others."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from driver.core.adopting import TAINTS
from driver.core.fencing import Authority
from driver.core.settling import ANNOTATION, Instance
from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.watching import Pace
from driver.model.devices import Accelerator, Entry, Inventory, Snapshot
from driver.model.occurrences import (
    AuthorityPublished,
    DevicesWithheld,
    FieldsDropped,
    Occurrence,
    PublishFailed,
    SlicesPublished,
    WatchFailed,
)
from driver.model.slices import Device, DeviceAttribute, DeviceTaint
from driver.node.publisher import Publisher, Timing
from driver.node.publishing import Place
from tests.fakes.http_server import Handle, Reply, Request, status
from tests.fakes.slice_server import SliceServer
from tests.fakes.waiting import wait_until

DRIVER, NODE = "gpu.example.com", "node-1"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
QUICK = Timing(first_retry=0.01, longest_retry=0.05, watch=Pace(first_pause=0.01, longest_pause=0.05, steady=0.0))
BROKEN = (DeviceTaint(key="a.dev/broken", effect="NoSchedule"),)


def make_inventory(*devices: Device) -> Inventory:
    hardware = Accelerator("0000:00:00.0", 0, "GPU-0", "x", None, None, None, None, None, None)
    snapshot = Snapshot("simulated", None, None, None, (hardware,))
    return Inventory(snapshot, tuple(Entry(device, hardware, None) for device in devices), ())


def make(count: int, **fields: object) -> Inventory:
    return make_inventory(*(Device(name=f"gpu-{index}", **fields) for index in range(count)))  # type: ignore[arg-type]


class Plugin:
    """A publisher with an inventory that a test changes, and all that it told."""

    def __init__(
        self,
        server: SliceServer,
        inventory: Inventory | None,
        *,
        started: int = 0,
        timing: Timing = QUICK,
        authority: Authority = Authority.SCHEDULER,
    ) -> None:
        self.inventory = inventory
        self.told: list[Occurrence] = []
        self.client = Client(Access(server=server.url), timeout=5)
        place = Place(DRIVER, NODE, Instance(START + dt.timedelta(seconds=started), f"i{started}"), authority)
        self.publisher = Publisher(self.client, place, lambda: self.inventory, self.told.append, timing)

    def __enter__(self) -> Plugin:
        self.publisher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.stop()
        self.client.close()

    def set(self, inventory: Inventory | None) -> None:
        self.inventory = inventory
        self.publisher.wake()

    def published(self) -> list[SlicesPublished]:
        return [each for each in self.told if isinstance(each, SlicesPublished)]

    def failures(self) -> list[PublishFailed]:
        return [each for each in self.told if isinstance(each, PublishFailed)]

    def wait(self, count: int = 1) -> None:
        wait_until(lambda: len(self.published()) >= count, f"{count} publications; told: {self.told}")


@pytest.fixture
def server() -> Iterator[SliceServer]:
    with SliceServer() as made:
        yield made


def interfere(server: SliceServer, judge: Callable[[Request, Handle], Reply | None]) -> None:
    """Let a test decide about each request; it may pass it on."""
    original = server.server.handle
    server.server.handle = lambda request: judge(request, original)


def quiet(server: SliceServer, condition: Callable[[], bool] = lambda: True) -> None:
    """Wait until requests have stopped and the condition holds."""
    seen = [-1]

    def is_still() -> bool:
        before, seen[0] = seen[0], len(server.server.requests)
        threading.Event().wait(0.15)
        return before == len(server.server.requests) and condition()

    wait_until(is_still)


# The first time


def test_the_first_publication_takes_three_requests(server: SliceServer) -> None:
    with Plugin(server, make(8)) as plugin:
        assert plugin.publisher.published.wait(20)
    assert [each for each in server.log if each != "LIST"][:2] == ["GET node", "POST"]
    assert server.names() == [f"gpu-{index}" for index in range(8)]
    told = plugin.published()[0]
    assert (told.pool, told.generation, told.slices, told.devices, told.created) == (NODE, 1, 1, 8, 1)


def test_slices_are_owned_by_the_node_and_say_who_wrote_them(server: SliceServer) -> None:
    with Plugin(server, make(1)) as plugin:
        plugin.wait()
    meta = server.read()[0].metadata
    owner = meta.owner_references[0]
    assert (owner.kind, owner.name, owner.uid, owner.controller) == ("Node", NODE, "node-uid-1", True)
    assert meta.annotations[ANNOTATION] == "2026-01-01T00:00:00.000+00:00/i0"


def test_what_an_earlier_instance_published_is_taken_over_without_a_write(server: SliceServer) -> None:
    with Plugin(server, make(130)) as first:
        first.wait()
    writes = server.store.writes
    with Plugin(server, make(130), started=1) as second:
        assert second.publisher.published.wait(20)
        quiet(server)
    assert server.store.writes == writes
    assert [(each.created, each.updated, each.deleted) for each in second.published()] == [(0, 0, 0)]


def test_a_node_without_devices_publishes_one_empty_slice(server: SliceServer) -> None:
    with Plugin(server, make(0)) as plugin:
        plugin.wait()
    assert [each.spec.devices for each in server.read()] == [()]


def test_an_inventory_that_is_not_known_yet_is_waited_for(server: SliceServer) -> None:
    with Plugin(server, None) as plugin:
        wait_until(lambda: "GET node" in server.log)
        quiet(server)
        assert server.read() == ()
        assert not plugin.publisher.published.is_set()
        plugin.set(make(2))
        plugin.wait()
    assert server.names() == ["gpu-0", "gpu-1"]


def test_hardware_that_stays_away_is_published_as_no_devices(server: SliceServer) -> None:
    timing = Timing(first_retry=0.01, absence=0.1)
    with Plugin(server, None, timing=timing) as plugin:
        plugin.wait()
    assert [each.spec.devices for each in server.read()] == [()]


def test_hardware_that_goes_away_is_withdrawn_at_once(server: SliceServer) -> None:
    with Plugin(server, make(2)) as plugin:
        plugin.wait()
        plugin.set(None)
        plugin.wait(2)
    assert server.names() == []


# Changes


def test_a_change_of_the_inventory_is_published_and_echoes_are_ignored(server: SliceServer) -> None:
    with Plugin(server, make(2)) as plugin:
        plugin.wait()
        plugin.set(make(3))
        plugin.wait(2)
        assert server.names() == ["gpu-0", "gpu-1", "gpu-2"]
        quiet(server)
        lists = server.log.count("LIST")
        plugin.set(make(3))
        quiet(server, lambda: server.log.count("LIST") > lists)
    assert len(plugin.published()) == 2
    assert server.store.writes == 2


def test_peer_defect_16_a_wake_up_during_a_round_is_another_round(server: SliceServer) -> None:
    released, entered = threading.Event(), threading.Event()

    def slow(request: Request, original: Handle) -> Reply | None:
        if request.method == "POST" and not entered.is_set():
            entered.set()
            released.wait(20)
        return original(request)

    interfere(server, slow)
    with Plugin(server, make(1)) as plugin:
        assert entered.wait(20)
        plugin.set(make(2))  # a needed publication …
        plugin.publisher.wake()  # … that a later wake-up must not cancel
        released.set()
        wait_until(lambda: server.names() == ["gpu-0", "gpu-1"])


def test_a_taint_reaches_the_slice_and_leaves_it(server: SliceServer) -> None:
    with Plugin(server, make(2)) as plugin:
        plugin.wait()
        plugin.set(make_inventory(Device(name="gpu-0", taints=BROKEN), Device(name="gpu-1")))
        plugin.wait(2)
        assert [len(device.taints) for device in server.read()[0].spec.devices] == [1, 0]
        plugin.set(make(2))
        plugin.wait(3)
    assert [len(device.taints) for device in server.read()[0].spec.devices] == [0, 0]


def test_a_device_over_a_limit_is_told_once_and_costs_no_other(server: SliceServer) -> None:
    crowded = {f"a.dev/x{index}": DeviceAttribute(int_=index) for index in range(33)}
    with Plugin(server, make_inventory(Device(name="a"), Device(name="b", attributes=crowded))) as plugin:
        plugin.wait()
        plugin.publisher.wake()
        quiet(server)
        plugin.set(make_inventory(Device(name="a")))
        wait_until(lambda: DevicesWithheld(NODE, ()) in plugin.told)
    withheld = [each for each in plugin.told if isinstance(each, DevicesWithheld)]
    assert [[name for name, _ in each.devices] for each in withheld] == [["b"], []]
    assert server.names() == ["a"]


# The server is away, slow or refuses


def test_a_server_that_is_away_at_start_is_tried_until_it_is_there(server: SliceServer) -> None:
    server.always = status(503, "starting")
    with Plugin(server, make(1)) as plugin:
        wait_until(lambda: len(plugin.failures()) >= 3)
        assert not plugin.publisher.published.is_set()
        server.always = None
        plugin.wait()
    assert server.names() == ["gpu-0"]
    assert plugin.failures()[0].reason == "Unavailable"
    assert "starting" in plugin.failures()[0].error


@pytest.mark.parametrize("count", range(1, 5))
def test_peer_defect_08_a_publication_that_fails_anywhere_is_retried(server: SliceServer, count: int) -> None:
    with Plugin(server, make(2)) as plugin:
        plugin.wait()
        wait_until(lambda: plugin.publisher._watch.has_synced)  # so that the fault does not hit its list
        with server.lock:
            server.faults.extend([*[None] * count, status(500, "no")])
        plugin.set(make(150))
        wait_until(lambda: len(server.names()) == 150)
    assert plugin.failures()


def test_writes_that_are_cut_off_are_completed(server: SliceServer) -> None:
    with Plugin(server, make(0)) as plugin:
        plugin.wait()
        cut = iter([False, True, False, True])

        def cut_some(request: Request, original: Handle) -> Reply | None:
            reply = original(request)
            return None if request.method in {"POST", "PATCH"} and next(cut, False) else reply

        interfere(server, cut_some)
        plugin.set(make(300))
        wait_until(lambda: server.names() == [f"gpu-{index}" for index in range(300)])
        quiet(server)
    pools = {each.spec.pool for each in server.read()}
    assert len(pools) == 1
    assert pools.pop().resource_slice_count == 3


def test_pauses_grow_are_jittered_and_keep_retry_after(server: SliceServer) -> None:
    server.always = status(500, "no")
    timing = Timing(first_retry=0.02, longest_retry=0.08, random=lambda: 1.0, watch=QUICK.watch)
    with Plugin(server, make(1), timing=timing) as plugin:
        wait_until(lambda: len(own_pauses(plugin)) >= 4)
        server.always = Reply(429, b"busy", {"Retry-After": "7"})
        wait_until(lambda: 7.0 in own_pauses(plugin))
    assert own_pauses(plugin)[:4] == [0.02, 0.04, 0.08, 0.08]


def own_pauses(plugin: Plugin) -> list[float]:
    """Pauses after rounds that failed."""
    return [each.retry_in for each in plugin.failures()]


def test_the_first_pause_is_short_again_after_a_success(server: SliceServer) -> None:
    timing = Timing(first_retry=0.02, longest_retry=10.0, random=lambda: 1.0, watch=QUICK.watch)
    with Plugin(server, make(1), timing=timing) as plugin:
        for expected in (1, 2):
            server.faults.append(status(500, "no"))
            plugin.set(make(expected + 1))
            wait_until(lambda wanted=expected + 1: len(server.names()) == wanted)  # type: ignore[misc]
            quiet(server)
    assert set(own_pauses(plugin)) <= {0.02}


def test_a_missing_permission_is_named(server: SliceServer) -> None:
    server.always = status(403, 'User "x" cannot create resource "resourceslices" in API group "resource.k8s.io"')
    with Plugin(server, make(1)) as plugin:
        wait_until(plugin.failures)
    told = plugin.failures()[0]
    assert told.reason == "Forbidden"
    assert 'cannot create resource "resourceslices"' in told.error


def test_a_watch_that_is_not_permitted_is_told_and_slices_are_published_all_the_same(server: SliceServer) -> None:
    server.watches_fail = True
    with Plugin(server, make(1)) as plugin:
        plugin.wait()
        wait_until(lambda: any(isinstance(each, WatchFailed) for each in plugin.told))
    assert plugin.failures() == []
    told = next(each for each in plugin.told if isinstance(each, WatchFailed))
    assert told.reason == "Forbidden"
    assert "cannot watch resourceslices" in told.error


def test_a_bug_is_reported_and_does_not_end_the_publisher(server: SliceServer) -> None:
    plugin = Plugin(server, make(1))
    broken = [True]

    def look() -> Inventory | None:
        if broken[0]:
            raise ZeroDivisionError("a bug")
        return make(1)

    plugin.publisher._inventory = look
    with plugin:
        wait_until(plugin.failures)
        broken[0] = False
        plugin.wait()
    assert (plugin.failures()[0].reason, plugin.failures()[0].error) == ("ZeroDivisionError", "a bug")


def test_a_refused_device_is_left_out_and_the_others_are_published(server: SliceServer) -> None:

    def refuse(request: Request, original: Handle) -> Reply | None:
        if request.method == "POST" and b'"gpu-1"' in request.body:
            return status(422, "is invalid: spec.devices[1]", causes=[{"field": "spec.devices[1].name"}])
        return original(request)

    interfere(server, refuse)
    with Plugin(server, make(3)) as plugin:
        plugin.wait()
    assert server.names() == ["gpu-0", "gpu-2"]
    withheld = [each for each in plugin.told if isinstance(each, DevicesWithheld)]
    assert withheld[-1].devices == (("gpu-1", "the API server refuses it: is invalid: spec.devices[1]"),)


# Features that are off


def test_an_unhealthy_device_is_never_published_untainted_on_a_server_without_taints() -> None:
    with SliceServer(lacking=frozenset({TAINTS})) as server:
        inventory = make_inventory(Device(name="bad", taints=BROKEN), Device(name="good"))
        with Plugin(server, inventory) as plugin:
            plugin.wait()
            quiet(server)
        assert server.names() == ["good"]
        assert server.log.count("dry POST") == 1
        assert server.log.count("POST") == 1
        assert all(b'"bad"' not in each.body for each in server.server.requests)
        dropped = [each for each in plugin.told if isinstance(each, FieldsDropped)]
        assert [each.features for each in dropped] == [(TAINTS,)]
        withheld = [each for each in plugin.told if isinstance(each, DevicesWithheld)]
        assert "turn on its feature DRADeviceTaints" in withheld[0].devices[0][1]


def test_a_feature_that_goes_off_later_is_noticed_and_does_not_loop(server: SliceServer) -> None:
    inventory = make_inventory(Device(name="bad", taints=BROKEN), Device(name="good"))
    with Plugin(server, inventory) as plugin:
        plugin.wait()
        assert server.names() == ["bad", "good"]
        with server.lock:
            server.store.lacking = frozenset({TAINTS})
        plugin.set(make_inventory(*(entry.device for entry in inventory.entries), Device(name="new")))
        wait_until(lambda: server.names() == ["good", "new"])
        quiet(server)
        writes = server.store.writes
        plugin.publisher.wake()
        quiet(server)
    assert server.store.writes == writes


def test_informing_taints_are_dropped_without_a_probe_or_a_loop() -> None:
    with SliceServer(lacking=frozenset({TAINTS})) as server:
        with Plugin(server, make(1, taints=(DeviceTaint(key="a", effect="None"),))) as plugin:
            plugin.wait()
            quiet(server)
        assert server.names() == ["gpu-0"]
        assert "dry POST" not in server.log
        assert server.store.writes == 1


def test_features_are_tried_again_after_a_while() -> None:
    with SliceServer(lacking=frozenset({TAINTS})) as server:
        timing = Timing(first_retry=0.01, resync=0.3, watch=QUICK.watch)
        with Plugin(server, make(1, taints=BROKEN), timing=timing) as plugin:
            plugin.wait()
            assert server.names() == []
            with server.lock:
                server.store.lacking = frozenset()
            wait_until(lambda: server.names() == ["gpu-0"])


# Who allocates


def authorities(plugin: Plugin) -> list[tuple[str, str]]:
    return [(each.wanted, each.authority) for each in plugin.told if isinstance(each, AuthorityPublished)]


def test_every_device_of_the_controller_is_fenced_from_the_first_write_on(server: SliceServer) -> None:
    inventory = make_inventory(Device(name="bad", taints=BROKEN), *(Device(name=f"gpu-{n}") for n in range(70)))
    with Plugin(server, inventory, authority=Authority.CONTROLLER) as plugin:
        plugin.wait()
        quiet(server)
    devices = [device for each in server.read() for device in each.spec.devices]
    assert [len(each.spec.devices) for each in server.read()] == [64, 7]
    assert all(device.taints[0].key == "accel-dra.dev/controller-only" for device in devices)
    assert [len(device.taints) for device in devices[:2]] == [2, 1]
    assert server.store.writes == 2
    assert authorities(plugin) == [("controller", "controller")]


def test_another_authority_after_a_restart_writes_the_pool_anew(server: SliceServer) -> None:
    fenced: list[bool] = []
    for started, authority in enumerate((Authority.SCHEDULER, Authority.CONTROLLER, Authority.SCHEDULER)):
        with Plugin(server, make(3), started=100 * started, authority=authority) as plugin:
            plugin.wait()
        fenced += [bool(device.taints) for device in server.read()[0].spec.devices]
    assert fenced == [False] * 3 + [True] * 3 + [False] * 3


def test_a_server_without_taints_leaves_the_pool_to_kube_scheduler_and_that_is_told() -> None:
    with SliceServer(lacking=frozenset({TAINTS})) as server:
        inventory = make_inventory(Device(name="bad", taints=BROKEN), Device(name="good"))
        with Plugin(server, inventory, authority=Authority.CONTROLLER) as plugin:
            plugin.wait()
            quiet(server)
        assert server.names() == ["good"]
        assert server.store.writes == 1
        assert authorities(plugin) == [("controller", "scheduler")]


def test_the_fence_is_raised_once_the_server_stores_taints() -> None:
    with SliceServer(lacking=frozenset({TAINTS})) as server:
        timing = Timing(first_retry=0.01, resync=0.3, watch=QUICK.watch)
        with Plugin(server, make(2), timing=timing, authority=Authority.CONTROLLER) as plugin:
            plugin.wait()
            assert [device.taints for device in server.read()[0].spec.devices] == [(), ()]
            with server.lock:
                server.store.lacking = frozenset()
            wait_until(lambda: authorities(plugin)[-1:] == [("controller", "controller")])
        assert all(len(device.taints) == 1 for device in server.read()[0].spec.devices)


# Others


def test_slices_that_the_kubelet_wipes_are_published_again_within_two_seconds(server: SliceServer) -> None:
    with Plugin(server, make(300)) as plugin:
        plugin.wait()
        quiet(server)
        for count in (2, 3):
            server.wipe()
            plugin.wait(count)
            assert len(server.names()) == 300
            assert len({each.spec.pool for each in server.read()}) == 1
            quiet(server)
    assert [each.created for each in plugin.published()] == [3, 3, 3]


def test_a_node_that_was_replaced_owns_the_slices_that_follow(server: SliceServer) -> None:
    with Plugin(server, make(1)) as plugin:
        plugin.wait()
        quiet(server)
        with server.lock:
            server.node_uid = "node-uid-2"
        server.wipe()
        plugin.wait(2)
    assert server.read()[0].metadata.owner_references[0].uid == "node-uid-2"


def test_what_a_stranger_changes_is_put_right(server: SliceServer) -> None:
    with Plugin(server, make(2)) as plugin:
        plugin.wait()
        quiet(server)
        with server.lock:
            server.store.tamper(server.read()[0].metadata.name, (Device(name="gpu-0"),))
        plugin.wait(2)
    assert server.names() == ["gpu-0", "gpu-1"]


def test_a_label_of_a_stranger_is_none_of_our_business(server: SliceServer) -> None:
    with Plugin(server, make(1)) as plugin:
        plugin.wait()
        quiet(server)
        writes, lists = server.store.writes, server.log.count("LIST")
        with server.lock:
            each = server.read()[0]
            labelled = msgspec.structs.replace(each.metadata, labels={"team": "a"})
            server.store._put(msgspec.structs.replace(each, metadata=labelled), server.store._next())
        wait_until(lambda: server.log.count("LIST") > lists)
        quiet(server)
    assert server.store.writes == writes + 1
    assert len(plugin.published()) == 1


def test_two_instances_that_agree_do_not_write_over_each_other(server: SliceServer) -> None:
    with Plugin(server, make(130)) as old, Plugin(server, make(130), started=5) as young:
        assert old.publisher.published.wait(20)
        assert young.publisher.published.wait(20)
        quiet(server, lambda: len(server.names()) == 130)
        writes = server.store.writes
        server.wipe()
        quiet(server, lambda: len(server.names()) == 130)
    assert len({each.spec.pool for each in server.read()}) == 1
    assert server.store.writes - writes <= 30


def test_two_versions_that_disagree_settle_on_what_the_younger_publishes(server: SliceServer) -> None:
    with Plugin(server, make(2)) as old:
        old.wait()
        with Plugin(server, make(3), started=5) as young:
            young.wait()
            quiet(server)
            assert server.names() == ["gpu-0", "gpu-1", "gpu-2"]
            writes = server.store.writes
            for _ in range(3):
                old.publisher.wake()
                quiet(server)
    assert server.store.writes == writes
    assert server.names() == ["gpu-0", "gpu-1", "gpu-2"]
    held = [each for each in old.failures() if each.reason == "HeldBack"]
    assert [each.retry_in for each in held] == [30.0]
    assert "/i5, which started after us" in held[0].error


def test_a_node_name_that_is_wrong_is_told(server: SliceServer) -> None:
    server.node = "somewhere-else"
    with Plugin(server, make(1)) as plugin:
        wait_until(lambda: any(each.reason == "NotFound" for each in plugin.failures()))
    told = next(each for each in plugin.failures() if each.reason == "NotFound")
    assert "the node name has to be that of this machine's Node object" in told.error


# The end


def test_it_stops_promptly_and_leaves_the_slices(server: SliceServer) -> None:
    with Plugin(server, make(2)) as plugin:
        plugin.wait()
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"publisher", "watch resourceslices"}
    assert server.names() == ["gpu-0", "gpu-1"]


def test_it_can_be_stopped_while_it_waits_for_a_retry(server: SliceServer) -> None:
    server.always = status(500, "no")
    timing = Timing(first_retry=60.0, watch=QUICK.watch)
    with Plugin(server, make(2), timing=timing) as plugin:
        wait_until(plugin.failures)
    assert not plugin.publisher._thread.is_alive()
