"""Version texts become semantic versions or nothing, never another version."""

from __future__ import annotations

import pytest

from driver.core import versions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("580.126.09", "580.126.9"),
        ("13.0", "13.0.0"),
        ("9", "9.0.0"),
        ("10.0", "10.0.0"),
        (" 550.54.15\n", "550.54.15"),
        ("1.2.3-rc.1", "1.2.3-rc.1"),
        ("1.2-beta", "1.2.0-beta"),
        ("1.2.3+build.007", "1.2.3+build.007"),
        ("000.000.000", "0.0.0"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert versions.normalise(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "N/A",
        "v1.2.3",
        "1.2.3.4",
        "6.10.5-2084815.24.04",
        "1.2.3-",
        "1.2.3 beta",
        "1..2",
        "1.2.3-ä",
        "\uff11.2.3",
    ],
)
def test_what_has_no_faithful_semantic_version_gets_none(text: str | None) -> None:
    assert versions.normalise(text) is None


def test_numbers_that_readers_cannot_hold_are_refused() -> None:
    assert versions.normalise("1" * 19) is None
    assert versions.normalise("1.2.3-" + "a" * 64) is None


@pytest.mark.parametrize("text", ["580.126.09", "13.0", "1.2.3-rc.1"])
def test_normalising_again_changes_nothing(text: str) -> None:
    once = versions.normalise(text)
    assert versions.normalise(once) == once
