"""What a node will say to an allocation before anybody has asked it: that its configuration is refused.

Called by `accel-dra explain`. A claim with wrong configuration is allocated like any other, and its pod then waits on
the node. It promises the sentences of the node, because the same function says them (`configuring.ruling`).
"""

from __future__ import annotations

from collections.abc import Iterable

from driver.core.configuring import fields, ruling
from driver.core.configuring.ruling import Given
from driver.model import vocabulary
from driver.model.claims import Allocation
from driver.model.errors import InvalidInput
from driver.model.published import PublishedDevice, PublishedSlice


def find_refusals(allocation: Allocation, slices: Iterable[PublishedSlice], driver: str) -> tuple[str, ...]:
    """Return what is wrong with the configuration of an allocation for `driver`, a sentence each.

    Devices that are not published any more count for nothing: nobody knows what they are.
    """
    results = [each for each in allocation.devices.results if each.driver == driver]
    taken = {(each.pool, each.device) for each in results}
    known = {
        (each.spec.pool.name, device.name): device
        for each in slices
        for device in each.spec.devices
        if each.spec.driver == driver and (each.spec.pool.name, device.name) in taken
    }
    given = [
        Given(each, _read(device, vocabulary.TYPE), _read(device, vocabulary.UUID) or None)
        for each in results
        if (device := known.get((each.pool, each.device))) is not None
    ]
    try:
        ruling.find_sharing(allocation.devices.config, driver, given)
    except InvalidInput as error:
        return tuple(str(fault) for fault in fields.split(error))
    return ()


def _read(device: PublishedDevice, name: str) -> str:
    attribute = device.attributes.get(name)
    return (attribute.string or "") if attribute is not None else ""
