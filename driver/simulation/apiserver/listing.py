"""Lists: a consistent snapshot, pages of it, and which resourceVersion is meant.

Called by the list verb and by deletecollection. A continue token holds the version of its first page, so that all
pages show one moment (apiserver's storage/continue.go: base64url of JSON v, rv, start).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from driver.simulation.apiserver.filtering import Filter
from driver.simulation.apiserver.go_json import syntax_error
from driver.simulation.apiserver.statuses import (
    ApiError,
    Cause,
    bad_request,
    expired,
    internal,
    invalid,
    too_large_version,
)
from driver.simulation.apiserver.storage import Expired, Item, Key, Storage
from driver.simulation.apiserver.values import metadata, obj, text

_TOKEN_VERSION = "meta.k8s.io/v1"  # noqa: S105 - names the format of a paging token
_TOO_OLD = "The resourceVersion for the provided list is too old."
_PAGE_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True)
class Page:
    """Part of a list: its items, the version it shows, and how to go on (`remaining` is None if unknown)."""

    items: list[Item]
    version: int
    continue_token: str = ""
    remaining: int | None = None


@dataclass(frozen=True)
class _Options:
    limit: int
    version: str
    match: str
    token: str
    initial: bool = False


def parse_version(value: str) -> int:
    """A resourceVersion as a number; ValueError with upstream's words otherwise."""
    if value.isascii() and value.isdigit():
        return int(value)
    quoted = json.dumps(value)
    raise ValueError(f"resourceVersion: Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax")


def read_page(storage: Storage, chosen: Filter, query: Mapping[str, str]) -> Page:
    """The page a list request asks for."""
    options = _read_options(query)
    with storage.lock:
        if options.token:
            return _continue(storage, chosen, options)
        version = _wanted_version(storage, options)
        if version is None:
            return _page(_current(storage, chosen), storage.version, options.limit, chosen)
        try:
            found = storage.items_at(chosen.resource.stored, version, chosen.namespace)
        except Expired:
            raise expired(_TOO_OLD) from None
        return _page(found, version, options.limit, chosen)


def _read_options(query: Mapping[str, str]) -> _Options:
    options = _Options(
        _parse_limit(query.get("limit", "")),
        query.get("resourceVersion", ""),
        query.get("resourceVersionMatch", ""),
        query.get("continue", ""),
        "sendInitialEvents" in query,
    )
    fault = _match_fault(options)
    if fault:
        field, reason, message = fault
        raise invalid("meta.k8s.io", "ListOptions", "", [Cause(reason, message, field)])
    if options.token and options.version not in {"", "0"}:
        raise bad_request("specifying resource version is not allowed when using continue")
    return options


def _parse_limit(given: str) -> int:
    try:
        return int(given or 0)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{given}": invalid syntax') from None


def _match_fault(options: _Options) -> tuple[str, str, str] | None:
    forbidden, field = "FieldValueForbidden", "resourceVersionMatch"
    if options.initial:
        return "sendInitialEvents", forbidden, "Forbidden: sendInitialEvents is forbidden for list"
    why = ""
    if options.match and not options.version:
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif options.match and options.token:
        why = "resourceVersionMatch is forbidden when continue is provided"
    elif options.match not in {"", "Exact", "NotOlderThan"}:
        listed = '"Exact", "NotOlderThan", ""'
        return field, "FieldValueNotSupported", f'Unsupported value: "{options.match}": supported values: {listed}'
    elif options.match == "Exact" and options.version == "0":
        why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    return (field, forbidden, f"Forbidden: {why}") if why else None


def _wanted_version(storage: Storage, options: _Options) -> int | None:
    """The exact version to show, or None for the newest state."""
    if not options.version:
        return None
    try:
        version = parse_version(options.version)
    except ValueError as error:
        raise bad_request(f"invalid resource version: {error}") from None
    if version > storage.version:
        raise too_large_version(version, storage.version)
    exact = options.match == "Exact" or (not options.match and options.limit > 0 and version > 0)
    return version if exact else None


def check_not_future(storage: Storage, wanted: str) -> None:
    """A GET or watch may ask for a version that has not happened: 504 for a GET."""
    if not wanted:
        return
    try:
        version = parse_version(wanted)
    except ValueError as error:
        raise internal(str(error)) from None
    if version > storage.version:
        raise too_large_version(version, storage.version)


def _current(storage: Storage, chosen: Filter) -> list[Item]:
    return storage.items(chosen.resource.stored, chosen.namespace)


def key_of(item: Item) -> Key:
    """The key of a stored object."""
    meta = metadata(item.value)
    return text(meta.get("namespace")), text(meta.get("name"))


def _page(found: list[Item], version: int, limit: int, chosen: Filter, after: Key | None = None) -> Page:
    kept = [item for item in found if chosen.matches(key_of(item), item.value)] if chosen.selects else found
    if after is not None:
        kept = [item for item in kept if key_of(item) > after]
    if limit <= 0 or len(kept) <= limit:
        return Page(kept, version)
    remaining = None if chosen.selects else len(kept) - limit
    token = _encode_token(version, key_of(kept[limit - 1]), chosen)
    return Page(kept[:limit], version, token, remaining)


def _encode_token(version: int, last: Key, chosen: Filter) -> str:
    start = "/".join(part for part in last if part and not (part == last[0] and chosen.namespace))
    document = json.dumps({"v": _TOKEN_VERSION, "rv": version, "start": start + "\0"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def _decode_token(token: str, chosen: Filter) -> tuple[int, Key]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError as error:
        raise _bad_token(str(error)) from None
    wrong = syntax_error(raw.decode("latin-1").encode())
    if wrong:
        raise _bad_token(wrong)
    document = obj(json.loads(raw))
    start, version = text(document.get("start")).removesuffix("\0"), document.get("rv")
    if not isinstance(version, int) or not start:
        raise _bad_token("incomplete")
    if chosen.namespace:
        return version, (chosen.namespace, start)
    namespace, slash, name = start.partition("/")
    return version, ((namespace, name) if slash else ("", start))


def _bad_token(why: str) -> ApiError:
    return bad_request(f"invalid continue token: continue key is not valid: {why}")


def _continue(storage: Storage, chosen: Filter, options: _Options) -> Page:
    version, after = _decode_token(options.token, chosen)
    if version < 0:
        return _page(_current(storage, chosen), storage.version, options.limit, chosen, after)
    try:
        found = storage.items_at(chosen.resource.stored, version, chosen.namespace)
    except Expired:
        raise _expired_token(after, chosen) from None
    return _page(found, version, options.limit, chosen, after)


def _expired_token(after: Key, chosen: Filter) -> ApiError:
    return expired(_PAGE_TOO_OLD, _encode_token(-1, after, chosen))
