"""Pools that pass from kube-scheduler to our controller: left alone until kube-scheduler has noticed.

Called by the controller whenever slices have changed. kube-scheduler may be writing an allocation that it decided on
before it saw the fence; the controller must not give the same device away meanwhile. A pool that was fenced when this
process first saw it is taken as it is: nobody can tell since when.
"""

from __future__ import annotations

from collections.abc import Sequence

from driver.core import fencing
from driver.model.published import PublishedSlice

_PoolKey = tuple[str, str]


class Handovers:
    """One writer: the leader's thread. Times are those of one monotonic clock, in seconds."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._open: set[_PoolKey] = set()
        """Pools that lacked the fence, on all devices or some, when they were last seen."""
        self._fenced_at: dict[_PoolKey, float] = {}

    def leave_out(self, slices: Sequence[PublishedSlice], now: float) -> list[PublishedSlice]:
        """Return the slices without the pools that are changing hands."""
        is_open = {_key(each) for each in slices if not all(map(fencing.is_fenced, each.spec.devices))}
        fenced = {_key(each) for each in slices} - is_open
        self._fenced_at.update(dict.fromkeys(self._open & fenced, now))
        self._fenced_at = {key: at for key, at in self._fenced_at.items() if key in fenced and now < at + self._delay}
        self._open = is_open
        return [each for each in slices if _key(each) not in self._fenced_at]

    def is_due(self, now: float) -> bool:
        """Say whether a pool that was left alone is ours by now."""
        return any(at + self._delay <= now for at in self._fenced_at.values())

    def due_in(self, now: float) -> float | None:
        """Return the seconds until the next pool is ours; None if there is none."""
        return min((max(0.0, at + self._delay - now) for at in self._fenced_at.values()), default=None)


def _key(published: PublishedSlice) -> _PoolKey:
    return published.spec.driver, published.spec.pool.name
