"""One request as a server follows it, from its arrival to the outcome that the metrics keep."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from harden.server_facts import RequestOutcome

__all__ = ["CLIENT_CLOSED_REQUEST", "RequestRecord"]

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left before its answer; it only appears in metrics and logs."""

_OK = 200


@dataclass(slots=True)
class RequestRecord:
    """Times (``time.monotonic`` seconds) and counts of one request, filled in on its way.

    Attributes:
        received: when the request arrived.
        started: when work on it began.
        first_token: when its first token came.
        last_token: when its latest token came.
        finish_reason: why generation ended, once it has.
        prompt_tokens: length of the prompt, once it is known.
        generation_tokens: tokens generated.
        cached_tokens: tokens of the prompt that a cache held.
        status: how the request ended; until it is set, as if the client had left.
    """

    received: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    cached_tokens: int | None = None
    status: int = CLIENT_CLOSED_REQUEST

    @property
    def age_s(self) -> float:
        """Seconds since it arrived."""
        return time.monotonic() - self.received

    @property
    def time_to_first_token_s(self) -> float | None:
        """Seconds from arrival to the first token."""
        return _span_s(self.received, self.first_token)

    def token_seen(self) -> None:
        """A token, or several at once, came just now."""
        self.last_token = time.monotonic()
        if self.first_token is None:
            self.first_token = self.last_token

    def forget_attempt(self) -> None:
        """The attempt came to nothing: what it measured does not count."""
        self.started = self.first_token = self.last_token = None
        self.finish_reason = None
        self.prompt_tokens = self.generation_tokens = self.cached_tokens = None

    def outcome(self) -> RequestOutcome:
        """What the metrics keep. Tokens count only for answers that ended well."""
        complete = self.status == _OK
        decode_s = _span_s(self.first_token, self.last_token)
        gaps = (self.generation_tokens or 0) - 1
        return RequestOutcome(
            status=self.status,
            finish_reason=(self.finish_reason or "unknown") if complete else None,
            prompt_tokens=self.prompt_tokens if complete else None,
            generation_tokens=self.generation_tokens if complete else None,
            cached_tokens=self.cached_tokens if complete else None,
            queue_time_s=_span_s(self.received, self.started),
            time_to_first_token_s=self.time_to_first_token_s,
            inter_token_latency_s=decode_s / gaps if decode_s is not None and gaps > 0 else None,
            prefill_time_s=_span_s(self.started, self.first_token),
            decode_time_s=decode_s,
            latency_s=self.age_s,
        )


def _span_s(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
