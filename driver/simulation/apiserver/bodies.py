"""Bodies and options of requests: parsed, checked, decoded into objects.

Called by the verbs. Refusals carry the words of the real server: syntax, kind, types, unknown fields, options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import yaml

from driver.simulation.apiserver import protobufs
from driver.simulation.apiserver.checking import required, unsupported
from driver.simulation.apiserver.decoding import DecodeError, Decoder, find_duplicates
from driver.simulation.apiserver.go_json import syntax_error
from driver.simulation.apiserver.requests import Request
from driver.simulation.apiserver.schemas import STRUCTS, Struct
from driver.simulation.apiserver.statuses import ApiError, Cause, bad_request, failure, invalid
from driver.simulation.apiserver.storage import Key
from driver.simulation.apiserver.values import Json, JsonObject, encode, items, obj, text
from driver.simulation.apiserver.views import View

MAX_BODY: Final = 3 * 1024 * 1024
"""Bytes a request may have."""
_JSON: Final = frozenset({"", "application/json", "*/*"})
_YAML: Final = "application/yaml"
_PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
_ACCEPTED: Final = (
    "the body of the request was in an unknown format - accepted media types include: application/json, "
    "application/yaml, application/vnd.kubernetes.protobuf"
)
_META_FORM: Final = (
    'json: cannot unmarshal {} into Go value of type struct {{ APIVersion string "json:\\"apiVersion,omitempty\\""; '
    'Kind string "json:\\"kind,omitempty\\"" }} ({})'
)
_POLICIES: Final = ("Foreground", "Background", "Orphan", "nil")
_VALIDATIONS: Final = ("", "Ignore", "Strict", "Warn")


def media_of(request: Request) -> str:
    """The media type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip()


def check_size(request: Request) -> None:
    """413 for bodies over the limit."""
    if len(request.body) > MAX_BODY:
        raise failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}")


def json_body(request: Request, kind: str) -> bytes:
    """The body as JSON bytes; YAML is converted, other types are a 415."""
    check_size(request)
    media = media_of(request)
    if media == _YAML:
        return _from_yaml(request.body)
    if media == _PROTOBUF:
        return _from_protobuf(request.body)
    if media not in _JSON:
        raise failure(415, "UnsupportedMediaType", _ACCEPTED)
    wrong = syntax_error(request.body)
    if wrong:
        shown = request.body.decode(errors="replace")
        raise _unrecognized(kind, f"{wrong} ({shown})")
    return request.body


def _from_yaml(body: bytes) -> bytes:
    try:
        return encode(yaml.safe_load(body))
    except (yaml.YAMLError, TypeError) as error:
        raise bad_request(f"error converting YAML to JSON: {error}") from None


def _from_protobuf(body: bytes) -> bytes:
    try:
        return encode(protobufs.decode(body))
    except protobufs.NotProtobuf as error:
        raise failure(415, "UnsupportedMediaType", f"{_ACCEPTED} (here: {error})") from None


def _unrecognized(kind: str, why: str) -> ApiError:
    return bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
        f"json parse error: {why}"
    )


def decode_object(request: Request, view: View, warnings: list[str]) -> JsonObject:
    """The object of a POST or PUT in its stored form; warnings are added where fields are only warned about."""
    kind = view.resource.kind
    body = json_body(request, kind)
    value: Json = msgspec.json.decode(body)
    if not isinstance(value, dict):
        what = "array" if isinstance(value, list) else type(value).__name__
        raise _unrecognized(kind, _META_FORM.format(what, body.hex()))
    _check_type(view, value)
    return decode_bytes(view, body, request.query.get("fieldValidation", ""), warnings)


def _check_type(view: View, value: JsonObject) -> None:
    kind, version = view.resource.kind, text(value.get("apiVersion"))
    given = text(value.get("kind"))
    if version and version != view.group_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({view.group_version})"
        )
    if given and given != kind:
        group = view.resource.group.partition(".")[0] or "core"
        raise bad_request(
            f'{given} in version "{view.version}" cannot be handled as a {kind}: converting '
            f"({view.version}.{given}) to ({group}.{kind}): unknown conversion"
        )


