"""Reading the kernel's log as it grows, from a pipe in place of /dev/kmsg."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.model.errors import Unavailable
from driver.vendors.nvidia.kernel_log import KernelLog, Stream, parse_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    return path


@pytest.fixture
def writer(path: Path) -> Iterator[int]:
    """Return an open end to write records to."""
    file = os.open(path, os.O_RDWR)
    yield file
    os.close(file)


def test_new_messages_are_read_and_nothing_else(path: Path, writer: int) -> None:
    with KernelLog(str(path)).follow() as stream:
        assert stream.read(0) == []
        os.write(writer, b"4,812,5140900,-;NVRM: one\n SUBSYSTEM=pci\n DEVICE=+pci:0000:1b:00.0\n4,813,5140901,-;two\n")
        assert stream.read(1) == ["NVRM: one", "two"]
        assert stream.read(0) == []


def test_a_record_in_two_pieces_is_one(path: Path, writer: int) -> None:
    with KernelLog(str(path)).follow() as stream:
        os.write(writer, b"4,812,5140900,-;NVRM: half")
        assert stream.read(1) == []
        os.write(writer, b" and half\n")
        assert stream.read(1) == ["NVRM: half and half"]


def test_bytes_that_are_no_text_hurt_nobody(path: Path, writer: int) -> None:
    with KernelLog(str(path)).follow() as stream:
        os.write(writer, b"4,1,1,-;\xff\xfe\nnonsense\n;\n4,2,2,-;fine\n")
        assert stream.read(1)[-1] == "fine"


def test_what_was_said_before_is_not_heard(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_bytes(b"4,1,1,-;old\n")
    with KernelLog(str(path)).follow() as stream:
        with path.open("ab") as more:
            more.write(b"4,2,2,-;new\n")
        assert stream.read(1) == ["new"]


def test_a_plain_file_is_waited_for_too(tmp_path: Path) -> None:
    """It is ready at any time: without a pause that would be a busy loop."""
    path = tmp_path / "kmsg"
    path.touch()
    with KernelLog(str(path)).follow() as stream:
        assert [stream.read(0.01) for _ in range(3)] == [[], [], []]


def test_a_log_that_breaks_off_is_told(path: Path, writer: int) -> None:
    with KernelLog(str(path)).follow() as stream:
        os.write(writer, b"4,1,1,-;last\n")
        broken = Stream(str(path), writer_only(path))
        assert stream.read(1) == ["last"]
        with pytest.raises(Unavailable, match="cannot be read any more: Bad file descriptor"):
            broken.read(1)


def writer_only(path: Path) -> int:
    """Return a file that select() finds ready and that cannot be read."""
    return os.open(path.with_name("plain"), os.O_WRONLY | os.O_CREAT)


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match="faults of GPUs are not heard: No such file"),
        KernelLog(str(tmp_path / "x")).follow(),
    ):
        pytest.fail("there is no log")


def test_no_file_stays_open(path: Path, writer: int) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with KernelLog(str(path)).follow() as stream:
            stream.read(0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert writer


def test_a_record_without_a_prefix_says_nothing() -> None:
    assert parse_record(b"no semicolon here") == ""
