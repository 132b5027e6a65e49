"""Goes on when a cache, the memory or the network fails: classify, retry, degrade, recover.

:class:`ErrorHandler` knows nothing of HTTP or MLX. What it acts on (a cache, a metrics collector,
a generate function, a memory probe) is handed to it; what it did goes to hooks as a record.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from harden.cache_entries import CacheMetrics, clear_entries, count_recovery, remove_entry
from harden.corruption import check_entry
from harden.degradation import Degradation
from harden.error_events import ErrorEvent, EventHook, EventKind, log_event, tell_hooks
from harden.error_messages import describe, level_number
from harden.exceptions import CacheError, NetworkError, OOMError, ValidationError
from harden.memory_probes import MemoryProbeError
from harden.memory_relief import BYTES_PER_MB, MemoryProbe, MemoryRelief, as_mb, probe_footprint
from harden.redaction import redact
from harden.retrying import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from harden.error_results import (
        CacheErrorResult,
        CorruptionResult,
        DegradationResult,
        DegradedAnswer,
        EntryResult,
        OOMResult,
        PreventionResult,
        RiskResult,
        TotalResult,
    )

__all__ = ["CacheError", "ErrorHandler", "NetworkError", "OOMError"]

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)


class ErrorHandler:
    """Handles the errors of one server; thread-safe, and hooks may call it again.

    Args:
        enable_graceful_degradation: whether cache errors in a row switch the cache off.
        max_retries: how often a call that failed in transport is repeated at most.
        retry_backoff_ms: the first delay before a repetition; each further one doubles.
        cache: the cache to clear, and to store rebuilt entries in; an own dict if None.
        metrics: where recoveries are counted.
        generate: answers a request without a cache.
        memory_probe: returns the bytes that the process occupies.
        hooks: called with each event, outside of any lock.
        errors_to_degrade: cache errors in a row that switch the cache off.
        successes_to_recover: successes in a row that switch it on again.

    Raises:
        ValidationError: a number outside its range.
    """

    def __init__(
        self,
        enable_graceful_degradation: bool = True,
        max_retries: int = 3,
        retry_backoff_ms: float = 100,
        *,
        cache: MutableMapping[Any, Any] | None = None,
        metrics: CacheMetrics | None = None,
        generate: Callable[[Any], Any] | None = None,
        memory_probe: MemoryProbe = probe_footprint,
        hooks: Sequence[EventHook] = (log_event,),
        errors_to_degrade: int = 5,
        successes_to_recover: int = 10,
    ) -> None:
        """Bind the parts; nothing is done yet."""
        self._policy = RetryPolicy(max_retries, retry_backoff_ms)
        self._degradation = Degradation(
            enabled=enable_graceful_degradation,
            errors_to_degrade=errors_to_degrade,
            successes_to_recover=successes_to_recover,
        )
        self._cache: MutableMapping[Any, Any] = {} if cache is None else cache
        self._metrics = metrics
        self._generate = generate
        self._memory = MemoryRelief(self._cache, memory_probe)
        self._hooks = tuple(hooks)

    # Cache

    def handle_cache_error(
        self,
        error: BaseException,
        *,
        log_level: str = "warning",
        cache_data: Any = None,
        in_request: bool = False,
    ) -> CacheErrorResult:
        """Let a request go on without the cache, and count the error.

        Args:
            error: what the cache raised.
            log_level: name of the level at which it is logged.
            cache_data: the entry concerned, which must appear neither in the log nor the answer.
            in_request: a request is waiting, whose prefix has to be computed anew.

        Raises:
            ValueError: error is None.
            ValidationError: log_level is none.
        """
        if error is None:
            raise ValueError("error is None; pass the exception that the cache raised")
        message = describe(error, cache_data)
        _logger.log(level_number(log_level), "cache error, going on without the cache: %s", message)
        self._count_cache_error(message)
        return {
            "status": "degraded",
            "cache_enabled": False,
            "fallback": "recompute" if in_request else "bypass",
            "error_message": message,
        }

    def detect_cache_corruption(self, data: bytes) -> CorruptionResult:
        """Check the bytes of an entry, JSON or safetensors.

        Returns:
            ``reason`` says what is wrong: truncated, invalid JSON, binary, empty, or a safetensors
            header's flaw; it is empty for a whole entry, and never quotes the entry.
        """
        report = check_entry(bytes(data))
        return {"corrupted": report.corrupted, "reason": report.reason}

    def recover_from_cache_corruption(
        self,
        key: Any,
        cache_state: MutableMapping[Any, Any] | None = None,
        metrics: CacheMetrics | MutableMapping[str, int] | None = None,
    ) -> EntryResult:
        """Remove one damaged entry, and leave the others alone.

        Args:
            key: of the entry.
            cache_state: the cache that holds it; the bound one if None.
            metrics: where to count it, beside what the handler is bound to: a collector, or a
                mapping whose ``corruption_recoveries`` is increased.
        """
        cache = self._cache if cache_state is None else cache_state
        found = remove_entry(cache, key)
        if found:
            for counter in {id(m): m for m in (self._metrics, metrics)}.values():
                count_recovery(counter)
            self._tell("entry_removed", "a damaged cache entry was removed")
        return {
            "status": "cleared" if found else "not_found",
            "cache_key": key,
            "timestamp": _timestamp(),
        }

    def recover_from_total_corruption(self) -> TotalResult:
        """Empty the bound cache, entry by entry, so that no request has to wait."""
        removed = clear_entries(self._cache)
        self._tell("cache_cleared", f"the whole cache was cleared, {removed} entries")
        return {"status": "cleared_all", "entries_cleared": removed}

    def rebuild_cache_entry(self, key: Any, data: bytes) -> EntryResult:
        """Store an entry again, if its bytes are whole.

        Raises:
            CacheError: they are not.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise CacheError(
                f"an entry is made of bytes, not of {type(data).__name__}; encode it first",
                key=str(key),
                reason="type",
            )
        report = check_entry(bytes(data))
        if report.corrupted:
            raise CacheError(
                f"the rebuilt entry is damaged ({report.reason}); compute it anew",
                key=str(key),
                reason=report.reason,
            )
        self._cache[key] = data
        return {"status": "rebuilt", "cache_key": key, "timestamp": _timestamp()}

    # Memory

    def handle_oom_error(self, error: BaseException | None = None) -> OOMResult:
        """Clear the bound cache and MLX's buffers after memory ran out.

        Returns:
            ``memory_freed_mb`` is the measured difference in MiB, 0.0 where nothing was freed or
            memory cannot be measured.
        """
        relief = self._memory.release()
        reason = describe(error) if error is not None else "memory is short"
        self._tell("oom", reason, freed_bytes=relief.freed_bytes)
        return {
            "status": "recovered",
            "cache_cleared": relief.complete,
            "memory_freed_mb": relief.freed_bytes / BYTES_PER_MB,
        }

    def detect_oom_condition(self, threshold_percent: float = 90) -> RiskResult:
        """Compare the memory in use with what there is: the machine's, or the container's.

        Returns:
            ``oom_risk`` is False, beside a ``warning``, where psutil cannot say.
        """
        try:
            percent = self._memory.used_percent()
        except MemoryProbeError as error:
            return {"oom_risk": False, "warning": str(error)}
        return {"oom_risk": percent >= threshold_percent, "memory_percent": percent}

    def prevent_oom(self, threshold_percent: float = 90) -> PreventionResult:
        """Clear the caches if memory is about to run out.

        Returns:
            Both figures are measured, in MiB; None where memory cannot be measured.
        """
        risk = self.detect_oom_condition(threshold_percent)
        if not risk["oom_risk"]:
            now_mb = as_mb(self._memory.in_use_bytes())
            return {"action": "none", "memory_before_mb": now_mb, "memory_after_mb": now_mb}
        relief = self._memory.release()
        detail = f"memory was at {risk['memory_percent']:.0f}%, the caches were cleared"
        self._tell("oom", detail, freed_bytes=relief.freed_bytes)
        return {
            "action": "cache_cleared",
            "memory_before_mb": as_mb(relief.before_bytes),
            "memory_after_mb": as_mb(relief.after_bytes),
        }

    # Network

    def handle_network_error(self, error: BaseException, retry_fn: Callable[[], Result]) -> Result:
        """Wait once, then call as :meth:`retry_with_backoff` does; delays go on growing.

        Args:
            error: what the first call, made by the caller, raised.
            retry_fn: makes the call again.

        Raises:
            NetworkError: the retries are used up.
        """
        delay_s = self._policy.delay_s(0)
        self._tell_retry(error, delay_s, 1)
        time.sleep(delay_s)
        return self._policy.call(retry_fn, on_retry=self._tell_retry, delays_before=1)

    def retry_with_backoff(self, fn: Callable[[], Result]) -> Result:
        """Call until it succeeds; only failures in transport are repeated.

        Raises:
            NetworkError: the retries are used up; its cause is the last error.
        """
        return self._policy.call(fn, on_retry=self._tell_retry)

    # Degradation

    def record_cache_error(self, error: BaseException) -> None:
        """Count a cache error; enough of them in a row switch the cache off."""
        self._count_cache_error(describe(error))

    def record_cache_success(self) -> None:
        """Count a success; enough of them in a row switch the cache on again."""
        if self._degradation.record_success():
            self._tell("recovered", "the cache is used again")

    def check_degradation_status(self) -> DegradationResult:
        """Return the mode, and whether the cache is to be used."""
        state = self._degradation.state
        return {
            "mode": state.mode,
            "cache_enabled": state.mode == "normal",
            "errors_in_a_row": state.errors_in_a_row,
            "successes_in_a_row": state.successes_in_a_row,
        }

    def handle_request_in_degraded_mode(self, request: Any) -> DegradedAnswer:
        """Answer a request through the bound generate function, without the cache.

        Raises:
            ValidationError: no generate function is bound.
            Exception: whatever that function raises.
        """
        if self._generate is None:
            fix = "Pass generate=… to ErrorHandler, a function from a request to its answer."
            raise ValidationError(
                f"no generate function is bound. {fix}", setting="generate", fix=fix
            )
        response = self._generate(request)
        return {"success": True, "cache_used": False, "response": response}

    # Messages

    def sanitize_error_message(self, text: object) -> str:
        """Take paths, keys and addresses out of a message; see :func:`harden.redaction.redact`."""
        return redact(str(text))

    def _count_cache_error(self, message: str) -> None:
        degraded = self._degradation.record_error()
        self._tell("cache_error", message)
        if degraded:
            self._tell("degraded", "too many cache errors in a row, the cache is not used")

    def _tell_retry(self, error: BaseException, delay_s: float, attempt: int) -> None:
        self._tell("retry", describe(error), delay_s=delay_s, attempt=attempt)

    def _tell(self, kind: EventKind, detail: str, **facts: Any) -> None:
        tell_hooks(self._hooks, ErrorEvent(kind, detail, **facts))


def _timestamp() -> str:
    return datetime.now(UTC).isoformat()
