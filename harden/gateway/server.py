"""The gateway's life: listen, supervise, drain, leave nothing behind."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from harden.exceptions import ServerStartError
from harden.gateway.admission import Admission
from harden.gateway.application import Application
from harden.gateway.completion import Completion
from harden.gateway.completion_endpoint import CompletionEndpoint
from harden.gateway.dispatch import Dispatch
from harden.gateway.supervisor import Supervisor
from harden.metrics_collector import MetricsCollector
from harden.server_metrics import ServerMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from harden.gateway.backends import Backend
    from harden.gateway.configuration import GatewayConfiguration
    from harden.server_metrics import WorkerFigures

__all__ = ["GatewayServer"]

logger = logging.getLogger(__name__)

_BACKLOG = 1024


class GatewayServer:
    """Owns the listening socket, the supervisor and everything between them."""

    def __init__(self, configuration: GatewayConfiguration, backend: Backend) -> None:
        """Nothing is opened before ``run``."""
        self._configuration = configuration
        self._metrics = ServerMetrics(MetricsCollector())
        self._dispatch = Dispatch()
        self._admission = Admission(configuration.max_running, configuration.max_waiting)
        self._supervisor = Supervisor(
            backend,
            self._dispatch,
            self._metrics,
            start_timeout_s=configuration.start_timeout_s,
            stall_timeout_s=configuration.stall_timeout_s,
            warm_up=configuration.warm_up,
        )
        completion = Completion(configuration, self._admission, self._dispatch)
        self._completions = CompletionEndpoint(configuration, completion, self._metrics)
        self._application = Application(
            configuration, self._completions, self._dispatch, self._supervisor, self._metrics
        )
        self._metrics.bind_queue(
            running=lambda: self._admission.running, waiting=lambda: self._admission.waiting
        )
        self._metrics.bind_worker(self._worker_figures)
        self._metrics.bind_mode(self._cache_mode)

    def _worker_figures(self) -> WorkerFigures | None:
        worker = self._supervisor.current
        if worker is None:
            return None
        return worker.figures(ready=self._dispatch.worker is worker)

    def _cache_mode(self) -> tuple[str, bool]:
        worker = self._supervisor.current
        status = worker.status if worker else {}
        return status.get("mode", "normal"), status.get("cache_enabled", True)

    async def run(self, on_listening: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM, then drain; a second signal stops at once.

        Args:
            on_listening: called with the URL once the socket is bound.

        Raises:
            ServerStartError: the port is taken, or no worker can be kept alive.
        """
        listener = self._listen()
        signals = _Signals()
        runner = web.AppRunner(
            self._application.build(),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=0.5,
        )
        await runner.setup()
        supervision: asyncio.Task[None] | None = None
        try:
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
            on_listening(_url(listener))
            supervision = asyncio.create_task(self._supervisor.run())
            await self._until_told(signals, supervision)
        finally:
            signals.close()
            await runner.cleanup()
            listener.close()
            if supervision is not None:
                supervision.cancel()
                await asyncio.gather(supervision, return_exceptions=True)

    async def _until_told(self, signals: _Signals, supervision: asyncio.Task[None]) -> None:
        first = asyncio.create_task(signals.next())
        try:
            await asyncio.wait({first, supervision}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            first.cancel()
        if supervision.done():
            await supervision
            return
        await self._drain(signals)

    async def _drain(self, signals: _Signals) -> None:
        self._completions.draining = True
        in_flight = self._completions.in_flight
        if in_flight == 0:
            return
        timeout_s = self._configuration.drain_timeout_s
        logger.info("Stopping: %d requests may take %g s to end", in_flight, timeout_s)
        ends = {
            asyncio.create_task(self._completions.idle.wait()),
            asyncio.create_task(signals.next()),
        }
        _, pending = await asyncio.wait(
            ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._completions.end_requests()

    def _listen(self) -> socket.socket:
        host, port = self._configuration.host, self._configuration.port
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise ServerStartError(
                f"cannot listen on {host!r}: {error.strerror}; give --host an address of this"
                " machine, such as 127.0.0.1"
            ) from None
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise ServerStartError(
                f"cannot listen on {host}:{port}: {error.strerror};"
                " stop what uses the port, or choose another with --port"
            ) from None
        return listener


class _Signals:
    """SIGINT and SIGTERM as a queue: the handlers do nothing but put a number into it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[int] = asyncio.Queue()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._queue.put_nowait, number)

    async def next(self) -> int:
        """Wait for a signal."""
        return await self._queue.get()

    def close(self) -> None:
        """Give the signals back."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
