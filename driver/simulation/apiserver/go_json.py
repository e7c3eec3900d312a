"""What Go says about JSON that does not parse. Called where the server quotes its decoder's error."""

from __future__ import annotations

import json

_LOOKING: dict[str, str] = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Extra data": "after top-level value",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
}


def syntax_error(body: bytes) -> str:
    """Go's text for the first syntax error in `body`; empty if it parses."""
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc):
            return "unexpected end of JSON input"
        where = _LOOKING.get(error.msg, "in string literal")
        character = error.doc[error.pos]
        shown = character if character.isprintable() else f"\\u{ord(character):04x}"
        return f"invalid character '{shown}' {where}"
    except UnicodeDecodeError:
        return "invalid UTF-8 in string literal"
    return ""
