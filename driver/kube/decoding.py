"""JSON from the API server into the driver's types.

Called by the modules of this folder. Fields that the driver does not know are skipped and a wrong type is an error
that names the object and the field.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from driver.model.errors import Unavailable

T = TypeVar("T")


class Decoder(Generic[T]):
    """Reads one type. Safe for many threads."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | msgspec.Raw, what: str) -> T:
        """Return the object. Raises `Unavailable`: a truncated or foreign answer may be right later."""
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"{what}: the API server's answer cannot be read: {error}") from error
