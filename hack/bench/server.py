"""The embedded API server as a process of its own, so that it does not share an interpreter with what is measured.

Prints the path of a kubeconfig on standard output and serves until standard input is closed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from driver.simulation.apiserver.server import ApiServer


def main(folder: str, node: str) -> None:
    """Serve with one Node object."""
    with ApiServer() as server:
        server.store.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
        print(server.kubeconfig(Path(folder) / "kubeconfig"), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
