"""Selectors asked by content say what they say when they are asked device by device."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.core.allocator import Snapshot, candidates, selectors
from driver.core.allocator.contents import Contents, find_reads, is_sound
from driver.core.allocator.devices import Device
from driver.core.allocator.pools import DevicePool
from driver.core.allocator.requests import Shape, ShapeKey, make_shape
from driver.model.claims import Toleration
from driver.model.published import Attribute, Capacity, PublishedDevice
from driver.model.slices import DeviceTaint
from tests.fakes.clusters import CLASSES, DRIVER, NODE, make_slice

PATHS = {
    f'device.attributes["{DRIVER}"].x': ("attributes", DRIVER, "x"),
    f'device.attributes["{DRIVER}"]["x"]': ("attributes", DRIVER, "x"),
    f'device.attributes[?"{DRIVER}"].?x': ("attributes", DRIVER, "x"),
    f'has(device.attributes["{DRIVER}"].x)': ("attributes", DRIVER, "x"),
    'device.capacity["a.b"].memory': ("capacity", "a.b", "memory"),
    "device.driver": ("driver", "", ""),
    "device.allowMultipleAllocations": ("allowMultipleAllocations", "", ""),
}
EXPRESSIONS = (
    f'device.attributes["{DRIVER}"].x == 1',
    'device.attributes["other"].?y.orValue("") == "a"',
    f'has(device.attributes["{DRIVER}"].x) || device.driver == "other"',
    f'device.capacity["{DRIVER}"].memory.compareTo(quantity("2Gi")) >= 0',
    f'device.attributes["{DRIVER}"].exists(name, name == "x")',
    'device.attributes["other"].v.isGreaterThan(semver("1.0.0"))',
    "true",
)


@pytest.mark.parametrize("expression", PATHS)
def test_a_path_is_known_by_what_it_looks_at(expression: str) -> None:
    assert find_reads(expression) == frozenset({PATHS[expression]})


@pytest.mark.parametrize(
    "expression",
    [
        "device.attributes['a'].exists(k, k == 'x')",
        "'x' in device.attributes['a']",
        "device.attributes[device.driver].x",
        "device == device",
        "cel.bind(d, device.attributes['a'], d.x)",
        "[device].exists(d, d.driver == 'a')",
        "device.name == 'x'",
        "no expression",
    ],
)
def test_what_cannot_be_told_from_the_text_is_not_guessed(expression: str) -> None:
    assert find_reads(expression) is None


def test_all_parts_of_an_expression_count() -> None:
    found = find_reads("device.driver == 'a' && ['x'].exists(v, device.attributes['a'].b == v) ? true : false")
    assert found == frozenset({("driver", "", ""), ("attributes", "a", "b")})


@st.composite
def devices(draw: st.DrawFn, name: str) -> PublishedDevice:
    attributes = {}
    values = [Attribute(int_=1), Attribute(int_=2), Attribute(string="a"), Attribute(version="1.2.3")]
    odd = [Attribute(version="1"), Attribute(ints=(1,)), Attribute()]
    for key in ("x", f"{DRIVER}/x", "other/y", "other/v"):
        if draw(st.booleans()):
            attributes[key] = draw(st.sampled_from(values if draw(st.integers(0, 9)) else odd))
    taint = DeviceTaint(key="k", effect="NoSchedule")
    return PublishedDevice(
        name=name,
        attributes=attributes,
        capacity={"memory": Capacity(value=draw(st.sampled_from(["1Gi", "2Gi"])))} if draw(st.booleans()) else {},
        taints=(taint,) if draw(st.integers(0, 3)) == 0 else (),
        allow_multiple_allocations=draw(st.integers(0, 7)) == 0,
    )


def make_pool(published: list[PublishedDevice]) -> DevicePool:
    (pool,) = Snapshot([make_slice(published)], CLASSES).pools.gather(NODE)
    return pool


def shape_of(*expressions: str, tolerates: bool = False, asked: tuple[tuple[str, str], ...] = ()) -> Shape:
    tolerations = (Toleration(operator="Exists"),) if tolerates else ()
    return make_shape(ShapeKey(expressions[:1], expressions[1:], tolerations, asked))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3).flatmap(
        lambda numbers: st.tuples(*(devices(f"gpu-{index}") for index, _ in enumerate(numbers)))
    ),
    st.lists(st.sampled_from(EXPRESSIONS), min_size=1, max_size=2),
    st.booleans(),
    st.booleans(),
)
def test_candidates_are_those_that_are_found_device_by_device(
    published: tuple[PublishedDevice, ...], expressions: list[str], tolerates: bool, asks: bool
) -> None:
    shape = shape_of(*expressions, tolerates=tolerates, asked=(("memory", "2Gi"),) if asks else ())
    contents = Contents(selectors.evaluate)
    for _ in range(2):
        found = contents.find(make_pool(list(published)), shape)
        expected = candidates.find(make_pool(list(published)), shape, selectors.evaluate)
        assert [each.name for each in found.selected] == [each.name for each in expected.selected]
        assert [each.name for each in found.usable] == [each.name for each in expected.usable]
        assert [each.name for each in found.faults] == [each.name for each in expected.faults]


def test_devices_that_agree_in_what_is_looked_at_are_asked_once() -> None:
    asked: list[str] = []

    def evaluate(expression: str, device: Device) -> bool:
        asked.append(device.name)
        return selectors.evaluate(expression, device)

    contents = Contents(evaluate)
    published = [
        PublishedDevice(name=f"gpu-{index}", attributes={"x": Attribute(int_=1), "id": Attribute(int_=index)})
        for index in range(8)
    ]
    found = contents.find(make_pool(published), shape_of(EXPRESSIONS[0]))
    assert len(found.usable) == 8
    assert asked == ["gpu-0"]


def test_a_device_that_cannot_be_read_is_not_taken_for_another() -> None:
    pool = make_pool([PublishedDevice(name="gpu-0", attributes={"x": Attribute(int_=1), "v": Attribute(version="1")})])
    assert not is_sound(pool.devices[0])
    assert is_sound(make_pool([PublishedDevice(name="gpu-0", attributes={"x": Attribute(int_=1)})]).devices[0])


def test_many_shapes_and_contents_are_forgotten_again() -> None:
    contents = Contents(selectors.evaluate)
    pool = make_pool([PublishedDevice(name="gpu-0", attributes={"x": Attribute(int_=1)})])
    for number in range(300):
        assert contents.find(pool, shape_of(f'device.attributes["{DRIVER}"].x == {number}')).usable == (
            pool.devices if number == 1 else ()
        )
