"""What happens in the webhook; a part of `occurrences`, as frozen values."""

from __future__ import annotations

from driver.model.happened import Happened


class CertificateLoaded(Happened, frozen=True):
    """The webhook serves with this certificate from now on."""

    path: str
    expires: str
    """RFC 3339."""
    expires_at: float
    """The same in seconds since 1970."""


class CertificateRefused(Happened, frozen=True):
    """Certificate or key have changed and cannot be used; the ones before stay."""

    error: str


class ObjectReviewed(Happened, frozen=True):
    """The webhook answered: `faults` deny the request (empty: it is allowed), `warnings` are shown."""

    kind: str
    name: str
    operation: str
    faults: tuple[str, ...]
    warnings: int
    seconds: float


class ReviewRefused(Happened, frozen=True):
    """The webhook got what it could not answer; `reason` in one word, `error` as it was told to the caller."""

    reason: str
    error: str
