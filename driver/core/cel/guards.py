"""A selector that asks first: for devices without an attribute it is false instead of an error.

Called through `driver.core.cel` by whoever explains why a selector failed (`MissingKey` says what was missing).
"""

from __future__ import annotations

import re
from typing import Final

from driver.core.cel import parsing, tokens
from driver.core.cel.syntax import Call

_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_FIELDS: Final = frozenset(("in", "true", "false", "null"))
_LOOSER: Final = frozenset(("_||_", "_?_:_"))


def guard(expression: str, domain: str, name: str, *, kind: str = "attributes") -> str:
    """Return the expression behind a test for an attribute, or a capacity (`kind`), of a domain.

    It is false for devices that lack it and unchanged for the others. Raises `CompileError` if the expression is none.
    """
    container = f"device.{kind}[{_quoted(domain)}]"
    is_field = _FIELD.fullmatch(name) is not None and name not in _NO_FIELDS
    test = f"has({container}.{name})" if is_field else f"{_quoted(name)} in {container}"
    return f"{test} && {_grouped(expression)}"


def _quoted(text: str) -> str:
    """Write a text as a constant."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _grouped(expression: str) -> str:
    """Put an expression in parentheses if it binds less than `&&`; a comment at its end must not swallow them."""
    root = parsing.parse(expression)
    if not isinstance(root, Call) or root.function not in _LOOSER or tokens.is_grouped(expression):
        return expression
    return f"({expression}\n)" if "//" in expression else f"({expression})"
