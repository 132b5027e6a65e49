"""What one streamed answer says about time: first token, last token, end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harden.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harden.sse import SseEvent

__all__ = ["StreamMeasurement", "Usage", "error_of", "finish_reason_of", "usage_of"]

_TEXT_FIELDS = ("content", "reasoning", "reasoning_content")


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reported them."""

    prompt_tokens: int
    completion_tokens: int


class StreamMeasurement:
    """Follows one OpenAI-style event stream and keeps the times that matter.

    Comments, role-only deltas and empty strings are not tokens: a server sends them while it
    still works on the prompt. Times are those of the caller's clock, in seconds.

    Attributes:
        first_token_s: arrival of the first event with text, reasoning or a tool call.
        last_token_s: arrival of the last one.
        finish_reason: why the generation ended, as the server said.
        usage: token counts, if the stream held them.
        done: whether ``[DONE]`` came; without it the stream was cut.
        error: the message of a terminal error event, or what was wrong with the stream.
    """

    def __init__(self) -> None:
        self._parser = SseParser()
        self.first_token_s: float | None = None
        self.last_token_s: float | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.error: str | None = None

    def feed(self, chunk: bytes, time_s: float) -> None:
        """Take bytes of the stream.

        Args:
            chunk: bytes, cut anywhere.
            time_s: when they arrived.

        Raises:
            EventTooLargeError: the stream holds an event beyond all measure.
        """
        for event in self._parser.feed(chunk):
            if event.comment is None:
                self._take(event, time_s)

    def inter_token_s(self) -> float | None:
        """Return the mean time between tokens in seconds, or None for fewer than two tokens.

        Counted by the server's usage, since one event may hold several tokens.
        """
        return inter_token_s(self.first_token_s, self.last_token_s, self.usage)

    def _take(self, event: SseEvent, time_s: float) -> None:
        if event.data == "[DONE]":
            self.done = True
            return
        try:
            message = json.loads(event.data)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.error = self.error or "an event of the stream is not a JSON object"
            return
        if event.event == "error" or message.get("error"):
            self.error = self.error or error_of(message)
            return
        self.usage = usage_of(message) or self.usage
        self.finish_reason = finish_reason_of(message) or self.finish_reason
        if _carries_content(message):
            self.first_token_s = time_s if self.first_token_s is None else self.first_token_s
            self.last_token_s = time_s


def inter_token_s(first_s: float | None, last_s: float | None, usage: Usage | None) -> float | None:
    """Return (last - first) / (completion tokens - 1), or None where that says nothing."""
    if first_s is None or last_s is None or usage is None or usage.completion_tokens < 2:  # noqa: PLR2004 - an interval has two ends
        return None
    return (last_s - first_s) / (usage.completion_tokens - 1)


def usage_of(message: Mapping[str, Any]) -> Usage | None:
    """Return the token counts of a completion or chunk, or None where it has none."""
    usage = message.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        return Usage(prompt, completion)
    return None


def finish_reason_of(message: Mapping[str, Any]) -> str | None:
    """Return why the generation of a completion or chunk ended, or None if it goes on."""
    for choice in _choices(message):
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            return reason
    return None


def error_of(message: Any) -> str:
    """Return the text of an error body: an OpenAI error object, or whatever else was sent."""
    error = message.get("error", message) if isinstance(message, dict) else message
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:200]


def _choices(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = message.get("choices")
    return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []


def _carries_content(message: Mapping[str, Any]) -> bool:
    for choice in _choices(message):
        delta = choice.get("delta")
        if choice.get("text"):
            return True
        if isinstance(delta, dict) and (
            delta.get("tool_calls") or any(delta.get(field) for field in _TEXT_FIELDS)
        ):
            return True
    return False
