"""Error messages that may be read by anybody, and the levels that they are logged at."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from harden.exceptions import ValidationError
from harden.redaction import redact

__all__ = ["describe", "level_number"]

_DEEPEST = 20


def describe(error: BaseException, content: Any = None) -> str:
    """Put an error into words that hold no path, no key and nothing of an entry's content.

    Args:
        error: anything raised; one without a message is described by its kind.
        content: the entry concerned: text, bytes, or any nest of mappings and sequences of them.
    """
    message = redact(str(error), private=set(_texts(content)))
    return message if message.strip() else type(error).__name__


def level_number(name: str) -> int:
    """Return the number of a logging level.

    Raises:
        ValidationError: there is no level of that name.
    """
    levels = logging.getLevelNamesMapping()
    level = levels.get(str(name).upper())
    if level is None:
        known = ", ".join(sorted(levels, key=lambda each: levels[each])).lower()
        raise ValidationError(
            f"{name!r} is no level of logging; use one of {known}",
            setting="log_level",
            value=name,
            fix=f"Use one of {known}.",
        )
    return level


def _texts(content: Any, depth: int = 0) -> Iterator[str]:
    """Yield every text in an entry, bytes in each way that a message may show them."""
    if isinstance(content, bytes | bytearray):
        yield bytes(content).decode("utf-8", errors="replace")
        yield bytes(content).decode("latin-1")
        yield repr(bytes(content))[2:-1]
        yield bytes(content).hex()
    elif isinstance(content, Mapping) and depth < _DEEPEST:
        for key, value in content.items():
            yield from _texts(key, depth + 1)
            yield from _texts(value, depth + 1)
    elif isinstance(content, list | tuple | set | frozenset) and depth < _DEEPEST:
        for value in content:
            yield from _texts(value, depth + 1)
    elif content is not None:
        yield str(content)
