"""From devices to slices, and from published slices to the smallest change that is safe."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from driver.core import settling, slicing
from driver.core.settling import Instance
from driver.core.slicing import Content, Identity, SlicePlan
from driver.model.errors import InvalidInput
from driver.model.objects import OwnerReference
from driver.model.slices import (
    Counter,
    CounterConsumption,
    CounterSet,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
    ResourceSlice,
)
from tests.fakes.slice_store import SliceStore

ME = Instance(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "a")
IDENTITY = Identity("gpu.example.com", "node-1", "node-uid", "node-1", {settling.ANNOTATION: str(ME)})
TAINT = DeviceTaint(key="a.dev/broken", effect="NoSchedule")


def make(count: int, prefix: str = "gpu", **fields: object) -> list[Device]:
    return [Device(name=f"{prefix}-{index}", **fields) for index in range(count)]  # type: ignore[arg-type]


def make_sets(count: int) -> list[CounterSet]:
    return [CounterSet(name=f"set-{index}", counters={"slots": Counter(value="8")}) for index in range(count)]


def draw(index: int) -> tuple[CounterConsumption, ...]:
    return (CounterConsumption(counter_set=f"set-{index}", counters={"slots": Counter(value="1")}),)


def publish(store: SliceStore, devices: list[Device], sets: list[CounterSet] | None = None) -> SlicePlan:
    plan = slicing.plan(IDENTITY, slicing.layout(devices, sets or []).contents, store.list())
    store.apply(plan)
    return plan


def sizes(devices: list[Device], sets: list[CounterSet] | None = None) -> list[tuple[int, int]]:
    contents = slicing.layout(devices, sets or []).contents
    return [(len(content.shared_counters), len(content.devices)) for content in contents]


# Layout


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, [0]), (1, [1]), (128, [128]), (129, [128, 1]), (300, [128, 128, 44])],
)
def test_128_devices_fit_into_a_slice(count: int, expected: list[int]) -> None:
    assert sizes(make(count)) == [(0, each) for each in expected]


@pytest.mark.parametrize("special", [{"taints": (TAINT,)}, {"consumes_counters": draw(0)}])
def test_64_fit_once_anything_carries_taints_or_counters(special: dict[str, object]) -> None:
    devices = [*make(129), Device(name="special", **special)]  # type: ignore[arg-type]
    assert sizes(devices, make_sets(1))[1:] == [(0, 64), (0, 64), (0, 2)]


def test_a_node_without_devices_has_one_empty_slice() -> None:
    plan = publish(SliceStore(), [])
    assert [each.spec.devices for each in plan.create] == [()]
    assert plan.create[0].spec.pool.resource_slice_count == 1


def test_peer_defect_06_nine_partitionable_devices_need_a_second_slice_of_counter_sets() -> None:
    devices = [Device(name=f"part-{index}", consumes_counters=draw(index)) for index in range(9)]
    assert sizes(devices, make_sets(9)) == [(8, 0), (1, 0), (0, 9)]


def test_no_slice_has_both_counter_sets_and_devices_and_neither_key_is_sent_empty() -> None:
    plan = publish(SliceStore(), [Device(name="part", consumes_counters=draw(0))], make_sets(1))
    sent = [msgspec.to_builtins(each.spec) for each in plan.create]
    assert [sorted({"devices", "sharedCounters"} & spec.keys()) for spec in sent] == [["sharedCounters"], ["devices"]]


def test_splitting_keeps_the_order_of_devices() -> None:
    devices = make(300)
    devices.reverse()
    laid_out = slicing.layout(devices)
    assert list(laid_out.devices) == devices


def test_a_device_over_a_limit_is_left_out_with_its_reason_and_costs_no_other() -> None:
    attributes = {f"a.dev/x{index}": DeviceAttribute(int_=index) for index in range(33)}
    devices = [*make(1), Device(name="crowded", attributes=attributes), *make(1), *make(1, "last")]
    laid_out = slicing.layout(devices)
    assert [device.name for device in laid_out.devices] == ["gpu-0", "last-0"]
    assert dict(laid_out.withheld) == {
        "crowded": "33 attributes and capacities; at most 32 are allowed",
        "gpu-0": "the name gpu-0 is already taken",
    }


def test_devices_of_a_counter_set_that_is_left_out_are_left_out_too() -> None:
    bad = CounterSet(name="set-0", counters={})
    laid_out = slicing.layout([Device(name="part", consumes_counters=draw(0)), *make(1)], [bad])
    assert [name for name, _ in laid_out.withheld] == ["set-0", "part"]
    assert [device.name for device in laid_out.devices] == ["gpu-0"]


# What is created


def test_slices_are_created_as_schedulers_and_kubelets_expect_them() -> None:
    plan = publish(SliceStore(), make(129))
    first = plan.create[0]
    assert msgspec.json.encode(first.metadata) == msgspec.json.encode(
        {
            "generateName": "00000-gpu.example.com-node-1-",
            "annotations": {"accel-dra.dev/publisher": "2026-01-02T03:04:05.000+00:00/a"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-uid", "controller": True}
            ],
        }
    )
    assert [each.metadata.generate_name[:6] for each in plan.create] == ["00000-", "00001-"]
    assert {each.spec.node_name for each in plan.create} == {"node-1"}
    assert {(each.spec.pool.name, each.spec.pool.generation) for each in plan.create} == {("node-1", 1)}
    assert {each.spec.pool.resource_slice_count for each in plan.create} == {2}
    assert (first.api_version, first.kind) == ("resource.k8s.io/v1", "ResourceSlice")
    assert b'"resourceSliceCount":2' in msgspec.json.encode(first)


def test_a_single_slice_says_that_it_is_one() -> None:
    plan = publish(SliceStore(), make(1))
    assert b'"resourceSliceCount":1' in msgspec.json.encode(plan.create[0])


def test_the_same_input_gives_the_same_bytes() -> None:
    contents = slicing.layout(make(200), make_sets(9)).contents
    one, other = (msgspec.json.encode(slicing.plan(IDENTITY, contents, ()).create) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("field", "value"), [("driver", "GPU_1"), ("node", "Node"), ("pool", "a//b"), ("driver", "a" * 64), ("node", "")]
)
def test_names_the_server_would_refuse_are_told_at_once(field: str, value: str) -> None:
    names = {"driver": "d.example.com", "node": "n", "pool": "p", field: value}
    with pytest.raises(InvalidInput, match=field):
        slicing.plan(Identity(names["driver"], names["node"], "u", names["pool"], {}), [Content()], ())


# What is changed


def test_nothing_is_planned_when_nothing_differs() -> None:
    store = SliceStore()
    publish(store, make(200), make_sets(2))
    plan = publish(store, make(200), make_sets(2))
    assert plan.is_empty
    assert len(plan.keep) == 3


def test_quantities_compare_by_value_and_nothing_is_the_same_as_empty() -> None:
    store = SliceStore()
    publish(store, [Device(name="gpu", capacity={"memory": DeviceCapacity(value="1024Mi")})])
    assert publish(store, [Device(name="gpu", capacity={"memory": DeviceCapacity(value="1Gi")}, taints=())]).is_empty


def test_a_change_of_one_slice_alone_keeps_the_generation() -> None:
    store = SliceStore()
    publish(store, make(200))
    plan = publish(store, [Device(name="gpu-0", attributes={"x": DeviceAttribute(bool_=True)}), *make(200)[1:]])
    assert (len(plan.update), plan.generation, plan.create, plan.delete) == (1, 1, (), ())


def test_a_change_of_several_slices_raises_the_generation_of_all() -> None:
    store = SliceStore()
    publish(store, make(300))
    changed = make(300)
    changed[0], changed[299] = changed[299], changed[0]
    plan = publish(store, changed)
    assert plan.generation == 2
    assert {each.spec.pool.generation for each in store.list()} == {2}


def test_a_new_slice_raises_the_generation() -> None:
    store = SliceStore()
    publish(store, make(128))
    plan = publish(store, make(129))
    assert (len(plan.create), len(plan.update), plan.generation) == (1, 1, 2)
    assert {each.spec.pool.resource_slice_count for each in store.list()} == {2}


def test_a_slice_that_is_not_needed_any_more_is_deleted_and_the_count_corrected() -> None:
    store = SliceStore()
    publish(store, make(300))
    plan = publish(store, make(1))
    assert [each.metadata.name[:6] for each in plan.delete] == ["00001-", "00002-"]
    assert [each.spec.pool.resource_slice_count for each in store.list()] == [1]


def test_stale_duplicate_and_foreign_names_are_deleted() -> None:
    store = SliceStore()
    publish(store, make(200))
    right = store.list()
    strange = [
        rename(right[0], "00000-gpu.example.com-node-1-dupli", "uid-d"),
        rename(right[0], "node-1-gpu.example.com-abcde", "uid-old-style"),
        rename(right[0], "0000g-gpu.example.com-node-1-abcde", "uid-not-hex"),
        rename(right[0], "00002-gpu.example.com-node-1-abcde", "uid-over"),
        rename(right[0], "000000-gpu.example.com-node-1-abcde", "uid-long"),
        respec(rename(right[0], "00000-gpu.example.com-node-1-stale", "uid-s"), generation=0),
        respec(rename(right[0], "00000-gpu.example.com-node-1-pool2", "uid-p"), name="renamed"),
    ]
    plan = slicing.plan(IDENTITY, slicing.layout(make(200)).contents, [*strange, *right])
    assert {each.metadata.uid for each in plan.delete} == {each.metadata.uid for each in strange}
    assert (plan.update, plan.create, len(plan.keep)) == ((), (), 2)


def test_slices_of_other_drivers_and_nodes_are_not_touched() -> None:
    store = SliceStore()
    publish(store, make(1))
    ours = store.list()[0]
    others = [
        msgspec.structs.replace(ours, spec=msgspec.structs.replace(ours.spec, driver="other.example.com")),
        msgspec.structs.replace(ours, spec=msgspec.structs.replace(ours.spec, node_name="node-2")),
    ]
    plan = slicing.plan(IDENTITY, slicing.layout(make(1)).contents, others)
    assert (plan.delete, plan.update, len(plan.create)) == ((), (), 1)


@pytest.mark.parametrize("swap", [(0, 299), (0, 140), (None, None)])
@pytest.mark.parametrize("stop_after", range(5))
def test_after_a_writer_died_halfway_the_pool_becomes_whole_again(
    swap: tuple[int | None, int | None], stop_after: int
) -> None:
    store = SliceStore()
    publish(store, make(300))
    changed = make(400, "new")
    if swap[0] is not None and swap[1] is not None:
        changed = make(300)
        changed[swap[0]], changed[swap[1]] = changed[swap[1]], changed[swap[0]]
    contents = slicing.layout(changed).contents
    store.apply(slicing.plan(IDENTITY, contents, store.list()), stop_after=stop_after)
    publish(store, changed)
    assert publish(store, changed).is_empty
    assert [device for each in store.list() for device in each.spec.devices] == changed
    assert len({each.spec.pool.generation for each in store.list()}) == 1


def test_a_slice_that_is_being_deleted_is_replaced_under_a_newer_generation() -> None:
    store = SliceStore()
    publish(store, make(1))
    doomed = store.list()[0]
    meta = msgspec.structs.replace(doomed.metadata, deletion_timestamp="2026-01-01T00:00:00Z", finalizers=("x",))
    plan = slicing.plan(IDENTITY, slicing.layout(make(1)).contents, [msgspec.structs.replace(doomed, metadata=meta)])
    assert (plan.delete, plan.update, len(plan.create), plan.generation) == ((), (), 1, 2)


def test_updates_carry_preconditions_and_keep_what_belongs_to_others() -> None:
    store = SliceStore()
    publish(store, make(1))
    stored = store.list()[0]
    foreign = OwnerReference(api_version="v1", kind="ConfigMap", name="x", uid="x")
    meta = msgspec.structs.replace(stored.metadata, owner_references=(*stored.metadata.owner_references, foreign))
    published = msgspec.structs.replace(stored, metadata=meta)
    assert slicing.plan(IDENTITY, slicing.layout(make(1)).contents, [published]).is_empty
    update = slicing.plan(IDENTITY, slicing.layout(make(2)).contents, [published]).update[0]
    assert (update.metadata.name, update.metadata.uid) == (stored.metadata.name, stored.metadata.uid)
    assert update.metadata.resource_version == stored.metadata.resource_version
    assert [each.kind for each in update.metadata.owner_references] == ["Node", "ConfigMap"]


def test_slices_of_a_node_that_was_replaced_get_the_new_owner() -> None:
    store = SliceStore()
    publish(store, make(1))
    identity = Identity("gpu.example.com", "node-1", "new-uid", "node-1", {})
    plan = slicing.plan(identity, slicing.layout(make(1)).contents, store.list())
    assert [each.uid for each in plan.update[0].metadata.owner_references] == ["new-uid"]


def test_the_servers_time_of_a_taint_stays_when_something_else_changes() -> None:
    store = SliceStore()
    publish(store, [Device(name="gpu", taints=(TAINT,))])
    timed = msgspec.structs.replace(TAINT, time_added="2026-01-01T00:00:00Z")
    store.tamper(store.list()[0].metadata.name, (Device(name="gpu", taints=(timed,)),))
    assert publish(store, [Device(name="gpu", taints=(TAINT,))]).is_empty
    other = msgspec.structs.replace(TAINT, key="a.dev/other")
    plan = publish(store, [Device(name="gpu", taints=(TAINT, other))])
    assert plan.update[0].spec.devices[0].taints == (timed, other)


def test_of_two_with_one_index_the_one_of_the_younger_writer_stays_whatever_it_holds() -> None:
    store = SliceStore()
    publish(store, make(1))
    mine = store.list()[0]
    younger = Instance(ME.started + dt.timedelta(seconds=1), "b")
    theirs = rename(mine, "00000-gpu.example.com-node-1-zzzzz", "uid-z", {settling.ANNOTATION: str(younger)})
    for published in ([mine, theirs], [theirs, mine]):
        plan = slicing.plan(IDENTITY, slicing.layout(make(1)).contents, published)
        assert [each.metadata.uid for each in plan.delete] == [mine.metadata.uid]


def test_only_a_full_name_with_a_valid_index_is_ours() -> None:
    assert slicing.read_index("0000a-d-n-x", 11) == 10
    assert slicing.read_index("0000a-d-n-x", 10) is None
    assert slicing.read_index("0000A-d-n-x", 11) is None
    assert slicing.read_index("a-d-n-x", 11) is None
    assert slicing.read_index("100000-d-n-x", 0x100001) == 0x100000


def rename(published: ResourceSlice, name: str, uid: str, annotations: dict[str, str] | None = None) -> ResourceSlice:
    annotations = published.metadata.annotations if annotations is None else annotations
    meta = msgspec.structs.replace(published.metadata, name=name, uid=uid, annotations=annotations)
    return msgspec.structs.replace(published, metadata=meta)


def respec(published: ResourceSlice, **pool: object) -> ResourceSlice:
    spec = msgspec.structs.replace(published.spec, pool=msgspec.structs.replace(published.spec.pool, **pool))
    return msgspec.structs.replace(published, spec=spec)
