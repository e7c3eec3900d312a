"""The data files: what a model of accelerator is, and what a node is made of. Called by `hardware`.

It promises that a file which passes here is complete and of the right types; what it means for the hardware (does the
peer exist, is the placement allowed) is checked where it is used. It must not know the driver's words for devices.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from driver.model.errors import InvalidInput, Unavailable

DATA: Final = Path(__file__).parent / "data"

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Call = Literal[
    "switch-mode",
    "create-gpu-instance",
    "create-compute-instance",
    "destroy-compute-instance",
    "destroy-gpu-instance",
]
"""The calls of `instances` that change something."""
PciAddress = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$")]


class File(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of what is read: frozen, camelCase, and a misspelt field is an error."""


class LinkKind(File, frozen=True):
    """The links of a model: their generation, how many one device has, GB/s of each in one direction."""

    version: Positive
    count: Positive
    gbytes_per_second: Positive


class Profile(File, frozen=True):
    """One shape of partition. `size` in memory slices (often of eight), `placements`: at which of them it may begin."""

    memory_mib: Positive = msgspec.field(name="memoryMiB")
    multiprocessors: Positive
    copy_engines: Count
    decoders: Count
    encoders: Count
    jpeg_engines: Count
    ofa_engines: Count
    size: Positive
    placements: tuple[Count, ...]


class Model(File, frozen=True):
    """One product. `model` is its name as the vendor's library says it; `source` where the facts are from."""

    source: str
    model: str
    type: Literal["gpu", "nic"] = "gpu"
    architecture: str | None = None
    compute_capability: str | None = None
    memory_mib: Positive | None = msgspec.field(default=None, name="memoryMiB")
    multiprocessors: Positive | None = None
    link: LinkKind | None = None
    profiles: dict[str, Profile] = {}
    mode_switch: Literal["live", "reset"] = "live"
    """Whether partition mode can be switched at once or takes effect with a reset of the device; then it also survives
    a boot."""


class FabricMembership(File, frozen=True):
    """The multi-node fabric all devices of a node belong to."""

    cluster_uuid: str = msgspec.field(name="clusterUUID")
    clique: Count


class Device(File, frozen=True):
    """One accelerator of a node.

    `links`: `switches` (to the node's own), `fabric` (to switches outside the node) or a number per peer.
    `partitions`: placements per profile; present, even if empty, means that the device is in partition mode.
    `mode_switch`: as in its model, unless it says otherwise here. `pending_mode`: what partition mode was switched to
    and becomes with the next reset. `failure`: it is there and does not answer, for this reason. `power_fault`: it
    refuses to be powered on. `faults`: reasons why it refuses calls that make and destroy partitions.
    """

    model: str
    pci_address: PciAddress
    pcie_root: str | None = None
    numa_node: Count | None = None
    links: Literal["switches", "fabric"] | dict[PciAddress, Positive] = {}
    inactive_links: tuple[Count, ...] = ()
    partitions: dict[str, tuple[Count, ...]] | None = None
    mode_switch: Literal["live", "reset"] | None = None
    pending_mode: Literal["enabled", "disabled"] | None = None
    failure: str | None = None
    power_fault: str | None = None
    faults: dict[Call, str] = {}
    extra: dict[str, str | int | bool] = {}


class Node(File, frozen=True):
    """One machine. With `managed_power` every device has to be powered on before it is used.

    `call_seconds`: how long each call takes that changes partition mode or partitions.
    """

    driver_version: str
    description: str = ""
    runtime_version: str | None = None
    management_version: str | None = None
    managed_power: bool = False
    call_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    switches: tuple[PciAddress, ...] = ()
    fabric: FabricMembership | None = None
    devices: tuple[Device, ...] = ()


_models: Final = msgspec.json.Decoder(Model)
_nodes: Final = msgspec.json.Decoder(Node)


_T = TypeVar("_T")


def find_node(name: str) -> Path:
    """Return the file of a node that ships with the driver, or of one given by path. Raises `InvalidInput`."""
    if "/" in name or name.endswith(".json"):
        return Path(name)
    known = sorted(path.stem for path in (DATA / "nodes").glob("*.json"))
    if name not in known:
        raise InvalidInput("vendor option node", name, f"{', '.join(known)}, or the path of a JSON file")
    return DATA / "nodes" / f"{name}.json"


def read(path: Path) -> bytes:
    """Return the content of a node file. Raises `Unavailable` while there is none: so a driver that is away looks."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error


def parse_node(path: Path, content: bytes) -> Node:
    """Return the node that a file describes. Raises `InvalidInput` naming file, field, value and what is allowed."""
    return _parse(str(path), content, _nodes)


def read_model(name: str) -> Model:
    """Return the facts of a model that ships with the driver. Raises `InvalidInput` for an unknown one."""
    known = sorted(path.stem for path in (DATA / "models").glob("*.json"))
    if name not in known:
        raise InvalidInput("model", name, ", ".join(known))
    path = DATA / "models" / f"{name}.json"
    return _parse(str(path), path.read_bytes(), _models)


def _parse(where: str, content: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    try:
        document: object = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise InvalidInput(where, content[:60].decode(errors="replace"), f"a JSON document ({error})") from error
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        allowed, _, field = str(error).partition(" - at `")
        field = field.rstrip("`") or "$"
        raise InvalidInput(f"{where}: {field}", _at(document, field), allowed) from error


def _at(document: object, field: str) -> object:
    """Return the value at a path such as `$.devices[0].numaNode`; the deepest there is if it leads nowhere."""
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", field):
        if isinstance(document, dict) and key in document:
            document = document[key]
        elif isinstance(document, list) and index and int(index) < len(document):
            document = document[int(index)]
    return document
