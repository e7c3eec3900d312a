"""Processes that have a device open are found; what cannot be looked at is passed over."""

from __future__ import annotations

import os
from pathlib import Path

from driver.passthrough.holders import find_holder


def test_a_real_process_is_found_by_what_it_has_open(tmp_path: Path) -> None:
    node = tmp_path / "node"
    with node.open("w"):
        name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert find_holder("/proc", {str(node)}) == f"process {os.getpid()} ({name}) has {node} open"
    assert find_holder("/proc", {str(node)}) == ""


def test_nothing_is_looked_for_without_nodes_and_nothing_found_without_procfs(tmp_path: Path) -> None:
    assert find_holder("/proc", ()) == ""
    assert find_holder(str(tmp_path / "proc"), {"/dev/gpu0"}) == ""


def test_a_process_that_is_ending_is_passed_over_or_named_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "8" / "fd").mkdir(parents=True)
    (tmp_path / "8" / "fd" / "0").write_text("no link")
    (tmp_path / "9" / "fd").mkdir(parents=True)
    (tmp_path / "9" / "fd" / "0").symlink_to("/dev/gpu0")
    (tmp_path / "fs").mkdir()
    assert find_holder(str(tmp_path), {"/dev/gpu0"}) == "process 9 (ended meanwhile) has /dev/gpu0 open"
