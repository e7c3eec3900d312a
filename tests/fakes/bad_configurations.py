"""A table of bad configurations: the text of opaque parameters, the field that has to be named, and words about it.

Some are written by hand, as people write them; the rest are good documents with one value replaced by each of many
that do not fit. The node, the webhook and lint are each tried with all of them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

VERSION: Final = "config.accel-dra.dev/v1alpha1"
HEAD: Final = f'"apiVersion": "{VERSION}"'


@dataclass(frozen=True)
class Bad:
    """One bad configuration."""

    text: bytes
    field: str
    """Path within the parameters; empty: all of them."""
    words: str
    """Part of what has to be said."""
    name: str = ""

    @property
    def is_embeddable(self) -> bool:
        """Whether it can stand within a claim: anything else would make the whole claim no JSON, or another one."""
        try:
            value = json.loads(self.text.decode(), parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and not self.text.endswith(b" " * 100 + b"}")


class _NoJsonError(ValueError):
    """NaN and Infinity are no JSON."""


def _refuse(text: str) -> object:
    raise _NoJsonError(text)


def gpu(sharing: str) -> bytes:
    """Return the text of a GpuConfig whose `sharing` is this text."""
    return f'{{{HEAD}, "kind": "GpuConfig", "sharing": {sharing}}}'.encode()


def partition(sharing: str) -> bytes:
    """Return the text of a PartitionConfig whose `sharing` is this text."""
    return f'{{{HEAD}, "kind": "PartitionConfig", "sharing": {sharing}}}'.encode()


def mps(settings: str) -> bytes:
    """Return the text of a GpuConfig with these settings of MPS."""
    return gpu(f'{{"strategy": "MPS", "mps": {settings}}}')


HAND_WRITTEN: Final = (
    # What is no configuration at all.
    Bad(b"", "", "a JSON object"),
    Bad(b"nonsense", "", "a JSON object"),
    Bad(b"null", "", "a JSON object"),
    Bad(b"[]", "", "a JSON object"),
    Bad(b'"GpuConfig"', "", "a JSON object"),
    Bad(b"4", "", "a JSON object"),
    Bad(b"{", "", "a JSON object"),
    Bad(b"{}", "apiVersion", VERSION),
    Bad(b"\xff\xfe\x00", "", "a JSON object"),
    Bad(b"\xef\xbb\xbf{}", "", "a JSON object"),
    Bad(b"x" * 10_000, "", "a JSON object"),
    Bad(b'{"a": "' + b"\\u00e9" * 1600 + b'"}', "apiVersion", VERSION),
    Bad(b'{"' + b"k" * 9_000 + b'": 1}', "apiVersion", VERSION),
    Bad(b"{" + b" " * 10_300 + b"}", "", "at most 10240 bytes"),
    Bad(b"[" * 5000, "", "16 levels"),
    Bad(b'{"a":' * 1500 + b"1" + b"}" * 1500, "", "16 levels"),
    Bad(gpu("[" * 20 + "]" * 20), "", "16 levels"),
    Bad(gpu('{"strategy": "MPS"},'), "", "a JSON object"),
    Bad(gpu('{"strategy": "MPS"}') + b"}", "", "a JSON object"),
    Bad(gpu('{"strategy": "MPS\x00"}'), "", "a JSON object"),
    # Kind and version.
    Bad(b'{"kind": "GpuConfig", "sharing": {"strategy": "MPS"}}', "apiVersion", "nothing is not allowed"),
    Bad(b'{"apiVersion": null, "kind": "GpuConfig"}', "apiVersion", "null"),
    Bad(b'{"apiVersion": 1, "kind": "GpuConfig"}', "apiVersion", VERSION),
    Bad(b'{"apiVersion": "v1", "kind": "GpuConfig"}', "apiVersion", VERSION),
    Bad(b'{"apiVersion": "config.accel-dra.dev/v1", "kind": "GpuConfig"}', "apiVersion", "was probably meant"),
    Bad(b'{"apiVersion": "config.accel-dra.dev/v1alpha2", "kind": "GpuConfig"}', "apiVersion", "was probably meant"),
    Bad(b'{"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"}', "apiVersion", VERSION),
    Bad(b'{"apiVersion": "gpu.resource.example.com/v1alpha1", "kind": "GpuConfig"}', "apiVersion", VERSION),
    Bad(f"{{{HEAD}}}".encode(), "kind", "AllocationPolicy, GpuConfig, PartitionConfig"),
    Bad(f'{{{HEAD}, "kind": null}}'.encode(), "kind", "null"),
    Bad(f'{{{HEAD}, "kind": ""}}'.encode(), "kind", "GpuConfig"),
    Bad(f'{{{HEAD}, "kind": 3}}'.encode(), "kind", "GpuConfig"),
    Bad(f'{{{HEAD}, "kind": ["GpuConfig"]}}'.encode(), "kind", "GpuConfig"),
    Bad(f'{{{HEAD}, "kind": "gpuConfig"}}'.encode(), "kind", "GpuConfig was probably meant"),
    Bad(f'{{{HEAD}, "kind": "GPUConfig"}}'.encode(), "kind", "GpuConfig was probably meant"),
    Bad(f'{{{HEAD}, "kind": "GpuConfiguration"}}'.encode(), "kind", "GpuConfig was probably meant"),
    Bad(f'{{{HEAD}, "kind": "MigDeviceConfig"}}'.encode(), "kind", "PartitionConfig"),
    Bad(f'{{{HEAD}, "kind": "VfioDeviceConfig"}}'.encode(), "kind", "GpuConfig"),
    Bad(f'{{{HEAD}, "kind": "ComputeDomainChannelConfig"}}'.encode(), "kind", "GpuConfig"),
    Bad(f'{{{HEAD}, "kind": "Partition"}}'.encode(), "kind", "PartitionConfig was probably meant"),
    Bad(f'{{{HEAD}, "kind": "AllocationPolicies"}}'.encode(), "kind", "AllocationPolicy was probably meant"),
    Bad(f'{{{HEAD}, "Kind": "GpuConfig"}}'.encode(), "kind", "nothing is not allowed"),
    Bad(f'{{{HEAD}, "apiVersion": "{VERSION}", "kind": "AllocationPolicy"}}'.encode(), "apiVersion", "each field once"),
    Bad(f'{{{HEAD}, "kind": "GpuConfig", "kind": "AllocationPolicy"}}'.encode(), "kind", "each field once"),
    # `sharing` as a whole.
    Bad(f'{{{HEAD}, "kind": "GpuConfig"}}'.encode(), "sharing", "nothing is not allowed"),
    Bad(f'{{{HEAD}, "kind": "PartitionConfig"}}'.encode(), "sharing", "nothing is not allowed"),
    Bad(gpu("null"), "sharing", "null is not allowed"),
    Bad(gpu("{}"), "sharing.strategy", "Exclusive, TimeSlicing, MPS"),
    Bad(gpu('{"timeSlicingConfig": {}}'), "sharing.timeSlicingConfig", "timeSlicing was probably meant"),
    Bad(
        gpu('{"strategy": "TimeSlicing", "timeSlicingConfig": {}}'),
        "sharing.timeSlicingConfig",
        "timeSlicing was probably meant",
    ),
    Bad(
        gpu('{"strategy": "TimeSlicing", "timeSlicingConfig": {"interval": "Long"}}'),
        "sharing.timeSlicingConfig",
        "timeSlicing was probably meant",
    ),
    Bad(gpu('{"strategy": "MPS", "mpsConfig": {}}'), "sharing.mpsConfig", "mps was probably meant"),
    Bad(gpu('{"strategy": "MPS", "MPS": {}}'), "sharing.MPS", "mps was probably meant"),
    Bad(gpu('{"strategy": "MPS", "timeslicing": {}}'), "sharing.timeslicing", "timeSlicing was probably meant"),
    Bad(gpu('{"strategy": "MPS", "strategy": "Exclusive"}'), "sharing.strategy", "each field once"),
    Bad(gpu('{"strategy": "MPS"}, "sharing": {"strategy": "Exclusive"}'), "sharing", "each field once"),
    Bad(gpu('{"strategy": "MPS"}, "sharing": null'), "sharing", "each field once"),
    Bad(gpu('{"strategy": "MPS"}, "strategy": "MPS"'), "strategy", "no such field"),
    Bad(gpu('{"strategy": "MPS"}, "spec": {}'), "spec", "no such field"),
    Bad(gpu('{"strategy": "MPS"}, "metadata": {"name": "x"}'), "metadata", "no such field"),
    Bad(gpu('{"strategy": "MPS"}, "": 1'), "''", "no such field"),
    Bad(gpu('{"strategy": "MPS"}, "a.b": 1'), "'a.b'", "no such field"),
    Bad(gpu('{"strategy": "MPS"}, "\\u2028\\ud800": 1'), "'\\u2028\ufffd'", "no such field"),
    Bad(gpu('{"strategy": "MPS", "replicas": 4}'), "sharing.replicas", "no such field"),
    Bad(gpu('{"strategy": "SpacePartitioning"}'), "sharing.strategy", "Exclusive, TimeSlicing, MPS"),
    Bad(gpu('{"strategy": "exclusive"}'), "sharing.strategy", "Exclusive was probably meant"),
    Bad(gpu('{"strategy": "Time-Slicing"}'), "sharing.strategy", "TimeSlicing was probably meant"),
    Bad(gpu('{"strategy": "\\ud83d"}'), "sharing.strategy", "Exclusive, TimeSlicing, MPS"),
    # Settings of another strategy.
    Bad(gpu('{"strategy": "TimeSlicing", "mps": {}}'), "sharing.mps", "only together with strategy MPS"),
    Bad(
        gpu('{"strategy": "TimeSlicing", "mps": {"activeThreadPercentage": 50}}'),
        "sharing.mps",
        "only together with strategy MPS",
    ),
    Bad(gpu('{"strategy": "Exclusive", "mps": {}}'), "sharing.mps", "only together with strategy MPS"),
    Bad(gpu('{"strategy": "MPS", "timeSlicing": {}}'), "sharing.timeSlicing", "together with strategy TimeSlicing"),
    Bad(gpu('{"strategy": "Exclusive", "timeSlicing": {}}'), "sharing.timeSlicing", "strategy TimeSlicing"),
    Bad(partition('{"strategy": "Exclusive", "timeSlicing": {}}'), "sharing.timeSlicing", "strategy TimeSlicing"),
    # Partitions have no time slice of their own.
    *(
        Bad(
            partition(f'{{"strategy": "TimeSlicing", "timeSlicing": {{"interval": "{interval}"}}}}'),
            "sharing.timeSlicing.interval",
            "the time slice of a partition cannot be set",
        )
        for interval in ("Short", "Medium", "Long")
    ),
    Bad(
        gpu('{"strategy": "TimeSlicing", "timeSlicing": {"duration": "2ms"}}'),
        "sharing.timeSlicing.duration",
        "no such field; the fields are interval",
    ),
    # The words of another driver's API.
    Bad(mps('{"defaultActiveThreadPercentage": 50}'), "sharing.mps.defaultActiveThreadPercentage", "activeThread"),
    Bad(mps('{"defaultPinnedDeviceMemoryLimit": "4Gi"}'), "sharing.mps.defaultPinnedDeviceMemoryLimit", "pinnedMemory"),
    Bad(mps('{"multiUser": true}'), "sharing.mps.multiUser", "no such field"),
    # Overrides.
    Bad(mps('{"perDevice": {"0": "4Gi"}}'), "sharing.mps.perDevice", "a list of at most 32 objects"),
    Bad(mps('{"perDevice": [{}]}'), "sharing.mps.perDevice[0].index", "one of index and uuid"),
    Bad(mps('{"perDevice": [null]}'), "sharing.mps.perDevice[0]", "an object with the fields index, uuid"),
    Bad(
        mps('{"perDevice": [{"index": 0, "uuid": "GPU-1", "activeThreadPercentage": 5}]}'),
        "sharing.mps.perDevice[0].uuid",
        "only one of index and uuid",
    ),
    Bad(mps('{"perDevice": [{"index": 0}]}'), "sharing.mps.perDevice[0].activeThreadPercentage", "at least one of"),
    Bad(
        mps('{"perDevice": [{"uuid": "GPU-1"}]}'), "sharing.mps.perDevice[0].activeThreadPercentage", "at least one of"
    ),
    Bad(
        mps('{"perDevice": [{"index": 0, "activeThreadPercentage": 5}, {"index": 0, "pinnedMemoryLimit": "1Gi"}]}'),
        "sharing.mps.perDevice[1].index",
        "each device once; sharing.mps.perDevice[0] is about the same one",
    ),
    Bad(
        mps('{"perDevice": [{"uuid": "a", "activeThreadPercentage": 5}, {"uuid": "a", "activeThreadPercentage": 6}]}'),
        "sharing.mps.perDevice[1].uuid",
        "each device once",
    ),
    Bad(
        mps('{"perDevice": [{"index": 0, "pinnedMemoryLimit": "4Gi"}, {"index": 1, "pinnedMemoryLimit": "512Ki"}]}'),
        "sharing.mps.perDevice[1].pinnedMemoryLimit",
        "at least 1Mi",
    ),
    Bad(
        mps('{"perDevice": [{"device": 0, "activeThreadPercentage": 5}]}'), "sharing.mps.perDevice[0].device", "no such"
    ),
    Bad(mps(f'{{"perDevice": [{", ".join(["{}"] * 33)}]}}'), "sharing.mps.perDevice", "a list of at most 32 objects"),
    # Numbers that no field takes, and that JSON does not know.
    Bad(mps('{"activeThreadPercentage": NaN}'), "sharing.mps.activeThreadPercentage", "NaN is not allowed"),
    Bad(mps('{"activeThreadPercentage": -Infinity}'), "sharing.mps.activeThreadPercentage", "-Infinity"),
    Bad(mps('{"activeThreadPercentage": 1e999}'), "sharing.mps.activeThreadPercentage", "1e999 is not allowed"),
    Bad(mps(f'{{"activeThreadPercentage": {"9" * 5000}}}'), "sharing.mps.activeThreadPercentage", "999…"),
    Bad(mps('{"pinnedMemoryLimit": Infinity}'), "sharing.mps.pinnedMemoryLimit", "Infinity is not allowed"),
    Bad(mps(f'{{"pinnedMemoryLimit": {"9" * 5000}}}'), "sharing.mps.pinnedMemoryLimit", "a quantity of bytes"),
    # An AllocationPolicy goes through the same.
    Bad(f'{{{HEAD}, "kind": "AllocationPolicy", "when": "Now"}}'.encode(), "when", "FirstConsumer, Immediate"),
    Bad(f'{{{HEAD}, "kind": "AllocationPolicy", "group": {{"size": "4"}}}}'.encode(), "group.size", "a whole number"),
    Bad(f'{{{HEAD}, "kind": "AllocationPolicy", "group": {{"size": 4, "size": 5}}}}'.encode(), "group.size", "once"),
    Bad(
        f'{{{HEAD}, "kind": "AllocationPolicy", "group": {{"size": 1, "within": NaN}}}}'.encode(), "group.within", "NaN"
    ),
    Bad(f'{{{HEAD}, "kind": "AllocationPolicy", "sharing": {{}}}}'.encode(), "sharing", "no such field"),
)

_GOOD: Final[dict[str, Any]] = {
    "apiVersion": VERSION,
    "kind": "GpuConfig",
    "sharing": {
        "strategy": "MPS",
        "mps": {
            "activeThreadPercentage": 50,
            "pinnedMemoryLimit": "4Gi",
            "perDevice": [{"index": 0, "activeThreadPercentage": 20, "pinnedMemoryLimit": "1Gi"}],
        },
    },
}
_SLICED: Final[dict[str, Any]] = {
    "apiVersion": VERSION,
    "kind": "GpuConfig",
    "sharing": {"strategy": "TimeSlicing", "timeSlicing": {"interval": "Default"}},
}
_POLICY: Final[dict[str, Any]] = {
    "apiVersion": VERSION,
    "kind": "AllocationPolicy",
    "interconnect": "Prefer",
    "placement": "Pack",
}

_NO_TEXTS: Final[tuple[object, ...]] = (True, False, 0, 7, -1.5, [], ["MPS"], {}, {"a": 1}, "", " ", "x" * 3000)
_NO_PERCENTAGES: Final[tuple[object, ...]] = (
    0,
    -1,
    101,
    1000,
    50.5,
    10**30,
    "50",
    "50%",
    "",
    True,
    [50],
    {"value": 50},
)
_NO_LIMITS: Final[tuple[object, ...]] = (
    0,
    1,
    -1,
    1.5,
    1048575,
    "",
    "four",
    "4 Gi",
    "4GiB",
    "1023Ki",
    "-4Gi",
    "0.5",
    "1e9999",
    True,
    [],
    {},
)
_NO_INDICES: Final[tuple[object, ...]] = (-1, 32, 0.5, "0", True, [0], {})
_NO_UUIDS: Final[tuple[object, ...]] = ("", 5, True, [], "x" * 65, "GPU-é")
_NO_OBJECTS: Final[tuple[object, ...]] = (True, 4, 0.5, "MPS", "", [], [{}])
_NO_LISTS: Final[tuple[object, ...]] = (True, 4, "GPU-1", {}, {"0": "4Gi"})

_Place = tuple[str | int, ...]
_REPLACED: Final[tuple[tuple[dict[str, Any], _Place, tuple[object, ...], str], ...]] = (
    (_GOOD, ("sharing",), _NO_OBJECTS, "an object with the fields"),
    (_GOOD, ("sharing", "strategy"), _NO_TEXTS, "Exclusive, TimeSlicing, MPS"),
    (_GOOD, ("sharing", "mps"), _NO_OBJECTS, "an object with the fields"),
    (_GOOD, ("sharing", "mps", "activeThreadPercentage"), _NO_PERCENTAGES, "a whole number from 1 to 100"),
    (_GOOD, ("sharing", "mps", "pinnedMemoryLimit"), _NO_LIMITS, "a quantity of bytes"),
    (_GOOD, ("sharing", "mps", "perDevice"), _NO_LISTS, "a list of at most 32 objects"),
    (_GOOD, ("sharing", "mps", "perDevice", 0), (*_NO_OBJECTS, None), "an object with the fields"),
    (_GOOD, ("sharing", "mps", "perDevice", 0, "index"), _NO_INDICES, "a whole number from 0 to 31"),
    (_GOOD, ("sharing", "mps", "perDevice", 0, "activeThreadPercentage"), _NO_PERCENTAGES, "from 1 to 100"),
    (_GOOD, ("sharing", "mps", "perDevice", 0, "pinnedMemoryLimit"), _NO_LIMITS, "a quantity of bytes"),
    (_SLICED, ("sharing", "timeSlicing"), _NO_OBJECTS, "an object with the fields interval"),
    (_SLICED, ("sharing", "timeSlicing", "interval"), _NO_TEXTS, "Default, Short, Medium, Long"),
    (_POLICY, ("interconnect",), _NO_TEXTS, "Require, Prefer, Ignore"),
    (_POLICY, ("placement",), _NO_TEXTS, "Pack, Spread"),
)


def replace(document: dict[str, Any], place: _Place, value: object) -> dict[str, Any]:
    """Return the document with another value at a place."""
    changed = copy.deepcopy(document)
    at: Any = changed
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return changed


def write_path(place: _Place) -> str:
    """Return a place as an error names it."""
    parts = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return "".join(parts).removeprefix(".")


def generate() -> Iterator[Bad]:
    """Yield good documents with one wrong value each, for every kind that has the field."""
    for document, place, values, words in _REPLACED:
        kinds = ["GpuConfig", "PartitionConfig"] if document["kind"] == "GpuConfig" else [document["kind"]]
        for kind in kinds:
            for value in values:
                text = json.dumps({**replace(document, place, value), "kind": kind})
                yield Bad(text.encode(), write_path(place), words)
    for value in _NO_UUIDS:
        entry = {"uuid": value, "activeThreadPercentage": 5}
        text = json.dumps(replace(_GOOD, ("sharing", "mps", "perDevice", 0), entry))
        yield Bad(text.encode(), "sharing.mps.perDevice[0].uuid", "accel-dra.dev/uuid")


def number_all() -> list[Bad]:
    """Return the whole table; each entry with a name for the reports of tests."""
    every = [*HAND_WRITTEN, *generate()]
    return [
        Bad(bad.text, bad.field, bad.words, f"{number:03}-{bad.field or 'all'}") for number, bad in enumerate(every, 1)
    ]


TABLE: Final = number_all()
