"""What the gateway and its worker say to each other beside OpenAI's API, each word once."""

from __future__ import annotations

__all__ = ["DEADLINE_HEADER", "GENERATION_LOST", "STATUS_PATH"]

DEADLINE_HEADER = "X-Harden-Timeout-Ms"
"""Milliseconds that a request may still take: the gateway sends it, the worker enforces it."""

GENERATION_LOST = "generation_lost"
"""Code of the worker's error for requests whose generation thread failed; see ErrorAnswer."""

STATUS_PATH = "/harden/status"
"""Where the worker gives its figures as JSON."""
