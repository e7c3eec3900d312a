"""Durations and timestamps: what Go's time package reads, writes and computes. Part of the library.

Both count nanoseconds. Limits: 64 bit for durations, the years 1 to 9999 for timestamps. Time zones by name come from
the system's database; without one only `UTC` and offsets such as `+02:00` are known.
Sources: cel-go common/types/{duration,timestamp,overflow}.go, Go time.ParseDuration and time.Parse(RFC3339).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import ClassVar, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import MAX_INT, MIN_INT, Opaque, Value

SECOND: Final = 10**9
_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND}
_UNITS_AND_HOURS: Final = {**_UNITS, "h": 3600 * SECOND}
_DURATION: Final = re.compile(r"[-+]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([a-zµμ]+)")
_LONGEST: Final = 400
_TIMESTAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OFFSET: Final = re.compile(r"([+-]?[0-9]{1,6}):([+-]?[0-9]{1,6})")
MIN_SECONDS: Final = -62135596800
MAX_SECONDS: Final = 253402300799


@dataclass(frozen=True, slots=True, order=True)
class Duration(Opaque):
    """A span of time in nanoseconds."""

    nanos: int
    kind: ClassVar[str] = "google.protobuf.Duration"
    is_strict: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, eq=False)
class Timestamp(Opaque):
    """A point in time: nanoseconds since 1970 in UTC. `offset` is the zone in which it was written, in seconds."""

    nanos: int
    offset: int = 0
    kind: ClassVar[str] = "google.protobuf.Timestamp"
    is_strict: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.nanos == other.nanos

    def __lt__(self, other: Timestamp) -> bool:
        return self.nanos < other.nanos

    def __gt__(self, other: Timestamp) -> bool:
        return self.nanos > other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    @property
    def seconds(self) -> int:
        """Whole seconds since 1970, cut downwards."""
        return self.nanos // SECOND


def checked_duration(nanos: int) -> Duration:
    """Return a duration that fits 64 bits. Raises `EvaluationError`."""
    if not MIN_INT <= nanos <= MAX_INT:
        raise EvaluationError("integer overflow")
    return Duration(nanos)


def checked_timestamp(nanos: int, offset: int = 0) -> Timestamp:
    """Return a timestamp of the years 1 to 9999. Raises `EvaluationError`."""
    if not MIN_SECONDS <= nanos // SECOND <= MAX_SECONDS:
        raise EvaluationError("timestamp overflow")
    return Timestamp(nanos, offset)


def parse_duration(text: str) -> Duration:
    """Read `1h30m`, `-1.5s`, `0`. Raises `EvaluationError`."""
    if len(text) > _LONGEST or not _DURATION.fullmatch(text):
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Duration'")
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        scale = _UNITS_AND_HOURS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(int(fraction) * (scale / 10 ** len(fraction)))
    nanos = -total if text.startswith("-") else total
    if not MIN_INT <= nanos <= MAX_INT:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Duration'")
    return Duration(nanos)


def print_duration(duration: Duration) -> str:
    """Write seconds, as short as a double allows: `5400s`, `0.000000002s`."""
    seconds, rest = divmod(abs(duration.nanos), SECOND)
    number = float(seconds) + float(rest) / SECOND
    text = f"{number:.0f}" if number == int(number) else _plain(number)
    return f"{'-' if duration.nanos < 0 else ''}{text}s"


def _plain(number: float) -> str:
    """Write a double without an exponent, with the fewest digits that read back the same."""
    digits = repr(number)
    if "e" not in digits:
        return digits
    mantissa, _, exponent = digits.partition("e")
    places = -int(exponent) + len(mantissa.partition(".")[2])
    return f"{number:.{places}f}".rstrip("0")


def parse_timestamp(text: str) -> Timestamp:
    """Read RFC 3339. Raises `EvaluationError`."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    offset = 0
    if found[8]:
        hours, minutes = int(found[9]), int(found[10])
        if hours > 24 or minutes > 60:
            raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
        offset = (hours * 3600 + minutes * 60) * (-1 if found[8] == "-" else 1)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'") from error
    fraction = int((found[7] or "")[:9].ljust(9, "0"))
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - offset
    return checked_timestamp(seconds * SECOND + fraction, offset)


def print_timestamp(timestamp: Timestamp) -> str:
    """Write RFC 3339 with as many digits of the second as there are."""
    zone = timezone(timedelta(seconds=timestamp.offset)) if timestamp.offset else UTC
    moment = _at(timestamp, zone)
    fraction = f"{timestamp.nanos % SECOND:09}".rstrip("0")
    hours, minutes = divmod(abs(timestamp.offset) // 60, 60)
    suffix = f"{'-' if timestamp.offset < 0 else '+'}{hours:02}:{minutes:02}" if timestamp.offset else "Z"
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (f".{fraction}" if fraction else "") + suffix


def _at(timestamp: Timestamp, zone: tzinfo) -> datetime:
    try:
        return (_EPOCH + timedelta(seconds=timestamp.seconds)).astimezone(zone)
    except OverflowError as error:
        raise EvaluationError("timestamp overflow in this time zone") from error


def _zone(name: str) -> tzinfo:
    """Return a zone by name or offset, as Go's time.LoadLocation and cel-go's offsets."""
    if ":" in name:
        found = _OFFSET.fullmatch(name)
        if found is None:
            raise EvaluationError(f"invalid time zone {name!r}")
        hours, minutes = int(found[1]) * 60, int(found[2])
        total = hours - minutes if name.startswith("-") else hours + minutes
        try:
            return timezone(timedelta(minutes=total))
        except ValueError as error:
            raise EvaluationError(f"invalid time zone {name!r}") from error
    if name in {"", "UTC", "Local"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise EvaluationError(f"unknown time zone {name}") from error


def _getter(read: Callable[[datetime], int]) -> Callable[..., Value]:
    return lambda timestamp, zone="UTC": read(_at(timestamp, _zone(zone)))


def _milliseconds(timestamp: Timestamp, zone: str = "UTC") -> int:
    _zone(zone)
    return timestamp.nanos % SECOND // 10**6


def _cut(nanos: int, unit: int) -> int:
    return nanos // unit if nanos >= 0 else -(-nanos // unit)


_PARTS: Final[Mapping[str, Callable[[datetime], int]]] = {
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month - 1,
    "day_of_year": lambda moment: moment.timetuple().tm_yday - 1,
    "day_of_month": lambda moment: moment.day - 1,
    "day_of_month_1_based": lambda moment: moment.day,
    "day_of_week": lambda moment: moment.isoweekday() % 7,
    "hours": lambda moment: moment.hour,
    "minutes": lambda moment: moment.minute,
    "seconds": lambda moment: moment.second,
}
_SPANS: Final = {"hours": 3600 * SECOND, "minutes": 60 * SECOND, "seconds": SECOND, "milliseconds": 10**6}


def _span(unit: int) -> Callable[..., Value]:
    return lambda duration: _cut(duration.nanos, unit)


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    **{f"timestamp_to_{name}": _getter(read) for name, read in _PARTS.items()},
    **{f"timestamp_to_{name}_with_tz": _getter(read) for name, read in _PARTS.items()},
    "timestamp_to_seconds_tz": _getter(_PARTS["seconds"]),
    "timestamp_to_milliseconds": _milliseconds,
    "timestamp_to_milliseconds_with_tz": _milliseconds,
    **{f"duration_to_{name}": _span(unit) for name, unit in _SPANS.items()},
}
"""Functions by the ids of their overloads."""
