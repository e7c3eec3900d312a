"""The functions of the language: what runs for a call. Called by evaluating and generating.

Which overloads there are is said in signatures; what they do, in the modules this one collects. At run time the types
of arguments are looked at again, because attributes have no type before; of a list or map, only the first element.
Source of the rules: cel-go common/decls/decls.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from driver.core.cel import (
    amounts,
    collections,
    conversions,
    formats,
    formatting,
    networks,
    operators,
    patterns,
    semvers,
    texts,
    times,
    urls,
)
from driver.core.cel.errors import no_such_overload
from driver.core.cel.signatures import FUNCTIONS, Overload
from driver.core.cel.typesystem import Type
from driver.core.cel.values import Value, kind_of

Function = Callable[..., Value]
Guard = Callable[[Value], bool]

IMPLEMENTATIONS: Final[Mapping[str, Function]] = {
    **amounts.FUNCTIONS,
    **collections.FUNCTIONS,
    **conversions.FUNCTIONS,
    **formats.FUNCTIONS,
    **formatting.FUNCTIONS,
    **networks.FUNCTIONS,
    **patterns.FUNCTIONS,
    **semvers.FUNCTIONS,
    **texts.FUNCTIONS,
    **times.FUNCTIONS,
    **urls.FUNCTIONS,
}
"""Functions by the ids of their overloads."""


def _size(value: Value) -> Value:
    return collections.size(value)


def _matches(text: Value, pattern: Value) -> Value:
    if isinstance(text, str) and isinstance(pattern, str):
        return patterns.pattern(pattern).occurs(text)
    raise no_such_overload("matches", kind_of(text), kind_of(pattern))


def _sort(items: Value) -> Value:
    if isinstance(items, list | tuple):
        return IMPLEMENTATIONS["list_int_sort"](items)
    raise no_such_overload("sort", kind_of(items))


SINGLETONS: Final[Mapping[str, Function]] = {
    **operators.BINARY,
    **operators.UNARY,
    "size": _size,
    "matches": _matches,
    "type": conversions.type_name,
    "dyn": lambda value: value,
    "sort": _sort,
}
"""Functions that find out themselves what their arguments are."""
TYPE_CONVERSIONS: Final = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
)
"""Functions that are evaluated at once for constants, so that `int('x')` does not compile."""


def guard(type_: Type) -> Guard | None:
    """Return what says whether a value is of a type at run time, or None if every value is."""
    if type_.is_dynamic or type_.kind == "param":
        return None
    if type_.kind == "list":
        return _list_guard(guard(type_.parameters[0]))
    if type_.kind == "map":
        return _map_guard(guard(type_.parameters[0]), guard(type_.parameters[1]))
    name = type_.name
    return lambda value: kind_of(value) == name


def _list_guard(element: Guard | None) -> Guard:
    def check(value: Value) -> bool:
        return isinstance(value, list | tuple) and (element is None or not value or element(value[0]))

    return check


def _map_guard(key: Guard | None, content: Guard | None) -> Guard:
    def check(value: Value) -> bool:
        if not isinstance(value, Mapping):
            return False
        for first, second in value.items():
            return (key is None or key(first)) and (content is None or content(second))
        return True

    return check


def _guards(overload: Overload) -> list[tuple[int, Guard]]:
    if overload.function in {"contains", "startsWith", "endsWith"} or overload.function == "flatten":
        loose = [_guarded_loosely(parameter) for parameter in overload.parameters]
    else:
        loose = [guard(parameter) for parameter in overload.parameters]
    return [(index, each) for index, each in enumerate(loose) if each is not None]


def _guarded_loosely(type_: Type) -> Guard | None:
    """Look at the outer type only: these functions take lists of anything."""
    return _list_guard(None) if type_.kind == "list" else guard(type_)


def guarded(overload: Overload) -> Function:
    """Return the function of one overload; it raises `EvaluationError` for arguments of other types."""
    run, guards, name = IMPLEMENTATIONS[overload.id], _guards(overload), overload.function

    def call(*arguments: Value) -> Value:
        for index, check in guards:
            if not check(arguments[index]):
                raise no_such_overload(name, *map(kind_of, arguments))
        return run(*arguments)

    return call


def dispatcher(name: str, overloads: tuple[Overload, ...]) -> Function:
    """Return a function that runs the first overload that takes the arguments."""
    runs = [(len(each.parameters), _guards(each), IMPLEMENTATIONS[each.id]) for each in overloads]

    def call(*arguments: Value) -> Value:
        for count, guards, run in runs:
            if count == len(arguments) and all(check(arguments[index]) for index, check in guards):
                return run(*arguments)
        raise no_such_overload(name, *map(kind_of, arguments))

    return call


def resolve(name: str, fitting: tuple[Overload, ...], declared: tuple[Overload, ...]) -> Function:
    """Return what runs for a call that can mean `fitting` of the `declared` overloads of a function."""
    if name in SINGLETONS:
        return SINGLETONS[name]
    if name == "@sortByAssociatedKeys":
        return IMPLEMENTATIONS["list_int_sortByAssociatedKeys"]
    return guarded(fitting[0]) if len(fitting) == 1 else dispatcher(name, declared)


def convert(name: str, value: Value) -> Value:
    """Evaluate a type conversion of a constant. Raises `EvaluationError`."""
    return resolve(name, (), FUNCTIONS[name])(value)
