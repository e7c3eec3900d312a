"""Semantic versions (semver.org 2.0.0) with the errors of github.com/blang/semver, which Kubernetes uses.

Called by the selector language. Build metadata is read and does not take part in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering

from driver.core.cel.errors import EvaluationError

_DIGITS = frozenset("0123456789")
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")
_MAX_PART = 2**64 - 1


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Semver:
    """A version; `prerelease` identifiers are numbers where they look like numbers."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...] = ()

    @property
    def _rank(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        """Precedence: a release is above its pre-releases, numbers are below words."""
        words = tuple((False, part, "") if isinstance(part, int) else (True, 0, part) for part in self.prerelease)
        return self.major, self.minor, self.patch, not self.prerelease, words

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._rank == other._rank

    def __lt__(self, other: Semver) -> bool:
        return self._rank < other._rank

    def __hash__(self) -> int:
        return hash(self._rank)


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
    if int(text) > _MAX_PART:
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
    return int(text)


def _check_words(text: str, name: str) -> None:
    for part in text.split("."):
        if not part:
            raise EvaluationError(f"{name} is empty")
        if not _WORD.issuperset(part):
            raise EvaluationError(f'Invalid character(s) found in {name.lower()} "{part}"')
