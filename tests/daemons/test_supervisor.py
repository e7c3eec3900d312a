"""Daemons are started, watched and ended: real processes, killed as the kernel kills them."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from driver.daemons import processes
from driver.daemons.launching import Patience
from driver.daemons.places import Place
from driver.daemons.supervisor import KEPT, Supervisor
from driver.model.errors import StepFailed
from driver.model.occurrences import DaemonStopped
from tests.daemons.bench import QUICK, SLEEP, Bench
from tests.fakes.waiting import wait_until


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_start_returns_once_the_daemon_is_ready(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(f"sleep 0.1; touch $HERE/up; {SLEEP}", ready=bench.has("up")))
    assert bench.file("up").exists()
    assert bench.pid()
    assert bench.started() == ["started"]


def test_a_daemon_gets_its_own_variables_and_a_path_and_nothing_of_the_plugins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PLUGIN", "1")
    bench.supervisor.start(bench.daemon(SLEEP, environment={"CUDA_VISIBLE_DEVICES": "GPU-1"}))
    wait_until(Path(f"/proc/{bench.pid()}/environ").read_bytes)  # empty while one program replaces another
    content = Path(f"/proc/{bench.pid()}/environ").read_bytes().split(b"\0")
    names = {line.partition(b"=")[0] for line in content if line} - {b"PWD", b"OLDPWD", b"SHLVL", b"_"}
    assert names == {b"CUDA_VISIBLE_DEVICES", b"PATH", b"ACCEL_DRA_DAEMON"}


def test_a_daemon_gets_no_file_of_the_plugins(bench: Bench, tmp_path: Path) -> None:
    leaky = os.open(tmp_path / "claims", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(leaky, True)
    try:
        script = f"ls -l /proc/$$/fd | cat > $HERE/files; touch $HERE/up; {SLEEP}"
        bench.supervisor.start(bench.daemon(script, ready=bench.has("up")))
    finally:
        os.close(leaky)
    files = {line.split()[-1] for line in bench.file("files").read_text().splitlines()[1:]}
    foreign = {file for file in files if not file.startswith("pipe:")}  # the shell's own
    assert foreign == {"/dev/null", str(bench.root / "daemons/mps/log")}


def test_a_daemon_is_not_reached_by_signals_for_the_plugins_own_group(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(SLEEP))
    assert os.getsid(bench.pid()) == bench.pid() != os.getsid(0)


def test_a_daemon_that_is_killed_is_started_again(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(f"echo I am here; {SLEEP}"))
    wait_until(lambda: "I am here" in bench.log())
    first = bench.kill()
    wait_until(lambda: bench.started() == ["started", "again"])
    assert bench.pid() not in (0, first)
    assert len(bench.running()) == 1
    (ended,) = bench.ended()
    assert ended.daemon == "mps"
    assert ended.reason == "it ended (signal 9, SIGKILL); its last words: I am here"
    assert ended.retry_in == 0.02
    assert not is_zombie(first)


def test_a_daemon_that_ends_by_itself_is_started_again_with_its_exit_status_told(bench: Bench) -> None:
    script = f"test -e $HERE/second && {SLEEP}; touch $HERE/second; sleep 0.2; echo out of memory >&2; exit 3"
    bench.supervisor.start(bench.daemon(script))
    wait_until(lambda: bench.started() == ["started", "again"])
    assert [each.reason for each in bench.ended()] == ["it ended (exit status 3); its last words: out of memory"]


def test_ready_is_asked_again_after_each_restart(bench: Bench) -> None:
    asked: list[int] = []

    def ready() -> str:
        asked.append(bench.pid())
        return ""

    bench.supervisor.start(bench.daemon(SLEEP, ready=ready))
    bench.kill()
    wait_until(lambda: len(bench.started()) == 2)
    bench.kill()
    wait_until(lambda: len(bench.started()) == 3)
    assert len(set(asked)) == 3


def test_children_of_a_daemon_that_was_killed_are_gone_before_it_starts_again(bench: Bench) -> None:
    script = f"pgrep -f serve-$HERE && echo TWICE; sh -c 'sleep 1000; : serve-'$HERE & touch $HERE/up; {SLEEP}"
    bench.supervisor.start(bench.daemon(script, ready=bench.has("up")))
    wait_until(lambda: len(bench.running()) >= 2)
    before = bench.running()
    bench.kill()
    wait_until(lambda: len(bench.started()) == 2)
    assert not [process for process in before if processes.is_running(process)]
    assert "TWICE" not in bench.log()


def test_pauses_grow_while_a_daemon_ends_again_and_again(bench: Bench) -> None:
    script = f"test -e $HERE/first && exit 1; touch $HERE/first; {SLEEP}"
    bench.supervisor.start(bench.daemon(script, ready=bench.has("first")))
    bench.kill()
    wait_until(lambda: len(bench.ended()) >= 6)
    assert [each.retry_in for each in bench.ended()[:6]] == pytest.approx([0.02, 0.04, 0.08, 0.1, 0.1, 0.1])


def test_a_daemon_that_was_steady_begins_with_a_short_pause_again(tmp_path: Path) -> None:

    bench = Bench(tmp_path, replace(QUICK, steady=0.0))
    try:
        bench.supervisor.start(bench.daemon(SLEEP))
        for count in (2, 3, 4):
            bench.kill()
            wait_until(lambda count=count: len(bench.started()) == count)  # type: ignore[misc]
        assert {each.retry_in for each in bench.ended()} == {0.02}
    finally:
        bench.sweep()


def test_a_daemon_that_ends_at_once_is_a_failure_with_its_last_words(bench: Bench) -> None:
    script = "echo line one; echo; echo 'cannot open device' >&2; exit 7"
    with pytest.raises(StepFailed) as caught:
        bench.supervisor.start(bench.daemon(script, ready=lambda: "no answer yet"))
    text = "step daemon mps: sh ended at once (exit status 7); its last words: line one / cannot open device"
    assert str(caught.value) == text
    assert not bench.running()
    assert not bench.started()


def test_a_daemon_that_never_gets_ready_is_ended_and_not_started_again(bench: Bench) -> None:
    daemon = bench.daemon(f"echo waiting for a GPU; {SLEEP}", ready=bench.has("never"), ready_seconds=0.3)
    with pytest.raises(StepFailed) as caught:
        bench.supervisor.start(daemon)
    assert str(caught.value) == (
        "step daemon mps: it is not ready after 0.3 s: never is not there; its last words: waiting for a GPU"
    )
    assert not bench.running()
    time.sleep(0.2)
    assert not bench.running()


def test_a_restarted_daemon_that_is_not_ready_is_ended_and_tried_again(bench: Bench) -> None:
    bench.file("up").touch()
    bench.supervisor.start(bench.daemon(SLEEP, ready=bench.has("up"), ready_seconds=0.2))
    bench.file("up").unlink()
    bench.kill()
    wait_until(lambda: len(bench.ended()) >= 2)
    assert bench.ended()[1].reason == "it is not ready after 0.2 s: up is not there"
    bench.file("up").touch()
    wait_until(lambda: bench.started() == ["started", "again"])
    assert len(bench.running()) == 1


def test_a_defect_of_ready_is_told_as_the_reason(bench: Bench) -> None:
    def ready() -> str:
        raise ValueError("no such key")

    with pytest.raises(StepFailed, match=re.escape("not ready after 0.1 s: ValueError: no such key")):
        bench.supervisor.start(bench.daemon(SLEEP, ready=ready, ready_seconds=0.1))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("no-such-program",), os.strerror(errno.ENOENT)),
        (("/",), os.strerror(errno.EACCES)),
        (("sh", "a\0b"), "embedded null byte"),
    ],
)
def test_a_command_that_cannot_be_run_is_a_failure_that_names_it(
    bench: Bench, command: tuple[str, ...], why: str
) -> None:

    with pytest.raises(StepFailed) as caught:
        bench.supervisor.start(replace(bench.daemon(""), command=command))
    assert str(caught.value) == f"step daemon mps: {command[0]} cannot be run: {why}"
    assert not bench.running()
    bench.supervisor.start(bench.daemon(SLEEP))
    assert len(bench.running()) == 1


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 129])
def test_a_name_that_is_no_file_name_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(StepFailed, match="cannot be that of a file"):
        bench.supervisor.start(bench.daemon(SLEEP, name))
    with pytest.raises(StepFailed, match="cannot be that of a file"):
        bench.supervisor.stop(name)


def test_starting_again_finds_it_running(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(SLEEP))
    pid = bench.pid()
    bench.supervisor.start(bench.daemon(SLEEP))
    assert bench.pid() == pid
    assert bench.started() == ["started", "found"]
    assert len(bench.running()) == 1


def test_daemons_of_different_names_do_not_know_each_other(bench: Bench) -> None:
    for name in ("mps-a", "mps-b", "mps-c"):
        bench.supervisor.start(bench.daemon(SLEEP, name))
    bench.supervisor.stop("mps-b")
    assert [len(bench.running(name)) for name in ("mps-a", "mps-b", "mps-c")] == [1, 0, 1]


def test_stopping_asks_in_the_daemons_own_way_first(bench: Bench) -> None:
    script = "trap 'echo TERM; exit 0' TERM; while ! test -e $HERE/quit; do sleep 0.02; done; echo goodbye"
    bench.supervisor.start(bench.daemon(script, end=lambda: bench.file("quit").touch()))
    bench.supervisor.stop("mps")
    assert bench.log() == "goodbye\n"
    assert not bench.running()
    assert bench.told[-1] == DaemonStopped("mps")


def test_a_daemon_without_a_way_of_its_own_gets_sigterm(bench: Bench) -> None:
    script = "trap 'echo TERM; exit 0' TERM; touch $HERE/up; while :; do sleep 0.02; done"
    bench.supervisor.start(bench.daemon(script, ready=bench.has("up")))
    bench.supervisor.stop("mps")
    assert bench.log().splitlines()[-1] == "TERM"


def test_a_failing_end_does_not_keep_it_from_being_ended(bench: Bench) -> None:
    def end() -> None:
        raise OSError("socket is gone")

    quick = Bench(bench.root, replace(QUICK, patience=Patience(0.1, 1.0, 5.0)))
    quick.supervisor.start(quick.daemon(SLEEP, end=end))
    quick.supervisor.stop("mps")
    assert not quick.running()


def test_a_daemon_that_ignores_sigterm_is_killed_with_its_children(bench: Bench) -> None:
    script = "trap '' TERM; (trap '' TERM; while :; do sleep 0.05; done) & touch $HERE/up; while :; do sleep 0.05; done"
    bench.supervisor.start(bench.daemon(script, ready=bench.has("up")))
    wait_until(lambda: len(bench.running()) >= 2)
    pid = bench.pid()
    bench.supervisor.stop("mps")
    assert not bench.running()
    assert not is_zombie(pid)


def test_a_child_that_made_a_session_of_its_own_is_ended_too(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(f"setsid sleep 1000 & touch $HERE/up; {SLEEP}", ready=bench.has("up")))
    wait_until(lambda: len({os.getsid(process.pid) for process in bench.running()}) == 2)
    before = bench.running()
    bench.kill()
    bench.supervisor.stop("mps")
    assert not [process for process in before if processes.is_running(process)]


def test_stopping_what_is_unknown_or_stopped_is_fine(bench: Bench) -> None:
    bench.supervisor.stop("never-heard-of")
    bench.supervisor.start(bench.daemon(SLEEP))
    bench.supervisor.stop("mps")
    bench.supervisor.stop("mps")
    assert sum(isinstance(each, DaemonStopped) for each in bench.told) == 1


def test_a_stopped_daemon_can_be_started_again(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(SLEEP))
    bench.supervisor.stop("mps")
    bench.supervisor.start(bench.daemon(SLEEP))
    assert len(bench.running()) == 1


def test_a_daemon_that_is_down_between_two_tries_can_be_stopped(tmp_path: Path) -> None:

    bench = Bench(tmp_path, replace(QUICK, first_pause=60.0, longest_pause=60.0))
    bench.supervisor.start(bench.daemon(SLEEP))
    bench.kill()
    wait_until(bench.ended)
    bench.supervisor.stop("mps")
    assert not bench.running()


def test_no_descriptor_and_no_thread_is_left(bench: Bench) -> None:

    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(3):
        bench.supervisor.start(bench.daemon(SLEEP))
        bench.kill()
        wait_until(lambda: "again" in bench.started())
        bench.told.clear()
        bench.supervisor.stop("mps")
        with pytest.raises(StepFailed):
            bench.supervisor.start(bench.daemon("exit 1", ready=lambda: "never"))
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before


def test_after_the_end_of_the_supervision_daemons_live_and_nothing_is_started(bench: Bench) -> None:
    bench.supervisor.start(bench.daemon(SLEEP))
    bench.supervisor.close()
    bench.supervisor.close()
    assert len(bench.running()) == 1
    with pytest.raises(StepFailed, match="the plugin is stopping"):
        bench.supervisor.start(bench.daemon(SLEEP, "other"))
    pid = bench.kill()
    time.sleep(0.2)
    assert not bench.running()
    processes.reap(pid)


def test_a_kernel_that_cannot_follow_processes_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(
        StepFailed, match=r"cannot follow processes \(pidfd_open: Function not implemented\); Linux 5\.3"
    ):
        bench.supervisor.start(bench.daemon("touch $HERE/up"))
    assert not bench.file("up").exists()


def test_a_root_that_cannot_be_used_is_a_failure_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    supervisor = Supervisor(tmp_path / "file" / "daemons", lambda _: None)
    bench = Bench(tmp_path)
    with pytest.raises(StepFailed, match=r"daemon mps: cannot .* it: .*: Not a directory"):
        supervisor.start(bench.daemon(SLEEP))


def test_stop_works_while_the_daemon_is_being_started_by_another_thread(bench: Bench) -> None:

    thread = threading.Thread(
        target=bench.supervisor.start, args=[bench.daemon(SLEEP, ready=bench.has("up"), ready_seconds=10.0)]
    )
    thread.start()
    wait_until(bench.running)
    bench.file("up").touch()
    bench.supervisor.stop("mps")
    thread.join()
    assert not bench.running()


def test_of_daemons_that_have_ended_the_last_logs_are_kept_and_no_more(bench: Bench) -> None:
    """A claim has a daemon of its own name: a node that lives for years must not collect them."""
    bench.supervisor.start(bench.daemon(SLEEP, "running"))
    for number in range(KEPT + 4):
        name = f"claim-{number:02}"
        bench.supervisor.start(bench.daemon(f"echo from {name}; touch $HERE/{name}; {SLEEP}", name, bench.has(name)))
        bench.supervisor.stop(name)
    left = sorted(path.name for path in bench.file("daemons").iterdir())
    assert left == [*(f"claim-{number:02}" for number in range(4, KEPT + 4)), "running"]
    assert "from claim-19" in bench.log("claim-19")
    assert bench.running("running")


def test_a_daemon_that_is_wanted_again_is_not_tidied_away(bench: Bench) -> None:
    for number in range(KEPT):
        bench.supervisor.start(bench.daemon(SLEEP, f"claim-{number:02}"))
        bench.supervisor.stop(f"claim-{number:02}")
    bench.supervisor.start(bench.daemon(SLEEP, "claim-00"))
    for name in ("one", "two"):
        bench.supervisor.start(bench.daemon(SLEEP, name))
        bench.supervisor.stop(name)
    assert bench.running("claim-00")
    assert not bench.file("daemons/claim-01").exists()


def test_a_lock_whose_file_was_removed_keeps_nobody_out_and_lets_nobody_in_twice(tmp_path: Path) -> None:
    first, second, third = (Place(tmp_path / "mps") for _ in range(3))
    assert first.try_lock()
    first.ask_to_stop()
    assert not second.try_lock()
    first.unlock()
    assert second.remove()
    assert third.try_lock()
    assert not first.try_lock()
    assert not second.remove()
    third.unlock()
