"""Changes the finalizers of an object whose other fields have to stay byte for byte, in Kubernetes' protobuf.

Called by `allocations` for claims that the API server lets nobody change as JSON. It keeps opaque parameters as they
were sent, and answers, patches and converts them without blanks; a spec that may not change is compared by bytes. So a
claim that a client sent with blanks in its parameters (Python's json.dumps does) is refused every JSON patch, a label
by kubectl too. Protobuf carries the bytes. Only the envelope (apimachinery runtime.Unknown), field 1 of the object
(metadata) and the fields below of ObjectMeta are looked into; numbers from the generated.proto files, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from driver.model.errors import Unavailable

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"
_RAW: Final = 2
"""The object in its envelope."""
_METADATA: Final = 1
_UID: Final = 5
_RESOURCE_VERSION: Final = 6
_FINALIZERS: Final = 14
_VARINT: Final = 0
_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    content: bytes
    whole: bytes
    """With its tag and length."""


class Document:
    """One object as the API server sent it."""

    def __init__(self, body: bytes) -> None:
        """Raises `Unavailable` if the body is none."""
        if not body.startswith(_MAGIC):
            raise Unavailable(f"asked for {MEDIA_TYPE}, the answer is something else: {body[:64]!r}")
        try:
            self._envelope = list(_read(body[len(_MAGIC) :]))
            self._object = list(_read(_find(self._envelope, _RAW)))
            self._meta = list(_read(_find(self._object, _METADATA)))
        except IndexError as error:
            raise Unavailable(f"an answer in {MEDIA_TYPE} cannot be read: {error}") from error

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return _find(self._meta, _UID).decode()

    @property
    def resource_version(self) -> str:
        """metadata.resourceVersion."""
        return _find(self._meta, _RESOURCE_VERSION).decode()

    def with_finalizers(self, finalizers: Sequence[str]) -> bytes:
        """Return the body of a PUT that changes the finalizers and nothing else."""
        kept = b"".join(each.whole for each in self._meta if each.number != _FINALIZERS)
        meta = kept + b"".join(_write(_FINALIZERS, each.encode()) for each in finalizers)
        return _MAGIC + _swap(self._envelope, _RAW, _swap(self._object, _METADATA, meta))


def _find(fields: Sequence[_Field], number: int) -> bytes:
    return next((each.content for each in fields if each.number == number), b"")


def _swap(fields: Sequence[_Field], number: int, content: bytes) -> bytes:
    return b"".join(_write(number, content) if each.number == number else each.whole for each in fields)


def _read(message: bytes) -> Iterator[_Field]:
    """Yield the fields of a message. Raises IndexError for broken ones."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        size, after = _read_varint(message, position)
        if tag & 7 == _BYTES:
            position, after = after, after + size
        elif tag & 7 != _VARINT:
            raise IndexError(f"wire type {tag & 7}")
        if after > len(message):
            raise IndexError("it is cut off")
        yield _Field(tag >> 3, message[position:after], message[start:after])
        position = after


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while message[position] & 0x80:
        value |= (message[position] & 0x7F) << shift
        shift += 7
        position += 1
    return value | message[position] << shift, position + 1


def _write(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
