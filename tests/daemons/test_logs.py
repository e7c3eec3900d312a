"""Logs of daemons stay short, are quoted in messages, and a disk that is full costs lines only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from driver.daemons.logs import Log
from driver.daemons.places import LOG_BYTES
from driver.model.errors import StepFailed
from tests.daemons.bench import SLEEP, Bench
from tests.fakes.waiting import wait_until


def test_a_log_within_its_limit_is_left_as_it_is(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=8192)
    log.trim()
    (tmp_path / "log").write_bytes(b"x" * 4096)
    log.trim()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]
    assert (tmp_path / "log").stat().st_size == 4096


def test_a_log_that_has_grown_is_moved_aside_and_goes_on_from_the_start(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=8192)
    descriptor = log.open()
    try:
        os.write(descriptor, b"a" * 20000 + b"the end\n")
        log.trim()
        os.write(descriptor, b"next\n")
    finally:
        os.close(descriptor)
    assert (tmp_path / "log").read_bytes() == b"next\n"
    aside = (tmp_path / "log.1").read_bytes()
    assert len(aside) == 8192
    assert aside.endswith(b"the end\n")


def test_two_files_at_most_are_kept(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=4096)
    for number in range(4):
        (tmp_path / "log").write_bytes(f"{number}".encode() * 10000)
        log.trim()
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"log": 0, "log.1": 4096}
    assert (tmp_path / "log.1").read_bytes() == b"3" * 4096


def test_a_file_whose_writer_does_not_append_is_not_emptied_for_its_hole(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=1 << 20)
    with (tmp_path / "log").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"after a hole\n")
        file.flush()
        log.trim()
    assert log.last_words() == "; its last words: after a hole"


def test_a_full_disk_costs_the_old_lines_and_not_the_room(tmp_path: Path) -> None:
    """Writes to /dev/full fail as they do on a full disk."""
    log = Log(tmp_path / "log", limit=4096)
    (tmp_path / "log").write_bytes(b"x" * 10000)
    (tmp_path / ".log.1.tmp").symlink_to("/dev/full")
    log.trim()
    assert (tmp_path / "log").stat().st_size == 0
    assert not (tmp_path / "log.1").exists()
    assert not (tmp_path / ".log.1.tmp").is_symlink()


def test_a_daemon_runs_although_its_log_is_on_a_full_disk(bench: Bench) -> None:
    folder = bench.root / "daemons" / "mps"
    folder.mkdir(parents=True)
    (folder / "log").symlink_to("/dev/full")
    bench.supervisor.start(bench.daemon(f"echo hello; touch $HERE/up; {SLEEP}", ready=bench.has("up")))
    assert len(bench.running()) == 1


def test_a_daemon_runs_although_its_log_cannot_be_made(bench: Bench) -> None:
    folder = bench.root / "daemons" / "mps"
    (folder / "log").mkdir(parents=True)
    bench.supervisor.start(bench.daemon(f"echo hello; touch $HERE/up; {SLEEP}", ready=bench.has("up")))
    assert len(bench.running()) == 1


def test_a_daemon_that_could_not_be_found_again_is_not_started(bench: Bench) -> None:
    folder = bench.root / "daemons" / "mps"
    folder.mkdir(parents=True)
    (folder / ".process.tmp").symlink_to("/dev/full")

    with pytest.raises(StepFailed, match=r"daemon mps: cannot start it: .*: No space left on device"):
        bench.supervisor.start(bench.daemon("touch $HERE/up"))
    assert not bench.file("up").exists()
    bench.supervisor.start(bench.daemon(SLEEP))
    assert len(bench.running()) == 1


def test_the_log_of_a_running_daemon_is_trimmed(bench: Bench) -> None:

    bench.supervisor.start(bench.daemon(f"yes 0123456789 | head -c {LOG_BYTES + 9999}; echo done; {SLEEP}"))
    wait_until((bench.root / "daemons/mps/log.1").exists)
    wait_until(lambda: (bench.root / "daemons/mps/log").stat().st_size < LOG_BYTES)


def test_the_files_that_a_daemon_writes_itself_are_trimmed_too(bench: Bench) -> None:
    own = bench.file("server.log")
    own.write_bytes(b"x" * (LOG_BYTES + 9999))
    bench.supervisor.start(bench.daemon(SLEEP, logs=(str(own), str(bench.file("not-there.log")))))
    wait_until(bench.file("server.log.1").exists)
    wait_until(lambda: own.stat().st_size == 0)


def test_last_words_are_short_and_of_one_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", limit=4096)
    assert log.last_words() == ""
    (tmp_path / "log").write_bytes(b"first\nsecond\n\n\x1b[31mthird\tred\x00\n" + b"y" * 5000 + b"\nlast \xff\n")
    words = log.last_words()
    assert words == f"; its last words: {'y' * 200} / last \N{REPLACEMENT CHARACTER}"
    (tmp_path / "log").write_bytes(b"first\nsecond\n\n\x1b[31mthird\tred\x00\nfourth")
    assert log.last_words() == "; its last words: second / [31mthird red / fourth"


def test_a_log_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert Log(tmp_path / "log", limit=1).last_words() == "; its log cannot be read: Is a directory"
