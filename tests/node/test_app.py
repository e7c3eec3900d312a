"""The composed plugin against a real HTTP API server and a caller on its real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from driver.cli.commands import EXIT_USAGE
from driver.kubelet import methods
from driver.kubelet.pb.dra.v1 import api_pb2 as dra
from driver.kubelet.pb.pluginregistration.v1 import api_pb2 as registration
from driver.model.errors import Conflict, InvalidInput, StorageFailed
from driver.model.prepared import Phase, PreparedDevice, Record
from driver.node.app import Plugin
from driver.settings import Settings
from driver.simulation.apiserver.gates import gates_of
from driver.simulation.apiserver.server import ApiServer
from driver.state import record_files
from tests.fakes.processes import ending
from tests.fakes.waiting import wait_until

DATA = Path(__file__).resolve().parent.parent.parent / "driver/vendors/simulated/data/nodes"
NODE = "node-1"
DRA = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
HEALTH = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
ROOT = Path(__file__).resolve().parents[2]
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


class Site:
    """A node's folders and an API server with its Node object."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.port = _free_port()
        self.health = folder / "health"
        (folder / "r").mkdir()
        server.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})

    def settings(self, **changes: object) -> Settings:
        values: dict[str, object] = {
            "node_name": NODE,
            "vendor": "simulated",
            "vendor_options": ("node=t4", f"health={self.health}"),
            "kubeconfig": str(self.server.kubeconfig(self.folder / "config")),
            "kubelet_plugins_dir": str(self.folder / "p"),
            "kubelet_registry_dir": str(self.folder / "r"),
            "cdi_root": str(self.folder / "cdi"),
            "metrics_address": f"127.0.0.1:{self.port}",
            "scan_interval": 0.05,
        }
        return Settings(**{**values, **changes})  # type: ignore[arg-type]

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def list_devices(self) -> list[dict[str, object]]:
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", SLICES)
            items = json.loads(connection.getresponse().read())["items"]
        return [device for item in items for device in item["spec"].get("devices", [])]

    def list_events(self) -> list[dict[str, object]]:
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/apis/events.k8s.io/v1/events")
            items: list[dict[str, object]] = json.loads(connection.getresponse().read())["items"]
        return items

    @contextlib.contextmanager
    def dial(self, path: Path) -> Iterator[grpc.Channel]:
        wait_until(path.is_socket, str(path))
        with grpc.insecure_channel(f"unix:{path}") as channel:
            grpc.channel_ready_future(channel).result(10)
            yield channel

    def register(self, *, accepted: bool = True) -> registration.PluginInfo:
        """Do what the kubelet's plugin watcher does with a new registration socket."""
        with self.dial(self.folder / "r" / "gpu.accel-dra.dev-reg.sock") as channel:
            info = methods.GET_INFO.dial(channel)(registration.InfoRequest(), timeout=1)
            status = registration.RegistrationStatus(plugin_registered=accepted, error="" if accepted else "no")
            methods.NOTIFY_STATUS.dial(channel)(status, timeout=5)
        return info


@pytest.fixture
def site() -> Iterator[Site]:
    # Socket paths have at most 107 bytes: pytest's own folders are too deep for them.
    with ApiServer() as server, tempfile.TemporaryDirectory(prefix="ad-") as folder:
        yield Site(server, Path(folder))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_publishes_registers_and_becomes_ready(site: Site) -> None:
    with Plugin(site.settings()) as plugin:
        wait_until(site.list_devices, "slices")
        assert site.get("/readyz")[0] == 503
        assert "registered with the kubelet: no" in site.get("/readyz")[1]
        info = site.register()
        assert (info.type, info.name) == ("DRAPlugin", "gpu.accel-dra.dev")
        assert list(info.supported_versions) == [*DRA, *HEALTH]
        wait_until(lambda: plugin.ready, "ready")
        assert site.get("/readyz") == (200, "ok\n")
        assert site.get("/healthz") == (200, "ok\n")
        metrics = site.get("/metrics")[1]
        assert "accel_dra_registered 1.0" in metrics
        assert metrics.count('",state="free"} 1.0') == len(site.list_devices())
    assert not list((site.folder / "r").glob("*.sock")), "the registration is withdrawn"
    assert site.list_devices(), "slices stay for the next instance"


