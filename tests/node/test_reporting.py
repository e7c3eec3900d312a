"""The stream's list is made of what is known now, and is made though the records cannot be read."""

from __future__ import annotations

import pytest

from driver.core import inventory as inventories
from driver.core.health import HealthState
from driver.model.errors import DriverError, StorageFailed, Unavailable
from driver.model.health import Severity
from driver.node.reporting import Reporter
from tests.fakes.hardware import accelerator, snapshot

GPU, LOST = "gpu-0000-1a-00-0", "gpu-0000-2a-00-0"
FOUND = inventories.build(snapshot(accelerator()))


@pytest.mark.parametrize("error", [Unavailable("busy"), StorageFailed("claims", "Input/output error")])
def test_devices_that_were_held_are_told_while_the_records_cannot_be_read(error: DriverError) -> None:
    answers: list[frozenset[str] | DriverError] = [frozenset({GPU, LOST}), error, frozenset({GPU})]

    def prepared() -> frozenset[str]:
        answer = answers.pop(0)
        if isinstance(answer, DriverError):
            raise answer
        return answer

    reporter = Reporter(lambda: FOUND, HealthState, prepared)
    names = [[each.device for each in reporter.report()] for _ in range(3)]
    assert names == [[GPU, LOST], [GPU, LOST], [GPU]]


def test_the_list_is_that_of_the_moment() -> None:
    inventory, state = [FOUND, None], [HealthState(), None]
    reporter = Reporter(lambda: inventory[0], lambda: state[0], lambda: frozenset({GPU}))
    assert [each.severity for each in reporter.report()] == [Severity.HEALTHY]
    state.pop(0)
    assert [each.severity for each in reporter.report()] == [None]
    inventory.pop(0)
    assert ["driver" in each.message for each in reporter.report()] == [True]