def decode_bytes(view: View, body: bytes, validation: str, warnings: list[str]) -> JsonObject:
    """JSON bytes as an object in its stored form; what strict decoding minds is refused, warned about or ignored."""
    prefix = f'{view.resource.kind} in version "{view.version}" cannot be handled as a {view.resource.kind}: '
    try:
        value, unknown = _decode(view, body, notice=validation != "Ignore")
    except DecodeError as error:
        raise bad_request(prefix + str(error)) from None
    if unknown and validation == "Strict":
        raise bad_request(f"{prefix}strict decoding error: {', '.join(unknown)}")
    if validation != "Ignore":
        warnings.extend(unknown)
    return value


def decode_patched(view: View, body: bytes) -> tuple[JsonObject, list[str]]:
    """A patched object in its stored form, and its unknown fields. DecodeError if types do not fit."""
    return _decode(view, body, notice=False)


def _decode(view: View, body: bytes, *, notice: bool) -> tuple[JsonObject, list[str]]:
    decoder = Decoder()
    if view.version == "v1beta1":
        body = encode(view.upgrade(obj(msgspec.json.decode(body))))
    value = decoder.decode(view.struct, body)
    if not isinstance(value.get("metadata"), dict):
        value["metadata"] = {}
    duplicates = find_duplicates(body) if notice else []
    return view.stored(value), [*duplicates, *decoder.unknown]


def decode_plain(struct: str, tree: Json) -> JsonObject:
    """A small body (options, bindings, reviews) as an object; wrong types are a 400."""
    kind: Struct = STRUCTS[struct]
    try:
        return Decoder().decode_tree(kind, obj(tree))
    except DecodeError as error:
        raise bad_request(f'{struct} in version "v1" cannot be handled as a {struct}: {error}') from None


def _options_error(kind: str, faults: list[Cause]) -> ApiError:
    return invalid("meta.k8s.io", kind, "", faults)


def check_write_options(query: Mapping[str, str], kind: str) -> None:
    """Checks dryRun and fieldValidation of CreateOptions, UpdateOptions and PatchOptions (`kind`)."""
    faults = []
    if query.get("dryRun", "All") not in {"All", ""}:
        faults.append(unsupported("dryRun", [query["dryRun"]], ("All",)))
    if query.get("fieldValidation", "") not in _VALIDATIONS:
        faults.append(unsupported("fieldValidation", query["fieldValidation"], _VALIDATIONS))
    if faults:
        raise _options_error(kind, faults)


def check_apply_options(query: Mapping[str, str]) -> None:
    """Server-side apply must name its manager."""
    if not query.get("fieldManager"):
        raise _options_error("PatchOptions", [required("fieldManager", "is required for apply patch")])


def delete_options(request: Request) -> JsonObject:
    """DeleteOptions: from the body if there is one (the query is ignored then), else from the query."""
    check_size(request)
    if request.body.strip():
        tree: Json = msgspec.json.decode(json_body(request, "DeleteOptions"))
        options = decode_plain("DeleteOptions", tree)
    else:
        options = _options_from_query(request.query)
    policy = options.get("propagationPolicy")
    faults = []
    if policy is not None and policy not in _POLICIES[:3]:
        faults.append(unsupported("propagationPolicy", policy, _POLICIES))
    if any(one != "All" for one in items(options.get("dryRun"))):
        faults.append(unsupported("dryRun", options.get("dryRun"), ("All",)))
    if faults:
        raise _options_error("DeleteOptions", faults)
    return options


def _options_from_query(query: Mapping[str, str]) -> JsonObject:
    options: JsonObject = {}
    if query.get("propagationPolicy"):
        options["propagationPolicy"] = query["propagationPolicy"]
    if query.get("dryRun"):
        options["dryRun"] = [query["dryRun"]]
    if query.get("gracePeriodSeconds"):
        options["gracePeriodSeconds"] = parse_int(query["gracePeriodSeconds"])
    return options


def parse_int(given: str) -> int:
    """A number of the query; a 400 in Go's words."""
    try:
        return int(given)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{given}": invalid syntax') from None


def check_names(value: JsonObject, key: Key) -> None:
    """The name in the body must be that of the path."""
    name = text(obj(value.get("metadata")).get("name"))
    if not name:
        raise bad_request("name must be provided")
    if name != key[1]:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({key[1]})")
