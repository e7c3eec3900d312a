"""Which devices a request may have: class and request selectors, taints, constraints. Called by the search.

Selectors are evaluated when they are needed and at most once a device, as upstream does: an error on a device that is
never looked at stays unnoticed, one that is met aborts the scheduling of the pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from driver.core import cel
from driver.core.cel import CelError, EvaluationError, Program, View
from driver.model.slices import Device, DeviceAttribute, DeviceTaint
from driver.simulation.resources import Claim, Constraint, DeviceClass, DeviceRequest, Selector, Toleration
from driver.simulation.scheduler.pools import Candidate, DeviceId


class SchedulingError(Exception):
    """The pod cannot be scheduled on any node, whatever the devices: something it refers to is wrong."""


@lru_cache(maxsize=1024)
def _compile(expression: str) -> Program:
    return cel.compile_selector(expression)


@dataclass(slots=True)
class Request:
    """One request or subrequest of a claim, ready to be matched with devices."""

    claim: Claim
    name: str
    """`request` or `request/subrequest`, as allocations say it."""
    wanted: DeviceRequest
    device_class: DeviceClass
    _verdicts: dict[DeviceId, bool] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"claim {self.claim}, request {self.name}"

    def selects(self, candidate: Candidate) -> bool:
        """Say whether all selectors hold. Raises `SchedulingError` if one cannot be evaluated."""
        verdict = self._verdicts.get(candidate.id)
        if verdict is None:
            verdict = self._verdicts[candidate.id] = self._evaluate(candidate)
        return verdict

    def _evaluate(self, candidate: Candidate) -> bool:
        if not self.device_class.spec.selectors and not self.wanted.selectors:
            return True
        try:
            view = cel.view(candidate.driver, candidate.device)
        except EvaluationError as error:
            raise SchedulingError(f"device {'/'.join(candidate.id)}: {error}") from error
        class_name = f"class {self.device_class.metadata.name}"
        sources = ((class_name, self.device_class.spec.selectors), (f"claim {self.claim}", self.wanted.selectors))
        return all(
            _matches(f"{source}: selector #{index}", selector, view)
            for source, selectors in sources
            for index, selector in enumerate(selectors)
        )

    def find_taint(self, device: Device) -> DeviceTaint | None:
        """Return the first taint that keeps the device from this request, or None."""
        for taint in device.taints:
            is_hard = taint.effect in ("NoSchedule", "NoExecute")
            if is_hard and not any(_tolerates(each, taint) for each in self.wanted.tolerations):
                return taint
        return None


def _matches(where: str, selector: Selector, view: View) -> bool:
    if selector.cel is None or not selector.cel.expression:
        raise SchedulingError(f"{where}: CEL expression empty (unsupported selector type?)")
    try:
        return cel.matches(_compile(selector.cel.expression), view)
    except EvaluationError as error:
        raise SchedulingError(f"{where}: CEL runtime error: {error}") from error
    except CelError as error:
        raise SchedulingError(f"{where}: CEL compile error: {error}") from error


def _tolerates(toleration: Toleration, taint: DeviceTaint) -> bool:
    """Say whether a taint is tolerated (dynamic-resource-allocation resourceclaim/devicetoleration.go)."""
    if toleration.effect not in ("", taint.effect) or toleration.key not in ("", taint.key):
        return False
    return toleration.operator == "Exists" or (toleration.operator in ("", "Equal") and toleration.value == taint.value)


@dataclass(slots=True)
class ConstraintState:
    """One constraint of a claim while devices are tried: the values of the devices taken so far."""

    constraint: Constraint
    _values: list[DeviceAttribute] = field(default_factory=list)

    def __str__(self) -> str:
        if self.constraint.match_attribute:
            return f"matchAttribute {self.constraint.match_attribute}"
        return f"distinctAttribute {self.constraint.distinct_attribute}"

    def concerns(self, request: str) -> bool:
        """Say whether it is about a request; the name of a request covers its subrequests."""
        wanted = self.constraint.requests
        return not wanted or request in wanted or request.partition("/")[0] in wanted

    def add(self, candidate: Candidate) -> bool:
        """Take a device in, or return False if the constraint forbids it."""
        matching = self.constraint.match_attribute
        value = find_attribute(candidate, matching or self.constraint.distinct_attribute)
        if value is None:
            return False
        if matching and any(known != value for known in self._values):
            return False
        if not matching and value in self._values:
            return False
        self._values.append(value)
        return True

    def remove(self) -> None:
        """Give the device that was taken in last back."""
        self._values.pop()


def find_attribute(candidate: Candidate, name: str) -> DeviceAttribute | None:
    """Return an attribute by its qualified name; one without a domain belongs to the driver's."""
    attributes: Mapping[str, DeviceAttribute] = candidate.device.attributes
    domain, _, identifier = name.rpartition("/")
    return attributes.get(name) or (attributes.get(identifier) if domain == candidate.driver else None)
