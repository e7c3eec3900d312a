"""Faults and the name rules they report: what Kubernetes' field validation says, word for word.

Called by the strategies. A fault is a `Cause`; paths are built by the callers (`spec.devices[0].name`).
Rules and texts: apimachinery's util/validation and validation/field (v1.36).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Final

from driver.simulation.apiserver.statuses import Cause
from driver.simulation.apiserver.values import Json, items, obj, text

Faults = list[Cause]
Check = Callable[[Json, str], Faults]

_LABEL_FORM: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FORM: Final = rf"{_LABEL_FORM}(\.{_LABEL_FORM})*"
_QUALIFIED_FORM: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE_FORM: Final = f"({_QUALIFIED_FORM})?"
_IDENTIFIER_FORM: Final = "[A-Za-z_][A-Za-z0-9_]*"
_LABEL: Final = re.compile(_LABEL_FORM, re.ASCII)
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_FORM, re.ASCII)
_QUALIFIED: Final = re.compile(_QUALIFIED_FORM, re.ASCII)
_LABEL_VALUE: Final = re.compile(_LABEL_VALUE_FORM, re.ASCII)
_IDENTIFIER: Final = re.compile(_IDENTIFIER_FORM, re.ASCII)
_LABEL_TEXT: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_FORM}')"
)
_SUBDOMAIN_TEXT: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN_FORM}')"
)
_QUALIFIED_TEXT: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED_FORM}')"
)
_LABEL_VALUE_TEXT: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_LABEL_VALUE_FORM}')"
)
_IDENTIFIER_TEXT: Final = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    f"or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '{_IDENTIFIER_FORM}')"
)
MAX_LABEL: Final = 63
MAX_SUBDOMAIN: Final = 253


class Literal(str):
    """A value that is already written as the message shows it (a dump of an object)."""

    __slots__ = ()


def shown(value: Json) -> str:
    """A value inside a message: strings quoted, null for nothing."""
    if isinstance(value, Literal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def required(path: str, why: str = "") -> Cause:
    """The field is missing."""
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", path)


def invalid(path: str, value: Json, why: str) -> Cause:
    """The value breaks a rule."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {why}", path)


def forbidden(path: str, why: str) -> Cause:
    """The field may not be set here."""
    return Cause("FieldValueForbidden", f"Forbidden: {why}", path)


def duplicate(path: str, value: Json) -> Cause:
    """The value was there before."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", path)


def unsupported(path: str, value: Json, allowed: Iterable[str]) -> Cause:
    """The value is none of those allowed (listed in the order given)."""
    listed = ", ".join(f'"{one}"' for one in allowed)
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {listed}", path)


def too_many(path: str, count: int, limit: int) -> Cause:
    """The list or map is too long."""
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {limit} items", path)


def too_long(path: str, limit: int) -> Cause:
    """The text or document is too long."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", path)


def not_found(path: str, value: Json, why: str = "") -> Cause:
    """The value names something that does not exist."""
    return Cause("FieldValueNotFound", f"Not found: {shown(value)}" + (f": {why}" if why else ""), path)


def label_rules(name: str) -> list[str]:
    """What is wrong with a DNS label (63 characters)."""
    found = [f"must be no more than {MAX_LABEL} characters"] if len(name) > MAX_LABEL else []
    if not _LABEL.fullmatch(name):
        if "." in name:
            found.append("must not contain dots")
        else:
            found.append(_LABEL_TEXT)
    return found


def subdomain_rules(name: str) -> list[str]:
    """What is wrong with a DNS subdomain (253 characters)."""
    found = [f"must be no more than {MAX_SUBDOMAIN} characters"] if len(name) > MAX_SUBDOMAIN else []
    return found if _SUBDOMAIN.fullmatch(name) else [*found, _SUBDOMAIN_TEXT]


def plain_label_rules(name: str) -> list[str]:
    """The same as `label_rules` without the extra word about dots."""
    found = [f"must be no more than {MAX_LABEL} characters"] if len(name) > MAX_LABEL else []
    return found if _LABEL.fullmatch(name) else [*found, _LABEL_TEXT]


def identifier_rules(name: str) -> list[str]:
    """What is wrong with a C identifier."""
    return [] if _IDENTIFIER.fullmatch(name) else [_IDENTIFIER_TEXT]


def qualified_name_rules(name: str) -> list[str]:
    """What is wrong with a qualified name (label key)."""
    prefix, slash, rest = name.rpartition("/")
    if "/" in prefix:
        suffix = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a qualified name {_QUALIFIED_TEXT}{suffix}"]
    found = []
    if slash and not prefix:
        found.append("prefix part must be non-empty")
    elif slash:
        found += [f"prefix part {rule}" for rule in subdomain_rules(prefix)]
    if not rest:
        found.append("name part must be non-empty")
    elif len(rest) > MAX_LABEL:
        found.append(f"name part must be no more than {MAX_LABEL} characters")
    if not _QUALIFIED.fullmatch(rest):
        found.append(f"name part {_QUALIFIED_TEXT}")
    return found


def label_value_rules(value: str) -> list[str]:
    """What is wrong with a label's value."""
    found = [f"must be no more than {MAX_LABEL} characters"] if len(value) > MAX_LABEL else []
    return found if _LABEL_VALUE.fullmatch(value) else [*found, _LABEL_VALUE_TEXT]


def check_rules(path: str, value: Json, rules: Callable[[str], list[str]]) -> Faults:
    """Each broken rule as a fault of its own."""
    return [invalid(path, value, why) for why in rules(text(value))]


def check_list(path: str, value: Json, check: Check, limit: int = -1) -> Faults:
    """Checks each entry; a list over the limit is not looked into."""
    entries = items(value)
    if 0 <= limit < len(entries):
        return [too_many(path, len(entries), limit)]
    return [fault for index, entry in enumerate(entries) for fault in check(entry, f"{path}[{index}]")]


def check_set(path: str, value: Json, check: Check, key: Callable[[Json], str], limit: int = -1) -> Faults:
    """The same, and no two entries with the same key."""
    faults = check_list(path, value, check, limit)
    if 0 <= limit < len(items(value)):
        return faults
    seen: set[str] = set()
    for index, entry in enumerate(items(value)):
        name = key(entry)
        if name in seen:
            faults.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
    return faults


def check_map(path: str, value: Json, limit: int, check_key: Check, check_value: Check) -> Faults:
    """Checks keys (reported at the map) and values (reported at `map[key]`), in key order."""
    entries = obj(value)
    if 0 <= limit < len(entries):
        return [too_many(path, len(entries), limit)]
    faults: Faults = []
    for key in sorted(entries):
        faults += check_key(key, path)
        faults += check_value(entries[key], f"{path}[{key}]")
    return faults


def name_key(entry: Json) -> str:
    """The `name` of an entry."""
    return text(obj(entry).get("name"))


def same_key(entry: Json) -> str:
    """A plain entry as its own key."""
    return text(entry)


def nothing(_value: Json, _path: str) -> Faults:
    """A check that always passes."""
    return []
