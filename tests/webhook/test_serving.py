"""The HTTPS port within its limits: whatever arrives is answered with a sentence or ends with its connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver.model.errors import InvalidInput
from driver.webhook import serving
from driver.webhook.app import Webhook
from driver.webhook.certificates import Certificates
from driver.webhook.serving import Limits, Server
from tests.fakes.http_server import TLS
from tests.fakes.waiting import wait_until
from tests.webhook.site import PATH, Caller, claim, config, metric, review, write_pair

Serve = Callable[..., Server]


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def serve(tmp_path: Path, told: list[tuple[str, str]]) -> Iterator[Serve]:
    """Start a server that answers with this function; what it does not answer is in `told`."""
    write_pair(tmp_path)
    pair = Certificates(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), 60.0, lambda _: None)
    with contextlib.ExitStack() as stack:

        def start(answer: Callable[[bytes], bytes], limits: Limits | None = None) -> Server:
            server = Server(
                "127.0.0.1:0", lambda: pair.context, answer, lambda reason, text: told.append((reason, text)), limits
            )
            stack.callback(server.stop)
            server.start()
            return server

        yield start


def connect(port: int) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            received += part
    return received


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "request body: '' is not allowed; allowed: an AdmissionReview of admission.k8s.io/v1"),
        (b"{}", "allowed: admission.k8s.io/v1 AdmissionReview"),
        (b"[]", "an AdmissionReview"),
        (b"\xff\x00", "an AdmissionReview"),
        (b"[" * 100_000, "an AdmissionReview"),
        (b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}', "admission.k8s.io/v1beta1"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}', "request: nothing is not allowed"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}', "uid"),
        (json.dumps(review({**claim(), "spec": 5})).encode(), "spec: 5 is not allowed; allowed: an object"),
        (json.dumps(review({**claim(), "metadata": []})).encode(), "metadata: [] is not allowed"),
    ],
)
def test_a_request_that_is_none_is_answered_400_with_a_sentence(caller: Caller, body: bytes, words: str) -> None:
    status, answer = caller.send(body)
    assert status == 400
    assert words in answer.decode()
    assert answer.count(b"\n") == 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "words"),
    [
        ("GET", PATH, {}, 501, "Unsupported method ('GET')"),
        ("POST", "/", {}, 404, "reviews are answered at /review"),
        ("POST", PATH, {"Content-Length": "x"}, 411, "Content-Length"),
        ("POST", PATH, {"Content-Length": "-1"}, 411, "Content-Length"),
        ("POST", PATH, {"Content-Length": "٣"}, 411, "Content-Length"),
        ("POST", PATH, {"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
        ("POST", PATH, {"Content-Length": str(serving.MAX_BODY + 1)}, 413, "at most 8388608 bytes"),
        ("POST", PATH, {"Content-Length": "9" * 4000}, 413, "at most 8388608 bytes"),
        ("POST", PATH, {"X": "y" * 70_000}, 431, "Too Large: Line too long"),
    ],
)
def test_a_request_outside_of_the_limits_is_refused_before_it_is_read(
    webhook: Webhook, method: str, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    with connect(webhook.port) as connection:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = read_all(connection).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert words in answer
    assert "Connection: close" in answer
    assert metric(webhook, "refused_requests_total") == 1


def test_a_connection_serves_many_requests(caller: Caller) -> None:
    for _ in range(5):
        assert caller.ask(claim(config()))["allowed"] is True
    port = caller.connection.sock.getsockname()[1]
    caller.ask(claim(config("Mps")))
    assert caller.connection.sock.getsockname()[1] == port


def test_a_request_that_ends_too_early_or_too_late_is_told(serve: Serve, told: list[tuple[str, str]]) -> None:
    server = serve(lambda body: body, Limits(request=1.0, idle=20.0))
    with connect(server.port) as connection:
        connection.sendall(b"POST /review HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        assert b"408" in read_all(connection).partition(b"\r\n")[0]
    with connect(server.port) as connection:
        connection.sendall(b"POST /review HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    wait_until(lambda: len(told) == 2, "the second complaint")
    assert [reason for reason, _ in told] == ["slow", "short"]


def test_a_client_that_says_nothing_holds_up_nobody_and_is_dropped(serve: Serve) -> None:
    server = serve(lambda body: body, Limits(request=1.0, idle=1.0))
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(5)]
    idle = [connect(server.port) for _ in range(5)]
    caller = Caller(server.port)
    assert caller.send(b"{}") == (200, b"{}")
    caller.close()
    for connection in (*silent, *idle):
        assert read_all(connection) == b""
        connection.close()


def test_more_connections_than_allowed_are_closed_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 3)
    server = serve(lambda body: body)
    kept = [connect(server.port) for _ in range(3)]
    with pytest.raises(OSError):
        connect(server.port)
    for connection in kept:
        connection.close()

    def is_served() -> bool:
        try:
            connect(server.port).close()
        except OSError:
            return False
        return True

    wait_until(is_served, "a place to become free")


def test_when_all_turns_are_taken_a_request_waits_and_is_told_to_try_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(serving, "MAX_REVIEWS", 1)
    may_go, has_begun = threading.Event(), threading.Event()

    def wait(body: bytes) -> bytes:
        has_begun.set()
        may_go.wait(20)
        return body

    server = serve(wait, Limits(request=1.0))
    first, second = Caller(server.port), Caller(server.port)
    answers: list[tuple[int, bytes]] = []
    thread = threading.Thread(target=lambda: answers.append(first.send(b"{}")))
    thread.start()
    has_begun.wait(20)
    assert second.send(b"{}")[0] == 503
    may_go.set()
    thread.join()
    assert answers == [(200, b"{}")]
    assert [reason for reason, _ in told] == ["busy"]
    first.close()
    second.close()


def test_a_defect_is_answered_and_told_and_the_next_request_is_served(
    serve: Serve, told: list[tuple[str, str]]
) -> None:
    def break_down(body: bytes) -> bytes:
        return b"%d" % (1 // len(body))

    server = serve(break_down)
    caller = Caller(server.port)
    status, body = caller.send(b"")
    assert status == 500
    assert b"this is a defect of accel-dra: ZeroDivisionError" in body
    assert caller.send(b"x") == (200, b"1")
    assert [reason for reason, _ in told] == ["defect"]
    caller.close()


def test_a_request_under_way_is_answered_before_the_end(serve: Serve) -> None:
    has_begun, may_go = threading.Event(), threading.Event()

    def wait(body: bytes) -> bytes:
        has_begun.set()
        may_go.wait(20)
        return body

    server = serve(wait)
    caller, idle = Caller(server.port), connect(server.port)
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(target=lambda: answers.append(caller.send(b"{}")))
    asking.start()
    has_begun.wait(20)
    ending = threading.Thread(target=server.stop)
    ending.start()
    wait_until(lambda: not server.alive, "the port to close")
    may_go.set()
    for thread in (asking, ending):
        thread.join(20)
        assert not thread.is_alive()
    assert answers == [(200, b"{}")]
    assert read_all(idle) == b""
    idle.close()
    caller.close()


def test_an_address_that_cannot_be_bound_is_told(webhook: Webhook) -> None:
    with pytest.raises(InvalidInput, match=r"address: .* an address that can be bound"):
        Server(f"127.0.0.1:{webhook.port}", ssl.create_default_context, lambda body: body, lambda *_: None)


def test_many_ask_at_once_and_each_gets_its_own_answer(webhook: Webhook) -> None:
    failures: list[str] = []

    def ask(number: int) -> None:
        caller = Caller(webhook.port)
        for turn in range(12):
            is_good = (number + turn) % 2 == 0
            response = caller.ask(claim(config("MPS" if is_good else f"X{number}-{turn}")))
            told = response.get("status", {}).get("message", "")
            if response["allowed"] is not is_good or (f"'X{number}-{turn}'" in told) is is_good:
                failures.append(f"{number} {turn}: {response}")
        caller.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(serving.MAX_REVIEWS * 2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert metric(webhook, "reviews_total") == len(threads) * 12


def test_peer_defect_03_nonsense_never_ends_it(webhook: Webhook) -> None:
    """Broken TLS, broken HTTP, broken JSON, and good reviews with bytes changed at random."""
    chance = random.Random(4)
    good = json.dumps(review(claim(config()))).encode()
    for _ in range(20):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", webhook.port), timeout=20) as plain:
            plain.sendall(chance.randbytes(200))
    caller = Caller(webhook.port)
    for _ in range(150):
        body = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        with contextlib.suppress(http.client.HTTPException, OSError):
            status, answer = caller.send(bytes(body))
            assert status in (200, 400), answer
            assert answer.decode()
    with connect(webhook.port) as connection:
        connection.sendall(chance.randbytes(500) + b"\r\n\r\n")
        read_all(connection)
    assert caller.ask(claim(config()))["allowed"] is True
    caller.close()
    assert webhook.alive
