"""Events per second over a sliding window, in constant memory whatever the rate."""

from __future__ import annotations

import math
from array import array

__all__ = ["BUCKET_S", "HORIZON_S", "RateWindow"]

BUCKET_S = 0.1
HORIZON_S = 600.0
_BUCKETS = round(HORIZON_S / BUCKET_S)


class RateWindow:
    """Counts of events in a ring of buckets of 0.1 s that reaches back ten minutes.

    Not locked: the owner is. All times are of one monotonic clock, in seconds.

    Args:
        start_s: the time that counting starts.
    """

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._counts = array("Q", bytes(8 * _BUCKETS))
        self._newest = _bucket(start_s)

    def record(self, now_s: float) -> None:
        """Count one event."""
        self._advance(now_s)
        self._counts[self._newest % _BUCKETS] += 1

    def per_second(self, now_s: float, window_s: float) -> float:
        """Return the mean rate over the last `window_s`.

        A window longer than the life so far, or than ten minutes, is cut to it. The bucket that
        the window begins in counts whole.
        """
        self._advance(now_s)
        lived_s = max(now_s - self._start_s, BUCKET_S)
        span_s = min(window_s, lived_s, HORIZON_S)
        first = max(_bucket(now_s - span_s), self._newest - _BUCKETS + 1)
        return sum(self._counts[at % _BUCKETS] for at in range(first, self._newest + 1)) / span_s

    def _advance(self, now_s: float) -> None:
        """Empty the buckets between the newest one and now: nothing happened in them."""
        current = _bucket(now_s)
        for passed in range(max(self._newest + 1, current - _BUCKETS + 1), current + 1):
            self._counts[passed % _BUCKETS] = 0
        self._newest = max(self._newest, current)


def _bucket(now_s: float) -> int:
    return math.floor(now_s / BUCKET_S)
