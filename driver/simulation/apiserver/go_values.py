"""Objects as Go prints them inside error texts: every field of the internal type, absent ones as null.

Called by the strategies when a whole object is the invalid value (immutable fields). The internal types of
resource.k8s.io have no JSON tags, so their Go names show: {"Devices":{"Requests":[…]}}.
"""

from __future__ import annotations

import msgspec

from driver.simulation.apiserver.checking import Literal
from driver.simulation.apiserver.schemas import STRUCTS, ListOf, MapOf, Scalar, Struct, Type
from driver.simulation.apiserver.tidying import compact
from driver.simulation.apiserver.values import Json, JsonObject, encode

_ZEROS: dict[str, Json] = {"string": "", "int32": 0, "int64": 0, "bool": False, "quantity": "0"}


def dump(struct: str, value: Json) -> Literal:
    """The object as the message shows it, `<`, `>` and `&` escaped as Go's encoder does."""
    return Literal(compact(encode(_struct(STRUCTS[struct], value))).decode())


def dump_list(struct: str, value: Json) -> Literal:
    """The same for a list of objects."""
    return Literal(compact(encode(_value(ListOf(STRUCTS[struct]), value))).decode())


def _struct(struct: Struct, value: Json) -> Json:
    given = value if isinstance(value, dict) else {}
    out: JsonObject = {}
    for field in struct.fields.values():
        item = given.get(field.name)
        if field.name == "metadata":
            out.update(item if isinstance(item, dict) else {})
        elif field.pointer and item is None:
            out[field.go] = None
        else:
            out[field.go] = _value(field.type, item)
    return out


def _value(of: Type, value: Json) -> Json:
    if isinstance(of, Struct):
        return _struct(of, value)
    if isinstance(of, ListOf):
        return [_value(of.item, item) for item in value] if isinstance(value, list) else None
    if isinstance(of, MapOf):
        return {key: _value(of.value, value[key]) for key in sorted(value)} if isinstance(value, dict) else None
    if isinstance(value, msgspec.Raw):
        return msgspec.Raw(compact(bytes(value)))
    return value if value is not None or not isinstance(of, Scalar) else _ZEROS.get(of.name)
