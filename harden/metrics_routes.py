"""Where the metrics are served, and what each address means; shared by both servers."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["METRICS_PATHS", "metrics_query"]

METRICS_PATHS = frozenset({"/v1/metrics", "/metrics"})
"""``/metrics`` is the same for Prometheus, whose format is the default there."""


def metrics_query(target: str) -> str:
    """The query to answer for a request target, such as ``/metrics?category=cache``."""
    parts = urlsplit(target)
    if parts.path == "/metrics" and "format=" not in parts.query:
        return f"format=prometheus&{parts.query}".rstrip("&")
    return parts.query
