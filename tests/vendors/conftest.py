"""Every vendor, and the machines it is tried on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from driver import vendors
from tests.vendors.machines import Machine, load_factory


@pytest.fixture(params=vendors.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machines(name: str, tmp_path: Path) -> Sequence[Machine]:
    found = load_factory(name).machines(tmp_path)
    assert found, "a vendor has a machine to be tried on"
    return found
