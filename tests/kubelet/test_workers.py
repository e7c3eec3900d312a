"""Threads for calls: as many as needed, and none that keeps a process alive."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import pytest

from driver.kubelet.workers import DaemonPool

ROOT = Path(__file__).resolve().parent.parent.parent

STUCK = """
import sys, tempfile, threading
import grpc
from driver.kubelet import methods, sockets
from driver.kubelet.dra import DraService
from driver.kubelet.health import HealthService
from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.servers import KubeletServers
called = threading.Event()
def hang(refs):
    called.set()
    threading.Event().wait()
with tempfile.TemporaryDirectory(prefix="dra-") as folder:
    paths = sockets.name("d.example.com", folder + "/p", folder, "")
    health = HealthService("n", tuple, print)
    servers = KubeletServers("d.example.com", paths, DraService(hang, hang, print), health, print)
    servers.start()
    with grpc.insecure_channel("unix:" + paths.dra) as channel:
        request = v1.NodePrepareResourcesRequest(claims=[v1.Claim(namespace="a", name="b", uid="c")])
        call = methods.PREPARE_V1.dial(channel).future(request)
        assert called.wait(20)
        servers.stop(0.1)
print("stopped", flush=True)
"""


@pytest.fixture
def pool() -> DaemonPool:
    return DaemonPool(3, "calls")


def test_a_call_that_is_stuck_for_good_does_not_keep_the_process_alive() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"stopped\n"


def test_functions_run_at_the_same_time_on_so_many_threads_and_no_more(pool: DaemonPool) -> None:
    together = threading.Barrier(3, timeout=20)

    def meet(number: int) -> tuple[int, str]:
        together.wait()
        return number, threading.current_thread().name

    answers = [pool.submit(meet, number).result for number in range(6)]
    assert [answer(20)[0] for answer in answers] == list(range(6))
    assert {answer()[1] for answer in answers} == {"calls_1", "calls_2", "calls_3"}
    pool.shutdown()


def test_threads_are_used_again(pool: DaemonPool) -> None:
    names = set()
    for _ in range(20):
        names.add(pool.submit(lambda: threading.current_thread().name).result(20))
    assert len(names) <= 3
    pool.shutdown()


def test_an_error_is_that_of_its_function_alone(pool: DaemonPool) -> None:
    failed = pool.submit(lambda: 1 // 0)
    assert isinstance(failed.exception(20), ZeroDivisionError)
    assert pool.submit(sum, (1, 2)).result(20) == 3
    pool.shutdown()


def test_what_waits_at_the_end_is_dropped_and_what_runs_may_end() -> None:
    pool = DaemonPool(1, "calls")
    running, release = threading.Event(), threading.Event()

    def wait() -> str:
        running.set()
        assert release.wait(20)
        return "done"

    first, second = pool.submit(wait), pool.submit(lambda: "late")
    assert running.wait(20)
    pool.shutdown()
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(wait)
    release.set()
    assert first.result(20) == "done"
    with pytest.raises(futures.CancelledError):
        second.result(20)


def test_a_function_that_is_cancelled_before_it_runs_is_skipped(pool: DaemonPool) -> None:
    release = threading.Event()
    blockers = [pool.submit(release.wait, 20) for _ in range(3)]
    skipped = pool.submit(pytest.fail, "it was cancelled")
    assert skipped.cancel()
    release.set()
    assert all(blocker.result(20) for blocker in blockers)
    assert pool.submit(lambda: "next").result(20) == "next"
    pool.shutdown()
