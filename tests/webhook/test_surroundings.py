"""What the webhook knows of a cluster makes its warnings better; nothing of it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from driver.core.reviewing.specimens import make
from driver.kube.access import Access
from driver.kube.client import Client
from driver.simulation.apiserver import ApiServer
from driver.webhook.app import Webhook
from driver.webhook.surroundings import Surroundings
from tests.fakes.published_machines import DRIVER, add_classes, add_machine
from tests.fakes.waiting import wait_until
from tests.webhook.site import Caller, claim, config, metric, read_page, settings_for, write_pair


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


@pytest.fixture
def webhook(server: ApiServer, tmp_path: Path) -> Iterator[Webhook]:
    write_pair(tmp_path)
    kubeconfig = str(server.kubeconfig(tmp_path / "config"))
    with Webhook(settings_for(tmp_path, watch=True, kubeconfig=kubeconfig)) as running:
        wait_until(lambda: metric(running, "cache_synced") == 1, "slices and classes")
        yield running


def device_class(expression: str) -> dict[str, Any]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "mine"},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }


TYPE_IS = 'device.attributes["accel-dra.dev"].?type.orValue("") == "{}"'


def ask_until(caller: Caller, document: dict[str, Any], words: str) -> None:
    """Ask until the warnings are these: what is known follows within a second or two."""
    wait_until(lambda: words in " ".join(caller.ask(document).get("warnings", [""])), words)


def test_classes_and_devices_come_and_go(server: ApiServer, webhook: Webhook) -> None:
    caller = Caller(webhook.port)
    (warning,) = caller.ask(claim())["warnings"]
    assert warning.endswith("deviceClassName: there is no DeviceClass gpu.accel-dra.dev now")
    (warning,) = caller.ask(device_class(TYPE_IS.format("gpu")))["warnings"]
    assert warning == "spec.selectors: no device that is published now matches this class"
    add_classes(server)
    add_machine(server, "node-a", "hgx-h100")
    wait_until(lambda: "warnings" not in caller.ask(claim()), "the classes")
    wait_until(lambda: "warnings" not in caller.ask(device_class(TYPE_IS.format("gpu"))), "the devices")
    ask_until(caller, device_class(TYPE_IS.format("vfio")), "no device that is published now matches this class")
    ask_until(caller, claim(class_name="gpu.acceldra.dev"), "(gpu.accel-dra.dev was probably meant)")
    assert metric(webhook, "cache_objects") > 3
    caller.close()


def test_without_the_api_server_faults_are_found_all_the_same(server: ApiServer, webhook: Webhook) -> None:
    add_classes(server)
    server.stop()
    caller = Caller(webhook.port)
    assert caller.ask(claim(config("Mps")))["allowed"] is False
    wait_until(lambda: metric(webhook, "cluster_errors_total") > 0, "a complaint")
    assert read_page(webhook, "/readyz")[0] == 200
    caller.close()


def test_without_rights_there_are_fewer_warnings_and_a_complaint(tmp_path: Path) -> None:
    write_pair(tmp_path)
    with ApiServer(authorize=True) as server:
        kubeconfig = str(server.kubeconfig(tmp_path / "config", user="nobody", token="x"))
        with Webhook(settings_for(tmp_path, watch=True, kubeconfig=kubeconfig)) as webhook:
            wait_until(lambda: metric(webhook, "cluster_errors_total") > 0, "a complaint")
            caller = Caller(webhook.port)
            assert caller.ask(claim(config())) == {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True}
            assert caller.ask(claim(config("Mps")))["allowed"] is False
            caller.close()
            assert (read_page(webhook, "/readyz")[0], read_page(webhook, "/healthz")[0]) == (200, 200)


def test_the_stage_is_made_anew_at_most_once_a_second(server: ApiServer) -> None:
    add_machine(server, "node-a", "t4")
    now = 0.0
    client = Client(Access(server=server.url))
    known = Surroundings(client, DRIVER, lambda _: None, clock=lambda: now)
    try:
        first = known.stage()
        assert (first.has_slices, first.has_classes) == (False, False)
        known.start()
        wait_until(lambda: not known.missing, "slices and classes")
        assert known.stage() is first
        now = 1.5
        second = known.stage()
        assert (second.has_slices, second.has_classes) == (True, True)
        assert len(second.specimens) > len(make(DRIVER))
        now = 9.0
        assert known.stage() is second
    finally:
        known.stop()
        client.close()
