"""What a gateway is told at its start, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GatewayConfiguration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfiguration:
    """Everything that the gateway needs to know; the command line's ``serve`` fills it in.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        model_name: the name that clients use; None where a foreign backend decides.
        allowed_origins: web origins for CORS; "*" for all.
        api_key: bearer token for ``/v1/*``; None leaves it open.
        metrics_key: bearer token for the metrics; None leaves them open.
        max_running: requests at the worker at once.
        max_waiting: requests in the queue before 429.
        max_body_bytes: largest request body.
        request_timeout_s: longest life of a request, queue included.
        drain_timeout_s: how long running requests may go on after SIGTERM.
        stall_timeout_s: how long a worker may have work and make no progress.
        start_timeout_s: how long a worker may take to be ready.
        keepalive_interval_s: silence on a stream after which a comment is sent.
        warm_up: have each worker generate a token before clients may use it.
    """

    host: str
    port: int
    model_name: str | None
    allowed_origins: tuple[str, ...] = ("*",)
    api_key: str | None = None
    metrics_key: str | None = None
    max_running: int = 32
    max_waiting: int = 256
    max_body_bytes: int = 16_000_000
    request_timeout_s: float = 600.0
    drain_timeout_s: float = 30.0
    stall_timeout_s: float = 60.0
    start_timeout_s: float = 600.0
    keepalive_interval_s: float = 5.0
    warm_up: bool = False
