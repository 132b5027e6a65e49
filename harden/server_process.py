"""Start any server command, wait until it is ready, and leave nothing of it behind.

with ServerProcess([sys.executable, "-m", "harden", "serve", "--port", "0"]) as server:
    print(server.url, server.pid)
"""

from __future__ import annotations

import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from harden.exceptions import ServerStartError
from harden.process_family import ProcessFamily

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["ServerProcess"]

_LISTENING = re.compile(rb"Listening on (http://\S+)")
_ADDRESS_IN_USE = re.compile(r"address (is )?already in use|EADDRINUSE", re.IGNORECASE)
_PORT_ATTEMPTS = 5
_POLL_INTERVAL_S = 0.05
_PROBE_TIMEOUT_S = 2.0
_KILL_TIMEOUT_S = 10.0
_LOG_KEPT_BYTES = 64 * 1024


class ServerProcess:
    """One server as a child process, in a session of its own; use it with ``with``.

    Where the command holds ``{port}``, a free port takes its place, and another one is tried
    when the server ends because somebody was faster. Otherwise the server has to print
    ``Listening on http://host:port``, as ``harden serve`` does.

    Attributes:
        url: where the server answers, without a trailing slash; empty until it is ready.
        log_path: the file that holds what it writes to stdout and stderr.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        ready_path: str = "/ready",
        start_timeout_s: float = 120.0,
        stop_timeout_s: float = 20.0,
        log_path: str | os.PathLike[str] | None = None,
        announces_port: bool = False,
    ) -> None:
        """Describe the server; nothing is started yet.

        Args:
            command: program and arguments.
            environment: variables set on top of this process's own.
            ready_path: a path that answers 200 once the server is ready.
            start_timeout_s: longest wait for that.
            stop_timeout_s: longest wait for a clean end on leaving ``with``.
            log_path: file to append the server's output to; None takes a temporary one, which
                is removed at the end.
            announces_port: the server chooses its port and says so, and a ``{port}`` in its
                command is its own business.
        """
        self._command = tuple(command)
        self._takes_port = not announces_port and any("{port}" in word for word in command)
        self._environment = dict(environment or {})
        self._ready_path = ready_path
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._temporary_log = log_path is None
        self._process: subprocess.Popen[bytes] | None = None
        self._family: ProcessFamily | None = None
        self._log_start = 0
        self._kept_log = b""
        self.log_path = _temporary_log() if log_path is None else Path(log_path)
        self.url = ""

    def __enter__(self) -> Self:
        """Start the server (see ``start``)."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server and remove its temporary log."""
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the server, or 0 before it was started."""
        return self._process.pid if self._process else 0

    @property
    def port(self) -> int:
        """TCP port of the server, or 0 until it is ready."""
        return urlsplit(self.url).port or 0

    @property
    def returncode(self) -> int | None:
        """Exit code (negative: the signal that ended it), or None while it lives."""
        return self._process.poll() if self._process else None

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the server's output, also after its end.

        Args:
            lines: how many, at most.
        """
        return "\n".join(self._log().decode(errors="replace").splitlines()[-lines:])

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises:
            ServerStartError: the program cannot be run, it ended, or it was not ready in time.
        """
        deadline = time.monotonic() + self._start_timeout_s
        attempts = _PORT_ATTEMPTS if self._takes_port else 1
        try:
            while not self._attempt(deadline, attempts):
                attempts -= 1
        except BaseException:
            self.close(0)
            raise

    def stop(self, timeout_s: float | None = None) -> int | None:
        """Ask the server to end, and after a while end it and all its children.

        Args:
            timeout_s: how long it may take to drain after SIGTERM; None takes the
                ``stop_timeout_s`` of the constructor, 0 kills at once.

        Returns:
            Its exit code; None if it was never started.
        """
        if self._process is None:
            return None
        patience_s = self._stop_timeout_s if timeout_s is None else timeout_s
        try:
            if self._family:
                self._family.look()
            if patience_s > 0 and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
            self._wait_for_end(time.monotonic() + patience_s)
        finally:
            self._kill_all()
        return self._process.wait()

    def close(self, timeout_s: float | None = None) -> None:
        """Stop the server and remove its temporary log, whose tail can still be asked for.

        Args:
            timeout_s: as for ``stop``.
        """
        try:
            self.stop(timeout_s)
        finally:
            if self._temporary_log:
                self._kept_log = self._log()
                self.log_path.unlink(missing_ok=True)

    def _attempt(self, deadline: float, attempts_left: int) -> bool:
        """Return whether the server is ready; False asks for another port."""
        self._spawn()
        if self._wait_until_ready(deadline):
            return True
        if attempts_left > 1 and _ADDRESS_IN_USE.search(self.log_tail()):
            self.stop(0)
            return False
        raise self._start_error(f"ended with exit code {self.returncode}")

    def _spawn(self) -> None:
        command, self.url = self._command, ""
        if self._takes_port:
            port = _free_port()
            command = tuple(word.replace("{port}", str(port)) for word in command)
            self.url = f"http://127.0.0.1:{port}"
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self._environment},
                    start_new_session=True,
                )
            except OSError as error:
                message = f"cannot run {command[0]!r}: {error.strerror}; name a program that exists"
                raise ServerStartError(message) from error
        self._family = ProcessFamily(self._process.pid)

    def _wait_until_ready(self, deadline: float) -> bool:
        """Return whether the server got ready; False means that it ended."""
        while self.returncode is None:
            self.url = self.url or self._announced_url()
            # Asked again after the answer: it may have been another server's on that port.
            if self.url and _answers(self.url, self._ready_path) and self.returncode is None:
                return True
            if time.monotonic() > deadline:
                raise self._start_error(f"was not ready within {self._start_timeout_s:g} s")
            time.sleep(_POLL_INTERVAL_S)
        return False

    def _announced_url(self) -> str:
        match = _LISTENING.search(self._log())
        return match.group(1).decode(errors="replace").rstrip("/") if match else ""

    def _start_error(self, what: str) -> ServerStartError:
        tail = self.log_tail()
        last_line = tail.splitlines()[-1].strip() if tail.strip() else "it wrote nothing"
        return ServerStartError(
            f"the server ({self._name()}) {what} before it could answer: {last_line}",
            exit_code=self.returncode,
            log_tail=tail,
        )

    def _name(self) -> str:
        program, *arguments = self._command
        return shlex.join([Path(program).name, *arguments])

    def _log(self) -> bytes:
        try:
            with self.log_path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _LOG_KEPT_BYTES))
                return log.read()
        except FileNotFoundError:
            return self._kept_log

    def _wait_for_end(self, deadline: float) -> None:
        while self.returncode is None and time.monotonic() < deadline:
            if self._family:
                self._family.look()
            time.sleep(_POLL_INTERVAL_S)

    def _kill_all(self) -> None:
        if self._process is None or self._family is None:
            return
        self._family.look()
        self._process.kill()
        self._process.wait()
        self._family.kill(_KILL_TIMEOUT_S)
        self._family = None


def _temporary_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="harden-server-", suffix=".log")
    os.close(handle)
    return Path(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str, path: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
