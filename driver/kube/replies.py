"""What an API server's answer means: its Status and HTTP code become the driver's errors.

Called by `client` and `watching`; pure. The message of the server is kept word for word: it names the user, the verb,
the field. Reasons and codes: k8s.io/apimachinery/pkg/apis/meta/v1/types.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from driver.model.errors import Conflict, DriverError, Forbidden, Gone, NotFound, Rejected, Unavailable
from driver.model.objects import Status

_LONGEST_TEXT: Final = 300
_decoder: Final = msgspec.json.Decoder(Status)

_BY_CODE: Final[dict[int, Callable[[str], DriverError]]] = {
    403: Forbidden,
    409: Conflict,
    410: Gone,
}
_RETRIED: Final = {408, 429}


def read_status(body: bytes) -> Status:
    """Return the Status in a body; for anything else (a proxy's page, nothing) one that quotes the body."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Status(message=" ".join(body.decode(errors="replace").split())[:_LONGEST_TEXT])


def make_error(code: int, status: Status, request: str, retry_after: str | None = None) -> DriverError:
    """Return the error for an answer: `request` (`GET /api/…`) says what failed where the server's message does not."""
    message = status.message or f"{request}: HTTP {code}"
    if code == 401:
        return Forbidden(f"{request}: the API server does not accept our credentials: {message}")
    if code == 404:
        return NotFound(message, name=_name_missing(status))
    if code in _BY_CODE:
        return _BY_CODE[code](message)
    if code in _RETRIED or code >= 500:
        return Unavailable(f"{request}: HTTP {code}: {message}", retry_after=_read_delay(status, retry_after))
    causes = status.details.causes if status.details else ()
    return Rejected(message, field=causes[0].field if causes else "")


def name_missing_api(error: DriverError) -> DriverError:
    """Return an error about devices, and if the whole API for them is missing, one that says so."""
    if isinstance(error, NotFound) and not error.name:
        text = "the API server does not serve resource.k8s.io/v1; Kubernetes 1.34 and later do"
        return NotFound(f"{text} ({error})")
    return error


def _name_missing(status: Status) -> str:
    """Return which object does not exist; nothing for a path or a whole API that is not served."""
    return status.details.name if status.reason == "NotFound" and status.details else ""


def _read_delay(status: Status, header: str | None) -> float | None:
    """Return the seconds of Retry-After, else those of the Status, else None."""
    if header is not None and header.strip().isdigit():
        return float(header)
    if status.details and status.details.retry_after_seconds > 0:
        return float(status.details.retry_after_seconds)
    return None
