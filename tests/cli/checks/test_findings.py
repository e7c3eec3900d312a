"""Checks are kept apart: an error, a defect or a hang of one is a finding of that one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from driver.cli.checks.findings import Check, Finding, Level, examine, failed, ok, warning
from driver.model.errors import InvalidInput, Unavailable


def quiet(title: str) -> None:
    raise AssertionError(f"{title} took longer than a second")


def test_findings_come_in_order() -> None:
    def look() -> Iterator[Finding]:
        yield ok("one")
        yield warning("two", "do this")
        yield failed("three", "do that")

    found = examine(Check("x", "looking", look), quiet)
    assert [finding.level for finding in found] == [Level.OK, Level.WARNING, Level.FAILED]
    assert [finding.advice for finding in found] == ["", "do this", "do that"]


def test_nothing_found_is_no_line() -> None:
    assert examine(Check("x", "looking", lambda: ()), quiet) == ()


def test_an_error_of_the_driver_is_a_finding_beside_the_earlier_ones() -> None:
    def look() -> Iterator[Finding]:
        yield ok("one")
        raise Unavailable("the library is not there")

    found = examine(Check("x", "looking", look), quiet)
    assert found[0] == ok("one")
    assert found[1].level is Level.FAILED
    assert found[1].text == "the library is not there"


def test_wrong_input_names_field_and_value() -> None:
    def look() -> Iterator[Finding]:
        yield from load("acme")

    def load(name: str) -> list[Finding]:
        raise InvalidInput("vendor", name, "nvidia or simulated")

    (found,) = examine(Check("x", "looking", look), quiet)
    assert "vendor: 'acme'" in found.text


def test_a_defect_of_a_check_is_one_sentence_and_no_traceback() -> None:
    def look() -> Iterator[Finding]:
        yield ok(str(1 // len(told)))

    told: list[str] = []

    (found,) = examine(Check("odd", "looking", look), quiet)
    assert found.level is Level.FAILED
    assert found.text == "the check odd broke: ZeroDivisionError: integer division or modulo by zero"
    assert "\n" not in found.text


def test_a_check_that_hangs_is_given_up() -> None:
    forever = threading.Event()

    def look() -> Iterator[Finding]:
        forever.wait()
        yield ok("late")

    told: list[str] = []
    (found,) = examine(Check("x", "asking the driver", look, limit=0.01), told.append)
    forever.set()
    assert found.level is Level.FAILED
    assert found.text == "asking the driver: no answer within 0.01 s"
    assert told == ["asking the driver"]


def test_a_slow_check_says_what_it_does_and_still_answers() -> None:
    told = threading.Event()

    def look() -> Iterator[Finding]:
        assert told.wait(20)
        yield ok("at last")

    assert examine(Check("x", "asking", look), lambda _: told.set()) == (ok("at last"),)
