"""Data files: those that ship are complete, and a bad one is refused in one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from driver.model.errors import InvalidInput, Unavailable
from driver.vendors.simulated import files, hardware

MODELS = sorted(path.stem for path in (files.DATA / "models").glob("*.json"))
NODES = sorted(path.stem for path in (files.DATA / "nodes").glob("*.json"))
PLAIN = {"driverVersion": "580.126.09", "devices": [{"model": "l40s", "pciAddress": "0000:2a:00.0", "numaNode": 0}]}


def look(tmp_path: Path, document: object) -> hardware.Hardware:
    path = tmp_path / "node.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return hardware.look("simulated", files.parse_node(path, files.read(path)), "seed")


def with_device(**fields: object) -> dict[str, object]:
    device = {"model": "h100-80gb", "pciAddress": "0000:1b:00.0", **fields}
    other = {"model": "h100-80gb", "pciAddress": "0000:2b:00.0"}
    return {"driverVersion": "580.126.09", "devices": [device, other]}


COUNTS = {
    "a100-40gb": (7, 1, 4, 3, 2, 1, 1),
    "a100-80gb": (7, 1, 4, 3, 2, 1, 1),
    "h100-80gb": (7, 1, 4, 3, 2, 1, 1),
    "h200-141gb": (7, 1, 4, 3, 2, 1, 1),
    "b200": (7, 1, 4, 3, 2, 1, 1),
    "gb200": (7, 1, 4, 3, 2, 1, 1),
    "rtx-pro-6000": (4, 1, 4, 1, 4, 2, 2, 1, 2, 1, 1),
}
"""How many instances of each profile `nvidia-smi mig -lgip` says there can be, in the order of its list."""
ENGINES = ("multiprocessors", "copy_engines", "decoders", "encoders", "jpeg_engines", "ofa_engines")


def count_slices(model: files.Model) -> int:
    """The memory slices of a device: what its largest profile takes."""
    return max(profile.size for profile in model.profiles.values())


def count_instances(model: files.Model, profile: files.Profile) -> int:
    """How many fit, by place and by engine."""
    by_place = len([place for place in profile.placements if place % profile.size == profile.placements[0]])
    by_engine = [
        max(getattr(other, engine) for other in model.profiles.values()) // getattr(profile, engine)
        for engine in ENGINES
        if getattr(profile, engine)
    ]
    return min([by_place, *map(int, by_engine)])


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_instances_fit_as_the_hardware_says(name: str) -> None:
    model = files.read_model(name)
    counts = tuple(count_instances(model, profile) for profile in model.profiles.values())
    assert dict(zip(model.profiles, counts, strict=True)) == dict(zip(model.profiles, COUNTS[name], strict=True))


def test_every_model_that_can_be_partitioned_is_counted() -> None:
    assert {name for name in MODELS if files.read_model(name).profiles} == set(COUNTS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_ships_is_consistent(name: str) -> None:
    model = files.read_model(name)
    for profile_name, profile in model.profiles.items():
        assert profile.memory_mib <= (model.memory_mib or 0), profile_name
        assert profile.multiprocessors <= (model.multiprocessors or 0), profile_name
        assert profile.placements, profile_name
        assert all(placement + profile.size <= count_slices(model) for placement in profile.placements), profile_name
        slices, _, memory = profile_name.partition("g.")
        assert 1 <= int(slices) <= 7
        gigabytes = float(memory.split("gb")[0])
        assert gigabytes * 0.8 <= profile.memory_mib / 1024 <= gigabytes * 1.02, profile_name


def test_the_models_of_the_specification_ship() -> None:
    assert {"t4", "l40s", "a100-40gb", "a100-80gb", "h100-80gb", "h200-141gb", "b200", "gb200"} <= set(MODELS)


@pytest.mark.parametrize("name", NODES)
def test_a_node_that_ships_can_be_looked_at(name: str) -> None:
    path = files.find_node(name)
    node = files.parse_node(path, files.read(path))
    found = hardware.look("simulated", node, name).snapshot
    assert node.description
    assert len(found.accelerators) == len(node.devices)


def test_every_model_that_ships_is_on_a_node_that_ships() -> None:
    paths = [files.find_node(name) for name in NODES]
    used = {device.model for path in paths for device in files.parse_node(path, files.read(path)).devices}
    assert used == set(MODELS)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", ("node.json", "a JSON document")),
        ("[]", ("node.json: $", "Expected `object`")),
        ({"devices": []}, ("$", "missing required field `driverVersion`")),
        ({**PLAIN, "switchs": []}, ("$", "unknown field `switchs`")),
        (with_device(numaNode="0"), ("$.devices[0].numaNode: '0'", "Expected `int | null`, got `str`")),
        (with_device(numaNode=-1), ("$.devices[0].numaNode: -1", ">= 0")),
        (with_device(pciAddress="1b:00.0"), ("$.devices[0].pciAddress: '1b:00.0'", "matching regex")),
        (with_device(pciAddress="0000:2b:00.0"), ("devices.pciAddress: '0000:2b:00.0'", "each address once")),
        (with_device(model="h900"), ("model: 'h900'", "a100-40gb, a100-80gb, b200")),
        (with_device(links="switches"), ("0000:1b:00.0: links: 'switches'", "a node with `switches`")),
        (with_device(links={"0000:3b:00.0": 1}), ("links: '0000:3b:00.0'", "allowed: 0000:2b:00.0")),
        (with_device(links={"0000:2b:00.0": 19}), ("links: 19", "at most 18 links")),
        (with_device(model="l40s", links="fabric"), ("links: 'fabric'", "a l40s has no links")),
        (with_device(model="l40s", partitions={"1g.10gb": [0]}), ("'1g.10gb'", "a l40s cannot be partitioned")),
        (with_device(partitions={"9g.90gb": [0]}), ("partitions: '9g.90gb'", "1g.10gb, 1g.10gb+me")),
        (with_device(partitions={"3g.40gb": [1]}), ("3g.40gb: 1", "one of [0, 4]")),
        (
            with_device(partitions={"3g.40gb": [0], "1g.10gb": [3]}),
            ("1g.10gb: 3", "a place free of 3g.40gb at 0"),
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, document: object, said: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as caught:
        look(tmp_path, document)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        InvalidInput, match=r"vendor option node: 'dgx-9000' is not allowed; allowed: a100-mesh, .*JSON"
    ):
        files.find_node("dgx-9000")


def test_a_path_may_lead_to_nothing_for_now(tmp_path: Path) -> None:
    path = files.find_node(str(tmp_path / "later.json"))
    with pytest.raises(Unavailable, match=r"later\.json cannot be read: No such file"):
        files.read(path)


def test_a_folder_in_place_of_a_file_is_not_there_yet(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Is a directory"):
        files.read(tmp_path)
