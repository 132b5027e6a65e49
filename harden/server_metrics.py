"""What a completion server measures: its requests, their timings, its tokens and its worker.

The names are those of vLLM's metrics with the prefix `mlx_`, which dashboards know. Counters and
the JSON snapshot come from one ledger that changes under one lock, so that they always add up.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from harden import memory_probes
from harden.metric_families import CallbackCollector
from harden.server_facts import RequestLedger, RequestOutcome, WorkerFigures, WorkerLedger
from harden.server_families import request_families, worker_families
from harden.server_snapshot import ServerFacts, snapshot_json
from harden.server_timings import ServerTimings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from harden.metrics_collector import MetricsCollector

__all__ = ["RequestOutcome", "ServerMetrics", "WorkerFigures"]

_MS_PER_S = 1000


class ServerMetrics:
    """Measures a completion server; safe to call from an event loop and from any thread.

    What a queue, a worker or the degradation tells is asked for when somebody reads, through the
    functions that are bound; until then there is no queue, no worker, and the mode is normal.

    Args:
        collector: the library's collector; metrics are registered on its registry too.
    """

    def __init__(self, collector: MetricsCollector) -> None:
        self.collector = collector
        self._lock = threading.Lock()
        self._requests = RequestLedger()
        self._workers = WorkerLedger()
        self._timings = ServerTimings(collector.registry)
        self._running: Callable[[], int] = lambda: 0
        self._waiting: Callable[[], int] = lambda: 0
        self._worker: Callable[[], WorkerFigures | None] = lambda: None
        self._mode: Callable[[], tuple[str, bool]] = lambda: ("normal", True)
        collector.registry.register(CallbackCollector(self._families))

    def bind_queue(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Say how to learn how many requests the worker has, and how many wait for it."""
        self._running, self._waiting = running, waiting

    def bind_worker(self, figures: Callable[[], WorkerFigures | None]) -> None:
        """Say how to learn the worker's state; it returns None while there is no worker."""
        self._worker = figures

    def bind_mode(self, mode: Callable[[], tuple[str, bool]]) -> None:
        """Say how to learn the mode ("normal" or "degraded") and whether the cache is used."""
        self._mode = mode

    def request_received(self) -> None:
        """Count a request to a completion endpoint when it arrives."""
        with self._lock:
            self._requests.received += 1

    def request_finished(self, outcome: RequestOutcome) -> None:
        """Book the end of a request that was received before.

        Raises:
            ValueError: more requests ended than were received.
        """
        with self._lock:
            self._requests.finish(outcome)
            self._timings.record(outcome)
            self._tell_collector(outcome)

    def worker_started(self) -> None:
        """Count a worker process that was started."""
        with self._lock:
            self._workers.starts += 1

    def worker_restarted(self, reason: str) -> None:
        """Count a worker that is replaced; `reason` is a short word such as "SIGKILL"."""
        with self._lock:
            self._workers.restarts[reason] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return everything as a dict that `json.dumps` takes; its counts belong together.

        The answering process's memory is recorded, so that its growth is since the first call.
        """
        return snapshot_json(self._facts())

    def prometheus(self) -> str:
        """Return the whole registry in the Prometheus text format, version 0.0.4."""
        return self.collector.export_metrics_prometheus()

    def _tell_collector(self, outcome: RequestOutcome) -> None:
        if outcome.succeeded:
            self.collector.record_latency(outcome.latency_s * _MS_PER_S)
            self.collector.record_request()
        if outcome.cached_tokens is None:
            return
        if outcome.cached_tokens > 0:
            self.collector.record_cache_hit()
        else:
            self.collector.record_cache_miss()

    def _facts(self) -> ServerFacts:
        self.collector.record_memory_usage()
        running, waiting = self._running(), self._waiting()
        worker, (mode, cache_enabled) = self._worker(), self._mode()
        with self._lock:
            return ServerFacts(
                export=self.collector.export_metrics_json(),
                requests=self._requests.copy(),
                workers=self._workers.copy(),
                timings_s=self._timings.percentiles_s(),
                running=running,
                waiting=waiting,
                worker=worker,
                gateway_memory=memory_probes.memory_by_kind(),
                mode=mode,
                cache_enabled=cache_enabled,
            )

    def _families(self) -> Iterator[Metric]:
        worker = self._worker()
        with self._lock:
            requests, workers = self._requests.copy(), self._workers.copy()
        yield from request_families(requests, self._running(), self._waiting())
        yield from worker_families(workers, worker, memory_probes.memory_by_kind())
