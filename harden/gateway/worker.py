"""One incarnation of the server behind the gateway: its process, its connection, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from harden.gateway.backends import worker_environment
from harden.memory_probes import memory_by_kind
from harden.redaction import redact
from harden.server_metrics import WorkerFigures

if TYPE_CHECKING:
    from harden.gateway.backends import Launch

__all__ = ["Death", "Worker"]

logger = logging.getLogger(__name__)

_OWN_SIGNALS = frozenset(
    (
        *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL),
        *(signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS),
    )
)
_TERMINATE_GRACE_S = 2.0
_LOG_LINES_KEPT = 40
_LONGEST_LOG_LINE = 64 * 1024
_OK = 200


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended.

    Attributes:
        reason: the signal's name, "exit N", "stall" or "start timeout".
        own_doing: it ended by itself; not by a kill that may come from outside.
    """

    reason: str
    own_doing: bool

    @classmethod
    def of_exit(cls, code: int, given_reason: str | None) -> Death:
        """Read an exit code as asyncio reports it; ``given_reason`` is why we killed it."""
        if given_reason is not None:
            return cls(given_reason, own_doing=False)
        if code >= 0:
            return cls(f"exit {code}", own_doing=True)
        return cls(_signal_name(-code), own_doing=-code in _OWN_SIGNALS)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Worker:
    """A started server process. ``close`` must be awaited once; it leaves nothing behind.

    Attributes:
        number: how many were started before it, plus one.
        death: how it ended, as soon as the system says so.
        gone: the same, after the requests that were in it have been judged.
        status: the last figures that it gave of itself.
        last_lines: the end of its log, redacted.
    """

    def __init__(self, number: int, launch: Launch, process: asyncio.subprocess.Process) -> None:
        """Wrap a process that was just started; ``start`` does both."""
        self.number = number
        self.launch = launch
        self._process = process
        self._ended_for: str | None = None
        connector = (
            aiohttp.UnixConnector(path=str(launch.socket_path), limit=0)
            if launch.socket_path
            else aiohttp.TCPConnector(limit=0)
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            read_bufsize=2**18,
        )
        self.last_lines: deque[str] = deque(maxlen=_LOG_LINES_KEPT)
        self.status: dict[str, Any] = {}
        self.death: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self._log_task = asyncio.create_task(self._log_output())
        self._wait_task = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, number: int, launch: Launch) -> Worker:
        """Start the process.

        Its standard input is a pipe that we hold open: our own worker ends when it closes. It
        has a session of its own, so that Ctrl-C in the terminal reaches only the gateway.
        """
        process = await asyncio.create_subprocess_exec(
            *launch.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=worker_environment(),
            start_new_session=True,
            limit=_LONGEST_LOG_LINE,
        )
        return cls(number, launch, process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def url(self, path: str) -> str:
        """The full address of one of its endpoints."""
        return self.launch.base_url + path

    async def is_ready(self) -> bool:
        """Whether it says that it can be asked."""
        try:
            async with self.session.get(self.url(self.launch.ready_path)) as response:
                await response.read()
                return response.status == _OK
        except (aiohttp.ClientError, OSError):
            return False

    async def warm_up(self) -> None:
        """Have one token generated, so that the first client does not wait for first things."""
        body = {"prompt": "a", "max_tokens": 1}
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with self.session.post(self.url("/v1/completions"), json=body) as response:
                await response.read()

    async def read_status(self) -> dict[str, Any]:
        """Ask it for its figures, and keep them as ``status``; nothing where it does not answer."""
        if self.launch.status_path is None:
            return {}
        try:
            async with self.session.get(self.url(self.launch.status_path)) as response:
                self.status = json.loads(await response.read())
        except (aiohttp.ClientError, OSError, ValueError):
            return {}
        return self.status

    async def terminate(self, reason: str | None = None) -> None:
        """Ask it to end, insist after a moment, and wait until it is reaped.

        SIGTERM first: on macOS a killed process can leak its wired memory until the next boot.

        Args:
            reason: what ``death`` will give; None leaves it to the signal.
        """
        self._ended_for = reason
        self._signal_group(signal.SIGTERM)
        # A stopped process takes a SIGTERM only once it runs again.
        self._signal_group(signal.SIGCONT)
        done, _ = await asyncio.wait({self._wait_task}, timeout=_TERMINATE_GRACE_S)
        if not done:
            self._signal_group(signal.SIGKILL)
            await self._wait_task

    async def close(self) -> None:
        """Release everything; the process must be dead or dying."""
        await self.terminate()
        self._signal_group(signal.SIGKILL)  # children that it may have left in its group
        self._log_task.cancel()
        await asyncio.gather(self._log_task, return_exceptions=True)
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self.session.close()
        if self.launch.socket_path is not None:
            self.launch.socket_path.unlink(missing_ok=True)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _wait(self) -> None:
        code = await self._process.wait()
        if not self.death.done():
            self.death.set_result(Death.of_exit(code, self._ended_for))

    async def _log_output(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # longer than the limit: what was read so far is dropped
                continue
            if not line:
                return
            self._log_line(line.decode(errors="replace").rstrip())

    def _log_line(self, line: str) -> None:
        text = redact(line)
        self.last_lines.append(text)
        routine = " - INFO - " in text or " - DEBUG - " in text
        logger.log(logging.DEBUG if routine else logging.WARNING, "worker: %s", text)

    def figures(self, *, ready: bool) -> WorkerFigures:
        """What the metrics show of it: what it said of itself, and what the system says now."""
        said = self.status.get("memory_bytes", {})
        mlx = {kind: size for kind, size in said.items() if kind.startswith("mlx_")}
        return WorkerFigures(
            ready=ready,
            pid=self.pid,
            memory={**mlx, **memory_by_kind(self.pid)},
            generated_tokens=self.status.get("generated_tokens", 0),
            generation_restarts=self.status.get("generation_restarts", 0),
        )
