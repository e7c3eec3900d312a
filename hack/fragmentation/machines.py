"""The nodes of the simulated day: GPUs of which every placement of every partition is published, with counters.

Sizes and placements are those of the simulated hardware (`driver/vendors/simulated/data/models`), which has them from
the vendor's guide. Each partition takes its memory slices and its share of everything else; of the whole GPU, all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driver.core.allocator import NodeView
from driver.model.objects import ObjectMeta
from driver.model.published import Attribute, Capacity, PublishedDevice, PublishedSlice, PublishedSpec
from driver.model.requests import CelSelector, ClassSpec, DeviceClass, Selector
from driver.model.slices import Counter, CounterConsumption, CounterSet, Pool
from driver.model.vocabulary import DOMAIN, NUMA_NODE

DRIVER: Final = "gpu.example.com"
WHOLE: Final = "gpu"
"""Name of the request for a GPU that is not broken up."""
MEMORY_SLICES: Final = 8
GPUS: Final = 8
_MODELS: Final = Path(__file__).parent.parent.parent / "driver" / "vendors" / "simulated" / "data" / "models"
_COUNTED: Final = ("multiprocessors", "copyEngines", "decoders", "encoders", "jpegEngines", "ofaEngines")
_SHARED_SETS: Final = 8
_DEVICES: Final = 64
"""Counter sets, and devices that draw on them, that fit into one slice."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of partition."""

    name: str
    memory_mib: int
    counted: Mapping[str, int]
    size: int
    """Memory slices."""
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """One kind of GPU."""

    name: str
    memory_mib: int
    counted: Mapping[str, int]
    profiles: tuple[Profile, ...]

    def weight(self, kind: str) -> float:
        """Return the share of a GPU's memory slices that a request takes."""
        sizes = {each.name: each.size for each in self.profiles}
        return sizes.get(kind, MEMORY_SLICES) / MEMORY_SLICES


def load_model(name: str = "a100-40gb") -> Model:
    """Read one kind of GPU."""
    data = json.loads((_MODELS / f"{name}.json").read_text())
    profiles = tuple(
        Profile(
            name=profile,
            memory_mib=each["memoryMiB"],
            counted={counter: each[counter] for counter in _COUNTED},
            size=each["size"],
            places=tuple(each["placements"]),
        )
        for profile, each in data["profiles"].items()
    )
    most = {counter: max(each.counted[counter] for each in profiles) for counter in _COUNTED}
    return Model(data["model"], data["memoryMiB"], {**most, "multiprocessors": data["multiprocessors"]}, profiles)


def make_nodes(model: Model, count: int) -> tuple[list[NodeView], list[PublishedSlice]]:
    """Return nodes and what they publish."""
    nodes = [NodeView(f"node-{number:03}") for number in range(count)]
    return nodes, [each for node in nodes for each in _publish(model, node.name)]


def make_classes() -> dict[str, DeviceClass]:
    """Return a class for partitions and one for whole GPUs."""
    return {kind: _make_class(kind) for kind in (WHOLE, "partition")}


def _make_class(kind: str) -> DeviceClass:
    expression = f'device.driver == "{DRIVER}" && device.attributes["{DOMAIN}"].type == "{kind}"'
    spec = ClassSpec(selectors=(Selector(cel=CelSelector(expression=expression)),))
    return DeviceClass(metadata=ObjectMeta(name=kind), spec=spec)


def _publish(model: Model, node: str) -> Iterator[PublishedSlice]:
    devices = [device for index in range(GPUS) for device in _make_devices(model, index)]
    parts = [devices[start : start + _DEVICES] for start in range(0, len(devices), _DEVICES)]
    pool = Pool(name=node, generation=1, resource_slice_count=1 + len(parts))
    sets = tuple(_make_counters(model, index) for index in range(GPUS))
    specs = [PublishedSpec(driver=DRIVER, pool=pool, node_name=node, shared_counters=sets)]
    specs += [PublishedSpec(driver=DRIVER, pool=pool, node_name=node, devices=tuple(part)) for part in parts]
    for number, spec in enumerate(specs):
        yield PublishedSlice(metadata=ObjectMeta(name=f"{node}-{number}"), spec=spec)


def _make_counters(model: Model, index: int) -> CounterSet:
    return CounterSet(name=f"gpu-{index}", counters=_count(model.counted, model.memory_mib, range(MEMORY_SLICES)))


def _count(counted: Mapping[str, int], memory_mib: int, slices: range) -> dict[str, Counter]:
    amounts = {name: Counter(value=str(amount)) for name, amount in counted.items() if amount}
    memory = {"memory": Counter(value=f"{memory_mib}Mi")}
    return {**amounts, **memory, **{f"memory-slice-{number}": Counter(value="1") for number in slices}}


def _make_devices(model: Model, index: int) -> Iterator[PublishedDevice]:
    """Yield a GPU and then its partitions, the smallest first."""
    whole = Profile(WHOLE, model.memory_mib, model.counted, MEMORY_SLICES, (0,))
    for profile in (whole, *model.profiles):
        for place in profile.places:
            is_whole = profile is whole
            slices = range(place, min(place + profile.size, MEMORY_SLICES))
            attributes = {f"{DOMAIN}/type": Attribute(string=WHOLE if is_whole else "partition")}
            if not is_whole:
                attributes[f"{DOMAIN}/profile"] = Attribute(string=profile.name)
            yield PublishedDevice(
                name=f"gpu-{index}"
                if is_whole
                else f"gpu-{index}-{profile.name.replace('.', '').replace('+', '-')}-{place}",
                attributes={**attributes, NUMA_NODE: Attribute(int_=index * 2 // GPUS)},
                capacity={f"{DOMAIN}/memory": Capacity(value=f"{profile.memory_mib}Mi")},
                consumes_counters=(
                    CounterConsumption(
                        counter_set=f"gpu-{index}", counters=_count(profile.counted, profile.memory_mib, slices)
                    ),
                ),
            )
