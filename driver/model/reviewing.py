"""What happens in the webhook; a part of `occurrences`, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CertificateLoaded:
    """The webhook serves with this certificate from now on."""

    path: str
    expires: str
    """RFC 3339."""
    expires_at: float
    """The same in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class CertificateRefused:
    """Certificate or key have changed and cannot be used; the ones before stay."""

    error: str


@dataclass(frozen=True, slots=True)
class ObjectReviewed:
    """The webhook answered: `faults` deny the request (empty: it is allowed), `warnings` are shown."""

    kind: str
    name: str
    operation: str
    faults: tuple[str, ...]
    warnings: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ReviewRefused:
    """The webhook got what it could not answer; `reason` in one word, `error` as it was told to the caller."""

    reason: str
    error: str
