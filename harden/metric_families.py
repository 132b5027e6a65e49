"""Figures as Prometheus metric families, built when somebody scrapes and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from harden.memory_tracker import MemoryReading
    from harden.metrics_types import CacheStats, ThroughputStats
    from harden.percentiles import Percentiles

__all__ = [
    "CallbackCollector",
    "cache_families",
    "latency_family",
    "memory_families",
    "throughput_family",
]


class CallbackCollector(Collector):
    """Registers a function that yields metric families.

    Args:
        families: called at every scrape, and once when registered, to learn the names.
    """

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families as they are now."""
        return self._families()

    def describe(self) -> Iterable[Metric]:
        """Return the families for their names, so that a registry refuses the same ones twice."""
        return self._families()


def cache_families(cache: CacheStats) -> Iterator[Metric]:
    """Yield the counters of a collector's cache."""
    yield CounterMetricFamily("cache_hit", "Lookups that the cache answered.", cache["cache_hits"])
    yield CounterMetricFamily(
        "cache_miss", "Lookups that the cache could not answer.", cache["cache_misses"]
    )
    yield CounterMetricFamily(
        "mlx_cache_corruption_recoveries",
        "Damaged cache entries that were found and removed.",
        cache["corruption_recoveries"],
    )


def latency_family(latency: Percentiles) -> Metric:
    """Return latencies as a summary: quantiles over the newest records, in milliseconds."""
    family = SummaryMetricFamily(
        "mlx_latency_milliseconds",
        "Latency of requests; quantiles are exact over the newest 10,000.",
        count_value=latency.count,
        sum_value=latency.total,
    )
    for quantile, value in (("0.5", latency.p50), ("0.95", latency.p95), ("0.99", latency.p99)):
        family.add_sample("mlx_latency_milliseconds", {"quantile": quantile}, value)
    return family


def throughput_family(throughput: ThroughputStats) -> Metric:
    """Return the counter of requests that were recorded for the throughput."""
    return CounterMetricFamily(
        "mlx_throughput_requests",
        "Requests recorded for the throughput.",
        throughput["total_requests"],
    )


def memory_families(memory: MemoryReading | None) -> Iterator[Metric]:
    """Yield this process's memory; nothing where it cannot be read."""
    if memory is None:
        return
    yield GaugeMetricFamily(
        "mlx_process_resident_memory_bytes",
        "Resident memory of the answering process.",
        memory.current_bytes,
    )
    yield GaugeMetricFamily(
        "mlx_process_resident_memory_peak_bytes",
        "The most that was recorded of it.",
        memory.peak_bytes,
    )
