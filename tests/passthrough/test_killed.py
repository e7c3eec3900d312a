"""SIGKILL between any two changes; another process undoes what was done, or completes it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.passing import HANDED_OVER, ORIGINAL, Site
from tests.fakes.pci_killing import Job, server

CHANGES = {"run": 6, "undo": 6}
"""Two functions, with three changes each: the override, leaving one driver, getting the other."""
CASES = [(act, number) for act, changes in CHANGES.items() for number in range(changes + 1)]


@pytest.fixture(scope="module")
def kill() -> Iterator[Callable[[Job], int]]:
    with server() as ask:
        yield ask


@pytest.mark.parametrize(("act", "number"), CASES)
def test_what_was_interrupted_is_undone_by_another_process(
    tmp_path: Path, kill: Callable[[Job], int], act: str, number: int
) -> None:
    site = Site(tmp_path)
    step = site.plan()
    if act == "undo":
        step = site.passthrough.run(step)
    assert kill(Job(str(tmp_path), act, step, number)) == signal.SIGKILL
    later = Site(tmp_path)
    later.passthrough.undo(step)
    assert later.machine.state() == ORIGINAL
    later.passthrough.undo(step)
    assert later.machine.state() == ORIGINAL


@pytest.mark.parametrize("number", range(CHANGES["run"] + 1))
def test_what_was_interrupted_is_completed_by_another_process(
    tmp_path: Path, kill: Callable[[Job], int], number: int
) -> None:
    step = Site(tmp_path).plan()
    assert kill(Job(str(tmp_path), "run", step, number)) == signal.SIGKILL
    later = Site(tmp_path)
    done = later.passthrough.run(step)
    assert later.machine.state() == HANDED_OVER
    later.passthrough.undo(done)
    assert later.machine.state() == ORIGINAL


def test_undoing_is_killed_at_twice(tmp_path: Path, kill: Callable[[Job], int]) -> None:
    site = Site(tmp_path)
    step = site.passthrough.run(site.plan())
    for number in (1, 1, 2):
        assert kill(Job(str(tmp_path), "undo", step, number)) == signal.SIGKILL
    later = Site(tmp_path)
    later.passthrough.undo(step)
    assert later.machine.state() == ORIGINAL


@pytest.mark.parametrize("act", CHANGES)
def test_the_kills_cover_every_change(tmp_path: Path, kill: Callable[[Job], int], act: str) -> None:
    site = Site(tmp_path)
    step = site.plan()
    if act == "undo":
        site.passthrough.run(step)
    assert kill(Job(str(tmp_path), act, step, CHANGES[act] + 1)) == 0
    assert site.machine.state() == (HANDED_OVER if act == "run" else ORIGINAL)
