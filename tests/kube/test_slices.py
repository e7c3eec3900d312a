"""Slices over HTTP: what is sent, with which preconditions, and that what belongs to others survives."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from driver.core import slicing
from driver.core.slicing import Identity, SlicePlan
from driver.kube import slices
from driver.kube.access import Access
from driver.kube.client import Client
from driver.kube.slices import Refused, Written
from driver.model.errors import Conflict, Rejected, Unavailable
from driver.model.slices import Device, DeviceAttribute, ResourceSlice
from driver.simulation.apiserver.server import ApiServer
from tests.fakes.http_server import HttpServer, Reply, Request, status

IDENTITY = Identity("gpu.example.com", "node-1", "node-uid", "node-1", {"a.dev/publisher": "me"})


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as made:
        yield made


@pytest.fixture
def client(server: ApiServer) -> Iterator[Client]:
    made = Client(Access(server=server.url))
    yield made
    made.close()


def make(count: int, **fields: object) -> list[Device]:
    return [Device(name=f"gpu-{index}", **fields) for index in range(count)]  # type: ignore[arg-type]


def plan(client: Client, devices: list[Device], identity: Identity = IDENTITY) -> SlicePlan:
    published = slices.fetch(client, identity.driver, identity.node)
    return slicing.plan(identity, slicing.layout(devices).contents, published)


def publish(client: Client, devices: list[Device], identity: Identity = IDENTITY) -> list[Written]:
    written: list[Written] = []
    slices.apply(client, plan(client, devices, identity), written.append)
    return written


def fetch(client: Client) -> tuple[ResourceSlice, ...]:
    return slices.fetch(client, IDENTITY.driver, IDENTITY.node)


def test_what_is_written_is_what_is_read(client: Client) -> None:
    written = publish(client, make(200, attributes={"a.dev/x": DeviceAttribute(int_=0)}))
    assert [each.stored.metadata.name[:30] for each in written] == [
        "00000-gpu.example.com-node-1-" + each.stored.metadata.name[29] for each in written[:1]
    ] + ["00001-gpu.example.com-node-1-" + each.stored.metadata.name[29] for each in written[1:]]
    assert [device.name for each in fetch(client) for device in each.spec.devices] == [
        f"gpu-{index}" for index in range(200)
    ]
    assert plan(client, make(200, attributes={"a.dev/x": DeviceAttribute(int_=0)})).is_empty
    assert all(each.stored.metadata.uid and each.stored.metadata.resource_version for each in written)


def test_only_slices_of_the_driver_and_node_are_read(client: Client) -> None:
    publish(client, make(1))
    publish(client, make(1), Identity("gpu.example.com", "node-2", "u", "node-2", {}))
    publish(client, make(1), Identity("other.example.com", "node-1", "u", "node-1", {}))
    assert len(fetch(client)) == 1


def test_pools_with_many_slices_are_read_in_pages() -> None:
    pages: list[Request] = []
    item = {"metadata": {"name": "x"}, "spec": {"driver": "d", "pool": {"name": "p"}, "future": {"field": 1}}}

    def answer(request: Request) -> Reply:
        pages.append(request)
        more = {"continue": "next"} if "continue" not in request.query else {}
        return Reply(body={"metadata": more, "items": [item] if more else None})

    with HttpServer(answer) as other:
        paged = Client(Access(server=other.url))
        assert len(slices.fetch(paged, "d", "n")) == 1
        paged.close()
    assert [each.query.get("continue") for each in pages] == [None, "next"]


def test_growing_shrinking_and_emptying_arrive(client: Client) -> None:
    for count in (1, 300, 129, 128, 0, 5):
        publish(client, make(count))
        found = fetch(client)
        assert sum(len(each.spec.devices) for each in found) == count
        assert {each.spec.pool.resource_slice_count for each in found} == {len(found)}
        assert len({each.spec.pool.generation for each in found}) == 1


def test_devices_can_give_way_to_counter_sets_in_a_slice_that_stays(client: Client) -> None:
    publish(client, make(1))
    written: list[dict[str, object]] = []

    def answer(request: Request) -> Reply:
        written.append(request.json)
        return Reply(body={"metadata": {"name": "x"}, "spec": {"driver": "d", "pool": {"name": "p"}}})

    emptied = plan(client, [])
    with HttpServer(answer) as other:
        spy = Client(Access(server=other.url))
        slices.apply(spy, emptied, lambda _: None)
        spy.close()
    spec = written[0]["spec"]
    assert isinstance(spec, dict)
    assert (spec["devices"], spec["sharedCounters"]) == (None, None)


def test_labels_annotations_and_fields_of_others_survive_an_update(client: Client) -> None:
    name = publish(client, make(1))[0].stored.metadata.name
    foreign = {"metadata": {"labels": {"team": "a"}, "annotations": {"b": "c"}, "finalizers": ["x.dev/keep"]}}
    client.patch(f"{slices.PATH}/{name}", json.dumps(foreign).encode())
    publish(client, make(2))
    stored = json.loads(client.get(f"{slices.PATH}/{name}"))["metadata"]
    assert stored["labels"] == {"team": "a"}
    assert stored["annotations"] == {"b": "c", "a.dev/publisher": "me"}
    assert stored["finalizers"] == ["x.dev/keep"]


def test_a_slice_that_changed_meanwhile_is_not_overwritten(client: Client) -> None:
    publish(client, make(1))
    late = plan(client, make(2))
    publish(client, make(3))
    with pytest.raises(Conflict):
        slices.apply(client, late, lambda _: None)
    assert len(fetch(client)[0].spec.devices) == 3


def test_a_slice_that_was_replaced_meanwhile_is_not_deleted(client: Client) -> None:
    publish(client, make(129))
    late = plan(client, make(1))
    doomed = late.delete[0].metadata.name
    client.patch(f"{slices.PATH}/{doomed}", b'{"metadata":{"labels":{"x":"y"}}}')
    with pytest.raises(Conflict):
        slices.apply(client, late, lambda _: None)
    assert len(fetch(client)) == 2


def test_a_slice_that_is_gone_counts_as_deleted(client: Client) -> None:
    publish(client, make(129))
    late = plan(client, make(1))
    client.delete(f"{slices.PATH}/{late.delete[0].metadata.name}")
    slices.apply(client, late, lambda _: None)
    assert [len(each.spec.devices) for each in fetch(client)] == [1]


def test_a_device_that_the_server_refuses_is_named() -> None:
    causes = [{"field": "spec.devices[1].name", "message": "Invalid value"}]
    with HttpServer(lambda _: status(422, 'ResourceSlice "x" is invalid', causes=causes)) as other:
        refusing = Client(Access(server=other.url))
        with pytest.raises(Refused, match="is invalid") as raised:
            slices.apply(refusing, slicing.plan(IDENTITY, slicing.layout(make(2)).contents, ()), lambda _: None)
        refusing.close()
    assert raised.value.device.name == "gpu-1"


@pytest.mark.parametrize("field", ["spec.driver", "spec.devices", "spec.devices[7].name", ""])
def test_a_refusal_that_blames_no_device_stays_what_it_is(field: str) -> None:
    with HttpServer(lambda _: status(422, "no", causes=[{"field": field}])) as other:
        refusing = Client(Access(server=other.url))
        with pytest.raises(Rejected) as raised:
            slices.apply(refusing, slicing.plan(IDENTITY, slicing.layout(make(2)).contents, ()), lambda _: None)
        refusing.close()
    assert not isinstance(raised.value, Refused)


def test_what_was_written_before_a_failure_was_reported() -> None:
    seen: list[Written] = []

    def answer(request: Request) -> Reply | None:
        if "00001" in request.body.decode():
            return None
        return Reply(201, {"metadata": {"name": "made", "uid": "u"}, **request.json})

    with HttpServer(answer) as other:
        failing = Client(Access(server=other.url))
        with pytest.raises(Unavailable):
            slices.apply(failing, slicing.plan(IDENTITY, slicing.layout(make(129)).contents, ()), seen.append)
        failing.close()
    assert len(seen) == 1


def test_a_rehearsal_stores_nothing(client: Client) -> None:
    wanted = slicing.plan(IDENTITY, slicing.layout(make(1)).contents, ()).create[0]
    answer = slices.rehearse(client, wanted)
    assert answer is not None
    assert answer.spec.devices == wanted.spec.devices
    assert fetch(client) == ()


def test_a_rehearsal_that_is_refused_says_none() -> None:
    wanted = slicing.plan(IDENTITY, slicing.layout(make(1)).contents, ()).create[0]
    with HttpServer(lambda _: status(422, "no")) as other:
        refusing = Client(Access(server=other.url))
        assert slices.rehearse(refusing, wanted) is None
        refusing.close()
    assert other.requests[0].query == {"dryRun": "All"}
