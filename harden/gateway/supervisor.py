"""Keeps one worker alive: starts it, watches it, replaces it, and knows when to give up."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol

from harden.exceptions import ServerStartError
from harden.gateway.worker import Worker
from harden.retrying import RetryPolicy

if TYPE_CHECKING:
    from harden.gateway.backends import Backend
    from harden.gateway.dispatch import Dispatch
    from harden.gateway.worker import Death

__all__ = ["RestartCounter", "Supervisor"]

logger = logging.getLogger(__name__)

_POLL_INTERVAL_S = 0.05
_HEARTBEAT_INTERVAL_S = 1.0
_HEARTBEAT_TIMEOUT_S = 5.0
_DEATHS_BEFORE_GIVING_UP = 5
_BACKOFF = RetryPolicy(max_retries=_DEATHS_BEFORE_GIVING_UP, backoff_ms=100)


class RestartCounter(Protocol):
    """Where the supervisor counts; harden.server_metrics.ServerMetrics is one."""

    def worker_started(self) -> None:
        """A worker was started."""

    def worker_restarted(self, reason: str) -> None:
        """A worker died of ``reason`` and is being replaced."""


class Supervisor:
    """Owns the worker process. ``run`` is its whole life; cancelling it ends the worker too."""

    def __init__(
        self,
        backend: Backend,
        dispatch: Dispatch,
        counter: RestartCounter,
        *,
        start_timeout_s: float,
        stall_timeout_s: float,
        warm_up: bool = False,
    ) -> None:
        """Nothing is started before ``run``.

        Args:
            backend: how to start a worker.
            dispatch: told when a worker is ready and when it is gone.
            counter: told of starts and restarts.
            start_timeout_s: a worker that is not ready by then is replaced.
            stall_timeout_s: a worker with work and no progress for so long is replaced.
            warm_up: have each worker generate a token before clients may use it.
        """
        self._backend = backend
        self._dispatch = dispatch
        self._counter = counter
        self._start_timeout_s = start_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._warm_up = warm_up
        self._idle_deaths = 0
        self.current: Worker | None = None

    async def run(self) -> None:
        """Keep a worker running until cancelled.

        Raises:
            ServerStartError: five workers in a row died before they were ready or with nothing
                to do, so that starting another would not help.
        """
        number = 0
        while True:
            number += 1
            worker = await Worker.start(number, self._backend.launch(number))
            self.current = worker
            self._counter.worker_started()
            logger.debug("Worker %d started, process %d", number, worker.pid)
            try:
                await self._live(worker)
            finally:
                self.current = None
                await worker.close()
            await asyncio.sleep(self._backoff_s())

    async def _live(self, worker: Worker) -> None:
        started = time.monotonic()
        watch = asyncio.create_task(self._watch(worker))
        try:
            death = await worker.death
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        was_ready = self._dispatch.worker is worker
        busy = was_ready and self._dispatch.inside > 0
        # A kill of a worker that had become ready may come from anybody: no sign of a crash loop.
        hopeless = not was_ready or (not busy and death.own_doing)
        self._idle_deaths = self._idle_deaths + 1 if hopeless else 0
        self._dispatch.worker_gone(own_doing=death.own_doing)
        worker.gone.set_result(death)
        self._counter.worker_restarted(death.reason)
        self._report(worker, death, time.monotonic() - started, busy=busy)

    def _report(self, worker: Worker, death: Death, age_s: float, *, busy: bool) -> None:
        if self._idle_deaths >= _DEATHS_BEFORE_GIVING_UP:
            last = "\n".join(f"  {line}" for line in worker.last_lines)
            raise ServerStartError(
                f"the worker ended {self._idle_deaths} times in a row with nothing to do"
                f" (last: {death.reason}); its last lines were:\n{last}",
                log_tail=last,
            )
        logger.warning(
            "Worker %d ended (%s) after %.1f s, %s; starting another",
            *(worker.number, death.reason, age_s, "at work" if busy else "idle"),
        )

    def _backoff_s(self) -> float:
        """No wait after a death at work or from outside; longer ones the less there is hope."""
        if self._idle_deaths == 0:
            return 0.0
        return _BACKOFF.delay_s(self._idle_deaths - 1)

    async def _watch(self, worker: Worker) -> None:
        if not await self._wait_until_ready(worker):
            await worker.terminate("start timeout")
            return
        await worker.read_status()
        self._dispatch.worker_ready(worker)
        logger.info("Worker %d is ready", worker.number)
        await self._watch_progress(worker)

    async def _wait_until_ready(self, worker: Worker) -> bool:
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while not await worker.is_ready():  # noqa: ASYNC110 - another process's state
                    await asyncio.sleep(_POLL_INTERVAL_S)
                if self._warm_up:
                    await worker.warm_up()
        except TimeoutError:
            return False
        return True

    async def _watch_progress(self, worker: Worker) -> None:
        heard = time.monotonic()
        while True:
            await asyncio.sleep(min(_HEARTBEAT_INTERVAL_S, self._stall_timeout_s / 3))
            if await self._is_alive(worker):
                heard = time.monotonic()
            elif time.monotonic() - heard > self._stall_timeout_s:
                logger.warning("Worker %d makes no progress; replacing it", worker.number)
                await worker.terminate("stall")
                return

    async def _is_alive(self, worker: Worker) -> bool:
        """Alive means: it answers, and it has nothing to do or its generation moves."""
        if worker.launch.status_path is None:
            return True
        try:
            async with asyncio.timeout(min(_HEARTBEAT_TIMEOUT_S, self._stall_timeout_s)):
                status = await worker.read_status()
        except TimeoutError:
            return False
        return bool(status.get("stalled_s", self._stall_timeout_s) < self._stall_timeout_s)