def test_a_refused_registration_is_told_and_the_plugin_goes_on(site: Site) -> None:
    with Plugin(site.settings()) as plugin:
        site.register(accepted=False)
        assert not plugin.ready
        assert plugin.alive
        site.register()
        wait_until(lambda: plugin.ready, "ready")


def test_a_refusal_after_an_acceptance_ends_readiness(site: Site) -> None:
    with Plugin(site.settings()) as plugin:
        site.register()
        wait_until(lambda: plugin.ready, "ready")
        site.register(accepted=False)
        wait_until(lambda: site.get("/readyz")[0] == 503, "readiness withdrawn")
        assert "registered with the kubelet: no" in site.get("/readyz")[1]


def test_claims_that_are_gone_are_collected_while_it_runs(site: Site) -> None:
    def is_collecting() -> bool:
        return any(thread.name == "collector" for thread in threading.enumerate())

    assert not is_collecting()
    with Plugin(site.settings()):
        site.register()
        assert is_collecting()
    assert not is_collecting()


def test_after_a_boot_it_registers_once_specs_are_made_from_the_hardware_that_is_there_now(site: Site) -> None:
    """The kubelet restarts the pods of prepared claims as soon as it sees us: their specs have to be there."""
    node = site.folder / "node.json"
    content = (DATA / "l40s.json").read_bytes()
    node.write_bytes(content)
    boot = site.folder / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("this-boot\n")
    settings = site.settings(proc_root=str(site.folder / "proc"), vendor_options=(f"node={node}",))
    with Plugin(settings):
        wait_until(site.list_devices, "slices")
    held = PreparedDevice(requests=("gpu",), pool=NODE, device=str(site.list_devices()[0]["name"]))
    record = Record(uid="u1", namespace="ns", name="c", phase=Phase.PREPARED, boot_id="boot-before", devices=(held,))
    (site.folder / "p/gpu.accel-dra.dev/claims/u1.json").write_bytes(record_files.encode(record))
    node.unlink()
    os.mkfifo(node)  # the first look hangs until somebody writes
    os.link(node, site.folder / "fifo")
    plugin = Plugin(settings)
    starting = threading.Thread(target=plugin.start)
    starting.start()
    try:
        wait_until(lambda: _answers(site), "the endpoint")
        (site.folder / "new.json").write_bytes(content)
        (site.folder / "new.json").replace(node)
        (site.folder / "fifo").write_bytes(content)
        site.register()
        assert (site.folder / "cdi/k8s.gpu.accel-dra.dev-claim_u1.json").exists()
    finally:
        starting.join(30)
        plugin.stop()


def test_a_claim_that_cannot_be_prepared_gets_an_event(site: Site) -> None:
    claim = site.server.store.create(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": "c", "namespace": "default"},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.accel-dra.dev"}}]}},
        }
    )
    uid = str(claim["metadata"]["uid"])  # type: ignore[index,call-overload]
    with Plugin(site.settings()):
        info = site.register()
        with site.dial(Path(info.endpoint)) as channel:
            request = dra.NodePrepareResourcesRequest(claims=[dra.Claim(namespace="default", name="c", uid=uid)])
            answer = methods.PREPARE_V1.dial(channel)(request, timeout=45)
        assert "not allocated" in answer.claims[uid].error
        wait_until(lambda: [each for each in site.list_events() if each["reason"] == "PrepareFailed"], "the event")
    event = next(each for each in site.list_events() if each["reason"] == "PrepareFailed")
    assert event["regarding"]["name"] == "c"  # type: ignore[index]
    assert "not allocated" in str(event["note"])


