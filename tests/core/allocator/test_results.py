"""Allocations in the API's words: results, configuration, nodes, share ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from driver.core.allocator import Allocated, InvalidClaim, NodeView, Snapshot, allocate
from driver.model.claims import Allocation, OpaqueConfiguration, Toleration
from driver.model.objects import ObjectMeta
from driver.model.published import Capacity, PublishedDevice, PublishedSlice
from driver.model.requests import ClassSpec, Configuration, DeviceClass, DeviceRequest, Request
from driver.model.selection import NodeSelector, Requirement, Term
from driver.model.slices import CapacityPolicy
from driver.model.wanted import Claim
from tests.fakes.clusters import DRIVER, NODE, ask, make_claim, make_slice, want

ZONE = Requirement(key="zone", operator="In", values=("a", "b"))
TWO = [PublishedDevice(name="a"), PublishedDevice(name="b")]


def config(text: str, *requests: str) -> Configuration:
    parameters = msgspec.Raw(json.dumps({"text": text}).encode())
    return Configuration(requests=requests, opaque=OpaqueConfiguration(driver=DRIVER, parameters=parameters))


CLASSES = {
    name: DeviceClass(metadata=ObjectMeta(name=name), spec=ClassSpec(config=(config(f"class {name}"),)))
    for name in ("any", "other")
}


def configured(claim: Claim, *configs: Configuration) -> Claim:
    devices = msgspec.structs.replace(claim.spec.devices, config=configs)
    return msgspec.structs.replace(claim, spec=msgspec.structs.replace(claim.spec, devices=devices))


def give(claim: Claim, *slices: PublishedSlice, node: NodeView = NODE) -> Allocation:
    outcome = allocate(Snapshot(slices or (make_slice(TWO),), CLASSES), node, [claim])
    assert isinstance(outcome, Allocated)
    return outcome.allocations[0]


def document(allocation: Allocation) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(allocation))
    return decoded


def test_an_allocation_as_it_is_written() -> None:
    wanted = msgspec.structs.replace(want("", count=2), admin_access=True)
    allocation = give(make_claim("c", Request(name="r", exactly=wanted)))
    assert document(allocation) == {
        "devices": {
            "results": [
                {"request": "r", "driver": DRIVER, "pool": "pool", "device": name, "adminAccess": True} for name in "ab"
            ],
            "config": [
                {
                    "source": "FromClass",
                    "requests": ["r"],
                    "opaque": {"driver": DRIVER, "parameters": {"text": "class any"}},
                }
            ],
        },
        "nodeSelector": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]
        },
    }


def test_tolerations_and_binding_conditions_are_copied() -> None:
    tolerations = (Toleration(key="k", operator="Exists", toleration_seconds=0), Toleration(effect="NoExecute"))
    bound = PublishedDevice(name="a", binding_conditions=("ready",), binding_failure_conditions=("broken",))
    wanted = DeviceRequest(device_class_name="any", tolerations=tolerations)
    (result,) = give(make_claim("c", Request(name="r", exactly=wanted)), make_slice([bound])).devices.results
    assert result.tolerations == tolerations
    assert (result.binding_conditions, result.binding_failure_conditions) == (("ready",), ("broken",))


def test_configuration_is_collected_for_the_requests_that_it_is_for() -> None:
    claim = configured(
        make_claim(
            "c",
            Request(name="first", first_available=(want("sub"), want("spare"))),
            ask("second"),
        ),
        config("all"),
        config("parent", "first"),
        config("sub", "first/sub"),
        config("not chosen", "first/spare"),
        config("both", "first", "second"),
    )
    found = document(give(claim))["devices"]["config"]
    assert [(each["source"], each.get("requests", []), each["opaque"]["parameters"]["text"]) for each in found] == [
        ("FromClass", ["first/sub", "second"], "class any"),
        ("FromClaim", [], "all"),
        ("FromClaim", ["first"], "parent"),
        ("FromClaim", ["first/sub"], "sub"),
        ("FromClaim", ["first", "second"], "both"),
        ("FromClaim", ["first", "second"], "both"),
    ]


def test_every_class_brings_its_own_configuration_in_the_order_of_the_requests() -> None:
    claim = make_claim("c", ask("r0", "other"), ask("r1"))
    found = document(give(claim))["devices"]["config"]
    assert [each["opaque"]["parameters"]["text"] for each in found] == ["class other", "class any"]


def placed(*devices: PublishedDevice, **spec: object) -> PublishedSlice:
    base = make_slice(devices, node_name="")
    return msgspec.structs.replace(base, spec=msgspec.structs.replace(base.spec, **spec))


def select(*requirements: Requirement, fields: Sequence[Requirement] = ()) -> NodeSelector:
    return NodeSelector(node_selector_terms=(Term(match_expressions=requirements, match_fields=tuple(fields)),))


def test_devices_of_all_nodes_leave_the_claim_free() -> None:
    assert give(make_claim("c", ask("r")), placed(TWO[0], all_nodes=True)).node_selector is None


def test_the_selectors_of_all_devices_are_merged() -> None:
    same = Requirement(key="zone", operator="In", values=("b", "a"))
    here = Requirement(key="metadata.name", operator="In", values=("node-1",))
    exists = Requirement(key="zone", operator="Exists")
    devices = (
        PublishedDevice(name="a", node_selector=select(ZONE)),
        PublishedDevice(name="b", node_selector=select(same, exists, fields=[here])),
        PublishedDevice(name="c", all_nodes=True),
    )
    slice_ = placed(*devices, per_device_node_selection=True)
    node = NodeView("node-1", {"zone": "a"})
    selector = give(make_claim("c", ask("r", count=3)), slice_, node=node).node_selector
    assert selector == select(ZONE, exists, fields=[here])


def test_a_device_that_binds_to_its_node_ties_the_claim_to_it() -> None:
    binding = PublishedDevice(name="a", binds_to_node=True)
    selector = give(make_claim("c", ask("r")), placed(binding, all_nodes=True)).node_selector
    assert selector is not None
    assert selector.matches("node-1", {})
    assert not selector.matches("node-2", {})


def test_a_selector_with_several_terms_cannot_be_written_down() -> None:
    terms = NodeSelector(node_selector_terms=(Term(match_expressions=(ZONE,)),) * 2)
    slice_ = placed(PublishedDevice(name="a", node_selector=terms), per_device_node_selection=True)
    with pytest.raises(InvalidClaim, match="2 terms"):
        give(make_claim("c", ask("r")), slice_, node=NodeView("node-1", {"zone": "a"}))


SHARED = PublishedDevice(
    name="s",
    capacity={
        "memory": Capacity(value="16Gi", request_policy=CapacityPolicy(default="2Gi")),
        "cores": Capacity(value="0"),
    },
    allow_multiple_allocations=True,
)


def test_shares_say_what_they_consume_and_have_ids_that_differ_and_stay() -> None:
    claim = make_claim("c", ask("r0"), ask("r1"))
    first, second = give(claim, make_slice([SHARED])).devices.results
    assert first.consumed_capacity == {"memory": "2Gi", "cores": "0"}
    assert first.share_id != second.share_id
    assert give(claim, make_slice([SHARED])).devices.results == (first, second), "asked again, the same"
    other = give(make_claim("d", ask("r0")), make_slice([SHARED])).devices.results[0]
    assert other.share_id not in (first.share_id, second.share_id)


def test_the_chosen_alternatives_are_told() -> None:
    subs = (want("many", count=9), want("some", count=2), want("one"))
    claim = make_claim("c", ask("r0", count=0), Request(name="r1", first_available=subs))
    outcome = allocate(Snapshot([make_slice(TWO)], CLASSES), NODE, [claim])
    assert isinstance(outcome, Allocated)
    assert outcome.ranks == (1,)
