"""The pods that a Deployment, StatefulSet, ReplicaSet, Job or CronJob would make, as documents.

Called by `drafting`, so that a file that people really have can be asked about. Pods are named `<object>-<number>`, as
a StatefulSet names them; those of the others get names by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from driver.model.errors import InvalidInput

MOST: Final = 500
"""Pods of one object that are answered for."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Where an object says what its pods are and how many."""

    spec: tuple[str, ...] = ("spec",)
    count: str = "replicas"


_JOB: Final = "parallelism"
_OWNERS: Final = {
    "Deployment": _Owner(),
    "ReplicaSet": _Owner(),
    "StatefulSet": _Owner(),
    "Job": _Owner(count=_JOB),
    "CronJob": _Owner(("spec", "jobTemplate", "spec"), _JOB),
}


def make_pods(document: Mapping[object, object], number: int) -> Iterator[Mapping[str, object]]:
    """Yield the pods of a document that have claims; nothing if it makes none of them.

    `number`: of the document in its file. Raises `InvalidInput` for a number of pods that is none, or too large.
    """
    owner = _OWNERS.get(str(document.get("kind")))
    spec = _descend(document, owner.spec) if owner is not None else {}
    template = _descend(spec, ("template",))
    if owner is None or not _asks(_descend(template, ("spec",))):
        return
    count = spec.get(owner.count)
    if count is None:
        count = 1
    if not isinstance(count, int) or not 0 <= count <= MOST:
        path = ".".join((*owner.spec, owner.count))
        raise InvalidInput(f"document {number}: {path}", count, f"a number up to {MOST}, for an answer")
    outer, inner = _descend(document, ("metadata",)), _descend(template, ("metadata",))
    for index in range(count):
        metadata = {**inner, "name": f"{outer.get('name') or 'unnamed'}-{index}", "namespace": outer.get("namespace")}
        kept = {str(key): value for key, value in metadata.items() if value is not None}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": template["spec"]}


def _asks(pod: Mapping[object, object]) -> bool:
    """Say whether a pod has claims, or limits that a DeviceClass may serve."""
    containers = [each for key in ("containers", "initContainers") for each in _list(pod.get(key))]
    return bool(pod.get("resourceClaims")) or any(
        "/" in str(name) for each in containers for name in _descend(each, ("resources", "limits"))
    )


def _list(value: object) -> list[Mapping[object, object]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _descend(document: Mapping[object, object], keys: tuple[str, ...]) -> Mapping[object, object]:
    """Return the object at a path; an empty one if there is none."""
    for key in keys:
        inner = document.get(key)
        if not isinstance(inner, Mapping):
            return {}
        document = inner
    return document
