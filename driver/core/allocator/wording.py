"""Words for people: counts, amounts, attributes, lists. Called by `explaining` and `summarizing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from driver.model import quantities, vocabulary
from driver.model.quantities import Format, Quantity

_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PLACES: Final = {
    vocabulary.INTERCONNECT_DOMAIN: ("are in", "interconnect domain"),
    vocabulary.FABRIC_DOMAIN: ("are in", "fabric domain"),
    vocabulary.NUMA_NODE: ("are on", "NUMA node"),
    vocabulary.PCIE_ROOT: ("are under", "PCIe root"),
}
_MAX_VALUES: Final = 4
_MAX_EXPRESSION: Final = 90


def count(number: int, noun: str) -> str:
    """Return `1 device`, `3 devices`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def spell(number: int) -> str:
    """Return a number in words as far as they are short."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def amount(nanos: int) -> str:
    """Return an amount of 10^-9 as the API writes it, in binary units where that is shorter."""
    binary = quantities.canonical(Quantity(nanos, Format.BINARY))
    decimal = quantities.canonical(Quantity(nanos))
    return binary if len(binary) < len(decimal) else decimal


def places(attribute: str, values: Mapping[str, int]) -> str:
    """Say where devices are by an attribute: `are in two interconnect domains (4 of a, 3 of b)`."""
    where, noun = _PLACES.get(attribute, ("have", ""))
    plural = "" if len(values) == 1 else "s"
    what = f"{noun}{plural}" if noun else f"value{plural} of {attribute}"
    largest = sorted(values.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{number} of {value}" for value, number in largest[:_MAX_VALUES]]
    more = [f"{len(largest) - _MAX_VALUES} more"] if len(largest) > _MAX_VALUES else []
    return f"{where} {spell(len(values))} {what} ({', '.join([*shown, *more])})"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """Return the first of several names, and how many there are beside."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def either(names: Sequence[str], limit: int = 3) -> str:
    """Return the first of several names as alternatives: `a, b or c`."""
    shown = list(names[:limit]) + (["others"] if len(names) > limit else [])
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def quoted(expression: str) -> str:
    """Return an expression on one line, cut in the middle if it is long."""
    text = " ".join(expression.split())
    half = _MAX_EXPRESSION // 2
    return f"`{text}`" if len(text) <= _MAX_EXPRESSION else f"`{text[:half]} … {text[-half:]}`"
