"""Vendors are found by name; one that is broken is a sentence that names it, whatever is wrong with its code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from driver import vendors
from driver.contract import Roots
from driver.model.errors import DriverError, InvalidInput, Unavailable
from driver.settings import Settings

ROOTS = Settings().roots
Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Add a vendor `acme` whose package has this code."""
    monkeypatch.setattr(vendors, "__path__", [*vendors.__path__, str(tmp_path)])

    def add(code: str) -> None:
        (tmp_path / "acme").mkdir()
        (tmp_path / "acme" / "__init__.py").write_text(code)

    return add


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "driver.vendors.acme", None)  # and so it is taken out again
    monkeypatch.delitem(sys.modules, "driver.vendors.acme")


def load(roots: Roots = ROOTS) -> None:
    vendors.load("acme", roots, {})


def test_each_folder_is_a_vendor(write: Write) -> None:
    before = vendors.names()
    write("def create(roots, options, runner): return None")
    assert vendors.names() == tuple(sorted([*before, "acme"]))
    load()


def test_a_vendor_that_is_not_there_is_told_with_those_that_are() -> None:
    known = " or ".join(vendors.names())
    with pytest.raises(InvalidInput, match=f"vendor: 'acme' is not allowed; allowed: {known}"):
        load()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def create(", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: "),
        ("x = 1", "AttributeError: "),
    ],
)
def test_a_folder_that_is_no_vendor_says_why(write: Write, code: str, reason: str) -> None:
    write(code)
    with pytest.raises(InvalidInput, match=f"vendor: 'acme'.*{reason}"):
        load()


def test_a_vendor_that_breaks_when_it_is_created_is_named(write: Write) -> None:
    write("def create(roots, options, runner): return {}['node']")
    with pytest.raises(DriverError, match="the vendor acme cannot be used, it is broken: KeyError: 'node'"):
        load()


def test_what_a_vendor_says_itself_is_left_as_it_is(write: Write) -> None:
    write(
        "from driver.model.errors import Unavailable\n"
        "def create(roots, options, runner): raise Unavailable('the library is not there yet')"
    )
    with pytest.raises(Unavailable, match=r"^the library is not there yet$"):
        load()
