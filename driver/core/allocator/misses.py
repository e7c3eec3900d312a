"""By how much devices miss a selector: `memory 40Gi < 80Gi asked`. Called by `diagnosing`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key, lru_cache
from typing import Final

from driver.core import suggesting
from driver.core.allocator import clauses, wording
from driver.core.allocator.clauses import HAS, Clause, Scalar
from driver.core.allocator.devices import Device
from driver.core.cel.semvers import Semver

_KINDS: Final = {"attributes": "attribute", "capacity": "capacity"}
_BEYOND: Final = {">=": "<", ">": "<", "<=": ">", "<": ">"}
"""On which side of what is asked the values lie that miss it."""
_STRICT: Final = {">": "more", "<": "less"}


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A value that comes closest to what is asked, and still misses it."""

    name: str
    operator: str
    """Which comparison fails: >=, >, <= or <."""
    wanted: Scalar
    value: Scalar

    def describe(self, *, is_one_of_many: bool = False) -> str:
        """Return `memory 40Gi < 80Gi asked`; with `at most` or `at least` if others are still farther away."""
        beyond = _BEYOND[self.operator]
        bound = ("at most " if beyond == "<" else "at least ") if is_one_of_many else ""
        wanted = _write(self.wanted)
        if clauses.rank(self.value, self.wanted) == 0:
            return f"{self.name} {bound}{_write(self.value)}, but {_STRICT[self.operator]} than that asked"
        return f"{self.name} {bound}{_write(self.value)} {beyond} {wanted} asked"

    def is_nearer(self, other: Shortfall) -> bool:
        """Say whether this value comes closer to what both miss."""
        order = _rank(self.value, other.value)
        return order > 0 if _BEYOND[self.operator] == "<" else order < 0


def describe(expression: str, devices: Sequence[Device]) -> str | Shortfall:
    """Say in a few words what about these devices the expression does not accept; empty if it cannot be told.

    It is said of the devices that come furthest, clause by clause.
    """
    known = _find(expression)
    failing: dict[int, list[Device]] = {}
    for device in devices:
        position = next((index for index, clause in enumerate(known) if not clause.holds(device)), None)
        if position is not None:
            failing.setdefault(position, []).append(device)
    if not failing:
        return ""
    furthest = max(failing)
    return _describe(known[furthest], failing[furthest])


@lru_cache(maxsize=256)
def _find(expression: str) -> tuple[Clause, ...]:
    return tuple(clauses.find(expression))


def suggest_attribute(name: str, devices: Iterable[Device], kind: str = "attributes") -> str:
    """Return ` (… was probably meant)` for a name that these devices do not have; empty if none of theirs is near.

    The domain is not compared: who errs in it knows the name. `kind`: attributes or capacity.
    """
    known = {
        (key if "/" in key else f"{device.driver}/{key}").rpartition("/")[::2]
        for device in devices
        for key in (device.published.capacity if kind == "capacity" else device.published.attributes)
    }
    nearest = suggesting.find_nearest(name.rpartition("/")[2], sorted(last for _, last in known))
    found = sorted("/".join(each) for each in known if each[1] == nearest)
    return f" ({found[0]} was probably meant)" if found and found[0] != name else ""


def _describe(clause: Clause, devices: Sequence[Device]) -> str | Shortfall:
    name = clause.path.name
    values = [value for device in devices if (value := clause.path.read(device)) is not None]
    if not values or clause.operator == HAS:
        return f"no {_KINDS.get(clause.path.kind, '')} {name}"
    if clause.operator in _BEYOND:
        alike = [value for value in values if clauses.rank(value, clause.wanted[0]) is not None]
        if alike:
            return Shortfall(name, clause.operator, clause.wanted[0], _nearest(alike, clause.operator))
        return f"{name} is no {type(clause.wanted[0]).__name__.lower()}"
    found = sorted({_write(value) for value in values})
    asked = wording.either([_write(value) for value in clause.wanted])
    wanted = {"==": asked, "!=": f"not {asked}", "in": f"one of {asked}"}[clause.operator]
    return f"{name} is {wording.either(found)}, {wanted} asked"


def _nearest(values: Iterable[Scalar], operator: str) -> Scalar:
    """Return the value that comes closest: the largest where more is asked, the smallest where less is."""
    ordered = sorted(values, key=cmp_to_key(_rank))
    return ordered[-1] if operator in (">", ">=") else ordered[0]


def _rank(one: Scalar, other: Scalar) -> int:
    return clauses.rank(one, other) or 0


def _write(value: Scalar) -> str:
    if isinstance(value, Semver):
        before = "-" + ".".join(map(str, value.prerelease)) if value.prerelease else ""
        return f"{value.major}.{value.minor}.{value.patch}{before}"
    return str(value).lower() if isinstance(value, bool) else str(value)
