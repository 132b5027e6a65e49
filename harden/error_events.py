"""What the error handler did, as one frozen record that any number of hooks may look at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

__all__ = ["ErrorEvent", "EventHook", "EventKind", "log_event", "tell_hooks"]

EventKind = Literal[
    "cache_error", "degraded", "recovered", "entry_removed", "cache_cleared", "oom", "retry"
]

_LOG_LEVELS: dict[str, int] = {
    "cache_error": logging.DEBUG,  # handle_cache_error logs at the level that its caller wants
    "degraded": logging.ERROR,
    "recovered": logging.INFO,
}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class ErrorEvent:
    """One thing that went wrong, or was put right.

    Attributes:
        kind: what happened: a cache error counted, the cache switched off (degraded) or on again
            (recovered), an entry removed, everything cleared, memory short, a call repeated.
        detail: one sentence, redacted.
        delay_s: for a retry, how long it waits first.
        attempt: for a retry, how many calls failed so far.
        freed_bytes: for memory, the measured difference.
        occurred_at: when, in UTC.
    """

    kind: EventKind
    detail: str
    delay_s: float | None = None
    attempt: int | None = None
    freed_bytes: int | None = None
    occurred_at: datetime = field(default_factory=_now)


EventHook = Callable[[ErrorEvent], None]

_logger = logging.getLogger("harden.error_handler")


def log_event(event: ErrorEvent) -> None:
    """Write an event to the log; the hook that a handler has by default."""
    _logger.log(_LOG_LEVELS.get(event.kind, logging.WARNING), "%s: %s", event.kind, event.detail)


def tell_hooks(hooks: tuple[EventHook, ...], event: ErrorEvent) -> None:
    """Call each hook; one that raises is logged and costs the others nothing."""
    for hook in hooks:
        try:
            hook(event)
        except Exception as error:  # noqa: BLE001 - it is the user's code
            _logger.warning("a hook raised %s on %s", type(error).__name__, event.kind)
