"""The completion endpoints."""

from __future__ import annotations

__all__ = ["COMPLETION_PATHS"]

COMPLETION_PATHS = {
    "/v1/chat/completions": "/v1/chat/completions",
    "/chat/completions": "/v1/chat/completions",
    "/v1/completions": "/v1/completions",
}
"""Each path that clients may use, with the worker's."""
