"""kubeconfig files as people have them, and as people break them."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from driver.kube import kubeconfig
from driver.kube.access import Access
from driver.kube.client import Client
from driver.model.errors import InvalidInput, Unsupported
from tests.fakes.http_server import TLS, HttpServer, Reply, Request, status

PEM = (TLS / "ca.pem").read_text()


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(
    folder: Path,
    user: Mapping[str, object] | None = None,
    cluster: Mapping[str, object] | None = None,
    top: Mapping[str, object] | None = None,
) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "preferences": {},
        "clusters": [{"name": "c", "cluster": {"server": "https://1.2.3.4:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": dict(user) if user else None}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "x"}},
            {"name": "anonymous", "context": {"cluster": "c", "user": ""}},
        ],
        **(top or {}),
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(document))
    return str(file)


@pytest.mark.parametrize(
    ("user", "cluster", "expected"),
    [
        ({"token": "t"}, {}, {"token": "t"}),
        ({"token": "t", "tokenFile": "/run/token"}, {}, {"token_file": "/run/token"}),
        ({"tokenFile": "token"}, {}, {"token_file": "{folder}/token"}),
        (None, {"certificate-authority-data": encode(PEM)}, {"ca_data": PEM}),
        (None, {"certificate-authority": "pki/ca.crt"}, {"ca_file": "{folder}/pki/ca.crt"}),
        (None, {"insecure-skip-tls-verify": True}, {"insecure": True}),
        (None, {"tls-server-name": "a.b", "proxy-url": "http://p:1"}, {"server_name": "a.b", "proxy": "http://p:1"}),
        (
            {"client-certificate": "/c", "client-key": "k"},
            {},
            {"cert_file": "/c", "key_file": "{folder}/k"},
        ),
        (
            {"client-certificate-data": encode("C"), "client-key-data": encode("K")},
            {"certificate-authority": None},
            {"cert_data": "C", "key_data": "K"},
        ),
    ],
)
def test_plain_credentials_are_read(
    tmp_path: Path, user: dict[str, object] | None, cluster: dict[str, object], expected: dict[str, object]
) -> None:
    folder = str(tmp_path.resolve())
    expected = {
        key: value.replace("{folder}", folder) if isinstance(value, str) else value for key, value in expected.items()
    }
    wanted = Access(server="https://1.2.3.4:6443", namespace="x", **expected)  # type: ignore[arg-type]
    assert kubeconfig.load(write(tmp_path, user, cluster)) == wanted


def test_a_certificate_as_data_goes_with_a_key_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("K")
    found = kubeconfig.load(write(tmp_path, {"client-certificate-data": encode("C"), "client-key": "key.pem"}))
    assert (found.cert_data, found.key_data) == ("C", "K")


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    assert kubeconfig.load(write(tmp_path, {"token": "t"}), "anonymous").token == ""


def test_credentials_that_changed_in_the_file_are_renewed(tmp_path: Path) -> None:
    def judge(request: Request) -> Reply:
        return Reply() if request.headers["Authorization"] == "Bearer new" else status(401, "Unauthorized")

    with HttpServer(judge) as server:
        client = Client(kubeconfig.load(write(tmp_path, {"token": "old"}, {"server": server.url})))
        write(tmp_path, {"token": "new"}, {"server": server.url})
        client.get("/version")
        client.close()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"current-context": "nope"}, r"context: 'nope' is not allowed; .*\(here, anonymous\)"),
        ({"current-context": ""}, r"context: '' is not allowed"),
        ({"clusters": []}, r"cluster: 'c' is not allowed; .*none is in the file"),
        ({"users": None}, r"user: 'u' is not allowed"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, r"server of cluster: 'c'"),
        ({"clusters": [{"name": "c", "cluster": {"server": ["a"]}}]}, r"clusters\[0\]\.cluster\.server"),
        ({"contexts": "text"}, r"contexts"),
        ({"users": [{"name": "u", "user": {"username": "me", "password": "x"}}]}, "user field username: 'me'"),
        ({"users": [{"name": "u", "user": {"as": "system:admin"}}]}, "user field as: 'system:admin'"),
        ({"users": [{"name": "u", "user": {"client-key-data": "%%%"}}]}, "client-key-data: '%%%'"),
    ],
)
def test_a_fault_is_one_sentence_that_names_file_and_entry(
    tmp_path: Path, broken: dict[str, object], message: str
) -> None:
    file = write(tmp_path, {"token": "t"}, top=broken)
    with pytest.raises(InvalidInput, match=message) as raised:
        kubeconfig.load(file)
    assert file in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"a: [b", "YAML"), (b"\xff\xfe", "readable file"), (b"just text", "kind Config")],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "config"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput, match=message) as raised:
        kubeconfig.load(str(file))
    assert "\n" not in str(raised.value)


def test_an_empty_file_has_no_context(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    with pytest.raises(InvalidInput, match="none is in the file"):
        kubeconfig.load(str(tmp_path / "config"))


# Login plugins


def make_plugin(folder: Path, credential: dict[str, object]) -> dict[str, object]:
    script = folder / "plugin.sh"
    document = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": credential,
    }
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(document)}\nEND\n")
    script.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(script),
            "interactiveMode": "Never",
        }
    }


def test_a_login_plugin_hands_out_a_token(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes")
    found = kubeconfig.load(write(tmp_path, make_plugin(tmp_path, {"token": "from-plugin"})))
    assert found.token == "from-plugin"
    assert found.server == "https://1.2.3.4:6443"


def test_a_login_plugin_hands_out_a_certificate(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes")
    credential = {
        "clientCertificateData": (TLS / "client.pem").read_text(),
        "clientKeyData": (TLS / "client.key").read_text(),
    }
    found = kubeconfig.load(write(tmp_path, make_plugin(tmp_path, dict(credential))))
    assert Path(found.cert_file).read_text() == credential["clientCertificateData"]
    assert Path(found.key_file).read_text() == credential["clientKeyData"]


def test_a_login_plugin_that_says_nothing_is_told(tmp_path: Path) -> None:
    pytest.importorskip("kubernetes")
    with pytest.raises(InvalidInput, match="login plugin"):
        kubeconfig.load(write(tmp_path, make_plugin(tmp_path, {})))


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.setitem(sys.modules, "kubernetes.config", None)
    with pytest.raises(Unsupported, match=r"pip install 'accel-dra\[kubeconfig\]'"):
        kubeconfig.load(write(tmp_path, make_plugin(tmp_path, {"token": "t"})))
