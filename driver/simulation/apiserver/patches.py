"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386) on trees.

Called by `patching`; strategic merge patch and apply live in modules of their own because they need schemas.
Pure: the tree given is the caller's own copy. A patch that reaches into kept bytes (Raw) decodes them on its way, all
others leave them as they are.
"""

from __future__ import annotations

import msgspec

from driver.simulation.apiserver.statuses import ApiError, failure
from driver.simulation.apiserver.values import Json, JsonObject, copy


def _opened(value: Json) -> Json:
    if isinstance(value, msgspec.Raw):
        decoded: Json = msgspec.json.decode(value)
        return decoded
    return value


def merge(target: Json, patch: Json) -> Json:
    """Applies a merge patch: null deletes, objects merge (keys sorted, as Go leaves them), all else replaces."""
    if not isinstance(patch, dict):
        return copy(patch)
    opened = _opened(target)
    merged: JsonObject = dict(opened) if isinstance(opened, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return {key: merged[key] for key in sorted(merged)}


def apply_json_patch(target: Json, operations: list[Json]) -> Json:
    """Applies the operations in order; any that fails is a 422 without a word about which, as upstream."""
    for operation in operations:
        if not isinstance(operation, dict):
            raise _rejected()
        target = _apply(target, operation)
    return target


def _rejected() -> ApiError:
    return failure(422, "Invalid", "the server rejected our request due to an error in our request", {})


def _apply(target: Json, operation: JsonObject) -> Json:
    op, path = operation.get("op"), _pointer(operation.get("path"))
    if op == "test":
        if _opened(_get(target, path)) != operation.get("value"):
            raise _rejected()
        return target
    if op == "remove":
        return _remove(target, path)
    if op == "add":
        return _add(target, path, copy(operation.get("value")))
    if op == "replace":
        _get(target, path)
        return _add(_remove(target, path), path, copy(operation.get("value"))) if path else copy(operation.get("value"))
    if op in {"move", "copy"}:
        source = _pointer(operation.get("from"))
        value = copy(_get(target, source))
        return _add(_remove(target, source) if op == "move" else target, path, value)
    raise _rejected()


def _pointer(pointer: Json) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise _rejected()
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _index(sequence: list[Json], token: str, limit: int) -> int:
    try:
        index = int(token)
    except ValueError:
        raise _rejected() from None
    if index < 0:
        index += len(sequence)
    if not 0 <= index < limit:
        raise _rejected()
    return index


def _get(target: Json, path: list[str]) -> Json:
    """The value at a path; kept bytes on the way are replaced by what they hold."""
    for token in path:
        if isinstance(target, dict) and token in target:
            target[token] = _opened(target[token])
            target = target[token]
        elif isinstance(target, list):
            index = _index(target, token, len(target))
            target[index] = _opened(target[index])
            target = target[index]
        else:
            raise _rejected()
    return target


def _remove(target: Json, path: list[str]) -> Json:
    if not path:
        raise _rejected()
    parent = _get(target, path[:-1])
    if isinstance(parent, dict) and path[-1] in parent:
        del parent[path[-1]]
    elif isinstance(parent, list):
        del parent[_index(parent, path[-1], len(parent))]
    else:
        raise _rejected()
    return target


def _add(target: Json, path: list[str], value: Json) -> Json:
    if not path:
        return value
    parent = _get(target, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        at = len(parent) if path[-1] == "-" else _index(parent, path[-1], len(parent) + 1)
        parent.insert(at, value)
    else:
        raise _rejected()
    return target
