"""The health stream over a real socket, watched as the kubelet watches it: complete, prompt, bounded, ended."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import pytest

from driver.kubelet import methods, sockets
from driver.kubelet.dra import DraService
from driver.kubelet.health import MAX_STREAMS, RESEND_SECONDS, TIMEOUT_SECONDS, HealthService
from driver.kubelet.pb.dra.v1 import api_pb2 as dra
from driver.kubelet.pb.dra_health.v1 import api_pb2 as v1
from driver.kubelet.pb.dra_health.v1alpha1 import api_pb2 as v1alpha1
from driver.kubelet.servers import KubeletServers
from driver.model.health import DeviceHealth, Severity
from driver.model.prepared import ClaimRef, PrepareAnswer
from tests.fakes.waiting import wait_until

DRIVER = "gpu.accel-dra.dev"
SECONDS = 20
HEALTHY = DeviceHealth("gpu-0", Severity.HEALTHY)
SICK = DeviceHealth("gpu-0", Severity.UNHEALTHY, "xid-79: it is gone")
DEGRADED = DeviceHealth("gpu-1", Severity.DEGRADED, "link-3: slow")
UNKNOWN = DeviceHealth("gpu-2", None, "nobody looks")


def _refuse(refs: Sequence[ClaimRef]) -> dict[str, PrepareAnswer]:
    return {ref.uid: PrepareAnswer(error="no") for ref in refs}


class Plugin:
    """The plugin's servers with devices that a test sets."""

    def __init__(self, folder: Path, resend: float) -> None:
        self.devices: list[DeviceHealth] = [HEALTHY]
        self.faults: list[str] = []
        self.report: Callable[[], Sequence[DeviceHealth]] = lambda: list(self.devices)
        self.health = HealthService("node-a", self._ask, self._hear, resend=resend)
        paths = sockets.name(DRIVER, str(folder / "p"), str(folder / "r"), "")
        Path(paths.registration).parent.mkdir()
        service = DraService(_refuse, lambda refs: {ref.uid: "" for ref in refs}, self._hear)
        self.servers = KubeletServers(DRIVER, paths, service, self.health, print)
        self.servers.start()
        self.channel = grpc.insecure_channel(f"unix:{paths.dra}")

    def _ask(self) -> Sequence[DeviceHealth]:
        return self.report()

    def _hear(self, method: str, error: Exception) -> None:
        self.faults.append(f"{method}: {error}")

    def change(self, *devices: DeviceHealth) -> None:
        self.devices = list(devices)
        self.health.notify()

    def watch(self) -> Stream:
        return Stream(methods.WATCH_HEALTH_V1.dial(self.channel)(v1.NodeWatchResourcesRequest(), timeout=SECONDS))

    def close(self) -> None:
        self.channel.close()
        self.servers.stop(0)


