"""What a request asks of the capacities of our devices: names that none has, and shares that are not what was meant.

Called by `reviews` for each request and alternative. Warnings only: the API server takes all of it, and a device of
another driver may fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from driver.core import shares, suggesting
from driver.core.reviewing.findings import Finding, warn
from driver.core.reviewing.selecting import OUR_CLASSES
from driver.core.reviewing.subjects import Wish
from driver.core.specification import CAPACITIES
from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.requests import DeviceRequest
from driver.model.vocabulary import DOMAIN, MEMORY, SHARE

SHARED_CLASS: Final = f"shared.{DOMAIN}"
"""Class of devices that several claims may have at once."""
_ALL: Final = "All"


def review_amounts(wish: Wish) -> Iterator[Finding]:
    """Yield what is probably wrong about the amounts of a request for a class of ours."""
    name = wish.request.device_class_name
    asked = wish.request.capacity.requests if wish.request.capacity is not None else {}
    path = f"{wish.path}.capacity.requests"
    if name in OUR_CLASSES:
        yield from _review_names(asked, path)
    if name == SHARED_CLASS:
        yield from _review_sizes(asked, path)
        yield from _review_count(wish)


def asks_for_several(request: DeviceRequest) -> bool:
    """Say whether a request may be given more than one device."""
    return request.allocation_mode == _ALL or request.count > 1


def name_amount(request: DeviceRequest) -> str:
    """Return the field that says how many devices a request is given."""
    return "allocationMode" if request.allocation_mode == _ALL else "count"


def _review_names(asked: dict[str, str], path: str) -> Iterator[Finding]:
    """Names are literal: one that a device does not have rules the device out."""
    known = {name.rpartition("/")[2]: name for name in CAPACITIES}
    for name in asked:
        domain, _, word = name.rpartition("/")
        if name in CAPACITIES or domain not in ("", DOMAIN):
            continue
        nearest = suggesting.find_nearest(word, known)
        hint = f" ({known[nearest]} was probably meant)" if nearest else ""
        yield warn(f"{path}[{name}]", f"no device has this capacity{hint}, so none can be allocated")


def _review_sizes(asked: dict[str, str], path: str) -> Iterator[Finding]:
    missing = [name for name in (SHARE, MEMORY) if name not in asked]
    if missing:
        text = (
            f"without {' and '.join(missing)} this takes all that a device has of it, and nobody else can use the rest"
        )
        yield warn(path, text)
    if SHARE in asked and _is_more(asked[SHARE], shares.WHOLE):
        yield warn(f"{path}[{SHARE}]", f"{asked[SHARE]} is more than any device has: {shares.WHOLE}, in percent")


def _review_count(wish: Wish) -> Iterator[Finding]:
    if asks_for_several(wish.request):
        text = (
            "a node that shares through MPS refuses more than one share a request: ask for each in a request of its own"
        )
        yield warn(f"{wish.path}.{name_amount(wish.request)}", text)


def _is_more(text: str, limit: int) -> bool:
    try:
        return quantities.parse(text) > quantities.of_integer(limit)
    except InvalidInput:
        return False  # the API server refuses it
