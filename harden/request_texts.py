"""The client's own texts in a completion request, which no error and no log line may quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["request_texts"]

_SHORTEST = 4
"""Shorter texts are words that any message has."""


def request_texts(*parts: Any) -> Iterator[str]:
    """Yield every text in parts of a request, at whatever depth.

    Args:
        parts: the prompt, the messages, or whole bodies as ``json.loads`` gives them.
    """
    pending = list(parts)
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            if len(part) >= _SHORTEST:
                yield part
        elif isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list | tuple):
            pending.extend(part)
