"""The fields of an AllocationPolicy. Called by `documents`."""

from __future__ import annotations

import re
from typing import Final, TypeVar

from driver.core.configuring.fields import Reader
from driver.model.policies import GroupPolicy, Policy, Preference, Spreading, When
from driver.model.vocabulary import FABRIC_DOMAIN

_T = TypeVar("_T")

FIELDS: Final = ("when", "interconnect", "numa", "placement", "group")
_GROUP_FIELDS: Final = ("size", "within")
_INT32: Final = range(1, 2**31)

_SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_ATTRIBUTE: Final = re.compile(rf"(?P<domain>{_SUBDOMAIN})/[A-Za-z_][A-Za-z0-9_]{{0,31}}")
_LABEL_KEY: Final = re.compile(rf"((?P<domain>{_SUBDOMAIN})/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_MAX_ATTRIBUTE_DOMAIN: Final = 63
_MAX_LABEL_DOMAIN: Final = 253


def read(reader: Reader) -> Policy:
    """Return the policy; what it leaves out has its default, and so has what is wrong."""
    defaults = Policy()
    return Policy(
        when=_or(reader.choose("when", When), defaults.when),
        interconnect=_or(reader.choose("interconnect", Preference), defaults.interconnect),
        numa=_or(reader.choose("numa", Preference), defaults.numa),
        placement=_or(reader.choose("placement", Spreading), defaults.placement),
        group=_read_group(reader.open("group", _GROUP_FIELDS)),
    )


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _read_group(reader: Reader | None) -> GroupPolicy | None:
    if reader is None:
        return None
    allowed = "a whole number, at least 1: how many claims it has"
    size = reader.count("size", _INT32, allowed)
    if not reader.has("size"):
        reader.refuse("size", allowed)
    within = reader.fields.get("within")
    if within is not None and not (isinstance(within, str) and (within == "" or _is_place(within))):
        allowed = f"the qualified name of a device attribute, such as {FABRIC_DOMAIN}, or the key of a node label"
        reader.refuse("within", allowed)
    return GroupPolicy(size or 1, within if isinstance(within, str) else "")


def _is_place(text: str) -> bool:
    """Say whether it can be the name of an attribute or the key of a label."""
    for pattern, longest in ((_ATTRIBUTE, _MAX_ATTRIBUTE_DOMAIN), (_LABEL_KEY, _MAX_LABEL_DOMAIN)):
        found = pattern.fullmatch(text)
        if found is not None and len(found["domain"] or "") <= longest:
            return True
    return False
