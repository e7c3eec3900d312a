"""Nodes: the identity of ours, which owns its slices."""

from __future__ import annotations

from typing import Final

from driver.kube import decoding
from driver.kube.client import Client
from driver.model.objects import Node

_decoder: Final = decoding.Decoder(Node)


def fetch(client: Client, name: str) -> Node:
    """Return the Node object. Raises `NotFound`, `Forbidden`, `Unavailable`."""
    return _decoder.decode(client.get(f"/api/v1/nodes/{name}"), f"node {name}")
