"""By how much devices miss a selector, in the words of its comparisons; silence where it cannot be told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from driver.core.allocator import clauses, misses, wording
from driver.core.allocator.devices import Device
from driver.model import vocabulary
from driver.model.published import Attribute, Capacity, PublishedDevice
from tests.fakes.clusters import DRIVER, make_slice

ATTRIBUTES = f'device.attributes["{DRIVER}"]'
OPTIONAL_MEMORY = f'device.capacity["{DRIVER}"].?memory.orValue(quantity("0"))'
MEMORY = f'device.capacity["{DRIVER}"].memory'


def device(memory: str = "40Gi", **attributes: Attribute) -> Device:
    published = PublishedDevice(name="d", attributes=attributes, capacity={"memory": Capacity(value=memory)})
    return Device(published, make_slice([published]), ())


ADA = device(
    "24Gi",
    model=Attribute(string="ada"),
    index=Attribute(int_=3),
    ecc=Attribute(bool_=False),
    cuda=Attribute(version="12.4.0"),
)
AMPERE = device(
    "40Gi",
    model=Attribute(string="ampere"),
    index=Attribute(int_=5),
    ecc=Attribute(bool_=False),
    cuda=Attribute(version="11.8.0-rc.1"),
)


def say(expression: str, *devices: Device) -> str:
    miss = misses.describe(expression, devices)
    return miss if isinstance(miss, str) else miss.describe()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (f'{MEMORY}.compareTo(quantity("80Gi")) >= 0', "memory 40Gi < 80Gi asked"),
        (f'{MEMORY}.compareTo(quantity("20Gi")) <= 0', "memory 24Gi > 20Gi asked"),
        (f'{MEMORY}.isGreaterThan(quantity("80Gi"))', "memory 40Gi < 80Gi asked"),
        (f'{MEMORY}.isLessThan(quantity("8Gi"))', "memory 24Gi > 8Gi asked"),
        (f'{MEMORY}.isGreaterThan(quantity("40Gi"))', "memory 40Gi, but more than that asked"),
        (f'{MEMORY}.isLessThan(quantity("24Gi"))', "memory 24Gi, but less than that asked"),
        (f"{ATTRIBUTES}.model > 3", "model is no int"),
        (OPTIONAL_MEMORY + '.isGreaterThan(quantity("1Ti"))', "memory 40Gi < 1Ti asked"),
        (f'{ATTRIBUTES}.model == "hopper"', "model is ada or ampere, hopper asked"),
        (f'{ATTRIBUTES}.model != "ada" && {ATTRIBUTES}.index < 2', "index 5 > 2 asked"),
        (f'{ATTRIBUTES}.model in ["hopper", "blackwell"]', "model is ada or ampere, one of hopper or blackwell asked"),
        (f"{ATTRIBUTES}.ecc", "ecc is false, true asked"),
        (f"!{ATTRIBUTES}.ecc && {ATTRIBUTES}.index >= 8", "index 5 < 8 asked"),
        (f'{ATTRIBUTES}.cuda.isGreaterThan(semver("13.0.0"))', "cuda 12.4.0 < 13.0.0 asked"),
        (f'{ATTRIBUTES}.cuda.isLessThan(semver("11.0.0"))', "cuda 11.8.0-rc.1 > 11.0.0 asked"),
        (f"has({ATTRIBUTES}.rack) && {ATTRIBUTES}.rack == 1", "no attribute rack"),
        ('device.driver == "nic.example.com"', "driver is gpu.example.com, nic.example.com asked"),
        (f'{ATTRIBUTES}.model == "ada" && {MEMORY}.compareTo(quantity("30Gi")) >= 0', "memory 24Gi < 30Gi asked"),
    ],
)  # fmt: skip
def test_a_miss_in_words(expression: str, words: str) -> None:
    assert say(expression, ADA, AMPERE) == words


@pytest.mark.parametrize(
    "expression",
    [
        f'{ATTRIBUTES}.model.startsWith("h")',
        f'{ATTRIBUTES}.model == "x" || {ATTRIBUTES}.index == 9',
        f"{ATTRIBUTES}.index == {ATTRIBUTES}.index + 1",
        "device.allowMultipleAllocations",
        "this does not compile",
    ],
)
def test_what_is_no_comparison_with_a_constant_is_left_alone(expression: str) -> None:
    assert misses.describe(expression, [ADA, AMPERE]) == ""


def test_devices_that_satisfy_what_can_be_read_are_not_blamed_for_it() -> None:
    assert misses.describe(f'{ATTRIBUTES}.model == "ada" && {ATTRIBUTES}.model.startsWith("x")', [ADA]) == ""


def test_a_clause_says_no_to_values_of_another_type() -> None:
    (clause,) = clauses.find(f'{ATTRIBUTES}.index == "3"')
    assert not clause.holds(ADA)
    assert clauses.rank("a", 1) is None
    (ordered,) = clauses.find(f"{ATTRIBUTES}.model > 1")
    assert not ordered.holds(ADA)


def test_attributes_are_found_with_and_without_their_domain() -> None:
    (clause,) = clauses.find(f"{ATTRIBUTES}.x == 1")
    assert clause.holds(device(x=Attribute(int_=1)))
    assert clause.holds(device("1Gi", **{f"{DRIVER}/x": Attribute(int_=1)}))
    assert not clause.holds(device("1Gi", **{"other.example.com/x": Attribute(int_=1)}))


def test_values_that_cannot_be_read_count_as_none() -> None:
    odd = device("lots", cuda=Attribute(version="twelve"))
    assert misses.describe(f'{MEMORY}.compareTo(quantity("1Gi")) >= 0', [odd]) == "no capacity memory"
    assert misses.describe(f'{ATTRIBUTES}.cuda.isLessThan(semver("1.0.0"))', [odd]) == "no attribute cuda"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a or b"),
        (["a", "b", "c"], "a, b or c"),
        (list("abcd"), "a, b, c or others"),
    ],
)
def test_alternatives(names: Sequence[str], words: str) -> None:
    assert wording.either(names) == words


def test_counts_lists_and_places() -> None:
    assert (wording.count(1, "node"), wording.count(2, "node")) == ("1 node", "2 nodes")
    assert wording.listed(list("abcde")) == "a, b, c and 2 more"
    assert wording.places(vocabulary.NUMA_NODE, {"0": 2, "1": 3}) == "are on two NUMA nodes (3 of 1, 2 of 0)"
    assert wording.places("x/y", {"a": 1}) == "have one value of x/y (1 of a)"
    many = {str(index): 1 for index in range(12)}
    assert wording.places(vocabulary.PCIE_ROOT, many).startswith("are under 12 PCIe roots (1 of 0, 1 of 1, 1 of 10")
    assert wording.places(vocabulary.PCIE_ROOT, many).endswith("8 more)")


def test_amounts_are_written_as_people_write_them() -> None:
    assert wording.amount(40 * 2**30 * 10**9) == "40Gi"
    assert wording.amount(3 * 10**9) == "3"
    assert wording.amount(1500 * 10**6) == "1500m"


def test_long_expressions_are_cut_in_the_middle() -> None:
    shown = wording.quoted("a" * 100 + "\n  b" * 100)
    assert len(shown) < 100
    assert shown.startswith("`aaa")
    assert shown.endswith("b b`")
