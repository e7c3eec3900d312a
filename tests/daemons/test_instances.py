"""Daemons across processes of the plugin: crash, restart, two at a time, reused numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from driver.daemons import processes
from driver.daemons.places import Place
from driver.daemons.processes import Process
from driver.model.errors import StepFailed
from tests.daemons.bench import SLEEP, Bench
from tests.fakes.processes import ending
from tests.fakes.waiting import wait_until

Benches = Callable[[], Bench]
ROOT = Path(__file__).resolve().parent.parent.parent
PLUGIN = """
import sys, time
from pathlib import Path
from tests.daemons.bench import Bench
bench = Bench(Path(sys.argv[1]))
bench.supervisor.start(bench.daemon(sys.argv[2]))
print("up", flush=True)
time.sleep(1000)
"""


def plugin(root: Path, script: str) -> subprocess.Popen[bytes]:
    """Return a process that supervises a daemon as the plugin does."""
    command = [sys.executable, "-c", PLUGIN, str(root), script]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_daemon_outlives_a_plugin_that_is_killed_and_is_found_by_the_next(benches: Benches) -> None:
    bench = benches()
    with ending(plugin(bench.root, SLEEP)) as process:
        assert read_line(process) == b"up\n"
        pid = bench.pid()
        process.kill()
        process.wait()
        bench.supervisor.start(bench.daemon(SLEEP))
    assert bench.pid() == pid
    assert bench.started() == ["found"]
    bench.kill()
    wait_until(lambda: bench.started() == ["found", "again"])
    assert bench.ended()[0].reason.startswith("it ended (how is not known, because an earlier process")


def test_a_daemon_that_was_dying_when_it_was_found_is_started_again(benches: Benches) -> None:
    """The kernel takes its time for a large process, and the next instance may be faster."""
    first, second = benches(), benches()
    script = f"echo $$ >> $HERE/pids; {SLEEP}"
    first.supervisor.start(first.daemon(script, ready=first.has("pids")))
    first.supervisor.close()
    asked: list[int] = []

    def ready() -> str:
        asked.append(second.pid())
        if len(asked) == 1:
            second.kill()
            wait_until(lambda: not second.running())
        return ""

    second.supervisor.start(second.daemon(script, ready=ready))
    assert len(second.running()) == 1
    assert second.pid() not in (0, asked[0])
    assert second.started() == ["started"]


def test_a_daemon_of_an_earlier_process_can_be_stopped_without_having_been_started(benches: Benches) -> None:
    bench = benches()
    script = "while ! test -e $HERE/quit; do sleep 0.02; done; echo goodbye"
    with ending(plugin(bench.root, script)) as process:
        assert read_line(process) == b"up\n"
        process.kill()
        process.wait()
    bench.supervisor.stop("mps", lambda: bench.file("quit").touch())
    assert bench.log() == "goodbye\n"
    assert not bench.running()


def test_what_was_being_started_when_the_plugin_was_killed_is_found_and_ended(benches: Benches) -> None:
    """Killed between the start of the process and the moment in which it is written down."""
    bench = benches()
    with ending(plugin(bench.root, SLEEP)) as process:
        assert read_line(process) == b"up\n"
        process.kill()
        process.wait()
    place = Place(bench.root / "daemons" / "mps")
    place.announce()
    (lost,) = bench.running()
    bench.supervisor.start(bench.daemon(SLEEP))
    assert not processes.is_running(lost)
    assert len(bench.running()) == 1
    assert bench.started() == ["started"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid":"x"}', b"\xff" * 40, b'{"pid":-5,"start":1,"boot":""}'])
def test_a_note_that_cannot_be_read_loses_no_process(benches: Benches, content: bytes) -> None:
    first, second = benches(), benches()
    first.supervisor.start(first.daemon(SLEEP))
    (lost,) = first.running()
    first.supervisor.close()
    (first.root / "daemons/mps/process").write_bytes(content)
    second.supervisor.start(second.daemon(SLEEP))
    assert not processes.is_running(lost)
    assert len(second.running()) == 1


def test_a_process_that_has_the_number_of_an_old_daemon_is_left_alone(bench: Bench) -> None:
    with ending(subprocess.Popen(["sleep", "1000"], start_new_session=True)) as stranger:
        place = Place(bench.root / "daemons" / "mps")
        assert place.try_lock()
        place.write(Process(stranger.pid, 12345))
        place.unlock()
        bench.supervisor.start(bench.daemon(SLEEP))
        assert bench.pid() != stranger.pid
        place.write(Process(stranger.pid, 12345))
        bench.supervisor.stop("mps")
        assert stranger.poll() is None


def test_a_process_of_an_earlier_boot_is_not_looked_for(bench: Bench) -> None:
    with ending(subprocess.Popen(["sleep", "1000"], start_new_session=True)) as stranger:
        found = processes.identify(stranger.pid)
        assert found
        note = {"pid": found.pid, "start": found.start, "boot": "another"}
        folder = bench.root / "daemons" / "mps"
        folder.mkdir(parents=True)
        (folder / "process").write_bytes(msgspec.json.encode(note))
        bench.supervisor.start(bench.daemon(SLEEP))
        bench.supervisor.stop("mps")
        assert stranger.poll() is None


def test_signals_go_to_the_process_that_was_meant_only(bench: Bench) -> None:
    with ending(subprocess.Popen(["sleep", "1000"])) as stranger:
        found = processes.identify(stranger.pid)
        assert found
        processes.send([Process(found.pid, found.start + 1)], signal.SIGKILL)
        assert stranger.poll() is None
        processes.send([found], signal.SIGKILL)
        assert stranger.wait() == -signal.SIGKILL
    assert bench.ended() == []


def test_of_two_instances_one_supervises_and_the_other_takes_over(benches: Benches) -> None:
    old, new = benches(), benches()
    old.supervisor.start(old.daemon(SLEEP))
    new.supervisor.start(new.daemon(SLEEP))
    assert new.started() == []
    first = old.kill()
    wait_until(lambda: old.started() == ["started", "again"])
    assert new.ended() == []
    pid = old.pid()
    old.supervisor.close()
    wait_until(lambda: new.started() == ["found"])
    assert new.pid() == pid != first
    new.kill()
    wait_until(lambda: new.started() == ["found", "again"])
    assert len(new.running()) == 1


def test_an_instance_takes_over_from_one_that_was_killed_with_its_daemon(benches: Benches) -> None:
    """So it is in a container: its end takes all of its processes with it."""
    new = benches()
    with ending(plugin(new.root, SLEEP)) as old:
        assert read_line(old) == b"up\n"
        new.supervisor.start(new.daemon(SLEEP))
        pid = new.pid()
        old.kill()
        new.kill()
        wait_until(lambda: new.started() in (["again"], ["found", "again"]))
        assert new.pid() != pid
        assert len(new.running()) == 1


def test_an_instance_stops_what_the_other_supervises(benches: Benches) -> None:
    old, new = benches(), benches()
    old.supervisor.start(old.daemon(SLEEP))
    new.supervisor.stop("mps")
    assert not new.running()
    old.supervisor.close()
    new.supervisor.start(new.daemon(SLEEP))
    assert len(new.running()) == 1


def test_an_instance_that_waits_forgets_a_daemon_which_the_other_stops(benches: Benches) -> None:
    old, new = benches(), benches()
    old.supervisor.start(old.daemon(SLEEP))
    new.supervisor.start(new.daemon(SLEEP))
    old.supervisor.stop("mps")
    old.supervisor.close()
    new.supervisor.close()
    assert not new.running()
    assert new.started() == []


def test_what_an_instance_cannot_get_ready_is_ended_by_the_one_that_supervises_it(benches: Benches) -> None:
    old, new = benches(), benches()
    old.supervisor.start(old.daemon(SLEEP))
    with pytest.raises(StepFailed, match=r"not ready after 0\.1 s: odd"):
        new.supervisor.start(new.daemon(SLEEP, ready=lambda: "odd", ready_seconds=0.1))
    wait_until(lambda: not old.running())


def test_two_threads_of_two_instances_start_one_daemon(benches: Benches) -> None:
    every = [benches() for _ in range(4)]
    threads = [threading.Thread(target=each.supervisor.start, args=[each.daemon(SLEEP)]) for each in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(every[0].running()) == 1
    assert sum(len(each.started()) for each in every) == 1
