"""Vendors' version texts as semantic versions, which is what the API's version attributes hold. Called by `inventory`.

The API's rule is semver 2.0.0 (three numbers without leading zeros). Texts are never rounded to another version:
what has no faithful semantic version gets none, and the vendor's exact text is published beside it.
"""

from __future__ import annotations

import re
from typing import Final

from driver.model.slices import MAX_TEXT

_NUMBERS: Final = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?![.\d])(.*)", re.ASCII | re.DOTALL)
_SUFFIX: Final = re.compile(
    r"(?:-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
)
_MAX_DIGITS: Final = 18
"""Readers keep the numbers in 64 bits."""


def normalise(text: str | None) -> str | None:
    """Return the semantic version of a text: `580.126.09` is `580.126.9`, `13.0` is `13.0.0`; None if it has none.

    Missing numbers are 0 and leading zeros are dropped; a valid pre-release or build suffix is kept. Texts with more
    than three numbers or an unknown suffix have no semantic version that orders them right.
    """
    match = _NUMBERS.fullmatch(text.strip()) if text else None
    if match is None or not _SUFFIX.fullmatch(match[4]):
        return None
    numbers = [number or "0" for number in match.group(1, 2, 3)]
    if any(len(number.lstrip("0")) > _MAX_DIGITS for number in numbers):
        return None
    version = ".".join(str(int(number)) for number in numbers) + match[4]
    return version if len(version) <= MAX_TEXT else None
