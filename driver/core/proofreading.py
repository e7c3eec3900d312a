"""What the API server would refuse in a claim, template or class that a person wrote: found before it is created.

Called by `drafting`. kubectl refuses fields that do not exist, and the API server values that it does not take; an
answer for what is left of such a document would be an answer to another question. Rules: Kubernetes v1.36
pkg/apis/resource/validation/validation.go, those about requests and constraints. The allocator compiles the selectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from msgspec import inspect

from driver.core import quoting, suggesting
from driver.model.errors import InvalidInput
from driver.model.requests import ALL, EXACT_COUNT, ClaimSpec, Constraint, DeviceRequest, Request
from driver.model.workloads import ClaimReference, Workload

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def refuse_unknown_fields(value: object, kind: type[msgspec.Struct], path: str) -> None:
    """Raise `InvalidInput` for the first field of a part of a document that Kubernetes does not have there."""
    for fault in find_unknown_fields(value, kind, path):
        raise fault


def find_unknown_fields(value: object, kind: type[msgspec.Struct], path: str) -> Iterator[InvalidInput]:
    """Yield a fault for each field of a part of a document that Kubernetes does not have there."""
    return _find(value, inspect.type_info(kind), path)


def _find(value: object, kind: inspect.Type, path: str) -> Iterator[InvalidInput]:
    match kind:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _find(value, each, path)
        case inspect.VarTupleType(item_type=item) if isinstance(value, list):
            for position, each in enumerate(value):
                yield from _find(each, item, f"{path}[{position}]")
        case inspect.StructType(fields=fields) if isinstance(value, Mapping):
            known = {field.encode_name: field.type for field in fields}
            for name, inner in value.items():
                if name in known:
                    yield from _find(inner, known[name], f"{path}.{name}")
                else:
                    yield _unknown(f"{path}.{name}", str(name), inner, known)


def _unknown(path: str, name: str, value: object, known: Mapping[str, inspect.Type]) -> InvalidInput:
    nearest = suggesting.find_nearest(name, known)
    hint = f" ({nearest} was probably meant)" if nearest else ""
    return InvalidInput(path, quoting.shorten(str(value)), f"only the fields {', '.join(sorted(known))}{hint}")


def check(spec: ClaimSpec, path: str) -> ClaimSpec:
    """Return what a claim asks for with Kubernetes' defaults. Raises `InvalidInput` for what it does not take."""
    for fault in find_faults(spec, path):
        raise fault
    requests = tuple(_complete(each) for each in spec.devices.requests)
    return msgspec.structs.replace(spec, devices=msgspec.structs.replace(spec.devices, requests=requests))


def find_faults(spec: ClaimSpec, path: str) -> Iterator[InvalidInput]:
    """Yield a fault for everything in a claim's spec that Kubernetes does not take."""
    at = f"{path}.devices"
    names: set[str] = set()
    for position, request in enumerate(spec.devices.requests):
        where = f"{at}.requests[{position}]"
        if not _LABEL.fullmatch(request.name) or request.name in names:
            yield InvalidInput(f"{where}.name", request.name, "a lower-case label that no other request has")
        names.update((request.name, *(f"{request.name}/{each.name}" for each in request.first_available)))
        yield from _check_request(request, where)
    for position, constraint in enumerate(spec.devices.constraints):
        yield from _check_constraint(constraint, names, f"{at}.constraints[{position}]")
    for position, entry in enumerate(spec.devices.config):
        yield from _check_names(entry.requests, names, f"{at}.config[{position}].requests")


def check_references(written: object, pod: Workload, document: str) -> None:
    """Raise `InvalidInput` if an entry of a pod's resourceClaims, as it is written, does not name one claim."""
    entries = written if isinstance(written, list) else []
    for position, (value, entry) in enumerate(zip(entries, pod.spec.resource_claims, strict=True)):
        path = f"{document}: spec.resourceClaims[{position}]"
        refuse_unknown_fields(value, ClaimReference, path)
        if bool(entry.resource_claim_name) == bool(entry.resource_claim_template_name):
            given = "both" if entry.resource_claim_name else "neither"
            raise InvalidInput(path, given, "one of resourceClaimName and resourceClaimTemplateName")


def _check_request(request: Request, path: str) -> Iterator[InvalidInput]:
    if (request.exactly is None) == (not request.first_available):
        given = "both" if request.first_available else "neither"
        yield InvalidInput(path, given, "one of exactly and firstAvailable")
    for where, each in _parts(request, path):
        if not each.device_class_name:
            yield InvalidInput(f"{where}.deviceClassName", "", "the name of a DeviceClass")
        if each.allocation_mode not in ("", EXACT_COUNT, ALL):
            yield InvalidInput(f"{where}.allocationMode", each.allocation_mode, f"{EXACT_COUNT} or {ALL}")
        if each.count < 0:
            yield InvalidInput(f"{where}.count", each.count, "1 or more")


def _parts(request: Request, path: str) -> Iterator[tuple[str, DeviceRequest]]:
    if request.exactly is not None:
        yield f"{path}.exactly", request.exactly
    for position, each in enumerate(request.first_available):
        yield f"{path}.firstAvailable[{position}]", each


def _complete(request: Request) -> Request:
    """Return a request with defaults for the empty and the 0 that Go cannot tell from a field that is left out."""
    exactly = _complete_part(request.exactly) if request.exactly is not None else None
    alternatives = tuple(_complete_part(each) for each in request.first_available)
    return msgspec.structs.replace(request, exactly=exactly, first_available=alternatives)


def _complete_part(part: DeviceRequest) -> DeviceRequest:
    return msgspec.structs.replace(part, allocation_mode=part.allocation_mode or EXACT_COUNT, count=part.count or 1)


def _check_constraint(constraint: Constraint, names: set[str], path: str) -> Iterator[InvalidInput]:
    if bool(constraint.match_attribute) == bool(constraint.distinct_attribute):
        given = "both" if constraint.match_attribute else "neither"
        yield InvalidInput(path, given, "one of matchAttribute and distinctAttribute")
    yield from _check_names(constraint.requests, names, f"{path}.requests")


def _check_names(given: tuple[str, ...], names: set[str], path: str) -> Iterator[InvalidInput]:
    for position, name in enumerate(given):
        if name not in names:
            yield InvalidInput(f"{path}[{position}]", name, f"a request of this claim: {', '.join(sorted(names))}")
