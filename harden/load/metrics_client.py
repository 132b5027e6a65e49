"""The server's own account of itself, read from ``/v1/metrics``."""

from __future__ import annotations

import http.client
import json
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.exceptions import HardenError
from harden.load.connection import bearer_headers, check_url, open_connection, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MetricsClient", "ServerMetricsError", "ServerSnapshot", "metrics_key", "parse_snapshot"]

_PATH = "/v1/metrics"
_MAX_BODY_BYTES = 1024 * 1024
_ADVICE = {
    401: "it wants a key: set METRICS_API_KEY, or HARDEN_API_KEY",
    403: "it refuses this key: check METRICS_API_KEY and HARDEN_API_KEY",
    404: "it has no such page: run the server by `harden serve`, or put "
    "`harden serve --backend` in front of it",
}


class ServerMetricsError(HardenError):
    """The server's metrics cannot be had, so nothing can be judged by them."""


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """What the server had counted at one moment.

    Attributes:
        uptime_s: age of the counters in seconds.
        received: completion requests received.
        finished: completion requests answered or given up.
        in_flight: completion requests received and not finished.
        succeeded: successes by finish reason.
        failed: failures by HTTP status; "499" where the client went away.
        prompt_tokens: tokens of prompts, over requests that ended with usage.
        generation_tokens: generated tokens, over requests that ended with usage.
        requests_with_usage: how many requests those were.
        memory_mb: memory by process ("gateway", "worker"), for those that can be measured.
        mlx_active_mb: memory of live MLX arrays, where there is an MLX worker.
        worker_starts: how often the worker was started, where there is one.
    """

    uptime_s: float
    received: int
    finished: int
    in_flight: int
    succeeded: Mapping[str, int]
    failed: Mapping[str, int]
    prompt_tokens: int
    generation_tokens: int
    requests_with_usage: int
    memory_mb: Mapping[str, float]
    mlx_active_mb: float | None
    worker_starts: int | None

    def restart_since(self, earlier: ServerSnapshot) -> str | None:
        """Return which counter went backwards since an earlier snapshot, or None."""
        for name in ("uptime_s", "received", "finished", "generation_tokens"):
            before, now = getattr(earlier, name), getattr(self, name)
            if now < before:
                return f"{name} went from {before:g} back to {now:g}"
        return None


class MetricsClient:
    """Reads the metrics of one server."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Describe the server; nothing is read yet.

        Args:
            url: its base URL.
            api_key: key sent as a bearer token; None takes the environment's.
            timeout_s: longest wait for an answer.
            clock: monotonic clock in seconds, for ``settle``.
            sleep: waits some seconds, for ``settle``.

        Raises:
            ValidationError: the URL is not one.
        """
        self._url = check_url(url)
        self._headers = bearer_headers(api_key or metrics_key())
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    def scrape(self) -> ServerSnapshot:
        """Read the metrics now.

        Raises:
            ServerMetricsError: they cannot be read, or lack what the ledger needs.
        """
        status, body = self._get()
        if status != http.HTTPStatus.OK:
            advice = _ADVICE.get(status, "look into the server's log")
            raise ServerMetricsError(f"{self._url}{_PATH} answered {status}; {advice}")
        try:
            document = json.loads(body)
        except ValueError as error:
            raise ServerMetricsError(f"{self._url}{_PATH} is not JSON; {_ADVICE[404]}") from error
        return parse_snapshot(document, source=self._url + _PATH)

    def settle(self, timeout_s: float, poll_interval_s: float = 0.1) -> ServerSnapshot:
        """Wait until the server has no request in flight, and return what it counted by then.

        Args:
            timeout_s: longest wait.
            poll_interval_s: pause between two readings.

        Raises:
            ServerMetricsError: a reading failed, or requests were in flight all the time.
        """
        deadline = self._clock() + timeout_s
        while (snapshot := self.scrape()).in_flight:
            if self._clock() >= deadline:
                raise ServerMetricsError(
                    f"{self._url} still had {snapshot.in_flight} requests in flight after "
                    f"{timeout_s:g} s without any of ours; is somebody else using the server?"
                )
            self._sleep(poll_interval_s)
        return snapshot

    def _get(self) -> tuple[int, bytes]:
        connection = open_connection(self._url, self._timeout_s)
        try:
            connection.request("GET", path_of(self._url, _PATH), headers=dict(self._headers))
            response = connection.getresponse()
            return response.status, response.read(_MAX_BODY_BYTES)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ServerMetricsError(
                f"cannot read {self._url}{_PATH}: {reason}; is the server running at that address?"
            ) from error
        finally:
            connection.close()


