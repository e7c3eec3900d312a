"""The client over real sockets: errors become ours, dead connections are replaced, credentials are renewed."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import __version__
from driver.kube.access import Access
from driver.kube.client import APPLY_PATCH, MERGE_PATCH, Client
from driver.model.errors import (
    Conflict,
    DriverError,
    Forbidden,
    Gone,
    InvalidInput,
    NotFound,
    Rejected,
    Unavailable,
)
from tests.fakes.http_server import TLS, HttpServer, Reply, Request, status
from tests.fakes.waiting import wait_until

PATH = "/apis/resource.k8s.io/v1/resourceslices"


def answer_ok(_: Request) -> Reply:
    return Reply(body={"ok": True})


def connect(server: HttpServer, **options: object) -> Client:
    return Client(dataclasses.replace(Access(server=server.url), **options), timeout=5)  # type: ignore[arg-type]


def test_requests_carry_what_they_were_given() -> None:
    with HttpServer(answer_ok) as server:
        client = connect(server, token="secret")
        assert client.get(PATH, {"limit": 5, "fieldSelector": "spec.driver=a,spec.nodeName=b"}) == b'{"ok": true}'
        client.create(PATH, b'{"a":1}', {"dryRun": "All"})
        client.replace(f"{PATH}/x", b"{}")
        client.patch(f"{PATH}/x", b"{}")
        client.patch(f"{PATH}/x", b"{}", APPLY_PATCH, {"fieldManager": "me"})
        client.delete(f"{PATH}/x", b'{"preconditions":{}}')
        client.delete(f"{PATH}/y")
        client.close()
    sent = [(each.method, each.path, each.query, each.headers.get("Content-Type")) for each in server.requests]
    assert sent == [
        ("GET", PATH, {"limit": "5", "fieldSelector": "spec.driver=a,spec.nodeName=b"}, None),
        ("POST", PATH, {"dryRun": "All"}, "application/json"),
        ("PUT", f"{PATH}/x", {}, "application/json"),
        ("PATCH", f"{PATH}/x", {}, MERGE_PATCH),
        ("PATCH", f"{PATH}/x", {"fieldManager": "me"}, APPLY_PATCH),
        ("DELETE", f"{PATH}/x", {}, "application/json"),
        ("DELETE", f"{PATH}/y", {}, None),
    ]
    assert server.requests[1].body == b'{"a":1}'
    assert {each.headers["Authorization"] for each in server.requests} == {"Bearer secret"}
    assert server.requests[0].headers["User-Agent"].startswith(f"accel-dra/{__version__} (linux/")


def test_one_warm_connection_serves_requests_that_follow_each_other() -> None:
    with HttpServer(answer_ok) as server:
        client = connect(server)
        for _ in range(5):
            client.get(PATH)
        client.close()
    assert len({each.connection for each in server.requests}) == 1


def test_a_server_behind_a_path_prefix_is_reached() -> None:
    with HttpServer(answer_ok) as server:
        client = Client(Access(server=f"{server.url}/k8s/clusters/c-1/"))
        client.get("/api/v1/nodes/a")
        client.close()
    assert server.requests[0].path == "/k8s/clusters/c-1/api/v1/nodes/a"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Rejected),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (405, Rejected),
        (409, Conflict),
        (410, Gone),
        (413, Rejected),
        (415, Rejected),
        (422, Rejected),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_each_status_becomes_the_error_that_says_what_to_do(code: int, kind: type[DriverError]) -> None:
    with HttpServer(lambda _: status(code, "the server's own words")) as server:
        client = connect(server)
        with pytest.raises(DriverError, match="the server's own words") as raised:
            client.create(PATH, b"{}")
        client.close()
    assert type(raised.value) is kind


def test_what_the_server_rejects_names_the_field() -> None:
    causes = [{"field": "spec.devices[3].name", "message": "Invalid value"}]
    with HttpServer(lambda _: status(422, "ResourceSlice is invalid", causes=causes)) as server:
        client = connect(server)
        with pytest.raises(InvalidInput, match="ResourceSlice is invalid") as raised:
            client.create(PATH, b"{}")
        client.close()
    assert raised.value.field == "spec.devices[3].name"


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        (Reply(429, b"Too many requests, please try again later.\n", {"Retry-After": "7"}), 7.0),
        (status(504, "Timeout: Too large resource version", retryAfterSeconds=3), 3.0),
        (Reply(503, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
        (Reply(500, b"<html>a proxy's page</html>"), None),
    ],
)
def test_overload_says_how_long_to_wait(reply: Reply, seconds: float | None) -> None:
    with HttpServer(lambda _: reply) as server:
        client = connect(server)
        with pytest.raises(Unavailable, match=r"GET /version: HTTP \d+") as raised:
            client.get("/version")
        client.close()
    assert raised.value.retry_after == seconds


def test_an_unreachable_server_is_one_sentence() -> None:
    with HttpServer(answer_ok) as server:
        pass
    client = connect(server)
    with pytest.raises(Unavailable, match=rf"^GET /version: {server.url}: Connection refused$"):
        client.get("/version")


def test_a_server_that_hangs_is_given_up() -> None:
    released = threading.Event()

    def hang(_: Request) -> None:
        released.wait(30)

    with HttpServer(hang) as server:
        client = Client(Access(server=server.url), timeout=0.2)
        with pytest.raises(Unavailable, match="timed out"):
            client.get("/version")
        with pytest.raises(Unavailable, match="timed out"):
            client.get("/version", timeout=0.05)
        released.set()
        client.close()


def test_a_read_survives_a_connection_that_died_under_it() -> None:
    replies: Iterator[Reply | None] = iter([Reply(), None, Reply(body=b"alive")])
    with HttpServer(lambda _: next(replies)) as server:
        client = connect(server)
        client.get(PATH)
        assert client.get(PATH) == b"alive"
        client.close()
    assert len(server.requests) == 3


def test_a_read_is_repeated_once_only() -> None:
    with HttpServer(lambda _: None) as server:
        client = connect(server)
        with pytest.raises(Unavailable, match="Remote end closed connection without response"):
            client.get(PATH)
        client.close()
    assert len(server.requests) == 2


def test_a_write_is_never_repeated() -> None:
    with HttpServer(lambda _: None) as server:
        client = connect(server)
        with pytest.raises(Unavailable):
            client.create(PATH, b"{}")
        client.close()
    assert len(server.requests) == 1


def test_an_answer_that_is_cut_short_is_not_taken_for_whole() -> None:
    with HttpServer(lambda _: Reply(body=b"x" * 100, cut=True)) as server:
        client = connect(server)
        with pytest.raises(Unavailable):
            client.get(PATH)
        client.close()


def test_connections_to_a_restarted_server_are_replaced_for_reads_and_writes() -> None:
    with HttpServer(answer_ok) as server:
        client = connect(server)
        client.get(PATH)
        port = server.port
    with HttpServer(answer_ok, port=port):
        client.create(PATH, b"{}")
        client.get(PATH)
        client.close()


def test_many_threads_share_a_client() -> None:
    failures: list[Exception] = []

    def work(client: Client) -> None:
        try:
            for _ in range(25):
                assert client.get(PATH) == b'{"ok": true}'
        except Exception as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    with HttpServer(answer_ok) as server:
        client = connect(server)
        threads = [threading.Thread(target=work, args=(client,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
    assert failures == []
    assert len(server.requests) == 200
    assert len({each.connection for each in server.requests}) <= 16


# Credentials


def test_a_rotated_token_file_is_picked_up(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with HttpServer(answer_ok) as server:
        client = connect(server, token_file=str(file))
        client.get(PATH)
        replacement = tmp_path / "new"
        replacement.write_text("second")
        replacement.rename(file)
        client.get(PATH)
        file.unlink()
        client.get(PATH)
        client.close()
    assert [each.headers["Authorization"] for each in server.requests] == [
        "Bearer first",
        "Bearer second",
        "Bearer second",
    ]


def test_expired_credentials_are_renewed_once() -> None:
    def judge(request: Request) -> Reply:
        return Reply() if request.headers["Authorization"] == "Bearer fresh" else status(401, "Unauthorized")

    with HttpServer(judge) as server:
        fresh = Access(server=server.url, token="fresh")
        client = connect(server, token="stale", renew=lambda: fresh)
        client.get(PATH)
        client.get(PATH)
        client.close()
    assert len(server.requests) == 3


def test_credentials_are_not_renewed_again_and_again() -> None:
    renewals: list[float] = []
    now = [100.0]

    with HttpServer(lambda _: status(401, "Unauthorized")) as server:

        def renew() -> Access:
            renewals.append(now[0])
            return Access(server=server.url, token="worthless", renew=renew)

        client = Client(renew(), clock=lambda: now[0])
        for moment in (100.0, 105.0, 111.0):
            now[0] = moment
            with pytest.raises(Forbidden, match="does not accept our credentials: Unauthorized"):
                client.get(PATH)
        client.close()
    assert renewals == [100.0, 100.0, 111.0]


def test_a_renewal_that_fails_says_why() -> None:
    def fail() -> Access:
        raise InvalidInput("kubeconfig", "/nowhere", "a readable file")

    with HttpServer(lambda _: status(401, "Unauthorized")) as server:
        client = connect(server, renew=fail)
        with pytest.raises(Forbidden, match="cannot be renewed: kubeconfig: '/nowhere'"):
            client.get(PATH)
        client.close()


def test_no_secret_stands_in_the_text_of_an_access() -> None:
    access = Access(server="https://a", token="s3cret", key_data="s3cret", cert_data="s3cret", ca_data="s3cret")
    assert "s3cret" not in repr(access)


# TLS


def test_a_server_signed_by_the_cluster_is_trusted_and_others_are_not() -> None:
    with HttpServer(answer_ok, tls=True) as server:
        good = connect(server, ca_file=str(TLS / "ca.pem"))
        assert good.get(PATH) == b'{"ok": true}'
        same = connect(server, ca_data=(TLS / "ca.pem").read_text())
        assert same.get(PATH) == b'{"ok": true}'
        bad = connect(server, ca_file=str(TLS / "other-ca.pem"))
        with pytest.raises(Unavailable, match=r"TLS with https://127.0.0.1:.* failed: .*CERTIFICATE_VERIFY_FAILED"):
            bad.get(PATH)
        for client in (good, same, bad):
            client.close()


def test_verification_can_be_turned_off_and_names_can_be_given() -> None:
    with HttpServer(answer_ok, tls=True) as server:
        insecure = connect(server, insecure=True)
        assert insecure.get(PATH) == b'{"ok": true}'
        named = connect(server, ca_file=str(TLS / "ca.pem"), server_name="kubernetes.default.svc")
        assert named.get(PATH) == b'{"ok": true}'
        wrong = connect(server, ca_file=str(TLS / "ca.pem"), server_name="somebody.else")
        with pytest.raises(Unavailable, match=r"somebody\.else"):
            wrong.get(PATH)
        for client in (insecure, named, wrong):
            client.close()


def test_a_proxy_is_asked_to_connect() -> None:
    asked: list[bytes] = []

    def relay(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve(listener: socket.socket, port: int) -> None:
        connection, _ = listener.accept()
        with connection, socket.create_connection(("127.0.0.1", port)) as upstream:
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=relay, args=(upstream, connection))
            back.start()
            relay(connection, upstream)
            back.join()

    with HttpServer(answer_ok, tls=True) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, server.port))
        thread.start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = connect(server, ca_file=str(TLS / "ca.pem"), proxy=proxy)
        assert client.get(PATH) == b'{"ok": true}'
        client.close()
        thread.join(20)
    assert asked[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1." % server.port)


@pytest.mark.parametrize("form", ["files", "data"])
def test_a_client_certificate_is_shown(form: str) -> None:
    names = {"cert_file": "client.pem", "key_file": "client.key"}
    options = {key: str(TLS / name) for key, name in names.items()}
    if form == "data":
        options = {key.replace("file", "data"): Path(path).read_text() for key, path in options.items()}
    with HttpServer(answer_ok, tls=True, client_ca=True) as server:
        anonymous = connect(server, ca_file=str(TLS / "ca.pem"))
        with pytest.raises(Unavailable):
            anonymous.get(PATH)
        client = connect(server, ca_file=str(TLS / "ca.pem"), **options)
        assert client.get(PATH) == b'{"ok": true}'
        anonymous.close()
        client.close()


def test_a_replaced_certificate_authority_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes((TLS / "other-ca.pem").read_bytes())

    with HttpServer(answer_ok, tls=True) as server:

        def renew() -> Access:
            return Access(server=server.url, ca_file=str(file), renew=renew)

        client = Client(renew())
        file.write_bytes((TLS / "ca.pem").read_bytes())
        assert client.get(PATH) == b'{"ok": true}'
        client.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server": "10.0.0.1:6443"}, "server: '10.0.0.1:6443'"),
        ({"server": "ftp://a"}, "server: 'ftp://a'"),
        ({"server": "http://a", "proxy": "http://p:3128"}, "proxy-url: 'http://p:3128'"),
        ({"server": "https://a", "ca_file": "/nowhere/ca.crt"}, "certificate authority: '/nowhere/ca.crt'"),
        ({"server": "https://a", "ca_data": "not PEM"}, "certificate authority: 'given as data'"),
        ({"server": "https://a", "cert_file": "/nowhere/c", "key_file": "k"}, "client certificate: '/nowhere/c'"),
    ],
)
def test_an_unusable_access_is_refused_with_one_sentence(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Client(Access(**options))  # type: ignore[arg-type]
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


# Streams


def test_a_stream_gives_whole_lines_however_they_are_cut() -> None:
    big = b'{"big": "' + b"x" * 200_000 + b'"}'
    chunks = [b'{"a":', b"1}\n", b'{"b":2}\n{"c":3}\n', big[:70_000], big[70_000:], b'\n{"unfinished"']
    with HttpServer(lambda _: Reply(chunks=chunks)) as server:
        client = connect(server)
        with client.stream(PATH, {"watch": "true"}) as stream:
            lines = list(stream)
        client.close()
    assert lines == [b'{"a":1}', b'{"b":2}', b'{"c":3}', big]
    assert server.requests[0].headers["Accept"] == "application/json;stream=watch"


def test_a_stream_is_refused_like_any_request() -> None:
    with HttpServer(lambda _: status(403, "cannot watch resourceslices")) as server:
        client = connect(server)
        with pytest.raises(Forbidden, match="cannot watch resourceslices"):
            client.stream(PATH)
        client.close()


def test_a_stream_that_breaks_says_so() -> None:
    with HttpServer(lambda _: Reply(chunks=[b"1\n"], cut=True)) as server:
        client = connect(server)
        seen: list[bytes] = []
        with client.stream(PATH) as stream, pytest.raises(Unavailable, match="the stream broke"):
            seen.extend(stream)
        client.close()


def test_a_silent_stream_is_given_up() -> None:
    released = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"1\n"
        released.wait(30)

    with HttpServer(lambda _: Reply(chunks=chunks())) as server:
        client = connect(server)
        with client.stream(PATH, idle_timeout=0.2) as stream, pytest.raises(Unavailable, match="timed out"):
            list(stream)
        released.set()
        client.close()


@pytest.mark.parametrize("tls", [False, True])
def test_a_waiting_stream_can_be_ended_from_another_thread(*, tls: bool) -> None:
    released = threading.Event()
    seen: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        yield b"1\n"
        released.wait(30)

    with HttpServer(lambda _: Reply(chunks=chunks()), tls=tls) as server:
        client = connect(server, ca_file=str(TLS / "ca.pem"))
        with client.stream(PATH) as stream:
            reader = threading.Thread(target=lambda: seen.extend(stream))
            reader.start()
            wait_until(lambda: seen)
            stream.abort()
            reader.join(20)
            assert not reader.is_alive()
        stream.abort()
        released.set()
        client.close()
