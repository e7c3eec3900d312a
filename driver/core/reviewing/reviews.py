"""The review of one object, composed: its configuration, its selectors, and what it takes more of than was meant."""

from __future__ import annotations

from collections.abc import Iterator

from driver.core import suggesting
from driver.core.reviewing import amounts, opaques, selecting
from driver.core.reviewing.findings import Finding, warn
from driver.core.reviewing.selecting import Stage
from driver.core.reviewing.subjects import CLASS, Subject, Wish
from driver.model.sharing import Strategy
from driver.model.vocabulary import TYPE_PARTITION


def review(subject: Subject, driver: str, stage: Stage) -> tuple[Finding, ...]:
    """Return faults and warnings of an object, each in the order of its fields, faults first."""
    found = list(opaques.review(subject, driver))
    if subject.kind == CLASS:
        found += selecting.review_class(subject, stage)
    for wish in subject.wishes:
        found += selecting.review_wish(wish, stage)
        found += _review_class_name(wish, stage)
        found += amounts.review_amounts(wish)
        found += _review_daemons(subject, wish, driver, stage)
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


def _review_daemons(subject: Subject, wish: Wish, driver: str, stage: Stage) -> Iterator[Finding]:
    """Warn of several partitions in one request with an MPS daemon each: the node refuses it."""
    if not amounts.asks_for_several(wish.request):
        return
    types = selecting.find_types(wish.request.device_class_name, stage)
    ruling = [
        entry.opaque
        for entry in subject.config
        if entry.opaque is not None
        and entry.opaque.driver == driver
        and (not entry.requests or {wish.name, wish.main} & set(entry.requests))
        and opaques.find_type(entry.opaque) == TYPE_PARTITION
    ]
    if types == frozenset({TYPE_PARTITION}) and ruling and opaques.find_strategy(ruling[-1]) is Strategy.MPS:
        text = "a node refuses more than one partition a request with MPS: ask for each in a request of its own"
        yield warn(f"{wish.path}.{amounts.name_amount(wish.request)}", text)
