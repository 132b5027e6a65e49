"""Removing entries of any cache that is a mapping, while others use it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

__all__ = ["CacheMetrics", "clear_entries", "count_recovery", "remove_entry"]

_MISSING = object()


class CacheMetrics(Protocol):
    """The part of a metrics collector that recoveries are counted in."""

    def record_corruption_recovery(self) -> None:
        """Count one entry that was found damaged and removed."""


def remove_entry(cache: MutableMapping[Any, Any], key: Any) -> bool:
    """Remove one entry; False if there was none."""
    return cache.pop(key, _MISSING) is not _MISSING


def clear_entries(cache: MutableMapping[Any, Any]) -> int:
    """Remove what a cache holds at this moment, one by one, and return how many that were.

    Between two entries any other thread may use the cache.
    """
    return sum(remove_entry(cache, key) for key in list(cache))


def count_recovery(metrics: CacheMetrics | MutableMapping[str, int] | None) -> None:
    """Count a removed entry in a collector, or in a mapping's ``corruption_recoveries``."""
    if isinstance(metrics, MutableMapping):
        metrics["corruption_recoveries"] = metrics.get("corruption_recoveries", 0) + 1
    elif metrics is not None:
        metrics.record_corruption_recovery()
