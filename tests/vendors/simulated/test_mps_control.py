"""The simulated control daemon as a process: its words, its clients, its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.vendors.simulated import mps_control
from driver.vendors.simulated.mps_folder import Folder
from tests.fakes.processes import ending
from tests.fakes.waiting import wait_until
from tests.vendors.simulated.clients import Client

PROGRAM = str(mps_control.__file__)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    # Longer than what a socket's path may be.
    folder = Folder(tmp_path / ("x" * 100), (8 << 30, 4 << 30))
    folder.make()
    return folder


@pytest.fixture
def process(folder: Folder) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-IS", PROGRAM, str(folder.pipe), "2"]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving 2 devices in {folder.pipe}\n"
        yield process


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("get_default_active_thread_percentage", "100"),
        ("set_default_active_thread_percentage 30", "ok"),
        ("set_default_active_thread_percentage 0", "error: '0' is no percentage from 1 to 100"),
        ("set_default_active_thread_percentage 101", "error: '101' is no percentage from 1 to 100"),
        ("set_default_active_thread_percentage -1", "error: '-1' is no percentage from 1 to 100"),
        ("set_default_active_thread_percentage", "error: set_default_active_thread_percentage got 0 arguments"),
        ("get_default_device_pinned_mem_limit 0", "unlimited"),
        ("get_default_device_pinned_mem_limit 2", "error: no device '2', there are 2"),
        ("set_default_device_pinned_mem_limit 1 512M", "ok"),
        ("set_default_device_pinned_mem_limit 1 512", "error: '512' is no number with M or G"),
        ("get_client_list", "none"),
        ("client x", "error: 'x' is no process number"),
        ("client 7 50 0=1G", "granted 50 0=1024M"),
        ("client 7 50 5=1G", "error: no device '5', there are 2"),
        ("allocate 0 1M", "error: only a client allocates"),
        ("dance", "error: unknown command 'dance'"),
        ("answer x y", "error: unknown command 'answer'"),
    ],
)
def test_each_command_has_one_line_of_answer(folder: Folder, command: str, answer: str) -> None:
    assert folder.ask([command]) == [answer]


@pytest.mark.usefixtures("process")
def test_defaults_hold_for_clients_that_come_later_and_can_only_be_lowered(folder: Folder) -> None:
    with Client(folder.pipe) as before:
        assert before.join() == "granted 100"
        folder.ask(["set_default_active_thread_percentage 40", "set_default_device_pinned_mem_limit 0 2G"])
        with Client(folder.pipe) as greedy, Client(folder.pipe) as modest:
            assert greedy.join("90", "0=4G") == "granted 40 0=2048M"
            assert modest.join("10", "0=1G,1=1G") == "granted 10 0=1024M,1=1024M"
            assert greedy.ask("allocate 0 2000M") == "ok"
            assert greedy.ask("allocate 0 100M") == "error: out of memory: 2000M of 2048M are used"
            assert modest.ask("allocate 1 2G") == "error: out of memory: 0M of 1024M are used"
            assert before.ask("allocate 0 8000M") == "ok"


@pytest.mark.usefixtures("process")
def test_clients_are_listed_while_they_are_connected(folder: Folder) -> None:
    with Client(folder.pipe, pid=11) as first, Client(folder.pipe, pid=12) as second:
        first.join()
        second.join()
        assert folder.ask(["get_client_list"]) == ["11 12"]
    wait_until(lambda: folder.ask(["get_client_list"]) == ["none"])


@pytest.mark.usefixtures("process")
def test_nonsense_of_one_client_disturbs_no_other(folder: Folder) -> None:
    with Client(folder.pipe) as client, Client(folder.pipe) as other:
        client.join()
        other.send(b"\xff\x00" * 5000)
        assert client.ask("get_default_active_thread_percentage") == "100"


def test_it_quits_and_takes_its_socket_with_it(folder: Folder, process: subprocess.Popen[str]) -> None:
    assert folder.ask(["quit"]) == ["ok"]
    assert process.wait(40) == 0
    assert list(folder.pipe.iterdir()) == []


def test_it_ends_when_its_folder_is_removed(folder: Folder, process: subprocess.Popen[str]) -> None:
    folder.remove()
    assert process.wait(40) == 0


@pytest.mark.usefixtures("process")
def test_a_second_one_does_not_take_a_folder_away_from_the_first(folder: Folder) -> None:
    command = [sys.executable, "-IS", PROGRAM, str(folder.pipe), "2"]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (second.returncode, second.stderr) == (1, f"another daemon serves {folder.pipe}\n")
    assert folder.ask(["get_client_list"]) == ["none"]


def test_it_takes_over_from_one_that_was_killed(folder: Folder, process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert "control" in {path.name for path in folder.pipe.iterdir()}
    command = [sys.executable, "-IS", PROGRAM, str(folder.pipe), "2"]
    with ending(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as second:
        assert second.stdout is not None
        second.stdout.readline()
        assert folder.ask(["get_client_list"]) == ["none"]
