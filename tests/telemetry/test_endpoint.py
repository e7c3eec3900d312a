"""The plugin's port answers probes on every address family, and closes when it is told to."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from driver.model.errors import InvalidInput
from driver.telemetry.endpoint import Endpoint


@contextmanager
def serving(address: str) -> Iterator[Endpoint]:
    endpoint = Endpoint(address, {"/healthz": lambda: (200, b"ok\n"), "/readyz": lambda: (503, b"not yet\n")})
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()


def fetch(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def hosts() -> list[str]:
    return ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]


@pytest.mark.parametrize("host", hosts())
def test_without_a_host_it_answers_on_every_family(host: str) -> None:
    with serving(":0") as endpoint:
        assert fetch(f"http://{host}:{endpoint.port}/healthz") == (200, b"ok\n")
        assert fetch(f"http://{host}:{endpoint.port}/readyz?verbose") == (503, b"not yet\n")


@pytest.mark.parametrize("host", hosts())
def test_a_host_is_the_only_one(host: str) -> None:
    with serving(f"{host}:0") as endpoint:
        assert fetch(f"http://{host}:{endpoint.port}/healthz")[0] == 200


def test_other_paths_are_not_found() -> None:
    with serving("127.0.0.1:0") as endpoint:
        assert fetch(f"http://127.0.0.1:{endpoint.port}/")[0] == 404


def test_the_port_is_free_again_after_the_end() -> None:
    with serving("127.0.0.1:0") as endpoint:
        port = endpoint.port
    with serving(f"127.0.0.1:{port}") as endpoint:
        assert endpoint.port == port


def test_an_address_that_cannot_be_bound_is_named() -> None:
    with serving("127.0.0.1:0") as endpoint, pytest.raises(InvalidInput, match="metrics-address"):
        Endpoint(f"127.0.0.1:{endpoint.port}", {})
