"""Reads an upstream's stream of events in passing: what to hand on, and what it says; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from harden.sse import event_data

__all__ = ["StreamRelay", "Usage", "read_usage"]

_UNFINISHED = b'"finish_reason": null'


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer, as upstream gives them; None where it does not."""

    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    cached_tokens: int | None = None


def read_usage(usage: Any) -> Usage:
    """Read OpenAI's usage object, whatever it turns out to be."""
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    return Usage(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class StreamRelay:
    """State of one stream.

    Attributes:
        usage: token counts, once they came.
        finish_reason: of the first choice, once it came.
        done: ``[DONE]`` came; a stream that ends without it is broken.
        error: the error object of an error event, if one came.
        has_content: a token has been seen.
        has_events: a data event is to be handed on, or has been.
    """

    def __init__(self, *, wants_usage: bool) -> None:
        """``wants_usage``: the client asked for the usage event that we always ask for."""
        self._wants_usage = wants_usage
        self.usage = Usage()
        self.finish_reason: str | None = None
        self.done = False
        self.error: dict[str, Any] | None = None
        self.has_content = False
        self.has_events = False

    def take(self, event: bytes) -> bytes:
        """Read one raw event; return what the client gets of it, possibly nothing."""
        if self.has_content and _UNFINISHED in event and b'"usage"' not in event:
            return event  # an ordinary token: the one case that must cost nothing
        data = event_data(event)
        if data is None:
            return event
        self.has_events = True
        if data.strip() == b"[DONE]":
            self.done = True
            return event
        return self._read(event, data)

    def _read(self, event: bytes, data: bytes) -> bytes:
        try:
            fields = json.loads(data)
        except ValueError:
            return event
        if not isinstance(fields, dict):
            return event
        if isinstance(fields.get("error"), dict):
            self.error = fields["error"]
            return b""
        choices = fields.get("choices")
        if isinstance(fields.get("usage"), dict):
            self.usage = read_usage(fields["usage"])
            if not choices and not self._wants_usage:
                return b""
        if choices and isinstance(choices, list) and isinstance(choices[0], dict):
            self._read_choice(choices[0])
        return event

    def _read_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        content = {k: v for k, v in delta.items() if k != "role"} if isinstance(delta, dict) else {}
        self.has_content = self.has_content or bool(choice.get("text") or any(content.values()))
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
