"""Configuration in an object that is reviewed: ours is read as on the node, what looks like ours is named."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Final

from driver.core.configuring import documents, fields, sharings, texts
from driver.core.configuring.sharings import DeviceConfig
from driver.core.reviewing.findings import Finding, of_error, warn
from driver.core.reviewing.subjects import CLASS, Subject
from driver.model.claims import OpaqueConfiguration
from driver.model.errors import InvalidInput
from driver.model.requests import EXACT_COUNT, Configuration
from driver.model.sharing import Strategy
from driver.model.vocabulary import CONFIG_API_VERSION

_ALIKE: Final = 0.75
"""Share of letters in common from which the name of a driver may be ours, misspelled."""
_LONGEST: Final = 128


def review(subject: Subject, driver: str) -> Iterator[Finding]:
    """Yield what is wrong with the configuration of an object; that of other drivers is not read."""
    for index, entry in enumerate(subject.config):
        path = f"{subject.path}.config[{index}].opaque"
        if entry.opaque is None:
            continue
        if entry.opaque.driver == driver:
            yield from _read(subject, entry, bytes(entry.opaque.parameters), f"{path}.parameters")
        elif _is_meant_for_us(entry.opaque, driver):
            text = f"{entry.opaque.driver!r} is no name of ours, and so {driver} does not read this configuration"
            yield warn(f"{path}.driver", f"{text} ({driver} was probably meant)")


def find_type(opaque: OpaqueConfiguration) -> str | None:
    """Return the type of devices that a configuration of ours is for; None if it is for no type or wrong."""
    try:
        return documents.TYPE_OF_KIND.get(documents.identify(bytes(opaque.parameters)))
    except InvalidInput:
        return None


def find_strategy(opaque: OpaqueConfiguration) -> Strategy | None:
    """Return how a configuration of ours has devices shared; None if it says nothing about that or is wrong."""
    try:
        content = documents.read(bytes(opaque.parameters))
    except InvalidInput:
        return None
    return content.sharing.strategy if isinstance(content, DeviceConfig) else None


def _read(subject: Subject, entry: Configuration, parameters: bytes, path: str) -> Iterator[Finding]:
    try:
        content = documents.read(parameters)
    except InvalidInput as error:
        yield from of_error(fields.put(error, path))
        return
    if isinstance(content, DeviceConfig) and subject.kind != CLASS:
        for fault in _find_lost_overrides(subject, entry, content):
            yield from of_error(fields.put(fault, path))


def _find_lost_overrides(subject: Subject, entry: Configuration, config: DeviceConfig) -> Iterator[InvalidInput]:
    """Yield overrides for a place that no request has. A class is for claims of any size."""
    wishes = [each for each in subject.wishes if not entry.requests or {each.name, each.main} & set(entry.requests)]
    if not wishes or any(each.request.allocation_mode not in ("", EXACT_COUNT) for each in wishes):
        return
    count = max(each.request.count for each in wishes) or 1
    yield from sharings.find_lost(config, range(count))


def _is_meant_for_us(opaque: OpaqueConfiguration, driver: str) -> bool:
    """Say whether configuration of a kind of ours is addressed to a name that is nearly ours."""
    name = opaque.driver
    if len(name) > _LONGEST or SequenceMatcher(None, name.lower(), driver.lower()).ratio() < _ALIKE:
        return False
    try:
        content = texts.decode(bytes(opaque.parameters))
    except InvalidInput:
        return False
    version = content.get("apiVersion")
    return isinstance(version, str) and version.partition("/")[0] == CONFIG_API_VERSION.partition("/")[0]
