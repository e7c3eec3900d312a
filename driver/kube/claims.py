"""ResourceClaims as the preparer reads them: always fresh from the API server, never from a cache.

Called by `node.preparer` for every claim that it has not prepared yet.
"""

from __future__ import annotations

from typing import Final

from driver.kube import decoding
from driver.kube.client import Client
from driver.model.claims import ResourceClaim
from driver.model.errors import NotFound, Unavailable

_decoder: Final = decoding.Decoder(ResourceClaim)


def fetch(client: Client, namespace: str, name: str, *, timeout: float | None = None) -> ResourceClaim:
    """Return the claim as the API server holds it now.

    Raises `Forbidden`, `Unavailable` (also for an answer that is not a claim), and `NotFound` only if the API server
    says of this very claim that it does not exist: a proxy's page or an API that is not served proves nothing.
    """
    path = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}"
    try:
        body = client.get(path, timeout=timeout)
    except NotFound as error:
        if error.name == name:
            raise
        raise Unavailable(f"claim {namespace}/{name}: HTTP 404, but not of this claim: {error}") from error
    return _decoder.decode(body, f"claim {namespace}/{name}")
