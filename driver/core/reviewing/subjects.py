"""The objects that are reviewed, read alike in all served versions of resource.k8s.io.

In v1 and v1beta2 a request has `exactly` or `firstAvailable`; in v1beta1 what `exactly` holds stands in the request
itself (Kubernetes v1.36 staging/src/k8s.io/api/resource/{v1,v1beta1,v1beta2}/types.go). What is read here is otherwise
the same, and unknown fields are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from driver.core import quoting, surrogates
from driver.core.quoting import NOTHING
from driver.model.errors import InvalidInput
from driver.model.objects import Api, ObjectMeta
from driver.model.requests import Configuration, DeviceClass, DeviceRequest, Selector

GROUP: Final = "resource.k8s.io"
VERSIONS: Final = ("v1", "v1beta2", "v1beta1")
CLAIM: Final = "ResourceClaim"
TEMPLATE: Final = "ResourceClaimTemplate"
CLASS: Final = "DeviceClass"
KINDS: Final = (CLAIM, TEMPLATE, CLASS)


class _Request(DeviceRequest, frozen=True):
    """DeviceRequest of any version."""

    exactly: DeviceRequest | None = None
    first_available: tuple[DeviceRequest, ...] = ()


class _Devices(Api, frozen=True):
    requests: tuple[_Request, ...] = ()
    config: tuple[Configuration, ...] = ()


class _Spec(Api, frozen=True):
    devices: _Devices = _Devices()


class _Claim(Api, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()


class _TemplateSpec(Api, frozen=True):
    spec: _Spec = _Spec()


class _Template(Api, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    spec: _TemplateSpec = _TemplateSpec()


class _Class(DeviceClass, frozen=True):
    metadata: ObjectMeta = ObjectMeta()


_claims: Final = msgspec.json.Decoder(_Claim)
_templates: Final = msgspec.json.Decoder(_Template)
_classes: Final = msgspec.json.Decoder(_Class)
_EXPECTED: Final = re.compile(r"Expected `(\w+)")
_WORDS: Final = {
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
"""The decoder's types in JSON's words."""
_step: Final = re.compile(r"\.(\w+)|\[(\d+)\]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wish:
    """One request, or one alternative of it."""

    path: str
    name: str
    """As an allocation names it: `request` or `request/subrequest`."""
    request: DeviceRequest

    @property
    def main(self) -> str:
        """The request without the subrequest."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Subject:
    """One object under review."""

    kind: str
    metadata: ObjectMeta
    path: str
    """Where requests, configuration and selectors stand."""
    wishes: tuple[Wish, ...] = ()
    config: tuple[Configuration, ...] = ()
    selectors: tuple[Selector, ...] = ()
    """Of a class."""
    as_class: DeviceClass | None = None


def decode(kind: str, text: bytes) -> Subject:
    """Return an object of one of `KINDS`. Raises `InvalidInput` for what Kubernetes would not take for one."""
    text = surrogates.mend(text)
    try:
        if kind == CLASS:
            return _read_class(_classes.decode(text))
        if kind == CLAIM:
            claim = _claims.decode(text)
            return _read_spec(kind, claim.metadata, claim.spec.devices, "spec.devices")
        template = _templates.decode(text)
        return _read_spec(kind, template.metadata, template.spec.spec.devices, "spec.spec.devices")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _name_field(error, text) from error


def _read_class(device_class: DeviceClass) -> Subject:
    spec = device_class.spec
    return Subject(
        CLASS, device_class.metadata, "spec", config=spec.config, selectors=spec.selectors, as_class=device_class
    )


def _read_spec(kind: str, metadata: ObjectMeta, devices: _Devices, path: str) -> Subject:
    wishes = tuple(_list_wishes(devices, f"{path}.requests"))
    return Subject(kind, metadata, path, wishes, devices.config)


def _list_wishes(devices: _Devices, path: str) -> Iterator[Wish]:
    for index, request in enumerate(devices.requests):
        where = f"{path}[{index}]"
        if request.exactly is not None:
            yield Wish(f"{where}.exactly", request.name, request.exactly)
        elif not request.first_available:
            yield Wish(where, request.name, request)
        for place, part in enumerate(request.first_available):
            yield Wish(f"{where}.firstAvailable[{place}]", f"{request.name}/{part.name}", part)


def _name_field(error: Exception, text: bytes) -> InvalidInput:
    """Return the decoder's error with the path and value of the field that it is about."""
    allowed, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`")
    expected = _EXPECTED.match(allowed)
    allowed = _WORDS.get(expected[1], allowed) if expected is not None else allowed
    return InvalidInput(path.lstrip(".") or "object", _find(text, path), allowed or "what Kubernetes takes there")


def _find(text: bytes, path: str) -> object:
    """Return the value at a path such as `.spec.devices.requests[0].name`, as an error shows it."""
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return quoting.shorten(text.decode("utf-8", "backslashreplace"))
    for name, index in _step.findall(path):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and index and int(index) < len(value):
            value = value[int(index)]
        else:
            return NOTHING
    return quoting.show(value)
