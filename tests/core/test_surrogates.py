"""Halves of UTF-16 pairs in JSON texts."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.core import surrogates


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (rb'"a"', rb'"a"'),
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDE00 \ud83d"', rb'"\ufffd \ufffd"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\ude00\ud83d"', rb'"\ufffd\ufffd"'),
        (rb'"\\ud83d"', rb'"\\ud83d"'),
        (rb'"\\\ud83d"', rb'"\\\ufffd"'),
        (rb'"\u00e9\n\ud800x"', rb'"\u00e9\n\ufffdx"'),
    ],
)
def test_one_half_is_replaced_and_nothing_else_is_touched(text: bytes, mended: bytes) -> None:
    assert surrogates.mend(text) == mended
    msgspec.json.decode(mended)


@given(st.text(alphabet=st.characters(categories=["Cs", "Lu", "So", "Po"])))
def test_what_json_writes_of_any_text_can_be_decoded(text: str) -> None:
    decoded = msgspec.json.decode(surrogates.mend(json.dumps({text: text}).encode()))
    assert isinstance(decoded, dict)