def test_a_fault_is_published_and_outlives_a_restart(site: Site) -> None:
    with Plugin(site.settings()):
        wait_until(site.list_devices, "slices")
        address = site.list_devices()[0]["attributes"]["resource.kubernetes.io/pciBusID"]["string"]  # type: ignore[index]
        fault = {"pciAddress": address, "cause": "xid-79", "severity": "unhealthy", "message": "gone"}
        site.health.write_text(json.dumps(fault) + "\n")
        wait_until(lambda: site.list_devices()[0].get("taints"), "the taint")
    site.health.unlink()
    with Plugin(site.settings()) as plugin:
        wait_until(lambda: "accel_dra_slices 1.0" in site.get("/metrics")[1], "publishing")
        wait_until(lambda: plugin.alive)
        taint = site.list_devices()[0]["taints"][0]  # type: ignore[index]
        assert (taint["key"], taint["value"], taint["effect"]) == ("accel-dra.dev/unhealthy", "xid-79", "NoSchedule")


def test_a_fence_comes_and_goes_with_the_setting_and_leaves_faults_alone(site: Site) -> None:
    def keys() -> list[list[str]]:
        return [[taint["key"] for taint in device.get("taints", [])] for device in site.list_devices()]  # type: ignore[attr-defined]

    only, broken = "accel-dra.dev/controller-only", "accel-dra.dev/unhealthy"
    with Plugin(site.settings(allocation_authority="controller")):
        wait_until(lambda: set(map(tuple, keys())) == {(only,)}, "the fence")
        address = site.list_devices()[0]["attributes"]["resource.kubernetes.io/pciBusID"]["string"]  # type: ignore[index]
        fault = {"pciAddress": address, "cause": "xid-79", "severity": "unhealthy", "message": "gone"}
        site.health.write_text(json.dumps(fault) + "\n")
        wait_until(lambda: keys()[0] == [only, broken], "the fault beside the fence")
        metric = 'accel_dra_pool_authority{authority="controller",wanted="controller"} 1.0'
        assert metric in site.get("/metrics")[1]
    site.health.unlink()
    with Plugin(site.settings(allocation_authority="controller")):
        wait_until(lambda: "accel_dra_slices 1.0" in site.get("/metrics")[1], "publishing")
        assert keys()[:2] == [[only, broken], [only]]
    with Plugin(site.settings()):
        wait_until(lambda: keys()[:2] == [[broken], []], "the fence gone, the fault not")


def test_a_server_without_taints_gives_the_pool_to_kube_scheduler_and_the_node_says_so() -> None:
    with ApiServer(gates=gates_of(34)) as server, tempfile.TemporaryDirectory(prefix="ad-") as folder:
        site = Site(server, Path(folder))
        with Plugin(site.settings(allocation_authority="controller")):
            wait_until(
                lambda: [each for each in site.list_events() if each["reason"] == "AuthorityFellBack"], "the event"
            )
            metric = 'accel_dra_pool_authority{authority="scheduler",wanted="controller"} 1.0'
            assert metric in site.get("/metrics")[1]
        assert site.list_devices()
        assert not any("taints" in device for device in site.list_devices())
        event = next(each for each in site.list_events() if each["reason"] == "AuthorityFellBack")
        assert event["regarding"]["kind"] == "Node"  # type: ignore[index]
        assert "DRADeviceTaints" in str(event["note"])


def test_a_broken_record_is_reported_on_the_node_and_everything_else_is_served(site: Site) -> None:
    claims = site.folder / "p" / "gpu.accel-dra.dev" / "claims"
    claims.mkdir(parents=True)
    (claims / "0b5b9a5e-0000-4000-8000-000000000000.json").write_text("{")
    with Plugin(site.settings()):
        site.register()
        wait_until(lambda: [each for each in site.list_events() if each["reason"] == "RecordQuarantined"], "the event")
        assert "accel_dra_records_quarantined_total 1.0" in site.get("/metrics")[1]
    assert list((site.folder / "p" / "gpu.accel-dra.dev" / "quarantine").glob("*.json"))


