"""A completion server's facts as the JSON of /v1/metrics; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harden.metrics_types import MetricsExport
    from harden.percentiles import Percentiles
    from harden.server_facts import RequestLedger, WorkerFigures, WorkerLedger

__all__ = ["ServerFacts", "snapshot_json"]

_MS_PER_S = 1000
_BYTES_PER_MB = 1024 * 1024
_PROCESS_KINDS = ("rss", "anonymous")
_WORKER_KINDS = (*_PROCESS_KINDS, "mlx_active", "mlx_cache", "mlx_peak")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """All that a server knows at one moment.

    Attributes:
        export: what the library's collector says.
        requests: totals over the requests.
        workers: totals over the worker processes.
        timings_s: percentiles in seconds by timing, named as in `RequestOutcome`.
        running: requests that the worker has.
        waiting: requests that wait for it.
        worker: the worker now; None while there is none.
        gateway_memory: bytes by kind of the answering process.
        mode: "normal" or "degraded".
        cache_enabled: whether requests may use the cache.
    """

    export: MetricsExport
    requests: RequestLedger
    workers: WorkerLedger
    timings_s: Mapping[str, Percentiles]
    running: int
    waiting: int
    worker: WorkerFigures | None
    gateway_memory: Mapping[str, float]
    mode: str
    cache_enabled: bool


def snapshot_json(facts: ServerFacts) -> dict[str, Any]:
    """Return the facts as a dict that `json.dumps` takes."""
    return {
        "timestamp": facts.export["timestamp"],
        "uptime_seconds": facts.export["uptime_seconds"],
        "cache": _cache(facts),
        "latency": _latency(facts),
        "memory": _memory(facts),
        "throughput": dict(facts.export["throughput"]),
        "requests": _requests(facts),
        "tokens": _tokens(facts.requests),
        "worker": _worker(facts),
    }


def _cache(facts: ServerFacts) -> dict[str, Any]:
    return {
        **facts.export["cache"],
        "hit_tokens": facts.requests.cache_hit_tokens,
        "query_tokens": facts.requests.cache_query_tokens,
        "mode": facts.mode,
        "cache_enabled": facts.cache_enabled,
    }


def _latency(facts: ServerFacts) -> dict[str, Any]:
    timings = {
        f"{name.removesuffix('_s')}_ms": _milliseconds(seconds)
        for name, seconds in facts.timings_s.items()
    }
    return {**facts.export["latency"], **timings}


def _milliseconds(seconds: Percentiles) -> dict[str, float]:
    return {
        "count": seconds.count,
        "p50": seconds.p50 * _MS_PER_S,
        "p95": seconds.p95 * _MS_PER_S,
        "p99": seconds.p99 * _MS_PER_S,
    }


def _memory(facts: ServerFacts) -> dict[str, Any]:
    worker = None if facts.worker is None else _megabytes(facts.worker.memory, _WORKER_KINDS)
    return {
        **facts.export["memory"],
        "gateway": _megabytes(facts.gateway_memory, _PROCESS_KINDS),
        "worker": worker,
    }


def _megabytes(size_bytes: Mapping[str, float], kinds: tuple[str, ...]) -> dict[str, float | str]:
    """Return every kind asked for, and whatever else is known, as `<kind>_mb`."""
    known = {f"{kind}_mb": size / _BYTES_PER_MB for kind, size in size_bytes.items()}
    return {f"{kind}_mb": "unavailable" for kind in kinds} | known


def _requests(facts: ServerFacts) -> dict[str, Any]:
    requests = facts.requests
    return {
        "received": requests.received,
        "finished": requests.finished,
        "in_flight": requests.received - requests.finished,
        "running": facts.running,
        "waiting": facts.waiting,
        "succeeded": dict(requests.succeeded),
        "failed": dict(requests.failed),
    }


def _tokens(requests: RequestLedger) -> dict[str, int]:
    return {
        "prompt_tokens": requests.prompt_tokens,
        "generation_tokens": requests.generation_tokens,
        "requests_with_usage": requests.with_usage,
    }


def _worker(facts: ServerFacts) -> dict[str, Any]:
    worker = facts.worker
    return {
        "ready": worker is not None and worker.ready,
        "pid": None if worker is None else worker.pid,
        "generated_tokens": 0 if worker is None else worker.generated_tokens,
        "generation_restarts": 0 if worker is None else worker.generation_restarts,
        "starts": facts.workers.starts,
        "restarts": dict(facts.workers.restarts),
    }
