"""Where the time of a request goes: histograms for Prometheus, exact percentiles for the JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Histogram

from harden.percentiles import Percentiles, SampleWindow

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from harden.server_facts import RequestOutcome

__all__ = ["ServerTimings"]

# Bounds in seconds, of the same reach as vLLM's (its metrics/loggers.py).
_FIRST_TOKEN_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_INTER_TOKEN_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST_BUCKETS_S = (
    *(0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0),
    *(30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


@dataclass(frozen=True, slots=True)
class _Timing:
    """One timing: where an outcome has it, and how it is told."""

    field: str
    metric: str
    documentation: str
    buckets_s: tuple[float, ...]


_TIMINGS = (
    _Timing(
        "time_to_first_token_s",
        "mlx_time_to_first_token_seconds",
        "From arrival to the first token sent.",
        _FIRST_TOKEN_BUCKETS_S,
    ),
    _Timing(
        "inter_token_latency_s",
        "mlx_inter_token_latency_seconds",
        "Mean time between two tokens of a request.",
        _INTER_TOKEN_BUCKETS_S,
    ),
    _Timing(
        "queue_time_s",
        "mlx_request_queue_time_seconds",
        "From arrival to the start of work.",
        _REQUEST_BUCKETS_S,
    ),
    _Timing(
        "prefill_time_s",
        "mlx_request_prefill_time_seconds",
        "Time spent on the prompt.",
        _REQUEST_BUCKETS_S,
    ),
    _Timing(
        "decode_time_s",
        "mlx_request_decode_time_seconds",
        "From the first token to the last.",
        _REQUEST_BUCKETS_S,
    ),
)


class ServerTimings:
    """Books the timings of outcomes. Not locked: the owner is.

    Args:
        registry: where the histograms are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._latency = Histogram(
            "mlx_e2e_request_latency_seconds",
            "From arrival to the end of the answer, of requests that succeeded.",
            buckets=_REQUEST_BUCKETS_S,
            registry=registry,
        )
        self._histograms = {
            each.field: Histogram(
                each.metric, each.documentation, buckets=each.buckets_s, registry=registry
            )
            for each in _TIMINGS
        }
        self._windows = {each.field: SampleWindow() for each in _TIMINGS}

    def record(self, outcome: RequestOutcome) -> None:
        """Book the timings that the outcome knows; the latency only if it succeeded."""
        if outcome.succeeded:
            self._latency.observe(outcome.latency_s)
        for field, histogram in self._histograms.items():
            seconds = getattr(outcome, field)
            if seconds is not None:
                histogram.observe(seconds)
                self._windows[field].record(seconds)

    def percentiles_s(self) -> dict[str, Percentiles]:
        """Return percentiles in seconds by the name of the outcome's field."""
        return {field: window.percentiles() for field, window in self._windows.items()}
