"""The picture for terminals, as golden text: change it on purpose."""

from __future__ import annotations

import dataclasses
from itertools import combinations

from driver.core import inventory, topology
from driver.core.topology_text import draw
from driver.model.devices import Accelerator, Fabric, Failure, Remote
from tests.fakes.hardware import accelerator, link, mesh, partition, snapshot

NAMES = tuple(f"0000:{bus:02x}:00.0" for bus in range(1, 9))


def picture(*devices: Accelerator, width: int = 110, failures: tuple[Failure, ...] = ()) -> str:
    numbered = [dataclasses.replace(device, index=index) for index, device in enumerate(devices)]
    found = dataclasses.replace(snapshot(*numbered), failures=failures)
    return draw(topology.describe(inventory.build(found)), width)


def two_sockets(*devices: Accelerator) -> list[Accelerator]:
    half = len(devices) // 2
    return [
        dataclasses.replace(device, numa_node=index // half, pcie_root=f"pci0000:{index // half * 8}0")
        for index, device in enumerate(devices)
    ]


def test_switches_hang_under_the_sockets() -> None:
    links = tuple(link(number, f"0000:a{number}:00.0", remote=Remote.SWITCH) for number in range(2))
    drawn = picture(*two_sockets(*(accelerator(name, links=links) for name in NAMES[:4])))
    assert drawn == (
        "4 x NVIDIA H100 80GB HBM3\n"
        "vendor simulated, driver 580.126.09, runtime 13.0\n"
        "\n"
        "╭─ NUMA node 0 ─────────────────────────────────╮   ╭─ NUMA node 1 ─────────────────────────────────╮\n"
        "│ pci0000:00 ─┬─ GPU 0  0000:01:00.0  80 GiB  A │   │ pci0000:80 ─┬─ GPU 2  0000:03:00.0  80 GiB  A │\n"
        "│             ╰─ GPU 1  0000:02:00.0  80 GiB  A │   │             ╰─ GPU 3  0000:04:00.0  80 GiB  A │\n"
        "╰───────────────────────────────────────────────╯   ╰───────────────────────────────────────────────╯\n"
        "                        ║                                                   ║\n"
        "╔═══════════════════════╩═══════════════════════════════════════════════════╩═══════════════════════╗\n"
        "║ A  GPU 0-3: fully linked through 2 switches                                                       ║\n"
        "║    2 links each, generation 4, 50 GB/s each                                                       ║\n"
        "║    0000:a0:00.0  0000:a1:00.0                                                                     ║\n"
        "╚═══════════════════════════════════════════════════════════════════════════════════════════════════╝\n"
    )


def test_direct_links_are_a_table() -> None:
    drawn = picture(*two_sockets(*mesh(*combinations(NAMES[:2], 2), (NAMES[2], NAMES[3]), (NAMES[0], NAMES[2]))))
    assert drawn.split("\n\n")[2:] == [
        "A  GPU 0-1: every pair linked directly\n   1 to 2 links each, generation 4, 25 to 50 GB/s each",
        "B  GPU 2-3: every pair linked directly\n   1 to 2 links each, generation 4, 25 to 50 GB/s each",
        """\
Direct links
       GPU 0  GPU 1  GPU 2  GPU 3
GPU 0      ·      1      1      -
GPU 1      1      ·      -      -
GPU 2      1      -      ·      1
GPU 3      -      -      1      ·
""",
    ]


def test_sockets_stand_below_each_other_where_the_terminal_is_narrow() -> None:
    links = (link(0, None, remote=Remote.SWITCH),)
    drawn = picture(*two_sockets(*(accelerator(name, links=links) for name in NAMES[:4])), width=80)
    assert max(len(line) for line in drawn.splitlines()) <= 80
    assert drawn.index("NUMA node 1") > drawn.index("GPU 1 ")
    assert "through switches outside the node" in drawn


def test_three_devices_of_one_root_are_one_tree() -> None:
    drawn = picture(*(accelerator(name) for name in NAMES[:3]))
    assert [line[13:22] for line in drawn.splitlines()[4:7]] == ["─┬─ GPU 0", " ├─ GPU 1", " ╰─ GPU 2"]


def test_partitions_fabric_and_failures_are_said() -> None:
    parts = tuple(partition("1g.10gb", place) for place in range(7))
    drawn = picture(
        accelerator(NAMES[0], partitioned=True, partitions=parts, fabric=Fabric("cluster", 1)),
        failures=(Failure(NAMES[1], 1, "GPU is lost"),),
    )
    assert "GPU 0  0000:01:00.0  7 x 1g.10gb" in drawn
    assert "Multi-node fabric cluster, clique 1" in drawn
    assert drawn.endswith("Not published:\n  ✗ GPU 1 0000:02:00.0: GPU is lost\n")


def test_a_node_without_devices_is_two_lines() -> None:
    assert picture() == "No devices\nvendor simulated, driver 580.126.09, runtime 13.0\n"


def test_every_line_of_a_box_is_as_wide_as_the_others() -> None:
    drawn = picture(
        accelerator(NAMES[0], numa_node=0, pcie_root=None),
        accelerator(NAMES[1], numa_node=None, memory_bytes=None),
        width=60,
    )
    boxes = [line for line in drawn.splitlines() if line[:1] in "╭│╰" and line]
    widths = [len(line) for line in boxes]
    assert widths == [widths[0]] * 3 + [widths[3]] * 3
