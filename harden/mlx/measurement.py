"""One request's view of the generator, which notes times and tokens on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from harden.mlx.refusal import Refusal
from harden.request_texts import request_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harden.mlx.generation import ResponseGenerator
    from harden.request_record import RequestRecord

__all__ = ["MeasuredGenerator"]


class MeasuredGenerator:
    """What one request's handler sees in place of the ResponseGenerator.

    It notes times and tokens, and lets ``check`` end the request at every token and every
    prefill step: upstream then takes it out of the batch.
    """

    def __init__(
        self, generator: ResponseGenerator, record: RequestRecord, check: Callable[[], None]
    ) -> None:
        """``check`` raises to end the request; it is called for every token and must be cheap."""
        self._generator = generator
        self._record = record
        self._check = check

    @property
    def cli_args(self) -> Any:
        """Upstream's parsed flags."""
        return self._generator.cli_args

    def generate(
        self, request: Any, generation_args: Any, progress_callback: Callable[[int, int], None]
    ) -> tuple[Any, Iterator[Any]]:
        """As upstream's call, but an error becomes a Refusal, which upstream does not catch."""

        def progress(processed: int, total: int) -> None:
            self._generator.progress.prefilled()
            self._check()
            progress_callback(processed, total)

        private = (request.prompt, request.messages)
        try:
            context, tokens = self._generator.generate(request, generation_args, progress)
        except Exception as error:
            raise Refusal.of_error(error, request_texts(*private)) from error
        self._record.started = time.monotonic()
        self._record.prompt_tokens = len(context.prompt)
        return context, self._watched(context, tokens, private)

    def _watched(
        self, context: Any, tokens: Iterator[Any], private: tuple[Any, ...]
    ) -> Iterator[Any]:
        generated = 0
        try:
            for token in tokens:
                self._record.token_seen()
                self._record.finish_reason = token.finish_reason
                generated += 1
                self._generator.progress.generated()
                self._check()
                yield token
        except OSError:  # the client's side of the connection: not ours to answer
            raise
        except Exception as error:
            raise Refusal.of_error(error, request_texts(*private)) from error
        finally:
            self._record.generation_tokens = generated
            self._record.cached_tokens = max(0, context.prompt_cache_count)
