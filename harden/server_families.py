"""A completion server's ledgers as Prometheus metric families; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from harden.server_facts import RequestLedger, WorkerFigures, WorkerLedger

__all__ = ["request_families", "worker_families"]


def request_families(requests: RequestLedger, running: int, waiting: int) -> Iterator[Metric]:
    """Yield the counters of requests and tokens, and the two gauges of the queue."""
    yield GaugeMetricFamily(
        "mlx_num_requests_running", "Requests that the worker is working on.", running
    )
    yield GaugeMetricFamily("mlx_num_requests_waiting", "Requests that wait.", waiting)
    for name, documentation, value in (
        ("mlx_requests_received", "Requests to completion endpoints.", requests.received),
        ("mlx_prompt_tokens", "Tokens of prompts, by usage.", requests.prompt_tokens),
        ("mlx_generation_tokens", "Tokens generated, by usage.", requests.generation_tokens),
        (
            "mlx_prompt_cache_hit_tokens",
            "Tokens of prompts that a cache held.",
            requests.cache_hit_tokens,
        ),
        (
            "mlx_prompt_cache_query_tokens",
            "Tokens of prompts that were looked up.",
            requests.cache_query_tokens,
        ),
    ):
        yield CounterMetricFamily(name, documentation, value)
    yield _counter_by(
        "mlx_request_success",
        "Requests answered whole, by finish reason.",
        "finished_reason",
        # A series that begins at its first event hides that event from rate().
        {"length": 0, "stop": 0, **requests.succeeded},
    )
    yield _counter_by(
        "mlx_request_errors",
        "Requests not answered whole, by HTTP status; 499: the client left.",
        "code",
        requests.failed,
    )


def worker_families(
    workers: WorkerLedger, worker: WorkerFigures | None, gateway_memory: Mapping[str, float]
) -> Iterator[Metric]:
    """Yield the worker's restarts and readiness, and both processes' memory."""
    yield _counter_by(
        "mlx_worker_restarts", "Workers replaced, by reason.", "reason", workers.restarts
    )
    yield GaugeMetricFamily(
        "mlx_worker_ready",
        "1 while the worker answers and makes progress.",
        int(worker is not None and worker.ready),
    )
    yield GaugeMetricFamily(
        "mlx_worker_generated_tokens",
        "Tokens of the current worker, those of abandoned requests included.",
        0 if worker is None else worker.generated_tokens,
    )
    yield GaugeMetricFamily(
        "mlx_worker_generation_restarts",
        "How often the current worker's generation thread started over.",
        0 if worker is None else worker.generation_restarts,
    )
    memory = GaugeMetricFamily(
        "mlx_memory_bytes", "Memory by process and kind.", labels=["process", "kind"]
    )
    worker_memory = {} if worker is None else worker.memory
    for process, kinds in (("gateway", gateway_memory), ("worker", worker_memory)):
        for kind, size_bytes in sorted(kinds.items()):
            memory.add_metric([process, kind], size_bytes)
    yield memory


def _counter_by(
    name: str, documentation: str, label: str, counts: Mapping[str, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for label_value, count in sorted(counts.items()):
        family.add_metric([label_value], count)
    return family