def metrics_key() -> str | None:
    """Return the key for the metrics from the environment, or None."""
    return os.environ.get("METRICS_API_KEY") or os.environ.get("HARDEN_API_KEY") or None


def parse_snapshot(document: Any, source: str = _PATH) -> ServerSnapshot:
    """Read the JSON of ``/v1/metrics``.

    Args:
        document: the parsed JSON.
        source: where it came from, for the error's text.

    Raises:
        ServerMetricsError: a figure that the ledger needs is missing or no number.
    """
    read = _Reader(document, source)
    worker = read.mapping_or_none("worker") or {}
    memory = read.mapping_or_none("memory") or {}
    starts = worker.get("starts")
    return ServerSnapshot(
        uptime_s=read.number("uptime_seconds"),
        received=read.count("requests", "received"),
        finished=read.count("requests", "finished"),
        in_flight=read.count("requests", "in_flight"),
        succeeded=read.counts("requests", "succeeded"),
        failed=read.counts("requests", "failed"),
        prompt_tokens=read.count("tokens", "prompt_tokens"),
        generation_tokens=read.count("tokens", "generation_tokens"),
        requests_with_usage=read.count("tokens", "requests_with_usage"),
        memory_mb=_memory_mb(memory),
        mlx_active_mb=_positive(memory.get("worker"), "mlx_active_mb"),
        worker_starts=starts if isinstance(starts, int) else None,
    )


class _Reader:
    """Reads figures out of a document and names the one that is missing."""

    def __init__(self, document: Any, source: str) -> None:
        self._document = document
        self._source = source

    def value(self, *path: str) -> Any:
        value = self._document
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def number(self, *path: str) -> float:
        value = self.value(*path)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self._missing(path, value)
        return float(value)

    def count(self, *path: str) -> int:
        value = self.number(*path)
        if value < 0 or value != int(value):
            raise self._missing(path, value)
        return int(value)

    def counts(self, *path: str) -> dict[str, int]:
        value = self.value(*path)
        if not isinstance(value, dict):
            raise self._missing(path, value)
        return {name: self.count(*path, name) for name in value}

    def mapping_or_none(self, *path: str) -> dict[str, Any] | None:
        value = self.value(*path)
        return value if isinstance(value, dict) else None

    def _missing(self, path: tuple[str, ...], value: Any) -> ServerMetricsError:
        name = ".".join(path)
        return ServerMetricsError(
            f"{self._source} has no usable {name} (it is {value!r}); "
            "the server's version and this one do not fit together"
        )


def _memory_mb(memory: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name in ("gateway", "worker"):
        size_mb = _process_memory_mb(memory.get(name))
        if size_mb is not None:
            found[name] = size_mb
    return found


def _process_memory_mb(process: Any) -> float | None:
    """Return a process's memory in MB: its own, or what MLX says it holds if that is more.

    On Metal the arrays are not always part of the process's resident memory.
    """
    own_mb = _positive(process, "anonymous_mb") or _positive(process, "rss_mb")
    if own_mb is None:
        return None
    arrays_mb = (_positive(process, "mlx_active_mb") or 0) + (
        _positive(process, "mlx_cache_mb") or 0
    )
    return max(own_mb, arrays_mb)


def _positive(process: Any, name: str) -> float | None:
    value = process.get(name) if isinstance(process, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None
