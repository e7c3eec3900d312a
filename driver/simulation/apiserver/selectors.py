"""Label and field selectors: `a=b,c!=d,e in (x,y),!f` and `spec.nodeName=n`.

Called by lists, watches and deletecollection. Pure; a selector that cannot be parsed is a 400 in upstream's words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from driver.simulation.apiserver.statuses import bad_request

Labels = Mapping[str, object]
_TOKEN = re.compile(r"\s*(==|!=|=|!|,|\(|\)|<|>|[^\s=!,()<>]+)")


@dataclass(frozen=True)
class Requirement:
    """One term of a label selector; operators as in labels.Requirement."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        """Whether a label set fulfils the term."""
        if self.operator == "exists":
            return self.key in labels
        if self.operator == "!":
            return self.key not in labels
        value = labels.get(self.key)
        if self.operator == "in":
            return value in self.values
        return value not in self.values


def parse_labels(selector: str) -> tuple[Requirement, ...]:
    """Parses a label selector; the empty one selects everything."""
    tokens = _TOKEN.findall(selector)
    if not tokens:
        return ()
    found: list[Requirement] = []
    position = 0
    while True:
        requirement, position = _parse_requirement(tokens, position)
        found.append(requirement)
        if position >= len(tokens):
            return tuple(found)
        if tokens[position] != ",":
            raise bad_request(
                f"unable to parse requirement: found '{tokens[position]}', expected: ',' or 'end of string'"
            )
        position += 1


def _at(tokens: Sequence[str], position: int) -> str:
    return tokens[position] if position < len(tokens) else ""


def _parse_requirement(tokens: Sequence[str], position: int) -> tuple[Requirement, int]:
    word = _at(tokens, position)
    if word == "!":
        key = _identifier(tokens, position + 1)
        return Requirement(key, "!"), position + 2
    key = _identifier(tokens, position)
    operator = _at(tokens, position + 1)
    if operator in {"", ","}:
        return Requirement(key, "exists"), position + 1
    if operator in {"=", "==", "!="}:
        value = _at(tokens, position + 2)
        used = 3
        if value in {"", ","}:
            value, used = "", 2
        return Requirement(key, "notin" if operator == "!=" else "in", frozenset({value})), position + used
    if operator in {"in", "notin"}:
        values, position = _parse_values(tokens, position + 2)
        return Requirement(key, operator, values), position
    raise bad_request(f"unable to parse requirement: found '{operator}', expected: in, notin, =, ==, !=, gt, lt")


def _identifier(tokens: Sequence[str], position: int) -> str:
    token = _at(tokens, position)
    if not token or token in {"=", "==", "!=", ",", "(", ")", "!"}:
        raise bad_request(f"unable to parse requirement: found '{token}', expected: !, identifier, or 'end of string'")
    return token


def _parse_values(tokens: Sequence[str], position: int) -> tuple[frozenset[str], int]:
    if _at(tokens, position) != "(":
        raise bad_request(f"unable to parse requirement: found '{_at(tokens, position)}', expected: '('")
    values: set[str] = set()
    position += 1
    while True:
        word = _at(tokens, position)
        if word in {"", "="}:
            raise bad_request("unable to parse requirement: found '', expected: ',' or ')'")
        position += 1
        if word == ")":
            return frozenset(values), position
        if word != ",":
            values.add(word)


@dataclass(frozen=True)
class FieldTerm:
    """One term of a field selector."""

    field: str
    equal: bool
    value: str


def parse_fields(selector: str) -> tuple[FieldTerm, ...]:
    """Parses a field selector; which fields exist is the caller's business."""
    return tuple(_parse_field(part) for part in selector.split(",") if part)


def _parse_field(part: str) -> FieldTerm:
    for operator, equal in (("!=", False), ("==", True), ("=", True)):
        name, found, value = part.partition(operator)
        if found:
            return FieldTerm(name, equal, value)
    raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
