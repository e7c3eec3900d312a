"""Why no node can give a claim its devices: in one sentence, for every reason there is, and as data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from driver.core.allocator import Allocated, Code, Explanation, NodeView, Snapshot, allocate, explain, explain_node
from driver.model import vocabulary
from driver.model.claims import AllocationResult, ClaimStatus, Toleration
from driver.model.published import Attribute, Capacity, PublishedDevice, PublishedSlice
from driver.model.requests import CapacityRequirements, Constraint, DeviceRequest, Request
from driver.model.slices import CapacityPolicy, Counter, CounterConsumption, CounterSet, DeviceTaint, Pool
from driver.model.wanted import Claim
from tests.fakes.clusters import CLASSES, DRIVER, ask, make_claim, make_slice, want


def gpu(name: str, *, memory: str = "40Gi", taints: Sequence[DeviceTaint] = (), **attributes: int) -> PublishedDevice:
    return PublishedDevice(
        name=name,
        attributes={"type": Attribute(string="gpu")}
        | {key: Attribute(int_=value) for key, value in attributes.items()},
        capacity={"memory": Capacity(value=memory)},
        taints=tuple(taints),
    )


def linked(name: str, domain: str) -> PublishedDevice:
    device = gpu(name, memory="80Gi")
    attributes = device.attributes | {vocabulary.INTERCONNECT_DOMAIN: Attribute(string=domain)}
    return msgspec.structs.replace(device, attributes=attributes)


def gpus(count: int) -> list[PublishedDevice]:
    return [gpu(f"gpu-{index}") for index in range(count)]


def on(node: str, devices: Sequence[PublishedDevice], *, count: int = 1, generation: int = 1) -> PublishedSlice:
    pool = Pool(name=node, generation=generation, resource_slice_count=count)
    return make_slice(devices, name=f"slice-{node}", pool=pool, node_name=node)


def look(slices: Sequence[PublishedSlice], *claims: Claim, held: Sequence[Claim] = (), extra: int = 0) -> Explanation:
    names = dict.fromkeys(each.spec.node_name for each in slices if each.spec.node_name)
    nodes = [NodeView(name) for name in (*names, *(f"empty-{index}" for index in range(extra)))]
    return explain(Snapshot(slices, CLASSES, held), nodes, claims)


def say(slices: Sequence[PublishedSlice], *requests: Request, held: Sequence[Claim] = ()) -> str:
    return look(slices, make_claim("mine", *requests), held=held).text


def holder(name: str, node: str, *devices: str, share: str = "", memory: str = "") -> Claim:
    claim = make_claim(name, ask("r"))
    results = tuple(
        AllocationResult(
            request="r",
            driver=DRIVER,
            pool=node,
            device=device,
            share_id=share or None,
            consumed_capacity={"memory": memory} if memory else {},
        )
        for device in devices
    )
    outcome = allocate(Snapshot([on("node", gpus(1))], CLASSES), NodeView("node"), [claim])
    assert isinstance(outcome, Allocated)
    allocation = outcome.allocations[0]
    whole = msgspec.structs.replace(allocation, devices=msgspec.structs.replace(allocation.devices, results=results))
    return msgspec.structs.replace(claim, status=ClaimStatus(allocation=whole))


def test_the_sentence_of_the_documentation() -> None:
    """Nodes with the same reason together, the most frequent first, with counts, holders and the nearest miss."""
    big = f'device.capacity["{DRIVER}"].memory.compareTo(quantity("80Gi")) >= 0'
    domain = vocabulary.INTERCONNECT_DOMAIN
    slices = [on(f"small-{index}", gpus(8)) for index in range(6)]
    slices += [on(f"busy-{index}", [linked(f"gpu-{each}", "a") for each in range(8)]) for index in (0, 1)]
    slices += [on("split", [linked(f"gpu-{each}", "ab"[each]) for each in (0, 1)])]
    held = [holder(f"train-{index}", f"busy-{index}", *(f"gpu-{each}" for each in range(7))) for index in (0, 1)]
    any_gpu = f'device.attributes["{DRIVER}"].type == "gpu"'
    claim = make_claim(
        "mine",
        ask("gpu", count=2, selectors=[any_gpu, big]),
        constraints=[Constraint(match_attribute=domain)],
    )
    explanation = look(slices, claim, held=held)
    assert explanation.text == (
        "no node can give request gpu 2 devices: 6 nodes: memory 40Gi < 80Gi asked (selector #1); "
        "2 nodes: 1 of 8 free, held by team/train-0, team/train-1; "
        "1 node: free devices are in two interconnect domains (1 of a, 1 of b)"
    )
    assert [len(group.nodes) for group in explanation.groups] == [6, 2, 1]
    assert explanation.codes == {("team/mine", "gpu"): Code.SELECTOR_MISMATCH}


@pytest.mark.parametrize(
    ("comparison", "miss"),
    [
        ('.compareTo(quantity("96Gi")) >= 0', "memory at most 80Gi < 96Gi asked"),
        ('.isGreaterThan(quantity("80Gi"))', "memory at most 80Gi, but more than that asked"),
        ('.isLessThan(quantity("24Gi"))', "memory at least 24Gi, but less than that asked"),
        ('.compareTo(quantity("16Gi")) <= 0', "memory at least 24Gi > 16Gi asked"),
    ],
)
def test_of_nodes_that_miss_the_same_by_more_or_less_the_nearest_is_told(comparison: str, miss: str) -> None:
    slices = [on(f"node-{size}", [gpu("gpu-0", memory=f"{size}Gi")]) for size in (40, 80, 24)]
    claim = make_claim("mine", ask("r", selectors=[f'device.capacity["{DRIVER}"].memory{comparison}']))
    explanation = look(slices, claim)
    assert explanation.text == f"no node can give request r 1 device: 3 nodes: {miss} (selector #0)"
    assert [group.nodes for group in explanation.groups] == [("node-24", "node-40", "node-80")]


def test_interconnect_domains_are_called_so() -> None:
    devices = [
        PublishedDevice(name=f"gpu-{index}", attributes={vocabulary.INTERCONNECT_DOMAIN: Attribute(string=f"d{index}")})
        for index in range(2)
    ]
    claim = make_claim(
        "mine", ask("r", count=2), constraints=[Constraint(match_attribute=vocabulary.INTERCONNECT_DOMAIN)]
    )
    assert "free devices are in two interconnect domains (1 of d0, 1 of d1)" in look([on("a", devices)], claim).text


def test_a_claim_that_can_be_had_needs_no_explanation() -> None:
    slices = [on("full", gpus(1)), on("free", gpus(1))]
    assert look(slices, make_claim("mine", ask("r")), held=[holder("x", "full", "gpu-0")]) == Explanation("")


def test_no_nodes_and_no_devices() -> None:
    assert explain(Snapshot((), CLASSES), [], [make_claim("mine", ask("r"))]).text == "there are no nodes"
    assert look([], make_claim("mine", ask("r")), extra=2).text == (
        "no node can give request r 1 device: 2 nodes: there are no devices"
    )
    assert say([on("a", gpus(2))], ask("r", count=3)).endswith("1 node: there are only 2 devices")


def test_a_class_that_does_not_exist() -> None:
    explanation = look([on("a", gpus(1))], make_claim("mine", ask("r", "none")))
    assert explanation.text == "claim team/mine, request r: device class none does not exist"
    assert explanation.codes == {("team/mine", ""): Code.CLASS_MISSING}


def test_more_than_32_devices() -> None:
    explanation = look([on("a", gpus(1))], make_claim("mine", ask("r", count=33)))
    assert "33 exceeds the claim limit of 32" in explanation.text
    assert set(explanation.codes.values()) == {Code.TOO_MANY_DEVICES}


def test_a_selector_of_the_class() -> None:
    text = say([on("a", gpus(2))], ask("r", "partition"))
    assert text.endswith("1 node: type is gpu, partition asked (selector #0 of class partition)")


def test_too_few_devices_of_a_class_are_not_blamed_on_devices_of_others() -> None:
    part = PublishedDevice(name="part-0", attributes={"type": Attribute(string="partition")})
    text = say([on("a", [*gpus(2), part])], ask("r", "partition", count=2))
    assert text.endswith("1 node: there is only 1 device of class partition")


def test_names_that_were_probably_meant() -> None:
    slices = [on("a", [gpu("gpu-0", numaNode=0), gpu("gpu-1", numaNode=1)])]
    matching = make_claim(
        "mine", ask("r", count=2), constraints=[Constraint(match_attribute="other.example.com/numanode")]
    )
    assert look(slices, matching).text.endswith(f"must match ({DRIVER}/numaNode was probably meant)")
    reading = make_claim("mine", ask("r", selectors=[f'device.attributes["{DRIVER}"].numaNod == 0']))
    assert (
        f"have no attribute {DRIVER}/numaNod ({DRIVER}/numaNode was probably meant); this would"
        in look(slices, reading).text
    )
    classless = make_claim("mine", ask("r", "partitions"))
    assert look(slices, classless).text.endswith("class partitions does not exist (partition was probably meant)")


def test_how_quantities_are_compared() -> None:
    expression = f'device.capacity["{DRIVER}"].memory >= quantity("1Gi")'
    text = say([on("a", gpus(1))], ask("r", selectors=[expression]))
    assert "no matching overload for '_>=_'" in text
    assert text.endswith("; quantities are compared with a.compareTo(b) >= 0, a.isGreaterThan(b) or a.isLessThan(b)")


def test_the_largest_capacity_of_all_nodes_is_told() -> None:
    slices = [on(f"node-{size}", [gpu("gpu-0", memory=f"{size}Gi")]) for size in (40, 80, 24)]
    wanted = msgspec.structs.replace(want(""), capacity=CapacityRequirements(requests={"memory": "100Gi"}))
    assert say(slices, Request(name="r", exactly=wanted)).endswith("3 nodes: memory at most 80Gi < 100Gi asked")


def test_some_devices_match_but_too_few() -> None:
    devices = [gpu("gpu-0", numa=0), gpu("gpu-1", numa=1), gpu("gpu-2", numa=1)]
    expression = f'device.attributes["{DRIVER}"].numa == 0'
    text = say([on("a", devices)], ask("r", count=2, selectors=[expression]))
    assert text.endswith(f"1 node: 1 of 3 devices match selector #0 `{expression}`: numa is 1, 0 asked")


def test_an_expression_that_nobody_can_put_into_words_is_shown() -> None:
    expression = f'device.attributes["{DRIVER}"].type.startsWith("x")'
    assert f"0 of 1 device match selector #0 `{expression}`" in say(
        [on("a", gpus(1))], ask("r", selectors=[expression])
    )


def test_a_missing_attribute_is_named_with_its_devices_and_the_expression_that_works() -> None:
    devices = [gpu("gpu-0", numa=0), gpu("gpu-1"), gpu("gpu-2")]
    expression = f'device.attributes["{DRIVER}"].numa == 7'
    explanation = look([on("a", devices)], make_claim("mine", ask("r", selectors=[expression])))
    guarded = f'has(device.attributes["{DRIVER}"].numa) && {expression}'
    assert explanation.text == (
        f"claim team/mine: selector #0 fails: {DRIVER}/a/gpu-1 and 1 more have no attribute {DRIVER}/numa; "
        f"this would work: `{guarded}`"
    )
    assert explanation.codes == {("team/mine", "r"): Code.SELECTOR_ERROR}
    assert "numa is 0, 7 asked" in say([on("a", devices)], ask("r", selectors=[guarded]))


def test_an_error_that_no_guard_helps_is_told_as_it_is() -> None:
    expression = f'device.attributes["{DRIVER}"].type > 1'
    assert "no such overload" in say([on("a", gpus(1))], ask("r", selectors=[expression]))


def test_taints_are_named() -> None:
    sick = DeviceTaint(key="example.com/sick", value="ecc", effect="NoExecute")
    devices = [gpu("gpu-0", taints=[sick]), gpu("gpu-1", taints=[sick]), gpu("gpu-2")]
    text = say([on("a", devices)], ask("r", count=2))
    what = "2 devices have the taint example.com/sick=ecc:NoExecute, which the request does not tolerate"
    assert text.endswith(f"1 node: 1 of 3 usable, {what}")


def test_the_fence_is_explained() -> None:
    fence = DeviceTaint(key=vocabulary.TAINT_CONTROLLER_ONLY, effect="NoSchedule")
    explanation = look([on("a", [gpu("gpu-0", taints=[fence])])], make_claim("mine", ask("r")))
    assert (
        "only accel-dra's controller allocates these devices (taint accel-dra.dev/controller-only)" in explanation.text
    )
    assert set(explanation.codes.values()) == {Code.TAINTED}


def test_devices_in_use_name_who_holds_them() -> None:
    held = [holder(f"train-{index}", "a", f"gpu-{index}") for index in range(5)]
    text = say([on("a", gpus(5))], ask("r"), held=held)
    assert text.endswith("1 node: 0 of 5 free, held by team/train-0, team/train-1, team/train-2 and 2 more")


def test_all_devices_of_which_one_is_in_use() -> None:
    everything = Request(name="r", exactly=DeviceRequest(device_class_name="any", allocation_mode="All", count=0))
    text = say([on("a", gpus(3))], everything, held=[holder("train", "a", "gpu-1")])
    assert text == "no node can give request r all devices: 1 node: all wanted, 2 of 3 free, held by team/train"


def asks_memory(amount: str, name: str = "memory", count: int = 1) -> Request:
    capacity = CapacityRequirements(requests={name: amount})
    return Request(name="r", exactly=msgspec.structs.replace(want("", count=count), capacity=capacity))


def test_capacity_that_no_device_has() -> None:
    assert say([on("a", gpus(2))], asks_memory("80Gi")).endswith("1 node: memory 40Gi < 80Gi asked")
    assert "no device has a capacity named vram (memory)" in say([on("a", gpus(2))], asks_memory("1Gi", "vram"))


def test_capacity_that_a_policy_refuses() -> None:
    policy = CapacityPolicy(default="2Gi", valid_values=("2Gi", "8Gi"))
    shared = PublishedDevice(
        name="s", capacity={"memory": Capacity(value="16Gi", request_policy=policy)}, allow_multiple_allocations=True
    )
    assert "the request policy of the devices does not allow 12Gi of memory" in say(
        [on("a", [shared])], asks_memory("12Gi")
    )


def test_capacity_that_shares_have_used_up() -> None:
    shared = PublishedDevice(name="s", capacity={"memory": Capacity(value="16Gi")}, allow_multiple_allocations=True)
    held = [holder("one", "a", "s", share="1", memory="12Gi")]
    explanation = look([on("a", [shared])], make_claim("mine", asks_memory("8Gi")), held=held)
    assert explanation.text.endswith("1 node: memory: 4Gi left, 8Gi asked, held by team/one")
    assert set(explanation.codes.values()) == {Code.CAPACITY_EXCEEDED}


def partitioned(node: str) -> list[PublishedSlice]:
    takes = (CounterConsumption(counter_set="gpu-0", counters={"slices": Counter(value="3")}),)
    parts = [PublishedDevice(name=f"part-{index}", consumes_counters=takes) for index in range(3)]
    pool = Pool(name=node, generation=1, resource_slice_count=2)
    counters = CounterSet(name="gpu-0", counters={"slices": Counter(value="7")})
    return [
        make_slice(parts, name="parts", pool=pool, node_name=node),
        make_slice((), name="counters", pool=pool, counters=[counters], node_name=node),
    ]


def test_counters_that_are_exhausted_name_what_is_left_and_who_has_it() -> None:
    held = [holder("one", "a", "part-0"), holder("two", "a", "part-1")]
    explanation = look(partitioned("a"), make_claim("mine", ask("r")), held=held)
    assert explanation.text.endswith("1 node: counter slices: 1 left, 3 needed, held by team/one, team/two")
    assert set(explanation.codes.values()) == {Code.COUNTERS_EXHAUSTED}


def test_counters_that_are_too_few_for_all_of_a_request() -> None:
    explanation = look(partitioned("a"), make_claim("mine", ask("r", count=3)))
    assert "together they need more of counter slices than is left" in explanation.text


def test_devices_of_one_request_that_leave_each_other_too_little_are_not_blamed_on_other_requests() -> None:
    sets = [CounterSet(name=f"gpu-{index}", counters={"ofa": Counter(value="1")}) for index in range(2)]
    parts = [
        PublishedDevice(
            name=f"part-{index}-{place}",
            capacity={"memory": Capacity(value="10Gi")},
            consumes_counters=(CounterConsumption(counter_set=f"gpu-{index}", counters={"ofa": Counter(value="1")}),),
            allow_multiple_allocations=True,
        )
        for index in range(2)
        for place in range(2)
    ]
    pool = Pool(name="a", generation=1, resource_slice_count=2)
    slices = [
        make_slice(parts, name="parts", pool=pool, node_name="a"),
        make_slice((), name="counters", pool=pool, counters=sets, node_name="a"),
    ]
    explanation = look(slices, make_claim("mine", ask("r", count=3)))
    assert explanation.text == (
        "no node can give request r 3 devices: 1 node: what else is asked for leaves too little of the counters of "
        "2 devices"
    )


def test_how_many_devices_are_large_enough_is_told_with_the_largest_of_the_others() -> None:
    devices = [gpu("gpu-0", memory="80Gi"), gpu("gpu-1"), gpu("gpu-2", memory="24Gi")]
    shared = [msgspec.structs.replace(each, allow_multiple_allocations=True) for each in devices]
    assert say([on("a", shared)], asks_memory("60Gi", count=2)).endswith(
        "1 node: 1 of 3 devices are large enough: memory at most 40Gi < 60Gi asked"
    )


def test_requests_that_want_the_same_devices() -> None:
    explanation = look([on("a", gpus(1))], make_claim("mine", ask("one"), ask("two")))
    assert explanation.text == (
        "no node can give requests one, two their devices: 1 node: together they need 2 devices, 1 free"
    )
    both = make_claim("mine", ask("one", count=5), ask("two", count=4))
    assert look([on("a", gpus(7))], both).text.endswith("together they need 9 devices, 7 free")
    assert explanation.codes == {("team/mine", "one, two"): Code.NO_COMBINATION}


def test_values_that_must_differ() -> None:
    claim = make_claim("mine", ask("r", count=3), constraints=[Constraint(distinct_attribute=f"{DRIVER}/rack")])
    devices = [gpu(f"gpu-{index}", rack=index % 2) for index in range(4)]
    assert f"3 devices must differ in {DRIVER}/rack, which has 2 values there" in look([on("a", devices)], claim).text


def test_an_attribute_to_match_that_no_device_has() -> None:
    claim = make_claim("mine", ask("r", count=2), constraints=[Constraint(match_attribute=f"{DRIVER}/rack")])
    assert f"no free device has the attribute {DRIVER}/rack" in look([on("a", gpus(2))], claim).text


def test_what_only_the_search_finds_out_is_told_from_the_request_that_it_came_to() -> None:
    """Each request has candidates, and so has each pair; counting finds nothing wrong with all three."""
    devices = [gpu("gpu-0", a=0, b=0), gpu("gpu-1", a=0, b=1), gpu("gpu-2", a=1, b=1)]
    wanted = [ask(f"r{index}", selectors=[f'device.attributes["{DRIVER}"].type != "{index}"']) for index in range(3)]
    rules = [
        Constraint(requests=("r0", "r1"), match_attribute=f"{DRIVER}/a"),
        Constraint(requests=("r1", "r2"), match_attribute=f"{DRIVER}/b"),
        Constraint(requests=("r0", "r2"), match_attribute=f"{DRIVER}/a"),
    ]
    explanation = look([on("a", devices)], make_claim("mine", *wanted, constraints=rules))
    assert explanation.groups[0].blocked.reason.code in (Code.CONSTRAINT_UNSATISFIED, Code.NO_COMBINATION)
    assert explanation.text.startswith("no node can give request")


def test_alternatives_are_told_one_by_one() -> None:
    subs = (want("big", count=3), want("odd", "partition"), want("more", count=4))
    text = say([on("a", gpus(2))], Request(name="r", first_available=subs))
    assert text == (
        "no node can give request r 1 to 4 devices: 1 node: big and more: there are only 2 devices, "
        "odd: type is gpu, partition asked (selector #0 of class partition)"
    )


def test_pools_that_are_unfit() -> None:
    explanation = look([on("a", gpus(1), count=2)], make_claim("mine", ask("r")))
    assert explanation.text.endswith(f"1 node: pool {DRIVER}/a is currently being updated: 1 of 2 slices are there")
    assert set(explanation.codes.values()) == {Code.POOL_INCOMPLETE}
    twice = look([on("a", [gpu("gpu-0"), gpu("gpu-0")])], make_claim("mine", ask("r")))
    assert twice.text.endswith(f"pool {DRIVER}/a is currently invalid: device name gpu-0 is used twice")
    assert set(twice.codes.values()) == {Code.POOL_INVALID}


def test_a_pool_whose_devices_moved_to_another_node() -> None:
    old = make_slice(gpus(1), name="old", pool=Pool(name="pool", generation=1, resource_slice_count=2), node_name="a")
    new = make_slice((), name="new", pool=Pool(name="pool", generation=2, resource_slice_count=1), node_name="b")
    report = explain_node(Snapshot([old, new], CLASSES), NodeView("a"), [make_claim("mine", ask("r"))])
    assert report.blocked[0].reason.code is Code.POOL_OBSOLETE


def test_devices_of_a_pool_that_other_nodes_have() -> None:
    there = PublishedDevice(name="gpu-0", node_name="b")
    here = PublishedDevice(name="gpu-1", node_name="a")
    slice_ = make_slice([there, here], node_name="")
    whole = msgspec.structs.replace(slice_, spec=msgspec.structs.replace(slice_.spec, per_device_node_selection=True))
    report = explain_node(Snapshot([whole], CLASSES), NodeView("a"), [make_claim("mine", ask("r", count=2))])
    assert report.blocked[0].reason.code is Code.OTHER_NODES
    assert report.blocked[0].reason.text == "1 matching device can be used on other nodes only"


def test_claims_of_a_pod_are_told_apart() -> None:
    first, second = make_claim("first", ask("r", count=9)), make_claim("second", ask("r", "partition"))
    slices = [on("a", gpus(2))]
    explanation = look(slices, first, second)
    assert explanation.codes == {
        ("team/first", "r"): Code.NO_DEVICES,
        ("team/second", "r"): Code.SELECTOR_MISMATCH,
    }


def test_a_toleration_helps() -> None:
    sick = DeviceTaint(key="example.com/sick", effect="NoExecute")
    tolerant = msgspec.structs.replace(want(""), tolerations=(Toleration(operator="Exists"),))
    assert say([on("a", [gpu("gpu-0", taints=[sick])])], Request(name="r", exactly=tolerant)) == ""


@pytest.mark.parametrize("nodes", [1, 40, 400])
def test_the_sentence_fits_into_an_event_and_does_not_depend_on_the_order_of_nodes(nodes: int) -> None:
    slices = [
        on(f"node-{index}", [gpu(f"gpu-{each}", rack=index) for each in range(1 + index % 60)])
        for index in range(nodes)
    ]
    claim = make_claim("mine", ask("r", count=32, selectors=[f'device.attributes["{DRIVER}"].rack == -1']))
    views = [NodeView(f"node-{index}") for index in range(nodes)]
    snapshot = Snapshot(slices, CLASSES)
    text = explain(snapshot, views, [claim]).text
    assert text
    assert len(text.encode()) <= 1024
    assert explain(snapshot, list(reversed(views)), [claim]).text == text
