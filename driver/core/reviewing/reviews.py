"""The review of one object, composed: its configuration, its selectors, and what it takes more of than was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from driver.core import suggesting
from driver.core.reviewing import opaques, selecting
from driver.core.reviewing.findings import Finding, warn
from driver.core.reviewing.selecting import Stage
from driver.core.reviewing.subjects import CLASS, Subject, Wish
from driver.model.vocabulary import DOMAIN, MEMORY, SHARE

SHARED_CLASS: Final = f"shared.{DOMAIN}"
"""Class of devices that several claims may have at once."""


def review(subject: Subject, driver: str, stage: Stage) -> tuple[Finding, ...]:
    """Return faults and warnings of an object, each in the order of its fields, faults first."""
    found = list(opaques.review(subject, driver))
    if subject.kind == CLASS:
        found += selecting.review_class(subject, stage)
    for wish in subject.wishes:
        found += selecting.review_wish(wish, stage)
        found += _review_class_name(wish, stage)
        found += _review_shares(wish)
    found += _review_types(subject, driver, stage)
    return tuple(sorted(found, key=lambda each: each.is_warning))


def _review_class_name(wish: Wish, stage: Stage) -> Iterator[Finding]:
    """Warn of a class that does not exist, where the classes of the cluster are known."""
    name = wish.request.device_class_name
    if not stage.has_classes or not name or name in stage.classes:
        return
    nearest = suggesting.find_nearest(name, sorted(stage.classes))
    hint = f" ({nearest} was probably meant)" if nearest else ""
    yield warn(f"{wish.path}.deviceClassName", f"there is no DeviceClass {name} now{hint}")


def _review_shares(wish: Wish) -> Iterator[Finding]:
    """Warn of a share without a size: what is not asked for is all of it."""
    if wish.request.device_class_name != SHARED_CLASS:
        return
    asked = wish.request.capacity.requests if wish.request.capacity is not None else {}
    missing = [name for name in (SHARE, MEMORY) if name not in asked]
    if missing:
        text = (
            f"without {' and '.join(missing)} this takes all that a device has of it, and nobody else can use the rest"
        )
        yield warn(f"{wish.path}.capacity.requests", text)


def _review_types(subject: Subject, driver: str, stage: Stage) -> Iterator[Finding]:
    """Warn of configuration for requests that cannot be given a device of its type: the node refuses it."""
    for index, entry in enumerate(subject.config):
        if entry.opaque is None or entry.opaque.driver != driver or not entry.requests:
            continue
        type_ = opaques.find_type(entry.opaque)
        for wish in subject.wishes if type_ is not None else ():
            types = selecting.find_types(wish.request.device_class_name, stage)
            if {wish.name, wish.main} & set(entry.requests) and types is not None and type_ not in types:
                text = f"is for devices of type {type_}, and request {wish.name} gets {' or '.join(sorted(types))}"
                yield warn(f"{subject.path}.config[{index}].opaque.parameters.kind", text)
