"""Allocations as Kubernetes itself made them: same devices in the same order, same configuration, same refusals.

`tests/vectors/allocator.jsonl.gz` was recorded with the structured allocator of Kubernetes v1.36.2. What this
small scheduler does not do is listed by topic; where upstream has a known bookkeeping bug, its repaired answer counts.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from driver.simulation.objects import Meta, Node
from driver.simulation.resources import Claim, DeviceClass, Slice
from driver.simulation.scheduler import results, search
from driver.simulation.scheduler.search import Answer, World
from driver.simulation.scheduler.selecting import SchedulingError

SCENARIOS: Final = Path(__file__).parents[2] / "vectors" / "allocator.jsonl.gz"
AGREEING: Final = 590
"""How many answers agree. Raise it when more do; it never goes down."""
NOT_COVERED: Final = {
    "h-consumable": 38,  # consumable capacity
    "h-counters": 8,
    "s-extra": 4,
    "x-mixed": 5,
    "i-pools": 7,  # perDeviceNodeSelection, pools spread over nodes, counter sets defined twice
    "g-counters": 4,
    "n-binding": 5,  # binding conditions
    "q-quirks": 1,
    "l-errors": 1,  # the cost limit of selectors
}

Json = dict[str, Any]  # recorded documents; typed where they are decoded


def _read() -> list[Json]:
    with gzip.open(SCENARIOS, "rt") as lines:
        return [json.loads(line) for line in lines]


def _decode(value: object, kind: type[msgspec.Struct]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


def _allocate(scenario: Json) -> tuple[str, list[Json]]:
    """Return ok, no or fatal, and one allocation a claim in the API's words."""
    node = Node(metadata=Meta(name=scenario["node"]["name"], labels=scenario["node"].get("labels") or {}))
    for index, claim in enumerate(scenario["claims"]):
        claim["metadata"].setdefault("uid", f"uid-{index}")
    claims: list[Claim] = [_decode(each, Claim) for each in scenario["claims"]]
    allocated = frozenset(
        (result["driver"], result["pool"], result["device"])
        for claim in scenario["allocated"] or ()
        for result in claim["status"]["allocation"]["devices"].get("results") or ()
        if not result.get("adminAccess")
    )
    slices: list[Slice] = [_decode(each, Slice) for each in scenario["slices"]]
    classes: dict[str, DeviceClass] = {
        each["metadata"]["name"]: _decode(each, DeviceClass) for each in scenario["classes"]
    }
    try:
        answer = search.allocate(claims, node, World(slices, classes, allocated))
    except SchedulingError:
        return "fatal", []
    return ("no", []) if answer.reason else ("ok", [_describe(claim, answer, node) for claim in claims])


def _describe(claim: Claim, answer: Answer, node: Node) -> Json:
    taken = [each for each in answer.taken if each.request.claim is claim]
    allocation: Json = json.loads(msgspec.json.encode(results.describe(claim, taken, node.metadata.name, "now")))
    del allocation["allocationTimestamp"]
    return allocation


def _expected(answer: Json) -> tuple[str, list[Json]]:
    if answer["ok"]:
        return "ok", answer["results"]
    return ("fatal" if answer.get("error_kind") == "fatal" else "no"), []


def _normalize(allocations: list[Json]) -> list[Json]:
    """Drop what is only another way to write the same: empty lists, the default operator of tolerations."""
    return [_prune(each) for each in allocations]


def _prune(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _prune(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, [], {})}
    return [_prune(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def disagreements() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for vector in _read():
        accepted = [vector["expected"], *([vector["without_quirks"]] if vector.get("quirks") else [])]
        verdict, allocations = _allocate(vector["scenario"])
        answer = (verdict, _normalize(allocations))
        if all(answer != (kind, _normalize(wanted)) for kind, wanted in map(_expected, accepted)):
            found.setdefault(vector["category"], []).append(f"{vector['id']}: {vector['topic']}")
    return found


def test_the_number_of_agreeing_answers_only_grows(disagreements: Mapping[str, list[str]]) -> None:
    assert len(_read()) - sum(map(len, disagreements.values())) >= AGREEING, disagreements


def test_what_is_not_covered_is_listed_and_nothing_else(disagreements: Mapping[str, list[str]]) -> None:
    assert Counter({category: len(topics) for category, topics in disagreements.items()}) == Counter(NOT_COVERED), (
        disagreements
    )
