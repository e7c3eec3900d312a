"""What became of an example workload, as values: the devices of each container, what it sees, and why.

`workloads` makes reports, `promises` judges them, the demo prints them.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.model import quantities, vocabulary
from driver.model.published import Attribute, PublishedDevice
from driver.simulation.runtime.injection import Contents


@dataclass(frozen=True, slots=True)
class Got:
    """One device of a container, with what is published about it."""

    request: str
    node: str
    driver: str
    device: PublishedDevice
    share: str = ""
    """What the container has of it in common with others, such as `memory 20Gi, share 25`; empty: all of it."""

    def text(self, name: str) -> str:
        """Return an attribute as text, empty if the device does not have it."""
        attribute = self.device.attributes.get(name)
        return "" if attribute is None else show(attribute)

    @property
    def memory(self) -> str:
        """Its memory in GiB, as people say it; empty if unknown."""
        capacity = self.device.capacity.get(vocabulary.MEMORY)
        return f"{float(quantities.parse(capacity.value)) / 2**30:.4g} GiB" if capacity else ""


@dataclass(frozen=True, slots=True)
class View:
    """One container: the devices it was given and what it would find."""

    name: str
    got: tuple[Got, ...]
    contents: Contents

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        """Its devices by node and name."""
        return frozenset((each.node, each.device.name) for each in self.got)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one example."""

    name: str
    title: str
    phase: str
    seconds: float
    message: str = ""
    """Why the pod waits, if it does."""
    views: tuple[View, ...] = ()
    reasons: tuple[str, ...] = ()
    """Which class, selectors, constraints and policy led to these devices, one sentence each."""
    explanation: str = ""
    """What the controller's Event says about a claim that waits."""
    problem: str = ""
    """In what it differs from what was promised; empty if it does not."""

    def view(self, container: str) -> View:
        """Return what a container of this name sees; nothing if there is none."""
        none = View(container, (), Contents({}))
        return next((view for view in self.views if view.name == container), none)


def show(attribute: Attribute) -> str:
    """Return the value of an attribute as text."""
    for value in (attribute.string, attribute.version, attribute.int_):
        if value is not None:
            return str(value)
    return str(attribute.bool_).lower()
