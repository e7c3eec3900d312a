"""The nearest known name to one that is not known. Called by whoever reads what a person wrote."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_ALIKE: Final = 0.6
"""Share of letters in common from which a name may have been meant; the value that difflib calls close."""
_LONGEST: Final = 64
"""Characters of a name worth comparing: the comparison is quadratic, and no name of ours is as long."""
_SHORTEST: Final = 3
"""Letters from which a name may be meant by a longer one that begins with it (`mps`, `mpsConfig`)."""


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant; None if none is near. Case does not matter."""
    if len(name) > _LONGEST:
        return None
    by_lower = {each.lower(): each for each in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=_ALIKE)
    if matches:
        return by_lower[matches[0]]
    longer = (known for known in by_lower if len(known) >= _SHORTEST and name.lower().startswith(known))
    return by_lower.get(max(longer, key=len, default=""))
