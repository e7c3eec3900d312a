"""What stands where: sockets, PCIe roots, devices and the links between them. Called by `accel-dra inventory`.

A plain description of one node for people, from its inventory; `topology_text` and `topology_svg` draw it. It promises
that everything found is in it, also what does not answer, and that what is not known is called unknown. It must not
decide anything: the interconnect domains are those that are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from driver.core.interconnects import Domains, find_domains, sum_bandwidth
from driver.model import vocabulary
from driver.model.devices import Accelerator, Failure, Inventory, Partition, Remote

MEBIBYTE: Final = 1 << 20
GIBIBYTE: Final = 1 << 30
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Part:
    """One partition. `share` of its parent's memory, 0 to 1; 0 if not known."""

    profile: str
    placement: int
    share: float
    state: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One accelerator. `group` is the letter of its interconnect domain, empty without one; `state` of its health."""

    label: str
    address: str
    model: str
    memory: str
    group: str
    state: str
    partitioned: bool
    parts: tuple[Part, ...]

    @property
    def summary(self) -> str:
        """What a small request can still take of it: its memory, or its partitions in a few words."""
        if not self.partitioned:
            return self.memory
        return summarise(tuple(part.profile for part in self.parts)) or "no partitions"


@dataclass(frozen=True, slots=True)
class Root:
    """A PCIe root complex and what is behind it."""

    name: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Socket:
    """A NUMA node and its PCIe roots."""

    name: str
    roots: tuple[Root, ...]

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All devices of the socket, in the order in which they are drawn."""
        return tuple(tile for root in self.roots for tile in root.tiles)


@dataclass(frozen=True, slots=True)
class Group:
    """One interconnect domain: devices that are fully linked with each other."""

    letter: str
    domain: str
    members: tuple[str, ...]
    """Labels of the devices."""
    switches: tuple[str, ...]
    """PCI addresses of the switches between them; empty for direct links or switches outside the node."""
    switched: bool
    links: str
    """What each member has, such as `18 links each, generation 4, 450 GB/s each`."""

    @property
    def reach(self) -> str:
        """How the members are linked, in a few words."""
        if not self.switched:
            return "every pair linked directly"
        if not self.switches:
            return "fully linked through switches outside the node"
        return f"fully linked through {len(self.switches)} switch{'es' if len(self.switches) > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Cable:
    """Direct links between two devices, given by their labels."""

    one: str
    other: str
    count: int


@dataclass(frozen=True, slots=True)
class Topology:
    """One node as a picture shows it."""

    title: str
    subtitle: str
    sockets: tuple[Socket, ...]
    groups: tuple[Group, ...]
    cables: tuple[Cable, ...]
    fabrics: tuple[str, ...]
    missing: tuple[str, ...]
    """What is not published, each with its reason."""

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """All devices, in the order in which they are drawn."""
        return tuple(tile for socket in self.sockets for tile in socket.tiles)


def describe(inventory: Inventory) -> Topology:
    """Return the picture of a node."""
    devices = sorted(inventory.snapshot.accelerators, key=lambda device: device.index)
    domains = find_domains(devices)
    letters = {group: LETTERS[number % len(LETTERS)] for number, group in enumerate(sorted(set(domains.values())))}
    snapshot = inventory.snapshot
    versions = [
        f"{word} {version}"
        for word, version in (("driver", snapshot.driver_version), ("runtime", snapshot.runtime_version))
        if version
    ]
    return Topology(
        title=summarise(tuple(device.model for device in devices)) or "No devices",
        subtitle=", ".join([f"vendor {snapshot.vendor}", *versions]),
        sockets=_find_sockets(devices, domains, letters, _find_states(inventory)),
        groups=tuple(_describe_group(group, letter, devices) for group, letter in letters.items()),
        cables=_find_cables(devices),
        fabrics=_describe_fabrics(devices),
        missing=tuple(_describe_failures(inventory.omitted)),
    )


def summarise(texts: Sequence[str]) -> str:
    """Return `7 x 1g.10gb + 2g.20gb` for a list of texts, in the order in which they first occur."""
    counts = {text: texts.count(text) for text in texts}
    return " + ".join(text if count == 1 else f"{count} x {text}" for text, count in counts.items())


def shorten(labels: Sequence[str]) -> str:
    """Return labels with runs drawn together: `GPU 0-3, 5` for GPU 0, GPU 1, GPU 2, GPU 3 and GPU 5."""
    numbers = [int(text.removeprefix("GPU ")) for text in labels]
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "GPU " + ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def print_memory(count: int | None) -> str:
    """Return bytes as people say them: `80 GiB`, `79.6 GiB`, `512 MiB`."""
    if not count or count < 0:
        return "memory unknown"
    if count < GIBIBYTE:
        return f"{count // MEBIBYTE} MiB"
    return f"{count / GIBIBYTE:.1f}".removesuffix(".0") + " GiB"


