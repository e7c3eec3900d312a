"""NVLinks: state, generation, rate and what is at the other end."""

from __future__ import annotations

import pynvml
import pytest

from driver.core import interconnects
from driver.model.devices import Link, Remote
from driver.vendors.nvidia.links import data_rate
from tests.fakes.nvml.hardware import FakeLink
from tests.vendors.nvidia.conftest import Build
from tests.vendors.nvidia.machine import Rig

SWITCHES = ("0000:07:00.0", "0000:08:00.0", "0000:09:00.0", "0000:0a:00.0")


def look(rig: Rig, index: int = 0) -> tuple[Link, ...]:
    return rig.create().snapshot().accelerators[index].links


def test_links_to_switches(rig: Rig) -> None:
    found = look(rig)
    assert [link.index for link in found] == list(range(18))
    assert {(link.active, link.version, link.gbytes_per_second, link.remote) for link in found} == {
        (True, 4, 25, Remote.SWITCH)
    }
    assert [link.remote_address for link in found[:5]] == [*SWITCHES, SWITCHES[0]]


def test_eight_gpus_behind_switches_are_one_domain_of_450_gigabytes(rig: Rig) -> None:
    accelerators = rig.create().snapshot().accelerators
    domains = interconnects.find_domains(accelerators)
    assert {len(members) for members in domains.values()} == {8}
    assert {interconnects.sum_bandwidth(item) for item in accelerators} == {450}


def test_links_to_other_gpus(build: Build) -> None:
    found = look(build("a100-mesh"))
    assert len(found) == 12
    assert {(link.version, link.gbytes_per_second, link.remote) for link in found} == {(3, 25, Remote.DEVICE)}
    assert {link.remote_address for link in found} == {"0000:41:00.0", "0000:81:00.0", "0000:c1:00.0"}


def test_switches_outside_the_node_have_no_address(build: Build) -> None:
    found = look(build("nvl72-tray"))
    assert {(link.version, link.gbytes_per_second, link.remote, link.remote_address) for link in found} == {
        (5, 50, Remote.SWITCH, None)
    }


def test_a_gpu_without_links_has_none(build: Build) -> None:
    assert look(build("l40s")) == ()


def test_a_link_that_is_down_is_told_and_not_asked_further(rig: Rig) -> None:
    rig.node.gpus[0].links[3].active = False
    found = look(rig)
    assert found[3] == Link(3, False, 4, None, Remote.UNKNOWN, None)
    assert sum(link.active for link in found) == 17


def test_the_walk_does_not_end_at_a_link_that_does_not_answer(rig: Rig) -> None:
    """A GPU of which only some links are wired refuses the others."""
    rig.node.gpus[0].links = [FakeLink(6, 26562) for _ in range(4)]
    assert len(look(rig)) == 4


@pytest.mark.parametrize(
    ("call", "changed"),
    [
        ("nvmlDeviceGetNvLinkVersion", {"version": None, "rate": 26}),
        ("nvmlDeviceGetFieldValues", {"rate": 25}),
        ("fields", {"rate": 25}),
        ("nvmlDeviceGetNvLinkRemotePciInfo_v2", {"address": None}),
    ],
)
@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_UNKNOWN])
def test_a_fact_of_a_link_may_be_missing(rig: Rig, call: str, changed: dict[str, object], code: int) -> None:
    rig.node.gpus[0].errors[call] = code
    expected = {"version": 4, "rate": 25, "remote": Remote.SWITCH, "address": SWITCHES[0], **changed}
    first = look(rig)[0]
    assert (first.version, first.gbytes_per_second) == (expected["version"], expected["rate"])
    assert (first.remote, first.remote_address) == (expected["remote"], expected["address"])


def test_without_generation_and_speed_the_rate_is_unknown(rig: Rig) -> None:
    for call in ("nvmlDeviceGetNvLinkVersion", "nvmlDeviceGetFieldValues"):
        rig.node.gpus[0].errors[call] = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert {link.gbytes_per_second for link in look(rig)} == {None}


def test_an_older_driver_tells_the_speed_of_twelve_links_in_fields_of_their_own(rig: Rig) -> None:
    rig.library.absent = {"NVML_FI_DEV_NVLINK_GET_SPEED", "nvmlDeviceGetNvLinkVersion"}
    found = look(rig)
    assert [link.gbytes_per_second for link in found] == [26] * 12 + [None] * 6


def test_the_kind_of_the_other_end_comes_from_sysfs_where_nvml_cannot_tell(build: Build) -> None:
    rig = build("a100-mesh")
    rig.tree.plug("0000:05:00.0", "pci0000:00", kind="0x068000", driver="nvidia-nvswitch")
    rig.tree.plug("0004:01:00.0", "pci0004:00", kind="0x068000", driver=None, vendor="0x1014")
    rig.library.absent = {"nvmlDeviceGetNvLinkRemoteDeviceType"}
    rig.node.gpus[0].links[0].remote_address = "0000:05:00.0"
    rig.node.gpus[0].links[1].remote_address = "0004:01:00.0"
    rig.node.gpus[0].links[2].remote_address = "0000:77:00.0"
    kinds = [link.remote for link in look(rig)]
    assert kinds[:3] == [Remote.SWITCH, Remote.UNKNOWN, Remote.UNKNOWN]
    assert set(kinds[3:]) == {Remote.DEVICE}


@pytest.mark.parametrize("kind", [pynvml.NVML_NVLINK_DEVICE_TYPE_IBMNPU, pynvml.NVML_NVLINK_DEVICE_TYPE_UNKNOWN, 42])
def test_other_kinds_of_ends_are_unknown(rig: Rig, kind: int) -> None:
    rig.node.gpus[0].links[0].remote_type = kind
    rig.node.gpus[0].links[0].remote_address = None
    assert look(rig)[0].remote is Remote.UNKNOWN


@pytest.mark.parametrize(
    ("enumeration", "generation"),
    [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 5), (8, 6), (0, None), (99, None)],
)
def test_nvml_counts_versions_not_generations(rig: Rig, enumeration: int, generation: int | None) -> None:
    rig.node.gpus[0].links[0].version = enumeration
    assert look(rig)[0].version == generation


@pytest.mark.parametrize(
    ("megabytes", "version", "expected"),
    [
        (19531, 1, 20),
        (25781, 2, 25),
        (25000, 3, 25),
        (26562, 4, 25),
        (53125, 5, 50),
        (50000, 5, 50),
        (None, 5, 50),
        (13281, 4, 13),
        (100000, 6, 100),
        (None, 6, None),
        (26562, None, 26),
        (None, None, None),
    ],
)
def test_rates_are_of_data_and_never_guessed(megabytes: int | None, version: int | None, expected: int | None) -> None:
    assert data_rate(megabytes, version) == expected
