"""What the pictures are drawn from: everything found, at its place, and nothing that is not known."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import pytest

from driver.core import health, inventory, topology
from driver.core.topology import Cable, Topology
from driver.model.devices import Accelerator, Fabric, Failure, Inventory, Remote
from driver.model.health import HealthEvent, Severity
from tests.fakes.hardware import GIBIBYTE, accelerator, link, mesh, partition, snapshot

NAMES = tuple(f"0000:{bus:02x}:00.0" for bus in range(1, 9))


def build(*devices: Accelerator) -> Inventory:
    numbered = [dataclasses.replace(device, index=index) for index, device in enumerate(devices)]
    return inventory.build(snapshot(*numbered))


def describe(*devices: Accelerator) -> Topology:
    return topology.describe(build(*devices))


def places(picture: Topology) -> dict[str, dict[str, list[str]]]:
    return {
        socket.name: {root.name: [tile.label for tile in root.tiles] for root in socket.roots}
        for socket in picture.sockets
    }


def test_a_network_interface_is_called_what_it_is() -> None:
    nic = dataclasses.replace(accelerator(NAMES[0], numa_node=0, pcie_root="pci0000:00"), type="nic")
    assert places(describe(nic)) == {"NUMA node 0": {"pci0000:00": ["NIC 0"]}}


def test_devices_stand_under_their_socket_and_root() -> None:
    devices = (
        accelerator(NAMES[0], numa_node=1, pcie_root="pci0000:80"),
        accelerator(NAMES[1], numa_node=0, pcie_root="pci0000:00"),
        accelerator(NAMES[2], numa_node=1, pcie_root="pci0000:80"),
        accelerator(NAMES[3], numa_node=1, pcie_root="pci0000:c0"),
    )
    assert places(describe(*devices)) == {
        "NUMA node 0": {"pci0000:00": ["GPU 1"]},
        "NUMA node 1": {"pci0000:80": ["GPU 0", "GPU 2"], "pci0000:c0": ["GPU 3"]},
    }


def test_what_is_not_known_is_called_unknown_and_stands_last() -> None:
    devices = (accelerator(NAMES[0], numa_node=None, pcie_root=None), accelerator(NAMES[1]))
    assert places(describe(*devices)) == {
        "NUMA node 0": {"pci0000:15": ["GPU 1"]},
        "NUMA node unknown": {"PCIe root unknown": ["GPU 0"]},
    }


def test_an_empty_node_says_so() -> None:
    picture = describe()
    assert (picture.title, picture.sockets, picture.missing) == ("No devices", (), ())


def test_the_title_counts_the_models() -> None:
    devices = [accelerator(name, model=model) for name, model in zip(NAMES, ("B", "A", "B"), strict=False)]
    assert describe(*devices).title == "2 x B + A"


def test_the_subtitle_leaves_out_versions_that_are_not_known() -> None:
    found = inventory.build(dataclasses.replace(snapshot(), driver_version=None))
    assert topology.describe(found).subtitle == "vendor simulated, runtime 13.0"


def test_direct_links_are_groups_and_cables() -> None:
    picture = describe(*mesh(*[*combinations(NAMES[:3], 2)] * 2, (NAMES[2], NAMES[3])))
    (group,) = picture.groups
    assert (group.letter, group.domain, group.members) == ("A", NAMES[0], ("GPU 0", "GPU 1", "GPU 2"))
    assert group.reach == "every pair linked directly"
    assert group.links == "4 to 5 links each, generation 4, 100 to 125 GB/s each"
    assert Cable("GPU 0", "GPU 1", 2) in picture.cables
    assert Cable("GPU 2", "GPU 3", 1) in picture.cables
    assert [tile.group for tile in picture.tiles] == ["A", "A", "A", ""]


@pytest.mark.parametrize(
    ("switches", "reach"),
    [
        (("0000:aa:00.0",), "fully linked through 1 switch"),
        (("0000:aa:00.0", "0000:ab:00.0"), "fully linked through 2 switches"),
        ((None,), "fully linked through switches outside the node"),
    ],
)
def test_switches_are_counted(switches: tuple[str | None, ...], reach: str) -> None:
    links = tuple(link(number, switch, remote=Remote.SWITCH) for number, switch in enumerate(switches))
    (group,) = describe(*(accelerator(name, links=links) for name in NAMES[:2])).groups
    assert group.switched
    assert group.reach == reach
    assert group.switches == tuple(switch for switch in switches if switch)


def test_a_bandwidth_that_is_not_known_is_not_said() -> None:
    links = (dataclasses.replace(link(0, None, remote=Remote.SWITCH), gbytes_per_second=None, version=None),)
    (group,) = describe(*(accelerator(name, links=links) for name in NAMES[:2])).groups
    assert group.links == "1 links each"


def test_partitions_are_shares_of_memory_in_the_order_of_their_place() -> None:
    parts = (partition("1g.10gb", 4), partition("1g.10gb", 0), partition("2g.20gb", 2))
    (tile,) = describe(accelerator(partitioned=True, partitions=parts)).tiles
    assert [(part.profile, part.placement, part.share) for part in tile.parts] == [
        ("1g.10gb", 0, 0.125),
        ("2g.20gb", 2, 0.125),
        ("1g.10gb", 4, 0.125),
    ]
    assert tile.summary == "2 x 1g.10gb + 2g.20gb"


def test_a_share_that_is_not_known_is_none() -> None:
    part = dataclasses.replace(partition(), memory_bytes=None)
    (tile,) = describe(accelerator(partitioned=True, partitions=(part,))).tiles
    assert tile.parts[0].share == 0


def test_partition_mode_without_partitions_is_said_and_not_published() -> None:
    picture = describe(accelerator(NAMES[0], partitioned=True))
    assert picture.tiles[0].summary == "no partitions"
    assert picture.missing == (f"GPU 0 {NAMES[0]}: it is in partition mode and has no partitions",)


def test_devices_that_lack_the_same_are_one_line_and_those_that_do_not_answer_one_each() -> None:
    failures = [Failure(NAMES[0], index, "a reset is needed", "partitions") for index in (3, 4, 5)]
    failures += [
        Failure(NAMES[0], 4, "a reset is needed", "whole device"),
        *(Failure(NAMES[0], each, "lost") for each in (6, 7)),
    ]
    found = dataclasses.replace(inventory.build(snapshot()), omitted=tuple(failures))
    texts = ("GPU 3-5: a reset is needed", f"GPU 4 {NAMES[0]}: a reset is needed")
    assert topology.describe(found).missing == (*texts, f"GPU 6 {NAMES[0]}: lost", f"GPU 7 {NAMES[0]}: lost")


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure(NAMES[0], 3, "lost"), f"GPU 3 {NAMES[0]}: lost"),
        (Failure(None, 3, "lost"), "GPU 3: lost"),
        (Failure(NAMES[0], None, "lost"), f"{NAMES[0]}: lost"),
        (Failure(None, None, "lost"), "A device: lost"),
    ],
)
def test_what_does_not_answer_is_named_as_well_as_it_can_be(failure: Failure, text: str) -> None:
    found = inventory.build(dataclasses.replace(snapshot(), failures=(failure,)))
    assert topology.describe(found).missing == (text,)


def test_states_are_those_of_the_published_taints_and_the_worst_is_shown() -> None:
    state = health.HealthState()
    for cause, severity in (("a", Severity.DEGRADED), ("b", Severity.UNHEALTHY)):
        state = health.fold(state, HealthEvent(NAMES[0], cause, severity, "", 0.0))
    state = health.fold(state, HealthEvent(NAMES[1], "a", Severity.DEGRADED, "", 0.0, "MIG-1g.10gb-0"))
    parts = accelerator(NAMES[1], index=1, partitioned=True, partitions=(partition(),))
    picture = topology.describe(inventory.build(snapshot(accelerator(NAMES[0]), parts), state))
    assert [tile.state for tile in picture.tiles] == ["unhealthy", ""]
    assert picture.tiles[1].parts[0].state == "degraded"


def test_a_fabric_is_named_once() -> None:
    devices = [accelerator(name, fabric=Fabric("cluster", 7)) for name in NAMES[:4]]
    assert describe(*devices).fabrics == ("Multi-node fabric cluster, clique 7",)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "memory unknown"),
        (0, "memory unknown"),
        (80 * GIBIBYTE, "80 GiB"),
        (81559 << 20, "79.6 GiB"),
        (512 << 20, "512 MiB"),
    ],
)
def test_memory_is_said_as_people_say_it(count: int | None, text: str) -> None:
    assert topology.print_memory(count) == text


@pytest.mark.parametrize(
    ("numbers", "text"), [([0], "GPU 0"), ([0, 1, 2, 3, 5], "GPU 0-3, 5"), ([10, 2, 9], "GPU 2, 9-10")]
)
def test_labels_are_drawn_together(numbers: list[int], text: str) -> None:
    assert topology.shorten([topology.label(number) for number in numbers]) == text
