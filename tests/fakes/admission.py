"""Decides like a ValidatingAdmissionPolicy, from the policy's own manifest and our CEL.

Follows k8s.io/apiserver/pkg/admission/plugin/policy/validating: match conditions first (all true, else the policy does
not apply), then every validation; variables are evaluated when they are read; any error denies (failurePolicy Fail).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from driver.core import cel
from driver.core.cel.values import Value
from tests.fakes.kustomize import Object, items, mapping

NODE_NAME = "authentication.kubernetes.io/node-name"


@dataclass(frozen=True)
class Request:
    """A write to a resource, as an admission policy sees it."""

    username: str
    operation: str
    resource: str = "resourceslices"
    group: str = "resource.k8s.io"
    obj: Mapping[str, Value] | None = None
    old: Mapping[str, Value] | None = None
    node: str = ""

    @property
    def variables(self) -> dict[str, Value]:
        """The variables of match conditions and validations."""
        user: dict[str, Value] = {"username": self.username}
        if self.node:
            user["extra"] = {NODE_NAME: [self.node]}
        return {
            "request": {"operation": self.operation, "userInfo": user},
            "object": self.obj,
            "oldObject": self.old,
        }


class _Variables(Mapping[str, Value]):
    """`variables` of a policy: computed when read."""

    def __init__(self, expressions: Mapping[str, str], base: Mapping[str, Value]) -> None:
        self._expressions = expressions
        self._base = base

    def __getitem__(self, name: str) -> Value:
        return cel.compile(self._expressions[name]).evaluate({**self._base, "variables": self})

    def __iter__(self) -> Iterator[str]:
        return iter(self._expressions)

    def __len__(self) -> int:
        return len(self._expressions)


def review(policy: Object, request: Request) -> list[str]:
    """Return why the policy denies the request; nothing if it allows it or does not apply."""
    spec = mapping(policy["spec"])
    if not any(_covers(mapping(rule), request) for rule in items(mapping(spec["matchConstraints"])["resourceRules"])):
        return []
    base = request.variables
    for condition in map(mapping, items(spec["matchConditions"])):
        if cel.compile(str(condition["expression"])).evaluate(base) is not True:
            return []
    named = {str(mapping(entry)["name"]): str(mapping(entry)["expression"]) for entry in items(spec["variables"])}
    known: dict[str, Value] = {**base, "variables": _Variables(named, base)}
    return [denial for entry in map(mapping, items(spec["validations"])) if (denial := _validate(entry, known))]


def _covers(rule: Object, request: Request) -> bool:
    return (
        request.operation in items(rule["operations"])
        and request.group in items(rule["apiGroups"])
        and request.resource in items(rule["resources"])
    )


def _validate(entry: Object, known: Mapping[str, Value]) -> str:
    if cel.compile(str(entry["expression"])).evaluate(known) is True:
        return ""
    if "messageExpression" in entry:
        return str(cel.compile(str(entry["messageExpression"])).evaluate(known))
    return str(entry["message"])
