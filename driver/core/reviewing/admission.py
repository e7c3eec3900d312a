"""What the API server asks an admission webhook, and the answer (admission.k8s.io/v1 AdmissionReview).

Called by `driver.webhook`. A fault denies, a warning is shown to whoever made the request. What is none of our business
is allowed: another kind, a deletion, an object that is about to go. An update is denied only for what it makes worse,
because an object that was stored before anybody looked must still be able to lose its finalizer and be deleted.

Names: Kubernetes v1.36 staging/src/k8s.io/api/admission/v1/types.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.core import quoting, surrogates
from driver.core.reviewing import subjects
from driver.core.reviewing.findings import Finding
from driver.core.reviewing.subjects import GROUP, KINDS, VERSIONS, Subject
from driver.model.errors import InvalidInput
from driver.model.objects import Api, ObjectMeta, StatusCause

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
_UNPROCESSABLE: Final = 422
_MAX_CAUSES: Final = 64
_MAX_MESSAGE: Final = 16_384
"""Characters of the message as a whole; it goes into logs and Events."""
_MAX_WARNINGS: Final = 4_096
"""Characters of all warnings together; the API server cuts them short beyond (k8s.io/apiserver pkg/warning)."""
_NOTHING: Final = (b"", b"null")

Judge = Callable[[Subject], Sequence[Finding]]
"""Reviews one object."""


class _Kind(Api, frozen=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class _Request(Api, frozen=True):
    uid: str
    kind: _Kind = _Kind()
    name: str = ""
    namespace: str = ""
    operation: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class _Review(Api, frozen=True):
    api_version: str = ""
    kind: str = ""
    request: _Request | None = None


class _Details(Api, frozen=True):
    name: str = ""
    group: str = ""
    kind: str = ""
    causes: tuple[StatusCause, ...] = ()


class _Status(Api, frozen=True):
    status: str
    code: int
    reason: str
    message: str
    details: _Details


class _Response(msgspec.Struct, frozen=True, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    warnings: tuple[str, ...] = ()


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    response: _Response


class _Meta(Api, frozen=True):
    metadata: ObjectMeta = ObjectMeta()


_reviews: Final = msgspec.json.Decoder(_Review)
_metas: Final = msgspec.json.Decoder(_Meta)
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one request, and what it was about."""

    body: bytes
    """The AdmissionReview to send back."""
    kind: str
    operation: str
    name: str
    """`namespace/name` of the object, as far as it has one."""
    faults: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()


def answer(body: bytes, judge: Judge) -> Verdict:
    """Return the answer to an AdmissionReview. Raises `InvalidInput` for a body that is none, or holds no object."""
    request = _read(surrogates.mend(body))
    kind = request.kind.kind
    faults: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    if _concerns(request):
        subject = subjects.decode(kind, bytes(request.object))
        if subject.metadata.deletion_timestamp is None:
            found = judge(subject)
            known = _find_known(request, judge)
            faults = tuple(each for each in found if not each.is_warning and str(each) not in known)
            warnings = tuple(each for each in found if each.is_warning or str(each) in known)
    place = "/".join(part for part in (request.namespace, request.name or _name(request)) if part)
    return Verdict(_write(request, faults, warnings), kind, request.operation, place, faults, warnings)


def _read(body: bytes) -> _Request:
    try:
        review = _reviews.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        shown = quoting.shorten(body[:200].decode("utf-8", "backslashreplace"))
        raise InvalidInput("request body", shown, f"an {KIND} of {API_VERSION} ({error})") from error
    if review.api_version != API_VERSION or review.kind != KIND:
        raise InvalidInput("request body", f"{review.api_version} {review.kind}", f"{API_VERSION} {KIND}")
    if review.request is None:
        raise InvalidInput("request", quoting.NOTHING, "what is asked")
    return review.request


def _concerns(request: _Request) -> bool:
    kind = request.kind
    is_ours = kind.group == GROUP and kind.kind in KINDS and kind.version in VERSIONS
    return is_ours and request.operation in (CREATE, UPDATE) and bytes(request.object) not in _NOTHING


def _find_known(request: _Request, judge: Judge) -> frozenset[str]:
    """Return the faults that the object has had before the update."""
    old = bytes(request.old_object)
    if request.operation != UPDATE or old in _NOTHING:
        return frozenset()
    try:
        return frozenset(str(each) for each in judge(subjects.decode(request.kind.kind, old)))
    except InvalidInput:
        return frozenset()


def _name(request: _Request) -> str:
    """Return the name that a new object will begin with, if the API server is to make one."""
    try:
        return _metas.decode(request.object).metadata.generate_name
    except msgspec.MsgspecError:
        return ""


def _write(request: _Request, faults: Sequence[Finding], warnings: Sequence[Finding]) -> bytes:
    status = _deny(request, faults) if faults else None
    response = _Response(request.uid, not faults, status, tuple(_cut(warnings)))
    return _encoder.encode(_Answer(API_VERSION, KIND, response))


def _deny(request: _Request, faults: Sequence[Finding]) -> _Status:
    """Return the Status of a refusal: as text for whoever reads one line, as causes for whoever can show fields."""
    causes = tuple(StatusCause("FieldValueInvalid", each.text, each.path) for each in faults[:_MAX_CAUSES])
    details = _Details(request.name or _name(request), GROUP, request.kind.kind, causes)
    message = "; ".join(str(each) for each in faults)
    if len(message) > _MAX_MESSAGE:
        message = f"{message[:_MAX_MESSAGE]}…"
    return _Status(status="Failure", code=_UNPROCESSABLE, reason="Invalid", message=message, details=details)


def _cut(warnings: Sequence[Finding]) -> list[str]:
    """Return as many warnings as the API server passes on whole."""
    texts: list[str] = []
    left = _MAX_WARNINGS
    for each in map(str, warnings):
        left -= len(each)
        if left < 0:
            break
        texts.append(each)
    return texts
