"""Order is meaning: what a small request should take comes first, neighbours stand side by side."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from driver.core.interconnects import find_domains
from driver.core.offering import Offer
from driver.core.ordering import order_devices
from driver.core.partitioning import divide
from driver.model.devices import Accelerator
from tests.fakes.hardware import GIBIBYTE, accelerator, mesh, partition
from tests.fakes.partitionable import DYNAMIC, carve, find_profile, h100


def order(*devices: Accelerator) -> list[str]:
    """Return the devices as `address` or `address/profile@placement`, without the parts all tests share."""
    return sort(Offer(), *devices)


def sort(offer: Offer, *devices: Accelerator) -> list[str]:
    """The same for another offer than the usual one."""
    places = order_devices([divide(device, offer) for device in devices], find_domains(devices))
    shown = [(division.accelerator.pci_address[5:7], part and part.published) for division, part in places]
    return [bus + (f"/{part.profile}@{part.placement}" if part else "") for bus, part in shown]


def on(bus: str, numa: int | None, root: str | None = None, memory: int = 80 * GIBIBYTE) -> Accelerator:
    return accelerator(f"0000:{bus}:00.0", numa_node=numa, pcie_root=root, memory_bytes=memory)


def test_devices_of_one_numa_node_are_adjacent_whatever_their_addresses() -> None:
    assert order(on("01", 1), on("02", 0), on("03", 1), on("04", 0)) == ["02", "04", "01", "03"]


def test_devices_behind_one_root_are_adjacent_within_a_numa_node() -> None:
    devices = (on("01", 0, "pci0000:20"), on("02", 0, "pci0000:10"), on("03", 0, "pci0000:20"))
    assert order(*devices) == ["02", "01", "03"]


def test_a_device_whose_numa_node_is_unknown_stands_last() -> None:
    assert order(on("01", None), on("02", 1), on("03", 0)) == ["03", "02", "01"]


def test_linked_groups_stay_together_across_numa_nodes() -> None:
    names = [f"0000:{bus}:00.0" for bus in ("01", "02", "03", "04")]
    devices = [*mesh((names[0], names[2]), (names[1], names[3]))]
    devices = [dataclasses.replace(device, numa_node=index % 2) for index, device in enumerate(devices)]
    assert order(*devices) == ["01", "03", "02", "04"]


def test_devices_without_links_are_taken_before_linked_ones() -> None:
    assert order(*mesh(("0000:01:00.0", "0000:02:00.0")), on("09", 0)) == ["09", "01", "02"]


def test_small_groups_are_taken_before_large_ones() -> None:
    names = [f"0000:{bus:02x}:00.0" for bus in range(1, 7)]
    devices = mesh(*combinations(names[:4], 2), (names[4], names[5]))
    assert order(*devices) == ["05", "06", "01", "02", "03", "04"]


def test_small_devices_are_taken_before_large_ones() -> None:
    assert order(on("01", 0, memory=80 * GIBIBYTE), on("02", 0, memory=40 * GIBIBYTE)) == ["02", "01"]


def test_partitions_come_before_whole_devices_and_small_ones_first() -> None:
    small, large = partition("1g.10gb", 6), dataclasses.replace(partition("3g.40gb", 0), multiprocessors=60)
    broken_up = dataclasses.replace(on("02", 0), partitioned=True, partitions=(large, small))
    assert order(on("01", 0), broken_up) == ["02/1g.10gb@6", "02/3g.40gb@0", "01"]


def test_one_device_is_filled_before_the_next_is_begun() -> None:
    parts = (partition("1g.10gb", 1), partition("1g.10gb", 0))
    devices = [dataclasses.replace(on(bus, 0), partitioned=True, partitions=parts) for bus in ("02", "01")]
    assert order(*devices) == ["01/1g.10gb@0", "01/1g.10gb@1", "02/1g.10gb@0", "02/1g.10gb@1"]


def test_partitions_of_a_device_that_is_not_in_partition_mode_do_not_exist() -> None:
    assert order(dataclasses.replace(on("01", 0), partitions=(partition(),))) == ["01"]


def places_of(profile: str, device: Accelerator) -> list[int]:
    """Return where partitions of a profile would be made, in the order in which they are taken."""
    found = [name.split("/")[1] for name in sort(DYNAMIC, device) if "/" in name]
    return [int(name.split("@")[1]) for name in found if name.startswith(f"{profile}@")]


def test_the_place_that_spoils_least_for_larger_partitions_is_taken_first() -> None:
    assert places_of("3g.40gb", h100()) == [4, 0], "0 is the only place of a 4g.40gb"
    assert places_of("2g.20gb", h100()) == [4, 0, 2]
    assert places_of("1g.20gb", h100()) == [6, 4, 0, 2], "6 is no place of a 2g.20gb"
    assert places_of("1g.10gb", h100()) == [6, 4, 5, 0, 1, 2, 3]


def test_what_somebody_elses_partition_spoils_already_is_not_spared() -> None:
    device = carve(h100(), ("1g.10gb", 6))
    assert places_of("1g.20gb", device) == [4, 0, 2]
    assert places_of("1g.10gb", device) == [6, 4, 5, 0, 1, 2, 3], "the one that is there costs nothing"
    device = carve(h100(), ("1g.10gb", 0))
    assert places_of("1g.10gb", device)[:4] == [0, 1, 2, 3], "without 4g and 3g at 0 this half is the cheap one"


def test_a_place_that_others_have_no_choice_but_to_use_is_spared_more_than_one_of_many() -> None:
    device = h100()
    small, large = find_profile(device, "1g.10gb"), find_profile(device, "2g.20gb")
    profiles = (
        dataclasses.replace(small, placements=(0, 4)),
        dataclasses.replace(large, name="only", placements=(0,)),
        dataclasses.replace(large, name="many", placements=(3, 4, 6, 8)),
    )
    assert places_of("1g.10gb", dataclasses.replace(device, profiles=profiles)) == [4, 0], "4 spoils two, of four"


def test_partitions_that_could_be_made_come_before_whole_devices_and_small_ones_first() -> None:
    found = sort(DYNAMIC, h100("0000:01:00.0"), h100("0000:02:00.0"))
    assert found[:2] == ["01/1g.10gb@6", "01/1g.10gb@4"]
    assert found[7] == "02/1g.10gb@6", "one device is filled before the next is begun"
    assert found[-4:] == ["01/7g.80gb@0", "02/7g.80gb@0", "01", "02"]


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_devices_are_found_does_not_matter(random: Random) -> None:
    names = [f"0000:{bus:02x}:00.0" for bus in range(1, 9)]
    parts = (partition("1g.10gb", 0), partition("1g.10gb", 1))
    devices = [
        *mesh(*combinations(names[:4], 2)),
        *(on(f"0{bus}", bus % 2) for bus in range(5, 8)),
        dataclasses.replace(on("0f", None), partitioned=True, partitions=parts),
    ]
    expected = order(*devices)
    random.shuffle(devices)
    assert order(*devices) == expected
