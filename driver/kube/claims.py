"""ResourceClaims as the preparer reads them: always fresh from the API server, never from a cache.

Called by `node.preparer` for every claim that it has not prepared yet.
"""

from __future__ import annotations

from typing import Final

from driver.kube import decoding
from driver.kube.client import Client
from driver.model.claims import ResourceClaim

_decoder: Final = decoding.Decoder(ResourceClaim)


def fetch(client: Client, namespace: str, name: str, *, timeout: float | None = None) -> ResourceClaim:
    """Return the claim as the API server holds it now.

    Raises `NotFound`, `Forbidden`, `Unavailable` (also for an answer that is not a claim).
    """
    path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}"
    return _decoder.decode(client.get(path, timeout=timeout), f"claim {namespace}/{name}")
