"""The rate limit: a token bucket for each access token or address, in the memory of one process."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REQUESTS_PER_MINUTE = 3_000
"""The default rate limit where tokens are needed. A page of 60 hits also loads 60 thumbnails, so this allows nearly one
page per second."""

MOST_CALLERS = 10_000
"""The number of callers to remember. The ones with the oldest requests are forgotten first."""


class RateLimit:
    """Permits for each caller, refilled at a constant rate. All permits of a minute may be used at once.

    Not thread-safe: only the event loop may use it.

    Args:
        per_minute: requests that one caller may make in a minute; 0 for any number; None: ``REQUESTS_PER_MINUTE``, and
            any number while no tokens are needed, since only this machine sends requests then.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self.is_for_tokens_only = per_minute is None
        self._per_minute = REQUESTS_PER_MINUTE if per_minute is None else per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def is_spent(self, caller: str) -> bool:
        """Return whether a caller has no permit left. Takes none."""
        if not self._per_minute or caller not in self._buckets:
            return False
        permits, since = self._buckets[caller]
        return permits + (self._clock() - since) * self._per_minute / 60 < 1

    def wait_seconds(self, caller: str) -> float:
        """Take a permit and return 0, or return the seconds until the next permit."""
        return self._take(caller, float(self._per_minute), self._per_minute / 60) if self._per_minute else 0.0

    def search_wait_seconds(self, caller: str, per_second: float) -> float:
        """As ``wait_seconds``, for a quota of searches: those of one second may come at once, but one always may."""
        return self._take(f"search {caller}", max(1.0, per_second), per_second) if per_second else math.inf

    def _take(self, caller: str, most: float, rate: float) -> float:
        now = self._clock()
        permits, since = self._buckets.pop(caller, (most, now))
        permits = min(most, permits + (now - since) * rate)
        is_allowed = permits >= 1
        self._buckets[caller] = (permits - is_allowed, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - permits) / rate
