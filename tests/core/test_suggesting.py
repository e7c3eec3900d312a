"""Which name was probably meant."""

from __future__ import annotations

import pytest

from driver.core import suggesting

KNOWN = ("when", "interconnect", "numa", "fabricDomain")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("interConnect", "interconnect"),
        ("FABRICDOMAIN", "fabricDomain"),
        ("numma", "numa"),
        ("fabric", "fabricDomain"),
        ("numaConfigurationOfNode", "numa"),
        ("colour", None),
        ("", None),
        ("interconnect" * 100, None),
    ],
)
def test_the_nearest_name_is_found_in_any_case(written: str, meant: str | None) -> None:
    assert suggesting.find_nearest(written, KNOWN) == meant


def test_nothing_is_near_to_nothing() -> None:
    assert suggesting.find_nearest("numa", ()) is None
