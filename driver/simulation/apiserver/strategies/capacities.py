"""Request policies of consumable capacities (KEP-5075): values, ranges and their arithmetic.

Called for each capacity with a requestPolicy. Step arithmetic uses whole numbers, rounded up, as upstream in 1.36.
"""

from __future__ import annotations

from typing import Final

from driver.model import quantities
from driver.model.quantities import Quantity
from driver.simulation.apiserver.checking import Faults, duplicate, forbidden, invalid, required, too_many
from driver.simulation.apiserver.values import Json, JsonObject, items, obj, text

MAX_VALID_VALUES: Final = 10


def check_policy(policy: JsonObject, value: Quantity, path: str) -> Faults:
    """A capacity's requestPolicy against the capacity's own value."""
    default = _quantity(policy.get("default"))
    has_values, has_range = bool(policy.get("validValues")), policy.get("validRange") is not None
    if has_values and has_range:
        why = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [forbidden(path, why)]
    if has_values:
        return _check_values(items(policy["validValues"]), default, value, path)
    if has_range:
        return _check_range(obj(policy["validRange"]), default, value, path)
    return []


def _quantity(value: Json) -> Quantity | None:
    return None if value is None else quantities.parse(text(value))


def _check_values(values: list[Json], default: Quantity | None, value: Quantity, path: str) -> Faults:
    if default is None:
        return [required(f"{path}.default", "required when validValues is defined")]
    at = f"{path}.validValues"
    faults: Faults = []
    found = False
    if len(values) > MAX_VALID_VALUES:
        faults.append(too_many(at, len(values), MAX_VALID_VALUES))
    else:
        options = [quantities.parse(text(entry)) for entry in values]
        for index in range(len(options)):
            faults += _check_option(options, index, value, f"{at}[{index}]")
        found = default in options
    if not found:
        faults.append(invalid(at, str(default), "default value is not valid according to the requestPolicy"))
    return faults


def _check_option(options: list[Quantity], index: int, value: Quantity, path: str) -> Faults:
    option = options[index]
    faults: Faults = []
    if option > value:
        faults.append(invalid(path, str(option), f"option is larger than capacity value: {value}"))
    if any(other.rounded_up == option.rounded_up for other in options[:index]):
        faults.append(duplicate(path, str(option.rounded_up)))
    elif index and options[index - 1] > option:
        faults.append(invalid(path, str(option), "values must be sorted in ascending order"))
    return faults


def _check_range(bounds: JsonObject, default: Quantity | None, value: Quantity, path: str) -> Faults:
    at = f"{path}.validRange"
    if default is None:
        return [required(f"{path}.default", "required when validRange is defined")]
    low, high, step = (_quantity(bounds.get(name)) for name in ("min", "max", "step"))
    if low is None:
        return [required(f"{at}.min", "required when validRange is defined")]
    faults: Faults = []
    if low > value:
        faults.append(invalid(f"{at}.min", str(low), f"min is larger than capacity value: {value}"))
    if default < low:
        faults.append(invalid(f"{at}.min", str(default), f"default is less than min: {low}"))
    if high is not None:
        faults += _check_max(high, default, value, f"{at}.max")
    if step is not None:
        faults += _check_step(step, low, [default] + ([high] if high is not None else []), value, f"{at}.step")
    return faults


def _check_max(high: Quantity, default: Quantity, value: Quantity, path: str) -> Faults:
    faults: Faults = []
    if high > value:
        faults.append(invalid(path, str(high), f"max is larger than capacity value: {value}"))
    if default > high:
        faults.append(invalid(path, str(default), f"default is more than max: {high}"))
    return faults


def _check_step(step: Quantity, low: Quantity, points: list[Quantity], value: Quantity, path: str) -> Faults:
    first = low + step
    if first > value:
        return [invalid(path, str(step), f"one step {first} is larger than capacity value: {value}")]
    width = step.rounded_up
    return [
        invalid(path, str(point), f"value is not a multiple of a given step ({step}) from ({low})")
        for point in points
        if width and (point.rounded_up - low.rounded_up) % width
    ]
