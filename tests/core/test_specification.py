"""Specification in code, document and model are one; good devices follow it and bad ones do not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from driver import vendors
from driver.core import counting, health, specification
from driver.model import vocabulary
from driver.model.slices import Device

ROOT = Path(__file__).resolve().parents[2]
GOOD = sorted((ROOT / "tests" / "spec" / "good").glob("*.json"))
BAD = sorted((ROOT / "tests" / "spec" / "bad").glob("*.json"))
DOCUMENT = (ROOT / "docs" / "vocabulary.md").read_text()


def read_table(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading of the document, without its head."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def qualify(cell: str) -> str:
    name = cell.strip("`")
    return name if "/" in name else f"{vocabulary.DOMAIN}/{name}"


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_device_has_no_faults(path: Path) -> None:
    assert specification.check(msgspec.json.decode(path.read_bytes(), type=Device)) == ()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_device_is_told_its_faults_and_no_others(path: Path) -> None:
    case = json.loads(path.read_text())
    found = specification.check(msgspec.convert(case["device"], Device))
    assert len(found) == len(case["says"]), found
    for fault, said in zip(sorted(found), sorted(case["says"]), strict=True):
        assert said in fault


def test_there_are_examples() -> None:
    assert len(GOOD) >= 5
    assert len(BAD) >= 25


def test_the_document_has_the_version_of_the_code() -> None:
    assert DOCUMENT.startswith(f"# The vocabulary, version {vocabulary.SPEC_VERSION}\n")
    assert read_table("Versions of this document")[-1][0] == vocabulary.SPEC_VERSION


def test_the_document_lists_the_attributes_of_the_code() -> None:
    documented = [(qualify(name), kind, on, always) for name, kind, on, always, _ in read_table("Attributes")]
    assert documented == [
        (word.name, word.kind.value, word.on.value, say_always(word)) for word in specification.ATTRIBUTES
    ]


def say_always(word: specification.Word) -> str:
    if word.always is None:
        return "no"
    return "yes" if word.always is word.on else word.always.value


def test_the_document_lists_the_counters_of_the_code() -> None:
    rows = read_table("Counters")
    assert rows[0][0].startswith(f"`{counting.SLICE}-0`, `{counting.SLICE}-1`")
    assert {row[0].strip("`"): qualify(row[1]) for row in rows[1:]} == {
        counter: f"{vocabulary.DOMAIN}/{capacity}" for counter, capacity in counting.ENGINES.items()
    }


def test_the_document_lists_the_capacities_of_the_code() -> None:
    documented = {qualify(name): on for name, _, on, _ in read_table("Capacities")}
    assert documented == {name: on.value for name, on in specification.CAPACITIES.items()}


def test_the_document_lists_the_taints_of_the_code() -> None:
    documented = {key.strip("`"): effect for key, effect, _, _ in read_table("Taints")}
    assert documented == dict(specification.TAINT_EFFECTS)


def test_the_document_says_where_each_value_comes_from_for_each_vendor() -> None:
    head = DOCUMENT.split("\n## Where each value comes from\n")[1].split("\n")[1]
    assert [cell.strip().split(" ")[0] for cell in head.strip("|").split("|")[1:-1]] == list(vendors.names())
    rows = read_table("Where each value comes from")
    names = [word.name for word in specification.ATTRIBUTES] + list(specification.CAPACITIES)
    assert [qualify(row[0]) for row in rows] == names
    for name, *sources, omitted in rows:
        assert all(sources), name
        always = any(word.always is word.on for word in specification.ATTRIBUTES if word.name == qualify(name))
        assert (omitted == "never") is always, name


def test_the_document_names_calls_that_the_driver_makes() -> None:
    gates = (ROOT / "driver" / "vendors" / "nvidia").glob("nvml*.py")
    source = "".join(path.read_text() for path in gates)
    named = set(re.findall(r"`(nvml\w+)`", DOCUMENT))
    assert len(named) > 10
    assert not {call for call in named if call not in source}


def test_the_model_has_the_words_of_the_specification_and_no_others() -> None:
    in_model = {
        value
        for name, value in vars(vocabulary).items()
        if name.isupper() and isinstance(value, str) and "/" in value
        if not name.startswith(("TAINT_", "CONFIG_")) and not name.endswith("_LABEL")
    }
    assert in_model == {word.name for word in specification.ATTRIBUTES} | set(specification.CAPACITIES)
    taints = {value for name, value in vars(vocabulary).items() if name.startswith("TAINT_")}
    assert taints == set(specification.TAINT_EFFECTS)


def test_numbers_in_the_document_are_those_of_the_code() -> None:
    text = " ".join(DOCUMENT.split())
    assert f"at most {vocabulary.ENTRIES_PER_DEVICE} attributes and capacities together" in text
    assert "at most three for health" in text
    assert health.MAX_HEALTH_TAINTS == 3
    assert "stayed away for a minute" in text
    assert health.RECOVERY_SECONDS == 60


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("nvidia.com/ecc", True),
        ("nvidia.com/_ecc2", True),
        ("a/b", True),
        ("ecc", False),
        ("nvidia.com/", False),
        ("/ecc", False),
        ("nvidia.com/2ecc", False),
        ("nvidia.com/e-cc", False),
        ("nvidia.com/e/cc", False),
        (f"{'d' * 63}/x", True),
        (f"{'d' * 64}/x", False),
        (f"d/{'x' * 32}", True),
        (f"d/{'x' * 33}", False),
    ],
)
def test_names_that_the_api_takes(name: str, valid: bool) -> None:
    assert specification.is_qualified_name(name) is valid
