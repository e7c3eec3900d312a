"""Kubernetes' named formats: `format.dns1123Label().validate(text)` says what is wrong. Part of the library.

Sources: k8s.io/apiserver pkg/cel/library/format.go; k8s.io/apimachinery pkg/api/validation; kube-openapi strfmt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import ClassVar, Final

from driver.core.cel import urls
from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import NONE, Opaque, Optional, Value

_LABEL: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_OLD_LABEL: Final = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(rf"{_LABEL.pattern}(?:\.{_LABEL.pattern})*")
_NAME: Final = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME: Final = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)
_LABEL_LENGTH: Final = 63
_SUBDOMAIN_LENGTH: Final = 253

Faults = list[str]


@dataclass(frozen=True, slots=True)
class NamedFormat(Opaque):
    """A format: `regex_size` is what its check costs."""

    name: str
    regex_size: int
    check: Callable[[str], Faults]
    kind: ClassVar[str] = "kubernetes.NamedFormat"


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))


def _too_long(text: str, limit: int) -> Faults:
    return [f"more than {limit} bytes"] if _size(text) > limit else []


def _matching(text: str, pattern: re.Pattern[str], what: str) -> Faults:
    return [] if pattern.fullmatch(text) else [f"not {what}"]


def _masked(text: str) -> str:
    """Forgive a dash at the end, where something will be appended."""
    return f"{text[:-2]}a" if len(text) > 1 and text.endswith("-") else text


def _label(text: str) -> Faults:
    return [*_too_long(text, _LABEL_LENGTH), *_matching(text, _LABEL, "an RFC 1123 label")]


def _old_label(text: str) -> Faults:
    return [*_too_long(text, _LABEL_LENGTH), *_matching(text, _OLD_LABEL, "an RFC 1035 label")]


def _subdomain(text: str) -> Faults:
    return [*_too_long(text, _SUBDOMAIN_LENGTH), *_matching(text, _SUBDOMAIN, "an RFC 1123 subdomain")]


def _qualified(text: str) -> Faults:
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return ["more than one slash"]
    faults: Faults = []
    if slash:
        faults += _subdomain(prefix) if prefix else ["an empty prefix"]
    faults += _too_long(name, _LABEL_LENGTH) if name else ["an empty name"]
    return [*faults, *_matching(name, _NAME, "a qualified name")]


def _label_value(text: str) -> Faults:
    return [*_too_long(text, _LABEL_LENGTH), *(_matching(text, _NAME, "a label value") if text else [])]


def _uri(text: str) -> Faults:
    try:
        urls.check_request(text)
    except EvaluationError as error:
        return [str(error)]
    return []


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text)) and (text.startswith("0000-") or date.fromisoformat(text) is not None)
    except ValueError:
        return False


def _datetime(text: str) -> Faults:
    parts = text.lower().split("t")
    found = _TIME.fullmatch(parts[1]) if len(parts) > 1 and _is_date(parts[0]) else None
    valid = found is not None and found[1] <= "23" and found[2] <= "59" and found[3] <= "59"
    return [] if valid else ["invalid datetime"]


_NAMED: Final = (
    NamedFormat("dns1123Label", 30, _label),
    NamedFormat("dns1123Subdomain", 60, _subdomain),
    NamedFormat("dns1035Label", 30, _old_label),
    NamedFormat("qualifiedName", 60, _qualified),
    NamedFormat("dns1123LabelPrefix", 30, lambda text: _label(_masked(text))),
    NamedFormat("dns1123SubdomainPrefix", 60, lambda text: _subdomain(_masked(text))),
    NamedFormat("dns1035LabelPrefix", 30, lambda text: _old_label(_masked(text))),
    NamedFormat("labelValue", 40, _label_value),
    NamedFormat("uri", 1103, _uri),
    NamedFormat("uuid", 70, lambda text: _matching(text, _UUID, "a UUID")),
    NamedFormat("byte", 84, lambda text: _matching(text, _BASE64, "base64")),
    NamedFormat("date", 71, lambda text: [] if _is_date(text) else ["invalid date"]),
    NamedFormat("datetime", 71, _datetime),
)
NAMED: Final[Mapping[str, NamedFormat]] = {each.name: each for each in _NAMED}


def _validate(named: NamedFormat, text: str) -> Optional:
    faults: list[Value] = [*named.check(text)]
    return Optional(True, faults) if faults else NONE


def _constant(named: NamedFormat) -> Callable[[], Value]:
    return lambda: named


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    **{f"format.{name}": _constant(named) for name, named in NAMED.items()},
    "format-validate": _validate,
    "format-named": lambda name: Optional(True, NAMED[name]) if name in NAMED else NONE,
}
"""Functions by the ids of their overloads."""
