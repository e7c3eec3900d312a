"""Recorded allocations (one JSON object a line) against `driver.core.allocator`. Called by tests and `hack/vectors`.

A vector holds what the structured allocator of Kubernetes did with a scenario. Its slices are given, or the name of a
machine whose slices they are. Quantities are compared by value, share
ids not at all, lists in order. Where upstream has a known defect the answer without it is the right one; that is
decided once for each defect, in `docs/allocator.md`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
MACHINES: Final = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "machines"
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


@cache
def read_machine(name: str) -> tuple[PublishedSlice, ...]:
    """Return the slices of a machine in tests/vectors/machines, which several vectors are about."""
    return msgspec.json.decode(
        gzip.decompress((MACHINES / f"{name}.json.gz").read_bytes()), type=tuple[PublishedSlice, ...]
    )


def wanted_answer(vector: Json) -> Answer:
    """Return the right answer of a vector."""
    quirks = set(vector.get("quirks") or ())
    recorded = vector["without_quirks"] if quirks and quirks <= REPAIRED else vector["expected"]
    if recorded["ok"]:
        return Answer("ok", tuple(recorded["results"]), steps=recorded.get("steps") or 0)
    return Answer(recorded.get("error_kind") or "no", message=recorded.get("error") or "")


@dataclass(frozen=True, slots=True)
class Scenario:
    """The input of a vector, decoded."""

    node: NodeView
    slices: list[PublishedSlice]
    classes: dict[str, DeviceClass]
    claims: list[Claim]
    allocated: list[Claim]


def read_scenario(vector: Json) -> Scenario:
    """Decode the input of a vector."""
    scenario = vector["scenario"]
    for claim in scenario["claims"] or ():
        _write_out(claim)
    classes = decode(scenario["classes"] or [], list[DeviceClass])
    slices = scenario["slices"] or []
    return Scenario(
        NodeView(scenario["node"]["name"], scenario["node"].get("labels") or {}),
        list(read_machine(slices)) if isinstance(slices, str) else decode(slices, list[PublishedSlice]),
        {each.metadata.name: each for each in classes},
        decode(scenario["claims"] or [], list[Claim]),
        decode(scenario["allocated"] or [], list[Claim]),
    )


def _write_out(claim: Json) -> None:
    """Say what is not there: the recorded allocator took objects as they are, without the API server's defaults."""
    for request in claim["spec"]["devices"].get("requests") or ():
        for wanted in filter(None, (request.get("exactly"), *(request.get("firstAvailable") or ()))):
            wanted.setdefault("allocationMode", "")
            wanted.setdefault("count", 0)


def allocate_vector(vector: Json, *, with_table: bool = False) -> Answer:
    """Run the allocator on a vector, with CEL or with the recorded table of what each selector says."""
    scenario = read_scenario(vector)
    evaluator = _make_table(scenario.slices, vector["selectors"]) if with_table else evaluate
    snapshot = Snapshot(scenario.slices, scenario.classes, scenario.allocated, evaluator)
    try:
        return _answer(allocate(snapshot, scenario.node, scenario.claims))
    except InvalidClaim as error:
        return Answer("fatal", message=str(error))


def differences(vector: Mapping[str, object]) -> list[str]:
    """Return what we decide differently, in sentences; nothing if we agree."""
    document = dict(vector)
    wanted, answer = wanted_answer(document), allocate_vector(document)
    if answer.agrees(wanted):
        return []
    return [f"expected {wanted.kind} {list(wanted.allocations)}, got {answer.kind} {list(answer.allocations)}"]


def _answer(outcome: Allocated | Unsatisfiable) -> Answer:
    if isinstance(outcome, Allocated):
        return Answer("ok", tuple(map(_encode, outcome.allocations)), steps=outcome.steps)
    return Answer("node" if outcome.is_node_error else "no", message=outcome.message, steps=outcome.steps)


def decode(value: object, kind: type[_Kind]) -> _Kind:
    """Decode a recorded document."""
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
