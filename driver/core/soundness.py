"""Can all of a slice be used? Called by the controller's cache for each slice that it takes in.

The API server lets no quantity pass that is none. Should one come all the same, from another server or a later version,
that slice is left out (its pool then counts as incomplete), and the rest of the cluster goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from driver.model import quantities
from driver.model.errors import InvalidInput
from driver.model.published import Capacity, PublishedSlice


def check(published: PublishedSlice) -> None:
    """Raise `InvalidInput`, which names the slice, if one of its quantities is none."""
    for name, text in _list_quantities(published):
        if not _is_quantity(text):
            slice_name = published.metadata.name
            raise InvalidInput(
                f"ResourceSlice {slice_name}: {name}", text, "a Kubernetes quantity, such as 16Gi or 500m"
            )


def _list_quantities(published: PublishedSlice) -> Iterator[tuple[str, str]]:
    for counters in published.spec.shared_counters:
        for name, counter in counters.counters.items():
            yield f"sharedCounters {counters.name}.{name}", counter.value
    for device in published.spec.devices:
        for name, capacity in device.capacity.items():
            for text in _list_texts(capacity):
                yield f"device {device.name}: capacity {name}", text
        for consumed in device.consumes_counters:
            for name, counter in consumed.counters.items():
                yield f"device {device.name}: consumesCounters {consumed.counter_set}.{name}", counter.value


def _list_texts(capacity: Capacity) -> Iterator[str]:
    yield capacity.value
    policy = capacity.request_policy
    if policy is None:
        return
    span = policy.valid_range
    bounds = (span.min, span.max, span.step) if span is not None else ()
    yield from (text for text in (policy.default, *policy.valid_values, *bounds) if text is not None)


@lru_cache(maxsize=4096)
def _is_quantity(text: str) -> bool:
    try:
        quantities.parse(text)
    except InvalidInput:
        return False
    return True
