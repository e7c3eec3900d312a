"""What node files become: identities, links, partitions, failures."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from driver.core import inventory
from driver.model import vocabulary
from driver.model.devices import Fabric, Failure, Remote, Snapshot
from driver.vendors.simulated import files, hardware


def look(name: str, seed: str = "seed", **changes: object) -> hardware.Hardware:
    path = files.find_node(name)
    node = msgspec.structs.replace(files.parse_node(path, files.read(path)), **changes)
    return hardware.look("simulated", node, seed)


def domains(snapshot: Snapshot) -> Counter[str | None]:
    attributes = [entry.device.attributes for entry in inventory.build(snapshot).entries]
    found = [each.get(vocabulary.INTERCONNECT_DOMAIN) for each in attributes]
    return Counter(attribute.string if attribute else None for attribute in found)


def bandwidths(snapshot: Snapshot) -> set[int | None]:
    attributes = [entry.device.attributes for entry in inventory.build(snapshot).entries]
    found = [each.get(vocabulary.INTERCONNECT_GBPS) for each in attributes]
    return {attribute.int_ if attribute else None for attribute in found}


@pytest.mark.parametrize(
    ("name", "groups", "gbps"),
    [
        ("hgx-h100", {"0000-1b-00-0": 8}, 450),
        ("hgx-h200", {"0000-1b-00-0": 8}, 450),
        ("hgx-b200", {"0000-1b-00-0": 8}, 900),
        ("a100-mesh", {"0000-01-00-0": 4}, 300),
        ("nvl72-tray", {"0008-01-00-0": 4}, 900),
        ("hgx-h100-16", {"0000-1b-00-0": 16}, 450),
        ("l40s", {None: 8}, None),
        ("t4", {None: 2}, None),
        ("hgx-h100-mig", {None: 56}, None),
    ],
)
def test_links_of_the_nodes_that_ship(name: str, groups: dict[str | None, int], gbps: int | None) -> None:
    found = look(name).snapshot
    assert domains(found) == groups
    assert bandwidths(found) == {gbps}


def test_network_interfaces_stand_beside_the_gpus_of_their_node() -> None:
    """One behind the PCIe root of each GPU, published in the same words and without what they do not have."""
    gpus = inventory.build(look("hgx-h100").snapshot).entries
    nics = inventory.build(look("hgx-h100-nics").snapshot).entries
    assert {entry.accelerator.pcie_root for entry in nics} == {entry.accelerator.pcie_root for entry in gpus}
    assert {entry.accelerator.pci_address for entry in nics}.isdisjoint(e.accelerator.pci_address for e in gpus)
    first = nics[0].device
    assert (first.name, first.capacity) == ("nic-0000-1a-00-0", {})
    assert first.attributes[vocabulary.TYPE].string == "nic"
    assert (first.attributes[vocabulary.UUID].string or "").startswith("NIC-")
    assert first.attributes["nic.accel-dra.dev/gbitsPerSecond"].int_ == 400
    assert vocabulary.COMPUTE_CAPABILITY not in first.attributes


def test_links_to_switches_are_spread_over_them() -> None:
    links = look("hgx-h100").snapshot.accelerators[0].links
    assert [link.index for link in links] == list(range(18))
    assert {link.remote for link in links} == {Remote.SWITCH}
    assert sorted(Counter(link.remote_address for link in links).values()) == [4, 4, 5, 5]
    assert {(link.version, link.gbytes_per_second) for link in links} == {(4, 25)}


def test_a_link_can_be_down() -> None:
    path = files.find_node("a100-mesh")
    node = files.parse_node(path, files.read(path))
    device = msgspec.structs.replace(node.devices[0], inactive_links=tuple(range(4)))
    broken = msgspec.structs.replace(node, devices=(device, *node.devices[1:]))
    found = hardware.look("simulated", broken, "seed").snapshot
    assert found.accelerators[0].links[0].active is False
    assert domains(found) == {"0000-01-00-0": 3, None: 1}


def test_the_fabric_is_that_of_the_node() -> None:
    assert {device.fabric for device in look("nvl72-tray").snapshot.accelerators} == {
        Fabric("5c1f4c2e-9b1d-4a3b-8f67-2d0e5a7c9b31", 32766)
    }


def test_partitions_are_those_of_the_file_in_the_order_of_their_place() -> None:
    whole, mixed, empty, plain = sorted(
        look("a100-mig").snapshot.accelerators,
        key=lambda device: ["07", "46", "85", "c7"].index(device.pci_address[5:7]),
    )
    assert [part.placement for part in whole.partitions] == list(range(7))
    assert [(part.profile, part.placement) for part in mixed.partitions] == [
        ("3g.40gb", 0),
        ("2g.20gb", 4),
        ("1g.10gb", 6),
    ]
    assert empty.partitioned
    assert not empty.partitions
    assert not plain.partitioned


def test_identities_depend_on_seed_and_place_and_on_nothing_else() -> None:
    one, again, other = look("hgx-h100-mig", "a"), look("hgx-h100-mig", "a"), look("hgx-h100-mig", "b")
    assert one == again
    mine = {device.uuid for device in one.snapshot.accelerators}
    assert len(mine) == 8
    assert mine.isdisjoint(device.uuid for device in other.snapshot.accelerators)


def test_the_index_is_the_order_of_addresses_whatever_the_order_of_the_file() -> None:
    path = files.find_node("l40s")
    node = files.parse_node(path, files.read(path))
    turned = msgspec.structs.replace(node, devices=tuple(reversed(node.devices)))
    assert hardware.look("simulated", turned, "seed") == hardware.look("simulated", node, "seed")


def test_a_device_that_fails_keeps_its_index_and_leaves_the_others_theirs() -> None:
    path = files.find_node("l40s")
    node = files.parse_node(path, files.read(path))
    broken = msgspec.structs.replace(node.devices[1], failure="ECC error")
    found = hardware.look(
        "simulated", msgspec.structs.replace(node, devices=(node.devices[0], broken, *node.devices[2:])), "s"
    )
    assert found.snapshot.failures == (Failure("0000:2b:00.0", 1, "ECC error"),)
    assert [device.index for device in found.snapshot.accelerators] == [0, 2, 3, 4, 5, 6, 7]


def test_an_empty_node_is_a_node() -> None:
    assert look("t4", devices=()).snapshot.accelerators == ()


def test_what_a_model_can_be_partitioned_into_is_told_in_and_out_of_partition_mode() -> None:
    parted, *_, plain = look("a100-mig").snapshot.accelerators
    assert parted.partitioned
    assert not plain.partitioned
    assert parted.profiles == plain.profiles
    by_name = {profile.name: profile for profile in plain.profiles}
    assert by_name["3g.40gb"].placements == (0, 4)
    assert by_name["3g.40gb"].size == 4
    assert by_name["7g.80gb"].memory_bytes == 80896 * hardware.MEBIBYTE
    assert {device.profiles for device in look("l40s").snapshot.accelerators} == {()}


def test_partitions_say_how_many_memory_slices_they_occupy() -> None:
    mixed = look("a100-mig").snapshot.accelerators[1]
    assert [(part.placement, part.size) for part in mixed.partitions] == [(0, 4), (4, 2), (6, 1)]
