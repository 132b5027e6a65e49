"""The dicts that the metrics rooms return, as a type checker sees them."""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = [
    "CacheStats",
    "LatencyStats",
    "MemoryStats",
    "MetricsExport",
    "ThroughputStats",
]


class CacheStats(TypedDict):
    """Lookups of the cache; `hit_rate` is 0.0 to 1.0, and 0.0 before the first lookup."""

    cache_hits: int
    cache_misses: int
    hit_rate: float
    corruption_recoveries: int


class LatencyStats(TypedDict):
    """Percentiles in milliseconds over the newest 10,000 records; `count` is of all records."""

    enabled: bool
    count: int
    p50: float
    p95: float
    p99: float


class MemoryStats(TypedDict):
    """Resident memory of this process; growth is from the first record, in percent of it.

    Where the memory cannot be read, or is not to be, each figure is the word "unavailable" and
    `message` says why.
    """

    enabled: bool
    current_mb: float | str
    peak_mb: float | str
    growth_percent: float | str
    message: NotRequired[str]


class ThroughputStats(TypedDict):
    """Requests since the start, and per second over the last `window_seconds`."""

    total_requests: int
    requests_per_second: float
    window_seconds: float


class MetricsExport(TypedDict):
    """Everything at one moment; `timestamp` is ISO 8601 in UTC."""

    timestamp: str
    uptime_seconds: float
    cache: CacheStats
    latency: LatencyStats
    memory: MemoryStats
    throughput: ThroughputStats
