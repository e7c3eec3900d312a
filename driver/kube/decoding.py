"""JSON from the API server into the driver's types.

Called by the modules of this folder. Fields that the driver does not know are skipped and a wrong type is an error
that names the object and the field.
"""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

import msgspec

from driver.core import surrogates
from driver.model.errors import Unavailable
from driver.model.objects import Api, ListMeta

T = TypeVar("T")

_building: Final = threading.Lock()
"""msgspec learns what a struct is made of when it is first used, and crashes if two threads begin that at once."""


def read(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """Decode, also what holds halves of a UTF-16 pair: anybody can store them in opaque parameters of a claim.

    Raises what msgspec raises.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = bytes(body)
        mended = surrogates.mend(text)
        if mended == text:
            raise
        return decoder.decode(mended)


class Decoder(Generic[T]):
    """Reads one type. Safe for many threads."""

    def __init__(self, kind: type[T]) -> None:
        with _building:
            self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | msgspec.Raw, what: str) -> T:
        """Return the object. Raises `Unavailable`: a truncated or foreign answer may be right later."""
        try:
            return read(self._decoder, body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"{what}: the API server's answer cannot be read: {error}") from error


class Page(Api, frozen=True):
    """One page of a list, its objects not decoded yet. A list without objects may come as null."""

    metadata: ListMeta = ListMeta()
    items: tuple[msgspec.Raw, ...] | None = None


_pages: Final = Decoder(Page)


def read_page(body: bytes, path: str) -> Page:
    """Return a page of a list. Raises `Unavailable` like `Decoder`."""
    return _pages.decode(body, f"list of {path}")
