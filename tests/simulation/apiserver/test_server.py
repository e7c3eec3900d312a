"""The server as its users start it: port, first objects, one write seen through the other door."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from driver.simulation.apiserver import ApiServer


def fetch(url: str, method: str = "GET", body: object = None, media: str = "application/json") -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": media}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, object] = json.load(response)
        return answer


def test_a_write_over_http_is_seen_in_the_store_and_back() -> None:
    with ApiServer() as server:
        created = fetch(
            f"{server.url}/api/v1/namespaces/default/configmaps",
            "POST",
            {"metadata": {"generateName": "a-"}, "data": {"k": "v"}},
        )
        meta = created["metadata"]
        assert isinstance(meta, dict)
        assert server.store.get("configmaps", meta["name"], "default")["data"] == {"k": "v"}
        server.store.patch("configmaps", meta["name"], {"data": {"k": "w"}}, "default")
        assert fetch(f"{server.url}/api/v1/namespaces/default/configmaps/{meta['name']}")["data"] == {"k": "w"}


def test_stop_closes_the_port_and_a_second_server_can_take_it() -> None:
    first = ApiServer().start()
    port = int(first.url.rpartition(":")[2])
    first.stop()
    with pytest.raises(urllib.error.URLError):
        fetch(f"{first.url}/healthz")
    with ApiServer(port=port) as second:
        assert second.url == first.url


def test_a_taken_port_is_an_error_at_start() -> None:
    with ApiServer() as first, pytest.raises(OSError, match="address already in use"):
        ApiServer(port=int(first.url.rpartition(":")[2])).start()


def test_kubeconfig_points_at_the_server(tmp_path: Path) -> None:
    with ApiServer() as server:
        path = server.kubeconfig(tmp_path / "config", user="alice", token="t")
        document = yaml.safe_load(path.read_text())
        assert document["clusters"][0]["cluster"]["server"] == server.url.replace("http://", "http://token:t@")
        assert document["users"] == [{"name": "alice", "user": {"token": "t"}}]
        assert path.stat().st_mode & 0o077 == 0
        plain = yaml.safe_load(server.kubeconfig(tmp_path / "config").read_text())
        assert plain["clusters"][0]["cluster"]["server"] == server.url


def test_a_watch_streams_what_happens_and_ends_in_time() -> None:
    with ApiServer() as server:
        query = "watch=true&timeoutSeconds=30&fieldSelector=metadata.name%3Da"
        url = f"{server.url}/api/v1/namespaces/default/configmaps?{query}"
        with urllib.request.urlopen(url, timeout=10) as stream:
            server.store.create({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}})
            server.store.delete("configmaps", "a", "default")
            events = [json.loads(stream.readline()) for _ in range(2)]
        assert [event["type"] for event in events] == ["ADDED", "DELETED"]
        assert int(events[1]["object"]["metadata"]["resourceVersion"]) > int(
            events[0]["object"]["metadata"]["resourceVersion"]
        )


def test_with_a_certificate_it_speaks_tls_and_the_kubeconfig_trusts_it(tmp_path: Path, certificate: Path) -> None:
    with ApiServer(certificate=certificate) as server:
        document = yaml.safe_load(server.kubeconfig(tmp_path / "config").read_text())
        cluster = document["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        assert "PRIVATE KEY" not in authority
        trust = ssl.create_default_context(cadata=authority)
        with urllib.request.urlopen(f"{cluster['server']}/readyz", timeout=10, context=trust) as response:
            assert response.read() == b"ok"


def test_a_certificate_that_cannot_be_read_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ApiServer(certificate=tmp_path / "none.pem").start()
