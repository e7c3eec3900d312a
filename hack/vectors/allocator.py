"""Recorded allocations (one JSON object a line) against `driver.core.allocator`. Called by tests and by a person.

A vector holds what the structured allocator of Kubernetes did with a scenario. Quantities are compared by value, share
ids not at all, lists in order. Where upstream has a known defect the answer without it is the right one; that is
decided once for each defect, in `docs/allocator.md`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from driver.core.allocator import Allocated, InvalidClaim, NodeView, Snapshot, Unsatisfiable, allocate
from driver.core.allocator.devices import Device
from driver.core.allocator.selectors import Evaluate, evaluate
from driver.core.cel import CompileError, EvaluationError
from driver.model import quantities
from driver.model.claims import Allocation
from driver.model.published import PublishedSlice
from driver.model.requests import DeviceClass
from driver.model.wanted import Claim

Json = dict[str, Any]  # recorded documents; typed where they are decoded
_Kind = TypeVar("_Kind")
REPAIRED: Final = frozenset(
    {"counter-leak", "multi-alloc-counter-rollback", "distinct-per-request", "counter-pool-name-key"}
)
"""Upstream's defects that this allocator does not have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an allocator did."""

    kind: str
    """ok, no (does not fit), node (does not fit, and a pool is invalid) or fatal."""
    allocations: tuple[Json, ...] = ()
    message: str = ""
    steps: int = 0

    def agrees(self, other: Answer) -> bool:
        """Say whether both did the same: messages and amounts of work do not count."""
        return self.kind == other.kind and [_normalize(each) for each in self.allocations] == [
            _normalize(each) for each in other.allocations
        ]


def read(path: Path) -> Iterator[Json]:
    """Read vectors from a file, compressed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            yield json.loads(line)


def wanted_answer(vector: Json) -> Answer:
    """Return the right answer of a vector."""
    quirks = set(vector.get("quirks") or ())
    recorded = vector["without_quirks"] if quirks and quirks <= REPAIRED else vector["expected"]
    if recorded["ok"]:
        return Answer("ok", tuple(recorded["results"]), steps=recorded.get("steps") or 0)
    return Answer(recorded.get("error_kind") or "no", message=recorded.get("error") or "")


def allocate_vector(vector: Json, *, with_table: bool = False) -> Answer:
    """Run the allocator on a vector, with CEL or with the recorded table of what each selector says."""
    scenario = vector["scenario"]
    slices = [_decode(each, PublishedSlice) for each in scenario["slices"] or ()]
    snapshot = Snapshot(
        slices,
        {each["metadata"]["name"]: _decode(each, DeviceClass) for each in scenario["classes"] or ()},
        [_decode(each, Claim) for each in scenario["allocated"] or ()],
        _make_table(slices, vector["selectors"]) if with_table else evaluate,
    )
    node = NodeView(scenario["node"]["name"], scenario["node"].get("labels") or {})
    claims = [_decode(each, Claim) for each in scenario["claims"] or ()]
    try:
        return _answer(allocate(snapshot, node, claims))
    except InvalidClaim as error:
        return Answer("fatal", message=str(error))


def _answer(outcome: Allocated | Unsatisfiable) -> Answer:
    if isinstance(outcome, Allocated):
        return Answer("ok", tuple(map(_encode, outcome.allocations)), steps=outcome.steps)
    return Answer("node" if outcome.is_node_error else "no", message=outcome.message, steps=outcome.steps)


def _decode(value: object, kind: type[_Kind]) -> _Kind:
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


def _encode(allocation: Allocation) -> Json:
    encoded: Json = json.loads(msgspec.json.encode(allocation))
    return encoded


def _make_table(slices: Sequence[PublishedSlice], table: Mapping[str, Sequence[str]]) -> Evaluate:
    """Return an evaluator that looks verdicts up: a letter a device, a text a slice; `C` does not compile."""
    places = {
        id(device): (number, position)
        for number, each in enumerate(slices)
        for position, device in enumerate(each.spec.devices)
    }

    def look_up(expression: str, device: Device) -> bool:
        verdicts = table[expression]
        if verdicts == "C":
            raise CompileError("recorded")
        number, position = places[id(device.published)]
        if verdicts[number][position] == "E":
            raise EvaluationError("recorded")
        return verdicts[number][position] == "T"

    return look_up


def _normalize(value: Any, name: str = "") -> Any:
    """Drop what is only another way to write the same."""
    if isinstance(value, dict):
        if name == "consumedCapacity":
            return {key: quantities.parse(text).nanos for key, text in value.items()}
        kept = {key: _normalize(item, key) for key, item in value.items() if key != "shareID"}
        return {key: item for key, item in kept.items() if item not in (None, [], {})}
    return [_normalize(item) for item in value] if isinstance(value, list) else value
