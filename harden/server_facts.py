"""What a server of completions knows about its requests and its worker, as plain facts."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RequestLedger", "RequestOutcome", "WorkerFigures", "WorkerLedger"]

_HTTP_OK = 200
_NUMBER = (int, float)
# Finish reasons become labels: a backend that made up its own would add a metric for each.
_FINISH_REASONS = frozenset(
    {"stop", "length", "tool_calls", "function_call", "content_filter", "abort", "error"}
)


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """How one request to a completion endpoint ended; None is "not known".

    Attributes:
        status: the HTTP status that the client should have got: 499 when the client left, one
            of the 500s for a stream that was cut although its status line said 200.
        finish_reason: OpenAI's word for why generation ended.
        prompt_tokens: length of the prompt, from the answer's usage.
        generation_tokens: tokens generated, from the answer's usage.
        cached_tokens: tokens of the prompt that a cache held.
        queue_time_s: seconds from arrival to the start of work.
        time_to_first_token_s: seconds from arrival to the first token sent.
        inter_token_latency_s: mean seconds between two tokens of this request.
        prefill_time_s: seconds spent on the prompt.
        decode_time_s: seconds from the first token to the last.
        latency_s: seconds from arrival to the end of the answer.

    Raises:
        ValueError: a figure that is not a number, negative or not finite.
    """

    status: int
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    cached_tokens: int | None = None
    queue_time_s: float | None = None
    time_to_first_token_s: float | None = None
    inter_token_latency_s: float | None = None
    prefill_time_s: float | None = None
    decode_time_s: float | None = None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, _NUMBER) and 0 <= value < math.inf):
                raise ValueError(f"{name} of {value!r}: expected a finite number from 0 up")

    @property
    def succeeded(self) -> bool:
        """Whether the client got a whole answer."""
        return self.status == _HTTP_OK and self.finish_reason is not None


_NUMBERS = tuple(each.name for each in fields(RequestOutcome) if each.name != "finish_reason")


@dataclass(slots=True)
class RequestLedger:
    """Running totals over the requests; received is always finished + in flight."""

    received: int = 0
    finished: int = 0
    succeeded: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    generation_tokens: int = 0
    with_usage: int = 0
    cache_hit_tokens: int = 0
    cache_query_tokens: int = 0

    def finish(self, outcome: RequestOutcome) -> None:
        """Book the end of one request.

        Raises:
            ValueError: more requests ended than were received.
        """
        if self.finished == self.received:
            raise ValueError(
                f"a request ended while all {self.received} received had: "
                "call request_received() once before each request_finished()"
            )
        self.finished += 1
        if outcome.succeeded:
            reason = str(outcome.finish_reason)
            self.succeeded[reason if reason in _FINISH_REASONS else "other"] += 1
        else:
            self.failed[str(outcome.status)] += 1
        self._book_tokens(outcome)

    def copy(self) -> RequestLedger:
        """Return a copy that no later request changes."""
        return copy.deepcopy(self)

    def _book_tokens(self, outcome: RequestOutcome) -> None:
        if outcome.prompt_tokens is None:
            return
        if outcome.generation_tokens is not None:
            self.with_usage += 1
            self.prompt_tokens += outcome.prompt_tokens
            self.generation_tokens += outcome.generation_tokens
        if outcome.cached_tokens is not None:
            self.cache_hit_tokens += outcome.cached_tokens
            self.cache_query_tokens += outcome.prompt_tokens


@dataclass(slots=True)
class WorkerLedger:
    """Running totals over the worker processes."""

    starts: int = 0
    restarts: Counter[str] = field(default_factory=Counter)

    def copy(self) -> WorkerLedger:
        """Return a copy that no later restart changes."""
        return copy.deepcopy(self)


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """The worker as it is now.

    Attributes:
        ready: whether it answers and makes progress.
        pid: its process; None while there is none.
        memory: bytes by kind: rss, anonymous, mlx_active, mlx_cache, mlx_peak; those known.
        generated_tokens: tokens since its start, those of abandoned requests included.
        generation_restarts: how often its generation thread started over.
    """

    ready: bool
    pid: int | None = None
    memory: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    generated_tokens: int = 0
    generation_restarts: int = 0
