"""How the server behind the gateway is started and reached."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harden.worker_protocol import STATUS_PATH

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Backend", "CommandBackend", "Launch", "MlxBackend", "worker_environment"]


@dataclass(frozen=True, slots=True)
class Launch:
    """One server to start.

    Attributes:
        command: program and arguments.
        base_url: where its HTTP is, without a path.
        socket_path: the unix socket that it listens on, or None for TCP.
        ready_path: answers 200 once the model can be asked.
        status_path: answers our private status as JSON, or None where it has none.
    """

    command: tuple[str, ...]
    base_url: str
    socket_path: Path | None
    ready_path: str
    status_path: str | None


class Backend(Protocol):
    """Knows how to start a server, any number of times."""

    def launch(self, number: int) -> Launch:
        """Describe the ``number``-th start."""


@dataclass(frozen=True, slots=True)
class MlxBackend:
    """Our worker on a private unix socket.

    Attributes:
        model: folder or hub id, as mlx_lm.server takes it.
        model_name: the name that clients use.
        upstream_arguments: further flags of mlx_lm.server.
        directory: short-named private folder for the sockets.
    """

    model: str
    model_name: str
    upstream_arguments: tuple[str, ...]
    directory: Path

    def launch(self, number: int) -> Launch:
        """Describe the ``number``-th start, each on a socket of its own."""
        socket_path = self.directory / f"worker-{number}.sock"
        command = (
            *(sys.executable, "-m", "harden.worker"),
            *("--socket", str(socket_path)),
            *("--served-model-name", self.model_name),
            *("--model", self.model),
            *self.upstream_arguments,
        )
        return Launch(command, "http://worker", socket_path, "/ready", STATUS_PATH)


@dataclass(frozen=True, slots=True)
class CommandBackend:
    """Any OpenAI-compatible server, started by a command with ``{port}`` and ``{model}`` in it."""

    template: str
    model: str

    def launch(self, number: int) -> Launch:  # noqa: ARG002 - a new port is number enough
        """Describe a start on a free loopback port."""
        port = _free_port()
        command = tuple(
            part.replace("{port}", str(port)).replace("{model}", self.model)
            for part in shlex.split(self.template)
        )
        return Launch(command, f"http://127.0.0.1:{port}", None, "/v1/models", None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def worker_environment() -> dict[str, str]:
    """The worker's environment: ours, with output that reaches the log line by line."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
