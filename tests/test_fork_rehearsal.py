"""A vendor's first day: a copy of vendors/simulated under a new name works with nothing else changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def rehearse(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in the environment that these tests run in."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "ENTERED": "1"}
    return subprocess.run(
        [ROOT / "hack" / "fork-rehearsal", *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_copied_vendor_works_with_nothing_else_changed() -> None:
    done = rehearse("--quick", "acme")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert ", 0 broken" in done.stdout
    assert "everything else" in done.stdout
    assert not (ROOT / "driver" / "vendors" / "acme").exists()


@pytest.mark.parametrize(
    ("arguments", "said"), [(("simulated",), "choose another name"), (("--fast",), "usage: hack/fork-rehearsal")]
)
def test_wrong_arguments_are_refused_before_anything_is_done(arguments: tuple[str, ...], said: str) -> None:
    done = rehearse(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
