"""metav1.Status: what the API server answers instead of an object, with the words of the real one.

Called wherever a request ends early. `ApiError` carries the whole body; the HTTP edge only writes it out.
Texts are those of Kubernetes v1.36 (apimachinery errors.go, apiserver responsewriters), because clients match them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from driver.simulation.apiserver.values import Json, JsonObject, text


@dataclass(frozen=True)
class Cause:
    """One entry of status.details.causes."""

    reason: str
    message: str
    field: str = ""

    def as_json(self) -> JsonObject:
        """The entry as it is sent."""
        out: JsonObject = {}
        if self.reason:
            out["reason"] = self.reason
        if self.message:
            out["message"] = self.message
        if self.field:
            out["field"] = self.field
        return out


class ApiError(Exception):
    """A refusal: HTTP status `code` and the Status object `body`; `headers` go out with it."""

    def __init__(self, code: int, body: JsonObject, headers: dict[str, str] | None = None) -> None:
        self.code = code
        self.body = body
        self.headers = headers or {}
        super().__init__(f"{code} {text(body.get('message'))}")


def failure(code: int, reason: str, message: str, details: JsonObject | None = None) -> ApiError:
    """A Status with status Failure; empty reason and absent details are left out as the real server does."""
    body: JsonObject = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    if message:
        body["message"] = message
    if reason:
        body["reason"] = reason
    if details is not None:
        body["details"] = details
    body["code"] = code
    headers = {}
    if details and "retryAfterSeconds" in details:
        headers["Retry-After"] = str(details["retryAfterSeconds"])
    return ApiError(code, body, headers)


def object_details(group: str, kind: str, name: str, causes: Iterable[Cause] = ()) -> JsonObject:
    """status.details of an error about one object; empty fields are absent."""
    details: JsonObject = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    listed: list[Json] = [cause.as_json() for cause in causes]
    if listed:
        details["causes"] = listed
    return details


def qualified(resource: str, group: str) -> str:
    """`resourceclaims.resource.k8s.io`, or just the resource in the core group."""
    return f"{resource}.{group}" if group else resource


def not_found(group: str, resource: str, name: str) -> ApiError:
    """404 for one object."""
    message = f'{qualified(resource, group)} "{name}" not found'
    return failure(404, "NotFound", message, object_details(group, resource, name))


def no_such_path() -> ApiError:
    """404 for a resource or path the server does not have."""
    return failure(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group: str, resource: str, name: str) -> ApiError:
    """409 for a create of a taken name."""
    message = f'{qualified(resource, group)} "{name}" already exists'
    return failure(409, "AlreadyExists", message, object_details(group, resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group: str, resource: str, name: str, why: str = MODIFIED) -> ApiError:
    """409 for a stale resourceVersion or a failed precondition."""
    message = f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {why}'
    return failure(409, "Conflict", message, object_details(group, resource, name))


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with every fault found: `field: message`, in brackets once there are several."""
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    message = f'{qualified(kind, group)} "{name}" is invalid: {joined}'
    return failure(422, "Invalid", message, object_details(group, kind, name, causes))


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return failure(400, "BadRequest", message)


def method_not_allowed() -> ApiError:
    """405: the path exists, the verb does not."""
    return failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def internal(message: str) -> ApiError:
    """500 without a reason, as upstream answers some bad input."""
    return failure(500, "", message)


def expired(message: str, continue_token: str = "") -> ApiError:
    """410: the wanted resourceVersion is forgotten. `continue_token` lets a pager go on inconsistently."""
    error = failure(410, "Expired", message)
    if continue_token:
        error.body["metadata"] = {"continue": continue_token}
    return error


def too_large_version(wanted: int, current: int) -> ApiError:
    """504: the resourceVersion lies in the future."""
    cause = Cause("ResourceVersionTooLarge", "Too large resource version")
    details: JsonObject = {"causes": [cause.as_json()], "retryAfterSeconds": 1}
    return failure(504, "Timeout", f"Timeout: Too large resource version: {wanted}, current: {current}", details)


def success(details: JsonObject | None = None) -> JsonObject:
    """The Status that some deletes answer."""
    body: JsonObject = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        body["details"] = details
    return body
