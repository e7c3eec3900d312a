"""Objects of any kind as they are now, page by page: for who looks once. Who keeps looking watches (`watching`).

Called by the slices of a node, and by commands that answer from one look at the cluster.
"""

from __future__ import annotations

from typing import Final, TypeVar

from driver.kube import decoding
from driver.kube.client import Client, Parameters

T = TypeVar("T")

PAGE: Final = 500
"""Objects of one page, as kubectl asks for them."""


def fetch_all(client: Client, path: str, kind: type[T], params: Parameters | None = None) -> tuple[T, ...]:
    """Return all objects of a collection. Raises like `Client.get`, `Gone` if the list took too long."""
    decoder = decoding.Decoder(kind)
    asked: dict[str, str | int] = {**(params or {}), "limit": PAGE}
    found: list[T] = []
    while True:
        page = decoding.read_page(client.get(path, asked), path)
        found.extend(decoder.decode(item, kind.__name__) for item in page.items or ())
        if not page.metadata.continue_:
            return tuple(found)
        asked["continue"] = page.metadata.continue_


def fetch(client: Client, path: str, kind: type[T]) -> T:
    """Return one object. Raises like `Client.get`."""
    return decoding.Decoder(kind).decode(client.get(path), path)
