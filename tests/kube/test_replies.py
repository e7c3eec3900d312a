"""What recorded API servers answered, read as the driver reads it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from driver.kube import replies
from driver.model.claims import ResourceClaim
from driver.model.errors import Conflict, DriverError, Forbidden, Gone, NotFound, Rejected, Unavailable
from driver.model.objects import Status
from driver.model.slices import ResourceSlice

FOLDER = Path(__file__).resolve().parent.parent / "data" / "transcripts"
KINDS: dict[int, type[DriverError]] = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone}


def read_steps() -> Iterator[dict[str, object]]:
    for path in sorted(FOLDER.glob("*.json.gz")):
        with gzip.open(path, "rt") as file:
            yield from json.load(file)["steps"]


def list_bodies() -> Iterator[tuple[int, object]]:
    for step in read_steps():
        response = step.get("response")
        if isinstance(response, dict) and "body" in response:
            yield response["status"], response["body"]


def list_objects(kind: str) -> Iterator[dict[str, object]]:
    for _, body in list_bodies():
        if isinstance(body, dict) and body.get("kind") == kind:
            yield body
    for step in read_steps():
        events = step.get("events", ())
        assert isinstance(events, list | tuple)
        yield from (each["object"] for each in events if each["object"].get("kind") == kind)


def fill(value: object) -> object:
    """Replace the placeholder that stands for a list."""
    if isinstance(value, dict):
        return {key: fill(each) for key, each in value.items() if each != "${managedFields}"}
    return [fill(each) for each in value] if isinstance(value, list) else value


def test_every_recorded_refusal_becomes_an_error_with_the_servers_words() -> None:
    checked = 0
    for code, body in list_bodies():
        if code < 400:
            continue
        checked += 1
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        status = replies.read_status(raw)
        error = replies.make_error(code, status, "GET /x")
        expected = KINDS.get(code, Unavailable if code >= 500 or code in {408, 429} else Rejected)
        assert type(error) is expected, (code, body)
        if isinstance(body, dict) and body.get("message"):
            assert body["message"] in str(error)
        assert str(error)
    assert checked > 150


def test_recorded_validation_errors_name_their_field() -> None:
    fields = set()
    for code, body in list_bodies():
        if code == 422 and isinstance(body, dict) and body.get("details", {}).get("causes"):
            error = replies.make_error(code, replies.read_status(json.dumps(body).encode()), "POST /x")
            assert isinstance(error, Rejected)
            fields.add(error.field)
    assert "spec.devices[0].name" in fields


def test_a_recorded_timeout_says_when_to_come_back() -> None:
    found = [body for code, body in list_bodies() if code == 504]
    assert found
    error = replies.make_error(504, replies.read_status(json.dumps(found[0]).encode()), "GET /x")
    assert isinstance(error, Unavailable)
    assert error.retry_after == 1.0


@pytest.mark.parametrize(("kind", "shape"), [("ResourceSlice", ResourceSlice), ("ResourceClaim", ResourceClaim)])
def test_every_recorded_object_can_be_read(kind: str, shape: type[ResourceSlice | ResourceClaim]) -> None:
    count = 0
    for value in list_objects(kind):
        body = json.dumps(fill(value)).replace('"${generation', '"x').encode()
        msgspec.json.decode(body, type=shape)
        count += 1
    assert count > 50


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"<html>\n <b>502 Bad Gateway</b>\n</html>", "<html> <b>502 Bad Gateway</b> </html>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[]", "[]"),
        (b"x" * 5000, "x" * 300),
    ],
)
def test_what_is_no_status_is_quoted_briefly(body: bytes, message: str) -> None:
    assert replies.read_status(body) == Status(message=message)


def test_an_answer_without_words_still_says_what_failed() -> None:
    assert str(replies.make_error(422, Status(), "POST /x")) == "POST /x: HTTP 422"
    assert str(replies.make_error(404, Status(), "GET /y")) == "GET /y: HTTP 404"


def test_a_server_without_the_api_for_devices_is_too_old() -> None:
    path = "/apis/resource.k8s.io/v1/resourceslices"
    missing = replies.make_error(404, Status(message="404 page not found"), f"GET {path}")
    assert "Kubernetes 1.34" in str(replies.name_missing_api(missing))
    gone = NotFound("claim c not found", name="c")
    assert replies.name_missing_api(gone) is gone