def test_a_device_that_does_not_answer_is_told_and_hides_no_other(site: Site) -> None:
    node = json.loads((ROOT / "driver/vendors/simulated/data/nodes/t4.json").read_text())
    node["devices"][0]["failure"] = "it has fallen off the bus"
    (site.folder / "node.json").write_text(json.dumps(node))
    with Plugin(site.settings(vendor_options=(f"node={site.folder}/node.json",))):
        wait_until(lambda: [each for each in site.list_events() if each["reason"] == "DeviceOmitted"], "the event")
        wait_until(lambda: len(site.list_devices()) == len(node["devices"]) - 1, "the other device")
        metrics = site.get("/metrics")[1]
    address = node["devices"][0]["pciAddress"]
    assert f'accel_dra_devices_omitted{{device="{address}"}} 1.0' in metrics
    event = next(each for each in site.list_events() if each["reason"] == "DeviceOmitted")
    assert "fallen off the bus" in str(event["note"])
    assert event["regarding"]["kind"] == "Node"  # type: ignore[index]


def test_the_api_server_may_be_away_at_the_start(site: Site) -> None:
    settings = site.settings()
    site.server.stop()
    with Plugin(settings) as plugin:
        site.register()
        assert not plugin.ready
        assert plugin.alive
        assert "slices published: no" in site.get("/readyz")[1]


def test_a_plugin_without_a_kubelet_publishes_and_waits_for_its_folder(site: Site) -> None:
    registry = site.folder / "r"
    registry.rmdir()
    plugin = Plugin(site.settings())
    starting = threading.Thread(target=plugin.start)
    starting.start()
    try:
        wait_until(site.list_devices, "slices")
        wait_until(lambda: "does not exist" in site.get("/readyz")[1], "the reason")
        code, text = site.get("/readyz")
        assert (code, text.split(";")[0]) == (503, f"registered with the kubelet: no ({registry} does not exist")
        assert "--kubelet-registry-dir" in text
        assert site.get("/healthz")[0] == 200
        assert not registry.exists(), "a folder that was mistyped is not made"
        registry.mkdir()
        site.register()
        wait_until(lambda: plugin.ready, "ready")
    finally:
        starting.join()
        plugin.stop()


def test_sigterm_ends_a_plugin_that_waits_for_a_kubelet(site: Site) -> None:
    settings = site.settings()
    (site.folder / "r").rmdir()
    arguments = ["--node-name", NODE, "--vendor", "simulated", "--kubeconfig", settings.kubeconfig]
    arguments += ["--kubelet-plugins-dir", settings.kubelet_plugins_dir, "--cdi-root", settings.cdi_root]
    arguments += ["--kubelet-registry-dir", settings.kubelet_registry_dir, "--log-format", "json"]
    with _command(*arguments) as process:
        assert process.stderr is not None
        log: list[bytes] = []
        while not log or b"--kubelet-registry-dir" not in log[-1]:
            log.append(process.stderr.readline())
            assert log[-1], "it ended before it waited"
        wait_until(site.list_devices, "slices")
        process.send_signal(signal.SIGTERM)
        log += process.stderr.readlines()
        assert process.wait(timeout=30) == 0
    assert not (site.folder / "r").exists()
    [line] = [line for line in map(json.loads, log) if "--kubelet-registry-dir" in line["message"]]
    assert (line["level"], line["folder"]) == ("warning", settings.kubelet_registry_dir)


def test_a_second_plugin_on_the_same_sockets_gives_up_whole_and_the_first_goes_on(site: Site) -> None:
    with Plugin(site.settings()):
        before = {thread.ident for thread in threading.enumerate()}
        with pytest.raises(Conflict, match="another plugin already serves"), Plugin(site.settings(metrics_address="")):
            pass
        # What gRPC's library starts once for the process stays.
        left = [each for each in threading.enumerate() if each.ident not in before and each.is_alive()]
        assert left == []
        info = site.register()
        assert info.name == "gpu.accel-dra.dev"


