"""Takes a known text out of a message that may quote it whole, in part or escaped."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["hide_private_text", "spellings"]

_GRAM = 8
_SHORTEST_RUN = 15
"""Shorter quotations are words that any two texts share."""


def hide_private_text(text: str, private: Iterable[str], *, label: str = "<text>") -> str:
    """Replace what a message quotes of other texts.

    Args:
        text: the message.
        private: what must not be read in it: prompts, a cache's content. Of a longer one every
            quotation of 15 characters or more is replaced, of a shorter one only the whole.
        label: what takes its place.
    """
    for content in private:
        for spelling in sorted(spellings(content), key=len, reverse=True):
            if len(spelling) < _SHORTEST_RUN:
                text = _hide_whole(text, spelling, label)
            else:
                text = _hide_quotations(text, spelling, label)
    return text


def spellings(content: str) -> set[str]:
    """Return a text as it is, and as JSON, Python and a URL would write it."""
    return {
        content,
        repr(content)[1:-1],
        json.dumps(content)[1:-1],
        json.dumps(content, ensure_ascii=False)[1:-1],
        quote(content, safe="", errors="replace"),
    }


def _hide_whole(text: str, content: str, label: str) -> str:
    if not content.strip():
        return text
    return re.sub(rf"(?<!\w){re.escape(content)}(?!\w)", lambda _: label, text)


def _hide_quotations(text: str, content: str, label: str) -> str:
    grams = {text[i : i + _GRAM] for i in range(len(text) - _GRAM + 1)}
    shared = grams & {content[i : i + _GRAM] for i in range(len(content) - _GRAM + 1)}
    pieces = []
    position = 0
    for start, end in _shared_runs(text, shared):
        pieces += [text[position:start], label]
        position = end
    return "".join([*pieces, text[position:]])


def _shared_runs(text: str, shared: set[str]) -> Iterator[tuple[int, int]]:
    """Yield where neighbouring grams that both texts have cover enough of the message."""
    start = None
    for i in range(len(text) - _GRAM + 2):
        if text[i : i + _GRAM] in shared:
            start = i if start is None else start
            continue
        end = i + _GRAM - 1
        if start is not None and end - start >= _SHORTEST_RUN:
            yield start, end
        start = None
