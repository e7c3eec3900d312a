"""How an answer is shown: JSON, YAML, a Table, metadata only; what the Accept header asks for.

Called by the verbs. A `Representation` belongs to one request; it renders single objects, lists and watch events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import yaml

from driver.simulation.apiserver.listing import Page
from driver.simulation.apiserver.requests import Response
from driver.simulation.apiserver.statuses import ApiError, failure
from driver.simulation.apiserver.storage import Item
from driver.simulation.apiserver.tables import cells, columns_of
from driver.simulation.apiserver.values import Json, JsonObject, encode, metadata
from driver.simulation.apiserver.views import View

_META_GROUP: Final = "meta.k8s.io"
_TYPES: Final = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_KNOWN: Final = frozenset({"application/json", "application/yaml", "application/*", "*/*"})
_FORMS: Final = frozenset({"Table", "PartialObjectMetadata", "PartialObjectMetadataList"})


@dataclass(frozen=True)
class Accepted:
    """What the client wants: a media type and, for meta types, which form."""

    media: str = "application/json"
    form: str = ""
    version: str = ""


def negotiate(accept: str) -> Accepted:
    """The first of the client's wishes that can be fulfilled; a 406 if none can."""
    if accept in {"", "application/json", "*/*"}:
        return Accepted()
    known = False
    for clause in accept.split(","):
        media, *parameters = (part.strip() for part in clause.split(";"))
        if media not in _KNOWN:
            continue
        known = True
        options = dict(parameter.partition("=")[::2] for parameter in parameters)
        media = "application/json" if media.endswith("*") else media
        form = options.get("as", "")
        if not form:
            return Accepted(media)
        if form in _FORMS and options.get("g") == _META_GROUP and options.get("v") in {"v1", "v1beta1"}:
            return Accepted(media, form.removesuffix("List"), f"{_META_GROUP}/{options['v']}")
    if known:
        raise failure(406, "NotAcceptable", f"only the following media types are accepted: {_TYPES}")
    raise failure(406, "NotAcceptable", f"406: Not Acceptable\n\nAvailable representations: {_TYPES}", {})


def wants_list_form(accept: str) -> bool:
    """Whether metadata was asked for as a list (a single object is refused then, and the other way round)."""
    return "as=PartialObjectMetadataList" in accept


@dataclass
class Representation:
    """How one request wants its objects."""

    view: View
    accepted: Accepted
    query: Mapping[str, str] = field(default_factory=dict)
    now: Callable[[], dt.datetime] = field(default=lambda: dt.datetime.now(dt.UTC))
    list_form: bool = False
    _described: bool = False

    def one(self, item: Item, status: int = 200) -> Response:
        """A single object."""
        if self.accepted.form == "Table":
            return self._finish(self._table([item], {"resourceVersion": str(item.rv)}), status)
        if self.accepted.form:
            return self._finish(self._partial(item), status)
        if self.accepted.media == "application/json" and not self._pretty:
            return Response(status, self.view.render(item) + b"\n")
        return self._finish(msgspec.json.decode(self.view.render(item)), status)

    def page(self, page: Page) -> Response:
        """A list."""
        meta: JsonObject = {"resourceVersion": str(page.version)}
        if page.continue_token:
            meta["continue"] = page.continue_token
        if page.remaining is not None:
            meta["remainingItemCount"] = page.remaining
        if self.accepted.form == "Table":
            return self._finish(self._table(page.items, meta))
        if self.accepted.form:
            return self._finish(self._partial_list(page.items, meta))
        body = self._plain_list(page.items, meta)
        if self.accepted.media == "application/json" and not self._pretty:
            return Response(200, body)
        return self._finish(msgspec.json.decode(body))

    def event(self, item: Item) -> bytes:
        """An object inside a watch event."""
        if self.accepted.form == "Table":
            table = self._table([item], {"resourceVersion": str(item.rv)})
            if self._described:
                table["columnDefinitions"] = None
            self._described = True
            return encode(table)
        if self.accepted.form:
            return encode(self._partial(item))
        return self.view.render(item)

    @property
    def _pretty(self) -> bool:
        return self.query.get("pretty", "") in {"true", "1"}

    def _finish(self, value: Json, status: int = 200) -> Response:
        if self.accepted.media == "application/yaml":
            shown = yaml.safe_dump(msgspec.json.decode(encode(value)), sort_keys=True).encode()
            return Response(status, shown, "application/yaml")
        body = encode(value)
        return Response(status, (msgspec.json.format(body, indent=2) if self._pretty else body) + b"\n")

    def _plain_list(self, found: list[Item], meta: JsonObject) -> bytes:
        resource = self.view.resource
        head = encode({"kind": f"{resource.kind}List", "apiVersion": self.view.group_version, "metadata": meta})
        prefix = len(encode({"kind": resource.kind, "apiVersion": self.view.group_version}))
        body = b",".join([b"{" + self.view.render(item)[prefix:] for item in found])
        return head[:-1] + b',"items":[' + body + b"]}\n"

    def _table(self, found: list[Item], meta: JsonObject) -> JsonObject:
        columns = columns_of(self.view.resource.plural)
        now = self.now()
        rows: list[Json] = [
            {"cells": cells(columns, item.value, now), "object": self._row_object(item)} for item in found
        ]
        definitions: list[Json] = [column.definition() for column in columns]
        return {
            "kind": "Table",
            "apiVersion": self.accepted.version,
            "metadata": meta,
            "columnDefinitions": definitions,
            "rows": rows,
        }

    def _row_object(self, item: Item) -> Json:
        include = self.query.get("includeObject", "")
        if include == "None":
            return None
        if include == "Object":
            return msgspec.Raw(self.view.render(item))
        return self._partial(item)

    def _partial(self, item: Item) -> JsonObject:
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": self.accepted.version,
            "metadata": metadata(item.value),
        }

    def _partial_list(self, found: list[Item], meta: JsonObject) -> JsonObject:
        entries: list[Json] = [self._partial(item) for item in found]
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": self.accepted.version,
            "metadata": meta,
            "items": entries,
        }


def check_form(representation: Representation, *, is_list: bool) -> None:
    """Metadata must be asked for as a list where there is one, and the other way round: 406."""
    if representation.accepted.form != "PartialObjectMetadata" or representation.list_form == is_list:
        return
    raise _wrong_form(representation.view.resource.kind, is_list=is_list)


def _wrong_form(kind: str, *, is_list: bool) -> ApiError:
    if is_list:
        message = f"you requested PartialObjectMetadata, but the requested object is a list (*resource.{kind}List)"
    else:
        message = f"you requested PartialObjectMetadataList, but the requested object is not a list (*resource.{kind})"
    return failure(406, "NotAcceptable", message)
