"""Semantic versions (semver.org 2.0.0) with the errors of github.com/blang/semver, which Kubernetes uses.

Part of the library. Build metadata is read and does not take part in comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Final

from driver.core.cel.errors import EvaluationError
from driver.core.cel.values import MAX_INT, MIN_INT, Opaque, Value

_DIGITS = frozenset("0123456789")
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")
_MAX_PART = 2**64 - 1
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Semver(Opaque):
    """A version; `prerelease` identifiers are numbers where they look like numbers."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...] = ()
    rank: tuple[object, ...] = field(init=False, repr=False)
    """Precedence: a release is above its pre-releases, numbers are below words."""
    kind: ClassVar[str] = "kubernetes.Semver"

    def __post_init__(self) -> None:
        words = tuple((False, part, "") if isinstance(part, int) else (True, 0, part) for part in self.prerelease)
        object.__setattr__(self, "rank", (self.major, self.minor, self.patch, not self.prerelease, words))

    def __eq__(self, other: object) -> bool:
        if type(other) is not Semver:
            raise TypeError("a version equals versions only")
        return self.rank == other.rank

    def __lt__(self, other: Semver) -> bool:
        return self.rank < other.rank

    def __gt__(self, other: Semver) -> bool:
        return self.rank > other.rank

    def __hash__(self) -> int:
        return hash(self.rank)


@lru_cache(maxsize=4096)
def parse(text: str) -> Semver:
    """Parse a version in full form. Raises `EvaluationError` with the reason."""
    if not text:
        raise EvaluationError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise EvaluationError("No Major.Minor.Patch elements found")
    patch, _, build = parts[2].partition("+")
    patch, dash, prerelease = patch.partition("-")
    if "+" in parts[2]:
        _check_words(build, "Build meta data")
    return Semver(
        _number(parts[0], "major"),
        _number(parts[1], "minor"),
        _number(patch, "patch"),
        tuple(_identifier(part) for part in prerelease.split(".")) if dash else (),
    )


def parse_tolerant(text: str) -> Semver:
    """Parse after repairs: a leading `v` and leading zeros go, missing minor and patch become 0."""
    parts = text.removeprefix("v").split(".", 2)
    parts = [_without_zeros(part) for part in parts]
    if len(parts) < 3:
        if any(sign in parts[-1] for sign in "+-"):
            raise EvaluationError("Short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return parse(".".join(parts))


def _without_zeros(part: str) -> str:
    if len(part) < 2:
        return part
    stripped = part.lstrip("0")
    return stripped if stripped[:1] in _DIGITS else f"0{stripped}"


def _number(text: str, name: str) -> int:
    if not text or not _DIGITS.issuperset(text):
        raise EvaluationError(f'Invalid character(s) found in {name} number "{text}"')
    if len(text) > 1 and text[0] == "0":
        raise EvaluationError(f'{name.capitalize()} number must not contain leading zeroes "{text}"')
    if _is_too_large(text):
        raise EvaluationError(f'{name.capitalize()} number "{text}" is too large')
    return int(text)


def _identifier(text: str) -> int | str:
    if not text:
        raise EvaluationError("Prerelease is empty")
    if not _WORD.issuperset(text):
        raise EvaluationError(f'Invalid character(s) found in prerelease "{text}"')
    if not _DIGITS.issuperset(text):
        return text
    if len(text) > 1 and text[0] == "0":
        raise EvaluationError(f'Numeric PreRelease version must not contain leading zeroes "{text}"')
    if _is_too_large(text):
        raise EvaluationError(f'Numeric PreRelease version "{text}" is too large')
    return int(text)


def _is_too_large(digits: str) -> bool:
    return len(digits) > _MAX_DIGITS or int(digits) > _MAX_PART


def _check_words(text: str, name: str) -> None:
    for part in text.split("."):
        if not part:
            raise EvaluationError(f"{name} is empty")
        if not _WORD.issuperset(part):
            raise EvaluationError(f'Invalid character(s) found in {name.lower()} "{part}"')


def _is_semver(text: str, tolerant: bool = False) -> bool:  # noqa: FBT001, FBT002 - the argument of CEL's own function
    try:
        _semver(text, tolerant)
    except EvaluationError:
        return False
    return True


def _semver(text: str, tolerant: bool = False) -> Semver:  # noqa: FBT001, FBT002 - the same
    return parse_tolerant(text) if tolerant else parse(text)


def _wrap(number: int) -> int:
    """Convert uint64 to int64 as Go does."""
    return number if number <= MAX_INT else number + 2 * MIN_INT


FUNCTIONS: Final[Mapping[str, Callable[..., Value]]] = {
    "string_to_semver": parse,
    "string_bool_to_semver": _semver,
    "is_semver_string": _is_semver,
    "is_semver_string_bool": _is_semver,
    "semver_is_greater_than": lambda one, other: one > other,
    "semver_is_less_than": lambda one, other: one < other,
    "semver_compare_to": lambda one, other: (one > other) - (one < other),
    "semver_major": lambda version: _wrap(version.major),
    "semver_minor": lambda version: _wrap(version.minor),
    "semver_patch": lambda version: _wrap(version.patch),
}
"""Functions by the ids of their overloads."""