def _find_sockets(
    devices: Sequence[Accelerator], domains: Domains, letters: dict[tuple[str, ...], str], states: dict[str, str]
) -> tuple[Socket, ...]:
    places: dict[int, dict[str, list[Tile]]] = {}
    for device in devices:
        # What is not known is drawn after what is.
        node = device.numa_node if device.numa_node is not None else 1 << 30
        group = domains.get(device.pci_address, ())
        tile = _describe_device(device, letters.get(group, ""), states)
        places.setdefault(node, {}).setdefault(device.pcie_root or "", []).append(tile)
    return tuple(
        Socket(
            name="NUMA node unknown" if node == 1 << 30 else f"NUMA node {node}",
            roots=tuple(
                Root(name or "PCIe root unknown", tuple(tiles))
                for name, tiles in sorted(roots.items(), key=lambda item: (item[0] == "", item[1][0].address))
            ),
        )
        for node, roots in sorted(places.items())
    )


def _describe_device(device: Accelerator, letter: str, states: dict[str, str]) -> Tile:
    return Tile(
        label=label(device.index, device.type),
        address=device.pci_address,
        model=device.model,
        memory=print_memory(device.memory_bytes),
        group=letter,
        state=states.get(device.uuid, ""),
        partitioned=device.partitioned,
        parts=tuple(_describe_part(device, part, states) for part in sorted(device.partitions, key=_position))
        if device.partitioned
        else (),
    )


def _describe_part(device: Accelerator, part: Partition, states: dict[str, str]) -> Part:
    known = device.memory_bytes and part.memory_bytes
    share = min(1.0, (part.memory_bytes or 0) / device.memory_bytes) if known and device.memory_bytes else 0.0
    return Part(part.profile, part.placement, share, states.get(part.uuid or "", ""))


def _position(part: Partition) -> tuple[int, int]:
    return (part.placement, part.subplacement or 0)


def label(index: int | None, kind: str = vocabulary.TYPE_GPU) -> str:
    """Return how a picture calls a device: by the vendor's index, which people know from the vendor's tools."""
    return kind.upper() if index is None else f"{kind.upper()} {index}"


def _find_states(inventory: Inventory) -> dict[str, str]:
    """Return the worst taint of each device by its UUID: `unhealthy`, `degraded` or nothing."""
    words = {vocabulary.TAINT_UNHEALTHY: "unhealthy", vocabulary.TAINT_DEGRADED: "degraded"}
    states = {}
    for entry in inventory.entries:
        found = [words[taint.key] for taint in entry.device.taints if taint.key in words]
        if found:
            states[(entry.partition or entry.accelerator).uuid or entry.name] = max(found)
    return states


def _describe_group(group: tuple[str, ...], letter: str, devices: Sequence[Accelerator]) -> Group:
    members = [device for device in devices if device.pci_address in group]
    active = [[link for link in device.links if link.active] for device in members]
    switches = {link.remote_address for links in active for link in links if link.remote is Remote.SWITCH}
    versions = {f"generation {link.version}" for links in active for link in links if link.version is not None}
    counts = {len(links) for links in active}
    speeds = {sum_bandwidth(device) for device in members}
    facts = [f"{_range(counts)} links each", *sorted(versions)]
    if None not in speeds:
        facts.append(f"{_range({speed for speed in speeds if speed is not None})} GB/s each")
    return Group(
        letter=letter,
        domain=group[0],
        members=tuple(label(device.index) for device in members),
        switches=tuple(sorted(switch for switch in switches if switch is not None)),
        switched=bool(switches),
        links=", ".join(facts),
    )


def _range(numbers: set[int]) -> str:
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def _find_cables(devices: Sequence[Accelerator]) -> tuple[Cable, ...]:
    found = []
    for one, other in combinations(devices, 2):
        counts = [
            sum(link.active and link.remote is Remote.DEVICE and link.remote_address == there for link in here.links)
            for here, there in ((one, other.pci_address), (other, one.pci_address))
        ]
        if min(counts):
            found.append(Cable(label(one.index), label(other.index), min(counts)))
    return tuple(found)


def _describe_fabrics(devices: Sequence[Accelerator]) -> tuple[str, ...]:
    fabrics = sorted({(device.fabric.cluster_uuid, device.fabric.clique) for device in devices if device.fabric})
    return tuple(f"Multi-node fabric {cluster}, clique {clique}" for cluster, clique in fabrics)


def _describe_failures(failures: Iterable[Failure]) -> Iterator[str]:
    """Yield a sentence a device that is left out, and one a reason for what is offered in part: that is often all."""
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.part, failure.reason), []).append(failure)
    for (part, reason), alike in groups.items():
        labels = [label(each.index) for each in alike if each.index is not None]
        if part and len(labels) == len(alike) > 1:
            yield f"{shorten(labels)}: {reason}"
        else:
            yield from map(_describe_failure, alike)


def _describe_failure(failure: Failure) -> str:
    who = [label(failure.index)] if failure.index is not None else []
    where = [failure.pci_address] if failure.pci_address else []
    return f"{' '.join([*who, *where]) or ('This node' if failure.part else 'A device')}: {failure.reason}"