def test_a_state_folder_that_cannot_be_used_is_one_sentence(site: Site) -> None:
    (site.folder / "file").write_text("")
    with pytest.raises(StorageFailed, match="file"):
        Plugin(site.settings(state_dir=str(site.folder / "file" / "state")))


def test_a_port_in_use_is_one_sentence(site: Site) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = site.settings(metrics_address=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(InvalidInput, match="metrics-address"):
            Plugin(settings)


@contextlib.contextmanager
def _command(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACCEL_DRA_")}
    command = [sys.executable, "-m", "driver", "plugin", *arguments]
    with ending(subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)) as process:
        yield process


def test_the_process_ends_on_sigterm_with_0(site: Site) -> None:
    settings = site.settings()
    arguments = ["--node-name", NODE, "--vendor", "simulated", "--kubeconfig", settings.kubeconfig]
    arguments += ["--kubelet-plugins-dir", settings.kubelet_plugins_dir, "--cdi-root", settings.cdi_root]
    arguments += ["--kubelet-registry-dir", settings.kubelet_registry_dir, "--log-format", "json"]
    with _command(*arguments) as process:
        site.register()
        wait_until(site.list_devices, "slices")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"hardware scanned", "slices published"} <= {line["message"] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "node-name: '' is not allowed"),
        (["--node-name", "n", "--vendor", "acme"], "vendor: 'acme' is not allowed; allowed: nvidia or simulated"),
        (["--node-name", "n", "--kubeconfig", "/nonexistent/config"], "/nonexistent/config"),
        (["--node-name", "n", "--scan-interval", "soon"], "'soon' is not a valid float"),
    ],
)
def test_wrong_arguments_end_with_one_sentence_and_2(arguments: list[str], text: str) -> None:
    with _command(*arguments) as process:
        _, log = process.communicate(timeout=30)
    assert process.returncode == EXIT_USAGE
    assert text in log.decode()
    assert "Traceback" not in log.decode()


def test_sigterm_ends_a_plugin_whose_first_look_hangs(site: Site) -> None:
    os.mkfifo(site.folder / "node.json")
    settings = site.settings()
    arguments = ["--node-name", NODE, "--vendor", "simulated", "--kubeconfig", settings.kubeconfig]
    arguments += ["--kubelet-plugins-dir", settings.kubelet_plugins_dir, "--cdi-root", settings.cdi_root]
    arguments += ["--kubelet-registry-dir", settings.kubelet_registry_dir]
    arguments += ["--vendor-option", f"node={site.folder}/node.json", "--metrics-address", settings.metrics_address]
    with _command(*arguments) as process:
        wait_until(lambda: _answers(site), "the endpoint")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert list((site.folder / "r").iterdir()) == [], "it never registered"


def _answers(site: Site) -> bool:
    try:
        return site.get("/healthz")[0] == 200
    except OSError:
        return False


def test_a_burst_of_signals_ends_the_plugin_once(site: Site) -> None:
    settings = site.settings()
    arguments = ["--node-name", NODE, "--vendor", "simulated", "--kubeconfig", settings.kubeconfig]
    arguments += ["--kubelet-plugins-dir", settings.kubelet_plugins_dir, "--cdi-root", settings.cdi_root]
    arguments += ["--kubelet-registry-dir", settings.kubelet_registry_dir]
    with _command(*arguments) as process:
        site.register()
        for number in range(200):
            process.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_cdi_folder_that_cannot_be_made_is_one_sentence(site: Site) -> None:
    (site.folder / "file").write_text("")
    with pytest.raises(StorageFailed, match="file/cdi"):
        Plugin(site.settings(cdi_root=str(site.folder / "file" / "cdi")))
