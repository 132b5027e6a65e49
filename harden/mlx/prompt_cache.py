"""Upstream's in-memory prompt cache, with what it reused counted and one trap taken out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import mlx_lm.server as upstream
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

from harden.error_handler import ErrorHandler

__all__ = ["PromptCache", "ReuseFigures"]


@dataclass(frozen=True, slots=True)
class ReuseFigures:
    """What the prompt cache gave since the server started, and what it holds."""

    query_tokens: int
    hit_tokens: int
    sequences: int
    size_bytes: int


class PromptCache(upstream.LRUPromptCache):  # type: ignore[misc]  # mlx_lm publishes no types
    """An LRUPromptCache that never answers with nothing left to compute.

    Upstream returns an empty rest when a prompt is in the cache as a whole, and its generation
    thread dies of it: a text completion that continues its own answer is enough. Here the last
    token is always computed anew.
    """

    def __init__(
        self,
        max_size: int = 10,
        max_bytes: int = 1 << 63,
        *,
        errors: ErrorHandler | None = None,
    ) -> None:
        """Hold at most ``max_size`` sequences and ``max_bytes`` bytes of keys and values.

        ``errors`` is told of every failure and success, and says when to do without the cache.
        """
        super().__init__(max_size, max_bytes)
        self._errors = errors or ErrorHandler()
        self._counts = threading.Lock()
        self._query_tokens = 0
        self._hit_tokens = 0

    def fetch_nearest_cache(self, model: Any, tokens: list[int]) -> tuple[Any, list[int]]:
        """The longest reusable cache for ``tokens``, and the tokens that it does not cover.

        A cache that fails costs the request its cache and nothing else.
        """
        cache, rest = self._fetch(model, tokens)
        if cache is not None and not rest:
            cache, rest = _without_last_token(cache, tokens)
        with self._counts:
            self._query_tokens += len(tokens)
            self._hit_tokens += len(tokens) - len(rest)
        return cache, rest

    def _fetch(self, model: Any, tokens: list[int]) -> tuple[Any, list[int]]:
        found: tuple[Any, list[int]] = (None, tokens)
        if self._is_used():
            try:
                found = super().fetch_nearest_cache(model, tokens)
            except Exception as error:  # noqa: BLE001 - whatever it is, the request can go on
                self._errors.handle_cache_error(error, in_request=True)
                return None, tokens
        self._errors.record_cache_success()
        return found

    def insert_cache(
        self, model: Any, tokens: list[int], prompt_cache: Any, *, cache_type: str = "assistant"
    ) -> None:
        """Keep a cache for later requests, unless the cache is out of use or fails."""
        if not self._is_used():
            return
        try:
            super().insert_cache(model, tokens, prompt_cache, cache_type=cache_type)
        except Exception as error:  # noqa: BLE001 - the answer is complete all the same
            self._errors.handle_cache_error(error)

    def _is_used(self) -> bool:
        return self._errors.check_degradation_status()["cache_enabled"]

    def figures(self) -> ReuseFigures:
        """Counts and sizes, for metrics; callable from any thread."""
        with self._counts:
            query, hit = self._query_tokens, self._hit_tokens
        return ReuseFigures(query, hit, len(self), self.nbytes)


def _without_last_token(cache: Any, tokens: list[int]) -> tuple[Any, list[int]]:
    if len(tokens) > 1 and can_trim_prompt_cache(cache):
        trim_prompt_cache(cache, 1)
        return cache, tokens[-1:]
    return None, tokens
