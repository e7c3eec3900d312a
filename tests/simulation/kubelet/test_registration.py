"""The simulated kubelet finds, takes, refuses and forgets plugins as the real one does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation.access import NODES, SLICES, Body, Objects
from driver.simulation.apiserver import ApiServer
from driver.simulation.kubelet.health import HealthCache
from driver.simulation.kubelet.plugins import Plugins
from driver.simulation.kubelet.timings import Timings
from driver.simulation.kubelet.watcher import Watcher
from driver.simulation.kubelet.wire import V1, V1BETA1
from tests.fakes.plugins import FakePlugin, Script, short_folder
from tests.fakes.waiting import wait_until

SPEED = 50.0


class Node:
    """Watcher and plugins of a kubelet, reconciled by a thread as its loop does."""

    def __init__(self, root: Path, objects: Objects, services: tuple[str, ...] = (V1, V1BETA1)) -> None:
        timings = Timings(speed=SPEED)
        self.root = root
        self.health = HealthCache(time.monotonic, lambda: None)
        self.plugins = Plugins(objects, "node-1", timings, time.monotonic, self.health, services)
        (root / "plugins_registry").mkdir(exist_ok=True)
        self.watcher = Watcher(root / "plugins_registry", root, self.plugins, timings, time.monotonic)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(1 / SPEED):
            self.watcher.reconcile()
            self.plugins.tend()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.watcher.close()
        self.plugins.close()

    def connected(self, driver: str = "gpu.example.com") -> str:
        plugin = self.plugins.find(driver)
        return plugin.endpoint if plugin is not None and plugin.connection.is_connected else ""

    def error(self) -> str:
        return next(iter(self.watcher.errors.values()), "")


@pytest.fixture
def objects() -> Iterator[Objects]:
    with ApiServer() as server:
        client = Client(Access(server=server.url))
        yield Objects(client)
        client.close()


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
def node(root: Path, objects: Objects) -> Iterator[Node]:
    node = Node(root, objects)
    yield node
    node.stop()


def test_a_plugin_is_found_asked_registered_and_told(node: Node) -> None:
    with FakePlugin(node.root) as plugin:
        wait_until(lambda: node.connected() == str(plugin.endpoint))
        wait_until(lambda: plugin.statuses)
        assert [(status.plugin_registered, status.error) for status in plugin.statuses] == [(True, "")]
    wait_until(lambda: not node.plugins.list_all())
    assert node.plugins.find("gpu.example.com") is None


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"type": "DevicePlugin"}, "no handler registered for plugin type: DevicePlugin"),
        ({"supported_versions": []}, "empty list of supported gRPC services"),
        ({"supported_versions": ["v2.DRAPlugin", "1.0.0"]}, "none of the supported gRPC services"),
        ({"name": "GPU_Driver"}, "invalid DRA driver name"),
        ({"name": "a" * 64}, "invalid DRA driver name"),
        ({"endpoint": "/run/dra.sock"}, "is not inside"),
        ({"endpoint": "plugins/gpu.example.com/dra.sock"}, "is not inside"),
    ],
)
def test_a_plugin_that_says_nonsense_is_told_so(node: Node, info: dict[str, object], reason: str) -> None:
    with FakePlugin(node.root, script=Script(info=info)) as plugin:
        wait_until(lambda: plugin.statuses)
        assert not plugin.statuses[0].plugin_registered
        assert reason in plugin.statuses[0].error
        assert not node.plugins.list_all()


def test_an_endpoint_longer_than_a_socket_path_is_refused(node: Node) -> None:
    endpoint = f"{node.root}/{'x' * 108}"
    with FakePlugin(node.root, script=Script(info={"endpoint": endpoint})) as plugin:
        wait_until(lambda: plugin.statuses)
        assert "longer than a Unix socket path may be" in plugin.statuses[0].error


def test_the_first_version_of_the_plugin_that_the_kubelet_knows_is_spoken(root: Path, objects: Objects) -> None:
    node = Node(root, objects, services=(V1BETA1,))
    with FakePlugin(root):
        wait_until(node.connected)
        found = node.plugins.find("gpu.example.com")
        assert found is not None
        assert found.connection.version == V1BETA1
    node.stop()


def test_the_order_of_versions_is_the_plugins_choice(node: Node) -> None:
    with FakePlugin(node.root, script=Script(info={"supported_versions": ["v1beta1.DRAPlugin", "v1.DRAPlugin"]})):
        wait_until(node.connected)
        found = node.plugins.find("gpu.example.com")
        assert found is not None
        assert found.connection.version == V1BETA1


def test_no_endpoint_means_the_registration_socket(node: Node) -> None:
    with FakePlugin(node.root, script=Script(info={"endpoint": ""})) as plugin:
        wait_until(lambda: node.connected() == str(plugin.socket))


def test_a_plugin_that_does_not_answer_within_a_second_is_tried_again(node: Node) -> None:
    patience = threading.Event()

    def dawdle() -> None:
        patience.wait(5)

    with FakePlugin(node.root, script=Script(before_info=dawdle)):
        wait_until(lambda: "DEADLINE_EXCEEDED" in node.error(), "a call that took too long")
        assert not node.plugins.list_all()
        patience.set()
        wait_until(node.connected)


def test_a_plugin_that_cannot_be_told_is_forgotten_and_tried_again(node: Node) -> None:
    with FakePlugin(node.root, script=Script(fail_notify=True)) as plugin:
        wait_until(lambda: "notify is broken" in node.error())
        wait_until(lambda: len(plugin.statuses) > 1)
        plugin.script.fail_notify = False
        wait_until(node.watcher.list_registered)
        assert len(node.plugins.list_all()) == 1


def test_hidden_names_and_other_files_are_no_plugins(node: Node) -> None:
    registry = node.root / "plugins_registry"
    (registry / "notes.sock").write_text("not a socket")
    with socket.socket(socket.AF_UNIX) as hidden:
        hidden.bind(str(registry / ".hidden-reg.sock"))
        hidden.listen()
        with FakePlugin(node.root):
            wait_until(node.connected)
            wait_until(node.watcher.list_registered)
            assert len(node.watcher.list_registered()) == 1
            assert node.error() == ""


def test_a_dead_socket_is_dialled_in_vain_and_hides_nobody(root: Path, objects: Objects) -> None:
    (root / "plugins_registry").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(root / "plugins_registry" / "dead-reg.sock"))
    node = Node(root, objects)
    with FakePlugin(root):
        wait_until(node.connected)
    node.stop()


def test_a_socket_made_anew_is_a_new_plugin(node: Node) -> None:
    plugin = FakePlugin(node.root)
    with plugin:
        wait_until(lambda: plugin.statuses)
        plugin.withdraw()
        plugin.register()
        wait_until(lambda: len(plugin.statuses) == 2)
        wait_until(node.connected)


def test_calls_go_to_the_latest_plugin_that_is_connected(node: Node) -> None:
    with FakePlugin(node.root, instance="old") as old:
        wait_until(lambda: node.connected() == str(old.endpoint))
        with FakePlugin(node.root, instance="new") as new:
            wait_until(lambda: node.connected() == str(new.endpoint))
            assert len(node.plugins.list_all()) == 2
            new.hang_up()
            wait_until(lambda: node.connected() == str(old.endpoint))
            new.serve()
            wait_until(lambda: node.connected() == str(new.endpoint), "the kubelet to reconnect")
        wait_until(lambda: node.connected() == str(old.endpoint))


def test_an_endpoint_cannot_be_registered_twice(node: Node) -> None:
    with FakePlugin(node.root, instance="one") as one:
        wait_until(node.connected)
        with FakePlugin(node.root, instance="two", script=Script(info={"endpoint": str(one.endpoint)})) as two:
            wait_until(lambda: two.statuses)
            assert "already registered" in two.statuses[0].error


def _is_connected(plugins: Plugins) -> bool:
    plugins.tend()
    found = plugins.find("gpu.example.com")
    return found is not None and found.connection.is_connected


def _publish(objects: Objects, driver: str, node_name: str) -> None:
    pool: Body = {"name": node_name, "generation": 1, "resourceSliceCount": 1}
    body: Body = {
        "metadata": {"generateName": "s-"},
        "spec": {"driver": driver, "nodeName": node_name, "pool": pool, "devices": []},
    }
    objects.create(SLICES, body)


def _drivers(objects: Objects) -> list[tuple[str, str]]:
    return sorted((each.spec.driver, each.spec.node_name) for each in objects.list_all(SLICES))


def test_the_start_of_a_kubelet_wipes_all_slices_of_its_node(root: Path, objects: Objects) -> None:
    for driver, node_name in (("a.example.com", "node-1"), ("b.example.com", "node-1"), ("a.example.com", "node-2")):
        _publish(objects, driver, node_name)
    node = Node(root, objects)
    wait_until(lambda: _drivers(objects) == [("a.example.com", "node-2")])
    node.stop()


def test_slices_of_a_driver_that_stays_away_are_wiped(node: Node, objects: Objects) -> None:
    with FakePlugin(node.root):
        wait_until(node.connected)
        for driver in ("gpu.example.com", "other.example.com"):
            _publish(objects, driver, "node-1")
        assert len(_drivers(objects)) == 2
    wait_until(lambda: _drivers(objects) == [("other.example.com", "node-1")])


def test_slices_of_a_driver_that_comes_back_in_time_stay(root: Path, objects: Objects) -> None:
    now = [0.0]
    plugins = Plugins(objects, "node-1", Timings(), lambda: now[0], HealthCache(lambda: now[0], lambda: None))
    plugins.tend()
    _publish(objects, "gpu.example.com", "node-1")
    with FakePlugin(root) as plugin:
        plugins.register("gpu.example.com", str(plugin.endpoint), V1)
        wait_until(lambda: _is_connected(plugins))
        plugin.hang_up()
        wait_until(lambda: not _is_connected(plugins))
        now[0] += 29.0
        plugins.tend()
        assert _drivers(objects)
        plugin.serve()
        wait_until(lambda: _is_connected(plugins))
        now[0] += 100.0
        plugins.tend()
        assert _drivers(objects)
        plugin.hang_up()
        wait_until(lambda: not _is_connected(plugins))
        now[0] += 31.0
        plugins.tend()
        assert not _drivers(objects)
    plugins.close()


def test_a_wipe_that_fails_is_tried_again() -> None:
    with ApiServer() as server:
        client = Client(Access(server=server.url))
        objects = Objects(client)
        objects.create(NODES, {"metadata": {"name": "node-1"}})
        _publish(objects, "gpu.example.com", "node-1")
        server.stop()
        plugins = Plugins(objects, "node-1", Timings(), time.monotonic, HealthCache(time.monotonic, lambda: None))
        plugins.tend()
        server.start()

        def is_wiped() -> bool:
            plugins.tend()
            return not _drivers(objects)

        wait_until(is_wiped)
        client.close()
