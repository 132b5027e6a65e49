"""Who may go to the worker: a fixed number at once, the others first come, first served."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from harden.gateway.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Admission"]

_RATE_WINDOW = 32
_LONGEST_RETRY_AFTER_S = 60


class Admission:
    """Places at the worker and in the queue before it. Every way out gives the place back."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        """Admit ``max_running`` at once and let ``max_waiting`` more wait."""
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ends: deque[float] = deque(maxlen=_RATE_WINDOW)

    @property
    def running(self) -> int:
        """Requests that hold a place at the worker."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place at the worker for the length of the block, after waiting for it.

        Raises:
            Refusal: 429 when the queue is full.
        """
        await self._acquire()
        try:
            yield
        finally:
            self._ends.append(time.monotonic())
            self._release()

    async def _acquire(self) -> None:
        if self._running < self._max_running:
            self._running += 1
            return
        if len(self._waiting) >= self._max_waiting:
            raise Refusal(
                429,
                f"The server is full: {self._running} requests run and {len(self._waiting)} wait.",
                code="queue_full",
                retry_after_s=self.retry_after_s(),
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # the place was handed over as the request was leaving
            else:
                self._waiting.remove(turn)
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place passes on, so `running` stays as it is
                return
        self._running -= 1

    def retry_after_s(self) -> int:
        """Seconds until the queue has likely moved, from the rate at which requests ended."""
        if len(self._ends) < 2:  # noqa: PLR2004 - a rate needs two
            return 1
        per_request_s = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        wait_s = math.ceil(per_request_s * max(1, len(self._waiting)))
        return max(1, min(_LONGEST_RETRY_AFTER_S, wait_s))
