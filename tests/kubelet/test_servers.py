"""The two services over real sockets, called by a real gRPC client as the kubelet calls them."""

from __future__ import annotations

import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest

from driver.kubelet import methods, sockets
from driver.kubelet.dra import DraService
from driver.kubelet.health import HealthService
from driver.kubelet.pb.dra.v1 import api_pb2 as v1
from driver.kubelet.pb.dra.v1beta1 import api_pb2 as v1beta1
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration
from driver.kubelet.servers import KubeletServers
from driver.model.errors import Conflict, InvalidInput, StorageFailed, Unavailable
from driver.model.occurrences import Registered
from driver.model.prepared import ClaimRef, PrepareAnswer, PreparedDevice

DRIVER = "gpu.accel-dra.dev"
DEVICE = PreparedDevice(
    requests=("gpu",), pool="node-a", device="gpu-0", cdi_device_ids=("v/c=a", "v/c=b"), share_id="s1"
)


class Plugin:
    """What stands behind the services: answers that a test sets."""

    def __init__(self) -> None:
        self.asked: list[ClaimRef] = []
        self.prepare: Callable[[Sequence[ClaimRef]], Mapping[str, PrepareAnswer]] = self.answer
        self.unprepare: Callable[[Sequence[ClaimRef]], Mapping[str, str]] = lambda refs: {ref.uid: "" for ref in refs}
        self.faults: list[tuple[str, Exception]] = []
        self.heard: list[Registered] = []

    def answer(self, refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        self.asked.extend(refs)
        return {ref.uid: PrepareAnswer((DEVICE,)) for ref in refs}

    def call_prepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        return self.prepare(refs)

    def call_unprepare(self, refs: Sequence[ClaimRef]) -> Mapping[str, str]:
        return self.unprepare(refs)

    def health(self) -> HealthService:
        return HealthService("node-a", tuple, lambda method, error: self.faults.append((method, error)))

    def service(self) -> DraService:
        return DraService(
            self.call_prepare, self.call_unprepare, lambda method, error: self.faults.append((method, error))
        )


@pytest.fixture
def plugin() -> Plugin:
    return Plugin()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path: the paths that pytest makes leave too little of a socket's 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="dra-") as path:
        yield Path(path)


@pytest.fixture
def paths(folder: Path) -> sockets.Sockets:
    (folder / "registry").mkdir()
    return sockets.name(DRIVER, str(folder / "plugins"), str(folder / "registry"), "")


@pytest.fixture
def servers(plugin: Plugin, paths: sockets.Sockets) -> Iterator[None]:
    running = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    running.start()
    yield
    running.stop(0)


@pytest.fixture
def dra(servers: None, paths: sockets.Sockets) -> Iterator[grpc.Channel]:  # noqa: ARG001 - they have to run
    with grpc.insecure_channel(f"unix:{paths.dra}") as channel:
        yield channel


def claims(*uids: str) -> list[v1.Claim]:
    return [v1.Claim(namespace="ns", uid=uid, name=f"claim-{uid}") for uid in uids]


def prepare(channel: grpc.Channel, *uids: str) -> v1.NodePrepareResourcesResponse:
    return methods.PREPARE_V1.dial(channel)(v1.NodePrepareResourcesRequest(claims=claims(*uids)), timeout=20)


def unprepare(channel: grpc.Channel, *uids: str) -> dict[str, str]:
    request = v1.NodeUnprepareResourcesRequest(claims=claims(*uids))
    response = methods.UNPREPARE_V1.dial(channel)(request, timeout=20)
    return {uid: entry.error for uid, entry in response.claims.items()}


# Registration


@pytest.mark.usefixtures("servers")
def test_the_kubelet_learns_who_we_are(paths: sockets.Sockets) -> None:
    with grpc.insecure_channel(f"unix:{paths.registration}") as channel:
        info = methods.GET_INFO.dial(channel)(registration.InfoRequest(), timeout=20)
    assert (info.type, info.name, info.endpoint) == ("DRAPlugin", DRIVER, paths.dra)
    assert list(info.supported_versions) == [
        "v1.DRAPlugin",
        "v1beta1.DRAPlugin",
        "v1.DRAResourceHealth",
        "v1alpha1.DRAResourceHealth",
    ]
    assert info.endpoint.startswith("/")


@pytest.mark.usefixtures("servers")
def test_the_kubelets_verdict_is_acknowledged_and_passed_on(paths: sockets.Sockets, plugin: Plugin) -> None:
    with grpc.insecure_channel(f"unix:{paths.registration}") as channel:
        notify = methods.NOTIFY_STATUS.dial(channel)
        notify(registration.RegistrationStatus(plugin_registered=True), timeout=20)
        notify(registration.RegistrationStatus(plugin_registered=False, error="no"), timeout=20)
    assert plugin.heard == [Registered(accepted=True), Registered(accepted=False, error="no")]


def test_registration_answers_while_every_prepare_thread_waits(
    dra: grpc.Channel, paths: sockets.Sockets, plugin: Plugin
) -> None:
    release = threading.Event()

    def block(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        release.wait(30)
        return {ref.uid: PrepareAnswer() for ref in refs}

    plugin.prepare = block
    call = methods.PREPARE_V1.dial(dra)
    running = [call.future(v1.NodePrepareResourcesRequest(claims=claims(f"u{n}")), timeout=30) for n in range(80)]
    try:
        with grpc.insecure_channel(f"unix:{paths.registration}") as channel:
            assert methods.GET_INFO.dial(channel)(registration.InfoRequest(), timeout=20).name == DRIVER
    finally:
        release.set()
    assert all(entry.result().claims for entry in running)


def test_unprepare_answers_while_many_prepares_wait(dra: grpc.Channel, plugin: Plugin) -> None:
    """A node's pods wait for an API server that is away; what ends must be able to end."""
    release, waiting = threading.Event(), threading.Semaphore(0)

    def block(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        waiting.release()
        release.wait(30)
        return {ref.uid: PrepareAnswer() for ref in refs}

    plugin.prepare = block
    call = methods.PREPARE_V1.dial(dra)
    running = [call.future(v1.NodePrepareResourcesRequest(claims=claims(f"u{n}")), timeout=30) for n in range(48)]
    try:
        assert all(waiting.acquire(timeout=20) for _ in running)
        assert unprepare(dra, "gone") == {"gone": ""}
    finally:
        release.set()
    assert all(entry.result().claims for entry in running)


# DRA


def test_a_claim_is_prepared(dra: grpc.Channel, plugin: Plugin) -> None:
    response = prepare(dra, "u1")
    assert plugin.asked == [ClaimRef("ns", "claim-u1", "u1")]
    (device,) = response.claims["u1"].devices
    assert device == v1.Device(
        request_names=["gpu"], pool_name="node-a", device_name="gpu-0", cdi_device_ids=["v/c=a", "v/c=b"], share_id="s1"
    )


def test_peer_defect_09_a_share_id_is_reported_and_its_absence_too(dra: grpc.Channel, plugin: Plugin) -> None:
    assert prepare(dra, "u1").claims["u1"].devices[0].share_id == "s1"
    plugin.prepare = lambda refs: {
        ref.uid: PrepareAnswer((PreparedDevice(requests=(), pool="p", device="d"),)) for ref in refs
    }
    assert not prepare(dra, "u1").claims["u1"].devices[0].HasField("share_id")


def test_the_older_version_says_the_same_without_share_ids(dra: grpc.Channel, plugin: Plugin) -> None:
    request = v1beta1.NodePrepareResourcesRequest(claims=[v1beta1.Claim(namespace="ns", uid="u1", name="n")])
    response = methods.PREPARE_V1BETA1.dial(dra)(request, timeout=20)
    assert plugin.asked == [ClaimRef("ns", "n", "u1")]
    assert list(response.claims["u1"].devices) == [
        v1beta1.Device(
            request_names=["gpu"], pool_name="node-a", device_name="gpu-0", cdi_device_ids=["v/c=a", "v/c=b"]
        )
    ]
    undone = methods.UNPREPARE_V1BETA1.dial(dra)(
        v1beta1.NodeUnprepareResourcesRequest(claims=[v1beta1.Claim(namespace="ns", uid="u1", name="n")]), timeout=20
    )
    assert {uid: entry.error for uid, entry in undone.claims.items()} == {"u1": ""}


def test_the_same_answer_is_the_same_bytes_whatever_its_order(dra: grpc.Channel, plugin: Plugin) -> None:
    raw: grpc.UnaryUnaryMultiCallable[bytes, bytes] = dra.unary_unary(
        "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"
    )
    request = v1.NodePrepareResourcesRequest(claims=claims("a", "b", "c", "d")).SerializeToString()
    first = raw(request, timeout=20)
    plugin.prepare = lambda refs: dict(reversed(list(plugin.answer(refs).items())))
    assert raw(request, timeout=20) == first


def test_every_claim_gets_an_entry_even_if_it_was_forgotten(dra: grpc.Channel, plugin: Plugin) -> None:
    plugin.prepare = lambda refs: {refs[0].uid: PrepareAnswer((DEVICE,))}
    plugin.unprepare = lambda refs: {refs[0].uid: ""}
    response = prepare(dra, "u1", "u2")
    assert set(response.claims) == {"u1", "u2"}
    assert response.claims["u2"].error
    assert not response.claims["u2"].devices
    errors = unprepare(dra, "u1", "u2")
    assert errors["u1"] == ""
    assert errors["u2"]


def test_no_entry_for_a_claim_that_was_not_asked_for(dra: grpc.Channel, plugin: Plugin) -> None:
    plugin.prepare = lambda _: {"u1": PrepareAnswer(), "stranger": PrepareAnswer()}
    assert set(prepare(dra, "u1").claims) == {"u1"}


def test_a_claim_named_twice_is_asked_for_once(dra: grpc.Channel, plugin: Plugin) -> None:
    assert set(prepare(dra, "u1", "u1").claims) == {"u1"}
    assert len(plugin.asked) == 1


def test_one_claim_with_an_error_leaves_the_others_prepared(dra: grpc.Channel, plugin: Plugin) -> None:
    plugin.prepare = lambda refs: {
        ref.uid: PrepareAnswer(error="no such device") if ref.uid == "bad" else PrepareAnswer((DEVICE,)) for ref in refs
    }
    response = prepare(dra, "u1", "bad", "u2")
    assert {uid: (entry.error, len(entry.devices)) for uid, entry in response.claims.items()} == {
        "u1": ("", 1),
        "bad": ("no such device", 0),
        "u2": ("", 1),
    }


def test_a_defect_is_an_error_of_each_claim_and_the_server_lives_on(dra: grpc.Channel, plugin: Plugin) -> None:
    def crash(_: object) -> dict[str, PrepareAnswer]:
        raise ZeroDivisionError("boom")

    plugin.prepare = crash
    plugin.unprepare = lambda _: {str(1 // 0): ""}
    response = prepare(dra, "u1", "u2")
    assert [response.claims[uid].error for uid in ("u1", "u2")] == ["internal error: ZeroDivisionError: boom"] * 2
    assert "ZeroDivisionError" in unprepare(dra, "u1")["u1"]
    assert [method for method, _ in plugin.faults] == ["NodePrepareResources", "NodeUnprepareResources"]
    plugin.prepare = plugin.answer
    assert prepare(dra, "u1").claims["u1"].devices


def test_an_expected_error_is_told_as_it_is_and_is_no_fault(dra: grpc.Channel, plugin: Plugin) -> None:
    def refuse(_: object) -> dict[str, PrepareAnswer]:
        raise Unavailable("the records are busy")

    plugin.prepare = refuse
    assert prepare(dra, "u1").claims["u1"].error == "the records are busy"
    assert plugin.faults == []


def test_calls_run_at_the_same_time(dra: grpc.Channel, plugin: Plugin) -> None:
    together = threading.Barrier(3, timeout=20)

    def meet(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        together.wait()
        return {ref.uid: PrepareAnswer() for ref in refs}

    plugin.prepare = meet
    call = methods.PREPARE_V1.dial(dra)
    running = [call.future(v1.NodePrepareResourcesRequest(claims=claims(f"u{n}")), timeout=30) for n in range(3)]
    assert [list(entry.result().claims) for entry in running] == [["u0"], ["u1"], ["u2"]]


def test_an_empty_request_has_an_empty_answer(dra: grpc.Channel) -> None:
    assert len(prepare(dra).claims) == 0


# Start and stop


def test_sockets_are_there_while_the_servers_run_and_only_for_their_owner(
    plugin: Plugin, paths: sockets.Sockets
) -> None:
    running = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    running.start()
    for path in (Path(paths.dra), Path(paths.registration)):
        assert path.is_socket()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    running.stop(0)
    running.stop(0)
    for path in (Path(paths.dra), Path(paths.registration)):
        assert list(path.parent.iterdir()) == []


def test_a_second_start_is_refused_and_harms_nothing(dra: grpc.Channel, plugin: Plugin, paths: sockets.Sockets) -> None:
    second = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    with pytest.raises(Conflict, match="already serves"):
        second.start()
    second.stop(0)
    assert Path(paths.dra).is_socket()
    assert Path(paths.registration).is_socket()
    assert prepare(dra, "u1").claims["u1"].devices


def test_a_start_that_fails_half_way_leaves_nothing_running(plugin: Plugin, paths: sockets.Sockets) -> None:
    blocker = Path(paths.registration)
    blocker.write_text("in the way")
    broken = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    with pytest.raises(InvalidInput):
        broken.start()
    assert list(Path(paths.dra).parent.iterdir()) == []
    blocker.unlink()
    working = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    working.start()
    working.stop(0)


def test_what_a_killed_instance_left_is_cleared_at_start(plugin: Plugin, paths: sockets.Sockets) -> None:
    for path in (Path(paths.dra), Path(paths.registration), Path(paths.registration).with_name("x-old-reg.sock")):
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        (path.parent / f".{path.name}.lock").write_text(DRIVER)
    running = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    running.start()
    assert not Path(paths.registration).with_name("x-old-reg.sock").exists()
    with grpc.insecure_channel(f"unix:{paths.dra}") as channel:
        assert prepare(channel, "u1").claims["u1"].devices
    running.stop(0)


def test_the_kubelets_folder_is_not_made(plugin: Plugin, folder: Path) -> None:
    paths = sockets.name(DRIVER, str(folder / "plugins"), str(folder / "registri"), "")
    running = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    with pytest.raises(StorageFailed, match="registri"):
        running.start()
    running.stop(0)
    assert not (folder / "registri").exists()
    assert not Path(paths.dra).exists()


def test_two_pods_serve_side_by_side_in_a_rolling_update(plugin: Plugin, folder: Path) -> None:
    (folder / "r").mkdir()
    pods = [
        KubeletServers(DRIVER, named, plugin.service(), plugin.health(), plugin.heard.append)
        for named in (sockets.name(DRIVER, str(folder / "p"), str(folder / "r"), uid) for uid in ("one", "two"))
    ]
    for pod in pods:
        pod.start()
    assert sorted(path.name for path in (folder / "r").glob("*.sock")) == [
        f"{DRIVER}-one-reg.sock",
        f"{DRIVER}-two-reg.sock",
    ]
    pods[0].stop(0)
    with grpc.insecure_channel(f"unix:{folder}/p/{DRIVER}/dra-two.sock") as channel:
        assert prepare(channel, "u1").claims["u1"].devices
    pods[1].stop(0)


def test_stopping_unregisters_first_and_lets_a_call_in_progress_end(plugin: Plugin, paths: sockets.Sockets) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(refs: Sequence[ClaimRef]) -> Mapping[str, PrepareAnswer]:
        started.set()
        release.wait(30)
        return plugin.answer(refs)

    plugin.prepare = slow
    running = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
    running.start()
    with grpc.insecure_channel(f"unix:{paths.dra}") as channel:
        call = methods.PREPARE_V1.dial(channel).future(v1.NodePrepareResourcesRequest(claims=claims("u1")), timeout=30)
        assert started.wait(20)
        stopper = threading.Thread(target=running.stop, args=(30,))
        stopper.start()
        wait_for(lambda: not Path(paths.registration).exists() and not Path(paths.dra).exists())
        assert stopper.is_alive()
        release.set()
        assert call.result().claims["u1"].devices
        stopper.join(30)
    assert not stopper.is_alive()


def test_a_path_that_was_given_back_stays_with_its_next_owner(plugin: Plugin, paths: sockets.Sockets) -> None:
    """The library unlinks a server's path when it stops; that must be over before the next one binds."""
    for _ in range(30):
        running = KubeletServers(DRIVER, paths, plugin.service(), plugin.health(), plugin.heard.append)
        running.start()
        running.stop(0)
        with socket.socket(socket.AF_UNIX) as next_owner:
            next_owner.bind(paths.dra)
            assert Path(paths.dra).is_socket()
        Path(paths.dra).unlink()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 20 s"
        time.sleep(0.005)
