"""Groups on real devices: mixed sizes, claims for more than accelerators, and one domain that holds them all."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from driver.core.deciding import rounds
from driver.core.deciding.memory import Memory, Patience
from driver.core.deciding.stocks import DeviceStock
from driver.core.deciding.world import Decision, World
from driver.model.objects import ObjectMeta
from driver.model.policies import GROUP_LABEL, GroupPolicy, Policy, Spreading
from driver.model.published import Attribute, PublishedSlice
from driver.model.requests import CelSelector, ClassSpec, DeviceClass, DeviceRequest, Request, Selector
from driver.model.wanted import Claim
from tests.core.deciding.test_stocks import CLASSES, claim, device, pool
from tests.fakes.controlled import make_node, make_pod

NIC = CelSelector(expression="device.attributes['accel-dra.dev'].?kind.hasValue()")
ALL = {**CLASSES, "nic": DeviceClass(metadata=ObjectMeta(name="nic"), spec=ClassSpec(selectors=(Selector(cel=NIC),)))}
WITHIN = "accel-dra.dev/fabricDomain"


def publish(domain: str, node: str, gpus: int, nics: int = 0) -> PublishedSlice:
    fabric = Attribute(string=domain)
    devices = [device(f"gpu-{index}", fabricDomain=fabric) for index in range(gpus)]
    return pool(node, *devices, *(device(f"nic-{index}", kind=Attribute(string="nic")) for index in range(nics)))


def group(counts: Iterable[int]) -> list[Claim]:
    found = []
    for index, count in enumerate(counts):
        name = f"g{index:02}"
        wanted = claim(name, count, "!device.attributes['accel-dra.dev'].?kind.hasValue()")
        meta = msgspec.structs.replace(wanted.metadata, namespace="team", labels={GROUP_LABEL: "g"})
        found.append(msgspec.structs.replace(wanted, metadata=meta))
    return found


def decide(
    slices: list[PublishedSlice], claims: list[Claim], *, spread: bool = False
) -> tuple[Decision, dict[str, str]]:
    placement = Spreading.SPREAD if spread else Spreading.PACK
    policy = Policy(group=GroupPolicy(len(claims), WITHIN), placement=placement)
    nodes = {name: make_node(name) for name in {each.spec.node_name for each in slices}}
    pods = {f"team/{each.metadata.name}": make_pod(each.metadata.name, each.metadata.name) for each in claims}
    world = World({f"team/{each.metadata.name}": each for each in claims}, pods, nodes, ALL)
    decision = rounds.decide(world, DeviceStock(slices, ALL), Memory(Patience()), lambda _: policy, 0.0)
    grants = [grant for bundle in decision.bundles for grant in bundle.grants]
    return decision, {grant.claim.metadata.name: grant.node for grant in grants}


def test_a_group_of_mixed_sizes_that_fills_a_domain_of_mixed_nodes_is_placed() -> None:
    # Domain x has room for 32 members of 8 and 4 GPUs if the small ones leave the large nodes alone; y is too small.
    slices = [publish("x", f"x-{index:02}", 8) for index in range(16)]
    slices += [publish("x", f"x-small-{index:02}", 4) for index in range(16)]
    slices += [publish("y", f"y-{index:02}", 8) for index in range(20)]
    sizes = [4] * 16 + [8] * 16
    for spread in (False, True):
        decision, nodes = decide(slices, group(sizes), spread=spread)
        assert len(nodes) == 32, [str(each.message) for each in decision.waiting[:1]]
        assert {node[0] for node in nodes.values()} == {"x"}
        assert {nodes[f"g{index:02}"][:7] for index in range(16)} == {"x-small"}


def test_network_cards_do_not_count_as_devices_of_the_fabric() -> None:
    nic = Request(name="nic", exactly=DeviceRequest(device_class_name="nic", count=1))
    claims = []
    for each in group([2, 2]):
        devices = msgspec.structs.replace(each.spec.devices, requests=(*each.spec.devices.requests, nic))
        claims.append(msgspec.structs.replace(each, spec=msgspec.structs.replace(each.spec, devices=devices)))
    slices = [publish("x", "a", 2, nics=1), publish("x", "b", 2, nics=1)]
    decision, nodes = decide(slices, claims)
    assert sorted(nodes.values()) == ["a", "b"], decision.waiting
