"""Nodes: the identity of ours, which owns its slices."""

from __future__ import annotations

from typing import Final

from driver.kube import decoding
from driver.kube.client import Client
from driver.model.errors import NotFound
from driver.model.objects import Node

_decoder: Final = decoding.Decoder(Node)


def fetch(client: Client, name: str) -> Node:
    """Return the Node object. Raises `NotFound`, `Forbidden`, `Unavailable`."""
    try:
        body = client.get(f"/api/v1/nodes/{name}")
    except NotFound as error:
        raise NotFound(f"{error}: the node name has to be that of this machine's Node object") from error
    return _decoder.decode(body, f"node {name}")
