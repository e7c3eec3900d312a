"""Where the API server is: a pod's service account, or a kubeconfig."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from driver.kube import access
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import InvalidInput
from tests.fakes.http_server import TLS, HttpServer, Reply

ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def mount(root: Path) -> str:
    (root / "token").write_text("bound-token")
    (root / "ca.crt").write_bytes((TLS / "ca.pem").read_bytes())
    return str(root)


def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    found = access.in_cluster(ENVIRONMENT, mount(tmp_path))
    assert found == Access(server="https://10.96.0.1:443", ca_file=f"{tmp_path}/ca.crt", token_file=f"{tmp_path}/token")


def test_an_ipv6_service_gets_its_brackets(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "KUBERNETES_SERVICE_HOST": "fd00::1"}
    assert access.in_cluster(environment, mount(tmp_path)).server == "https://[fd00::1]:443"


def test_a_service_account_reaches_a_server(tmp_path: Path) -> None:
    with HttpServer(lambda _: Reply(), tls=True) as server:
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
        client = Client(access.in_cluster(environment, mount(tmp_path)))
        client.get("/version")
        client.close()
    assert server.requests[0].headers["Authorization"] == "Bearer bound-token"


def test_outside_a_pod_it_says_what_to_give() -> None:
    with pytest.raises(InvalidInput, match="outside a pod give --kubeconfig"):
        access.load("", {})


def test_a_pod_without_a_token_is_told_which_setting_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="automountServiceAccountToken"):
        access.in_cluster(ENVIRONMENT, str(tmp_path))


def test_a_kubeconfig_comes_first(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="kubeconfig"):
        access.load(str(tmp_path / "none"), ENVIRONMENT)


def test_yaml_and_the_official_client_are_not_loaded_in_a_pod() -> None:
    program = (
        "import sys, driver.kube.client, driver.kube.slices, driver.kube.watching, driver.kube.events\n"
        "print(sorted({'yaml', 'kubernetes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
