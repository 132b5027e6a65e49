"""Which addresses mean what, for every server of ours: the gateway, and mlx_lm.server hardened."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["COMPLETION_PATHS", "METRICS_PATHS", "metrics_query"]

COMPLETION_PATHS = {
    "/v1/chat/completions": "/v1/chat/completions",
    "/chat/completions": "/v1/chat/completions",
    "/v1/completions": "/v1/completions",
}
"""Each completion endpoint that clients may use, with the one that it stands for."""

METRICS_PATHS = frozenset({"/v1/metrics", "/metrics"})
"""``/metrics`` is the same for Prometheus, whose format is the default there."""


def metrics_query(target: str) -> str:
    """The query to answer for a request target, such as ``/metrics?category=cache``."""
    parts = urlsplit(target)
    if parts.path == "/metrics" and "format=" not in parts.query:
        return f"format=prometheus&{parts.query}".rstrip("&")
    return parts.query
