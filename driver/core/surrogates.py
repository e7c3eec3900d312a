r"""JSON with halves of a UTF-16 pair, which no text may hold: read as Kubernetes itself reads it.

Called by whoever decodes objects of the API server or files of a person. The API server keeps opaque parameters as
they were sent and hands out `"\ud83d"` too. Go reads a replacement character there; our decoder refuses the whole
document, and one claim would hide all others of its page.
"""

from __future__ import annotations

import re
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # both halves
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # one half
    rb"|\\.",
    re.DOTALL,
)
_REPLACEMENT: Final = rb"\ufffd"


def mend(text: bytes) -> bytes:
    """Return the JSON text with a replacement character for every half of a pair; the same text if there is none."""
    return _ESCAPE.sub(_choose, text) if rb"\u" in text else text


def _choose(found: re.Match[bytes]) -> bytes:
    return _REPLACEMENT if found[1] is not None else found[0]
