"""Allocations of shares as Kubernetes v1.36.2 itself made them, on the slices that this driver publishes.

The file holds what two machines publish, 8 H100 shared by MPS and 8 A100 of which every partition is shared by turns,
and days of claims on them. A test keeps the recorded slices and those that are published today alike in all that an
allocation depends on.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from driver import vendors
from driver.core import inventory, slicing
from driver.model.slices import CounterSet, Device, Pool, SliceSpec
from driver.settings import Settings, make_offer
from hack.replay import allocator

LINES: Final = list(allocator.read(Path(__file__).parent / "shares.jsonl.gz"))
CLASSES: Final = {each["metadata"]["name"]: each for each in LINES[0]["classes"]}
POOLS: Final = {line["pool"]: line for line in LINES if "slices" in line}
VECTORS: Final = [line for line in LINES if "expected" in line]


def complete(vector: dict[str, Any]) -> dict[str, Any]:
    """Return a vector as the others are: with everything that it looks at."""
    scenario = {
        "node": {"name": "node-1"},
        "slices": POOLS[vector["pool"]]["slices"],
        "classes": [CLASSES[name] for name in vector["classes"]],
        "claims": vector["claims"],
        "allocated": vector["allocated"],
    }
    return {**vector, "scenario": scenario}


def look(slices: list[SliceSpec]) -> tuple[list[Device], list[CounterSet]]:
    """Return what an allocation depends on: devices in their order with names, capacities and counters."""
    devices = [
        msgspec.structs.replace(
            device, attributes={name: device.attributes[name] for name in sorted(device.attributes)}
        )
        for each in slices
        for device in each.devices
    ]
    return devices, [counter_set for each in slices for counter_set in each.shared_counters]


@pytest.mark.parametrize("with_table", [True, False])
@pytest.mark.parametrize("pool", POOLS)
def test_shares_are_allocated_as_recorded(pool: str, *, with_table: bool) -> None:
    chosen = [complete(vector) for vector in VECTORS if vector["pool"] == pool]
    different = [
        f"{vector['id']} ({vector['topic']})"
        for vector in chosen
        if not allocator.allocate_vector(vector, with_table=with_table).agrees(allocator.wanted_answer(vector))
    ]
    assert different == []


@pytest.mark.parametrize("pool", POOLS.values(), ids=lambda pool: str(pool["pool"]))
def test_what_was_recorded_is_what_is_published(pool: dict[str, Any]) -> None:
    chosen = {name: value for name, value in pool["settings"].items() if name != "hardware"}
    offer = make_offer(Settings(vendor="simulated", **chosen))
    vendor = vendors.load("simulated", Settings().roots, {"node": pool["settings"]["hardware"]})
    built = inventory.build(vendor.snapshot(), None, offer)
    laid_out = slicing.layout([entry.device for entry in built.entries], built.counter_sets)
    assert laid_out.withheld == ()
    published = [
        SliceSpec(driver="", pool=Pool(name=""), devices=each.devices, shared_counters=each.shared_counters)
        for each in laid_out.contents
    ]
    assert look(published) == look([msgspec.convert(each["spec"], SliceSpec) for each in pool["slices"]])


def test_there_is_something_of_everything() -> None:
    outcomes = Counter((vector["pool"], vector["expected"]["ok"]) for vector in VECTORS)
    assert min(outcomes.values()) > 15
    assert len(outcomes) == 4
    shares = [
        result["device"]
        for vector in VECTORS
        for claim in vector["allocated"]
        for result in claim["status"]["allocation"]["devices"]["results"]
        if result.get("shareID")
    ]
    assert len(shares) > 500, "the days are long"
    assert any(vector["quirks"] for vector in VECTORS), (
        "upstream loses counters of shared partitions when it backtracks"
    )
