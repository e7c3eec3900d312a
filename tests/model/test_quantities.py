"""Quantities compare by amount, and refuse what the API server refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.quantities import Quantity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1024Mi", "1Gi"),
        ("1Gi", "1073741824"),
        ("1000m", "1"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("+5", "5"),
        ("5.", "5"),
        (".5", "500m"),
        ("0.5Gi", "512Mi"),
        ("0.0000000001", "1n"),
        ("-0.0000000001", "-1n"),
        ("1e-3", "1m"),
        ("Gi", "0"),
        (".", "0"),
        ("-k", "0"),
        ("16Ei", "9223372036854775807"),
    ],
)
def test_equal_amounts_are_equal(one: str, other: str) -> None:
    assert quantities.parse(one) == quantities.parse(other)


@pytest.mark.parametrize(
    ("small", "large"), [("1k", "1Ki"), ("80G", "80Gi"), ("-1", "0"), ("999m", "1"), ("8E", "7Ei")]
)
def test_amounts_are_ordered(small: str, large: str) -> None:
    assert quantities.parse(small) < quantities.parse(large)


@pytest.mark.parametrize("text", ["", " 1", "1 Gi", "200K", "1gi", "1ki", "--1", "1e", "1e999999", "0x10", "1,5"])
def test_nonsense_is_refused_with_the_field_and_the_value(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"capacity memory") as raised:
        quantities.parse(text, "capacity memory")
    assert raised.value.value == text


def test_arithmetic_and_rounding() -> None:
    half = quantities.parse("500m")
    assert quantities.parse("1") - half == half
    assert half + half == quantities.of_integer(1)
    assert half.rounded_up == 1
    assert quantities.parse("-1500m").rounded_up == -2
    assert not half.is_whole
    assert Quantity(3 * quantities.NANO).is_whole
    assert float(half) == 0.5


# Text, as Quantity.String() of k8s.io/apimachinery prints it.


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        # Examples in the documentation of apimachinery's Quantity.
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("1.2345", "1234500u"),
        ("0.9n", "1n"),
        ("8Ei", "9223372036854775807"),
        ("18446744073709551616", "18446744073709551616"),
        ("1000E", "1e21"),
        # What the API server answered in the recorded transcript 09a.
        ("1024Mi", "1Gi"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1e3", "1e3"),
        ("-1", "-1"),
        # Families and their borders.
        ("0", "0"),
        ("0Gi", "0"),
        ("0.0", "0"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("1Ki", "1Ki"),
        ("1023Ki", "1023Ki"),
        ("1024Ki", "1Mi"),
        ("-2048Ki", "-2Mi"),
        ("0.1Ki", "102400m"),
        ("1.0001Ki", "1024102400u"),
        ("1000k", "1M"),
        ("1500k", "1500k"),
        ("100e3", "100e3"),
        ("1000e3", "1e6"),
        ("1e-3", "1e-3"),
        ("1e0", "1"),
        ("0.001n", "1n"),
        ("-0.001n", "-1n"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert quantities.canonical(quantities.parse(text)) == canonical


@pytest.mark.parametrize(("text", "printed"), [("1.500", "1.500"), ("007", "007"), ("1E3", "1E3"), ("+5", "+5")])
def test_short_texts_are_printed_as_they_were_written(text: str, printed: str) -> None:
    # apimachinery keeps the text of a number that looks canonical to its quick check; clients see that text.
    assert str(quantities.parse(text)) == printed


@pytest.mark.parametrize("text", ["0.500", "1.0", "1000", "8Ki", "1024Mi", "0012.5"])
def test_other_texts_are_printed_canonically(text: str) -> None:
    quantity = quantities.parse(text)
    assert str(quantity) == quantities.canonical(quantity)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (85899345920, "80Gi"),
        (0, "0"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1536 * 2**20, "1536Mi"),
        (2**60, "1Ei"),
        (150754820096, "143771Mi"),
        (10**9, "1000000000"),
    ],
)
def test_bytes_become_binary_text(count: int, text: str) -> None:
    assert quantities.from_bytes(count) == text


def test_equal_amounts_hash_alike_and_differ_from_other_things() -> None:
    assert len({quantities.parse(text) for text in ("1Gi", "1024Mi", "1073741824", "1073741824000m")}) == 1
    assert quantities.parse("1") != "1"
    assert sorted(map(quantities.parse, ("1Ki", "1", "1k"))) == [quantities.parse(text) for text in ("1", "1k", "1Ki")]


def test_what_the_recorded_server_answered() -> None:
    folder = Path(__file__).resolve().parent.parent / "data" / "transcripts"
    with gzip.open(folder / "09a-validate-slices.json.gz", "rt") as file:
        steps = json.load(file)["steps"]
    checked = 0
    for step in steps:
        if step["op"] != "request" or step["response"]["status"] != 201:
            continue
        sent = step["request"]["body"]["spec"].get("devices") or ()
        stored = step["response"]["body"]["spec"].get("devices") or ()
        for one, other in zip(sent, stored, strict=False):
            for name, capacity in one.get("capacity", {}).items():
                if "value" in capacity:
                    checked += 1
                    text = quantities.parse(str(capacity["value"]))
                    assert str(text) == other["capacity"][name]["value"]
    assert checked > 10
