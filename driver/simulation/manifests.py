"""Manifests that ship with the driver, and how they get into the cluster. Called by the cluster and the demo.

In an installed wheel they lie beside this file, in a checkout in `deploy/`; both are the same files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml

from driver.model.errors import Conflict, InvalidInput, NotFound
from driver.simulation.access import Body, Objects, kind_of

_SHIPPED: Final = Path(__file__).parent / "data"
_CHECKOUT: Final = Path(__file__).parents[2] / "deploy"
_DEFAULT_NAMESPACE: Final = "default"


def find(*names: str) -> Path:
    """Return a file or folder of `deploy/`. Raises `NotFound` if this installation lacks it."""
    for root in (_SHIPPED, _CHECKOUT):
        path = root.joinpath(*names)
        if path.exists():
            return path
    raise NotFound(f"deploy/{'/'.join(names)} is not part of this installation")


def examples() -> list[Path]:
    """Return the folders of the example workloads, by name."""
    return sorted(path for path in find("examples").iterdir() if path.is_dir())


def read(path: Path) -> list[Body]:
    """Return the objects of a YAML file, or of all YAML files of a folder. Raises `InvalidInput`."""
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    found: list[Body] = []
    for file in files:
        for document in yaml.safe_load_all(file.read_text()):
            if isinstance(document, dict):
                found.append(document)
            elif document is not None:
                raise InvalidInput(str(file), type(document).__name__, "YAML documents that are objects")
    return found


def apply(objects: Objects, documents: Iterable[Body], namespace: str = "") -> None:
    """Create objects in order; those that exist already are left as they are.

    `namespace` replaces that of the documents.
    """
    for document in documents:
        kind = kind_of(document)
        metadata = document.get("metadata")
        own = metadata if isinstance(metadata, dict) else {}
        target = (namespace or str(own.get("namespace") or _DEFAULT_NAMESPACE)) if kind.namespaced else ""
        body = {**document, "metadata": {**own, "namespace": target} if target else own}
        try:
            objects.create(kind, body, target)
        except Conflict:
            continue
