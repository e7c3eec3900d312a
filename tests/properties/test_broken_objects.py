"""A round over objects that make no sense ends, and no claim brings a defect to light; good claims get their devices.

What no API server would store is among it on purpose: what one object does must stay its own matter.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec
import pytest

from driver.core import fencing, policies, soundness
from driver.core.deciding import fragmentation, rounds
from driver.core.deciding.memory import Memory, Patience
from driver.core.deciding.stocks import DeviceStock
from driver.core.deciding.world import World
from driver.model.errors import InvalidInput
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim
from tests.fakes.controlled import make_node, make_pod

DRIVER: Final = "gpu.accel-dra.dev"
DOMAIN: Final = "accel-dra.dev/interconnectDomain"
AMOUNTS: Final = ("1", "80Gi", "-5", "1e30", "1Ki")
VALUES: Final[tuple[dict[str, Any], ...]] = (
    {"string": "x"},
    {"int": 1},
    {"bool": True},
    {"version": "1.2.3"},
    {"version": "bad"},
    {},
)
SELECTORS: Final = ("true", "1", "((", "device.attributes['a'].b == 1", "device.capacity['x'].y > quantity('1')")
REACH: Final[tuple[dict[str, Any], ...]] = ({"nodeName": "n0"}, {"nodeName": "n1"}, {"allNodes": True}, {})
POLICIES: Final[tuple[Any, ...]] = (
    {},
    {"interconnect": "Require", "numa": "Require"},
    {"group": {"size": 2, "within": DOMAIN}},
    {"group": {"size": -2}},
    {"when": 7},
)
_slices: Final = msgspec.json.Decoder(tuple[PublishedSlice, ...])
_claims: Final = msgspec.json.Decoder(tuple[Claim, ...])
_class: Final = msgspec.json.Decoder(DeviceClass)
CLASSES: Final = {
    "any": _class.decode(b'{"metadata":{"name":"any"}}'),
    "bad": _class.decode(b'{"metadata":{"name":"bad"},"spec":{"selectors":[{"cel":{"expression":"(("}}]}}'),
}


def make_device(random: Random, index: int) -> dict[str, Any]:
    names = ("a", DOMAIN, "x.y/z", "accel-dra.dev/numaNode", "a/b/c")
    device: dict[str, Any] = {
        "name": random.choice([f"g{index}", f"g{index}", "dup", ""]),
        "attributes": {random.choice(names): random.choice(VALUES) for _ in range(3)},
        "capacity": {random.choice(["memory", "accel-dra.dev/memory"]): {"value": random.choice(AMOUNTS)}},
        "taints": [{"key": fencing.FENCE.key, "effect": fencing.FENCE.effect, "value": fencing.FENCE.value}],
    }
    if random.random() < 0.3:
        counters = {random.choice("cd"): {"value": random.choice(AMOUNTS)}}
        device["consumesCounters"] = [{"counterSet": random.choice(["s", "none"]), "counters": counters}]
    if random.random() < 0.2:
        device["allowMultipleAllocations"] = True
    return device


def make_slice(random: Random, index: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "driver": DRIVER,
        "pool": {"name": f"p{index % 3}", "generation": random.choice([1, 1, 2]), "resourceSliceCount": 1},
        "devices": [make_device(random, place) for place in range(random.randrange(5))],
        **random.choice(REACH),
    }
    if random.random() < 0.4:
        spec["sharedCounters"] = [{"name": "s", "counters": {"c": {"value": random.choice(AMOUNTS)}}}]
    return {"metadata": {"name": f"s{index}"}, "spec": spec}


def make_request(random: Random, index: int) -> dict[str, Any]:
    wish: dict[str, Any] = {
        "deviceClassName": random.choice(["any", "any", "bad", "none"]),
        "allocationMode": random.choice(["ExactCount", "ExactCount", "All", "Bogus"]),
        "count": random.choice([0, 1, 2, 33, -1]),
        "selectors": [{"cel": {"expression": random.choice(SELECTORS)}}] if random.random() < 0.3 else [],
    }
    kinds: list[dict[str, Any]] = [
        {"exactly": wish},
        {"exactly": wish},
        {"firstAvailable": [{"name": "s", **wish}]},
        {},
    ]
    return {"name": f"r{index}", **random.choice(kinds)}


def make_claim(random: Random, index: int) -> dict[str, Any]:
    parameters = {"apiVersion": "config.accel-dra.dev/v1alpha1", "kind": "AllocationPolicy", **random.choice(POLICIES)}
    devices: dict[str, Any] = {
        "requests": [make_request(random, place) for place in range(random.randrange(3))],
        "config": [{"opaque": {"driver": DRIVER, "parameters": random.choice([parameters, parameters, [1], "x"])}}],
    }
    if random.random() < 0.3:
        devices["constraints"] = [{"requests": [random.choice(["r0", "zz"])], "matchAttribute": DOMAIN}]
    meta = {"name": f"c{index}", "namespace": "team", "uid": f"u{index}", "labels": {"accel-dra.dev/group": "g"}}
    claim: dict[str, Any] = {"metadata": meta, "spec": {"devices": devices}}
    if random.random() < 0.3:
        device = random.choice(["g0", "g1", "dup", "unknown"])
        result: dict[str, Any] = {
            "request": "r0",
            "driver": DRIVER,
            "pool": f"p{random.randrange(4)}",
            "device": device,
        }
        if random.random() < 0.5:
            result |= {"shareID": "x", "consumedCapacity": {"memory": "1"}}
        claim["status"] = {"allocation": {"devices": {"results": [result]}}}
    return claim


@pytest.mark.parametrize("seed", range(8))
def test_a_round_over_nonsense_ends_without_a_defect(seed: int) -> None:
    random = Random(seed)
    granted = 0
    for _ in range(40):
        raw = [make_slice(random, index) for index in range(random.randrange(5))]
        slices = _slices.decode(msgspec.json.encode(raw))
        for each in slices:
            soundness.check(each)
        claims = _claims.decode(msgspec.json.encode([make_claim(random, index) for index in range(6)]))
        shared = [(f"c{(index + 1) % 6}",) if random.random() < 0.2 else () for index in range(6)]
        pods = {f"team/p{index}": make_pod(f"p{index}", f"c{index}", *more) for index, more in enumerate(shared)}
        nodes = {f"n{index}": make_node(f"n{index}", allocatable={"cpu": "x", "pods": "9"}) for index in range(3)}
        world = World({f"team/{each.metadata.name}": each for each in claims}, pods, nodes, CLASSES)
        stock = DeviceStock(slices, CLASSES)
        decision = rounds.decide(
            world, stock, Memory(Patience()), lambda claim: policies.find(claim, CLASSES, DRIVER), 0.0
        )
        told = [each.text for each in decision.waiting]
        assert not [text for text in told if "please report it" in text]
        fragmentation.measure(stock.slices, world.claims.values())
        granted += len(decision.bundles)
    assert granted, "nonsense only: nothing is shown"


def test_a_quantity_that_is_none_is_kept_out() -> None:
    broken = make_slice(Random(1), 0)
    broken["spec"]["devices"] = [{"name": "g", "capacity": {"memory": {"value": "garbage"}}}]
    with pytest.raises(InvalidInput):
        soundness.check(_slices.decode(msgspec.json.encode([broken]))[0])
