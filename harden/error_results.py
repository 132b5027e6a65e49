"""What the calls of :class:`harden.error_handler.ErrorHandler` answer, as plain dicts."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "CacheErrorResult",
    "CorruptionResult",
    "DegradationResult",
    "DegradedAnswer",
    "EntryResult",
    "OOMResult",
    "PreventionResult",
    "RiskResult",
    "TotalResult",
]


class CacheErrorResult(TypedDict):
    """How a request goes on after a cache error."""

    status: Literal["degraded"]
    cache_enabled: Literal[False]
    fallback: Literal["recompute", "bypass"]
    error_message: str


class CorruptionResult(TypedDict):
    """Whether an entry's bytes are damaged, and how."""

    corrupted: bool
    reason: str


class EntryResult(TypedDict):
    """What became of one entry."""

    status: Literal["cleared", "not_found", "rebuilt"]
    cache_key: Any
    timestamp: str


class TotalResult(TypedDict):
    """What became of all entries."""

    status: Literal["cleared_all"]
    entries_cleared: int


class OOMResult(TypedDict):
    """What clearing the caches brought, measured in MiB."""

    status: Literal["recovered"]
    cache_cleared: bool
    memory_freed_mb: float


class RiskResult(TypedDict, total=False):
    """How full memory is; ``warning`` instead of a figure where that is not known."""

    oom_risk: bool
    memory_percent: float
    warning: str


class PreventionResult(TypedDict):
    """What was done about a risk; figures in MiB, None where they cannot be measured."""

    action: Literal["cache_cleared", "none"]
    memory_before_mb: float | None
    memory_after_mb: float | None


class DegradationResult(TypedDict):
    """Whether the cache is used."""

    mode: Literal["normal", "degraded"]
    cache_enabled: bool
    errors_in_a_row: int
    successes_in_a_row: int


class DegradedAnswer(TypedDict):
    """An answer that was computed without the cache."""

    success: Literal[True]
    cache_used: Literal[False]
    response: Any
