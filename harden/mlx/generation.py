"""Upstream's generation thread, which here outlives its own errors."""

from __future__ import annotations

import dataclasses
import gc
import logging
import queue
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx_lm.server as upstream

from harden.mlx.refusal import GenerationLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Progress", "RequestQueue", "ResponseGenerator"]

logger = logging.getLogger(__name__)

_MOST_RESTARTS_IN_A_ROW = 2


class RequestQueue(queue.Queue[Any]):
    """The queue between HTTP threads and the generation thread; it knows what was taken.

    Each item is upstream's tuple whose first element is the queue that the request's own thread
    waits on. When the generation thread fails, those threads must be told. They are held weakly:
    a request that has ended drops out by itself.
    """

    def __init__(self) -> None:
        """An empty queue without bound, as upstream's."""
        super().__init__()
        self._taken: weakref.WeakSet[queue.Queue[Any]] = weakref.WeakSet()
        self._taken_lock = threading.Lock()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As ``queue.Queue.get``; ``get_nowait`` comes here too."""
        item = super().get(block, timeout)
        with self._taken_lock:
            self._taken.add(item[0])
        return item

    def fail_taken(self, error: Exception) -> None:
        """Send ``error`` to every request that was taken and still waits for answers."""
        with self._taken_lock:
            taken = list(self._taken)
            self._taken.clear()
        for answers in taken:
            answers.put(error)


class Progress:
    """Counts of what generation has done; their change is what "alive" means."""

    def __init__(self) -> None:
        """Nothing done yet, nothing to do."""
        self._lock = threading.Lock()
        self._tokens = 0
        self._active = 0
        self._last = 0.0

    @contextmanager
    def request(self) -> Iterator[None]:
        """There is work to do for the length of the block."""
        with self._lock:
            if self._active == 0:
                self._last = time.monotonic()
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1

    def prefilled(self) -> None:
        """A prefill step ended."""
        self._last = time.monotonic()

    def generated(self) -> None:
        """A token came out."""
        with self._lock:
            self._tokens += 1
            self._last = time.monotonic()

    @property
    def tokens(self) -> int:
        """Tokens generated since the process started."""
        return self._tokens

    @property
    def active(self) -> int:
        """Requests that are being worked on or wait for it."""
        return self._active

    @property
    def stalled_s(self) -> float:
        """Seconds for which there was work and nothing was done; 0 without work."""
        return time.monotonic() - self._last if self._active else 0.0


class ResponseGenerator(upstream.ResponseGenerator):  # type: ignore[misc]  # mlx_lm has no types
    """A ResponseGenerator whose thread starts over after an error, with the weights kept.

    Upstream's thread ends at the first error outside a request's own handling, and every later
    request is answered with 404 while the port stays open. Here the loop begins again in the
    same thread (MLX arrays belong to their thread's stream); the requests that it held get a
    GenerationLostError, since their state is gone.
    """

    def __init__(
        self, model_provider: Any, prompt_cache: Any, on_hopeless: Callable[[], None]
    ) -> None:
        """Start the generation thread, which loads the model first.

        Args:
            model_provider: upstream's.
            prompt_cache: a harden.mlx.prompt_cache.PromptCache.
            on_hopeless: called once, on the generation thread, when starting over cannot help:
                the model does not load, or two restarts in a row came to no token.
        """
        self.progress = Progress()
        self.thread_restarts = 0
        self._on_hopeless = on_hopeless
        super().__init__(model_provider, prompt_cache)
        # Upstream's __init__ made a plain queue; nobody can have used it before now.
        self.requests = RequestQueue()

    @property
    def model_is_loaded(self) -> bool:
        """Whether the default model answers; without one there is nothing to wait for."""
        provider = self.model_provider
        return provider.cli_args.model is None or provider.model_key is not None

    def _is_batchable(self, args: Any) -> bool:
        # A seed means nothing at temperature 0, so it need not cost the request its batch.
        if args.sampling.temperature == 0 and args.seed is not None:
            args = dataclasses.replace(args, seed=None)
        return bool(super()._is_batchable(args))

    def _run_generate(self) -> None:
        failures_in_a_row, tokens_before = 0, 0
        while not self._stop:
            try:
                self._generate()
            except Exception:
                logger.exception("The generation thread failed")
                had_success = self.progress.tokens > tokens_before
                failures_in_a_row = 1 if had_success else failures_in_a_row + 1
                tokens_before = self.progress.tokens
                if not self.model_is_loaded or failures_in_a_row > _MOST_RESTARTS_IN_A_ROW:
                    self._give_up()
                    return
                self._start_over()
            else:
                return

    def _start_over(self) -> None:
        self.thread_restarts += 1
        gc.collect()
        mx.clear_cache()
        logger.warning("The generation thread starts over; the weights are kept")
        self._fail_taken()

    def _give_up(self) -> None:
        self._generation_failed = True
        self._fail_taken()
        self._on_hopeless()

    def _fail_taken(self) -> None:
        # The first failure can come while __init__ still runs, with upstream's queue in place.
        if isinstance(self.requests, RequestQueue):
            self.requests.fail_taken(GenerationLostError(batch=self.thread_restarts))
