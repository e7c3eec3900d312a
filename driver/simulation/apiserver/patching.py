"""The four kinds of PATCH as functions from the stored object to the new one.

Called by the patch verb. Merge and JSON patch keep opaque bytes they do not touch (compacted), strategic merge patch
and apply encode them again: that is what makes some status writes fail on immutable fields upstream, and here.
"""

from __future__ import annotations

from typing import Final

import msgspec
import yaml

from driver.simulation.apiserver.bodies import check_apply_options, decode_patched, media_of
from driver.simulation.apiserver.checking import invalid as invalid_value
from driver.simulation.apiserver.decoding import DecodeError, Decoder
from driver.simulation.apiserver.go_json import syntax_error
from driver.simulation.apiserver.managing import Applier, Manager
from driver.simulation.apiserver.patches import apply_json_patch, merge
from driver.simulation.apiserver.requests import Request, is_true
from driver.simulation.apiserver.statuses import ApiError, bad_request, failure, internal, invalid
from driver.simulation.apiserver.storage import Key
from driver.simulation.apiserver.strategic import merge_strategic
from driver.simulation.apiserver.tidying import reencoded, shown
from driver.simulation.apiserver.values import Json, JsonObject, copy_object, encode, items, metadata, obj, text
from driver.simulation.apiserver.views import View

MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
APPLY_CBOR: Final = "application/apply-patch+cbor"


def patch_media(request: Request) -> str:
    """The kind of patch; a 415 for anything else."""
    media = media_of(request)
    if media not in {MERGE, JSON, STRATEGIC, APPLY}:
        raise failure(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    return media


class Patch:
    """A merge, JSON or strategic patch of one request."""

    def __init__(self, view: View, request: Request, media: str, warnings: list[str]) -> None:
        self._view = view
        self._media = media
        self._validation = request.query.get("fieldValidation", "")
        self._warnings = warnings
        wrong = syntax_error(request.body)
        if wrong:
            raise bad_request(f"error decoding patch: {wrong}")
        self._document: Json = msgspec.json.decode(request.body)
        if media == JSON and not isinstance(self._document, list):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
            )
        if media != JSON and not isinstance(self._document, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type map")

    def change(self, old: JsonObject) -> JsonObject:
        """The patched object in its stored form."""
        served = self._view.served(old)
        if self._media == STRATEGIC:
            tree: Json = merge_strategic(self._view.struct, obj(reencoded(served)), obj(self._document))
        elif self._media == MERGE:
            tree = merge(shown(served), self._document)
        else:
            tree = apply_json_patch(copy_object(obj(shown(served))), items(self._document))
        return self._decode(tree)

    def _decode(self, tree: Json) -> JsonObject:
        body = encode(tree)
        try:
            value, unknown = decode_patched(self._view, body)
        except DecodeError as error:
            raise self._refusal(body, str(error)) from None
        if unknown and self._validation == "Strict":
            raise self._refusal(body, f"strict decoding error: {', '.join(unknown)}")
        if self._validation != "Ignore":
            self._warnings += unknown
        return value

    def _refusal(self, body: bytes, why: str) -> ApiError:
        document = go_map(self._document) if self._media == STRATEGIC else body.decode()
        return invalid("", "", "", [invalid_value("patch", document, why)])


def go_map(value: Json) -> str:
    """A tree as Go's %v prints it: map[a:1 b:[x y]]."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_map(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_map(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


class Apply:
    """A server-side apply of one request."""

    def __init__(self, view: View, request: Request, key: Key, subresource: str, now: str) -> None:
        check_apply_options(request.query)
        self._view = view
        self._key = key
        self._force = is_true(request.query, "force")
        self._config = self._read(request)
        manager = Manager(request.query["fieldManager"], "Apply", view.group_version, subresource)
        reset = frozenset({"spec"} if subresource == "status" else {"status"} if view.resource.status else set())
        self._applier = Applier(view.struct, manager, now, reset)

    def _read(self, request: Request) -> JsonObject:
        try:
            tree: Json = yaml.safe_load(request.body)
        except yaml.YAMLError as error:
            raise bad_request(f"error decoding YAML: {error}") from None
        config = obj(tree)
        kind, version = text(config.get("kind")), text(config.get("apiVersion"))
        if kind != self._view.resource.kind or version != self._view.group_version:
            raise bad_request(
                f"the API version in the data ({version}, Kind={kind}) does not match the expected "
                f"({self._view.group_version}, Kind={self._view.resource.kind})"
            )
        meta = metadata(config)
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if text(meta.get("name")) not in {"", self._key[1]}:
            raise bad_request(
                f"the name of the object ({text(meta.get('name'))}) does not match the name on the URL ({self._key[1]})"
            )
        return self._typed(config)

    def _typed(self, config: JsonObject) -> JsonObject:
        """The configuration with its types checked: apply knows no unknown fields."""
        decoder = Decoder()
        gvk = f"{self._view.group_version}, Kind={self._view.resource.kind}"
        name = f"{self._key[0]}/{self._key[1]}"
        try:
            value = decoder.decode(self._view.struct, encode(config))
        except DecodeError as error:
            raise internal(f"failed to create typed patch object ({name}; {gvk}): {error}") from None
        if decoder.unknown:
            paths = [one.removeprefix('unknown field "').rstrip('"') for one in decoder.unknown]
            listed = ", ".join(f".{path}: field not declared in schema" for path in paths)
            raise internal(f"failed to create typed patch object ({name}; {gvk}): {listed}")
        meta = dict(metadata(value))
        meta["name"] = self._key[1]
        if self._key[0]:
            meta["namespace"] = self._key[0]
        value["metadata"] = meta
        return obj(reencoded(value))

    def change(self, old: JsonObject) -> JsonObject:
        """The new object in its stored form, with its managedFields."""
        live = obj(reencoded(self._view.served(old)))
        new = self._applier.apply(live, self._config, force=self._force)
        value, _unknown = decode_patched(self._view, encode(new))
        return value
