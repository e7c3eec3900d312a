"""The publisher against the embedded API server, which speaks for the real one."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator

import pytest

from driver.core import inventory as inventories
from driver.core.offering import Mode, Offer
from driver.core.settling import Instance
from driver.kube import slices
from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.watching import Pace
from driver.model.devices import Accelerator, Entry, Inventory, Snapshot
from driver.model.occurrences import DevicesWithheld, Occurrence, SlicesPublished
from driver.model.slices import Device, DeviceCapacity, DeviceTaint
from driver.node.publisher import Publisher, Timing
from driver.node.publishing import Place
from driver.simulation.apiserver.gates import FeatureGates, gates_of
from driver.simulation.apiserver.server import ApiServer
from tests.fakes.hardware import snapshot
from tests.fakes.partitionable import carve, h100, own
from tests.fakes.waiting import wait_until

DRIVER, NODE = "gpu.example.com", "node-1"
QUICK = Timing(
    first_retry=0.02, longest_retry=0.1, watch=Pace(first_pause=0.02, longest_pause=0.1, steady=0.0, idle=10.0)
)


def make(count: int, **fields: object) -> Inventory:
    hardware = Accelerator("0000:00:00.0", 0, "GPU-0", "x", None, None, None, None, None, None)
    devices = (Device(name=f"gpu-{index}", **fields) for index in range(count))  # type: ignore[arg-type]
    snapshot = Snapshot("simulated", None, None, None, (hardware,))
    return Inventory(snapshot, tuple(Entry(device, hardware, None) for device in devices), ())


def add_node(server: ApiServer) -> None:
    server.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})


class Site:
    """A server, a publisher, and a client to look with."""

    def __init__(self, server: ApiServer, inventory: Inventory) -> None:
        self.inventory = inventory
        self.told: list[Occurrence] = []
        self.client = Client(Access(server=server.url), timeout=5)
        place = Place(DRIVER, NODE, Instance(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "i"))
        self.publisher = Publisher(self.client, place, lambda: self.inventory, self.told.append, QUICK)

    def __enter__(self) -> Site:
        self.publisher.start()
        assert self.publisher.published.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.stop()
        self.client.close()

    def set(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.publisher.wake()

    def names(self) -> list[str]:
        return [device.name for each in slices.fetch(self.client, DRIVER, NODE) for device in each.spec.devices]

    def publications(self) -> int:
        return sum(isinstance(each, SlicesPublished) for each in self.told)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as made:
        add_node(made)
        yield made


def test_slices_come_change_and_stay(server: ApiServer) -> None:
    memory = {"accel-dra.dev/memory": DeviceCapacity(value="81920Mi")}
    with Site(server, make(200, capacity=memory)) as site:
        assert len(site.names()) == 200
        site.set(make(60, capacity={"accel-dra.dev/memory": DeviceCapacity(value="80Gi")}))
        wait_until(lambda: len(site.names()) == 60)
    after = Client(Access(server=server.url))
    stored = slices.fetch(after, DRIVER, NODE)
    after.close()
    assert [(len(each.spec.devices), each.spec.pool.resource_slice_count) for each in stored] == [(60, 1)]


def test_a_collection_delete_of_the_kubelet_is_answered(server: ApiServer) -> None:
    with Site(server, make(130)) as site:
        for _ in range(2):
            selector = f"spec.nodeName%3D{NODE}"
            site.client.delete(f"{slices.PATH}?fieldSelector={selector}")
            wait_until(lambda: len(site.names()) == 130)


def test_taints_with_the_servers_time_do_not_lead_to_writes(server: ApiServer) -> None:
    taint = DeviceTaint(key="a.dev/broken", effect="NoSchedule")
    with Site(server, make(2, taints=(taint,))) as site:
        assert len(site.names()) == 2
        before = [each.metadata.resource_version for each in slices.fetch(site.client, DRIVER, NODE)]
        site.publisher.wake()
        site.set(make(2, taints=(taint,)))
        wait_until(lambda: site.publisher._due is not None and not site.publisher._heard)
        assert [each.metadata.resource_version for each in slices.fetch(site.client, DRIVER, NODE)] == before


def divide(*owned: tuple[str, int]) -> Inventory:
    """Return two H100 in dynamic mode; these partitions of the first exist and are ours."""
    first = carve(h100("0000:01:00.0"), *owned) if owned else h100("0000:01:00.0")
    offer = Offer(Mode.DYNAMIC, owned=own(first, *owned))
    return inventories.build(snapshot(first, h100("0000:02:00.0")), None, offer)


WHOLES = ["gpu-0000-01-00-0", "gpu-0000-02-00-0"]


def test_counter_sets_are_published_before_the_devices_that_draw_from_them(server: ApiServer) -> None:
    with Site(server, divide()) as site:
        stored = slices.fetch(site.client, DRIVER, NODE)
        assert [len(each.spec.shared_counters) for each in stored] == [2, 0]
        assert [len(each.spec.devices) for each in stored] == [0, 52]
        assert {each.spec.pool.generation for each in stored} == {1}
        assert {each.spec.pool.resource_slice_count for each in stored} == {2}
        before = [each.metadata.resource_version for each in stored]
        site.set(divide(("2g.20gb", 2), ("1g.10gb", 6)))
        wait_until(lambda: site.publisher._due is not None and not site.publisher._heard)
        stored = slices.fetch(site.client, DRIVER, NODE)
        assert [each.metadata.resource_version for each in stored] == before, "partitions of ours change no slice"


@pytest.mark.parametrize(
    "gates",
    [
        FeatureGates(partitionable_devices=False),
        gates_of(35),
        gates_of(34),
        # 1.34 has the feature as well, and another layout: counters and devices in one slice.
        dataclasses.replace(gates_of(34), partitionable_devices=True),
    ],
    ids=["1.36 without", "1.35", "1.34", "1.34 with its own layout"],
)
def test_without_counters_whole_devices_stay_and_nothing_is_written_in_vain(gates: FeatureGates) -> None:
    with ApiServer(gates=gates) as server:
        add_node(server)
        with Site(server, divide()) as site:
            assert site.names() == WHOLES
            stored = slices.fetch(site.client, DRIVER, NODE)
            assert [each.spec.pool.generation for each in stored] == [1], "one write, and no second thoughts"
            (withheld,) = [each.devices for each in site.told if isinstance(each, DevicesWithheld)]
            assert len(withheld) == 50
            (reason,) = {reason for _, reason in withheld}
            assert reason.endswith("from 1.35 on: turn on its feature DRAPartitionableDevices")
            before = [each.metadata.resource_version for each in stored]
            publications = site.publications()
            site.publisher.wake()
            wait_until(lambda: site.publisher._due is not None and not site.publisher._heard)
            assert [each.metadata.resource_version for each in slices.fetch(site.client, DRIVER, NODE)] == before
            assert site.publications() == publications
            site.set(divide(("2g.20gb", 2)))
            wait_until(lambda: site.names() == WHOLES[1:])  # claims have a part of the first: it must not be allocated
            site.set(divide())
            wait_until(lambda: site.names() == WHOLES)


def test_a_server_that_comes_back_empty_gets_its_slices_again() -> None:
    with ApiServer() as first:
        add_node(first)
        site = Site(first, make(3))
        site.publisher.start()
        assert site.publisher.published.wait(20)
        port = int(first.url.rpartition(":")[2])
    with ApiServer(port=port) as second:
        add_node(second)
        try:
            # Nothing tells the publisher but its watch, which finds a server that never heard of its version.
            wait_until(lambda: site.names() == ["gpu-0", "gpu-1", "gpu-2"])
        finally:
            site.__exit__()
