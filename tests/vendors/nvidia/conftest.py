"""Rigs: a machine a test, made from the data files of the simulated vendor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vendors.nvidia.machine import Rig

Build = Callable[[str], Rig]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that makes a machine with the hardware of this node."""
    return lambda node: Rig(tmp_path, node)


@pytest.fixture
def rig(build: Build) -> Rig:
    """Return a machine with eight H100 behind switches."""
    return build("hgx-h100")
