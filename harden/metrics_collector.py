"""Counts, latencies, memory and throughput of a server, recorded cheaply and read exactly.

`MetricsCollector` knows nothing of HTTP. It exports plain dicts for JSON and Prometheus text
through an injected prometheus_client registry, and its memory is bounded whatever it records.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from harden.memory_tracker import MemoryTracker
from harden.metric_families import (
    CallbackCollector,
    cache_families,
    latency_family,
    memory_families,
    throughput_family,
)
from harden.percentiles import WINDOW_SIZE, Percentiles, SampleWindow
from harden.rate_window import RateWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from harden.metrics_types import (
        CacheStats,
        LatencyStats,
        MemoryStats,
        MetricsExport,
        ThroughputStats,
    )

__all__ = ["MetricType", "MetricsCollector", "timestamp_now"]


class MetricType(StrEnum):
    """What can be recorded."""

    CACHE_HIT = "cache_hit"
    CACHE_MISS = "cache_miss"
    LATENCY = "latency"
    MEMORY = "memory"
    THROUGHPUT = "throughput"


@dataclass(slots=True)
class _CacheCounts:
    hits: int = 0
    misses: int = 0
    corruption_recoveries: int = 0


class MetricsCollector:
    """Records what a server does; safe to call from any number of threads.

    Args:
        enable_memory_tracking: read this process's memory at all.
        enable_latency_tracking: keep latencies at all.
        registry: where the metrics are registered for Prometheus; a new one when None.
        latency_window: how many of the newest latencies percentiles are taken over.

    Raises:
        ValueError: the registry already has a collector's metrics.
    """

    def __init__(
        self,
        enable_memory_tracking: bool = True,
        enable_latency_tracking: bool = True,
        *,
        registry: CollectorRegistry | None = None,
        latency_window: int = WINDOW_SIZE,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._latency_enabled = enable_latency_tracking
        self._latency_window = latency_window
        self._lock = threading.Lock()
        self._started_s = time.monotonic()
        self._cache = _CacheCounts()
        self._latency = SampleWindow(latency_window)
        self._memory = MemoryTracker(enabled=enable_memory_tracking)
        self._requests = 0
        self._rate = RateWindow(self._started_s)
        self.registry.register(CallbackCollector(self._families))

    def record(self, kind: MetricType, value: float | None = None) -> None:
        """Record one event of any kind; `value` is the milliseconds of a LATENCY.

        Raises:
            ValueError: no such kind, a latency without a value, or one that `record_latency`
                refuses.
        """
        kind = MetricType(kind)
        if kind is MetricType.LATENCY:
            self.record_latency(math.nan if value is None else value)
            return
        record = {
            MetricType.CACHE_HIT: self.record_cache_hit,
            MetricType.CACHE_MISS: self.record_cache_miss,
            MetricType.MEMORY: self.record_memory_usage,
            MetricType.THROUGHPUT: self.record_request,
        }[kind]
        record()

    def record_cache_hit(self) -> None:
        """Count a lookup that the cache answered."""
        with self._lock:
            self._cache.hits += 1

    def record_cache_miss(self) -> None:
        """Count a lookup that the cache could not answer."""
        with self._lock:
            self._cache.misses += 1

    def record_corruption_recovery(self) -> None:
        """Count a damaged cache entry that was found and removed."""
        with self._lock:
            self._cache.corruption_recoveries += 1

    def record_latency(self, latency_ms: float) -> None:
        """Record how long a request took, in milliseconds.

        Raises:
            ValueError: negative, NaN, infinite, or larger than a float.
        """
        if not 0 <= latency_ms <= sys.float_info.max:
            raise ValueError(f"latency of {latency_ms!r} ms: expected a finite number from 0 up")
        if self._latency_enabled:
            with self._lock:
                self._latency.record(latency_ms)

    def record_memory_usage(self) -> None:
        """Read this process's memory now; where it cannot be read nothing is recorded."""
        self._memory.record()

    def record_request(self) -> None:
        """Count a request for the throughput."""
        with self._lock:
            self._requests += 1
            self._rate.record(time.monotonic())

    def get_cache_stats(self) -> CacheStats:
        """Return hits, misses, hit rate and recoveries."""
        with self._lock:
            hits, misses = self._cache.hits, self._cache.misses
            recoveries = self._cache.corruption_recoveries
        return {
            "cache_hits": hits,
            "cache_misses": misses,
            "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
            "corruption_recoveries": recoveries,
        }

    def get_latency_stats(self) -> LatencyStats:
        """Return count and percentiles in milliseconds, never a single latency."""
        latency = self._latency_percentiles()
        return {
            "enabled": self._latency_enabled,
            "count": latency.count,
            "p50": latency.p50,
            "p95": latency.p95,
            "p99": latency.p99,
        }

    def get_memory_stats(self) -> MemoryStats:
        """Return memory now, at its peak, and its growth since the first record.

        Where it cannot be read, each figure is the word "unavailable".
        """
        return self._memory.stats()

    def get_throughput_stats(self, window_seconds: float = 60.0) -> ThroughputStats:
        """Return the number of requests, and the rate over the last `window_seconds`.

        Args:
            window_seconds: longer than the life so far, or than ten minutes, counts as that.

        Raises:
            ValueError: not a positive number.
        """
        if not window_seconds > 0:
            raise ValueError(f"window of {window_seconds!r} s: expected a number above 0")
        with self._lock:
            rate = self._rate.per_second(time.monotonic(), window_seconds)
            total = self._requests
        return {
            "total_requests": total,
            "requests_per_second": rate,
            "window_seconds": window_seconds,
        }

    def export_metrics_json(self) -> MetricsExport:
        """Return everything as a dict that `json.dumps` takes."""
        return {
            "timestamp": timestamp_now(),
            "uptime_seconds": self.uptime_seconds(),
            "cache": self.get_cache_stats(),
            "latency": self.get_latency_stats(),
            "memory": self.get_memory_stats(),
            "throughput": self.get_throughput_stats(),
        }

    def export_metrics_prometheus(self) -> str:
        """Return the whole registry in the Prometheus text format, version 0.0.4."""
        return generate_latest(self.registry).decode()

    def uptime_seconds(self) -> float:
        """Return the seconds since this collector was made; a reset does not change it."""
        return time.monotonic() - self._started_s

    def reset_cache_stats(self) -> None:
        """Forget hits, misses and recoveries."""
        with self._lock:
            self._cache = _CacheCounts()

    def reset_latency_stats(self) -> None:
        """Forget all latencies."""
        with self._lock:
            self._latency = SampleWindow(self._latency_window)

    def reset_all_metrics(self) -> None:
        """Forget everything; throughput and memory growth start again from now."""
        with self._lock:
            self._cache = _CacheCounts()
            self._latency = SampleWindow(self._latency_window)
            self._requests = 0
            self._rate = RateWindow(time.monotonic())
        self._memory.reset()

    def _latency_percentiles(self) -> Percentiles:
        with self._lock:
            return self._latency.percentiles()

    def _families(self) -> Iterator[Metric]:
        yield from cache_families(self.get_cache_stats())
        yield latency_family(self._latency_percentiles())
        yield throughput_family(self.get_throughput_stats())
        yield from memory_families(self._memory.read())


def timestamp_now() -> str:
    """Return the time in UTC as ISO 8601 with milliseconds, such as 2026-01-31T12:00:00.000Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