class Stream:
    """One open stream, read reply by reply."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def read(self) -> list[v1.DeviceHealth]:
        return list(next(self.call).devices)

    def read_states(self) -> list[tuple[str, int, str]]:
        return [(each.device.device_name, each.health, each.message) for each in self.read()]

    def is_over(self) -> bool:
        with contextlib.suppress(grpc.RpcError, StopIteration):
            next(self.call)
            return False
        return True


@pytest.fixture
def begin() -> Iterator[Callable[..., Plugin]]:
    with tempfile.TemporaryDirectory(prefix="dh-") as folder, contextlib.ExitStack() as stack:

        def start(resend: float = SECONDS) -> Plugin:
            plugin = Plugin(Path(folder), resend)
            stack.callback(plugin.close)
            return plugin

        yield start


Begin = Callable[..., Plugin]


def test_the_first_list_comes_at_once_and_is_complete(begin: Begin) -> None:
    plugin = begin()
    plugin.devices = [SICK, DEGRADED, UNKNOWN]
    devices = plugin.watch().read()
    assert [(each.device.pool_name, each.device.device_name) for each in devices] == [
        ("node-a", "gpu-0"),
        ("node-a", "gpu-1"),
        ("node-a", "gpu-2"),
    ]
    assert [each.health for each in devices] == [v1.UNHEALTHY, v1.HEALTHY, v1.UNKNOWN]
    assert [each.message for each in devices] == ["xid-79: it is gone", "link-3: slow", "nobody looks"]
    assert {each.health_check_timeout_seconds for each in devices} == {TIMEOUT_SECONDS}
    assert all(each.last_updated_time > 1_700_000_000 for each in devices)


def test_both_versions_tell_the_same(begin: Begin) -> None:
    plugin = begin()
    plugin.devices = [SICK, DEGRADED, UNKNOWN]
    new = plugin.watch().read()
    old = methods.WATCH_HEALTH_V1ALPHA1.dial(plugin.channel)(v1alpha1.NodeWatchResourcesRequest(), timeout=SECONDS)
    devices = next(old).devices
    for one, other in zip(new, devices, strict=True):
        other.last_updated_time = one.last_updated_time
        assert one.SerializeToString() == other.SerializeToString()
    old.cancel()


def test_a_change_is_told_to_every_stream(begin: Begin) -> None:
    plugin = begin()
    streams = [plugin.watch() for _ in range(3)]
    for stream in streams:
        assert stream.read_states() == [("gpu-0", v1.HEALTHY, "")]
    plugin.change(SICK)
    for stream in streams:
        assert stream.read_states() == [("gpu-0", v1.UNHEALTHY, SICK.message)]
    plugin.change(HEALTHY)
    for stream in streams:
        assert stream.read_states() == [("gpu-0", v1.HEALTHY, "")]


def test_no_change_between_a_list_and_the_next_is_lost(begin: Begin) -> None:
    plugin = begin()
    reports = iter([[HEALTHY], [SICK]])

    def report() -> Sequence[DeviceHealth]:
        devices = next(reports)
        plugin.health.notify()  # something changes while the list is being made
        return devices

    plugin.report = report
    stream = plugin.watch()
    assert stream.read_states() == [("gpu-0", v1.HEALTHY, "")]
    assert stream.read_states() == [("gpu-0", v1.UNHEALTHY, SICK.message)]


def test_the_list_is_sent_again_though_nothing_changes(begin: Begin) -> None:
    stream = begin(resend=0.05).watch()
    assert [stream.read_states() for _ in range(3)] == [[("gpu-0", v1.HEALTHY, "")]] * 3


def test_lists_are_sent_often_enough_for_the_timeout_they_name() -> None:
    assert RESEND_SECONDS <= TIMEOUT_SECONDS / 2


def test_an_empty_node_sends_an_empty_list(begin: Begin) -> None:
    plugin = begin()
    plugin.devices = []
    assert plugin.watch().read() == []


def test_a_new_stream_ends_the_oldest_when_there_are_too_many(begin: Begin) -> None:
    plugin = begin()
    streams: list[Stream] = []
    for _ in range(MAX_STREAMS + 1):
        streams.append(plugin.watch())
        assert streams[-1].read()
    assert streams[0].is_over()
    plugin.change(SICK)
    for stream in streams[1:]:
        assert stream.read_states() == [("gpu-0", v1.UNHEALTHY, SICK.message)]


def test_streams_of_a_kubelet_that_comes_back_again_and_again_take_no_thread_from_calls(begin: Begin) -> None:
    plugin = begin()
    for _ in range(10 * MAX_STREAMS):
        plugin.watch().read()
    request = dra.NodePrepareResourcesRequest(claims=[dra.Claim(namespace="a", name="b", uid="c")])
    assert methods.PREPARE_V1.dial(plugin.channel)(request, timeout=SECONDS).claims["c"].error == "no"
    wait_until(lambda: _count_streams() <= MAX_STREAMS, "the old streams to let go of their threads")


def test_a_stream_that_the_kubelet_cancels_lets_go_of_its_thread(begin: Begin) -> None:
    plugin = begin()
    streams = [plugin.watch() for _ in range(3)]
    for stream in streams:
        stream.read()
    wait_until(lambda: _count_streams() == 3, "the streams to wait")
    for stream in streams:
        stream.call.cancel()
    wait_until(lambda: _count_streams() == 0, "the streams to end")


def test_a_channel_that_breaks_lets_go_of_the_thread(begin: Begin) -> None:
    plugin = begin()
    plugin.watch().read()
    plugin.channel.close()
    wait_until(lambda: _count_streams() == 0, "the stream to end")


def test_the_end_of_the_plugin_ends_streams_without_waiting_for_the_grace(begin: Begin) -> None:
    plugin = begin()
    stream = plugin.watch()
    stream.read()
    ended = threading.Event()

    def stop() -> None:
        plugin.servers.stop(10 * SECONDS)
        ended.set()

    threading.Thread(target=stop).start()
    assert stream.is_over()
    assert ended.wait(SECONDS)


def test_no_stream_begins_after_the_end(begin: Begin) -> None:
    plugin = begin()
    plugin.health.close()
    plugin.health.close()
    assert plugin.watch().is_over()


def test_a_defect_ends_the_stream_and_is_told(begin: Begin) -> None:
    plugin = begin()

    def report() -> Sequence[DeviceHealth]:
        raise ZeroDivisionError("a defect")

    plugin.report = report
    with pytest.raises(grpc.RpcError):
        plugin.watch().read()
    assert plugin.faults == ["NodeWatchResources: a defect"]
    plugin.report = lambda: [HEALTHY]
    assert plugin.watch().read()


def _count_streams() -> int:
    """Return how many threads of this process serve a stream."""
    return sum("_lists" in _functions(frame) for frame in sys._current_frames().values())


def _functions(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back
