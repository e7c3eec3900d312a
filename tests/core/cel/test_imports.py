"""What the selector language costs those who do not use it: nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*sorted(name for name in sys.modules if name == "re2" or name.startswith("driver.core.cel")))
"""


def loaded_by(module: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, module], check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", ["driver.node.app", "driver.cli", "driver.__main__"])
def test_the_node_plugin_and_the_command_line_load_neither_cel_nor_re2(module: str) -> None:
    assert loaded_by(module) == []


def test_only_what_evaluates_selectors_loads_them() -> None:
    assert "re2" in loaded_by("driver.core.cel")
