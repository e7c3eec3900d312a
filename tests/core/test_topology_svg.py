"""The picture as SVG: well-formed, self-contained, complete, and nothing stands on something else."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from driver.core import health, inventory, topology
from driver.core.topology_svg import draw
from driver.model.devices import Accelerator, Failure, Remote
from driver.model.health import HealthEvent, Severity
from tests.fakes.hardware import accelerator, link, mesh, partition, snapshot

SVG = "{http://www.w3.org/2000/svg}"
NAMES = tuple(f"0000:{bus:02x}:00.0" for bus in range(1, 9))


def picture(*devices: Accelerator, failures: tuple[Failure, ...] = (), events: tuple[HealthEvent, ...] = ()) -> str:
    numbered = [dataclasses.replace(device, index=index) for index, device in enumerate(devices)]
    state = health.HealthState()
    for event in events:
        state = health.fold(state, event)
    found = dataclasses.replace(snapshot(*numbered), failures=failures)
    return draw(topology.describe(inventory.build(found, state)))


def switched(name: str, *switches: str | None, numa_node: int = 0) -> Accelerator:
    links = tuple(link(number, switch, remote=Remote.SWITCH) for number, switch in enumerate(switches))
    return accelerator(name, links=links, numa_node=numa_node)


MACHINES = {
    "empty": (),
    "switched": tuple(switched(name, "0000:aa:00.0", numa_node=index // 4) for index, name in enumerate(NAMES)),
    "two switched domains": tuple(switched(name, f"0000:a{index % 2}:00.0") for index, name in enumerate(NAMES)),
    "mesh": mesh(*combinations(NAMES[:4], 2)),
    "cube": mesh(*combinations(NAMES[:4], 2), *combinations(NAMES[4:], 2), *zip(NAMES[:4], NAMES[4:], strict=True)),
    "partitions": (
        accelerator(NAMES[0], partitioned=True, partitions=tuple(partition("1g.10gb", place) for place in range(7))),
        accelerator(NAMES[1], partitioned=True),
        accelerator(NAMES[2], numa_node=None, pcie_root=None),
    ),
}


def parse(text: str) -> ET.Element:
    return ET.fromstring(text)


def texts(text: str) -> list[str]:
    return [element.text or "" for element in parse(text).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", MACHINES)
def test_it_is_one_self_contained_document(name: str) -> None:
    text = picture(*MACHINES[name])
    root = parse(text)
    assert root.tag == f"{SVG}svg"
    assert not list(root.iter(f"{SVG}script"))
    assert "href" not in text
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("name", MACHINES)
def test_it_is_the_same_each_time(name: str) -> None:
    assert picture(*MACHINES[name]) == picture(*MACHINES[name])


@pytest.mark.parametrize("name", MACHINES)
def test_everything_is_on_the_page(name: str) -> None:
    root = parse(picture(*MACHINES[name]))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for element in root.iter(f"{SVG}text"):
        assert 0 < float(element.attrib["x"]) < width
        assert 0 < float(element.attrib["y"]) < height


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("style", ["card", "root", "socket", "switch"])
def test_nothing_of_one_kind_stands_on_another(name: str, style: str) -> None:
    boxes = [
        tuple(float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        for box in parse(picture(*MACHINES[name])).iter(f"{SVG}rect")
        if box.attrib.get("class") == style
    ]
    for (x, y, w, h), (x2, y2, w2, h2) in combinations(boxes, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_each_device_is_a_card_with_its_address_and_memory() -> None:
    found = texts(picture(*MACHINES["switched"]))
    assert [text for text in found if text.startswith("GPU ")] == [f"GPU {number}" for number in range(8)]
    assert set(NAMES) <= set(found)
    assert found.count("80 GiB") == 8
    assert {"NUMA node 0", "NUMA node 1", "pci0000:15"} <= set(found)


def test_switches_are_a_bar_with_their_addresses() -> None:
    found = texts(picture(*MACHINES["switched"]))
    assert "Fully linked through 1 switch: 1 links each, generation 4, 25 GB/s each" in found
    assert "0000:aa:00.0" in found


def test_switches_outside_the_node_are_dashed() -> None:
    text = picture(*(switched(name, None) for name in NAMES[:2]))
    assert "stroke-dasharray:7 5" in text
    assert "the links leave the node" in texts(text)


def test_each_pair_with_direct_links_is_a_bow_with_its_number() -> None:
    text = picture(*mesh(*[(NAMES[0], NAMES[1])] * 4, (NAMES[1], NAMES[2])))
    assert texts(text).count("4x") == 1
    assert texts(text).count("1x") == 1
    assert "A: GPU 0-1, every pair linked directly, 4 to 5 links each, generation 4, 100 to 125 GB/s each" in texts(
        text
    )


def test_bows_begin_at_different_places_of_a_device() -> None:
    paths = [path.attrib["d"] for path in parse(picture(*MACHINES["mesh"])).iter(f"{SVG}path")]
    bows = [path for path in paths if "C" in path]
    ends = [end for bow in bows for end in (bow[1:].split(" ")[0], bow.split(" ")[-2])]
    assert len(bows) == 6
    assert len(set(ends)) == 12


def test_partitions_are_bars_in_their_card() -> None:
    found = texts(picture(*MACHINES["partitions"]))
    assert found.count("1g.10gb") == 7
    assert "no partitions" in found


def test_states_and_failures_are_said_in_words() -> None:
    text = picture(
        accelerator(NAMES[0]),
        accelerator(NAMES[1]),
        failures=(Failure(NAMES[2], 2, "GPU is lost"),),
        events=(
            HealthEvent(NAMES[0], "a", Severity.UNHEALTHY, "", 0.0),
            HealthEvent(NAMES[1], "a", Severity.DEGRADED, "", 0.0),
        ),
    )
    assert {"unhealthy", "degraded", "Not published: GPU 2 0000:03:00.0: GPU is lost"} <= set(texts(text))


def test_words_of_a_vendor_cannot_break_the_document() -> None:
    text = picture(accelerator(model='<script>"&', uuid="x"))
    assert '<script>"&' in texts(text)


def test_a_long_model_name_is_cut_on_the_card_and_whole_in_the_title() -> None:
    found = texts(picture(accelerator(model="An accelerator with a name that does not end")))
    assert "An accelerator with a name that does not end" in found
    assert "An accelerator with a na…" in found
